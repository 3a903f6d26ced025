//! STUN as keep-alive of a SIP flow over UDP (RFC 5626 section 8, RFC 8489): a Binding request tells a device that its flow
//! lives and that its public address is still the same. Without credentials.

use std::net::{IpAddr, SocketAddr};

const HEADER_BYTES: usize = 20;
const COOKIE: u32 = 0x2112_a442;
const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;
const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
/// Types below this must be understood (RFC 8489 section 14).
const OPTIONAL: u16 = 0x8000;
/// Attributes of this type are common in requests and change nothing here: USERNAME, MESSAGE-INTEGRITY.
const IGNORED: [u16; 2] = [0x0006, 0x0008];
/// Of an answer 420; a request with more is no request of a telephone.
const UNKNOWN_MAX: usize = 8;

/// The answer to a Binding request from `source`; `None` for anything else, which is dropped.
pub fn answer(datagram: &[u8], source: SocketAddr) -> Option<Vec<u8>> {
    let (header, body) = datagram.split_at_checked(HEADER_BYTES)?;
    let length = usize::from(word(header, 2)?);
    let has_cookie = header[4..8] == COOKIE.to_be_bytes();
    if word(header, 0)? != BINDING_REQUEST || !has_cookie || length != body.len() {
        return None;
    }
    let transaction = &header[8..];
    let unknown = unknown_attributes(body)?;
    if unknown.is_empty() {
        Some(message(BINDING_SUCCESS, transaction, &attribute(XOR_MAPPED_ADDRESS, &mapped(source, transaction))))
    } else {
        let types: Vec<u8> = unknown.iter().flat_map(|kind| kind.to_be_bytes()).collect();
        let mut attributes = attribute(ERROR_CODE, b"\0\0\x04\x14Unknown Attribute");
        attributes.extend(attribute(UNKNOWN_ATTRIBUTES, &types));
        Some(message(BINDING_ERROR, transaction, &attributes))
    }
}

/// Those that must be understood and are not. `None`: the body is no list of attributes, or has too many such.
fn unknown_attributes(mut body: &[u8]) -> Option<Vec<u16>> {
    let mut unknown = Vec::new();
    while !body.is_empty() {
        let (kind, length) = (word(body, 0)?, usize::from(word(body, 2)?));
        body = body.get(4 + length.next_multiple_of(4)..)?;
        if kind < OPTIONAL && !IGNORED.contains(&kind) {
            unknown.push(kind);
        }
    }
    (unknown.len() <= UNKNOWN_MAX).then_some(unknown)
}

/// RFC 8489 section 14.2: port and address, masked with the cookie and, for IPv6, the transaction.
fn mapped(source: SocketAddr, transaction: &[u8]) -> Vec<u8> {
    let mask = [&COOKIE.to_be_bytes(), transaction].concat();
    let (family, address) = match source.ip() {
        IpAddr::V4(address) => (1, address.octets().to_vec()),
        IpAddr::V6(address) => (2, address.octets().to_vec()),
    };
    let masked = |bytes: &[u8]| bytes.iter().zip(&mask).map(|(byte, mask)| byte ^ mask).collect::<Vec<u8>>();
    [&[0, family], &masked(&source.port().to_be_bytes())[..], &masked(&address)].concat()
}

fn message(kind: u16, transaction: &[u8], attributes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(attributes.len()).expect("a few short attributes");
    [&kind.to_be_bytes(), &length.to_be_bytes(), &COOKIE.to_be_bytes()[..], transaction, attributes].concat()
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).expect("a short value");
    let mut out = [&kind.to_be_bytes(), &length.to_be_bytes(), value].concat();
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Transaction and addresses of the sample messages in RFC 5769 section 2.
    const TRANSACTION: [u8; 12] = [0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae];

    fn request(attributes: &[u8]) -> Vec<u8> {
        message(BINDING_REQUEST, &TRANSACTION, attributes)
    }

    #[test]
    fn addresses_are_masked_as_in_the_samples_of_rfc_5769() {
        let v4 = answer(&request(&[]), "192.0.2.1:32853".parse().unwrap()).unwrap();
        assert_eq!(v4[..4], [1, 1, 0, 12]);
        assert_eq!(v4[8..20], TRANSACTION);
        assert_eq!(v4[20..], [0, 0x20, 0, 8, 0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43]);
        let v6 = answer(&request(&[]), "[2001:db8:1234:5678:11:2233:4455:6677]:32853".parse().unwrap()).unwrap();
        let masked = [0x01, 0x13, 0xa9, 0xfa, 0xa5, 0xd3, 0xf1, 0x79, 0xbc, 0x25, 0xf4, 0xb5, 0xbe, 0xd2, 0xb9, 0xd9];
        assert_eq!(v6[20..28], [0, 0x20, 0, 20, 0, 2, 0xa1, 0x47]);
        assert_eq!(v6[28..], masked);
    }

    #[test]
    fn an_attribute_that_must_be_understood_is_named_and_others_are_ignored() {
        let source = "192.0.2.1:5060".parse().unwrap();
        let known = [attribute(0x8022, b"phone"), attribute(0x0006, b"user")].concat();
        assert_eq!(answer(&request(&known), source).unwrap()[..2], [1, 1]);
        let refused = answer(&request(&attribute(0x0024, &[0; 4])), source).unwrap();
        assert_eq!(refused[..2], [1, 0x11]);
        assert_eq!(refused[24..28], [0, 0, 4, 20]);
        assert_eq!(refused[refused.len() - 8..], [0, 0x0a, 0, 2, 0, 0x24, 0, 0]);
        let many = |n| attribute(0x0024, &[]).repeat(n);
        assert!(answer(&request(&many(UNKNOWN_MAX)), source).is_some());
        assert!(answer(&request(&many(UNKNOWN_MAX + 1)), source).is_none());
    }

    #[test]
    fn nothing_but_a_whole_binding_request_is_answered() {
        let source = "192.0.2.1:5060".parse().unwrap();
        let good = request(&attribute(0x8022, b"phone"));
        for len in 0..good.len() {
            assert!(answer(&good[..len], source).is_none(), "{len} bytes");
        }
        for (at, byte) in [(0, 1), (1, 0x11), (4, 0), (7, 0)] {
            let mut bad = good.clone();
            bad[at] = byte;
            assert!(answer(&bad, source).is_none(), "byte {at}");
        }
        let reply = answer(&good, source).unwrap();
        assert!(answer(&reply, source).is_none(), "two servers could answer each other for ever");
        let long = request(&[0x80, 0x22, 0xff, 0xff]);
        assert!(answer(&long, source).is_none(), "an attribute longer than its message");
    }
}
