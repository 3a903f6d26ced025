//! REFER and Replaces as they are written, and the NOTIFYs that tell the transferor how it goes (RFC 3515, 3891, 4488).

use super::{
    admission::Refusal,
    context::{Context, Owner, Pending},
    leg::Leg,
};
use crate::{
    types::limits,
    wire::sip::{Message, Method, Name, NameAddr, Params, Uri, build::reason_phrase},
};

/// Longest a transfer takes: its target rings, then the party that stays may be busy with offers of its own. Seconds.
const SUBSCRIPTION_S: u64 = limits::RING_S_MAX + 60;

/// What a REFER asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Referral {
    /// Whom to call, without headers.
    pub uri: String,
    /// The transferor's other call, whose place is to be taken.
    pub replaces: Option<Replaces>,
    /// CSeq of the REFER, which names the subscription; `None`: no NOTIFY is wanted (RFC 4488 section 4).
    pub subscription: Option<u32>,
}

/// A dialog of ours as its other end names it (RFC 3891 section 6.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Replaces {
    pub call_id: String,
    /// Ours.
    pub to_tag: String,
    /// The peer's.
    pub from_tag: String,
    pub is_early_only: bool,
}

impl Referral {
    pub(super) fn read(refer: &Message) -> Result<Self, Refusal> {
        let mut values = refer.values(Name::ReferTo);
        let (Some(value), None) = (values.next(), values.next()) else {
            return Err(bad("One Refer-To Header Needed"));
        };
        let target = NameAddr::parse(value).map(|target| target.uri).unwrap_or_default();
        let uri = Uri::parse(target).ok_or_else(|| bad("Unreadable Refer-To"))?;
        if !uri.is_sip() && !uri.scheme.eq_ignore_ascii_case("tel") && !uri.scheme.eq_ignore_ascii_case("urn") {
            return Err(bad("Refer-To Is No Telephone Address"));
        }
        if uri.params.get("method").is_some_and(|method| method != "INVITE") {
            return Err(bad("Only A Call Can Be Referred To"));
        }
        let replaces = match uri.header("Replaces") {
            Some(value) => Some(Replaces::parse(&value).ok_or_else(|| bad("Unreadable Replaces"))?),
            None => None,
        };
        let is_silent = refer.header_text("Refer-Sub").is_some_and(|value| value.trim().eq_ignore_ascii_case("false"));
        Ok(Self {
            uri: Uri::without_headers(target).to_owned(),
            replaces,
            subscription: refer.cseq().map(|cseq| cseq.number).filter(|_| !is_silent),
        })
    }

    /// Takes the transfer on: 202, or 200 where no subscription comes with it.
    pub(super) fn accept(&self, ctx: &mut Context, leg: &Leg, pending: &Pending) {
        let status = if self.subscription.is_some() { 202 } else { 200 };
        let mut response = ctx.response(pending, status, "", "").header("Contact", leg.contact(ctx));
        if self.subscription.is_none() {
            response = response.header("Refer-Sub", "false");
        }
        ctx.respond(pending.txn, status, response.finish());
    }
}

impl Replaces {
    /// The one Replaces of an INVITE (RFC 3891 section 3).
    pub(super) fn read(invite: &Message) -> Result<Self, Refusal> {
        let mut values = invite.values(Name::Replaces);
        match (values.next().and_then(Self::parse), values.next()) {
            (Some(replaces), None) => Ok(replaces),
            (_, Some(_)) | (None, None) => Err(bad("One Replaces Header Needed")),
        }
    }

    fn parse(value: &str) -> Option<Self> {
        let (call_id, params) = value.split_at(value.find(';')?);
        let params = Params { text: params };
        let tag = |name| params.get(name).filter(|tag| !tag.is_empty()).map(str::to_owned);
        Some(Self {
            call_id: call_id.trim().to_owned(),
            to_tag: tag("to-tag")?,
            from_tag: tag("from-tag")?,
            is_early_only: params.has("early-only"),
        })
    }

    /// Whether this is the dialog of a leg.
    pub(super) fn names(&self, leg: &Leg) -> bool {
        leg.dialog.as_ref().is_some_and(|dialog| {
            dialog.id.call_id == self.call_id
                && dialog.id.local_tag == self.to_tag
                && dialog.id.remote_tag == self.from_tag
        })
    }
}

fn bad(reason: &'static str) -> Refusal {
    Refusal { reason, ..Refusal::of(400) }
}

impl Leg {
    /// Tells the transferor how the call it asked for goes, as the status line of an answer (RFC 3420). A final status ends
    /// the subscription.
    pub(super) fn notify(&mut self, ctx: &mut Context, subscription: u32, status: u16, reason: &str) {
        let contact = self.contact(ctx);
        let Some(dialog) = &mut self.dialog else { return };
        let state = match status {
            ..200 => format!("active;expires={SUBSCRIPTION_S}"),
            200.. => "terminated;reason=noresource".to_owned(),
        };
        let reason = if reason.is_empty() { reason_phrase(status) } else { reason };
        let body = format!("SIP/2.0 {status} {reason}\r\n");
        ctx.send(self.flow, Owner::Nobody, |_, via| {
            dialog
                .request(Method::Notify, via)
                .header("Contact", contact)
                .header("Event", format_args!("refer;id={subscription}"))
                .header("Subscription-State", state)
                .body("message/sipfrag;version=2.0", body.as_bytes())
        });
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn refer(headers: &str) -> Message {
        let text = format!("REFER sip:us@192.0.2.1 SIP/2.0\r\nCSeq: 7 REFER\r\n{headers}\r\n");
        Message::parse(Bytes::from(text)).unwrap()
    }

    fn refusal(headers: &str) -> (u16, &'static str) {
        let refusal = Referral::read(&refer(headers)).expect_err("it was accepted");
        (refusal.status, refusal.reason)
    }

    #[test]
    fn a_referral_names_whom_to_call_and_which_call_to_replace() {
        let plain = Referral::read(&refer("r: sip:1003@pbx.example.com\r\n")).unwrap();
        let expected = Referral { uri: "sip:1003@pbx.example.com".to_owned(), replaces: None, subscription: Some(7) };
        assert_eq!(plain, expected);
        let text = "Refer-To: \"C\" <sip:1003@pbx.example.com;method=INVITE?Replaces=a%40b%3Bto-tag%3D1%3Bfrom-tag%3D2&X=y>\r\n";
        let attended = Referral::read(&refer(&format!("{text}Refer-Sub: false\r\n"))).unwrap();
        assert_eq!(attended.uri, "sip:1003@pbx.example.com;method=INVITE");
        assert_eq!(attended.subscription, None);
        let replaces = attended.replaces.unwrap();
        assert_eq!((replaces.call_id.as_str(), replaces.is_early_only), ("a@b", false));
        assert_eq!((replaces.to_tag.as_str(), replaces.from_tag.as_str()), ("1", "2"));
    }

    #[test]
    fn what_is_no_referral_is_400_with_the_reason() {
        let one = "One Refer-To Header Needed";
        for (headers, reason) in [
            ("", one),
            ("Refer-To: <sip:a@b>\r\nRefer-To: <sip:c@d>\r\n", one),
            ("Refer-To: <sip:a@b>, <sip:c@d>\r\n", one),
            ("Refer-To: <sip:>\r\n", "Unreadable Refer-To"),
            ("Refer-To: \r\n", one),
            ("Refer-To: <https://a.example>\r\n", "Refer-To Is No Telephone Address"),
            ("Refer-To: <sip:a@b;method=SUBSCRIBE>\r\n", "Only A Call Can Be Referred To"),
            ("Refer-To: <sip:a@b?Replaces=x>\r\n", "Unreadable Replaces"),
            ("Refer-To: <sip:a@b?Replaces=x%3Bto-tag%3D%3Bfrom-tag%3D2>\r\n", "Unreadable Replaces"),
        ] {
            assert_eq!(refusal(headers), (400, reason), "{headers}");
        }
    }
}
