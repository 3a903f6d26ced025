//! Where one message ends and the next begins: the only reader of Content-Length in the server.

use bytes::Bytes;

use super::Fault;

/// What a stream yields.
#[derive(Debug)]
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
pub struct Framer {}

/// A stream that cannot be cut any further. `answer` holds the bytes up to the header end when a response can still be
/// built from them; the connection must be closed afterwards.
#[derive(Debug)]
pub struct FrameError {
    pub fault: Fault,
    pub head: Option<Bytes>,
}

impl Framer {
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends received bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        let _ = bytes;
        todo!()
    }

    /// The next frame, or `None` until more bytes arrive.
    pub fn poll(&mut self) -> Result<Option<Frame>, FrameError> {
        todo!()
    }

    /// Bytes buffered for an incomplete message: a sender that stays here for long is cut off by the shell.
    pub fn pending_bytes(&self) -> usize {
        todo!()
    }
}

/// Whether a datagram is a keep-alive (CRLF only, or empty) rather than a message.
pub fn is_keep_alive(datagram: &[u8]) -> bool {
    datagram.iter().all(|b| matches!(b, b'\r' | b'\n' | 0))
}
