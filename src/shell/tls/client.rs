//! Connections that we open: whom each trunk's server must be vouched for by, and how we prove ourselves to it.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
    server::ParsedCertificate,
};
use tracing::warn;

use super::{certificate, provider, read_chain, read_key};
use crate::{
    config::{Config, Trunk},
    types::{Instant, Transport},
};

/// One client configuration for each trunk, in their order, and one for everybody else.
#[derive(Clone, Debug)]
pub(super) struct Clients {
    trunks: Vec<Arc<ClientConfig>>,
    usual: Arc<ClientConfig>,
}

impl Clients {
    /// `local_ca`: trusted beside the system's, where it exists.
    pub(super) fn load(config: &Config, local_ca: Option<&Path>) -> Result<Self, String> {
        let (usual, trunks) = read(config, local_ca)?;
        Ok(Self { trunks: trunks.into_iter().collect::<Result<_, _>>()?, usual })
    }

    /// Takes what can be used, trunk by trunk. The rest stays as it was, and is named in the error.
    pub(super) fn reload(&mut self, now: Instant, config: &Config, local_ca: Option<&Path>) -> Result<(), String> {
        let (usual, fresh) = read(config, local_ca)?;
        self.usual = usual;
        let mut errors = Vec::new();
        for ((trunk, fresh), current) in config.trunks.iter().zip(fresh).zip(&mut self.trunks) {
            match fresh.and_then(|fresh| refuse_ended(now, trunk).map(|()| fresh)) {
                Ok(fresh) => *current = fresh,
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(errors.join("; ")) }
    }

    pub(super) fn of_trunk(&self, index: usize) -> &Arc<ClientConfig> {
        self.trunks.get(index).unwrap_or(&self.usual)
    }
}

type Read = (Arc<ClientConfig>, Vec<Result<Arc<ClientConfig>, String>>);

/// The usual configuration, and that of each trunk or what is wrong with its files.
fn read(config: &Config, local_ca: Option<&Path>) -> Result<Read, String> {
    let usual_roots = Arc::new(usual_roots(config, local_ca));
    let usual = client(Arc::clone(&usual_roots), None)?;
    let of = |trunk: &Trunk| match (&trunk.ca, own_certificate(trunk)) {
        (None, None) => Ok(Arc::clone(&usual)),
        (None, own) => client(Arc::clone(&usual_roots), own),
        (Some(ca), own) => client(Arc::new(read_roots(ca)?), own),
    };
    let trunks = config.trunks.iter().map(of).collect();
    Ok((usual, trunks))
}

/// As for the server's own certificate: none is exchanged for one that has ended.
fn refuse_ended(now: Instant, trunk: &Trunk) -> Result<(), String> {
    let Some((file, _)) = own_certificate(trunk) else { return Ok(()) };
    let chain = read_chain(file)?;
    certificate::refuse_ended(now, file, chain.first())
}

pub(super) fn own_certificate(trunk: &Trunk) -> Option<(&Path, &Path)> {
    Some((trunk.certificate.as_deref()?, trunk.key.as_deref()?))
}

/// Every file that a trunk's TLS is made of.
pub(super) fn files(config: &Config) -> impl Iterator<Item = &PathBuf> {
    config.trunks.iter().flat_map(|trunk| [&trunk.ca, &trunk.certificate, &trunk.key]).flatten()
}

/// The trust anchors of a PEM file, at least one.
pub fn read_roots(file: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for ca in read_chain(file)? {
        roots.add(ca).map_err(|e| format!("{} holds no usable CA certificate: {e}", file.display()))?;
    }
    Ok(roots)
}

/// For web servers: a trust anchor of the system must vouch for them. It reads none unless `is_needed`.
pub fn web_client(is_needed: bool) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    if is_needed {
        add_native_roots(&mut roots);
    }
    web_client_of(roots)
}

/// As [`web_client`]: one of these must vouch.
pub fn web_client_of(roots: RootCertStore) -> Arc<ClientConfig> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

fn add_native_roots(roots: &mut RootCertStore) {
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        warn!(%error, "A system trust anchor cannot be read.");
    }
    roots.add_parsable_certificates(native.certs);
}

fn usual_roots(config: &Config, local_ca: Option<&Path>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let may_use_tls = |t: &Trunk| t.transport.is_none_or(|transport| transport == Transport::Tls);
    if config.trunks.iter().any(|t| may_use_tls(t) && t.ca.is_none()) {
        add_native_roots(&mut roots);
    }
    if let Some(ca) = local_ca.and_then(|file| CertificateDer::from_pem_file(file).ok()) {
        roots.add_parsable_certificates([ca]);
    }
    roots
}

fn client(roots: Arc<RootCertStore>, own: Option<(&Path, &Path)>) -> Result<Arc<ClientConfig>, String> {
    let provider = provider();
    let algorithms = provider.signature_verification_algorithms;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(SipVerifier { roots, algorithms }));
    let config = match own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => builder
            .with_client_auth_cert(read_chain(certificate)?, read_key(key)?)
            .map_err(|e| format!("{} does not belong to {}: {e}", key.display(), certificate.display()))?,
    };
    Ok(Arc::new(config))
}

/// Checks a server as rustls does, and also knows the identity that RFC 5922 section 7.1 adds: a `sip` URI that names the
/// domain. Against section 7.2, a wildcard in a DNS name counts, because large carriers have such certificates; the common
/// name of a certificate without alternative names does not.
struct SipVerifier {
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl fmt::Debug for SipVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SipVerifier({} trust anchors)", self.roots.len())
    }
}

impl ServerCertVerifier for SipVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, intermediates, now, self.algorithms.all)?;
        match verify_server_name(&certificate, server_name) {
            Err(_) if certificate::names_domain(end_entity, &server_name.to_str()) => {}
            verdict => verdict?,
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};

    use super::*;

    /// Whether a certificate with these names, signed by a CA that is trusted or not, passes for this server name.
    fn passes(names: &[SanType], server_name: &str, is_trusted: bool) -> bool {
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_certificate = ca.self_signed(&ca_key).unwrap();
        let mut leaf = CertificateParams::default();
        leaf.subject_alt_names = names.to_vec();
        let leaf = leaf.signed_by(&KeyPair::generate().unwrap(), &Issuer::new(ca, ca_key)).unwrap();
        let mut roots = RootCertStore::empty();
        if is_trusted {
            roots.add(ca_certificate.der().clone()).unwrap();
        }
        let algorithms = provider().signature_verification_algorithms;
        let verifier = SipVerifier { roots: Arc::new(roots), algorithms };
        let name = ServerName::try_from(server_name).unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_700_000_000));
        verifier.verify_server_cert(leaf.der(), &[], &name, &[], now).is_ok()
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the test plays the operator")]
    fn a_trunk_with_unusable_files_keeps_what_it_had_and_stops_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        let write = |name: &str, not_after: i32| {
            let key = KeyPair::generate().unwrap();
            let mut certificate = CertificateParams::default();
            certificate.not_after = rcgen::date_time_ymd(not_after, 1, 1);
            std::fs::write(file(&format!("{name}.pem")), certificate.self_signed(&key).unwrap().pem()).unwrap();
            std::fs::write(file(&format!("{name}.key")), key.serialize_pem()).unwrap();
        };
        let trunk = |name: &str| {
            let (certificate, key) = (file(&format!("{name}.pem")), file(&format!("{name}.key")));
            format!(
                "[trunk.{name}]\nhost = \"192.0.2.1\"\nnumbers = [\"+12025550100\"]\nencryption = \"off\"\npstn = false\n\
                 certificate = {certificate:?}\nkey = {key:?}\n"
            )
        };
        let text = format!("[company]\nname = \"x\"\nregion = \"US\"\n{}{}{}", trunk("a"), trunk("b"), trunk("c"));
        let config = crate::config::parse(&text).unwrap_or_else(|problems| panic!("{problems:?}")).0;
        for name in ["a", "b", "c"] {
            write(name, 2090);
        }
        let mut clients = Clients::load(&config, None).unwrap();
        let before = clients.clone();
        std::fs::write(file("a.pem"), "nonsense").unwrap();
        write("b", 2090);
        write("c", 2001);
        let error = clients.reload(Instant::from_unix_ms(1_800_000_000_000), &config, None).unwrap_err();
        assert!(error.contains("a.pem") && error.contains("c.pem") && !error.contains("b.pem"), "{error}");
        let is_kept = |index| Arc::ptr_eq(before.of_trunk(index), clients.of_trunk(index));
        assert_eq!([0, 1, 2].map(is_kept), [true, false, true]);
    }

    #[test]
    fn a_server_proves_its_domain_by_dns_name_address_or_sip_uri_and_by_nothing_else() {
        let dns = |name: &str| SanType::DnsName(name.try_into().unwrap());
        let uri = |uri: &str| SanType::URI(uri.try_into().unwrap());
        let host = "sip.carrier.example";
        for (name, server_name, is_good) in [
            (dns(host), host, true),
            (dns("SIP.Carrier.Example"), host, true),
            (dns("*.carrier.example"), host, true),
            (dns("carrier.example"), host, false),
            (dns("*.example"), host, false),
            (SanType::IpAddress("192.0.2.1".parse().unwrap()), "192.0.2.1", true),
            (SanType::IpAddress("192.0.2.1".parse().unwrap()), host, false),
            (uri("sip:sip.carrier.example"), host, true),
            (uri("SIP:Sip.Carrier.Example"), host, true),
            (uri("sip:carrier.example"), host, false),
            (uri("sip:anyone@sip.carrier.example"), host, false),
            (uri("sips:sip.carrier.example"), host, false),
            (uri("https://sip.carrier.example"), host, false),
        ] {
            assert_eq!(passes(std::slice::from_ref(&name), server_name, true), is_good, "{name:?} for {server_name}");
            assert!(!passes(&[name], server_name, false), "nobody vouches for it");
        }
        assert!(passes(&[dns("other.example"), uri("sip:sip.carrier.example")], host, true), "either is enough");
        assert!(!passes(&[], host, true));
    }
}
