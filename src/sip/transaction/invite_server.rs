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
    wire::sip::Message,
};

use super::{
    action::{Action, Actions, Class},
    kept::trying,
    timers::{InviteServerTimer as Timer, T1, T1_64, T2, T4, TRYING_AFTER},
};

#[derive(Debug)]
pub(super) enum InviteServer {
    Proceeding {
        request: Bytes,
        source: SocketAddr,
        /// The last provisional response.
        response: Option<Bytes>,
        is_cancelled: bool,
    },
    Accepted {
        /// The 2xx, with the current interval of timer Success; `None`: acknowledged.
        unacknowledged: Option<(Bytes, Duration)>,
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
#[expect(clippy::large_enum_variant, reason = "handed over at once, never kept")]
pub(super) enum Input {
    /// The INVITE again.
    Request,
    Ack {
        flow: Flow,
        message: Message,
    },
    /// With its Reason, or an empty one for none.
    Cancel(String),
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
    pub(super) fn new(request: Bytes, source: SocketAddr, out: &mut Actions) -> Self {
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
                Input::Cancel(_) if *is_cancelled => {}
                Input::Cancel(reason) => {
                    *is_cancelled = true;
                    out.push(Action::PassCancel(reason));
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
                    let trying = trying(request, *source);
                    out.send(&trying);
                    *last = Some(trying);
                }
                Input::Acknowledged | Input::Timer(Timer::Success | Timer::G | Timer::H | Timer::I | Timer::L) => {}
                Input::TransportFailed => {
                    out.push(Action::TransportFailed);
                    *self = Self::Terminated;
                }
            },
            Self::Accepted { unacknowledged } => match input {
                Input::Ack { flow, message } => out.push(Action::PassAck { flow, message }),
                Input::Acknowledged => {
                    out.clear(Timer::Success);
                    *unacknowledged = None;
                }
                Input::Timer(Timer::Success) => {
                    if let Some((response, interval)) = unacknowledged {
                        out.send(response);
                        *interval = (*interval * 2).min(T2);
                        out.set(Timer::Success, *interval);
                    }
                }
                Input::Timer(Timer::L) => {
                    if unacknowledged.is_some() {
                        out.push(Action::NotAcknowledged);
                    }
                    *self = Self::Terminated;
                }
                Input::TransportFailed => out.clear(Timer::Success),
                Input::Request
                | Input::Cancel(_)
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
                Input::Cancel(_)
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
                | Input::Cancel(_)
                | Input::Respond { .. }
                | Input::Acknowledged
                | Input::Timer(Timer::Trying | Timer::Success | Timer::G | Timer::H | Timer::L) => {}
            },
            Self::Terminated => match input {
                Input::Request
                | Input::Ack { .. }
                | Input::Cancel(_)
                | Input::Respond { .. }
                | Input::Acknowledged
                | Input::Timer(_)
                | Input::TransportFailed => {}
            },
        }
    }

    /// Nothing has been answered yet, not even provisionally.
    pub(super) const fn is_unanswered(&self) -> bool {
        matches!(self, Self::Proceeding { response: None, .. })
    }

    /// The last response sent, if it is still kept.
    pub(super) const fn response(&self) -> Option<&Bytes> {
        match self {
            Self::Proceeding { response, .. } => response.as_ref(),
            Self::Accepted { unacknowledged: Some((response, _)) } | Self::Completed { response, .. } => Some(response),
            Self::Accepted { unacknowledged: None } | Self::Confirmed | Self::Terminated => None,
        }
    }
}

fn accept(response: Bytes, out: &mut Actions) -> InviteServer {
    out.set(Timer::Success, T1);
    out.set(Timer::L, T1_64);
    InviteServer::Accepted { unacknowledged: Some((response, T1)) }
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

#[cfg(test)]
mod tests {
    use super::{super::fixture, *};

    fn invite() -> Message {
        fixture::request("INVITE", "z9hG4bKone", "1 INVITE")
    }

    fn response(status: u16) -> Bytes {
        fixture::response(&invite(), status).bytes().clone()
    }

    fn proceeding(response: Option<Bytes>, is_cancelled: bool) -> InviteServer {
        let source = "192.0.2.1:5062".parse().expect("an address");
        InviteServer::Proceeding { request: invite().bytes().clone(), source, response, is_cancelled }
    }

    const STATES: [fixture::Named<InviteServer>; 8] = [
        ("Proceeding", || proceeding(None, false)),
        ("Proceeding after 180", || proceeding(Some(response(180)), false)),
        ("Proceeding cancelled", || proceeding(None, true)),
        ("Accepted", || InviteServer::Accepted { unacknowledged: Some((response(200), T1)) }),
        ("Accepted acknowledged", || InviteServer::Accepted { unacknowledged: None }),
        ("Completed", || InviteServer::Completed { response: response(486), interval: T1 }),
        ("Confirmed", || InviteServer::Confirmed),
        ("Terminated", || InviteServer::Terminated),
    ];

    const INPUTS: [fixture::Named<Input>; 14] = [
        ("INVITE", || Input::Request),
        ("ACK", || Input::Ack {
            flow: fixture::flow(Transport::Udp, "192.0.2.1:5062"),
            message: fixture::request("ACK", "z9hG4bKone", "1 ACK"),
        }),
        ("CANCEL", || Input::Cancel(String::new())),
        ("1xx", || Input::Respond { status: 183, response: response(183) }),
        ("2xx", || Input::Respond { status: 200, response: response(200) }),
        ("486", || Input::Respond { status: 486, response: response(486) }),
        ("acknowledged", || Input::Acknowledged),
        ("timer Trying", || Input::Timer(Timer::Trying)),
        ("timer Success", || Input::Timer(Timer::Success)),
        ("timer G", || Input::Timer(Timer::G)),
        ("timer H", || Input::Timer(Timer::H)),
        ("timer I", || Input::Timer(Timer::I)),
        ("timer L", || Input::Timer(Timer::L)),
        ("transport failure", || Input::TransportFailed),
    ];

    #[test]
    fn every_state_meets_every_input() {
        assert_eq!(fixture::table(&STATES, &INPUTS, InviteServer::handle), TABLE);
    }

    const TABLE: &str = "
Proceeding + ACK -> Proceeding, drop sip_stray_ack
Proceeding + CANCEL -> Proceeding, pass CANCEL
Proceeding + 1xx -> Proceeding, clear Trying, send 183
Proceeding + 2xx -> Accepted, clear Trying, send 200, set Success 500ms, set L 32s
Proceeding + 486 -> Completed, clear Trying, send 486, set G 500ms, set H 32s; reliable: Completed, clear Trying, send 486, set H 32s
Proceeding + timer Trying -> Proceeding, send 100
Proceeding + transport failure -> Terminated, transport failed
Proceeding ignores INVITE, acknowledged, timer Success, timer G, timer H, timer I, timer L
Proceeding after 180 + INVITE -> Proceeding, send 180
Proceeding after 180 + ACK -> Proceeding, drop sip_stray_ack
Proceeding after 180 + CANCEL -> Proceeding, pass CANCEL
Proceeding after 180 + 1xx -> Proceeding, clear Trying, send 183
Proceeding after 180 + 2xx -> Accepted, clear Trying, send 200, set Success 500ms, set L 32s
Proceeding after 180 + 486 -> Completed, clear Trying, send 486, set G 500ms, set H 32s; reliable: Completed, clear Trying, send 486, set H 32s
Proceeding after 180 + timer Trying -> Proceeding, send 100
Proceeding after 180 + transport failure -> Terminated, transport failed
Proceeding after 180 ignores acknowledged, timer Success, timer G, timer H, timer I, timer L
Proceeding cancelled + ACK -> Proceeding, drop sip_stray_ack
Proceeding cancelled + 1xx -> Proceeding, clear Trying, send 183
Proceeding cancelled + 2xx -> Accepted, clear Trying, send 200, set Success 500ms, set L 32s
Proceeding cancelled + 486 -> Completed, clear Trying, send 486, set G 500ms, set H 32s; reliable: Completed, clear Trying, send 486, set H 32s
Proceeding cancelled + timer Trying -> Proceeding, send 100
Proceeding cancelled + transport failure -> Terminated, transport failed
Proceeding cancelled ignores INVITE, CANCEL, acknowledged, timer Success, timer G, timer H, timer I, timer L
Accepted + ACK -> Accepted, pass ACK
Accepted + acknowledged -> Accepted, clear Success
Accepted + timer Success -> Accepted, send 200, set Success 1s
Accepted + timer L -> Terminated, not acknowledged
Accepted + transport failure -> Accepted, clear Success
Accepted ignores INVITE, CANCEL, 1xx, 2xx, 486, timer Trying, timer G, timer H, timer I
Accepted acknowledged + ACK -> Accepted, pass ACK
Accepted acknowledged + acknowledged -> Accepted, clear Success
Accepted acknowledged + timer L -> Terminated
Accepted acknowledged + transport failure -> Accepted, clear Success
Accepted acknowledged ignores INVITE, CANCEL, 1xx, 2xx, 486, timer Trying, timer Success, timer G, timer H, timer I
Completed + INVITE -> Completed, send 486
Completed + ACK -> Confirmed, clear G, clear H, set I 5s; reliable: Terminated, clear G, clear H
Completed + timer G -> Completed, send 486, set G 1s
Completed + timer H -> Terminated
Completed + transport failure -> Terminated, transport failed
Completed ignores CANCEL, 1xx, 2xx, 486, acknowledged, timer Trying, timer Success, timer I, timer L
Confirmed + timer I -> Terminated
Confirmed + transport failure -> Terminated
Confirmed ignores INVITE, ACK, CANCEL, 1xx, 2xx, 486, acknowledged, timer Trying, timer Success, timer G, timer H, timer L
Terminated ignores INVITE, ACK, CANCEL, 1xx, 2xx, 486, acknowledged, timer Trying, timer Success, timer G, timer H, timer I, timer L, transport failure
";
}
