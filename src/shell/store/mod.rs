//! What survives a restart: users, bindings and call detail records, in one SQLite file of the state folder.
//!
//! [`Store`] is the database as a value: every method returns when its change is on disk (`synchronous=FULL`), so a
//! process killed at any moment loses nothing it has acknowledged. [`thread`] runs it beside the core. Passwords are
//! never stored, and what is stored of them is sealed (`seal`). Other processes (`ringdown user add`) may write to the
//! same file; [`Store::has_changed`] shows that they did.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use crate::types::limits::USER_NAME_CHARS_MAX;

mod account;
mod acknowledgements;
mod audit;
mod backlog;
mod erasure;
pub mod personal;
#[cfg(test)]
mod power_cut;
mod seal;
mod sqlite;
pub mod thread;
mod tokens;

pub use account::{Account, is_plain_name};
pub use acknowledgements::{Acknowledged, Acknowledgement, Coverage, Notice};
pub use audit::AuditEntry;
pub use backlog::{AuditPlace, Numbers, Writes};
pub use erasure::{Erased, Expired, Person};
pub use seal::Given;
use seal::SYSTEMD_CREDENTIAL;
pub use sqlite::{Sealing, Store};
pub use tokens::{OPERATOR, Role, Token, USER_PREFIX};

/// Why the store cannot do what was asked. Each text says what to do.
#[derive(Debug)]
pub enum StoreError {
    File {
        path: PathBuf,
        error: io::Error,
    },
    BadKeyFile {
        path: PathBuf,
        bytes: usize,
    },
    /// The key that the configuration names cannot be read.
    NamedKey {
        path: PathBuf,
        error: io::Error,
    },
    /// Others than the owner may read the key.
    OpenKeyFile {
        path: PathBuf,
        mode: u32,
    },
    /// There is a database and no key at all.
    KeyMissing {
        path: PathBuf,
    },
    /// The database was sealed with another key.
    WrongKey,
    /// A user's credential does not open although the key is right.
    Damaged {
        user: String,
    },
    /// The same of a user's private address.
    DamagedAddress {
        user: String,
    },
    /// The database was written by a newer version.
    NewerSchema {
        found: i64,
        known: i64,
    },
    /// Credentials hold for one domain only (it is their digest realm).
    OtherDomain {
        stored: String,
        configured: String,
    },
    /// A name, extension or direct line is in use.
    Taken(String),
    NoSuchUser(String),
    BadTokenName(String),
    TokenExists(String),
    NoSuchToken(String),
    TokensFull,
    UsersFull,
    /// Another process reads the database and keeps what was deleted in its journal.
    InUse,
    Sqlite(rusqlite::Error),
}

impl StoreError {
    fn file(path: &Path, error: &io::Error) -> Self {
        Self::File { path: path.to_owned(), error: io::Error::new(error.kind(), error.to_string()) }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, error } => {
                write!(f, "{}: {error}. The state folder must exist and belong to the user that runs ringdown.", path.display())
            }
            Self::BadKeyFile { path, bytes } => {
                write!(f, "{}: a seal key is 32 bytes, this file has {bytes}. Restore it from a backup.", path.display())
            }
            Self::NamedKey { path, error } => write!(
                f,
                "{0}: {error}. server.seal_key names it: it must exist before the first start (`umask 077; head -c 32 \
                 /dev/urandom > {0}`) and belong to the user that runs ringdown, or come as the systemd credential \
                 {SYSTEMD_CREDENTIAL}.",
                path.display()
            ),
            Self::OpenKeyFile { path, mode } => write!(
                f,
                "{0}: mode {mode:03o} lets others read the key that seals the stored passwords. `chmod 600 {0}`, and \
                 `ringdown keys rotate` if somebody may have read it.",
                path.display()
            ),
            Self::KeyMissing { path } => write!(
                f,
                "{} is missing: without the key that it is sealed with, no stored password opens. Restore the file from \
                 the backup of the database, name it in server.seal_key, or hand it over as the systemd credential \
                 {SYSTEMD_CREDENTIAL}; where all are lost, move the database away and add the users again.",
                path.display()
            ),
            Self::WrongKey => f.write_str(
                "the database was sealed with another key. Restore seal.key (or the systemd credential ringdown-seal-key) \
                 that belongs to it, or move the database away and add the users again.",
            ),
            Self::Damaged { user } => {
                write!(f, "the stored credential of user `{user}` is damaged. Remove the user and add it again.")
            }
            Self::DamagedAddress { user } => write!(
                f,
                "the stored address of user `{user}` is damaged. Set it again or remove it with `ringdown user address`."
            ),
            Self::NewerSchema { found, known } => write!(
                f,
                "the database has schema {found}, this version knows {known}. Run the newer version that wrote it."
            ),
            Self::OtherDomain { stored, configured } => write!(
                f,
                "server.domain is `{configured}`, but the stored passwords hold for `{stored}` only. Set server.domain \
                 back, or remove every user (`ringdown user remove NAME`) and add them again."
            ),
            Self::Taken(what) => write!(f, "{what} is in use by another user. Choose another."),
            Self::NoSuchUser(name) => write!(f, "there is no user `{name}`. `ringdown user list` shows all."),
            Self::BadTokenName(name) => write!(
                f,
                "token `{name}`: a name is 1 to {USER_NAME_CHARS_MAX} letters, digits, `.`, `_` or `-`, and not `{OPERATOR}`."
            ),
            Self::TokenExists(name) => {
                write!(f, "there is a token `{name}`. Choose another name, or `ringdown token remove {name}` first.")
            }
            Self::NoSuchToken(name) => write!(f, "there is no token `{name}`. `ringdown token list` shows all."),
            Self::TokensFull => f.write_str("there is no room for a further token. Remove one first."),
            Self::UsersFull => f.write_str("the directory is full. Remove a user first."),
            Self::InUse => f.write_str(
                "another program reads the database, and for it what was deleted stays in ringdown.db-wal. End that program \
                 (`fuser` names it) and run this again.",
            ),
            Self::Sqlite(error) => write!(f, "database: {error}"),
        }
    }
}

impl std::error::Error for StoreError {}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;

    use rusqlite::Connection;

    use super::*;
    use crate::{
        call::cdr::{Cdr, EndedBy, LegRecord},
        config::{Forwarding, Place, parse_address},
        sip::registrar::{Binding, Change},
        types::{
            ConnectionId, Flow, Instant, Secret, Transport,
            limits::{CDRS_MAX, USERS_MAX},
        },
    };

    const DOMAIN: &str = "example.test";

    pub(in crate::shell) fn binding(aor: &str, contact: &str) -> Binding {
        Binding {
            aor: aor.to_owned(),
            contact: contact.to_owned(),
            flow: Flow {
                transport: Transport::Tls,
                local: "[::1]:5061".parse().unwrap(),
                remote: "192.0.2.7:49152".parse().unwrap(),
                connection: ConnectionId::outbound(7),
            },
            expires_at: Instant::from_unix_ms(1_800_000_000_000),
            call_id: "c1".to_owned(),
            cseq: u32::MAX,
            instance: Some("<urn:uuid:1>".to_owned()),
            reg_id: Some(2),
            path: vec!["<sip:core;lr>".to_owned(), "\"Edge, one\" <sip:edge;lr;ob>".to_owned()],
            is_proxied: true,
            user_agent: "phone".to_owned(),
        }
    }

    pub(in crate::shell) fn cdr(n: u64) -> Cdr {
        Cdr {
            id: format!("id-{n}"),
            caller: "alice".to_owned(),
            callee: "1002".to_owned(),
            answered_by: None,
            start_ms: n,
            answer_ms: None,
            end_ms: n + 5,
            duration_s: 0,
            ended_by: EndedBy::Caller,
            status: 487,
            reason: "cancelled".to_owned(),
            emergency: false,
            transferred_by: None,
            trunk: None,
            verification: None,
            a: None,
            b: None,
        }
    }

    fn account(name: &str, extension: &str, line: Option<&str>) -> Account {
        Account::new(name, extension, line, Secret::new(format!("password of {name}"))).unwrap()
    }

    fn copy_database(from: &Path, to: &Path) {
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            if !entry.file_name().to_string_lossy().ends_with("-shm") {
                fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
            }
        }
    }

    #[test]
    fn bindings_come_back_exactly_and_removed_ones_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let (kept, gone) = (binding("alice", "sip:a@h1"), binding("alice", "sip:a@h2"));
        let mut store = Store::open(dir.path(), None).unwrap();
        store.commit(&[Change::Set(kept.clone().into()), Change::Set(gone.clone().into())], &[], &[]).unwrap();
        store.commit(&[Change::Remove(gone.into())], &[], &[]).unwrap();
        drop(store);
        assert_eq!(Store::open(dir.path(), None).unwrap().bindings(Instant::from_unix_ns(0)).unwrap(), [kept]);
    }

    #[test]
    fn a_refresh_takes_the_place_of_what_was_stored_with_all_it_says() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), None).unwrap();
        let first = binding("alice", "sip:a@h1");
        let refreshed = Binding {
            flow: Flow {
                transport: Transport::Udp,
                local: "127.0.0.1:5060".parse().unwrap(),
                remote: "192.0.2.8:5060".parse().unwrap(),
                connection: ConnectionId::NONE,
            },
            expires_at: Instant::from_unix_ms(1_900_000_000_000),
            call_id: "c2".to_owned(),
            cseq: 1,
            path: vec!["<sip:other;lr>".to_owned()],
            is_proxied: false,
            user_agent: "another phone".to_owned(),
            ..first.clone()
        };
        store.commit(&[Change::Set(first.into())], &[], &[]).unwrap();
        store.commit(&[Change::Set(refreshed.clone().into())], &[], &[]).unwrap();
        assert_eq!(store.bindings(Instant::from_unix_ns(0)).unwrap(), [refreshed]);
    }

    #[test]
    fn flows_with_one_contact_are_kept_apart() {
        let dir = tempfile::tempdir().unwrap();
        let flow = |instance: Option<&str>, reg_id| {
            let instance = instance.map(str::to_owned);
            Binding { instance, reg_id, path: Vec::new(), is_proxied: false, ..binding("alice", "sip:a@h1") }
        };
        let flows = [flow(Some("<urn:1>"), Some(1)), flow(Some("<urn:1>"), Some(2)), flow(Some("<urn:2>"), Some(1))];
        let ordinary = flow(None, None);
        let mut store = Store::open(dir.path(), None).unwrap();
        store.commit(&flows.clone().map(|binding| Change::Set(binding.into())), &[], &[]).unwrap();
        store
            .commit(&[Change::Set(ordinary.clone().into()), Change::Remove(flows[1].clone().into())], &[], &[])
            .unwrap();
        let mut left = store.bindings(Instant::from_unix_ns(0)).unwrap();
        left.sort_by_key(|binding| binding.instance.clone());
        assert_eq!(left, [ordinary, flows[0].clone(), flows[2].clone()]);
    }

    #[test]
    fn a_database_of_the_first_schema_opens_with_its_bindings() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ringdown.db");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(sqlite::MIGRATIONS[0]).unwrap();
        let row = "INSERT INTO bindings VALUES (?1, 'sip:a@h1', 'udp', '192.0.2.1:5060', '192.0.2.7:5062', 0, \
                   1800000000000000000, 'c1', 7, ?2, 'phone')";
        old.execute(row, rusqlite::params!["alice", "<urn:uuid:1>"]).unwrap();
        old.execute(row, rusqlite::params!["bob", None::<String>]).unwrap();
        old.pragma_update(None, "user_version", 1).unwrap();
        drop(old);
        let bindings = Store::open(dir.path(), None).unwrap().bindings(Instant::from_unix_ns(0)).unwrap();
        let read: Vec<_> = bindings.iter().map(|b| (b.aor.as_str(), b.instance.as_deref(), b.reg_id, b.cseq)).collect();
        assert_eq!(read, [("alice", Some("<urn:uuid:1>"), None, 7), ("bob", None, None, 7)]);
        assert!(bindings.iter().all(|b| b.path.is_empty() && !b.is_proxied));
        assert_eq!(Store::open(dir.path(), None).unwrap().bindings(Instant::from_unix_ns(0)).unwrap(), bindings);
    }

    #[test]
    fn the_gruu_key_is_made_once_and_lies_sealed() {
        let dir = tempfile::tempdir().unwrap();
        let key = Store::open(dir.path(), None).unwrap().gruu_key().unwrap();
        assert!(Store::open(dir.path(), None).unwrap().gruu_key().unwrap() == key);
        let is_inside = |file: &str| {
            let bytes = fs::read(dir.path().join(file)).unwrap_or_default();
            bytes.windows(32).any(|window| window == key.expose())
        };
        assert!(!is_inside("ringdown.db") && !is_inside("ringdown.db-wal"));
    }

    #[test]
    fn expired_bindings_are_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), None).unwrap();
        let binding = binding("alice", "sip:a@h1");
        store.commit(&[Change::Set(binding.clone().into())], &[], &[]).unwrap();
        assert!(store.bindings(binding.expires_at).unwrap().is_empty());
        assert!(store.bindings(Instant::from_unix_ns(0)).unwrap().is_empty());
    }

    /// Goal: a kill at any moment loses nothing acknowledged and leaves nothing half done. Method: the files of the open
    /// database are copied as a dead process would leave them, without any close, in the middle of a transaction.
    #[test]
    fn a_killed_process_leaves_every_acknowledged_change_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), None).unwrap();
        let kept = binding("alice", "sip:a@h1");
        store.commit(&[Change::Set(kept.clone().into())], &[], &[cdr(1)]).unwrap();
        let other = Connection::open(dir.path().join("ringdown.db")).unwrap();
        other.execute_batch("BEGIN IMMEDIATE; DELETE FROM bindings; DELETE FROM cdrs;").unwrap();

        let dead = tempfile::tempdir().unwrap();
        copy_database(dir.path(), dead.path());
        let mut revived = Store::open(dead.path(), None).unwrap();
        assert_eq!(revived.bindings(Instant::from_unix_ns(0)).unwrap(), [kept]);
        assert_eq!(revived.cdrs(0, 10).unwrap(), [cdr(1)]);
    }

    /// The same with the write-ahead log cut short at every length: what is lost is whole batches from the end.
    #[test]
    fn a_torn_log_loses_whole_batches_only() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), None).unwrap();
        for n in 0..3 {
            let pair = [binding("alice", &format!("sip:{n}a")), binding("alice", &format!("sip:{n}b"))];
            store.commit(&pair.map(|binding| Change::Set(binding.into())), &[], &[]).unwrap();
        }
        let log = fs::read(dir.path().join("ringdown.db-wal")).unwrap();
        for cut in (0..log.len()).step_by(1_711) {
            let dead = tempfile::tempdir().unwrap();
            copy_database(dir.path(), dead.path());
            files_write_for_test(&dead.path().join("ringdown.db-wal"), &log[..cut]);
            // Cut before the schema was complete, the database is new and its key file old: also a clean state.
            let count = Store::open(dead.path(), None).unwrap().bindings(Instant::from_unix_ns(0)).unwrap().len();
            assert_eq!(count % 2, 0, "half a batch after {cut} bytes");
        }
    }

    fn files_write_for_test(path: &Path, content: &[u8]) {
        crate::shell::files::write(path, content).unwrap();
    }

    #[test]
    fn the_same_record_twice_is_one_and_the_newest_come_first() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), None).unwrap();
        store.commit(&[], &[], &[cdr(1), cdr(3), cdr(2)]).unwrap();
        store.commit(&[], &[], &[cdr(2)]).unwrap();
        assert_eq!(store.cdrs(0, 2).unwrap(), [cdr(3), cdr(2)]);
        assert_eq!(store.cdrs(2, 10).unwrap(), [cdr(3), cdr(2)]);
        assert_eq!(store.cdrs(0, 10).unwrap().len(), 3);
    }

    #[test]
    fn records_that_an_earlier_version_wrote_are_read_beside_new_ones() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), None).unwrap();
        let old = r#"{"id":"old","caller":"alice","callee":"1002","start_ms":1,"answer_ms":2,"end_ms":3,"duration_s":0,
            "ended_by":"caller","status":200,"reason":"OK","emergency":false,"trunk":null,"a":{"transport":"tls",
            "suite":"plain","packets_received":5,"packets_sent":6,"packets_lost":1,"packets_refused":0,"jitter_ms":1.5,
            "round_trip_ms":null},"b":null}"#;
        let other = Connection::open(dir.path().join("ringdown.db")).unwrap();
        other.execute("INSERT INTO cdrs(id, start_ms, record) VALUES ('old', 1, ?1)", [old]).unwrap();
        let leg = LegRecord { mos: Some(4.1), silences: 2, far: Some(Box::default()), ..LegRecord::default() };
        let new = Cdr { a: Some(Box::new(leg)), ..cdr(2) };
        store.commit(&[], &[], std::slice::from_ref(&new)).unwrap();
        let read = store.cdrs(0, 10).unwrap();
        assert_eq!(read[0], new);
        let leg = read[1].a.as_ref().unwrap();
        assert_eq!((leg.packets_received, leg.jitter_ms, leg.mos, &leg.far, leg.silences), (5, 1.5, None, &None, 0));
    }

    #[test]
    fn the_oldest_record_makes_room_at_the_maximum_and_not_before() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), None).unwrap();
        store.commit(&[], &[], &[cdr(1)]).unwrap();
        let other = Connection::open(dir.path().join("ringdown.db")).unwrap();
        other.execute("UPDATE sqlite_sequence SET seq = ?1 WHERE name = 'cdrs'", [CDRS_MAX - 1]).unwrap();
        store.commit(&[], &[], &[cdr(2)]).unwrap();
        assert_eq!(store.cdrs(0, 10).unwrap(), [cdr(2), cdr(1)]);
        store.commit(&[], &[], &[cdr(3)]).unwrap();
        assert_eq!(store.cdrs(0, 10).unwrap(), [cdr(3), cdr(2)]);
    }

    #[test]
    fn the_last_user_there_is_room_for_is_added_and_the_next_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), None).unwrap();
        let many = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?1) \
                    INSERT INTO users SELECT 'user' || n, '9' || n, NULL, x'00' FROM n";
        let other = Connection::open(dir.path().join("ringdown.db")).unwrap();
        other.execute(many, [USERS_MAX - 1]).unwrap();
        store.add_users(DOMAIN, &[account("alice", "1001", None)]).unwrap();
        let error = store.add_users(DOMAIN, &[account("bob", "1002", None)]).unwrap_err();
        assert!(matches!(error, StoreError::UsersFull), "{error}");
        assert_eq!(store.user_count().unwrap(), USERS_MAX);
    }

    #[test]
    fn users_come_back_with_credentials_that_match_their_passwords() {
        let dir = tempfile::tempdir().unwrap();
        let alice = account("alice", "1001", Some("+15550100"));
        Store::open(dir.path(), None).unwrap().add_users(DOMAIN, std::slice::from_ref(&alice)).unwrap();
        let directory = Store::open(dir.path(), None).unwrap().directory().unwrap();
        let stored = directory.by_direct_line("+15550100").unwrap();
        assert_eq!(stored.credential, alice.credential(DOMAIN));
        assert_eq!((stored.name.as_str(), stored.extension.as_str()), ("alice", "1001"));
    }

    #[test]
    fn no_file_holds_a_password_or_its_digest() {
        let dir = tempfile::tempdir().unwrap();
        let alice = account("alice", "1001", None);
        let mut store = Store::open(dir.path(), None).unwrap();
        store.add_users(DOMAIN, std::slice::from_ref(&alice)).unwrap();
        let credential = alice.credential(DOMAIN);
        for entry in fs::read_dir(dir.path()).unwrap() {
            let content = fs::read(entry.unwrap().path()).unwrap();
            for canary in [b"password of alice".as_slice(), credential.ha1_md5.expose(), credential.ha1_sha256.expose()]
            {
                assert!(!content.windows(canary.len()).any(|w| w == canary));
            }
        }
    }

    #[test]
    fn a_taken_name_extension_or_line_adds_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), None).unwrap();
        store.add_users(DOMAIN, &[account("alice", "1001", Some("+15550100"))]).unwrap();
        for taken in [
            account("alice", "1009", None),
            account("bob", "1001", None),
            account("bob", "1009", Some("+15550100")),
            account("1001", "1009", None),
        ] {
            let error = store.add_users(DOMAIN, &[account("carol", "1003", None), taken]).unwrap_err();
            assert!(matches!(error, StoreError::Taken(_)), "{error}");
            assert_eq!(store.user_count().unwrap(), 1);
        }
    }

    #[test]
    fn a_changed_domain_is_refused_while_there_are_users() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), None).unwrap();
        store.claim_domain("old.test").unwrap();
        store.claim_domain(DOMAIN).unwrap();
        store.add_users(DOMAIN, &[account("alice", "1001", None)]).unwrap();
        let error = store.claim_domain("new.test").unwrap_err();
        assert!(matches!(&error, StoreError::OtherDomain { stored, .. } if stored == DOMAIN), "{error}");
        assert!(error.to_string().contains("Set server.domain back"));
        store.remove_user("alice").unwrap();
        store.claim_domain("new.test").unwrap();
    }

    #[test]
    fn another_seal_key_is_noticed_before_anything_is_sealed_with_it() {
        let dir = tempfile::tempdir().unwrap();
        drop(Store::open(dir.path(), None).unwrap());
        files_write_for_test(&dir.path().join("seal.key"), &[7; 32]);
        assert!(matches!(Store::open(dir.path(), None), Err(StoreError::WrongKey)));
        fs::remove_file(dir.path().join("seal.key")).unwrap();
        let error = Store::open(dir.path(), None).unwrap_err();
        assert!(matches!(error, StoreError::KeyMissing { .. }), "{error}");
        assert!(error.to_string().contains("Restore the file from the backup"), "{error}");
    }

    fn with_secrets(dir: &Path) -> Store {
        let mut store = Store::open(dir, None).unwrap();
        store.add_users(DOMAIN, &[account("alice", "1001", Some("+12025550177"))]).unwrap();
        store.set_address("alice", Some(&parse_address("RD = \"Sample Lane\"\n").unwrap())).unwrap();
        store
    }

    fn assert_opens(store: &mut Store) {
        let directory = store.directory().unwrap();
        let alice = directory.by_name("alice").unwrap();
        assert_eq!(alice.credential, account("alice", "1001", None).credential(DOMAIN));
        assert_eq!(alice.place.private_address, Some(parse_address("RD = \"Sample Lane\"\n").unwrap()));
    }

    #[test]
    fn a_backup_of_database_and_key_opens_and_one_without_the_key_says_what_is_missing() {
        let (dir, backup) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut store = with_secrets(dir.path());
        let gruu_key = store.gruu_key().unwrap();
        copy_database(dir.path(), backup.path());
        store.rotate_key().unwrap();
        let mut restored = Store::open(backup.path(), None).unwrap();
        assert_opens(&mut restored);
        assert!(restored.gruu_key().unwrap() == gruu_key);
        drop(restored);
        fs::copy(dir.path().join("seal.key"), backup.path().join("seal.key")).unwrap();
        assert!(matches!(Store::open(backup.path(), None), Err(StoreError::WrongKey)), "the key of after the rotation");
        fs::remove_file(backup.path().join("seal.key")).unwrap();
        assert!(matches!(Store::open(backup.path(), None), Err(StoreError::KeyMissing { .. })));
    }

    #[test]
    fn a_rotation_seals_everything_with_a_new_key_and_leaves_nothing_of_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = with_secrets(dir.path());
        let gruu_key = store.gruu_key().unwrap();
        let (old_key, old_id) = (fs::read(dir.path().join("seal.key")).unwrap(), store.sealing().unwrap().key_id);
        let sealing = store.rotate_key().unwrap();
        assert_eq!((sealing.secrets, sealing.place), (3, dir.path().join("seal.key")));
        assert!(sealing.key_id != old_id && store.sealing().unwrap().key_id == sealing.key_id);
        assert_ne!(fs::read(dir.path().join("seal.key")).unwrap(), old_key);
        assert!(!dir.path().join("seal.key.next").exists());
        for entry in fs::read_dir(dir.path()).unwrap() {
            let entry = entry.unwrap();
            let content = fs::read(entry.path()).unwrap();
            let id: Vec<u8> = (0..8).map(|n| u8::from_str_radix(&old_id[2 * n..2 * n + 2], 16).unwrap()).collect();
            assert!(!content.windows(8).any(|w| w == id), "{entry:?} holds what the old key has sealed");
        }
        assert!(store.gruu_key().unwrap() == gruu_key);
        drop(store);
        assert_opens(&mut Store::open(dir.path(), None).unwrap());
    }

    /// Goal: a crash at any moment of a rotation loses nothing. Method: the files as they are between its steps, which are the
    /// next key's file, the database and the own key's file.
    #[test]
    fn a_rotation_that_is_cut_short_leaves_a_database_that_opens() {
        let (dir, before) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut store = with_secrets(dir.path());
        copy_database(dir.path(), before.path());
        store.rotate_key().unwrap();
        drop(store);
        let (before, after) = (before.path(), dir.path());
        for (database, own, next) in [
            (before, before, Some(after)),
            (after, before, Some(after)),
            (after, after, Some(after)),
            (after, after, None),
        ] {
            let dead = tempfile::tempdir().unwrap();
            copy_database(database, dead.path());
            fs::copy(own.join("seal.key"), dead.path().join("seal.key")).unwrap();
            if let Some(next) = next {
                fs::copy(next.join("seal.key"), dead.path().join("seal.key.next")).unwrap();
            }
            for _ in 0..2 {
                assert_opens(&mut Store::open(dead.path(), None).unwrap());
                assert!(!dead.path().join("seal.key.next").exists());
            }
            let right = fs::read(database.join("seal.key")).unwrap();
            assert_eq!(fs::read(dead.path().join("seal.key")).unwrap(), right);
        }
    }

    #[test]
    fn another_process_goes_on_after_a_rotation_and_seals_with_the_new_key() {
        let dir = tempfile::tempdir().unwrap();
        let mut running = with_secrets(dir.path());
        running.directory().unwrap();
        let sealing = Store::open(dir.path(), None).unwrap().rotate_key().unwrap();
        assert!(running.has_changed().unwrap());
        assert_opens(&mut running);
        Store::open(dir.path(), None).unwrap().rotate_key().unwrap();
        running.add_users(DOMAIN, &[account("bob", "1002", None)]).unwrap();
        Store::open(dir.path(), None).unwrap().rotate_key().unwrap();
        running.set_address("alice", Some(&parse_address("RD = \"Sample Lane\"\n").unwrap())).unwrap();
        running.gruu_key().unwrap();
        assert_ne!(running.sealing().unwrap().key_id, sealing.key_id);
        drop(running);
        let mut store = Store::open(dir.path(), None).unwrap();
        assert_opens(&mut store);
        assert!(store.directory().unwrap().by_name("bob").is_some());
    }

    #[test]
    fn a_damaged_secret_is_named_and_nothing_is_rotated() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = with_secrets(dir.path());
        let other = Connection::open(dir.path().join("ringdown.db")).unwrap();
        other.execute("UPDATE places SET address = x'00'", []).unwrap();
        let key = fs::read(dir.path().join("seal.key")).unwrap();
        assert!(matches!(store.rotate_key(), Err(StoreError::DamagedAddress { user }) if user == "alice"));
        drop(store);
        Store::open(dir.path(), None).unwrap();
        assert_eq!(fs::read(dir.path().join("seal.key")).unwrap(), key);
        assert!(!dir.path().join("seal.key.next").exists());
    }

    #[test]
    fn values_that_were_sealed_before_keys_had_ids_are_taken_along() {
        let dir = tempfile::tempdir().unwrap();
        let gruu_key = with_secrets(dir.path()).gruu_key().unwrap();
        let old = Connection::open(dir.path().join("ringdown.db")).unwrap();
        old.execute_batch(
            "UPDATE users SET credential = substr(credential, 9); UPDATE places SET address = substr(address, 9); \
             UPDATE meta SET value = substr(value, 9) WHERE key IN ('seal_proof', 'gruu_key')",
        )
        .unwrap();
        drop(old);
        for _ in 0..2 {
            let mut store = Store::open(dir.path(), None).unwrap();
            assert_opens(&mut store);
            assert!(store.gruu_key().unwrap() == gruu_key);
        }
    }

    #[test]
    fn a_database_of_the_first_schema_is_taken_along_with_its_users() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), None).unwrap();
        store.add_users(DOMAIN, &[account("alice", "1001", None)]).unwrap();
        drop(store);
        let old = Connection::open(dir.path().join("ringdown.db")).unwrap();
        old.execute_batch(
            "DROP TABLE forwarding; DROP TABLE places; DROP TABLE tokens; DROP TABLE audit; \
             DROP TABLE notices; DROP TABLE acknowledgements; DROP TABLE open_cdrs; PRAGMA user_version = 1",
        )
        .unwrap();
        drop(old);
        let mut store = Store::open(dir.path(), None).unwrap();
        let alice = || Forwarding { busy: Some("1002".to_owned()), ..Forwarding::default() };
        assert_eq!(store.directory().unwrap().by_name("alice").unwrap().forwarding, Forwarding::default());
        store.set_forwarding("alice", &alice()).unwrap();
        assert_eq!(
            Store::open(dir.path(), None).unwrap().directory().unwrap().by_name("alice").unwrap().forwarding,
            alice()
        );
    }

    #[test]
    fn forwarding_comes_back_exactly_and_goes_with_its_user() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), None).unwrap();
        store.add_users(DOMAIN, &[account("alice", "1001", None), account("bob", "1002", None)]).unwrap();
        let text = |text: &str| Some(text.to_owned());
        let all = Forwarding {
            always: text("1002"),
            busy: text("bob"),
            no_answer: text("voicemail"),
            no_answer_after_s: Some(30),
            unreachable: text("+12025550177"),
            is_do_not_disturb: true,
        };
        store.set_forwarding("alice", &all).unwrap();
        let of = |store: &mut Store, name: &str| store.directory().unwrap().by_name(name).unwrap().forwarding.clone();
        assert_eq!(of(&mut store, "alice"), all);
        assert_eq!(of(&mut store, "bob"), Forwarding::default(), "somebody else's");
        store.remove_user("alice").unwrap();
        store.add_users(DOMAIN, &[account("alice", "1001", None)]).unwrap();
        assert_eq!(of(&mut store, "alice"), Forwarding::default(), "the next of that name inherits it");
        assert!(matches!(store.set_forwarding("eve", &all), Err(StoreError::NoSuchUser(_))));
    }

    #[test]
    fn a_private_address_lies_sealed_comes_back_exactly_and_goes_with_its_user() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), None).unwrap();
        store
            .add_users(DOMAIN, &[account("alice", "1001", Some("+12025550177")), account("bob", "1002", None)])
            .unwrap();
        let address = parse_address("country = \"US\"\nRD = \"Sample Lane Canary\"\n").unwrap();
        let place = Place { private_address: Some(address), is_shared: true };
        let set = |store: &mut Store, name: &str| {
            store.set_shared(name, true)?;
            store.set_address(name, place.private_address.as_ref())
        };
        set(&mut store, "alice").unwrap();
        let of = |store: &mut Store, name: &str| store.directory().unwrap().by_name(name).unwrap().place.clone();
        assert_eq!((of(&mut store, "alice"), of(&mut store, "bob")), (place.clone(), Place::default()));
        for entry in fs::read_dir(dir.path()).unwrap() {
            let content = fs::read(entry.unwrap().path()).unwrap();
            assert!(!content.windows(6).any(|window| window == b"Canary"));
        }
        let other = Connection::open(dir.path().join("ringdown.db")).unwrap();
        other.execute("UPDATE places SET user = 'bob'", []).unwrap();
        let error = store.directory().unwrap_err();
        assert!(matches!(&error, StoreError::DamagedAddress { user } if user == "bob"), "{error}");
        store.set_address("bob", None).unwrap();
        assert_eq!(of(&mut store, "bob"), Place { is_shared: true, ..Place::default() });
        set(&mut store, "alice").unwrap();
        store.remove_user("alice").unwrap();
        store.add_users(DOMAIN, &[account("alice", "1001", None)]).unwrap();
        assert_eq!(of(&mut store, "alice"), Place::default(), "the next of that name inherits it");
        assert!(matches!(set(&mut store, "eve"), Err(StoreError::NoSuchUser(_))));
    }

    #[test]
    fn a_newer_schema_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        drop(Store::open(dir.path(), None).unwrap());
        Connection::open(dir.path().join("ringdown.db")).unwrap().pragma_update(None, "user_version", 1_000).unwrap();
        assert!(matches!(Store::open(dir.path(), None), Err(StoreError::NewerSchema { found: 1_000, .. })));
    }

    #[test]
    fn every_file_of_the_store_is_the_owners_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let mut store = Store::open(&state, None).unwrap();
        store.commit(&[], &[], &[cdr(1)]).unwrap();
        assert_eq!(fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o700);
        let mut names = Vec::new();
        for entry in fs::read_dir(&state).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{entry:?}");
            names.push(entry.file_name());
        }
        assert!(names.len() >= 3, "{names:?}");
    }
}
