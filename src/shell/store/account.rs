//! A user to be added: checked before it reaches the database.

use crate::{
    types::{Secret, limits::USER_NAME_CHARS_MAX},
    wire::sip::digest::Credential,
};

const EXTENSION_DIGITS_MAX: usize = 15;
/// E.164: a country code and a subscriber number of 15 digits together, and no useful number is shorter than 3.
const DIRECT_LINE_DIGITS: std::ops::RangeInclusive<usize> = 3..=15;
const PASSWORD_CHARS: std::ops::RangeInclusive<usize> = 8..=128;

/// A new user. Holds the password only until [`Account::credential`] has digested it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub name: String,
    pub extension: String,
    /// E.164 with `+`.
    pub direct_line: Option<String>,
    password: Secret<String>,
}

impl Account {
    /// Checks each field; the error says which one, with its value, and what would be accepted.
    pub fn new(
        name: &str,
        extension: &str,
        direct_line: Option<&str>,
        password: Secret<String>,
    ) -> Result<Self, String> {
        check_name(name)?;
        check_extension(extension)?;
        direct_line.map_or(Ok(()), check_direct_line)?;
        check_password(password.expose())?;
        Ok(Self {
            name: name.to_owned(),
            extension: extension.to_owned(),
            direct_line: direct_line.map(str::to_owned),
            password,
        })
    }

    pub fn credential(&self, realm: &str) -> Credential {
        Credential::derive(&self.name, realm, self.password.expose())
    }
}

fn check_name(name: &str) -> Result<(), String> {
    if is_plain_name(name) {
        return Ok(());
    }
    Err(format!("user `{name}`: a name is 1 to {USER_NAME_CHARS_MAX} letters, digits, `.`, `_` or `-`"))
}

/// What users and tokens may be called.
pub fn is_plain_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (1..=USER_NAME_CHARS_MAX).contains(&name.len()) && name.chars().all(is_plain)
}

fn check_extension(extension: &str) -> Result<(), String> {
    if (1..=EXTENSION_DIGITS_MAX).contains(&extension.len()) && extension.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(());
    }
    Err(format!("extension `{extension}`: an extension is 1 to {EXTENSION_DIGITS_MAX} digits"))
}

fn check_direct_line(line: &str) -> Result<(), String> {
    let digits = line.strip_prefix('+').unwrap_or_default();
    if DIRECT_LINE_DIGITS.contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(());
    }
    Err(format!("direct line `{line}`: a direct line is `+` and up to {} digits", DIRECT_LINE_DIGITS.end()))
}

/// The message names no part of the password.
fn check_password(password: &str) -> Result<(), String> {
    let (min, max) = PASSWORD_CHARS.into_inner();
    if (min..=max).contains(&password.chars().count()) && !password.chars().any(char::is_control) {
        return Ok(());
    }
    Err(format!("password: {min} to {max} characters are needed, none of them a control character"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(name: &str, extension: &str, line: Option<&str>, password: &str) -> Result<Account, String> {
        Account::new(name, extension, line, Secret::new(password.to_owned()))
    }

    #[test]
    fn limits_are_met_at_max_and_missed_at_max_plus_one() {
        let long = |n| "1".repeat(n);
        assert!(account(&long(64), "1", None, "12345678").is_ok());
        assert!(account(&long(65), "1", None, "12345678").is_err());
        assert!(account("a", &long(15), None, "12345678").is_ok());
        assert!(account("a", &long(16), None, "12345678").is_err());
        assert!(account("a", "1", Some(&format!("+{}", long(15))), "12345678").is_ok());
        assert!(account("a", "1", Some(&format!("+{}", long(16))), "12345678").is_err());
        assert!(account("a", "1", None, &long(128)).is_ok());
        assert!(account("a", "1", None, &long(129)).is_err());
        assert!(account("a", "1", None, &long(7)).is_err());
    }

    #[test]
    fn a_name_that_would_change_a_uri_is_refused() {
        for name in ["", "a b", "a@b", "a;b", "sip:a", "\u{e4}", "a\r\nb"] {
            assert!(account(name, "1001", None, "12345678").is_err(), "{name:?}");
        }
    }

    #[test]
    fn an_error_never_repeats_the_password() {
        let error = account("a", "1", None, "hunter2").unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
