//! When a peer is not heard, and why. Looked at by the clock, never by a packet; a packet only notes when it came.

use crate::types::{DropReason, Duration, Instant};

use super::command::{Silence, SilenceCause};

/// Nobody who is expected to speak is silent for longer without notice. With the interval at which legs are looked at, and the
/// way to the core, it is told within two seconds.
pub(super) const SILENCE_MAX: Duration = Duration::from_millis(1_800);
/// A peer that has said that it falls silent (RFC 3389, G.729 annex B) may send nothing until somebody speaks; but nothing at
/// all, not even RTCP, for five of its intervals (RFC 3550 sections 6.2 and 6.3.5) means that it is gone.
const QUIET_MAX: Duration = Duration::from_secs(25);
/// RTCP within this time is life: twice its interval.
const RTCP_LIFE: Duration = Duration::from_secs(10);
/// Refused packets of one kind that make it the cause: fewer may be a scanner's.
const CAUSE_PACKETS_MIN: u16 = 5;

/// One leg's watch.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct Watch {
    /// The last packet that the other side could play, or when it began to be expected.
    heard: Instant,
    state: State,
    /// The last packet said that silence follows.
    is_quiet: bool,
    is_watched: bool,
    /// Since `heard`.
    refused: Refused,
    rtcp: Instant,
    silent_ns: u64,
    silences: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// The peer is not expected to be heard: the call is not answered, or on hold.
    #[default]
    Idle,
    Expected,
    Silent,
}

/// Packets that came and could not be used.
#[derive(Clone, Copy, Debug, Default)]
struct Refused {
    not_authentic: u16,
    wrong_payload_type: u16,
    wrong_source: u16,
    replayed: u16,
    too_many_ssrcs: u16,
}

/// What has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Silent(Silence),
    Heard,
}

impl Watch {
    /// From now on the peer is watched; `is_expected` as in [`Watch::expect`].
    pub(super) fn begin(&mut self, now: Instant, is_expected: bool) {
        self.is_watched = true;
        self.expect(now, is_expected);
    }

    /// The peer may send and wants to hear, or not.
    pub(super) fn expect(&mut self, now: Instant, is_expected: bool) -> Option<Change> {
        match (self.state, is_expected && self.is_watched) {
            (State::Idle, true) => {
                self.state = State::Expected;
                self.last_heard(now, false);
                None
            }
            (State::Expected, false) => {
                self.state = State::Idle;
                None
            }
            (State::Silent, false) => {
                self.end_silence(now);
                self.state = State::Idle;
                Some(Change::Heard)
            }
            (State::Idle, false) | (State::Expected | State::Silent, true) => None,
        }
    }

    /// A packet came that the other side can play.
    pub(super) fn heard(&mut self, now: Instant, is_quiet: bool) -> Option<Change> {
        let change = (self.state == State::Silent).then(|| {
            self.end_silence(now);
            self.state = State::Expected;
            Change::Heard
        });
        self.last_heard(now, is_quiet);
        change
    }

    pub(super) const fn rtcp_heard(&mut self, now: Instant) {
        self.rtcp = now;
    }

    /// A packet of a payload type that nobody has settled.
    pub(super) fn unsettled(&mut self) {
        count(&mut self.refused.wrong_payload_type);
    }

    pub(super) fn dropped(&mut self, reason: DropReason) {
        match reason {
            DropReason::SrtpBadTag | DropReason::SrtpUnknownMki => count(&mut self.refused.not_authentic),
            DropReason::PacketForeignSource => count(&mut self.refused.wrong_source),
            DropReason::SrtpReplayed => count(&mut self.refused.replayed),
            DropReason::SrtpTooManySsrcs => count(&mut self.refused.too_many_ssrcs),
            _ => {}
        }
    }

    /// Looks at the clock.
    pub(super) fn check(&mut self, now: Instant) -> Option<Change> {
        if self.state != State::Expected || now.since(self.last_sign()) < self.patience() {
            return None;
        }
        self.state = State::Silent;
        self.silences += 1;
        let has_rtcp = now.since(self.rtcp) < RTCP_LIFE;
        Some(Change::Silent(Silence { cause: self.cause(), has_rtcp }))
    }

    /// Whether time alone may change something.
    pub(super) fn is_waiting(&self) -> bool {
        self.state == State::Expected
    }

    pub(super) const fn silences(&self) -> u32 {
        self.silences
    }

    /// All silences, one that has not ended included.
    pub(super) fn silent_ms(&self, now: Instant) -> u64 {
        let running = if self.state == State::Silent { self.unheard_ns(now) } else { 0 };
        (self.silent_ns + running) / 1_000_000
    }

    fn patience(&self) -> Duration {
        if self.is_quiet { QUIET_MAX } else { SILENCE_MAX }
    }

    fn last_sign(&self) -> Instant {
        if self.is_quiet { self.heard.max(self.rtcp) } else { self.heard }
    }

    fn end_silence(&mut self, now: Instant) {
        self.silent_ns += self.unheard_ns(now);
    }

    const fn unheard_ns(&self, now: Instant) -> u64 {
        now.unix_ns().saturating_sub(self.heard.unix_ns())
    }

    fn last_heard(&mut self, now: Instant, is_quiet: bool) {
        (self.heard, self.is_quiet, self.refused) = (now, is_quiet, Refused::default());
    }

    /// What most of the packets that came suffered from.
    fn cause(&self) -> SilenceCause {
        let Refused { not_authentic, wrong_payload_type, wrong_source, replayed, too_many_ssrcs } = self.refused;
        let causes = [
            (replayed, SilenceCause::Replayed),
            (too_many_ssrcs, SilenceCause::TooManySsrcs),
            (wrong_source, SilenceCause::WrongSource),
            (wrong_payload_type, SilenceCause::WrongPayloadType),
            (not_authentic, SilenceCause::NotAuthentic),
        ];
        let most = causes.into_iter().max_by_key(|(packets, _)| *packets);
        most.filter(|(packets, _)| *packets >= CAUSE_PACKETS_MIN).map_or(SilenceCause::NoPackets, |(_, cause)| cause)
    }
}

const fn count(packets: &mut u16) {
    *packets = packets.saturating_add(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_unix_ms(1_000_000 + ms)
    }

    fn watch() -> Watch {
        let mut watch = Watch::default();
        watch.begin(at(0), true);
        watch
    }

    fn silence(cause: SilenceCause) -> Option<Change> {
        Some(Change::Silent(Silence { cause, has_rtcp: false }))
    }

    #[test]
    fn a_peer_that_never_speaks_is_silent_after_its_time_and_told_once() {
        let mut watch = watch();
        assert_eq!(watch.check(at(1_799)), None);
        assert_eq!(watch.check(at(1_800)), silence(SilenceCause::NoPackets));
        assert_eq!(watch.check(at(9_000)), None);
        assert_eq!((watch.silences(), watch.silent_ms(at(9_000)), watch.is_waiting()), (1, 9_000, false));
    }

    #[test]
    fn a_peer_that_speaks_again_ends_its_silence_and_may_begin_another() {
        let mut watch = watch();
        assert_eq!(watch.heard(at(1_000), false), None);
        assert!(watch.check(at(2_800)).is_some());
        assert_eq!(watch.heard(at(5_000), false), Some(Change::Heard));
        assert_eq!(watch.heard(at(5_020), false), None);
        assert!(watch.check(at(7_000)).is_some());
        assert_eq!((watch.silences(), watch.silent_ms(at(8_020))), (2, 4_000 + 3_000));
    }

    #[test]
    fn nobody_is_expected_before_the_answer_or_on_hold() {
        let mut watch = Watch::default();
        watch.expect(at(0), true);
        assert_eq!(watch.check(at(60_000)), None, "not watched yet");
        watch.begin(at(60_000), false);
        assert_eq!(watch.check(at(120_000)), None, "on hold");
        watch.expect(at(120_000), true);
        assert_eq!(watch.check(at(121_799)), None, "its time begins with the end of the hold");
        assert!(watch.check(at(121_800)).is_some());
        assert_eq!(watch.expect(at(125_000), false), Some(Change::Heard));
        assert_eq!((watch.check(at(200_000)), watch.silent_ms(at(200_000))), (None, 5_000));
    }

    #[test]
    fn a_peer_that_falls_silent_has_more_time_and_rtcp_counts() {
        let mut watch = watch();
        watch.heard(at(0), true);
        assert_eq!(watch.check(at(24_999)), None);
        watch.rtcp_heard(at(24_999));
        assert_eq!(watch.check(at(49_998)), None);
        assert_eq!(watch.check(at(49_999)), silence(SilenceCause::NoPackets));
    }

    #[test]
    fn rtcp_is_a_sign_of_life_that_does_not_make_a_voice() {
        let mut watch = watch();
        watch.rtcp_heard(at(1_000));
        let alive = Silence { cause: SilenceCause::NoPackets, has_rtcp: true };
        assert_eq!(watch.check(at(1_800)), Some(Change::Silent(alive)));
    }

    #[test]
    fn the_cause_is_what_most_packets_since_the_last_good_one_suffered_from() {
        type Deed = fn(&mut Watch);
        let bad_tag: Deed = |watch| watch.dropped(DropReason::SrtpBadTag);
        let foreign: Deed = |watch| watch.dropped(DropReason::PacketForeignSource);
        let unsettled: Deed = Watch::unsettled;
        let replayed: Deed = |watch| watch.dropped(DropReason::SrtpReplayed);
        let too_many: Deed = |watch| watch.dropped(DropReason::SrtpTooManySsrcs);
        let on_hold: Deed = |watch| watch.dropped(DropReason::PacketOnHold);
        for (deeds, expected) in [
            (vec![(bad_tag, 5)], SilenceCause::NotAuthentic),
            (vec![(unsettled, 90)], SilenceCause::WrongPayloadType),
            (vec![(foreign, 5)], SilenceCause::WrongSource),
            (vec![(foreign, 4), (bad_tag, 4), (unsettled, 4)], SilenceCause::NoPackets),
            (vec![(foreign, 6), (bad_tag, 90)], SilenceCause::NotAuthentic),
            (vec![(replayed, 90)], SilenceCause::Replayed),
            // Copies of what was heard before say less about the peer than anything else.
            (vec![(replayed, 6), (bad_tag, 6)], SilenceCause::NotAuthentic),
            (vec![(too_many, 5), (replayed, 4)], SilenceCause::TooManySsrcs),
            (vec![(on_hold, 90)], SilenceCause::NoPackets),
            (vec![(bad_tag, 70_000)], SilenceCause::NotAuthentic),
        ] {
            let mut watch = watch();
            // What came before the last good packet does not count.
            (0..100).for_each(|_| watch.dropped(DropReason::PacketForeignSource));
            watch.heard(at(100), false);
            for (deed, times) in deeds {
                (0..times).for_each(|_| deed(&mut watch));
            }
            assert_eq!(watch.check(at(2_000)), silence(expected));
        }
    }
}
