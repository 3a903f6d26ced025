//! [`Session`] to text: this server's own descriptions, with nothing in them that was not decided here.

use std::{fmt::Write, net::IpAddr};

use super::{MediaSection, Session, crypto};

/// Attributes that describe the media itself and pass from one side to the other, because the relay forwards payload
/// types, payloads and header extensions unchanged (`extmap` ids are therefore true on both sides). Everything else
/// stays behind: `candidate`, `ice-*`, `fingerprint`, `setup`, `mid`, `ssrc`, and whatever is not known here.
const RELAYED_ATTRIBUTES: [&str; 12] = [
    "rtpmap",             // RFC 8866
    "fmtp",               // RFC 8866
    "ptime",              // RFC 8866
    "maxptime",           // RFC 8866
    "framerate",          // RFC 8866
    "lang",               // RFC 8866
    "rtcp-fb",            // RFC 4585
    "imageattr",          // RFC 6236
    "label",              // RFC 4574
    "content",            // RFC 4796
    "extmap",             // RFC 8285
    "extmap-allow-mixed", // RFC 8285
];

/// Encrypted header extensions (RFC 6904) are keyed by the SRTP master key of one leg and cannot cross to the other.
const ENCRYPTED_EXTENSION: &str = "urn:ietf:params:rtp-hdrext:encrypt";

/// Writes a description; `address` is this server's own and stands in `o=` and `c=`. A section whose address is
/// another one has its own `c=` line. A section with port 0 is its m-line only.
pub fn print(session: &Session, address: IpAddr) -> String {
    let mut out = String::with_capacity(1024);
    write_session(&mut out, session, address).expect("writing to a String cannot fail");
    out
}

fn write_session(out: &mut String, session: &Session, address: IpAddr) -> std::fmt::Result {
    let (id, version) = (session.origin_id, session.origin_version);
    write!(out, "v=0\r\no=ringdown {id} {version} IN {}\r\ns=-\r\n", typed(address))?;
    write!(out, "c=IN {}\r\n", typed(address))?;
    write_bandwidth(out, &session.bandwidth)?;
    out.push_str("t=0 0\r\n");
    session.media.iter().try_for_each(|section| write_section(out, section, address))
}

fn write_section(out: &mut String, section: &MediaSection, session_address: IpAddr) -> std::fmt::Result {
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
    for (name, value) in section.attributes.iter().filter(|(name, value)| is_relayed(name, value.as_deref())) {
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

fn write_bandwidth(out: &mut String, lines: &[String]) -> std::fmt::Result {
    lines.iter().try_for_each(|line| write!(out, "b={line}\r\n"))
}

fn is_relayed(name: &str, value: Option<&str>) -> bool {
    RELAYED_ATTRIBUTES.contains(&name)
        && !(name == "extmap" && value.is_some_and(|value| value.contains(ENCRYPTED_EXTENSION)))
}

/// Address type and address, as `o=`, `c=` and `a=rtcp` write them.
fn typed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(ip) => format!("IP4 {ip}"),
        IpAddr::V6(ip) => format!("IP6 {ip}"),
    }
}
