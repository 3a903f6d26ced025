//! Which remote address a leg's packets come from and go to: latching (RFC 7362 section 4) that a stranger cannot move.
//!
//! With SRTP, any source may try, and only a packet whose tag verified and that is no replay counts. Without it the
//! address in the SDP is all there is to trust: packets from exactly there count at once, as those of an earlier call may
//! still come from another port of the same host; else the latch stays, once fixed, until signalling changes that address.

use std::net::{IpAddr, SocketAddr};

use crate::config::Network;

/// Consecutive authenticated packets from a new source that move a latch which already holds.
///
/// One would let a single packet, overtaken on its way by a copy from elsewhere, turn a call's audio around.
const MOVE_PACKETS: u8 = 3;

/// The remote side of one socket of a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Latch {
    remote: Option<SocketAddr>,
    trust: Trust,
    /// From the candidate, in a row.
    candidate_packets: u8,
    /// A source that may become the remote.
    candidate: Option<SocketAddr>,
    /// Where the SDP says that the peer hears.
    signalled: Option<SocketAddr>,
}

/// Whose packets may pass to the tag check or, without SRTP, at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// Everyone's: the tag decides.
    Tag,
    /// Only those of the signalled host, and from the very port before all others.
    Host,
    /// The first one's of the signalled host and this one: the SDP names an address behind a NAT, or of this very network, and
    /// signalling comes from the other.
    Near(IpAddr),
    /// The first one's of all, where a proxy stands between: nobody can tell from where a peer behind a NAT will send.
    First,
    /// As of the host, and before that also the first one's of this network, where the operator says that a carrier's media come
    /// from: it is sent to where it signalled all the same.
    Network(Network),
    /// Nobody's: the SDP names no address.
    Nobody,
}

impl Latch {
    /// For SRTP.
    pub(super) const fn by_tag(signalled: Option<SocketAddr>) -> Self {
        Self::new(Trust::Tag, signalled)
    }

    /// For plain RTP, from the address in the SDP, and the host that signalling comes from where no proxy stands between.
    /// `network`: from where else the peer may send.
    pub(super) fn by_address(signalled: Option<SocketAddr>, host: Option<IpAddr>, network: Option<Network>) -> Self {
        let trust = match signalled {
            None => Trust::Nobody,
            Some(address) if address.ip().is_unspecified() || address.ip().is_multicast() => Trust::Nobody,
            Some(address) if is_private(address.ip()) => host.map_or(Trust::First, Trust::Near),
            Some(_) => network.map_or(Trust::Host, Trust::Network),
        };
        Self::new(trust, signalled)
    }

    const fn new(trust: Trust, signalled: Option<SocketAddr>) -> Self {
        Self { remote: None, trust, candidate_packets: 0, candidate: None, signalled }
    }

    /// Whether it was made for the same address and trusts the same sources.
    pub(super) fn agrees(&self, other: &Self) -> bool {
        (self.trust, self.signalled) == (other.trust, other.signalled)
    }

    /// Whether a packet from `source` may go on to the tag check.
    pub(super) fn admits(&self, source: SocketAddr) -> bool {
        let is_signalled_host = || self.signalled.is_some_and(|signalled| signalled.ip() == source.ip());
        match (self.trust, self.remote) {
            (Trust::Tag, _) => true,
            (Trust::Host | Trust::Network(_), Some(remote)) => source == remote || Some(source) == self.signalled,
            (Trust::Host, None) => is_signalled_host(),
            (Trust::Network(network), None) => is_signalled_host() || network.contains(source.ip()),
            (Trust::Near(_) | Trust::First, Some(remote)) => source == remote,
            (Trust::Near(host), None) => source.ip() == host || is_signalled_host(),
            (Trust::First, None) => true,
            (Trust::Nobody, _) => false,
        }
    }

    /// Takes note of an accepted packet; returns whether the latch now holds its source and did not before.
    pub(super) fn accepted(&mut self, source: SocketAddr) -> bool {
        if self.remote == Some(source) {
            self.candidate = None;
            return false;
        }
        let packets = if self.candidate == Some(source) { self.candidate_packets + 1 } else { 1 };
        let is_signalled = matches!(self.trust, Trust::Host | Trust::Network(_)) && self.signalled == Some(source);
        let moves = self.remote.is_none() || is_signalled || packets >= MOVE_PACKETS;
        if moves {
            (self.remote, self.candidate) = (Some(source), None);
        } else {
            (self.candidate, self.candidate_packets) = (Some(source), packets);
        }
        moves
    }

    /// Where the peer hears: where it is heard from, and before that where it said.
    pub(super) fn destination(&self) -> Option<SocketAddr> {
        let is_elsewhere = |remote: &SocketAddr| {
            matches!(self.trust, Trust::Network(_))
                && self.signalled.is_some_and(|signalled| signalled.ip() != remote.ip())
        };
        self.remote.filter(|remote| !is_elsewhere(remote)).or(self.signalled)
    }

    pub(super) const fn signalled(&self) -> Option<SocketAddr> {
        self.signalled
    }

    /// The latched source; `None` before the first accepted packet.
    pub(super) const fn remote(&self) -> Option<SocketAddr> {
        self.remote
    }

    /// Whether nobody else needs to be heard while the latched source speaks.
    pub(super) fn is_exclusive(&self) -> bool {
        match self.trust {
            Trust::Tag | Trust::Near(_) | Trust::First | Trust::Nobody => true,
            Trust::Host | Trust::Network(_) => self.remote == self.signalled,
        }
    }
}

/// Addresses that say nothing about where packets will come from, since a NAT may stand between: RFC 1918, RFC 6598,
/// RFC 4193, loopback and link-local.
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, _, _] = v4.octets();
            v4.is_private() || v4.is_loopback() || v4.is_link_local() || (a == 100 && b & 0xc0 == 64)
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_first_authenticated_packet_latches() {
        let mut latch = Latch::by_tag(None);
        assert_eq!(latch.remote(), None);
        assert!(latch.admits(at("203.0.113.1:4000")));
        latch.accepted(at("203.0.113.1:4000"));
        assert_eq!(latch.remote(), Some(at("203.0.113.1:4000")));
    }

    #[test]
    fn three_packets_in_a_row_move_the_latch_and_two_do_not() {
        let (old, new) = (at("203.0.113.1:4000"), at("198.51.100.7:9"));
        let mut latch = Latch::by_tag(None);
        latch.accepted(old);
        for source in [new, new, old, new, new] {
            latch.accepted(source);
            assert_eq!(latch.remote(), Some(old));
        }
        latch.accepted(new);
        assert_eq!(latch.remote(), Some(new));
    }

    #[test]
    fn packets_of_two_strangers_do_not_add_up() {
        let old = at("203.0.113.1:4000");
        let mut latch = Latch::by_tag(None);
        latch.accepted(old);
        for port in [1, 2, 1, 2, 1, 2, 1, 2] {
            latch.accepted(SocketAddr::new(old.ip(), port));
            assert_eq!(latch.remote(), Some(old));
        }
    }

    #[test]
    fn plain_rtp_is_taken_from_the_signalled_host_then_its_first_port_and_the_signalled_one_for_good() {
        let mut latch = Latch::by_address(Some(at("203.0.113.1:4000")), None, None);
        assert!(!latch.admits(at("203.0.113.2:4000")));
        assert!(latch.admits(at("203.0.113.1:5000")), "symmetric NAT changes the port");
        latch.accepted(at("203.0.113.1:5000"));
        assert!(latch.admits(at("203.0.113.1:5000")) && !latch.is_exclusive());
        assert!(!latch.admits(at("203.0.113.1:5001")));
        assert!(latch.admits(at("203.0.113.1:4000")), "the first may have been a packet of an earlier call");
        assert!(latch.accepted(at("203.0.113.1:4000")), "once is enough");
        assert!(latch.is_exclusive() && !latch.admits(at("203.0.113.1:5000")));
    }

    #[test]
    fn plain_rtp_behind_a_nat_is_taken_from_the_first_source_only() {
        for signalled in
            ["10.1.2.3:4000", "192.168.0.9:4000", "100.64.0.1:4000", "[fd00::1]:4000", "[fe80::1]:4000", "127.0.0.1:4"]
        {
            let mut latch = Latch::by_address(Some(at(signalled)), None, None);
            assert!(latch.admits(at("203.0.113.1:5000")), "{signalled}");
            latch.accepted(at("203.0.113.1:5000"));
            assert!(!latch.admits(at("203.0.113.2:5000")), "{signalled}");
            assert!(!latch.admits(at(signalled)), "{signalled}");
        }
    }

    #[test]
    fn behind_a_nat_only_the_hosts_of_media_and_signalling_may_be_first() {
        let (home, nat) = (at("192.168.0.9:4000"), at("203.0.113.1:5000"));
        let latch = || Latch::by_address(Some(home), Some(nat.ip()), None);
        assert!(!latch().admits(at("198.51.100.66:5000")), "a stranger");
        for source in [home, nat, at("203.0.113.1:6000")] {
            let mut latch = latch();
            assert!(latch.admits(source), "{source}");
            latch.accepted(source);
            assert!(latch.is_exclusive() && latch.admits(source));
            assert!([home, nat, at("203.0.113.1:6000")].iter().all(|other| latch.admits(*other) == (*other == source)));
        }
    }

    #[test]
    fn a_carriers_media_come_from_its_network_and_go_to_where_it_has_signalled() {
        let network = Network { address: "203.0.113.0".parse().unwrap(), prefix_bits: 28 };
        let (signalled, split) = (at("198.51.100.1:4000"), at("203.0.113.5:6000"));
        let mut latch = Latch::by_address(Some(signalled), None, Some(network));
        assert!(latch.admits(split) && latch.admits(at("198.51.100.1:5000")) && latch.admits(signalled));
        assert!(!latch.admits(at("203.0.113.16:6000")) && !latch.admits(at("198.51.100.2:4000")), "never wider");
        assert!(latch.accepted(split));
        assert_eq!(latch.destination(), Some(signalled), "it hears where it said");
        assert!(latch.admits(split) && !latch.admits(at("203.0.113.6:6000")) && !latch.is_exclusive());
        assert!(latch.admits(signalled) && latch.accepted(signalled) && latch.is_exclusive());
        assert!(!latch.admits(split));
        // Another port of the signalled host is a NAT's.
        let mut behind_nat = Latch::by_address(Some(signalled), None, Some(network));
        behind_nat.accepted(at("198.51.100.1:5000"));
        assert_eq!(behind_nat.destination(), Some(at("198.51.100.1:5000")));
        // Where the address says nothing, or is missing, the network changes nothing.
        for signalled in [None, Some(at("10.1.2.3:4000"))] {
            let with = Latch::by_address(signalled, Some(split.ip()), Some(network));
            assert!(with.agrees(&Latch::by_address(signalled, Some(split.ip()), None)));
        }
    }

    #[test]
    fn without_a_signalled_address_plain_rtp_is_taken_from_nobody() {
        for signalled in [None, Some(at("0.0.0.0:4000")), Some(at("[::]:4000")), Some(at("224.0.0.1:4000"))] {
            assert!(!Latch::by_address(signalled, None, None).admits(at("203.0.113.1:4000")), "{signalled:?}");
        }
    }

    #[test]
    fn shared_address_space_ends_where_rfc_6598_says() {
        assert!(is_private("100.127.255.255".parse().unwrap()));
        assert!(!is_private("100.128.0.0".parse().unwrap()));
        assert!(!is_private("100.63.255.255".parse().unwrap()));
    }
}
