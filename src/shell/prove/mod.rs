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
    config::Config,
    phone::{Event, Media},
    types::Rng,
    wire::srtp::{SessionSecret, Suite, session_secrets},
};

use self::{
    claim::{Claim, Verdict},
    needles::Needles,
    process::{Process, Searched},
    server::{DOMAIN, Server, wait_for},
    speech::{Said, Secrets, Speech},
    taken::Taken,
    trace::Trace,
};
use super::{
    clock::Clock,
    entropy,
    failure::Failure,
    files,
    sandbox::{self, Attempt, Measure, Missing},
    selftest::{Folder, device::Device, free_ports},
    settings::Settings,
};

mod claim;
mod needles;
mod process;
mod search;
mod server;
mod speech;
mod taken;
mod threads;
mod trace;

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
/// Of the admin interface, and beside them one for each call.
const PAGES: [&str; 10] = [
    "/health",
    "/ready",
    "/metrics",
    "/v1/calls",
    "/v1/registrations",
    "/v1/cdrs",
    "/v1/emergency",
    "/v1/trunks",
    "/v1/barred",
    "/v1/route-test?from=1001&number=1002",
];
/// What a server cannot do without while it relays: as it came, and what it works with. An authentication key it can, and an
/// encryption key lies as it is only where the processor has instructions for AES.
const HELD_IN_CALLS: [&str; 3] = [MASTER_KEY, SALT, HMAC_STATE];
const MASTER_KEY: &str = "a master key";
const SALT: &str = "a session's salt";
const HMAC_STATE: &str = "a session's HMAC state";

/// How the claims are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    Json,
}

/// Shows every claim and hands the report to `print`. `own`: the operator's configuration and its file. `interrupted` ends it
/// early and cleanly. Takes about a minute.
///
/// # Errors
/// How many claims failed or could not be shown, or why nothing could be.
pub async fn run(
    format: Format,
    own: Option<(&Path, &Settings)>,
    print: &mut (dyn FnMut(&str) + Send),
    interrupted: impl Future<Output = ()>,
) -> Result<(), Failure> {
    if format == Format::Text {
        print("A server as a process of its own and two phones on loopback; this takes about a minute.\n\n");
    }
    let mut rng = entropy::rng();
    let folder = Folder::create("prove", &mut rng)?;
    let taken = own.map_or_else(Taken::usual, |(_, settings)| Taken::of(&settings.config, settings.workers));
    let claims = tokio::select! {
        claims = claims(&folder.0, &taken, own, &mut rng) => claims?,
        () = interrupted => return Err(Failure::Internal("The proof was interrupted.".to_owned())),
    };
    let settings = own.map(|(file, settings)| taken.sentence(file, &settings.config));
    print(&match format {
        Format::Text => claim::text(settings.as_deref(), &claims),
        Format::Json => claim::json(settings.as_deref(), &claims),
    });
    claim::verdict(&claims)
}

/// Every claim, in the order in which they can be looked at.
async fn claims(
    folder: &Path,
    taken: &Taken,
    own: Option<(&Path, &Settings)>,
    rng: &mut Rng,
) -> Result<Vec<Claim>, Failure> {
    let began = began(folder)?;
    let ports = free_ports(MEDIA_PORTS * taken.workers)?;
    let mut server = Server::start(folder, &ports, taken)?;
    let process = Process(server.id());
    let mut claims = vec![filter(folder), process_rules(&server.config, folder)];
    claims.extend(own.map(|(_, settings)| reach(&settings.config, folder)));
    let mut kept = Needles::new();

    let traced = process.threads().and_then(|threads| Trace::start(threads.iter().filter(|thread| thread.is_media())));
    let mut call = Call::start(&server, CM_SUITES, rng).await.map_err(broken)?;
    let speech = call.speak(rng).map_err(|e| broken(e.to_string()))?;
    talk(&speech, PAYLOADS_PER_LOOK).await.map_err(broken)?;
    let open = process.descriptors();
    let health = server.page("/health").map_err(broken)?;
    let all_threads = process.threads();
    claims.push(threads::states(&all_threads, &health));
    claims.push(threads::media_threads(&all_threads, &open, &health));
    let own_files = [server.state_dir(), server.log_file()];
    claims.push(threads::descriptors(open, &threads::own_descriptors(), &own_files));
    claims.push(plaintext(&process, &call, &speech).await);
    call.hold().await.map_err(broken)?;
    speech.rest();
    claims.push(on_hold(&process, &server, &call, &speech).await);
    let in_first = InCall::look(&server, &call, folder);
    call.end(speech).await.map_err(broken)?;
    claims.push(threads::system_calls(traced.and_then(Trace::end)));
    kept.extend(call.into_secrets());

    let mut call = Call::start(&server, GCM_SUITES, rng).await.map_err(broken)?;
    let speech = call.speak(rng).map_err(|e| broken(e.to_string()))?;
    talk(&speech, PAYLOADS_PER_LOOK * LOOKS).await.map_err(broken)?;
    let in_second = InCall::look(&server, &call, folder);
    claims.extend(in_first.and(in_second));
    let said = speech.end().map_err(|e| broken(e.to_string()))?;
    claims.push(plaintext_at_rest(&process, &call, said));
    claims.push(reports_at_rest(&process, &call, said));
    call.hang_up().await.map_err(broken)?;
    kept.extend(call.into_secrets());

    claims.push(residue(&process, &kept).await);
    let health = server.page("/health").map_err(broken)?;
    claims.push(dumps(process.limits("Max core file size"), &health));
    claims.push(swap(process.memory(), &fs::read_to_string("/proc/swaps")));
    claims.push(records(&server, &kept));
    claims.push(server_files(&server).await);
    server.end().await.map_err(broken)?;
    claims.push(log(&server, &kept));
    claims.push(search::written(folder, began, &kept));
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

    async fn hold(&mut self) -> Result<(), String> {
        let [a, b] = &mut self.devices;
        tokio::try_join!(a.hold(), b.held()).map(drop)
    }

    async fn hang_up(&mut self) -> Result<(), String> {
        let [a, b] = &mut self.devices;
        tokio::try_join!(a.hang_up(), b.ended()).map(drop)
    }

    fn secrets(&self) -> Needles {
        let mut needles = self.payloads();
        needles.extend(self.cnames());
        needles.extend(self.keys());
        needles
    }

    /// Closes the phones' connections.
    fn into_secrets(self) -> Needles {
        self.secrets()
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

fn process_rules(config: &Config, folder: &Path) -> Claim {
    Claim {
        name: "process-rules",
        claim: "a thread that is confined like any other of this server reads its certificates, trust anchors and what DNS needs, writes \
                in its state folder and nowhere else, and starts no program",
        verdict: tried(sandbox::trial_of_process(config, &folder.join("beside"))),
        how: "a thread of this process under the rules and the filter that this server's configuration gives, which tried each",
    }
}

/// Of the operator's own server, whose state folder is left alone.
fn reach(config: &Config, folder: &Path) -> Claim {
    let mut config = config.clone();
    let (reads, writes) = sandbox::reach(&config);
    config.server.state_dir = folder.join("state-of-another");
    let listed = |paths: &[&PathBuf]| joined(paths.iter().map(|path| path.display().to_string()));
    let reads: Vec<_> = reads.iter().filter(|path| path.exists()).collect();
    let writes: Vec<_> = writes.iter().collect();
    let verdict = match tried(sandbox::trial_of_process(&config, &folder.join("beside"))) {
        Verdict::Shown(seen) => Verdict::Shown(format!("reads {}; writes {}; {seen}", listed(&reads), listed(&writes))),
        other => other,
    };
    Claim {
        name: "reach",
        claim: "the server of your configuration reads no file but these, and writes to its state folder alone",
        verdict,
        how: "making its rules, and a thread of this process under them that tried each, with another folder in the place of the state folder",
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

/// What is said on hold goes to nobody, and must not be decrypted to find that out.
async fn on_hold(process: &Process, server: &Server, call: &Call, speech: &Speech) -> Claim {
    let payloads = call.payloads();
    let look = async {
        let before = dropped_on_hold(server)?;
        let mut bytes = 0;
        for _ in 0..LOOKS {
            rest(speech, PAYLOADS_PER_LOOK).await.map_err(Verdict::NotShown)?;
            bytes = nothing(&searched(process, &payloads)?)?;
        }
        held(&searched(process, &call.keys())?)?;
        match dropped_on_hold(server)?.saturating_sub(before) {
            0 => Err(Verdict::NotShown("no packet has come on hold".to_owned())),
            count => Ok(Verdict::Shown(format!(
                "{count} authentic packets were dropped, and {LOOKS} looks at {bytes} MB each found no payload"
            ))),
        }
    };
    Claim {
        name: "hold",
        claim: "between two AES-CM legs what is said on hold is verified and dropped, and never readable in the server's memory",
        verdict: either(look.await),
        how: "one phone puts the call on hold, both go on talking; the server's counter, and searching /proc/PID/mem meanwhile",
    }
}

/// So far, of all calls.
fn dropped_on_hold(server: &Server) -> Result<u64, Verdict> {
    let metrics = server.page("/metrics").map_err(Verdict::NotShown)?;
    let line = metrics.lines().find(|line| line.contains("reason=\"packet_on_hold\""));
    let value = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    value.ok_or_else(|| Verdict::NotShown("the metrics do not count packets on hold".to_owned()))
}

/// Waits until so many payloads more have been sent to nobody.
async fn rest(speech: &Speech, payloads: u64) -> Result<(), String> {
    let wanted = speech.resting() + payloads;
    let is_done = || (speech.resting() >= wanted).then_some(());
    wait_for(TALK_TIMEOUT, is_done).await.ok_or_else(|| "the phones have fallen silent".to_owned())
}

/// What is searched while a call goes on.
struct InCall {
    pages: Verdict,
    state: Verdict,
}

impl InCall {
    fn look(server: &Server, call: &Call, folder: &Path) -> Self {
        let secrets = call.secrets();
        Self { pages: pages(server, &secrets, true), state: search::in_call(folder, &secrets) }
    }

    /// In each of two calls.
    fn and(self, other: Self) -> [Claim; 2] {
        [
            Claim {
                name: "records-in-calls",
                claim: "during calls no page of the admin API, that of the call itself included, holds payloads, names in RTCP or keys",
                verdict: self.pages.and(other.pages),
                how: "fetching and searching each during the call with AES-CM, on hold, and during that with AES-GCM, while the phones talk",
            },
            Claim {
                name: "state-in-calls",
                claim: "during calls no file of the server's, the database's log and index included, holds payloads, names in RTCP or keys",
                verdict: self.state.and(other.state),
                how: "reading and searching each in the same calls, raw, in hexadecimal and in base64",
            },
        ]
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

/// `memory`: kilobytes that are locked, in memory and swapped out.
fn swap(memory: io::Result<[u64; 3]>, swaps: &io::Result<String>) -> Claim {
    let verdict = of_proc(memory.as_ref().map_err(io::Error::kind), |[locked, resident, swapped]| {
        // One line of headings.
        let has_swap = swaps.as_ref().map_or(true, |text| text.lines().count() > 1);
        match (locked, swapped) {
            (_, 1..) => Verdict::Failed(format!("{swapped} kB are swapped out")),
            (0, 0) if has_swap => Verdict::NotShown(
                "the memory is not locked, and this machine can swap; none is swapped out now".to_owned(),
            ),
            (0, 0) => {
                Verdict::NotShown("the memory is not locked; this machine has no swap now, but may get some".to_owned())
            }
            (_, 0) if locked < resident => {
                Verdict::Failed(format!("of {resident} kB in memory no more than {locked} kB are locked"))
            }
            (_, 0) => Verdict::Shown(format!(
                "{locked} kB of addresses are locked, which is all of the {resident} kB in memory; none is swapped out"
            )),
        }
    });
    Claim {
        name: "swap",
        claim: "the server has locked all of its memory, and none of it is in swap",
        verdict,
        how: "comparing VmLck with VmRSS, and VmSwap with nothing, in /proc/PID/status, and reading /proc/swaps",
    }
}

fn records(server: &Server, kept: &Needles) -> Claim {
    Claim {
        name: "records",
        claim: "call records, metrics and the other pages of the admin API hold neither payloads, names in RTCP nor keys",
        verdict: pages(server, kept, false),
        how: "fetching each page after the calls and searching it",
    }
}

/// `has_call`: one is in progress, and has a page of its own.
fn pages(server: &Server, kept: &Needles, has_call: bool) -> Verdict {
    let fetch = || {
        let pages = PAGES.iter().map(|page| server.page(page)).collect::<Result<Vec<_>, _>>()?;
        let calls: serde_json::Value = serde_json::from_str(&server.page("/v1/calls")?).map_err(|e| e.to_string())?;
        let ids: Vec<_> = calls.as_array().into_iter().flatten().filter_map(|call| call["id"].as_str()).collect();
        if has_call && ids.is_empty() {
            return Err("the server shows no call".to_owned());
        }
        let of_calls = ids.iter().map(|id| server.page(&format!("/v1/calls/{id}"))).collect::<Result<Vec<_>, _>>()?;
        Ok([pages, of_calls].concat())
    };
    match fetch() {
        Err(error) => Verdict::NotShown(error),
        Ok(pages) => in_text(pages.concat().as_bytes(), kept, &server.accounts[0].0),
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
