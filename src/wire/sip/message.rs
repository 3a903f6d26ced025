//! A received message: its bytes and an index of where each header stands.

use std::ops::Range;

use bytes::Bytes;
use memchr::{memchr, memchr_iter};
use smallvec::SmallVec;

pub use super::name::{Method, Name};
use super::{
    Fault, body,
    frame::ContentLength,
    headers::{CSeq, NameAddr, Via, split_values},
    name::expand_compact,
    scan,
};
use crate::types::limits::{SIP_BODY_BYTES_MAX, SIP_HEADERS_MAX, SIP_MESSAGE_BYTES_MAX};

/// One SIP message. Cheap to clone: the bytes are shared.
///
/// Lazy: [`Message::parse`] splits lines and names headers; values are read when asked for. A folded header
/// (RFC 3261 section 7.3.1) has its line breaks turned into spaces first, the only case in which bytes are copied.
#[derive(Clone, Debug)]
pub struct Message {
    bytes: Bytes,
    start_line: Span,
    start: Start,
    fields: SmallVec<[Field; FIELDS_INLINE]>,
    body: Span,
    /// The first fault that still let the message be indexed; [`super::validate`] reports it.
    pub(super) index_fault: Option<Fault>,
}

/// Header lines that need no heap. Phones send 12 to 25.
const FIELDS_INLINE: usize = 32;

/// A range of a message's bytes.
#[derive(Clone, Copy, Debug)]
struct Span {
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
struct Field {
    name: Name,
    name_text: Span,
    value: Span,
}

impl Message {
    /// Indexes one framed message: a datagram, or a frame of [`super::frame::Framer`]. Empty lines before it are ignored
    /// (RFC 3261 section 7.5).
    ///
    /// Errors are those that leave nothing to index: text that is not UTF-8, a line that does not end with CRLF, no
    /// header end, too many headers, too many bytes. [`super::salvage`] may then still find what a response needs.
    /// Everything else is [`super::validate`]'s to name.
    pub fn parse(bytes: Bytes) -> Result<Self, Fault> {
        let blank = bytes.chunks_exact(2).take_while(|pair| pair == b"\r\n").count() * 2;
        let bytes = if blank == 0 { bytes } else { bytes.slice(blank..) };
        if bytes.len() > SIP_MESSAGE_BYTES_MAX {
            return Err(Fault::MESSAGE_TOO_LARGE);
        }
        Index::build(Unfolder { bytes, unfolded: None })
    }

    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    pub const fn is_request(&self) -> bool {
        matches!(self.start, Start::Request { .. })
    }

    /// Whether a response can be sent at all: a request other than ACK whose topmost Via can be read. Whatever else is
    /// missing, the sender can still be told.
    pub fn is_answerable(&self) -> bool {
        self.method().is_some_and(|method| method != Method::Ack) && self.via().is_some()
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

    /// All header lines as `(known name, value)` in order.
    pub(super) fn known(&self) -> impl Iterator<Item = (Name, &str)> {
        self.fields.iter().map(|field| (field.name, self.text(field.value)))
    }

    /// A header the server has no [`Name`] for, by case-insensitive text. A compact form on the wire matches its long name.
    pub fn header_text(&self, name: &str) -> Option<&str> {
        let wanted = expand_compact(name);
        self.all()
            .find(|(written, known, _)| {
                *known == Name::Other && expand_compact(written).eq_ignore_ascii_case(wanted)
            })
            .map(|(_, _, value)| value)
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

    pub(super) fn has_body(&self) -> bool {
        self.body.len > 0
    }

    pub(super) fn start_line(&self) -> &str {
        self.text(self.start_line)
    }

    /// What stands where `SIP/2.0` should.
    pub(super) fn version(&self) -> &str {
        match self.start {
            Start::Request { version, .. } | Start::Response { version, .. } => self.text(version),
        }
    }

    fn text(&self, span: Span) -> &str {
        std::str::from_utf8(&self.bytes[span.range()]).expect("the header section is UTF-8 and spans end beside ASCII")
    }
}

impl Span {
    fn new(range: Range<usize>) -> Self {
        let bound = |at| u16::try_from(at).expect("a message has at most SIP_MESSAGE_BYTES_MAX bytes");
        Self { at: bound(range.start), len: bound(range.end - range.start) }
    }

    fn range(self) -> Range<usize> {
        usize::from(self.at)..usize::from(self.at) + usize::from(self.len)
    }

    /// Without blanks at either end.
    fn trimmed(text: &[u8], range: Range<usize>) -> Self {
        let is_blank = |at: &usize| matches!(text[*at], b' ' | b'\t');
        let start = range.clone().find(|at| !is_blank(at)).unwrap_or(range.end);
        let end = (start..range.end).rev().find(|at| !is_blank(at)).map_or(start, |last| last + 1);
        Self::new(start..end)
    }
}

/// A message's bytes, copied as soon as a fold must be overwritten.
struct Unfolder {
    bytes: Bytes,
    unfolded: Option<Vec<u8>>,
}

impl Unfolder {
    fn view(&self) -> &[u8] {
        self.unfolded.as_deref().unwrap_or(&self.bytes)
    }

    /// The line that starts at `from`, continuation lines joined to it. Ends before the empty line: `end == from`.
    fn line(&mut self, from: usize) -> Result<scan::Line, Fault> {
        let mut at = from;
        loop {
            let line = scan::line(self.view(), at).ok_or(Fault::new(400, "Header section does not end"))?;
            if !line.is_clean {
                return Err(Fault::LINE_END);
            }
            if line.end == from || !scan::is_folded(self.view(), line.next) {
                return Ok(line);
            }
            let copy = self.unfolded.get_or_insert_with(|| self.bytes.to_vec());
            copy[line.end..line.next].fill(b' ');
            at = line.next;
        }
    }

    fn finish(self) -> Bytes {
        self.unfolded.map_or(self.bytes, Bytes::from)
    }
}

/// Building state of the index.
struct Index {
    fields: SmallVec<[Field; FIELDS_INLINE]>,
    length: ContentLength,
    fault: Option<Fault>,
}

impl Index {
    fn build(mut unfolder: Unfolder) -> Result<Message, Fault> {
        let mut index = Self { fields: SmallVec::new(), length: ContentLength::default(), fault: None };
        let start_line = unfolder.line(0)?;
        let mut line = start_line;
        let mut at = line.next;
        loop {
            line = unfolder.line(at)?;
            if line.end == at {
                break;
            }
            index.add_line(unfolder.view(), at..line.end)?;
            at = line.next;
        }
        let head = &unfolder.view()[..at];
        if std::str::from_utf8(head).is_err() {
            return Err(Fault::new(400, "Header section is not UTF-8"));
        }
        index.check_nul(head);
        let start = start_of(head, 0..start_line.end);
        let body = index.body(line.next..unfolder.view().len());
        let start_line = Span::new(0..start_line.end);
        Ok(Message {
            bytes: unfolder.finish(),
            start_line,
            start,
            fields: index.fields,
            body,
            index_fault: index.fault,
        })
    }

    fn add_line(&mut self, text: &[u8], line: Range<usize>) -> Result<(), Fault> {
        let bytes = &text[line.clone()];
        let name_len = bytes.iter().position(|b| !scan::is_token_byte(*b)).unwrap_or(bytes.len());
        let after = &bytes[name_len..];
        let blanks = after.iter().position(|b| !matches!(b, b' ' | b'\t')).unwrap_or(after.len());
        if name_len == 0 || after.get(blanks) != Some(&b':') {
            self.note(Fault::new(400, "Malformed header name"));
            return Ok(());
        }
        if self.fields.len() == SIP_HEADERS_MAX {
            return Err(Fault::new(400, "Too many header lines"));
        }
        let name_text = line.start..line.start + name_len;
        let value = Span::trimmed(text, name_text.end + blanks + 1..line.end);
        let name = Name::from_bytes(&text[name_text.clone()]);
        if name == Name::ContentLength
            && let Err(fault) = self.length.add(&text[value.range()])
        {
            self.note(fault);
        }
        self.fields.push(Field { name, name_text: Span::new(name_text), value });
        Ok(())
    }

    /// NUL may only be the second half of an escape in a quoted string (RFC 3261 section 25.1, `quoted-pair`).
    fn check_nul(&mut self, head: &[u8]) {
        if memchr_iter(0, head).any(|at| at == 0 || head[at - 1] != b'\\') {
            self.note(Fault::new(400, "NUL in header section"));
        }
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
fn start_of(text: &[u8], line: Range<usize>) -> Start {
    let bytes = &text[line.clone()];
    let first = memchr(b' ', bytes).unwrap_or(bytes.len());
    let rest = line.start + first..line.end;
    if bytes.get(..4).is_some_and(|prefix| prefix.eq_ignore_ascii_case(b"SIP/")) {
        let rest = Span::trimmed(text, rest).range();
        let code = memchr(b' ', &text[rest.clone()]).unwrap_or(rest.len());
        let status = std::str::from_utf8(&text[rest.start..rest.start + code]).ok().and_then(scan::number);
        return Start::Response {
            version: Span::new(line.start..line.start + first),
            status: status.unwrap_or(0),
            reason: Span::trimmed(text, rest.start + code..rest.end),
        };
    }
    let method_text = Span::new(line.start..line.start + first);
    let rest = Span::trimmed(text, rest).range();
    let last = memchr::memrchr(b' ', &text[rest.clone()]).map_or(rest.end, |at| rest.start + at);
    Start::Request {
        method: std::str::from_utf8(&text[method_text.range()]).map_or(Method::Other, Method::from_text),
        method_text,
        uri: Span::trimmed(text, rest.start..last),
        version: Span::trimmed(text, last..rest.end),
    }
}
