//! Who may use the admin interface besides this machine's operator: tokens, each with a name and a role.
//!
//! A token is 256 random bits. Its SHA-256 is all that is kept, and needs neither salt nor slowness: those help where
//! people choose what is hashed, and here no guess is better than another.

use aws_lc_rs::{constant_time::verify_slices_are_equal, digest};
use rusqlite::{TransactionBehavior, params};

use crate::types::{Instant, Rng, Secret, limits::TOKENS_MAX};

use super::{Store, StoreError, account::is_plain_name, sqlite::bits};

/// Of the token that the server makes for this machine's operator at each start; nobody else may be called so.
pub const OPERATOR: &str = "operator";
/// Before the name of a user of the directory who has given an order with the password of a telephone. No token has a space in its name.
pub const USER_PREFIX: &str = "user ";
/// Scanners for secrets in files and logs know a token by it.
const PREFIX: &str = "ringdown_";

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// To see everything the interface shows.
    Read,
    /// To give orders as well.
    Admin,
}

impl Role {
    pub const fn label(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }

    fn from_label(label: &str) -> Option<Self> {
        [Self::Read, Self::Admin].into_iter().find(|role| role.label() == label)
    }
}

/// What is kept of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub name: String,
    pub role: Role,
    pub created_ms: u64,
    hash: [u8; 32],
}

impl Token {
    /// A new one, and what its holder is to show.
    pub fn make(name: &str, role: Role, now: Instant, rng: &mut Rng) -> (Self, Secret<String>) {
        let random = Secret::new(rng.bytes::<32>());
        let mut shown = PREFIX.to_owned();
        shown.extend(random.expose().iter().map(|byte| format!("{byte:02x}")));
        let token = Self { name: name.to_owned(), role, created_ms: now.unix_ms(), hash: hash(&shown) };
        (token, Secret::new(shown))
    }

    /// Which of these was shown. Takes as long for a wrong one as for a right one.
    pub fn find<'t>(tokens: &'t [Self], shown: &str) -> Option<&'t Self> {
        let hash = hash(shown);
        let is_it = |token: &Self| verify_slices_are_equal(&token.hash, &hash).is_ok();
        tokens.iter().fold(None, |found, token| if is_it(token) { Some(token) } else { found })
    }
}

fn hash(shown: &str) -> [u8; 32] {
    let hash = digest::digest(&digest::SHA256, shown.as_bytes());
    *hash.as_ref().first_chunk().expect("SHA-256 has 32 bytes")
}

impl Store {
    /// Adds a token; a running server notices.
    pub fn add_token(&mut self, token: &Token) -> Result<(), StoreError> {
        let Token { name, role, created_ms, hash } = token;
        if !is_plain_name(name) || name == OPERATOR {
            return Err(StoreError::BadTokenName(name.clone()));
        }
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let count: usize = transaction.query_row("SELECT count(*) FROM tokens", [], |row| row.get(0))?;
        if transaction.prepare("SELECT 1 FROM tokens WHERE name = ?1")?.exists([name])? {
            return Err(StoreError::TokenExists(name.clone()));
        }
        if count >= TOKENS_MAX {
            return Err(StoreError::TokensFull);
        }
        let insert = "INSERT INTO tokens(name, role, created_ms, hash) VALUES (?1, ?2, ?3, ?4)";
        transaction.execute(insert, params![name, role.label(), bits(*created_ms), hash])?;
        Ok(transaction.commit()?)
    }

    /// Removes a token; a running server notices.
    pub fn remove_token(&mut self, name: &str) -> Result<(), StoreError> {
        match self.connection.execute("DELETE FROM tokens WHERE name = ?1", [name])? {
            0 => Err(StoreError::NoSuchToken(name.to_owned())),
            _ => Ok(()),
        }
    }

    /// Every token, by name.
    pub fn tokens(&self) -> Result<Vec<Token>, StoreError> {
        let mut statement = self.connection.prepare("SELECT name, role, created_ms, hash FROM tokens ORDER BY name")?;
        let rows = statement.query_map([], |row| {
            let role: String = row.get(1)?;
            let role = Role::from_label(&role)
                .ok_or_else(|| rusqlite::Error::InvalidColumnType(1, role, rusqlite::types::Type::Text))?;
            Ok(Token { name: row.get(0)?, role, created_ms: row.get(2)?, hash: row.get(3)? })
        })?;
        Ok(rows.collect::<Result<Vec<_>, _>>()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(name: &str, role: Role) -> (Token, Secret<String>) {
        Token::make(name, role, Instant::from_unix_ms(7), &mut crate::shell::entropy::rng())
    }

    #[test]
    fn a_token_is_found_by_what_its_holder_shows_and_by_nothing_else() {
        let made: Vec<_> = ["a", "b", "c"].map(|name| token(name, Role::Read)).into();
        let tokens: Vec<_> = made.iter().map(|(token, _)| token.clone()).collect();
        for (token, shown) in &made {
            assert_eq!(shown.expose().len(), PREFIX.len() + 64);
            assert_eq!(Token::find(&tokens, shown.expose()), Some(token));
            let mut wrong = shown.expose().clone();
            wrong.pop();
            assert_eq!(Token::find(&tokens, &wrong), None);
            assert_eq!(Token::find(&tokens, &shown.expose().to_uppercase()), None);
        }
        assert_eq!(Token::find(&tokens, ""), None);
    }

    #[test]
    fn tokens_come_back_and_no_file_holds_what_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), None).unwrap();
        let (reader, shown) = token("grafana", Role::Read);
        let (admin, _) = token("alice.admin", Role::Admin);
        store.add_token(&reader).unwrap();
        store.add_token(&admin).unwrap();
        assert_eq!(store.tokens().unwrap(), [admin.clone(), reader]);
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let content = std::fs::read(entry.unwrap().path()).unwrap();
            let random = &shown.expose()[PREFIX.len()..];
            let bytes: Vec<u8> = (0..32).map(|n| u8::from_str_radix(&random[2 * n..2 * n + 2], 16).unwrap()).collect();
            for canary in [random.as_bytes(), &bytes] {
                assert!(!content.windows(canary.len()).any(|w| w == canary));
            }
        }
        store.remove_token("grafana").unwrap();
        assert_eq!(store.tokens().unwrap(), [admin]);
        assert!(matches!(store.remove_token("grafana"), Err(StoreError::NoSuchToken(_))));
    }

    #[test]
    fn a_name_is_somebodys_alone_and_plain() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), None).unwrap();
        store.add_token(&token("a", Role::Read).0).unwrap();
        assert!(matches!(store.add_token(&token("a", Role::Admin).0), Err(StoreError::TokenExists(_))));
        for name in [OPERATOR, "", "a b", "a\n"] {
            assert!(
                matches!(store.add_token(&token(name, Role::Read).0), Err(StoreError::BadTokenName(_))),
                "{name:?}"
            );
        }
    }

    #[test]
    fn the_last_token_there_is_room_for_is_added_and_the_next_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), None).unwrap();
        for n in 0..TOKENS_MAX {
            store.add_token(&token(&format!("t{n}"), Role::Read).0).unwrap();
        }
        assert!(matches!(store.add_token(&token("one-more", Role::Read).0), Err(StoreError::TokensFull)));
    }
}
