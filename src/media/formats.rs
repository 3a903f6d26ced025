//! What the packets of a media section may carry: each payload type with its codec and clock, as offer and answer settled.

use super::tone::Law;
use crate::{types::limits::FORMATS_PER_SECTION_MAX, wire::sdp::MediaSection};

/// What a payload type stands for, as far as anything here depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Codec {
    Pcmu,
    Pcma,
    G722,
    G723,
    G726At32,
    G728,
    G729,
    Gsm,
    GsmEfr,
    Amr,
    AmrWb,
    Evs,
    Ilbc,
    Opus,
    Speex,
    /// RFC 3389.
    ComfortNoise,
    /// RFC 4733: keys, whose packets repeat one timestamp.
    TelephoneEvent,
    /// Video, and whatever else passes unread.
    #[default]
    Other,
}

impl Codec {
    /// Encoding names as registered (RFC 3551 section 7 and the IANA registry of RTP payload formats).
    const NAMES: [(Self, &'static str); 17] = [
        (Self::Pcmu, "PCMU"),
        (Self::Pcma, "PCMA"),
        (Self::G722, "G722"),
        (Self::G723, "G723"),
        (Self::G726At32, "G726-32"),
        (Self::G728, "G728"),
        (Self::G729, "G729"),
        (Self::Gsm, "GSM"),
        (Self::GsmEfr, "GSM-EFR"),
        (Self::Amr, "AMR"),
        (Self::AmrWb, "AMR-WB"),
        (Self::Evs, "EVS"),
        (Self::Ilbc, "iLBC"),
        (Self::Opus, "opus"),
        (Self::Speex, "speex"),
        (Self::ComfortNoise, "CN"),
        (Self::TelephoneEvent, "telephone-event"),
    ];

    /// Names compare in any case (RFC 4855 section 3).
    fn from_name(name: &str) -> Self {
        let known = Self::NAMES.iter().find(|(_, known)| known.eq_ignore_ascii_case(name));
        known.map_or(Self::Other, |(codec, _)| *codec)
    }

    /// The registered name; `None` for what is not told apart.
    pub fn name(self) -> Option<&'static str> {
        Self::NAMES.iter().find(|(codec, _)| *codec == self).map(|(_, name)| *name)
    }

    /// Whether a packet with a payload of so many bytes says that its sender falls silent: fewer packets follow, or none,
    /// until somebody speaks.
    pub(super) const fn falls_silent(self, payload_bytes: usize) -> bool {
        match self {
            Self::ComfortNoise => true,
            // RFC 3551 section 4.5.6: frames of 10 bytes, the last of which may be a silence descriptor of 2 bytes.
            Self::G729 => payload_bytes % 10 == 2,
            // RFC 3551 section 4.5.3: frames of 24 or 20 bytes, a silence descriptor has 4.
            Self::G723 => payload_bytes == 4,
            // Their silence descriptors come several times a second: AMR each 160 ms (RFC 4867 section 4.1), Opus each 400 ms
            // (RFC 7587 section 3.1.3). What sends none has no silence of its own.
            Self::Pcmu
            | Self::Pcma
            | Self::G722
            | Self::G726At32
            | Self::G728
            | Self::Gsm
            | Self::GsmEfr
            | Self::Amr
            | Self::AmrWb
            | Self::Evs
            | Self::Ilbc
            | Self::Opus
            | Self::Speex
            | Self::TelephoneEvent
            | Self::Other => false,
        }
    }
}

/// Another clock under these names is another encoding (RFC 3551 section 4.5.14).
const G711_HZ: u32 = 8_000;

/// One payload type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Format {
    pub codec: Codec,
    /// 0 where it is not known: the stream has no jitter then.
    pub clock_hz: u32,
}

/// The payload types of one media section. Of more than [`FORMATS_PER_SECTION_MAX`] the rest is not told apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Formats(Box<[Entry]>);

/// Eight bytes: most legs have half a dozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    payload_type: u8,
    codec: Codec,
    clock_hz: u32,
}

/// Stands at the end for all that there was no room for.
const ANY_OTHER: u8 = 0xff;

impl Formats {
    /// What the sections on either side of one leg name. Where they give one number two meanings, the first section counts.
    pub fn of<'a>(sections: impl IntoIterator<Item = &'a MediaSection>) -> Self {
        let mut entries: Vec<Entry> = Vec::new();
        for section in sections {
            for (payload_type, format) in section.formats.iter().filter_map(|text| read(section, text)) {
                if find(&entries, payload_type).is_some() {
                    continue;
                }
                let has_room = entries.len() < FORMATS_PER_SECTION_MAX;
                let (payload_type, Format { codec, clock_hz }) =
                    if has_room { (payload_type, format) } else { (ANY_OTHER, Format::default()) };
                entries.push(Entry { payload_type, codec, clock_hz });
            }
        }
        Self(entries.into_boxed_slice())
    }

    /// What packets of this payload type carry; `None`: nobody has settled it.
    pub(super) fn find(&self, payload_type: u8) -> Option<Format> {
        find(&self.0, payload_type)
    }
}

/// The first payload type of an offer that is G.711 of one channel: the offerer likes it best of those.
pub fn g711(section: &MediaSection) -> Option<(u8, Law)> {
    let is_mono = |text: &str| {
        let channels = section.rtpmap(text).and_then(|rtpmap| rtpmap.split('/').nth(2));
        channels.is_none_or(|channels| channels.trim() == "1")
    };
    let g711 = |text: &str| {
        let (payload_type, format) = read(section, text).filter(|_| is_mono(text))?;
        let law = match format.codec {
            Codec::Pcmu => Law::Mu,
            Codec::Pcma => Law::A,
            _ => return None,
        };
        (format.clock_hz == G711_HZ).then_some((payload_type, law))
    };
    section.formats.iter().find_map(g711)
}

fn find(entries: &[Entry], payload_type: u8) -> Option<Format> {
    let entry = entries.iter().find(|entry| [payload_type, ANY_OTHER].contains(&entry.payload_type))?;
    Some(Format { codec: entry.codec, clock_hz: entry.clock_hz })
}

/// One format of an m-line; `None` if it is no payload type.
fn read(section: &MediaSection, text: &str) -> Option<(u8, Format)> {
    let payload_type = text.parse().ok().filter(|number| *number < 128)?;
    let format = match section.rtpmap(text) {
        Some(rtpmap) => {
            let mut parts = rtpmap.split('/');
            let codec = parts.next().map_or(Codec::Other, Codec::from_name);
            Format { codec, clock_hz: parts.next().and_then(|clock| clock.trim().parse().ok()).unwrap_or(0) }
        }
        None => static_format(payload_type),
    };
    Some((payload_type, format))
}

/// RFC 3551 tables 4 and 5: payload types that need no rtpmap.
fn static_format(payload_type: u8) -> Format {
    let codec = match payload_type {
        0 => Codec::Pcmu,
        3 => Codec::Gsm,
        4 => Codec::G723,
        8 => Codec::Pcma,
        9 => Codec::G722,
        13 => Codec::ComfortNoise,
        15 => Codec::G728,
        18 => Codec::G729,
        _ => Codec::Other,
    };
    let clock_hz = match payload_type {
        0 | 3..=5 | 7..=9 | 12 | 13 | 15 | 18 => 8_000,
        6 => 16_000,
        10 | 11 => 44_100,
        16 => 11_025,
        17 => 22_050,
        14 | 25 | 26 | 28 | 31..=34 => 90_000,
        _ => 0,
    };
    Format { codec, clock_hz }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::sdp;

    fn section(lines: &str) -> MediaSection {
        let body = format!("v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\nc=IN IP4 192.0.2.1\r\n{lines}");
        sdp::parse(body.as_bytes()).unwrap().media.remove(0)
    }

    fn format(codec: Codec, clock_hz: u32) -> Option<Format> {
        Some(Format { codec, clock_hz })
    }

    #[test]
    fn dynamic_and_static_payload_types_have_their_codec_and_clock() {
        let formats = Formats::of([&section(
            "m=audio 4000 RTP/AVP 0 9 18 13 96 101 97 98\r\na=rtpmap:96 OPUS/48000/2\r\n\
             a=rtpmap:101 telephone-event/8000\r\na=rtpmap:97 AMR-WB/16000\r\na=rtpmap:98 x-own/12000\r\n",
        )]);
        for (payload_type, expected) in [
            (0, format(Codec::Pcmu, 8_000)),
            // RFC 3551 section 4.5.2: its clock runs at half its sampling rate.
            (9, format(Codec::G722, 8_000)),
            (18, format(Codec::G729, 8_000)),
            (13, format(Codec::ComfortNoise, 8_000)),
            (96, format(Codec::Opus, 48_000)),
            (101, format(Codec::TelephoneEvent, 8_000)),
            (97, format(Codec::AmrWb, 16_000)),
            (98, format(Codec::Other, 12_000)),
            (8, None),
            (127, None),
        ] {
            assert_eq!(formats.find(payload_type), expected, "{payload_type}");
        }
    }

    #[test]
    fn both_sections_of_a_leg_count_and_the_first_decides() {
        let ours = section("m=audio 4000 RTP/AVP 96\r\na=rtpmap:96 opus/48000/2\r\n");
        let theirs = section("m=audio 4000 RTP/AVP 96 111\r\na=rtpmap:96 speex/16000\r\na=rtpmap:111 opus/48000/2\r\n");
        let formats = Formats::of([&ours, &theirs]);
        assert_eq!(formats.find(96), format(Codec::Opus, 48_000));
        assert_eq!(formats.find(111), format(Codec::Opus, 48_000));
    }

    #[test]
    fn what_is_no_payload_type_or_has_no_clock_is_harmless() {
        let formats = Formats::of([&section("m=audio 4000 RTP/AVP 128 x 96 97\r\na=rtpmap:97 opus/fast\r\n")]);
        assert_eq!(formats.find(96), format(Codec::Other, 0));
        assert_eq!(formats.find(97), format(Codec::Opus, 0));
        assert_eq!(formats.find(0), None);
    }

    #[test]
    fn the_last_format_there_is_room_for_is_told_apart_and_a_further_one_is_not() {
        let list = |count: usize| (0..count).map(|n| format!(" {n}")).collect::<String>();
        let full = Formats::of([&section(&format!("m=audio 4000 RTP/AVP{}\r\n", list(FORMATS_PER_SECTION_MAX)))]);
        let last = u8::try_from(FORMATS_PER_SECTION_MAX).unwrap() - 1;
        assert!(full.find(last).is_some());
        assert_eq!(full.find(last + 1), None);
        let over = Formats::of([&section(&format!("m=audio 4000 RTP/AVP{}\r\n", list(FORMATS_PER_SECTION_MAX + 1)))]);
        assert_eq!(over.find(last + 1), Some(Format::default()));
        assert_eq!(over.find(127), Some(Format::default()), "nobody can say that it was not settled");
    }

    #[test]
    fn silence_descriptors_are_known_by_codec_and_length() {
        for (codec, bytes, expected) in [
            (Codec::ComfortNoise, 1, true),
            (Codec::G729, 2, true),
            (Codec::G729, 12, true),
            (Codec::G729, 20, false),
            (Codec::G723, 4, true),
            (Codec::G723, 24, false),
            (Codec::G723, 20, false),
            (Codec::Pcmu, 2, false),
            (Codec::Opus, 1, false),
        ] {
            assert_eq!(codec.falls_silent(bytes), expected, "{codec:?} with {bytes} bytes");
        }
    }
}
