//! Hears the special information tone (ITU-T E.180) in G.711.

use std::f64::consts::TAU;

const RATE_HZ: f64 = 8_000.0;
/// 20 ms, in which each of the frequencies has whole periods.
const FRAME: usize = 160;
const FREQUENCIES_HZ: [u16; 3] = [950, 1_400, 1_800];

/// What a code of the mu-law stands for.
pub(crate) fn mu_law(code: u8) -> f64 {
    let (sign, magnitude) = (code & 0x80, !code & 0x7f);
    let value = f64::from(((u32::from(magnitude & 0x0f) << 3) + 132) << (magnitude >> 4)) - 132.0;
    if sign == 0 { -value } else { value }
}

/// Asserts that the tone was heard, once and whole but for what was lost before the telephone was ready: each frequency in turn, for
/// 330 ms give or take 70.
pub(crate) fn assert_special_information_tone(samples: &[f64]) {
    let mut heard: Vec<(u16, usize)> = Vec::new();
    for frame in samples.chunks_exact(FRAME) {
        let Some(hz) = FREQUENCIES_HZ.into_iter().find(|hz| part(frame, *hz) > 0.9) else { continue };
        match heard.last_mut().filter(|(last, _)| *last == hz) {
            Some((_, frames)) => *frames += 1,
            None => heard.push((hz, 1)),
        }
    }
    let is_whole = |(_, frames): &(u16, usize)| (13..=20).contains(frames);
    let order: Vec<u16> = heard.iter().map(|(hz, _)| *hz).collect();
    assert!(order == FREQUENCIES_HZ && heard.iter().all(is_whole), "frequencies and frames of 20 ms: {heard:?}");
}

/// What part of a frame's power one frequency has (Goertzel).
fn part(frame: &[f64], hz: u16) -> f64 {
    let factor = 2.0 * (TAU * f64::from(hz) / RATE_HZ).cos();
    let (one, two) = frame.iter().fold((0.0, 0.0), |(one, two), sample| (factor.mul_add(one, sample - two), one));
    let power = one * one + two * two - factor * one * two;
    let energy: f64 = frame.iter().map(|sample| sample * sample).sum();
    let frame_len = f64::from(u16::try_from(frame.len()).expect("a frame"));
    if energy == 0.0 { 0.0 } else { 2.0 * power / (energy * frame_len) }
}
