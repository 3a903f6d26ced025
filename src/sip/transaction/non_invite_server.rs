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
