//! INVITE server transaction (RFC 3261 section 17.2.1 as amended by RFC 6026 section 8.7).
//!
//! ```text
//!             INVITE: send last 1xx
//!                  +--+
//!                  |  v          2xx
//! INVITE -----> Proceeding ----------------> Accepted ---- Timer L ----> Terminated
//!                  |                           |  ^
//!                  |                           +--+ ACK: pass up; INVITE: absorb; timer Success: send 2xx
//!                  |          300-699
//!                  +-----------------------> Completed --- Timer H ----> Terminated
//!                                              |  |  ^
//!                                              |  +--+ INVITE, Timer G: send response
//!                                              |
//!                                              +--- ACK ---> Confirmed --- Timer I ---> Terminated
//! ```
//!
//! Beyond the RFC, the layer sends 2xx responses again by itself (section 13.3.1.4 asks this of its user), and a transport
//! failure ends the transaction except in Accepted: an ACK may still come on another flow, and timer L settles it.

use std::net::SocketAddr;

use bytes::Bytes;

use crate::{
    types::{DropReason, Duration, Flow, Transport},
    wire::sip::{Message, ResponseBuilder, build::reason_phrase},
};

use super::{
    action::{Action, Actions, Class},
    timers::{InviteServerTimer as Timer, T1, T1_64, T2, T4, TRYING_AFTER},
};

#[derive(Debug)]
pub(super) enum InviteServer {
    Proceeding {
        request: Message,
        source: SocketAddr,
        /// The last provisional response.
        response: Option<Bytes>,
        is_cancelled: bool,
    },
    Accepted {
        response: Bytes,
        /// Current interval of timer Success; `None`: acknowledged.
        interval: Option<Duration>,
    },
    Completed {
        response: Bytes,
        /// Current interval of timer G.
        interval: Duration,
    },
    Confirmed,
    Terminated,
}

#[derive(Debug)]
pub(super) enum Input {
    /// The INVITE again.
    Request,
    Ack {
        flow: Flow,
        message: Message,
    },
    Cancel,
    Respond {
        status: u16,
        response: Bytes,
    },
    /// The user of the layer has the ACK for the 2xx.
    Acknowledged,
    Timer(Timer),
    TransportFailed,
}

impl InviteServer {
    pub(super) fn new(request: Message, source: SocketAddr, out: &mut Actions) -> Self {
        out.set(Timer::Trying, TRYING_AFTER);
        Self::Proceeding { request, source, response: None, is_cancelled: false }
    }

    pub(super) fn handle(&mut self, input: Input, transport: Transport, out: &mut Actions) {
        match self {
            Self::Proceeding { request, source, response: last, is_cancelled } => match input {
                Input::Request => {
                    if let Some(last) = last {
                        out.send(last);
                    }
                }
                Input::Ack { .. } => out.push(Action::Drop(DropReason::SipStrayAck)),
                Input::Cancel if *is_cancelled => {}
                Input::Cancel => {
                    *is_cancelled = true;
                    out.push(Action::PassCancel);
                }
                Input::Respond { status, response } => {
                    out.clear(Timer::Trying);
                    out.send(&response);
                    match Class::of(status) {
                        Class::Provisional => *last = Some(response),
                        Class::Success => *self = accept(response, out),
                        Class::Failure => *self = complete(response, transport, out),
                    }
                }
                Input::Timer(Timer::Trying) => {
                    let trying = ResponseBuilder::to(request, 100, reason_phrase(100), "", *source).finish();
                    out.send(&trying);
                    *last = Some(trying);
                }
                Input::Acknowledged
                | Input::Timer(Timer::Success | Timer::G | Timer::H | Timer::I | Timer::L) => {}
                Input::TransportFailed => {
                    out.push(Action::TransportFailed);
                    *self = Self::Terminated;
                }
            },
            Self::Accepted { response, interval } => match input {
                Input::Ack { flow, message } => out.push(Action::PassAck { flow, message }),
                Input::Acknowledged => {
                    out.clear(Timer::Success);
                    *interval = None;
                }
                Input::Timer(Timer::Success) => {
                    if let Some(interval) = interval {
                        out.send(response);
                        *interval = (*interval * 2).min(T2);
                        out.set(Timer::Success, *interval);
                    }
                }
                Input::Timer(Timer::L) => {
                    if interval.is_some() {
                        out.push(Action::NotAcknowledged);
                    }
                    *self = Self::Terminated;
                }
                Input::TransportFailed => out.clear(Timer::Success),
                Input::Request
                | Input::Cancel
                | Input::Respond { .. }
                | Input::Timer(Timer::Trying | Timer::G | Timer::H | Timer::I) => {}
            },
            Self::Completed { response: last, interval } => match input {
                Input::Request => out.send(last),
                Input::Ack { .. } => *self = confirm(transport, out),
                Input::Timer(Timer::G) => {
                    out.send(last);
                    *interval = (*interval * 2).min(T2);
                    out.set(Timer::G, *interval);
                }
                Input::Timer(Timer::H) => *self = Self::Terminated,
                Input::Cancel
                | Input::Respond { .. }
                | Input::Acknowledged
                | Input::Timer(Timer::Trying | Timer::Success | Timer::I | Timer::L) => {}
                Input::TransportFailed => {
                    out.push(Action::TransportFailed);
                    *self = Self::Terminated;
                }
            },
            Self::Confirmed => match input {
                Input::Timer(Timer::I) | Input::TransportFailed => *self = Self::Terminated,
                Input::Request
                | Input::Ack { .. }
                | Input::Cancel
                | Input::Respond { .. }
                | Input::Acknowledged
                | Input::Timer(Timer::Trying | Timer::Success | Timer::G | Timer::H | Timer::L) => {}
            },
            Self::Terminated => match input {
                Input::Request
                | Input::Ack { .. }
                | Input::Cancel
                | Input::Respond { .. }
                | Input::Acknowledged
                | Input::Timer(_)
                | Input::TransportFailed => {}
            },
        }
    }

    /// The last response sent, if it is still kept.
    pub(super) const fn response(&self) -> Option<&Bytes> {
        match self {
            Self::Proceeding { response, .. } => response.as_ref(),
            Self::Accepted { response, .. } | Self::Completed { response, .. } => Some(response),
            Self::Confirmed | Self::Terminated => None,
        }
    }
}

fn accept(response: Bytes, out: &mut Actions) -> InviteServer {
    out.set(Timer::Success, T1);
    out.set(Timer::L, T1_64);
    InviteServer::Accepted { response, interval: Some(T1) }
}

fn complete(response: Bytes, transport: Transport, out: &mut Actions) -> InviteServer {
    if !transport.is_reliable() {
        out.set(Timer::G, T1);
    }
    out.set(Timer::H, T1_64);
    InviteServer::Completed { response, interval: T1 }
}

/// RFC 3261 section 17.2.1: timer I is T4 over UDP and zero over reliable transports.
fn confirm(transport: Transport, out: &mut Actions) -> InviteServer {
    out.clear(Timer::G);
    out.clear(Timer::H);
    if transport.is_reliable() {
        return InviteServer::Terminated;
    }
    out.set(Timer::I, T4);
    InviteServer::Confirmed
}
