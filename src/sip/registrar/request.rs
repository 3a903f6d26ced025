//! What a REGISTER asks for, and what that makes of the bindings there are (RFC 3261 section 10.3).

use std::sync::Arc;

use crate::{
    types::{
        Duration, Flow, Instant,
        limits::{
            BINDING_TEXT_BYTES_MAX, CONTACTS_PER_AOR_MAX, FLOW_TIMER_S, REGISTRATION_EXPIRES_S_DEFAULT,
            REGISTRATION_EXPIRES_S_MAX, REGISTRATION_EXPIRES_S_MIN,
        },
    },
    wire::sip::{Message, Name, NameAddr, Uri},
};

use super::{Binding, extensions::Way};

/// `reg-id` is a positive 31-bit number (RFC 5626 section 4.2).
const REG_ID_MAX: u32 = u32::MAX >> 1;

/// Why a REGISTER fails. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) reason: &'static str,
}

impl Refusal {
    const MALFORMED_CONTACT: Self = Self { status: 400, reason: "Malformed Contact" };
    const WILDCARD: Self = Self { status: 400, reason: "Contact * Needs Expires 0 And No Other Contact" };
    const TOO_LONG: Self = Self { status: 400, reason: "Contact Or Call-ID Too Long" };
    const CSEQ: Self = Self { status: 400, reason: "Malformed CSeq" };
    pub(super) const MALFORMED_PATH: Self = Self { status: 400, reason: "Malformed Path" };
    const REG_ID: Self = Self { status: 400, reason: "Malformed reg-id" };
    const SEVERAL_FLOWS: Self = Self { status: 400, reason: "Only One Flow Per REGISTER" };
    pub(super) const NO_PATH: Self = Self { status: 420, reason: "Path Needs Supported: path" };
    const NO_OUTBOUND: Self = Self { status: 439, reason: "First Hop Lacks Outbound Support" };
    const FULL: Self = Self { status: 403, reason: "Too Many Contacts" };
    const TOO_BRIEF: Self = Self { status: 423, reason: "Interval Too Brief" };
    const OUT_OF_ORDER: Self = Self { status: 500, reason: "CSeq Out Of Order" };
}

/// What a REGISTER makes of the bindings of an address-of-record.
#[derive(Debug, Default)]
pub(super) struct Next {
    pub(super) bindings: Vec<Arc<Binding>>,
    /// Bindings that made room for new ones.
    pub(super) displaced: Vec<Arc<Binding>>,
}

/// What a REGISTER asks for.
#[derive(Debug)]
pub(super) struct Registration<'a> {
    call_id: &'a str,
    cseq: u32,
    user_agent: &'a str,
    way: Way<'a>,
    wish: Wish<'a>,
}

#[derive(Debug)]
enum Wish<'a> {
    /// No Contact: only the list.
    Query,
    /// `Contact: *` with `Expires: 0`.
    RemoveAll,
    Update(Vec<Contact<'a>>),
}

#[derive(Debug)]
struct Contact<'a> {
    text: &'a str,
    uri: Uri<'a>,
    instance: Option<&'a str>,
    /// One of several flows of the instance.
    reg_id: Option<u32>,
    /// Seconds; 0 removes.
    expires_s: u32,
}

impl<'a> Registration<'a> {
    /// RFC 3261 section 10.3 steps 6 and 7, as far as the request alone decides.
    pub(super) fn read(request: &'a Message, flow: &Flow) -> Result<Self, Refusal> {
        let way = Way::read(request, flow)?;
        let call_id = request.call_id();
        let cseq = request.cseq().ok_or(Refusal::CSEQ)?.number;
        let user_agent = cut(request.header(Name::UserAgent).unwrap_or_default());
        let expires = request.header(Name::Expires).map(delta_seconds);
        let contacts: Vec<NameAddr<'a>> = request
            .values(Name::Contact)
            .map(|value| NameAddr::parse(value).ok_or(Refusal::MALFORMED_CONTACT))
            .collect::<Result<_, _>>()?;
        if contacts.len() > CONTACTS_PER_AOR_MAX {
            return Err(Refusal::FULL);
        }
        let wish = match contacts.as_slice() {
            [] => Wish::Query,
            [only] if only.uri == "*" && expires == Some(0) => Wish::RemoveAll,
            some if some.iter().any(|contact| contact.uri == "*") => return Err(Refusal::WILDCARD),
            some => Wish::Update(some.iter().map(|c| Contact::read(c, expires, &way)).collect::<Result<_, _>>()?),
        };
        check_flows(&wish, &way)?;
        if call_id.len() > BINDING_TEXT_BYTES_MAX {
            return Err(Refusal::TOO_LONG);
        }
        Ok(Self { call_id, cseq, user_agent, way, wish })
    }

    /// Header lines of the 200: the extensions that were used (RFC 5626 section 6, RFC 3327 section 5.3).
    pub(super) fn reply_headers(&self) -> Vec<(&'static str, String)> {
        let mut headers: Vec<_> = self.way.path.iter().map(|hop| ("Path", (*hop).to_owned())).collect();
        let has_flow = self.contacts().iter().any(|contact| contact.reg_id.is_some());
        if has_flow {
            headers.push(("Require", "outbound".to_owned()));
        }
        if has_flow && self.way.is_timed {
            headers.push(("Flow-Timer", FLOW_TIMER_S.to_string()));
        }
        headers
    }

    pub(super) const fn wants_gruu(&self) -> bool {
        self.way.wants_gruu
    }

    fn contacts(&self) -> &[Contact<'a>] {
        match &self.wish {
            Wish::Query | Wish::RemoveAll => &[],
            Wish::Update(contacts) => contacts,
        }
    }

    /// What becomes of the bindings of `aor`, or `None` if nothing was asked for.
    pub(super) fn apply(
        &self,
        now: Instant,
        aor: &str,
        flow: Flow,
        old: &[Arc<Binding>],
    ) -> Result<Option<Next>, Refusal> {
        let contacts = match &self.wish {
            Wish::Query => return Ok(None),
            Wish::RemoveAll => {
                old.iter().try_for_each(|binding| self.check_order(binding))?;
                return Ok(Some(Next::default()));
            }
            Wish::Update(contacts) => contacts,
        };
        // Both with the latest first.
        let (mut new, mut kept) = (Vec::new(), old.to_vec());
        for contact in contacts {
            let replaced = |binding: &Arc<Binding>| contact.replaces(binding);
            old.iter().filter(|binding| replaced(binding)).try_for_each(|binding| self.check_order(binding))?;
            kept.retain(|binding| !replaced(binding));
            new.retain(|binding| !replaced(binding));
            if contact.expires_s > 0 {
                new.insert(0, Arc::new(self.binding(now, aor, flow, contact)));
            }
        }
        let displaced = displaced(&mut kept, CONTACTS_PER_AOR_MAX.saturating_sub(new.len()));
        new.append(&mut kept);
        Ok(Some(Next { bindings: new, displaced }))
    }

    /// RFC 3261 section 10.3: within one Call-ID, CSeq only goes up.
    fn check_order(&self, binding: &Binding) -> Result<(), Refusal> {
        if binding.call_id == self.call_id && self.cseq <= binding.cseq {
            return Err(Refusal::OUT_OF_ORDER);
        }
        Ok(())
    }

    fn binding(&self, now: Instant, aor: &str, flow: Flow, contact: &Contact<'_>) -> Binding {
        Binding {
            aor: aor.to_owned(),
            contact: contact.text.to_owned(),
            flow,
            expires_at: now + Duration::from_secs(contact.expires_s.into()),
            call_id: self.call_id.to_owned(),
            cseq: self.cseq,
            instance: contact.instance.map(str::to_owned),
            reg_id: contact.reg_id,
            path: self.way.path.iter().map(|hop| (*hop).to_owned()).collect(),
            is_proxied: self.way.is_proxied,
            user_agent: self.user_agent.to_owned(),
        }
    }
}

/// Takes out what is more than `count`: a contact without a live connection before one with, and then the one that expires
/// soonest. A telephone that lost its contacts in crashes is let in again.
fn displaced(kept: &mut Vec<Arc<Binding>>, count: usize) -> Vec<Arc<Binding>> {
    let mut displaced = Vec::new();
    while kept.len() > count {
        let least = kept.iter().enumerate().min_by_key(|(_, binding)| (binding.has_connection(), binding.expires_at));
        let Some((index, _)) = least else { break };
        displaced.push(kept.remove(index));
    }
    displaced
}

impl<'a> Contact<'a> {
    /// `expires`: the Expires header, which an `expires` parameter overrides (RFC 3261 section 10.2.1.1).
    fn read(contact: &NameAddr<'a>, expires: Option<u32>, way: &Way<'_>) -> Result<Self, Refusal> {
        let uri = Uri::parse(contact.uri).filter(Uri::is_sip).ok_or(Refusal::MALFORMED_CONTACT)?;
        // Each number takes the place of the user (RFC 6140 section 5.2).
        if uri.user.is_some() && uri.params.has("bnc") {
            return Err(Refusal::MALFORMED_CONTACT);
        }
        let instance = contact.params.get("+sip.instance").filter(|instance| !instance.is_empty());
        // An instance is a URN (RFC 5626 section 4.1): nothing in it needs an escape, and it is written back in quotes.
        if instance.is_some_and(|instance| instance.contains(['"', '\\'])) {
            return Err(Refusal::MALFORMED_CONTACT);
        }
        if contact.uri.len() > BINDING_TEXT_BYTES_MAX || instance.is_some_and(|i| i.len() > BINDING_TEXT_BYTES_MAX) {
            return Err(Refusal::TOO_LONG);
        }
        let asked = contact.params.get("expires").map(delta_seconds).or(expires);
        let expires_s = match asked.unwrap_or(REGISTRATION_EXPIRES_S_DEFAULT) {
            0 => 0,
            1..REGISTRATION_EXPIRES_S_MIN => return Err(Refusal::TOO_BRIEF),
            long => long.min(REGISTRATION_EXPIRES_S_MAX),
        };
        // Without instance or support for flows, the number means nothing (RFC 5626 section 6).
        let reg_id = contact.params.get("reg-id").filter(|_| instance.is_some() && way.has_outbound);
        let reg_id = reg_id.map(|text| reg_id_of(text).ok_or(Refusal::REG_ID)).transpose()?;
        Ok(Self { text: contact.uri, uri, instance, reg_id, expires_s })
    }

    /// A flow replaces the one with its number, and what its device registered without one; any other contact replaces its
    /// equal and all that its device had.
    fn replaces(&self, binding: &Binding) -> bool {
        match self.reg_id {
            Some(_) => self.is_same_instance(binding) && (binding.reg_id.is_none() || binding.reg_id == self.reg_id),
            None => self.is_same_instance(binding) || binding.reg_id.is_none() && self.is_same(binding),
        }
    }

    fn is_same(&self, binding: &Binding) -> bool {
        binding.contact == self.text || Uri::parse(&binding.contact).is_some_and(|uri| is_equivalent(&self.uri, &uri))
    }

    /// A phone that restarted comes back with a new port and the same instance (RFC 5626 section 6).
    fn is_same_instance(&self, binding: &Binding) -> bool {
        self.instance.is_some() && self.instance == binding.instance.as_deref()
    }
}

/// At most one flow, and only over a way that keeps it (RFC 5626 section 6).
fn check_flows(wish: &Wish<'_>, way: &Way<'_>) -> Result<(), Refusal> {
    let Wish::Update(contacts) = wish else { return Ok(()) };
    match contacts.iter().filter(|contact| contact.reg_id.is_some() && contact.expires_s > 0).count() {
        0 => Ok(()),
        1 if way.keeps_flow() => Ok(()),
        1 => Err(Refusal::NO_OUTBOUND),
        _ => Err(Refusal::SEVERAL_FLOWS),
    }
}

fn reg_id_of(text: &str) -> Option<u32> {
    let number = text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())??;
    (1..=REG_ID_MAX).contains(&number).then_some(number)
}

/// RFC 3261 section 20.19: a malformed number counts as 3600.
fn delta_seconds(text: &str) -> u32 {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return REGISTRATION_EXPIRES_S_DEFAULT;
    }
    text.parse().unwrap_or(u32::MAX)
}

/// At most [`BINDING_TEXT_BYTES_MAX`] bytes of whole characters.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(BINDING_TEXT_BYTES_MAX)]
}

/// URI comparison of RFC 3261 section 19.1.4 for SIP URIs: users compare by case after unescaping, hosts do not; an omitted
/// port is not the default port; parameters that both have must agree, and those that decide where a request goes must be
/// in both or neither; URI headers compare as text.
fn is_equivalent(a: &Uri<'_>, b: &Uri<'_>) -> bool {
    let is_same_user = match (a.user_decoded(), b.user_decoded()) {
        (Some(a), Some(b)) => a == b,
        _ => a.user == b.user,
    };
    let is_same_host = match (a.host_ip(), b.host_ip()) {
        (Some(a), Some(b)) => a == b,
        _ => a.host.eq_ignore_ascii_case(b.host),
    };
    a.scheme.eq_ignore_ascii_case(b.scheme)
        && is_same_user
        && a.password == b.password
        && is_same_host
        && a.port == b.port
        && a.headers == b.headers
        && have_agreeing_params(a, b)
}

fn have_agreeing_params(a: &Uri<'_>, b: &Uri<'_>) -> bool {
    const MUST_BE_IN_BOTH: [&str; 5] = ["transport", "user", "ttl", "method", "maddr"];
    let agrees = |(name, value): (&str, Option<&str>)| {
        b.params.get(name).is_none_or(|other| other.eq_ignore_ascii_case(value.unwrap_or_default()))
    };
    MUST_BE_IN_BOTH.iter().all(|name| a.params.has(name) == b.params.has(name)) && a.params.iter().all(agrees)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_compare_as_rfc_3261_says() {
        let same = [
            ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
            ("sip:carol@chicago.com;newparam=5", "sip:carol@chicago.com;security=on"),
            ("sip:a@[2001:db8::1]", "sip:a@[2001:DB8:0::1]"),
        ];
        let different = [
            ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"),
            ("sip:carol@chicago.com;security=off", "sip:carol@chicago.com;security=on"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
            ("sip:bob@192.0.2.4", "sip:bob@phone21.boxesbybob.com"),
            ("sip:bob@biloxi.com", "sips:bob@biloxi.com"),
            ("sip:%ff@x", "sip:%fe@x"),
        ];
        let compare = |a, b| is_equivalent(&Uri::parse(a).unwrap(), &Uri::parse(b).unwrap());
        for (a, b) in same {
            assert!(compare(a, b) && compare(b, a), "{a} {b}");
        }
        for (a, b) in different {
            assert!(!compare(a, b) && !compare(b, a), "{a} {b}");
        }
    }
}
