//! What stands in a certificate beside its key: when it ends, and which SIP domains it names.

use std::path::Path;

use rustls::pki_types::CertificateDer;
use x509_parser::{extensions::GeneralName, parse_x509_certificate};

use crate::{
    shell::calendar,
    types::{Duration, Instant, certificate::SubjectNames, limits::CERTIFICATE_NAMES_MAX},
    wire::{
        passport::{Authority, Certificate},
        sip::Uri,
    },
};

/// From when to when a certificate is good.
#[derive(Clone, Copy, Debug)]
pub struct Validity {
    pub begin: Instant,
    pub end: Instant,
}

impl Validity {
    pub fn length(&self) -> Duration {
        self.end.since(self.begin)
    }
}

/// `None` if it cannot be read.
pub fn validity_of(certificate: &CertificateDer<'_>) -> Option<Validity> {
    let (_, parsed) = parse_x509_certificate(certificate).ok()?;
    let date = |s: i64| Instant::from_unix_ms(u64::try_from(s).unwrap_or(0).saturating_mul(1_000));
    let validity = parsed.validity();
    Some(Validity { begin: date(validity.not_before.timestamp()), end: date(validity.not_after.timestamp()) })
}

/// An error that names the file if the first certificate in it has ended: nobody would accept it.
pub fn refuse_ended(now: Instant, file: &Path, first: Option<&CertificateDer<'_>>) -> Result<(), String> {
    let end = first.and_then(validity_of).map(|validity| validity.end).filter(|end| *end <= now);
    end.map_or(Ok(()), |end| Err(format!("{} ended on {}", file.display(), calendar::rfc3339(end.unix_ms()))))
}

/// Its alternative names. `None`: they cannot be read, or are too many.
pub fn names_of(certificate: &CertificateDer<'_>) -> Option<SubjectNames> {
    let mut names = SubjectNames::default();
    let (_, parsed) = parse_x509_certificate(certificate).ok()?;
    let Some(extension) = parsed.subject_alternative_name().ok()? else { return Some(names) };
    if extension.value.general_names.len() > CERTIFICATE_NAMES_MAX {
        return None;
    }
    for name in &extension.value.general_names {
        match name {
            GeneralName::DNSName(name) => names.dns.push((*name).to_owned()),
            GeneralName::URI(uri) => names.uris.push((*uri).to_owned()),
            _ => {}
        }
    }
    Some(names)
}

/// What it says of the numbers that it may sign for (RFC 8226). `None`: nothing, or its key is not one of P-256.
pub fn signing(certificate: &CertificateDer<'_>) -> Option<Certificate> {
    let (_, parsed) = parse_x509_certificate(certificate).ok()?;
    let list = parsed.extensions().iter().find(|extension| extension.oid.to_id_string() == TN_AUTH_LIST)?;
    let ends_at_s = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
    let key = parsed.public_key();
    let curve = key.algorithm.parameters.as_ref()?.as_oid().ok()?;
    let is_p256 = key.algorithm.algorithm.to_id_string() == EC_PUBLIC_KEY && curve.to_id_string() == P256;
    let key = key.subject_public_key.data.as_ref().try_into().ok().filter(|_| is_p256)?;
    Some(Certificate { key, authority: Authority::from_der(list.value)?, ends_at_s })
}

/// RFC 8226 section 9, RFC 5480 sections 2.1.1 and 2.1.1.1.
const TN_AUTH_LIST: &str = "1.3.6.1.5.5.7.1.26";
const EC_PUBLIC_KEY: &str = "1.2.840.10045.2.1";
const P256: &str = "1.2.840.10045.3.1.7";

/// Whether an alternative name is the SIP URI of this domain (RFC 5922 section 7.1).
pub(super) fn names_domain(certificate: &CertificateDer<'_>, domain: &str) -> bool {
    let names = names_of(certificate).unwrap_or_default();
    names.uris.iter().any(|uri| Uri::parse(uri).is_some_and(|uri| uri.is_domain(domain)))
}
