//! Telephone systems that register once for many numbers (RFC 6140): what they may register, and who calls from them.

use super::{admission::Refusal, call::Caller, leg::Peer};
use crate::{
    config::{Config, User},
    policy::{emergency::table, number},
    wire::sip::{Message, Name, NameAddr, Uri},
};

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

/// Who calls where a user is a PBX: the number it names, if that is one of its own, or else its first.
pub(super) fn caller(config: &Config, user: &User, request: &Message) -> Option<Caller> {
    let pbx = config.pbx_of(&user.name)?;
    let named =
        [Name::PPreferredIdentity, Name::PAssertedIdentity].map(|name| request.values(name).find_map(NameAddr::parse));
    let country_code = table::region(&config.company.region).map_or("", |region| region.country_code);
    let own = named.into_iter().flatten().chain(request.from()).find_map(|identity| {
        let user = Uri::parse(identity.uri)?.user_decoded()?.into_owned();
        number::inbound_forms(&user, country_code).iter().find_map(|form| pbx.numbers.get(form))
    });
    let number = own.unwrap_or(&pbx.main_number);
    Some(Caller {
        peer: Peer::Device(user.name.clone()),
        user: number.clone(),
        display: String::new(),
        direct_line: Some(number.clone()),
    })
}
