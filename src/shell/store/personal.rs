//! What is kept about a person: every column of the database and every field of a call record, with its purpose, how long
//! it is kept, who sees it, and what erasure does to it.
//!
//! Export and erasure go by this table, and a test holds that nothing is stored that is not in it. Not in the database is the
//! log, which the service manager keeps: it is shown, and neither exported nor erased. The configuration, which the operator
//! writes, is not here at all.

use crate::config::Privacy;

/// One table of the database, or the record within one.
#[derive(Debug)]
pub struct Table {
    pub name: &'static str,
    /// The column that names the user to whom a row belongs; `None`: rows belong to nobody alone.
    pub owner: Option<&'static str>,
    pub columns: &'static [Column],
}

#[derive(Debug)]
pub struct Column {
    pub name: &'static str,
    pub what: &'static str,
    pub purpose: &'static str,
    pub kept: Kept,
    pub seen_by: &'static str,
    pub erasure: Erasure,
}

/// For how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Until an operator removes it.
    WithUser,
    /// Until the telephone's registration ends, at most two hours after its last word.
    WithRegistration,
    /// Until the call is over, or has been ended by a crash and its server starts again.
    Call,
    /// By the age of the call.
    Records,
    /// By the age of the order.
    Audit,
    /// As long as the server.
    Server,
    /// As the service manager keeps its log.
    Journal,
}

impl Kept {
    pub fn text(self, privacy: &Privacy) -> String {
        match self {
            Self::WithUser => "until it is removed".to_owned(),
            Self::WithRegistration => "until the registration ends".to_owned(),
            Self::Call => "until the call is over".to_owned(),
            Self::Records => {
                format!("{} days; of emergency calls {}", privacy.records_days, privacy.emergency_records_days)
            }
            Self::Audit => format!("{} days", privacy.audit_days),
            Self::Server => "as long as the server".to_owned(),
            Self::Journal => "as the service manager keeps its log (journald: its own retention)".to_owned(),
        }
    }
}

/// What erasing a person does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Erasure {
    /// It goes with its row.
    Removed,
    /// The same; where another user's row names the person, it is emptied.
    RemovedEverywhere,
    /// It becomes [`ERASED`] where it names the person.
    Replaced,
    /// It stays: it says nothing of a person, or of nobody who can be erased.
    Stays,
}

impl Erasure {
    pub const fn text(self) -> &'static str {
        match self {
            Self::Removed => "removed",
            Self::RemovedEverywhere => "removed, also where others have it",
            Self::Replaced => "replaced",
            Self::Stays => "stays",
        }
    }
}

/// Stands where a person was named.
pub const ERASED: &str = "erased";

const fn column(
    name: &'static str,
    what: &'static str,
    purpose: &'static str,
    kept: Kept,
    seen_by: &'static str,
    erasure: Erasure,
) -> Column {
    Column { name, what, purpose, kept, seen_by, erasure }
}

const OPERATOR: &str = "operator";
const NOBODY: &str = "nobody: sealed";
const READERS: &str = "operator, tokens of the admin interface";
const REACH: &str = "calls reach the person";
const EVIDENCE: &str = "faults, bills, emergency services";
const DUTY: &str = "users have been told the limits of emergency calls";
const QUALITY: &str = "faults and quality";
const RUNNING: &str = "the server's own working";
const ANSWERABLE: &str = "who ordered what can be told";

use Erasure::{Removed, RemovedEverywhere, Replaced, Stays};
use Kept::{Audit, Call, Journal, Records, Server, WithRegistration, WithUser};

/// Everything. `cdrs.record` and the legs in it are the JSON of a call record.
pub const TABLES: &[Table] = &[
    Table {
        name: "users",
        owner: Some("name"),
        columns: &[
            column("name", "user name", REACH, WithUser, READERS, Removed),
            column("extension", "internal number", REACH, WithUser, READERS, Removed),
            column("direct_line", "outside number", REACH, WithUser, READERS, Removed),
            column("credential", "digest of the password", "telephones prove themselves", WithUser, NOBODY, Removed),
        ],
    },
    Table {
        name: "forwarding",
        owner: Some("user"),
        columns: &[
            column("user", "user name", REACH, WithUser, OPERATOR, Removed),
            column("always", "where all calls go", REACH, WithUser, OPERATOR, RemovedEverywhere),
            column("busy", "where calls go when busy", REACH, WithUser, OPERATOR, RemovedEverywhere),
            column("no_answer", "where unanswered calls go", REACH, WithUser, OPERATOR, RemovedEverywhere),
            column("no_answer_after_s", "after how long", REACH, WithUser, OPERATOR, Removed),
            column("unreachable", "where calls go without a telephone", REACH, WithUser, OPERATOR, RemovedEverywhere),
            column("do_not_disturb", "wish not to be called", REACH, WithUser, OPERATOR, Removed),
        ],
    },
    Table {
        name: "places",
        owner: Some("user"),
        columns: &[
            column("user", "user name", "emergency services find the person", WithUser, OPERATOR, Removed),
            column(
                "shared",
                "whether others use the line",
                "emergency services find the person",
                WithUser,
                OPERATOR,
                Removed,
            ),
            column(
                "address",
                "private address",
                "emergency services find the person",
                WithUser,
                "operator, emergency services; sealed",
                Removed,
            ),
        ],
    },
    Table {
        name: "acknowledgements",
        owner: Some("user"),
        columns: &[
            column("user", "user name", DUTY, WithUser, READERS, Removed),
            column("notice", "which notice was acknowledged", DUTY, WithUser, READERS, Removed),
            column("time_ms", "when", DUTY, WithUser, READERS, Removed),
            column("recorded_by", "who recorded it", DUTY, WithUser, READERS, Replaced),
        ],
    },
    Table {
        name: "notices",
        owner: None,
        columns: &[
            column("version", "name of a notice", DUTY, Server, READERS, Stays),
            column("text", "its text, with the company's address", DUTY, Server, READERS, Stays),
        ],
    },
    Table {
        name: "bindings",
        owner: Some("aor"),
        columns: &[
            column("aor", "user name", REACH, WithRegistration, READERS, Removed),
            column("contact", "address in the telephone's own network", REACH, WithRegistration, NOBODY_SHOWN, Removed),
            column("transport", "UDP, TCP or TLS", REACH, WithRegistration, READERS, Removed),
            column("local", "address of the server", REACH, WithRegistration, NOBODY_SHOWN, Removed),
            column("remote", "network address of the telephone", REACH, WithRegistration, READERS, Removed),
            column("connection", "number of its connection", REACH, WithRegistration, NOBODY_SHOWN, Removed),
            column("expires_unix_ns", "when the registration ends", REACH, WithRegistration, READERS, Removed),
            column("call_id", "of the registration", REACH, WithRegistration, NOBODY_SHOWN, Removed),
            column("cseq", "of the registration", REACH, WithRegistration, NOBODY_SHOWN, Removed),
            column("instance", "identifier of the telephone", REACH, WithRegistration, NOBODY_SHOWN, Removed),
            column("reg_id", "which of its connections", REACH, WithRegistration, NOBODY_SHOWN, Removed),
            column("user_agent", "make and version of the telephone", "faults", WithRegistration, READERS, Removed),
            column("path", "proxies in front of it", REACH, WithRegistration, NOBODY_SHOWN, Removed),
            column("is_proxied", "whether there are any", REACH, WithRegistration, NOBODY_SHOWN, Removed),
        ],
    },
    Table {
        name: "cdrs",
        owner: None,
        columns: &[
            column("number", "order of the records", RUNNING, Records, NOBODY_SHOWN, Stays),
            column("id", "name of the call", EVIDENCE, Records, READERS, Stays),
            column("start_ms", "when it began", EVIDENCE, Records, READERS, Stays),
            column("record", "the record, below", EVIDENCE, Records, READERS, Stays),
        ],
    },
    Table {
        name: "open_cdrs",
        owner: None,
        columns: &[
            column("id", "name of a call that goes on", EVIDENCE, Call, OPERATOR, Stays),
            column("record", "what is known of it, as in cdrs.record", EVIDENCE, Call, OPERATOR, Stays),
        ],
    },
    Table {
        name: "cdrs.record",
        owner: None,
        columns: &[
            column("id", "name of the call", EVIDENCE, Records, READERS, Stays),
            column("caller", "user or number that called", EVIDENCE, Records, READERS, Replaced),
            column("callee", "what was dialled", EVIDENCE, Records, READERS, Replaced),
            column("answered_by", "user or number that answered", EVIDENCE, Records, READERS, Replaced),
            column("start_ms", "when it began", EVIDENCE, Records, READERS, Stays),
            column("answer_ms", "when it was answered", EVIDENCE, Records, READERS, Stays),
            column("end_ms", "when it ended", EVIDENCE, Records, READERS, Stays),
            column("duration_s", "how long it was", EVIDENCE, Records, READERS, Stays),
            column("ended_by", "which side ended it", "faults", Records, READERS, Stays),
            column("status", "SIP status", "faults", Records, READERS, Stays),
            column("reason", "why it ended", "faults", Records, READERS, Replaced),
            column("emergency", "whether it was an emergency call", "duties of law", Records, READERS, Stays),
            column("transferred_by", "user who connected it", EVIDENCE, Records, READERS, Replaced),
            column("trunk", "which carrier", "bills", Records, READERS, Stays),
            column(
                "verification",
                "what a signature said of the caller's number, below",
                "fraud",
                Records,
                READERS,
                Stays,
            ),
            column("a", "the caller's leg, below", QUALITY, Records, READERS, Stays),
            column("b", "the other leg, below", QUALITY, Records, READERS, Stays),
        ],
    },
    Table {
        name: "cdrs.record.leg",
        owner: None,
        columns: &[
            column("transport", "UDP, TCP or TLS", QUALITY, Records, READERS, Stays),
            column("suite", "how it was encrypted", "whether audio was readable", Records, READERS, Stays),
            column("packets_received", "count", QUALITY, Records, READERS, Stays),
            column("packets_sent", "count", QUALITY, Records, READERS, Stays),
            column("packets_lost", "count", QUALITY, Records, READERS, Stays),
            column("packets_refused", "count", QUALITY, Records, READERS, Stays),
            column("jitter_ms", "unsteadiness", QUALITY, Records, READERS, Stays),
            column("round_trip_ms", "delay", QUALITY, Records, READERS, Stays),
            column("codec", "codec", QUALITY, Records, READERS, Stays),
            column("bursts", "how loss was spread, below", QUALITY, Records, READERS, Stays),
            column("mos", "computed quality", QUALITY, Records, READERS, Stays),
            column("far", "what the telephone reported, below", QUALITY, Records, READERS, Stays),
            column("silences", "count", QUALITY, Records, READERS, Stays),
            column("silent_ms", "how long nothing came", QUALITY, Records, READERS, Stays),
            column("silence_cause", "why nothing came", QUALITY, Records, READERS, Stays),
            column("rating", "the person's own rating of the call", QUALITY, Records, READERS, Stays),
        ],
    },
    Table {
        name: "cdrs.record.verification",
        owner: None,
        columns: &[
            column("verstat", "whether the signature was good", "fraud", Records, READERS, Stays),
            column("attest", "how well the signer knows the caller", "fraud", Records, READERS, Stays),
            column("reason", "why it was not good", "fraud", Records, READERS, Stays),
        ],
    },
    Table { name: "cdrs.record.leg.bursts", owner: None, columns: BURSTS },
    Table {
        name: "cdrs.record.leg.far",
        owner: None,
        columns: &[
            column("packets_lost", "count", QUALITY, Records, READERS, Stays),
            column("jitter_ms", "unsteadiness", QUALITY, Records, READERS, Stays),
            column("bursts", "how loss was spread, below", QUALITY, Records, READERS, Stays),
            column("mos", "computed quality", QUALITY, Records, READERS, Stays),
        ],
    },
    Table { name: "cdrs.record.leg.far.bursts", owner: None, columns: BURSTS },
    // One that is named as a user is that user's.
    Table {
        name: "tokens",
        owner: Some("name"),
        columns: &[
            column("name", "person or program with access", ANSWERABLE, WithUser, OPERATOR, Removed),
            column("role", "what it may do", RUNNING, WithUser, OPERATOR, Removed),
            column("created_ms", "when it was made", ANSWERABLE, WithUser, OPERATOR, Removed),
            column("hash", "hash of the token", "the holder proves itself", WithUser, NOBODY_SHOWN, Removed),
        ],
    },
    Table {
        name: "audit",
        owner: None,
        columns: &[
            column("number", "order of the entries", RUNNING, Audit, NOBODY_SHOWN, Stays),
            column("time_ms", "when it was ordered", ANSWERABLE, Audit, OPERATOR, Stays),
            column("actor", "who ordered it", ANSWERABLE, Audit, OPERATOR, Replaced),
            column("action", "what was ordered", ANSWERABLE, Audit, OPERATOR, Stays),
            column("subject", "whom it was about", ANSWERABLE, Audit, OPERATOR, Replaced),
            column("outcome", "what came of it", ANSWERABLE, Audit, OPERATOR, Stays),
            column("refused", "whether the token may give no orders", ANSWERABLE, Audit, OPERATOR, Stays),
        ],
    },
    Table {
        name: "meta",
        owner: None,
        columns: &[
            column("key", "name of a setting of the database", RUNNING, Server, NOBODY_SHOWN, Stays),
            column("value", "the setting; nothing of a person", RUNNING, Server, NOBODY_SHOWN, Stays),
        ],
    },
    Table {
        name: LOG,
        owner: None,
        columns: &[
            column("aor", "internal number that made an emergency call", "duties of law", Journal, OPERATOR, Stays),
            column("device", "telephone of an emergency call", "duties of law", Journal, OPERATOR, Stays),
            column("source_ip", "network address of an emergency call", "duties of law", Journal, OPERATOR, Stays),
            column("dialed", "emergency number that was dialled", "duties of law", Journal, OPERATOR, Stays),
            column("callback", "number that emergency services call back", "duties of law", Journal, OPERATOR, Stays),
            column("user", "user of whom something is to be told", FAULTS_ABUSE, Journal, OPERATOR, Stays),
            column("users", "several of them", FAULTS_ABUSE, Journal, OPERATOR, Stays),
            column(
                "desk",
                "whom a notice of an emergency call has not reached",
                FAULTS_ABUSE,
                Journal,
                OPERATOR,
                Stays,
            ),
            column("user_agent", "make and version of a telephone", FAULTS_ABUSE, Journal, OPERATOR, Stays),
            column("source", "network address that is not answered", FAULTS_ABUSE, Journal, OPERATOR, Stays),
        ],
    },
];

/// How a telephone's lost packets were spread.
const BURSTS: &[Column] = &[
    column("burst_loss_percent", "loss within bursts", QUALITY, Records, READERS, Stays),
    column("burst_ms", "length of bursts", QUALITY, Records, READERS, Stays),
    column("gap_loss_percent", "loss between them", QUALITY, Records, READERS, Stays),
    column("gap_ms", "time between them", QUALITY, Records, READERS, Stays),
];

/// Its lines, by their fields: no table of the database.
const LOG: &str = "log";
const FAULTS_ABUSE: &str = "faults and abuse";

const NOBODY_SHOWN: &str = "nobody: the server alone";

/// The tables of the database.
pub(super) fn stored() -> impl Iterator<Item = &'static Table> {
    TABLES.iter().filter(|table| !table.name.contains('.') && table.name != LOG)
}

/// The tables whose rows belong to a user, with the column that names the user.
pub(super) fn owned() -> impl Iterator<Item = (&'static Table, &'static str)> {
    TABLES.iter().filter_map(|table| Some((table, table.owner?)))
}

/// Names of a table's columns that erasure treats so.
pub(super) fn columns_of(table: &str, erasure: Erasure) -> impl Iterator<Item = &'static str> {
    let columns = TABLES.iter().find(|known| known.name == table).map(|table| table.columns).unwrap_or_default();
    columns.iter().filter(move |column| column.erasure == erasure).map(|column| column.name)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::{
        call::{
            Cdr,
            cdr::{FarRecord, LegRecord, VerificationRecord},
        },
        shell::store::{Store, tests::cdr},
    };

    fn declared(name: &str) -> BTreeSet<String> {
        let table = TABLES.iter().find(|table| table.name == name).unwrap_or_else(|| panic!("{name} is not declared"));
        table.columns.iter().map(|column| column.name.to_owned()).collect()
    }

    #[test]
    fn nothing_is_stored_that_is_not_declared_and_nothing_declared_that_is_not_stored() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), None).unwrap();
        let list = |sql: &str| -> Vec<String> {
            let mut statement = store.connection.prepare(sql).unwrap();
            statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
        };
        let stored = list("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'");
        for table in &stored {
            let columns = list(&format!("SELECT name FROM pragma_table_info('{table}')"));
            assert_eq!(columns.into_iter().collect::<BTreeSet<_>>(), declared(table), "{table}");
        }
        assert_eq!(
            super::stored().map(|table| table.name).collect::<BTreeSet<_>>(),
            stored.iter().map(String::as_str).collect()
        );
    }

    /// The names of an object's fields, those of objects within it by the way to them.
    fn fields(place: &str, value: &serde_json::Value, found: &mut BTreeMap<String, BTreeSet<String>>) {
        let Some(object) = value.as_object() else { return };
        for (key, value) in object {
            found.entry(place.to_owned()).or_default().insert(key.clone());
            let key = if ["a", "b"].contains(&key.as_str()) { "leg" } else { key };
            fields(&format!("{place}.{key}"), value, found);
        }
    }

    #[test]
    fn every_field_of_a_call_record_is_declared() {
        let far = Some(Box::new(FarRecord { bursts: Some(Box::default()), ..Default::default() }));
        let leg = LegRecord { bursts: Some(Box::default()), far, ..Default::default() };
        let verification = VerificationRecord { verstat: String::new(), attest: None, reason: String::new() };
        let record = Cdr { a: Some(Box::new(leg)), verification: Some(Box::new(verification)), ..cdr(1) };
        let mut found = BTreeMap::new();
        fields("cdrs.record", &serde_json::to_value(&record).unwrap(), &mut found);
        let names = TABLES.iter().map(|table| table.name.to_owned()).filter(|name| name.starts_with("cdrs.record"));
        assert_eq!(found, names.map(|name| (name.clone(), declared(&name))).collect());
    }

    #[test]
    fn what_names_the_owner_is_a_column_that_goes() {
        for (table, owner) in owned() {
            assert!(table.columns.iter().any(|c| c.name == owner && c.erasure == Removed), "{}", table.name);
            assert!(table.columns.iter().all(|c| c.erasure != Stays), "{}", table.name);
        }
    }
}
