//! Certificates: the operator's own, or a local CA that is made on the first start and signs a server certificate.
//!
//! Everything lies under `state_dir/tls`; phones need `ca.pem`. The server certificate is renewed by the same CA when it
//! would not be accepted for 30 more days or not under every name of this server. New connections see a renewed or
//! reloaded certificate at once; open ones keep theirs. Trunks may have certificates of their own, see `client`.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{
        CertificateDer, PrivateKeyDer, ServerName, UnixTime,
        pem::{self, PemObject as _},
    },
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, danger::ClientCertVerifier},
    sign::CertifiedKey,
};
use tracing::{info, warn};

use crate::{
    config::Config,
    types::{Instant, Secret},
};

use super::{calendar, failure::Failure, files};

pub mod certificate;
mod client;
mod peer;

use client::Clients;
pub use client::{read_roots, web_client, web_client_of};

const CA_DAYS: i64 = 3_652;
/// Phones refuse certificates that last much longer than a year.
const SERVER_DAYS: i64 = 397;
const RENEW_BEFORE: Duration = Duration::from_secs(30 * 86_400);
/// Certificates begin a day early, for phones whose clock is wrong.
const EARLY_DAYS: i64 = -1;

/// The process's TLS: one server configuration for all connections, and one client configuration for each trunk.
#[derive(Debug)]
pub struct Tls {
    server: RwLock<Arc<ServerConfig>>,
    /// As `server`, where nobody is asked for a certificate.
    admin: Arc<ServerConfig>,
    clients: RwLock<Clients>,
    resolver: Arc<Resolver>,
    source: Source,
    config: Config,
}

/// Where the server certificate comes from.
#[derive(Debug)]
enum Source {
    Operator { certificate: PathBuf, key: PathBuf },
    Local { folder: PathBuf, names: Vec<String> },
}

impl Tls {
    /// Loads the configured certificate, or makes (or renews) the local one.
    pub fn load(now: Instant, config: &Config) -> Result<Self, Failure> {
        let source = Source::of(config);
        let resolver = Arc::new(Resolver(RwLock::new(Arc::new(source.load(now)?))));
        let server = server(config, &resolver).map_err(Failure::Usage)?;
        let admin = server_of(None, &resolver);
        let clients = Clients::load(config, source.local_ca().as_deref()).map_err(Failure::Usage)?;
        let (server, clients, config) = (RwLock::new(server), RwLock::new(clients), config.clone());
        Ok(Self { server, admin, clients, resolver, source, config })
    }

    /// Reads every certificate again, or renews the local one where that is due. What cannot be used stays as it was.
    pub fn reload(&self, now: Instant) -> Result<(), Failure> {
        let own = self.source.load(now).and_then(|fresh| self.source.refuse_ended(now, fresh)).map(|fresh| {
            *self.resolver.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh);
        });
        let peers = server(&self.config, &self.resolver).map(|fresh| {
            *self.server.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        });
        let mut clients = self.clients.read().unwrap_or_else(PoisonError::into_inner).clone();
        let trunks = clients.reload(now, &self.config, self.source.local_ca().as_deref());
        *self.clients.write().unwrap_or_else(PoisonError::into_inner) = clients;
        let others: Vec<_> = [peers.err(), trunks.err()].into_iter().flatten().collect();
        match own {
            own if others.is_empty() => own,
            Ok(()) => Err(Failure::Usage(others.join("; "))),
            Err(own) => Err(Failure::Usage(format!("{own}; {}", others.join("; ")))),
        }
    }

    pub fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// For the admin interface, whose clients prove themselves by tokens.
    pub fn admin_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.admin)
    }

    /// For connections to a trunk, by its index.
    pub fn client_config(&self, trunk: usize) -> Arc<ClientConfig> {
        Arc::clone(self.clients.read().unwrap_or_else(PoisonError::into_inner).of_trunk(trunk))
    }

    /// The certificate that phones must trust; `None` where the operator brings their own.
    pub fn ca_file(&self) -> Option<PathBuf> {
        self.source.local_ca()
    }
}

/// Every file of the operator that TLS is made of.
pub fn files(config: &Config) -> impl Iterator<Item = &PathBuf> {
    let own = [&config.tls.certificate, &config.tls.key, &config.tls.client_ca].into_iter().flatten();
    own.chain(client::files(config))
}

fn server(config: &Config, resolver: &Arc<Resolver>) -> Result<Arc<ServerConfig>, String> {
    Ok(server_of(peer::verifier(&config.tls)?, resolver))
}

/// Sessions are not resumed: telephones stay connected, and a client's certificate is judged at every connection.
fn server_of(verifier: Option<Arc<dyn ClientCertVerifier>>, resolver: &Arc<Resolver>) -> Arc<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for TLS 1.2 and 1.3");
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut server = builder.with_cert_resolver(Arc::clone(resolver) as Arc<dyn ResolvesServerCert>);
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    Arc::new(server)
}

impl Source {
    fn of(config: &Config) -> Self {
        match (&config.tls.certificate, &config.tls.key) {
            (Some(certificate), Some(key)) => Self::Operator { certificate: certificate.clone(), key: key.clone() },
            (_, _) => Self::Local { folder: config.server.state_dir.join("tls"), names: names(config) },
        }
    }

    fn load(&self, now: Instant) -> Result<CertifiedKey, Failure> {
        match self {
            Self::Operator { certificate, key } => read_certified_key(certificate, key).map_err(Failure::Usage),
            Self::Local { folder, names } => Local { folder, names }.load(now),
        }
    }

    fn local_ca(&self) -> Option<PathBuf> {
        match self {
            Self::Operator { .. } => None,
            Self::Local { folder, .. } => Some(folder.join("ca.pem")),
        }
    }

    /// No reload exchanges a certificate for one that has ended: nobody would accept it.
    fn refuse_ended(&self, now: Instant, fresh: CertifiedKey) -> Result<CertifiedKey, Failure> {
        if let Self::Operator { certificate, .. } = self {
            certificate::refuse_ended(now, certificate, fresh.cert.first()).map_err(Failure::Usage)?;
        }
        Ok(fresh)
    }
}

/// What a phone needs to connect: it trusts the CA in `ca_file` and no other.
pub fn client_of(ca_file: &Path) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(ca_file).map_err(|e| format!("{}: {e}", ca_file.display()))?;
    roots.add(ca).map_err(|e| format!("{}: {e}", ca_file.display()))?;
    let client = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(client))
}

/// Hands every new connection the current certificate.
#[derive(Debug)]
struct Resolver(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// Reads a PEM chain and its key; the error names the file and what is wrong with it.
pub fn read_certified_key(certificate: &Path, key: &Path) -> Result<CertifiedKey, String> {
    let (chain, private) = (read_chain(certificate)?, read_key(key)?);
    CertifiedKey::from_der(chain, private, &provider())
        .map_err(|e| format!("{} does not belong to {}: {e}", key.display(), certificate.display()))
}

/// The certificates of a PEM file, at least one.
pub fn read_chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Vec<_> = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|e| format!("{}: {e}", file.display()))?;
    if chain.is_empty() { Err(format!("{} holds no certificate", file.display())) } else { Ok(chain) }
}

/// The private key of a PEM file.
pub fn read_key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_file(file).map_err(|e| match e {
        pem::Error::NoItemsFound => format!("{} holds no private key without a passphrase", file.display()),
        e => format!("{}: {e}", file.display()),
    })
}

/// Every name under which a phone may reach this server.
fn names(config: &Config) -> Vec<String> {
    let sip = &config.sip;
    let listening = [&sip.tls, &sip.tcp, &sip.udp, &config.admin.tls].into_iter().flatten().map(SocketAddr::ip);
    let addresses = listening.chain(config.media.addresses.iter().copied()).filter(|ip| !ip.is_unspecified());
    let mut names = vec![config.server.domain.clone(), "localhost".to_owned()];
    names.extend(addresses.map(|ip| ip.to_string()));
    names.sort();
    names.dedup();
    names
}

pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// The local CA and the certificate it signs.
struct Local<'a> {
    folder: &'a Path,
    names: &'a [String],
}

impl Local<'_> {
    fn load(&self, now: Instant) -> Result<CertifiedKey, Failure> {
        files::create_folder(self.folder).map_err(|e| self.store_failure(self.folder, &e))?;
        let (ca_file, ca_key) = (self.path("ca.pem"), self.path("ca.key"));
        if !ca_file.exists() && !ca_key.exists() {
            self.make_ca(now)?;
        }
        let (certificate, key) = (self.path("server.pem"), self.path("server.key"));
        if let Ok(current) = read_certified_key(&certificate, &key)
            && self.is_good(&current, now)
        {
            return Ok(current);
        }
        self.sign_server(now)?;
        let renewed = read_certified_key(&certificate, &key).map_err(Failure::Store)?;
        if !self.is_good(&renewed, now) {
            warn!(
                folder = %self.folder.display(),
                "The local CA ends within 30 days. Remove this folder, restart, and load the new ca.pem into the phones."
            );
        }
        Ok(renewed)
    }

    /// A phone that trusts our CA accepts it under each of our names, and still will in 30 days.
    fn is_good(&self, certified: &CertifiedKey, now: Instant) -> bool {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_file(self.path("ca.pem"));
        if ca.ok().and_then(|ca| roots.add(ca).ok()).is_none() {
            return false;
        }
        let Ok(verifier) = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build() else {
            return false;
        };
        let then = UnixTime::since_unix_epoch(Duration::from_secs(now.unix_s()).saturating_add(RENEW_BEFORE));
        let Some((leaf, rest)) = certified.cert.split_first() else { return false };
        self.names.iter().all(|name| {
            ServerName::try_from(name.as_str())
                .is_ok_and(|name| verifier.verify_server_cert(leaf, rest, &name, &[], then).is_ok())
        })
    }

    fn make_ca(&self, now: Instant) -> Result<(), Failure> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "ringdown local CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, now, CA_DAYS);
        let key = KeyPair::generate().map_err(|e| internal(&e))?;
        let certificate = params.self_signed(&key).map_err(|e| internal(&e))?;
        self.write("ca.key", Secret::new(key.serialize_pem()).expose())?;
        self.write("ca.pem", &certificate.pem())?;
        info!(folder = %self.folder.display(), "Made a local CA.");
        Ok(())
    }

    fn sign_server(&self, now: Instant) -> Result<(), Failure> {
        let ca_key = KeyPair::from_pem(Secret::new(self.read("ca.key")?).expose()).map_err(|e| self.ca_failure(&e))?;
        let issuer = Issuer::from_ca_cert_pem(&self.read("ca.pem")?, ca_key).map_err(|e| self.ca_failure(&e))?;
        let mut params = CertificateParams::new(self.names).map_err(|e| {
            Failure::Usage(format!(
                "server.domain or a listening address cannot stand in a certificate: {e}. Use a DNS name or an address."
            ))
        })?;
        params.distinguished_name.push(DnType::CommonName, "ringdown");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, now, SERVER_DAYS);
        let key = KeyPair::generate().map_err(|e| internal(&e))?;
        let certificate = params.signed_by(&key, &issuer).map_err(|e| internal(&e))?;
        // A crash between the two leaves a pair that does not match, which the next start replaces.
        self.write("server.key", Secret::new(key.serialize_pem()).expose())?;
        self.write("server.pem", &certificate.pem())?;
        info!(names = ?self.names, "Signed a server certificate.");
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn read(&self, name: &str) -> Result<String, Failure> {
        let path = self.path(name);
        fs::read_to_string(&path).map_err(|e| self.store_failure(&path, &e))
    }

    fn write(&self, name: &str, content: &str) -> Result<(), Failure> {
        let path = self.path(name);
        files::write(&path, content.as_bytes()).map_err(|e| self.store_failure(&path, &e))
    }

    fn store_failure(&self, path: &Path, error: &std::io::Error) -> Failure {
        Failure::Store(format!(
            "{}: {error}. {} must hold ca.pem and ca.key, or nothing.",
            path.display(),
            self.folder.display()
        ))
    }

    fn ca_failure(&self, error: &rcgen::Error) -> Failure {
        Failure::Store(format!(
            "the local CA in {} cannot be used: {error}. Restore ca.pem and ca.key, or remove the folder and load the \
             new ca.pem into the phones.",
            self.folder.display()
        ))
    }
}

fn set_validity(params: &mut CertificateParams, now: Instant, days: i64) {
    let date = |days| {
        let (year, month, day) = calendar::date_after(now, days);
        rcgen::date_time_ymd(year, month, day)
    };
    params.not_before = date(EARLY_DAYS);
    params.not_after = date(days);
}

fn internal(error: &rcgen::Error) -> Failure {
    Failure::Internal(format!("a certificate cannot be made: {error}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const DAY_MS: u64 = 86_400_000;

    fn day(n: u64) -> Instant {
        Instant::from_unix_ms(1_769_846_400_000 + n * DAY_MS)
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&n| n.to_owned()).collect()
    }

    fn leaf(folder: &Path, names: &[String], now: Instant) -> CertificateDer<'static> {
        Local { folder, names }.load(now).unwrap().cert[0].clone()
    }

    #[test]
    fn the_first_start_makes_a_ca_and_a_certificate_and_the_second_keeps_both() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("state/tls");
        let names = names(&["example.test", "localhost", "192.0.2.1", "::1"]);
        let first = leaf(&folder, &names, day(0));
        assert_eq!(leaf(&folder, &names, day(1)), first);
        for file in ["ca.pem", "ca.key", "server.pem", "server.key"] {
            assert_eq!(fs::metadata(folder.join(file)).unwrap().permissions().mode() & 0o777, 0o600, "{file}");
        }
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn renewal_comes_thirty_days_before_the_end_by_the_same_ca() {
        let dir = tempfile::tempdir().unwrap();
        let names = names(&["example.test"]);
        let first = leaf(dir.path(), &names, day(0));
        let ca = fs::read(dir.path().join("ca.pem")).unwrap();
        assert_eq!(leaf(dir.path(), &names, day(366)), first);
        let renewed = leaf(dir.path(), &names, day(368));
        assert_ne!(renewed, first);
        assert_eq!(fs::read(dir.path().join("ca.pem")).unwrap(), ca);
        assert_eq!(leaf(dir.path(), &names, day(369)), renewed);
    }

    #[test]
    fn a_new_name_or_a_torn_pair_renews() {
        let dir = tempfile::tempdir().unwrap();
        let first = leaf(dir.path(), &names(&["example.test"]), day(0));
        let second = leaf(dir.path(), &names(&["example.test", "192.0.2.9"]), day(0));
        assert_ne!(first, second);
        let key = KeyPair::generate().unwrap().serialize_pem();
        files::write(&dir.path().join("server.key"), key.as_bytes()).unwrap();
        assert_ne!(leaf(dir.path(), &names(&["example.test", "192.0.2.9"]), day(0)), second);
    }

    #[test]
    fn a_ca_without_its_key_is_an_error_and_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let first = names(&["example.test"]);
        leaf(dir.path(), &first, day(0));
        fs::remove_file(dir.path().join("ca.key")).unwrap();
        leaf(dir.path(), &first, day(0));
        let other = names(&["other.test"]);
        let failure = Local { folder: dir.path(), names: &other }.load(day(0)).unwrap_err();
        assert!(matches!(failure, Failure::Store(_)), "{failure}");
        assert!(!dir.path().join("ca.key").exists());
    }

    #[test]
    fn a_key_of_another_certificate_is_refused_with_both_file_names() {
        let dir = tempfile::tempdir().unwrap();
        leaf(dir.path(), &names(&["example.test"]), day(0));
        let error = read_certified_key(&dir.path().join("server.pem"), &dir.path().join("ca.key")).unwrap_err();
        assert!(error.contains("ca.key") && error.contains("server.pem"), "{error}");
        let error = read_certified_key(&dir.path().join("none.pem"), &dir.path().join("ca.key")).unwrap_err();
        assert!(error.contains("none.pem"), "{error}");
        let error = read_certified_key(&dir.path().join("ca.key"), &dir.path().join("ca.key")).unwrap_err();
        assert!(error.contains("holds no certificate"), "{error}");
    }
}
