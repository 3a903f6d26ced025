//! The audit log: what operators have ordered, and what came of it. Holds no secret.

use rusqlite::{TransactionBehavior, params};
use serde::Serialize;

use crate::types::limits::AUDIT_ENTRIES_MAX;

use super::{Store, StoreError, sqlite::bits};

/// One order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditEntry {
    /// Milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// Name of a token, or `uid` and the number of who typed a command on this machine.
    pub actor: String,
    /// A command, or method and path of a request.
    pub action: String,
    /// Whom or what it was about.
    pub subject: Option<String>,
    /// `done`, `failed`, or the status of the answer to a request.
    pub outcome: String,
}

impl Store {
    /// Adds entries; the oldest make room at the maximum.
    pub fn record(&mut self, entries: &[AuditEntry]) -> Result<(), StoreError> {
        if entries.is_empty() {
            return Ok(());
        }
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for AuditEntry { time_ms, actor, action, subject, outcome } in entries {
            transaction
                .prepare_cached(
                    "INSERT INTO audit(time_ms, actor, action, subject, outcome) VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute(params![bits(*time_ms), actor, action, subject, outcome])?;
        }
        transaction
            .execute("DELETE FROM audit WHERE number <= (SELECT max(number) FROM audit) - ?1", [AUDIT_ENTRIES_MAX])?;
        Ok(transaction.commit()?)
    }

    /// The newest entries at or after `since_ms`, newest first.
    pub fn audit(&self, since_ms: u64, limit: u32) -> Result<Vec<AuditEntry>, StoreError> {
        let mut statement = self.connection.prepare(
            "SELECT time_ms, actor, action, subject, outcome FROM audit WHERE time_ms >= ?1 ORDER BY number DESC LIMIT ?2",
        )?;
        let rows = statement.query_map(params![bits(since_ms), limit], |row| {
            Ok(AuditEntry {
                time_ms: row.get(0)?,
                actor: row.get(1)?,
                action: row.get(2)?,
                subject: row.get(3)?,
                outcome: row.get(4)?,
            })
        })?;
        Ok(rows.collect::<Result<Vec<_>, _>>()?)
    }
}

#[cfg(test)]
pub(in crate::shell) mod tests {
    use super::*;

    pub(in crate::shell) fn entry(time_ms: u64) -> AuditEntry {
        AuditEntry {
            time_ms,
            actor: "uid 0".to_owned(),
            action: "user remove".to_owned(),
            subject: Some("alice".to_owned()),
            outcome: "done".to_owned(),
        }
    }

    #[test]
    fn the_newest_entries_come_first_and_those_before_a_time_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        store.record(&[entry(1), entry(2), AuditEntry { subject: None, ..entry(3) }]).unwrap();
        assert_eq!(store.audit(0, 2).unwrap(), [AuditEntry { subject: None, ..entry(3) }, entry(2)]);
        assert_eq!(store.audit(2, 10).unwrap().len(), 2);
    }

    #[test]
    fn the_oldest_entry_makes_room_at_the_maximum_and_not_before() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        store.record(&[entry(1)]).unwrap();
        let raise = "UPDATE sqlite_sequence SET seq = ?1 WHERE name = 'audit'";
        store.connection.execute(raise, [AUDIT_ENTRIES_MAX - 1]).unwrap();
        store.record(&[entry(2)]).unwrap();
        assert_eq!(store.audit(0, 10).unwrap(), [entry(2), entry(1)]);
        store.record(&[entry(3)]).unwrap();
        assert_eq!(store.audit(0, 10).unwrap(), [entry(3), entry(2)]);
    }
}
