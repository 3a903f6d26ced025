//! What the fuzz targets do with their input, as ordinary functions: `tests/vectors` replays the corpora through the same
//! ones on a stable compiler.
//!
//! A function returns if the code under it kept its promises, and panics if not.

mod admin;
mod auth;
mod calls;
mod choices;
mod dialog;
mod documents;
mod frame;
mod locate;
mod machine;
mod media;
mod offer_answer;
mod registrar;
mod session_timer;
mod transactions;

use bytes::Bytes;
use ringdown::{
    types::{Rng, limits::SIP_MESSAGE_BYTES_MAX},
    wire::{
        classify::classify,
        rtcp, rtp, sdp,
        sip::{
            CSeq, Message, NameAddr, Params, ResponseBuilder, Uri, Via, digest,
            frame::{Frame, FrameError, Framer},
            salvage, validate,
        },
        srtp::{Inbound, MasterKey, Mki, Suite},
    },
};

pub use admin::admin;
pub use auth::auth;
pub use calls::calls;
pub use dialog::dialog;
pub use documents::{config, dialled, events, pidf, stun};
pub use frame::frame;
pub use locate::locate;
pub use machine::machine;
pub use media::media;
pub use offer_answer::offer_answer;
pub use registrar::registrar;
pub use session_timer::session_timer;
pub use transactions::transactions;

/// A stream: the first byte says how it is cut. Neither the cut nor anything else may change where messages end, and what
/// is framed is read to the same end.
pub fn framer(data: &[u8]) {
    let Some((&piece, stream)) = data.split_first() else { return };
    let whole = frames(std::iter::once(stream));
    let cut = frames(stream.chunks(usize::from(piece).max(1)));
    assert_eq!(whole, cut, "frames depend on how the stream is cut");
    for frame in whole {
        let Ok(Frame::Message(bytes)) = frame else { continue };
        assert!(bytes.len() <= SIP_MESSAGE_BYTES_MAX);
        let Ok(message) = Message::parse(bytes.clone()) else { continue };
        let body = message.body();
        assert!(body.is_empty() || bytes.ends_with(&body), "the index ends the body elsewhere");
        read_message(&message);
    }
}

fn frames<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<Result<Frame, FrameError>> {
    let mut framer = Framer::new();
    let mut found = Vec::new();
    for piece in pieces {
        framer.push(piece);
        while let Some(frame) = framer.poll().transpose() {
            found.push(frame);
        }
    }
    found
}

/// One datagram.
pub fn sip(data: &[u8]) {
    match Message::parse(Bytes::copy_from_slice(data)) {
        Ok(message) => read_message(&message),
        Err(_) => salvage(data).iter().for_each(read_message),
    }
}

/// Reads everything that the server could, and answers.
fn read_message(message: &Message) {
    let verdict = validate(message);
    let _ = (message.method_text(), message.request_uri(), message.reason_phrase(), message.status());
    let _ = (message.via(), message.from_tag(), message.to_tag(), message.contact(), message.call_id(), message.cseq());
    let _ = (message.sdp(), format!("{message:?}"));
    for (name, known, value) in message.all() {
        let _ = (message.header_text(name), message.values(known).count());
        read_value(value);
        message.values(known).for_each(read_value);
    }
    if verdict.is_ok() && message.is_request() {
        assert!(
            message.via().is_some() && message.from().is_some() && message.to().is_some() && message.cseq().is_some()
        );
    }
    if message.is_request() {
        let source = "[2001:db8::1]:5060".parse().expect("an address");
        let answer = ResponseBuilder::to(message, 200, "OK", "tag", source).body("a/b", b"x").finish();
        let answer = Message::parse(answer).expect("an answer can be indexed");
        assert_eq!(&answer.body()[..], b"x", "something of the request ended the answer's header section");
        if verdict.is_ok() {
            assert_eq!(validate(&answer), Ok(()), "the answer to a valid request is valid");
        }
    }
}

fn read_value(value: &str) {
    if let Some(uri) = Uri::parse(value) {
        let _ = (uri.user_decoded(), uri.host_ip(), uri.params.iter().count());
    }
    if let Some(address) = NameAddr::parse(value) {
        let _ = (address.tag(), address.params.iter().count(), Uri::parse(address.uri));
    }
    if let Some(via) = Via::parse(value) {
        let _ = (via.branch(), via.received(), via.wants_rport());
    }
    let _ = (CSeq::parse(value), Params { text: value }.iter().count());
    if let Some(response) = digest::Response::parse(value) {
        let _ = response.matches(&digest::Credential::derive("u", "r", "p"), "INVITE", b"");
    }
    let _ = digest::answer(std::iter::once(value), "u", "p", "INVITE", "sip:a", b"", "c", 1);
}

/// A session description. What is read can be written, and is then read the same way.
pub fn sdp(data: &[u8]) {
    let Ok(session) = sdp::parse(data) else { return };
    let address = "192.0.2.1".parse().expect("an address");
    let printed = sdp::print(&session, address);
    let again = sdp::parse(printed.as_bytes()).expect("what is printed can be read");
    assert_eq!(again.media.len(), session.media.len());
    assert_eq!(sdp::print(&again, address), printed, "what is read is printed otherwise");
}

/// Packets for one receiver: the first byte chooses the suite, the next the length of the master key identifier; then
/// each packet behind a byte that says of which kind it is (bit 7) and how long.
pub fn srtp(data: &[u8]) {
    let [suite, mki, rest @ ..] = data else { return };
    let mut rest = rest;
    let suite = Suite::ALL[usize::from(*suite) % Suite::ALL.len()];
    let mut inbound = Inbound::new(suite, &srtp_key(suite), Mki::new(&[*mki; 4][..usize::from(mki % 5)]));
    while let [kind, more @ ..] = rest {
        let (packet, after) = more.split_at(more.len().min(usize::from(kind & 0x7f)));
        rest = after;
        let mut unprotect = |packet: &[u8]| {
            let mut buffer = packet.to_vec();
            let result =
                if kind & 0x80 == 0 { inbound.unprotect_rtp(&mut buffer) } else { inbound.unprotect_rtcp(&mut buffer) };
            result.inspect(|len| assert!(*len < packet.len(), "nothing was taken off"))
        };
        if unprotect(packet).is_ok() {
            unprotect(packet).expect_err("the same packet passes once");
        }
    }
}

/// The key of every receiver of [`srtp`].
fn srtp_key(suite: Suite) -> MasterKey {
    MasterKey::generate(suite, &mut Rng::from_seed([7; 32]))
}

/// A packet as it stands behind SRTP: classified, then read as RTP.
pub fn rtp(data: &[u8]) {
    let _ = classify(data);
    if let Ok(header) = rtp::Header::parse(data) {
        let payload = rtp::payload(data).ok();
        assert!(payload.is_none_or(|payload| payload.len() < data.len()), "{header:?}");
        let mut changed = data.to_vec();
        rtp::set_payload_type(&mut changed, 101);
        rtp::Header::parse(&changed).expect("only its payload type has changed");
    }
}

/// A compound as it stands behind SRTCP.
pub fn rtcp(data: &[u8]) {
    let is_good = rtcp::check(data).is_ok();
    for packet in rtcp::packets(data) {
        match packet {
            Ok(rtcp::Packet::SourceDescription(description)) => drop(description.chunks().count()),
            Ok(rtcp::Packet::Goodbye(goodbye)) => drop(goodbye.ssrcs().count()),
            Ok(packet) => drop(format!("{packet:?}")),
            Err(_) => assert!(!is_good, "a compound that was checked holds a malformed packet"),
        }
    }
}
