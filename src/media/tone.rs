//! The special information tone (ITU-T E.180, Q.35): three frequencies, once, made sample by sample. No sound is stored.

use std::f64::consts::TAU;

use crate::{
    types::{Duration, Instant},
    wire::{rtp, srtp::TAG_ROOM_BYTES},
};

use super::command::Tone;

const FREQUENCIES_HZ: [u32; 3] = [950, 1_400, 1_800];
const RATE_HZ: u32 = 8_000;
/// 330 ms. All three frequencies have whole half-periods in it, so that none ends with a click.
const SAMPLES_PER_FREQUENCY: u32 = 2_640;
const SAMPLES: u32 = SAMPLES_PER_FREQUENCY * 3;
/// -10 dBm0, the nominal level of tones, where a sine of full scale has 3.17 dBm0 (G.711).
const AMPLITUDE: f64 = 7_050.0;

/// From the first packet until the last one has been played.
pub const TONE_TIME: Duration = Duration::from_secs(1);

const PACKET_TIME: Duration = Duration::from_millis(20);
const SAMPLES_PER_PACKET: u32 = 160;
/// Fixed RTP header (RFC 3550 section 5.1).
const HEADER_BYTES: usize = 12;
const MARKER: u8 = 0x80;

/// A packet before its protection.
pub(super) const PACKET_BYTES: usize = HEADER_BYTES + SAMPLES_PER_PACKET as usize;
pub(super) type Packet = [u8; PACKET_BYTES + TAG_ROOM_BYTES];

/// How the samples of G.711 are coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Law {
    /// PCMU.
    Mu,
    /// PCMA.
    A,
}

impl Law {
    /// One sample of 16 bits.
    fn encode(self, sample: i16) -> u8 {
        match self {
            Self::Mu => mu_law(sample),
            Self::A => a_law(sample),
        }
    }
}

/// Sign, three bits of segment, four bits of step, all inverted.
fn mu_law(sample: i16) -> u8 {
    const BIAS: u32 = 132;
    const MAX: u32 = 32_635;
    let sign = if sample < 0 { 0x80 } else { 0 };
    let magnitude = u32::from(sample.unsigned_abs()).min(MAX) + BIAS;
    let segment = magnitude.ilog2() - 7;
    let step = magnitude >> (segment + 3) & 0x0f;
    !octet(sign | segment << 4 | step)
}

/// The same with every other bit inverted; the lowest two segments have equal steps.
fn a_law(sample: i16) -> u8 {
    const EVEN_BITS: u8 = 0x55;
    let (sign, magnitude) = if sample < 0 { (0, !sample) } else { (0x80, sample) };
    let magnitude = u32::from(magnitude.unsigned_abs()) >> 3;
    let segment = magnitude.max(16).ilog2() - 4;
    let step = magnitude >> segment.max(1) & 0x0f;
    octet(sign | segment << 4 | step) ^ EVEN_BITS
}

fn octet(code: u32) -> u8 {
    u8::try_from(code).expect("a sign, three bits and four")
}

/// The tone's samples, by the number of the next one.
#[derive(Debug, Default)]
struct Samples(u32);

impl Iterator for Samples {
    type Item = i16;

    fn next(&mut self) -> Option<i16> {
        let hz = *FREQUENCIES_HZ.get((self.0 / SAMPLES_PER_FREQUENCY) as usize)?;
        // Within one second, so that the angle stays small and exact.
        let cycle = self.0 % SAMPLES_PER_FREQUENCY * hz % RATE_HZ;
        let sine = (TAU * f64::from(cycle) / f64::from(RATE_HZ)).sin();
        self.0 += 1;
        #[expect(clippy::cast_possible_truncation, reason = "a quarter of full scale fits")]
        Some((sine * AMPLITUDE).round() as i16)
    }
}

/// A tone on its way to a leg: packets of 20 ms, and when the next one is due.
#[derive(Debug)]
pub(super) struct Player {
    tone: Tone,
    samples: Samples,
    is_first: bool,
    due: Instant,
}

impl Player {
    pub(super) fn new(now: Instant, tone: Tone) -> Self {
        Self { tone, samples: Samples::default(), is_first: true, due: now }
    }

    /// `None`: the tone is over.
    pub(super) fn due(&self) -> Option<Instant> {
        (self.samples.0 < SAMPLES).then_some(self.due)
    }

    /// The next packet, if it is due. The last one ends with silence.
    pub(super) fn packet_due(&mut self, now: Instant) -> Option<Packet> {
        self.due().filter(|due| *due <= now)?;
        let Tone { law, payload_type, ssrc, sequence, timestamp } = &mut self.tone;
        let mut packet = [0; PACKET_BYTES + TAG_ROOM_BYTES];
        packet[0] = rtp::VERSION << 6;
        packet[1] = *payload_type | if self.is_first { MARKER } else { 0 };
        packet[2..4].copy_from_slice(&sequence.to_be_bytes());
        packet[4..8].copy_from_slice(&timestamp.to_be_bytes());
        packet[8..HEADER_BYTES].copy_from_slice(&ssrc.to_be_bytes());
        for sample in &mut packet[HEADER_BYTES..PACKET_BYTES] {
            *sample = law.encode(self.samples.next().unwrap_or_default());
        }
        *sequence = sequence.wrapping_add(1);
        *timestamp = timestamp.wrapping_add(SAMPLES_PER_PACKET);
        self.is_first = false;
        self.due = self.due + PACKET_TIME;
        Some(packet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        media::{
            Protection,
            command::{Command, Remote},
            testing::{Phone, Rig, SUITE, leg, rtp, srtp},
        },
        types::DropReason,
    };

    #[test]
    fn samples_are_coded_as_g711_says() {
        // Values and codes of ITU-T G.711, tables 1 and 2, in 16 bits: the ends of both laws, zero, and a step of several segments.
        for (sample, mu, a) in [
            (0, 0xff, 0xd5),
            (-1, 0x7f, 0x55),
            (i16::MAX, 0x80, 0xaa),
            (i16::MIN, 0x00, 0x2a),
            (132, 0xef, 0xdd),
            (-132, 0x6f, 0x5d),
            (1_000, 0xce, 0xfa),
            (-1_000, 0x4e, 0x7a),
            (8_000, 0xa0, 0x8a),
            (-8_000, 0x20, 0x0a),
        ] {
            assert_eq!((Law::Mu.encode(sample), Law::A.encode(sample)), (mu, a), "{sample}");
        }
    }

    /// What part of these samples' power one frequency has (Goertzel).
    fn part(samples: &[f64], hz: u32) -> f64 {
        let factor = 2.0 * (TAU * f64::from(hz) / f64::from(RATE_HZ)).cos();
        let (one, two) = samples.iter().fold((0.0, 0.0), |(one, two), sample| (factor.mul_add(one, sample - two), one));
        let power = one * one + two * two - factor * one * two;
        let energy: f64 = samples.iter().map(|sample| sample * sample).sum();
        2.0 * power / (energy * f64::from(SAMPLES_PER_FREQUENCY))
    }

    #[test]
    fn the_tone_is_three_frequencies_of_330_ms_at_minus_10_dbm0() {
        let samples: Vec<f64> = Samples::default().map(f64::from).collect();
        assert_eq!(samples.len(), 3 * 2_640);
        for (samples, hz) in samples.chunks(2_640).zip([950, 1_400, 1_800]) {
            assert!(part(samples, hz) > 0.999, "{hz} Hz");
            let mean_square = samples.iter().map(|sample| sample * sample).sum::<f64>() / 2_640.0;
            // A sine of full scale, 8159 steps of 4 in the mu-law, has 3.17 dBm0.
            let level = 10.0 * (mean_square / (32_636.0 * 32_636.0 / 2.0)).log10() + 3.17;
            assert!((level + 10.0).abs() < 0.5, "{level} dBm0");
        }
    }

    const TONE: Tone = Tone { law: Law::Mu, payload_type: 0, ssrc: 7, sequence: 100, timestamp: 5_000 };

    /// A leg in slot 0 that plays the tone to its phone.
    fn playing(protection: Protection) -> (Rig, Phone) {
        let mut rig = Rig::new(2);
        let phone = Phone::new(0, protection, "203.0.113.1:4000");
        rig.open(0);
        rig.configure(&phone);
        rig.command(Command::Play { leg: leg(0), tone: TONE });
        (rig, phone)
    }

    #[test]
    fn a_leg_plays_it_once_in_packets_of_20_ms_under_its_own_protection() {
        for protection in [Protection::Plain, srtp(SUITE, 1)] {
            let (mut rig, mut phone) = playing(protection.clone());
            let start = rig.now;
            rig.advance(10_000);
            assert_eq!((rig.transmitted.len(), rig.timeout), (50, None));
            let mut heard = Vec::new();
            for (n, (at, send, packet)) in (0..).zip(std::mem::take(&mut rig.transmitted)) {
                assert_eq!(at.since(start), PACKET_TIME * n);
                assert_eq!(
                    (send.port, send.to, send.is_plain),
                    (rtp(0), phone.address, protection == Protection::Plain)
                );
                let plain = phone.hears(packet);
                let header = rtp::Header::parse(&plain).unwrap();
                assert_eq!((header.marker, header.payload_type, header.ssrc), (n == 0, 0, 7));
                assert_eq!((u32::from(header.sequence), header.timestamp), (100 + n, 5_000 + 160 * n));
                heard.extend_from_slice(rtp::payload(&plain).unwrap());
            }
            let (tone, silence) = heard.split_at(3 * 2_640);
            assert!(tone.iter().copied().eq(Samples::default().map(|sample| Law::Mu.encode(sample))));
            assert_eq!(silence, [Law::Mu.encode(0); 80]);
            assert_eq!(rig.close(0).map(|report| report.packets_sent), Some(50));
        }
    }

    #[test]
    fn it_ends_with_its_leg_and_follows_its_peer() {
        let (mut rig, mut phone) = playing(srtp(SUITE, 1));
        rig.advance(100);
        let nat = "198.51.100.1:1024".parse().unwrap();
        let packet = phone.rtp(1);
        rig.refuses(DropReason::PacketNoPeer, rtp(0), nat, &packet);
        rig.advance(100);
        assert_eq!(rig.transmitted.last().unwrap().1.to, nat, "where its peer is heard from");
        let before = rig.transmitted.len();
        rig.close(0);
        rig.advance(2_000);
        assert_eq!((rig.transmitted.len(), rig.timeout), (before, None));
    }

    #[test]
    fn nothing_is_sent_to_who_does_not_want_it_or_cannot_be_reached() {
        let nowhere = Remote { rtp: None, ..crate::media::testing::remote("203.0.113.1:4000") };
        let held = Remote { wants_media: false, ..crate::media::testing::remote("203.0.113.1:4000") };
        for remote in [nowhere, held] {
            let mut rig = Rig::new(1);
            rig.open(0);
            rig.command(Command::Play { leg: leg(0), tone: TONE });
            let mut phone = Phone::new(0, Protection::Plain, "203.0.113.1:4000");
            phone.remote = remote;
            rig.configure(&phone);
            rig.advance(2_000);
            assert_eq!((rig.transmitted.len(), rig.timeout), (0, None));
        }
        let mut rig = Rig::new(1);
        rig.command(Command::Play { leg: leg(0), tone: TONE });
        rig.advance(2_000);
        assert_eq!((rig.transmitted.len(), rig.timeout), (0, None), "no leg");
    }
}
