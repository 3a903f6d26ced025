//! `ringdown init`: a configuration file for this machine, with all the explanations of the shipped example.

use std::{
    io::{BufRead as _, IsTerminal as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
};

use clap::Args;

use crate::shell::{
    failure::Failure,
    files,
    settings::{self, Settings},
    toml_text::{quoted, set},
};

const EXAMPLE: &str = include_str!("../../../config/ringdown.toml");
/// An address of RFC 5737: the way to it is the way to the internet, and nothing is ever sent there.
const ELSEWHERE: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 1), 9);
const COMPANY_KEY_HINT: &str = "ISO 3166-1, two letters, such as US or DE";

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Host part of every user's address: a DNS name or an address. Default: the listening address.
    #[arg(long)]
    domain: Option<String>,
    /// Address to listen on. Default: this machine's address in its network.
    #[arg(long)]
    address: Option<IpAddr>,
    /// Country of the company (ISO 3166-1 alpha-2), which decides the emergency numbers.
    #[arg(long, value_name = "XX")]
    region: Option<String>,
    /// Name of the company.
    #[arg(long)]
    company: Option<String>,
    /// Folder for the database and the certificates.
    #[arg(long, value_name = "FOLDER")]
    state_dir: Option<PathBuf>,
    /// Replace an existing file.
    #[arg(long)]
    force: bool,
}

/// What goes into the file.
#[derive(Debug, PartialEq, Eq)]
struct Answers {
    domain: String,
    address: IpAddr,
    region: String,
    company: String,
    state_dir: Option<PathBuf>,
}

pub(super) fn run(config_file: &Path, options: &Options) -> Result<(), Failure> {
    if config_file.exists() && !options.force {
        return Err(Failure::Usage(format!("{} exists. --force replaces it.", config_file.display())));
    }
    let text = fill(&ask(options)?);
    Settings::from_text(&text).map_err(|problems| Failure::Usage(settings::report(config_file, &problems)))?;
    write(config_file, &text)?;
    super::print(&format!("{} was written. Next: ringdown run\n", config_file.display()));
    Ok(())
}

/// Flags first; then, on a terminal, questions; then what was detected.
fn ask(options: &Options) -> Result<Answers, Failure> {
    let address = match options.address {
        Some(address) => address,
        None => parsed("address to listen on", detect_address().to_string(), "an IPv4 or IPv6 address")?,
    };
    let own = options.domain.clone().map_or_else(|| question("domain of your users", bracketed(address)), Ok)?;
    let region = match &options.region {
        Some(region) => region.clone(),
        None => needed("country of the company", "--region", COMPANY_KEY_HINT)?,
    };
    let company = match &options.company {
        Some(company) => company.clone(),
        None => needed("name of the company", "--company", "any name")?,
    };
    Ok(Answers {
        domain: own,
        address,
        region: region.to_ascii_uppercase(),
        company,
        state_dir: options.state_dir.clone(),
    })
}

fn parsed<T: std::str::FromStr>(what: &str, default: String, hint: &str) -> Result<T, Failure> {
    let answer = question(what, default)?;
    answer.parse().map_err(|_| Failure::Usage(format!("`{answer}` is no {what}: {hint} is needed.")))
}

/// An answer without which there is no sensible configuration.
fn needed(what: &str, flag: &str, hint: &str) -> Result<String, Failure> {
    let answer = question(what, String::new())?;
    if answer.is_empty() { Err(Failure::Usage(format!("{flag} is needed: {what} ({hint})."))) } else { Ok(answer) }
}

/// Asks on a terminal; takes the default elsewhere, or for an empty line.
fn question(what: &str, default: String) -> Result<String, Failure> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        return Ok(default);
    }
    super::print(&if default.is_empty() { format!("{what}: ") } else { format!("{what} [{default}]: ") });
    let mut line = String::new();
    input.lock().read_line(&mut line).map_err(|e| Failure::Usage(format!("standard input: {e}.")))?;
    let answer = line.trim();
    Ok(if answer.is_empty() { default } else { answer.to_owned() })
}

/// The address this machine uses towards the internet, by asking the kernel for a route; loopback without one.
fn detect_address() -> IpAddr {
    let route = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect(ELSEWHERE)?;
        socket.local_addr()
    };
    route().map_or_else(|_| Ipv4Addr::LOCALHOST.into(), |address: SocketAddr| address.ip())
}

/// As the host of a SIP URI (RFC 3261 section 25.1: IPv6reference).
fn bracketed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}

/// The shipped example with these answers in it.
fn fill(answers: &Answers) -> String {
    let host = bracketed(answers.address);
    let listen = |port: u16| format!("[{}]", quoted(&format!("{host}:{port}")));
    let mut values = vec![
        ("server.domain", quoted(&answers.domain)),
        ("sip.udp", listen(5060)),
        ("sip.tcp", listen(5060)),
        ("sip.tls", listen(5061)),
        ("media.addresses", format!("[{}]", quoted(&answers.address.to_string()))),
        ("company.name", quoted(&answers.company)),
        ("company.region", quoted(&answers.region)),
        ("privacy.sandbox", quoted("required")),
    ];
    if let Some(folder) = &answers.state_dir {
        values.push(("server.state_dir", quoted(&folder.to_string_lossy())));
    }
    values.iter().fold(EXAMPLE.to_owned(), |text, (key, value)| set(&text, key, value))
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let written = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .map_or(Ok(()), files::create_folder)
        .and_then(|()| files::write(path, text.as_bytes()));
    written.map_err(|e| Failure::Usage(format!("{}: {e}. Name a place that you may write to.", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(address: &str) -> Answers {
        Answers {
            domain: "example.test".to_owned(),
            address: address.parse().unwrap(),
            region: "DE".to_owned(),
            company: "Beispiel \"GmbH\" & Co".to_owned(),
            state_dir: Some("/var/lib/ringdown".into()),
        }
    }

    #[test]
    fn a_filled_example_means_what_was_answered_and_keeps_every_comment() {
        let text = fill(&answers("127.0.0.1"));
        let (config, _) = crate::config::parse(&text).unwrap();
        assert_eq!(config.server.domain, "example.test");
        assert_eq!(config.server.state_dir, Path::new("/var/lib/ringdown"));
        assert_eq!(config.sip.tls, ["127.0.0.1:5061".parse().unwrap()]);
        assert_eq!(config.media.addresses, ["127.0.0.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(config.privacy.sandbox, crate::config::SandboxMode::Required);
        let company = config.company;
        assert_eq!((company.name.as_str(), company.region.as_str()), ("Beispiel \"GmbH\" & Co", "DE"));
        assert_eq!(text.lines().count(), EXAMPLE.lines().count());
    }

    #[test]
    fn ipv6_is_written_as_each_key_wants_it() {
        let (config, _) = crate::config::parse(&fill(&answers("::1"))).unwrap();
        assert_eq!(config.sip.udp, ["[::1]:5060".parse().unwrap()]);
        assert_eq!(config.media.addresses, ["::1".parse::<IpAddr>().unwrap()]);
        assert_eq!(bracketed("::1".parse().unwrap()), "[::1]");
    }
}
