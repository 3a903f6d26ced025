//! Non-INVITE server transaction (RFC 3261 section 17.2.2 as amended by RFC 4320).
//!
//! ```text
//!                                      request: send 100       request: send response
//!                                            +--+                      +--+
//!                                            |  v                      |  v
//! request --> Trying --- Timer Trying ---> Proceeding --- 200-699 ---> Completed --- Timer J ---> Terminated
//!               |          send 100          |    |                       ^
//!               +--- 200-699 ----------------)----)-----------------------+
//!               |                            +--- Timer Useless ----------------------------------> Terminated
//!               +--- transport failure (any state but Terminated) --------------------------------> Terminated
//! ```
//!
//! The layer alone sends a provisional response: 100, and not before the client's timer E has grown to T2 (RFC 4320 section
//! 4.1). 408 is never sent: it would come when the client has given up (section 4.2). Such a transaction ends in silence.

use std::net::SocketAddr;

use bytes::Bytes;

use crate::types::Transport;

use super::{
    action::{Action, Actions, Class},
    kept::trying,
    timers::{NON_INVITE_TRYING_AFTER, NonInviteServerTimer as Timer, T1_64},
};

#[derive(Debug)]
pub(super) enum NonInviteServer {
    Trying { request: Bytes, source: SocketAddr },
    Proceeding { response: Bytes },
    Completed { response: Bytes },
    Terminated,
}

#[derive(Debug)]
pub(super) enum Input {
    /// The request again.
    Request,
    Respond {
        status: u16,
        response: Bytes,
    },
    Timer(Timer),
    TransportFailed,
}

impl NonInviteServer {
    pub(super) fn new(request: Bytes, source: SocketAddr, out: &mut Actions) -> Self {
        out.set(Timer::Trying, NON_INVITE_TRYING_AFTER);
        Self::Trying { request, source }
    }

    /// Nothing has been sent yet.
    pub(super) const fn is_unanswered(&self) -> bool {
        matches!(self, Self::Trying { .. })
    }

    pub(super) fn handle(&mut self, input: Input, transport: Transport, out: &mut Actions) {
        match self {
            Self::Trying { request, source } => match input {
                Input::Respond { status, response } if may_send(status) => {
                    out.clear(Timer::Trying);
                    *self = complete(response, transport, out);
                }
                Input::Timer(Timer::Trying) => {
                    let response = trying(request, *source);
                    out.send(&response);
                    out.set(Timer::Useless, T1_64 - NON_INVITE_TRYING_AFTER);
                    *self = Self::Proceeding { response };
                }
                Input::Respond { .. } | Input::Request | Input::Timer(Timer::J | Timer::Useless) => {}
                Input::TransportFailed => {
                    out.push(Action::TransportFailed);
                    *self = Self::Terminated;
                }
            },
            Self::Proceeding { response: last } => match input {
                Input::Request => out.send(last),
                Input::Respond { status, response } if may_send(status) => {
                    out.clear(Timer::Useless);
                    *self = complete(response, transport, out);
                }
                Input::Timer(Timer::Useless) => *self = Self::Terminated,
                Input::Respond { .. } | Input::Timer(Timer::Trying | Timer::J) => {}
                Input::TransportFailed => {
                    out.push(Action::TransportFailed);
                    *self = Self::Terminated;
                }
            },
            Self::Completed { response: last } => match input {
                Input::Request => out.send(last),
                // Any further final response is discarded (section 17.2.2).
                Input::Respond { .. } | Input::Timer(Timer::Trying | Timer::Useless) => {}
                Input::Timer(Timer::J) => *self = Self::Terminated,
                Input::TransportFailed => {
                    out.push(Action::TransportFailed);
                    *self = Self::Terminated;
                }
            },
            Self::Terminated => match input {
                Input::Request | Input::Respond { .. } | Input::Timer(_) | Input::TransportFailed => {}
            },
        }
    }
}

/// RFC 3261 section 17.2.2: timer J is 64*T1 over UDP and zero over reliable transports.
fn complete(response: Bytes, transport: Transport, out: &mut Actions) -> NonInviteServer {
    if transport.is_reliable() {
        out.push(Action::Send(response));
        return NonInviteServer::Terminated;
    }
    out.send(&response);
    out.set(Timer::J, T1_64);
    NonInviteServer::Completed { response }
}

/// RFC 4320 section 4.
fn may_send(status: u16) -> bool {
    Class::of(status) != Class::Provisional && status != 408
}

#[cfg(test)]
mod tests {
    use super::{super::fixture, *};
    use crate::wire::sip::Message;

    fn request() -> Message {
        fixture::request("OPTIONS", "z9hG4bKtwo", "1 OPTIONS")
    }

    fn response(status: u16) -> Bytes {
        fixture::response(&request(), status).bytes().clone()
    }

    const STATES: [fixture::Named<NonInviteServer>; 4] = [
        ("Trying", || NonInviteServer::Trying {
            request: request().bytes().clone(),
            source: "192.0.2.1:5062".parse().unwrap(),
        }),
        ("Proceeding", || NonInviteServer::Proceeding { response: response(100) }),
        ("Completed", || NonInviteServer::Completed { response: response(200) }),
        ("Terminated", || NonInviteServer::Terminated),
    ];

    const INPUTS: [fixture::Named<Input>; 9] = [
        ("request", || Input::Request),
        ("1xx", || Input::Respond { status: 100, response: response(100) }),
        ("2xx", || Input::Respond { status: 200, response: response(200) }),
        ("404", || Input::Respond { status: 404, response: response(404) }),
        ("408", || Input::Respond { status: 408, response: response(408) }),
        ("timer Trying", || Input::Timer(Timer::Trying)),
        ("timer J", || Input::Timer(Timer::J)),
        ("timer Useless", || Input::Timer(Timer::Useless)),
        ("transport failure", || Input::TransportFailed),
    ];

    #[test]
    fn every_state_meets_every_input() {
        assert_eq!(fixture::table(&STATES, &INPUTS, NonInviteServer::handle), TABLE);
    }

    const TABLE: &str = "
Trying + 2xx -> Completed, clear Trying, send 200, set J 32s; reliable: Terminated, clear Trying, send 200
Trying + 404 -> Completed, clear Trying, send 404, set J 32s; reliable: Terminated, clear Trying, send 404
Trying + timer Trying -> Proceeding, send 100, set Useless 28.5s
Trying + transport failure -> Terminated, transport failed
Trying ignores request, 1xx, 408, timer J, timer Useless
Proceeding + request -> Proceeding, send 100
Proceeding + 2xx -> Completed, clear Useless, send 200, set J 32s; reliable: Terminated, clear Useless, send 200
Proceeding + 404 -> Completed, clear Useless, send 404, set J 32s; reliable: Terminated, clear Useless, send 404
Proceeding + timer Useless -> Terminated
Proceeding + transport failure -> Terminated, transport failed
Proceeding ignores 1xx, 408, timer Trying, timer J
Completed + request -> Completed, send 200
Completed + timer J -> Terminated
Completed + transport failure -> Terminated, transport failed
Completed ignores 1xx, 2xx, 404, 408, timer Trying, timer Useless
Terminated ignores request, 1xx, 2xx, 404, 408, timer Trying, timer J, timer Useless, transport failure
";
}
