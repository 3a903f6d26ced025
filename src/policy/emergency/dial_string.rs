//! From a Request-URI to the symbols a caller dialled (emergency RULES 2.3).
//!
//! This reader is more forgiving than `wire::sip::uri` on purpose: it takes whatever a phone, a link or an operator's file
//! may hold, because a number it fails to see would be an emergency call that is not recognised. It never decides.

use std::{borrow::Cow, fmt, ops::Deref};

use smallvec::SmallVec;
use unicode_normalization::char::decompose_compatible;
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

/// What a Request-URI names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked<'a> {
    /// `urn:service:` and these labels, decoded, as written.
    Service(Cow<'a, str>),
    User(DialString<'a>),
    /// Neither: another scheme, or no user part.
    Nothing,
}

/// The user part of a SIP or tel URI, or a bare string.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DialString<'a> {
    /// Percent-decoded, with the parameters of the user part.
    decoded: Cow<'a, str>,
    /// Whose user part it is, with port; `None` where the number stands for itself.
    pub(super) host: Option<&'a str>,
    /// `user=phone`: a telephone number whatever the host (RFC 3261 section 19.1.1).
    pub(super) is_telephone: bool,
}

impl DialString<'_> {
    /// Without the parameters.
    pub(super) fn text(&self) -> &str {
        self.decoded.split(';').next().unwrap_or_default()
    }

    /// Digits of a `phone-context` that is a global prefix (RFC 3966 section 5.1.5); a domain name says nothing here.
    pub(super) fn context_digits(&self) -> Option<String> {
        let parameters = self.decoded.split(';').skip(1);
        let context =
            parameters.filter_map(|p| p.split_once('=')).find(|(k, _)| k.eq_ignore_ascii_case("phone-context"));
        let symbols = Symbols::read(context?.1)?;
        symbols.as_str().strip_prefix('+').filter(|d| d.bytes().all(|b| b.is_ascii_digit())).map(str::to_owned)
    }
}

/// What was dialled, as text of its own: up to 40 bytes cost no allocation.
#[derive(Clone, PartialEq, Eq)]
pub struct ShortText(SmallVec<[u8; 40]>);

impl From<&str> for ShortText {
    fn from(text: &str) -> Self {
        Self(SmallVec::from_slice(text.as_bytes()))
    }
}

impl Deref for ShortText {
    type Target = str;

    fn deref(&self) -> &str {
        std::str::from_utf8(&self.0).expect("it was made of a text")
    }
}

impl fmt::Display for ShortText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for ShortText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// Splits a Request-URI or a bare dialled string. Total.
pub(super) fn read(text: &str) -> Asked<'_> {
    let text = text.trim_matches(is_ignored);
    let Some((scheme, rest)) = split_scheme(text) else {
        return if text.contains('@') { read_sip(text) } else { user(text, None, false) };
    };
    match scheme {
        Scheme::Sip => read_sip(rest),
        // A tel URI has no host; one that came along is cut.
        Scheme::Tel => user(rest.split('@').next().unwrap_or_default(), None, false),
        Scheme::Urn => read_urn(rest),
        Scheme::Other => Asked::Nothing,
    }
}

enum Scheme {
    Sip,
    Tel,
    Urn,
    Other,
}

fn split_scheme(text: &str) -> Option<(Scheme, &str)> {
    let (name, rest) = text.split_once(':')?;
    let is_scheme = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    let is = |scheme: &str| name.eq_ignore_ascii_case(scheme);
    let scheme = if is("sip") || is("sips") {
        Scheme::Sip
    } else if is("tel") {
        Scheme::Tel
    } else if is("urn") {
        Scheme::Urn
    } else {
        Scheme::Other
    };
    is_scheme.then_some((scheme, rest))
}

fn read_urn(rest: &str) -> Asked<'_> {
    const SERVICE: &str = "service:";
    let name = rest.split(['?', ';', '#']).next().unwrap_or_default();
    let decoded = percent_decode(name);
    match decoded.get(..SERVICE.len()) {
        Some(nid) if nid.eq_ignore_ascii_case(SERVICE) => Asked::Service(match decoded {
            Cow::Borrowed(name) => Cow::Borrowed(&name[SERVICE.len()..]),
            Cow::Owned(name) => Cow::Owned(name[SERVICE.len()..].to_owned()),
        }),
        Some(_) | None => Asked::Nothing,
    }
}

/// `rest`: a SIP URI after its scheme.
fn read_sip(rest: &str) -> Asked<'_> {
    // The first `@`: a second one could only belong to what follows the host.
    let Some((userinfo, location)) = rest.split_once('@') else {
        let host = rest.split([';', '?', ':']).next().unwrap_or_default();
        let is_number = !host.contains(['.', '[']) && Symbols::read(&percent_decode(host)).is_some();
        return if is_number { user(host, None, false) } else { Asked::Nothing };
    };
    let location = location.split('?').next().unwrap_or_default();
    let mut parameters = location.split(';');
    let host = parameters.next().unwrap_or_default();
    let is_telephone = parameters.any(|p| percent_decode(p).eq_ignore_ascii_case("user=phone"));
    user(userinfo, Some(host.trim_matches(is_ignored)), is_telephone)
}

/// `userinfo`: with password, parameters and perhaps URI headers.
fn user<'a>(userinfo: &'a str, host: Option<&'a str>, is_telephone: bool) -> Asked<'a> {
    let user = userinfo.split(['?', ':']).next().unwrap_or_default();
    Asked::User(DialString { decoded: percent_decode(user), host, is_telephone })
}

/// Decodes once. A `%` without two hexadecimal digits stands for itself; what is not UTF-8 becomes U+FFFD, which is no
/// part of any number.
pub(super) fn percent_decode(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escaped = if byte == b'%' { bytes.get(at + 1..at + 3).and_then(hex_byte) } else { None };
        out.push(escaped.unwrap_or(byte));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    let value = |b: u8| char::from(b).to_digit(16).and_then(|v| u8::try_from(v).ok());
    Some(value(digits[0])? << 4 | value(digits[1])?)
}

/// Dialled symbols in ASCII: digits, `+`, `*`, `#`, and `,` for every pause. Separators are gone. Up to 40 symbols cost no
/// allocation.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Symbols(SmallVec<[u8; 40]>);

impl Symbols {
    /// `None`: something in it is not dialled, so it is no number.
    pub(super) fn read(text: &str) -> Option<Self> {
        let mut symbols = SmallVec::new();
        let mut is_dialled = true;
        for c in text.chars() {
            if c.is_ascii() {
                is_dialled &= push(c, &mut symbols);
            } else {
                // NFKC of single characters: no digit or sign composes with a neighbour.
                decompose_compatible(c, |d| is_dialled &= push(d, &mut symbols));
            }
            if !is_dialled {
                return None;
            }
        }
        Some(Self(symbols))
    }

    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("only ASCII is pushed")
    }
}

/// Appends what `c` dials; `false` if it dials nothing and is no separator either.
fn push(c: char, symbols: &mut SmallVec<[u8; 40]>) -> bool {
    let symbol = match c {
        '0'..='9' | '+' | '*' | '#' | ',' => c,
        'p' | 'P' | 'w' | 'W' => ',',
        '-' | '.' | '(' | ')' | '/' | ' ' | '\u{2212}' => return true,
        _ => match decimal_digit(c) {
            Some(digit) => digit,
            None => return is_ignored(c) || c.general_category() == GeneralCategory::DashPunctuation,
        },
    };
    symbols.extend(u8::try_from(symbol));
    true
}

/// Spaces, control and format characters: invisible, and dropped wherever they stand.
fn is_ignored(c: char) -> bool {
    match c {
        '!'..='~' => false,
        _ => c.is_whitespace() || matches!(c.general_category(), GeneralCategory::Control | GeneralCategory::Format),
    }
}

/// The ASCII digit of a decimal digit of any script. Unicode lays the ten digits of a script out in a row, zero first
/// (Unicode Standard, section 4.6), so a digit's value is its distance from the start of its row.
fn decimal_digit(c: char) -> Option<char> {
    let is_digit = |c: char| c.general_category() == GeneralCategory::DecimalNumber;
    if c.is_ascii() || !is_digit(c) {
        return None;
    }
    let before =
        (1..).map_while(|n| u32::from(c).checked_sub(n)).map_while(char::from_u32).take_while(|&b| is_digit(b));
    let value = u32::try_from(before.count() % 10).expect("below ten");
    char::from_digit(value, 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbols(text: &str) -> Option<String> {
        Symbols::read(text).map(|s| s.as_str().to_owned())
    }

    #[test]
    fn digits_of_every_script_have_their_value() {
        let mut row = 0;
        for c in '\0'..=char::MAX {
            if c.general_category() == GeneralCategory::DecimalNumber {
                if !c.is_ascii() {
                    assert_eq!(decimal_digit(c).and_then(|d| d.to_digit(10)), Some(row % 10), "U+{:04X}", u32::from(c));
                }
                row += 1;
            } else {
                assert_eq!(row % 10, 0, "the row before U+{:04X} is not whole", u32::from(c));
                row = 0;
                assert_eq!(decimal_digit(c), None);
            }
        }
    }

    #[test]
    fn separators_vanish_and_letters_do_not() {
        assert_eq!(symbols(" 9\u{a0}-1\u{2011}(1)\u{200b}/.\u{7}").as_deref(), Some("911"));
        assert_eq!(symbols("\u{ff0b}\u{ff11}\u{2460}").as_deref(), Some("+11"));
        assert_eq!(symbols("9p1W1").as_deref(), Some("9,1,1"));
        assert_eq!(symbols("").as_deref(), Some(""));
        for not_dialled in ["911x", "9_11", "9\u{301}11", "\u{fffd}911", "alice"] {
            assert_eq!(symbols(not_dialled), None, "{not_dialled}");
        }
    }

    #[test]
    fn a_uri_is_cut_before_it_is_decoded() {
        let Asked::User(user) = read("sip:9%3A11%3Bx:secret?h@Host.Example:5060;user=PHONE?a=b") else { panic!() };
        assert_eq!(user.text(), "9:11");
        assert_eq!(user.host, Some("Host.Example:5060"));
        assert!(user.is_telephone);
        let Asked::User(user) = read("tel:15;phone-context=+33") else { panic!() };
        assert_eq!((user.text(), user.context_digits().as_deref(), user.host), ("15", Some("33"), None));
        let Asked::User(user) = read("tel:15;phone-context=example.com") else { panic!() };
        assert_eq!(user.context_digits(), None);
    }

    #[test]
    fn a_uri_without_a_user_is_a_number_only_if_its_host_is() {
        assert!(matches!(read("sip:911;transport=tcp"), Asked::User(u) if u.text() == "911"));
        assert_eq!(read("sip:192.0.2.10"), Asked::Nothing);
        assert_eq!(read("sip:[::1]"), Asked::Nothing);
        assert_eq!(read("sip:pbx.example.com"), Asked::Nothing);
        assert_eq!(read("http://911"), Asked::Nothing);
    }

    #[test]
    fn percent_escapes_are_decoded_once_and_broken_ones_kept() {
        assert_eq!(percent_decode("%39%31%31"), "911");
        assert_eq!(percent_decode("%2539"), "%39");
        assert_eq!(percent_decode("9%"), "9%");
        assert_eq!(percent_decode("9%3"), "9%3");
        assert_eq!(percent_decode("%zz"), "%zz");
        assert_eq!(percent_decode("%ff"), "\u{fffd}");
    }
}
