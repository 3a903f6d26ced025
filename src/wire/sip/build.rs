//! Writing messages. Values are checked for line breaks, so nothing a peer sent can start a header of its own.

use std::fmt::Display;

use bytes::Bytes;

use super::message::Message;

/// Writes one request. Content-Length is always written, last.
#[derive(Debug)]
pub struct RequestBuilder {}

impl RequestBuilder {
    pub fn new(method: &str, uri: &str) -> Self {
        let _ = (method, uri);
        todo!()
    }

    /// Appends a header line. CR, LF and NUL in `value` are written as spaces.
    #[must_use]
    pub fn header(self, name: &str, value: impl Display) -> Self {
        let _ = (name, &value);
        todo!()
    }

    #[must_use]
    pub fn body(self, content_type: &str, body: &[u8]) -> Self {
        let _ = (content_type, body);
        todo!()
    }

    pub fn finish(self) -> Bytes {
        todo!()
    }
}

/// Writes the response to one request (RFC 3261 section 8.2.6): all Via values, From, To, Call-ID, CSeq are copied, and
/// Record-Route for 101-299.
#[derive(Debug)]
pub struct ResponseBuilder {}

impl ResponseBuilder {
    /// `to_tag` is appended to To when the request's To has none and the status is not 100.
    /// `received`: the source of the request, written into the top Via as `received` and `rport` (RFC 3581 section 4).
    pub fn to(request: &Message, status: u16, reason: &str, to_tag: &str, source: std::net::SocketAddr) -> Self {
        let _ = (request, status, reason, to_tag, source);
        todo!()
    }

    #[must_use]
    pub fn header(self, name: &str, value: impl Display) -> Self {
        let _ = (name, &value);
        todo!()
    }

    #[must_use]
    pub fn body(self, content_type: &str, body: &[u8]) -> Self {
        let _ = (content_type, body);
        todo!()
    }

    pub fn finish(self) -> Bytes {
        todo!()
    }
}

/// The standard reason phrase of a status code (RFC 3261 section 21 and extensions).
pub const fn reason_phrase(status: u16) -> &'static str {
    let _ = status;
    todo!()
}
