//! A received message: its bytes and an index of where each header stands.

use std::{fmt, ops::Range};

use bytes::Bytes;
use smallvec::SmallVec;

pub use super::name::{Method, Name};
use super::{
    Fault, body,
    frame::ContentLength,
    headers::{CSeq, NameAddr, Via, split_values},
    name::expand_compact,
    scan,
    usual_lines::{self, Head},
};
use crate::types::limits::{SIP_BODY_BYTES_MAX, SIP_HEADER_BYTES_MAX, SIP_HEADERS_MAX, SIP_MESSAGE_BYTES_MAX};

/// One SIP message. Cheap to clone: the bytes are shared.
///
/// Lazy: [`Message::parse`] splits lines and names headers; values are read when asked for. A folded header
/// (RFC 3261 section 7.3.1) has its line breaks turned into spaces first, the only case in which bytes are copied.
#[derive(Clone)]
pub struct Message {
    bytes: Bytes,
    start_line: Span,
    start: Start,
    fields: SmallVec<[Field; FIELDS_INLINE]>,
    body: Span,
    /// The first fault that still let the message be indexed; [`super::validate()`] reports it.
    pub(super) index_fault: Option<Fault>,
}

/// Header lines that need no heap. Phones send 12 to 25.
const FIELDS_INLINE: usize = 32;

/// A range of a message's bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    at: u16,
    len: u16,
}

const _: () = assert!(SIP_MESSAGE_BYTES_MAX <= u16::MAX as usize, "spans hold offsets of 16 bits");

/// The parts of the start line, as far as they can be told apart.
#[derive(Clone, Copy, Debug)]
enum Start {
    Request { method: Method, method_text: Span, uri: Span, version: Span },
    Response { version: Span, status: u16, reason: Span },
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) name: Name,
    pub(super) name_text: Span,
    pub(super) value: Span,
}

impl Field {
    const EMPTY: Self = Self { name: Name::Other, name_text: Span::EMPTY, value: Span::EMPTY };
}

/// A value, and whatever follows it in its message, so that it can be read in blocks of more bytes than it has left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Excerpt<'a> {
    pub(super) bytes: &'a [u8],
    /// Of the value.
    pub(super) len: usize,
}

impl<'a> Excerpt<'a> {
    pub(super) fn text(self) -> &'a [u8] {
        &self.bytes[..self.len]
    }
}

/// What kind of message and how long: its text may hold credentials and keys.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.method().map_or("response", Method::as_str);
        write!(f, "Message({kind}, status {}, {} bytes)", self.status(), self.bytes.len())
    }
}

impl Message {
    /// Indexes one framed message: a datagram, or a frame of [`super::frame::Framer`]. Empty lines before it are ignored
    /// (RFC 3261 section 7.5).
    ///
    /// Errors are those that leave nothing to index: text that is not UTF-8, a line that does not end with CRLF, no
    /// header end, too many headers, too many bytes. [`super::salvage`] may then still find what a response needs.
    /// Everything else is [`super::validate()`]'s to name.
    pub fn parse(bytes: Bytes) -> Result<Self, Fault> {
        let blank = bytes.chunks_exact(2).take_while(|pair| pair == b"\r\n").count() * 2;
        let bytes = if blank == 0 { bytes } else { bytes.slice(blank..) };
        if bytes.len() > SIP_MESSAGE_BYTES_MAX {
            return Err(Fault::MESSAGE_TOO_LARGE);
        }
        Index::build(bytes)
    }

    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    pub const fn is_request(&self) -> bool {
        matches!(self.start, Start::Request { .. })
    }

    /// Whether a response can be sent at all: a request other than ACK with a Via, which is copied. Whatever else is
    /// missing, the sender can still be told.
    pub fn is_answerable(&self) -> bool {
        self.method().is_some_and(|method| method != Method::Ack)
            && self.header(Name::Via).is_some_and(|via| !via.is_empty())
    }

    /// `None` for a response.
    pub const fn method(&self) -> Option<Method> {
        match self.start {
            Start::Request { method, .. } => Some(method),
            Start::Response { .. } => None,
        }
    }

    /// The method as it stands on the request line; the CSeq method of a response.
    pub fn method_text(&self) -> &str {
        match self.start {
            Start::Request { method_text, .. } => self.text(method_text),
            Start::Response { .. } => self.cseq().map_or("", |cseq| cseq.method_text),
        }
    }

    /// Request-URI as text; empty for a response.
    pub fn request_uri(&self) -> &str {
        match self.start {
            Start::Request { uri, .. } => self.text(uri),
            Start::Response { .. } => "",
        }
    }

    /// Status code of a response, 0 for a request or a status line without a readable code.
    pub const fn status(&self) -> u16 {
        match self.start {
            Start::Request { .. } => 0,
            Start::Response { status, .. } => status,
        }
    }

    /// Empty for a request.
    pub fn reason_phrase(&self) -> &str {
        match self.start {
            Start::Request { .. } => "",
            Start::Response { reason, .. } => self.text(reason),
        }
    }

    /// The first header line of this name, trimmed.
    pub fn header(&self, name: Name) -> Option<&str> {
        self.lines(name).next()
    }

    /// Every value of a list header in order: several lines and comma-separated values on one line alike, commas in
    /// quotes and angle brackets respected (RFC 3261 section 7.3.1). Empty values are left out. Do not use for headers
    /// whose grammar has bare commas (Authorization, Date, ...): use [`Message::lines`].
    pub fn values(&self, name: Name) -> impl Iterator<Item = &str> {
        self.lines(name).flat_map(split_values).filter(|value| !value.is_empty())
    }

    /// Every header line of this name, trimmed, not split at commas.
    pub fn lines(&self, name: Name) -> impl Iterator<Item = &str> {
        self.fields.iter().filter(move |field| field.name == name).map(|field| self.text(field.value))
    }

    /// All header lines as `(name as written, known name, value)` in order.
    pub fn all(&self) -> impl Iterator<Item = (&str, Name, &str)> {
        self.fields.iter().map(|field| (self.text(field.name_text), field.name, self.text(field.value)))
    }

    /// All header lines as `(known name, value)` in order, for a reader that needs few of them as text.
    pub(super) fn known(&self) -> impl Iterator<Item = (Name, Excerpt<'_>)> {
        let bytes: &[u8] = &self.bytes;
        self.fields.iter().map(move |field| (field.name, field.value.excerpt(bytes)))
    }

    /// A header the server has no [`Name`] for, by case-insensitive text. A compact form on the wire matches its long name.
    pub fn header_text(&self, name: &str) -> Option<&str> {
        self.lines_text(name).next()
    }

    /// As [`Message::header_text`], every line.
    pub fn lines_text(&self, name: &str) -> impl Iterator<Item = &str> {
        let wanted = expand_compact(name).to_owned();
        let is_it = move |written: &str| expand_compact(written).eq_ignore_ascii_case(&wanted);
        let lines = self.all().filter(move |(written, known, _)| *known == Name::Other && is_it(written));
        lines.map(|(_, _, value)| value)
    }

    /// The topmost Via.
    pub fn via(&self) -> Option<Via<'_>> {
        Via::parse(split_values(self.header(Name::Via)?).next()?)
    }

    pub fn from(&self) -> Option<NameAddr<'_>> {
        NameAddr::parse(self.header(Name::From)?)
    }

    pub fn to(&self) -> Option<NameAddr<'_>> {
        NameAddr::parse(self.header(Name::To)?)
    }

    /// The first Contact. `*` reads as a `NameAddr` whose `uri` is `"*"`.
    pub fn contact(&self) -> Option<NameAddr<'_>> {
        NameAddr::parse(self.values(Name::Contact).next()?)
    }

    /// Empty when there is none.
    pub fn call_id(&self) -> &str {
        self.header(Name::CallId).unwrap_or_default()
    }

    pub fn cseq(&self) -> Option<CSeq<'_>> {
        CSeq::parse(self.header(Name::CSeq)?)
    }

    pub fn from_tag(&self) -> Option<&str> {
        self.from()?.tag()
    }

    pub fn to_tag(&self) -> Option<&str> {
        self.to()?.tag()
    }

    /// Body bytes by the one Content-Length rule of [`super::frame`]: without the header, all bytes of the datagram after
    /// the header section; empty where the rule is broken.
    pub fn body(&self) -> Bytes {
        self.bytes.slice(self.body.range())
    }

    /// The `application/sdp` body: the whole body, or the first such part of a `multipart/*` body (RFC 5621).
    pub fn sdp(&self) -> Option<Bytes> {
        let part = body::sdp(self.header(Name::ContentType)?, &self.bytes[self.body.range()])?;
        let start = usize::from(self.body.at);
        Some(self.bytes.slice(start + part.start..start + part.end))
    }

    /// Whether a recording client announces what it records (RFC 7866 section 7).
    pub fn has_recording_metadata(&self) -> bool {
        let content_type = self.header(Name::ContentType);
        content_type.is_some_and(|kind| body::has_recording_metadata(kind, &self.bytes[self.body.range()]))
    }

    pub(super) fn has_body(&self) -> bool {
        self.body.len > 0
    }

    /// Method and Request-URI as they stand on the request line; `None` for a response.
    pub(super) fn request_line(&self) -> Option<(&[u8], Excerpt<'_>)> {
        match self.start {
            Start::Request { method_text, uri, .. } => {
                Some((&self.bytes[method_text.range()], uri.excerpt(&self.bytes)))
            }
            Start::Response { .. } => None,
        }
    }

    pub(super) fn start_line_len(&self) -> usize {
        usize::from(self.start_line.len)
    }

    /// What stands where `SIP/2.0` should.
    pub(super) fn version(&self) -> &[u8] {
        match self.start {
            Start::Request { version, .. } | Start::Response { version, .. } => &self.bytes[version.range()],
        }
    }

    fn text(&self, span: Span) -> &str {
        std::str::from_utf8(&self.bytes[span.range()]).expect("the header section is UTF-8 and spans end beside ASCII")
    }
}

impl Span {
    const EMPTY: Self = Self { at: 0, len: 0 };

    /// Within a message.
    #[expect(clippy::cast_possible_truncation, reason = "a message has at most SIP_MESSAGE_BYTES_MAX bytes")]
    pub(super) fn new(range: Range<usize>) -> Self {
        debug_assert!(range.start <= range.end && range.end <= SIP_MESSAGE_BYTES_MAX, "{range:?}");
        Self { at: range.start as u16, len: (range.end - range.start) as u16 }
    }

    pub(super) fn range(self) -> Range<usize> {
        usize::from(self.at)..usize::from(self.at) + usize::from(self.len)
    }

    fn excerpt(self, bytes: &[u8]) -> Excerpt<'_> {
        Excerpt { bytes: &bytes[usize::from(self.at)..], len: usize::from(self.len) }
    }

    /// Without blanks at either end.
    fn trimmed(text: &[u8], range: Range<usize>) -> Self {
        Self::new(scan::trimmed(text, range))
    }
}

/// A copy with continuation lines joined to the lines they continue, their line breaks turned into spaces.
#[cold]
fn unfold(bytes: &[u8]) -> Bytes {
    let mut copy = bytes.to_vec();
    let mut at = 0;
    while let Some(line) = scan::line(bytes, at)
        && line.end > at
    {
        if scan::is_folded(bytes, line.next) && line.is_clean {
            copy[line.end..line.next].fill(b' ');
        }
        at = line.next;
    }
    Bytes::from(copy)
}

/// Building state of the index.
struct Index {
    fields: SmallVec<[Field; FIELDS_INLINE]>,
    length: ContentLength,
    fault: Option<Fault>,
}

impl Index {
    #[inline(always)]
    fn build(bytes: Bytes) -> Result<Message, Fault> {
        let mut fields = [Field::EMPTY; FIELDS_INLINE];
        match usual_lines::read(&bytes, &mut fields) {
            Some(Head { start_line_len, count, length, body_at }) => {
                let index = Self { fields: SmallVec::from_buf_and_len(fields, count), length, fault: None };
                Ok(index.into_message(bytes, 0..start_line_len, body_at))
            }
            None => Self::build_in_full(bytes),
        }
    }

    #[cold]
    fn build_in_full(bytes: Bytes) -> Result<Message, Fault> {
        let mut index = Self { fields: SmallVec::new(), length: ContentLength::default(), fault: None };
        let mut start_line = 0..0;
        let (mut is_ascii, mut has_bare_nul) = (true, false);
        let mut at = 0;
        let body_at = loop {
            let line = scan::line(&bytes, at).ok_or(Fault::new(400, "Header section does not end"))?;
            if !line.is_clean {
                return Err(Fault::LINE_END);
            }
            if line.end == at {
                break line.next;
            }
            if scan::is_folded(&bytes, line.next) {
                return Self::build_in_full(unfold(&bytes));
            }
            is_ascii &= line.is_ascii;
            has_bare_nul |= line.has_bare_nul;
            if at == 0 {
                start_line.end = line.end;
            } else {
                index.add_line(at, &bytes[at..line.end])?;
            }
            at = line.next;
        };
        if !is_ascii && std::str::from_utf8(&bytes[..at]).is_err() {
            return Err(Fault::new(400, "Header section is not UTF-8"));
        }
        if has_bare_nul {
            index.note(Fault::new(400, "NUL in header section"));
        }
        Ok(index.into_message(bytes, start_line, body_at))
    }

    #[inline(always)]
    fn into_message(mut self, bytes: Bytes, start_line: Range<usize>, body_at: usize) -> Message {
        let start = start_of(&bytes, start_line.clone());
        let body = self.body(body_at..bytes.len());
        let (fields, index_fault) = (self.fields, self.fault);
        Message { bytes, start_line: Span::new(start_line), start, fields, body, index_fault }
    }

    /// `line` starts at `at`.
    fn add_line(&mut self, at: usize, line: &[u8]) -> Result<(), Fault> {
        let (mut name_text, value) = line.split_at(scan::find(line, [b':']).unwrap_or(0));
        let mut name = Name::from_bytes(name_text);
        // A known name is a token, and few senders put blanks before the colon.
        if name == Name::Other {
            name_text = scan::trim_end(name_text);
            name = Name::from_bytes(name_text);
            if !scan::is_token(name_text) {
                self.note(Fault::new(400, "Malformed header name"));
                return Ok(());
            }
        }
        if self.fields.len() == SIP_HEADERS_MAX {
            return Err(Fault::new(400, "Too many header lines"));
        }
        let value = scan::trim_start(&value[1..]);
        let value_at = at + line.len() - value.len();
        let value = scan::trim_end(value);
        if line.len() > SIP_HEADER_BYTES_MAX {
            self.note(Fault::new(400, "Header line too long"));
        }
        if name == Name::ContentLength
            && let Err(fault) = self.length.add(value)
        {
            self.note(fault);
        }
        let name_text = Span::new(at..at + name_text.len());
        self.fields.push(Field { name, name_text, value: Span::new(value_at..value_at + value.len()) });
        Ok(())
    }

    /// RFC 3261 section 18.3: a datagram may hold more than the body, never less.
    fn body(&mut self, rest: Range<usize>) -> Span {
        let len = match self.length.value {
            Some(length) if length > rest.len() => {
                self.note(Fault::new(400, "Body is shorter than Content-Length"));
                0
            }
            Some(length) => length,
            None => rest.len(),
        };
        if len > SIP_BODY_BYTES_MAX {
            self.note(Fault::BODY_TOO_LARGE);
        }
        let len = if self.fault.is_some() { 0 } else { len };
        Span::new(rest.start..rest.start + len)
    }

    fn note(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }
}

/// Takes the start line apart at its first and last space, so that even a malformed one can be answered.
#[inline(always)]
fn start_of(text: &[u8], line: Range<usize>) -> Start {
    let bytes = &text[line.clone()];
    let first = bytes.iter().position(|byte| *byte == b' ').unwrap_or(bytes.len());
    let rest = line.start + first..line.end;
    if bytes.get(..4).is_some_and(|prefix| prefix.eq_ignore_ascii_case(b"SIP/")) {
        let rest = Span::trimmed(text, rest).range();
        let code = scan::find(&text[rest.clone()], [b' ']).unwrap_or(rest.end - rest.start);
        let status = scan::number(&text[rest.start..rest.start + code]);
        return Start::Response {
            version: Span::new(line.start..line.start + first),
            status: status.unwrap_or(0),
            reason: Span::trimmed(text, rest.start + code..rest.end),
        };
    }
    let method_text = Span::new(line.start..line.start + first);
    let rest = scan::trimmed(text, rest);
    let last = text[rest.clone()].iter().rposition(|byte| *byte == b' ').map_or(rest.end, |at| rest.start + at);
    Start::Request {
        method: Method::from_bytes(&bytes[..first]),
        method_text,
        uri: Span::trimmed(text, rest.start..last),
        version: Span::trimmed(text, last..rest.end),
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    fn parse(text: &str) -> Message {
        Message::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    #[test]
    fn a_request_is_indexed_in_order_with_names_as_written() {
        let message = parse("INVITE sip:a@b SIP/2.0\r\nv : x\r\nX-New:\r\nSubject:  two words \r\n\r\n");
        assert_eq!((message.method(), message.method_text()), (Some(Method::Invite), "INVITE"));
        assert_eq!((message.request_uri(), message.status()), ("sip:a@b", 0));
        let all: Vec<_> = message.all().collect();
        assert_eq!(all, [("v", Name::Via, "x"), ("X-New", Name::Other, ""), ("Subject", Name::Subject, "two words")]);
        assert_eq!(message.header_text("x-new"), Some(""));
        assert_eq!(message.header_text("Subject"), None, "a known name is asked for by its Name");
    }

    #[test]
    fn a_response_has_a_status_and_takes_its_method_from_cseq() {
        let message = parse("sip/2.0 486  Busy  Here\r\nCSeq: 1 BYE\r\n\r\n");
        assert_eq!((message.is_request(), message.method()), (false, None));
        assert_eq!((message.status(), message.reason_phrase()), (486, "Busy  Here"));
        assert_eq!((message.method_text(), message.request_uri()), ("BYE", ""));
        assert!(!message.is_answerable());
        assert_eq!(parse("SIP/2.0 100\r\n\r\n").status(), 100);
        assert_eq!(parse("SIP/2.0 4294967301 x\r\n\r\n").status(), 0);
    }

    #[test]
    fn folds_become_spaces_and_only_then_are_bytes_copied() {
        let plain = Bytes::from_static(b"A b SIP/2.0\r\nSubject: x\r\n\r\n folded? no\r\n body");
        let message = Message::parse(plain.clone()).unwrap();
        assert_eq!(message.bytes().as_ptr(), plain.as_ptr());
        assert_eq!(&message.body()[..], b" folded? no\r\n body");

        let folded = Bytes::from_static(b"A b SIP/2.0\r\nTo:\r\n <sip:a@b>\r\n\t;tag=1\r\n \r\nl: 3\r\n\r\nx\r\n y");
        let message = Message::parse(folded.clone()).unwrap();
        assert_eq!(message.bytes().len(), folded.len());
        assert_eq!((message.to().unwrap().uri, message.to_tag()), ("sip:a@b", Some("1")));
        assert_eq!(&message.body()[..], b"x\r\n", "the body keeps its line breaks");
    }

    #[test]
    fn lists_join_lines_and_commas() {
        let message = parse("A b SIP/2.0\r\nSupported: a, b\r\nk: c,,\"d,e\"\r\nSupported:\r\n\r\n");
        assert_eq!(message.values(Name::Supported).collect::<Vec<_>>(), ["a", "b", "c", "\"d,e\""]);
        assert_eq!(message.lines(Name::Supported).count(), 3);
        assert_eq!(message.header(Name::Allow), None);
    }

    #[test]
    fn compact_forms_without_a_name_match_their_long_form() {
        let message = parse("A b SIP/2.0\r\nu: presence\r\nAccept-Contact: *\r\n\r\n");
        assert_eq!(message.header_text("Allow-Events"), Some("presence"));
        assert_eq!(message.header_text("a"), Some("*"));
    }

    #[test]
    fn a_datagram_is_cut_at_content_length_and_may_not_be_short() {
        assert_eq!(&parse("A b SIP/2.0\r\nContent-Length : 2\r\n\r\nxyz").body()[..], b"xy");
        assert_eq!(&parse("A b SIP/2.0\r\nl:\r\n 02\r\nL: 2\r\n\r\nxyz").body()[..], b"xy");
        assert_eq!(&parse("A b SIP/2.0\r\n\r\nxyz").body()[..], b"xyz");
        for (lengths, reason) in [
            ("l: 4", "Body is shorter than Content-Length"),
            ("l: -1", "Content-Length is not a valid number"),
            ("l: 1\r\n 2", "Content-Length is not a valid number"),
            ("l:", "Content-Length is not a valid number"),
            ("l: 99999999999999999999", "Content-Length is not a valid number"),
            ("l: 1\r\nContent-Length: 2", "Content-Length headers differ"),
        ] {
            let message = parse(&format!("A b SIP/2.0\r\n{lengths}\r\n\r\nxyz"));
            assert_eq!(message.index_fault, Some(Fault::new(400, reason)), "{lengths}");
            assert!(message.body().is_empty(), "{lengths}");
        }
    }

    #[test]
    fn what_cannot_be_indexed_is_refused_by_name() {
        for (bytes, reason) in [
            (&b""[..], "Header section does not end"),
            (b"\r\n\r\n", "Header section does not end"),
            (b"A b SIP/2.0\r\nVia: x\r\n", "Header section does not end"),
            (b"A b SIP/2.0\nVia: x\n\n", "Line does not end with CRLF"),
            (b"A b SIP/2.0\r\nVia: x\rl: 5\r\n\r\n", "Line does not end with CRLF"),
            (b"A b SIP/2.0\r\nVia: x\n\r\n\r\n", "Line does not end with CRLF"),
            (b"A b SIP/2.0\r\nVia: \xff\r\n\r\n", "Header section is not UTF-8"),
        ] {
            assert_eq!(Message::parse(bytes.into()).unwrap_err(), Fault::new(400, reason), "{bytes:?}");
        }
        assert!(Message::parse(Bytes::from_static(b"A b SIP/2.0\r\n\r\n\xff\n\r")).is_ok(), "a body may be anything");
    }

    #[test]
    fn odd_header_lines_are_left_out_and_noted() {
        for line in ["no colon", "two words: x", ": x", "N\u{e9}: x", "a\u{0}: x"] {
            let message = parse(&format!("A b SIP/2.0\r\n{line}\r\nTo: x\r\n\r\n"));
            assert_eq!(message.index_fault, Some(Fault::new(400, "Malformed header name")), "{line}");
            assert_eq!(message.header(Name::To), Some("x"), "{line}");
        }
    }

    #[test]
    fn nul_stands_only_behind_a_backslash() {
        assert_eq!(parse("A b SIP/2.0\r\nTo: \"\\\0\" <sip:a>\r\n\r\n").index_fault, None);
        let fault = Some(Fault::new(400, "NUL in header section"));
        assert_eq!(parse("A b SIP/2.0\r\nTo: \0\r\n\r\n").index_fault, fault);
        assert_eq!(parse("\0A b SIP/2.0\r\n\r\n").index_fault, fault);
        assert_eq!(parse("A b SIP/2.0\r\n\r\n\0").index_fault, None);
    }

    #[test]
    fn header_lines_are_bounded() {
        let with = |lines: usize| format!("A b SIP/2.0\r\n{}\r\n", "X: y\r\n".repeat(lines));
        assert_eq!(parse(&with(SIP_HEADERS_MAX)).all().count(), SIP_HEADERS_MAX);
        let fault = Message::parse(with(SIP_HEADERS_MAX + 1).into()).unwrap_err();
        assert_eq!(fault, Fault::new(400, "Too many header lines"));
    }

    #[test]
    fn a_header_line_is_bounded_with_its_folds() {
        let fault = Some(Fault::new(400, "Header line too long"));
        for fold in ["", "\r\n "] {
            let with = |bytes: usize| {
                let text = "y".repeat(bytes - "X: ".len() - fold.len());
                parse(&format!("A b SIP/2.0\r\nX: {fold}{text}\r\n\r\n")).index_fault
            };
            assert_eq!((with(SIP_HEADER_BYTES_MAX), with(SIP_HEADER_BYTES_MAX + 1)), (None, fault), "{fold:?}");
        }
    }

    #[test]
    fn body_and_message_are_bounded() {
        let with = |body: usize| format!("A b SIP/2.0\r\n\r\n{}", "x".repeat(body));
        let largest = parse(&with(SIP_BODY_BYTES_MAX));
        assert_eq!((largest.index_fault, largest.body().len()), (None, SIP_BODY_BYTES_MAX));
        let larger = parse(&with(SIP_BODY_BYTES_MAX + 1));
        assert_eq!((larger.index_fault, larger.body().len()), (Some(Fault::BODY_TOO_LARGE), 0));

        let of_size = |bytes: usize| {
            let frame = "A b SIP/2.0\r\nl: 0\r\nX: \r\n\r\n".len();
            format!("A b SIP/2.0\r\nl: 0\r\nX: {}\r\n\r\n", "x".repeat(bytes - frame))
        };
        assert_eq!(parse(&of_size(SIP_MESSAGE_BYTES_MAX)).bytes().len(), SIP_MESSAGE_BYTES_MAX);
        let fault = Message::parse(of_size(SIP_MESSAGE_BYTES_MAX + 1).into()).unwrap_err();
        assert_eq!(fault, Fault::MESSAGE_TOO_LARGE);
    }

    #[test]
    fn the_session_description_shares_the_message_bytes() {
        let text = "A b SIP/2.0\r\nc: multipart/mixed;boundary=x\r\n\r\n--x\r\nc: application/sdp\r\n\r\nv=0\r\n--x--";
        let message = parse(text);
        let sdp = message.sdp().unwrap();
        assert_eq!(&sdp[..], b"v=0");
        assert_eq!(sdp.as_ptr(), message.bytes()[text.find("v=0").unwrap()..].as_ptr());
        assert_eq!(parse("A b SIP/2.0\r\nc: text/plain\r\n\r\nv=0").sdp(), None);
        assert_eq!(parse("A b SIP/2.0\r\n\r\nv=0").sdp(), None);
    }

    /// Messages of lines that the quick reader of `usual_lines` knows, and some that it must leave to the full one.
    fn lines() -> impl Strategy<Value = String> {
        let start = select(vec![
            "INVITE sip:a@b SIP/2.0",
            "SIP/2.0 180 Ringing",
            "A b SIP/2.0 ",
            "",
            " A b SIP/2.0",
            "A\u{e9} b",
        ]);
        let name = select(vec![
            "Via",
            "v",
            "VIA",
            "X-New-Header-With-A-Name-Of-Length",
            "l",
            "Content-Length",
            "P-Access-Network-Info",
            "a b",
            "",
        ]);
        let colon = select(vec![": ", ": ", ": ", ":", " : ", ":  ", "\t:\t", ""]);
        let value = prop_oneof![
            select(vec!["", "3", "a:b", "two words", "\"\\\0\"", "\u{e9}", "a\tb", "a\rb"]).prop_map(str::to_owned),
            (0..70_usize).prop_map(|len| "v".repeat(len)),
        ];
        let end = select(vec!["\r\n", "\r\n", "\r\n", "\r\n", " \r\n", "\n", "\r\n ", "\r\n\t"]);
        let odd = (name, colon, value, end).prop_map(|(name, colon, value, end)| [name, colon, &value, end].concat());
        let usual = select(vec![
            "Via: x\r\n",
            "CSeq: 1 INVITE\r\n",
            "X-New: y\r\n",
            "Content-Length: 3\r\n",
            "m: <sip:a@b>\r\n",
        ]);
        let line = prop_oneof![15 => usual.prop_map(str::to_owned), 1 => odd];
        let tail = select(vec!["\r\n", "\r\nbody", "\r\nv=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\n", "\r", ""]);
        (start, vec(line, 0..40), tail).prop_map(|(start, lines, tail)| format!("{start}\r\n{}{tail}", lines.concat()))
    }

    proptest! {
        #[test]
        fn a_message_is_the_same_for_the_quick_reader_and_for_the_full_one(text in lines()) {
            let found = |message: Result<Message, Fault>| {
                let message = message?;
                let fields: Vec<_> = message.all().map(|(written, name, value)| (written.to_owned(), name, value.to_owned())).collect();
                let start = format!("{:?} {:?}", message.start_line, message.start);
                Ok::<_, Fault>((start, fields, message.body(), message.index_fault))
            };
            let bytes = Bytes::from(text);
            prop_assert_eq!(found(Index::build(bytes.clone())), found(Index::build_in_full(bytes)));
        }
    }

    #[test]
    fn the_quick_reader_knows_ordinary_messages() {
        for bytes in
            [&include_bytes!("../../../tests/vectors/invite.sip")[..], include_bytes!("../../../tests/vectors/ok.sip")]
        {
            let mut fields = [Field::EMPTY; FIELDS_INLINE];
            assert!(usual_lines::read(bytes, &mut fields).is_some());
        }
    }
}
