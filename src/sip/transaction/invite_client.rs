//! INVITE client transaction (RFC 3261 section 17.1.1 as amended by RFC 6026 section 8.4).
//!
//! ```text
//!           Timer A: send INVITE      1xx: pass up              2xx: pass up
//!                 +--+                   +--+                      +--+
//!                 |  v                   |  v                      |  v
//! INVITE -----> Calling --- 1xx ---> Proceeding --- 2xx -------> Accepted --- Timer M ---> Terminated
//!                 |                      |
//!                 |                      +--- 300-699: ACK ---> Completed --- Timer D ---> Terminated
//!                 |                                               |  ^
//!                 |                                               +--+  300-699: ACK
//!                 +--- 2xx, 300-699 as above; Timer B or transport failure ---> Terminated
//! ```
//!
//! A CANCEL is held back until a provisional response has arrived (section 9.1). Beyond the RFC, a transport failure in
//! Proceeding ends the transaction: responses come back on the flow of the request, and that flow is gone.

use bytes::Bytes;

use crate::{
    sip::MAX_FORWARDS,
    types::{DropReason, Duration, Transport},
    wire::sip::{Message, Name, RequestBuilder},
};

use super::{
    action::{Action, Actions, Class},
    timers::{InviteClientTimer as Timer, T1, T1_64},
};

#[derive(Debug)]
pub(super) enum InviteClient {
    Calling {
        request: Message,
        /// Current interval of timer A.
        interval: Duration,
        is_cancelled: bool,
    },
    Proceeding {
        request: Message,
        is_cancelled: bool,
    },
    Accepted,
    Completed {
        ack: Bytes,
    },
    Terminated,
}

#[derive(Debug)]
pub(super) enum Input {
    Response(Message),
    Cancel,
    Timer(Timer),
    TransportFailed,
}

impl InviteClient {
    pub(super) fn new(request: Message, transport: Transport, out: &mut Actions) -> Self {
        out.send(request.bytes());
        if !transport.is_reliable() {
            out.set(Timer::A, T1);
        }
        out.set(Timer::B, T1_64);
        Self::Calling { request, interval: T1, is_cancelled: false }
    }

    pub(super) fn handle(&mut self, input: Input, transport: Transport, out: &mut Actions) {
        match self {
            Self::Calling { request, interval, is_cancelled } => match input {
                Input::Response(response) => {
                    out.clear(Timer::A);
                    out.clear(Timer::B);
                    *self = match Class::of(response.status()) {
                        Class::Provisional => proceed(request, *is_cancelled, out),
                        Class::Success => accept(out),
                        Class::Failure => complete(request, &response, transport, out),
                    };
                    out.push(Action::PassResponse(response));
                }
                Input::Cancel => *is_cancelled = true,
                Input::Timer(Timer::A) => {
                    out.send(request.bytes());
                    *interval *= 2;
                    out.set(Timer::A, *interval);
                }
                Input::Timer(Timer::B) => {
                    out.push(Action::TimedOut);
                    *self = Self::Terminated;
                }
                Input::Timer(Timer::D | Timer::M | Timer::Cancel) => {}
                Input::TransportFailed => {
                    out.push(Action::TransportFailed);
                    *self = Self::Terminated;
                }
            },
            Self::Proceeding { request, is_cancelled } => match input {
                Input::Response(response) => {
                    match Class::of(response.status()) {
                        Class::Provisional => {}
                        Class::Success => {
                            out.clear(Timer::Cancel);
                            *self = accept(out);
                        }
                        Class::Failure => {
                            out.clear(Timer::Cancel);
                            *self = complete(request, &response, transport, out);
                        }
                    }
                    out.push(Action::PassResponse(response));
                }
                Input::Cancel if *is_cancelled => {}
                Input::Cancel => {
                    *is_cancelled = true;
                    send_cancel(request, out);
                }
                Input::Timer(Timer::Cancel) => {
                    out.push(Action::TimedOut);
                    *self = Self::Terminated;
                }
                Input::Timer(Timer::A | Timer::B | Timer::D | Timer::M) => {}
                Input::TransportFailed => {
                    out.push(Action::TransportFailed);
                    *self = Self::Terminated;
                }
            },
            Self::Accepted => match input {
                Input::Response(response) => out.push(match Class::of(response.status()) {
                    Class::Success => Action::PassResponse(response),
                    Class::Provisional | Class::Failure => Action::Drop(DropReason::SipStrayResponse),
                }),
                Input::Timer(Timer::M) => *self = Self::Terminated,
                // The dialog is up: its own ACK and BYE will find out about the flow.
                Input::Cancel
                | Input::Timer(Timer::A | Timer::B | Timer::D | Timer::Cancel)
                | Input::TransportFailed => {}
            },
            Self::Completed { ack } => match input {
                Input::Response(response) => match Class::of(response.status()) {
                    Class::Failure => out.send(ack),
                    Class::Provisional | Class::Success => out.push(Action::Drop(DropReason::SipStrayResponse)),
                },
                Input::Timer(Timer::D) => *self = Self::Terminated,
                Input::Cancel | Input::Timer(Timer::A | Timer::B | Timer::M | Timer::Cancel) => {}
                Input::TransportFailed => {
                    out.push(Action::TransportFailed);
                    *self = Self::Terminated;
                }
            },
            Self::Terminated => match input {
                Input::Response(_) | Input::Cancel | Input::Timer(_) | Input::TransportFailed => {}
            },
        }
    }
}

/// A provisional response has come: a CANCEL that was held back may go.
fn proceed(request: &Message, is_cancelled: bool, out: &mut Actions) -> InviteClient {
    if is_cancelled {
        send_cancel(request, out);
    }
    InviteClient::Proceeding { request: request.clone(), is_cancelled }
}

fn accept(out: &mut Actions) -> InviteClient {
    out.set(Timer::M, T1_64);
    InviteClient::Accepted
}

/// RFC 3261 section 17.1.1.2: timer D is at least 32 s over UDP and zero over reliable transports.
fn complete(request: &Message, response: &Message, transport: Transport, out: &mut Actions) -> InviteClient {
    let ack = ack(request, response);
    out.send(&ack);
    if transport.is_reliable() {
        return InviteClient::Terminated;
    }
    out.set(Timer::D, T1_64);
    InviteClient::Completed { ack }
}

fn send_cancel(request: &Message, out: &mut Actions) {
    out.push(Action::StartCancel(same_branch("CANCEL", request, request)));
    out.set(Timer::Cancel, T1_64);
}

/// RFC 3261 section 17.1.1.3: all of the INVITE, but To from the response.
fn ack(request: &Message, response: &Message) -> Bytes {
    same_branch("ACK", request, response)
}

/// A request of the INVITE's own branch (sections 9.1 and 17.1.1.3): its top Via, Request-URI, Route, From, Call-ID and
/// CSeq number; To as `to` has it.
fn same_branch(method: &str, request: &Message, to: &Message) -> Bytes {
    let via = request.values(Name::Via).next().unwrap_or_default();
    let cseq = request.cseq().map_or(0, |cseq| cseq.number);
    let mut builder =
        RequestBuilder::new(method, request.request_uri()).header("Via", via).header("Max-Forwards", MAX_FORWARDS);
    for route in request.values(Name::Route) {
        builder = builder.header("Route", route);
    }
    builder
        .header("From", request.header(Name::From).unwrap_or_default())
        .header("To", to.header(Name::To).unwrap_or_default())
        .header("Call-ID", request.call_id())
        .header("CSeq", format_args!("{cseq} {method}"))
        .finish()
}
