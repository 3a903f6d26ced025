//! Identifiers. Small, `Copy`, and never derived from anything a peer sends.

use std::fmt;

/// One call of the B2BUA, unique for the life of the process. Printed as the `call` field of every log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// One transaction of the SIP layer, client or server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TxnId(pub u64);

/// One media leg: a port pair of one worker.
///
/// `slot` is the index of the pair in the worker's port range, so a packet's local port finds its leg by array index.
/// `generation` tells successive users of one slot apart; a command or event of an earlier user is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LegId {
    pub worker: u16,
    pub slot: u32,
    pub generation: u32,
}
