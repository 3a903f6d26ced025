//! Signed callers' numbers, message by message: what waits for a certificate, what telephones are told, what is signed.

use super::{
    bench::{ALICE, BOB, BOB_TOO, Bench, CONFIG, Leg, SDP, TRUNK, binding, udp, user},
    from_alice, from_stream, invite,
    transfer::assert_taken_on,
};
use crate::{
    call::{CertificateReply, Input},
    policy::stir::{Chain, Facts},
    types::{Duration, Flow, limits::PASSPORTS_MAX},
    wire::{
        passport::{
            Attestation, Authority, Certificate, Passport, Signer,
            testing::{claims, diversion, signer},
        },
        sip::{Message, Name},
    },
};

const URL: &str = "https://certificates.example.com/shaken.pem";
const CALLER: &str = "14155550123";
const BOBS: &str = "12025551002";
const BOBS_URI: &str = "sip:+12025551002@pbx.example.com";
/// Of the bench's clock at its start.
const NOW_S: u64 = 1_700_000_000;

fn bench(keys: &str) -> Bench {
    Bench::with(&format!("{CONFIG}[stir]\nanchors = \"unused.pem\"\n{keys}"))
}

fn identity(signer: &Signer, orig: &str, dest: &str, iat: u64) -> String {
    format!("Identity: {}\n", signer.sign(&claims(orig, dest, iat)).unwrap())
}

/// An INVITE of the trunk to Bob with these headers.
fn trunk_calls(b: &mut Bench, call_id: &str, extra: &str) -> String {
    let from = format!("<sip:+{CALLER}@203.0.113.5>;tag={call_id}");
    let to = format!("<{BOBS_URI}>");
    b.request(udp(TRUNK), ("INVITE", BOBS_URI), (&from, &to), (call_id, 1), (extra, SDP))
}

fn certificate_of(signer: &Signer) -> CertificateReply {
    let authority = Authority::from_der(&[0x30, 8, 0xA0, 6, 0x16, 4, b'7', b'0', b'9', b'J']).unwrap();
    let certificate = Box::new(Certificate { key: signer.public_key(), authority, ends_at_s: NOW_S + 1_000_000 });
    CertificateReply::Found { certificate, ttl: Duration::from_secs(3_600) }
}

fn arrives(b: &mut Bench, reply: CertificateReply) {
    let (query, place) = b.fetched.pop().expect("a certificate was asked for");
    assert_eq!(
        (place.host.as_str(), place.port, place.path.as_str()),
        ("certificates.example.com", 443, "/shaken.pem")
    );
    b.input(Input::Certificate { query, reply });
}

/// What Bob's telephone is told of the caller: every P-Asserted-Identity. The call ends.
fn told(b: &mut Bench) -> Vec<String> {
    let sent = b.take_request("INVITE", BOB);
    let told = sent.1.lines(Name::PAssertedIdentity).map(str::to_owned).collect();
    b.answer(&sent, 486, "bob", "", "");
    let other = b.take_request("INVITE", BOB_TOO);
    b.answer(&other, 486, "too", "", "");
    assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 486);
    told
}

fn verstat(b: &mut Bench) -> String {
    let told = told(b);
    let [_, verified] = told.as_slice() else { panic!("{told:?}") };
    let verstat = verified.strip_prefix("<tel:+14155550123;verstat=").and_then(|v| v.strip_suffix('>'));
    verstat.unwrap_or_else(|| panic!("{verified}")).to_owned()
}

/// `verstat attest: reason` of the last record.
fn recorded(b: &Bench) -> String {
    let record = b.cdrs.last().unwrap().verification.as_ref().unwrap();
    format!("{} {}: {}", record.verstat, record.attest.as_deref().unwrap_or("-"), record.reason)
}

#[test]
fn a_signed_call_waits_for_the_certificate_once_and_the_telephone_is_told() {
    let (mut b, key) = (bench(""), signer(URL));
    trunk_calls(&mut b, "one", &identity(&key, CALLER, BOBS, NOW_S));
    assert!(b.find_request("INVITE", BOB).is_none(), "it waits");
    b.pass(400);
    arrives(&mut b, certificate_of(&key));
    let told = told(&mut b);
    assert!(told[0].starts_with("<sip:+14155550123@"), "{told:?}");
    assert_eq!(told[1], "<tel:+14155550123;verstat=TN-Validation-Passed>");
    assert_eq!(recorded(&b), "TN-Validation-Passed A: the signature is good");
    // The certificate is known now.
    trunk_calls(&mut b, "two", &identity(&key, CALLER, BOBS, NOW_S));
    assert!(b.fetched.is_empty());
    assert_eq!(verstat(&mut b), "TN-Validation-Passed");
    assert_eq!(b.core.counters().verifications, [2, 0, 0]);
    b.finish();
}

/// What is recorded of a call to one of our numbers.
fn result(b: &mut Bench, from: Flow, (call_id, called): (&str, &str), extra: &str) -> String {
    let before = b.cdrs.len();
    let uri = format!("sip:+{called}@pbx.example.com");
    let (from_address, to) = (format!("<sip:+{CALLER}@203.0.113.5>;tag={call_id}"), format!("<{uri}>"));
    b.request(from, ("INVITE", &uri), (&from_address, &to), (call_id, 1), (extra, SDP));
    for telephone in [ALICE, BOB, BOB_TOO] {
        if let Some(sent) = b.find_request("INVITE", telephone) {
            b.answer(&sent, 486, "busy", "", "");
        }
    }
    assert!(b.cdrs.len() > before, "{}", b.told());
    recorded(b)
}

/// RFC 8224 section 12.1.
#[test]
fn a_signature_is_good_for_one_call_which_its_trunk_may_bring_again() {
    const ALICES: &str = "12025551001";
    let (trunk, other_trunk) = (udp(TRUNK), from_stream(2));
    let (good, replayed) = (
        "TN-Validation-Passed A: the signature is good",
        "TN-Validation-Failed -: the signature came with another call before",
    );
    for (what, from, call_id, called, expected) in [
        ("the same INVITE from another server", trunk, "one", BOBS, good),
        ("tried again with a new Call-ID", trunk, "two", BOBS, good),
        ("forked to another number", trunk, "one", ALICES, good),
        ("another call to another number", trunk, "two", ALICES, replayed),
        ("by another trunk", other_trunk, "two", BOBS, replayed),
        ("by another trunk with a copied Call-ID", other_trunk, "one", BOBS, replayed),
    ] {
        let (mut b, key) = (bench(""), signer(URL));
        let mut claims = claims(CALLER, BOBS, NOW_S);
        claims.dest.tn.push(ALICES.to_owned());
        let signed = format!("Identity: {}\n", key.sign(&claims).unwrap());
        trunk_calls(&mut b, "one", &signed);
        arrives(&mut b, certificate_of(&key));
        assert_eq!(verstat(&mut b), "TN-Validation-Passed");
        assert_eq!(result(&mut b, from, (call_id, called), &signed), expected, "{what}");
        // Which way it came first does not change.
        assert_eq!(result(&mut b, trunk, ("three", BOBS), &signed), good, "after: {what}");
    }
}

#[test]
fn what_the_claims_say_is_judged_without_a_certificate() {
    let key = signer(URL);
    for (headers, expected) in [
        (String::new(), "No-TN-Validation -: the call is not signed"),
        (identity(&key, "14155550199", BOBS, NOW_S), "TN-Validation-Failed -: the signature is for another caller"),
        (identity(&key, CALLER, "12025551001", NOW_S), "TN-Validation-Failed -: the signature is for another callee"),
        (identity(&key, CALLER, BOBS, NOW_S - 61), "TN-Validation-Failed -: the signature is not of this minute"),
        ("Identity: nonsense\n".to_owned(), "TN-Validation-Failed -: the signature is malformed"),
        (
            identity(&key, CALLER, BOBS, NOW_S).replace("ppt=\"shaken\"", "ppt=\"rph\""),
            "No-TN-Validation -: no signature is of a kind that is understood",
        ),
        (
            identity(&key, CALLER, FIRST, NOW_S) + &diverted(&key, (FIRST, BOBS)).replace("\"div\"", "\"div-o\""),
            "No-TN-Validation -: the signature is for another callee",
        ),
        (
            identity(&key, CALLER, FIRST, NOW_S) + &diverted(&key, (BOBS, FIRST)),
            "TN-Validation-Failed -: the signatures of those who sent the call on do not lead here",
        ),
        (
            identity(&key, CALLER, BOBS, NOW_S).repeat(PASSPORTS_MAX + 1),
            "No-TN-Validation -: the call has too many signatures",
        ),
        (
            identity(&signer("https://certificates.example.com:22/x"), CALLER, BOBS, NOW_S),
            "No-TN-Validation -: no certificate is fetched from there",
        ),
    ] {
        let mut b = bench("");
        trunk_calls(&mut b, "call", &headers);
        assert!(b.fetched.is_empty(), "{headers}");
        verstat(&mut b);
        assert_eq!(recorded(&b), expected);
        b.finish();
    }
}

// Calls that were sent on before they came here (RFC 8946).

const OTHER_URL: &str = "https://certificates.example.com/first.pem";
/// Somebody else's number, which the call was for at first.
const FIRST: &str = "12025559001";

fn diverted(signer: &Signer, (from, dest): (&str, &str)) -> String {
    format!("Identity: {}\n", signer.sign(&diversion(CALLER, from, dest, NOW_S)).unwrap())
}

/// The answer for the certificate at this path, which has been asked for.
fn comes(b: &mut Bench, path: &str, reply: CertificateReply) {
    let at = b.fetched.iter().position(|(_, place)| place.path == path).expect("it was asked for");
    let (query, _) = b.fetched.remove(at);
    b.input(Input::Certificate { query, reply });
}

#[test]
fn a_diverted_call_is_verified_when_every_certificate_is_here() {
    let (mut b, own, first) = (bench(""), signer(URL), signer(OTHER_URL));
    let signed = diverted(&first, (FIRST, BOBS)) + &identity(&own, CALLER, FIRST, NOW_S);
    trunk_calls(&mut b, "one", &signed);
    comes(&mut b, "/shaken.pem", certificate_of(&own));
    assert!(b.find_request("INVITE", BOB).is_none(), "it waits for the other, too");
    comes(&mut b, "/first.pem", certificate_of(&first));
    assert_eq!(verstat(&mut b), "TN-Validation-Passed");
    let good = "TN-Validation-Passed A: the signatures of the caller and of those who sent the call on are good";
    assert_eq!(recorded(&b), good);
    // The caller's own signature leads to every number that the call was sent on to; the other to one.
    let to_alice = identity(&own, CALLER, FIRST, NOW_S) + &diverted(&first, (FIRST, "12025551001"));
    let replayed = "TN-Validation-Failed -: the signature came with another call before";
    for (from, called, signed, expected) in
        [(udp(TRUNK), "12025551001", &to_alice, good), (from_stream(2), BOBS, &signed, replayed)]
    {
        assert_eq!(result(&mut b, from, (called, called), signed), expected, "{called}");
    }
}

#[test]
fn one_bad_signature_of_a_diverted_call_is_enough() {
    let forged = || certificate_of(&signer(OTHER_URL));
    for (of_own, of_first, expected) in [
        (None, Some(CertificateReply::Unusable("x")), "No-TN-Validation -: x"),
        (None, Some(forged()), "TN-Validation-Failed -: the signature is wrong"),
        (Some(CertificateReply::Unusable("x")), Some(forged()), "TN-Validation-Failed -: the signature is wrong"),
        (Some(forged()), None, "TN-Validation-Failed -: the signature is wrong"),
        (None, None, "No-TN-Validation -: the certificate did not come in time"),
    ] {
        let (mut b, own, first) = (bench("wait_ms = 700\n"), signer(URL), signer(OTHER_URL));
        let signed = identity(&own, CALLER, FIRST, NOW_S) + &diverted(&first, (FIRST, BOBS));
        trunk_calls(&mut b, "one", &signed);
        comes(&mut b, "/shaken.pem", of_own.unwrap_or_else(|| certificate_of(&own)));
        if let Some(of_first) = of_first {
            comes(&mut b, "/first.pem", of_first);
        }
        b.pass(700);
        verstat(&mut b);
        assert_eq!(recorded(&b), expected);
    }
}

#[test]
fn another_key_than_the_certificates_fails() {
    let (mut b, key) = (bench(""), signer(URL));
    trunk_calls(&mut b, "one", &identity(&key, CALLER, BOBS, NOW_S));
    arrives(&mut b, certificate_of(&signer(URL)));
    verstat(&mut b);
    assert_eq!(recorded(&b), "TN-Validation-Failed -: the signature is wrong");
    b.finish();
}

#[test]
fn a_certificate_that_does_not_come_in_time_delays_a_call_by_so_much_and_no_more() {
    let (mut b, key) = (bench("wait_ms = 700\n"), signer(URL));
    trunk_calls(&mut b, "one", &identity(&key, CALLER, BOBS, NOW_S));
    b.pass(699);
    assert!(b.find_request("INVITE", BOB).is_none());
    b.pass(1);
    assert_eq!(verstat(&mut b), "No-TN-Validation");
    // A second call does not ask again, and waits as long.
    trunk_calls(&mut b, "two", &identity(&key, CALLER, BOBS, NOW_S));
    assert_eq!(b.fetched.len(), 1);
    arrives(&mut b, CertificateReply::Unusable("no authority that is believed vouches for the certificate"));
    verstat(&mut b);
    assert_eq!(recorded(&b), "No-TN-Validation -: no authority that is believed vouches for the certificate");
    // Nor is it asked for again at once.
    trunk_calls(&mut b, "three", &identity(&key, CALLER, BOBS, NOW_S));
    assert!(b.fetched.is_empty());
    assert_eq!(verstat(&mut b), "No-TN-Validation");
    b.finish();
}

#[test]
fn a_certificate_is_asked_for_again_when_other_authorities_vouch() {
    let (mut b, key) = (bench(""), signer(URL));
    trunk_calls(&mut b, "one", &identity(&key, CALLER, BOBS, NOW_S));
    arrives(&mut b, certificate_of(&key));
    assert_eq!(verstat(&mut b), "TN-Validation-Passed");
    b.input(Input::AnchorsChanged);
    trunk_calls(&mut b, "two", &identity(&key, CALLER, BOBS, NOW_S));
    // One that is being fetched is judged by the new authorities, and not asked for twice.
    b.input(Input::AnchorsChanged);
    arrives(&mut b, CertificateReply::Unusable("no authority that is believed vouches for the certificate"));
    assert_eq!(verstat(&mut b), "No-TN-Validation");
    b.input(Input::AnchorsChanged);
    trunk_calls(&mut b, "three", &identity(&key, CALLER, BOBS, NOW_S));
    arrives(&mut b, certificate_of(&key));
    assert_eq!(verstat(&mut b), "TN-Validation-Passed");
    b.finish();
}

#[test]
fn only_the_operators_servers_are_asked() {
    let (mut b, key) = (bench("hosts = [\"other.example.com\"]\n"), signer(URL));
    trunk_calls(&mut b, "one", &identity(&key, CALLER, BOBS, NOW_S));
    assert!(b.fetched.is_empty());
    verstat(&mut b);
    assert_eq!(recorded(&b), "No-TN-Validation -: no certificate is fetched from there");
    b.finish();
}

#[test]
fn a_caller_who_gives_up_while_the_call_waits_is_answered_and_nobody_is_called() {
    let (mut b, key) = (bench(""), signer(URL));
    let branch = trunk_calls(&mut b, "one", &identity(&key, CALLER, BOBS, NOW_S));
    // The same request by another path is no second call.
    trunk_calls(&mut b, "one", &identity(&key, CALLER, BOBS, NOW_S));
    assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 482);
    let caller = Leg {
        flow: udp(TRUNK),
        local: format!("<sip:+{CALLER}@203.0.113.5>;tag=one"),
        remote: format!("<{BOBS_URI}>"),
        call_id: "one".to_owned(),
    };
    b.cancel(&caller, 1, &branch);
    assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 487);
    arrives(&mut b, certificate_of(&key));
    assert!(b.find_request("INVITE", BOB).is_none());
    b.finish();
}

#[test]
fn emergency_services_that_call_back_wait_for_nothing() {
    let (mut b, key) = (bench(""), signer(URL));
    let (uri, line) = ("sip:911@pbx.example.com", ("<sip:bob@pbx.example.com>;tag=h", "<sip:911@pbx.example.com>"));
    b.request(udp(BOB), ("INVITE", uri), line, ("help", 1), ("", SDP));
    let help = b.take_request("INVITE", TRUNK);
    b.answer(&help, 486, "psap", "", "");
    let extra = format!("Priority: psap-callback\n{}", identity(&key, CALLER, BOBS, NOW_S));
    trunk_calls(&mut b, "one", &extra);
    b.take_request("INVITE", BOB);
}

#[test]
fn who_asks_for_privacy_is_not_shown_by_a_verification() {
    let (mut b, key) = (bench(""), signer(URL));
    trunk_calls(&mut b, "one", &format!("Privacy: id\n{}", identity(&key, CALLER, BOBS, NOW_S)));
    arrives(&mut b, certificate_of(&key));
    let sent = b.take_request("INVITE", BOB).1;
    assert!(!String::from_utf8_lossy(sent.bytes()).contains("4155550123"));
}

/// An INVITE of the trunk to Bob from this address.
fn trunk_calls_from(b: &mut Bench, from: &str, extra: &str) {
    let to = format!("<{BOBS_URI}>");
    b.request(udp(TRUNK), ("INVITE", BOBS_URI), (&format!("{from};tag=one"), &to), ("one", 1), (extra, SDP));
}

/// What carriers send of a caller who withholds the number.
#[test]
fn a_hidden_callers_signature_is_compared_with_the_number_that_the_trunk_asserts() {
    let hidden = "\"Anonymous\" <sip:anonymous@anonymous.invalid>";
    let asserted = format!("Privacy: id\nP-Asserted-Identity: <sip:+{CALLER}@carrier.example>\n");
    for (signed, asserted, expected) in [
        (CALLER, asserted.as_str(), "TN-Validation-Passed A: the signature is good"),
        ("14155550199", &asserted, "TN-Validation-Failed -: the signature is for another caller"),
        (CALLER, "Privacy: id\n", "No-TN-Validation -: the caller shows no number"),
    ] {
        let (mut b, key) = (bench(""), signer(URL));
        trunk_calls_from(&mut b, hidden, &format!("{asserted}{}", identity(&key, signed, BOBS, NOW_S)));
        if !b.fetched.is_empty() {
            arrives(&mut b, certificate_of(&key));
        }
        let sent = b.take_request("INVITE", BOB);
        let text = String::from_utf8_lossy(sent.1.bytes()).into_owned();
        assert!(!text.contains("415555"), "{text}");
        told_no(&mut b, &sent);
        assert_eq!(recorded(&b), expected);
    }
}

/// Bob's telephones do not take this call.
fn told_no(b: &mut Bench, sent: &(Flow, Message)) {
    b.answer(sent, 486, "bob", "", "");
    let other = b.take_request("INVITE", BOB_TOO);
    b.answer(&other, 486, "too", "", "");
}

#[test]
fn parameters_in_the_user_part_are_no_part_of_the_callers_number() {
    for from in [
        "<sip:+14155550123;cpc=ordinary@carrier.example;user=phone>",
        "<sip:+14155550123;isup-oli=62;npdi@carrier.example>",
        "<sip:+1-415-555-0123%3Bverstat=TN-Validation-Passed@carrier.example>",
    ] {
        let (mut b, key) = (bench(""), signer(URL));
        trunk_calls_from(&mut b, from, &identity(&key, CALLER, BOBS, NOW_S));
        arrives(&mut b, certificate_of(&key));
        let sent = b.take_request("INVITE", BOB);
        let shown = sent.1.from().unwrap().uri;
        assert_eq!(shown, "sip:+14155550123@pbx.example.com", "{from}");
        told_no(&mut b, &sent);
        assert_eq!(recorded(&b), "TN-Validation-Passed A: the signature is good", "{from}");
        assert_eq!(b.cdrs.last().unwrap().caller, "+14155550123");
    }
}

#[test]
fn a_hidden_caller_is_verified_by_the_number_that_the_carrier_asserts_and_without_one_not_called_a_liar() {
    let asserted = format!("P-Asserted-Identity: <sip:+{CALLER}@203.0.113.5>\n");
    for (asserted, is_known) in [(asserted.as_str(), true), ("", false)] {
        let (mut b, key) = (bench(""), signer(URL));
        let (from, to) = ("<sip:anonymous@anonymous.invalid>;tag=one", format!("<{BOBS_URI}>"));
        let extra = format!("{asserted}Privacy: id\n{}", identity(&key, CALLER, BOBS, NOW_S));
        b.request(udp(TRUNK), ("INVITE", BOBS_URI), (from, &to), ("one", 1), (&extra, SDP));
        if is_known {
            arrives(&mut b, certificate_of(&key));
        }
        assert!(!told(&mut b).concat().contains(CALLER));
        let verstat = &b.cdrs.last().unwrap().verification.as_ref().unwrap().verstat;
        assert_eq!(verstat, if is_known { "TN-Validation-Passed" } else { "No-TN-Validation" });
    }
}

#[test]
fn without_authorities_nothing_is_verified_and_telephones_are_told_nothing() {
    let (mut b, key) = (Bench::new(), signer(URL));
    trunk_calls(&mut b, "one", &identity(&key, CALLER, BOBS, NOW_S));
    assert_eq!(told(&mut b).len(), 1);
    assert!(b.cdrs.last().unwrap().verification.is_none());
    b.finish();
}

// Signing.

/// What the carrier gets, read as its verifier would.
fn signed(sent: &Message) -> Passport {
    let values: Vec<_> = sent.lines_text("Identity").collect();
    let [value] = values.as_slice() else { panic!("{values:?}") };
    Passport::parse(value).unwrap()
}

fn signing(config: &str) -> (Bench, [u8; 65]) {
    let (mut b, key) = (Bench::with(config), signer(URL));
    let public = key.public_key();
    b.input(Input::Signer(key));
    (b, public)
}

#[test]
fn a_users_call_to_a_carrier_is_signed_in_full() {
    let (mut b, public) = signing(&format!("{CONFIG}[dialing]\noutside_prefixes = [\"9\"]\n"));
    let alice = from_alice(1000, 1);
    b.register(alice, "alice");
    invite(&mut b, alice, "sip:92025550177@pbx.example.com", super::ALICE_FROM, "Identity: of my own\n");
    let sent = b.take_request("INVITE", TRUNK).1;
    let passport = signed(&sent);
    assert!(passport.is_signed_by(&public) && passport.url == URL);
    let claims = passport.claims;
    assert_eq!(claims.attest, Some(Attestation::A));
    assert_eq!(
        (claims.orig.tn.as_deref(), claims.dest.tn.as_slice()),
        (Some("12025551001"), &["12025550177".into()][..])
    );
    assert_eq!(claims.iat, NOW_S);
    let origination = claims.origid.unwrap();
    assert_eq!(origination.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12], "{origination}");
    assert_eq!(sent.header(Name::Date), Some("Tue, 14 Nov 2023 22:13:20 GMT"));
}

#[test]
fn a_renewed_key_signs_the_next_call_and_the_last_goes_on() {
    let (mut b, _) = signing(&format!("{CONFIG}[dialing]\noutside_prefixes = [\"9\"]\n"));
    let alice = from_alice(1000, 1);
    b.register(alice, "alice");
    invite(&mut b, alice, "sip:92025550177@pbx.example.com", super::ALICE_FROM, "");
    let first = b.take_request("INVITE", TRUNK);
    let renewed = signer(URL);
    let public = renewed.public_key();
    b.input(Input::Signer(renewed));
    assert!(b.find_request("CANCEL", TRUNK).is_none());
    b.answer(&first, 180, "carrier", "", "");
    assert_eq!(b.take_response("INVITE", "198.51.100.77:1000", 101).status(), 180);
    invite(&mut b, alice, "sip:92025550177@pbx.example.com", super::ALICE_FROM, "");
    assert!(signed(&b.take_request("INVITE", TRUNK).1).is_signed_by(&public));
}

#[test]
fn emergency_calls_calls_inside_and_those_of_anonymous_callers_are_not_signed() {
    let (mut b, _) = signing(CONFIG);
    let alice = from_alice(1000, 1);
    b.register(alice, "alice");
    for (called, extra, at) in [("911", "", TRUNK), ("1002", "", BOB), ("+12025550177", "Privacy: id\n", TRUNK)] {
        invite(&mut b, alice, &format!("sip:{called}@pbx.example.com"), super::ALICE_FROM, extra);
        assert_eq!(b.take_request("INVITE", at).1.header_text("Identity"), None, "{called}");
    }
}

#[test]
fn a_call_sent_on_to_a_carrier_has_partial_attestation_and_to_a_trunk_of_ours_its_own_signature() {
    let map = "[inbound.branch]\nnumbers = [\"+12025553*\"]\nto = \"trunk:stream\"\n\
               [inbound.carrier]\nnumbers = [\"+12025554*\"]\nto = \"trunk:carrier\"\n";
    let (mut b, public) = signing(&format!("{CONFIG}{map}"));
    let call = |b: &mut Bench, from: Flow, number: &str, extra: &str| {
        let uri = format!("sip:+{number}@pbx.example.com");
        let (from_address, to) = (format!("<sip:+{CALLER}@203.0.113.5>;tag={number}"), format!("<{uri}>"));
        b.request(from, ("INVITE", &uri), (&from_address, &to), (number, 1), (extra, SDP));
    };
    let value = "Identity: a.b.c;info=<https://certificates.example.com/x>\n";
    call(&mut b, udp(TRUNK), "12025553001", value);
    let sent = b.sent.iter().find(|(flow, _)| flow.remote.to_string() == "203.0.113.6:5060").unwrap().1.clone();
    assert_eq!(sent.lines_text("Identity").collect::<Vec<_>>(), ["a.b.c;info=<https://certificates.example.com/x>"]);
    call(&mut b, from_stream(2), "12025554001", value);
    let passport = signed(&b.take_request("INVITE", TRUNK).1);
    assert!(passport.is_signed_by(&public));
    assert_eq!(
        (passport.claims.attest, passport.claims.orig.tn.as_deref()),
        (Some(Attestation::B), Some("12025554001"))
    );
}

// Sent on by this server.

const BRANCH: &str = "12025553001";

/// Numbers behind a trunk that is no carrier's, and Bob, whose calls go to one of them or stay.
fn with_branch(forwarded_to: Option<&str>, stir: &str) -> (Bench, [u8; 65]) {
    let map = "[inbound.branch]\nnumbers = [\"+12025553*\"]\nto = \"trunk:stream\"\n";
    let mut bob = user("bob", "1002", "+12025551002");
    bob.forwarding.always = forwarded_to.map(str::to_owned);
    let mut b = Bench::with_users(&format!("{CONFIG}{map}{stir}"), [bob], vec![binding("bob", BOB)]);
    let key = signer(OTHER_URL);
    let public = key.public_key();
    b.input(Input::Signer(key));
    (b, public)
}

/// What has gone to the branch: the caller that it is shown, and the Identity headers.
fn at_branch(b: &Bench) -> (String, Vec<String>) {
    let (_, sent) = b.sent.iter().find(|(flow, _)| flow.remote.to_string() == "203.0.113.6:5060").expect("a call");
    let shown = sent.lines(Name::PAssertedIdentity).next().unwrap_or_default().to_owned();
    (shown, sent.lines_text("Identity").map(str::to_owned).collect())
}

/// Checks what a verifier behind the branch's trunk needs, and that Bob's number is signed for.
fn assert_signed_on(b: &Bench, original: &str, public: &[u8; 65]) {
    let (shown, identities) = at_branch(b);
    assert_eq!(shown, "<sip:+14155550123@pbx.example.com;user=phone>");
    let [own, diversion] = identities.as_slice() else { panic!("{identities:?}") };
    assert_eq!(format!("Identity: {own}\n"), original);
    let passports = [own, diversion].map(|value| Passport::parse(value).unwrap());
    let (caller, called) = ([format!("+{CALLER}")], [format!("+{BRANCH}")]);
    let chain = Chain::find(&passports, &Facts { caller: &caller, called: &called }).unwrap();
    let last = chain.passports[1];
    assert_eq!((chain.judge(NOW_S), last.signed_for(), chain.called), (None, BOBS, BRANCH));
    assert!(last.is_signed_by(public));
}

#[test]
fn a_forwarded_call_is_signed_for_the_number_that_forwards() {
    let (mut b, public) = with_branch(Some("+12025553001"), "");
    let original = identity(&signer(URL), CALLER, BOBS, NOW_S);
    trunk_calls(&mut b, "one", &original);
    assert_signed_on(&b, &original, &public);
}

#[test]
fn a_transferred_call_is_signed_for_the_number_that_was_called() {
    let (mut b, public) = with_branch(None, "");
    let original = identity(&signer(URL), CALLER, BOBS, NOW_S);
    trunk_calls(&mut b, "one", &original);
    let invite = b.take_request("INVITE", BOB);
    b.accept(&invite, "bob", SDP);
    b.take_request("ACK", BOB);
    let ok = b.take_response("INVITE", TRUNK, 200);
    let trunk = Leg::of_caller(udp(TRUNK), &ok);
    b.acknowledge(&trunk, 1, "");
    let bob = Leg::of_callee(&invite, "bob");
    b.sent.clear();
    assert_taken_on(&mut b, &bob, 1, &format!("<sip:+{BRANCH}@pbx.example.com>"));
    assert_signed_on(&b, &original, &public);
}

#[test]
fn what_has_failed_or_does_not_lead_here_is_passed_on_and_not_signed_for() {
    let key = signer(URL);
    for (what, original, stir) in [
        ("a forged one", identity(&key, "14155550199", BOBS, NOW_S), "[stir]\nanchors = \"unused.pem\"\n"),
        ("for another number", identity(&key, CALLER, FIRST, NOW_S), ""),
        ("for another caller", identity(&key, "14155550199", BOBS, NOW_S), ""),
        ("nonsense", "Identity: nonsense\n".to_owned(), ""),
    ] {
        let (mut b, _) = with_branch(Some("+12025553001"), stir);
        trunk_calls(&mut b, "one", &original);
        let expected = original.trim_start_matches("Identity: ").trim_end().to_owned();
        assert_eq!(at_branch(&b).1, [expected], "{what}");
    }
    let (mut b, _) = with_branch(Some("+12025553001"), "");
    trunk_calls(&mut b, "one", &format!("Privacy: id\n{}", identity(&key, CALLER, BOBS, NOW_S)));
    assert_eq!(at_branch(&b).1, [""; 0], "who hides is not shown by a signature");
    trunk_calls(&mut b, "two", "");
    assert_eq!(at_branch(&b).1, [""; 0], "there is nothing to sign on");
}
