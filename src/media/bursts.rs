//! How loss is spread: bursts and the gaps between them (RFC 3611 section 4.7.2).

/// Received packets in a row that end a burst (RFC 3611 section 4.7.2, the value it recommends).
const GAP_PACKETS_MIN: u32 = 16;
/// A packet that is late by fewer sequence numbers is not lost: a receiver's buffer still puts it in its place.
const WINDOW: u16 = 16;
/// Packets that are known to have come.
const KNOWN: u16 = 64;

/// One stream's losses. Each packet costs a shift and a comparison; whatever else there is to do, each loss costs.
///
/// Numbers count once they are [`WINDOW`] behind the highest, so that disorder is not taken for loss.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bursts {
    /// Bit `n`: the packet `n` before the highest is here.
    here: u64,
    /// Numbers that do not count yet.
    waiting: u16,
    /// Received since the last loss.
    run: u32,
    /// The losses with fewer than [`GAP_PACKETS_MIN`] received packets between them, up to the last loss.
    group: Group,
    totals: LossPattern,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Group {
    lost: u32,
    /// From its first loss to its last, both included.
    packets: u32,
}

/// What came in bursts, and what between them. A loss without another near it belongs to a gap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LossPattern {
    pub(super) bursts: u32,
    pub(super) burst_lost: u32,
    pub(super) burst_packets: u32,
    pub(super) gap_lost: u32,
    pub(super) gap_packets: u32,
    /// Losses in a row count once.
    pub(super) loss_runs: u32,
}

impl Bursts {
    /// The first packet of a stream.
    pub(super) fn starting() -> Self {
        Self { here: 1, waiting: 1, ..Self::default() }
    }

    /// A packet arrived that is so many numbers ahead of the highest.
    pub(super) fn advance(&mut self, ahead: u16) {
        for _ in 0..ahead.min(WINDOW) {
            if self.waiting == WINDOW {
                self.settle(self.is_here(WINDOW - 1));
            } else {
                self.waiting += 1;
            }
            self.here <<= 1;
        }
        if ahead > WINDOW {
            self.lost(u32::from(ahead - WINDOW));
            self.here = self.here.checked_shl(u32::from(ahead - WINDOW)).unwrap_or(0);
        }
        self.here |= 1;
    }

    /// Whether the packet so many numbers behind the highest has come; what is long ago is not known.
    pub(super) const fn is_here(&self, behind: u16) -> bool {
        behind < KNOWN && self.here & 1 << behind != 0
    }

    /// A packet arrived that is so many numbers behind the highest.
    pub(super) fn late(&mut self, behind: u16) {
        if behind < KNOWN {
            self.here |= 1 << behind;
        }
    }

    /// The stream begins anew: what waits is counted as it stands.
    pub(super) fn restart(&mut self) {
        self.drain();
        (self.here, self.waiting) = (1, 1);
    }

    /// All so far.
    pub(super) fn pattern(mut self) -> LossPattern {
        self.drain();
        self.totals.gap_packets = self.totals.gap_packets.saturating_add(self.run);
        self.close_group();
        self.totals
    }

    fn drain(&mut self) {
        for behind in (0..self.waiting).rev() {
            self.settle(self.is_here(behind));
        }
        self.waiting = 0;
    }

    fn settle(&mut self, is_received: bool) {
        if is_received {
            self.run = self.run.saturating_add(1);
        } else {
            self.lost(1);
        }
    }

    /// So many in a row.
    fn lost(&mut self, count: u32) {
        self.totals.loss_runs = self.totals.loss_runs.saturating_add(u32::from(self.run > 0 || self.group.lost == 0));
        if self.run >= GAP_PACKETS_MIN || self.group.lost == 0 {
            self.close_group();
            self.totals.gap_packets = self.totals.gap_packets.saturating_add(self.run);
            self.group = Group { lost: count, packets: count };
        } else {
            self.group.lost = self.group.lost.saturating_add(count);
            self.group.packets = self.group.packets.saturating_add(self.run.saturating_add(count));
        }
        self.run = 0;
    }

    fn close_group(&mut self) {
        let Group { lost, packets } = std::mem::take(&mut self.group);
        let totals = &mut self.totals;
        if lost > 1 {
            totals.bursts = totals.bursts.saturating_add(1);
            totals.burst_lost = totals.burst_lost.saturating_add(lost);
            totals.burst_packets = totals.burst_packets.saturating_add(packets);
        } else {
            totals.gap_lost = totals.gap_lost.saturating_add(lost);
            totals.gap_packets = totals.gap_packets.saturating_add(packets);
        }
    }
}

impl LossPattern {
    pub(super) fn add(&mut self, other: &Self) {
        for (total, more) in [
            (&mut self.bursts, other.bursts),
            (&mut self.burst_lost, other.burst_lost),
            (&mut self.burst_packets, other.burst_packets),
            (&mut self.gap_lost, other.gap_lost),
            (&mut self.gap_packets, other.gap_packets),
            (&mut self.loss_runs, other.loss_runs),
        ] {
            *total = total.saturating_add(more);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Receives the packets whose numbers `arrives` picks of `0..count`, in order; 0 and the last always.
    fn pattern(count: u16, arrives: impl Fn(u16) -> bool) -> LossPattern {
        let (mut bursts, mut highest) = (Bursts::starting(), 0);
        for number in (1..count).filter(|n| arrives(*n) || *n == count - 1) {
            bursts.advance(number - highest);
            highest = number;
        }
        bursts.pattern()
    }

    #[test]
    fn without_loss_all_is_one_gap() {
        assert_eq!(pattern(1_000, |_| true), LossPattern { gap_packets: 1_000, ..LossPattern::default() });
    }

    #[test]
    fn losses_far_from_each_other_belong_to_gaps() {
        let expected = LossPattern { gap_lost: 10, gap_packets: 1_000, loss_runs: 10, ..LossPattern::default() };
        assert_eq!(pattern(1_000, |n| n % 100 != 50), expected);
    }

    #[test]
    fn losses_near_each_other_are_a_burst_from_the_first_to_the_last() {
        // Lost: 100, 102, 103. In between, 101 arrives and belongs to the burst.
        let expected =
            LossPattern { bursts: 1, burst_lost: 3, burst_packets: 4, gap_lost: 0, gap_packets: 196, loss_runs: 2 };
        assert_eq!(pattern(200, |n| !matches!(n, 100 | 102 | 103)), expected);
    }

    #[test]
    fn sixteen_packets_end_a_burst_and_fifteen_do_not() {
        let apart = |received: u16| pattern(200, move |n| n != 100 && n != 101 + received);
        assert_eq!(apart(15).bursts, 1);
        assert_eq!((apart(15).burst_packets, apart(15).burst_lost), (17, 2));
        assert_eq!((apart(16).bursts, apart(16).gap_lost), (0, 2));
    }

    #[test]
    fn a_long_outage_is_one_burst_whatever_its_length() {
        for lost in [2, 15, 16, 17, 40, 2_000] {
            let found = pattern(lost + 200, |n| !(100..100 + lost).contains(&n));
            assert_eq!((found.bursts, found.burst_lost, found.loss_runs), (1, u32::from(lost), 1), "{lost}");
            assert_eq!((found.burst_packets, found.gap_packets), (u32::from(lost), 200), "{lost}");
        }
    }

    #[test]
    fn a_packet_late_by_fifteen_is_not_lost_and_one_late_by_sixteen_is() {
        for (behind, lost) in [(1, 0), (15, 0), (16, 1)] {
            let mut bursts = Bursts::starting();
            for _ in 0..50 {
                bursts.advance(1);
            }
            bursts.advance(2);
            for _ in 1..behind {
                bursts.advance(1);
            }
            bursts.late(behind);
            assert_eq!(bursts.pattern().gap_lost, lost, "{behind}");
        }
    }

    #[test]
    fn what_has_come_is_known_for_sixty_four_numbers() {
        let mut bursts = Bursts::starting();
        bursts.advance(3);
        bursts.late(1);
        let here = |bursts: &Bursts| (0..5).map(|behind| bursts.is_here(behind)).collect::<Vec<_>>();
        assert_eq!(here(&bursts), [true, true, false, true, false]);
        bursts.advance(60);
        assert!(bursts.is_here(60) && bursts.is_here(61) && bursts.is_here(63) && !bursts.is_here(62));
        bursts.advance(1);
        assert!(!bursts.is_here(64) && bursts.is_here(1));
        bursts.advance(2_000);
        assert_eq!(here(&bursts), [true, false, false, false, false]);
    }

    #[test]
    fn a_restart_is_no_loss_and_ends_nothing_that_is_under_way() {
        let mut bursts = Bursts::starting();
        bursts.advance(2);
        bursts.restart();
        bursts.advance(2);
        let found = bursts.pattern();
        assert_eq!((found.bursts, found.burst_lost, found.burst_packets + found.gap_packets), (1, 2, 6));
    }

    #[test]
    fn every_number_is_counted_once() {
        let mut rng = crate::types::Rng::from_small_seed(7);
        for _ in 0..200 {
            let here: Vec<bool> = (0..500).map(|_| rng.below(4) > 0).collect();
            let found = pattern(500, |n| here[usize::from(n)]);
            let lost = (1..499).filter(|n| !here[*n]).count();
            assert_eq!((found.burst_lost + found.gap_lost) as usize, lost);
            assert_eq!(found.burst_packets + found.gap_packets, 500);
        }
    }
}
