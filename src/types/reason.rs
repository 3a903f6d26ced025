//! Why something was dropped. Each variant is also the label of a metric.

/// A message or packet that was dropped, by name. Nothing is dropped without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    // SIP
    SipMalformed,
    SipOversized,
    SipStrayResponse,
    SipStrayAck,
    SipUnanswerable,
    SipTransactionsFull,
    SipFlowGone,
    SipScanner,
    SipBarredSource,
    SipBarredUser,
    SipUnorderedProvisional,
    /// An answer to a datagram whose source may be forged, larger than what had come in its name.
    SipUnproven,
    /// A datagram of a sender that nothing is known of, for which there was no time.
    SipOverload,
    /// A request of ours that would have been larger than a message may be; its owner hears 513.
    SipUnsendable,
    // Media
    PacketTruncated,
    PacketOversized,
    /// Damaged on its way to a network card that is read without the kernel, which otherwise drops such packets uncounted.
    PacketBadChecksum,
    PacketNotMedia,
    PacketNoLeg,
    PacketNoPeer,
    PacketForeignSource,
    /// A copy of a plain packet that came before; with SRTP it is a replay.
    PacketDuplicate,
    PacketOnHold,
    SrtpBadTag,
    SrtpReplayed,
    /// It says that it is under a master key which its sender has not named.
    SrtpUnknownMki,
    SrtpTooManySsrcs,
    SrtpIndexExhausted,
    SrtcpNotEncrypted,
    RtcpMalformed,
    /// Larger than the path to the peer lets through in one piece: the kernel or a router said so.
    PathMtu,
    /// The peer's host, its port or the way there is not there (ICMP), or there is no route to it.
    PeerUnreachable,
    SendFailed,
}

impl DropReason {
    pub const ALL: [Self; 33] = [
        Self::SipMalformed,
        Self::SipOversized,
        Self::SipStrayResponse,
        Self::SipStrayAck,
        Self::SipUnanswerable,
        Self::SipTransactionsFull,
        Self::SipFlowGone,
        Self::SipScanner,
        Self::SipBarredSource,
        Self::SipBarredUser,
        Self::SipUnorderedProvisional,
        Self::SipUnproven,
        Self::SipOverload,
        Self::SipUnsendable,
        Self::PacketTruncated,
        Self::PacketOversized,
        Self::PacketBadChecksum,
        Self::PacketNotMedia,
        Self::PacketNoLeg,
        Self::PacketNoPeer,
        Self::PacketForeignSource,
        Self::PacketDuplicate,
        Self::PacketOnHold,
        Self::SrtpBadTag,
        Self::SrtpReplayed,
        Self::SrtpUnknownMki,
        Self::SrtpTooManySsrcs,
        Self::SrtpIndexExhausted,
        Self::SrtcpNotEncrypted,
        Self::RtcpMalformed,
        Self::PathMtu,
        Self::PeerUnreachable,
        Self::SendFailed,
    ];

    /// The metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::SipMalformed => "sip_malformed",
            Self::SipOversized => "sip_oversized",
            Self::SipStrayResponse => "sip_stray_response",
            Self::SipStrayAck => "sip_stray_ack",
            Self::SipUnanswerable => "sip_unanswerable",
            Self::SipTransactionsFull => "sip_transactions_full",
            Self::SipFlowGone => "sip_flow_gone",
            Self::SipScanner => "sip_scanner",
            Self::SipBarredSource => "sip_barred_source",
            Self::SipBarredUser => "sip_barred_user",
            Self::SipUnorderedProvisional => "sip_unordered_provisional",
            Self::SipUnproven => "sip_unproven",
            Self::SipOverload => "sip_overload",
            Self::SipUnsendable => "sip_unsendable",
            Self::PacketTruncated => "packet_truncated",
            Self::PacketOversized => "packet_oversized",
            Self::PacketBadChecksum => "packet_bad_checksum",
            Self::PacketNotMedia => "packet_not_media",
            Self::PacketNoLeg => "packet_no_leg",
            Self::PacketNoPeer => "packet_no_peer",
            Self::PacketForeignSource => "packet_foreign_source",
            Self::PacketDuplicate => "packet_duplicate",
            Self::PacketOnHold => "packet_on_hold",
            Self::SrtpBadTag => "srtp_bad_tag",
            Self::SrtpReplayed => "srtp_replayed",
            Self::SrtpUnknownMki => "srtp_unknown_mki",
            Self::SrtpTooManySsrcs => "srtp_too_many_ssrcs",
            Self::SrtpIndexExhausted => "srtp_index_exhausted",
            Self::SrtcpNotEncrypted => "srtcp_not_encrypted",
            Self::RtcpMalformed => "rtcp_malformed",
            Self::PathMtu => "path_mtu",
            Self::PeerUnreachable => "peer_unreachable",
            Self::SendFailed => "send_failed",
        }
    }

    /// Position in [`DropReason::ALL`], for counter arrays.
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// One counter per reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DropCounters([u64; DropReason::ALL.len()]);

impl Default for DropCounters {
    fn default() -> Self {
        Self([0; DropReason::ALL.len()])
    }
}

impl DropCounters {
    pub const fn count(&mut self, reason: DropReason) {
        self.0[reason.index()] += 1;
    }

    pub const fn count_many(&mut self, reason: DropReason, times: u64) {
        self.0[reason.index()] += times;
    }

    pub const fn of(&self, reason: DropReason) -> u64 {
        self.0[reason.index()]
    }

    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }

    /// `(label, count)` for every reason, in declaration order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        DropReason::ALL.into_iter().map(|r| (r.label(), self.of(r)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_lists_every_reason_in_order() {
        for (i, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason.index(), i);
        }
    }
}
