//! What `/proc` shows of another process: threads, descriptors, limits, and its memory, which is searched as it is read
//! and never kept.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::needles::Needles;

const PAGE_BYTES: u64 = 4_096;
/// Read at once.
const CHUNK_BYTES: usize = 1 << 20;
/// Of a page in `/proc/PID/pagemap`: in memory, or swapped out (proc_pid_pagemap(5)).
const PAGE_EXISTS: u64 = 1 << 63 | 1 << 62;
const PAGEMAP_ENTRY_BYTES: usize = 8;

/// One process, by its number.
pub(super) struct Process(pub(super) u32);

/// One of its threads.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Thread {
    /// As `/proc/PID/task` names it.
    pub(super) id: i32,
    pub(super) name: String,
    /// 2: under a seccomp filter (proc_pid_status(5)).
    pub(super) mode: String,
    /// Seccomp filters that it is under, those of a container or a service manager included.
    pub(super) filters: u64,
    pub(super) no_new_privileges: String,
    /// What each of its descriptors leads to, or why that is not shown.
    pub(super) descriptors: Result<Vec<String>, io::ErrorKind>,
}

impl Thread {
    /// Handles audio.
    pub(super) fn is_media(&self) -> bool {
        self.name.strip_prefix("media-").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
    }
}

/// What a search has found, and how much it has seen.
#[derive(Debug, Default)]
pub(super) struct Searched {
    pub(super) bytes: u64,
    /// Secret, form, and the mapping it lies in.
    pub(super) found: Vec<String>,
}

impl Process {
    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.0))
    }

    /// Kilobytes that are locked, in memory and swapped out.
    pub(super) fn memory(&self) -> io::Result<[u64; 3]> {
        let status = fs::read_to_string(self.path("status"))?;
        let kilobytes = |field| {
            let value = field_of(&status, field)?;
            value.trim_end_matches(" kB").parse().map_err(|_| missing(field))
        };
        Ok([kilobytes("VmLck")?, kilobytes("VmRSS")?, kilobytes("VmSwap")?])
    }

    pub(super) fn threads(&self) -> io::Result<Vec<Thread>> {
        let tasks = fs::read_dir(self.path("task"))?;
        tasks
            .map(|task| {
                let task = task?;
                let id = task.file_name().to_str().and_then(|id| id.parse().ok());
                let task = task.path();
                let status = fs::read_to_string(task.join("status"))?;
                Ok(Thread {
                    id: id.ok_or_else(|| missing("number of a thread"))?,
                    mode: field_of(&status, "Seccomp")?,
                    name: field_of(&status, "Name")?,
                    filters: field_of(&status, "Seccomp_filters")?.parse().map_err(|_| missing("Seccomp_filters"))?,
                    no_new_privileges: field_of(&status, "NoNewPrivs")?,
                    descriptors: targets(&task.join("fd")).map_err(|error| error.kind()),
                })
            })
            .collect()
    }

    /// What each open descriptor leads to, those of threads with a table of their own apart.
    pub(super) fn descriptors(&self) -> io::Result<Vec<String>> {
        targets(&self.path("fd"))
    }

    /// Soft and hard.
    pub(super) fn limits(&self, name: &str) -> io::Result<[String; 2]> {
        let text = fs::read_to_string(self.path("limits"))?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)).ok_or_else(|| missing(name))?;
        let mut values = line.split_ascii_whitespace().map(str::to_owned);
        Ok([(); 2].map(|()| values.next().unwrap_or_default()))
    }

    /// Looks through everything that the process can write to and has. It goes on meanwhile: what comes and goes between
    /// two reads is not seen.
    pub(super) fn search(&self, needles: &Needles) -> io::Result<Searched> {
        let memory = File::open(self.path("mem"))?;
        let pages = File::open(self.path("pagemap"))?;
        let maps = fs::read_to_string(self.path("maps"))?;
        let mut searched = Searched::default();
        for mapping in maps.lines().filter_map(Mapping::parse) {
            for run in mapping.present(&pages)? {
                search_run(&memory, run, &mapping.name, needles, &mut searched);
            }
        }
        searched.found.sort();
        searched.found.dedup();
        Ok(searched)
    }
}

/// Writable memory in one piece.
#[derive(Debug, PartialEq, Eq)]
struct Mapping {
    begin: u64,
    end: u64,
    name: String,
}

impl Mapping {
    /// A line of `/proc/PID/maps`. `None`: nothing can be written there.
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split_ascii_whitespace();
        let (begin, end) = fields.next()?.split_once('-')?;
        let is_writable = fields.next()?.starts_with("rw");
        let name = fields.nth(3).unwrap_or("anonymous memory").to_owned();
        let address = |text| u64::from_str_radix(text, 16).ok();
        is_writable.then_some(Self { begin: address(begin)?, end: address(end)?, name })
    }

    /// The parts of it that exist, in memory or in swap; the rest was never written.
    fn present(&self, pages: &File) -> io::Result<Vec<(u64, u64)>> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        let count = usize::try_from((self.end - self.begin) / PAGE_BYTES).expect("memory fits the address space");
        let mut entries = vec![0; count.min(CHUNK_BYTES / PAGEMAP_ENTRY_BYTES) * PAGEMAP_ENTRY_BYTES];
        let mut page = self.begin;
        while page < self.end {
            let offset = page / PAGE_BYTES * PAGEMAP_ENTRY_BYTES as u64;
            let read = pages.read_at(&mut entries, offset)?;
            if read < PAGEMAP_ENTRY_BYTES {
                break;
            }
            for entry in entries[..read].chunks_exact(PAGEMAP_ENTRY_BYTES) {
                let entry = u64::from_ne_bytes(entry.try_into().expect("a chunk of eight"));
                if page < self.end && entry & PAGE_EXISTS != 0 {
                    match runs.last_mut().filter(|(_, end)| *end == page) {
                        Some((_, end)) => *end += PAGE_BYTES,
                        None => runs.push((page, page + PAGE_BYTES)),
                    }
                }
                page += PAGE_BYTES;
            }
        }
        Ok(runs)
    }
}

fn search_run(memory: &File, (begin, end): (u64, u64), name: &str, needles: &Needles, searched: &mut Searched) {
    let mut buffer = Zeroizing::new(vec![0; CHUNK_BYTES]);
    let mut at = begin;
    while at < end {
        let wanted = usize::try_from(end - at).unwrap_or(usize::MAX).min(CHUNK_BYTES);
        // Unmapped since the list was read.
        let Ok(read) = memory.read_at(&mut buffer[..wanted], at) else { return };
        if read == 0 {
            return;
        }
        searched.found.extend(needles.find_in(&buffer[..read]).iter().map(|what| format!("{what} in {name}")));
        let shared = if at + (read as u64) < end { needles.overlap().min(read - 1) } else { 0 };
        let step = (read - shared) as u64;
        searched.bytes += step;
        at += step;
    }
}

/// Of a folder of descriptors.
fn targets(folder: &Path) -> io::Result<Vec<String>> {
    let links = fs::read_dir(folder)?.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    Ok(links.map(|target| target.to_string_lossy().into_owned()).collect())
}

/// A line `name: value` of a status file.
fn field_of(status: &str, field: &str) -> io::Result<String> {
    let value = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    value.map(|value| value.trim().to_owned()).ok_or_else(|| missing(field))
}

fn missing(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("this kernel shows no {what:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needles(secret: &[u8]) -> Needles {
        let mut needles = Needles::new();
        needles.add("payload", secret);
        needles
    }

    /// Not in memory in one piece until it is made here.
    fn secret() -> Vec<u8> {
        (0..32_u8).map(|n| n.wrapping_mul(37) ^ 0x5c).collect()
    }

    #[test]
    fn what_lies_in_memory_is_found_and_what_was_wiped_is_not() {
        let own = Process(std::process::id());
        // The needles themselves are found, so another process must be looked into: a child that has the secret in its
        // environment, and one that has not.
        let hexadecimal: String = secret().iter().map(|byte| format!("{byte:02x}")).collect();
        let child = |value: &str| {
            let mut child = std::process::Command::new("sleep").arg("60").env("PLANTED", value).spawn().unwrap();
            // The memory is the new program's only once it runs.
            while fs::read_to_string(format!("/proc/{}/comm", child.id())).unwrap() != "sleep\n" {
                std::thread::yield_now();
            }
            let searched = Process(child.id()).search(&needles(&secret()));
            child.kill().unwrap();
            child.wait().unwrap();
            searched.unwrap()
        };
        let (planted, clean) = (child(&hexadecimal), child("nothing"));
        assert_eq!(planted.found, ["payload (hexadecimal) in [stack]"]);
        assert_eq!(clean.found, Vec::<String>::new());
        assert!(clean.bytes > 16_384, "{clean:?}");
        assert!(own.search(&needles(&secret())).unwrap().found.len() > 1, "our own needles");
    }

    #[test]
    fn a_secret_across_two_reads_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory");
        for at in [0, CHUNK_BYTES - 40, CHUNK_BYTES - 1, CHUNK_BYTES, 2 * CHUNK_BYTES - 7, 3 * CHUNK_BYTES - 32] {
            let mut content = vec![0; 3 * CHUNK_BYTES];
            content[at..at + 32].copy_from_slice(&secret());
            crate::shell::files::write(&path, &content).unwrap();
            let mut searched = Searched::default();
            let file = File::open(&path).unwrap();
            search_run(&file, (0, content.len() as u64), "x", &needles(&secret()), &mut searched);
            assert!(!searched.found.is_empty(), "at {at}");
            assert_eq!(searched.bytes, content.len() as u64);
        }
    }

    #[test]
    fn only_writable_mappings_are_looked_at() {
        let line = "7f00-8f00 rw-p 00000000 00:00 0                          [heap]";
        assert_eq!(Mapping::parse(line), Some(Mapping { begin: 0x7f00, end: 0x8f00, name: "[heap]".to_owned() }));
        assert_eq!(Mapping::parse("7f00-8f00 rw-p 00000000 00:00 0").unwrap().name, "anonymous memory");
        for line in ["7f00-8f00 r-xp 00000000 fe:00 131 /usr/bin/x", "7f00-8f00 ---p 00000000 00:00 0", "", "x"] {
            assert_eq!(Mapping::parse(line), None, "{line}");
        }
    }

    #[test]
    fn threads_descriptors_limits_and_status_are_those_of_the_process() {
        let own = Process(std::process::id());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("open");
        crate::shell::files::write(&path, b"").unwrap();
        let _open = File::open(&path).unwrap();
        assert!(own.descriptors().unwrap().contains(&path.canonicalize().unwrap().to_string_lossy().into_owned()));
        assert!(own.threads().unwrap().len() > 1);
        assert!(own.limits("Max open files").unwrap()[0].parse::<u64>().unwrap() > 0);
        assert!(own.limits("Max nothing").is_err());
        assert!(own.threads().unwrap().iter().any(|thread| thread.id == std::process::id().cast_signed()));
        assert!(own.memory().unwrap()[1] > 0);
    }
}
