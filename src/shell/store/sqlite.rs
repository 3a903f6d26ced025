//! The tables and the statements on them.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, TransactionBehavior, params};

use crate::{
    call::Cdr,
    config::{Directory, Forwarding, Place, PrivateAddress, User},
    shell::{entropy, files},
    sip::registrar::{Binding, Change},
    types::{
        ConnectionId, Flow, Instant, Secret, Transport,
        limits::{CDRS_MAX, USERS_MAX},
    },
};

use super::{
    Account, StoreError,
    seal::{Given, KeyFiles, SealKey},
};

const DATABASE_FILE: &str = "ringdown.db";
/// How long one process waits for another one's transaction.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Each brings a database from the version before it to its own; the first makes a new one. Only ever appended to.
pub(super) const MIGRATIONS: [&str; 8] =
    [TABLES, FLOWS, FORWARDING, PLACES, ADMIN, ACKNOWLEDGEMENTS, REFUSALS, OPEN_CDRS];

const TABLES: &str = "
CREATE TABLE meta(
    key   TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT;
CREATE TABLE users(
    name        TEXT PRIMARY KEY,
    extension   TEXT NOT NULL UNIQUE,
    direct_line TEXT UNIQUE,
    credential  BLOB NOT NULL
) STRICT;
CREATE TABLE bindings(
    aor             TEXT NOT NULL,
    contact         TEXT NOT NULL,
    transport       TEXT NOT NULL,
    local           TEXT NOT NULL,
    remote          TEXT NOT NULL,
    connection      INTEGER NOT NULL,
    expires_unix_ns INTEGER NOT NULL,
    call_id         TEXT NOT NULL,
    cseq            INTEGER NOT NULL,
    instance        TEXT,
    user_agent      TEXT NOT NULL,
    PRIMARY KEY(aor, contact)
) STRICT;
CREATE TABLE cdrs(
    number   INTEGER PRIMARY KEY AUTOINCREMENT,
    id       TEXT NOT NULL UNIQUE,
    start_ms INTEGER NOT NULL,
    record   TEXT NOT NULL
) STRICT;
CREATE INDEX cdrs_by_start ON cdrs(start_ms);
";

const FORWARDING: &str = "
CREATE TABLE forwarding(
    user              TEXT PRIMARY KEY,
    always            TEXT,
    busy              TEXT,
    no_answer         TEXT,
    no_answer_after_s INTEGER,
    unreachable       TEXT,
    do_not_disturb    INTEGER NOT NULL
) STRICT;
";

/// `address` is sealed.
const PLACES: &str = "
CREATE TABLE places(
    user    TEXT PRIMARY KEY,
    shared  INTEGER NOT NULL,
    address BLOB
) STRICT;
";

/// Of a token, only a hash.
const ADMIN: &str = "
CREATE TABLE tokens(
    name       TEXT PRIMARY KEY,
    role       TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    hash       BLOB NOT NULL
) STRICT;
CREATE TABLE audit(
    number  INTEGER PRIMARY KEY AUTOINCREMENT,
    time_ms INTEGER NOT NULL,
    actor   TEXT NOT NULL,
    action  TEXT NOT NULL,
    subject TEXT,
    outcome TEXT NOT NULL
) STRICT;
CREATE INDEX audit_by_time ON audit(time_ms);
";

/// The texts that users have acknowledged, and who has.
const ACKNOWLEDGEMENTS: &str = "
CREATE TABLE notices(
    version TEXT PRIMARY KEY,
    text    TEXT NOT NULL
) STRICT;
CREATE TABLE acknowledgements(
    user        TEXT NOT NULL,
    notice      TEXT NOT NULL,
    time_ms     INTEGER NOT NULL,
    recorded_by TEXT NOT NULL,
    PRIMARY KEY(user, notice)
) STRICT;
";

/// Orders of tokens that may give none, told apart from those that were given.
const REFUSALS: &str = "
ALTER TABLE audit ADD COLUMN refused INTEGER NOT NULL DEFAULT 0;
UPDATE audit SET refused = 1 WHERE outcome = '403';
CREATE INDEX audit_by_kind ON audit(refused, number);
";

/// Of calls that go on: what their records would say if they ended now. Each goes when its record comes.
const OPEN_CDRS: &str = "
CREATE TABLE open_cdrs(
    id     TEXT NOT NULL UNIQUE,
    record TEXT NOT NULL
) STRICT;
";

/// Several flows of a device may have one contact; without a flow `instance` is empty or `reg_id` 0. `path` has one hop
/// to a line.
const FLOWS: &str = "
CREATE TABLE flows(
    aor             TEXT NOT NULL,
    contact         TEXT NOT NULL,
    instance        TEXT NOT NULL,
    reg_id          INTEGER NOT NULL,
    transport       TEXT NOT NULL,
    local           TEXT NOT NULL,
    remote          TEXT NOT NULL,
    connection      INTEGER NOT NULL,
    expires_unix_ns INTEGER NOT NULL,
    call_id         TEXT NOT NULL,
    cseq            INTEGER NOT NULL,
    user_agent      TEXT NOT NULL,
    path            TEXT NOT NULL,
    is_proxied      INTEGER NOT NULL,
    PRIMARY KEY(aor, contact, instance, reg_id)
) STRICT;
INSERT INTO flows
    SELECT aor, contact, coalesce(instance, ''), 0, transport, local, remote, connection, expires_unix_ns, call_id,
           cseq, user_agent, '', 0
    FROM bindings;
DROP TABLE bindings;
ALTER TABLE flows RENAME TO bindings;
";

/// The open database.
pub struct Store {
    pub(super) connection: Connection,
    pub(super) key_files: KeyFiles,
    /// As it was last needed; see [`current_key`].
    pub(super) key: SealKey,
    /// `PRAGMA data_version` just before the users were last read.
    read_version: Option<i64>,
}

impl Store {
    /// Opens or creates the database of a state folder, and the folder with it. `seal_key`: the file that holds the key, where that is
    /// not to lie in the folder.
    pub fn open(state_dir: &Path, seal_key: Option<&Path>) -> Result<Self, StoreError> {
        files::create_folder(state_dir).map_err(|e| StoreError::file(state_dir, &e))?;
        let path = state_dir.join(DATABASE_FILE);
        // SQLite gives its journal files the mode of the database file, so that one must be right first.
        files::ensure(&path).map_err(|e| StoreError::file(&path, &e))?;
        let mut connection = Connection::open(&path)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "secure_delete", true)?;
        // What does not fit goes to the memory, too: the process may write nowhere but in its state folder.
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        migrate(&mut connection)?;
        let key_files = KeyFiles::of(state_dir, seal_key);
        let key = prove_key(&mut connection, &key_files)?;
        let mut store = Self { connection, key_files, key, read_version: None };
        store.end_rotation()?;
        Ok(store)
    }

    /// Whether a state folder has a database.
    pub fn exists(state_dir: &Path) -> bool {
        state_dir.join(DATABASE_FILE).exists()
    }

    /// Binds the database to the domain its credentials are made for. A change is refused while there are users.
    pub fn claim_domain(&mut self, domain: &str) -> Result<(), StoreError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let stored: Option<String> = meta(&transaction, "domain")?;
        match stored {
            Some(stored) if stored == domain => {}
            Some(stored) if user_count(&transaction)? > 0 => {
                return Err(StoreError::OtherDomain { stored, configured: domain.to_owned() });
            }
            Some(_) | None => set_meta(&transaction, "domain", domain)?,
        }
        Ok(transaction.commit()?)
    }

    /// Adds all accounts or none.
    pub fn add_users(&mut self, domain: &str, accounts: &[Account]) -> Result<(), StoreError> {
        self.claim_domain(domain)?;
        let credentials: Vec<_> = accounts.iter().map(|account| account.credential(domain)).collect();
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let key = current_key(&mut self.key, &self.key_files, &transaction)?;
        if user_count(&transaction)?.saturating_add(accounts.len()) > USERS_MAX {
            return Err(StoreError::UsersFull);
        }
        for (account, credential) in accounts.iter().zip(&credentials) {
            check_free(&transaction, account)?;
            let sealed = key.seal(&account.name, credential);
            transaction.execute(
                "INSERT INTO users(name, extension, direct_line, credential) VALUES (?1, ?2, ?3, ?4)",
                params![account.name, account.extension, account.direct_line, sealed],
            )?;
        }
        set_meta(&transaction, "had_users", true)?;
        Ok(transaction.commit()?)
    }

    /// Removes a user; a running server notices and forgets its bindings.
    pub fn remove_user(&mut self, name: &str) -> Result<(), StoreError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute("DELETE FROM forwarding WHERE user = ?1", [name])?;
        transaction.execute("DELETE FROM places WHERE user = ?1", [name])?;
        transaction.execute("DELETE FROM acknowledgements WHERE user = ?1", [name])?;
        if transaction.execute("DELETE FROM users WHERE name = ?1", [name])? == 0 {
            return Err(StoreError::NoSuchUser(name.to_owned()));
        }
        Ok(transaction.commit()?)
    }

    /// Replaces where a user's calls go; a running server notices.
    pub fn set_forwarding(&mut self, name: &str, forwarding: &Forwarding) -> Result<(), StoreError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        check_exists(&transaction, name)?;
        let Forwarding { always, busy, no_answer, no_answer_after_s, unreachable, is_do_not_disturb } = forwarding;
        transaction.execute(
            "INSERT OR REPLACE INTO forwarding(user, always, busy, no_answer, no_answer_after_s, unreachable, \
             do_not_disturb) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![name, always, busy, no_answer, no_answer_after_s, unreachable, is_do_not_disturb],
        )?;
        Ok(transaction.commit()?)
    }

    /// Replaces the private address of a user's direct line; a running server notices.
    pub fn set_address(&mut self, name: &str, address: Option<&PrivateAddress>) -> Result<(), StoreError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let key = current_key(&mut self.key, &self.key_files, &transaction)?;
        let sealed = address.map(|address| key.seal_address(name, address));
        check_exists(&transaction, name)?;
        transaction.execute(
            "INSERT INTO places(user, shared, address) VALUES (?1, 0, ?2) \
             ON CONFLICT(user) DO UPDATE SET address = excluded.address",
            params![name, sealed],
        )?;
        Ok(transaction.commit()?)
    }

    /// Says whether others make calls as this user; a running server notices.
    pub fn set_shared(&mut self, name: &str, is_shared: bool) -> Result<(), StoreError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        check_exists(&transaction, name)?;
        transaction.execute(
            "INSERT INTO places(user, shared) VALUES (?1, ?2) ON CONFLICT(user) DO UPDATE SET shared = excluded.shared",
            params![name, is_shared],
        )?;
        Ok(transaction.commit()?)
    }

    /// Commits binding changes, what is to be known of calls that go on, and call detail records in one transaction. A record
    /// takes the place of what was known of its call before.
    pub fn commit<'c>(
        &mut self,
        changes: &[Change],
        open_cdrs: impl IntoIterator<Item = &'c Cdr>,
        cdrs: &[Cdr],
    ) -> Result<(), StoreError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        apply_changes(&transaction, changes)?;
        set_open_cdrs(&transaction, open_cdrs)?;
        insert_cdrs(&transaction, cdrs)?;
        Ok(transaction.commit()?)
    }

    /// The server lives. Kept only while calls go on, which would end with it.
    pub fn note_alive(&mut self, now: Instant) -> Result<(), StoreError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if transaction.prepare("SELECT 1 FROM open_cdrs")?.exists([])? {
            set_meta(&transaction, "alive_ms", bits(now.unix_ms()))?;
        }
        Ok(transaction.commit()?)
    }

    /// Makes records of the calls that went on when the last server ended without notice. Only for the one that owns the state
    /// folder. Returns them.
    pub fn close_interrupted(&mut self) -> Result<Vec<Cdr>, StoreError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let last_known_ms = meta(&transaction, "alive_ms")?.map_or(0, unsigned);
        let mut statement = transaction.prepare("SELECT record FROM open_cdrs ORDER BY rowid")?;
        let open = statement.query_map([], record)?;
        // One that cannot be read keeps no server from starting.
        let is_readable =
            |cdr: &rusqlite::Result<Cdr>| !matches!(cdr, Err(rusqlite::Error::FromSqlConversionFailure(..)));
        let open = open.filter(is_readable).collect::<Result<Vec<_>, _>>()?;
        drop(statement);
        let interrupted: Vec<_> = open.into_iter().map(|cdr| cdr.interrupted(last_known_ms)).collect();
        insert_cdrs(&transaction, &interrupted)?;
        transaction.execute("DELETE FROM open_cdrs", [])?;
        transaction.commit()?;
        Ok(interrupted)
    }

    /// Every user, opened.
    pub fn directory(&mut self) -> Result<Directory, StoreError> {
        self.read_version = Some(self.data_version()?);
        // One state of the database: key and values belong together.
        let transaction = self.connection.transaction()?;
        let key = current_key(&mut self.key, &self.key_files, &transaction)?;
        let mut statement = transaction.prepare(
            "SELECT name, extension, direct_line, credential, always, busy, no_answer, no_answer_after_s, unreachable, \
             coalesce(do_not_disturb, 0), coalesce(shared, 0), address FROM users \
             LEFT JOIN forwarding ON forwarding.user = name LEFT JOIN places ON places.user = name ORDER BY extension",
        )?;
        let mut rows = statement.query([])?;
        let mut users = Vec::new();
        while let Some(row) = rows.next()? {
            let (name, sealed): (String, Vec<u8>) = (row.get(0)?, row.get(3)?);
            let Some(credential) = key.open(&name, &sealed) else {
                return Err(StoreError::Damaged { user: name });
            };
            let (forwarding, address): (_, Option<Vec<u8>>) = (forwarding(row)?, row.get(11)?);
            let Ok(private_address) = address.map(|sealed| key.open_address(&name, &sealed).ok_or(())).transpose()
            else {
                return Err(StoreError::DamagedAddress { user: name });
            };
            let place = Place { private_address, is_shared: row.get(10)? };
            users.push(User { name, extension: row.get(1)?, direct_line: row.get(2)?, credential, forwarding, place });
        }
        Ok(Directory::new(users))
    }

    /// The key that makes GRUUs, sealed in the database; made at the first call.
    pub fn gruu_key(&mut self) -> Result<Secret<[u8; 32]>, StoreError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let seal_key = current_key(&mut self.key, &self.key_files, &transaction)?;
        let sealed: Option<Vec<u8>> = meta(&transaction, "gruu_key")?;
        if let Some(key) = sealed.and_then(|sealed| seal_key.open_key("gruu", &sealed)) {
            return Ok(key);
        }
        // A damaged key costs no more than the addresses it made.
        let key = Secret::new(entropy::rng().bytes());
        set_meta(&transaction, "gruu_key", seal_key.seal_key("gruu", &key))?;
        transaction.commit()?;
        Ok(key)
    }

    /// Seals every secret with a new key, in one transaction; other processes that have the database open take it as soon as
    /// they need it. See `KeyFiles` for why a crash loses nothing.
    pub fn rotate_key(&mut self) -> Result<Sealing, StoreError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let old = current_key(&mut self.key, &self.key_files, &transaction)?;
        let new = self.key_files.make_next(old)?;
        change_sealed(&transaction, |owner, sealed| old.reseal(owner, sealed, &new))?;
        set_meta(&transaction, "seal_proof", new.proof())?;
        transaction.commit()?;
        self.key = prove_key(&mut self.connection, &self.key_files)?;
        self.end_rotation()?;
        self.sealing()
    }

    /// Removes what the key before has sealed, and then what the rotation has put beside: as long as that is there, whoever
    /// opens the database comes here.
    fn end_rotation(&mut self) -> Result<(), StoreError> {
        if !self.key_files.is_rotation_left() || !self.forget_old_pages(BUSY_TIMEOUT)? {
            return Ok(());
        }
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let key = current_key(&mut self.key, &self.key_files, &transaction)?;
        self.key_files.clear(key)?;
        Ok(transaction.commit()?)
    }

    /// By which key the secrets are sealed.
    pub fn sealing(&mut self) -> Result<Sealing, StoreError> {
        let transaction = self.connection.transaction()?;
        let key = current_key(&mut self.key, &self.key_files, &transaction)?;
        let mut secrets = usize::from(meta::<Vec<u8>>(&transaction, "gruu_key")?.is_some());
        for SealedColumn { table, column, .. } in &SEALED {
            let count: u32 =
                transaction.query_row(&format!("SELECT count({column}) FROM {table}"), [], |row| row.get(0))?;
            secrets += usize::try_from(count).expect("u32 fits usize");
        }
        Ok(Sealing {
            key_id: key.id().iter().map(|byte| format!("{byte:02x}")).collect(),
            place: self.key_files.place_of(key)?.to_owned(),
            awaits: self.key_files.awaits(key)?.cloned(),
            secrets,
        })
    }

    /// The journal still holds pages as they were before their last changes; it is written back and cut to nothing. `false`:
    /// somebody is still reading there, after waiting this long.
    pub(super) fn forget_old_pages(&self, wait: Duration) -> Result<bool, StoreError> {
        self.connection.busy_timeout(wait)?;
        let is_busy = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0));
        self.connection.busy_timeout(BUSY_TIMEOUT)?;
        Ok(!is_busy?)
    }

    /// Whether anybody was ever added: a store that an operator has emptied is not a new one.
    pub fn had_users(&self) -> Result<bool, StoreError> {
        Ok(meta(&self.connection, "had_users")?.unwrap_or(false))
    }

    pub fn user_count(&self) -> Result<usize, StoreError> {
        user_count(&self.connection)
    }

    /// Bindings that have not expired; expired ones are forgotten.
    pub fn bindings(&mut self, now: Instant) -> Result<Vec<Binding>, StoreError> {
        self.connection.execute("DELETE FROM bindings WHERE expires_unix_ns <= ?1", [bits(now.unix_ns())])?;
        let mut statement = self.connection.prepare(
            "SELECT aor, contact, transport, local, remote, connection, expires_unix_ns, call_id, cseq, instance, \
             user_agent, reg_id, path, is_proxied FROM bindings ORDER BY expires_unix_ns",
        )?;
        let rows = statement.query_map([], binding)?;
        Ok(rows.collect::<Result<Vec<_>, _>>()?)
    }

    /// The newest records that started at or after `since_ms`, newest first.
    pub fn cdrs(&self, since_ms: u64, limit: u32) -> Result<Vec<Cdr>, StoreError> {
        let mut statement = self
            .connection
            .prepare("SELECT record FROM cdrs WHERE start_ms >= ?1 ORDER BY start_ms DESC, number DESC LIMIT ?2")?;
        let rows = statement.query_map(params![bits(since_ms), limit], record)?;
        Ok(rows.collect::<Result<Vec<_>, _>>()?)
    }

    /// Whether another process has written to the database since the users were last read.
    pub fn has_changed(&self) -> Result<bool, StoreError> {
        Ok(self.read_version != Some(self.data_version()?))
    }

    fn data_version(&self) -> Result<i64, StoreError> {
        Ok(self.connection.pragma_query_value(None, "data_version", |row| row.get(0))?)
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = i64::try_from(MIGRATIONS.len()).expect("there are few versions");
    let missing = usize::try_from(found).ok().and_then(|found| MIGRATIONS.get(found..));
    for migration in missing.ok_or(StoreError::NewerSchema { found, known })? {
        transaction.execute_batch(migration)?;
    }
    if found != known {
        transaction.pragma_update(None, "user_version", known)?;
    }
    Ok(transaction.commit()?)
}

/// Finds the key that the database is sealed with. Inside a transaction, so that two first starts cannot create two keys.
fn prove_key(connection: &mut Connection, files: &KeyFiles) -> Result<SealKey, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let proof: Option<Vec<u8>> = meta(&transaction, "seal_proof")?;
    let key = match proof {
        Some(proof) => {
            let key = files.find(|key| key.is_proof(&proof) || key.is_proof_without_id(&proof))?;
            if !key.is_proof(&proof) {
                change_sealed(&transaction, |_, sealed| Some(key.with_id(sealed)))?;
                set_meta(&transaction, "seal_proof", key.proof())?;
            }
            key
        }
        None => {
            let key = files.first()?;
            set_meta(&transaction, "seal_proof", key.proof())?;
            key
        }
    };
    files.settle(&key)?;
    transaction.commit()?;
    Ok(key)
}

/// The key that the database is sealed with now: another process may have rotated it. To be asked within the transaction
/// that seals or opens.
pub(super) fn current_key<'k>(
    key: &'k mut SealKey,
    files: &KeyFiles,
    transaction: &Transaction<'_>,
) -> Result<&'k SealKey, StoreError> {
    let proof: Vec<u8> = meta(transaction, "seal_proof")?.unwrap_or_default();
    if !proof.starts_with(key.id()) {
        *key = files.find(|key| key.is_proof(&proof))?;
    }
    Ok(key)
}

/// Which key seals the secrets of the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealing {
    /// In hexadecimal.
    pub key_id: String,
    /// The file that holds it.
    pub place: PathBuf,
    /// Who has another one, and must be given this one.
    pub awaits: Option<Given>,
    pub secrets: usize,
}

/// A column of sealed values.
struct SealedColumn {
    table: &'static str,
    /// The column that names the user.
    user: &'static str,
    column: &'static str,
    /// What stands before the user's name in what a value is bound to.
    purpose: &'static str,
    damaged: fn(String) -> StoreError,
}

/// Besides them, `gruu_key` among `meta`.
const SEALED: [SealedColumn; 2] = [
    SealedColumn {
        table: "users",
        user: "name",
        column: "credential",
        purpose: "",
        damaged: |user| StoreError::Damaged { user },
    },
    SealedColumn {
        table: "places",
        user: "user",
        column: "address",
        purpose: "address:",
        damaged: |user| StoreError::DamagedAddress { user },
    },
];

/// Puts something in the place of every sealed value; `change` gets what it is bound to, and the value.
fn change_sealed(
    transaction: &Transaction<'_>,
    change: impl Fn(&str, &[u8]) -> Option<Vec<u8>>,
) -> Result<(), StoreError> {
    for SealedColumn { table, user, column, purpose, damaged } in &SEALED {
        let select = format!("SELECT rowid, {user}, {column} FROM {table} WHERE {column} IS NOT NULL");
        let mut statement = transaction.prepare(&select)?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let rows = rows.collect::<Result<Vec<(i64, String, Vec<u8>)>, _>>()?;
        let mut update = transaction.prepare(&format!("UPDATE {table} SET {column} = ?2 WHERE rowid = ?1"))?;
        for (row, user, sealed) in rows {
            let Some(changed) = change(&format!("{purpose}{user}"), &sealed) else {
                return Err(damaged(user));
            };
            update.execute(params![row, changed])?;
        }
    }
    let gruu_key: Option<Vec<u8>> = meta(transaction, "gruu_key")?;
    // A damaged one is replaced when it is asked for.
    if let Some(changed) = gruu_key.and_then(|sealed| change("key:gruu", &sealed)) {
        set_meta(transaction, "gruu_key", changed)?;
    }
    Ok(())
}

fn meta<T: rusqlite::types::FromSql>(connection: &Connection, key: &str) -> Result<Option<T>, StoreError> {
    let value = connection.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0));
    Ok(value.optional()?)
}

fn set_meta(connection: &Connection, key: &str, value: impl rusqlite::ToSql) -> Result<(), StoreError> {
    connection.execute("INSERT OR REPLACE INTO meta(key, value) VALUES (?1, ?2)", params![key, value])?;
    Ok(())
}

fn user_count(connection: &Connection) -> Result<usize, StoreError> {
    let count: u32 = connection.query_row("SELECT count(*) FROM users", [], |row| row.get(0))?;
    Ok(usize::try_from(count).expect("u32 fits usize"))
}

pub(super) fn check_exists(transaction: &Transaction<'_>, user: &str) -> Result<(), StoreError> {
    let exists = transaction.prepare("SELECT 1 FROM users WHERE name = ?1")?.exists([user])?;
    exists.then_some(()).ok_or_else(|| StoreError::NoSuchUser(user.to_owned()))
}

/// A dialled number is looked up among extensions first and names second, so one user's name must not be another's
/// extension either.
fn check_free(transaction: &Transaction<'_>, account: &Account) -> Result<(), StoreError> {
    let exists = |sql: &str, value: &str| transaction.prepare_cached(sql)?.exists([value]);
    if exists("SELECT 1 FROM users WHERE name = ?1 OR extension = ?1", &account.name)? {
        return Err(StoreError::Taken(format!("the name `{}`", account.name)));
    }
    if exists("SELECT 1 FROM users WHERE extension = ?1 OR name = ?1", &account.extension)? {
        return Err(StoreError::Taken(format!("the extension `{}`", account.extension)));
    }
    match &account.direct_line {
        Some(line) if exists("SELECT 1 FROM users WHERE direct_line = ?1", line)? => {
            Err(StoreError::Taken(format!("the direct line `{line}`")))
        }
        Some(_) | None => Ok(()),
    }
}

/// A refresh changes its row in place: replacing it would move it, and write every page of the index it is in.
const SET_BINDING: &str = "INSERT INTO bindings(aor, contact, transport, local, remote, connection, expires_unix_ns, \
     call_id, cseq, instance, user_agent, reg_id, path, is_proxied) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14) \
     ON CONFLICT(aor, contact, instance, reg_id) DO UPDATE SET transport = excluded.transport, \
     local = excluded.local, remote = excluded.remote, connection = excluded.connection, \
     expires_unix_ns = excluded.expires_unix_ns, call_id = excluded.call_id, cseq = excluded.cseq, \
     user_agent = excluded.user_agent, path = excluded.path, is_proxied = excluded.is_proxied";

const REMOVE_BINDING: &str = "DELETE FROM bindings WHERE aor = ?1 AND contact = ?2 AND instance = ?3 AND reg_id = ?4";

fn apply_changes(transaction: &Transaction<'_>, changes: &[Change]) -> Result<(), StoreError> {
    let (mut set, mut remove) = (transaction.prepare_cached(SET_BINDING)?, transaction.prepare_cached(REMOVE_BINDING)?);
    for change in changes {
        match change {
            Change::Set(binding) => set.execute(params![
                binding.aor,
                binding.contact,
                binding.flow.transport.uri_token(),
                binding.flow.local.to_string(),
                binding.flow.remote.to_string(),
                bits(binding.flow.connection.0),
                bits(binding.expires_at.unix_ns()),
                binding.call_id,
                binding.cseq,
                binding.instance.as_deref().unwrap_or_default(),
                binding.user_agent,
                binding.reg_id.unwrap_or(0),
                binding.path.join("\n"),
                binding.is_proxied,
            ])?,
            Change::Remove(binding) => remove.execute(params![
                binding.aor,
                binding.contact,
                binding.instance.as_deref().unwrap_or_default(),
                binding.reg_id.unwrap_or(0),
            ])?,
        };
    }
    Ok(())
}

fn set_open_cdrs<'c>(
    transaction: &Transaction<'_>,
    open_cdrs: impl IntoIterator<Item = &'c Cdr>,
) -> Result<(), StoreError> {
    let mut set = transaction.prepare_cached(
        "INSERT INTO open_cdrs(id, record) VALUES (?1, ?2) ON CONFLICT(id) DO UPDATE SET record = excluded.record",
    )?;
    for cdr in open_cdrs {
        set.execute(params![cdr.id, text_of(cdr)])?;
    }
    Ok(())
}

/// A record that is written again after a doubtful failure is the same record. The oldest make room.
fn insert_cdrs(transaction: &Transaction<'_>, cdrs: &[Cdr]) -> Result<(), StoreError> {
    let mut insert =
        transaction.prepare_cached("INSERT OR IGNORE INTO cdrs(id, start_ms, record) VALUES (?1, ?2, ?3)")?;
    let mut close = transaction.prepare_cached("DELETE FROM open_cdrs WHERE id = ?1")?;
    for cdr in cdrs {
        insert.execute(params![cdr.id, bits(cdr.start_ms), text_of(cdr)])?;
        close.execute([&cdr.id])?;
    }
    if !cdrs.is_empty() {
        transaction
            .prepare_cached("DELETE FROM cdrs WHERE number <= (SELECT max(number) FROM cdrs) - ?1")?
            .execute([CDRS_MAX])?;
    }
    Ok(())
}

fn text_of(cdr: &Cdr) -> String {
    serde_json::to_string(cdr).expect("a record has only plain fields")
}

fn record(row: &Row<'_>) -> rusqlite::Result<Cdr> {
    let text: String = row.get(0)?;
    serde_json::from_str(&text).map_err(|e| conversion(0, e))
}

fn forwarding(row: &Row<'_>) -> rusqlite::Result<Forwarding> {
    Ok(Forwarding {
        always: row.get(4)?,
        busy: row.get(5)?,
        no_answer: row.get(6)?,
        no_answer_after_s: row.get(7)?,
        unreachable: row.get(8)?,
        is_do_not_disturb: row.get(9)?,
    })
}

fn binding(row: &Row<'_>) -> rusqlite::Result<Binding> {
    let transport: String = row.get(2)?;
    let transport = Transport::from_token(&transport)
        .ok_or_else(|| rusqlite::Error::InvalidColumnType(2, transport, rusqlite::types::Type::Text))?;
    Ok(Binding {
        aor: row.get(0)?,
        contact: row.get(1)?,
        flow: Flow {
            transport,
            local: address(row, 3)?,
            remote: address(row, 4)?,
            connection: ConnectionId(unsigned(row.get(5)?)),
        },
        expires_at: Instant::from_unix_ns(unsigned(row.get(6)?)),
        call_id: row.get(7)?,
        cseq: row.get(8)?,
        instance: row.get(9).map(|instance: String| (!instance.is_empty()).then_some(instance))?,
        user_agent: row.get(10)?,
        reg_id: row.get(11).map(|reg_id: u32| (reg_id > 0).then_some(reg_id))?,
        path: row.get(12).map(|path: String| path.lines().map(str::to_owned).collect())?,
        is_proxied: row.get(13)?,
    })
}

fn address(row: &Row<'_>, column: usize) -> rusqlite::Result<SocketAddr> {
    let text: String = row.get(column)?;
    text.parse().map_err(|e| conversion(column, e))
}

pub(super) fn conversion(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
}

/// SQLite integers are signed: the same 64 bits. Times stay below 2^63 until the year 2262 and so keep their order.
pub(super) const fn bits(value: u64) -> i64 {
    value.cast_signed()
}

const fn unsigned(value: i64) -> u64 {
    value.cast_unsigned()
}
