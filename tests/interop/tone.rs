//! Makes test tones and judges recordings of them. A peer plays one pure tone; its partner records what arrives.
//!
//! Use tones without a whole number of periods in 20 ms ([`A_HZ`], [`B_HZ`]): a packet left out or repeated then shows
//! as a leap of the tone's phase, even where the recorder left no hole.

use std::{
    f64::consts::{PI, TAU},
    fs, io,
    path::Path,
};

/// The caller's tone.
pub(crate) const A_HZ: u32 = 440;
/// The callee's tone.
pub(crate) const B_HZ: u32 = 1013;
/// The microphone of the third.
pub(crate) const C_HZ: u32 = 677;

const RATE: u32 = 8_000;
/// Samples of 20 ms, one packet.
const FRAME: usize = 160;
/// Mean square below which a frame is silent.
const SILENCE: f64 = 1e-5;

/// `seconds` of a sine at half of full scale.
fn sine(hz: u32, seconds: u32) -> impl Iterator<Item = i16> {
    (0..RATE * seconds).map(move |i| {
        // A whole number of periods fits into each second, so the angle stays small and exact.
        let angle = TAU * f64::from(hz) * f64::from(i % RATE) / f64::from(RATE);
        #[expect(clippy::cast_possible_truncation, reason = "half of full scale fits")]
        let sample = (angle.sin() * 16_383.0) as i16;
        sample
    })
}

/// A mono 16-bit WAV file.
pub(crate) fn write_wav(path: &Path, hz: u32, seconds: u32) -> io::Result<()> {
    let data: Vec<u8> = sine(hz, seconds).flat_map(i16::to_le_bytes).collect();
    let bytes = u32::try_from(data.len()).map_err(io::Error::other)?;
    let mut out = b"RIFF".to_vec();
    out.extend((36 + bytes).to_le_bytes());
    out.extend(b"WAVEfmt ");
    out.extend(16u32.to_le_bytes());
    // PCM, one channel, 16 bits.
    for half in [1u16, 1] {
        out.extend(half.to_le_bytes());
    }
    for word in [RATE, RATE * 2] {
        out.extend(word.to_le_bytes());
    }
    for half in [2u16, 16] {
        out.extend(half.to_le_bytes());
    }
    out.extend(b"data");
    out.extend(bytes.to_le_bytes());
    out.extend(data);
    fs::write(path, out)
}

/// Bare G.711 mu-law bytes, as SIPp plays them.
pub(crate) fn write_ulaw(path: &Path, hz: u32, seconds: u32) -> io::Result<()> {
    fs::write(path, sine(hz, seconds).map(ulaw).collect::<Vec<_>>())
}

/// One sample as G.711 mu-law: sign, three bits of segment, four bits of step, all inverted.
fn ulaw(sample: i16) -> u8 {
    const BIAS: u32 = 132;
    let sign = if sample < 0 { 0x80 } else { 0 };
    let magnitude = u32::from(sample.unsigned_abs()).min(32_635) + BIAS;
    let segment = magnitude.ilog2() - 7;
    let step = (magnitude >> (segment + 3)) & 0x0f;
    !u8::try_from(sign | (segment << 4) | step).expect("seven bits and a sign")
}

/// What a recording holds of one tone.
#[derive(Debug, Default)]
pub(crate) struct Measures {
    /// The strongest frequency of the middle second.
    pub(crate) hz: u32,
    /// From the first to the last frame that carries the tone, in seconds.
    pub(crate) seconds: f64,
    /// Part of the frames between those that carry it.
    pub(crate) present: f64,
    /// The longest time between those without it, in milliseconds.
    pub(crate) gap_ms: usize,
    /// Leaps of its phase: audio left out, repeated or invented.
    pub(crate) leaps: usize,
}

/// What a test asks of a recording.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) hz: u32,
    pub(crate) seconds_min: f64,
    pub(crate) gap_ms_max: usize,
    pub(crate) leaps_max: usize,
    pub(crate) present_min: f64,
}

impl Wanted {
    /// The tone, whole, for nearly as long as the talk lasted.
    pub(crate) const fn whole(hz: u32, seconds_min: f64) -> Self {
        Self { hz, seconds_min, gap_ms_max: 80, leaps_max: 3, present_min: 0.97 }
    }
}

/// Panics with all measures unless the recording holds what is wanted.
pub(crate) fn assert_heard(who: &str, recording: &Path, wanted: Wanted) {
    let samples = read_wav(recording).unwrap_or_else(|e| panic!("{who}: {}: {e}", recording.display()));
    let found = measure(&samples, wanted.hz);
    let is_tone = found.hz.abs_diff(wanted.hz) <= 8.max(wanted.hz / 50);
    let is_whole = found.seconds >= wanted.seconds_min
        && found.present >= wanted.present_min
        && found.gap_ms <= wanted.gap_ms_max
        && found.leaps <= wanted.leaps_max;
    assert!(is_tone && is_whole, "{who} should hear {wanted:?} and hears {found:?} ({})", recording.display());
}

/// Samples of a recording, and the seconds of a tone in those after the first `from`. None of either before it exists.
pub(crate) fn heard_since(recording: &Path, from: usize, hz: u32) -> (usize, f64) {
    let samples = read_wav(recording).unwrap_or_default();
    let new = samples.get(from..).unwrap_or(&samples);
    (samples.len(), count(new.chunks_exact(FRAME).filter(|frame| carries(frame, hz)).count()) * 0.02)
}

/// The first channel of a 16-bit or 32-bit-float WAV file at 8 kHz, -1 to 1. A header whose lengths were never filled
/// in, because the recorder was stopped, is read to the end of the file. A linphone that still records has written zeros
/// in the place of the whole header; it records 16 bits.
fn read_wav(path: &Path) -> io::Result<Vec<f64>> {
    const HEADER: usize = 44;
    let raw = fs::read(path)?;
    let pcm =
        |data: &[u8]| data.chunks_exact(2).map(|s| f64::from(i16::from_le_bytes([s[0], s[1]])) / 32_768.0).collect();
    if raw.get(..HEADER).is_some_and(|header| header.iter().all(|b| *b == 0)) {
        return Ok(pcm(&raw[HEADER..]));
    }
    let bad = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    if raw.get(..4) != Some(b"RIFF".as_slice()) || raw.get(8..12) != Some(b"WAVE".as_slice()) {
        return Err(bad("no RIFF/WAVE file"));
    }
    let word = |b: &[u8], at: usize| b.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let half = |b: &[u8], at: usize| b.get(at..at + 2).map(|b| u16::from_le_bytes([b[0], b[1]]));
    let (mut rest, mut format) = (&raw[12..], None);
    while let (Some(id), Some(len)) = (rest.get(..4), word(rest, 4)) {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        let body = &rest[8..];
        if id == b"fmt " {
            let tag = half(body, 0).ok_or_else(|| bad("a short fmt chunk"))?;
            // The extensible form names the real format further on.
            let tag = if tag == 0xfffe { half(body, 24).unwrap_or(tag) } else { tag };
            format = Some((tag, half(body, 2).unwrap_or(1), word(body, 4).unwrap_or(0), half(body, 14).unwrap_or(0)));
        } else if id == b"data" {
            let data = body.get(..len).filter(|d| !d.is_empty()).unwrap_or(body);
            let (tag, channels, rate, bits) = format.ok_or_else(|| bad("data before fmt"))?;
            if rate != RATE {
                return Err(bad(&format!("{rate} Hz, wanted {RATE}")));
            }
            let step = usize::from(channels) * usize::from(bits) / 8;
            return match (tag, bits) {
                (1, 16) if channels == 1 => Ok(pcm(data)),
                (3, 32) => Ok(data
                    .chunks_exact(step)
                    .map(|s| f64::from(f32::from_le_bytes([s[0], s[1], s[2], s[3]])))
                    .collect()),
                _ => Err(bad(&format!("WAV format {tag} with {bits} bits"))),
            };
        }
        rest = body.get(len + len % 2..).unwrap_or_default();
    }
    Err(bad("no data chunk"))
}

fn measure(samples: &[f64], hz: u32) -> Measures {
    let frames: Vec<&[f64]> = samples.chunks_exact(FRAME).collect();
    let loud: Vec<usize> = (0..frames.len()).filter(|i| energy(frames[*i]) > SILENCE).collect();
    let Some(middle) = loud.get(loud.len() / 2) else { return Measures::default() };
    let second = RATE as usize;
    let from = (middle * FRAME).saturating_sub(second / 2);
    let hz_found = dominant(&samples[from..(from + second).min(samples.len())]);
    let good: Vec<bool> = frames.iter().map(|frame| carries(frame, hz)).collect();
    let (Some(first), Some(last)) = (good.iter().position(|g| *g), good.iter().rposition(|g| *g)) else {
        return Measures { hz: hz_found, ..Measures::default() };
    };
    // The first 300 ms are a call being set up.
    let settled = (first + 15).min(last);
    let span = &good[settled..=last];
    let longest = span.split(|g| *g).map(<[bool]>::len).max().unwrap_or(0);
    let present = span.iter().filter(|g| **g).count();
    Measures {
        hz: hz_found,
        seconds: count(last - first + 1) * 0.02,
        present: count(present) / count(span.len()),
        gap_ms: longest * 20,
        leaps: leaps(&frames[settled..=last], f64::from(hz)),
    }
}

fn carries(frame: &[f64], hz: u32) -> bool {
    energy(frame) > SILENCE && goertzel(frame, f64::from(hz)) > 0.8 * energy(frame)
}

fn count(n: usize) -> f64 {
    f64::from(u32::try_from(n).expect("a recording is short"))
}

fn energy(frame: &[f64]) -> f64 {
    frame.iter().map(|v| v * v).sum::<f64>() / count(frame.len())
}

/// The mean square of one frequency's share (Goertzel's algorithm).
fn goertzel(samples: &[f64], hz: f64) -> f64 {
    let turn = 2.0 * (TAU * hz / f64::from(RATE)).cos();
    let (s1, s2) = samples.iter().fold((0.0, 0.0), |(s1, s2), v| (v + turn * s1 - s2, s1));
    2.0 * (s1 * s1 + s2 * s2 - turn * s1 * s2) / (count(samples.len()) * count(samples.len()))
}

/// The strongest frequency to 1 Hz: coarsely over 50 ms, whose lines are too wide to be missed, then finely.
fn dominant(samples: &[f64]) -> u32 {
    let strongest = |samples: &[f64], candidates: &mut dyn Iterator<Item = u32>| {
        let power = |hz: &u32| goertzel(samples, f64::from(*hz));
        candidates.map(|hz| (power(&hz), hz)).max_by(|a, b| a.0.total_cmp(&b.0)).map_or(0, |(_, hz)| hz)
    };
    let coarse = strongest(&samples[..samples.len().min(400)], &mut (200..3_400).step_by(10));
    strongest(samples, &mut (coarse.saturating_sub(15)..coarse + 16))
}

/// Places where the tone's phase leaps between neighbouring frames.
fn leaps(frames: &[&[f64]], hz: f64) -> usize {
    let wrap = |angle: f64| (angle + PI).rem_euclid(TAU) - PI;
    let step = TAU * hz / f64::from(RATE);
    let phase = |(i, frame): (usize, &&[f64])| {
        let start = step * count(i * FRAME);
        let (re, im) = frame.iter().enumerate().fold((0.0, 0.0), |(re, im), (k, v)| {
            let angle = start + step * count(k);
            (re + v * angle.cos(), im - v * angle.sin())
        });
        im.atan2(re)
    };
    let phases: Vec<f64> = frames.iter().enumerate().map(phase).collect();
    let mut drifts: Vec<f64> = phases.windows(2).map(|w| wrap(w[1] - w[0])).collect();
    let unsorted = drifts.clone();
    drifts.sort_by(f64::total_cmp);
    // The two clocks differ a little: their drift is no leap.
    let Some(usual) = drifts.get(drifts.len() / 2) else { return 0 };
    let is_off: Vec<bool> = unsorted.iter().map(|d| wrap(d - usual).abs() > 0.35).collect();
    // One leap may show between two pairs of frames.
    is_off.iter().enumerate().filter(|(i, off)| **off && (*i == 0 || !is_off[i - 1])).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(hz: u32, seconds: u32) -> Vec<f64> {
        sine(hz, seconds).map(|s| f64::from(s) / 32_768.0).collect()
    }

    #[test]
    fn a_whole_tone_is_found_whole() {
        for hz in [A_HZ, B_HZ] {
            let found = measure(&tone(hz, 4), hz);
            assert!(found.hz.abs_diff(hz) <= 1, "{found:?}");
            assert!(found.seconds > 3.9 && found.present > 0.999 && found.gap_ms == 0 && found.leaps == 0, "{found:?}");
        }
    }

    #[test]
    fn another_tone_is_not_the_wanted_one() {
        let found = measure(&tone(B_HZ, 4), A_HZ);
        assert!(found.seconds == 0.0 && found.hz.abs_diff(B_HZ) <= 1, "{found:?}");
    }

    #[test]
    fn silence_holds_no_tone() {
        assert_eq!(measure(&[0.0; 32_000], A_HZ).hz, 0);
    }

    #[test]
    fn a_hole_and_a_packet_left_out_are_both_found() {
        let mut holed = tone(A_HZ, 4);
        holed[16_000..16_800].fill(0.0);
        assert_eq!(measure(&holed, A_HZ).gap_ms, 100);
        let mut shorter = tone(B_HZ, 4);
        shorter.drain(16_000..16_160);
        let found = measure(&shorter, B_HZ);
        assert_eq!((found.gap_ms, found.leaps), (0, 1), "{found:?}");
    }

    #[test]
    fn a_written_file_reads_back_even_when_its_length_was_never_filled_in() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("tone.wav");
        write_wav(&path, A_HZ, 2).expect("a writable folder");
        assert_heard("the test", &path, Wanted::whole(A_HZ, 1.9));
        let mut raw = fs::read(&path).expect("it was written");
        raw[40..44].fill(0);
        fs::write(&path, raw).expect("a writable folder");
        assert_heard("the test", &path, Wanted::whole(A_HZ, 1.9));
    }

    #[test]
    #[should_panic(expected = "the test should hear")]
    fn a_wrong_tone_fails_the_test() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("tone.wav");
        write_wav(&path, A_HZ, 2).expect("a writable folder");
        assert_heard("the test", &path, Wanted::whole(B_HZ, 1.9));
    }

    /// ITU-T G.711 table 2a: the ends of the scale and both zeros' neighbours.
    #[test]
    fn mu_law_has_the_standards_values() {
        for (sample, byte) in [(0, 0xff), (32_635, 0x80), (i16::MIN, 0x00), (-1, 0x7f), (1_000, 0xce), (-1_000, 0x4e)] {
            assert_eq!(ulaw(sample), byte, "{sample}");
        }
    }
}
