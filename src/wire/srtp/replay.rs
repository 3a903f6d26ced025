//! The replay window of one SSRC (RFC 3711 section 3.3.2), for RTP and RTCP, receiving and sending.

use crate::types::DropReason;

const WORD_BITS: u64 = 64;
/// Video that is sent again after a loss arrives a few hundred packets late. One cache line.
pub(super) const RTP_WORDS: usize = 8;
/// RFC 3711 asks for 64 packets.
pub(super) const RTCP_WORDS: usize = 2;

/// Which indexes were used. A ring of words as in RFC 6479: moving the window shifts nothing.
pub(super) struct Window<const WORDS: usize> {
    highest: u64,
    used: [u64; WORDS],
}

impl<const WORDS: usize> Window<WORDS> {
    /// Packets behind the highest that are still told apart.
    const PACKETS: u64 = (WORDS as u64 - 1) * WORD_BITS;

    /// The window of an SSRC whose first packet is `index`.
    pub(super) const fn starting_at(index: u64) -> Self {
        let mut window = Self { highest: index, used: [0; WORDS] };
        window.mark(index);
        window
    }

    /// The window of an SSRC of which no more is known than how far it has come: all that came before counts as used.
    pub(super) const fn passed(highest: u64) -> Self {
        let mut used = [u64::MAX; WORDS];
        used[Self::slot(highest / WORD_BITS)] = u64::MAX >> (WORD_BITS - 1 - highest % WORD_BITS);
        Self { highest, used }
    }

    pub(super) const fn highest(&self) -> u64 {
        self.highest
    }

    /// Refuses an index that was used, and one too old to know.
    pub(super) const fn check(&self, index: u64) -> Result<(), DropReason> {
        if index > self.highest {
            return Ok(());
        }
        let is_too_old = self.highest - index >= Self::PACKETS;
        let is_used = self.used[Self::slot(index / WORD_BITS)] & bit(index) != 0;
        if is_too_old || is_used { Err(DropReason::SrtpReplayed) } else { Ok(()) }
    }

    /// Remembers an index that passed [`Window::check`].
    pub(super) fn mark_used(&mut self, index: u64) {
        if index > self.highest {
            let entered = (index / WORD_BITS - self.highest / WORD_BITS).min(WORDS as u64);
            for back in 0..entered {
                self.used[Self::slot(index / WORD_BITS - back)] = 0;
            }
            self.highest = index;
        }
        self.mark(index);
    }

    const fn mark(&mut self, index: u64) {
        self.used[Self::slot(index / WORD_BITS)] |= bit(index);
    }

    #[expect(clippy::cast_possible_truncation, reason = "less than `WORDS`, which is a usize")]
    const fn slot(word: u64) -> usize {
        (word % WORDS as u64) as usize
    }
}

const fn bit(index: u64) -> u64 {
    1 << (index % WORD_BITS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_window_holds_exactly_its_packets() {
        holds_exactly::<RTP_WORDS>(448);
        holds_exactly::<RTCP_WORDS>(64);
    }

    fn holds_exactly<const WORDS: usize>(packets: u64) {
        let mut window = Window::<WORDS>::starting_at(10_000);
        let oldest = 10_000 - packets + 1;
        assert_eq!(window.check(oldest - 1), Err(DropReason::SrtpReplayed));
        assert_eq!(window.check(oldest), Ok(()));
        window.mark_used(oldest);
        assert_eq!(window.check(oldest), Err(DropReason::SrtpReplayed));
        assert_eq!(window.check(10_000), Err(DropReason::SrtpReplayed));
        assert_eq!(window.check(10_001), Ok(()));
    }

    #[test]
    fn a_jump_forgets_what_lies_behind_and_starts_clean() {
        forgets::<RTP_WORDS>();
        forgets::<RTCP_WORDS>();
    }

    fn forgets<const WORDS: usize>() {
        let mut window = Window::<WORDS>::starting_at(0);
        for jump in [1, 63, 64, 65, 127, 128, 129, 447, 448, 511, 512, 513, 1 << 40] {
            let index = window.highest() + jump;
            window.mark_used(index);
            assert_eq!(window.highest(), index);
            assert_eq!(window.check(index), Err(DropReason::SrtpReplayed));
            if jump > 1 {
                assert_eq!(window.check(index - 1), Ok(()), "jump of {jump}");
            }
        }
    }

    proptest! {
        /// Against a model that remembers everything.
        #[test]
        fn agrees_with_a_set(
            start in prop_oneof![0_u64..200, 5_000_u64..5_600],
            steps in prop::collection::vec(-600_i64..600, 1..400),
        ) {
            agrees(Window::<RTP_WORDS>::starting_at(start), [start], &steps)?;
            agrees(Window::<RTCP_WORDS>::starting_at(start), [start], &steps)?;
            agrees(Window::<RTP_WORDS>::passed(start), 0..=start, &steps)?;
            agrees(Window::<RTCP_WORDS>::passed(start), 0..=start, &steps)?;
        }
    }

    fn agrees<const WORDS: usize>(
        mut window: Window<WORDS>,
        used: impl IntoIterator<Item = u64>,
        steps: &[i64],
    ) -> Result<(), TestCaseError> {
        let mut used: std::collections::BTreeSet<u64> = used.into_iter().collect();
        for &step in steps {
            let highest = *used.last().unwrap();
            let index = highest.saturating_add_signed(step);
            let is_fresh = !used.contains(&index) && index + Window::<WORDS>::PACKETS > highest;
            prop_assert_eq!(window.check(index).is_ok(), is_fresh);
            if is_fresh {
                window.mark_used(index);
                used.insert(index);
            }
        }
        Ok(())
    }
}
