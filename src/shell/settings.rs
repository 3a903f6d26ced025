//! The configuration of this process: the file's text through [`config::parse`], then what only this machine can tell:
//! whether the files it names can be read and its addresses exist.

use std::{
    collections::HashMap, fs, io::ErrorKind, net::UdpSocket, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc,
};

use crate::{
    config::{self, Config, Problem, Severity, Stir, Trunk},
    types::{Duration, Secret, Transport},
};

use super::{
    calendar,
    clock::Clock,
    failure::Failure,
    sandbox, stir,
    tls::{
        self,
        certificate::{Validity, signing, validity_of},
    },
    toml_text,
};

/// Port pairs that one call takes.
const PAIRS_PER_CALL: usize = 2;

/// A certificate that ends sooner is worth a warning, unless it is one of those that never last so long: then it is when two
/// thirds of its time are over, by when whatever renews it should have done so.
const CERTIFICATE_LEFT: Duration = Duration::from_secs(30 * 86_400);

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
            let hint = match e.kind() {
                ErrorKind::NotFound => " `ringdown init` writes a configuration file.",
                _ => "",
            };
            Failure::Usage(format!("{}: {e}.{hint}", path.display()))
        })?;
        Self::from_text(&text).map_err(|problems| Failure::Usage(report(path, &problems)))
    }

    /// `Err` holds every problem, warnings included.
    pub fn from_text(text: &str) -> Result<Self, Vec<Problem>> {
        let mut trunk_passwords = HashMap::new();
        let further = |config: &Config| {
            let mut problems = Vec::new();
            check_tls(config, &mut problems);
            check_trunk_tls(config, &mut problems);
            check_stir(config, &mut problems);
            check_addresses(config, &mut problems);
            check_ports(config, &mut problems);
            for trunk in &config.trunks {
                let password = read_password(trunk, &mut problems);
                trunk_passwords.extend(password.map(|password| (trunk.name.clone(), password)));
            }
            for problem in &mut problems {
                problem.line = toml_text::line_of(text, &problem.key).map_or(0, |index| index + 1);
            }
            problems
        };
        let (config, warnings) = config::parse_with(text, further)?;
        let workers = workers(&config);
        Ok(Self { config: Arc::new(config), trunk_passwords, workers, warnings })
    }
}

/// One line per problem, `file:line: key: message. Accepted: remedy.`, in the order of the file.
pub fn report(path: &Path, problems: &[Problem]) -> String {
    let mut sorted: Vec<_> = problems.iter().collect();
    sorted.sort_by_key(|p| p.line);
    let line = |p: &Problem| match p.line {
        0 => format!("{}: {}", path.display(), sentence(p)),
        line => format!("{}:{line}: {}", path.display(), sentence(p)),
    };
    sorted.into_iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A problem without its place.
pub fn sentence(problem: &Problem) -> String {
    let Problem { severity, key, message, remedy, .. } = problem;
    let word = match severity {
        Severity::Error => "",
        Severity::Warning => "warning: ",
    };
    let separator = if key.is_empty() { "" } else { ": " };
    format!("{word}{key}{separator}{message}. Accepted: {remedy}.")
}

/// The errors among the problems that a set of users causes, as a failure.
pub fn refuse_errors(problems: &[Problem]) -> Result<(), Failure> {
    let line = |p: &Problem| match p.line {
        0 => sentence(p),
        line => format!("line {line} of the configuration: {}", sentence(p)),
    };
    let errors: Vec<_> = problems.iter().filter(|p| p.severity == Severity::Error).map(line).collect();
    if errors.is_empty() { Ok(()) } else { Err(Failure::Usage(errors.join("\n"))) }
}

fn workers(config: &Config) -> u16 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    match config.media.workers {
        0 => u16::try_from(cores).unwrap_or(u16::MAX),
        workers => workers,
    }
}

fn check_tls(config: &Config, problems: &mut Vec<Problem>) {
    check_ca("tls.client_ca", config.tls.client_ca.as_deref(), problems);
    if let (Some(certificate), Some(key)) = (&config.tls.certificate, &config.tls.key) {
        check_own_certificate("tls", certificate, key, problems);
    }
}

fn check_trunk_tls(config: &Config, problems: &mut Vec<Problem>) {
    for trunk in &config.trunks {
        let table = format!("trunk.{}", trunk.name);
        check_ca(&format!("{table}.ca"), trunk.ca.as_deref(), problems);
        if let (Some(certificate), Some(key)) = (&trunk.certificate, &trunk.key) {
            check_own_certificate(&table, certificate, key, problems);
        }
    }
}

fn check_stir(config: &Config, problems: &mut Vec<Problem>) {
    let Stir { anchors, ca, certificate, key, .. } = &config.stir;
    check_ca("stir.anchors", anchors.as_deref(), problems);
    check_ca("stir.ca", ca.as_deref(), problems);
    let (Some(certificate), Some(key)) = (certificate, key) else { return };
    check_own_certificate("stir", certificate, key, problems);
    if let (Ok(_), Err(message)) = (tls::read_key(key), stir::signer(config)) {
        problems.push(error("stir.key", message, "a private key of the curve P-256, as signatures of numbers have it"));
    }
    let numbers = tls::read_chain(certificate).ok().and_then(|chain| signing(chain.first()?));
    if tls::read_chain(certificate).is_ok() && numbers.is_none() {
        problems.push(Problem {
            severity: Severity::Warning,
            message: format!("{} names no numbers (TNAuthList): nobody will believe it", certificate.display()),
            ..error("stir.certificate", String::new(), "the certificate of an authority for telephone numbers")
        });
    }
}

fn check_ca(key: &str, file: Option<&Path>, problems: &mut Vec<Problem>) {
    if let Some(Err(message)) = file.map(tls::read_roots) {
        problems.push(error(key, message, "PEM certificates of CAs that ringdown may read"));
    }
    problems.extend(file.and_then(|file| not_replaceable(key, file)));
}

/// A file that the sandbox allows without its folder, because of what else lies there.
fn not_replaceable(key: &str, file: &Path) -> Option<Problem> {
    let message =
        format!("{} lies in a folder with much else, so a file that takes its place is not read", file.display());
    let remedy = "a folder for the server's certificates alone, or a restart after each renewal";
    (!sandbox::is_replaceable(file)).then(|| Problem { severity: Severity::Warning, ..error(key, message, remedy) })
}

/// A pair of files that this server proves itself with, named by the keys `certificate` and `key` of a table.
fn check_own_certificate(table: &str, certificate: &Path, key: &Path, problems: &mut Vec<Problem>) {
    let [certificate_key, key_key] = ["certificate", "key"].map(|name| format!("{table}.{name}"));
    problems.extend(not_replaceable(&certificate_key, certificate));
    let chain = tls::read_chain(certificate);
    let private = tls::read_key(key);
    match &chain {
        Err(message) => {
            problems.push(error(&certificate_key, message.clone(), "a PEM certificate chain that ringdown may read"));
        }
        Ok(chain) => warn_of_end(&certificate_key, certificate, chain.first().and_then(validity_of), problems),
    }
    match &private {
        Err(message) => {
            let remedy = "a PEM private key without a passphrase that ringdown may read";
            problems.push(error(&key_key, message.clone(), remedy));
        }
        Ok(_) => problems.extend(exposed(&key_key, key).map(|p| Problem { severity: Severity::Warning, ..p })),
    }
    if chain.is_ok()
        && private.is_ok()
        && let Err(message) = tls::read_certified_key(certificate, key)
    {
        problems.push(error(&key_key, message, "the key that the certificate was made for"));
    }
}

fn warn_of_end(key: &str, certificate: &Path, validity: Option<Validity>, problems: &mut Vec<Problem>) {
    let now = Clock::start().now();
    let is_short = |validity: &Validity| validity.end <= now + CERTIFICATE_LEFT.min(validity.length() / 3);
    let Some(Validity { end, .. }) = validity.filter(is_short) else { return };
    let word = if end <= now { "has ended" } else { "ends" };
    problems.push(Problem {
        severity: Severity::Warning,
        message: format!("{} {word} on {}", certificate.display(), calendar::rfc3339(end.unix_ms())),
        ..error(key, String::new(), "a renewed certificate; a running server takes it into use by itself")
    });
}

fn check_addresses(config: &Config, problems: &mut Vec<Problem>) {
    let sip = [(Transport::Udp, &config.sip.udp), (Transport::Tcp, &config.sip.tcp), (Transport::Tls, &config.sip.tls)];
    let sip = sip.into_iter().flat_map(|(t, list)| list.iter().map(move |a| (format!("sip.{t}"), a.ip())));
    let media = config.media.addresses.iter().map(|&ip| ("media.addresses".to_owned(), ip));
    let admin = config.admin.listen.iter().map(|a| ("admin.listen".to_owned(), a.ip()));
    for (key, ip) in sip.chain(media).chain(admin) {
        if let Err(cause) = UdpSocket::bind((ip, 0)) {
            let remedy = "an address of this machine, as `ip address` shows them";
            problems.push(error(&key, format!("{ip} cannot be bound: {cause}"), remedy));
        }
    }
}

fn check_ports(config: &Config, problems: &mut Vec<Problem>) {
    let workers = workers(config);
    let pairs = config.media.ports.len() / 2;
    let needed = usize::from(workers) * PAIRS_PER_CALL;
    if pairs < needed {
        let message = format!("{pairs} port pairs for {workers} workers carry no call");
        problems.push(error("media.ports", message, &format!("at least {} ports, or fewer workers", needed * 2)));
    }
}

fn read_password(trunk: &Trunk, problems: &mut Vec<Problem>) -> Option<Secret<String>> {
    let path = trunk.password_file.as_ref()?;
    let key = format!("trunk.{}.password_file", trunk.name);
    let content = match fs::read_to_string(path) {
        Ok(content) => Secret::new(content),
        Err(cause) => {
            problems.push(error(&key, format!("{}: {cause}", path.display()), "a file that ringdown may read"));
            return None;
        }
    };
    let password = Secret::new(content.expose().trim_end_matches(['\r', '\n']).to_owned());
    if password.expose().is_empty() {
        problems.push(error(&key, format!("{} is empty", path.display()), "a file that holds the password"));
        return None;
    }
    if let Some(problem) = exposed(&key, path) {
        problems.push(problem);
        return None;
    }
    Some(password)
}

/// A secret that every user of this machine may read.
fn exposed(key: &str, path: &Path) -> Option<Problem> {
    let is_exposed = fs::metadata(path).is_ok_and(|m| m.permissions().mode() & 0o007 != 0);
    is_exposed.then(|| {
        let message = format!("{} can be read by every user of this machine", path.display());
        error(key, message, &format!("a file of its owner alone (`chmod 600 {}`)", path.display()))
    })
}

fn error(key: &str, message: String, remedy: &str) -> Problem {
    Problem { severity: Severity::Error, line: 0, key: key.to_owned(), message, remedy: remedy.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Instant;

    #[test]
    fn a_report_has_one_line_per_problem_in_file_order() {
        let mut problems = vec![error("sip.udp", "192.0.2.1 cannot be bound".to_owned(), "another")];
        problems[0].line = 7;
        problems.push(Problem { severity: Severity::Warning, line: 3, ..error("a.b", "odd".to_owned(), "even") });
        problems.push(error("", "no table".to_owned(), "[server]"));
        assert_eq!(
            report(Path::new("x.toml"), &problems),
            "x.toml: no table. Accepted: [server].\n\
             x.toml:3: warning: a.b: odd. Accepted: even.\n\
             x.toml:7: sip.udp: 192.0.2.1 cannot be bound. Accepted: another."
        );
    }

    #[test]
    fn what_this_machine_cannot_do_is_named_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "[server]\ndomain = \"localhost\"\n[sip]\nudp = [\"192.0.2.1:5060\"]\n[tls]\n\
             certificate = \"{0}/none.pem\"\nkey = \"{0}/none.key\"\n[media]\nports = \"20000-20003\"\nworkers = 2\n\
             [company]\nname = \"x\"\nregion = \"US\"\n[log]\nlevel = \"loud\"\n",
            folder.path().display()
        );
        let problems = Settings::from_text(&text).unwrap_err();
        assert!(problems.iter().any(|p| p.key == "log.level"), "beside what the text alone tells");
        for (line, key) in [(4, "sip.udp"), (6, "tls.certificate"), (7, "tls.key"), (9, "media.ports")] {
            assert!(problems.iter().any(|p| p.line == line && p.key == key), "{key} in {problems:#?}");
        }
    }

    #[test]
    fn a_private_key_that_everybody_can_read_is_worth_a_warning() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display();
        let text = format!("[server]\nstate_dir = \"{path}\"\n[company]\nname = \"x\"\nregion = \"US\"\n");
        tls::Tls::load(Instant::from_unix_ms(0), &config::parse(&text).unwrap().0).unwrap();
        let text = text + &format!("[tls]\ncertificate = \"{path}/tls/server.pem\"\nkey = \"{path}/tls/server.key\"\n");
        let warnings = |text: &str| Settings::from_text(text).unwrap().warnings;
        assert!(!warnings(&text).iter().any(|p| p.key == "tls.key"));
        fs::set_permissions(folder.path().join("tls/server.key"), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(warnings(&text).iter().any(|p| p.key == "tls.key" && p.line == 8), "{:#?}", warnings(&text));
    }

    #[test]
    fn files_that_peers_are_judged_by_are_named_with_their_line() {
        let text = "[company]\nname = \"x\"\nregion = \"US\"\n[trunk.a]\nhost = \"127.0.0.1\"\npstn = false\n\
                    ca = \"/nowhere/ca.pem\"\ncertificate = \"/nowhere/c.pem\"\nkey = \"/nowhere/k.pem\"\n\
                    [tls]\nclient_ca = \"/nowhere/clients.pem\"\n";
        let problems = Settings::from_text(text).unwrap_err();
        for (line, key) in [(7, "trunk.a.ca"), (8, "trunk.a.certificate"), (9, "trunk.a.key"), (11, "tls.client_ca")] {
            let named = problems.iter().find(|p| p.key == key).unwrap_or_else(|| panic!("{key} in {problems:#?}"));
            assert!(named.line == line && named.message.contains("/nowhere/"), "{named:?}");
        }
    }

    #[test]
    fn an_own_certificate_is_warned_of_thirty_days_before_its_end_or_in_its_last_third() {
        let (now, day) = (Clock::start().now(), Duration::from_secs(86_400));
        let mut problems = Vec::new();
        for (length_days, left) in [
            (365, day * 30 + Duration::from_secs(60)),
            (365, day * 30),
            (365, Duration::ZERO),
            (6, day * 2 + Duration::from_secs(60)),
            (6, day * 2),
        ] {
            let end = now + left;
            let validity = Validity { begin: Instant::from_unix_ms(end.unix_ms() - length_days * 86_400_000), end };
            warn_of_end("tls.certificate", Path::new("c.pem"), Some(validity), &mut problems);
        }
        let messages: Vec<_> = problems.iter().map(|p| p.message.split(" on ").next().unwrap()).collect();
        assert_eq!(messages, ["c.pem ends", "c.pem has ended", "c.pem ends"]);
    }

    #[test]
    fn a_password_is_the_files_text_without_its_line_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        let text = format!(
            "[company]\nname = \"x\"\nregion = \"US\"\n[trunk.a]\nhost = \"127.0.0.1\"\npstn = false\nuser = \"u\"\n\
             password_file = \"{}\"\n",
            path.display()
        );
        crate::shell::files::write(&path, b"pass word \n").unwrap();
        let settings = Settings::from_text(&text).unwrap();
        assert_eq!(settings.trunk_passwords["a"].expose(), "pass word ");

        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let problems = Settings::from_text(&text).unwrap_err();
        let is_named = |p: &Problem| p.line == 8 && p.message.contains("every user") && p.remedy.contains("chmod 600");
        assert!(problems.iter().any(is_named), "{problems:#?}");

        crate::shell::files::write(&path, b"\n").unwrap();
        let problems = Settings::from_text(&text).unwrap_err();
        assert!(problems.iter().any(|p| p.line == 8 && p.message.contains("is empty")), "{problems:#?}");
    }
}
