//! What a response needs, out of a message that cannot be indexed.

use super::{Message, Name, scan};
use crate::types::limits::SIP_HEADERS_MAX;

/// Recovers a request for one purpose: to be answered with the fault that [`Message::parse`] or the framer found.
///
/// Keeps the request line and the headers that a response copies (RFC 3261 section 8.2.6.2) as far as they can be read,
/// with or without CRLF, header end or UTF-8 elsewhere. `None` for a response, an ACK, or without a readable Via.
/// Nothing may be decided from what it returns but where the answer goes.
pub fn salvage(bytes: &[u8]) -> Option<Message> {
    let from = bytes.iter().position(|b| !matches!(b, b'\r' | b'\n'))?;
    let bytes = &bytes[from..];
    let start_line = scan::line(bytes, 0)?;
    let mut clean = String::new();
    push_clean(&mut clean, "", &bytes[..start_line.end]);
    scan::fields(bytes, start_line.next)
        .filter_map(|(name, value)| Some((copied_name(name)?, value)))
        .take(SIP_HEADERS_MAX)
        .for_each(|(name, value)| push_clean(&mut clean, name, value));
    clean.push_str("\r\n");
    Message::parse(clean.into()).ok().filter(Message::is_answerable)
}

/// The long name, with its colon, of a header that a response copies.
fn copied_name(name: &[u8]) -> Option<&'static str> {
    match Name::from_bytes(name) {
        Name::Via => Some("Via: "),
        Name::From => Some("From: "),
        Name::To => Some("To: "),
        Name::CallId => Some("Call-ID: "),
        Name::CSeq => Some("CSeq: "),
        _ => None,
    }
}

/// Appends a line, its control characters as spaces and whatever is not UTF-8 as U+FFFD.
fn push_clean(out: &mut String, name: &str, value: &[u8]) {
    out.push_str(name);
    out.extend(String::from_utf8_lossy(value).chars().map(|c| if c.is_control() { ' ' } else { c }));
    out.push_str("\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    const LF_ONLY: &str = "INVITE sip:a@example.com SIP/2.0\nv: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\nVia: SIP/2.0/UDP\n 192.0.2.2\n\
                           From: <sip:b@example.com>;tag=1\nTo: <sip:a@example.com>\nX: y\nCall-ID: 2\nCSeq: 3 INVITE\n\n";

    fn assert_recovered(message: &Message) {
        assert_eq!(message.via().unwrap().branch(), Some("z9hG4bK1"));
        assert_eq!(message.values(Name::Via).count(), 2);
        assert_eq!((message.call_id(), message.from_tag()), ("2", Some("1")));
        assert_eq!(message.header_text("X"), None);
    }

    #[test]
    fn bare_line_feeds_do_not_prevent_an_answer() {
        assert_eq!(Message::parse(LF_ONLY.into()).unwrap_err(), super::super::Fault::LINE_END);
        assert_recovered(&salvage(LF_ONLY.as_bytes()).unwrap());
    }

    #[test]
    fn text_in_another_encoding_does_not_prevent_an_answer() {
        let mut latin1 = LF_ONLY.replace('\n', "\r\n").into_bytes();
        let at = latin1.windows(4).position(|w| w == b"X: y").unwrap();
        latin1[at + 3] = 0xe9;
        assert_eq!(Message::parse(latin1.clone().into()).unwrap_err().reason, "Header section is not UTF-8");
        assert_recovered(&salvage(&latin1).unwrap());
    }

    #[test]
    fn too_many_headers_do_not_prevent_an_answer() {
        let many = LF_ONLY.replace("X: y\n", &"X: y\n".repeat(SIP_HEADERS_MAX)).replace('\n', "\r\n");
        assert_eq!(Message::parse(many.clone().into()).unwrap_err().reason, "Too many header lines");
        assert_recovered(&salvage(many.as_bytes()).unwrap());
    }

    #[test]
    fn what_cannot_or_must_not_be_answered_is_not_recovered() {
        assert!(salvage(&LF_ONLY.as_bytes()[..40]).is_none(), "no Via");
        assert!(salvage(LF_ONLY.replace("INVITE", "ACK").as_bytes()).is_none(), "ACK");
        assert!(salvage(LF_ONLY.replace("INVITE sip:a@example.com SIP/2.0", "SIP/2.0 200 OK").as_bytes()).is_none());
        assert!(salvage(b"\r\n\r\n").is_none());
        assert!(salvage(b"").is_none());
    }
}
