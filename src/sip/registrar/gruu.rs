//! Globally routable user agent URIs (RFC 5627): addresses of one device of a user.
//!
//! The public one names user and device. The temporary one is `tgruu.` and 48 hexadecimal digits that only this server can
//! read: a nonce, the device's mark under a mask made from the nonce, and a keyed tag over both. So each answer carries
//! a new one, two of them cannot be told to belong together, and none costs memory. A mark lives as long as the
//! registration of its Call-ID, and with it every temporary address.

use std::fmt::Write;

use crate::{
    types::Secret,
    wire::{keyed, sip::Uri},
};

use super::Binding;

const PREFIX: &str = "tgruu.";

/// Whom a Request-URI with `gr` means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gruu {
    /// The device of the user in the URI, by its instance without angle brackets.
    Public(String),
    /// A device that is registered.
    Temporary { aor: String, instance: String },
    /// Made by nobody, or by a registration that is over.
    Invalid,
}

/// Makes and reads the addresses.
#[derive(Debug)]
pub(super) struct Maker {
    domain: String,
    key: Secret<[u8; 32]>,
}

/// Stands for a registration of one device; 0 is as good as any other value.
pub(super) type Mark = u64;

impl Maker {
    /// `key` outlives the process, so that addresses do.
    pub(super) fn new(domain: &str, key: Secret<[u8; 32]>) -> Self {
        let domain =
            if domain.contains(':') && !domain.starts_with('[') { format!("[{domain}]") } else { domain.into() };
        Self { domain, key }
    }

    /// `None` for a contact that names no device; the same for each [`is_one_registration`].
    pub(super) fn mark(&self, binding: &Binding) -> Option<Mark> {
        let instance = binding.instance.as_deref()?;
        Some(self.word(&["mark", &binding.aor, instance, &binding.call_id]))
    }

    /// The Contact parameters of an answer; empty for a contact that names no device.
    pub(super) fn params(&self, binding: &Binding, nonce: u64) -> String {
        let (Some(instance), Some(mark)) = (binding.instance.as_deref(), self.mark(binding)) else {
            return String::new();
        };
        let (user, domain) = (escaped(&binding.aor), &self.domain);
        let masked = mark ^ self.mask(nonce);
        let proof = self.proof(nonce, masked);
        format!(
            r#";pub-gruu="sip:{user}@{domain};gr={}";temp-gruu="sip:{PREFIX}{nonce:016x}{masked:016x}{proof:016x}@{domain};gr""#,
            escaped(bare(instance))
        )
    }

    /// The mark in a temporary address of ours.
    pub(super) fn read(&self, user: &str) -> Option<Mark> {
        let digits = user.strip_prefix(PREFIX).filter(|digits| digits.len() == 48)?;
        let word = |at: usize| u64::from_str_radix(digits.get(at..at + 16)?, 16).ok();
        let (nonce, masked, proof) = (word(0)?, word(16)?, word(32)?);
        let is_ours = keyed::is_equal(&self.proof(nonce, masked).to_be_bytes(), &proof.to_be_bytes());
        is_ours.then(|| masked ^ self.mask(nonce))
    }

    fn mask(&self, nonce: u64) -> u64 {
        self.word(&["mask", &format!("{nonce:016x}")])
    }

    fn proof(&self, nonce: u64, masked: u64) -> u64 {
        self.word(&["proof", &format!("{nonce:016x}{masked:016x}")])
    }

    /// Of texts of which only the last may hold a line feed.
    fn word(&self, texts: &[&str]) -> u64 {
        let tag = u128::from_be_bytes(keyed::tag(self.key.expose(), texts.join("\n").as_bytes()));
        u64::try_from(tag >> 64).expect("the upper half of 128 bits")
    }
}

/// Whether two bindings of one address-of-record are of the same device and made under the same Call-ID.
pub(super) fn is_one_registration(a: &Binding, b: &Binding) -> bool {
    a.instance == b.instance && a.call_id == b.call_id
}

/// What a URI with `gr` says, before any device is looked for.
pub(super) enum Form<'a> {
    Public(String),
    Temporary(std::borrow::Cow<'a, str>),
}

/// `None`: not a GRUU.
pub(super) fn form<'a>(uri: &Uri<'a>) -> Option<Form<'a>> {
    if !uri.is_sip() || !uri.params.has("gr") {
        return None;
    }
    match uri.params.get("gr").unwrap_or_default() {
        "" => Some(Form::Temporary(uri.user_decoded().unwrap_or_default())),
        instance => Some(Form::Public(unescaped(instance))),
    }
}

/// An instance without its angle brackets.
pub(super) fn bare(instance: &str) -> &str {
    instance.strip_prefix('<').and_then(|i| i.strip_suffix('>')).unwrap_or(instance)
}

/// For a user part or a parameter value (RFC 3261 section 25.1).
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'!' | b'~' | b'*' | b'+' | b'$' => {
                out.push(char::from(byte));
            }
            // Allowed in parameters alone, and in no user name of ours (`ringdown user add`).
            b':' | b'/' => out.push(char::from(byte)),
            _ => write!(out, "%{byte:02X}").expect("writing to a String cannot fail"),
        }
    }
    out
}

/// Percent-decoding; what is not UTF-8 then names no device.
fn unescaped(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let pair = after.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        match pair.filter(|_| byte == b'%').and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(decoded) => {
                out.push(decoded);
                rest = &after[2..];
            }
            None => {
                out.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8(out).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::registrar::{
        Input,
        tests::{Answer, Fixture, tls},
    };

    const ASKS: &str = "Supported: gruu\nContact: <sip:a@x>;+sip.instance=\"<urn:uuid:f8-1>\"\n";

    fn param(answer: &Answer, name: &str) -> String {
        let contact = &answer.contacts[0];
        let value = contact.split(&format!("{name}=\"")).nth(1).unwrap_or_else(|| panic!("no {name} in {contact}"));
        value.split('"').next().unwrap().to_owned()
    }

    fn meant(f: &Fixture, uri: &str) -> Option<Gruu> {
        f.registrar.gruu(&Uri::parse(uri).unwrap())
    }

    fn alice() -> Option<Gruu> {
        Some(Gruu::Temporary { aor: "alice".into(), instance: "<urn:uuid:f8-1>".into() })
    }

    #[test]
    fn a_device_that_asks_is_given_both_addresses_and_they_lead_back_to_it() {
        let mut f = Fixture::default();
        let answer = f.register_on("alice", tls(1), ASKS);
        assert_eq!(param(&answer, "pub-gruu"), "sip:alice@example.com;gr=urn:uuid:f8-1");
        assert_eq!(meant(&f, &param(&answer, "pub-gruu")), Some(Gruu::Public("urn:uuid:f8-1".into())));
        let temporary = param(&answer, "temp-gruu");
        assert!(!temporary.contains("alice") && !temporary.contains("f8-1"), "{temporary}");
        assert_eq!(meant(&f, &temporary), alice());
        assert_eq!(meant(&f, "sip:alice@example.com"), None);
        f.check();
    }

    #[test]
    fn nobody_else_is_given_one() {
        let mut f = Fixture::default();
        for headers in [&ASKS.replace("Supported: gruu\n", ""), "Supported: gruu\nContact: <sip:b@x>\n"] {
            let answer = f.register_on("alice", tls(1), headers);
            assert!(!answer.contacts[0].contains("gruu"), "{answer:?}");
        }
    }

    #[test]
    fn every_answer_has_a_new_temporary_address_and_all_live_as_long_as_the_call_id() {
        let mut f = Fixture::default();
        let first = param(&f.register_on("alice", tls(1), ASKS), "temp-gruu");
        let second = param(&f.register_on("alice", tls(1), ASKS), "temp-gruu");
        assert_ne!(first, second);
        assert_eq!((meant(&f, &first), meant(&f, &second)), (alice(), alice()));
        let third = param(&f.send("alice", tls(1), "reboot", 1, ASKS), "temp-gruu");
        assert_eq!((meant(&f, &first), meant(&f, &second)), (Some(Gruu::Invalid), Some(Gruu::Invalid)));
        assert_eq!(meant(&f, &third), alice());
        f.feed(Input::Forget { aor: "alice".to_owned() });
        assert_eq!(meant(&f, &third), Some(Gruu::Invalid));
        f.check();
    }

    #[test]
    fn a_changed_or_invented_temporary_address_is_invalid() {
        let mut f = Fixture::default();
        let good = param(&f.register_on("alice", tls(1), ASKS), "temp-gruu");
        let digits = &good["sip:tgruu.".len()..good.find('@').unwrap()];
        for at in 0..digits.len() {
            let mut bad = digits.as_bytes().to_vec();
            bad[at] = if bad[at] == b'0' { b'1' } else { b'0' };
            let bad = good.replace(digits, std::str::from_utf8(&bad).unwrap());
            assert_eq!(meant(&f, &bad), Some(Gruu::Invalid), "{bad}");
        }
        for bad in
            ["sip:x@example.com;gr", "sip:tgruu.@example.com;gr", "sip:tgruu.é@example.com;gr=", "sip:example.com;gr"]
        {
            assert_eq!(meant(&f, bad), Some(Gruu::Invalid), "{bad}");
        }
    }

    #[test]
    fn instances_are_escaped_for_a_parameter_and_read_back() {
        for instance in ["urn:uuid:1", "a b;c=\u{e9}", "100%"] {
            let escaped = escaped(instance);
            assert!(!escaped.contains([' ', ';', '=']), "{escaped}");
            assert_eq!(unescaped(&escaped), instance);
        }
        assert_eq!(unescaped("%zz%4"), "%zz%4");
    }
}
