//! Whether a caller's number is the caller's own, as far as signatures tell (RFC 8224 section 6.2, RFC 8946, ATIS-1000074).

use std::net::IpAddr;

use super::number;
use crate::{
    types::limits::{PASSPORT_AGE_S_MAX, PASSPORT_URL_BYTES_MAX},
    wire::passport::{Attestation, Authority, Certificate, Kind, Passport},
};

/// What the callee is told (3GPP TS 24.229 section 7.2A.20).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verstat {
    Passed,
    Failed,
    /// Nothing is known: unsigned, or not to be verified here and now.
    NoValidation,
}

impl Verstat {
    /// Every value, in the order of [`Self::index`].
    pub const ALL: [Self; 3] = [Self::Passed, Self::Failed, Self::NoValidation];

    /// Value of the parameter `verstat`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "TN-Validation-Passed",
            Self::Failed => "TN-Validation-Failed",
            Self::NoValidation => "No-TN-Validation",
        }
    }

    pub const fn index(self) -> usize {
        match self {
            Self::Passed => 0,
            Self::Failed => 1,
            Self::NoValidation => 2,
        }
    }
}

/// The outcome for one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verification {
    pub verstat: Verstat,
    /// Only where the signature is good.
    pub attest: Option<Attestation>,
    /// In a few words.
    pub reason: &'static str,
}

impl Verification {
    pub const fn unknown(reason: &'static str) -> Self {
        Self { verstat: Verstat::NoValidation, attest: None, reason }
    }

    pub const fn failed(reason: &'static str) -> Self {
        Self { verstat: Verstat::Failed, attest: None, reason }
    }
}

/// What this server knows of the call itself.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'c> {
    /// Every E.164 form that the caller's number may have; empty: it is none.
    pub caller: &'c [String],
    /// The same of the number that was called.
    pub called: &'c [String],
}

/// Signatures that lead from a caller to the number that was called.
#[derive(Clone, Debug)]
pub struct Chain<'p> {
    /// The caller's own, then those of the numbers that have sent the call on, in their order.
    pub passports: Vec<&'p Passport>,
    /// Which of the numbers that the last is for was called: digits.
    pub called: &'p str,
}

impl<'p> Chain<'p> {
    /// Finds the signatures among those of a call, beginning at the number that was called (RFC 8946 section 4): each must be
    /// for whom the one after it has sent the call on from, and all for the same caller.
    pub fn find(passports: &'p [Passport], facts: &Facts<'_>) -> Result<Self, Verification> {
        let own = passports.iter().find(|passport| passport.kind == Kind::Caller);
        let own = own.ok_or(Verification::unknown("the caller's own signature is missing"))?;
        let caller = own.claims.orig.tn.as_deref().ok_or(Verification::unknown("the signature is for no number"))?;
        if !is_one_of(caller, facts.caller) {
            return Err(Verification::failed("the signature is for another caller"));
        }
        let mut left: Vec<_> = passports.iter().filter(|passport| passport.kind == Kind::Diversion).collect();
        let (mut links, mut called, mut last) = (Vec::new(), facts.called.to_vec(), None);
        loop {
            let named = |passport: &'p Passport| passport.claims.dest.tn.iter().find(|tn| is_one_of(tn, &called));
            if let Some(named) = named(own) {
                links.push(own);
                links.reverse();
                return Ok(Self { passports: links, called: digits(last.unwrap_or(named)) });
            }
            let Some((at, named)) = left.iter().enumerate().find_map(|(at, link)| Some((at, named(link)?))) else {
                let reason = if links.is_empty() && left.is_empty() { ANOTHER_CALLEE } else { NO_WAY };
                return Err(Verification::failed(reason));
            };
            let link = left.swap_remove(at);
            if link.claims.orig.tn.as_deref().map(digits) != Some(digits(caller)) {
                return Err(Verification::failed("the call of another caller was sent on"));
            }
            last = last.or(Some(named));
            called = vec![link.signed_for().to_owned()];
            links.push(link);
        }
    }

    /// What does not need a certificate. `None`: it decides.
    ///
    /// A call that was sent on after a minute, because nobody answered or by a transfer, is no copy, but nor is it proven: RFC
    /// 8946 leaves the age of the caller's own signature to RFC 8224, by which it is not good any more.
    pub fn judge(&self, now_s: u64) -> Option<Verification> {
        let is_fresh = |passport: &&Passport| now_s.abs_diff(passport.claims.iat) <= PASSPORT_AGE_S_MAX;
        let (own, diversions) = self.passports.split_first()?;
        if is_fresh(own) && diversions.iter().all(is_fresh) {
            return None;
        }
        let is_sent_on = !diversions.is_empty() && diversions.iter().all(is_fresh) && own.claims.iat < now_s;
        Some(if is_sent_on {
            Verification::unknown("the call was sent on more than a minute after it was signed")
        } else {
            Verification::failed("the signature is not of this minute")
        })
    }
}

/// Why a signature that leads to no number of ours is not good.
pub const ANOTHER_CALLEE: &str = "the signature is for another callee";
const NO_WAY: &str = "the signatures of those who sent the call on do not lead here";

/// Whether a number as it is signed is one of these E.164 forms. What is empty is no number, such as that of an address.
fn is_one_of(tn: &str, forms: &[String]) -> bool {
    !tn.is_empty() && forms.iter().any(|form| digits(form) == digits(tn))
}

/// Of a call whose signatures are all good; `own`: what the caller's is.
pub const fn all_good(own: Verification, diversions: usize) -> Verification {
    if diversions == 0 {
        return own;
    }
    Verification { reason: "the signatures of the caller and of those who sent the call on are good", ..own }
}

/// What the certificate makes of one signature whose claims fit the call.
pub fn judge(passport: &Passport, certificate: &Certificate, now_s: u64) -> Verification {
    let Certificate { key, authority, ends_at_s } = certificate;
    if *ends_at_s <= now_s {
        return Verification::failed("the certificate has ended");
    }
    if !Authority::covers(authority, digits(passport.signed_for())) {
        return Verification::failed("the certificate is for other numbers");
    }
    if !passport.is_signed_by(key) {
        return Verification::failed("the signature is wrong");
    }
    let attest = passport.claims.attest;
    Verification { verstat: Verstat::Passed, attest, reason: "the signature is good" }
}

/// Where a certificate lies on the web.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub host: String,
    pub port: u16,
    /// Path and query.
    pub path: String,
}

impl Place {
    /// Reads an https URL with a host name, on one of the ports that certificates are offered on (ATIS-1000074 section 5.3.1).
    /// `None`: it is none.
    pub fn parse(url: &str) -> Option<Self> {
        if url.len() > PASSPORT_URL_BYTES_MAX {
            return None;
        }
        let rest = url.strip_prefix("https://")?;
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (host, port) = match authority.split_once(':') {
            None => (authority, HTTPS_PORTS[0]),
            Some((host, port)) => (host, port.parse().ok().filter(|port| HTTPS_PORTS.contains(port))?),
        };
        let is_label = |label: &str| {
            !label.is_empty() && label.len() <= 63 && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        let is_name = host.len() <= 253 && host.contains('.') && host.split('.').all(is_label);
        let is_path =
            path.is_empty() || path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
        let path = if path.is_empty() { "/" } else { path };
        (is_name && is_path).then(|| Self { host: host.to_ascii_lowercase(), port, path: path.to_owned() })
    }
}

const HTTPS_PORTS: [u16; 2] = [443, 8443];

/// Whether a certificate may be fetched from this address: nobody who calls decides what this server asks of machines that only
/// its own network reaches.
pub fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            let is_shared = a == 100 && (64..128).contains(&b);
            let is_special = a == 0 || a >= 240 || (a, b, c) == (192, 0, 0) || a == 198 && (b == 18 || b == 19);
            let is_named = v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_documentation();
            !(is_shared || is_special || is_named || v4.is_multicast())
        }
        IpAddr::V6(v6) => {
            let segments = v6.segments();
            // Global unicast alone (RFC 4291 section 2.4), without documentation, Teredo and 6to4, which lead to IPv4.
            let is_global = segments[0] & 0xE000 == 0x2000;
            is_global && segments[0] != 0x2002 && !(segments[0] == 0x2001 && matches!(segments[1], 0 | 0xDB8))
        }
    }
}

/// A telephone number as it is signed: its digits (RFC 8225 section 5.2.1).
fn digits(tn: &str) -> &str {
    tn.strip_prefix('+').filter(|rest| number::is_digits(rest)).unwrap_or(tn)
}

/// How sure this server is of a caller that it shows to a carrier under a number of the company: fully of its own users, who may
/// present no other number; of those who come by a trunk and are sent on, only that they come from here.
pub const fn attestation(is_own_user: bool) -> Attestation {
    if is_own_user { Attestation::A } else { Attestation::B }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::passport::{
        Claims, Party, Signer,
        testing::{claims, diversion, signer},
    };

    const NOW_S: u64 = 1_700_000_000;
    const CALLER: &str = "14155550123";
    const CALLED: &str = "12025551002";

    fn passport(signer: &Signer, orig: &str, dest: &str, iat: u64) -> Passport {
        Passport::parse(&signer.sign(&claims(orig, dest, iat)).unwrap()).unwrap()
    }

    /// Of a call of [`CALLER`] to [`CALLED`] that carries this.
    fn judged(passport: &Passport, signer: &Signer, authority: Authority) -> Verification {
        match claims_of(std::slice::from_ref(passport)) {
            Err(verification) => verification,
            Ok(_) => {
                let certificate = Certificate { key: signer.public_key(), authority, ends_at_s: NOW_S + 1 };
                judge(passport, &certificate, NOW_S)
            }
        }
    }

    /// How many signatures lead to [`CALLED`], and for which number the last is.
    fn claims_of(passports: &[Passport]) -> Result<(usize, String), Verification> {
        let (caller, called) = ([format!("+{CALLER}")], ["+2025551002".to_owned(), format!("+{CALLED}")]);
        let chain = Chain::find(passports, &Facts { caller: &caller, called: &called })?;
        chain.judge(NOW_S).map_or_else(|| Ok((chain.passports.len(), chain.called.to_owned())), Err)
    }

    /// As an extension: of one number.
    fn for_number(tn: &str) -> Authority {
        let entry = [&[0xA2, 13, 0x16, 11][..], tn.as_bytes()].concat();
        Authority::from_der(&[&[0x30, 15][..], &entry].concat()).unwrap()
    }

    fn of_provider() -> Authority {
        Authority::from_der(&[0x30, 6, 0xA0, 4, 0x16, 2, b'1', b'2']).unwrap()
    }

    #[test]
    fn a_signature_is_good_for_this_caller_this_callee_and_this_minute() {
        let key = signer("https://c.example/c");
        for (orig, dest, iat, verstat, reason) in [
            (CALLER, CALLED, NOW_S, Verstat::Passed, "the signature is good"),
            ("+14155550123", "+12025551002", NOW_S, Verstat::Passed, "the signature is good"),
            (CALLER, CALLED, NOW_S - 60, Verstat::Passed, "the signature is good"),
            (CALLER, CALLED, NOW_S + 60, Verstat::Passed, "the signature is good"),
            (CALLER, CALLED, NOW_S - 61, Verstat::Failed, "the signature is not of this minute"),
            (CALLER, CALLED, NOW_S + 61, Verstat::Failed, "the signature is not of this minute"),
            (CALLER, CALLED, 0, Verstat::Failed, "the signature is not of this minute"),
            ("14155550124", CALLED, NOW_S, Verstat::Failed, "the signature is for another caller"),
            (CALLER, "12025551003", NOW_S, Verstat::Failed, "the signature is for another callee"),
        ] {
            let found = judged(&passport(&key, orig, dest, iat), &key, of_provider());
            assert_eq!((found.verstat, found.reason), (verstat, reason), "{orig} {dest} {iat}");
            assert_eq!(found.attest.is_some(), verstat == Verstat::Passed);
        }
    }

    #[test]
    fn another_key_or_a_certificate_for_other_numbers_fails() {
        let (key, other) = (signer("https://c.example/c"), signer("https://c.example/c"));
        let good = passport(&key, CALLER, CALLED, NOW_S);
        assert_eq!(judged(&good, &other, of_provider()).reason, "the signature is wrong");
        assert_eq!(judged(&good, &key, for_number("14155550124")).reason, "the certificate is for other numbers");
        assert_eq!(judged(&good, &key, for_number(CALLER)).verstat, Verstat::Passed);
        let ended = Certificate { key: key.public_key(), authority: of_provider(), ends_at_s: NOW_S };
        assert_eq!(judge(&good, &ended, NOW_S).reason, "the certificate has ended");
    }

    #[test]
    fn the_signatures_of_a_diverted_call_must_lead_from_its_caller_to_the_callee() {
        const FIRST: &str = "12025550001";
        const SECOND: &str = "12025550002";
        let key = signer("https://c.example/c");
        let of = |claims: &Claims| Passport::parse(&key.sign(claims).unwrap()).unwrap();
        let own = |dest: &str, iat| of(&claims(CALLER, dest, iat));
        let sent_on = |from: &str, dest: &str, iat| of(&diversion(CALLER, from, dest, iat));
        let way = || vec![sent_on(SECOND, CALLED, NOW_S), own(FIRST, NOW_S - 40), sent_on(FIRST, SECOND, NOW_S - 20)];
        let mut of_many = diversion(CALLER, SECOND, CALLED, NOW_S);
        of_many.dest.tn.insert(0, FIRST.to_owned());
        let plus = of(&diversion(&format!("+{CALLER}"), &format!("+{SECOND}"), &format!("+{CALLED}"), NOW_S));
        let address = |mut claims: Claims| {
            claims.div = Some(Party { tn: None, uri: Some("sip:a@b.example".to_owned()) });
            of(&claims)
        };
        let [failed, unknown] = [Verification::failed, Verification::unknown];
        for (what, passports, expected) in [
            ("no diversion", vec![own(CALLED, NOW_S)], Ok(1)),
            ("one", vec![own(FIRST, NOW_S), sent_on(FIRST, CALLED, NOW_S)], Ok(2)),
            ("two, in any order", way(), Ok(3)),
            ("with a plus", vec![own(SECOND, NOW_S), plus], Ok(2)),
            ("one of several", vec![own(SECOND, NOW_S), of(&of_many)], Ok(2)),
            ("back to where it has been", [way(), vec![sent_on(CALLED, FIRST, NOW_S)]].concat(), Ok(3)),
            ("a gap", way().into_iter().take(2).collect(), Err(failed(NO_WAY))),
            ("to somebody else", vec![own(FIRST, NOW_S), sent_on(FIRST, SECOND, NOW_S)], Err(failed(NO_WAY))),
            (
                "in a circle",
                vec![own(FIRST, NOW_S), sent_on(SECOND, CALLED, NOW_S), sent_on(CALLED, SECOND, NOW_S)],
                Err(failed(NO_WAY)),
            ),
            (
                "by an address",
                vec![own(FIRST, NOW_S), address(diversion(CALLER, "", CALLED, NOW_S))],
                Err(failed(NO_WAY)),
            ),
            ("for no number", vec![own("", NOW_S), address(diversion(CALLER, "", CALLED, NOW_S))], Err(failed(NO_WAY))),
            ("none", vec![own(FIRST, NOW_S)], Err(failed(ANOTHER_CALLEE))),
            (
                "of another caller",
                vec![own(FIRST, NOW_S), of(&diversion("14155550199", FIRST, CALLED, NOW_S))],
                Err(failed("the call of another caller was sent on")),
            ),
            (
                "without the caller's",
                vec![sent_on(FIRST, CALLED, NOW_S)],
                Err(unknown("the caller's own signature is missing")),
            ),
            (
                "an old one",
                vec![own(FIRST, NOW_S), sent_on(FIRST, CALLED, NOW_S - 61)],
                Err(failed("the signature is not of this minute")),
            ),
            (
                "of a call signed long before",
                vec![own(FIRST, NOW_S - 61), sent_on(FIRST, CALLED, NOW_S)],
                Err(unknown("the call was sent on more than a minute after it was signed")),
            ),
            (
                "of a call signed in time to come",
                vec![own(FIRST, NOW_S + 61), sent_on(FIRST, CALLED, NOW_S)],
                Err(failed("the signature is not of this minute")),
            ),
        ] {
            let expected = expected.map(|count| (count, CALLED.to_owned()));
            assert_eq!(claims_of(&passports), expected, "{what}");
        }
    }

    #[test]
    fn a_diversion_is_signed_by_who_has_the_number_that_sent_the_call_on() {
        let key = signer("https://c.example/c");
        let link = Passport::parse(&key.sign(&diversion(CALLER, "12025550001", CALLED, NOW_S)).unwrap()).unwrap();
        let certificate = |tn| Certificate { key: key.public_key(), authority: for_number(tn), ends_at_s: NOW_S + 1 };
        assert_eq!(judge(&link, &certificate("12025550001"), NOW_S).verstat, Verstat::Passed);
        for other in [CALLER, CALLED] {
            assert_eq!(judge(&link, &certificate(other), NOW_S).reason, "the certificate is for other numbers");
        }
    }

    #[test]
    fn a_signature_for_an_address_says_nothing_of_a_number() {
        let key = signer("https://c.example/c");
        let mut of_address = claims(CALLER, CALLED, NOW_S);
        (of_address.orig.tn, of_address.orig.uri) = (None, Some("sip:a@b.example".to_owned()));
        let passport = Passport::parse(&key.sign(&of_address).unwrap()).unwrap();
        assert_eq!(judged(&passport, &key, of_provider()).verstat, Verstat::NoValidation);
    }

    #[test]
    fn a_certificate_lies_at_an_https_address_by_name() {
        let place = |url: &str| Place::parse(url).map(|p| format!("{} {} {}", p.host, p.port, p.path));
        for (url, expected) in [
            ("https://Cert.example.org/passport.cer", "cert.example.org 443 /passport.cer"),
            ("https://cert.example.org:8443/a?b=c", "cert.example.org 8443 /a?b=c"),
            ("https://cert.example.org", "cert.example.org 443 /"),
            ("https://127.0.0.1/x", "127.0.0.1 443 /x"),
        ] {
            assert_eq!(place(url).as_deref(), Some(expected));
        }
        let long = format!("https://cert.example.org/{}", "x".repeat(PASSPORT_URL_BYTES_MAX));
        for wrong in [
            "http://cert.example.org/x",
            "HTTPS://cert.example.org/x",
            "https://cert.example.org:22/x",
            "https://user@cert.example.org/x",
            "https://cert.example.org/a b",
            "https://cert.example.org/a#b",
            "https://[2001:db8::1]/x",
            "https://localhost/x",
            "https:///x",
            "https://a..b/x",
            "file:///etc/passwd",
            &long,
        ] {
            assert_eq!(place(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn nothing_is_fetched_from_where_only_this_network_reaches() {
        for public in ["1.1.1.1", "203.0.114.1", "2606:4700::1111", "2a00::1"] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for private in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "192.0.0.8",
            "192.168.1.1",
            "192.0.2.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "ff02::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
    }
}
