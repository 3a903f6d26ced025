//! The core: takes every input of the server, hands it to the machine that owns it, and owns all calls.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use serde::Serialize;

use crate::{
    call::Cdr,
    config::{Config, Directory},
    media,
    sip::registrar::{Binding, Change},
    types::{ConnectionId, DropReason, Flow, Instant, Rng, Secret, Transport, reason::DropCounters},
};

/// What the core needs to know of the machine it runs on; all decided before it starts.
#[derive(Debug)]
pub struct Setup {
    pub config: Arc<Config>,
    pub directory: Arc<Directory>,
    /// SIP listening addresses as bound, with their transport.
    pub listeners: Vec<(Transport, SocketAddr)>,
    pub workers: u16,
    /// Trunk passwords by trunk name, read from their files by the shell.
    pub trunk_passwords: HashMap<String, Secret<String>>,
    /// Bindings of the store.
    pub bindings: Vec<Binding>,
    pub rng: Rng,
}

#[derive(Debug)]
pub enum Input {
    /// One framed message (or datagram).
    Received {
        flow: Flow,
        bytes: Bytes,
    },
    /// The connection closed or could not be opened, or a datagram could not be sent.
    FlowFailed {
        flow: Flow,
    },
    /// The answer to [`Output::Resolve`]; empty: no such host.
    Resolved {
        query: u64,
        addresses: Vec<SocketAddr>,
    },
    Media(media::Event),
    /// Users were added or removed.
    Directory(Arc<Directory>),
    /// Refuse new calls, keep live ones (SIGTERM).
    Drain,
    Timeout,
}

#[derive(Debug)]
pub enum Output {
    Transmit {
        flow: Flow,
        bytes: Bytes,
    },
    /// Open a connection and call it `flow.connection`; transmits to it may follow at once and are queued by the shell.
    /// TLS is verified against `server_name`.
    Connect {
        flow: Flow,
        server_name: String,
    },
    CloseConnection(ConnectionId),
    /// Look up a trunk's host name.
    Resolve {
        query: u64,
        host: String,
        port: u16,
    },
    Media {
        worker: u16,
        command: media::Command,
    },
    /// To be on disk before the next `Transmit` leaves.
    StoreBinding(Change),
    StoreCdr(Cdr),
    Timeout(Option<Instant>),
}

/// A live call as the admin API shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CallView {
    pub id: String,
    pub caller: String,
    pub callee: String,
    /// `setup`, `ringing`, `answered`, `ending`.
    pub state: &'static str,
    pub start_ms: u64,
    pub answer_ms: Option<u64>,
    pub emergency: bool,
    pub trunk: Option<String>,
    pub a_suite: Option<String>,
    pub b_suite: Option<String>,
}

/// Totals since start, for metrics.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    pub drops: DropCounters,
    pub requests: u64,
    pub responses: u64,
    pub calls: u64,
    pub calls_answered: u64,
    pub calls_refused: u64,
    pub registrations_refused: u64,
    pub emergency_refused: u64,
    pub emergency_routed: u64,
    pub emergency_failed: u64,
}

/// The whole signalling side of one server.
#[derive(Debug)]
pub struct Core {}

impl Core {
    pub fn new(now: Instant, setup: Setup) -> Self {
        let _ = (now, setup);
        todo!()
    }

    pub fn handle_input(&mut self, now: Instant, input: Input) {
        let _ = (now, input);
        todo!()
    }

    /// Drain until `Timeout`.
    pub fn poll_output(&mut self) -> Output {
        todo!()
    }

    pub fn calls(&self) -> Vec<CallView> {
        todo!()
    }

    pub fn bindings(&self) -> Vec<Binding> {
        todo!()
    }

    pub fn counters(&self) -> Counters {
        todo!()
    }

    /// Nothing is left: no call, no transaction, no port. What simulations check at their end.
    pub fn is_idle(&self) -> bool {
        todo!()
    }

    /// A message a machine could not even index is counted here by the shell's framer.
    pub fn count_drop(&mut self, reason: DropReason) {
        let _ = reason;
        todo!()
    }
}
