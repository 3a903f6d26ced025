//! `ringdown prove`: shows what the server promises about audio, by looking into a running one.
//!
//! The server is this binary as a process of its own; this process plays the phones and knows every payload and key. It
//! looks where they could have been kept: in the server's memory, descriptors, log, records and files. Each search also
//! looks for something that must be there, so that one that finds nothing has looked at all. Nothing outside loopback is
//! used.

use std::{
    fs,
    future::Future,
    io,
    net::UdpSocket,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{
    phone::{Event, Media},
    types::Rng,
    wire::srtp::{SessionSecret, Suite, session_secrets},
};

use self::{
    claim::{Claim, Verdict},
    needles::Needles,
    process::{Process, Searched, Thread},
    server::{DOMAIN, Server, wait_for},
    speech::{Said, Secrets, Speech},
};
use super::{
    clock::Clock,
    entropy,
    failure::Failure,
    files,
    sandbox::{self, Attempt, Measure, Missing},
    selftest::{Folder, device::Device, free_ports},
};

mod claim;
mod needles;
mod process;
mod server;
mod speech;

/// Two suites of AES-CM, so that no packet can pass as it is.
const CM_SUITES: [Suite; 2] = [Suite::AesCm128HmacSha1_80, Suite::AesCm256HmacSha1_80];
const GCM_SUITES: [Suite; 2] = [Suite::AesCm128HmacSha1_80, Suite::AeadAes256Gcm];
/// Looks into the memory while the phones talk.
const LOOKS: u64 = 10;
/// Payloads that come through between two of them.
const PAYLOADS_PER_LOOK: u64 = 10;
/// For a few payloads to come through.
const TALK_TIMEOUT: Duration = Duration::from_secs(10);
/// Transactions hold their messages, and with them the keys in those, for 32 s after a call (RFC 3261, timers H and M).
const RESIDUE_TIMEOUT: Duration = Duration::from_secs(45);
/// Of two calls, the ports of the first of which may not be back yet.
const MEDIA_PORTS: u16 = 8;
const LOG_TIMEOUT: Duration = Duration::from_secs(10);
const PAGES: [&str; 9] = [
    "/health",
    "/ready",
    "/metrics",
    "/v1/calls",
    "/v1/registrations",
    "/v1/cdrs",
    "/v1/emergency",
    "/v1/trunks",
    "/v1/barred",
];
/// What a server cannot do without while it relays: as it came, and what it works with. An authentication key it can, and an
/// encryption key lies as it is only where the processor has instructions for AES.
const HELD_IN_CALLS: [&str; 3] = [MASTER_KEY, SALT, HMAC_STATE];
const MASTER_KEY: &str = "a master key";
const SALT: &str = "a session's salt";
const HMAC_STATE: &str = "a session's HMAC state";
/// What is taken from media threads.
const OF_MEDIA: [Measure; 3] = [Measure::MediaDescriptors, Measure::MediaFiles, Measure::MediaCalls];
/// Where a program that may writes besides its own folder.
const TEMPORARY_FOLDERS: [&str; 3] = ["/tmp", "/var/tmp", "/dev/shm"];
/// Further ones are not looked at, and the claim says so.
const FILES_MAX: usize = 100_000;
const FILE_BYTES_MAX: u64 = 256 << 20;

/// How the claims are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    Json,
}

/// Shows every claim and hands the report to `print`. `interrupted` ends it early and cleanly. Takes about a minute.
///
/// # Errors
/// How many claims failed or could not be shown, or why nothing could be.
pub async fn run(
    format: Format,
    print: &mut (dyn FnMut(&str) + Send),
    interrupted: impl Future<Output = ()>,
) -> Result<(), Failure> {
    if format == Format::Text {
        print("A server as a process of its own and two phones on loopback; this takes about a minute.\n\n");
    }
    let mut rng = entropy::rng();
    let folder = Folder::create("prove", &mut rng)?;
    let claims = tokio::select! {
        claims = claims(&folder.0, &mut rng) => claims?,
        () = interrupted => return Err(Failure::Internal("The proof was interrupted.".to_owned())),
    };
    print(&match format {
        Format::Text => claim::text(&claims),
        Format::Json => claim::json(&claims),
    });
    claim::verdict(&claims)
}

/// Every claim, in the order in which they can be looked at.
async fn claims(folder: &Path, rng: &mut Rng) -> Result<Vec<Claim>, Failure> {
    let began = began(folder)?;
    let mut server = Server::start(folder, &free_ports(MEDIA_PORTS)?)?;
    let process = Process(server.id());
    let mut claims = vec![filter(folder), own_files(folder)];
    let mut kept = Needles::new();

    let mut call = Call::start(&server, CM_SUITES, rng).await.map_err(broken)?;
    let speech = call.speak(rng).map_err(|e| broken(e.to_string()))?;
    talk(&speech, PAYLOADS_PER_LOOK).await.map_err(broken)?;
    let threads = process.threads();
    let open = process.descriptors();
    claims.push(media_threads(&threads, &open, &server.page("/health").map_err(broken)?));
    claims.push(privileges(&threads));
    claims.push(descriptors(open, &own_descriptors(), &[server.state_dir(), server.log_file()]));
    claims.push(plaintext(&process, &call, &speech).await);
    call.end(speech).await.map_err(broken)?;
    kept.extend(call.into_secrets());

    let mut call = Call::start(&server, GCM_SUITES, rng).await.map_err(broken)?;
    let speech = call.speak(rng).map_err(|e| broken(e.to_string()))?;
    talk(&speech, PAYLOADS_PER_LOOK * LOOKS).await.map_err(broken)?;
    let said = speech.end().map_err(|e| broken(e.to_string()))?;
    claims.push(plaintext_at_rest(&process, &call, said));
    claims.push(reports_at_rest(&process, &call, said));
    call.hang_up().await.map_err(broken)?;
    kept.extend(call.into_secrets());

    claims.push(residue(&process, &kept).await);
    let health = server.page("/health").map_err(broken)?;
    claims.push(dumps(process.limits("Max core file size"), &health));
    claims.push(swap(process.status("VmLck"), process.status("VmSwap"), &fs::read_to_string("/proc/swaps")));
    claims.push(records(&server, &kept));
    claims.push(server_files(&server).await);
    server.end().await.map_err(broken)?;
    claims.push(log(&server, &kept));
    claims.push(written(folder, began, &kept));
    Ok(claims)
}

/// What a call could not be made for is no claim about audio, but a server that does not work.
fn broken(what: String) -> Failure {
    Failure::Internal(format!("Nothing can be shown: {what}."))
}

/// The time of the file system: nothing older can be of the server's making.
fn began(folder: &Path) -> Result<SystemTime, Failure> {
    let marker = folder.join("began");
    let made = files::write(&marker, b"").and_then(|()| fs::metadata(&marker)?.modified());
    made.map_err(|e| Failure::Store(format!("{}: {e}. Set TMPDIR to a folder to write to.", marker.display())))
}

/// Two phones in a call, and all that must not be kept of it.
struct Call {
    devices: [Device; 2],
    media: [Media; 2],
    said: [Secrets; 2],
}

impl Call {
    async fn start(server: &Server, suites: [Suite; 2], rng: &mut Rng) -> Result<Self, String> {
        let [first, second] = server.accounts.as_slice() else {
            return Err("the first start has not made two users".to_owned());
        };
        let (clock, at) = (Clock::start(), server.registrar());
        let mut a = Device::connect(clock, &at, first, suites[0], rng.fork()).await?;
        let mut b = Device::connect(clock, &at, second, suites[1], rng.fork()).await?;
        tokio::try_join!(a.register(), b.register())?;
        let callee = b.name().to_owned();
        let caller = async {
            match a.dial(&callee).await? {
                Event::Established(media) => Ok(media),
                other => Err(a.unexpected(&other)),
            }
        };
        let (from_a, from_b) = tokio::try_join!(caller, b.established())?;
        Ok(Self { devices: [a, b], media: [from_a, from_b], said: [Secrets::new(rng), Secrets::new(rng)] })
    }

    fn speak(&self, rng: &mut Rng) -> io::Result<Speech> {
        let sockets: [Arc<UdpSocket>; 2] = std::array::from_fn(|index| self.devices[index].media_socket());
        Speech::start(Clock::start(), sockets, &self.media, &self.said, rng)
    }

    fn payloads(&self) -> Needles {
        let mut needles = Needles::new();
        self.said.iter().for_each(|said| needles.add("a payload", &said.payload));
        needles
    }

    fn cnames(&self) -> Needles {
        let mut needles = Needles::new();
        self.said.iter().for_each(|said| needles.add("a name in RTCP", said.cname.as_bytes()));
        needles
    }

    /// Master keys and all that is derived from them.
    fn keys(&self) -> Needles {
        let mut needles = Needles::new();
        for media in &self.media {
            for key in [&media.send, &media.receive] {
                needles.add(MASTER_KEY, key.expose());
                session_secrets(media.suite, key, |kind, bytes| needles.add(name_of(kind), bytes));
            }
        }
        needles
    }

    async fn end(&mut self, speech: Speech) -> Result<(), String> {
        let Said { sent, intact, reports, intact_reports } = speech.end().map_err(|e| e.to_string())?;
        if intact == 0 || intact_reports == 0 {
            return Err(format!("{intact} of {sent} payloads and {intact_reports} of {reports} reports came through"));
        }
        self.hang_up().await
    }

    async fn hang_up(&mut self) -> Result<(), String> {
        let [a, b] = &mut self.devices;
        tokio::try_join!(a.hang_up(), b.ended()).map(drop)
    }

    /// Closes the phones' connections.
    fn into_secrets(self) -> Needles {
        let mut needles = self.payloads();
        needles.extend(self.cnames());
        needles.extend(self.keys());
        needles
    }
}

const fn name_of(secret: SessionSecret) -> &'static str {
    match secret {
        SessionSecret::EncryptionKey => "a session's encryption key",
        SessionSecret::Salt => SALT,
        SessionSecret::AuthenticationKey => "a session's authentication key",
        SessionSecret::HmacState => HMAC_STATE,
    }
}

/// Waits until so many payloads more have come through.
async fn talk(speech: &Speech, payloads: u64) -> Result<(), String> {
    let wanted = speech.intact() + payloads;
    let is_done = || (speech.intact() >= wanted).then_some(());
    wait_for(TALK_TIMEOUT, is_done).await.ok_or_else(|| "the phones do not hear each other".to_owned())
}

fn filter(folder: &Path) -> Claim {
    Claim {
        name: "filter",
        claim: "a thread that is confined like a media thread can open nothing, write to nothing, and send to no log or connection that \
                the process has open; it can make sockets for UDP and send datagrams, to any host: that is its work",
        verdict: tried(sandbox::trial(folder)),
        how: "a thread of this process that was confined like a media thread and tried each",
    }
}

fn own_files(folder: &Path) -> Claim {
    Claim {
        name: "file-rules",
        claim: "rules like those of the process let a thread write in its state folder and nowhere else",
        verdict: tried(sandbox::trial_of_files(folder)),
        how: "a thread of this process under rules with a state folder alone that tried each; what the server reads is the claim `files`",
    }
}

fn tried(attempts: Result<Vec<Attempt>, Vec<Missing>>) -> Verdict {
    let attempts = match attempts {
        Ok(attempts) if attempts.is_empty() => return Verdict::NotShown("nothing could be tried".to_owned()),
        Ok(attempts) => attempts,
        Err(missing) => return Verdict::Failed(joined(missing.iter().map(ToString::to_string))),
    };
    let of = |is_wanted: fn(&&Attempt) -> bool| joined(attempts.iter().filter(is_wanted).map(|a| a.what));
    match of(|a| a.is_refused != a.is_to_be_refused) {
        wrong if wrong.is_empty() => Verdict::Shown(format!("refused: {}", of(|a| a.is_refused))),
        wrong => Verdict::Failed(format!("came out the wrong way: {wrong}")),
    }
}

/// `open`: of the process. `health`: what the server says that its threads themselves have tried.
fn media_threads(threads: &io::Result<Vec<Thread>>, open: &io::Result<Vec<String>>, health: &str) -> Claim {
    let both = threads.as_ref().and_then(|threads| Ok((threads, open.as_ref()?)));
    let verdict = of_proc(both.as_ref().map_err(|error| error.kind()), |(threads, open)| {
        let (media, others): (Vec<_>, Vec<_>) = threads.iter().partition(|thread| thread.is_media());
        // A container or a service manager may have put a filter over all.
        let filters = others.iter().map(|thread| thread.filters).max().unwrap_or_default();
        if let Some(kind) = media.iter().find_map(|thread| thread.descriptors.as_ref().err()) {
            return not_readable(*kind);
        }
        let out_of_force = OF_MEDIA.into_iter().filter(|measure| !is_in_force(health, *measure));
        let wrong: Vec<_> = out_of_force
            .map(|measure| format!("the server says that {} is not in force", measure.label()))
            .chain(media.iter().flat_map(|thread| faults(thread, filters, open)))
            .collect();
        match (media.len(), &wrong[..]) {
            (0, _) => Verdict::Failed("there is no media thread".to_owned()),
            (count, []) => Verdict::Shown(format!(
                "{count} of {count} have a filter more than any other thread, and of the process's descriptors one socket"
            )),
            (_, wrong) => Verdict::Failed(joined(wrong.iter().map(String::as_str))),
        }
    });
    Claim {
        name: "media-threads",
        claim: "each media thread of the server is under a filter of its own, and in a table of its own has sockets, event queues and \
                ends of a pipe that nobody writes to, but no file, and of what other threads have open only the socket that wakes the core",
        verdict,
        how: "reading /proc/PID/task/*/status and fd while they relay, and asking the server what each of them has tried at its start; \
              the rules themselves are tried by the thread of the claim `filter`",
    }
}

/// What is wrong with a media thread where others are under so many filters and have `open`.
fn faults(thread: &Thread, filters: u64, open: &[String]) -> Vec<String> {
    const KINDS: [&str; 4] = ["socket:", "pipe:", "anon_inode:[eventfd]", "anon_inode:[eventpoll]"];
    let (name, descriptors) = (&thread.name, thread.descriptors.as_deref().unwrap_or_default());
    let is_of_kind = |target: &&String| KINDS.iter().any(|kind| target.starts_with(kind));
    let foreign = descriptors.iter().filter(|target| !is_of_kind(target)).map(|target| format!("{name} has {target}"));
    // Names of event queues are all the same.
    let is_shared = |target: &&String| !target.starts_with("anon_inode:") && open.contains(target);
    let shared: Vec<_> = descriptors.iter().filter(is_shared).map(String::as_str).collect();
    let unfiltered = (thread.filters <= filters).then(|| format!("{name} has no filter of its own"));
    let sharing = (shared.len() > 1).then(|| format!("{name} shares {}", joined(shared)));
    foreign.chain(unfiltered).chain(sharing).collect()
}

fn privileges(threads: &io::Result<Vec<Thread>>) -> Claim {
    let verdict = of_proc(threads.as_ref().map_err(io::Error::kind), |threads| {
        let free: Vec<_> = threads.iter().filter(|t| t.no_new_privileges != "1").map(|t| t.name.as_str()).collect();
        match free[..] {
            [] => Verdict::Shown(format!("all {} threads", threads.len())),
            _ => Verdict::Failed(format!("not so: {}", joined(free))),
        }
    });
    Claim {
        name: "privileges",
        claim: "no thread can gain privileges",
        verdict,
        how: "reading /proc/PID/task/*/status",
    }
}

/// What this process has open: the server has its standard output from it, and whatever it was handed itself.
fn own_descriptors() -> Vec<String> {
    Process(std::process::id()).descriptors().unwrap_or_default()
}

/// `own`: files, and folders with what is in them.
fn descriptors(open: io::Result<Vec<String>>, handed_down: &[String], own: &[PathBuf]) -> Claim {
    const KINDS: [&str; 4] = ["socket:", "anon_inode:[eventfd]", "anon_inode:[eventpoll]", "/dev/null"];
    let is_counter = |target: &str| {
        let name = target.strip_prefix("/proc/").and_then(|rest| rest.split_once("/net/")).map(|(_, name)| name);
        matches!(name, Some("snmp" | "snmp6"))
    };
    let verdict = of_proc(open.as_ref().map_err(io::Error::kind), |open| {
        let is_own = |target: &str| {
            let is_of_kind = KINDS.iter().any(|kind| target.starts_with(kind));
            is_of_kind || is_counter(target) || own.iter().any(|path| Path::new(target).starts_with(path))
        };
        let (handed_down, others): (Vec<_>, Vec<_>) =
            open.iter().filter(|target| !is_own(target)).partition(|target| handed_down.contains(target));
        let foreign: Vec<_> = others.into_iter().map(String::as_str).collect();
        match foreign[..] {
            [] => Verdict::Shown(format!(
                "{} are open, {} of them handed down by this process",
                open.len(),
                handed_down.len()
            )),
            _ => Verdict::Failed(format!("also open: {}", joined(foreign))),
        }
    });
    Claim {
        name: "descriptors",
        claim: "during a call the server, but for its media threads, has nothing open but sockets, event queues, counters of the kernel's, its database and lock, \
                and its log",
        verdict,
        how: "reading /proc/PID/fd",
    }
}

async fn plaintext(process: &Process, call: &Call, speech: &Speech) -> Claim {
    let payloads = call.payloads();
    let look = async {
        let mut bytes = 0;
        for _ in 0..LOOKS {
            talk(speech, PAYLOADS_PER_LOOK).await.map_err(Verdict::NotShown)?;
            bytes = nothing(&searched(process, &payloads)?)?;
        }
        // The keys of a call must be there while it lasts.
        held(&searched(process, &call.keys())?)?;
        Ok(Verdict::Shown(format!(
            "{LOOKS} looks at {bytes} MB each found no payload, and the call's keys where they must be"
        )))
    };
    Claim {
        name: "plaintext",
        claim: "between two AES-CM legs no payload is ever readable in the server's memory",
        verdict: either(look.await),
        how: "searching /proc/PID/mem while the phones talk; between two looks nothing was seen",
    }
}

fn plaintext_at_rest(process: &Process, call: &Call, Said { sent, intact, .. }: Said) -> Claim {
    let look = || {
        let bytes = nothing(&searched(process, &call.payloads())?)?;
        held(&searched(process, &call.keys())?)?;
        Ok(Verdict::Shown(format!("{intact} of {sent} payloads came through, and {bytes} MB of memory held none")))
    };
    Claim {
        name: "plaintext-gcm",
        claim: "between an AES-CM and an AES-GCM leg no payload stays in the server's memory once it was sent on",
        verdict: either(look()),
        how: "searching /proc/PID/mem during the call, when the phones are silent",
    }
}

/// The server reads reports, whatever the suites: what it must not do is keep them.
fn reports_at_rest(process: &Process, call: &Call, said: Said) -> Claim {
    let look = || {
        let bytes = nothing(&searched(process, &call.cnames())?)?;
        held(&searched(process, &call.keys())?)?;
        Ok(reported(said, bytes))
    };
    Claim {
        name: "rtcp",
        claim: "nothing by which a telephone names itself in RTCP stays in the server's memory once the report was sent on, encrypted anew",
        verdict: either(look()),
        how: "searching /proc/PID/mem for the names (SDES CNAME) during the call, when the phones are silent",
    }
}

/// `bytes`: megabytes that held nothing.
fn reported(Said { reports, intact_reports, .. }: Said, bytes: u64) -> Verdict {
    match intact_reports {
        0 => Verdict::NotShown(format!("none of {reports} reports came through")),
        _ => Verdict::Shown(format!(
            "{intact_reports} of {reports} reports came through under SRTCP, and {bytes} MB of memory held no name"
        )),
    }
}

async fn residue(process: &Process, kept: &Needles) -> Claim {
    let clock = Clock::start();
    let began = clock.now();
    let look = async {
        let mut last = Err(Verdict::NotShown("there was no time to look".to_owned()));
        let is_clean = || {
            last = searched(process, kept).and_then(|searched| nothing(&searched));
            last.is_ok().then_some(())
        };
        wait_for(RESIDUE_TIMEOUT, is_clean).await;
        let bytes = last?;
        let mut domain = Needles::new();
        domain.add("the domain", DOMAIN.as_bytes());
        control_found(&searched(process, &domain)?, "the server's domain")?;
        let seconds = clock.now().since(began).as_secs();
        Ok(Verdict::Shown(format!("{seconds} s after the last call {bytes} MB of memory held none")))
    };
    Claim {
        name: "residue",
        claim: "after a call, when its transactions have ended and its connections are closed, neither payloads, names in RTCP nor \
                master keys, and of neither SRTP nor SRTCP session keys, salts, authentication keys and HMAC states are left in \
                the server's memory",
        verdict: either(look.await),
        how: "searching /proc/PID/mem for each, raw, backwards, in hexadecimal and in base64",
    }
}

fn dumps(limits: io::Result<[String; 2]>, health: &str) -> Claim {
    let verdict = of_proc(limits.as_ref().map_err(io::Error::kind), |limits| match limits {
        [soft, hard] if soft != "0" || hard != "0" => {
            Verdict::Failed(format!("core files may have {soft} bytes, and {hard} if it wishes"))
        }
        _ if !is_in_force(health, Measure::Dumps) => {
            Verdict::Failed("the server says that it can be dumped".to_owned())
        }
        _ => Verdict::Shown("core files are limited to 0 bytes, and the process is not dumpable".to_owned()),
    });
    Claim {
        name: "dumps",
        claim: "no memory image of the server is made when it crashes",
        verdict,
        how: "reading /proc/PID/limits, and asking the server",
    }
}

fn swap(locked: io::Result<String>, swapped: io::Result<String>, swaps: &io::Result<String>) -> Claim {
    let both = locked.and_then(|locked| Ok((locked, swapped?)));
    let verdict = of_proc(both.as_ref().map_err(io::Error::kind), |(locked, swapped)| {
        // One line of headings.
        let has_swap = swaps.as_ref().map_or(true, |text| text.lines().count() > 1);
        let is_zero = |text: &str| text.starts_with("0 ");
        match (is_zero(locked), is_zero(swapped), has_swap) {
            (_, false, _) => Verdict::Failed(format!("{swapped} are swapped out")),
            (false, true, _) => Verdict::Shown(format!("{locked} are locked, none is swapped out")),
            (true, true, false) => {
                Verdict::NotShown("the memory is not locked; this machine has no swap now, but may get some".to_owned())
            }
            (true, true, true) => Verdict::NotShown(
                "the memory is not locked, and this machine can swap; none is swapped out now".to_owned(),
            ),
        }
    });
    Claim {
        name: "swap",
        claim: "the server has locked its memory, and none of it is in swap",
        verdict,
        how: "reading /proc/PID/status and /proc/swaps",
    }
}

fn records(server: &Server, kept: &Needles) -> Claim {
    let pages: Result<Vec<_>, _> = PAGES.iter().map(|page| server.page(page)).collect();
    let verdict = match pages {
        Err(error) => Verdict::NotShown(error),
        Ok(pages) => in_text(pages.concat().as_bytes(), kept, &server.accounts[0].0),
    };
    Claim {
        name: "records",
        claim: "call records, metrics and the other pages of the admin API, but for that of a call in progress, hold neither payloads, names \
                in RTCP nor keys",
        verdict,
        how: "fetching each page after the calls and searching it",
    }
}

fn log(server: &Server, kept: &Needles) -> Claim {
    Claim {
        name: "log",
        claim: "the log, at level trace, holds neither payloads, names in RTCP nor keys",
        verdict: in_text(&server.log(), kept, "ringdown"),
        how: "searching it, raw, in hexadecimal and in base64",
    }
}

/// `control` must stand in it.
fn in_text(text: &[u8], kept: &Needles, control: &str) -> Verdict {
    let found = kept.find_in(text);
    if !found.is_empty() {
        return Verdict::Failed(joined(found));
    }
    match memchr::memmem::find(text, control.as_bytes()) {
        Some(_) => Verdict::Shown(format!("{} bytes, with {control:?} in them as it must be", text.len())),
        None => Verdict::NotShown(format!("not even {control:?} is in {} bytes", text.len())),
    }
}

async fn server_files(server: &Server) -> Claim {
    let refused = "The certificates cannot be reloaded";
    let verdict = match server.be_led_astray() {
        Err(error) => Verdict::NotShown(error),
        Ok(()) => {
            let line =
                |log: &[u8]| String::from_utf8_lossy(log).lines().find(|l| l.contains(refused)).map(str::to_owned);
            let reloaded =
                |log: &[u8]| memchr::memmem::find(log, b"The certificates were reloaded").map(|_| String::new());
            let said = wait_for(LOG_TIMEOUT, || line(&server.log()).or_else(|| reloaded(&server.log()))).await;
            led_astray(said.as_deref())
        }
    };
    Claim {
        name: "files",
        claim: "the server itself cannot open a file that is not its own",
        verdict,
        how: "making its key file a link to a file of the same user elsewhere, and a reload",
    }
}

/// By what the log says then; empty: the reload has succeeded.
fn led_astray(said: Option<&str>) -> Verdict {
    match said {
        Some(line) if line.contains("Permission denied") => Verdict::Shown("permission was denied".to_owned()),
        Some("") => Verdict::Failed("it has read the file".to_owned()),
        Some(line) => Verdict::NotShown(format!("the reload failed for another reason: {line}")),
        None => Verdict::NotShown("the log does not say".to_owned()),
    }
}

fn written(folder: &Path, began: SystemTime, kept: &Needles) -> Claim {
    let mut search = FileSearch { kept, began, files: 0, bytes: 0, unread: 0, found: Vec::new() };
    search.folder(folder);
    let roots = TEMPORARY_FOLDERS.iter().map(PathBuf::from).chain([std::env::temp_dir()]);
    let mut roots: Vec<_> = roots.filter_map(|root| root.canonicalize().ok()).collect();
    roots.sort();
    roots.dedup();
    roots.iter().for_each(|root| search.folder(root));
    Claim {
        name: "files-written",
        claim: "no file that changed during the calls, in the server's folders or in those for temporary files, holds payloads, \
                names in RTCP or keys",
        verdict: search.verdict(),
        how: "searching each, after the server's end, raw, in hexadecimal and in base64; what is removed at the end (the database's log and \
              its index) was not looked at",
    }
}

/// Through files that have changed since a time.
struct FileSearch<'a> {
    kept: &'a Needles,
    began: SystemTime,
    files: usize,
    bytes: usize,
    /// Of other users, gone meanwhile, too large or too many.
    unread: usize,
    found: Vec<String>,
}

impl FileSearch<'_> {
    fn folder(&mut self, folder: &Path) {
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            let Ok(entries) = fs::read_dir(&folder) else {
                self.unread += 1;
                continue;
            };
            for entry in entries.flatten() {
                let Ok(metadata) = entry.metadata() else { continue };
                if metadata.is_dir() {
                    folders.push(entry.path());
                } else if metadata.is_file() && metadata.modified().is_ok_and(|time| time >= self.began) {
                    self.file(&entry.path(), metadata.len());
                }
            }
        }
    }

    fn file(&mut self, path: &Path, len: u64) {
        self.files += 1;
        if self.files > FILES_MAX || len > FILE_BYTES_MAX {
            self.unread += 1;
            return;
        }
        match fs::read(path) {
            Ok(content) => {
                self.bytes += content.len();
                let found = self.kept.find_in(&content);
                self.found.extend(found.iter().map(|what| format!("{what} in {}", path.display())));
            }
            Err(_) => self.unread += 1,
        }
    }

    fn verdict(mut self) -> Verdict {
        self.found.sort();
        self.found.dedup();
        let Self { files, bytes, unread, found, .. } = self;
        match (&found[..], bytes) {
            ([], 0) => Verdict::NotShown("no file has changed at all".to_owned()),
            ([], _) => Verdict::Shown(format!("{files} files, {bytes} bytes; {unread} could not be looked at")),
            (found, _) => Verdict::Failed(joined(found.iter().map(String::as_str))),
        }
    }
}

fn is_in_force(health: &str, measure: Measure) -> bool {
    let health: Option<serde_json::Value> = serde_json::from_str(health).ok();
    health.is_some_and(|health| health["sandbox"][measure.label()] == serde_json::Value::Bool(true))
}

fn of_proc<T>(shown: Result<&T, io::ErrorKind>, judge: impl FnOnce(&T) -> Verdict) -> Verdict {
    shown.map_or_else(not_readable, judge)
}

/// The server's own doing: nobody but root looks into it.
fn not_readable(kind: io::ErrorKind) -> Verdict {
    Verdict::NotShown(match kind {
        io::ErrorKind::PermissionDenied => {
            "the server does not let its own user look into it. Run this as root, or as `unshare --map-root-user ringdown prove`"
                .to_owned()
        }
        kind => kind.to_string(),
    })
}

fn searched(process: &Process, needles: &Needles) -> Result<Searched, Verdict> {
    process.search(needles).map_err(|e| not_readable(e.kind()))
}

fn either(verdict: Result<Verdict, Verdict>) -> Verdict {
    verdict.unwrap_or_else(|verdict| verdict)
}

/// How many megabytes held nothing.
fn nothing(searched: &Searched) -> Result<u64, Verdict> {
    match &searched.found[..] {
        [] => Ok(searched.bytes >> 20),
        found => Err(Verdict::Failed(joined(found.iter().map(String::as_str)))),
    }
}

/// The keys of a call while it lasts, of each kind.
fn held(searched: &Searched) -> Result<(), Verdict> {
    let is_found = |name: &&str| searched.found.iter().any(|found| found.starts_with(*name));
    match HELD_IN_CALLS.iter().find(|name| !is_found(name)) {
        None => Ok(()),
        Some(name) => Err(Verdict::NotShown(format!("the search does not even find {name}"))),
    }
}

/// A search that does not even find what must be there has shown nothing.
fn control_found(searched: &Searched, what: &str) -> Result<(), Verdict> {
    match &searched.found[..] {
        [] => Err(Verdict::NotShown(format!("the search does not even find {what}"))),
        _ => Ok(()),
    }
}

fn joined<T: Into<String>>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(Into::into).collect::<Vec<String>>().join(", ")
}

#[cfg(test)]
mod tests;
