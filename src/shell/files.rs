//! The only module that creates files. Everything it creates belongs to the owner alone (files 0600, folders 0700), and
//! what root writes to the owner of the folder: a server that is not root must read the key that root has renewed.

#![expect(clippy::disallowed_methods, reason = "this module owns the act of creating files")]

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, flock},
    process::geteuid,
};

const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

/// Creates a folder and its missing parents with mode 0700. An existing folder keeps its owner and mode.
pub fn create_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path)
}

/// Creates or replaces a file: readers see the old content or the new, never a part, also after a power failure.
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = folder_of(path);
    let temporary = temporary_beside(path);
    let result = write_temporary(&temporary, content).and_then(|()| fs::rename(&temporary, path));
    if result.is_err() {
        // The first error is the one to report; a left-over temporary file is overwritten by the next attempt.
        let _ = fs::remove_file(&temporary);
    }
    result?;
    File::open(folder)?.sync_all()
}

/// Creates a file to write to. One that exists is left alone.
pub fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)
}

/// Makes sure that a file exists with mode 0600 before a library opens it by name; an existing one is tightened to it.
pub fn ensure(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().append(true).create(true).mode(FILE_MODE).open(path)?;
    file.set_permissions(Permissions::from_mode(FILE_MODE))
}

/// A file lock, held until the value is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "the open descriptor is the lock")] File);

/// Takes the lock at once or fails with [`io::ErrorKind::WouldBlock`].
pub fn lock(path: &Path) -> io::Result<Lock> {
    let file = OpenOptions::new().append(true).create(true).mode(FILE_MODE).open(path)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    Ok(Lock(file))
}

fn write_temporary(path: &Path, content: &[u8]) -> io::Result<()> {
    // A crash may have left one behind; `create_new` then refuses to follow a link that someone put there instead.
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        Ok(()) | Err(_) => {}
    }
    let mut file = create(path)?;
    let folder = fs::metadata(folder_of(path))?;
    if geteuid().is_root() && folder.uid() != geteuid().as_raw() {
        fchown(&file, Some(folder.uid()), Some(folder.gid()))?;
    }
    file.write_all(content)?;
    file.sync_all()
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

/// Where [`write()`] puts the content first; a crash may leave it there.
pub fn temporary_beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".new");
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn written_files_and_folders_are_the_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/b");
        create_folder(&folder).unwrap();
        let file = folder.join("key");
        write(&file, b"one").unwrap();
        assert_eq!((mode(&folder), mode(&file)), (0o700, 0o600));
        assert_eq!(fs::read(&file).unwrap(), b"one");
    }

    #[test]
    fn replacing_a_file_leaves_no_temporary_and_tightens_the_mode() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        fs::write(&file, b"old").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        // Left over from a crash, and a link: it must be neither followed nor in the way.
        std::os::unix::fs::symlink("/dev/null", dir.path().join("key.new")).unwrap();
        write(&file, b"new").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert_eq!(mode(&file), 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_root_writes_belongs_to_the_owner_of_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let is_given = std::os::unix::fs::chown(dir.path(), Some(12_345), Some(12_346)).is_ok();
        let file = dir.path().join("key");
        write(&file, b"x").unwrap();
        let owner = fs::metadata(&file).unwrap();
        let folder = fs::metadata(dir.path()).unwrap();
        assert_eq!(
            (owner.uid(), owner.uid() == 12_345),
            (folder.uid(), is_given),
            "root is whoever may give files away"
        );
        assert_eq!(mode(&file), 0o600);
    }

    #[test]
    fn a_failed_write_keeps_the_old_content() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("folder");
        fs::create_dir(&target).unwrap();
        write(&target, b"x").unwrap_err();
        assert!(target.is_dir());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_lock_is_held_until_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = lock(&path).unwrap();
        assert_eq!(lock(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(first);
        lock(&path).unwrap();
    }

    #[test]
    fn ensure_keeps_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        ensure(&path).unwrap();
        fs::write(&path, b"rows").unwrap();
        ensure(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"rows");
        assert_eq!(mode(&path), 0o600);
    }
}
