//! What makes a message unacceptable, with the answer it deserves.

use super::{
    Uri,
    headers::{CSeq, NameAddr, Via, split_values},
    message::{Excerpt, Message, Name},
    scan, usual,
};
use crate::types::limits::{SIP_REQUEST_URI_BYTES_MAX, SIP_VIAS_MAX};

/// A fault in a message: the status to answer a request with, and a reason phrase that names the fault. For a response,
/// or where no answer is possible, the message is dropped and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub status: u16,
    pub reason: &'static str,
}

impl Fault {
    pub(super) const LINE_END: Self = Self::new(400, "Line does not end with CRLF");
    pub(super) const MESSAGE_TOO_LARGE: Self = Self::new(513, "Message too large");
    pub(super) const BODY_TOO_LARGE: Self = Self::new(513, "Message body too large");

    pub(super) const fn new(status: u16, reason: &'static str) -> Self {
        Self { status, reason }
    }

    const fn bad(reason: &'static str) -> Self {
        Self::new(400, reason)
    }
}

/// Checks the mandatory headers and their grammar (RFC 3261 sections 8.1.1, 8.2, 16.3), body length and limits.
///
/// What depends on the server's abilities is not judged here: an unknown method, Request-URI scheme, extension or media
/// type, and a Max-Forwards of 0. Neither is the absence of Max-Forwards, a From tag or a branch, which RFC 2543 clients
/// do not send.
pub fn validate(message: &Message) -> Result<(), Fault> {
    match message.request_line() {
        Some((method, uri)) => check_request_line(message, method, uri)?,
        None => check_status_line(message)?,
    }
    if let Some(fault) = message.index_fault {
        return Err(fault);
    }
    let mut seen = Singular::default();
    for (name, value) in message.known() {
        check_header(&mut seen, name, value)?;
    }
    seen.check_mandatory(message)
}

/// `Method SP Request-URI SP SIP-Version` (RFC 3261 section 7.1).
fn check_request_line(message: &Message, method: &[u8], uri: Excerpt<'_>) -> Result<(), Fault> {
    let version = message.version();
    check_version(version)?;
    // The parts were cut at the outermost spaces, so any space too many is missing from their sum.
    if !scan::is_token(method) || method.len() + uri.len + version.len() + 2 != message.start_line_len() {
        return Err(Fault::bad("Malformed request line"));
    }
    if uri.len > SIP_REQUEST_URI_BYTES_MAX {
        return Err(Fault::new(414, "Request-URI Too Long"));
    }
    if usual::is_uri(uri) {
        return Ok(());
    }
    let uri = Uri::parse(text(uri.text())).ok_or(Fault::bad("Malformed Request-URI"))?;
    // RFC 3261 section 19.1.1, table 1: no headers in a Request-URI.
    if uri.is_sip() && !uri.headers.is_empty() { Err(Fault::bad("Headers in Request-URI")) } else { Ok(()) }
}

/// `SIP-Version SP Status-Code SP Reason-Phrase` (RFC 3261 section 7.2).
fn check_status_line(message: &Message) -> Result<(), Fault> {
    check_version(message.version())?;
    match message.status() {
        100..=699 => Ok(()),
        _ => Err(Fault::bad("Malformed status line")),
    }
}

/// RFC 3261 section 7.1: the version compares without case.
#[inline(always)]
fn check_version(version: &[u8]) -> Result<(), Fault> {
    if version == b"SIP/2.0" { Ok(()) } else { check_odd_version(version) }
}

/// Only a well-formed other version deserves a 505.
#[cold]
fn check_odd_version(version: &[u8]) -> Result<(), Fault> {
    if version.eq_ignore_ascii_case(b"SIP/2.0") {
        return Ok(());
    }
    let is_number = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let is_other_version = version.split_at_checked(4).is_some_and(|(name, numbers)| {
        let (major, minor) = numbers.split_at(scan::find(numbers, [b'.']).unwrap_or(0));
        name.eq_ignore_ascii_case(b"SIP/") && is_number(major) && is_number(&minor[1..])
    });
    Err(if is_other_version { Fault::new(505, "Version Not Supported") } else { Fault::bad("Malformed SIP version") })
}

/// The first value of each header that may stand once only.
#[derive(Default)]
struct Singular<'a> {
    from: Option<&'a [u8]>,
    to: Option<&'a [u8]>,
    call_id: Option<&'a [u8]>,
    cseq: Option<&'a [u8]>,
    max_forwards: Option<&'a [u8]>,
    content_type: Option<&'a [u8]>,
    /// Via values.
    vias: usize,
}

impl Singular<'_> {
    fn check_mandatory(&self, message: &Message) -> Result<(), Fault> {
        let missing = |is_missing: bool, reason| expect(!is_missing, Fault::bad(reason));
        missing(self.vias == 0, "Missing Via header")?;
        missing(self.from.is_none(), "Missing From header")?;
        missing(self.to.is_none(), "Missing To header")?;
        missing(self.call_id.is_none(), "Missing Call-ID header")?;
        let cseq = self.cseq.ok_or(Fault::bad("Missing CSeq header"))?;
        let (_, method) = CSeq::split(cseq).ok_or(Fault::bad("Malformed CSeq header"))?;
        let Some((request_method, _)) = message.request_line() else { return Ok(()) };
        missing(method != request_method, "CSeq method does not match")?;
        // RFC 3261 section 20.15. Without it an offer would pass for no offer.
        missing(message.has_body() && self.content_type.is_none(), "Missing Content-Type header")
    }
}

/// Checks one header line alone and against an earlier one of the same name.
fn check_header<'a>(seen: &mut Singular<'a>, name: Name, excerpt: Excerpt<'a>) -> Result<(), Fault> {
    let value = excerpt.text();
    match name {
        Name::Via => {
            seen.vias += if usual::is_via(excerpt) { 1 } else { read_vias(text(value), seen.vias == 0)? };
            expect(seen.vias <= SIP_VIAS_MAX, Fault::new(483, "Too Many Hops"))
        }
        Name::From => {
            expect(is_alone(&mut seen.from, value), Fault::bad("Multiple From headers"))?;
            expect(is_address(excerpt), Fault::bad("Malformed From header"))
        }
        Name::To => {
            expect(is_alone(&mut seen.to, value), Fault::bad("Multiple To headers"))?;
            expect(is_address(excerpt), Fault::bad("Malformed To header"))
        }
        Name::CallId => {
            expect(is_alone(&mut seen.call_id, value), Fault::bad("Multiple Call-ID headers"))?;
            let is_word = !value.is_empty() && scan::find_far(value, [b' ', b'\t', b',']).is_none();
            expect(is_word, Fault::bad("Malformed Call-ID header"))
        }
        Name::CSeq => expect(is_alone(&mut seen.cseq, value), Fault::bad("Multiple CSeq headers")),
        Name::MaxForwards => {
            expect(is_alone(&mut seen.max_forwards, value), Fault::bad("Multiple Max-Forwards headers"))?;
            expect(scan::number::<u8>(value).is_some(), Fault::bad("Malformed Max-Forwards header"))
        }
        Name::ContentType => {
            expect(is_alone(&mut seen.content_type, value), Fault::bad("Multiple Content-Type headers"))?;
            expect(scan::find(value, [b'/']).is_some(), Fault::bad("Malformed Content-Type header"))
        }
        Name::Contact => expect(value == b"*" || are_addresses(excerpt), Fault::bad("Malformed Contact header")),
        Name::Route => expect(are_addresses(excerpt), Fault::bad("Malformed Route header")),
        Name::RecordRoute => expect(are_addresses(excerpt), Fault::bad("Malformed Record-Route header")),
        // RFC 3261 section 20.17.
        Name::Date => expect(value.ends_with(b"GMT"), Fault::bad("Date is not in GMT")),
        _ => Ok(()),
    }
}

#[inline(always)]
fn expect(is_good: bool, fault: Fault) -> Result<(), Fault> {
    if is_good { Ok(()) } else { Err(fault) }
}

/// A second occurrence must say the same; otherwise it is unknown which of the two another element goes by.
#[inline(always)]
fn is_alone<'a>(slot: &mut Option<&'a [u8]>, value: &'a [u8]) -> bool {
    slot.replace(value).is_none_or(|earlier| earlier == value)
}

/// How many values the line has.
#[cold]
fn read_vias(line: &str, is_first: bool) -> Result<usize, Fault> {
    let mut count = 0;
    for (i, value) in split_values(line).enumerate() {
        let via = Via::parse(value).ok_or(Fault::bad("Malformed Via header"))?;
        // A magic cookie with nothing behind it would make one transaction of all such requests (RFC 4475 section 3.2.1).
        if is_first && i == 0 && via.branch() == Some("z9hG4bK") {
            return Err(Fault::bad("Via branch has no identifier"));
        }
        count = i + 1;
    }
    Ok(count)
}

fn are_addresses(line: Excerpt<'_>) -> bool {
    usual::is_address(line) || split_values(text(line.text())).all(reads_as_address)
}

fn is_address(value: Excerpt<'_>) -> bool {
    usual::is_address(value) || reads_as_address(text(value.text()))
}

#[cold]
fn reads_as_address(value: &str) -> bool {
    NameAddr::split(value).is_some_and(|address| Uri::parse(address.uri).is_some())
}

fn text(value: &[u8]) -> &str {
    std::str::from_utf8(value).expect("values are cut beside ASCII from a header section of UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::limits::SIP_PARAMETERS_MAX;

    const GOOD: &str = "INVITE sip:a@example.com SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:b@h>;tag=1\r\n\
                        To: <sip:a@example.com>\r\nCall-ID: 2\r\nCSeq: 3 INVITE\r\nMax-Forwards: 70\r\n\
                        Contact: <sip:b@h>\r\n\r\n";

    /// The verdict on [`GOOD`] with one part of it replaced.
    fn with(old: &str, new: &str) -> Result<(), Fault> {
        assert!(GOOD.contains(old), "{old}");
        validate(&Message::parse(GOOD.replacen(old, new, 1).into()).unwrap())
    }

    fn assert_refused(cases: &[(&str, &str, &'static str)]) {
        for (old, new, reason) in cases {
            assert_eq!(with(old, new), Err(Fault::bad(reason)), "{new:?}");
        }
    }

    #[test]
    fn a_complete_request_is_accepted_whatever_it_asks_for() {
        for (old, new) in [
            ("", ""),
            ("SIP/2.0\r\n", "sip/2.0\r\n"),
            ("sip:a@example.com", "urn:service:sos"),
            ("sip:a@example.com", "unknown:what;ever?x"),
            ("Max-Forwards: 70\r\n", ""),
            ("Max-Forwards: 70", "Max-Forwards: 0"),
            (";branch=z9hG4bK1", ""),
            (";tag=1", ""),
            ("<sip:b@h>\r\n\r\n", "*\r\n\r\n"),
            ("<sip:b@h>\r\n\r\n", "<sip:b@h>;q=0.1, \"x,y\" <tel:1>\r\n\r\n"),
            ("Max-Forwards", "Require: magic\r\nDate: Sat, 13 Nov 2010 23:29:00 GMT\r\nCSeq: 3 INVITE\r\nMax-Forwards"),
        ] {
            assert_eq!(with(old, new), Ok(()), "{new:?}");
        }
    }

    #[test]
    fn each_missing_header_is_named() {
        assert_refused(&[
            ("Via: SIP/2.0/UDP h;branch=z9hG4bK1\r\n", "", "Missing Via header"),
            ("From: <sip:b@h>;tag=1\r\n", "", "Missing From header"),
            ("To: <sip:a@example.com>\r\n", "", "Missing To header"),
            ("Call-ID: 2\r\n", "", "Missing Call-ID header"),
            ("CSeq: 3 INVITE\r\n", "", "Missing CSeq header"),
            ("\r\n\r\n", "\r\n\r\nv=0", "Missing Content-Type header"),
        ]);
    }

    #[test]
    fn each_malformed_header_is_named() {
        assert_refused(&[
            ("SIP/2.0/UDP h", "SIP/2.0 h", "Malformed Via header"),
            ("z9hG4bK1", "z9hG4bK1,", "Malformed Via header"),
            ("z9hG4bK1", "z9hG4bK", "Via branch has no identifier"),
            ("<sip:b@h>;tag", "<sip:b@>;tag", "Malformed From header"),
            ("<sip:b@h>;tag=1", "\"b <sip:b@h>;tag=1", "Malformed From header"),
            ("To: <", "To: \"<", "Malformed To header"),
            ("Call-ID: 2", "Call-ID:", "Malformed Call-ID header"),
            ("Call-ID: 2", "Call-ID: 2 3", "Malformed Call-ID header"),
            ("3 INVITE", "INVITE", "Malformed CSeq header"),
            ("3 INVITE", "2147483648 INVITE", "Malformed CSeq header"),
            ("3 INVITE", "3 invite", "CSeq method does not match"),
            (": 70", ": 256", "Malformed Max-Forwards header"),
            (": 70", ": -1", "Malformed Max-Forwards header"),
            ("Contact: <sip:b@h>", "Contact: <sip:b@h>, sip:c?d", "Malformed Contact header"),
            ("Contact: <sip:b@h>", "Contact:", "Malformed Contact header"),
            ("Contact: <sip:b@h>", "Route: <sip:b@h", "Malformed Route header"),
            ("Contact: <sip:b@h>", "Record-Route: <b>", "Malformed Record-Route header"),
            ("Contact: <sip:b@h>", "Content-Type: sdp", "Malformed Content-Type header"),
            ("Contact: <sip:b@h>", "Date: Sat, 13 Nov 2010 23:29:00 EST", "Date is not in GMT"),
        ]);
    }

    #[test]
    fn via_values_parameters_and_request_uri_are_bounded() {
        let via = "SIP/2.0/UDP h;branch=z9hG4bK1";
        for separator in [", ", "\r\nVia: "] {
            let with_vias = |count: usize| with(via, &vec![via; count].join(separator));
            let verdicts = (with_vias(SIP_VIAS_MAX), with_vias(SIP_VIAS_MAX + 1));
            assert_eq!(verdicts, (Ok(()), Err(Fault::new(483, "Too Many Hops"))));
        }
        for (part, reason) in [(";branch=z9hG4bK1", "Malformed Via header"), (";tag=1", "Malformed From header")] {
            let with_params = |count: usize| with(part, &vec![part; count].concat());
            let verdicts = (with_params(SIP_PARAMETERS_MAX), with_params(SIP_PARAMETERS_MAX + 1));
            assert_eq!(verdicts, (Ok(()), Err(Fault::bad(reason))));
        }
        let with_uri = |bytes: usize| with("sip:a@", &format!("sip:{}@", "a".repeat(bytes - "sip:@example.com".len())));
        let verdicts = (with_uri(SIP_REQUEST_URI_BYTES_MAX), with_uri(SIP_REQUEST_URI_BYTES_MAX + 1));
        assert_eq!(verdicts, (Ok(()), Err(Fault::new(414, "Request-URI Too Long"))));
    }

    #[test]
    fn a_singular_header_may_not_contradict_itself() {
        assert_refused(&[
            ("Via", "f: <sip:c@h>;tag=1\r\nVia", "Multiple From headers"),
            ("Via", "t: <sip:c@h>\r\nVia", "Multiple To headers"),
            ("Via", "i: 3\r\nVia", "Multiple Call-ID headers"),
            ("Via", "CSeq: 4 INVITE\r\nVia", "Multiple CSeq headers"),
            ("Via", "Max-Forwards: 1\r\nVia", "Multiple Max-Forwards headers"),
            ("Via", "c: a/b\r\nc: a/c\r\nVia", "Multiple Content-Type headers"),
        ]);
    }

    #[test]
    fn the_start_line_is_judged_first() {
        assert_refused(&[
            ("INVITE ", "INVITE  ", "Malformed request line"),
            (" SIP/2.0\r\n", "  SIP/2.0\r\n", "Malformed request line"),
            (" SIP/2.0\r\n", " SIP/2.0 \r\n", "Malformed request line"),
            ("INVITE ", "INV(TE ", "Malformed request line"),
            (" SIP/2.0\r\n", "\r\n", "Malformed SIP version"),
            (" SIP/2.0\r\n", " HTTP/1.1\r\n", "Malformed SIP version"),
            (" SIP/2.0\r\n", "; lr SIP/2.0\r\n", "Malformed Request-URI"),
            ("sip:a@example.com", "<sip:a@example.com>", "Malformed Request-URI"),
            ("sip:a@example.com", "sip:a@b?c=d", "Headers in Request-URI"),
        ]);
        assert_eq!(with("SIP/2.0\r\nVia: SIP", "SIP/7.0\r\nVia: X"), Err(Fault::new(505, "Version Not Supported")));
    }

    #[test]
    fn a_response_needs_a_status_of_three_digits() {
        for (line, verdict) in [
            ("SIP/2.0 200 OK", Ok(())),
            ("SIP/2.0 699 ", Ok(())),
            ("SIP/2.0 99 x", Err("Malformed status line")),
            ("SIP/2.0 700 x", Err("Malformed status line")),
            ("SIP/2.0 abc", Err("Malformed status line")),
            ("SIP/2.0", Err("Malformed status line")),
        ] {
            assert_eq!(with("INVITE sip:a@example.com SIP/2.0", line), verdict.map_err(Fault::bad), "{line}");
        }
    }
}
