//! Per-SSRC state of one direction: the only place where an index advances.
//!
//! A receiver *admits*: state is made or moved only after the packet's tag verified. A sender *claims*: an index is taken
//! before it is used, and never given twice.

use std::mem;

use smallvec::SmallVec;

use crate::types::{
    DropReason,
    limits::{SSRCS_PER_KEY_MAX, SSRCS_PER_LEG_MAX},
};

use super::replay::{RTCP_WORDS, RTP_WORDS, Window};

/// RFC 3711 section 9.2: at most 2^48 SRTP and 2^31 SRTCP packets under one master key.
const RTP_INDEX_MAX: u64 = (1 << 48) - 1;
const RTCP_INDEX_MAX: u64 = (1 << 31) - 1;
/// Packets of one rollover counter.
const ROLLOVER: u64 = 1 << 16;
const SEQUENCE_MEDIAN: u16 = 1 << 15;
/// A relayed packet that is further ahead of what was sent does not keep its number: whoever receives it can place less than
/// half a cycle, and may have lost what came last.
const AHEAD_MAX: u64 = 24_576;
/// How far ahead a stream goes on that has begun anew: more than what is taken for loss (3,000, RFC 3550 appendix A.1), so
/// that it looks like what it is.
const RESTART_AHEAD: u64 = 4_096;

/// The streams of one direction under one key. The first, mostly the only one, lies inline: with a thousand legs each pointer
/// followed is a cache miss.
pub(super) struct Streams<const WORDS: usize> {
    first: Option<Stream<WORDS>>,
    others: Option<Box<Others<WORDS>>>,
}

pub(super) type RtpStreams = Streams<RTP_WORDS>;
pub(super) type RtcpStreams = Streams<RTCP_WORDS>;

/// How far a stream has come: its rollover counter is in the index (RFC 3711 section 3.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub ssrc: u32,
    pub index: u64,
}

/// What is known of a packet that is relayed, beside its sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Novelty {
    /// It has not come before.
    New,
    /// It may be a late copy, as far as anybody can tell.
    Doubtful,
}

struct Stream<const WORDS: usize> {
    ssrc: u32,
    /// What relayed packets are sent with beyond their own sequence numbers.
    offset: u16,
    /// Since it was last asked to make room.
    was_used: bool,
    window: Window<WORDS>,
}

/// All but the first. Which indexes of a key were used must not be forgotten, so one that makes room leaves how far it has come.
#[derive(Default)]
struct Others<const WORDS: usize> {
    streams: SmallVec<[Stream<WORDS>; OTHERS_MAX]>,
    /// Whose turn it is to make room, unless it was used.
    turn: usize,
    former: Vec<Position>,
}

const OTHERS_MAX: usize = SSRCS_PER_LEG_MAX - 1;

impl<const WORDS: usize> Streams<WORDS> {
    pub(super) const fn new() -> Self {
        Self { first: None, others: None }
    }

    /// With a window of their own.
    pub(super) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.others.as_ref().map_or(0, |others| others.streams.len())
    }

    /// Receiving RTP: estimates the packet's index, and enters it once `is_authentic` says that the tag verifies there.
    /// `first_cycle`: where an SSRC begins that is new.
    pub(super) fn admit(
        &mut self,
        ssrc: u32,
        sequence: u16,
        first_cycle: Cycle,
        is_authentic: impl FnMut(u64) -> bool,
    ) -> Result<u64, DropReason> {
        // Nothing comes before index 0, so there the sequence number itself is the estimate.
        let estimate = |stream: &mut Stream<WORDS>| {
            Ok(nearest_index(stream.window.highest(), sequence).unwrap_or_else(|| sequence.into()))
        };
        self.enter(ssrc, RTP_INDEX_MAX, estimate, first_cycle.index(sequence), is_authentic)
    }

    /// Receiving RTCP, whose packets carry their index.
    pub(super) fn admit_at(
        &mut self,
        ssrc: u32,
        index: u64,
        is_authentic: impl FnMut(u64) -> bool,
    ) -> Result<u64, DropReason> {
        self.enter(ssrc, RTCP_INDEX_MAX, |_| Ok(index), index, is_authentic)
    }

    /// Sending one's own RTP: the index that this sequence number has in its stream, so that a packet overtaken at a wrap
    /// still gets the earlier rollover counter. A second claim to one index is refused, and so is one before the start.
    pub(super) fn claim(&mut self, ssrc: u32, sequence: u16) -> Result<u64, DropReason> {
        let estimate = |stream: &mut Stream<WORDS>| {
            nearest_index(stream.window.highest(), sequence).ok_or(DropReason::SrtpReplayed)
        };
        self.enter(ssrc, RTP_INDEX_MAX, estimate, sequence.into(), |_| true)
    }

    /// Sending RTP of somebody else's: as [`Streams::claim`], but a packet that is new and has no place behind or ahead of
    /// what was sent begins the stream anew, further ahead, and those after it follow. Its new sequence number is the end of
    /// the index.
    pub(super) fn claim_relayed(&mut self, ssrc: u32, sequence: u16, novelty: Novelty) -> Result<u64, DropReason> {
        self.enter(ssrc, RTP_INDEX_MAX, |stream| stream.place(sequence, novelty), sequence.into(), |_| true)
    }

    /// By how much the sequence numbers of a relayed stream have changed.
    pub(super) fn offset(&self, ssrc: u32) -> u16 {
        let others = self.others.iter().flat_map(|others| &others.streams);
        self.first.iter().chain(others).find(|stream| stream.ssrc == ssrc).map_or(0, |stream| stream.offset)
    }

    /// Sending RTCP: counts from 0 (RFC 3711 section 3.4).
    pub(super) fn claim_next(&mut self, ssrc: u32) -> Result<u64, DropReason> {
        self.enter(ssrc, RTCP_INDEX_MAX, |stream| Ok(stream.window.highest() + 1), 0, |_| true)
    }

    /// How far every stream has come.
    pub(super) fn positions(&self) -> Vec<Position> {
        let others = self.others.iter().flat_map(|others| &others.streams);
        let former = self.others.iter().flat_map(|others| others.former.iter().copied());
        self.first.iter().chain(others).map(Stream::position).chain(former).collect()
    }

    /// Goes on from where another context of the same key stood: whatever came before counts as used.
    pub(super) fn resume(&mut self, positions: &[Position]) {
        for position in positions {
            let is_known = self.stream(position.ssrc).is_some() || self.former(position.ssrc).is_some();
            if !is_known && self.check_room().is_ok() {
                self.insert(Stream::returning(*position));
            }
        }
    }

    /// Takes an index into the stream of `ssrc` where that is authentic: the estimated one if the stream is known, and else
    /// `first`.
    fn enter(
        &mut self,
        ssrc: u32,
        index_max: u64,
        estimate: impl FnOnce(&mut Stream<WORDS>) -> Result<u64, DropReason>,
        first: u64,
        mut is_authentic: impl FnMut(u64) -> bool,
    ) -> Result<u64, DropReason> {
        if let Some(stream) = self.stream(ssrc) {
            let index = estimate(stream)?;
            return stream.admit(index, index_max, is_authentic);
        }
        if let Some(mut stream) = self.former(ssrc) {
            let index = estimate(&mut stream)?;
            stream.admit(index, index_max, is_authentic)?;
            self.insert(stream);
            return Ok(index);
        }
        self.check_room()?;
        if !is_authentic(first) {
            return Err(DropReason::SrtpBadTag);
        }
        self.insert(Stream::starting(ssrc, first));
        Ok(first)
    }

    /// Whether a packet may be the first that is heard of its SSRC, and so early in its cycle that those before it may have been
    /// lost before a wrap.
    pub(super) fn may_follow_wrap(&self, ssrc: u32, sequence: u16) -> bool {
        let others = || self.others.iter().flat_map(|others| &others.streams);
        let is_known = self.first.iter().chain(others()).any(|stream| stream.ssrc == ssrc);
        sequence < SEQUENCE_MEDIAN && !is_known && self.former(ssrc).is_none()
    }

    fn stream(&mut self, ssrc: u32) -> Option<&mut Stream<WORDS>> {
        if self.first.as_ref().is_some_and(|first| first.ssrc == ssrc) {
            return self.first.as_mut();
        }
        self.others.as_mut()?.streams.iter_mut().find(|stream| stream.ssrc == ssrc)
    }

    /// One that has made room, as it would go on.
    fn former(&self, ssrc: u32) -> Option<Stream<WORDS>> {
        let former = &self.others.as_ref()?.former;
        former.iter().find(|position| position.ssrc == ssrc).map(|position| Stream::returning(*position))
    }

    fn check_room(&self) -> Result<(), DropReason> {
        let former = self.others.as_ref().map_or(0, |others| others.former.len());
        if self.len() + former < SSRCS_PER_KEY_MAX { Ok(()) } else { Err(DropReason::SrtpTooManySsrcs) }
    }

    fn insert(&mut self, stream: Stream<WORDS>) {
        match self.first {
            None => self.first = Some(stream),
            // An allocation for all that have a window, at the second SSRC.
            Some(_) => self.others.get_or_insert_default().insert(stream),
        }
    }
}

impl<const WORDS: usize> Others<WORDS> {
    fn insert(&mut self, stream: Stream<WORDS>) {
        self.former.retain(|position| position.ssrc != stream.ssrc);
        if self.streams.len() < OTHERS_MAX {
            self.streams.push(stream);
            return;
        }
        while mem::take(&mut self.streams[self.turn].was_used) {
            self.turn = (self.turn + 1) % OTHERS_MAX;
        }
        if self.former.capacity() == 0 {
            // The last allocation of the key's life.
            self.former.reserve_exact(SSRCS_PER_KEY_MAX - SSRCS_PER_LEG_MAX);
        }
        self.former.push(mem::replace(&mut self.streams[self.turn], stream).position());
        self.turn = (self.turn + 1) % OTHERS_MAX;
    }
}

impl<const WORDS: usize> Stream<WORDS> {
    const fn starting(ssrc: u32, index: u64) -> Self {
        Self { ssrc, offset: 0, was_used: true, window: Window::starting_at(index) }
    }

    const fn returning(Position { ssrc, index }: Position) -> Self {
        Self { ssrc, offset: 0, was_used: true, window: Window::passed(index) }
    }

    const fn position(&self) -> Position {
        Position { ssrc: self.ssrc, index: self.window.highest() }
    }

    /// Its window decides first, because that is cheaper than a tag.
    fn admit(
        &mut self,
        index: u64,
        index_max: u64,
        mut is_authentic: impl FnMut(u64) -> bool,
    ) -> Result<u64, DropReason> {
        if index > index_max {
            return Err(DropReason::SrtpIndexExhausted);
        }
        self.window.check(index)?;
        if !is_authentic(index) {
            return Err(DropReason::SrtpBadTag);
        }
        self.window.mark_used(index);
        self.was_used = true;
        Ok(index)
    }

    /// The index of a relayed packet.
    fn place(&mut self, sequence: u16, novelty: Novelty) -> Result<u64, DropReason> {
        let highest = self.window.highest();
        let is_placed = |index: &u64| *index < highest + AHEAD_MAX && self.window.check(*index).is_ok();
        let follows = nearest_index(highest, sequence.wrapping_add(self.offset)).filter(is_placed);
        let index = match (follows, novelty) {
            (Some(index), _) => index,
            (None, Novelty::New) => highest + RESTART_AHEAD,
            (None, Novelty::Doubtful) => return Err(DropReason::PacketDuplicate),
        };
        self.offset = sequence_of(index).wrapping_sub(sequence);
        Ok(index)
    }
}

/// Where an unknown SSRC begins. Under a new key that is rollover counter 0; but if its first packets crossed a wrap and those
/// before it were lost or late, we hear it first at 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Cycle {
    #[default]
    First,
    Second,
}

impl Cycle {
    fn index(self, sequence: u16) -> u64 {
        match self {
            Self::First => sequence.into(),
            Self::Second => u64::from(sequence) + ROLLOVER,
        }
    }
}

/// The sequence number of an index (RFC 3711 section 3.3.1).
pub(super) const fn sequence_of(index: u64) -> u16 {
    let [.., high, low] = index.to_be_bytes();
    u16::from_be_bytes([high, low])
}

/// RFC 3711 appendix A: of the indexes with this sequence number the one nearest to `highest`. `None`: below zero.
const fn nearest_index(highest: u64, sequence: u16) -> Option<u64> {
    let last = sequence_of(highest);
    let here = highest - last as u64 + sequence as u64;
    if last < SEQUENCE_MEDIAN && sequence > last + SEQUENCE_MEDIAN {
        here.checked_sub(ROLLOVER)
    } else if last >= SEQUENCE_MEDIAN && sequence < last - SEQUENCE_MEDIAN {
        Some(here + ROLLOVER)
    } else {
        Some(here)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_index_follows_rfc_3711_appendix_a() {
        assert_eq!(nearest_index(0x1_0005, 6), Some(0x1_0006));
        assert_eq!(nearest_index(0x1_0005, 0xfffe), Some(0xfffe), "late, from before the wrap");
        assert_eq!(nearest_index(0x1_fffe, 3), Some(0x2_0003), "after the wrap");
        assert_eq!(nearest_index(5, 0xfffe), None, "before the first packet");
        // Half the space away, the rollover counter stays.
        assert_eq!(nearest_index(0x1_0005, 0x8005), Some(0x1_8005));
        assert_eq!(nearest_index(0x1_8005, 0x0005), Some(0x1_0005));
    }

    #[test]
    fn an_unknown_ssrc_may_begin_behind_a_wrap_and_a_known_one_does_not() {
        let mut streams = RtpStreams::new();
        assert!(streams.may_follow_wrap(1, 3) && !streams.may_follow_wrap(1, 0x8000));
        assert_eq!(streams.admit(1, 3, Cycle::First, |index| index == 0x1_0003), Err(DropReason::SrtpBadTag));
        assert_eq!(streams.admit(1, 3, Cycle::Second, |index| index == 0x1_0003), Ok(0x1_0003));
        assert!(!streams.may_follow_wrap(1, 4) && streams.may_follow_wrap(2, 4));
        assert_eq!(streams.admit(1, 4, Cycle::Second, |index| index == 0x1_0004), Ok(0x1_0004));
        // Nor does one that has made room for others.
        for ssrc in 100..130 {
            assert_eq!(streams.admit(ssrc, 1, Cycle::First, |_| true), Ok(1));
        }
        assert!(!streams.may_follow_wrap(1, 5) && !streams.may_follow_wrap(100, 5));
    }

    #[test]
    fn a_stream_goes_on_elsewhere_at_its_rollover_counter() {
        let at = 0x3_8000_u64;
        let mut old = RtpStreams::new();
        for ssrc in 0..40 {
            assert_eq!(old.admit(ssrc, 7, Cycle::First, |_| true), Ok(7));
        }
        old.insert(Stream::starting(100, at));
        let mut new = RtpStreams::new();
        assert_eq!(
            new.admit(100, 0x8001, Cycle::First, |index| index == at + 1),
            Err(DropReason::SrtpBadTag),
            "nobody can guess it"
        );
        new.resume(&old.positions());
        for ssrc in 0..40 {
            for replayed in [7, 6] {
                assert_eq!(new.admit(ssrc, replayed, Cycle::First, |_| true), Err(DropReason::SrtpReplayed));
            }
        }
        assert_eq!(new.admit(100, 0x8000, Cycle::First, |_| true), Err(DropReason::SrtpReplayed));
        assert_eq!(new.admit(100, 0x8001, Cycle::First, |index| index == at + 1), Ok(at + 1));
        new.resume(&old.positions());
        let copy = new.admit(100, 0x8001, Cycle::First, |_| true);
        assert_eq!(copy, Err(DropReason::SrtpReplayed), "a stream that is known stays as it is");
    }

    #[test]
    fn claims_end_at_the_last_index() {
        let mut streams = RtpStreams::new();
        streams.insert(Stream::starting(1, RTP_INDEX_MAX - 1));
        assert_eq!(streams.claim(1, 0xffff), Ok(RTP_INDEX_MAX));
        assert_eq!(streams.claim(1, 0), Err(DropReason::SrtpIndexExhausted));
        assert_eq!(streams.claim(1, 0xffff), Err(DropReason::SrtpReplayed));
        assert_eq!(streams.admit(1, 0, Cycle::First, |_| true), Err(DropReason::SrtpIndexExhausted));

        let mut streams = RtpStreams::new();
        streams.insert(Stream::starting(1, RTCP_INDEX_MAX - 1));
        assert_eq!(streams.claim_next(1), Ok(RTCP_INDEX_MAX));
        assert_eq!(streams.claim_next(1), Err(DropReason::SrtpIndexExhausted));
    }

    #[test]
    fn an_index_is_claimed_once_across_wraps_and_reorder() {
        let mut streams = RtpStreams::new();
        assert_eq!(streams.claim(1, 0xfffe), Ok(0xfffe));
        assert_eq!(streams.claim(1, 0x0001), Ok(0x1_0001));
        assert_eq!(streams.claim(1, 0xffff), Ok(0xffff));
        for again in [0xfffe, 0x0001, 0xffff] {
            assert_eq!(streams.claim(1, again), Err(DropReason::SrtpReplayed));
        }
        assert_eq!(streams.claim(1, 0), Ok(0x1_0000));
        assert_eq!(streams.claim(2, 0), Ok(0), "another SSRC has its own index");
    }

    #[test]
    fn a_sender_never_goes_below_its_first_packet_by_a_wrap() {
        let mut streams = RtpStreams::new();
        assert_eq!(streams.claim(1, 1), Ok(1));
        assert_eq!(streams.claim(1, 0xffff), Err(DropReason::SrtpReplayed));
        assert_eq!(streams.claim(1, 2), Ok(2), "the refused packet moved nothing");
    }

    #[test]
    fn a_relayed_stream_that_begins_anew_goes_on_ahead_and_keeps_its_order() {
        // A new start further back than the window, one within it, one before the first packet; and a gap that is too long to be
        // told from one.
        for (sent, again) in [(20_000_u16, 1_u16), (300, 1), (5, 65_000), (10, 10 + 24_576), (10, 10 + 33_000)] {
            let mut streams = RtpStreams::new();
            for sequence in sent.saturating_sub(400)..=sent {
                assert_eq!(streams.claim_relayed(1, sequence, Novelty::New), Ok(sequence.into()));
            }
            let anew = u64::from(sent) + RESTART_AHEAD;
            for (sequence, expected) in [(0, 0), (2, 2), (1, 1), (447, 447), (448, 448)] {
                assert_eq!(
                    streams.claim_relayed(1, again.wrapping_add(sequence), Novelty::New),
                    Ok(anew + expected),
                    "{sent}, {again}"
                );
            }
            assert_eq!(again.wrapping_add(streams.offset(1)), sequence_of(anew));
        }
    }

    #[test]
    fn a_relayed_packet_keeps_its_number_where_the_receiver_can_place_it() {
        let mut streams = RtpStreams::new();
        for index in [9_000_u64, 9_002, 9_001, 8_700, 9_002 + AHEAD_MAX - 1, 50_000, 65_535, 65_536, 65_534] {
            assert_eq!(streams.claim_relayed(1, sequence_of(index), Novelty::New), Ok(index));
        }
        assert_eq!(streams.offset(1), 0);
        assert_eq!(streams.offset(2), 0, "nobody has sent that one");
    }

    #[test]
    fn a_relayed_stream_ends_at_the_last_index_too() {
        let mut streams = RtpStreams::new();
        streams.insert(Stream::starting(1, RTP_INDEX_MAX - 1));
        assert_eq!(streams.claim_relayed(1, 0xffff, Novelty::New), Ok(RTP_INDEX_MAX));
        for sequence in [0, 0xffff, 77] {
            assert_eq!(streams.claim_relayed(1, sequence, Novelty::New), Err(DropReason::SrtpIndexExhausted));
        }
    }

    proptest::proptest! {
        /// Whatever the numbers are, each packet gets an index of its own, which a receiver that has heard all before it finds.
        #[test]
        fn each_relayed_packet_gets_an_index_of_its_own_that_its_receiver_finds(
            sequences in proptest::collection::vec(
                proptest::prop_oneof![0_u16..50, 0_u16..2_000, proptest::num::u16::ANY], 1..600),
        ) {
            let (mut streams, mut receiver) = (RtpStreams::new(), RtpStreams::new());
            for sequence in sequences {
                let index = streams.claim_relayed(1, sequence, Novelty::New).unwrap();
                let read = receiver.admit(1, sequence_of(index), Cycle::First, |tried| tried == index);
                proptest::prop_assert_eq!(read, Ok(index));
            }
        }
    }

    /// Goal: a telephone that takes a new SSRC at each hold is heard to the end, and what was said before cannot be said again.
    #[test]
    fn a_key_knows_many_ssrcs_one_after_the_other_and_none_of_its_indexes_is_used_twice() {
        let (mut receiving, mut sending, mut relaying, mut reporting) =
            (RtpStreams::new(), RtpStreams::new(), RtpStreams::new(), RtcpStreams::new());
        let max = u32::try_from(SSRCS_PER_KEY_MAX).unwrap();
        for ssrc in 0..max {
            for sequence in 7..10 {
                assert_eq!(
                    receiving.admit(ssrc, sequence, Cycle::First, |index| index == u64::from(sequence)),
                    Ok(sequence.into())
                );
                assert_eq!(sending.claim(ssrc, sequence), Ok(sequence.into()));
                assert_eq!(relaying.claim_relayed(ssrc, sequence, Novelty::New), Ok(sequence.into()));
                assert_eq!(reporting.claim_next(ssrc), Ok(u64::from(sequence) - 7));
            }
        }
        assert_eq!(receiving.len(), SSRCS_PER_LEG_MAX);
        assert_eq!(receiving.admit(max, 7, Cycle::First, |_| true), Err(DropReason::SrtpTooManySsrcs));
        assert_eq!(sending.claim(max, 7), Err(DropReason::SrtpTooManySsrcs));
        assert_eq!(relaying.claim_relayed(max, 7, Novelty::New), Err(DropReason::SrtpTooManySsrcs));
        assert_eq!(reporting.claim_next(max), Err(DropReason::SrtpTooManySsrcs));
        assert_eq!(reporting.admit_at(max, 7, |_| true), Err(DropReason::SrtpTooManySsrcs));
        for ssrc in (0..max).rev() {
            for sequence in 7..10 {
                assert_eq!(receiving.admit(ssrc, sequence, Cycle::First, |_| true), Err(DropReason::SrtpReplayed));
                assert_eq!(sending.claim(ssrc, sequence), Err(DropReason::SrtpReplayed));
                assert_eq!(reporting.admit_at(ssrc, u64::from(sequence) - 7, |_| true), Err(DropReason::SrtpReplayed));
            }
            // Nor do forgeries bring one back.
            assert_eq!(receiving.admit(ssrc, 10, Cycle::First, |_| false), Err(DropReason::SrtpBadTag));
            assert_eq!(receiving.admit(ssrc, 10, Cycle::First, |_| true), Ok(10));
            assert_eq!(sending.claim(ssrc, 10), Ok(10));
            assert_eq!(relaying.claim_relayed(ssrc, 10, Novelty::New), Ok(10));
            assert_eq!(reporting.claim_next(ssrc), Ok(3));
        }
    }

    #[test]
    fn who_speaks_keeps_its_window_while_others_come_and_go() {
        let mut streams = RtpStreams::new();
        for (sequence, ssrc) in (0..400_u16).zip(100..) {
            assert_eq!(streams.admit(ssrc, 0, Cycle::First, |_| true), Ok(0));
            for speaker in [1, 2, 3] {
                assert_eq!(
                    streams.admit(speaker, 2 * sequence + 1, Cycle::First, |_| true),
                    Ok(2 * u64::from(sequence) + 1)
                );
                // A late packet is told from a copy only where the window is there.
                assert_eq!(streams.admit(speaker, 2 * sequence, Cycle::First, |_| true), Ok(2 * u64::from(sequence)));
            }
        }
    }

    #[test]
    fn what_fails_to_verify_leaves_no_trace() {
        let mut streams = RtpStreams::new();
        assert_eq!(streams.admit(1, 9, Cycle::First, |_| false), Err(DropReason::SrtpBadTag));
        assert_eq!(streams.admit_at(1, 9, |_| false), Err(DropReason::SrtpBadTag));
        assert_eq!(streams.len(), 0);
        assert_eq!(streams.admit(1, 9, Cycle::First, |_| true), Ok(9));
        assert_eq!(streams.admit(1, 30_000, Cycle::First, |_| false), Err(DropReason::SrtpBadTag));
        assert_eq!(streams.admit(1, 10, Cycle::First, |_| true), Ok(10));
    }
}
