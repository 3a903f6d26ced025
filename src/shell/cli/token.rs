//! `ringdown token`: who may use the admin interface from other machines. Works on the database itself; a running server
//! notices.

use std::{fmt::Write as _, path::Path};

use clap::{Subcommand, ValueEnum};

use crate::{
    shell::{
        calendar,
        clock::Clock,
        entropy,
        failure::Failure,
        run,
        store::{Role, Store, Token},
    },
    types::Secret,
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a token and show it, once.
    Add {
        /// Whose it is, for the audit log: a person or a program.
        name: String,
        /// What it is good for.
        #[arg(long, value_enum)]
        role: Rights,
    },
    /// Show whose tokens there are.
    List,
    /// Remove a token; a running server refuses it within seconds.
    Remove {
        /// Whose it is.
        name: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Rights {
    /// To see everything, call records too.
    Read,
    /// To give orders as well.
    Admin,
}

pub(super) fn run(config_file: &Path, command: &Command) -> Result<(), Failure> {
    let mut store = run::open_store(&super::load(config_file)?.config)?;
    match command {
        Command::Add { name, role } => {
            let made = add(&mut store, name, *role);
            super::record(&mut store, "token add", Some(name), made.as_ref().err())?;
            super::print(&format!(
                "token {name} was added; it is not shown again\n{}\n",
                made.map_err(|e| run::store_failure(&e))?.expose()
            ));
        }
        Command::List => super::print(&table(&store.tokens().map_err(|e| run::store_failure(&e))?)),
        Command::Remove { name } => {
            let removed = store.remove_token(name);
            super::record(&mut store, "token remove", Some(name), removed.as_ref().err())?;
            removed.map_err(|e| run::store_failure(&e))?;
            super::print(&format!("token {name} was removed\n"));
        }
    }
    Ok(())
}

fn add(store: &mut Store, name: &str, role: Rights) -> Result<Secret<String>, crate::shell::store::StoreError> {
    let role = match role {
        Rights::Read => Role::Read,
        Rights::Admin => Role::Admin,
    };
    let (token, shown) = Token::make(name, role, Clock::start().now(), &mut entropy::rng());
    store.add_token(&token).map(|()| shown)
}

fn table(tokens: &[Token]) -> String {
    let mut text = format!("{:<24} {:<6} {}\n", "token", "role", "made");
    for Token { name, role, created_ms, .. } in tokens {
        let made = calendar::rfc3339(*created_ms);
        writeln!(text, "{name:<24} {:<6} {made}", role.label()).expect("strings take everything");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_shows_nothing_that_opens_anything() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), None).unwrap();
        let shown = add(&mut store, "grafana", Rights::Read).unwrap();
        let text = table(&store.tokens().unwrap());
        assert!(text.contains("\ngrafana                  read   20"), "{text}");
        assert!(!text.contains(&shown.expose()[9..20]));
    }
}
