//! `a=crypto` (RFC 4568 section 9.1): one line to a typed value and back.
//!
//! Of several keys in one line the first is used, and packets that bear the MKI of another are refused; this server announces
//! none. A lifetime binds who sends under the key, which is never this server: it is checked, and not counted on receipt, where a
//! packet that verifies is authentic however many came before. The limits of RFC 3711 section 9.2 hold for both directions.

use std::fmt::Write;

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use super::Crypto;
use crate::{
    types::Secret,
    wire::srtp::{MasterKey, Mki, Suite},
};

/// Writes padding, because some receivers lose bytes without it; reads keys with and without, because some senders
/// omit it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Why a line is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// Well-formed as far as read, but asks for something this server does not do.
    Unsupported,
    /// Breaks the grammar, or the key does not fit the suite.
    Malformed,
}

/// Reads the value of an `a=crypto` attribute.
pub(super) fn parse(value: &str) -> Result<Crypto, Unusable> {
    let mut fields = value.split_ascii_whitespace();
    let (Some(tag), Some(suite_text), Some(keys)) = (fields.next(), fields.next(), fields.next()) else {
        return Err(Unusable::Malformed);
    };
    let tag = decimal(tag).filter(|_| tag.len() <= 9).ok_or(Unusable::Malformed)?;
    let suite = Suite::from_name(suite_text).ok_or(Unusable::Unsupported)?;
    let first_key = keys.split(';').next().ok_or(Unusable::Malformed)?;
    let (key, mki) = key_param(suite, first_key)?;
    let is_weakened = session_params(fields)?;
    let suite_text = if suite_text == suite.name() { suite.name().into() } else { suite_text.to_owned().into() };
    Ok(Crypto { tag, suite, suite_text, key, mki, is_weakened })
}

/// Appends `a=crypto:...` without its line end.
pub(super) fn print(out: &mut String, crypto: &Crypto) {
    write!(out, "a=crypto:{} {} inline:", crypto.tag, crypto.suite_text).expect("writing to a String cannot fail");
    BASE64.encode_string(crypto.key.expose(), out);
}

/// A key as [`super::print`] writes it after `inline:`, for those who look for keys where none may be.
pub fn inline_key(key: &MasterKey) -> Secret<String> {
    Secret::new(BASE64.encode(key.expose()))
}

/// `inline:<key and salt>["|" lifetime]["|" MKI ":" length]`, to the key and its MKI.
fn key_param(suite: Suite, text: &str) -> Result<(MasterKey, Option<Mki>), Unusable> {
    let (method, info) = text.split_once(':').ok_or(Unusable::Malformed)?;
    if !method.eq_ignore_ascii_case("inline") {
        return Err(Unusable::Unsupported);
    }
    let mut parts = info.split('|');
    let key = parts
        .next()
        .and_then(|text| BASE64.decode(text).ok())
        .and_then(|bytes| MasterKey::new(suite, bytes))
        .ok_or(Unusable::Malformed)?;
    let mki = match (parts.next(), parts.next(), parts.next()) {
        (None, _, _) => None,
        (Some(only), None, _) if only.contains(':') => Some(mki(only)?),
        (Some(lifetime), None, _) => check_lifetime(lifetime).map(|()| None)?,
        (Some(lifetime), Some(text), None) => check_lifetime(lifetime).and_then(|()| mki(text)).map(Some)?,
        (Some(_), Some(_), Some(_)) => return Err(Unusable::Malformed),
    };
    Ok((key, mki))
}

/// A count of packets, `2^n` or decimal, from 1 to 2^48 (RFC 4568 section 6.1). The bound itself is the sender's to
/// keep: it announces a new key before the old one is spent.
fn check_lifetime(text: &str) -> Result<(), Unusable> {
    let is_valid = match text.strip_prefix("2^") {
        Some(exponent) => decimal(exponent).is_some_and(|n: u32| n <= 48),
        None => decimal(text).is_some_and(|n: u64| (1..=1 << 48).contains(&n)),
    };
    if is_valid { Ok(()) } else { Err(Unusable::Malformed) }
}

fn mki(text: &str) -> Result<Mki, Unusable> {
    let (value, length) = text.split_once(':').ok_or(Unusable::Malformed)?;
    decimal(length).and_then(|length| Mki::from_decimal(value, length)).ok_or(Unusable::Malformed)
}

/// Session parameters (RFC 4568 section 6.3), to whether they weaken the suite.
///
/// A parameter is mandatory unless it starts with a minus sign (section 6.3.7), so any other than the harmless ones
/// makes the line unusable: a key derivation rate (`KDR`) and keys or an order of their own for FEC (`FEC_KEY`,
/// `FEC_ORDER=SRTP_FEC`) are not implemented, and an unknown one could mean anything.
fn session_params<'a>(params: impl Iterator<Item = &'a str>) -> Result<bool, Unusable> {
    let mut is_weakened = false;
    for param in params {
        match param.split('=').next().unwrap_or(param) {
            "UNENCRYPTED_SRTP" | "UNENCRYPTED_SRTCP" | "UNAUTHENTICATED_SRTP" => is_weakened = true,
            // A hint about the sender's reordering; the replay window here has a size of its own.
            "WSH" => {}
            // FEC under SRTP is what a relay that terminates SRTP does anyway.
            "FEC_ORDER" if param == "FEC_ORDER=FEC_SRTP" => {}
            optional if optional.starts_with('-') => {}
            _ => return Err(Unusable::Unsupported),
        }
    }
    Ok(is_weakened)
}

/// Digits only: `str::parse` alone would take a plus sign.
fn decimal<T: std::str::FromStr>(text: &str) -> Option<T> {
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 30 bytes 0, 1, 2, ... in base64.
    const KEY_30: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd";

    fn bytes(n: u8) -> Vec<u8> {
        (0..n).collect()
    }

    fn with_params(rest: &str) -> Result<Crypto, Unusable> {
        parse(&format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY_30}{rest}"))
    }

    #[test]
    fn a_plain_line_is_read() {
        let crypto = with_params("").unwrap();
        assert_eq!((crypto.tag, crypto.suite, crypto.mki), (1, Suite::AesCm128HmacSha1_80, None));
        assert_eq!(crypto.key.expose(), bytes(30));
        assert!(!crypto.is_weakened);
    }

    #[test]
    fn every_suite_is_printed_with_padding_and_read_back_with_and_without() {
        for (i, suite) in (1..).zip(Suite::ALL) {
            let key = MasterKey::new(suite, bytes(u8::try_from(suite.key_bytes() + suite.salt_bytes()).unwrap()));
            let crypto = Crypto {
                tag: i,
                suite,
                suite_text: suite.name().into(),
                key: key.unwrap(),
                mki: None,
                is_weakened: false,
            };
            let mut line = String::new();
            print(&mut line, &crypto);
            let value = line.strip_prefix("a=crypto:").unwrap();
            assert_eq!(value.rsplit(':').next().unwrap().len() % 4, 0, "{suite:?} is not padded");
            assert_eq!(parse(value).unwrap(), crypto);
            assert_eq!(parse(value.trim_end_matches('=')).unwrap(), crypto);
        }
    }

    #[test]
    fn the_spelling_of_the_suite_is_kept() {
        let key = BASE64.encode(bytes(46));
        let crypto = parse(&format!("3 AES_CM_256_HMAC_SHA1_80 inline:{key}")).unwrap();
        assert_eq!(crypto.suite, Suite::AesCm256HmacSha1_80);
        assert_eq!(crypto.suite_text, "AES_CM_256_HMAC_SHA1_80");
    }

    #[test]
    fn lifetime_and_mki_are_read_in_every_combination() {
        let longest = [&[0; 125][..], &[1, 2, 3]].concat();
        for (rest, mki) in [
            ("|2^20", &[][..]),
            ("|2^31", &[]),
            ("|2^48", &[]),
            ("|1048576", &[]),
            ("|1:4", &[0, 0, 0, 1]),
            ("|2^20|1:4", &[0, 0, 0, 1]),
            ("|2^20|66051:128", &longest),
        ] {
            assert_eq!(with_params(rest).map(|c| c.mki), Ok(Mki::new(mki)), "{rest}");
        }
        for rest in [
            "|",
            "|2^49",
            "|0",
            "|+5",
            "|281474976710657",
            "|1:0",
            "|1:129",
            "|:4",
            "|x:4",
            "|2^20|4",
            "|2^20|1:4|1",
            "|256:1",
        ] {
            assert_eq!(with_params(rest), Err(Unusable::Malformed), "{rest}");
        }
    }

    #[test]
    fn of_several_keys_the_first_is_used() {
        let crypto = with_params(&format!("|2^20|1:4;inline:{}|2^20|2:4", BASE64.encode([9; 30]))).unwrap();
        assert_eq!(crypto.key.expose(), bytes(30));
        assert_eq!(crypto.mki, Mki::new(&[0, 0, 0, 1]));
    }

    #[test]
    fn session_parameters_are_harmless_weakening_or_fatal() {
        for param in ["WSH=128", "FEC_ORDER=FEC_SRTP", "-X-COLOUR=blue", "-X"] {
            assert_eq!(with_params(&format!(" {param}")).map(|c| c.is_weakened), Ok(false), "{param}");
        }
        for param in ["UNENCRYPTED_SRTP", "UNENCRYPTED_SRTCP", "UNAUTHENTICATED_SRTP", "WSH=64 UNENCRYPTED_SRTCP"] {
            assert_eq!(with_params(&format!(" {param}")).map(|c| c.is_weakened), Ok(true), "{param}");
        }
        for param in ["KDR=0", "KDR=24", "FEC_ORDER=SRTP_FEC", "FEC_KEY=inline:AAAA", "NOVEL", "WSH=64 NOVEL=1"] {
            assert_eq!(with_params(&format!(" {param}")), Err(Unusable::Unsupported), "{param}");
        }
    }

    #[test]
    fn unusable_lines_are_told_apart() {
        for (value, fault) in [
            ("1 F8_128_HMAC_SHA1_80 inline:AAAA".to_owned(), Unusable::Unsupported),
            (format!("1 AES_CM_128_HMAC_SHA1_80 uri:{KEY_30}"), Unusable::Unsupported),
            (format!("1 AES_CM_128_HMAC_SHA1_80 {KEY_30}"), Unusable::Malformed),
            (format!("+1 AES_CM_128_HMAC_SHA1_80 inline:{KEY_30}"), Unusable::Malformed),
            (format!("1234567890 AES_CM_128_HMAC_SHA1_80 inline:{KEY_30}"), Unusable::Malformed),
            (format!("1 AEAD_AES_128_GCM inline:{KEY_30}"), Unusable::Malformed),
            (format!("1 AES_CM_128_HMAC_SHA1_80 inline:*{KEY_30}"), Unusable::Malformed),
            ("1 AES_CM_128_HMAC_SHA1_80".to_owned(), Unusable::Malformed),
            (String::new(), Unusable::Malformed),
        ] {
            assert_eq!(parse(&value), Err(fault), "{value}");
        }
    }
}
