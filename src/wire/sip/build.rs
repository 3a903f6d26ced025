//! Writing messages. Values are checked for line breaks, so nothing a peer sent can start a header of its own.

use std::{fmt::Display, io::Write, net::SocketAddr};

use bytes::Bytes;

use super::{
    headers::{Params, Via, split_values},
    message::{Message, Name},
    scan,
};

/// Writes one request. Content-Length is always written, last.
#[derive(Debug)]
pub struct RequestBuilder(Writer);

impl RequestBuilder {
    /// Bytes that cannot stand in a request line are written percent-escaped.
    pub fn new(method: &str, uri: &str) -> Self {
        let mut writer = Writer::default();
        writer.push_escaped(method);
        writer.push(" ");
        writer.push_escaped(uri);
        writer.push(" SIP/2.0\r\n");
        Self(writer)
    }

    /// Appends a header line. CR, LF and NUL in `value` are written as spaces. Content-Length is not for callers to
    /// write: it is left out.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Display) -> Self {
        self.0.header(name, value);
        self
    }

    /// Sets the body and writes its Content-Type. To be called once.
    #[must_use]
    pub fn body(mut self, content_type: &str, body: &[u8]) -> Self {
        self.0.body(content_type, body);
        self
    }

    pub fn finish(self) -> Bytes {
        self.0.finish()
    }
}

/// Writes the response to one request (RFC 3261 section 8.2.6): all Via values, From, To, Call-ID, CSeq are copied, and
/// Record-Route for 101-299.
#[derive(Debug)]
pub struct ResponseBuilder(Writer);

impl ResponseBuilder {
    /// `to_tag` is appended to To when the request's To has none and the status is not 100.
    ///
    /// `source`: where the request came from, written into the top Via as `received` if it differs from the host there or
    /// `rport` is asked for, and then as `rport` too (RFC 3261 section 18.2.1, RFC 3581 section 4). What the sender wrote
    /// there itself is replaced.
    ///
    /// A header that the request lacks is left out, so that even such a request can be refused.
    pub fn to(request: &Message, status: u16, reason: &str, to_tag: &str, source: SocketAddr) -> Self {
        let mut writer = Writer::default();
        writer.push("SIP/2.0 ");
        writer.display(status);
        writer.push(" ");
        writer.display(reason);
        writer.push("\r\n");
        copy_vias(&mut writer, request, source);
        if matches!(status, 101..=299) {
            request.lines(Name::RecordRoute).for_each(|line| writer.copy("Record-Route", line));
        }
        if let Some(from) = request.header(Name::From) {
            writer.copy("From", from);
        }
        if let Some(to) = request.header(Name::To) {
            let needs_tag = status != 100 && !to_tag.is_empty() && request.to_tag().is_none();
            writer.copy("To", to);
            if needs_tag {
                writer.reopen_line();
                writer.push(";tag=");
                writer.display(to_tag);
                writer.push("\r\n");
            }
        }
        for (text, name) in [("Call-ID", Name::CallId), ("CSeq", Name::CSeq)] {
            if let Some(value) = request.header(name) {
                writer.copy(text, value);
            }
        }
        writer.blank_bare_nul();
        Self(writer)
    }

    /// As [`RequestBuilder::header`].
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Display) -> Self {
        self.0.header(name, value);
        self
    }

    /// As [`RequestBuilder::body`].
    #[must_use]
    pub fn body(mut self, content_type: &str, body: &[u8]) -> Self {
        self.0.body(content_type, body);
        self
    }

    pub fn finish(self) -> Bytes {
        self.0.finish()
    }
}

/// Copies all Via lines, the topmost value with the source filled in.
fn copy_vias(writer: &mut Writer, request: &Message, source: SocketAddr) {
    let mut lines = request.lines(Name::Via);
    let Some(first) = lines.next() else { return };
    let top = split_values(first).next().unwrap_or_default();
    match Via::parse(top) {
        Some(via) => {
            let sent_by = &top[..top.len() - via.params.text.len()];
            writer.push("Via: ");
            writer.push(scan::trim(sent_by));
            push_via_params(writer, &via, source);
            writer.push(&first[top.len()..]);
            writer.push("\r\n");
        }
        None => writer.copy("Via", first),
    }
    lines.for_each(|line| writer.copy("Via", line));
}

fn push_via_params(writer: &mut Writer, via: &Via<'_>, source: SocketAddr) {
    let ip = source.ip().to_canonical();
    let kept = |name: &str| !name.eq_ignore_ascii_case("received") && !name.eq_ignore_ascii_case("rport");
    for piece in via.params.pieces().filter(|piece| kept(Params::name_of(piece))) {
        writer.push(";");
        writer.push(piece);
    }
    if via.wants_rport() || via.host.parse() != Ok(ip) {
        // RFC 3261 section 25.1: an IPv6 address stands here without brackets.
        writer.push(";received=");
        writer.display(ip);
    }
    if via.wants_rport() {
        writer.push(";rport=");
        writer.display(source.port());
    }
}

/// The one buffer a message is written into.
#[derive(Debug)]
struct Writer {
    out: Vec<u8>,
    body: Vec<u8>,
}

impl Default for Writer {
    /// Most messages fit without growing.
    fn default() -> Self {
        Self { out: Vec::with_capacity(1_024), body: Vec::new() }
    }
}

impl Writer {
    /// Text that is known to hold no line break.
    fn push(&mut self, text: &str) {
        debug_assert!(!text.contains(['\n']) || text.ends_with("\r\n"), "only whole lines are pushed");
        self.out.extend_from_slice(text.as_bytes());
    }

    /// Text of any origin: line breaks and NUL become spaces.
    fn display(&mut self, value: impl Display) {
        let start = self.out.len();
        write!(self.out, "{value}").expect("writing to memory cannot fail");
        for byte in &mut self.out[start..] {
            if matches!(byte, b'\r' | b'\n' | 0) {
                *byte = b' ';
            }
        }
    }

    /// Text of the request line: what would end its part of the line is escaped.
    fn push_escaped(&mut self, text: &str) {
        for byte in text.bytes() {
            if byte <= b' ' || byte == 0x7f {
                write!(self.out, "%{byte:02X}").expect("writing to memory cannot fail");
            } else {
                self.out.push(byte);
            }
        }
    }

    fn header(&mut self, name: &str, value: impl Display) {
        if Name::from_bytes(name.as_bytes()) == Name::ContentLength {
            return;
        }
        self.out.extend(name.bytes().map(|b| if scan::is_token_byte(b) { b } else { b'-' }));
        self.push(": ");
        self.display(value);
        self.push("\r\n");
    }

    /// A line of an indexed message, byte for byte: the index has seen to it that it holds no line break.
    fn copy(&mut self, name: &str, value: &str) {
        self.push(name);
        self.push(": ");
        self.push(value);
        self.push("\r\n");
    }

    /// Writes each NUL that was copied as a space, but for an escaped one: where a request may not have it, neither may its
    /// answer.
    fn blank_bare_nul(&mut self) {
        let mut at = 0;
        while let Some(skip) = scan::find(&self.out[at..], [0]) {
            at += skip;
            if !self.out[..at].ends_with(b"\\") {
                self.out[at] = b' ';
            }
            at += 1;
        }
    }

    /// Takes back the last line end.
    fn reopen_line(&mut self) {
        self.out.truncate(self.out.len() - 2);
    }

    fn body(&mut self, content_type: &str, body: &[u8]) {
        self.header("Content-Type", content_type);
        self.body = body.to_vec();
    }

    fn finish(mut self) -> Bytes {
        self.push("Content-Length: ");
        self.display(self.body.len());
        self.push("\r\n\r\n");
        self.out.extend_from_slice(&self.body);
        // Transactions and calls keep messages: they should hold what was written, not the room made for it.
        self.out.shrink_to_fit();
        self.out.into()
    }
}

/// The standard reason phrase of a status code (RFC 3261 section 21 and extensions). `"Unknown"` for any other.
pub const fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Trying",
        180 => "Ringing",
        181 => "Call Is Being Forwarded",
        182 => "Queued",
        183 => "Session Progress",
        199 => "Early Dialog Terminated",
        200 => "OK",
        202 => "Accepted",
        204 => "No Notification",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Moved Temporarily",
        305 => "Use Proxy",
        380 => "Alternative Service",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        410 => "Gone",
        412 => "Conditional Request Failed",
        413 => "Request Entity Too Large",
        414 => "Request-URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Unsupported URI Scheme",
        417 => "Unknown Resource-Priority",
        420 => "Bad Extension",
        421 => "Extension Required",
        422 => "Session Interval Too Small",
        423 => "Interval Too Brief",
        424 => "Bad Location Information",
        428 => "Use Identity Header",
        429 => "Provide Referrer Identity",
        430 => "Flow Failed",
        433 => "Anonymity Disallowed",
        436 => "Bad Identity-Info",
        437 => "Unsupported Certificate",
        438 => "Invalid Identity Header",
        439 => "First Hop Lacks Outbound Support",
        440 => "Max-Breadth Exceeded",
        469 => "Bad Info Package",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        482 => "Loop Detected",
        483 => "Too Many Hops",
        484 => "Address Incomplete",
        485 => "Ambiguous",
        486 => "Busy Here",
        487 => "Request Terminated",
        488 => "Not Acceptable Here",
        489 => "Bad Event",
        491 => "Request Pending",
        493 => "Undecipherable",
        494 => "Security Agreement Required",
        500 => "Server Internal Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Server Time-out",
        505 => "Version Not Supported",
        513 => "Message Too Large",
        555 => "Push Notification Service Not Supported",
        580 => "Precondition Failure",
        600 => "Busy Everywhere",
        603 => "Decline",
        604 => "Does Not Exist Anywhere",
        606 => "Not Acceptable",
        607 => "Unwanted",
        608 => "Rejected",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::{super::validate, *};

    #[test]
    fn a_nul_that_a_request_may_not_have_does_not_come_back_and_an_escaped_one_does() {
        let text = "OPTIONS sip:h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nTo: \"\\\0\" <sip:a\0@h>\r\n\r\n";
        let refused = Message::parse(text.into()).unwrap();
        let response = ResponseBuilder::to(&refused, 400, "Bad", "t", ([192, 0, 2, 1], 5060).into()).finish();
        let response = Message::parse(response).unwrap();
        assert!(response.header(Name::To).unwrap().starts_with("\"\\\0\" <sip:a @h>"), "{:?}", response.bytes());
    }

    fn request(via: &str, to: &str) -> Message {
        let bytes = RequestBuilder::new("INVITE", "sip:a@example.com")
            .header("Via", via)
            .header("v", "SIP/2.0/TCP proxy;branch=z9hG4bKb")
            .header("Record-Route", "<sip:p1;lr>, <sip:p2;lr>")
            .header("From", "<sip:b@example.com>;tag=1")
            .header("To", to)
            .header("Call-ID", "2")
            .header("CSeq", "3 INVITE")
            .header("Max-Forwards", 70)
            .finish();
        Message::parse(bytes).unwrap()
    }

    fn response(via: &str, to: &str, status: u16) -> Message {
        let source = "192.0.2.7:1234".parse().unwrap();
        let bytes = ResponseBuilder::to(&request(via, to), status, reason_phrase(status), "xyz", source).finish();
        let message = Message::parse(bytes).unwrap();
        assert_eq!(validate(&message), Ok(()));
        message
    }

    #[test]
    fn a_response_copies_what_identifies_the_transaction() {
        let ok = response("SIP/2.0/UDP 192.0.2.7;branch=z9hG4bKa, SIP/2.0/UDP c;x", "<sip:a@example.com>", 200);
        assert_eq!((ok.status(), ok.reason_phrase()), (200, "OK"));
        let vias: Vec<_> = ok.values(Name::Via).collect();
        assert_eq!(
            vias,
            ["SIP/2.0/UDP 192.0.2.7;branch=z9hG4bKa", "SIP/2.0/UDP c;x", "SIP/2.0/TCP proxy;branch=z9hG4bKb"]
        );
        assert_eq!((ok.call_id(), ok.from_tag(), ok.to_tag()), ("2", Some("1"), Some("xyz")));
        assert_eq!(ok.method_text(), "INVITE");
        assert_eq!(ok.values(Name::RecordRoute).collect::<Vec<_>>(), ["<sip:p1;lr>", "<sip:p2;lr>"]);
        assert_eq!(ok.header(Name::ContentLength), Some("0"));
    }

    #[test]
    fn record_route_and_tag_follow_the_status() {
        let via = "SIP/2.0/UDP 192.0.2.7;branch=z9hG4bKa";
        for (status, routes, tag) in [(100, 0, None), (180, 2, Some("xyz")), (300, 0, Some("xyz"))] {
            let message = response(via, "<sip:a@example.com>", status);
            assert_eq!((message.values(Name::RecordRoute).count(), message.to_tag()), (routes, tag), "{status}");
        }
        assert_eq!(response(via, "<sip:a@example.com>;tag=own", 200).to_tag(), Some("own"));
        assert_eq!(response(via, "sip:a@example.com", 200).to_tag(), Some("xyz"));
    }

    #[test]
    fn the_top_via_tells_the_source_when_it_must() {
        let top = |via: &str| response(via, "<sip:a@example.com>", 100).header(Name::Via).unwrap().to_owned();
        let cases = [
            ("SIP/2.0/UDP host;branch=a", "SIP/2.0/UDP host;branch=a;received=192.0.2.7"),
            ("SIP/2.0/UDP 192.0.2.7:9;branch=a", "SIP/2.0/UDP 192.0.2.7:9;branch=a"),
            ("SIP/2.0/UDP 192.0.2.7;rport;branch=a", "SIP/2.0/UDP 192.0.2.7;branch=a;received=192.0.2.7;rport=1234"),
            (
                "SIP/2.0/UDP h;Received=203.0.113.1;rport=1;x=\"a;b\"",
                "SIP/2.0/UDP h;x=\"a;b\";received=192.0.2.7;rport=1234",
            ),
            (
                "SIP/2.0/UDP h;rport,SIP/2.0/UDP i;rport",
                "SIP/2.0/UDP h;received=192.0.2.7;rport=1234,SIP/2.0/UDP i;rport",
            ),
        ];
        for (via, expected) in cases {
            assert_eq!(top(via), expected);
        }
    }

    #[test]
    fn ipv6_sources_are_written_without_brackets_and_mapped_ones_as_ipv4() {
        let request = request("SIP/2.0/UDP [2001:db8::1];rport", "<sip:a@b>");
        for (source, received) in [("[2001:db8::2]:5", "2001:db8::2"), ("[::ffff:192.0.2.7]:5", "192.0.2.7")] {
            let bytes = ResponseBuilder::to(&request, 100, "Trying", "", source.parse().unwrap()).finish();
            let message = Message::parse(bytes).unwrap();
            let via = message.via().unwrap();
            assert_eq!((via.params.get("received"), via.params.get("rport")), (Some(received), Some("5")));
        }
    }

    #[test]
    fn a_body_brings_its_type_and_length() {
        let bytes =
            RequestBuilder::new("MESSAGE", "sip:a@b").header("l", 99).body("text/plain", b"h\r\n\r\ni").finish();
        let message = Message::parse(bytes).unwrap();
        assert_eq!(&message.body()[..], b"h\r\n\r\ni");
        assert_eq!(message.header(Name::ContentType), Some("text/plain"));
        assert_eq!(message.lines(Name::ContentLength).collect::<Vec<_>>(), ["6"]);
    }

    #[test]
    fn no_value_can_start_a_header_or_end_the_head() {
        let evil = "x\r\nVia: evil\r\n\r\nbody\0\n\r";
        let bytes = RequestBuilder::new(evil, evil).header(evil, evil).body(evil, b"").finish();
        let message = Message::parse(bytes).unwrap();
        assert_eq!(message.header(Name::Via), None);
        assert_eq!(message.all().count(), 3);
        assert!(message.body().is_empty());
        assert!(!message.request_uri().contains(' '));
    }
}
