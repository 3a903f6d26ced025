//! Certificates of signed callers' numbers (RFC 8226): fetched over HTTPS for the core, and believed only if an authority of the
//! operator vouches for them. Nothing here waits for a call, and no call waits for more than its own time.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use hyper::{
    Request, Response,
    body::{Body as _, Incoming},
    client::conn::http1,
    header::{ACCEPT, CACHE_CONTROL, HOST, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    client::verify_server_cert_signed_by_trust_anchor,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
    server::ParsedCertificate,
};
use tokio::{
    net::TcpStream,
    sync::{Semaphore, mpsc},
};
use tokio_rustls::TlsConnector;
use tracing::{debug, warn};

use crate::{
    call::{CertificateReply, Input},
    config::{Config, Stir},
    policy::stir::{self, Place},
    types::{
        Instant,
        limits::{CERTIFICATE_CHAIN_MAX, CERTIFICATE_FETCHES_MAX, CERTIFICATE_REPLY_BYTES_MAX},
    },
    wire::passport::{Certificate, Signer},
};

use super::{
    clock::Clock,
    core_task::ToCore,
    failure::Failure,
    resolve::Names,
    tls::{self, certificate},
};

/// A web server that has not sent the certificate by then has none.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long a certificate is kept where its server does not say, and at least and at most.
const KEPT: Duration = Duration::from_secs(3_600);
const KEPT_MIN: Duration = Duration::from_secs(60);
const KEPT_MAX: Duration = Duration::from_secs(86_400);
const PRODUCT: &str = concat!("ringdown/", env!("CARGO_PKG_VERSION"));

/// Fetches certificates, each in a task of its own, and reads the operator's files of `[stir]` again.
#[derive(Clone, Debug)]
pub struct Certificates {
    to_core: mpsc::Sender<ToCore>,
    clock: Clock,
    config: Arc<Config>,
    names: Names,
    trust: Arc<RwLock<Arc<Trust>>>,
    permits: Arc<Semaphore>,
}

/// Who vouches for certificates, and for the web servers that they come from.
#[derive(Debug)]
struct Trust {
    anchors: RootCertStore,
    web: Arc<ClientConfig>,
}

impl Trust {
    fn read(stir: &Stir) -> Result<Self, String> {
        let anchors = stir.anchors.as_deref().map(tls::read_roots).transpose()?;
        let web = match stir.ca.as_deref() {
            Some(ca) => tls::web_client_of(tls::read_roots(ca)?),
            None => tls::web_client(stir.verifies()),
        };
        Ok(Self { anchors: anchors.unwrap_or_else(RootCertStore::empty), web })
    }
}

impl Certificates {
    /// Reads the operator's authorities. The failure names the file.
    pub fn load(
        config: &Arc<Config>,
        clock: Clock,
        to_core: mpsc::Sender<ToCore>,
        names: Names,
    ) -> Result<Self, Failure> {
        let trust = Trust::read(&config.stir).map_err(Failure::Usage)?;
        Ok(Self {
            to_core,
            clock,
            config: Arc::clone(config),
            names,
            trust: Arc::new(RwLock::new(Arc::new(trust))),
            permits: Arc::new(Semaphore::new(CERTIFICATE_FETCHES_MAX)),
        })
    }

    /// Reads authorities, certificate and key again. What cannot be used stays as it was, and is named in the failure.
    pub async fn reload(&self) -> Result<(), Failure> {
        let trust = Trust::read(&self.config.stir).map(|fresh| self.replace(fresh));
        let signer = fresh_signer(self.clock.now(), &self.config);
        // A core that has ended needs neither.
        if let Ok(true) = trust {
            let _ = self.to_core.send(ToCore::Input(Input::AnchorsChanged)).await;
        }
        let signer = match signer {
            Ok(Some(signer)) => {
                let _ = self.to_core.send(ToCore::Input(Input::Signer(signer))).await;
                None
            }
            Ok(None) => None,
            Err(error) => Some(error),
        };
        let wrong: Vec<_> = trust.err().into_iter().chain(signer).collect();
        if wrong.is_empty() { Ok(()) } else { Err(Failure::Usage(wrong.join("; "))) }
    }

    /// Whether other authorities vouch for certificates now.
    fn replace(&self, fresh: Trust) -> bool {
        let mut trust = self.trust.write().unwrap_or_else(PoisonError::into_inner);
        let is_other = trust.anchors.roots != fresh.anchors.roots;
        *trust = Arc::new(fresh);
        is_other
    }

    fn trust(&self) -> Arc<Trust> {
        Arc::clone(&self.trust.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The answer reaches the core as `Certificate`.
    #[expect(clippy::disallowed_methods, reason = "this module owns the tasks of its fetches")]
    pub fn fetch(&self, query: u64, place: Place) {
        let fetcher = self.clone();
        tokio::spawn(async move {
            let reply = fetcher.reply(&place).await.unwrap_or_else(|reason| {
                warn!(host = place.host, reason, "The certificate of a signed call cannot be used.");
                CertificateReply::Unusable(reason)
            });
            // A core that has ended needs no answer.
            let _ = fetcher.to_core.send(ToCore::Input(Input::Certificate { query, reply })).await;
        });
    }

    async fn reply(&self, place: &Place) -> Result<CertificateReply, &'static str> {
        let _permit = self.permits.try_acquire().map_err(|_| "too many certificates are being fetched")?;
        let fetched = tokio::time::timeout(TIMEOUT, self.get(place)).await;
        let (ttl, pem) = fetched.map_err(|_| "the certificate's server did not answer in time")??;
        let certificate = Box::new(self.certificate(&pem)?);
        Ok(CertificateReply::Found { certificate, ttl })
    }

    /// How long it may be kept, and what came.
    async fn get(&self, place: &Place) -> Result<(Duration, Vec<u8>), &'static str> {
        const GONE: &str = "the certificate's server cannot be reached";
        let Place { host, port, path } = place;
        let address = self.address(host, *port).await?;
        let name = ServerName::try_from(host.clone()).map_err(|_| GONE)?;
        let log = |error: &dyn std::fmt::Display| debug!(host, %error, "A certificate cannot be fetched.");
        let stream = TcpStream::connect(address).await.inspect_err(|e| log(e)).map_err(|_| GONE)?;
        let connector = TlsConnector::from(Arc::clone(&self.trust().web));
        let stream = connector.connect(name, stream).await.inspect_err(|e| log(e)).map_err(|_| GONE)?;
        let request = Request::get(path)
            .header(HOST, format!("{host}:{port}"))
            .header(USER_AGENT, PRODUCT)
            .header(ACCEPT, "application/pem-certificate-chain, application/x-pem-file, */*;q=0.5")
            .body(String::new())
            .map_err(|_| GONE)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|_| GONE)?;
        let exchange = async {
            let response = sender.send_request(request).await.inspect_err(|e| log(e)).map_err(|_| GONE)?;
            // A redirection is not followed: it leads to where nobody has asked whether it may.
            if response.status() != 200 {
                return Err("the certificate's server has none");
            }
            let ttl = kept(&response);
            Ok((ttl, body(response.into_body()).await?))
        };
        tokio::pin!(exchange);
        tokio::select! {
            biased;
            result = &mut exchange => result,
            // A server may close once it has said everything: what has arrived is still to be read.
            _ = connection => exchange.await,
        }
    }

    /// One that nobody needs to be inside this network to reach.
    async fn address(&self, host: &str, port: u16) -> Result<SocketAddr, &'static str> {
        let found = self.names.addresses(host, port).await;
        let found = found.inspect_err(|error| debug!(host, error, "A certificate's server has no address."));
        let found = found.map_err(|_| "the certificate's server has no address")?;
        let is_allowed = |address: &SocketAddr| {
            let ip = address.ip();
            stir::is_public(ip) || self.config.stir.private_networks.iter().any(|network| network.contains(ip))
        };
        found.into_iter().find(is_allowed).ok_or("the certificate's server has no public address")
    }

    /// What the first certificate of a PEM file says, if the others lead from it to an authority that is believed.
    fn certificate(&self, pem: &[u8]) -> Result<Certificate, &'static str> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).take(CERTIFICATE_CHAIN_MAX).collect();
        let chain = chain.map_err(|_| "the certificate cannot be read")?;
        let (first, others) = chain.split_first().ok_or("the certificate cannot be read")?;
        let parsed = ParsedCertificate::try_from(first).map_err(|_| "the certificate cannot be read")?;
        let now_s = self.clock.now().unix_s();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now_s));
        let algorithms = tls::provider().signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.trust().anchors, others, now, algorithms)
            .inspect_err(|error| debug!(%error, "A certificate is not believed."))
            .map_err(|_| "no authority that is believed vouches for the certificate")?;
        certificate::signing(first).ok_or("the certificate is for no numbers, or its key not one of P-256")
    }
}

/// By `max-age` of Cache-Control (RFC 9111 section 5.2.2.1), within limits.
fn kept(response: &Response<Incoming>) -> Duration {
    let values = response.headers().get_all(CACHE_CONTROL).into_iter().filter_map(|value| value.to_str().ok());
    let mut directives = values.flat_map(|value| value.split(',')).filter_map(|part| part.trim().split_once('='));
    let age = directives.find(|(name, _)| name.eq_ignore_ascii_case("max-age")).and_then(|(_, s)| s.parse().ok());
    age.map_or(KEPT, Duration::from_secs).clamp(KEPT_MIN, KEPT_MAX)
}

async fn body(mut body: Incoming) -> Result<Vec<u8>, &'static str> {
    let mut bytes = Vec::new();
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|_| "the certificate did not arrive")?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > CERTIFICATE_REPLY_BYTES_MAX {
            return Err("the certificate is too large");
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// What this server signs with; `None`: nothing. The error names the file.
pub fn signer(config: &Config) -> Result<Option<Signer>, String> {
    let Some((_, key, url)) = config.stir.signs_with() else { return Ok(None) };
    let private = tls::read_key(key)?;
    let signer = Signer::new(private.secret_der(), url.to_owned());
    signer.map(Some).ok_or_else(|| format!("{} is no key of the curve P-256", key.display()))
}

/// The same for a running server, which exchanges no key for one that nobody would believe.
fn fresh_signer(now: Instant, config: &Config) -> Result<Option<Signer>, String> {
    if let Some((certificate, key, _)) = config.stir.signs_with() {
        let certified = tls::read_certified_key(certificate, key)?;
        certificate::refuse_ended(now, certificate, certified.cert.first())?;
    }
    signer(config)
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CustomExtension, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256};

    use super::*;
    use crate::config;

    /// TNAuthList of one provider.
    const PROVIDER: [u8; 10] = [0x30, 8, 0xA0, 6, 0x16, 4, b'7', b'0', b'9', b'J'];

    fn authority(name: &str) -> (String, Issuer<'static, KeyPair>) {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().pem(), Issuer::new(params, key))
    }

    fn leaf(issuer: &Issuer<'_, KeyPair>, key: &KeyPair, numbers: Option<&[u8]>) -> String {
        let mut params = CertificateParams::new([]).unwrap();
        let list = numbers.map(|der| CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 26], der.to_vec()));
        params.custom_extensions.extend(list);
        params.signed_by(key, issuer).unwrap().pem()
    }

    fn certificates(folder: &std::path::Path, anchor: &str) -> Certificates {
        let file = folder.join("anchors.pem");
        crate::shell::files::write(&file, anchor.as_bytes()).unwrap();
        let text = format!(
            "[company]\nname = \"x\"\nregion = \"US\"\n[stir]\nanchors = \"{}\"\nprivate_networks = [\"127.0.0.2\"]\n",
            file.display()
        );
        loaded(&text, mpsc::channel(1).0)
    }

    fn loaded(text: &str, to_core: mpsc::Sender<ToCore>) -> Certificates {
        let config = Arc::new(config::parse(text).unwrap_or_else(|p| panic!("{p:?}")).0);
        Certificates::load(&config, Clock::start(), to_core, Names::new(&[])).unwrap()
    }

    #[test]
    fn a_certificate_is_believed_where_an_authority_vouches_for_it_and_it_names_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let (ca, issuer) = authority("believed");
        let (_, stranger) = authority("stranger");
        let certificates = certificates(folder.path(), &ca);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let good = certificates.certificate(leaf(&issuer, &key, Some(&PROVIDER)).as_bytes()).unwrap();
        assert_eq!(good.key[..], *key.public_key_raw());
        assert!(good.authority.covers("12025550100") && good.ends_at_s > 0);
        let other = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let untrusted = "no authority that is believed vouches for the certificate";
        let useless = "the certificate is for no numbers, or its key not one of P-256";
        for (pem, reason) in [
            (leaf(&stranger, &key, Some(&PROVIDER)), untrusted),
            (leaf(&issuer, &key, None), useless),
            (leaf(&issuer, &key, Some(&[0x30, 0])), useless),
            (leaf(&issuer, &other, Some(&PROVIDER)), useless),
            (String::new(), "the certificate cannot be read"),
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(),
                "the certificate cannot be read",
            ),
        ] {
            assert_eq!(certificates.certificate(pem.as_bytes()).unwrap_err(), reason);
        }
    }

    /// What the core has been told, each in a word.
    fn told(mail: &mut mpsc::Receiver<ToCore>) -> Vec<&'static str> {
        let word = |letter| match letter {
            ToCore::Input(Input::AnchorsChanged) => "anchors",
            ToCore::Input(Input::Signer(_)) => "signer",
            other => panic!("{other:?}"),
        };
        std::iter::from_fn(|| mail.try_recv().ok().map(word)).collect()
    }

    #[tokio::test]
    async fn a_reload_takes_what_can_be_used_and_names_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        let write = |name: &str, text: &str| crate::shell::files::write(&file(name), text.as_bytes()).unwrap();
        let p256 = || KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let ((old, old_issuer), (new, new_issuer)) = (authority("old"), authority("new"));
        let sign = |key: &KeyPair| {
            write("own.pem", &leaf(&old_issuer, key, Some(&PROVIDER)));
            write("own.key", &key.serialize_pem());
        };
        write("anchors.pem", &old);
        sign(&p256());
        let [anchors, own, key] = ["anchors.pem", "own.pem", "own.key"].map(|name| file(name).display().to_string());
        let text = format!(
            "[company]\nname = \"x\"\nregion = \"US\"\n[stir]\nanchors = {anchors:?}\ncertificate = {own:?}\n\
             key = {key:?}\ncertificate_url = \"https://c.example/c\"\n"
        );
        let (to_core, mut mail) = mpsc::channel(8);
        let certificates = loaded(&text, to_core);
        let is_believed = |issuer: &Issuer<'static, KeyPair>| {
            certificates.certificate(leaf(issuer, &p256(), Some(&PROVIDER)).as_bytes()).is_ok()
        };
        assert_eq!([is_believed(&old_issuer), is_believed(&new_issuer)], [true, false]);

        certificates.reload().await.unwrap();
        assert_eq!(told(&mut mail), ["signer"], "the same authorities make no difference");
        write("anchors.pem", &new);
        sign(&p256());
        certificates.reload().await.unwrap();
        assert_eq!(told(&mut mail), ["anchors", "signer"]);
        assert_eq!([is_believed(&old_issuer), is_believed(&new_issuer)], [false, true]);

        write("anchors.pem", "nonsense");
        sign(&p256());
        let failure = certificates.reload().await.unwrap_err().to_string();
        assert!(failure.contains("anchors.pem") && !failure.contains("own"), "{failure}");
        assert_eq!(told(&mut mail), ["signer"]);
        assert!(is_believed(&new_issuer), "the old ones stay");

        write("anchors.pem", &new);
        let other_curve = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let ended = || {
            let (key, mut params) = (p256(), CertificateParams::new([]).unwrap());
            params.not_after = rcgen::date_time_ymd(2001, 1, 1);
            write("own.pem", &params.signed_by(&key, &old_issuer).unwrap().pem());
            write("own.key", &key.serialize_pem());
        };
        let spoilers: [(&dyn Fn(), &str); 4] = [
            (&|| write("own.key", &p256().serialize_pem()), "own.key does not belong to"),
            (&|| sign(&other_curve), "own.key is no key of the curve P-256"),
            (&ended, "own.pem ended on 2001-01-01"),
            (&|| std::fs::remove_file(file("own.key")).unwrap(), "own.key"),
        ];
        for (spoil, expected) in spoilers {
            spoil();
            let failure = certificates.reload().await.unwrap_err().to_string();
            assert!(failure.contains(expected), "{failure}");
            assert_eq!(told(&mut mail), [""; 0]);
        }
    }

    #[tokio::test]
    async fn only_public_addresses_and_those_that_the_operator_names_are_reached() {
        let folder = tempfile::tempdir().unwrap();
        let certificates = certificates(folder.path(), &authority("x").0);
        let refused = Err("the certificate's server has no public address");
        for private in ["127.0.0.1", "localhost", "10.0.0.1", "169.254.169.254"] {
            assert_eq!(certificates.address(private, 443).await, refused, "{private}");
        }
        assert_eq!(certificates.address("127.0.0.2", 443).await, Ok("127.0.0.2:443".parse().unwrap()));
        assert_eq!(certificates.address("1.1.1.1", 8443).await, Ok("1.1.1.1:8443".parse().unwrap()));
    }
}
