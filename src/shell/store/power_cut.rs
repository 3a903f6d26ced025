//! The disk after a power cut in the middle of every write: what was acknowledged is there, and nothing is there by half.
//!
//! Method: in its write-ahead mode SQLite appends a change to the log and flushes it before it acknowledges; now and then it
//! copies pages from the flushed log to the database, flushes that, and then begins the log anew (sqlite.org/wal.html). Of what
//! was not flushed, a power cut leaves any sectors and loses any others. So the files are read before and after each write,
//! each disk that a cut between could leave is made, and each is opened as after a start.

use std::{collections::BTreeSet, fs, path::Path};

use rusqlite::Connection;
use tempfile::TempDir;

use super::{
    Account, Store,
    tests::{binding, cdr},
};
use crate::{
    config::Forwarding,
    shell::files,
    sip::registrar::{Binding, Change},
    types::{Instant, Secret},
};

/// What disks write as a whole.
const SECTOR_BYTES: usize = 512;
const DATABASE: &str = "ringdown.db";
const LOG: &str = "ringdown.db-wal";
const KEY: &str = "seal.key";

/// What a server reads at its start, and an operator in records.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    /// Name, where all calls go, whether others call as this user.
    users: BTreeSet<(String, Option<String>, bool)>,
    bindings: BTreeSet<(String, u32)>,
    cdrs: BTreeSet<String>,
}

#[derive(Clone)]
struct Disk {
    database: Vec<u8>,
    log: Vec<u8>,
    key: Vec<u8>,
}

impl Disk {
    fn of(folder: &Path) -> Self {
        let file = |name| fs::read(folder.join(name)).unwrap();
        Self { database: file(DATABASE), log: file(LOG), key: file(KEY) }
    }

    fn seen(&self) -> Seen {
        let folder = in_memory();
        for (name, content) in [(DATABASE, &self.database), (LOG, &self.log), (KEY, &self.key)] {
            files::write(&folder.path().join(name), content).unwrap();
        }
        let mut store = Store::open(folder.path()).unwrap();
        let directory = store.directory().unwrap();
        Seen {
            users: directory.iter().map(|u| (u.name.clone(), u.forwarding.always.clone(), u.place.is_shared)).collect(),
            bindings: store.bindings(Instant::default()).unwrap().into_iter().map(|b| (b.contact, b.cseq)).collect(),
            cdrs: store.cdrs(0, u32::MAX).unwrap().into_iter().map(|cdr| cdr.id).collect(),
        }
    }
}

/// A folder where flushing costs nothing, if there is one: what is flushed when is what is tested, not that it is.
fn in_memory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// What a write that turned `before` into `after` can leave: its first sectors only, all but one, and one that is neither old
/// nor new.
fn torn<'a>(before: &'a [u8], after: &'a [u8]) -> impl Iterator<Item = Vec<u8>> + 'a {
    let sectors = after.len().div_ceil(SECTOR_BYTES);
    let changed = (0..sectors).filter(|&n| sector(before, n) != sector(after, n)).collect::<Vec<_>>();
    changed.into_iter().flat_map(move |n| {
        let start = n * SECTOR_BYTES;
        let end = after.len().min(start + SECTOR_BYTES);
        let first_sectors = [&after[..start], before.get(start..).unwrap_or_default()].concat();
        let with = |content: &[u8]| [&after[..start], content, &after[end..]].concat();
        let mut old = sector(before, n).to_vec();
        old.resize(end - start, 0);
        // Bytes that the write did not touch stay (sqlite.org/psow.html).
        let garbage: Vec<u8> = old.iter().zip(&after[start..]).map(|(a, b)| if a == b { *a } else { !b }).collect();
        [first_sectors, with(&old), with(&garbage)]
    })
}

fn sector(file: &[u8], n: usize) -> &[u8] {
    let start = file.len().min(n * SECTOR_BYTES);
    &file[start..file.len().min(start + SECTOR_BYTES)]
}

fn account(name: &str, extension: &str) -> Account {
    Account::new(name, extension, None, Secret::new(format!("password of {name}"))).unwrap()
}

/// Acknowledged when it returns.
type Write = Box<dyn Fn(&mut Store)>;

/// Every kind there is.
fn writes() -> Vec<Write> {
    let refreshed = |cseq| Binding { cseq, ..binding("alice", "sip:a@h1") };
    let to_bob = Forwarding { always: Some("1002".to_owned()), ..Forwarding::default() };
    vec![
        Box::new(|s| s.add_users("example.test", &[account("alice", "1001"), account("bob", "1002")]).unwrap()),
        Box::new(move |s| s.commit(&[Change::Set(refreshed(1).into())], &[cdr(1)]).unwrap()),
        Box::new(move |s| s.set_forwarding("alice", &to_bob).unwrap()),
        Box::new(move |s| {
            let both = [Change::Set(refreshed(2).into()), Change::Set(binding("bob", "sip:b@h2").into())];
            s.commit(&both, &[cdr(2), cdr(3)]).unwrap();
        }),
        Box::new(|s| s.set_shared("bob", true).unwrap()),
        Box::new(move |s| s.commit(&[Change::Remove(refreshed(2).into())], &[cdr(4)]).unwrap()),
        Box::new(|s| s.remove_user("bob").unwrap()),
    ]
}

/// Makes one write and cuts it everywhere. Returns the disk after it.
fn cut(store: &mut Store, folder: &Path, write: &dyn Fn(&mut Store)) -> Disk {
    let before = Disk::of(folder);
    write(store);
    let after = Disk::of(folder);
    assert_eq!(before.database, after.database, "a change goes to the log alone");
    let (unwritten, written) = (before.seen(), after.seen());
    assert_ne!(unwritten, written, "nothing was written");
    for log in torn(&before.log, &after.log) {
        let seen = Disk { log, ..after.clone() }.seen();
        assert!(seen == unwritten || seen == written, "{seen:#?} is neither {unwritten:#?} nor {written:#?}");
    }
    after
}

#[test]
fn a_power_cut_in_any_change_keeps_all_before_it_and_the_change_whole_or_not_at_all() {
    let folder = in_memory();
    let mut store = Store::open(folder.path()).unwrap();
    for write in writes() {
        cut(&mut store, folder.path(), &*write);
    }
}

#[test]
fn a_power_cut_while_the_log_is_copied_into_the_database_and_begun_anew_loses_nothing() {
    let folder = in_memory();
    let mut store = Store::open(folder.path()).unwrap();
    let (last, first) = {
        let mut writes = writes();
        (writes.split_off(4), writes)
    };
    first.iter().for_each(|write| write(&mut store));
    let before = Disk::of(folder.path());
    let other = Connection::open(folder.path().join(DATABASE)).unwrap();
    other.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).unwrap();
    let after = Disk::of(folder.path());
    assert!(before.log == after.log && before.database != after.database, "the log was not copied");
    let all = before.seen();
    for database in torn(&before.database, &after.database) {
        assert_eq!(Disk { database, ..after.clone() }.seen(), all);
    }
    // The next change overwrites the beginning of the log, which the database does not need any more.
    let begun = cut(&mut store, folder.path(), &*last[0]);
    assert_ne!(after.log[16..24], begun.log[16..24], "the log was not begun anew");
    for write in &last[1..] {
        cut(&mut store, folder.path(), &**write);
    }
}
