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
    Account, Notice, Person, Role, Store, Token,
    audit::tests::entry,
    sqlite::MIGRATIONS,
    tests::{binding, cdr},
};
use crate::{
    call::Cdr,
    config::{self, Config, Forwarding, parse_address},
    shell::{entropy, files},
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
    /// Name, where all calls go, whether others call as this user, whether there is an address.
    users: BTreeSet<(String, Option<String>, bool, bool)>,
    bindings: BTreeSet<(String, u32)>,
    /// Identifier, who called, and the callee's rating.
    cdrs: BTreeSet<(String, String, Option<u8>)>,
    /// Identifier and answer of calls that go on, and until when they are known to.
    open_cdrs: BTreeSet<(String, Option<u64>, u64)>,
    tokens: Vec<String>,
    audit: usize,
    acknowledged: u32,
    has_gruu_key: bool,
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
        let mut store = Store::open(folder.path(), None).unwrap();
        let directory = store.directory().unwrap();
        Seen {
            users: directory
                .iter()
                .map(|u| {
                    let (always, place) = (u.forwarding.always.clone(), &u.place);
                    (u.name.clone(), always, place.is_shared, place.private_address.is_some())
                })
                .collect(),
            bindings: store.bindings(Instant::default()).unwrap().into_iter().map(|b| (b.contact, b.cseq)).collect(),
            cdrs: store
                .cdrs(0, u32::MAX)
                .unwrap()
                .into_iter()
                .map(|cdr| (cdr.id, cdr.caller, cdr.b.and_then(|leg| leg.rating)))
                .collect(),
            open_cdrs: store.close_interrupted().unwrap().into_iter().map(|c| (c.id, c.answer_ms, c.end_ms)).collect(),
            tokens: store.tokens().unwrap().into_iter().map(|token| token.name).collect(),
            audit: store.audit(0, u32::MAX).unwrap().len(),
            acknowledged: store.acknowledged(&notice().version, None).unwrap().coverage.acknowledged,
            has_gruu_key: store.sealing().unwrap().secrets > directory.len() + addresses(&directory),
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

fn addresses(directory: &config::Directory) -> usize {
    directory.iter().filter(|user| user.place.private_address.is_some()).count()
}

fn notice() -> Notice {
    Notice::new("a notice".to_owned())
}

fn config() -> Config {
    config::parse("[company]\nname = \"x\"\nregion = \"US\"\n").unwrap().0
}

/// Acknowledged when it returns.
type Write = Box<dyn Fn(&mut Store)>;

/// Every kind there is, but for `VACUUM`, which changes nothing that is seen.
fn writes() -> Vec<Write> {
    let refreshed = |cseq| Binding { cseq, ..binding("alice", "sip:a@h1") };
    let to_bob = Forwarding { always: Some("1002".to_owned()), ..Forwarding::default() };
    vec![
        Box::new(|s| s.add_users("example.test", &[account("alice", "1001"), account("bob", "1002")]).unwrap()),
        Box::new(move |s| s.commit(&[Change::Set(refreshed(1).into())], &[], &[cdr(1)]).unwrap()),
        Box::new(|s| s.commit(&[], [&cdr(20), &cdr(21)], &[]).unwrap()),
        Box::new(|s| s.commit(&[], [&Cdr { answer_ms: Some(23), ..cdr(20) }], &[]).unwrap()),
        Box::new(|s| s.note_alive(Instant::from_unix_ms(90)).unwrap()),
        Box::new(|s| s.commit(&[], [&cdr(22)], &[cdr(21)]).unwrap()),
        Box::new(|s| assert_eq!(s.close_interrupted().unwrap().len(), 2)),
        Box::new(move |s| s.set_forwarding("alice", &to_bob).unwrap()),
        Box::new(move |s| {
            let both = [Change::Set(refreshed(2).into()), Change::Set(binding("bob", "sip:b@h2").into())];
            s.commit(&both, &[], &[cdr(2), cdr(3)]).unwrap();
        }),
        Box::new(|s| s.set_shared("bob", true).unwrap()),
        Box::new(|s| s.set_address("bob", Some(&parse_address("RD = \"Lane\"\n").unwrap())).unwrap()),
        Box::new(|s| drop(s.gruu_key().unwrap())),
        Box::new(|s| {
            let rated = Cdr { answered_by: Some("bob".to_owned()), b: Some(Box::default()), ..cdr(9) };
            s.commit(&[], &[], &[rated]).unwrap();
        }),
        Box::new(|s| assert!(s.rate("id-9", "bob", 4).unwrap())),
        Box::new(|s| s.record(&[entry(1), entry(2)]).unwrap()),
        Box::new(|s| s.acknowledge(&["alice".to_owned(), "bob".to_owned()], &notice(), 7, "uid 0").unwrap()),
        Box::new(|s| {
            s.add_token(&Token::make("reader", Role::Read, Instant::default(), &mut entropy::rng()).0).unwrap()
        }),
        Box::new(|s| s.remove_token("reader").unwrap()),
        Box::new(move |s| s.commit(&[Change::Remove(refreshed(2).into())], &[], &[cdr(4)]).unwrap()),
        Box::new(|s| s.remove_user("bob").unwrap()),
        Box::new(|s| {
            let config = config();
            let alice = Person { name: "alice".to_owned(), numbers: vec!["1001".to_owned()], config: &config };
            assert!(!s.erase(&alice).unwrap().is_nothing());
        }),
        Box::new(|s| {
            let years_later = Instant::from_unix_ms(1_790_000_000_000);
            assert!(s.expire(years_later, &config().privacy).unwrap().records > 0);
        }),
    ]
}

/// Makes one write and cuts it everywhere. Returns the disk after it.
fn cut(store: &mut Store, folder: &Path, write: &dyn Fn(&mut Store)) -> Disk {
    let before = Disk::of(folder);
    write(store);
    let after = Disk::of(folder);
    let (unwritten, written) = (before.seen(), after.seen());
    assert_ne!(unwritten, written, "nothing was written");
    for log in torn(&before.log, &after.log) {
        let seen = Disk { log, ..before.clone() }.seen();
        assert!(seen == unwritten || seen == written, "{seen:#?} is neither {unwritten:#?} nor {written:#?}");
    }
    // A change goes to the log alone; what is copied from it comes after.
    for database in torn(&before.database, &after.database) {
        assert_eq!(Disk { database, ..after.clone() }.seen(), written);
    }
    after
}

#[test]
fn a_power_cut_in_any_change_keeps_all_before_it_and_the_change_whole_or_not_at_all() {
    let folder = in_memory();
    let mut store = Store::open(folder.path(), None).unwrap();
    for write in writes() {
        cut(&mut store, folder.path(), &*write);
    }
}

#[test]
fn a_power_cut_while_the_log_is_copied_into_the_database_and_begun_anew_loses_nothing() {
    let folder = in_memory();
    let mut store = Store::open(folder.path(), None).unwrap();
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

/// What [`Store::compact`] does, which erasure ends with: the database is written anew into the log, and the log is copied.
#[test]
fn a_power_cut_while_the_database_is_compacted_loses_nothing() {
    let folder = in_memory();
    let mut store = Store::open(folder.path(), None).unwrap();
    writes()[..8].iter().for_each(|write| write(&mut store));
    store.compact().unwrap();
    let before = Disk::of(folder.path());
    let all = before.seen();
    store.connection.execute_batch("VACUUM").unwrap();
    let after = Disk::of(folder.path());
    assert!(before.database == after.database && after.log.len() > before.log.len(), "nothing was written anew");
    for log in torn(&before.log, &after.log) {
        assert_eq!(Disk { log, ..after.clone() }.seen(), all);
    }
    store.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).unwrap();
    let copied = Disk::of(folder.path());
    for database in torn(&after.database, &copied.database) {
        assert_eq!(Disk { database, ..after.clone() }.seen(), all);
    }
    assert_eq!(copied.seen(), all);
}

/// A database of each earlier version, opened by this one.
#[test]
fn a_power_cut_in_a_migration_leaves_the_version_before_or_after() {
    for known in 1..MIGRATIONS.len() {
        let folder = in_memory();
        files::write(&folder.path().join(KEY), &[7; 32]).unwrap();
        let path = folder.path().join(DATABASE);
        files::ensure(&path).unwrap();
        let old = Connection::open(&path).unwrap();
        old.pragma_update(None, "journal_mode", "WAL").unwrap();
        MIGRATIONS[..known].iter().for_each(|migration| old.execute_batch(migration).unwrap());
        old.pragma_update(None, "user_version", known).unwrap();
        old.execute("INSERT INTO cdrs(id, start_ms, record) VALUES ('id-1', 1, ?1)", [record()]).unwrap();
        let before = Disk::of(folder.path());
        // Held open, so that the log stays.
        let store = Store::open(folder.path(), None).unwrap();
        let after = Disk::of(folder.path());
        assert!(
            before.database == after.database && before.log != after.log,
            "version {known}: a change goes to the log alone"
        );
        drop(store);
        let all = after.seen();
        assert_eq!(all.cdrs.len(), 1);
        for log in torn(&before.log, &after.log) {
            assert_eq!(Disk { log, ..after.clone() }.seen(), all, "version {known}");
        }
    }
}

fn record() -> String {
    serde_json::to_string(&cdr(1)).unwrap()
}

/// What all of the above takes for granted: without it a power cut loses what was acknowledged, and no test with files can see it.
#[test]
fn every_change_is_flushed_before_it_is_acknowledged() {
    const FULL: i64 = 2;
    let folder = in_memory();
    let store = Store::open(folder.path(), None).unwrap();
    let pragma = |name: &str| store.connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
    assert!(pragma("synchronous") >= FULL);
    let mode: String = store.connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");
}
