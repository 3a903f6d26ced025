//! Digest authentication arithmetic and its header grammar (RFC 7616, RFC 8760). No nonce policy: see `sip::auth`.

use std::{borrow::Cow, fmt::Write};

use md5::Md5;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::scan;
use crate::types::Secret;

/// Hash algorithms, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    Md5,
    Sha256,
}

impl Algorithm {
    /// The token of an `algorithm` parameter (RFC 7616 section 3.3).
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
        }
    }

    /// An absent parameter means MD5 (RFC 7616 section 3.3). `None`: an algorithm the server does not know.
    fn from_param(text: Option<&str>) -> Option<Self> {
        match text {
            None => Some(Self::Md5),
            Some(text) => [Self::Md5, Self::Sha256].into_iter().find(|a| text.eq_ignore_ascii_case(a.as_str())),
        }
    }

    /// `H(parts joined by colons)` in lower-case hexadecimal digits.
    fn hash(self, parts: &[&[u8]]) -> Hex {
        match self {
            Self::Md5 => Hex::new(&digest::<Md5>(parts)),
            Self::Sha256 => Hex::new(&digest::<Sha256>(parts)),
        }
    }
}

fn digest<D: Digest>(parts: &[&[u8]]) -> sha2::digest::Output<D> {
    let mut hash = D::new();
    for (i, part) in parts.iter().enumerate() {
        if i > 0 {
            hash.update(b":");
        }
        hash.update(part);
    }
    hash.finalize()
}

/// A hash as hexadecimal digits, wiped when dropped, because HA1 is as good as the password.
struct Hex {
    digits: Zeroizing<[u8; 64]>,
    len: usize,
}

impl Hex {
    /// `hash`: at most 32 bytes.
    fn new(hash: &[u8]) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut digits = Zeroizing::new([0; 64]);
        for (pair, byte) in digits.chunks_exact_mut(2).zip(hash) {
            pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
        Self { digits, len: hash.len() * 2 }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.digits[..self.len]
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("hexadecimal digits are ASCII")
    }
}

/// What the server keeps of a password: `H(user:realm:password)` for each algorithm. Never the password itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    pub ha1_md5: Secret<[u8; 16]>,
    pub ha1_sha256: Secret<[u8; 32]>,
}

impl Credential {
    pub fn derive(user: &str, realm: &str, password: &str) -> Self {
        let parts = [user.as_bytes(), realm.as_bytes(), password.as_bytes()];
        Self {
            ha1_md5: Secret::new(digest::<Md5>(&parts).into()),
            ha1_sha256: Secret::new(digest::<Sha256>(&parts).into()),
        }
    }

    fn ha1(&self, algorithm: Algorithm) -> Hex {
        match algorithm {
            Algorithm::Md5 => Hex::new(self.ha1_md5.expose()),
            Algorithm::Sha256 => Hex::new(self.ha1_sha256.expose()),
        }
    }
}

/// Fields of an `Authorization` or `Proxy-Authorization` header of scheme Digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response<'a> {
    pub username: Cow<'a, str>,
    pub realm: Cow<'a, str>,
    pub nonce: &'a str,
    pub uri: Cow<'a, str>,
    pub response: &'a str,
    /// `None`: an algorithm the server does not know.
    pub algorithm: Option<Algorithm>,
    pub cnonce: Option<Cow<'a, str>>,
    pub opaque: Option<&'a str>,
    pub qop: Option<&'a str>,
    pub nc: Option<u32>,
}

impl<'a> Response<'a> {
    /// `None`: another scheme, or not a digest response. An `nc` is eight lower-case hexadecimal digits
    /// (RFC 7616 section 3.4), because it is hashed as it is written.
    pub fn parse(value: &'a str) -> Option<Self> {
        let mut params = Params::default();
        params.read(value)?;
        Some(Self {
            username: params.username?.unescape(),
            realm: params.realm?.unescape(),
            nonce: params.nonce?.raw(),
            uri: params.uri?.unescape(),
            response: params.response?.raw(),
            algorithm: Algorithm::from_param(params.algorithm.map(Param::raw)),
            cnonce: params.cnonce.map(Param::unescape),
            opaque: params.opaque.map(Param::raw),
            qop: params.qop.map(Param::raw),
            nc: match params.nc {
                Some(nc) => Some(parse_nc(nc.raw())?),
                None => None,
            },
        })
    }

    /// Compares the response in constant time. `body` matters for `qop=auth-int` only.
    ///
    /// A response without `qop` is accepted for MD5 only, as clients of RFC 2069 send it.
    pub fn matches(&self, credential: &Credential, method: &str, body: &[u8]) -> bool {
        let Some(algorithm) = self.algorithm else {
            return false;
        };
        let protection = match (self.qop, &self.cnonce, self.nc) {
            (None, _, _) if algorithm == Algorithm::Md5 => None,
            (Some(qop), Some(cnonce), Some(nc)) => match Qop::from_token(qop) {
                Some(qop) => Some(Protection { qop, cnonce, nc }),
                None => return false,
            },
            (None | Some(_), _, _) => return false,
        };
        let ha1 = credential.ha1(algorithm);
        let expected = request_digest(algorithm, &ha1, self.nonce, protection, method, &self.uri, body);
        expected.as_bytes().ct_eq(self.response.as_bytes()).into()
    }
}

fn parse_nc(text: &str) -> Option<u32> {
    let is_lower_hex = text.len() == 8 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    u32::from_str_radix(text, 16).ok().filter(|_| is_lower_hex)
}

/// Quality of protection (RFC 7616 section 3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Qop {
    Auth,
    AuthInt,
}

impl Qop {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::AuthInt => "auth-int",
        }
    }

    fn from_token(text: &str) -> Option<Self> {
        [Self::Auth, Self::AuthInt].into_iter().find(|qop| text.eq_ignore_ascii_case(qop.as_str()))
    }

    /// The lightest of a challenge's list that this side knows.
    fn choose(list: &str) -> Option<Self> {
        let offers = |qop: &Self| list.split(',').any(|text| Self::from_token(scan::trim(text)) == Some(*qop));
        [Self::Auth, Self::AuthInt].into_iter().find(offers)
    }
}

/// What a response with `qop` adds to the hash.
#[derive(Clone, Copy)]
struct Protection<'a> {
    qop: Qop,
    cnonce: &'a str,
    nc: u32,
}

/// RFC 7616 section 3.4.1; without protection, RFC 2069 section 2.1.2.
fn request_digest(
    algorithm: Algorithm,
    ha1: &Hex,
    nonce: &str,
    protection: Option<Protection<'_>>,
    method: &str,
    uri: &str,
    body: &[u8],
) -> Hex {
    let (method, uri, nonce) = (method.as_bytes(), uri.as_bytes(), nonce.as_bytes());
    let ha2 = match protection.map(|p| p.qop) {
        Some(Qop::AuthInt) => algorithm.hash(&[method, uri, algorithm.hash(&[body]).as_bytes()]),
        Some(Qop::Auth) | None => algorithm.hash(&[method, uri]),
    };
    let (ha1, ha2) = (ha1.as_bytes(), ha2.as_bytes());
    match protection {
        Some(Protection { qop, cnonce, nc }) => {
            let nc = format!("{nc:08x}");
            algorithm.hash(&[ha1, nonce, nc.as_bytes(), cnonce.as_bytes(), qop.as_str().as_bytes(), ha2])
        }
        None => algorithm.hash(&[ha1, nonce, ha2]),
    }
}

/// Answers a 401 or 407: picks the strongest challenge this side can answer (RFC 8760 section 2.4) and returns the
/// value of the `Authorization` or `Proxy-Authorization` header. `challenges`: the WWW- or Proxy-Authenticate lines.
/// `None`: there is no such challenge.
#[expect(clippy::too_many_arguments, reason = "the inputs of RFC 7616 section 3.4.1, none of which belong together")]
pub fn answer<'a>(
    challenges: impl Iterator<Item = &'a str>,
    user: &str,
    password: &str,
    method: &str,
    uri: &str,
    body: &[u8],
    cnonce: &str,
    nc: u32,
) -> Option<String> {
    // The first of equals, because servers list what they prefer first.
    let challenge = challenges
        .filter_map(Challenge::parse)
        .reduce(|best, next| if next.algorithm > best.algorithm { next } else { best })?;
    let algorithm = challenge.algorithm;
    let ha1 = Credential::derive(user, &challenge.realm, password).ha1(algorithm);
    let protection = challenge.qop.map(|qop| Protection { qop, cnonce, nc });
    let response = request_digest(algorithm, &ha1, challenge.nonce, protection, method, uri, body);

    let mut out = String::from("Digest username=");
    push_quoted(&mut out, user);
    out.push_str(", realm=");
    push_quoted(&mut out, &challenge.realm);
    // Raw: escapes stay as the server wrote them.
    let _ = write!(out, ", nonce=\"{}\", uri=", challenge.nonce);
    push_quoted(&mut out, uri);
    let _ = write!(out, ", response=\"{}\"", response.as_str());
    if challenge.names_algorithm {
        let _ = write!(out, ", algorithm={}", algorithm.as_str());
    }
    if let Some(qop) = challenge.qop {
        out.push_str(", cnonce=");
        push_quoted(&mut out, cnonce);
        let _ = write!(out, ", qop={}, nc={nc:08x}", qop.as_str());
    }
    if let Some(opaque) = challenge.opaque {
        let _ = write!(out, ", opaque=\"{opaque}\"");
    }
    Some(out)
}

fn push_quoted(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
}

/// A challenge that this side can answer.
struct Challenge<'a> {
    realm: Cow<'a, str>,
    nonce: &'a str,
    opaque: Option<&'a str>,
    algorithm: Algorithm,
    /// Old servers name none and know no such parameter in the answer.
    names_algorithm: bool,
    /// `None`: a server of RFC 2069.
    qop: Option<Qop>,
}

impl<'a> Challenge<'a> {
    fn parse(value: &'a str) -> Option<Self> {
        let mut params = Params::default();
        params.read(value)?;
        let algorithm = Algorithm::from_param(params.algorithm.map(Param::raw))?;
        let qop = match params.qop {
            Some(list) => Some(Qop::choose(list.raw())?),
            None if algorithm == Algorithm::Md5 => None,
            None => return None,
        };
        Some(Self {
            realm: params.realm?.unescape(),
            nonce: params.nonce?.raw(),
            opaque: params.opaque.map(Param::raw),
            algorithm,
            names_algorithm: params.algorithm.is_some(),
            qop,
        })
    }
}

/// One value: a token, or the inside of a quoted string with its escapes.
#[derive(Clone, Copy)]
struct Param<'a> {
    text: &'a str,
    is_quoted: bool,
}

impl<'a> Param<'a> {
    const fn raw(self) -> &'a str {
        self.text
    }

    fn unescape(self) -> Cow<'a, str> {
        if !self.is_quoted || !self.text.contains('\\') {
            return Cow::Borrowed(self.text);
        }
        let mut out = String::with_capacity(self.text.len());
        let mut chars = self.text.chars();
        while let Some(c) = chars.next() {
            out.extend(if c == '\\' { chars.next() } else { Some(c) });
        }
        Cow::Owned(out)
    }
}

/// The parameters of challenge and response alike.
#[derive(Default)]
struct Params<'a> {
    username: Option<Param<'a>>,
    realm: Option<Param<'a>>,
    nonce: Option<Param<'a>>,
    uri: Option<Param<'a>>,
    response: Option<Param<'a>>,
    algorithm: Option<Param<'a>>,
    cnonce: Option<Param<'a>>,
    opaque: Option<Param<'a>>,
    qop: Option<Param<'a>>,
    nc: Option<Param<'a>>,
}

impl<'a> Params<'a> {
    /// Reads `Digest name=value, ...` (RFC 7616 sections 3.3 and 3.4). `None` if malformed or a parameter stands twice.
    fn read(&mut self, value: &'a str) -> Option<()> {
        let (scheme, mut rest) = scan::trim(value).split_once([' ', '\t'])?;
        if !scheme.eq_ignore_ascii_case("Digest") {
            return None;
        }
        loop {
            let (name, after) = rest.split_once('=')?;
            let (param, after) = split_param(scan::trim(after))?;
            if let Some(slot) = self.slot(scan::trim(name))
                && slot.replace(param).is_some()
            {
                return None;
            }
            match scan::trim(after) {
                "" => return Some(()),
                more => rest = more.strip_prefix(',')?,
            }
        }
    }

    fn slot(&mut self, name: &str) -> Option<&mut Option<Param<'a>>> {
        let slots = [
            ("username", &mut self.username),
            ("realm", &mut self.realm),
            ("nonce", &mut self.nonce),
            ("uri", &mut self.uri),
            ("response", &mut self.response),
            ("algorithm", &mut self.algorithm),
            ("cnonce", &mut self.cnonce),
            ("opaque", &mut self.opaque),
            ("qop", &mut self.qop),
            ("nc", &mut self.nc),
        ];
        slots.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, slot)| slot)
    }
}

/// Cuts one value off the front.
fn split_param(text: &str) -> Option<(Param<'_>, &str)> {
    if text.starts_with('"') {
        let (quoted, rest) = text.split_at(scan::quoted_len(text.as_bytes())?);
        return Some((Param { text: &quoted[1..quoted.len() - 1], is_quoted: true }, rest));
    }
    let (token, rest) = text.split_at(text.find([',', ' ', '\t']).unwrap_or(text.len()));
    (!token.is_empty() && !token.contains('"')).then_some((Param { text: token, is_quoted: false }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: &str = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v";
    const CNONCE: &str = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
    const REALM: &str = "http-auth@example.org";

    fn rfc_7616(algorithm: &str, response: &str) -> String {
        format!(
            "Digest username=\"Mufasa\", realm=\"{REALM}\", uri=\"/dir/index.html\", algorithm={algorithm}, \
             nonce=\"{NONCE}\", nc=00000001, cnonce=\"{CNONCE}\", qop=auth, response=\"{response}\", \
             opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
        )
    }

    /// RFC 7616 section 3.9.1.
    #[test]
    fn the_examples_of_rfc_7616_match_and_nothing_near_them_does() {
        let credential = Credential::derive("Mufasa", REALM, "Circle of Life");
        for (algorithm, digest) in [
            ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
            ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ] {
            let text = rfc_7616(algorithm, digest);
            let response = Response::parse(&text).unwrap();
            assert_eq!((response.nc, response.qop, &*response.username), (Some(1), Some("auth"), "Mufasa"));
            assert!(response.matches(&credential, "GET", b""), "{algorithm}");
            assert!(!response.matches(&credential, "POST", b""));
            assert!(!response.matches(&Credential::derive("Mufasa", REALM, "Circle of life"), "GET", b""));
            assert!(!Response { nc: Some(2), ..response.clone() }.matches(&credential, "GET", b""));
            assert!(!Response { response: &digest[1..], ..response.clone() }.matches(&credential, "GET", b""));
            assert!(!Response { algorithm: None, ..response.clone() }.matches(&credential, "GET", b""));
            assert!(!Response { qop: Some("none"), ..response.clone() }.matches(&credential, "GET", b""));
            assert!(!Response { cnonce: None, ..response }.matches(&credential, "GET", b""));
        }
    }

    /// RFC 2617 section 3.5.
    #[test]
    fn the_example_of_rfc_2617_matches_without_an_algorithm_parameter() {
        let credential = Credential::derive("Mufasa", "testrealm@host.com", "Circle Of Life");
        let text = "Digest username=\"Mufasa\",\trealm=\"testrealm@host.com\" ,\
                    nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", uri=\"/dir/index.html\", QOP=\"auth\", nc=00000001, \
                    cnonce=\"0a4f113b\", response=\"6629fae49393a05397450978507c4ef1\", \
                    opaque=\"5ccc069c403ebaf9f0171e9517f40e41\"";
        let response = Response::parse(text).unwrap();
        assert_eq!(response.algorithm, Some(Algorithm::Md5));
        assert!(response.matches(&credential, "GET", b""));
    }

    #[test]
    fn a_response_without_qop_is_taken_for_md5_only() {
        let credential = Credential::derive("bob", "biloxi.com", "zanzibar");
        let make = |algorithm: Algorithm| {
            let digest = request_digest(algorithm, &credential.ha1(algorithm), "n", None, "INVITE", "sip:a@b", b"");
            let name = algorithm.as_str();
            let response = digest.as_str();
            format!(
                "Digest username=\"bob\", realm=\"biloxi.com\", nonce=\"n\", uri=\"sip:a@b\", algorithm={name}, response=\"{response}\""
            )
        };
        assert!(Response::parse(&make(Algorithm::Md5)).unwrap().matches(&credential, "INVITE", b""));
        assert!(!Response::parse(&make(Algorithm::Sha256)).unwrap().matches(&credential, "INVITE", b""));
    }

    fn answer_to(challenges: &[&str]) -> Option<String> {
        answer(challenges.iter().copied(), "a\"b", "pw", "REGISTER", "sip:h", b"body", "cn", 0x1a)
    }

    #[test]
    fn an_answer_matches_the_strongest_challenge_understood() {
        let md5 = "Digest realm=\"r\\\"1\", nonce=\"m\", qop=\"auth\", algorithm=MD5";
        let sha512 = "Digest realm=\"r\\\"1\", nonce=\"x\", qop=\"auth\", algorithm=SHA-512-256";
        let sha256 = "digest realm=\"r\\\"1\", nonce=\"s\", opaque=\"o\", qop=\"auth-int,auth\", algorithm=SHA-256";
        let text = answer_to(&["Basic realm=\"r\"", sha512, md5, sha256]).unwrap();
        let response = Response::parse(&text).unwrap();
        assert_eq!((response.algorithm, response.nonce), (Some(Algorithm::Sha256), "s"));
        assert_eq!((response.opaque, response.nc, response.qop), (Some("o"), Some(0x1a), Some("auth")));
        assert_eq!((&*response.username, &*response.realm), ("a\"b", "r\"1"));
        let credential = Credential::derive("a\"b", "r\"1", "pw");
        assert!(response.matches(&credential, "REGISTER", b"another body"));
        assert_eq!(Response::parse(&answer_to(&[md5, sha512]).unwrap()).unwrap().nonce, "m");
        assert_eq!(answer_to(&[sha512, "Digest realm=\"r\", nonce=\"n\", qop=\"new\""]), None);
    }

    #[test]
    fn auth_int_covers_the_body() {
        let text = answer_to(&["Digest realm=\"r\", nonce=\"n\", qop=\"auth-int\""]).unwrap();
        let response = Response::parse(&text).unwrap();
        let credential = Credential::derive("a\"b", "r", "pw");
        assert!(response.matches(&credential, "REGISTER", b"body"));
        assert!(!response.matches(&credential, "REGISTER", b"bodY"));
    }

    #[test]
    fn an_old_server_gets_an_old_answer() {
        let text = answer_to(&["Digest realm=\"r\", nonce=\"n\""]).unwrap();
        assert!(!text.contains("qop") && !text.contains("cnonce") && !text.contains("algorithm"), "{text}");
        let response = Response::parse(&text).unwrap();
        assert!(response.matches(&Credential::derive("a\"b", "r", "pw"), "REGISTER", b""));
    }

    #[test]
    fn malformed_or_foreign_credentials_are_not_parsed() {
        let good = rfc_7616("MD5", "0");
        for bad in [
            String::new(),
            "Basic dXNlcjpwdw==".to_owned(),
            "Digest".to_owned(),
            "Digest ".to_owned(),
            good.replace("Digest", "Digests"),
            good.replace("nonce=\"7", "nonse=\"7"),
            good.replace("nc=00000001", "nc=1"),
            good.replace("nc=00000001", "nc=+0000001"),
            good.replace("nc=00000001", "nc=0000000A"),
            good.replace(", qop=auth", ", qop=auth, qop=auth"),
            good.replace(", qop=auth", " qop=auth"),
            good.replace("opaque=\"F", "opaque=F"),
            format!("{good},"),
            good[..good.len() - 1].to_owned(),
        ] {
            assert_eq!(Response::parse(&bad), None, "{bad}");
        }
        assert_eq!(Response::parse(&rfc_7616("MD5-sess", "0")).unwrap().algorithm, None);
    }

    #[test]
    fn debug_output_keeps_credentials_secret() {
        let text = format!("{:?}", Credential::derive("u", "r", "p"));
        assert_eq!(text.matches("[redacted]").count(), 2, "{text}");
    }
}
