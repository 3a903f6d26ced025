//! Signatures of the caller's number on calls that leave (RFC 8224 section 4, RFC 8588, RFC 8946). Emergency calls carry none:
//! nothing that could fail, or make the message larger, is done to them.

use std::sync::Arc;

use super::{
    admission,
    call::{Call, Caller},
    context::Context,
    leg::Peer,
    outgoing::caller_number,
};
use crate::{
    policy::{
        emergency::table::{self, Region},
        number,
        stir::{self, Chain, Facts, Verification, Verstat},
    },
    types::limits::PASSPORTS_MAX,
    wire::{
        passport::{Claims, Destinations, Fault, Party, Passport},
        pidf,
        sip::{Message, RequestBuilder},
    },
};

/// What a call from a trunk came signed with.
#[derive(Debug)]
pub(super) struct Signed {
    /// Values of its Identity headers.
    pub identities: Vec<String>,
    /// The number that was called, as the trunk wrote it.
    called: String,
    /// The caller's, as the trunk vouches for it, which may not be shown.
    asserted: Option<String>,
}

impl Signed {
    /// `None`: it is not signed.
    pub(super) fn of(request: &Message, called: &str) -> Option<Arc<Self>> {
        let identities: Vec<_> = request.lines_text("Identity").map(|value| value.to_owned()).collect();
        (!identities.is_empty()).then(|| {
            Arc::new(Self { identities, called: called.to_owned(), asserted: admission::asserted_number(request) })
        })
    }

    /// What can be read of the first [`PASSPORTS_MAX`], and what is wrong with the rest of them.
    pub(super) fn read(&self) -> (Vec<Passport>, Vec<Fault>) {
        let (mut passports, mut faults) = (Vec::new(), Vec::new());
        for parsed in self.identities.iter().take(PASSPORTS_MAX).map(|value| Passport::parse(value)) {
            match parsed {
                Ok(passport) => passports.push(passport),
                Err(fault) => faults.push(fault),
            }
        }
        (passports, faults)
    }

    /// Those that lead from the caller to the number that was called (RFC 8224 section 6.2 step 2).
    pub(super) fn chain<'p>(
        &self,
        passports: &'p [Passport],
        caller: &Caller,
        region: &Region,
    ) -> Result<Chain<'p>, Verification> {
        let forms = |text: &str| number::inbound_forms(text, region);
        let number =
            self.asserted.as_deref().or_else(|| Some(caller.user.as_str()).filter(|user| number::is_number(user)));
        let number = number.ok_or(Verification::unknown("the caller shows no number"))?;
        Chain::find(passports, &Facts { caller: &forms(number), called: &forms(&self.called) })
    }
}

/// A carrier gets this server's own signature, where there is a key, because it is shown a number of the company. What is behind
/// another trunk is shown the caller's own number, and gets the signatures that the call came with.
pub(super) fn add(
    ctx: &mut Context,
    call: &Call,
    trunk: usize,
    number: &str,
    request: RequestBuilder,
) -> RequestBuilder {
    if !ctx.trunks.trunk(trunk).reaches_pstn {
        return pass_on(ctx, &call.caller, number, request);
    }
    match sign(ctx, call, trunk, number) {
        Some(value) => request.header("Date", pidf::http_date(ctx.now)).header("Identity", value),
        None => request,
    }
}

fn pass_on(ctx: &Context, caller: &Caller, number: &str, request: RequestBuilder) -> RequestBuilder {
    let Some(signed) = caller.signed.as_ref().filter(|_| !caller.is_private) else { return request };
    let request = signed.identities.iter().fold(request, |request, value| request.header("Identity", value));
    match sign_diversion(ctx, caller, signed, number) {
        Some(value) => request.header("Identity", value),
        None => request,
    }
}

/// A call that goes on to another number than was called is signed for the number that was (RFC 8946 section 4). `None`: it goes to
/// that very number, what it came with does not lead there or has failed already, or there is no key.
fn sign_diversion(ctx: &Context, caller: &Caller, signed: &Signed, number: &str) -> Option<String> {
    let (signer, region) = (ctx.signer.as_ref()?, table::region(&ctx.config.company.region)?);
    let has_failed = caller.verification.is_some_and(|verification| verification.verstat == Verstat::Failed);
    if has_failed || number::inbound_forms(&signed.called, region).iter().any(|form| form == number) {
        return None;
    }
    let (passports, _) = signed.read();
    let chain = signed.chain(&passports, caller, region).ok()?;
    let own = chain.passports.first()?;
    signer.sign(&Claims {
        attest: None,
        dest: Destinations { tn: vec![digits(number)?], uri: Vec::new() },
        div: Some(Party { tn: Some(chain.called.to_owned()), uri: None }),
        iat: ctx.now.unix_s(),
        orig: own.claims.orig.clone(),
        origid: None,
    })
}

/// `None`: there is no key, one of the two numbers is none of E.164, or the caller does not want the callee to know it, who could
/// read it in the signature.
fn sign(ctx: &mut Context, call: &Call, trunk: usize, number: &str) -> Option<String> {
    ctx.signer.as_ref().filter(|_| !call.caller.is_private)?;
    let shown = caller_number(ctx.trunks.trunk(trunk), &call.caller);
    let claims = Claims {
        attest: Some(stir::attestation(matches!(call.caller.peer, Peer::Device(_)))),
        dest: Destinations { tn: vec![digits(number)?], uri: Vec::new() },
        div: None,
        iat: ctx.now.unix_s(),
        orig: Party { tn: Some(digits(&shown)?), uri: None },
        origid: Some(origination(ctx)),
    };
    ctx.signer.as_ref()?.sign(&claims)
}

/// As it is signed (RFC 8225 section 5.2.1). `None`: it is none of E.164.
fn digits(number: &str) -> Option<String> {
    number::is_e164(number).then(|| number.trim_start_matches('+').to_owned())
}

/// A UUID of random digits (RFC 9562 section 5.4): it leads back to this server's record of nobody else.
fn origination(ctx: &mut Context) -> String {
    let mut digits = ctx.rng.token(32);
    digits.replace_range(12..13, "4");
    digits.replace_range(16..17, "a");
    let [a, b, c, d, e] = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| &digits[part]);
    format!("{a}-{b}-{c}-{d}-{e}")
}
