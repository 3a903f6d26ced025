//! [`Session`] to text: this server's own descriptions, with nothing in them that was not decided here.

use std::{
    fmt::{self, Write},
    net::IpAddr,
};

use super::{MediaSection, Session, crypto};

/// Attributes that describe the media itself and pass from one side to the other, because the relay forwards payload
/// types, payloads and header extensions unchanged (`extmap` ids are therefore true on both sides). Everything else
/// stays behind: `candidate`, `ice-*`, `fingerprint`, `setup`, `mid`, `ssrc`, and whatever is not known here.
const RELAYED_ATTRIBUTES: [&str; 18] = [
    "rtpmap",             // RFC 8866
    "fmtp",               // RFC 8866
    "ptime",              // RFC 8866
    "maxptime",           // RFC 8866
    "framerate",          // RFC 8866
    "lang",               // RFC 8866
    "rtcp-fb",            // RFC 4585
    "rtcp-xr",            // RFC 3611
    "imageattr",          // RFC 6236
    "label",              // RFC 4574
    "content",            // RFC 4796
    "extmap",             // RFC 8285
    "extmap-allow-mixed", // RFC 8285
    "floorctrl",          // RFC 8856
    "confid",             // RFC 8856
    "userid",             // RFC 8856
    "floorid",            // RFC 8856
    "bfcpver",            // RFC 8856
];

/// How the names of all attributes of fax begin (ITU-T T.38 annex D.2.3), which gateways write in any case.
const FAX_PREFIX: &str = "t38";

/// Encrypted header extensions (RFC 6904) are keyed by the SRTP master key of one leg and cannot cross to the other.
const ENCRYPTED_EXTENSION: &str = "urn:ietf:params:rtp-hdrext:encrypt";

/// Writes a description; `address` is this server's own and stands in `o=` and `c=`. A section whose address is
/// another one has its own `c=` line. A section with port 0 is its m-line only.
pub fn print(session: &Session, address: IpAddr) -> String {
    let mut out = String::with_capacity(1024);
    write_session(&mut out, session, address).expect("writing to a String cannot fail");
    out
}

fn write_session(out: &mut String, session: &Session, address: IpAddr) -> fmt::Result {
    let (id, version) = (session.origin_id, session.origin_version);
    write!(out, "v=0\r\no=ringdown {id} {version} IN {}\r\ns=-\r\n", typed(address))?;
    write!(out, "c=IN {}\r\n", typed(address))?;
    write_bandwidth(out, &session.bandwidth)?;
    out.push_str("t=0 0\r\n");
    session.media.iter().try_for_each(|section| write_section(out, section, address))
}

fn write_section(out: &mut String, section: &MediaSection, session_address: IpAddr) -> fmt::Result {
    write!(out, "m={} {} {}", section.kind.text(), section.port, section.profile.text())?;
    section.formats.iter().try_for_each(|format| write!(out, " {format}"))?;
    // The grammar wants at least one format, and a peer's rejected section may have had none.
    out.push_str(if section.formats.is_empty() { " 0\r\n" } else { "\r\n" });
    if section.port == 0 {
        return Ok(());
    }
    if let Some(own) = section.address.filter(|own| *own != session_address) {
        write!(out, "c=IN {}\r\n", typed(own))?;
    }
    write_bandwidth(out, &section.bandwidth)?;
    for (name, value) in section.attributes.iter().filter(|(name, value)| is_relayed(name, *value)) {
        match value {
            Some(value) => write!(out, "a={name}:{value}\r\n")?,
            None => write!(out, "a={name}\r\n")?,
        }
    }
    write!(out, "a={}\r\n", section.direction.name())?;
    if let Some((port, rtcp_address)) = section.rtcp {
        write!(out, "a=rtcp:{port}")?;
        rtcp_address.map_or(Ok(()), |ip| write!(out, " IN {}", typed(ip)))?;
        out.push_str("\r\n");
    }
    if section.has_rtcp_mux {
        out.push_str("a=rtcp-mux\r\n");
    }
    for line in &section.crypto {
        crypto::print(out, line);
        out.push_str("\r\n");
    }
    Ok(())
}

fn write_bandwidth(out: &mut String, lines: &[String]) -> fmt::Result {
    lines.iter().try_for_each(|line| write!(out, "b={line}\r\n"))
}

fn is_relayed(name: &str, value: Option<&str>) -> bool {
    let is_fax = name.get(..FAX_PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(FAX_PREFIX));
    (is_fax || RELAYED_ATTRIBUTES.contains(&name))
        && !(name == "extmap" && value.is_some_and(|value| value.contains(ENCRYPTED_EXTENSION)))
}

/// Address type and address, as `o=`, `c=` and `a=rtcp` write them.
fn typed(address: IpAddr) -> impl fmt::Display {
    fmt::from_fn(move |f| match address {
        IpAddr::V4(ip) => write!(f, "IP4 {ip}"),
        IpAddr::V6(ip) => write!(f, "IP6 {ip}"),
    })
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, option, prelude::*};

    use super::*;
    use crate::wire::{
        sdp::{Attributes, Crypto, Direction, FormatNames, MediaKind, Profile, parse},
        srtp::{MasterKey, Suite},
    };

    const OWN: &str = "192.0.2.10";

    fn own() -> IpAddr {
        OWN.parse().unwrap()
    }

    fn plain_audio() -> MediaSection {
        MediaSection {
            kind: MediaKind::Audio,
            port: 20_000,
            profile: Profile::Avp,
            formats: ["0"].into_iter().collect(),
            address: Some(own()),
            direction: Direction::SendRecv,
            rtcp: None,
            has_rtcp_mux: false,
            crypto: Vec::new(),
            bandwidth: Vec::new(),
            attributes: Attributes::default(),
        }
    }

    fn session(media: Vec<MediaSection>) -> Session {
        Session { origin_id: 7, origin_version: 2, bandwidth: Vec::new(), media }
    }

    #[test]
    fn a_description_is_exactly_this_text() {
        let mut audio = plain_audio();
        audio.attributes = [("rtpmap", Some("0 PCMU/8000"))].into_iter().collect();
        audio.has_rtcp_mux = true;
        audio.bandwidth = vec!["TIAS:64000".to_owned()];
        let video = MediaSection { port: 0, kind: MediaKind::Video, ..plain_audio() };
        let other: IpAddr = "2001:db8::1".parse().unwrap();
        let elsewhere = MediaSection { address: Some(other), rtcp: Some((20_005, Some(other))), ..plain_audio() };
        assert_eq!(
            print(&session(vec![audio, video, elsewhere]), own()),
            "v=0\r\no=ringdown 7 2 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\n\
             m=audio 20000 RTP/AVP 0\r\nb=TIAS:64000\r\na=rtpmap:0 PCMU/8000\r\na=sendrecv\r\na=rtcp-mux\r\n\
             m=video 0 RTP/AVP 0\r\n\
             m=audio 20000 RTP/AVP 0\r\nc=IN IP6 2001:db8::1\r\na=sendrecv\r\na=rtcp:20005 IN IP6 2001:db8::1\r\n"
        );
    }

    #[test]
    fn a_rejected_section_without_formats_is_still_valid() {
        let rejected = MediaSection { port: 0, formats: FormatNames::default(), ..plain_audio() };
        assert!(print(&session(vec![rejected]), own()).ends_with("m=audio 0 RTP/AVP 0\r\n"));
    }

    #[test]
    fn nothing_of_the_other_side_s_network_is_printed() {
        let mut audio = plain_audio();
        audio.attributes = [
            "candidate",
            "ice-ufrag",
            "ice-pwd",
            "ice-lite",
            "ice-options",
            "fingerprint",
            "setup",
            "mid",
            "ssrc",
            "group",
            "msid",
            "rtcp-rsize",
            "tool",
            "X-private",
            "crypto",
            "rtcp",
            "sendonly",
            "key-mgmt",
            "alt",
            "remote-candidates",
        ]
        .map(|name| (name, Some("CANARY")))
        .into_iter()
        .collect();
        let bare = print(&session(vec![plain_audio()]), own());
        assert_eq!(print(&session(vec![audio]), own()), bare);
    }

    #[test]
    fn what_feedback_and_reports_a_peer_offers_passes() {
        let mut audio = plain_audio();
        audio.attributes = [("rtcp-fb", "0 nack"), ("rtcp-xr", "voip-metrics")]
            .map(|(name, value)| (name, Some(value)))
            .into_iter()
            .collect();
        let text = print(&session(vec![audio]), own());
        assert!(text.contains("a=rtcp-fb:0 nack\r\n") && text.contains("a=rtcp-xr:voip-metrics\r\n"), "{text}");
    }

    #[test]
    fn header_extensions_pass_unless_encrypted_under_the_other_leg_s_key() {
        let mut audio = plain_audio();
        audio.attributes =
            ["1 urn:ietf:params:rtp-hdrext:ssrc-audio-level", "2 urn:ietf:params:rtp-hdrext:encrypt urn:x"]
                .map(|value| ("extmap", Some(value)))
                .into_iter()
                .collect();
        let text = print(&session(vec![audio]), own());
        assert!(text.contains("a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\n"));
        assert!(!text.contains("encrypt"));
    }

    #[test]
    fn what_fax_and_floor_control_agree_on_passes() {
        for name in ["T38FaxVersion", "T38FaxUdpEC", "t38faxratemanagement", "T38MaxBitRate", "floorctrl", "confid"] {
            let fax = MediaSection { attributes: [(name, Some("0"))].into_iter().collect(), ..plain_audio() };
            assert!(print(&session(vec![fax]), own()).contains(&format!("a={name}:0\r\n")), "{name}");
        }
    }

    fn an_address() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            (1..=223_u8, any::<[u8; 3]>()).prop_map(|(a, [b, c, d])| IpAddr::from([a, b, c, d])),
            any::<[u8; 14]>().prop_map(|rest| {
                let mut octets = [0x20; 16];
                octets[2..].copy_from_slice(&rest);
                IpAddr::from(octets)
            }),
        ]
    }

    fn a_crypto_line(tag: u32) -> impl Strategy<Value = Crypto> {
        (0..Suite::ALL.len(), vec(any::<u8>(), 46)).prop_map(move |(i, mut bytes)| {
            let suite = Suite::ALL[i];
            bytes.truncate(suite.key_bytes() + suite.salt_bytes());
            let key = MasterKey::new(suite, bytes).unwrap();
            Crypto { tag, suite, suite_text: suite.name().into(), key, mki_bytes: 0, is_weakened: false }
        })
    }

    fn an_attribute() -> impl Strategy<Value = (String, Option<String>)> {
        let name = proptest::sample::select(RELAYED_ATTRIBUTES.to_vec());
        (name, option::of("[!-~]([ -~]{0,20}[!-~])?")).prop_map(|(name, value)| (name.to_owned(), value))
    }

    fn a_section() -> impl Strategy<Value = MediaSection> {
        let kind = prop_oneof![
            Just(MediaKind::Audio),
            Just(MediaKind::Video),
            "[a-z]{6,9}".prop_map(MediaKind::Other) // longer than either name above
        ];
        let profile = prop_oneof![
            (any::<bool>(), any::<bool>()).prop_map(|(secure, feedback)| Profile::rtp(secure, feedback)),
            Just(Profile::Other("udptl".to_owned()))
        ];
        let m_line = (kind, any::<u16>(), profile, vec("[0-9a-z]{1,4}", 1..5));
        let direction = (any::<bool>(), any::<bool>()).prop_map(|(sends, receives)| Direction::new(sends, receives));
        let rtcp = option::of((1..=u16::MAX, option::of(an_address())));
        let crypto = (option::of(a_crypto_line(1)), option::of(a_crypto_line(2)));
        let rest = (direction, rtcp, any::<bool>(), crypto, vec("[A-Z]{2,4}:[1-9][0-9]{0,6}", 0..3));
        (m_line, an_address(), rest, vec(an_attribute(), 0..6)).prop_map(|(m, address, rest, attributes)| {
            MediaSection {
                kind: m.0,
                port: m.1,
                profile: m.2,
                formats: m.3.into_iter().collect(),
                address: Some(address),
                direction: rest.0,
                rtcp: rest.1,
                has_rtcp_mux: rest.2,
                crypto: rest.3.0.into_iter().chain(rest.3.1).collect(),
                bandwidth: rest.4,
                attributes: attributes.into_iter().collect(),
            }
        })
    }

    /// What is left of a section with port 0: its m-line, under the session's address.
    fn bare_if_rejected(section: MediaSection) -> MediaSection {
        if section.port != 0 {
            return section;
        }
        let (kind, profile, formats) = (section.kind, section.profile, section.formats);
        MediaSection { kind, port: 0, profile, formats, ..plain_audio() }
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back_the_same(
            origin: (u64, u64),
            bandwidth in vec("[A-Z]{2,4}:[1-9][0-9]{0,6}", 0..3),
            media in vec(a_section(), 1..=8),
        ) {
            let media: Vec<_> = media.into_iter().map(bare_if_rejected).collect();
            let session = Session { origin_id: origin.0, origin_version: origin.1, bandwidth, media };
            prop_assert_eq!(parse(print(&session, own()).as_bytes()), Ok(session));
        }
    }
}
