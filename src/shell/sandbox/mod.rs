//! What the kernel takes away from this process before it serves, so that audio cannot be stored even by mistake or by
//! somebody who has taken a thread over.
//!
//! The process as a whole keeps reading its certificates, trust anchors and what DNS needs, and writing its state folder; it
//! starts no program and no process, and nothing becomes code any more; its memory reaches no image and no swap. Threads that handle audio keep the few system calls of their
//! loop, descriptors of their own, and no file at all. Each [`Measure`] is tried out once it is taken; one that this machine does not grant is
//! [`Missing`], with the cause and the remedy. Whether the server then starts is the operator's choice.
//!
//! Out of reach: the kernel itself and whoever rules it, and what threads of one process share, its memory.

use std::{
    fmt, io,
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
};

use crate::config::{Config, MediaBackend, SandboxMode};

use super::failure::Failure;

mod calls;
mod descriptors;
mod files;
mod memory;
mod trial;
pub mod wipe;

pub use calls::left_to_media;
pub use trial::{Attempt, trial, trial_of_process};

/// One thing that is taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measure {
    /// The process reads and writes its own files only.
    Files,
    /// No image of its memory is made, and no process of the same user looks into it.
    Dumps,
    /// Its memory is never swapped out.
    Memory,
    /// No thread of it has the system calls that the server does without: programs, processes, code, files in memory.
    Calls,
    /// Media threads have no descriptor but their own: no file, log, connection or listener of the process.
    MediaDescriptors,
    /// Media threads reach no file.
    MediaFiles,
    /// Media threads have the system calls of their loop only.
    MediaCalls,
}

impl Measure {
    pub const ALL: [Self; 7] = [
        Self::Files,
        Self::Dumps,
        Self::Memory,
        Self::Calls,
        Self::MediaDescriptors,
        Self::MediaFiles,
        Self::MediaCalls,
    ];

    /// As `/health` and messages name it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Dumps => "dumps",
            Self::Memory => "memory",
            Self::Calls => "calls",
            Self::MediaDescriptors => "media_descriptors",
            Self::MediaFiles => "media_files",
            Self::MediaCalls => "media_calls",
        }
    }
}

/// A measure that this machine does not grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    pub measure: Measure,
    pub cause: String,
    /// What the operator can do about it.
    pub remedy: &'static str,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}. {}.", self.measure.label(), self.cause, self.remedy)
    }
}

/// Confines the calling thread, and with it every thread that it starts from now on, to what the server needs. Must be
/// called before any other thread exists and after the state folder does: the kernel knows files, not names.
pub fn confine_process(config: &Config) -> Vec<Missing> {
    let of_memory = [memory::forbid_dumps(), memory::lock()].into_iter().filter_map(Result::err);
    of_memory.chain(confine_threads(config)).collect()
}

/// What of it is a matter of each thread.
fn confine_threads(config: &Config) -> Vec<Missing> {
    let files = files::confine(&files::Access::of(config));
    let calls = calls::confine_process(config.media.backend == MediaBackend::Xdp);
    [files, calls].into_iter().filter_map(Result::err).collect()
}

/// Where a server with this configuration reads, and where it writes: files, and folders with what is in them.
pub fn reach(config: &Config) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let files::Access { reads, writes } = files::Access::of(config);
    (reads, writes)
}

/// Whether a running server can read what takes the place of this file: not where it lies in a folder that holds much else,
/// such as `/etc` or somebody's home.
pub fn is_replaceable(file: &Path) -> bool {
    files::is_replaceable(file)
}

/// Leaves the calling thread, of all that is open, `kept` alone, in a table of its own: what it opens afterwards no other
/// thread has. What both have, the other threads must keep open until this one has ended. `outside` is any other descriptor.
pub fn part_descriptors(kept: &[BorrowedFd<'_>], outside: BorrowedFd<'_>) -> Vec<Missing> {
    descriptors::confine(kept, outside).err().into_iter().collect()
}

/// Confines the calling thread to what the loop of a media worker needs; `reads` is the one descriptor it may read from
/// that is no socket.
pub fn confine_media_thread(reads: BorrowedFd<'_>) -> Vec<Missing> {
    [files::confine_to_none(), calls::confine(reads)].into_iter().filter_map(Result::err).collect()
}

/// Takes from this process what would be taken from a server with this configuration, and from a thread of it what would
/// be taken from a media thread. The process is of little use afterwards.
pub fn attempt(config: &Config) -> Vec<Missing> {
    let mut missing = confine_process(config);
    missing.extend(attempt_of_media().unwrap_or_else(|cause| {
        let remedy = "descriptors and memory for one more thread";
        vec![Missing { measure: Measure::MediaDescriptors, cause: format!("it cannot be tried: {cause}"), remedy }]
    }));
    missing
}

fn attempt_of_media() -> io::Result<Vec<Missing>> {
    let (outside, _other) = UnixStream::pair()?;
    let confine = || {
        let mut missing = part_descriptors(&[], outside.as_fd());
        // Any descriptor stands for the one that a worker reads from.
        missing.extend(confine_media_thread(io::stdin().as_fd()));
        missing
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, confine)?;
        thread.join().map_err(|_| io::Error::other("the thread has failed"))
    })
}

/// Whether a server may run without these.
pub fn accept(mode: SandboxMode, missing: &[Missing]) -> Result<(), Failure> {
    if missing.is_empty() || mode == SandboxMode::BestEffort {
        return Ok(());
    }
    let lines: Vec<_> = missing.iter().map(|missing| format!("  {missing}\n")).collect();
    Err(Failure::Usage(format!(
        "privacy.sandbox is \"required\", but this machine does not grant all of it:\n{}\
         Or set sandbox = \"best-effort\" in [privacy]: the server then runs without, and /health says so.",
        lines.concat()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_its_remedy_and_stops_only_where_it_is_required() {
        let missing = [Missing {
            measure: Measure::Files,
            cause: "the kernel has no Landlock".to_owned(),
            remedy: "Boot another one",
        }];
        assert_eq!(accept(SandboxMode::BestEffort, &missing), Ok(()));
        assert_eq!(accept(SandboxMode::Required, &[]), Ok(()));
        let failure = accept(SandboxMode::Required, &missing).unwrap_err();
        assert_eq!(failure.code(), 64);
        let text = failure.to_string();
        assert!(text.contains("\n  files: the kernel has no Landlock. Boot another one.\n"), "{text}");
        assert!(text.contains("sandbox = \"best-effort\""), "{text}");
    }

    #[test]
    fn every_measure_has_a_label_of_its_own() {
        let mut labels = Measure::ALL.map(Measure::label).to_vec();
        labels.dedup();
        assert_eq!(labels.len(), Measure::ALL.len());
    }
}
