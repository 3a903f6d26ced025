//! What a listener makes of loss and delay: the E-model, narrowband (ITU-T G.107, 06/2015) and wideband (G.107.1, 06/2019),
//! down to the mean opinion score of a conversation.
//!
//! Inputs that a relay cannot know have their default values, with which the terms before codec and delay add up to one
//! number. The echo terms of clause 7.4 are left out: telephones cancel echo, and nobody here could measure what they leave.
//! Jitter is no input of its own: what it costs is delay and late packets in the receiver's buffer, of which the receiver
//! tells by RTCP-XR.

use super::formats::Codec;

/// `Ro - Is` with default values: G.107 clause 7.7 and table 2, note 1.
const R_NARROWBAND: f64 = 93.2;
/// The same of the wideband scale: G.107.1 clause 7.1, with `Is,WB` 0.
const R_WIDEBAND: f64 = 129.0;
/// Takes the wideband scale to the polynomial of MOS: G.107.1 annex A, equation.
const WIDEBAND_SCALE: f64 = 1.29;
/// Up to this one-way delay nothing is taken off: G.107 clause 7.4, equation (7-27).
const DELAY_FREE_MS: f64 = 100.0;
/// Where all is lost, `Ie-eff` ends: G.107 clause 7.5, equation (7-29), and G.107.1, equation (7-15).
const IMPAIRMENT_MAX: f64 = 95.0;

/// What was heard, and how.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Listening {
    /// 0 to 1.
    pub(super) loss: f64,
    /// Mean length of losses in a row, beside that of random loss as frequent: 1 for random loss (G.107 clause 7.5).
    pub(super) burst_ratio: f64,
    pub(super) one_way_delay_ms: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Band {
    Narrow,
    Wide,
}

/// One codec's impairment.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Impairment {
    band: Band,
    /// `Ie`: what it takes off by itself.
    equipment: f64,
    /// `Bpl`: how well it stands loss; `None` where none is published.
    robustness: Option<f64>,
}

impl Impairment {
    /// ITU-T G.113 appendix I (narrowband: `Ie` of table I.1, with `Bpl` table I.2) and appendix IV (wideband: `Ie,WB` of table
    /// IV.1). `None`: no value is published for the codec, or only one for each of its rates, of which the packets here do
    /// not tell. That is so for Opus, AMR, AMR-WB, EVS, iLBC, Speex and G.723.1.
    const fn of(codec: Codec) -> Option<Self> {
        let (band, equipment, robustness) = match codec {
            // With the packet loss concealment of G.711 appendix I.
            Codec::Pcmu | Codec::Pcma => (Band::Narrow, 0.0, Some(25.1)),
            // G.729A with voice activity detection, 20 ms.
            Codec::G729 => (Band::Narrow, 11.0, Some(19.0)),
            Codec::GsmEfr => (Band::Narrow, 5.0, Some(10.0)),
            Codec::Gsm => (Band::Narrow, 20.0, None),
            Codec::G726At32 | Codec::G728 => (Band::Narrow, 7.0, None),
            // At 64 kbit/s, as RTP carries it.
            Codec::G722 => (Band::Wide, 13.0, None),
            Codec::G723
            | Codec::Amr
            | Codec::AmrWb
            | Codec::Evs
            | Codec::Ilbc
            | Codec::Opus
            | Codec::Speex
            | Codec::ComfortNoise
            | Codec::TelephoneEvent
            | Codec::Other => return None,
        };
        Some(Self { band, equipment, robustness })
    }

    /// `Ie-eff`: G.107 clause 7.5, equation (7-29).
    fn effective(self, listening: &Listening) -> Option<f64> {
        let percent = listening.loss * 100.0;
        if percent <= 0.0 {
            return Some(self.equipment);
        }
        let share = percent / (percent / listening.burst_ratio.max(1.0) + self.robustness?);
        // Losses in long rows would take the equation beyond its range.
        Some(self.equipment + (IMPAIRMENT_MAX - self.equipment) * share.min(1.0))
    }
}

/// The mean opinion score of a conversation (MOS-CQE), 1 to 4.5. `None` where the codec has no published impairment, or packets
/// were lost and its robustness is not published: nothing is guessed.
pub(super) fn mos(codec: Codec, listening: &Listening) -> Option<f64> {
    let impairment = Impairment::of(codec)?;
    let lost = delay_impairment(listening.one_way_delay_ms) + impairment.effective(listening)?;
    Some(match impairment.band {
        Band::Narrow => mos_of(R_NARROWBAND - lost),
        Band::Wide => mos_of((R_WIDEBAND - lost) / WIDEBAND_SCALE),
    })
}

/// `Idd`: G.107 clause 7.4, equations (7-27) and (7-28).
fn delay_impairment(one_way_ms: f64) -> f64 {
    if one_way_ms <= DELAY_FREE_MS {
        return 0.0;
    }
    let x = (one_way_ms / DELAY_FREE_MS).log2();
    let root = |base: f64| (1.0 + base.powi(6)).powf(1.0 / 6.0);
    25.0 * (root(x) - 3.0 * root(x / 3.0) + 2.0)
}

/// G.107 annex B, equation (B-4).
fn mos_of(r: f64) -> f64 {
    if r <= 0.0 {
        1.0
    } else if r >= 100.0 {
        4.5
    } else {
        (1.0 + 0.035 * r + r * (r - 60.0) * (100.0 - r) * 7e-6).max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERFECT: Listening = Listening { loss: 0.0, burst_ratio: 1.0, one_way_delay_ms: 0.0 };

    fn assert_near(actual: f64, expected: f64, tolerance: f64) {
        assert!((actual - expected).abs() <= tolerance, "{actual}, expected {expected}");
    }

    /// G.107 table B.1: R and MOS at the limits of its categories.
    #[test]
    fn ratings_have_the_scores_of_annex_b() {
        for (r, mos) in [(90.0, 4.34), (80.0, 4.03), (70.0, 3.60), (60.0, 3.10), (50.0, 2.58)] {
            assert_near(mos_of(r), mos, 0.0065);
        }
        assert_eq!((mos_of(-5.0), mos_of(0.0), mos_of(100.0), mos_of(120.0)), (1.0, 1.0, 4.5, 4.5));
        assert!((0..=200).all(|half| mos_of(f64::from(half) / 2.0) >= 1.0), "the polynomial dips below 1 near 0");
    }

    /// G.107 clause 7.7: all defaults give R = 93.2, which is 4.41.
    #[test]
    fn the_default_connection_has_the_default_score() {
        assert_near(mos(Codec::Pcmu, &PERFECT).unwrap(), 4.41, 0.005);
    }

    #[test]
    fn delay_costs_nothing_up_to_100_ms_and_then_more_and_more() {
        assert_eq!(delay_impairment(100.0), 0.0);
        // Equation (7-27) by hand: X = 1 at 200 ms, 2 at 400 ms.
        assert_near(
            delay_impairment(200.0),
            25.0 * (2_f64.powf(1.0 / 6.0) - 3.0 * (1.0 + 1.0 / 729.0_f64).powf(1.0 / 6.0) + 2.0),
            1e-9,
        );
        assert_near(delay_impairment(200.0), 3.04, 0.01);
        assert!(delay_impairment(400.0) > 20.0);
    }

    #[test]
    fn loss_costs_by_the_robustness_of_the_codec() {
        let lossy = Listening { loss: 0.02, ..PERFECT };
        // R = 93.2 - 95 * 2 / 27.1 and 93.2 - (11 + 84 * 2 / 21).
        assert_near(mos(Codec::Pcma, &lossy).unwrap(), mos_of(86.19), 0.001);
        assert_near(mos(Codec::G729, &lossy).unwrap(), mos_of(74.2), 0.001);
        let bursty = Listening { burst_ratio: 4.0, ..lossy };
        assert!(mos(Codec::Pcma, &bursty) < mos(Codec::Pcma, &lossy));
    }

    #[test]
    fn wideband_has_a_scale_of_its_own() {
        // R = 129 - 13, taken to 89.9.
        assert_near(mos(Codec::G722, &PERFECT).unwrap(), mos_of(116.0 / 1.29), 1e-9);
    }

    #[test]
    fn nothing_is_guessed() {
        for codec in [Codec::Opus, Codec::Amr, Codec::AmrWb, Codec::TelephoneEvent, Codec::Other] {
            assert_eq!(mos(codec, &PERFECT), None, "{codec:?}");
        }
        let lossy = Listening { loss: 0.01, ..PERFECT };
        for codec in [Codec::G722, Codec::Gsm] {
            assert!(mos(codec, &PERFECT).is_some() && mos(codec, &lossy).is_none(), "{codec:?}");
        }
    }

    #[test]
    fn no_input_leads_out_of_the_scale() {
        for loss in [0.0, 0.001, 0.5, 1.0] {
            for burst_ratio in [0.0, 1.0, 1e9] {
                for one_way_delay_ms in [0.0, 1e3, 1e9] {
                    let score = mos(Codec::G729, &Listening { loss, burst_ratio, one_way_delay_ms }).unwrap();
                    assert!((1.0..=4.5).contains(&score), "{score}");
                }
            }
        }
    }
}
