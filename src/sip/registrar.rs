//! The location service (RFC 3261 section 10): which contacts an address-of-record has.

use crate::{
    types::{ConnectionId, Flow, Instant, TxnId},
    wire::sip::Message,
};

/// One contact of an address-of-record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// User name in the directory.
    pub aor: String,
    /// Contact URI as registered.
    pub contact: String,
    /// Where requests for it go: the flow the REGISTER came on.
    pub flow: Flow,
    pub expires_at: Instant,
    pub call_id: String,
    pub cseq: u32,
    /// `+sip.instance` of the contact, if any (RFC 5626 section 4.1).
    pub instance: Option<String>,
    pub user_agent: String,
}

#[derive(Debug)]
pub enum Input {
    /// An authenticated REGISTER for `aor`.
    Register {
        txn: TxnId,
        aor: String,
        flow: Flow,
        request: Message,
    },
    /// Bindings of the store at start.
    Restore(Vec<Binding>),
    /// Bindings over this connection are no longer reachable and are removed.
    ConnectionClosed(ConnectionId),
    /// The user is gone from the directory.
    Forget {
        aor: String,
    },
    Timeout,
}

#[derive(Debug)]
pub enum Output {
    /// Answer the REGISTER. `contacts` are complete header values with `expires`; `headers` further lines.
    Reply {
        txn: TxnId,
        status: u16,
        reason: &'static str,
        contacts: Vec<String>,
        headers: Vec<(&'static str, String)>,
    },
    /// Write through before the reply is sent, so that a crash loses nothing the device was told.
    Store(Change),
    Timeout(Option<Instant>),
}

/// A change to keep across a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Set(Binding),
    Remove { aor: String, contact: String },
}

/// All bindings.
#[derive(Debug, Default)]
pub struct Registrar {}

impl Registrar {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn handle_input(&mut self, now: Instant, input: Input) {
        let _ = (now, input);
        todo!()
    }

    pub fn poll_output(&mut self) -> Output {
        todo!()
    }

    /// Live contacts of a user, most recent first.
    pub fn contacts(&self, aor: &str) -> impl Iterator<Item = &Binding> {
        let _ = aor;
        std::iter::empty()
    }

    /// Whether `flow` carries a live binding, and whose. For UDP: the same remote address and port; for TCP and TLS: the same connection.
    pub fn owner_of(&self, flow: &Flow) -> Option<&str> {
        let _ = flow;
        todo!()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Binding> {
        std::iter::empty()
    }

    pub fn len(&self) -> usize {
        todo!()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
