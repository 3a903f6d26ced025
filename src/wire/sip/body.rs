//! The session description in a body, alone or as a part of a multipart body (RFC 5621).

use std::ops::Range;

use memchr::memmem;

use super::{Name, headers::Params, scan};

/// Where the `application/sdp` text stands in `body`. Only the top level of a multipart body is searched.
pub(super) fn sdp(content_type: &str, body: &[u8]) -> Option<Range<usize>> {
    find(content_type, body, is_sdp)
}

/// Whether `body` holds what is said about a recording session (RFC 7865 section 6, RFC 7866 section 13), at the same
/// places.
pub(super) fn has_recording_metadata(content_type: &str, body: &[u8]) -> bool {
    find(content_type, body, is_recording_metadata).is_some()
}

/// The content whose type is wanted: the whole body, or the first such part.
fn find(content_type: &str, body: &[u8], is_wanted: fn(&str) -> bool) -> Option<Range<usize>> {
    let (media_type, params) = split_type(content_type);
    if is_wanted(media_type) {
        return Some(0..body.len());
    }
    let is_multipart = media_type.get(..10).is_some_and(|prefix| prefix.eq_ignore_ascii_case("multipart/"));
    let boundary = params.get("boundary").filter(|_| is_multipart)?;
    parts(body, boundary).find_map(|part| content_of(body, part, is_wanted))
}

fn split_type(content_type: &str) -> (&str, Params<'_>) {
    let (media_type, params) = content_type.split_at(content_type.find(';').unwrap_or(content_type.len()));
    (scan::trim(media_type), Params { text: params })
}

fn is_sdp(media_type: &str) -> bool {
    media_type.eq_ignore_ascii_case("application/sdp")
}

/// `application/rs-metadata+xml`, and the request for it.
fn is_recording_metadata(media_type: &str) -> bool {
    const BEGIN: &str = "application/rs-metadata";
    media_type.get(..BEGIN.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(BEGIN))
}

/// The parts between delimiters, headers included (RFC 2046 section 5.1.1). The line break before a delimiter is part of it.
fn parts<'a>(body: &'a [u8], boundary: &str) -> impl Iterator<Item = Range<usize>> + use<'a> {
    let delimiter = [b"--", boundary.as_bytes()].concat();
    let mut start = (!boundary.is_empty()).then(|| next_delimiter(body, 0, &delimiter)).flatten().map(|d| d.end);
    std::iter::from_fn(move || {
        let from = start?;
        let next = next_delimiter(body, from, &delimiter)?;
        start = Some(next.end);
        Some(from..next.start)
    })
}

/// The next delimiter that stands at the start of a line, its leading CRLF included.
fn next_delimiter(body: &[u8], from: usize, delimiter: &[u8]) -> Option<Range<usize>> {
    let mut at = from;
    loop {
        at += memmem::find(body.get(at..)?, delimiter)?;
        let end = at + delimiter.len();
        if at == 0 {
            return Some(0..end);
        }
        if body[..at].ends_with(b"\r\n") {
            return Some((at - 2).max(from)..end);
        }
        at = end;
    }
}

/// The content of a part if its type is wanted. `part` starts right behind its delimiter.
fn content_of(body: &[u8], part: Range<usize>, is_wanted: fn(&str) -> bool) -> Option<Range<usize>> {
    let headers = scan::line(&body[..part.end], part.start)?.next;
    let text = &body[headers..part.end];
    let is_it = scan::fields(text, 0)
        .filter(|(name, _)| Name::from_bytes(name) == Name::ContentType)
        .any(|(_, value)| std::str::from_utf8(value).is_ok_and(|value| is_wanted(split_type(value).0)));
    let content = if text.starts_with(b"\r\n") { 2 } else { memmem::find(text, b"\r\n\r\n")? + 4 };
    is_it.then_some(headers + content..part.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found<'a>(content_type: &str, body: &'a str) -> Option<&'a str> {
        sdp(content_type, body.as_bytes()).map(|range| &body[range])
    }

    #[test]
    fn a_whole_body_is_found_by_its_type_without_case() {
        assert_eq!(found("Application/SDP ; x=1", "v=0\r\n"), Some("v=0\r\n"));
        assert_eq!(found("text/plain", "v=0\r\n"), None);
    }

    #[test]
    fn the_sdp_part_of_a_multipart_body_is_found_behind_other_parts() {
        let body = "preamble\r\n--b1\r\nContent-Type: application/pidf+xml\r\n\r\n<a>--b1</a>\r\n\
                    --b1\r\nc:\r\n application/sdp\r\nContent-Disposition: session\r\n\r\nv=0\r\ns=-\r\n--b1--\r\n";
        for boundary in ["b1", "\"b1\""] {
            assert_eq!(found(&format!("multipart/mixed;boundary={boundary}"), body), Some("v=0\r\ns=-"));
        }
    }

    #[test]
    fn what_is_said_about_a_recording_is_found_alone_and_beside_a_session_description() {
        let has = |content_type: &str, body: &str| has_recording_metadata(content_type, body.as_bytes());
        for own in ["application/rs-metadata+xml", "Application/RS-Metadata-Request; x=1", "application/rs-metadata"] {
            assert!(has(own, "x"), "{own}");
        }
        let body = "--b\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n--b\r\nContent-Type: application/rs-metadata+xml\r\n\
                    Content-Disposition: recording-session\r\n\r\n<recording/>\r\n--b--\r\n";
        assert!(has("multipart/mixed;boundary=b", body));
        assert!(!has("multipart/mixed;boundary=b", &body.replace("rs-metadata", "pidf")));
        assert!(!has("application/sdp", "v=0") && !has("application/rs", "x"));
    }

    #[test]
    fn a_multipart_body_without_boundary_end_or_sdp_has_none() {
        for body in [
            "--b\r\nContent-Type: application/sdp\r\n\r\nv=0",
            "--b\r\n\r\nv=0\r\n--b--",
            "",
            "--b",
            "--b--b--b",
            "--b\r\n--b",
        ] {
            assert_eq!(found("multipart/mixed;boundary=b", body), None, "{body:?}");
        }
        assert_eq!(found("multipart/mixed", "--\r\nc:application/sdp\r\n\r\nv=0\r\n--"), None);
        assert_eq!(found("multipart/mixed;boundary=\"\"", "--\r\nc:application/sdp\r\n\r\nv=0\r\n--"), None);
    }
}
