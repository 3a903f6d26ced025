//! Where SIP bytes come from and go to.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

/// SIP transports (RFC 3261 section 18; RFC 7118 is not among them yet).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    Udp,
    Tcp,
    Tls,
}

impl Transport {
    /// TCP and TLS deliver or fail; UDP needs retransmission (RFC 3261 section 17.1.1.1).
    pub const fn is_reliable(self) -> bool {
        match self {
            Self::Udp => false,
            Self::Tcp | Self::Tls => true,
        }
    }

    /// The token of a Via header, upper case (RFC 3261 section 20.42).
    pub const fn via_token(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
        }
    }

    /// The value of a `transport` URI parameter, lower case (RFC 3261 section 19.1.1).
    pub const fn uri_token(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }

    /// RFC 3261 section 19.1.2.
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Udp | Self::Tcp => 5060,
            Self::Tls => 5061,
        }
    }

    /// Reads a URI parameter or configuration value in any case.
    pub fn from_token(token: &str) -> Option<Self> {
        [Self::Udp, Self::Tcp, Self::Tls].into_iter().find(|t| token.eq_ignore_ascii_case(t.uri_token()))
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.uri_token())
    }
}

/// One TCP or TLS connection. UDP flows carry [`ConnectionId::NONE`].
///
/// The shell numbers accepted connections, the core those it asks for; the top bit keeps the two apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

impl ConnectionId {
    pub const NONE: Self = Self(0);

    /// The `n`th connection asked for by the core.
    pub const fn outbound(n: u64) -> Self {
        Self(n | 1 << 63)
    }
}

/// The transport 5-tuple that carries a device's messages (RFC 5626 section 2). For UDP, `local` is the listening
/// socket's address; for TCP and TLS, `connection` alone decides where bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    pub transport: Transport,
    pub local: SocketAddr,
    pub remote: SocketAddr,
    pub connection: ConnectionId,
}

/// What decides whether two flows reach the same device: the connection, or for UDP the remote address and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FlowKey {
    Connection(ConnectionId),
    Datagram(SocketAddr),
}

/// Whom limits per source hold for: an IPv4 address, or the /64 network that one IPv6 host has to itself.
pub fn source_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
    }
}

/// Who is taken for one where room must be made: an IPv4 address, or the /48 network of which one IPv6 site has all.
pub fn network_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 80 << 80).into(),
    }
}

impl Flow {
    /// [`source_of`] the peer.
    pub fn source(&self) -> IpAddr {
        source_of(self.remote.ip())
    }

    /// `None`: a TCP or TLS flow whose connection is gone, such as one read back from the store after a restart.
    pub fn key(&self) -> Option<FlowKey> {
        match self.transport {
            Transport::Udp => Some(FlowKey::Datagram(self.remote)),
            Transport::Tcp | Transport::Tls if self.connection == ConnectionId::NONE => None,
            Transport::Tcp | Transport::Tls => Some(FlowKey::Connection(self.connection)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_host_has_a_network_and_a_site_a_larger_one() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        for (one, source, network) in
            [("192.0.2.1", "192.0.2.1", "192.0.2.1"), ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::", "2001:db8:1::")]
        {
            let of = (source_of(address(one)), network_of(address(one)));
            assert_eq!(of, (address(source), address(network)));
        }
    }

    #[test]
    fn a_source_is_an_ipv4_address_or_an_ipv6_network() {
        let source = |text: &str| source_of(text.parse().unwrap());
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:1"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
    }
}
