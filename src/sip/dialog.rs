//! Dialog state (RFC 3261 section 12): identifiers, CSeq, route set, remote target.

use crate::wire::sip::{Message, Method, RequestBuilder};

/// Identifies a dialog on this side.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DialogId {
    pub call_id: String,
    pub local_tag: String,
    pub remote_tag: String,
}

/// One side of a dialog.
#[derive(Clone, Debug)]
pub struct Dialog {
    pub id: DialogId,
    /// From (as UAC) or To (as UAS) value of requests we send, without tag.
    pub local: String,
    /// The peer's, without tag.
    pub remote: String,
    /// Where in-dialog requests go: the peer's Contact URI.
    pub remote_target: String,
    pub route_set: Vec<String>,
    pub local_cseq: u32,
    pub remote_cseq: Option<u32>,
}

/// Why an in-dialog request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialogFault {
    /// CSeq lower than one seen before: 500 (RFC 3261 section 12.2.2).
    OutOfOrder,
}

impl Dialog {
    /// From an INVITE we answer (UAS, RFC 3261 section 12.1.1); `local_tag` is the tag of our responses.
    pub fn uas(invite: &Message, local_tag: &str) -> Option<Self> {
        let _ = (invite, local_tag);
        todo!()
    }

    /// From a response to an INVITE we sent (UAC, section 12.1.2); `None` without a To tag or Contact where needed.
    pub fn uac(invite: &Message, response: &Message) -> Option<Self> {
        let _ = (invite, response);
        todo!()
    }

    /// Checks and records the CSeq of a request from the peer and refreshes the remote target (section 12.2.2).
    pub fn receive(&mut self, request: &Message) -> Result<(), DialogFault> {
        let _ = request;
        todo!()
    }

    /// Refreshes the remote target from a 2xx to a target refresh request.
    pub fn refresh(&mut self, response: &Message) {
        let _ = response;
        todo!()
    }

    /// The next request of this side: Request-URI, Route, From, To, Call-ID, CSeq, Max-Forwards; the caller adds Via and
    /// Contact. ACK takes the CSeq of its INVITE: [`Dialog::ack`].
    pub fn request(&mut self, method: Method, via: &str) -> RequestBuilder {
        let _ = (method, via);
        todo!()
    }

    /// The ACK for a 2xx to the INVITE with this CSeq (section 13.2.2.4).
    pub fn ack(&self, invite_cseq: u32, via: &str) -> RequestBuilder {
        let _ = (invite_cseq, via);
        todo!()
    }
}
