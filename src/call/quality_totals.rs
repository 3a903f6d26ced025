//! How well answered calls were heard, over all of them, for metrics. Each leg of a call counts once, when its record is written.

use super::cdr::{Cdr, LegRecord};
use crate::{media::SilenceCause, types::histogram::Histogram};

/// One way between the server and the peer of a leg.
#[derive(Clone, Debug)]
pub struct DirectionTotals {
    /// Lost packets of those expected.
    pub loss_ratio: Histogram,
    pub jitter_s: Histogram,
    /// Mean opinion score, where one is known.
    pub mos: Histogram,
}

#[derive(Clone, Debug)]
pub struct QualityTotals {
    /// From the peers, as measured here.
    pub received: DirectionTotals,
    /// To the peers, as they report it.
    pub sent: DirectionTotals,
    pub round_trip_s: Histogram,
    silences: [u64; SilenceCause::ALL.len()],
}

impl Default for DirectionTotals {
    fn default() -> Self {
        Self {
            loss_ratio: Histogram::new(&[0.0, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.3]),
            jitter_s: Histogram::new(&[0.001, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.3]),
            // The limits of ITU-T G.107 table B.1, and what is below them.
            mos: Histogram::new(&[1.5, 2.0, 2.58, 3.1, 3.6, 4.03, 4.34, 4.5]),
        }
    }
}

impl Default for QualityTotals {
    fn default() -> Self {
        Self {
            received: DirectionTotals::default(),
            sent: DirectionTotals::default(),
            round_trip_s: Histogram::new(&[0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.6]),
            silences: [0; SilenceCause::ALL.len()],
        }
    }
}

impl QualityTotals {
    pub(super) fn count_silence(&mut self, cause: SilenceCause) {
        self.silences[cause as usize] += 1;
    }

    /// Silences of answered calls, by their cause.
    pub fn silences(&self) -> impl Iterator<Item = (&'static str, u64)> {
        SilenceCause::ALL.iter().map(|cause| (cause.label(), self.silences[*cause as usize]))
    }

    pub(super) fn observe(&mut self, cdr: &Cdr) {
        if cdr.answer_ms.is_some() {
            [&cdr.a, &cdr.b].into_iter().flatten().for_each(|leg| self.observe_leg(leg));
        }
    }

    fn observe_leg(&mut self, leg: &LegRecord) {
        if leg.packets_received > 0 {
            let loss_ratio = ratio(leg.packets_lost, leg.packets_received + leg.packets_lost);
            self.received.observe(loss_ratio, leg.jitter_ms, leg.mos);
        }
        if let Some(far) = &leg.far {
            self.sent.observe(ratio(far.packets_lost, leg.packets_sent), far.jitter_ms, far.mos);
        }
        if let Some(ms) = leg.round_trip_ms {
            self.round_trip_s.observe(ms / 1_000.0);
        }
    }
}

impl DirectionTotals {
    fn observe(&mut self, loss_ratio: f64, jitter_ms: f64, mos: Option<f64>) {
        self.loss_ratio.observe(loss_ratio);
        self.jitter_s.observe(jitter_ms / 1_000.0);
        if let Some(mos) = mos {
            self.mos.observe(mos);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a ratio of counts needs no more than a few digits")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::cdr::{EndedBy, FarRecord};

    fn cdr(answer_ms: Option<u64>, a: LegRecord) -> Cdr {
        Cdr {
            id: String::new(),
            caller: String::new(),
            callee: String::new(),
            answered_by: None,
            start_ms: 0,
            answer_ms,
            end_ms: 9,
            duration_s: 0,
            ended_by: EndedBy::Caller,
            status: 200,
            reason: String::new(),
            emergency: false,
            transferred_by: None,
            trunk: None,
            verification: None,
            a: Some(Box::new(a)),
            b: None,
        }
    }

    #[test]
    fn each_direction_of_a_leg_counts_where_something_is_known_of_it() {
        let mut totals = QualityTotals::default();
        let heard = LegRecord { packets_received: 90, packets_lost: 10, mos: Some(3.0), ..LegRecord::default() };
        let far = FarRecord { packets_lost: 1, jitter_ms: 20.0, ..FarRecord::default() };
        let told = LegRecord {
            packets_sent: 100,
            far: Some(Box::new(far)),
            round_trip_ms: Some(50.0),
            ..LegRecord::default()
        };
        totals.observe(&cdr(None, heard.clone()));
        assert_eq!(totals.received.loss_ratio.count(), 0, "nobody answered");
        totals.observe(&cdr(Some(1), heard));
        totals.observe(&cdr(Some(1), told));
        assert_eq!((totals.received.loss_ratio.count(), totals.received.mos.count()), (1, 1));
        assert!((totals.received.loss_ratio.sum() - 0.1).abs() < 1e-9);
        assert_eq!((totals.sent.loss_ratio.count(), totals.sent.mos.count()), (1, 0));
        assert!((totals.sent.jitter_s.sum() - 0.02).abs() < 1e-9);
        assert!((totals.round_trip_s.sum() - 0.05).abs() < 1e-9);
    }

    #[test]
    fn silences_count_by_cause() {
        let mut totals = QualityTotals::default();
        totals.count_silence(SilenceCause::WrongSource);
        let expected = [
            ("no_packets", 0),
            ("authentication", 0),
            ("payload_type", 0),
            ("source", 1),
            ("replay", 0),
            ("too_many_ssrcs", 0),
        ];
        assert_eq!(totals.silences().collect::<Vec<_>>(), expected);
    }
}
