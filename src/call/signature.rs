//! The signature of the caller's number on calls that leave (RFC 8224 section 4, RFC 8588). Emergency calls carry none: nothing
//! that could fail, or make the message larger, is done to them.

use super::{call::Call, context::Context, leg::Peer, outgoing::caller_number};
use crate::{
    policy::{number, stir},
    wire::{
        passport::{Claims, Destinations, Origin},
        pidf,
        sip::RequestBuilder,
    },
};

/// A carrier gets this server's own signature, where there is a key; what is behind another trunk gets the one that the call
/// came with, because it is shown the number that is signed.
pub(super) fn add(
    ctx: &mut Context,
    call: &Call,
    trunk: usize,
    number: &str,
    request: RequestBuilder,
) -> RequestBuilder {
    if !ctx.trunks.trunk(trunk).reaches_pstn {
        let invite = call.a.server_invite.as_ref().map(|invite| &invite.pending.request);
        let is_of_trunk = matches!(call.caller.peer, Peer::Trunk(_)) && !call.caller.is_private;
        let lines = invite.into_iter().filter(|_| is_of_trunk).flat_map(|invite| invite.lines_text("Identity"));
        return lines.fold(request, |request, value| request.header("Identity", value));
    }
    match sign(ctx, call, trunk, number) {
        Some(value) => request.header("Date", pidf::http_date(ctx.now)).header("Identity", value),
        None => request,
    }
}

/// `None`: there is no key, one of the two numbers is none of E.164, or the caller does not want the callee to know it, who could
/// read it in the signature.
fn sign(ctx: &mut Context, call: &Call, trunk: usize, number: &str) -> Option<String> {
    ctx.signer.as_ref().filter(|_| !call.caller.is_private)?;
    let shown = caller_number(ctx.trunks.trunk(trunk), &call.caller);
    let digits = |number: &str| number::is_e164(number).then(|| number.trim_start_matches('+').to_owned());
    let claims = Claims {
        attest: Some(stir::attestation(matches!(call.caller.peer, Peer::Device(_)))),
        dest: Destinations { tn: vec![digits(number)?], uri: Vec::new() },
        iat: ctx.now.unix_s(),
        orig: Origin { tn: Some(digits(&shown)?), uri: None },
        origid: Some(origination(ctx)),
    };
    ctx.signer.as_ref()?.sign(&claims)
}

/// A UUID of random digits (RFC 9562 section 5.4): it leads back to this server's record of nobody else.
fn origination(ctx: &mut Context) -> String {
    let mut digits = ctx.rng.token(32);
    digits.replace_range(12..13, "4");
    digits.replace_range(16..17, "a");
    let [a, b, c, d, e] = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| &digits[part]);
    format!("{a}-{b}-{c}-{d}-{e}")
}
