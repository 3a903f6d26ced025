//! `[stir]`: whose signatures of callers' numbers are believed (RFC 8224), and what this server signs with.

use std::path::PathBuf;

use super::{
    Network,
    reader::{Fault, Section},
    value,
};
use crate::policy::stir::Place;

/// How callers' numbers are verified and signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stir {
    /// Who must vouch for certificates of signatures; `None`: no signature is verified.
    pub anchors: Option<PathBuf>,
    /// Who must vouch for the web servers that these come from; `None`: a trust anchor of the system.
    pub ca: Option<PathBuf>,
    /// The only web servers that certificates are fetched from; empty: any that has a public address.
    pub hosts: Vec<String>,
    /// Private addresses that such a server may have all the same.
    pub private_networks: Vec<Network>,
    /// Milliseconds that a call waits for a certificate.
    pub wait_ms: u16,
    /// All three or none.
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// Where others find the certificate.
    pub certificate_url: Option<String>,
}

impl Stir {
    pub fn verifies(&self) -> bool {
        self.anchors.is_some()
    }

    /// Certificate, key and the address of the certificate.
    pub fn signs_with(&self) -> Option<(&PathBuf, &PathBuf, &str)> {
        Some((self.certificate.as_ref()?, self.key.as_ref()?, self.certificate_url.as_deref()?))
    }

    /// Every file that it names.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.anchors, &self.ca, &self.certificate, &self.key].into_iter().flatten()
    }
}

const WAIT_MS_DEFAULT: u16 = 1_000;

pub(super) fn read(mut section: Section<'_>) -> Stir {
    let stir = Stir {
        anchors: section.text("anchors", value::path),
        ca: section.text("ca", value::path),
        hosts: section.texts("hosts", value::host).unwrap_or_default(),
        private_networks: section.texts("private_networks", value::network).unwrap_or_default(),
        wait_ms: section.integer("wait_ms", 0..=5_000).unwrap_or(WAIT_MS_DEFAULT),
        certificate: section.text("certificate", value::path),
        key: section.text("key", value::path),
        certificate_url: section.text("certificate_url", url),
    };
    let signing = ["certificate", "key", "certificate_url"];
    if let Some(missing) = signing.into_iter().find(|key| !section.has(key))
        && let Some(present) = signing.into_iter().find(|key| section.has(key))
    {
        let remedy = "certificate, key and certificate_url together, or none of them";
        section.error(present, format!("{missing} is missing"), remedy);
    }
    let fetching = [
        ("ca", stir.ca.is_some()),
        ("hosts", !stir.hosts.is_empty()),
        ("private_networks", !stir.private_networks.is_empty()),
    ];
    for (key, is_set) in fetching {
        if is_set && !section.has("anchors") {
            let remedy = "anchors = \"...\": the file with the authorities whose certificates are believed";
            section.error(key, "no certificate is ever fetched: anchors is missing", remedy);
        }
    }
    section.finish();
    stir
}

fn url(text: &str) -> Result<String, Fault> {
    let remedy = "an address such as \"https://certificates.example.com/shaken.pem\", on port 443 or 8443";
    Place::parse(text).map(|_| text.to_owned()).ok_or_else(|| Fault::new("is no address of a certificate", remedy))
}

#[cfg(test)]
mod tests {
    use crate::config::parse;

    /// `line key: message` of every problem of a `[stir]` table that begins on line 4.
    fn problems(keys: &str) -> Vec<String> {
        let text = format!("[company]\nname = \"x\"\nregion = \"US\"\n[stir]\n{keys}\n");
        let found = match parse(&text) {
            Ok((_, warnings)) => warnings,
            Err(problems) => problems,
        };
        found.into_iter().map(|p| format!("{} {}: {}", p.line, p.key, p.message)).collect()
    }

    #[test]
    fn signing_needs_three_keys_and_verifying_one() {
        let all = "certificate = \"c.pem\"\nkey = \"k.pem\"\ncertificate_url = \"https://c.example/c.pem\"";
        for good in ["", "anchors = \"a.pem\"", all, "anchors = \"a.pem\"\nhosts = [\"c.example\"]\nwait_ms = 0"] {
            assert_eq!(problems(good), Vec::<String>::new(), "{good}");
        }
        for (keys, expected) in [
            ("certificate = \"c.pem\"", "5 stir.certificate: key is missing"),
            ("key = \"k.pem\"\ncertificate = \"c.pem\"", "6 stir.certificate: certificate_url is missing"),
            (
                "certificate_url = \"http://c.example/c.pem\"",
                "5 stir.certificate_url: \"http://c.example/c.pem\" is no address of a certificate",
            ),
            ("hosts = [\"c.example\"]", "5 stir.hosts: no certificate is ever fetched: anchors is missing"),
            ("anchors = \"a.pem\"\nwait_ms = 5001", "6 stir.wait_ms: 5001 is out of range"),
        ] {
            assert!(problems(keys).contains(&expected.to_owned()), "{keys}: {:?}", problems(keys));
        }
    }
}
