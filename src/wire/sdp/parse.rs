//! Text to [`Session`]. Lines this server has no use for are never looked at, so a fault in them costs no call.

use std::net::IpAddr;

use sdp_types::{Attribute, Connection, Media, ParserError};

use super::{
    Crypto, Direction, MediaKind, MediaSection, Profile, SdpFault, Session,
    crypto::{self, Unusable},
};
use crate::types::limits::{CRYPTO_LINES_MAX, MEDIA_SECTIONS_MAX, SDP_LINES_MAX};

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
    let media = sdp.medias.iter().map(|m| section(m, &sdp)).collect::<Result<_, _>>()?;
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
        formats: media.fmt.split_ascii_whitespace().map(str::to_owned).collect(),
        address: connection.and_then(address),
        direction: direction.unwrap_or(Direction::SendRecv),
        rtcp: values(&media.attributes, "rtcp").next().and_then(rtcp),
        has_rtcp_mux: media.attributes.iter().any(|a| a.attribute == "rtcp-mux"),
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

fn other_attributes(attributes: &[Attribute]) -> Vec<(String, Option<String>)> {
    let is_typed = |name: &str| matches!(name, "crypto" | "rtcp" | "rtcp-mux") || Direction::from_name(name).is_some();
    attributes
        .iter()
        .filter(|a| !is_typed(&a.attribute) && !SECRET_ATTRIBUTES.contains(&a.attribute.as_str()))
        .map(|a| (a.attribute.clone(), a.value.clone()))
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
