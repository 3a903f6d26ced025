//! `ringdown emergency acknowledge` and `acknowledgements`: works on the database itself; a running server notices.

use std::fmt::Write as _;

use crate::{
    config::Config,
    policy::emergency::refusal,
    shell::{
        calendar,
        clock::Clock,
        failure::Failure,
        run,
        store::{Acknowledgement, Notice, Store},
    },
};

pub(super) fn notice(config: &Config) -> Notice {
    Notice::new(refusal::notice(config))
}

/// All of these users, or none.
pub(super) fn acknowledge(config: &Config, users: &[String]) -> Result<(), Failure> {
    let mut store = run::open_store(config)?;
    let notice = notice(config);
    let now_ms = Clock::start().now().unix_ms();
    let recorded = store.acknowledge(users, &notice, now_ms, &super::actor());
    for user in users {
        super::record(&mut store, "emergency acknowledge", Some(user), recorded.as_ref().err())?;
    }
    recorded.map_err(|e| run::store_failure(&e))?;
    super::print(&format!("{}acknowledged by: {}\n", heading(&notice), users.join(", ")));
    Ok(())
}

/// `are_missing_only`: only users who have not acknowledged the notice that holds now.
pub(super) fn list(config: &Config, are_missing_only: bool) -> Result<(), Failure> {
    let store: Store = run::open_store(config)?;
    let notice = notice(config);
    let users = store.acknowledgements(&notice.version).map_err(|e| run::store_failure(&e))?;
    super::print(&table(&notice, &users, are_missing_only));
    Ok(())
}

fn heading(notice: &Notice) -> String {
    format!("notice {}: {}\n", notice.version, notice.text)
}

fn table(notice: &Notice, users: &[(String, Option<Acknowledgement>)], are_missing_only: bool) -> String {
    let mut text = heading(notice);
    let is_current = |known: &Acknowledgement| known.notice == notice.version;
    for (user, known) in users {
        let state = match known {
            Some(known) if is_current(known) && are_missing_only => continue,
            Some(known) if is_current(known) => {
                format!("{}  by {}", calendar::rfc3339(known.time_ms), known.recorded_by)
            }
            Some(known) => format!("no; an earlier notice {}", calendar::rfc3339(known.time_ms)),
            None => "no".to_owned(),
        };
        writeln!(text, "{user:<24} {state}").expect("strings take everything");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_told_apart_by_what_they_have_acknowledged() {
        let notice = Notice::new("Know this.".to_owned());
        let of = |user: &str, version: &str| Acknowledgement {
            user: user.to_owned(),
            notice: version.to_owned(),
            time_ms: 1_769_846_400_000,
            recorded_by: "portal".to_owned(),
        };
        let users = [
            ("alice".to_owned(), Some(of("alice", &notice.version))),
            ("bob".to_owned(), Some(of("bob", "0123456789abcdef"))),
            ("carol".to_owned(), None),
        ];
        let head = format!("notice {}: Know this.\n", notice.version);
        let bob = "bob                      no; an earlier notice 2026-01-31T08:00:00.000Z\n";
        let carol = "carol                    no\n";
        let alice = "alice                    2026-01-31T08:00:00.000Z  by portal\n";
        assert_eq!(table(&notice, &users, false), format!("{head}{alice}{bob}{carol}"));
        assert_eq!(table(&notice, &users, true), format!("{head}{bob}{carol}"));
    }
}
