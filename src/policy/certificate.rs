//! Whom a certificate stands for: SIP domains and SIP users (RFC 5922).

use crate::{types::certificate::SubjectNames, wire::sip::Uri};

/// Whether a certificate stands for a SIP domain: by its DNS name, or by the `sip` URI of the domain, without a user (RFC
/// 5922 section 7.1). As for servers that we connect to, a wildcard stands for one label, against section 7.2.
pub fn names_domain(names: &SubjectNames, domain: &str) -> bool {
    let is_domain = |uri: &String| Uri::parse(uri).is_some_and(|uri| uri.is_domain(domain));
    names.dns.iter().any(|name| covers(name, domain)) || names.uris.iter().any(is_domain)
}

fn covers(name: &str, domain: &str) -> bool {
    let name = name.trim_end_matches('.');
    let of_wildcard = || {
        let (first, rest) = domain.split_once('.')?;
        let wanted = name.strip_prefix("*.")?;
        // `*.example` would stand for every company of the world.
        Some(!first.is_empty() && wanted.contains('.') && wanted.eq_ignore_ascii_case(rest))
    };
    name.eq_ignore_ascii_case(domain) || of_wildcard().unwrap_or(false)
}

/// User parts of the SIP and SIPS addresses of our own domain in a certificate.
pub fn users(names: &SubjectNames, is_own_host: impl Fn(&str) -> bool) -> Vec<String> {
    let user = |uri: &String| {
        let uri = Uri::parse(uri).filter(|uri| uri.is_sip() && is_own_host(uri.host))?;
        Some(uri.user_decoded()?.into_owned())
    };
    names.uris.iter().filter_map(user).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dns(name: &str) -> SubjectNames {
        SubjectNames { dns: vec![name.to_owned()], uris: Vec::new() }
    }

    fn uri(uri: &str) -> SubjectNames {
        SubjectNames { dns: Vec::new(), uris: vec![uri.to_owned()] }
    }

    #[test]
    fn a_domain_is_named_by_dns_name_or_sip_uri_and_by_nothing_else() {
        let domain = "sip.carrier.example";
        for (names, is_named) in [
            (dns("sip.carrier.example"), true),
            (dns("SIP.Carrier.Example."), true),
            (dns("*.carrier.example"), true),
            (dns("*.sip.carrier.example"), false),
            (dns("*.example"), false),
            (dns("*"), false),
            (dns("carrier.example"), false),
            (dns("sip.carrier.example.evil.example"), false),
            (uri("sip:sip.carrier.example"), true),
            (uri("SIP:Sip.Carrier.Example"), true),
            (uri("sips:sip.carrier.example"), false),
            (uri("sip:anyone@sip.carrier.example"), false),
            (uri("https://sip.carrier.example"), false),
            (SubjectNames::default(), false),
        ] {
            assert_eq!(names_domain(&names, domain), is_named, "{names:?}");
        }
        assert!(!names_domain(&dns("*.example"), "carrier.example"), "a wildcard below a top-level domain");
    }

    #[test]
    fn users_are_those_of_our_own_domain() {
        let names = SubjectNames {
            dns: vec!["pbx.example.com".to_owned()],
            uris: [
                "sip:alice@pbx.example.com",
                "SIPS:b%6fb@pbx.example.com:5061",
                "sip:carol@other.example",
                "sip:pbx.example.com",
                "im:dave@pbx.example.com",
                "no uri",
            ]
            .map(str::to_owned)
            .into(),
        };
        assert_eq!(users(&names, |host| host == "pbx.example.com"), ["alice", "bob"]);
    }
}
