//! Text to [`Session`]. Lines this server has no use for are never looked at, so a fault in them costs no call.

use std::net::IpAddr;

use sdp_types::{Attribute, Connection, Media, ParserError};

use super::{
    Attributes, Crypto, Direction, MediaKind, MediaSection, Profile, SdpFault, Session,
    crypto::{self, Unusable},
};
use crate::types::limits::{CRYPTO_LINES_MAX, MEDIA_SECTIONS_MAX, SDP_FORMATS_MAX, SDP_LINES_MAX};

/// Attributes whose values are secret. They are neither kept nor relayed, because a kept one would show in `Debug`.
const SECRET_ATTRIBUTES: [&str; 2] = ["ice-pwd", "key-mgmt"];

/// Reads a description, tolerant of what phones get wrong (missing `s=` or `t=`, long ids, two `c=` lines).
pub fn parse(body: &[u8]) -> Result<Session, SdpFault> {
    let lines = Lines::read(body)?;
    let sdp = sdp_types::Session::parse(&lines.kept).map_err(|e| fault(&e))?;
    if sdp.medias.is_empty() {
        return Err(SdpFault::NoMedia);
    }
    if sdp.medias.len() > MEDIA_SECTIONS_MAX {
        return Err(SdpFault::TooManySections);
    }
    let mut media = sdp.medias.iter().map(|m| section(m, &sdp)).collect::<Result<Vec<_>, _>>()?;
    // Calls keep several of these, and most have one section where room was made for four.
    media.shrink_to_fit();
    Ok(Session {
        origin_id: lines.origin_id,
        origin_version: lines.origin_version,
        bandwidth: bandwidth(&sdp.bandwidths),
        media,
    })
}

/// The body's lines that matter here, ready for `sdp-types`.
#[derive(Default)]
struct Lines {
    /// `v=`, `c=`, `b=`, `m=` and `a=` lines, and lines that are not SDP at all for `sdp-types` to refuse.
    kept: Vec<u8>,
    origin_id: u64,
    origin_version: u64,
}

impl Lines {
    fn read(body: &[u8]) -> Result<Self, SdpFault> {
        let mut lines = Self::default();
        let mut is_in_media = false;
        let mut has_connection = false;
        let texts = body.split(|b| *b == b'\n').map(<[u8]>::trim_ascii_end).filter(|line| !line.is_empty());
        for (i, line) in texts.enumerate() {
            if i == SDP_LINES_MAX {
                return Err(SdpFault::TooManyLines);
            }
            match line {
                [b'o', b'=', value @ ..] => (lines.origin_id, lines.origin_version) = origin(value),
                [b'm', b'=', value @ ..] => {
                    is_in_media = true;
                    lines.keep(line);
                    // A rejected section without formats is common enough: `sdp-types` wants the space before them.
                    if value.iter().filter(|b| **b == b' ').count() == 2 {
                        lines.kept.insert(lines.kept.len() - 1, b' ');
                    }
                }
                // At session level `sdp-types` takes one only.
                [b'c', b'=', ..] => {
                    if is_in_media || !has_connection {
                        lines.keep(line);
                    }
                    has_connection |= !is_in_media;
                }
                [b'b', b'=', value @ ..] if !is_bandwidth(value) => {}
                [b'a', b'=', value @ ..] if std::str::from_utf8(value).is_err() => {}
                [b'v' | b'b' | b'a', b'=', ..] => lines.keep(line),
                [_, b'=', ..] => {}
                not_sdp => lines.keep(not_sdp),
            }
        }
        Ok(lines)
    }

    fn keep(&mut self, line: &[u8]) {
        self.kept.extend_from_slice(line);
        self.kept.push(b'\n');
    }
}

/// Id and version of an `o=` line, counted from its right end because some user names contain spaces. Nothing here
/// depends on them, so whatever cannot be read is 0.
fn origin(value: &[u8]) -> (u64, u64) {
    let mut fields = value.split(|b| *b == b' ').filter(|f| !f.is_empty()).rev().skip(3).map(|field| {
        let text = std::str::from_utf8(field).unwrap_or_default();
        text.parse().unwrap_or(0)
    });
    let version = fields.next().unwrap_or(0);
    (fields.next().unwrap_or(0), version)
}

/// `type:number`; anything else would make `sdp-types` refuse the whole body.
fn is_bandwidth(value: &[u8]) -> bool {
    std::str::from_utf8(value)
        .ok()
        .and_then(|text| text.split_once(':'))
        .is_some_and(|(kind, number)| !kind.is_empty() && number.parse::<u64>().is_ok())
}

fn bandwidth(lines: &[sdp_types::Bandwidth]) -> Vec<String> {
    lines.iter().map(|b| format!("{}:{}", b.bwtype, b.bandwidth)).collect()
}

fn section(media: &Media, sdp: &sdp_types::Session) -> Result<MediaSection, SdpFault> {
    let connection = media.connections.first().or(sdp.connection.as_ref());
    let is_used = media.port != 0;
    if is_used && connection.is_none() {
        return Err(SdpFault::BadConnection);
    }
    let direction = direction(&media.attributes).or_else(|| direction(&sdp.attributes));
    Ok(MediaSection {
        kind: MediaKind::from_text(&media.media),
        port: media.port,
        profile: Profile::from_text(&media.proto),
        formats: media.fmt.split_ascii_whitespace().take(SDP_FORMATS_MAX).collect(),
        address: connection.and_then(address),
        direction: direction.unwrap_or(Direction::SendRecv),
        rtcp: values(&media.attributes, "rtcp").next().and_then(rtcp),
        // RFC 8858 section 4.2: who offers `rtcp-mux-only` offers `rtcp-mux` with it, and an answer has only the latter.
        has_rtcp_mux: media.attributes.iter().any(|a| matches!(a.attribute.as_str(), "rtcp-mux" | "rtcp-mux-only")),
        crypto: if is_used { crypto_lines(&media.attributes)? } else { Vec::new() },
        bandwidth: bandwidth(&media.bandwidths),
        attributes: other_attributes(&media.attributes),
    })
}

/// A unicast address. A host name is not looked up: media goes where authenticated packets come from.
fn address(connection: &Connection) -> Option<IpAddr> {
    let literal = connection.connection_address.split('/').next()?;
    unicast(literal)
}

fn unicast(literal: &str) -> Option<IpAddr> {
    literal.parse::<IpAddr>().ok().map(|ip| ip.to_canonical()).filter(|ip| !ip.is_multicast())
}

/// The last one wins if there are several.
fn direction(attributes: &[Attribute]) -> Option<Direction> {
    attributes.iter().rev().find_map(|a| Direction::from_name(&a.attribute))
}

fn values<'a>(attributes: &'a [Attribute], name: &'static str) -> impl Iterator<Item = &'a str> {
    attributes.iter().filter(move |a| a.attribute == name).map(|a| a.value.as_deref().unwrap_or_default())
}

/// `port [nettype addrtype address]` (RFC 3605 section 2.1).
fn rtcp(value: &str) -> Option<(u16, Option<IpAddr>)> {
    let mut fields = value.split_ascii_whitespace();
    let port = fields.next()?.parse().ok().filter(|port| *port != 0)?;
    Some((port, fields.nth(2).and_then(unicast)))
}

/// Lines that cannot be used are passed over; none left where some were malformed is a fault of the body.
fn crypto_lines(attributes: &[Attribute]) -> Result<Vec<Crypto>, SdpFault> {
    let mut lines: Vec<Crypto> = Vec::new();
    let mut is_malformed = false;
    for value in values(attributes, "crypto").take(CRYPTO_LINES_MAX) {
        match crypto::parse(value) {
            // An answer names a line by its tag alone, so a second line under one tag cannot be chosen.
            Ok(line) if lines.iter().any(|l| l.tag == line.tag) => is_malformed = true,
            Ok(line) => lines.push(line),
            Err(Unusable::Malformed) => is_malformed = true,
            Err(Unusable::Unsupported) => {}
        }
    }
    if lines.is_empty() && is_malformed { Err(SdpFault::BadCrypto) } else { Ok(lines) }
}

fn other_attributes(attributes: &[Attribute]) -> Attributes {
    let is_typed = |name: &str| {
        matches!(name, "crypto" | "rtcp" | "rtcp-mux" | "rtcp-mux-only") || Direction::from_name(name).is_some()
    };
    attributes
        .iter()
        .filter(|a| !is_typed(&a.attribute) && !SECRET_ATTRIBUTES.contains(&a.attribute.as_str()))
        .map(|a| (&a.attribute, a.value.as_ref()))
        .collect()
}

/// `sdp-types` names the field it stopped at.
fn fault(error: &ParserError) -> SdpFault {
    let field = match error {
        ParserError::InvalidFieldEncoding(_, field)
        | ParserError::InvalidFieldFormat(_, field)
        | ParserError::MissingField(_, field)
        | ParserError::FieldTrailingData(_, field) => *field,
        _ => "",
    };
    if field.starts_with("Connection") {
        SdpFault::BadConnection
    } else if matches!(field, "Media port" | "Media num-ports") {
        SdpFault::BadPort
    } else {
        SdpFault::NotSdp
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{classify::Traffic, srtp::Suite};

    const KEY_30: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd";

    fn read(lines: &[&str]) -> Result<Session, SdpFault> {
        parse(lines.join("\r\n").as_bytes())
    }

    /// One section, under a complete session level.
    fn section(lines: &[&str]) -> Result<MediaSection, SdpFault> {
        let head = ["v=0", "o=- 1 1 IN IP4 192.0.2.1", "s=-", "c=IN IP4 192.0.2.1", "t=0 0"];
        read(&[&head, lines].concat()).map(|mut session| session.media.remove(0))
    }

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn a_phone_offer_is_read_whole() {
        let session = read(&[
            "v=0",
            "o=alice 2890844526 2890844527 IN IP4 192.0.2.1",
            "s=call",
            "c=IN IP4 192.0.2.1",
            "b=AS:128",
            "t=0 0",
            "a=recvonly",
            "m=audio 4000 RTP/SAVP 0 101",
            "a=rtpmap:101 telephone-event/8000",
            &format!("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEY_30}|2^31"),
            "a=rtcp:4100 IN IP4 192.0.2.9",
            "a=sendonly",
            "m=video 5000 RTP/AVPF 96",
            "c=IN IP6 2001:db8::1",
            "b=TIAS:64000",
            "a=rtcp-mux",
        ])
        .unwrap();
        assert_eq!((session.origin_id, session.origin_version), (2_890_844_526, 2_890_844_527));
        assert_eq!(session.bandwidth, ["AS:128"]);
        let [audio, video] = session.media.as_slice() else { panic!("two sections") };
        assert_eq!((&audio.kind, audio.port, &audio.profile), (&MediaKind::Audio, 4000, &Profile::Savp));
        assert!(audio.formats.iter().eq(["0", "101"]));
        assert_eq!(audio.address, ip("192.0.2.1"));
        assert_eq!(audio.direction, Direction::SendOnly);
        assert_eq!(audio.rtcp, Some((4100, ip("192.0.2.9"))));
        assert!(audio.attributes.iter().eq([("rtpmap", Some("101 telephone-event/8000"))]));
        assert_eq!(audio.crypto.len(), 1);
        assert!(!audio.has_rtcp_mux);
        assert_eq!(
            (&video.kind, &video.profile, video.address),
            (&MediaKind::Video, &Profile::Avpf, ip("2001:db8::1"))
        );
        assert_eq!(video.direction, Direction::RecvOnly, "the session level applies");
        assert_eq!(video.bandwidth, ["TIAS:64000"]);
        assert!(video.has_rtcp_mux && video.crypto.is_empty());
    }

    #[test]
    fn what_phones_get_wrong_is_forgiven() {
        let m = "m=audio 4000 RTP/AVP 0";
        let c = "c=IN IP4 192.0.2.1";
        for (what, lines) in [
            ("no s= and t=", vec!["v=0", "o=- 1 2 IN IP4 192.0.2.1", c, m]),
            ("no o=", vec!["v=0", "s=-", c, "t=0 0", m]),
            ("a user name with spaces", vec!["v=0", "o=Desk Phone 1 2 IN IP4 192.0.2.1", c, m]),
            (
                "ids of 20 and 30 digits",
                vec!["v=0", "o=- 18446744073709551615 999999999999999999999999999999 IN IP4 x", c, m],
            ),
            ("two c= lines", vec!["v=0", c, "c=IN IP4 198.51.100.7", m]),
            ("two c= lines in the section", vec!["v=0", m, c, "c=IN IP4 198.51.100.7"]),
            ("broken lines of no use", vec!["v=0", c, "t=now then", "z=1", "r=7d", "b=AS:", "k=clear:x", "y=1", m]),
            ("trailing space", vec!["v=0", c, "m=audio 4000 RTP/AVP 0 ", "a=sendrecv  "]),
        ] {
            let session = read(&lines).unwrap_or_else(|e| panic!("{what}: {e:?}"));
            assert_eq!(session.media[0].address, ip("192.0.2.1"), "{what}");
            assert!(session.media[0].formats.iter().eq(["0"]), "{what}");
            assert_eq!(session.media[0].direction, Direction::SendRecv, "{what}");
        }
    }

    #[test]
    fn ids_beyond_64_bits_read_as_zero() {
        let session = read(&[
            "v=0",
            "o=- 18446744073709551615 18446744073709551616 IN IP4 192.0.2.1",
            "c=IN IP4 192.0.2.1",
            "m=audio 4000 RTP/AVP 0",
        ]);
        let session = session.unwrap();
        assert_eq!((session.origin_id, session.origin_version), (u64::MAX, 0));
    }

    #[test]
    fn text_in_another_encoding_costs_only_its_line() {
        let body = b"v=0\ns=Caf\xe9\nc=IN IP4 192.0.2.1\nm=audio 4000 RTP/AVP 0\na=label:\xe9\na=ptime:20\n";
        let session = parse(body).unwrap();
        assert!(session.media[0].attributes.iter().eq([("ptime", Some("20"))]));
    }

    #[test]
    fn addresses_are_unicast_or_unknown() {
        for (line, expected) in [
            ("c=IN IP4 198.51.100.1", ip("198.51.100.1")),
            ("c=IN IP4 0.0.0.0", ip("0.0.0.0")),
            ("c=IN IP6 2001:db8::7", ip("2001:db8::7")),
            ("c=IN IP6 ::ffff:198.51.100.1", ip("198.51.100.1")),
            ("c=IN IP4 phone.example.com", None),
            ("c=IN IP4 233.252.0.1/127", None),
            ("c=IN IP6 ff15::101/3", None),
        ] {
            let section = section(&["m=audio 4000 RTP/AVP 0", line]).unwrap();
            assert_eq!(section.address, expected, "{line}");
        }
    }

    #[test]
    fn rtcp_attributes_are_read_or_passed_over() {
        for (line, expected) in [
            ("a=rtcp:53020", Some((53020, None))),
            ("a=rtcp:53020 IN IP6 2001:db8::4", Some((53020, ip("2001:db8::4")))),
            ("a=rtcp:53020 IN IP4 phone.example.com", Some((53020, None))),
            ("a=rtcp:0", None),
            ("a=rtcp:65536", None),
            ("a=rtcp", None),
        ] {
            assert_eq!(section(&["m=audio 4000 RTP/AVP 0", line]).unwrap().rtcp, expected, "{line}");
        }
    }

    #[test]
    fn every_fault_has_its_name() {
        let head = ["v=0", "c=IN IP4 192.0.2.1"];
        for (lines, fault) in [
            (vec![""], SdpFault::NotSdp),
            (vec!["hello"], SdpFault::NotSdp),
            (vec!["v=1", "c=IN IP4 192.0.2.1", "m=audio 4000 RTP/AVP 0"], SdpFault::NotSdp),
            ([&head[..], &["nonsense", "m=audio 4000 RTP/AVP 0"]].concat(), SdpFault::NotSdp),
            ([&head[..], &["m=audio 4000"]].concat(), SdpFault::NotSdp),
            (head.to_vec(), SdpFault::NoMedia),
            (vec!["v=0", "m=audio 4000 RTP/AVP 0"], SdpFault::BadConnection),
            (vec!["v=0", "c=IN IP4", "m=audio 4000 RTP/AVP 0"], SdpFault::BadConnection),
            ([&head[..], &["m=audio 65536 RTP/AVP 0"]].concat(), SdpFault::BadPort),
            ([&head[..], &["m=audio -1 RTP/AVP 0"]].concat(), SdpFault::BadPort),
            ([&head[..], &["m=audio 4000/x RTP/AVP 0"]].concat(), SdpFault::BadPort),
        ] {
            assert_eq!(read(&lines), Err(fault), "{lines:?}");
        }
    }

    #[test]
    fn a_rejected_section_needs_neither_connection_nor_formats() {
        let session = read(&["v=0", "m=video 0 RTP/AVP"]).unwrap();
        assert_eq!((session.media[0].port, session.media[0].address), (0, None));
        assert!(session.media[0].formats.is_empty());
    }

    #[test]
    fn unknown_and_unsupported_crypto_lines_are_passed_over() {
        let section = section(&[
            "m=audio 4000 RTP/SAVP 0",
            "a=crypto:1 F8_128_HMAC_SHA1_80 inline:AAAA",
            &format!("a=crypto:2 AES_CM_128_HMAC_SHA1_80 inline:{KEY_30} KDR=1"),
            &format!("a=crypto:3 AES_CM_128_HMAC_SHA1_80 inline:{}", &KEY_30[4..]),
            &format!("a=crypto:4 AES_CM_128_HMAC_SHA1_32 inline:{KEY_30}"),
            &format!("a=crypto:4 AES_CM_128_HMAC_SHA1_80 inline:{KEY_30}"),
        ])
        .unwrap();
        let lines: Vec<_> = section.crypto.iter().map(|c| (c.tag, c.suite)).collect();
        assert_eq!(lines, [(4, Suite::AesCm128HmacSha1_32)]);
        assert!(section.attributes.is_empty(), "no line is kept as text");
    }

    #[test]
    fn only_malformed_crypto_lines_are_a_fault_and_only_unknown_ones_are_none() {
        let malformed = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:AAAA";
        assert_eq!(section(&["m=audio 4000 RTP/SAVP 0", malformed]), Err(SdpFault::BadCrypto));
        assert!(section(&["m=audio 0 RTP/SAVP 0", malformed]).is_ok());
        let unknown = section(&["m=audio 4000 RTP/SAVP 0", "a=crypto:1 F8_128_HMAC_SHA1_80 inline:AAAA"]);
        assert_eq!(unknown.map(|s| s.crypto), Ok(Vec::new()));
    }

    #[test]
    fn secrets_are_not_kept_and_keys_do_not_show() {
        let section = section(&[
            "m=audio 4000 RTP/SAVP 0",
            &format!("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEY_30}"),
            "a=ice-pwd:asd88fgpdd777uzjYhagZg",
            "a=key-mgmt:mikey AQAFgM0XflABAAAA",
        ])
        .unwrap();
        let shown = format!("{section:?}");
        for secret in ["asd88f", "AQAFgM", "AAECAw", "[0, 1, 2"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }

    #[test]
    fn crypto_lines_beyond_the_limit_are_ignored() {
        let line = |tag| format!("a=crypto:{tag} AES_CM_128_HMAC_SHA1_80 inline:{KEY_30}");
        for count in [CRYPTO_LINES_MAX, CRYPTO_LINES_MAX + 1] {
            let lines: Vec<_> = (1..=count).map(line).collect();
            let refs: Vec<_> =
                ["m=audio 4000 RTP/SAVP 0"].into_iter().chain(lines.iter().map(String::as_str)).collect();
            assert_eq!(section(&refs).unwrap().crypto.len(), CRYPTO_LINES_MAX);
        }
    }

    #[test]
    fn sections_are_limited() {
        let of = |count| section(&vec!["m=audio 4000 RTP/AVP 0"; count]).map(|_| ());
        assert_eq!(of(MEDIA_SECTIONS_MAX), Ok(()));
        assert_eq!(of(MEDIA_SECTIONS_MAX + 1), Err(SdpFault::TooManySections));
    }

    #[test]
    fn formats_are_limited_and_further_ones_ignored() {
        let of = |count: usize| {
            section(&[&format!("m=audio 4000 RTP/AVP{}", " 1".repeat(count))]).unwrap().formats.iter().count()
        };
        assert_eq!(of(SDP_FORMATS_MAX), SDP_FORMATS_MAX);
        assert_eq!(of(SDP_FORMATS_MAX + 1), SDP_FORMATS_MAX);
    }

    #[test]
    fn what_a_section_carries_is_told_by_kind_and_transport() {
        for (line, expected) in [
            ("m=audio 4000 RTP/AVP 0", Some(Traffic::Rtp)),
            ("m=video 4000 RTP/SAVPF 96", Some(Traffic::Rtp)),
            ("m=image 4000 udptl t38", Some(Traffic::Datagrams)),
            ("m=image 4000 UDPTL t38", Some(Traffic::Datagrams)),
            ("m=application 4000 UDP/BFCP *", Some(Traffic::Datagrams)),
            ("m=image 4000 TCP t38", None),
            ("m=audio 4000 udptl t38", None),
            ("m=application 4000 TCP/BFCP *", None),
            ("m=application 4000 UDP/TLS/BFCP *", None),
            ("m=application 4000 RTP/AVP 100", None),
            ("m=message 4000 TCP/MSRP *", None),
            ("m=audio 4000 UDP/TLS/RTP/SAVPF 0", None),
        ] {
            assert_eq!(section(&[line]).unwrap().traffic(), expected, "{line}");
        }
    }

    #[test]
    fn lines_are_limited() {
        let of = |count: usize| {
            let mut lines = vec!["v=0", "c=IN IP4 192.0.2.1", "m=audio 4000 RTP/AVP 0"];
            lines.resize(count, "a=ptime:20");
            read(&lines).map(|_| ())
        };
        assert_eq!(of(SDP_LINES_MAX), Ok(()));
        assert_eq!(of(SDP_LINES_MAX + 1), Err(SdpFault::TooManyLines));
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(body: Vec<u8>) {
            let _ = parse(&body);
        }

        #[test]
        fn arbitrary_lines_never_panic(lines in proptest::collection::vec("[vocbmast]=[ -~]{0,40}", 0..20)) {
            let _ = parse(format!("v=0\r\n{}", lines.join("\r\n")).as_bytes());
        }

        #[test]
        fn arbitrary_crypto_lines_never_panic(line in "[0-9]{0,10} (AES_CM_128_HMAC_SHA1_80|X)? (inline:)?[A-Za-z0-9+/=|:;^ ]{0,60}") {
            let _ = section(&["m=audio 4000 RTP/SAVP 0", &format!("a=crypto:{line}")]);
        }
    }
}
