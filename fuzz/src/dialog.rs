//! A dialog from either side, out of messages that anyone could have written.

use bytes::Bytes;
use ringdown::{
    sip::dialog::Dialog,
    types::limits::SIP_REQUEST_URI_BYTES_MAX,
    wire::sip::{Message, Method, validate},
};

const VIA: &str = "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1";

/// Messages separated by NUL bytes, a line feed of theirs as CRLF: an INVITE, a response to it, then what the peer sends in
/// the dialog. The first byte of each of the latter says which side hears it. What the server then sends is well-formed.
pub fn dialog(data: &[u8]) {
    let mut texts = data.split(|byte| *byte == 0).take(16);
    let Some(invite) = texts.next().and_then(message).filter(Message::is_request) else { return };
    let mut uas = Dialog::uas(&invite, "ours").expect("a valid request has all that a dialog needs");
    check(&mut uas);
    let response = texts.next().and_then(message).filter(|response| !response.is_request());
    // As UAC the INVITE is ours, and our numbers begin low.
    let is_ours = invite.cseq().is_some_and(|cseq| cseq.number < 1 << 30);
    let mut uac = response.filter(|_| is_ours).and_then(|response| Dialog::uac(&invite, &response));
    uac.iter_mut().for_each(check);
    for text in texts {
        let Some((&side, text)) = text.split_first() else { continue };
        let (Some(message), Some(dialog)) = (message(text), if side & 1 == 0 { Some(&mut uas) } else { uac.as_mut() })
        else {
            continue;
        };
        let seen = dialog.remote_cseq;
        if !message.is_request() {
            dialog.refresh(&message);
        } else if dialog.receive(&message).is_err() {
            assert_eq!(dialog.remote_cseq, seen, "a refused request counts");
        }
        assert!(dialog.remote_cseq >= seen, "CSeq goes down");
        check(dialog);
    }
}

fn message(text: &[u8]) -> Option<Message> {
    let text = String::from_utf8_lossy(text).replace("\r\n", "\n").replace('\n', "\r\n");
    Message::parse(Bytes::from(text)).ok().filter(|message| validate(message).is_ok())
}

fn check(dialog: &mut Dialog) {
    let before = dialog.local_cseq;
    let bye = Message::parse(dialog.request(Method::Bye, VIA).finish()).expect("a request of ours can be indexed");
    // The length of a Request-URI is as the peer wanted it.
    let is_good = |request: &Message| match validate(request) {
        Ok(()) => true,
        Err(fault) => fault.status == 414 && request.request_uri().len() > SIP_REQUEST_URI_BYTES_MAX,
    };
    assert!(is_good(&bye), "{:?}", bye.bytes());
    assert!(dialog.local_cseq >= before);
    assert_eq!(bye.call_id(), dialog.id.call_id);
    assert_eq!(bye.from_tag().unwrap_or_default(), dialog.id.local_tag);
    assert_eq!(bye.to_tag().unwrap_or_default(), dialog.id.remote_tag);
    assert_eq!(bye.request_uri(), dialog.request_uri());
    assert_eq!(bye.cseq().map(|cseq| cseq.number), Some(dialog.local_cseq));
    let ack = Message::parse(dialog.ack(7, VIA).finish()).expect("an ACK of ours can be indexed");
    assert!(is_good(&ack), "{:?}", ack.bytes());
}
