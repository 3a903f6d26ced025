//! The configuration of this process: the file's text through [`config::parse`], then what only this machine can tell:
//! whether the files it names can be read and its addresses exist.

use std::{
    collections::HashMap,
    fmt::Write as _,
    fs,
    net::{IpAddr, UdpSocket},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    config::{self, Config, Problem, Severity, Trunk},
    types::{Secret, Transport},
};

use super::{failure::Failure, tls, toml_text};

/// Port pairs that one call takes.
const PAIRS_PER_CALL: usize = 2;

/// A configuration that can be run on this machine.
#[derive(Debug)]
pub struct Settings {
    pub config: Arc<Config>,
    /// By trunk name.
    pub trunk_passwords: HashMap<String, Secret<String>>,
    /// Media workers, resolved.
    pub workers: u16,
    pub warnings: Vec<Problem>,
}

impl Settings {
    /// Reads and checks everything; the failure lists every problem as `file:line: key: message. remedy`.
    pub fn load(path: &Path) -> Result<Self, Failure> {
        let text = fs::read_to_string(path).map_err(|e| {
            Failure::Usage(format!("{}: {e}. `ringdown init` writes a configuration file.", path.display()))
        })?;
        Self::from_text(&text).map_err(|problems| Failure::Usage(report(path, &problems)))
    }

    /// `Err` holds every problem, warnings included.
    pub fn from_text(text: &str) -> Result<Self, Vec<Problem>> {
        let (config, mut problems) = config::parse(text)?;
        let workers = workers(&config);
        let mut trunk_passwords = HashMap::new();
        check_tls(&config, &mut problems);
        check_addresses(&config, &mut problems);
        check_ports(&config, workers, &mut problems);
        for trunk in &config.trunks {
            if let Some(password) = read_password(trunk, &mut problems) {
                trunk_passwords.insert(trunk.name.clone(), password);
            }
        }
        for problem in problems.iter_mut().filter(|p| p.line == 0) {
            problem.line = toml_text::line_of(text, &problem.key).map_or(0, |index| index + 1);
        }
        if problems.iter().any(|p| p.severity == Severity::Error) {
            return Err(problems);
        }
        Ok(Self { config: Arc::new(config), trunk_passwords, workers, warnings: problems })
    }
}

/// One line per problem, errors and warnings in the order of the file.
pub fn report(path: &Path, problems: &[Problem]) -> String {
    let mut sorted: Vec<_> = problems.iter().collect();
    sorted.sort_by_key(|p| p.line);
    let mut out = String::new();
    for Problem { severity, line, key, message, remedy } in sorted {
        let word = match severity {
            Severity::Error => "",
            Severity::Warning => "warning: ",
        };
        let (message, remedy) = (message.trim_end_matches('.'), remedy.trim_end_matches('.'));
        writeln!(out, "{}:{line}: {word}{key}: {message}. {remedy}.", path.display()).expect("strings take everything");
    }
    out.truncate(out.trim_end().len());
    out
}

fn workers(config: &Config) -> u16 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    match config.media.workers {
        0 => u16::try_from(cores).unwrap_or(u16::MAX),
        workers => workers,
    }
}

fn check_tls(config: &Config, problems: &mut Vec<Problem>) {
    if let (Some(certificate), Some(key)) = (&config.tls.certificate, &config.tls.key)
        && let Err(message) = tls::read_certified_key(certificate, key)
    {
        problems.push(error(
            "tls.certificate",
            message,
            "Name a readable certificate and its key, or remove both keys",
        ));
    }
}

fn check_addresses(config: &Config, problems: &mut Vec<Problem>) {
    let sip = [(Transport::Udp, &config.sip.udp), (Transport::Tcp, &config.sip.tcp), (Transport::Tls, &config.sip.tls)];
    let sip = sip.into_iter().flat_map(|(t, list)| list.iter().map(move |a| (format!("sip.{t}"), a.ip())));
    let media = config.media.addresses.iter().map(|&ip| ("media.addresses".to_owned(), ip));
    let admin = config.admin.listen.iter().map(|a| ("admin.listen".to_owned(), a.ip()));
    for (key, ip) in sip.chain(media).chain(admin) {
        if let Err(cause) = UdpSocket::bind((ip, 0)) {
            let remedy = if is_local_scope(ip) { "Enable it" } else { "Use an address of this machine (`ip address`)" };
            problems.push(error(&key, format!("{ip} cannot be bound: {cause}"), remedy));
        }
    }
}

/// Loopback and wildcard addresses of a family fail only where the family is switched off.
const fn is_local_scope(ip: IpAddr) -> bool {
    ip.is_loopback() || ip.is_unspecified()
}

fn check_ports(config: &Config, workers: u16, problems: &mut Vec<Problem>) {
    let pairs = config.media.ports.len() / 2;
    let needed = usize::from(workers) * PAIRS_PER_CALL;
    if pairs < needed {
        let message = format!("{pairs} port pairs for {workers} workers carry no call");
        problems.push(error("media.ports", message, &format!("Give at least {} ports", needed * 2)));
    }
}

fn read_password(trunk: &Trunk, problems: &mut Vec<Problem>) -> Option<Secret<String>> {
    let path = trunk.password_file.as_ref()?;
    let key = format!("trunk.{}.password_file", trunk.name);
    let content = match fs::read_to_string(path) {
        Ok(content) => Secret::new(content),
        Err(cause) => {
            problems.push(error(&key, format!("{}: {cause}", path.display()), "Name a file that ringdown may read"));
            return None;
        }
    };
    let password = Secret::new(content.expose().trim_end_matches(['\r', '\n']).to_owned());
    if password.expose().is_empty() {
        problems.push(error(&key, format!("{} is empty", path.display()), "Put the password on its first line"));
        return None;
    }
    warn_if_exposed(&key, path, problems);
    Some(password)
}

fn warn_if_exposed(key: &str, path: &PathBuf, problems: &mut Vec<Problem>) {
    if fs::metadata(path).is_ok_and(|m| m.permissions().mode() & 0o007 != 0) {
        problems.push(Problem {
            severity: Severity::Warning,
            line: 0,
            key: key.to_owned(),
            message: format!("{} can be read by every user of this machine", path.display()),
            remedy: format!("Run `chmod 600 {}`", path.display()),
        });
    }
}

fn error(key: &str, message: String, remedy: &str) -> Problem {
    Problem { severity: Severity::Error, line: 0, key: key.to_owned(), message, remedy: remedy.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_one_line_per_problem_in_file_order() {
        let mut problems = vec![error("sip.udp", "192.0.2.1 cannot be bound.".to_owned(), "Use another")];
        problems[0].line = 7;
        problems.push(Problem { severity: Severity::Warning, line: 3, ..error("a.b", "odd".to_owned(), "Mend it.") });
        assert_eq!(
            report(Path::new("x.toml"), &problems),
            "x.toml:3: warning: a.b: odd. Mend it.\nx.toml:7: sip.udp: 192.0.2.1 cannot be bound. Use another."
        );
    }
}
