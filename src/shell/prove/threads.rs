//! What `/proc` and a trace of their system calls show of the server's threads, and what each has open.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
};

use crate::shell::sandbox::{self, Measure};

use super::{
    claim::{Claim, Verdict},
    is_in_force, joined, not_readable, of_proc,
    process::{Process, Thread},
    trace::Calls,
};

/// What is taken from media threads, and what from every thread.
const OF_MEDIA: [Measure; 3] = [Measure::MediaDescriptors, Measure::MediaFiles, Measure::MediaCalls];
const OF_ALL: [Measure; 2] = [Measure::Files, Measure::Calls];
/// What a thread that relays cannot do without.
const RELAYING: [&str; 2] = ["recvfrom", "sendto"];

/// By what the server says of it: of Landlock `/proc` shows nothing.
pub(super) fn states(threads: &io::Result<Vec<Thread>>, health: &str) -> Claim {
    let verdict = of_proc(threads.as_ref().map_err(io::Error::kind), |threads| {
        let out_of_force = OF_ALL.into_iter().filter(|measure| !is_in_force(health, *measure));
        let wrong: Vec<_> = out_of_force
            .map(|measure| format!("the server says that {} is not in force", measure.label()))
            .chain(
                threads
                    .iter()
                    .filter(|t| t.no_new_privileges != "1")
                    .map(|t| format!("{} may gain privileges", t.name)),
            )
            .chain(threads.iter().filter(|t| t.mode != "2").map(|t| format!("{} is under no filter", t.name)))
            .collect();
        if !wrong.is_empty() || threads.is_empty() {
            return Verdict::Failed(joined(wrong));
        }
        let states: BTreeSet<_> = threads.iter().map(|t| (&t.name, t.filters)).collect();
        let line = |(name, filters): (&String, u64)| {
            let count = threads.iter().filter(|t| &t.name == name && t.filters == filters).count();
            let times = if count == 1 { String::new() } else { format!("{count} times ") };
            format!("{times}{name} under {filters} filters")
        };
        Verdict::Shown(format!("all {} threads: {}", threads.len(), joined(states.into_iter().map(line))))
    });
    Claim {
        name: "threads",
        claim: "each thread of the server is under filters of system calls (seccomp mode 2) and rules for files (Landlock), and can gain no \
                privileges",
        verdict,
        how: "reading Seccomp, Seccomp_filters and NoNewPrivs in /proc/PID/task/*/status; of Landlock, which /proc does not show, the server \
              says that its first thread, from which all others have it, and each media thread were refused what they tried",
    }
}

/// `traced`: the calls of each media thread, from before a call until after it.
pub(super) fn system_calls(traced: io::Result<Vec<(String, Calls)>>) -> Claim {
    let left = sandbox::left_to_media();
    let verdict = match traced {
        Err(error) => not_readable(error.kind()),
        Ok(traced) => {
            let name = |call: &i64| left.get(call).map_or_else(|| format!("call {call}"), |name| (*name).to_owned());
            let names = |calls: &BTreeSet<i64>| joined(calls.iter().map(name));
            let foreign =
                traced.iter().flat_map(|(_, calls)| &calls.made).copied().filter(|call| !left.contains_key(call));
            let foreign: BTreeSet<_> = foreign.collect();
            let relays =
                |calls: &Calls| RELAYING.iter().all(|wanted| calls.made.iter().any(|call| name(call) == *wanted));
            let line = |(thread, Calls { made, refused }): &(String, Calls)| match names(refused) {
                none if none.is_empty() => format!("{thread}: {}", names(made)),
                refused => format!("{thread}: {}; refused: {refused}", names(made)),
            };
            if !foreign.is_empty() {
                Verdict::Failed(format!("also made: {}", names(&foreign)))
            } else if traced.iter().any(|(_, calls)| relays(calls)) {
                Verdict::Shown(joined(traced.iter().map(line)))
            } else {
                Verdict::NotShown("the calls by which packets are relayed were not seen".to_owned())
            }
        }
    };
    Claim {
        name: "system-calls",
        claim: "the media threads of the server make no system call but those that their filter leaves them; what libraries try besides is refused",
        verdict,
        how: "stopping each of them at every call (ptrace) from before the first call until after it, and comparing with the list in the filter",
    }
}

/// `open`: of the process. `health`: what the server says that its threads themselves have tried.
pub(super) fn media_threads(threads: &io::Result<Vec<Thread>>, open: &io::Result<Vec<String>>, health: &str) -> Claim {
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

/// What this process has open: the server has its standard output from it, and whatever it was handed itself.
pub(super) fn own_descriptors() -> Vec<String> {
    Process(std::process::id()).descriptors().unwrap_or_default()
}

/// `own`: files, and folders with what is in them.
pub(super) fn descriptors(open: io::Result<Vec<String>>, handed_down: &[String], own: &[PathBuf]) -> Claim {
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
