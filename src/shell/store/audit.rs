//! The audit log: what operators have ordered, and what came of it. Holds no secret.

use rusqlite::{TransactionBehavior, params};
use serde::Serialize;

use crate::types::limits::{AUDIT_ENTRIES_MAX, AUDIT_REFUSALS_MAX};

use super::{Store, StoreError, sqlite::bits};

/// One order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditEntry {
    /// Milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// Name of a token, or `uid` and the number of who typed a command on this machine.
    pub actor: String,
    /// A command, or method and page of a request.
    pub action: String,
    /// Whom or what it was about.
    pub subject: Option<String>,
    /// `done`, `failed`, or the status of the answer to a request.
    pub outcome: String,
    /// Whoever wanted it may give no orders.
    pub refused: bool,
}

impl Store {
    /// Adds entries; at their maximum the oldest orders make room for orders, and the oldest refusals for refusals.
    pub fn record(&mut self, entries: &[AuditEntry]) -> Result<(), StoreError> {
        if entries.is_empty() {
            return Ok(());
        }
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for AuditEntry { time_ms, actor, action, subject, outcome, refused } in entries {
            transaction
                .prepare_cached(
                    "INSERT INTO audit(time_ms, actor, action, subject, outcome, refused) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                )?
                .execute(params![bits(*time_ms), actor, action, subject, outcome, refused])?;
        }
        for (refused, most) in [(false, AUDIT_ENTRIES_MAX), (true, AUDIT_REFUSALS_MAX)] {
            transaction
                .prepare_cached(
                    "DELETE FROM audit WHERE refused = ?1 AND number <= \
                     (SELECT number FROM audit WHERE refused = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)",
                )?
                .execute(params![refused, most])?;
        }
        Ok(transaction.commit()?)
    }

    /// The newest entries at or after `since_ms`, newest first.
    pub fn audit(&self, since_ms: u64, limit: u32) -> Result<Vec<AuditEntry>, StoreError> {
        let mut statement = self.connection.prepare(
            "SELECT time_ms, actor, action, subject, outcome, refused FROM audit WHERE time_ms >= ?1 \
             ORDER BY number DESC LIMIT ?2",
        )?;
        let rows = statement.query_map(params![bits(since_ms), limit], |row| {
            Ok(AuditEntry {
                time_ms: row.get(0)?,
                actor: row.get(1)?,
                action: row.get(2)?,
                subject: row.get(3)?,
                outcome: row.get(4)?,
                refused: row.get(5)?,
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
            refused: false,
        }
    }

    #[test]
    fn the_newest_entries_come_first_and_those_before_a_time_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), None).unwrap();
        store.record(&[entry(1), entry(2), AuditEntry { subject: None, ..entry(3) }]).unwrap();
        assert_eq!(store.audit(0, 2).unwrap(), [AuditEntry { subject: None, ..entry(3) }, entry(2)]);
        assert_eq!(store.audit(2, 10).unwrap().len(), 2);
    }

    #[test]
    fn the_oldest_order_makes_room_at_the_maximum_for_orders_and_for_no_refusal() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), None).unwrap();
        store.record(&[entry(1), entry(2)]).unwrap();
        let fill = "WITH RECURSIVE counted(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < ?1) \
                    INSERT INTO audit(time_ms, actor, action, outcome) SELECT 3, 'uid 0', 'user add', 'done' FROM counted";
        store.connection.execute(fill, [AUDIT_ENTRIES_MAX - 2]).unwrap();
        let refusals: Vec<_> =
            (0..=u64::from(AUDIT_REFUSALS_MAX)).map(|n| AuditEntry { refused: true, ..entry(10 + n) }).collect();
        store.record(&refusals).unwrap();
        let times = |store: &Store, refused: bool| -> Vec<u64> {
            let all = store.audit(0, u32::MAX).unwrap();
            all.iter().rev().filter(|entry| entry.refused == refused).map(|entry| entry.time_ms).collect()
        };
        assert_eq!(times(&store, false)[..3], [1, 2, 3], "a refusal has pushed an order out");
        assert_eq!((times(&store, true)[0], times(&store, true).len()), (11, refusals.len() - 1));
        store.record(&[entry(4)]).unwrap();
        assert_eq!(times(&store, false)[..2], [2, 3]);
        assert_eq!(times(&store, true).len(), refusals.len() - 1);
    }
}
