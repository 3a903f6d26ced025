//! Non-INVITE server transaction (RFC 3261 section 17.2.2).
//!
//! ```text
//!                                  request, 1xx: send 1xx     request: send response
//!                                        +--+                      +--+
//!                                        |  v                      |  v
//! request -----> Trying --- 1xx ---> Proceeding --- 200-699 ---> Completed --- Timer J ---> Terminated
//!                  |                     |                          ^
//!                  +--- 200-699 ---------)--------------------------+
//!                  +--- transport failure (any state but Terminated) ---------------------> Terminated
//! ```

use bytes::Bytes;

use crate::types::Transport;

use super::{
    action::{Action, Actions, Class},
    timers::{NonInviteServerTimer as Timer, T1_64},
};

#[derive(Debug)]
pub(super) enum NonInviteServer {
    Trying,
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
    pub(super) const fn new() -> Self {
        Self::Trying
    }

    pub(super) fn handle(&mut self, input: Input, transport: Transport, out: &mut Actions) {
        match self {
            Self::Trying => match input {
                Input::Respond { status, response } => *self = respond(status, response, transport, out),
                Input::Request | Input::Timer(Timer::J) => {}
                Input::TransportFailed => {
                    out.push(Action::TransportFailed);
                    *self = Self::Terminated;
                }
            },
            Self::Proceeding { response: last } => match input {
                Input::Request => out.send(last),
                Input::Respond { status, response } => *self = respond(status, response, transport, out),
                Input::Timer(Timer::J) => {}
                Input::TransportFailed => {
                    out.push(Action::TransportFailed);
                    *self = Self::Terminated;
                }
            },
            Self::Completed { response: last } => match input {
                Input::Request => out.send(last),
                // Any further final response is discarded (section 17.2.2).
                Input::Respond { .. } => {}
                Input::Timer(Timer::J) => *self = Self::Terminated,
                Input::TransportFailed => {
                    out.push(Action::TransportFailed);
                    *self = Self::Terminated;
                }
            },
            Self::Terminated => match input {
                Input::Request | Input::Respond { .. } | Input::Timer(Timer::J) | Input::TransportFailed => {}
            },
        }
    }
}

/// RFC 3261 section 17.2.2: timer J is 64*T1 over UDP and zero over reliable transports.
fn respond(status: u16, response: Bytes, transport: Transport, out: &mut Actions) -> NonInviteServer {
    out.send(&response);
    match Class::of(status) {
        Class::Provisional => NonInviteServer::Proceeding { response },
        Class::Success | Class::Failure if transport.is_reliable() => NonInviteServer::Terminated,
        Class::Success | Class::Failure => {
            out.set(Timer::J, T1_64);
            NonInviteServer::Completed { response }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::fixture, *};

    fn response(status: u16) -> Bytes {
        fixture::response(&fixture::request("OPTIONS", "z9hG4bKtwo", "1 OPTIONS"), status).bytes().clone()
    }

    const STATES: [fixture::Named<NonInviteServer>; 4] = [
        ("Trying", || NonInviteServer::Trying),
        ("Proceeding", || NonInviteServer::Proceeding { response: response(100) }),
        ("Completed", || NonInviteServer::Completed { response: response(200) }),
        ("Terminated", || NonInviteServer::Terminated),
    ];

    const INPUTS: [fixture::Named<Input>; 6] = [
        ("request", || Input::Request),
        ("1xx", || Input::Respond { status: 100, response: response(100) }),
        ("2xx", || Input::Respond { status: 200, response: response(200) }),
        ("404", || Input::Respond { status: 404, response: response(404) }),
        ("timer J", || Input::Timer(Timer::J)),
        ("transport failure", || Input::TransportFailed),
    ];

    #[test]
    fn every_state_meets_every_input() {
        assert_eq!(fixture::table(&STATES, &INPUTS, NonInviteServer::handle), TABLE);
    }

    const TABLE: &str = "
Trying + 1xx -> Proceeding, send 100
Trying + 2xx -> Completed, send 200, set J 32s; reliable: Terminated, send 200
Trying + 404 -> Completed, send 404, set J 32s; reliable: Terminated, send 404
Trying + transport failure -> Terminated, transport failed
Trying ignores request, timer J
Proceeding + request -> Proceeding, send 100
Proceeding + 1xx -> Proceeding, send 100
Proceeding + 2xx -> Completed, send 200, set J 32s; reliable: Terminated, send 200
Proceeding + 404 -> Completed, send 404, set J 32s; reliable: Terminated, send 404
Proceeding + transport failure -> Terminated, transport failed
Proceeding ignores timer J
Completed + request -> Completed, send 200
Completed + timer J -> Terminated
Completed + transport failure -> Terminated, transport failed
Completed ignores 1xx, 2xx, 404
Terminated ignores request, 1xx, 2xx, 404, timer J, transport failure
";
}
