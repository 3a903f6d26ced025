//! What a leg's peer delivered and how well: loss and jitter (RFC 3550 appendices A.3 and A.8), round trip (section
//! 6.4.1). Numbers only; no packet content is kept.

use crate::{
    types::{Duration, Instant, limits::SSRCS_PER_LEG_MAX},
    wire::rtp::Header,
};

/// A jump forward of fewer sequence numbers is loss, a longer one a restart (RFC 3550 appendix A.1).
const DROPOUT_MAX: u16 = 3_000;
/// A packet late by no more sequence numbers is reordered, not a restart (RFC 3550 appendix A.1).
const MISORDER_MAX: u16 = 100;
/// Sender reports a peer's report block may still refer to; one is sent about every five seconds.
const SENDER_REPORTS_MAX: usize = 8;

/// One leg's receiving quality. Streams beyond [`SSRCS_PER_LEG_MAX`] are relayed but not measured.
///
/// Laid out as declared, so that the first stream lies beside what is read before it.
#[derive(Clone, Debug, Default)]
#[repr(C)]
pub(super) struct Quality {
    streams_len: usize,
    /// The stream heard last, where the next packet most likely belongs.
    recent: usize,
    streams: [Stream; SSRCS_PER_LEG_MAX],
    sender_reports: [SenderReport; SENDER_REPORTS_MAX],
    sender_reports_next: usize,
    round_trip: Option<Duration>,
}

/// One SSRC.
#[derive(Clone, Copy, Debug, Default)]
struct Stream {
    ssrc: u32,
    /// Sequence numbers, extended by their cycles; reordering below `first` is possible and harmless.
    first: u64,
    highest: u64,
    received: u64,
    /// Lost before the last restart.
    lost_before: u64,
    /// After a jump, the number that would prove a restart.
    restart_at: Option<u16>,
    /// Arrival and timestamp of the last packet with a known clock rate.
    last: Option<(Instant, u32)>,
    jitter_ms: f64,
}

/// A sender report forwarded to this leg's peer, by the middle 32 bits of its NTP timestamp.
#[derive(Clone, Copy, Debug, Default)]
struct SenderReport {
    ntp_middle: u32,
    sent: Instant,
}

impl Quality {
    /// Counts one accepted RTP packet.
    pub(super) fn packet_received(&mut self, now: Instant, header: &Header) {
        let Some(stream) = self.stream(header) else { return };
        stream.count(header.sequence);
        if let Some(rate_hz) = clock_rate_hz(header.payload_type) {
            stream.measure_jitter(now, header.timestamp, rate_hz);
        }
    }

    /// Remembers a sender report that was forwarded to the peer, unchanged, so that its report blocks can be dated.
    pub(super) fn sender_report_sent(&mut self, now: Instant, ntp_middle: u32) {
        self.sender_reports[self.sender_reports_next] = SenderReport { ntp_middle, sent: now };
        self.sender_reports_next = (self.sender_reports_next + 1) % SENDER_REPORTS_MAX;
    }

    /// Reads a report block of the peer: `last_sr` and `delay_since_last_sr` as on the wire (RFC 3550 section 6.4.1). The
    /// round trip is between this relay and the peer, since the report's way to the relay is not part of it.
    pub(super) fn report_block_received(&mut self, now: Instant, last_sr: u32, delay_since_last_sr: u32) {
        let known = self.sender_reports.iter().find(|report| report.ntp_middle == last_sr);
        if let Some(report) = known.filter(|_| last_sr != 0) {
            let held = Duration::from_nanos(u64::from(delay_since_last_sr) * 1_000_000_000 / 65_536);
            self.round_trip = Some(now.since(report.sent).saturating_sub(held));
        }
    }

    pub(super) fn packets_lost(&self) -> u64 {
        self.streams[..self.streams_len].iter().map(Stream::lost).sum()
    }

    /// Of the stream heard last, in milliseconds.
    pub(super) const fn jitter_ms(&self) -> f64 {
        self.streams[self.recent].jitter_ms
    }

    pub(super) fn round_trip_ms(&self) -> Option<f64> {
        self.round_trip.map(|time| time.as_secs_f64() * 1_000.0)
    }

    fn stream(&mut self, header: &Header) -> Option<&mut Stream> {
        let known = &self.streams[..self.streams_len];
        if known.get(self.recent).is_none_or(|stream| stream.ssrc != header.ssrc) {
            match known.iter().position(|stream| stream.ssrc == header.ssrc) {
                Some(index) => self.recent = index,
                None if self.streams_len == SSRCS_PER_LEG_MAX => return None,
                None => {
                    self.recent = self.streams_len;
                    self.streams[self.recent] = Stream::starting(header);
                    self.streams_len += 1;
                }
            }
        }
        Some(&mut self.streams[self.recent])
    }
}

impl Stream {
    fn starting(header: &Header) -> Self {
        let first = u64::from(header.sequence);
        Self { ssrc: header.ssrc, first, highest: first, ..Self::default() }
    }

    /// RFC 3550 appendix A.1 without its probation: the packet was accepted already.
    fn count(&mut self, sequence: u16) {
        let ahead = sequence.wrapping_sub(low_16(self.highest));
        if ahead < DROPOUT_MAX {
            self.highest += u64::from(ahead);
        } else if ahead <= u16::MAX - MISORDER_MAX {
            if self.restart_at != Some(sequence) {
                self.restart_at = Some(sequence.wrapping_add(1));
                return;
            }
            self.lost_before = self.lost();
            self.first = u64::from(sequence);
            self.highest = self.first;
            self.received = 0;
        }
        self.restart_at = None;
        self.received += 1;
    }

    /// RFC 3550 appendix A.8, in milliseconds instead of timestamp units.
    fn measure_jitter(&mut self, now: Instant, timestamp: u32, rate_hz: u32) {
        if let Some((last_arrival, last_timestamp)) = self.last {
            let arrived_ms = now.since(last_arrival).as_secs_f64() * 1_000.0;
            let sampled = timestamp.wrapping_sub(last_timestamp).cast_signed();
            let sampled_ms = f64::from(sampled) * 1_000.0 / f64::from(rate_hz);
            self.jitter_ms += ((arrived_ms - sampled_ms).abs() - self.jitter_ms) / 16.0;
        }
        self.last = Some((now, timestamp));
    }

    /// RFC 3550 appendix A.3; never negative, duplicates notwithstanding.
    const fn lost(&self) -> u64 {
        self.lost_before + (self.highest - self.first + 1).saturating_sub(self.received)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low bits are what is asked for")]
const fn low_16(extended: u64) -> u16 {
    extended as u16
}

/// Clock rates of the static payload types (RFC 3551 tables 4 and 5). Those of dynamic types stand in the SDP, which
/// the media plane does not read.
const fn clock_rate_hz(payload_type: u8) -> Option<u32> {
    match payload_type {
        0 | 3..=5 | 7..=9 | 12 | 13 | 15 | 18 => Some(8_000),
        6 => Some(16_000),
        10 | 11 => Some(44_100),
        16 => Some(11_025),
        17 => Some(22_050),
        14 | 25 | 26 | 28 | 31..=34 => Some(90_000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(ssrc: u32, sequence: u16, timestamp: u32) -> Header {
        Header { marker: false, payload_type: 0, sequence, timestamp, ssrc, has_padding: false, bytes: 12 }
    }

    fn receive(sequences: impl IntoIterator<Item = u16>) -> Quality {
        let mut quality = Quality::default();
        for sequence in sequences {
            quality.packet_received(Instant::default(), &packet(1, sequence, 0));
        }
        quality
    }

    #[test]
    fn gaps_are_loss_and_late_packets_fill_them() {
        assert_eq!(receive([10, 11, 14]).packets_lost(), 2);
        assert_eq!(receive([10, 11, 14, 12, 13]).packets_lost(), 0);
    }

    #[test]
    fn the_sequence_number_may_wrap() {
        assert_eq!(receive([65_534, 65_535, 0, 2]).packets_lost(), 1);
    }

    #[test]
    fn duplicates_and_packets_before_the_first_never_make_loss_negative() {
        assert_eq!(receive([10, 10, 10, 9]).packets_lost(), 0);
    }

    #[test]
    fn a_restart_is_not_loss_but_earlier_loss_stays() {
        let quality = receive([10, 12, 30_000, 30_001, 30_003]);
        assert_eq!(quality.packets_lost(), 2, "one before the restart, one after it");
    }

    #[test]
    fn one_stray_number_is_no_restart() {
        assert_eq!(receive([10, 30_000, 11, 12]).packets_lost(), 0);
    }

    #[test]
    fn loss_is_summed_over_streams_and_further_streams_are_not_measured() {
        let mut quality = Quality::default();
        for ssrc in 0..=u32::try_from(SSRCS_PER_LEG_MAX).unwrap() {
            quality.packet_received(Instant::default(), &packet(ssrc, 1, 0));
            quality.packet_received(Instant::default(), &packet(ssrc, 3, 0));
        }
        assert_eq!(quality.packets_lost(), SSRCS_PER_LEG_MAX as u64);
    }

    #[test]
    fn jitter_follows_rfc_3550() {
        let mut quality = Quality::default();
        for (ms, timestamp) in [(0, 0), (20, 160), (50, 320), (60, 480)] {
            quality.packet_received(Instant::from_unix_ms(1_000 + ms), &packet(1, 0, timestamp));
        }
        // |D| is 0, 10, 10 ms: J = 10/16, then J += (10 - J)/16.
        let expected = 0.625 + (10.0 - 0.625) / 16.0;
        assert!((quality.jitter_ms() - expected).abs() < 1e-9, "{}", quality.jitter_ms());
    }

    #[test]
    fn jitter_is_zero_where_the_clock_rate_is_unknown() {
        let mut quality = Quality::default();
        for ms in [0, 100, 101] {
            quality.packet_received(Instant::from_unix_ms(ms), &Header { payload_type: 111, ..packet(1, 0, 0) });
        }
        assert_eq!(quality.jitter_ms(), 0.0);
    }

    #[test]
    fn round_trip_is_dated_from_the_forwarded_report() {
        let mut quality = Quality::default();
        quality.sender_report_sent(Instant::from_unix_ms(1_000), 0xaabb_ccdd);
        quality.report_block_received(Instant::from_unix_ms(2_040), 0x1234_5678, 65_536);
        assert_eq!(quality.round_trip_ms(), None, "an unknown report dates nothing");
        quality.report_block_received(Instant::from_unix_ms(2_040), 0xaabb_ccdd, 65_536);
        assert!((quality.round_trip_ms().unwrap() - 40.0).abs() < 0.1);
    }

    #[test]
    fn a_report_block_without_a_report_or_from_the_future_is_harmless() {
        let mut quality = Quality::default();
        quality.report_block_received(Instant::from_unix_ms(1), 0, 0);
        assert_eq!(quality.round_trip_ms(), None);
        quality.sender_report_sent(Instant::from_unix_ms(1_000), 7);
        quality.report_block_received(Instant::from_unix_ms(1_001), 7, u32::MAX);
        assert_eq!(quality.round_trip_ms(), Some(0.0));
    }

    #[test]
    fn old_sender_reports_are_forgotten() {
        let mut quality = Quality::default();
        for ntp in 1..=u32::try_from(SENDER_REPORTS_MAX).unwrap() + 1 {
            quality.sender_report_sent(Instant::from_unix_ms(1_000), ntp);
        }
        quality.report_block_received(Instant::from_unix_ms(1_010), 1, 0);
        assert_eq!(quality.round_trip_ms(), None);
        quality.report_block_received(Instant::from_unix_ms(1_010), 2, 0);
        assert!(quality.round_trip_ms().is_some());
    }
}
