//! Digest authentication arithmetic and its header grammar (RFC 7616, RFC 8760). No nonce policy: see `sip::auth`.

use crate::types::Secret;

/// Hash algorithms, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    Md5,
    Sha256,
}

/// What the server keeps of a password: `H(user:realm:password)` for each algorithm. Never the password itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    pub ha1_md5: Secret<[u8; 16]>,
    pub ha1_sha256: Secret<[u8; 32]>,
}

impl Credential {
    pub fn derive(user: &str, realm: &str, password: &str) -> Self {
        let _ = (user, realm, password);
        todo!()
    }
}

/// Fields of an `Authorization` or `Proxy-Authorization` header of scheme Digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response<'a> {
    pub username: std::borrow::Cow<'a, str>,
    pub realm: std::borrow::Cow<'a, str>,
    pub nonce: &'a str,
    pub uri: std::borrow::Cow<'a, str>,
    pub response: &'a str,
    /// `None`: an algorithm the server does not know.
    pub algorithm: Option<Algorithm>,
    pub cnonce: Option<std::borrow::Cow<'a, str>>,
    pub opaque: Option<&'a str>,
    pub qop: Option<&'a str>,
    pub nc: Option<u32>,
}

impl<'a> Response<'a> {
    /// `None`: another scheme, or not a digest response.
    pub fn parse(value: &'a str) -> Option<Self> {
        let _ = value;
        todo!()
    }

    /// Compares the response in constant time. `body` matters for `qop=auth-int` only.
    pub fn matches(&self, credential: &Credential, method: &str, body: &[u8]) -> bool {
        let _ = (credential, method, body);
        todo!()
    }
}

/// Answers a 401 or 407: picks the strongest challenge this side can answer (RFC 8760 section 2.4) and returns the
/// value of the `Authorization` or `Proxy-Authorization` header. `challenges`: the WWW- or Proxy-Authenticate lines.
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
    let _ = (challenges, user, password, method, uri, body, cnonce, nc);
    todo!()
}
