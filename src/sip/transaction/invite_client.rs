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
    kept::parsed,
    timers::{InviteClientTimer as Timer, T1, T1_64},
};

#[derive(Debug)]
pub(super) enum InviteClient {
    Calling {
        request: Bytes,
        /// Current interval of timer A.
        interval: Duration,
        /// The CANCEL that is held back: its Reason, which may be empty.
        cancel: Option<String>,
    },
    Proceeding {
        request: Bytes,
        is_cancelled: bool,
    },
    Accepted,
    Completed {
        ack: Bytes,
    },
    Terminated,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "handed over at once, never kept")]
pub(super) enum Input {
    Response(Message),
    /// With its Reason (RFC 3326), or an empty one for none.
    Cancel(String),
    Timer(Timer),
    TransportFailed,
}

impl InviteClient {
    pub(super) fn new(request: Bytes, transport: Transport, out: &mut Actions) -> Self {
        out.send(&request);
        if !transport.is_reliable() {
            out.set(Timer::A, T1);
        }
        out.set(Timer::B, T1_64);
        Self::Calling { request, interval: T1, cancel: None }
    }

    pub(super) fn handle(&mut self, input: Input, transport: Transport, out: &mut Actions) {
        match self {
            Self::Calling { request, interval, cancel } => match input {
                Input::Response(response) => {
                    out.clear(Timer::A);
                    out.clear(Timer::B);
                    *self = match Class::of(response.status()) {
                        Class::Provisional => proceed(request, cancel.as_deref(), out),
                        Class::Success => accept(out),
                        Class::Failure => complete(request, &response, transport, out),
                    };
                    out.push(Action::PassResponse(response));
                }
                Input::Cancel(reason) => *cancel = Some(reason),
                Input::Timer(Timer::A) => {
                    out.send(request);
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
                Input::Cancel(_) if *is_cancelled => {}
                Input::Cancel(reason) => {
                    *is_cancelled = true;
                    send_cancel(request, &reason, out);
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
                Input::Cancel(_)
                | Input::Timer(Timer::A | Timer::B | Timer::D | Timer::Cancel)
                | Input::TransportFailed => {}
            },
            Self::Completed { ack } => match input {
                Input::Response(response) => match Class::of(response.status()) {
                    Class::Failure => out.send(ack),
                    Class::Provisional | Class::Success => out.push(Action::Drop(DropReason::SipStrayResponse)),
                },
                Input::Timer(Timer::D) => *self = Self::Terminated,
                Input::Cancel(_) | Input::Timer(Timer::A | Timer::B | Timer::M | Timer::Cancel) => {}
                Input::TransportFailed => {
                    out.push(Action::TransportFailed);
                    *self = Self::Terminated;
                }
            },
            Self::Terminated => match input {
                Input::Response(_) | Input::Cancel(_) | Input::Timer(_) | Input::TransportFailed => {}
            },
        }
    }
}

/// A provisional response has come: a CANCEL that was held back may go.
fn proceed(request: &Bytes, cancel: Option<&str>, out: &mut Actions) -> InviteClient {
    if let Some(reason) = cancel {
        send_cancel(request, reason, out);
    }
    InviteClient::Proceeding { request: request.clone(), is_cancelled: cancel.is_some() }
}

fn accept(out: &mut Actions) -> InviteClient {
    out.set(Timer::M, T1_64);
    InviteClient::Accepted
}

/// RFC 3261 section 17.1.1.2: timer D is at least 32 s over UDP and zero over reliable transports.
fn complete(request: &Bytes, response: &Message, transport: Transport, out: &mut Actions) -> InviteClient {
    let ack = ack(&parsed(request), response);
    out.send(&ack);
    if transport.is_reliable() {
        return InviteClient::Terminated;
    }
    out.set(Timer::D, T1_64);
    InviteClient::Completed { ack }
}

fn send_cancel(request: &Bytes, reason: &str, out: &mut Actions) {
    let request = parsed(request);
    let cancel = same_branch("CANCEL", &request, &request);
    let cancel = if reason.is_empty() { cancel } else { cancel.header("Reason", reason) };
    out.push(Action::StartCancel(cancel.finish()));
    out.set(Timer::Cancel, T1_64);
}

/// RFC 3261 section 17.1.1.3: all of the INVITE, but To from the response.
fn ack(request: &Message, response: &Message) -> Bytes {
    same_branch("ACK", request, response).finish()
}

/// A request of the INVITE's own branch (sections 9.1 and 17.1.1.3): its top Via, Request-URI, Route, From, Call-ID and
/// CSeq number; To as `to` has it.
fn same_branch(method: &str, request: &Message, to: &Message) -> RequestBuilder {
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
}

#[cfg(test)]
mod tests {
    use super::{super::fixture, *};

    fn invite() -> Message {
        fixture::request("INVITE", "z9hG4bKone", "1 INVITE")
    }

    fn bytes() -> Bytes {
        invite().bytes().clone()
    }

    const STATES: [fixture::Named<InviteClient>; 7] = [
        ("Calling", || InviteClient::Calling { request: bytes(), interval: T1, cancel: None }),
        ("Calling cancelled", || InviteClient::Calling { request: bytes(), interval: T1, cancel: Some(String::new()) }),
        ("Proceeding", || InviteClient::Proceeding { request: bytes(), is_cancelled: false }),
        ("Proceeding cancelled", || InviteClient::Proceeding { request: bytes(), is_cancelled: true }),
        ("Accepted", || InviteClient::Accepted),
        ("Completed", || InviteClient::Completed { ack: ack(&invite(), &fixture::response(&invite(), 486)) }),
        ("Terminated", || InviteClient::Terminated),
    ];

    const INPUTS: [fixture::Named<Input>; 10] = [
        ("1xx", || Input::Response(fixture::response(&invite(), 180))),
        ("2xx", || Input::Response(fixture::response(&invite(), 200))),
        ("486", || Input::Response(fixture::response(&invite(), 486))),
        ("cancel", || Input::Cancel(String::new())),
        ("timer A", || Input::Timer(Timer::A)),
        ("timer B", || Input::Timer(Timer::B)),
        ("timer D", || Input::Timer(Timer::D)),
        ("timer M", || Input::Timer(Timer::M)),
        ("timer Cancel", || Input::Timer(Timer::Cancel)),
        ("transport failure", || Input::TransportFailed),
    ];

    #[test]
    fn every_state_meets_every_input() {
        assert_eq!(fixture::table(&STATES, &INPUTS, InviteClient::handle), TABLE);
    }

    const TABLE: &str = "
Calling + 1xx -> Proceeding, clear A, clear B, pass 180
Calling + 2xx -> Accepted, clear A, clear B, set M 32s, pass 200
Calling + 486 -> Completed, clear A, clear B, send ACK, set D 32s, pass 486; reliable: Terminated, clear A, clear B, send ACK, pass 486
Calling + cancel -> Calling
Calling + timer A -> Calling, send INVITE, set A 1s
Calling + timer B -> Terminated, timed out
Calling + transport failure -> Terminated, transport failed
Calling ignores timer D, timer M, timer Cancel
Calling cancelled + 1xx -> Proceeding, clear A, clear B, start CANCEL, set Cancel 32s, pass 180
Calling cancelled + 2xx -> Accepted, clear A, clear B, set M 32s, pass 200
Calling cancelled + 486 -> Completed, clear A, clear B, send ACK, set D 32s, pass 486; reliable: Terminated, clear A, clear B, send ACK, pass 486
Calling cancelled + timer A -> Calling, send INVITE, set A 1s
Calling cancelled + timer B -> Terminated, timed out
Calling cancelled + transport failure -> Terminated, transport failed
Calling cancelled ignores cancel, timer D, timer M, timer Cancel
Proceeding + 1xx -> Proceeding, pass 180
Proceeding + 2xx -> Accepted, clear Cancel, set M 32s, pass 200
Proceeding + 486 -> Completed, clear Cancel, send ACK, set D 32s, pass 486; reliable: Terminated, clear Cancel, send ACK, pass 486
Proceeding + cancel -> Proceeding, start CANCEL, set Cancel 32s
Proceeding + timer Cancel -> Terminated, timed out
Proceeding + transport failure -> Terminated, transport failed
Proceeding ignores timer A, timer B, timer D, timer M
Proceeding cancelled + 1xx -> Proceeding, pass 180
Proceeding cancelled + 2xx -> Accepted, clear Cancel, set M 32s, pass 200
Proceeding cancelled + 486 -> Completed, clear Cancel, send ACK, set D 32s, pass 486; reliable: Terminated, clear Cancel, send ACK, pass 486
Proceeding cancelled + timer Cancel -> Terminated, timed out
Proceeding cancelled + transport failure -> Terminated, transport failed
Proceeding cancelled ignores cancel, timer A, timer B, timer D, timer M
Accepted + 1xx -> Accepted, drop sip_stray_response
Accepted + 2xx -> Accepted, pass 200
Accepted + 486 -> Accepted, drop sip_stray_response
Accepted + timer M -> Terminated
Accepted ignores cancel, timer A, timer B, timer D, timer Cancel, transport failure
Completed + 1xx -> Completed, drop sip_stray_response
Completed + 2xx -> Completed, drop sip_stray_response
Completed + 486 -> Completed, send ACK
Completed + timer D -> Terminated
Completed + transport failure -> Terminated, transport failed
Completed ignores cancel, timer A, timer B, timer M, timer Cancel
Terminated ignores 1xx, 2xx, 486, cancel, timer A, timer B, timer D, timer M, timer Cancel, transport failure
";
}
