//! Those who connect to us: who must vouch for their certificates, and what these say.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
    client::{danger::HandshakeSignatureValid, verify_server_cert_signed_by_trust_anchor},
    crypto::WebPkiSupportedAlgorithms,
    pki_types::{CertificateDer, UnixTime},
    server::{
        ParsedCertificate, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

use super::{certificate::names_of, provider, read_roots};
use crate::config::{self, ClientCertificates};

/// What judges a client's certificate; `None` where nobody is asked for one.
pub(super) fn verifier(tls: &config::Tls) -> Result<Option<Arc<dyn ClientCertVerifier>>, String> {
    let Some(file) = &tls.client_ca else { return Ok(None) };
    let roots = Arc::new(read_roots(file)?);
    let provider = provider();
    let algorithms = provider.signature_verification_algorithms;
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider);
    let builder = match tls.client_certificates {
        ClientCertificates::Optional => builder.allow_unauthenticated(),
        ClientCertificates::Required => builder,
    };
    let usual = builder.build().map_err(|e| format!("{} vouches for no client: {e}", file.display()))?;
    Ok(Some(Arc::new(PeerVerifier { usual, roots, algorithms })))
}

/// As rustls does it, but for one thing: a certificate that is for servers only is good for a client, too. A SIP server
/// is both, and public CAs sign no others any more.
#[derive(Debug)]
struct PeerVerifier {
    usual: Arc<dyn ClientCertVerifier>,
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for PeerVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.usual.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.usual.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        // Names that nobody has read would hold the client to no name at all.
        if names_of(end_entity).is_none() {
            return Err(Error::InvalidCertificate(CertificateError::BadEncoding));
        }
        match self.usual.verify_client_cert(end_entity, intermediates, now) {
            Err(Error::InvalidCertificate(
                CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. },
            )) => {
                let certificate = ParsedCertificate::try_from(end_entity)?;
                let algorithms = self.algorithms.all;
                verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, intermediates, now, algorithms)?;
                Ok(ClientCertVerified::assertion())
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests play the operator")]
mod tests {
    use std::time::Duration;

    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd,
    };

    use super::*;
    use crate::types::limits::CERTIFICATE_NAMES_MAX;

    fn ca() -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    fn judge(ca: &CertifiedIssuer<'static, KeyPair>, wish: ClientCertificates) -> Arc<dyn ClientCertVerifier> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, ca.pem()).unwrap();
        let tls = config::Tls { certificate: None, key: None, client_ca: Some(file), client_certificates: wish };
        verifier(&tls).unwrap().unwrap()
    }

    #[test]
    fn a_clients_certificate_is_good_by_its_ca_its_time_and_any_purpose_of_a_sip_peer() {
        let (ours, other) = (ca(), ca());
        let judge = judge(&ours, ClientCertificates::Optional);
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));
        let is_good = |issuer: &CertifiedIssuer<'static, KeyPair>, end_year, purposes: &[ExtendedKeyUsagePurpose]| {
            let mut params = CertificateParams::new(["sip.carrier.example".to_owned()]).unwrap();
            (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(end_year, 1, 1));
            params.extended_key_usages = purposes.to_vec();
            let leaf = params.signed_by(&KeyPair::generate().unwrap(), issuer).unwrap();
            judge.verify_client_cert(leaf.der(), &[], now).is_ok()
        };
        let [client, server, mail] = [
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::EmailProtection,
        ];
        for purposes in [vec![], vec![client], vec![server.clone()]] {
            assert!(is_good(&ours, 2040, &purposes), "{purposes:?}");
            assert!(!is_good(&ours, 2021, &purposes), "{purposes:?}, ended");
            assert!(!is_good(&other, 2040, &purposes), "{purposes:?}, of another CA");
        }
        assert!(!is_good(&ours, 2040, &[mail]));
    }

    #[test]
    fn a_certificate_whose_names_are_too_many_to_read_is_no_good() {
        let ca = ca();
        let judge = judge(&ca, ClientCertificates::Optional);
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));
        let is_good = |names: usize| {
            let names: Vec<_> = (0..names).map(|n| format!("host-{n}.example")).collect();
            let mut params = CertificateParams::new(names).unwrap();
            (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2040, 1, 1));
            let leaf = params.signed_by(&KeyPair::generate().unwrap(), &ca).unwrap();
            judge.verify_client_cert(leaf.der(), &[], now).is_ok()
        };
        assert!(is_good(CERTIFICATE_NAMES_MAX) && !is_good(CERTIFICATE_NAMES_MAX + 1));
    }

    #[test]
    fn a_certificate_is_asked_for_and_missed_only_where_it_is_required() {
        let ca = ca();
        for (wish, is_required) in [(ClientCertificates::Optional, false), (ClientCertificates::Required, true)] {
            let judge = judge(&ca, wish);
            assert!(judge.offer_client_auth());
            assert_eq!(judge.client_auth_mandatory(), is_required);
        }
        let tls = config::Tls {
            certificate: None,
            key: None,
            client_ca: None,
            client_certificates: ClientCertificates::Optional,
        };
        assert!(verifier(&tls).unwrap().is_none());
    }
}
