//! Marks what a socket sends for the queues of switches and routers (RFC 2474).

use std::os::fd::AsFd;

use rustix::{io::Result, net::sockopt};

/// The code point stands above the two bits of ECN (RFC 3168 section 5), which stay zero.
pub(super) fn mark(socket: impl AsFd, is_ipv6: bool, dscp: u8) -> Result<()> {
    let byte = dscp << 2;
    if is_ipv6 { sockopt::set_ipv6_tclass(socket, byte.into()) } else { sockopt::set_ip_tos(socket, byte) }
}

/// What a socket is marked with.
#[cfg(test)]
pub(super) fn of(socket: impl AsFd, is_ipv6: bool) -> u8 {
    let byte = if is_ipv6 {
        sockopt::ipv6_tclass(socket).map(|class| u8::try_from(class).unwrap())
    } else {
        sockopt::ip_tos(socket)
    };
    byte.unwrap() >> 2
}
