//! Typed views of header values. All borrow from the message.

use super::message::Method;

/// `;name=value` parameters, read lazily. Names compare case-insensitively; quoted values come without quotes
/// when they hold no escape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params<'a> {
    pub text: &'a str,
}

impl<'a> Params<'a> {
    /// `Some("")` for a parameter without a value.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        let _ = name;
        todo!()
    }

    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&'a str, Option<&'a str>)> + use<'a> {
        std::iter::empty()
    }
}

/// From, To, Contact, Route, ... (RFC 3261 section 20.10): `"Display" <uri>;params` or `uri;params`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameAddr<'a> {
    /// As written, with its quotes if it had any; empty when absent.
    pub display: &'a str,
    pub uri: &'a str,
    pub params: Params<'a>,
}

impl<'a> NameAddr<'a> {
    pub fn parse(value: &'a str) -> Option<Self> {
        let _ = value;
        todo!()
    }

    pub fn tag(&self) -> Option<&'a str> {
        self.params.get("tag")
    }
}

/// One Via value (RFC 3261 section 20.42).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Via<'a> {
    /// `UDP`, `TCP`, ... as written.
    pub transport: &'a str,
    /// IPv6 without its brackets.
    pub host: &'a str,
    pub port: Option<u16>,
    pub params: Params<'a>,
}

impl<'a> Via<'a> {
    pub fn parse(value: &'a str) -> Option<Self> {
        let _ = value;
        todo!()
    }

    pub fn branch(&self) -> Option<&'a str> {
        self.params.get("branch")
    }

    /// Whether the sender asks for symmetric response routing (RFC 3581 section 3).
    pub fn wants_rport(&self) -> bool {
        self.params.has("rport")
    }
}

/// RFC 3261 section 20.16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CSeq<'a> {
    pub number: u32,
    pub method: Method,
    pub method_text: &'a str,
}

impl<'a> CSeq<'a> {
    pub fn parse(value: &'a str) -> Option<Self> {
        let _ = value;
        todo!()
    }
}
