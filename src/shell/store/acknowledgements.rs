//! Who has acknowledged what is to be known of emergency calls before a telephone is used (emergency RULES 8.3).
//!
//! A notice is known by a hash of its text, so another text is another notice, which nobody has acknowledged yet. Texts are kept as long as
//! the database: an acknowledgement says nothing without the text that it was given to.

use aws_lc_rs::digest;
use rusqlite::{Connection, OptionalExtension as _, Row, TransactionBehavior, params};
use serde::Serialize;

use crate::types::limits::ACKNOWLEDGEMENTS_PER_USER_MAX;

use super::{
    Store, StoreError,
    sqlite::{bits, check_exists},
};

/// Bytes of the hash by which a notice is known: nobody makes texts to be mistaken for each other.
const VERSION_BYTES: usize = 8;

/// What users are to acknowledge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// 16 hexadecimal digits.
    pub version: String,
    pub text: String,
}

impl Notice {
    pub fn new(text: String) -> Self {
        let hash = digest::digest(&digest::SHA256, text.as_bytes());
        let version = hash.as_ref()[..VERSION_BYTES].iter().map(|byte| format!("{byte:02x}")).collect();
        Self { version, text }
    }
}

/// That a user has acknowledged a notice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Acknowledgement {
    pub user: String,
    /// The version of the notice.
    pub notice: String,
    /// Milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// Name of a token, or `uid` and the number of who typed the command.
    pub recorded_by: String,
}

/// How many users there are, and how many of them have acknowledged a notice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Coverage {
    pub users: u32,
    pub acknowledged: u32,
}

/// What is known of one notice, and of one user where one is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acknowledged {
    pub coverage: Coverage,
    /// Of this notice, else the newest of another.
    pub of_user: Option<Acknowledgement>,
}

impl Store {
    /// Records that these users have acknowledged a notice: of all of them, or of none. One who has done so before stays as it was.
    pub fn acknowledge(
        &mut self,
        users: &[String],
        notice: &Notice,
        time_ms: u64,
        recorded_by: &str,
    ) -> Result<(), StoreError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction
            .execute("INSERT OR IGNORE INTO notices(version, text) VALUES (?1, ?2)", [&notice.version, &notice.text])?;
        for user in users {
            check_exists(&transaction, user)?;
            transaction.execute(
                "INSERT OR IGNORE INTO acknowledgements(user, notice, time_ms, recorded_by) VALUES (?1, ?2, ?3, ?4)",
                params![user, notice.version, bits(time_ms), recorded_by],
            )?;
            transaction.execute(
                "DELETE FROM acknowledgements WHERE user = ?1 AND rowid NOT IN (SELECT rowid FROM acknowledgements \
                 WHERE user = ?1 ORDER BY notice = ?2 DESC, time_ms DESC LIMIT ?3)",
                params![user, notice.version, ACKNOWLEDGEMENTS_PER_USER_MAX],
            )?;
        }
        Ok(transaction.commit()?)
    }

    /// Each user by name, with the acknowledgement of this notice, else with the newest of another.
    pub fn acknowledgements(&self, version: &str) -> Result<Vec<(String, Option<Acknowledgement>)>, StoreError> {
        let mut statement = self.connection.prepare("SELECT name FROM users ORDER BY name")?;
        let users = statement.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
        let of = |user: String| find(&self.connection, &user, version).map(|found| (user, found));
        users.into_iter().map(of).collect()
    }

    /// How many have acknowledged this notice, and whether this user has.
    pub fn acknowledged(&self, version: &str, user: Option<&str>) -> Result<Acknowledged, StoreError> {
        let coverage = "SELECT count(*), count(acknowledgements.user) FROM users \
                        LEFT JOIN acknowledgements ON acknowledgements.user = name AND notice = ?1";
        let read = |row: &Row<'_>| Ok(Coverage { users: row.get(0)?, acknowledged: row.get(1)? });
        let coverage = self.connection.query_row(coverage, [version], read)?;
        let of_user = user.map(|user| find(&self.connection, user, version)).transpose()?.flatten();
        Ok(Acknowledged { coverage, of_user })
    }
}

fn find(connection: &Connection, user: &str, version: &str) -> Result<Option<Acknowledgement>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT user, notice, time_ms, recorded_by FROM acknowledgements WHERE user = ?1 \
         ORDER BY notice = ?2 DESC, time_ms DESC LIMIT 1",
    )?;
    let read = |row: &Row<'_>| {
        Ok(Acknowledgement { user: row.get(0)?, notice: row.get(1)?, time_ms: row.get(2)?, recorded_by: row.get(3)? })
    };
    Ok(statement.query_row([user, version], read).optional()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        shell::store::{Account, Person},
        types::Secret,
    };

    fn store(dir: &std::path::Path) -> Store {
        let mut store = Store::open(dir, None).unwrap();
        let account = |name: &str, extension: &str| {
            Account::new(name, extension, None, Secret::new("password".to_owned())).unwrap()
        };
        store.add_users("example.test", &[account("alice", "1001"), account("bob", "1002")]).unwrap();
        store
    }

    fn coverage(store: &Store, notice: &Notice) -> Coverage {
        store.acknowledged(&notice.version, None).unwrap().coverage
    }

    fn of_user(store: &Store, user: &str, notice: &Notice) -> Option<Acknowledgement> {
        store.acknowledged(&notice.version, Some(user)).unwrap().of_user
    }

    fn of(user: &str, notice: &Notice, time_ms: u64) -> Acknowledgement {
        let (user, notice, recorded_by) = (user.to_owned(), notice.version.clone(), "portal".to_owned());
        Acknowledgement { user, notice, time_ms, recorded_by }
    }

    #[test]
    fn another_text_is_another_notice() {
        let notice = Notice::new("Emergency calls report A as your location.".to_owned());
        assert_eq!(notice, Notice::new(notice.text.clone()));
        assert_eq!(notice.version.len(), 16);
        assert_ne!(notice.version, Notice::new("Emergency calls report B as your location.".to_owned()).version);
    }

    #[test]
    fn a_user_has_acknowledged_what_was_shown_and_is_asked_again_for_another_text() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = store(dir.path());
        let [first, second] = ["first", "second"].map(|text| Notice::new(text.to_owned()));
        let alice = ["alice".to_owned()];
        assert_eq!(coverage(&store, &first), Coverage { users: 2, acknowledged: 0 });
        store.acknowledge(&alice, &first, 7, "portal").unwrap();
        store.acknowledge(&alice, &first, 9, "somebody else").unwrap();
        assert_eq!(coverage(&store, &first), Coverage { users: 2, acknowledged: 1 });
        assert_eq!(of_user(&store, "alice", &first), Some(of("alice", &first, 7)));

        assert_eq!(coverage(&store, &second), Coverage { users: 2, acknowledged: 0 });
        let listed = store.acknowledgements(&second.version).unwrap();
        let earlier = of("alice", &first, 7);
        assert_eq!(listed, [("alice".to_owned(), Some(earlier)), ("bob".to_owned(), None)]);
        store.acknowledge(&alice, &second, 8, "portal").unwrap();
        assert_eq!(of_user(&store, "alice", &first), Some(of("alice", &first, 7)));
        assert_eq!(of_user(&store, "alice", &second), Some(of("alice", &second, 8)));
        let text = "SELECT text FROM notices WHERE version = ?1";
        let text: String = store.connection.query_row(text, [&first.version], |row| row.get(0)).unwrap();
        assert_eq!(text, "first");
    }

    #[test]
    fn of_several_users_all_are_recorded_or_none() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = store(dir.path());
        let notice = Notice::new("text".to_owned());
        let users = ["alice", "eve"].map(str::to_owned);
        let error = store.acknowledge(&users, &notice, 7, "portal").unwrap_err();
        assert!(matches!(error, StoreError::NoSuchUser(name) if name == "eve"));
        assert_eq!(coverage(&store, &notice).acknowledged, 0);
        store.acknowledge(&["alice", "bob"].map(str::to_owned), &notice, 7, "portal").unwrap();
        assert_eq!(coverage(&store, &notice), Coverage { users: 2, acknowledged: 2 });
    }

    #[test]
    fn the_oldest_of_a_user_makes_room_and_the_newest_stays() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = store(dir.path());
        let notices: Vec<_> = (0..=ACKNOWLEDGEMENTS_PER_USER_MAX).map(|n| Notice::new(format!("text {n}"))).collect();
        for (notice, time_ms) in notices.iter().zip(0..) {
            store.acknowledge(&["alice".to_owned()], notice, time_ms, "portal").unwrap();
        }
        let newest = notices.last().unwrap();
        let is_of = |notice: &Notice| of_user(&store, "alice", notice).unwrap().notice;
        assert_eq!(is_of(&notices[0]), newest.version, "the first is gone");
        assert_eq!(is_of(&notices[1]), notices[1].version);
    }

    #[test]
    fn they_go_with_the_user_and_with_the_person() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = store(dir.path());
        let notice = Notice::new("text".to_owned());
        store.acknowledge(&["alice", "bob"].map(str::to_owned), &notice, 7, "portal").unwrap();
        let config = crate::config::parse("[company]\nname = \"x\"\nregion = \"US\"\n").unwrap().0;
        let person = Person { name: "alice".to_owned(), numbers: vec!["1001".to_owned()], config: &config };
        let data = store.personal_data(&person).unwrap();
        assert_eq!(data["acknowledgements"][0]["notice"], notice.version);
        assert_eq!(store.erase(&person).unwrap().removed["acknowledgements"], 1);
        store.remove_user("bob").unwrap();
        for name in ["alice", "bob"] {
            assert_eq!(of_user(&store, name, &notice), None, "{name}");
        }
    }
}
