//! Non-INVITE client transaction (RFC 3261 section 17.1.2).
//!
//! ```text
//!             Timer E: send request      Timer E: send request
//!                    +--+                    +--+
//!                    |  v                    |  v
//! request -------> Trying --- 1xx ------> Proceeding --- 200-699 ---> Completed --- Timer K ---> Terminated
//!                    |                       |                           ^
//!                    +--- 200-699 -----------)---------------------------+
//!                    |                       |
//!                    +--- Timer F or transport failure -----------------------------------------> Terminated
//! ```

use bytes::Bytes;

use crate::{
    types::{Duration, Transport},
    wire::sip::Message,
};

use super::{
    action::{Action, Actions, Class},
    timers::{NonInviteClientTimer as Timer, T1, T1_64, T2, T4},
};

#[derive(Debug)]
pub(super) enum NonInviteClient {
    Trying {
        request: Bytes,
        /// Current interval of timer E.
        interval: Duration,
    },
    Proceeding {
        request: Bytes,
    },
    Completed,
    Terminated,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "handed over at once, never kept")]
pub(super) enum Input {
    Response(Message),
    Timer(Timer),
    TransportFailed,
}

impl NonInviteClient {
    pub(super) fn new(request: Bytes, transport: Transport, out: &mut Actions) -> Self {
        out.send(&request);
        if !transport.is_reliable() {
            out.set(Timer::E, T1);
        }
        out.set(Timer::F, T1_64);
        Self::Trying { request, interval: T1 }
    }

    pub(super) fn handle(&mut self, input: Input, transport: Transport, out: &mut Actions) {
        match self {
            Self::Trying { request, interval } => match input {
                Input::Response(response) => {
                    *self = match Class::of(response.status()) {
                        Class::Provisional => Self::Proceeding { request: request.clone() },
                        Class::Success | Class::Failure => complete(transport, out),
                    };
                    out.push(Action::PassResponse(response));
                }
                Input::Timer(Timer::E) => {
                    out.send(request);
                    *interval = (*interval * 2).min(T2);
                    out.set(Timer::E, *interval);
                }
                Input::Timer(Timer::F) => {
                    out.push(Action::TimedOut);
                    *self = Self::Terminated;
                }
                Input::Timer(Timer::K) => {}
                Input::TransportFailed => {
                    out.push(Action::TransportFailed);
                    *self = Self::Terminated;
                }
            },
            Self::Proceeding { request } => match input {
                Input::Response(response) => {
                    match Class::of(response.status()) {
                        Class::Provisional => {}
                        Class::Success | Class::Failure => *self = complete(transport, out),
                    }
                    out.push(Action::PassResponse(response));
                }
                Input::Timer(Timer::E) => {
                    out.send(request);
                    out.set(Timer::E, T2);
                }
                Input::Timer(Timer::F) => {
                    out.push(Action::TimedOut);
                    *self = Self::Terminated;
                }
                Input::Timer(Timer::K) => {}
                Input::TransportFailed => {
                    out.push(Action::TransportFailed);
                    *self = Self::Terminated;
                }
            },
            Self::Completed => match input {
                Input::Timer(Timer::K) => *self = Self::Terminated,
                Input::Response(_) | Input::Timer(Timer::E | Timer::F) | Input::TransportFailed => {}
            },
            Self::Terminated => match input {
                Input::Response(_) | Input::Timer(_) | Input::TransportFailed => {}
            },
        }
    }
}

/// RFC 3261 section 17.1.2.2: timer K is T4 over UDP and zero over reliable transports.
fn complete(transport: Transport, out: &mut Actions) -> NonInviteClient {
    out.clear(Timer::E);
    out.clear(Timer::F);
    if transport.is_reliable() {
        return NonInviteClient::Terminated;
    }
    out.set(Timer::K, T4);
    NonInviteClient::Completed
}

#[cfg(test)]
mod tests {
    use super::{super::fixture, *};

    fn options() -> Message {
        fixture::request("OPTIONS", "z9hG4bKtwo", "1 OPTIONS")
    }

    const STATES: [fixture::Named<NonInviteClient>; 4] = [
        ("Trying", || NonInviteClient::Trying { request: options().bytes().clone(), interval: T1 }),
        ("Proceeding", || NonInviteClient::Proceeding { request: options().bytes().clone() }),
        ("Completed", || NonInviteClient::Completed),
        ("Terminated", || NonInviteClient::Terminated),
    ];

    const INPUTS: [fixture::Named<Input>; 7] = [
        ("1xx", || Input::Response(fixture::response(&options(), 100))),
        ("2xx", || Input::Response(fixture::response(&options(), 200))),
        ("404", || Input::Response(fixture::response(&options(), 404))),
        ("timer E", || Input::Timer(Timer::E)),
        ("timer F", || Input::Timer(Timer::F)),
        ("timer K", || Input::Timer(Timer::K)),
        ("transport failure", || Input::TransportFailed),
    ];

    #[test]
    fn every_state_meets_every_input() {
        assert_eq!(fixture::table(&STATES, &INPUTS, NonInviteClient::handle), TABLE);
    }

    const TABLE: &str = "
Trying + 1xx -> Proceeding, pass 100
Trying + 2xx -> Completed, clear E, clear F, set K 5s, pass 200; reliable: Terminated, clear E, clear F, pass 200
Trying + 404 -> Completed, clear E, clear F, set K 5s, pass 404; reliable: Terminated, clear E, clear F, pass 404
Trying + timer E -> Trying, send OPTIONS, set E 1s
Trying + timer F -> Terminated, timed out
Trying + transport failure -> Terminated, transport failed
Trying ignores timer K
Proceeding + 1xx -> Proceeding, pass 100
Proceeding + 2xx -> Completed, clear E, clear F, set K 5s, pass 200; reliable: Terminated, clear E, clear F, pass 200
Proceeding + 404 -> Completed, clear E, clear F, set K 5s, pass 404; reliable: Terminated, clear E, clear F, pass 404
Proceeding + timer E -> Proceeding, send OPTIONS, set E 4s
Proceeding + timer F -> Terminated, timed out
Proceeding + transport failure -> Terminated, transport failed
Proceeding ignores timer K
Completed + timer K -> Terminated
Completed ignores 1xx, 2xx, 404, timer E, timer F, transport failure
Terminated ignores 1xx, 2xx, 404, timer E, timer F, timer K, transport failure
";
}
