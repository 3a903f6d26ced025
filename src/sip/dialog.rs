//! Dialog state (RFC 3261 section 12): identifiers, CSeq, route set, remote target.

use std::fmt;

use crate::{
    sip::MAX_FORWARDS,
    types::limits::{ROUTES_BYTES_MAX, ROUTES_MAX},
    wire::sip::{Message, Method, Name, NameAddr, RequestBuilder, Uri, uri::without_headers},
};

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
    /// Where in-dialog requests go: the peer's Contact URI without its headers, for it becomes the Request-URI.
    pub remote_target: String,
    pub route_set: Vec<String>,
    pub local_cseq: u32,
    pub remote_cseq: Option<u32>,
    /// Set up by a `sips` Request-URI: the remote target never becomes a plain `sip` URI (section 12.1.1).
    pub is_secure: bool,
}

/// Why an in-dialog request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialogFault {
    /// CSeq lower than one seen before: 500 (RFC 3261 section 12.2.2).
    OutOfOrder,
}

/// Whether a dialog can keep the Record-Route set of a message.
pub fn has_bounded_routes(message: &Message) -> bool {
    let routes = || message.values(Name::RecordRoute);
    routes().count() <= ROUTES_MAX && routes().map(str::len).sum::<usize>() <= ROUTES_BYTES_MAX
}

/// The Record-Route set, as far as a dialog can keep it.
fn routes(message: &Message) -> Vec<String> {
    let mut left = ROUTES_BYTES_MAX;
    let fits = |route: &&str| {
        let rest = left.checked_sub(route.len());
        left = rest.unwrap_or(left);
        rest.is_some()
    };
    message.values(Name::RecordRoute).take(ROUTES_MAX).take_while(fits).map(str::to_owned).collect()
}

impl Dialog {
    /// From an INVITE we answer (UAS, RFC 3261 section 12.1.1); `local_tag` is the tag of our responses. `None` without
    /// From, To or CSeq. A peer without From tag (RFC 2543) has the empty one, and one without Contact is reached at its
    /// From.
    pub fn uas(invite: &Message, local_tag: &str) -> Option<Self> {
        let remote_target = invite.contact().or_else(|| invite.from())?.uri;
        Some(Self {
            id: DialogId {
                call_id: invite.call_id().to_owned(),
                local_tag: local_tag.to_owned(),
                remote_tag: invite.from_tag().unwrap_or_default().to_owned(),
            },
            local: without_params(&invite.to()?),
            remote: without_params(&invite.from()?),
            remote_target: without_headers(remote_target).to_owned(),
            route_set: routes(invite),
            local_cseq: 0,
            remote_cseq: Some(invite.cseq()?.number),
            is_secure: is_sips(invite.request_uri()),
        })
    }

    /// From a response to an INVITE we sent (UAC, section 12.1.2); `None` without a To tag or, in a 2xx, a Contact. An
    /// early dialog without Contact keeps the Request-URI as its target. The 2xx makes the dialog anew, with its own
    /// route set (section 13.2.2.4).
    pub fn uac(invite: &Message, response: &Message) -> Option<Self> {
        let remote_target = match response.contact() {
            Some(contact) => contact.uri,
            None if response.status() < 200 => invite.request_uri(),
            None => return None,
        };
        let mut route_set = routes(response);
        route_set.reverse();
        Some(Self {
            id: DialogId {
                call_id: invite.call_id().to_owned(),
                local_tag: invite.from_tag().unwrap_or_default().to_owned(),
                remote_tag: response.to_tag()?.to_owned(),
            },
            local: without_params(&invite.from()?),
            remote: without_params(&response.to()?),
            remote_target: without_headers(remote_target).to_owned(),
            route_set,
            local_cseq: invite.cseq()?.number,
            remote_cseq: None,
            is_secure: is_sips(invite.request_uri()),
        })
    }

    /// Checks and records the CSeq of a request from the peer and refreshes the remote target (section 12.2.2). ACK and
    /// CANCEL carry the number of their INVITE, so they neither fail nor count.
    pub fn receive(&mut self, request: &Message) -> Result<(), DialogFault> {
        let method = request.method();
        if matches!(method, Some(Method::Ack | Method::Cancel)) {
            return Ok(());
        }
        let number = request.cseq().ok_or(DialogFault::OutOfOrder)?.number;
        if self.remote_cseq.is_some_and(|seen| number < seen) {
            return Err(DialogFault::OutOfOrder);
        }
        self.remote_cseq = Some(number);
        // The methods of RFC 3261 section 12.2 and RFC 3311 section 5.1 that move a target.
        if matches!(method, Some(Method::Invite | Method::Update)) {
            self.refresh(request);
        }
        Ok(())
    }

    /// Refreshes the remote target from a 2xx to a target refresh request.
    pub fn refresh(&mut self, response: &Message) {
        if let Some(contact) = response.contact()
            && (!self.is_secure || is_sips(contact.uri))
        {
            without_headers(contact.uri).clone_into(&mut self.remote_target);
        }
    }

    /// The next request of this side: Request-URI, Via, Route, From, To, Call-ID, CSeq, Max-Forwards; the caller adds
    /// Contact and whatever else it needs. ACK takes the CSeq of its INVITE: [`Dialog::ack`].
    pub fn request(&mut self, method: Method, via: &str) -> RequestBuilder {
        self.local_cseq = self.local_cseq.saturating_add(1);
        self.build(method, self.local_cseq, via)
    }

    /// The ACK for a 2xx to the INVITE with this CSeq (section 13.2.2.4); the caller adds the credentials of the INVITE, if
    /// it had any.
    pub fn ack(&self, invite_cseq: u32, via: &str) -> RequestBuilder {
        self.build(Method::Ack, invite_cseq, via)
    }

    /// Request-URI of requests in the dialog.
    pub fn request_uri(&self) -> String {
        self.route().0.to_owned()
    }

    fn build(&self, method: Method, cseq: u32, via: &str) -> RequestBuilder {
        let (uri, routes) = self.route();
        let mut builder =
            RequestBuilder::new(method.as_str(), uri).header("Via", via).header("Max-Forwards", MAX_FORWARDS);
        for route in routes {
            builder = builder.header("Route", route);
        }
        builder
            .header("From", with_tag(&self.local, &self.id.local_tag))
            .header("To", with_tag(&self.remote, &self.id.remote_tag))
            .header("Call-ID", &self.id.call_id)
            .header("CSeq", format_args!("{cseq} {}", method.as_str()))
    }

    /// Request-URI and Route values (section 12.2.1.1). A first route without `lr` is a strict router: it takes the place of
    /// the Request-URI, and the remote target comes last in the route.
    fn route(&self) -> (&str, Vec<String>) {
        let strict = self.route_set.first().and_then(|first| strict_router(first));
        match strict {
            Some(router) => {
                let target = format!("<{}>", self.remote_target);
                (router, self.route_set.iter().skip(1).cloned().chain([target]).collect())
            }
            None => (&self.remote_target, self.route_set.clone()),
        }
    }
}

/// The URI of a route that does not understand loose routing, without the URI headers that a Request-URI must not have.
fn strict_router(route: &str) -> Option<&str> {
    let uri = NameAddr::parse(route)?.uri;
    let is_loose = Uri::parse(uri)?.params.has("lr");
    (!is_loose).then(|| without_headers(uri))
}

/// Display name and URI, always in angle brackets. Parameters other than the tag have no meaning in a dialog.
fn without_params(party: &NameAddr<'_>) -> String {
    match party.display {
        "" => format!("<{}>", party.uri),
        display => format!("{display} <{}>", party.uri),
    }
}

/// A peer of RFC 2543 has no tag, and then gets none back (section 12.2.1.1).
fn with_tag(party: &str, tag: &str) -> impl fmt::Display {
    fmt::from_fn(move |f| match tag {
        "" => f.write_str(party),
        tag => write!(f, "{party};tag={tag}"),
    })
}

/// Whether a URI asks for TLS on every hop (RFC 3261 section 26.2.2).
pub fn is_sips(uri: &str) -> bool {
    Uri::parse(uri).is_some_and(|uri| uri.scheme.eq_ignore_ascii_case("sips"))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn parse(text: &str) -> Message {
        Message::parse(Bytes::from(text.replace('\n', "\r\n"))).unwrap()
    }

    /// An INVITE with further header lines, each ended by a line feed.
    fn invite(uri: &str, extra: &str) -> Message {
        parse(&format!(
            "INVITE {uri} SIP/2.0\n\
             Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\n\
             From: \"Ann \\\"A\\\"\" <sip:1001@example.com>;tag=ann;x=y\n\
             To: sip:1002@example.com\n\
             Call-ID: one\n\
             CSeq: 7 INVITE\n\
             {extra}Content-Length: 0\n\n"
        ))
    }

    fn response(status: u16, extra: &str) -> Message {
        parse(&format!(
            "SIP/2.0 {status} Whatever\n\
             Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\n\
             From: \"Ann \\\"A\\\"\" <sip:1001@example.com>;tag=ann\n\
             To: <sip:1002@example.com>;tag=bob\n\
             Call-ID: one\n\
             CSeq: 7 INVITE\n\
             {extra}Content-Length: 0\n\n"
        ))
    }

    fn in_dialog(method: &str, cseq: u32, extra: &str) -> Message {
        parse(&format!(
            "{method} sip:us@192.0.2.9 SIP/2.0\n\
             Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK2\n\
             From: <sip:1001@example.com>;tag=ann\n\
             To: <sip:1002@example.com>;tag=bob\n\
             Call-ID: one\n\
             CSeq: {cseq} {method}\n\
             {extra}Content-Length: 0\n\n"
        ))
    }

    const CONTACT: &str = "Contact: <sip:ann@192.0.2.1:5062;transport=tcp>\n";

    fn uas() -> Dialog {
        Dialog::uas(&invite("sip:1002@example.com", CONTACT), "bob").unwrap()
    }

    fn written(builder: RequestBuilder) -> Message {
        Message::parse(builder.finish()).unwrap()
    }

    fn routes(request: &Message) -> Vec<&str> {
        request.values(Name::Route).collect()
    }

    #[test]
    fn a_uas_takes_its_dialog_from_the_invite() {
        let extra = format!("{CONTACT}Record-Route: <sip:p2.example.com;lr>, <sip:p1.example.com;lr>\n");
        let mut dialog = Dialog::uas(&invite("sip:1002@example.com", &extra), "bob").unwrap();
        assert_eq!(dialog.id, DialogId { call_id: "one".into(), local_tag: "bob".into(), remote_tag: "ann".into() });
        assert_eq!(dialog.remote_cseq, Some(7));

        let bye = written(dialog.request(Method::Bye, "SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK9"));
        assert_eq!(bye.request_uri(), "sip:ann@192.0.2.1:5062;transport=tcp");
        assert_eq!(bye.header(Name::Via), Some("SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK9"));
        assert_eq!(bye.header(Name::From), Some("<sip:1002@example.com>;tag=bob"));
        assert_eq!(bye.header(Name::To), Some(r#""Ann \"A\"" <sip:1001@example.com>;tag=ann"#));
        assert_eq!(bye.header(Name::CallId), Some("one"));
        assert_eq!(bye.header(Name::CSeq), Some("1 BYE"));
        assert_eq!(bye.header(Name::MaxForwards), Some("70"));
        assert_eq!(routes(&bye), ["<sip:p2.example.com;lr>", "<sip:p1.example.com;lr>"], "in the order received");
    }

    #[test]
    fn a_uac_takes_its_dialog_from_the_response_with_routes_reversed() {
        let extra = "Contact: <sip:bob@192.0.2.2>\nRecord-Route: <sip:p2.example.com;lr>\nRecord-Route: <sip:p1.example.com;lr>\n";
        let mut dialog = Dialog::uac(&invite("sip:1002@example.com", CONTACT), &response(200, extra)).unwrap();
        let info = written(dialog.request(Method::Info, "SIP/2.0/UDP 192.0.2.9"));
        assert_eq!(info.request_uri(), "sip:bob@192.0.2.2");
        assert_eq!(info.header(Name::From), Some(r#""Ann \"A\"" <sip:1001@example.com>;tag=ann"#));
        assert_eq!(info.header(Name::To), Some("<sip:1002@example.com>;tag=bob"));
        assert_eq!(info.header(Name::CSeq), Some("8 INFO"));
        assert_eq!(routes(&info), ["<sip:p1.example.com;lr>", "<sip:p2.example.com;lr>"]);
        assert_eq!(written(dialog.request(Method::Bye, "SIP/2.0/UDP 192.0.2.9")).header(Name::CSeq), Some("9 BYE"));
    }

    #[test]
    fn an_ack_has_the_number_of_its_invite_and_moves_no_counter() {
        let mut dialog = Dialog::uac(&invite("sip:b@x", CONTACT), &response(200, CONTACT)).unwrap();
        dialog.request(Method::Info, "SIP/2.0/UDP 192.0.2.9");
        let ack = written(dialog.ack(7, "SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK3"));
        assert_eq!(ack.method(), Some(Method::Ack));
        assert_eq!(ack.header(Name::CSeq), Some("7 ACK"));
        assert_eq!(ack.header(Name::MaxForwards), Some("70"));
        assert_eq!(dialog.local_cseq, 8);
    }

    #[test]
    fn what_a_dialog_cannot_do_without() {
        let plain = "sip:1002@example.com";
        let without_contact = Dialog::uas(&invite(plain, ""), "bob").unwrap();
        assert_eq!(without_contact.request_uri(), invite(plain, "").from().unwrap().uri);
        assert!(Dialog::uac(&invite(plain, CONTACT), &response(200, "")).is_none(), "no Contact in the 2xx");
        let early = Dialog::uac(&invite(plain, CONTACT), &response(180, "")).unwrap();
        assert_eq!(early.remote_target, plain);
        let text = std::str::from_utf8(response(200, CONTACT).bytes()).unwrap().replace(";tag=bob", "");
        let untagged = Message::parse(Bytes::from(text)).unwrap();
        assert!(Dialog::uac(&invite(plain, CONTACT), &untagged).is_none(), "no To tag");
    }

    #[test]
    fn a_strict_router_takes_the_place_of_the_request_uri() {
        let extra = format!("{CONTACT}Record-Route: <sip:strict.example.com?Subject=x>,<sip:p1.example.com;lr>\n");
        let mut dialog = Dialog::uas(&invite("sip:1002@example.com", &extra), "bob").unwrap();
        let bye = written(dialog.request(Method::Bye, "SIP/2.0/UDP 192.0.2.9"));
        assert_eq!(bye.request_uri(), "sip:strict.example.com");
        assert_eq!(routes(&bye), ["<sip:p1.example.com;lr>", "<sip:ann@192.0.2.1:5062;transport=tcp>"]);
    }

    #[test]
    fn lower_cseq_is_refused_and_changes_nothing() {
        let mut dialog = uas();
        assert_eq!(dialog.receive(&in_dialog("INFO", 9, "")), Ok(()));
        let late = in_dialog("INVITE", 8, "Contact: <sip:elsewhere@192.0.2.66>\n");
        assert_eq!(dialog.receive(&late), Err(DialogFault::OutOfOrder));
        assert_eq!(dialog.remote_cseq, Some(9));
        assert_eq!(dialog.remote_target, "sip:ann@192.0.2.1:5062;transport=tcp");
        assert_eq!(dialog.receive(&in_dialog("ACK", 7, "")), Ok(()), "an ACK has the number of its INVITE");
        assert_eq!(dialog.remote_cseq, Some(9));
        assert_eq!(dialog.receive(&in_dialog("BYE", 2_000_000_000, "")), Ok(()), "gaps are allowed");
    }

    #[test]
    fn only_target_refresh_requests_move_the_target() {
        let moved = "Contact: <sip:ann@192.0.2.50>\n";
        let mut dialog = uas();
        dialog.receive(&in_dialog("INFO", 8, moved)).unwrap();
        assert_eq!(dialog.remote_target, "sip:ann@192.0.2.1:5062;transport=tcp");
        dialog.receive(&in_dialog("INVITE", 9, moved)).unwrap();
        assert_eq!(dialog.remote_target, "sip:ann@192.0.2.50");
        dialog.receive(&in_dialog("UPDATE", 10, "")).unwrap();
        assert_eq!(dialog.remote_target, "sip:ann@192.0.2.50", "no Contact, no move");
        dialog.refresh(&response(200, "Contact: <sip:bob@192.0.2.51>\n"));
        assert_eq!(dialog.remote_target, "sip:bob@192.0.2.51");
    }

    #[test]
    fn a_target_has_no_headers_whichever_message_named_it() {
        let contact = "Contact: <sip:ann@192.0.2.1?Subject=x>\n";
        let mut dialog = Dialog::uas(&invite("sip:1002@example.com", contact), "bob").unwrap();
        assert_eq!(dialog.request_uri(), "sip:ann@192.0.2.1");
        dialog.receive(&in_dialog("UPDATE", 8, "Contact: <sip:ann@192.0.2.50?a=b>\n")).unwrap();
        assert_eq!(dialog.request_uri(), "sip:ann@192.0.2.50");
        let dialog = Dialog::uac(&invite("sip:b@x", CONTACT), &response(200, contact)).unwrap();
        assert_eq!(dialog.request_uri(), "sip:ann@192.0.2.1");
    }

    #[test]
    fn a_secure_dialog_stays_secure() {
        let contact = "Contact: <sips:ann@192.0.2.1>\n";
        let mut dialog = Dialog::uas(&invite("sips:1002@example.com", contact), "bob").unwrap();
        dialog.receive(&in_dialog("INVITE", 8, "Contact: <sip:ann@192.0.2.50>\n")).unwrap();
        assert_eq!(dialog.remote_target, "sips:ann@192.0.2.1");
        dialog.receive(&in_dialog("INVITE", 9, "Contact: <sips:ann@192.0.2.50>\n")).unwrap();
        assert_eq!(dialog.remote_target, "sips:ann@192.0.2.50");
    }

    #[test]
    fn a_peer_without_tag_gets_none_back() {
        let text =
            std::str::from_utf8(invite("sip:1002@example.com", CONTACT).bytes()).unwrap().replace(";tag=ann", "");
        let mut dialog = Dialog::uas(&Message::parse(Bytes::from(text)).unwrap(), "bob").unwrap();
        let bye = written(dialog.request(Method::Bye, "SIP/2.0/UDP 192.0.2.9"));
        assert_eq!(bye.header(Name::To), Some(r#""Ann \"A\"" <sip:1001@example.com>"#));
    }
}
