//! Files that have changed, wherever they lie, searched for what must not be kept.

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::{
    claim::{Claim, Verdict},
    joined,
    needles::Needles,
};

/// Where a program that may writes besides its own folder.
const TEMPORARY_FOLDERS: [&str; 3] = ["/tmp", "/var/tmp", "/dev/shm"];
/// Further ones are not looked at, and the claim says so.
const FILES_MAX: usize = 100_000;
const FILE_BYTES_MAX: u64 = 256 << 20;

pub(super) fn written(folder: &Path, began: SystemTime, kept: &Needles) -> Claim {
    let mut search = FileSearch::new(kept, began);
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
        how: "searching each, after the server's end, raw, in hexadecimal and in base64; what is removed by then is the claim `state-in-calls`",
    }
}

/// Through files that have changed since a time.
pub(super) struct FileSearch<'a> {
    kept: &'a Needles,
    began: SystemTime,
    files: usize,
    bytes: usize,
    /// Of other users, gone meanwhile, too large or too many.
    unread: usize,
    found: Vec<String>,
}

impl<'a> FileSearch<'a> {
    pub(super) const fn new(kept: &'a Needles, began: SystemTime) -> Self {
        Self { kept, began, files: 0, bytes: 0, unread: 0, found: Vec::new() }
    }

    pub(super) fn folder(&mut self, folder: &Path) {
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

    pub(super) fn verdict(mut self) -> Verdict {
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

/// The server's folders during a call: its database with its log and index, and what it logs. All of them are read, whenever
/// they changed: memory that is shared with a file changes no time.
pub(super) fn in_call(folder: &Path, kept: &Needles) -> Verdict {
    let mut search = FileSearch::new(kept, SystemTime::UNIX_EPOCH);
    search.folder(folder);
    let index = fs::metadata(folder.join("state/ringdown.db-shm")).map(|index| index.len());
    match (search.verdict(), index) {
        (Verdict::Shown(seen), Ok(bytes)) => Verdict::Shown(format!("{seen}; the database's index has {bytes} bytes")),
        (Verdict::Shown(_), Err(error)) => Verdict::NotShown(format!("the database's index was not found: {error}")),
        (other, _) => other,
    }
}
