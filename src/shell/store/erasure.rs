//! A person's data as a whole: exported, erased, and deleted by age. What that means for each column says `personal`.

use std::collections::BTreeMap;

use rusqlite::{Connection, Transaction, TransactionBehavior, params, types::ValueRef};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    config::{Config, Privacy},
    policy::{emergency::table, number},
    types::{Duration, Instant},
};

use super::{
    OPERATOR, Store, StoreError, USER_PREFIX,
    personal::{ERASED, Erasure, columns_of, owned, stored},
    sqlite::{BUSY_TIMEOUT, bits, current_key},
};

/// Rows that go in one transaction: others wait for the database meanwhile.
const EXPIRED_ROWS_MAX: u32 = 1_000;
/// Those that hold call records: of calls that are over, and of those that go on or were cut short by a crash.
const RECORDS: [&str; 2] = ["cdrs", "open_cdrs"];
const DAY: Duration = Duration::from_secs(86_400);

/// Somebody, by all the names and numbers under which the database may know them.
#[derive(Clone, Debug)]
pub struct Person<'c> {
    pub name: String,
    /// Extension, direct line, and whatever else was theirs.
    pub numbers: Vec<String>,
    pub config: &'c Config,
}

impl Person<'_> {
    /// Whether this is one of their names or numbers, as it stands or as it was dialled.
    pub fn is(&self, text: &str) -> bool {
        if text == self.name || self.numbers.iter().any(|number| number == text) {
            return true;
        }
        let region = table::region(&self.config.company.region).filter(|_| number::is_number(text));
        region.is_some_and(|region| {
            let outside = number::to_e164(text, region, &self.config.dialing.outside_prefixes);
            self.numbers.contains(&outside)
                || number::inbound_forms(text, region).iter().any(|n| self.numbers.contains(n))
        })
    }

    /// Whether a text names them.
    pub fn is_in(&self, text: &str) -> bool {
        text.split(|c: char| !c.is_ascii_alphanumeric() && !"+._-".contains(c)).any(|word| self.is(word))
    }

    /// Whether what stands in this column names them. Who gave an order is one name; neither a login of this machine
    /// (`uid 1001`) nor its operator is one of the directory; who gave it with a telephone's password is (`user alice`).
    fn is_named(&self, column: &str, text: &str) -> bool {
        match column {
            "actor" | "recorded_by" => match text.strip_prefix(USER_PREFIX) {
                Some(user) => user == self.name,
                None => text == self.name && text != OPERATOR,
            },
            _ => self.is_in(text),
        }
    }
}

/// What an erasure has done and what it has left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Erased {
    /// Rows removed, by table.
    pub removed: BTreeMap<String, usize>,
    /// Names and numbers of the person that were taken out of what stays, by column.
    pub replaced: BTreeMap<String, usize>,
    /// Records of calls over trunks that stay for bills, without the person.
    pub kept_for_bills: usize,
    /// Records of emergency calls, which stay as they are.
    pub kept_by_law: Vec<KeptRecord>,
}

/// A record that the law keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeptRecord {
    pub id: String,
    /// When it will be deleted, in milliseconds since the Unix epoch.
    pub until_ms: u64,
}

impl Erased {
    /// Nothing was there.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Adds what a second look has found; what is kept is the same for both.
    pub fn add(&mut self, later: Self) {
        for (sum, later) in [(&mut self.removed, later.removed), (&mut self.replaced, later.replaced)] {
            for (place, count) in later {
                *sum.entry(place).or_default() += count;
            }
        }
        self.kept_for_bills += later.kept_for_bills;
        self.kept_by_law = later.kept_by_law;
    }
}

/// Rows deleted for their age.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    pub records: usize,
    pub audit_entries: usize,
    pub bindings: usize,
}

impl Expired {
    /// More may be as old.
    pub fn is_partial(&self) -> bool {
        let most = usize::try_from(EXPIRED_ROWS_MAX).expect("u32 fits usize");
        self.records.max(self.audit_entries).max(self.bindings) >= most
    }

    pub const fn is_nothing(&self) -> bool {
        self.records + self.audit_entries + self.bindings == 0
    }
}

impl Store {
    /// Everything about a person, by table.
    pub fn personal_data(&mut self, person: &Person<'_>) -> Result<Map<String, Value>, StoreError> {
        let transaction = self.connection.transaction()?;
        let key = current_key(&mut self.key, &self.key_files, &transaction)?;
        let mut all = Map::new();
        for (table, owner) in owned() {
            let owned = format!("SELECT * FROM {} WHERE {owner} = ?1", table.name);
            let mut rows = rows(&transaction, &owned, [&person.name])?;
            for row in &mut rows {
                let sealed = row.remove("address").and_then(|sealed| sealed_bytes(&sealed));
                if let Some(address) = sealed.and_then(|sealed| key.open_address(&person.name, &sealed)) {
                    row.insert("address".to_owned(), serde_json::json!(address.expose()));
                }
                // Of use to nobody but who would be the person.
                row.remove("credential");
                row.remove("hash");
            }
            all.insert(table.name.to_owned(), rows.into_iter().map(Value::Object).collect());
        }
        for table in RECORDS {
            let mut records = Vec::new();
            each_record(&transaction, table, |_, record| {
                if names("cdrs.record", &record, person) {
                    records.push(Value::Object(record));
                }
                Ok(())
            })?;
            all.insert(table.to_owned(), Value::Array(records));
        }
        let mut orders = rows(&transaction, "SELECT * FROM audit", [])?;
        orders.retain(|order| names("audit", order, person));
        all.insert("audit".to_owned(), orders.into_iter().map(Value::Object).collect());
        Ok(all)
    }

    /// Takes a person out of the database: rows of their own go, and their names and numbers go out of everything else but
    /// records of emergency calls. Their bytes go from the file with [`Store::compact`].
    pub fn erase(&mut self, person: &Person<'_>) -> Result<Erased, StoreError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut erased = Erased::default();
        for (table, owner) in owned() {
            let table = table.name;
            let removed = transaction.execute(&format!("DELETE FROM {table} WHERE {owner} = ?1"), [&person.name])?;
            count(&mut erased.removed, table.to_owned(), removed);
            for column in columns_of(table, Erasure::RemovedEverywhere) {
                let emptied = replace(&transaction, table, column, person, None)?;
                count(&mut erased.replaced, format!("{table}.{column}"), emptied);
            }
        }
        for table in stored().map(|table| table.name) {
            for column in columns_of(table, Erasure::Replaced) {
                let replaced = replace(&transaction, table, column, person, Some(ERASED))?;
                count(&mut erased.replaced, format!("{table}.{column}"), replaced);
            }
        }
        for table in RECORDS {
            erase_from_records(&transaction, table, person, &mut erased)?;
        }
        transaction.commit()?;
        Ok(erased)
    }

    /// Writes the database anew, without a byte of what was deleted, and empties its journal.
    ///
    /// # Errors
    /// [`StoreError::InUse`]: somebody is still reading there, and what was deleted stands in the journal.
    pub fn compact(&self) -> Result<(), StoreError> {
        self.connection.execute_batch("VACUUM")?;
        self.empty_journal()
    }

    /// To be asked before a person is erased: whoever reads now would keep them in the journal.
    ///
    /// # Errors
    /// [`StoreError::InUse`]: somebody is reading there.
    pub fn ensure_unread(&self) -> Result<(), StoreError> {
        // A reader is in the way of a journal only if something is in it.
        let version: i64 = self.connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        self.connection.pragma_update(None, "user_version", version)?;
        self.empty_journal()
    }

    fn empty_journal(&self) -> Result<(), StoreError> {
        if self.forget_old_pages(BUSY_TIMEOUT)? { Ok(()) } else { Err(StoreError::InUse) }
    }

    /// Deletes some of what is older than it may be; see [`Expired::is_partial`]. Its bytes go with [`Store::forget_expired`].
    pub fn expire(&mut self, now: Instant, privacy: &Privacy) -> Result<Expired, StoreError> {
        let before = |days: u16| bits(now.unix_ms().saturating_sub(age(days)));
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let records = transaction.execute(
            "DELETE FROM cdrs WHERE number IN (SELECT number FROM cdrs WHERE start_ms < max(?1, ?2) AND start_ms < \
             CASE WHEN json_extract(record, '$.emergency') THEN ?2 ELSE ?1 END LIMIT ?3)",
            params![before(privacy.records_days), before(privacy.emergency_records_days), EXPIRED_ROWS_MAX],
        )?;
        let audit_entries = transaction.execute(
            "DELETE FROM audit WHERE number IN (SELECT number FROM audit WHERE time_ms < ?1 LIMIT ?2)",
            params![before(privacy.audit_days), EXPIRED_ROWS_MAX],
        )?;
        let bindings = transaction.execute(
            "DELETE FROM bindings WHERE rowid IN (SELECT rowid FROM bindings WHERE expires_unix_ns <= ?1 LIMIT ?2)",
            params![bits(now.unix_ns()), EXPIRED_ROWS_MAX],
        )?;
        transaction.commit()?;
        Ok(Expired { records, audit_entries, bindings })
    }

    /// Empties the journal of what was deleted, unless somebody is reading there: `false`. Waits for nobody.
    pub fn forget_expired(&self) -> Result<bool, StoreError> {
        self.forget_old_pages(Duration::ZERO)
    }

    /// Records how good a call was for a user who took part in it, 1 to 5. `false`: there is no such call of this user.
    pub fn rate(&mut self, call: &str, user: &str, rating: u8) -> Result<bool, StoreError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut found = None;
        for_records(&transaction, "cdrs WHERE id = ?1", [call], |number, record| {
            found = Some((number, record));
            Ok(())
        })?;
        let Some((number, mut record)) = found else { return Ok(false) };
        let mut names = numbers_of(&transaction, user)?;
        names.push(user.to_owned());
        let is_user = |field: &str| {
            record.get(field).and_then(Value::as_str).is_some_and(|text| names.iter().any(|name| name == text))
        };
        let leg = if is_user("caller") { "a" } else { "b" };
        if leg == "b" && !is_user("answered_by") {
            return Ok(false);
        }
        let Some(leg) = record.get_mut(leg).and_then(Value::as_object_mut) else { return Ok(false) };
        leg.insert("rating".to_owned(), rating.into());
        update_record(&transaction, "cdrs", number, &record)?;
        transaction.commit()?;
        Ok(true)
    }
}

/// Extension and direct line: a record names who called by one of them.
fn numbers_of(connection: &Connection, user: &str) -> Result<Vec<String>, StoreError> {
    let mut statement = connection.prepare(
        "SELECT extension FROM users WHERE name = ?1 \
         UNION SELECT direct_line FROM users WHERE name = ?1 AND direct_line IS NOT NULL",
    )?;
    let rows = statement.query_map([user], |row| row.get(0))?;
    Ok(rows.collect::<Result<Vec<_>, _>>()?)
}

/// Milliseconds.
fn age(days: u16) -> u64 {
    let age = DAY * u32::from(days);
    u64::try_from(age.as_millis()).expect("180 years are few")
}

fn count(counts: &mut BTreeMap<String, usize>, place: String, rows: usize) {
    if rows > 0 {
        *counts.entry(place).or_default() += rows;
    }
}

/// Rows by column; blobs as lists of numbers.
fn rows(
    connection: &Connection,
    select: &str,
    parameters: impl rusqlite::Params,
) -> Result<Vec<Map<String, Value>>, StoreError> {
    let mut statement = connection.prepare(select)?;
    let names: Vec<String> = statement.column_names().into_iter().map(str::to_owned).collect();
    let rows = statement.query_map(parameters, |row| {
        let cell = |(index, name): (usize, &String)| Ok((name.clone(), json(row.get_ref(index)?)));
        names.iter().enumerate().map(cell).collect::<rusqlite::Result<Map<_, _>>>()
    })?;
    Ok(rows.collect::<Result<Vec<_>, _>>()?)
}

fn json(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(integer) => integer.into(),
        ValueRef::Real(real) => real.into(),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into(),
        ValueRef::Blob(bytes) => bytes.into(),
    }
}

fn sealed_bytes(value: &Value) -> Option<Vec<u8>> {
    value.as_array()?.iter().map(|byte| u8::try_from(byte.as_u64()?).ok()).collect()
}

/// Puts `new` where a column names the person; how often.
fn replace(
    transaction: &Transaction<'_>,
    table: &str,
    column: &str,
    person: &Person<'_>,
    new: Option<&str>,
) -> Result<usize, StoreError> {
    let mut statement =
        transaction.prepare(&format!("SELECT DISTINCT {column} FROM {table} WHERE {column} IS NOT NULL"))?;
    let values = statement.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
    let mut update = transaction.prepare(&format!("UPDATE {table} SET {column} = ?2 WHERE {column} = ?1"))?;
    let mut replaced = 0;
    for value in values.into_iter().filter(|value| person.is_named(column, value)) {
        replaced += update.execute(params![value, new])?;
    }
    Ok(replaced)
}

/// Whether a field of a record or row that may name somebody names the person.
fn names(table: &str, row: &Map<String, Value>, person: &Person<'_>) -> bool {
    let is_named =
        |column: &str| row.get(column).and_then(Value::as_str).is_some_and(|text| person.is_named(column, text));
    columns_of(table, Erasure::Replaced).any(is_named)
}

fn erase_from_records(
    transaction: &Transaction<'_>,
    table: &str,
    person: &Person<'_>,
    erased: &mut Erased,
) -> Result<(), StoreError> {
    let kept_ms = age(person.config.privacy.emergency_records_days);
    let mut changed = Vec::new();
    each_record(transaction, table, |number, mut record| {
        if !names("cdrs.record", &record, person) {
            return Ok(());
        }
        if record.get("emergency") == Some(&Value::Bool(true)) {
            let id = record.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
            let start_ms = record.get("start_ms").and_then(Value::as_u64).unwrap_or_default();
            erased.kept_by_law.push(KeptRecord { id, until_ms: start_ms.saturating_add(kept_ms) });
            return Ok(());
        }
        for field in columns_of("cdrs.record", Erasure::Replaced) {
            if record.get(field).and_then(Value::as_str).is_some_and(|text| person.is_in(text)) {
                record.insert(field.to_owned(), ERASED.into());
                count(&mut erased.replaced, format!("cdrs.record.{field}"), 1);
            }
        }
        erased.kept_for_bills += usize::from(record.get("trunk").is_some_and(Value::is_string));
        changed.push((number, record));
        Ok(())
    })?;
    changed.iter().try_for_each(|(number, record)| update_record(transaction, table, *number, record))
}

fn each_record(
    transaction: &Transaction<'_>,
    table: &str,
    take: impl FnMut(i64, Map<String, Value>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    for_records(transaction, &format!("{table} ORDER BY rowid"), [], take)
}

/// `which`: a table and conditions. Each comes with its row's number.
fn for_records(
    transaction: &Transaction<'_>,
    which: &str,
    parameters: impl rusqlite::Params,
    mut take: impl FnMut(i64, Map<String, Value>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut statement = transaction.prepare(&format!("SELECT rowid, record FROM {which}"))?;
    let mut rows = statement.query(parameters)?;
    while let Some(row) = rows.next()? {
        let text: String = row.get(1)?;
        let record = serde_json::from_str(&text).map_err(|e| super::sqlite::conversion(1, e))?;
        take(row.get(0)?, record)?;
    }
    Ok(())
}

fn update_record(
    transaction: &Transaction<'_>,
    table: &str,
    number: i64,
    record: &Map<String, Value>,
) -> Result<(), StoreError> {
    let record = serde_json::to_string(record).expect("JSON is text");
    let update = format!("UPDATE {table} SET record = ?2 WHERE rowid = ?1");
    transaction.prepare_cached(&update)?.execute(params![number, record])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        call::{Cdr, cdr::LegRecord},
        config::{self, Forwarding},
        shell::store::{
            Account, AuditEntry, Notice, Role, Token,
            audit::tests::entry,
            tests::{binding, cdr},
        },
        sip::registrar::Change,
        types::Secret,
    };

    const DAY_MS: u64 = 86_400_000;

    fn config(more: &str) -> Config {
        config::parse(&format!(
            "[company]\nname = \"x\"\nregion = \"US\"\n[dialing]\noutside_prefixes = [\"9\"]\n{more}"
        ))
        .unwrap()
        .0
    }

    fn carol(config: &Config) -> Person<'_> {
        let numbers = ["770123", "+12025550187"].map(str::to_owned).to_vec();
        Person { name: "carol-canary".to_owned(), numbers, config }
    }

    fn record(n: u64, caller: &str, callee: &str) -> Cdr {
        Cdr { caller: caller.to_owned(), callee: callee.to_owned(), ..cdr(n) }
    }

    /// Carol in every place where somebody can be.
    fn filled(dir: &std::path::Path) -> Store {
        let mut store = Store::open(dir, None).unwrap();
        let account = |name: &str, extension: &str, line: Option<&str>| {
            Account::new(name, extension, line, Secret::new("password of somebody".to_owned())).unwrap()
        };
        let accounts = [account("carol-canary", "770123", Some("+12025550187")), account("bob", "1002", None)];
        store.add_users("example.test", &accounts).unwrap();
        let to = |target: &str| Some(target.to_owned());
        let forwarding = Forwarding { always: to("bob"), ..Forwarding::default() };
        store.set_forwarding("carol-canary", &forwarding).unwrap();
        let forwarding = Forwarding { busy: to("770123"), no_answer: to("912025550187"), ..Forwarding::default() };
        store.set_forwarding("bob", &Forwarding { unreachable: to("1003"), ..forwarding }).unwrap();
        store.set_address("carol-canary", Some(&config::parse_address("RD = \"Home-Canary\"\n").unwrap())).unwrap();
        let bindings = ["carol-canary", "bob"].map(|user| binding(user, &format!("sip:{user}@192.0.2.7")));
        let records = [
            Cdr { answered_by: to("bob"), ..record(1, "carol-canary", "1002") },
            record(2, "bob", "770123"),
            Cdr { trunk: to("carrier"), ..record(3, "+442079460100", "12025550187") },
            Cdr { transferred_by: to("carol-canary"), ..record(4, "bob", "1003") },
            Cdr { reason: "moved to +12025550187".to_owned(), ..record(5, "bob", "9 1202") },
            record(6, "bob", "1003"),
        ];
        let goes_on = record(7, "carol-canary", "1003");
        store.commit(&bindings.map(|binding| Change::Set(binding.into())), [&goes_on], &records).unwrap();
        let about = |subject: &str| AuditEntry { subject: to(subject), ..entry(7) };
        let by = AuditEntry { actor: "carol-canary".to_owned(), ..about("bob") };
        store.record(&[about("carol-canary"), about("bob"), about("770123"), by]).unwrap();
        let (token, _) = Token::make("carol-canary", Role::Read, Instant::default(), &mut crate::shell::entropy::rng());
        store.add_token(&token).unwrap();
        let notice = Notice::new("a notice".to_owned());
        store.acknowledge(&["bob".to_owned()], &notice, 7, "carol-canary").unwrap();
        store
    }

    fn holds(dir: &std::path::Path, needle: &str) -> bool {
        fs::read_dir(dir).unwrap().any(|entry| {
            let content = fs::read(entry.unwrap().path()).unwrap();
            content.windows(needle.len()).any(|window| window == needle.as_bytes())
        })
    }

    const TRACES: [&str; 4] = ["carol-canary", "770123", "2025550187", "Home-Canary"];

    #[test]
    fn an_erased_person_stands_in_no_file_and_everybody_else_stays() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = filled(dir.path());
        assert!(TRACES[..3].iter().all(|trace| holds(dir.path(), trace)), "the search finds nothing at all");
        let config = config("");
        let erased = store.erase(&carol(&config)).unwrap();
        store.compact().unwrap();
        for trace in TRACES {
            assert!(!holds(dir.path(), trace), "{trace} is still there");
        }
        let counts = |of: &BTreeMap<String, usize>| of.iter().map(|(k, v)| format!("{k} {v}")).collect::<Vec<_>>();
        assert_eq!(counts(&erased.removed), ["bindings 1", "forwarding 1", "places 1", "tokens 1", "users 1"]);
        let replaced = [
            "acknowledgements.recorded_by 1",
            "audit.actor 1",
            "audit.subject 2",
            "cdrs.record.callee 2",
            "cdrs.record.caller 2",
            "cdrs.record.reason 1",
            "cdrs.record.transferred_by 1",
            "forwarding.busy 1",
            "forwarding.no_answer 1",
        ];
        assert_eq!(counts(&erased.replaced), replaced);
        assert_eq!((erased.kept_for_bills, erased.kept_by_law.len()), (1, 0));
        let records = store.cdrs(0, 10).unwrap();
        assert_eq!(records.len(), 6);
        assert_eq!(records[0], record(6, "bob", "1003"));
        assert_eq!((records[3].caller.as_str(), records[3].callee.as_str()), ("+442079460100", ERASED));
        let directory = store.directory().unwrap();
        assert_eq!(directory.by_name("bob").unwrap().forwarding.unreachable.as_deref(), Some("1003"));
        assert!(directory.by_name("carol-canary").is_none());
        assert!(store.erase(&carol(&config)).unwrap().is_nothing(), "a second look finds something");
    }

    #[test]
    fn what_a_reader_keeps_in_the_journal_is_not_said_to_be_gone() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = filled(dir.path());
        store.connection.busy_timeout(Duration::ZERO).unwrap();
        let reader = Connection::open(dir.path().join("ringdown.db")).unwrap();
        reader.execute_batch("BEGIN; SELECT count(*) FROM users;").unwrap();
        let config = config("");
        assert!(matches!(store.ensure_unread(), Err(StoreError::InUse)));
        store.erase(&carol(&config)).unwrap();
        assert!(matches!(store.compact(), Err(StoreError::InUse)));
        assert!(TRACES[..3].iter().all(|trace| holds(dir.path(), trace)), "nothing was in the reader's way");
        reader.execute_batch("COMMIT").unwrap();
        store.compact().unwrap();
        assert!(TRACES.iter().all(|trace| !holds(dir.path(), trace)));
        // The journal is empty when this one begins.
        reader.execute_batch("BEGIN; SELECT count(*) FROM users;").unwrap();
        assert!(matches!(store.ensure_unread(), Err(StoreError::InUse)));
        reader.execute_batch("COMMIT").unwrap();
        store.ensure_unread().unwrap();
    }

    #[test]
    fn orders_of_a_login_or_of_the_operator_are_nobodys_of_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), None).unwrap();
        let by = |actor: &str| AuditEntry { actor: actor.to_owned(), subject: Some("bob".to_owned()), ..entry(7) };
        store.record(&[by("uid 1001"), by(OPERATOR), by("dave"), by("user operator"), by("user eve")]).unwrap();
        let config = config("");
        for (name, orders) in [("mallory", 0), (OPERATOR, 1), ("dave", 1), ("eve", 1)] {
            let person = Person { name: name.to_owned(), numbers: vec!["1001".to_owned()], config: &config };
            let data = store.personal_data(&person).unwrap();
            assert_eq!(data["audit"].as_array().unwrap().len(), orders, "{name}");
            let replaced = store.erase(&person).unwrap().replaced.get("audit.actor").copied().unwrap_or_default();
            assert_eq!(replaced, orders, "{name}");
        }
    }

    #[test]
    fn records_of_emergency_calls_stay_as_the_law_has_it_and_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), None).unwrap();
        let call = Cdr { emergency: true, ..record(1_000, "carol-canary", "911") };
        store.commit(&[], &[], std::slice::from_ref(&call)).unwrap();
        let config = config("[privacy]\nemergency_records_days = 10\n");
        let erased = store.erase(&carol(&config)).unwrap();
        assert_eq!(erased.kept_by_law, [KeptRecord { id: call.id.clone(), until_ms: 1_000 + 10 * DAY_MS }]);
        assert_eq!(store.cdrs(0, 10).unwrap(), [call]);
    }

    #[test]
    fn an_export_holds_all_of_a_person_and_nobody_elses_data() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = filled(dir.path());
        let config = config("");
        let data = store.personal_data(&carol(&config)).unwrap();
        let text = serde_json::to_string(&data).unwrap();
        for part in ["\"extension\":\"770123\"", "Home-Canary", "\"always\":\"bob\"", "sip:carol-canary@192.0.2.7"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains("credential") && !text.contains("sip:bob@"), "{text}");
        assert_eq!((data["cdrs"].as_array().unwrap().len(), data["open_cdrs"].as_array().unwrap().len()), (5, 1));
        assert_eq!(data["audit"].as_array().unwrap().len(), 3);
        assert!(data["tokens"][0]["role"] == "read" && data["tokens"][0]["hash"].is_null(), "{text}");
    }

    /// The clock is moved, not waited for.
    #[test]
    fn what_is_older_than_it_may_be_goes_and_the_rest_stays() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), None).unwrap();
        let privacy = config("[privacy]\nrecords_days = 10\nemergency_records_days = 20\naudit_days = 5\n").privacy;
        let emergency = Cdr { emergency: true, ..cdr(2) };
        let bound = binding("alice", "sip:a@h1");
        store.commit(&[Change::Set(bound.clone().into())], &[], &[cdr(1), emergency.clone()]).unwrap();
        store.record(&[entry(3)]).unwrap();
        let mut at = |ms: u64| {
            store.expire(Instant::from_unix_ms(ms), &privacy).unwrap();
            (store.cdrs(0, 10).unwrap().len(), store.audit(0, 10).unwrap().len())
        };
        assert_eq!(at(3 + 5 * DAY_MS), (2, 1), "on the last day");
        assert_eq!(at(4 + 5 * DAY_MS), (2, 0));
        assert_eq!(at(1 + 10 * DAY_MS), (2, 0));
        assert_eq!(at(2 + 10 * DAY_MS), (1, 0));
        assert_eq!(at(2 + 20 * DAY_MS), (1, 0));
        assert_eq!(at(3 + 20 * DAY_MS), (0, 0));
        let before = store.expire(Instant::from_unix_ms(bound.expires_at.unix_ms() - 1), &privacy).unwrap();
        assert_eq!((before.bindings, before.is_nothing()), (0, true));
        assert_eq!(store.expire(bound.expires_at, &privacy).unwrap().bindings, 1);
        assert!(store.forget_expired().unwrap());
        assert!(!holds(dir.path(), "sip:a@h1"), "a binding that has gone is still in a file");
    }

    #[test]
    fn many_old_records_go_bit_by_bit() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), None).unwrap();
        let most = u64::from(EXPIRED_ROWS_MAX);
        store.commit(&[], &[], &(0..=most).map(cdr).collect::<Vec<_>>()).unwrap();
        let now = Instant::from_unix_ms(1_000 * DAY_MS);
        let first = store.expire(now, &config("").privacy).unwrap();
        assert!(first.is_partial() && first.records == usize::try_from(most).unwrap(), "{first:?}");
        let second = store.expire(now, &config("").privacy).unwrap();
        assert!(!second.is_partial() && second.records == 1, "{second:?}");
    }

    #[test]
    fn a_rating_is_for_the_leg_of_who_gives_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), None).unwrap();
        let alice = Account::new("alice", "1001", None, Secret::new("password of alice".to_owned())).unwrap();
        store.add_users("example.test", &[alice]).unwrap();
        let leg = || Some(Box::default());
        let call = Cdr { answered_by: Some("bob".to_owned()), a: leg(), b: leg(), ..record(1, "1001", "1002") };
        store.commit(&[], &[], &[call.clone(), record(2, "1001", "1002")]).unwrap();
        for (id, user, wanted) in [
            ("id-1", "alice", true),
            ("id-1", "bob", true),
            ("id-1", "eve", false),
            ("id-9", "bob", false),
            ("id-2", "alice", false),
        ] {
            assert_eq!(store.rate(id, user, if user == "bob" { 2 } else { 5 }).unwrap(), wanted, "{id} {user}");
        }
        let rated = store.cdrs(0, 10).unwrap().pop().unwrap();
        let of = |leg: Option<Box<LegRecord>>| leg.and_then(|leg| leg.rating);
        assert_eq!((of(rated.a.clone()), of(rated.b.clone())), (Some(5), Some(2)));
    }

    #[test]
    fn a_person_is_known_by_every_way_to_dial_their_numbers() {
        let config = config("");
        let carol = carol(&config);
        for text in ["carol-canary", "770123", "+12025550187", "12025550187", "912025550187", "2025550187"] {
            assert!(carol.is(text), "{text}");
        }
        for text in ["carol", "770124", "+12025550188", "", "carol-canary2"] {
            assert!(!carol.is(text), "{text}");
        }
        assert!(carol.is_in("sip:carol-canary@example.test") && !carol.is_in("sip:carol@example.test"));
    }
}
