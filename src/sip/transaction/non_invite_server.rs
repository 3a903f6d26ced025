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

    const STATES: [fn() -> NonInviteServer; 4] = [
        || NonInviteServer::Trying,
        || NonInviteServer::Proceeding { response: response(100) },
        || NonInviteServer::Completed { response: response(200) },
        || NonInviteServer::Terminated,
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

    const TABLE: &str = "";
}
