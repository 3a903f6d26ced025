//! Files of the operator that are taken into use again when they change.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

/// Remembers files as they were when they were last read.
#[derive(Debug)]
pub(super) struct Watch {
    files: Vec<PathBuf>,
    seen: Mutex<Vec<Trace>>,
}

/// What changes when a file does, or when it becomes readable: change time in seconds and nanoseconds, and inode. `None`: it
/// is not there.
type Trace = Option<(i64, i64, u64)>;

impl Watch {
    /// To be called before the files are read: what changes meanwhile is a change.
    pub(super) fn over<'f>(files: impl Iterator<Item = &'f PathBuf>) -> Self {
        let watch = Self { files: files.cloned().collect(), seen: Mutex::default() };
        watch.look();
        watch
    }

    /// Whether a file is another one than when this was last called. To be called before they are read.
    pub(super) fn look(&self) -> bool {
        let trace = |file: &PathBuf| fs::metadata(file).ok().map(|m| (m.ctime(), m.ctime_nsec(), m.ino()));
        let now: Vec<_> = self.files.iter().map(trace).collect();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let has_changed = *seen != now;
        *seen = now;
        has_changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::files;

    #[test]
    fn a_file_that_is_written_replaced_removed_or_made_has_changed_once() {
        let folder = tempfile::tempdir().unwrap();
        let [one, two, fresh] = ["one", "two", "fresh"].map(|name| folder.path().join(name));
        files::write(&one, b"a").unwrap();
        let watch = Watch::over([&one, &two].into_iter());
        assert!(!watch.look());
        type Change<'a> = (&'a str, &'a dyn Fn());
        let changes: [Change<'_>; 4] = [
            ("written", &|| files::write(&one, b"a").unwrap()),
            ("made", &|| files::write(&two, b"b").unwrap()),
            ("replaced", &|| {
                files::write(&fresh, b"b").unwrap();
                fs::rename(&fresh, &two).unwrap();
            }),
            ("removed", &|| fs::remove_file(&one).unwrap()),
        ];
        for (how, change) in changes {
            change();
            assert_eq!([watch.look(), watch.look()], [true, false], "{how}");
        }
    }
}
