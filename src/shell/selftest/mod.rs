//! `ringdown selftest`: a server and two phones in this process, talking over the loopback network of this machine.
//!
//! The server starts as `run` starts it, in a state folder of its own that is removed at the end, however that comes. The
//! phones are [`crate::phone`], their connections real TLS, their media real UDP. Nothing outside loopback is used.

use std::{
    fs,
    future::Future,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    phone::{Event, Media},
    types::{Rng, Transport},
    wire::srtp::Suite,
};

use self::{
    device::{Device, Registrar},
    lane::{Lanes, Spoken},
    report::{Report, Stop, figures},
};
use super::{
    clock::Clock,
    entropy,
    failure::Failure,
    files,
    run::{Facts, FirstUsers, Server},
    settings::{self, Settings},
    toml_text::quoted,
    udp_errors::UdpErrors,
};

pub(super) mod device;
mod lane;
mod report;

pub(super) const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// A name that exists nowhere (RFC 6761).
const DOMAIN: &str = "selftest.invalid";
/// One suite of each kind on the two legs, so that no packet can pass as it is.
const SUITES: [Suite; 2] = [Suite::AesCm128HmacSha1_80, Suite::AeadAes256Gcm];
/// The server's: one call takes two pairs.
const MEDIA_PORTS: u16 = 4;
const PORT_ATTEMPTS: usize = 64;
/// Where [`EMERGENCY_NUMBER`] is one.
const REGION: &str = "US";
const EMERGENCY_NUMBER: &str = "911";

/// Runs every check and hands each line to `print` as soon as it is known. `interrupted` ends the test early and cleanly.
///
/// # Errors
/// How many checks failed, or why the test could not be carried out.
pub async fn run(print: &mut (dyn FnMut(&str) + Send), interrupted: impl Future<Output = ()>) -> Result<(), Failure> {
    let mut report = Report::new(print);
    report.line("A server and two phones on loopback; this takes about 10 seconds.\n");
    let mut rng = entropy::rng();
    let folder = Folder::create("selftest", &mut rng)?;
    let ports = free_ports(MEDIA_PORTS)?;
    // A process that goes on to remove the server's folder cannot give it up: only the media threads are confined.
    let mut server =
        Server::start(settings(&folder.0, &ports)?, Vec::new(), UdpErrors::open(), FirstUsers::Make).await?;
    let facts = server.facts.clone();
    let figures = tokio::select! {
        figures = check(&facts, &mut report, &mut rng) => Some(figures),
        failure = server.failed() => return Err(failure),
        () = interrupted => None,
    };
    let ended = server.end().await.map_err(|failure| failure.to_string());
    report.check("end", ended.and_then(|()| leaves_nothing(&facts, ports, folder)));
    let Some(figures) = figures else {
        return Err(Failure::Internal("The self-test was interrupted.".to_owned()));
    };
    // What stopped the checks has been reported as one.
    if let Ok(figures) = figures {
        report.line(&figures);
    }
    report.verdict()
}

/// The checks, in the order of a call's life, and then what was measured. Stops where the next check would be pointless.
async fn check(facts: &Facts, report: &mut Report<'_>, rng: &mut Rng) -> Result<String, Stop> {
    let clock = Clock::start();
    let [mut a, mut b] = report.need("connection", connect(clock, facts, rng).await)?;
    report.pass("connection", "two over TLS; the certificate is signed by the CA that the server has made");
    report.need("registration", tokio::try_join!(a.register(), b.register()))?;
    report.pass("registration", &format!("{} and {}", a.name(), b.name()));
    report.check("emergency", emergency_is_refused(&mut a).await);

    let (set_up, media) = report.need("call", call(clock, &mut a, &mut b).await)?;
    let [suite_a, suite_b] = SUITES.map(Suite::name);
    report.pass("call", &format!("{} with {suite_a} on its leg, {} with {suite_b}", a.name(), b.name()));
    report.check("keys", all_differ(&media));
    report.check("keys", stay_on_their_leg(&media, [&a, &b]));

    let lanes = Lanes::new(clock, [&a, &b].map(Device::media_socket), &media, rng);
    let spoken = report.need("voice", speak(lanes).await)?;
    report.check("voice", spoken.from_a.all_intact(&format!("{} to {}", a.name(), b.name())));
    report.check("voice", spoken.from_b.all_intact(&format!("{} to {}", b.name(), a.name())));
    report.check("burst", spoken.relayed.all_intact(&format!("{} to {}", a.name(), b.name())));
    report.check("secrecy", spoken.is_unreadable_on_the_wire());

    report.need("hang-up", tokio::try_join!(a.hang_up(), b.ended()))?;
    report.pass("hang-up", "by one phone, the call ended on both");
    Ok(figures(set_up, &spoken))
}

async fn connect(clock: Clock, facts: &Facts, rng: &mut Rng) -> Result<[Device; 2], String> {
    let [first, second] = facts.first_accounts.as_slice() else {
        return Err("the first start has not made two users".to_owned());
    };
    let listener = facts.listeners.iter().find(|(transport, _)| *transport == Transport::Tls);
    let (Some((_, tls)), Some(ca_file)) = (listener, &facts.ca_file) else {
        return Err("the server offers no TLS with a CA of its own".to_owned());
    };
    let registrar = Registrar { tls: *tls, ca_file: ca_file.clone(), domain: facts.domain.clone() };
    Ok([
        Device::connect(clock, &registrar, first, SUITES[0], rng.fork()).await?,
        Device::connect(clock, &registrar, second, SUITES[1], rng.fork()).await?,
    ])
}

/// The time from dialling until the caller may speak, and what both sides settled.
async fn call(clock: Clock, a: &mut Device, b: &mut Device) -> Result<(Duration, [Media; 2]), String> {
    let dialled = clock.now();
    let callee = b.name().to_owned();
    let caller = async {
        match a.dial(&callee).await? {
            Event::Established(media) => Ok((clock.now().since(dialled), media)),
            other => Err(a.unexpected(&other)),
        }
    };
    let ((set_up, from_a), from_b) = tokio::try_join!(caller, b.established())?;
    Ok((set_up, [from_a, from_b]))
}

async fn emergency_is_refused(device: &mut Device) -> Result<String, String> {
    match device.dial(EMERGENCY_NUMBER).await? {
        Event::Refused(refusal) if refusal.is_explained() => {
            Ok(format!("{EMERGENCY_NUMBER} is refused at once: {}", refusal.warning.unwrap_or_default()))
        }
        other => Err(format!("{EMERGENCY_NUMBER} is not refused with an explanation: {other:?}")),
    }
}

fn all_differ([a, b]: &[Media; 2]) -> Result<String, String> {
    let keys = [&a.send, &a.receive, &b.send, &b.receive];
    let is_alone = |key| keys.iter().filter(|other| **other == key).count() == 1;
    if keys.into_iter().all(is_alone) {
        Ok("both legs and directions have four different keys".to_owned())
    } else {
        Err("two directions of the call have the same key".to_owned())
    }
}

fn stay_on_their_leg([a, b]: &[Media; 2], [at_a, at_b]: [&Device; 2]) -> Result<String, String> {
    if a.has_key_in(at_b.heard()) || b.has_key_in(at_a.heard()) {
        return Err("a phone was told a key of the other one's leg".to_owned());
    }
    Ok("neither phone was told a key of the other one's leg".to_owned())
}

async fn speak(lanes: io::Result<Lanes>) -> Result<Spoken, String> {
    let spoken = tokio::task::spawn_blocking(move || lanes?.speak()).await;
    spoken.map_err(|_| "the media threads have failed".to_owned())?.map_err(|error| error.to_string())
}

/// The first start in an empty folder, on ports that nobody uses.
fn settings(folder: &Path, ports: &RangeInclusive<u16>) -> Result<Settings, Failure> {
    let text = format!(
        "[server]\ndomain = {}\nstate_dir = {}\n\
         [sip]\nudp = []\ntcp = []\ntls = [{}]\n\
         [media]\naddresses = [{}]\nports = {}\nworkers = 1\nencryption = \"required\"\n\
         [company]\nname = \"Self-test\"\nregion = {}\n\
         [admin]\nlisten = \"off\"\n[privacy]\nsandbox = \"best-effort\"\n",
        quoted(DOMAIN),
        quoted(&folder.join("state").to_string_lossy()),
        quoted(&SocketAddr::new(LOOPBACK, 0).to_string()),
        quoted(&LOOPBACK.to_string()),
        quoted(&format!("{}-{}", ports.start(), ports.end())),
        quoted(REGION),
    );
    Settings::from_text(&text).map_err(|problems| Failure::Internal(settings::report(folder, &problems)))
}

/// An even start and so many ports. They may be taken before the server binds them; the call then fails and says so.
pub(super) fn free_ports(count: u16) -> Result<RangeInclusive<u16>, Failure> {
    let candidate = || {
        let first = UdpSocket::bind((LOOPBACK, 0)).ok()?.local_addr().ok()?.port() & !1;
        let ports = first..=first.checked_add(count - 1)?;
        are_free(&ports).then_some(ports)
    };
    (0..PORT_ATTEMPTS).find_map(|_| candidate()).ok_or_else(|| {
        Failure::Unavailable(format!("{count} UDP ports in a row are not free on {LOOPBACK}. Try again."))
    })
}

fn are_free(ports: &RangeInclusive<u16>) -> bool {
    ports.clone().all(|port| UdpSocket::bind((LOOPBACK, port)).is_ok())
}

fn leaves_nothing(facts: &Facts, ports: RangeInclusive<u16>, folder: Folder) -> Result<String, String> {
    let is_open = |(_, address): &(Transport, SocketAddr)| TcpStream::connect(address).is_ok();
    if facts.listeners.iter().any(is_open) || !are_free(&ports) {
        return Err("a port of the server is still open".to_owned());
    }
    folder.remove()?;
    Ok("every port is closed, the state folder is removed".to_owned())
}

/// A folder that does not outlive its value.
pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    /// For temporary files of this command.
    pub(super) fn create(command: &str, rng: &mut Rng) -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("ringdown-{command}-{}", rng.token(16)));
        match files::create_folder(&path) {
            Ok(()) => Ok(Self(path)),
            Err(error) => {
                Err(Failure::Store(format!("{}: {error}. Set TMPDIR to a folder to write to.", path.display())))
            }
        }
    }

    fn remove(self) -> Result<(), String> {
        fs::remove_dir_all(&self.0).map_err(|error| format!("{} cannot be removed: {error}", self.0.display()))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Already removed where the test came to its end.
        let _ = fs::remove_dir_all(&self.0);
    }
}
