//! Where one message ends and the next begins: the only reader of Content-Length in the server.
//!
//! The stream framer here and the header index of [`super::message`] walk lines with the same functions and judge
//! Content-Length with the same rule, so no byte can belong to one message for one of them and to the next for the other.

use std::mem;

use bytes::{Bytes, BytesMut};

use super::{Fault, Name, scan};
use crate::types::limits::{SIP_BODY_BYTES_MAX, SIP_MESSAGE_BYTES_MAX};

/// What a stream yields.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    Message(Bytes),
    /// CRLF CRLF: answer with [`PONG`] (RFC 5626 section 3.5.1).
    Ping,
    /// A lone CRLF between messages.
    Pong,
}

/// The answer to a keep-alive ping.
pub const PONG: &[u8] = b"\r\n";

/// Cuts a TCP or TLS byte stream into messages (RFC 3261 section 18.3).
#[derive(Debug, Default)]
pub struct Framer {
    buffer: BytesMut,
    /// Start of the first line of the header section that has not been seen whole.
    line_at: usize,
    /// Set by a line of the current header section that does not end with CRLF.
    is_unclean: bool,
    /// Bytes of the current message, once its header section is complete.
    message_bytes: Option<usize>,
    /// After an error nothing is read any more.
    is_broken: bool,
}

/// A stream that cannot be cut any further. `head` holds the bytes up to the header end when a response can still be
/// built from them, by [`super::salvage`]; the connection must be closed afterwards.
#[derive(Debug, PartialEq, Eq)]
pub struct FrameError {
    pub fault: Fault,
    pub head: Option<Bytes>,
}

impl Framer {
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends received bytes. After an error they are discarded.
    pub fn push(&mut self, bytes: &[u8]) {
        if !self.is_broken {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The next frame, or `None` until more bytes arrive.
    pub fn poll(&mut self) -> Result<Option<Frame>, FrameError> {
        if self.line_at == 0
            && let Some(between) = self.between_messages()
        {
            return Ok(between);
        }
        if self.message_bytes.is_none() {
            self.message_bytes = self.measure().inspect_err(|_| self.give_up())?;
        }
        match self.message_bytes {
            Some(bytes) if bytes <= self.buffer.len() => {
                let message = self.take(bytes).freeze();
                self.line_at = 0;
                self.message_bytes = None;
                Ok(Some(Frame::Message(message)))
            }
            Some(_) | None => Ok(None),
        }
    }

    /// Bytes buffered for an incomplete message: a sender that stays here for long is cut off by the shell.
    pub fn pending_bytes(&self) -> usize {
        // The beginnings of a ping; anything else is, or pretends to be, a message.
        if matches!(self.buffer[..], [b'\r'] | [b'\r', b'\n'] | [b'\r', b'\n', b'\r']) { 0 } else { self.buffer.len() }
    }

    /// Takes keep-alives off the front. The inner `None` means that more bytes must tell a ping from a pong; the outer one,
    /// that a message starts here.
    fn between_messages(&mut self) -> Option<Option<Frame>> {
        let (frame, bytes) = match &self.buffer[..] {
            [b'\r', b'\n', b'\r', b'\n', ..] => (Frame::Ping, 4),
            [] | [b'\r'] | [b'\r', b'\n'] | [b'\r', b'\n', b'\r'] => return Some(None),
            [b'\r', b'\n', ..] => (Frame::Pong, 2),
            _ => return None,
        };
        let _ = self.take(bytes);
        Some(Some(frame))
    }

    /// The first bytes. Without any behind them the buffer goes as well: an idle connection keeps none.
    fn take(&mut self, bytes: usize) -> BytesMut {
        if bytes == self.buffer.len() { mem::take(&mut self.buffer) } else { self.buffer.split_to(bytes) }
    }

    /// Length of the message at the front, once its header section is complete.
    fn measure(&mut self) -> Result<Option<usize>, FrameError> {
        let Some(head_bytes) = self.scan_head() else {
            return if self.buffer.len() > SIP_MESSAGE_BYTES_MAX {
                Err(FrameError { fault: Fault::MESSAGE_TOO_LARGE, head: None })
            } else {
                Ok(None)
            };
        };
        if head_bytes > SIP_MESSAGE_BYTES_MAX {
            return Err(FrameError { fault: Fault::MESSAGE_TOO_LARGE, head: None });
        }
        match body_bytes(&self.buffer[..head_bytes], self.is_unclean) {
            Ok(body_bytes) if head_bytes + body_bytes > SIP_MESSAGE_BYTES_MAX => Err(Fault::MESSAGE_TOO_LARGE),
            Ok(body_bytes) => Ok(Some(head_bytes + body_bytes)),
            Err(fault) => Err(fault),
        }
        .map_err(|fault| FrameError { fault, head: Some(self.buffer.split_to(head_bytes).freeze()) })
    }

    /// Length of the header section, its empty line included. Resumes at the first line that was not whole last time.
    fn scan_head(&mut self) -> Option<usize> {
        while let Some(line) = scan::line(&self.buffer, self.line_at) {
            self.is_unclean |= !line.is_clean;
            if line.end == self.line_at {
                return Some(line.next);
            }
            self.line_at = line.next;
        }
        None
    }

    fn give_up(&mut self) {
        *self = Self { is_broken: true, ..Self::default() };
    }
}

/// Body length of a stream message from its header section.
fn body_bytes(head: &[u8], is_unclean: bool) -> Result<usize, Fault> {
    if is_unclean {
        return Err(Fault::LINE_END);
    }
    let first_field = scan::logical_line(head, 0).map_or(head.len(), |start_line| start_line.next);
    let mut length = ContentLength::default();
    for (name, value) in scan::fields(head, first_field) {
        if Name::from_bytes(name) == Name::ContentLength {
            length.add(value)?;
        }
    }
    // RFC 3261 section 20.14: mandatory on stream transports. Nothing else says where the message ends.
    length.value.ok_or(Fault::new(400, "Missing Content-Length header"))
}

/// The one rule for Content-Length (RFC 3261 section 20.14): digits only, all occurrences alike, no larger than
/// [`SIP_BODY_BYTES_MAX`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ContentLength {
    /// Bytes; `None` without the header, or after a fault.
    pub(super) value: Option<usize>,
}

impl ContentLength {
    /// Reads one more occurrence; `value` may still hold folds.
    pub(super) fn add(&mut self, value: &[u8]) -> Result<(), Fault> {
        let length: usize =
            scan::number(scan::trim_lws(value)).ok_or(Fault::new(400, "Content-Length is not a valid number"))?;
        if self.value.is_some_and(|earlier| earlier != length) {
            return Err(Fault::new(400, "Content-Length headers differ"));
        }
        if length > SIP_BODY_BYTES_MAX {
            return Err(Fault::BODY_TOO_LARGE);
        }
        self.value = Some(length);
        Ok(())
    }
}

/// Whether a datagram is a keep-alive (CRLF only, or empty) rather than a message.
pub fn is_keep_alive(datagram: &[u8]) -> bool {
    datagram.iter().all(|b| matches!(b, b'\r' | b'\n' | 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::limits::STREAM_READ_BYTES_MAX;

    /// All frames of `stream` pushed in pieces of `size`, and the error that ended it.
    fn frames(stream: &[u8], size: usize) -> (Vec<Frame>, Option<FrameError>) {
        let mut framer = Framer::new();
        let mut found = Vec::new();
        for piece in stream.chunks(size) {
            framer.push(piece);
            loop {
                match framer.poll() {
                    Ok(Some(frame)) => found.push(frame),
                    Ok(None) => break,
                    Err(error) => return (found, Some(error)),
                }
            }
        }
        (found, None)
    }

    fn message(text: &[u8]) -> Frame {
        Frame::Message(Bytes::copy_from_slice(text))
    }

    #[test]
    fn frames_do_not_depend_on_how_the_stream_is_cut() {
        let first = b"A b SIP/2.0\r\nX: y\r\nContent-Length : \r\n 4\r\n\r\n\r\n\r\n";
        let second = b"A b SIP/2.0\r\nl:0\r\n\r\n";
        let stream = [b"\r\n\r\n\r\n", &first[..], b"\r\n", second, b"\r\n\r\n", second].concat();
        let expected =
            [Frame::Ping, Frame::Pong, message(first), Frame::Pong, message(second), Frame::Ping, message(second)];
        for size in 1..=stream.len() {
            let (found, error) = frames(&stream, size);
            assert_eq!((&found[..], error), (&expected[..], None), "pieces of {size}");
        }
    }

    #[test]
    fn a_partial_message_is_pending_and_a_keep_alive_is_not() {
        let mut framer = Framer::new();
        framer.push(b"\r\n");
        assert_eq!((framer.poll().unwrap(), framer.pending_bytes()), (None, 0));
        framer.push(b"\r\nINV");
        assert_eq!((framer.poll().unwrap(), framer.poll().unwrap()), (Some(Frame::Ping), None));
        assert_eq!(framer.pending_bytes(), 3);
        for noise in ["\0", "\0\0\0", "\r\r", "\r\0", "\r\n\0"] {
            let mut framer = Framer::new();
            framer.push(noise.as_bytes());
            while framer.poll().unwrap().is_some() {}
            assert!(framer.pending_bytes() > 0, "{noise:?} may stay for ever");
        }
    }

    #[test]
    fn nothing_is_kept_between_messages() {
        let mut framer = Framer::new();
        for (stream, frame) in [
            (&b"\r\n\r\n"[..], Frame::Ping),
            (b"A b SIP/2.0\r\nl:4\r\n\r\nbody", message(b"A b SIP/2.0\r\nl:4\r\n\r\nbody")),
        ] {
            framer.push(stream);
            assert!(framer.buffer.capacity() > 0);
            assert_eq!(framer.poll().unwrap(), Some(frame));
            assert_eq!((framer.poll().unwrap(), framer.buffer.capacity()), (None, 0));
        }
    }

    #[test]
    fn a_stream_that_cannot_be_cut_names_the_fault_and_stays_broken() {
        for (fields, status, reason) in [
            ("X: y\r\n", 400, "Missing Content-Length header"),
            ("l: x\r\n", 400, "Content-Length is not a valid number"),
            ("l: -5\r\n", 400, "Content-Length is not a valid number"),
            ("l: 5\r\nContent-Length: 6\r\n", 400, "Content-Length headers differ"),
            ("l: 5\n", 400, "Line does not end with CRLF"),
            ("X: \rl: 5\r\nl: 0\r\n", 400, "Line does not end with CRLF"),
            (" l: 5\r\n", 400, "Missing Content-Length header"),
        ] {
            let head = format!("A b SIP/2.0\r\n{fields}\r\n");
            let stream = format!("{head}12345A b SIP/2.0\r\nl: 0\r\n\r\n");
            for size in [1, 7, stream.len()] {
                let (found, error) = frames(stream.as_bytes(), size);
                let fault = Fault { status, reason: error.as_ref().unwrap().fault.reason };
                assert_eq!(fault.reason, reason, "{fields:?}");
                assert_eq!(error, Some(FrameError { fault, head: Some(head.clone().into()) }), "{fields:?}");
                assert!(found.is_empty());
            }
        }
        let mut framer = Framer::new();
        framer.push(b"A b SIP/2.0\r\n\r\n");
        assert!(framer.poll().is_err());
        framer.push(b"A b SIP/2.0\r\nl: 0\r\n\r\n");
        assert_eq!((framer.poll().unwrap(), framer.pending_bytes()), (None, 0));
    }

    #[test]
    fn line_feeds_alone_end_a_head_for_the_answer_but_not_for_a_message() {
        let (found, error) = frames(b"A b SIP/2.0\nVia: x\nl: 0\n\nA b", 1);
        let head = Some(Bytes::from_static(b"A b SIP/2.0\nVia: x\nl: 0\n\n"));
        assert_eq!((found, error), (vec![], Some(FrameError { fault: Fault::LINE_END, head })));
    }

    /// A connection holds no more than this, whatever its peer sends.
    #[test]
    fn what_waits_for_the_rest_of_a_message_is_no_larger_than_a_message() {
        let largest = |bytes: usize| {
            let frame = "A b SIP/2.0\r\nl: 1\r\nX: \r\n\r\n".len();
            format!("A b SIP/2.0\r\nl: 1\r\nX: {}\r\n\r\n", "x".repeat(bytes - frame - 1))
        };
        for bytes in [SIP_MESSAGE_BYTES_MAX, SIP_MESSAGE_BYTES_MAX + 1] {
            let mut framer = Framer::new();
            let mut is_open = true;
            for piece in largest(bytes).as_bytes().chunks(STREAM_READ_BYTES_MAX) {
                framer.push(piece);
                assert!(framer.buffer.len() < SIP_MESSAGE_BYTES_MAX + STREAM_READ_BYTES_MAX);
                is_open = framer.poll().is_ok();
                assert!(framer.pending_bytes() < SIP_MESSAGE_BYTES_MAX);
            }
            assert_eq!(is_open, bytes == SIP_MESSAGE_BYTES_MAX);
            assert_eq!(framer.pending_bytes(), if is_open { bytes - 1 } else { 0 });
        }
    }

    #[test]
    fn bodies_and_messages_are_bounded() {
        let with_body = |body: usize| format!("A b SIP/2.0\r\nl: {body}\r\n\r\n{}", "x".repeat(body));
        assert_eq!(frames(with_body(SIP_BODY_BYTES_MAX).as_bytes(), 4096).0.len(), 1);
        let (_, error) = frames(with_body(SIP_BODY_BYTES_MAX + 1).as_bytes(), 4096);
        assert_eq!(error.unwrap().fault, Fault::BODY_TOO_LARGE);

        let of_size = |bytes: usize, body: usize| {
            let frame = format!("A b SIP/2.0\r\nl: {body}\r\nX: \r\n\r\n").len() + body;
            format!("A b SIP/2.0\r\nl: {body}\r\nX: {}\r\n\r\n{}", "x".repeat(bytes - frame), "y".repeat(body))
        };
        for body in [0, SIP_BODY_BYTES_MAX] {
            assert_eq!(frames(of_size(SIP_MESSAGE_BYTES_MAX, body).as_bytes(), 4096).0.len(), 1);
            let (found, error) = frames(of_size(SIP_MESSAGE_BYTES_MAX + 1, body).as_bytes(), 4096);
            assert_eq!((found, error.unwrap().fault), (vec![], Fault::MESSAGE_TOO_LARGE));
        }
        let endless = vec![b'x'; SIP_MESSAGE_BYTES_MAX + 1];
        assert_eq!(frames(&endless[1..], 4096).1, None);
        assert_eq!(frames(&endless, 4096).1, Some(FrameError { fault: Fault::MESSAGE_TOO_LARGE, head: None }));
    }
}
