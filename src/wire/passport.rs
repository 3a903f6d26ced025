//! PASSporTs (RFC 8225) with what SHAKEN (RFC 8588) and diversions (RFC 8946) add to them, as an Identity header carries them
//! (RFC 8224), and what a certificate says of the numbers that its key may speak for (RFC 8226).
//!
//! The signature is the library's: ES256, ECDSA over P-256 with SHA-256, which is all that RFC 8225 section 4.1 asks for.

use std::fmt;

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

/// An uncompressed point of P-256 (SEC 1 section 2.3.3).
pub const PUBLIC_KEY_BYTES: usize = 65;
/// `r` and `s` (RFC 7518 section 3.4).
pub const SIGNATURE_BYTES: usize = 64;

/// How sure who signed is of the caller (RFC 8588 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Attestation {
    /// Full: a known customer, with a right to the number.
    A,
    /// Partial: a known customer.
    B,
    /// Gateway: the call came from elsewhere.
    C,
}

impl Attestation {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::B => "B",
            Self::C => "C",
        }
    }
}

/// Why an Identity header cannot be verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is for something else (`div-o`, `rph`, ...), in the compact form, or signed otherwise than ES256: nothing is known.
    Unsupported,
    /// It breaks its grammar, or says one thing here and another there.
    Malformed,
}

/// What a PASSporT is for (`ppt`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The caller's own: `shaken`, or the plain one of RFC 8225.
    Caller,
    /// Of a number that has sent the call on: `div` (RFC 8946 section 3).
    Diversion,
}

impl Kind {
    /// `None`: of another kind.
    fn of(ppt: Option<&str>) -> Option<Self> {
        let Some(ppt) = ppt else { return Some(Self::Caller) };
        let known = [("shaken", Self::Caller), ("div", Self::Diversion)];
        known.into_iter().find(|(name, _)| ppt.eq_ignore_ascii_case(name)).map(|(_, kind)| kind)
    }
}

/// One PASSporT, its signature not yet verified.
#[derive(Clone, PartialEq, Eq)]
pub struct Passport {
    pub kind: Kind,
    /// Where the certificate is.
    pub url: String,
    pub claims: Claims,
    /// Header and payload as they were signed.
    signed: String,
    signature: [u8; SIGNATURE_BYTES],
}

/// What is claimed of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// In the order of the alphabet, as all keys are (RFC 8225 section 9.1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attest: Option<Attestation>,
    pub dest: Destinations,
    /// Which number has sent the call on to `dest` (RFC 8946 section 3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub div: Option<Party>,
    /// Seconds since the Unix epoch.
    pub iat: u64,
    pub orig: Party,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origid: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destinations {
    /// Digits without `+`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tn: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uri: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Party {
    /// Digits without `+`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tn: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
}

/// The JOSE header (RFC 8225 section 4).
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    alg: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crit: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ppt: Option<String>,
    typ: String,
    x5u: String,
}

impl Passport {
    /// Reads one Identity header's value in the full form.
    pub fn parse(value: &str) -> Result<Self, Fault> {
        let mut parts = value.split(';').map(str::trim);
        let token = parts.next().unwrap_or_default();
        let parameter = |part: &str| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            (name.trim().to_ascii_lowercase(), value.trim().trim_matches('"').to_owned())
        };
        let parameters: Vec<_> = parts.map(parameter).collect();
        let named = |name: &str| parameters.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
        let written = Kind::of(named("ppt"));
        let [head, payload, signature] = token.split('.').collect::<Vec<_>>()[..] else { return Err(Fault::Malformed) };
        if written.is_none() || head.is_empty() || payload.is_empty() || named("alg").is_some_and(|alg| alg != "ES256")
        {
            return Err(Fault::Unsupported);
        }
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| Fault::Malformed);
        let parsed: Head = serde_json::from_slice(&decode(head)?).map_err(|_| Fault::Malformed)?;
        let claims: Claims = serde_json::from_slice(&decode(payload)?).map_err(|_| Fault::Malformed)?;
        // What must be understood and is not (RFC 7515 section 4.1.11).
        let kind = Kind::of(parsed.ppt.as_deref());
        let (Some(kind), "ES256", None) = (kind, parsed.alg.as_str(), &parsed.crit) else {
            return Err(Fault::Unsupported);
        };
        let info = named("info").map(|info| info.trim_start_matches('<').trim_end_matches('>'));
        let is_consistent = parsed.typ.eq_ignore_ascii_case("passport")
            && info.is_none_or(|info| info == parsed.x5u)
            && (named("ppt").is_none() || written == Some(kind))
            && match kind {
                Kind::Caller => parsed.ppt.is_none() || claims.attest.is_some() && claims.origid.is_some(),
                Kind::Diversion => claims.div.is_some(),
            };
        let signature = decode(signature)?.try_into().map_err(|_| Fault::Malformed)?;
        if !is_consistent {
            return Err(Fault::Malformed);
        }
        Ok(Self { kind, url: parsed.x5u, claims, signed: format!("{head}.{payload}"), signature })
    }

    pub fn is_signed_by(&self, key: &[u8; PUBLIC_KEY_BYTES]) -> bool {
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key);
        key.verify(self.signed.as_bytes(), &self.signature).is_ok()
    }

    /// The number that whoever signed must have the right to: the caller's, or that which has sent the call on (RFC 8946
    /// section 4). Empty: it is none.
    pub fn signed_for(&self) -> &str {
        let party = match self.kind {
            Kind::Caller => Some(&self.claims.orig),
            Kind::Diversion => self.claims.div.as_ref(),
        };
        party.and_then(|party| party.tn.as_deref()).unwrap_or_default()
    }

    /// The same in every header that says the same and was signed once: `r`, since of `s` anybody can make a second one.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut first = [0; 32];
        first.copy_from_slice(&self.signature[..32]);
        first
    }
}

/// Whom it is about is nobody's business in a log.
impl fmt::Debug for Passport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Passport({})", self.url)
    }
}

/// Signs for one certificate.
pub struct Signer {
    key: EcdsaKeyPair,
    /// Where others find the certificate.
    url: String,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.url)
    }
}

impl Signer {
    /// `key`: DER of PKCS #8 or of SEC 1 (RFC 5915). `None`: it is no key of P-256.
    pub fn new(key: &[u8], url: String) -> Option<Self> {
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let key =
            EcdsaKeyPair::from_pkcs8(algorithm, key).or_else(|_| EcdsaKeyPair::from_private_key_der(algorithm, key));
        Some(Self { key: key.ok()?, url })
    }

    /// The Identity header of a SHAKEN PASSporT or, with a claim `div`, of that of a diversion. `None`: the library has failed, and the call goes unsigned.
    ///
    /// The random number in each signature is the library's own: one that somebody could foretell would give the key away.
    pub fn sign(&self, claims: &Claims) -> Option<String> {
        let ppt = if claims.div.is_some() { "div" } else { "shaken" };
        let head = Head {
            alg: "ES256".to_owned(),
            crit: None,
            ppt: Some(ppt.to_owned()),
            typ: "passport".to_owned(),
            x5u: self.url.clone(),
        };
        let encode = |json: Vec<u8>| URL_SAFE_NO_PAD.encode(json);
        let head = encode(serde_json::to_vec(&head).ok()?);
        let signed = format!("{head}.{}", encode(serde_json::to_vec(claims).ok()?));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).ok()?;
        let signature = URL_SAFE_NO_PAD.encode(signature.as_ref());
        Some(format!("{signed}.{signature};info=<{}>;alg=ES256;ppt=\"{ppt}\"", self.url))
    }

    pub fn public_key(&self) -> [u8; PUBLIC_KEY_BYTES] {
        self.key.public_key().as_ref().try_into().expect("a key of P-256 is that long")
    }
}

/// What is known of a certificate whose chain ends at an authority that the operator trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    pub key: [u8; PUBLIC_KEY_BYTES],
    pub authority: Authority,
    /// Seconds since the Unix epoch.
    pub ends_at_s: u64,
}

/// The numbers that a certificate speaks for: its TNAuthList (RFC 8226 section 9).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authority {
    /// It names a provider, whose numbers it does not list.
    is_provider: bool,
    /// First number and how many.
    ranges: Vec<(String, u64)>,
}

impl Authority {
    /// Reads the value of the extension, DER. `None`: it breaks its form, or is empty.
    pub fn from_der(der: &[u8]) -> Option<Self> {
        let (mut entries, rest) = element(der, SEQUENCE)?;
        let mut authority = Self::default();
        while let Some((&tag, _)) = entries.split_first() {
            let (entry, left) = element(entries, tag)?;
            match tag {
                PROVIDER => authority.is_provider = true,
                RANGE => {
                    let (start, count) =
                        element(element(entry, SEQUENCE).map_or(entry, |(inner, _)| inner), IA5_STRING)?;
                    let (count, _) = element(count, INTEGER)?;
                    let count =
                        count.iter().try_fold(0_u64, |n, byte| n.checked_mul(256)?.checked_add(u64::from(*byte)))?;
                    authority.ranges.push((digits(start)?, count));
                }
                ONE => authority.ranges.push((digits(element(entry, IA5_STRING)?.0)?, 1)),
                _ => return None,
            }
            entries = left;
        }
        let says_something = authority.is_provider || !authority.ranges.is_empty();
        (rest.is_empty() && says_something).then_some(authority)
    }

    /// `tn`: digits without `+`.
    pub fn covers(&self, tn: &str) -> bool {
        let is_in = |(first, count): &(String, u64)| {
            let (Ok(number), Ok(first_number)) = (tn.parse::<u64>(), first.parse::<u64>()) else { return false };
            tn.len() == first.len() && number.checked_sub(first_number).is_some_and(|offset| offset < *count)
        };
        self.is_provider || self.ranges.iter().any(is_in)
    }
}

/// Tags of DER, and of the choice in TNEntry, which are explicit.
const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const IA5_STRING: u8 = 0x16;
const PROVIDER: u8 = 0xA0;
const RANGE: u8 = 0xA1;
const ONE: u8 = 0xA2;

/// The content of the first element, which has this tag, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (_, rest) = der.split_first().filter(|(first, _)| **first == tag)?;
    let (&length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        0..=0x7F => (usize::from(length), rest),
        0x81 => (usize::from(*rest.first()?), &rest[1..]),
        0x82 => (usize::from(*rest.first()?) << 8 | usize::from(*rest.get(1)?), &rest[2..]),
        _ => return None,
    };
    rest.split_at_checked(length)
}

fn digits(text: &[u8]) -> Option<String> {
    let is_number = (1..=15).contains(&text.len()) && text.iter().all(u8::is_ascii_digit);
    is_number.then(|| String::from_utf8_lossy(text).into_owned())
}

#[cfg(test)]
pub mod testing {
    use super::*;

    /// A signer with a key of its own.
    pub fn signer(url: &str) -> Signer {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        Signer::new(pkcs8.as_ref(), url.to_owned()).unwrap()
    }

    pub fn claims(orig: &str, dest: &str, iat: u64) -> Claims {
        Claims {
            attest: Some(Attestation::A),
            dest: Destinations { tn: vec![dest.to_owned()], uri: Vec::new() },
            div: None,
            iat,
            orig: Party { tn: Some(orig.to_owned()), uri: None },
            origid: Some("123e4567-e89b-12d3-a456-426655440000".to_owned()),
        }
    }

    /// `from` sends on to `dest` what `orig` called.
    pub fn diversion(orig: &str, from: &str, dest: &str, iat: u64) -> Claims {
        let div = Some(Party { tn: Some(from.to_owned()), uri: None });
        Claims { attest: None, div, origid: None, ..claims(orig, dest, iat) }
    }
}

#[cfg(test)]
mod tests {
    use super::{testing::*, *};

    const URL: &str = "https://cert.example.org/passport.cer";

    /// Header and payload of RFC 8225 appendix A, signed by OpenSSL with another key.
    const EXAMPLE: &str = "eyJhbGciOiJFUzI1NiIsInR5cCI6InBhc3Nwb3J0IiwieDV1IjoiaHR0cHM6Ly9jZXJ0LmV4YW1wbGUub3JnL3Bhc3Nwb3J0LmNlciJ9.\
        eyJkZXN0Ijp7InVyaSI6WyJzaXA6YWxpY2VAZXhhbXBsZS5jb20iXX0sImlhdCI6MTQ3MTM3NTQxOCwib3JpZyI6eyJ0biI6IjEyMTU1NTUxMjEyIn19.\
        -WmjmPtvAbqDmdIIXNBrGC3BjaQPP5HRHOvEroAgr7J5PgsLlmTg6CiGb-d-qC2Tr-Q7Gxa19aCAv2tLsRthgw";
    /// The public key.
    const EXAMPLE_KEY: &str =
        "BImpZSjsJ/uGgVxWOHW3cfOq/Rno/CXe9XJZ70NKhIdVjWTw67cD/k+93Eqazl2SSBtK/J109ketmiDCypk0//c=";

    fn example_key() -> [u8; PUBLIC_KEY_BYTES] {
        base64::engine::general_purpose::STANDARD.decode(EXAMPLE_KEY).unwrap().try_into().unwrap()
    }

    #[test]
    fn the_example_of_rfc_8225_is_read_and_a_signature_of_openssl_is_good() {
        let passport = Passport::parse(EXAMPLE).unwrap();
        assert_eq!((passport.url.as_str(), passport.claims.iat), (URL, 1_471_375_418));
        assert_eq!(passport.claims.orig.tn.as_deref(), Some("12155551212"));
        assert_eq!(passport.claims.dest.uri, ["sip:alice@example.com"]);
        assert!(passport.is_signed_by(&example_key()));
        assert!(!passport.is_signed_by(&signer(URL).public_key()));
    }

    #[test]
    fn the_payload_is_written_as_rfc_8588_shows_it() {
        let json = serde_json::to_string(&claims("12155550121", "12125551213", 1_443_208_345)).unwrap();
        let expected = "{\"attest\":\"A\",\"dest\":{\"tn\":[\"12125551213\"]},\"iat\":1443208345,\
                        \"orig\":{\"tn\":\"12155550121\"},\"origid\":\"123e4567-e89b-12d3-a456-426655440000\"}";
        assert_eq!(json, expected);
    }

    /// RFC 8946 section 3.
    #[test]
    fn a_diversion_says_who_sent_the_call_on_and_is_signed_for_by_that_number() {
        let claims = diversion("12155551212", "12155551213", "12155551214", 1_443_208_345);
        let json = serde_json::to_string(&claims).unwrap();
        let expected = "{\"dest\":{\"tn\":[\"12155551214\"]},\"div\":{\"tn\":\"12155551213\"},\"iat\":1443208345,\
                        \"orig\":{\"tn\":\"12155551212\"}}";
        assert_eq!(json, expected);
        let value = signer(URL).sign(&claims).unwrap();
        assert!(value.ends_with(";ppt=\"div\""), "{value}");
        let passport = Passport::parse(&value).unwrap();
        assert_eq!((passport.kind, passport.signed_for()), (Kind::Diversion, "12155551213"));
        assert_eq!(passport.claims, claims);
        let own =
            Passport::parse(&signer(URL).sign(&testing::claims("12155551212", "12155551213", 1)).unwrap()).unwrap();
        assert_eq!((own.kind, own.signed_for()), (Kind::Caller, "12155551212"));
    }

    #[test]
    fn what_is_signed_is_verified_and_nothing_that_was_changed() {
        let signer = signer(URL);
        let value = signer.sign(&claims("12155550121", "12125551213", 1_443_208_345)).unwrap();
        assert!(value.ends_with(";info=<https://cert.example.org/passport.cer>;alg=ES256;ppt=\"shaken\""), "{value}");
        let passport = Passport::parse(&value).unwrap();
        assert!(passport.is_signed_by(&signer.public_key()));
        assert_eq!(passport.claims, claims("12155550121", "12125551213", 1_443_208_345));
        // Every letter of head, payload and signature counts, but for the bits that stand for nothing at an end.
        let token_len = value.find(';').unwrap();
        for at in 0..token_len - 1 {
            let mut changed = value.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            let is_good = Passport::parse(&changed).is_ok_and(|p| p.is_signed_by(&signer.public_key()));
            assert!(!is_good, "letter {at} of {value}");
        }
    }

    /// The header of a token with this JOSE header and payload.
    fn value_of(head: &str, payload: &str, parameters: &str) -> String {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.{}{parameters}", part(head), part(payload), URL_SAFE_NO_PAD.encode([7; SIGNATURE_BYTES]))
    }

    #[test]
    fn what_cannot_be_judged_is_told_from_what_is_wrong() {
        let head = "{\"alg\":\"ES256\",\"ppt\":\"shaken\",\"typ\":\"passport\",\"x5u\":\"https://c.example/c\"}";
        let payload = serde_json::to_string(&claims("12155550121", "12125551213", 1)).unwrap();
        let parse = |head: &str, payload: &str, parameters: &str| Passport::parse(&value_of(head, payload, parameters));
        assert!(parse(head, &payload, ";info=<https://c.example/c>").is_ok());
        assert!(parse(head, &payload, "").is_ok());
        for (head, payload, parameters, fault) in [
            (head, payload.as_str(), ";ppt=div-o", Fault::Unsupported),
            (head, payload.as_str(), ";ppt=div", Fault::Malformed),
            (&head.replace("shaken", "div-o"), &payload, "", Fault::Unsupported),
            (&head.replace("shaken", "div"), &payload, "", Fault::Malformed),
            (&head.replace("ES256", "RS256"), &payload, "", Fault::Unsupported),
            (&head.replace("ES256", "none"), &payload, "", Fault::Unsupported),
            (&head.replace('{', "{\"crit\":[\"x\"],"), &payload, "", Fault::Unsupported),
            (head, &payload, ";alg=ES384", Fault::Unsupported),
            (head, &payload, ";info=<https://other.example/c>", Fault::Malformed),
            (&head.replace("passport", "JWT"), &payload, "", Fault::Malformed),
            (&head.replace(",\"x5u\":\"https://c.example/c\"", ""), &payload, "", Fault::Malformed),
            (head, &payload.replace("\"attest\":\"A\",", ""), "", Fault::Malformed),
            (head, &payload.replace("\"A\"", "\"D\""), "", Fault::Malformed),
            (head, &payload.replace("\"iat\":1,", ""), "", Fault::Malformed),
            (head, "{", "", Fault::Malformed),
        ] {
            assert_eq!(parse(head, payload, parameters).unwrap_err(), fault, "{head} {payload} {parameters}");
        }
        for (value, fault) in [
            ("", Fault::Malformed),
            ("a.b", Fault::Malformed),
            ("..sig;info=<https://c.example/c>", Fault::Unsupported),
            ("!.!.!", Fault::Malformed),
            (&EXAMPLE[..EXAMPLE.len() - 4], Fault::Malformed),
        ] {
            assert_eq!(Passport::parse(value).unwrap_err(), fault, "{value}");
        }
    }

    #[test]
    fn what_is_no_key_signs_nothing() {
        assert!(Signer::new(b"no key", URL.to_owned()).is_none());
    }

    /// One DER element.
    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![tag, u8::try_from(content.len()).unwrap()];
        out.extend_from_slice(content);
        out
    }

    #[test]
    fn a_certificate_speaks_for_its_numbers_or_for_a_provider() {
        let one = der(ONE, &der(IA5_STRING, b"12025550100"));
        let range = [der(IA5_STRING, b"12025550200"), der(INTEGER, &[100])].concat();
        let range = der(RANGE, &der(SEQUENCE, &range));
        let numbers = Authority::from_der(&der(SEQUENCE, &[one.clone(), range].concat())).unwrap();
        for (tn, is_covered) in [
            ("12025550100", true),
            ("12025550101", false),
            ("12025550199", false),
            ("12025550200", true),
            ("12025550299", true),
            ("12025550300", false),
            ("2025550200", false),
            ("x", false),
            ("", false),
        ] {
            assert_eq!(numbers.covers(tn), is_covered, "{tn}");
        }
        let provider = der(SEQUENCE, &der(PROVIDER, &der(IA5_STRING, b"1234")));
        assert!(Authority::from_der(&provider).unwrap().covers("442079460123"));
        let empty = der(SEQUENCE, &[]);
        let trailing = [der(SEQUENCE, &one), vec![0]].concat();
        let letters = der(SEQUENCE, &der(ONE, &der(IA5_STRING, b"1202555x")));
        for wrong in [&[][..], &empty, &trailing, &letters, &[SEQUENCE], &[SEQUENCE, 5, ONE], &[0x31, 0]] {
            assert_eq!(Authority::from_der(wrong), None, "{wrong:?}");
        }
    }
}
