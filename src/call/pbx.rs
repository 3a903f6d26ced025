//! Telephone systems that register once for many numbers (RFC 6140): what they may register, and who calls from them.

use super::{admission::Refusal, call::Caller, leg::Peer};
use crate::{
    config::{Config, Pbx, User},
    policy::{emergency::table, number},
    sip::registrar::Binding,
    wire::sip::{Message, Name, NameAddr, Uri},
};

/// A telephone that nobody knew when it called for help, in To.
const UNKNOWN: &str = "unknown";

/// Why a REGISTER with a bulk contact (`bnc`, section 5.2) cannot stand; `None` for ordinary ones, too.
pub(super) fn bulk_refusal(config: &Config, user: &User, request: &Message) -> Option<Refusal> {
    let contacts = request.values(Name::Contact).filter_map(NameAddr::parse).filter_map(|c| Uri::parse(c.uri));
    let bulk: Vec<Uri<'_>> = contacts.filter(|uri| uri.params.has("bnc")).collect();
    if bulk.is_empty() {
        return None;
    }
    let is_required = request.values(Name::Require).any(|tag| tag.eq_ignore_ascii_case("gin"));
    if !is_required || bulk.iter().any(|uri| uri.user.is_some()) {
        return Some(Refusal { reason: "A Bulk Contact Needs Require: gin And No User", ..Refusal::of(400) });
    }
    config.pbx_of(&user.name).is_none().then(|| Refusal { reason: "Not A PBX", ..Refusal::of(403) })
}

/// Which of its numbers a user that is a PBX is called by, where this URI was dialled: its first if another was.
pub(super) fn called_number<'c>(config: &'c Config, user: &str, dialled: &str) -> Option<&'c str> {
    let pbx = config.pbx_of(user)?;
    let own = Uri::parse(dialled).and_then(|uri| own_number(config, pbx, &uri));
    Some(own.unwrap_or(&pbx.main_number))
}

/// Request-URI and user part of To for a contact of a user; `line`: the number it is called by, if it is a PBX.
pub(super) fn address_of<'b>(config: &'b Config, binding: &'b Binding, line: Option<&str>) -> (String, &'b str) {
    let Some(pbx) = config.pbx_of(&binding.aor) else {
        let user = if binding.aor.is_empty() { UNKNOWN } else { &binding.aor };
        return (binding.request_uri().to_owned(), user);
    };
    let number = line.and_then(|line| pbx.numbers.get(line)).unwrap_or(&pbx.main_number);
    (binding.uri_for(number), number)
}

/// The number of this PBX in a URI, in whichever form people and carriers write it.
fn own_number<'c>(config: &'c Config, pbx: &'c Pbx, uri: &Uri<'_>) -> Option<&'c str> {
    let user = uri.user_decoded()?;
    let number: String = user.split(';').next()?.chars().filter(|c| c.is_ascii_digit() || *c == '+').collect();
    let region = table::region(&config.company.region)?;
    let outside = number::to_e164(&number, region, &config.dialing.outside_prefixes);
    let forms = std::iter::once(outside).chain(number::inbound_forms(&number, region));
    forms.into_iter().find_map(|form| pbx.numbers.get(&form)).map(String::as_str)
}

/// Who calls where a user is a PBX: the number it names, if that is one of its own, or else its first.
pub(super) fn caller(config: &Config, user: &User, request: &Message) -> Option<Caller> {
    let pbx = config.pbx_of(&user.name)?;
    let named =
        [Name::PPreferredIdentity, Name::PAssertedIdentity].map(|name| request.values(name).find_map(NameAddr::parse));
    let identities = named.into_iter().flatten().chain(request.from());
    let own = identities.filter_map(|identity| own_number(config, pbx, &Uri::parse(identity.uri)?)).next();
    Some(as_number(user, own.unwrap_or(&pbx.main_number)))
}

/// A user that is a PBX, where nobody has said which of its numbers it is.
pub(super) fn party(config: &Config, user: &User) -> Option<Caller> {
    config.pbx_of(&user.name).map(|pbx| as_number(user, &pbx.main_number))
}

fn as_number(user: &User, number: &str) -> Caller {
    Caller {
        peer: Peer::Device(user.name.clone()),
        user: number.to_owned(),
        display: String::new(),
        direct_line: Some(number.to_owned()),
        is_private: false,
        verification: None,
        signed: None,
    }
}
