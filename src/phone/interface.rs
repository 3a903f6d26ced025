//! What goes into a phone and what comes out of it.

use std::{fmt, net::SocketAddr};

use bytes::Bytes;

use crate::{
    types::{Flow, Instant, Secret},
    wire::{
        sip::{Message, Name, build::reason_phrase},
        srtp::Suite,
    },
};

use super::Media;

/// What a phone is.
#[derive(Clone, Debug)]
pub struct Config {
    /// Digest user, and user part of the address-of-record.
    pub user: String,
    pub password: Secret<String>,
    /// Host part of every address-of-record.
    pub domain: String,
    /// The connection to the server.
    pub flow: Flow,
    /// Where this phone receives media.
    pub media: SocketAddr,
    /// The only suite offered and accepted.
    pub suite: Suite,
}

pub enum Input {
    /// Bytes read from the connection, cut anywhere.
    Received(Bytes),
    Register,
    /// Calls a user of the own domain. No effect during a call.
    Dial {
        user: String,
    },
    /// Lets the media of the established call rest, for good. No effect without one.
    Hold,
    /// Ends the established call. No effect without one.
    HangUp,
    Timeout,
}

/// Drain until `Timeout`.
pub enum Output {
    /// To be written to the connection.
    Transmit(Bytes),
    Event(Event),
    /// Call again with [`Input::Timeout`] at this time; `None`: no timer runs.
    Timeout(Option<Instant>),
}

#[derive(Debug)]
pub enum Event {
    Registered,
    /// The callee's phone rings.
    Ringing,
    /// Media may flow. For the caller when its ACK is sent, for the callee when the ACK has come.
    Established(Media),
    /// The media of the call rest, whoever wanted that.
    Held,
    /// The call is over, whoever hung up.
    Ended,
    /// The registration or the call was refused.
    Refused(Refusal),
    /// The server did what no server may do; the text says what.
    Fault(&'static str),
}

/// A final response that was no success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// 408 where no answer came at all, 503 where the connection failed (RFC 3261 section 8.1.3.1).
    pub status: u16,
    /// The reason phrase.
    pub phrase: String,
    pub warning: Option<String>,
    /// The Reason header (RFC 3326).
    pub reason: Option<String>,
}

impl Refusal {
    pub(super) fn read(response: &Message) -> Self {
        let header = |name| response.header(name).map(str::to_owned);
        Self {
            status: response.status(),
            phrase: response.reason_phrase().to_owned(),
            warning: header(Name::Warning),
            reason: header(Name::Reason),
        }
    }

    pub(super) fn own(status: u16) -> Self {
        Self { status, phrase: reason_phrase(status).to_owned(), warning: None, reason: None }
    }

    /// Whether the server forbids the call and says why, to people (Warning) and to machines (Reason).
    pub const fn is_explained(&self) -> bool {
        self.status == 403 && self.warning.is_some() && self.reason.is_some()
    }
}

/// Bytes on their way are not printed: they may hold credentials and keys.
impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Received(bytes) => write!(f, "Received({} bytes)", bytes.len()),
            Self::Register => f.write_str("Register"),
            Self::Dial { user } => write!(f, "Dial({user})"),
            Self::Hold => f.write_str("Hold"),
            Self::HangUp => f.write_str("HangUp"),
            Self::Timeout => f.write_str("Timeout"),
        }
    }
}

/// Bytes on their way are not printed: they may hold credentials and keys.
impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transmit(bytes) => write!(f, "Transmit({} bytes)", bytes.len()),
            Self::Event(event) => write!(f, "Event({event:?})"),
            Self::Timeout(at) => write!(f, "Timeout({at:?})"),
        }
    }
}
