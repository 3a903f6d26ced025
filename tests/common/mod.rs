//! What the tests of the real binary share: processes in groups of their own, and a started server.

pub(crate) mod namespace;
pub(crate) mod process;
pub(crate) mod server;
pub(crate) mod tone;
