//! What the server that is looked into takes over from a configuration of the operator's.

use std::path::Path;

use crate::config::{Config, Encryption, LogFormat, MediaBackend, SandboxMode};

/// Each thread needs ports of its own, all in a row.
const WORKERS_MAX: u16 = 4;

/// Settings that change what could be kept, or how it is kept from being.
pub(super) struct Taken {
    sandbox: SandboxMode,
    encryption: Encryption,
    pub(super) workers: u16,
    spin_us: u16,
    format: LogFormat,
}

impl Taken {
    /// Where there is no configuration.
    pub(super) const fn usual() -> Self {
        Self {
            sandbox: SandboxMode::BestEffort,
            encryption: Encryption::Required,
            workers: 1,
            spin_us: 0,
            format: LogFormat::Text,
        }
    }

    /// `workers`: how many the configuration means on this machine.
    pub(super) fn of(config: &Config, workers: u16) -> Self {
        Self {
            sandbox: config.privacy.sandbox,
            encryption: config.media.encryption,
            workers: workers.min(WORKERS_MAX),
            spin_us: config.media.spin_us,
            format: config.log.format,
        }
    }

    /// Key and value in TOML, by table.
    pub(super) fn keys(&self) -> [(&'static str, String); 3] {
        let sandbox = match self.sandbox {
            SandboxMode::Required => "required",
            SandboxMode::BestEffort => "best-effort",
        };
        let encryption = match self.encryption {
            Encryption::Required => "required",
            Encryption::Preferred => "preferred",
            Encryption::Off => "off",
        };
        let format = match self.format {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        };
        let Self { workers, spin_us, .. } = self;
        let media = format!("encryption = \"{encryption}\"\nworkers = {workers}\nspin_us = {spin_us}");
        [("privacy", format!("sandbox = \"{sandbox}\"")), ("media", media), ("log", format!("format = \"{format}\""))]
    }

    /// What was taken from a configuration, and what was not.
    pub(super) fn sentence(&self, file: &Path, config: &Config) -> String {
        let taken: Vec<_> = self
            .keys()
            .iter()
            .flat_map(|(table, keys)| keys.lines().map(move |key| format!("{table}.{key}")))
            .collect();
        let backend = match config.media.backend {
            MediaBackend::Epoll => "",
            MediaBackend::Xdp => "media.backend = \"xdp\", since the running server reads the card's queues; ",
        };
        format!(
            "Taken from {}: {}, and where its server may read (the claim `reach`). Not taken: {backend}log.level, which here is \
             trace and so says more than any other; addresses, ports, users and trunks, which are the running server's.",
            file.display(),
            taken.join(", "),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_reads_back_as_it_was_and_what_is_not_is_named() {
        let text = "[company]\nname = \"x\"\nregion = \"US\"\n[privacy]\nsandbox = \"required\"\n[media]\nworkers = 9\n\
                    encryption = \"preferred\"\nspin_us = 20\nbackend = \"xdp\"\nxdp_interface = \"eth0\"\n[log]\nformat = \"json\"\n";
        let (config, _) = crate::config::parse(text).unwrap();
        let taken = Taken::of(&config, 9);
        let tables: Vec<_> = taken.keys().iter().map(|(table, keys)| format!("[{table}]\n{keys}\n")).collect();
        let again = format!("[company]\nname = \"x\"\nregion = \"US\"\n{}", tables.concat());
        let (again, _) = crate::config::parse(&again).unwrap();
        assert_eq!(again.privacy, config.privacy);
        assert_eq!((again.media.encryption, again.media.spin_us), (config.media.encryption, config.media.spin_us));
        assert_eq!((again.media.workers, again.log.format), (WORKERS_MAX, config.log.format));
        let sentence = taken.sentence(Path::new("own.toml"), &config);
        for wanted in ["own.toml", "privacy.sandbox = \"required\"", "media.spin_us = 20", "Not taken: media.backend"] {
            assert!(sentence.contains(wanted), "{wanted} in {sentence}");
        }
    }
}
