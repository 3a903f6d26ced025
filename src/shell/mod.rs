//! Floor 4: the only floor with sockets, clocks, threads and files. Holds no protocol rule.

pub mod admin;
pub mod cli;
pub mod entropy;
pub mod failure;
pub mod files;
pub mod media_io;
pub mod store;
pub mod transport;
