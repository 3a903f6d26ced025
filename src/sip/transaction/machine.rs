//! The four machines as one type.

use bytes::Bytes;

use crate::{
    types::{Flow, Transport},
    wire::sip::Message,
};

use super::{
    action::Actions,
    invite_client::{self, InviteClient},
    invite_server::{self, InviteServer},
    non_invite_client::{self, NonInviteClient},
    non_invite_server::{self, NonInviteServer},
    timers::Timer,
};

#[derive(Debug)]
pub(super) enum Machine {
    InviteClient(InviteClient),
    NonInviteClient(NonInviteClient),
    InviteServer(InviteServer),
    NonInviteServer(NonInviteServer),
}

/// What can happen to a transaction.
#[derive(Debug)]
pub(super) enum Stimulus {
    /// Client: a response.
    Response(Message),
    /// Server: the request again.
    Request,
    Ack {
        flow: Flow,
        message: Message,
    },
    /// Client: the user gives up. Server: a CANCEL arrived. With its Reason.
    Cancel(String),
    Respond {
        status: u16,
        response: Bytes,
    },
    Acknowledged,
    Timer(Timer),
    TransportFailed,
}

impl Machine {
    /// Hands the stimulus to the machine; one that is not for this kind of machine has no effect.
    pub(super) fn handle(&mut self, stimulus: Stimulus, transport: Transport, out: &mut Actions) {
        match self {
            Self::InviteClient(machine) => {
                use invite_client::Input;
                let input = match stimulus {
                    Stimulus::Response(message) => Input::Response(message),
                    Stimulus::Cancel(reason) => Input::Cancel(reason),
                    Stimulus::Timer(Timer::InviteClient(timer)) => Input::Timer(timer),
                    Stimulus::TransportFailed => Input::TransportFailed,
                    _ => return,
                };
                machine.handle(input, transport, out);
            }
            Self::NonInviteClient(machine) => {
                use non_invite_client::Input;
                let input = match stimulus {
                    Stimulus::Response(message) => Input::Response(message),
                    Stimulus::Timer(Timer::NonInviteClient(timer)) => Input::Timer(timer),
                    Stimulus::TransportFailed => Input::TransportFailed,
                    _ => return,
                };
                machine.handle(input, transport, out);
            }
            Self::InviteServer(machine) => {
                use invite_server::Input;
                let input = match stimulus {
                    Stimulus::Request => Input::Request,
                    Stimulus::Ack { flow, message } => Input::Ack { flow, message },
                    Stimulus::Cancel(reason) => Input::Cancel(reason),
                    Stimulus::Respond { status, response } => Input::Respond { status, response },
                    Stimulus::Acknowledged => Input::Acknowledged,
                    Stimulus::Timer(Timer::InviteServer(timer)) => Input::Timer(timer),
                    Stimulus::TransportFailed => Input::TransportFailed,
                    _ => return,
                };
                machine.handle(input, transport, out);
            }
            Self::NonInviteServer(machine) => {
                use non_invite_server::Input;
                let input = match stimulus {
                    Stimulus::Request => Input::Request,
                    Stimulus::Respond { status, response } => Input::Respond { status, response },
                    Stimulus::Timer(Timer::NonInviteServer(timer)) => Input::Timer(timer),
                    Stimulus::TransportFailed => Input::TransportFailed,
                    _ => return,
                };
                machine.handle(input, transport, out);
            }
        }
    }

    pub(super) const fn is_terminated(&self) -> bool {
        matches!(
            self,
            Self::InviteClient(InviteClient::Terminated)
                | Self::NonInviteClient(NonInviteClient::Terminated)
                | Self::InviteServer(InviteServer::Terminated)
                | Self::NonInviteServer(NonInviteServer::Terminated)
        )
    }
}
