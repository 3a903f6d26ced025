//! What a machine wants done.

use bytes::Bytes;

use crate::{
    types::{DropReason, Duration, Flow},
    wire::sip::Message,
};

use super::timers::Timer;

#[derive(Debug)]
pub(super) enum Action {
    /// On the flow of the transaction.
    Send(Bytes),
    Set(Timer, Duration),
    Clear(Timer),
    /// A response for the user of the layer.
    PassResponse(Message),
    /// An ACK for the user of the layer.
    PassAck {
        flow: Flow,
        message: Message,
    },
    /// The INVITE is to be cancelled for the user of the layer, for this Reason.
    PassCancel(String),
    /// Run this CANCEL as a client transaction of the layer's own.
    StartCancel(Bytes),
    TimedOut,
    TransportFailed,
    NotAcknowledged,
    Drop(DropReason),
}

/// The actions of one step, in order.
#[derive(Debug, Default)]
pub(super) struct Actions(pub(super) Vec<Action>);

impl Actions {
    pub(super) fn push(&mut self, action: Action) {
        self.0.push(action);
    }

    pub(super) fn send(&mut self, bytes: &Bytes) {
        self.push(Action::Send(bytes.clone()));
    }

    pub(super) fn set(&mut self, timer: impl Into<Timer>, after: Duration) {
        self.push(Action::Set(timer.into(), after));
    }

    pub(super) fn clear(&mut self, timer: impl Into<Timer>) {
        self.push(Action::Clear(timer.into()));
    }
}

/// What a status code means to a transaction (RFC 3261 section 7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Provisional,
    Success,
    Failure,
}

impl Class {
    pub(super) const fn of(status: u16) -> Self {
        match status {
            0..200 => Self::Provisional,
            200..300 => Self::Success,
            300.. => Self::Failure,
        }
    }
}
