//! What a transaction keeps of a request are its bytes. The few that must write a message from it read it again.

use std::net::SocketAddr;

use bytes::Bytes;

use crate::wire::sip::{Message, ResponseBuilder, build::reason_phrase};

pub(super) fn parsed(request: &Bytes) -> Message {
    Message::parse(request.clone()).expect("these are the bytes of a message")
}

/// The 100 of the layer's own (RFC 3261 section 17.2.1). `source`: where the request came from.
pub(super) fn trying(request: &Bytes, source: SocketAddr) -> Bytes {
    ResponseBuilder::to(&parsed(request), 100, reason_phrase(100), "", source).finish()
}
