//! What a leg's peer delivered and how well: loss and jitter (RFC 3550 appendices A.3 and A.8), how loss is spread
//! (`bursts`), round trip (section 6.4.1), and what the peer says of what was delivered to it. Numbers only; no packet
//! content is kept. What each packet costs is integer arithmetic; what is made of it is worked out when somebody asks.

use std::mem;

use smallvec::SmallVec;

use crate::{
    types::{Instant, limits::SSRCS_MEASURED_MAX},
    wire::{
        rtcp::{ReportBlock, VoipMetrics},
        rtp::Header,
        srtp::Novelty,
    },
};

use super::{
    bursts::{Bursts, LossPattern},
    command::{BurstLoss, Delivery},
    emodel::{self, Listening},
    formats::{Codec, Format, Formats},
};

/// A jump forward of fewer sequence numbers is loss, a longer one a restart (RFC 3550 appendix A.1).
const DROPOUT_MAX: u16 = 3_000;
/// A packet late by no more sequence numbers is reordered, not a restart (RFC 3550 appendix A.1).
const MISORDER_MAX: u16 = 100;
/// Sender reports a peer's report block may still refer to; one is sent about every five seconds.
const SENDER_REPORTS_MAX: usize = 8;
/// More time between two packets says nothing of jitter, and would not fit its arithmetic.
const ARRIVALS_APART_NS_MAX: u64 = 60_000_000_000;
const NS_PER_S: u64 = 1_000_000_000;
/// Of the clock that dates reports, the middle 32 bits of an NTP timestamp (RFC 3550 section 4).
const REPORT_CLOCK_HZ: u32 = 1 << 16;

/// One leg's quality in both directions.
///
/// Laid out as declared, so that the first stream, mostly the only one, lies beside what is read before it.
#[derive(Clone, Debug, Default)]
#[repr(C)]
pub(super) struct Quality {
    /// The stream heard last, where the next packet most likely belongs.
    recent: u8,
    /// In units of the report clock.
    round_trip: Option<u32>,
    streams: SmallVec<[Stream; 1]>,
    /// Of streams that made room for others.
    former: Sums,
    /// The last first.
    sender_reports: [SenderReport; SENDER_REPORTS_MAX],
    far: Far,
}

/// One SSRC.
#[derive(Clone, Copy, Debug, Default)]
struct Stream {
    ssrc: u32,
    /// Sequence numbers, extended by their cycles; reordering below `first` is possible and harmless.
    first: u32,
    highest: u32,
    received: u32,
    /// Before the last restart.
    before: (u32, u32),
    /// After a jump, the number that would prove a restart.
    restart_at: Option<u16>,
    /// The payload type heard last, and what it stands for; looked up when another is heard.
    payload_type: Option<u8>,
    format: Option<Format>,
    /// Arrival and timestamp of the last packet whose clock ticks; `Instant::default()`: there is none.
    last: Instant,
    last_timestamp: u32,
    /// Sixteen times the jitter, in units of the clock, as in RFC 3550 appendix A.8.
    jitter_16: u32,
    /// Units of the clock from one packet to the next, where nothing is between them.
    packet_ticks: u32,
    bursts: Bursts,
}

/// What was lost and what was expected, over any number of streams.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    lost: u64,
    expected: u64,
    pattern: LossPattern,
}

/// A sender report forwarded to this leg's peer, by the middle 32 bits of its NTP timestamp.
#[derive(Clone, Copy, Debug, Default)]
struct SenderReport {
    ntp_middle: u32,
    /// On the report clock.
    sent: u32,
}

/// What the peer reports of the stream that it receives.
#[derive(Clone, Copy, Debug, Default)]
struct Far {
    reported: Option<Reported>,
    /// Of streams before the one reported now.
    lost_before: u64,
    voip: Option<VoipMetrics>,
}

#[derive(Clone, Copy, Debug)]
struct Reported {
    ssrc: u32,
    lost: u32,
    jitter_ticks: u32,
}

/// What an accepted packet tells of the talk, beyond that it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Media,
    /// The sender falls silent; less or nothing follows until somebody speaks.
    Silence,
    /// A payload type that nobody has settled: who receives it cannot play it.
    Unsettled,
}

impl Quality {
    /// Counts one accepted RTP packet, whose payload has so many bytes.
    pub(super) fn packet_received(
        &mut self,
        now: Instant,
        header: &Header,
        payload_bytes: usize,
        formats: &Formats,
    ) -> Heard {
        let stream = self.stream(header);
        let is_next = stream.count(header.sequence);
        stream.know_format(header.payload_type, formats);
        let Some(format) = stream.format else { return Heard::Unsettled };
        // The packets of a key bear the time of its beginning (RFC 4733 section 2.1).
        if format.clock_hz > 0 && format.codec != Codec::TelephoneEvent {
            stream.measure_jitter(now, header, format.clock_hz, is_next);
        }
        if format.codec.falls_silent(payload_bytes) { Heard::Silence } else { Heard::Media }
    }

    /// Whether this is a copy of a packet that has come lately. Two streams of one SSRC would look like that, but there are none.
    pub(super) fn is_copy(&self, header: &Header) -> bool {
        let known = self.streams.iter().find(|stream| stream.ssrc == header.ssrc);
        known.is_some_and(|stream| stream.bursts.is_here(low_16(stream.highest).wrapping_sub(header.sequence)))
    }

    /// What is known of a packet that is no copy of a recent one. Its stream begins anew when two packets in a row do (RFC 3550
    /// appendix A.1): late copies come between others, and taking one for a beginning would make the whole stream jump.
    pub(super) fn novelty(&self, header: &Header) -> Novelty {
        let known = self.streams.iter().find(|stream| stream.ssrc == header.ssrc);
        match known.is_none_or(|stream| stream.goes_on(header.sequence)) {
            true => Novelty::New,
            false => Novelty::Doubtful,
        }
    }

    /// The section's payload types may stand for something else now.
    pub(super) fn formats_changed(&mut self) {
        for stream in &mut self.streams {
            stream.payload_type = None;
        }
    }

    /// Remembers a sender report that was forwarded to the peer, unchanged, so that its report blocks can be dated.
    pub(super) fn sender_report_sent(&mut self, now: Instant, ntp_middle: u32) {
        self.sender_reports.rotate_right(1);
        self.sender_reports[0] = SenderReport { ntp_middle, sent: report_clock(now) };
    }

    /// Reads a report block of the peer (RFC 3550 section 6.4.1). The round trip is between this relay and the peer, since the
    /// report's way to the relay is not part of it. What the block says of loss counts if it is about `sent`, the stream that
    /// goes to the peer now.
    pub(super) fn report_block_received(&mut self, now: Instant, block: &ReportBlock, sent: Option<u32>) {
        let known = self.sender_reports.iter().find(|report| report.ntp_middle == block.last_sr);
        if let Some(report) = known.filter(|_| block.last_sr != 0) {
            let back_after = report_clock(now).wrapping_sub(report.sent);
            self.round_trip = Some(back_after.saturating_sub(block.delay_since_last_sr));
        }
        if sent == Some(block.ssrc) {
            let lost = u32::try_from(block.cumulative_lost).unwrap_or(0);
            let reported = Reported { ssrc: block.ssrc, lost, jitter_ticks: block.jitter };
            let former = self.far.reported.replace(reported).filter(|former| former.ssrc != block.ssrc);
            self.far.lost_before += former.map_or(0, |former| u64::from(former.lost));
        }
    }

    /// Takes what the peer reports of the call (RFC 3611 section 4.7), if it is about the stream that goes to it now.
    pub(super) fn voip_metrics_received(&mut self, metrics: VoipMetrics, sent: Option<u32>) {
        if sent == Some(metrics.ssrc) {
            self.far.voip = Some(metrics);
        }
    }

    /// The stream heard last.
    fn recent_ssrc(&self) -> Option<u32> {
        self.streams.get(usize::from(self.recent)).map(|stream| stream.ssrc)
    }

    /// What came from the peer.
    pub(super) fn received(&self) -> Delivery {
        let mut sums = self.former;
        self.streams.iter().for_each(|stream| sums.add(&stream.sums()));
        let stream = self.streams.get(usize::from(self.recent)).copied().unwrap_or_default();
        let codec = stream.format.map(|format| format.codec);
        let loss = ratio(sums.lost, sums.expected);
        let listening = Listening {
            loss,
            burst_ratio: sums.burst_ratio(),
            one_way_delay_ms: self.round_trip_ms().unwrap_or(0.0) / 2.0,
        };
        Delivery {
            packets_expected: sums.expected,
            packets_lost: sums.lost,
            jitter_ms: stream.jitter_ms(),
            bursts: sums.bursts(stream.packet_ms()),
            mos: codec.filter(|_| sums.expected > 0).and_then(|codec| emodel::mos(codec, &listening)),
            codec,
        }
    }

    /// What the peer says of the `packets_sent` packets that went to it, the last of them in this format and of this SSRC. `None`:
    /// it has said nothing.
    pub(super) fn sent(&self, packets_sent: u64, format: Option<Format>, ssrc: Option<u32>) -> Option<Delivery> {
        let Far { reported, lost_before, voip } = self.far;
        // Of another stream, perhaps of another partner's, it says nothing that still holds.
        let voip = voip.filter(|voip| Some(voip.ssrc) == ssrc);
        if reported.is_none() && voip.is_none() {
            return None;
        }
        let packets_lost = lost_before + reported.map_or(0, |reported| u64::from(reported.lost));
        let clock_hz = format.map_or(0, |format| format.clock_hz);
        let jitter_ms = reported.map_or(0.0, |reported| ticks_ms(reported.jitter_ticks, clock_hz));
        let codec = format.map(|format| format.codec);
        let listening = Listening {
            loss: ratio(packets_lost, packets_sent),
            burst_ratio: 1.0,
            one_way_delay_ms: self.round_trip_ms().unwrap_or(0.0) / 2.0,
        };
        let estimate = || codec.filter(|_| reported.is_some()).and_then(|codec| emodel::mos(codec, &listening));
        Some(Delivery {
            packets_expected: packets_sent,
            packets_lost,
            jitter_ms,
            bursts: voip.map(|voip| BurstLoss {
                burst_loss: f64::from(voip.burst_density) / 256.0,
                burst_ms: f64::from(voip.burst_duration_ms),
                gap_loss: f64::from(voip.gap_density) / 256.0,
                gap_ms: f64::from(voip.gap_duration_ms),
            }),
            // Who plays the stream knows more than can be worked out here.
            mos: voip.and_then(|voip| voip.mos_conversation.or(voip.mos_listening)).map(tenths).or_else(estimate),
            codec,
        })
    }

    pub(super) fn round_trip_ms(&self) -> Option<f64> {
        self.round_trip.map(|units| ticks_ms(units, REPORT_CLOCK_HZ))
    }

    fn stream(&mut self, header: &Header) -> &mut Stream {
        if self.recent_ssrc() != Some(header.ssrc) {
            let known = self.streams.iter().position(|stream| stream.ssrc == header.ssrc);
            let at = known.unwrap_or_else(|| self.start(header));
            self.recent = u8::try_from(at).expect("few streams are measured at a time");
        }
        &mut self.streams[usize::from(self.recent)]
    }

    /// Makes room for a new stream; where there is none, the one after the last heard gives way.
    fn start(&mut self, header: &Header) -> usize {
        if self.streams.len() < SSRCS_MEASURED_MAX {
            if self.streams.len() == self.streams.inline_size() {
                // The one allocation of a leg's life: at its second stream it makes room for all that are measured at once.
                self.streams.reserve_exact(SSRCS_MEASURED_MAX - 1);
            }
            self.streams.push(Stream::starting(header));
            return self.streams.len() - 1;
        }
        let next = (usize::from(self.recent) + 1) % SSRCS_MEASURED_MAX;
        self.former.add(&self.streams[next].sums());
        self.streams[next] = Stream::starting(header);
        next
    }
}

impl Stream {
    fn starting(header: &Header) -> Self {
        let first = u32::from(header.sequence);
        Self { ssrc: header.ssrc, first, highest: first, bursts: Bursts::starting(), ..Self::default() }
    }

    /// RFC 3550 appendix A.1 without its probation: the packet was accepted already. Returns whether it is the one after the
    /// highest.
    fn count(&mut self, sequence: u16) -> bool {
        let ahead = sequence.wrapping_sub(low_16(self.highest));
        if ahead == 0 {
            // The first packet, which the bursts have begun with, or a copy.
        } else if ahead < DROPOUT_MAX {
            self.highest = self.highest.wrapping_add(u32::from(ahead));
            self.bursts.advance(ahead);
        } else if ahead <= u16::MAX - MISORDER_MAX {
            if self.restart_at != Some(sequence) {
                self.restart_at = Some(sequence.wrapping_add(1));
                return false;
            }
            self.before = (self.lost(), self.expected());
            self.first = u32::from(sequence);
            self.highest = self.first;
            self.received = 0;
            self.bursts.restart();
        } else {
            self.bursts.late(ahead.wrapping_neg());
        }
        self.restart_at = None;
        self.received = self.received.wrapping_add(1);
        ahead == 1
    }

    /// Whether this number is ahead of those before it, or goes on where the one before it began anew.
    fn goes_on(&self, sequence: u16) -> bool {
        sequence.wrapping_sub(low_16(self.highest)) < DROPOUT_MAX || self.restart_at == Some(sequence)
    }

    fn know_format(&mut self, payload_type: u8, formats: &Formats) {
        if self.payload_type == Some(payload_type) {
            return;
        }
        let format = formats.find(payload_type);
        let clock_hz = |format: Option<Format>| format.map_or(0, |format| format.clock_hz);
        if clock_hz(format) != clock_hz(self.format) {
            // Timestamps of two clocks cannot be compared (RFC 7160), nor can what was measured by one.
            (self.last, self.jitter_16, self.packet_ticks) = (Instant::default(), 0, 0);
        }
        (self.payload_type, self.format) = (Some(payload_type), format);
    }

    /// RFC 3550 appendix A.8, in its integer form.
    fn measure_jitter(&mut self, now: Instant, header: &Header, clock_hz: u32, is_next: bool) {
        let last = mem::replace(&mut self.last, now);
        let last_timestamp = mem::replace(&mut self.last_timestamp, header.timestamp);
        let arrived_ns = now.unix_ns().saturating_sub(last.unix_ns());
        if last == Instant::default() || arrived_ns > ARRIVALS_APART_NS_MAX {
            return;
        }
        // Whoever writes the session description chooses the clock.
        let arrived = (arrived_ns.saturating_mul(clock_hz.into()) / NS_PER_S).cast_signed();
        let sampled = header.timestamp.wrapping_sub(last_timestamp).cast_signed();
        if is_next && sampled > 0 && !header.marker {
            self.packet_ticks = sampled.cast_unsigned();
        }
        let apart = u32::try_from((arrived - i64::from(sampled)).unsigned_abs()).unwrap_or(u32::MAX);
        self.jitter_16 = self.jitter_16.saturating_add(apart) - ((self.jitter_16.saturating_add(8)) >> 4);
    }

    fn clock_hz(&self) -> u32 {
        self.format.map_or(0, |format| format.clock_hz)
    }

    fn jitter_ms(&self) -> f64 {
        ticks_ms(self.jitter_16, self.clock_hz()) / 16.0
    }

    fn packet_ms(&self) -> f64 {
        ticks_ms(self.packet_ticks, self.clock_hz())
    }

    /// RFC 3550 appendix A.3; never negative, duplicates notwithstanding.
    const fn lost(&self) -> u32 {
        let missing = self.numbers().wrapping_sub(self.received).cast_signed();
        let missing = if missing > 0 { missing.cast_unsigned() } else { 0 };
        self.before.0.saturating_add(missing)
    }

    const fn expected(&self) -> u32 {
        self.before.1.saturating_add(self.numbers())
    }

    const fn numbers(&self) -> u32 {
        self.highest.wrapping_sub(self.first).wrapping_add(1)
    }

    fn sums(&self) -> Sums {
        Sums { lost: self.lost().into(), expected: self.expected().into(), pattern: self.bursts.pattern() }
    }
}

impl Sums {
    fn add(&mut self, other: &Self) {
        self.lost += other.lost;
        self.expected += other.expected;
        self.pattern.add(&other.pattern);
    }

    /// `None`: nothing was lost.
    fn bursts(&self, packet_ms: f64) -> Option<BurstLoss> {
        let LossPattern { bursts, burst_lost, burst_packets, gap_lost, gap_packets, .. } = self.pattern;
        // Gaps are what lies between bursts, and before and after them.
        let mean_ms = |packets: u32, periods: u32| f64::from(packets) * packet_ms / f64::from(periods.max(1));
        (burst_lost > 0 || gap_lost > 0).then(|| BurstLoss {
            burst_loss: ratio(burst_lost.into(), burst_packets.into()),
            burst_ms: mean_ms(burst_packets, bursts),
            gap_loss: ratio(gap_lost.into(), gap_packets.into()),
            gap_ms: mean_ms(gap_packets, bursts.saturating_add(1)),
        })
    }

    /// `BurstR`: the mean length of losses in a row, beside `1 / (1 - loss)`, which random loss would have (ITU-T G.107
    /// clause 7.5).
    fn burst_ratio(&self) -> f64 {
        let LossPattern { burst_lost, gap_lost, loss_runs, .. } = self.pattern;
        let mean = ratio(u64::from(burst_lost) + u64::from(gap_lost), loss_runs.into());
        mean * (1.0 - ratio(self.lost, self.expected))
    }
}

#[expect(clippy::cast_precision_loss, reason = "a ratio of counts needs no more than a few digits")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (part as f64 / whole as f64).min(1e9) }
}

fn ticks_ms(ticks: u32, clock_hz: u32) -> f64 {
    if clock_hz == 0 { 0.0 } else { f64::from(ticks) * 1_000.0 / f64::from(clock_hz) }
}

fn tenths(score: u8) -> f64 {
    f64::from(score) / 10.0
}

/// Wraps after 18 hours, as what is reported on this clock does.
#[expect(clippy::cast_possible_truncation, reason = "the low bits are what is asked for")]
const fn report_clock(now: Instant) -> u32 {
    let ns = now.unix_ns();
    (((ns / NS_PER_S) << 16) + ((ns % NS_PER_S) << 16) / NS_PER_S) as u32
}

#[expect(clippy::cast_possible_truncation, reason = "the low bits are what is asked for")]
const fn low_16(extended: u32) -> u16 {
    extended as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(ssrc: u32, sequence: u16, timestamp: u32) -> Header {
        Header { marker: false, payload_type: 0, sequence, timestamp, ssrc, has_padding: false, bytes: 12 }
    }

    fn formats() -> Formats {
        let body = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\nc=IN IP4 192.0.2.1\r\nm=audio 4000 RTP/AVP 0 13 18 96 101\r\n\
                     a=rtpmap:96 opus/48000/2\r\na=rtpmap:101 telephone-event/8000\r\n";
        Formats::of(&crate::wire::sdp::parse(body).unwrap().media)
    }

    fn hear(quality: &mut Quality, ms: u64, header: &Header) -> Heard {
        quality.packet_received(Instant::from_unix_ms(1_000 + ms), header, 160, &formats())
    }

    fn receive(sequences: impl IntoIterator<Item = u16>) -> Quality {
        let mut quality = Quality::default();
        for sequence in sequences {
            hear(&mut quality, 0, &packet(1, sequence, 0));
        }
        quality
    }

    fn lost(quality: &Quality) -> u64 {
        quality.received().packets_lost
    }

    fn report_block(last_sr: u32, delay_since_last_sr: u32) -> ReportBlock {
        ReportBlock {
            ssrc: 9,
            fraction_lost: 0,
            cumulative_lost: 0,
            highest_sequence: 0,
            jitter: 0,
            last_sr,
            delay_since_last_sr,
        }
    }

    fn dated(quality: &mut Quality, ms: u64, last_sr: u32, delay_since_last_sr: u32) {
        let now = Instant::from_unix_ms(ms);
        quality.report_block_received(now, &report_block(last_sr, delay_since_last_sr), None);
    }

    #[test]
    fn gaps_are_loss_and_late_packets_fill_them() {
        assert_eq!(lost(&receive([10, 11, 14])), 2);
        assert_eq!(lost(&receive([10, 11, 14, 12, 13])), 0);
    }

    #[test]
    fn the_sequence_number_may_wrap() {
        assert_eq!(lost(&receive([65_534, 65_535, 0, 2])), 1);
    }

    #[test]
    fn duplicates_and_packets_before_the_first_never_make_loss_negative() {
        assert_eq!(lost(&receive([10, 10, 10, 9])), 0);
    }

    #[test]
    fn a_restart_is_not_loss_but_earlier_loss_stays() {
        let quality = receive([10, 12, 30_000, 30_001, 30_003]);
        assert_eq!(lost(&quality), 2, "one before the restart, one after it");
        assert_eq!(
            quality.received().packets_expected,
            6,
            "10 to 12 and 30 001 to 30 003; 30 000 was not known to be good"
        );
    }

    #[test]
    fn a_copy_is_known_and_a_late_packet_is_none() {
        let quality = receive([10, 11, 13]);
        let copies: Vec<u16> = (0..20).filter(|n| quality.is_copy(&packet(1, *n, 0))).collect();
        assert_eq!(copies, [10, 11, 13]);
        assert!(!quality.is_copy(&packet(2, 10, 0)), "of another stream");
    }

    #[test]
    fn one_stray_number_is_no_restart() {
        assert_eq!(lost(&receive([10, 30_000, 11, 12])), 0);
    }

    #[test]
    fn loss_is_summed_over_streams_and_one_that_makes_room_is_not_forgotten() {
        let mut quality = Quality::default();
        let streams = u32::try_from(SSRCS_MEASURED_MAX).unwrap() + 3;
        for ssrc in 0..streams {
            hear(&mut quality, 0, &packet(ssrc, 1, 0));
            hear(&mut quality, 0, &packet(ssrc, 3, 0));
        }
        let delivery = quality.received();
        assert_eq!((delivery.packets_lost, delivery.packets_expected), (streams.into(), (3 * streams).into()));
    }

    #[test]
    fn streams_that_take_turns_are_each_one_stream() {
        let mut quality = Quality::default();
        for sequence in 0..50 {
            for ssrc in 0..u32::try_from(SSRCS_MEASURED_MAX).unwrap() {
                hear(&mut quality, 0, &packet(ssrc, sequence, 0));
            }
        }
        assert_eq!(quality.received().packets_expected, 50 * SSRCS_MEASURED_MAX as u64);
        assert_eq!(lost(&quality), 0);
    }

    #[test]
    fn jitter_follows_rfc_3550_in_the_clock_of_the_payload_type() {
        for (payload_type, ticks) in [(0, 160), (96, 960)] {
            let mut quality = Quality::default();
            for (n, ms) in [(0, 0), (1, 20), (2, 50), (3, 60)] {
                hear(&mut quality, ms, &Header { payload_type, ..packet(1, 0, n * ticks) });
            }
            // |D| is 0, 10, 10 ms: J = 10/16, then J += (10 - J)/16.
            let expected = 0.625 + (10.0 - 0.625) / 16.0;
            let jitter_ms = quality.received().jitter_ms;
            assert!((jitter_ms - expected).abs() < 0.005, "{payload_type}: {jitter_ms}");
        }
    }

    #[test]
    fn keys_and_unknown_clocks_have_no_jitter() {
        for payload_type in [101, 111] {
            let mut quality = Quality::default();
            for ms in [0, 100, 101] {
                hear(&mut quality, ms, &Header { payload_type, ..packet(1, 0, 0) });
            }
            assert_eq!(quality.received().jitter_ms, 0.0, "{payload_type}");
        }
    }

    #[test]
    fn no_two_arrivals_make_jitter_overflow() {
        let mut quality = Quality::default();
        for (ms, timestamp) in [(0, 0), (59_999, u32::MAX / 2), (120_000, 0), (u64::MAX / 2_000_000, 7), (5, u32::MAX)]
        {
            hear(&mut quality, ms, &Header { payload_type: 96, ..packet(1, 0, timestamp) });
        }
        assert!(quality.received().jitter_ms.is_finite());
    }

    #[test]
    fn no_clock_that_a_peer_may_claim_makes_jitter_overflow() {
        let body = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\nc=IN IP4 192.0.2.1\r\nm=audio 4000 RTP/AVP 97\r\n\
                     a=rtpmap:97 x/4294967295\r\n";
        let formats = Formats::of(&crate::wire::sdp::parse(body).unwrap().media);
        let mut quality = Quality::default();
        for (sequence, ms) in [(0, 0), (1, 59_999), (2, 64_000)] {
            let header = Header { payload_type: 97, ..packet(1, sequence, 0) };
            quality.packet_received(Instant::from_unix_ms(1_000 + ms), &header, 160, &formats);
        }
        assert!(quality.received().jitter_ms.is_finite());
    }

    #[test]
    fn no_number_of_losses_makes_the_summary_overflow() {
        let pattern = LossPattern {
            bursts: u32::MAX,
            burst_lost: u32::MAX,
            burst_packets: u32::MAX,
            gap_lost: u32::MAX,
            gap_packets: u32::MAX,
            loss_runs: u32::MAX,
        };
        let burst = Sums { pattern, ..Sums::default() }.bursts(20.0).unwrap();
        assert!((burst.burst_loss, burst.gap_loss) == (1.0, 1.0) && burst.gap_ms.is_finite(), "{burst:?}");
    }

    #[test]
    fn a_packet_tells_whether_it_carries_media_silence_or_what_nobody_settled() {
        let mut quality = Quality::default();
        for (payload_type, bytes, expected) in [
            (0, 160, Heard::Media),
            (13, 1, Heard::Silence),
            (18, 20, Heard::Media),
            (18, 2, Heard::Silence),
            (101, 4, Heard::Media),
            (8, 160, Heard::Unsettled),
        ] {
            let header = Header { payload_type, ..packet(1, 0, 0) };
            let heard = quality.packet_received(Instant::default(), &header, bytes, &formats());
            assert_eq!(heard, expected, "{payload_type}");
        }
    }

    #[test]
    fn what_a_payload_type_means_may_change() {
        let mut quality = Quality::default();
        assert_eq!(hear(&mut quality, 0, &packet(1, 0, 0)), Heard::Media);
        quality.formats_changed();
        let heard = quality.packet_received(Instant::default(), &packet(1, 1, 0), 160, &Formats::default());
        assert_eq!(heard, Heard::Unsettled);
    }

    #[test]
    fn bursts_have_their_length_by_the_time_between_packets() {
        let mut quality = Quality::default();
        for n in (0..1_000).filter(|n| !(500..510).contains(n) && *n != 800) {
            hear(&mut quality, u64::from(n) * 20, &packet(1, n, u32::from(n) * 160));
        }
        let delivery = quality.received();
        let expected =
            BurstLoss { burst_loss: 1.0, burst_ms: 200.0, gap_loss: 1.0 / 990.0, gap_ms: 990.0 * 20.0 / 2.0 };
        assert_eq!(delivery.bursts, Some(expected));
        assert_eq!((delivery.codec, delivery.packets_lost), (Some(Codec::Pcmu), 11));
        // 1.1 % in two rows of ten and of one: burstier than chance, so worse than the same loss at random.
        let random = Listening { loss: 0.011, burst_ratio: 1.0, one_way_delay_ms: 0.0 };
        let mos = delivery.mos.unwrap();
        assert!(mos < emodel::mos(Codec::Pcmu, &random).unwrap() && mos > 3.5, "{mos}");
    }

    #[test]
    fn without_loss_there_are_no_bursts() {
        let delivery = receive(0..100).received();
        assert_eq!(delivery.bursts, None);
        assert!(delivery.mos.is_some_and(|mos| mos > 4.4));
        assert_eq!(Quality::default().received(), Delivery::default());
    }

    #[test]
    fn what_the_peer_reports_counts_for_the_stream_that_goes_to_it() {
        let mut quality = Quality::default();
        let pcmu = formats().find(0);
        assert_eq!(quality.sent(1_000, pcmu, Some(9)), None);
        let now = Instant::default();
        let block = ReportBlock { cumulative_lost: 20, jitter: 80, ..report_block(0, 0) };
        quality.report_block_received(now, &block, Some(8));
        assert_eq!(quality.sent(1_000, pcmu, Some(9)), None, "about another stream");
        quality.report_block_received(now, &block, Some(9));
        let delivery = quality.sent(1_000, pcmu, Some(9)).unwrap();
        assert_eq!((delivery.packets_lost, delivery.jitter_ms, delivery.codec), (20, 10.0, Some(Codec::Pcmu)));
        let expected = emodel::mos(Codec::Pcmu, &Listening { loss: 0.02, burst_ratio: 1.0, one_way_delay_ms: 0.0 });
        assert_eq!(delivery.mos, expected);
        let next = ReportBlock { ssrc: 10, cumulative_lost: -3, ..block };
        quality.report_block_received(now, &next, Some(10));
        assert_eq!(quality.sent(1_000, pcmu, Some(10)).unwrap().packets_lost, 20, "that of the stream before stays");
    }

    #[test]
    fn what_the_peer_says_of_the_call_is_taken_before_an_estimate() {
        let mut quality = Quality::default();
        let metrics = VoipMetrics {
            ssrc: 9,
            burst_density: 128,
            gap_density: 64,
            burst_duration_ms: 120,
            gap_duration_ms: 9_000,
            mos_listening: Some(41),
            mos_conversation: None,
        };
        quality.voip_metrics_received(metrics, Some(8));
        assert_eq!(quality.sent(1_000, None, Some(9)), None, "about another stream");
        quality.voip_metrics_received(metrics, Some(9));
        assert_eq!(quality.sent(1_000, None, Some(10)), None, "the stream is another one now");
        let delivery = quality.sent(1_000, None, Some(9)).unwrap();
        assert_eq!(delivery.mos, Some(4.1));
        let expected = BurstLoss { burst_loss: 0.5, burst_ms: 120.0, gap_loss: 0.25, gap_ms: 9_000.0 };
        assert_eq!(delivery.bursts, Some(expected));
    }

    #[test]
    fn round_trip_is_dated_from_the_forwarded_report() {
        let mut quality = Quality::default();
        quality.sender_report_sent(Instant::from_unix_ms(1_000), 0xaabb_ccdd);
        dated(&mut quality, 2_040, 0x1234_5678, 65_536);
        assert_eq!(quality.round_trip_ms(), None, "an unknown report dates nothing");
        dated(&mut quality, 2_040, 0xaabb_ccdd, 65_536);
        assert!((quality.round_trip_ms().unwrap() - 40.0).abs() < 0.1);
    }

    #[test]
    fn a_report_block_without_a_report_or_from_the_future_is_harmless() {
        let mut quality = Quality::default();
        dated(&mut quality, 1, 0, 0);
        assert_eq!(quality.round_trip_ms(), None);
        quality.sender_report_sent(Instant::from_unix_ms(1_000), 7);
        dated(&mut quality, 1_001, 7, u32::MAX);
        assert_eq!(quality.round_trip_ms(), Some(0.0));
    }

    #[test]
    fn old_sender_reports_are_forgotten() {
        let mut quality = Quality::default();
        for ntp in 1..=u32::try_from(SENDER_REPORTS_MAX).unwrap() + 1 {
            quality.sender_report_sent(Instant::from_unix_ms(1_000), ntp);
        }
        dated(&mut quality, 1_010, 1, 0);
        assert_eq!(quality.round_trip_ms(), None);
        dated(&mut quality, 1_010, 2, 0);
        assert!(quality.round_trip_ms().is_some());
    }
}
