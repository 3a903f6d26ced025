//! Listening sockets, and what to tell the operator when one cannot be had.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    os::fd::OwnedFd,
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
use tokio::net::{TcpListener, UdpSocket};

use crate::{
    shell::{dscp, failure::Failure},
    types::Transport,
};

/// Room for the REGISTERs of every phone after a power cut; the kernel caps it at `net.core.rmem_max`.
const UDP_RECEIVE_BUFFER_BYTES: usize = 4 * 1024 * 1024;
const ACCEPT_BACKLOG: i32 = 1_024;

pub(super) fn udp(addresses: &[SocketAddr], dscp: u8) -> Result<Vec<(SocketAddr, UdpSocket)>, Failure> {
    let open = |&address| {
        let socket = socket(SocketType::DGRAM, address, dscp)?;
        sockopt::set_socket_recv_buffer_size(&socket, UDP_RECEIVE_BUFFER_BYTES)?;
        let socket = UdpSocket::from_std(socket.into())?;
        Ok((socket.local_addr()?, socket))
    };
    addresses.iter().map(|a| open(a).map_err(|e| explain_bind_failure("sip.udp", Transport::Udp, *a, &e))).collect()
}

/// Connections are marked as the socket that accepts them.
pub(super) fn tcp(
    transport: Transport,
    addresses: &[SocketAddr],
    dscp: u8,
) -> Result<Vec<(SocketAddr, TcpListener)>, Failure> {
    let open = |&address| {
        let socket = socket(SocketType::STREAM, address, dscp)?;
        listen(&socket, ACCEPT_BACKLOG)?;
        let listener = TcpListener::from_std(socket.into())?;
        Ok((listener.local_addr()?, listener))
    };
    let key = format!("sip.{}", transport.uri_token());
    addresses.iter().map(|a| open(a).map_err(|e| explain_bind_failure(&key, transport, *a, &e))).collect()
}

/// IPv6 sockets take IPv6 only, so that `0.0.0.0` and `[::]` can be bound side by side and no peer appears mapped.
fn socket(kind: SocketType, address: SocketAddr, dscp: u8) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if kind == SocketType::STREAM {
        // A restart must not wait for the connections of the last run to time out.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    dscp::mark(&socket, address.is_ipv6(), dscp)?;
    bind(&socket, &address)?;
    Ok(socket)
}

/// Names the address and what to do; also used for the admin listener.
pub fn explain_bind_failure(
    key: &str,
    what: impl std::fmt::Display,
    address: SocketAddr,
    error: &io::Error,
) -> Failure {
    let remedy = match error.kind() {
        ErrorKind::AddrInUse => format!("Stop the program that uses it (`ss -lnp` names it) or change {key}."),
        ErrorKind::AddrNotAvailable => format!("No interface of this machine has it; change {key}."),
        ErrorKind::PermissionDenied => {
            format!("Ports below 1024 need CAP_NET_BIND_SERVICE; grant it or change {key}.")
        }
        _ => format!("Change {key}."),
    };
    Failure::Unavailable(format!("{what} {address} cannot be bound: {error}. {remedy}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sockets_of_both_families_and_the_connections_they_accept_are_marked() {
        for (ip, dscp) in [("127.0.0.1:0", 24), ("[::1]:0", 24), ("127.0.0.1:0", 0), ("[::1]:0", 63)] {
            let address: SocketAddr = ip.parse().unwrap();
            let is_ipv6 = address.is_ipv6();
            let datagrams = udp(&[address], dscp).unwrap();
            assert_eq!(dscp::of(&datagrams[0].1, is_ipv6), dscp, "{ip}");
            let listeners = tcp(Transport::Tcp, &[address], dscp).unwrap();
            let (local, listener) = &listeners[0];
            let (_peer, accepted) = tokio::join!(tokio::net::TcpStream::connect(local), listener.accept());
            assert_eq!(dscp::of(&accepted.unwrap().0, is_ipv6), dscp, "{ip}");
        }
    }
}
