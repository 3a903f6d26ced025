//! `ringdown keys`: the key that seals what the database keeps of passwords, and private addresses.

use std::path::Path;

use clap::Subcommand;

use crate::shell::{
    failure::Failure,
    run,
    store::{Given, Sealing},
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show which key seals the stored secrets, where it lies and how many it seals.
    Show,
    /// Make a new key and seal every stored secret with it, all at once; the old key opens nothing any more but old backups.
    Rotate,
}

pub(super) fn run(config_file: &Path, command: &Command) -> Result<(), Failure> {
    let mut store = run::open_store(&super::load(config_file)?.config)?;
    let sealing = match command {
        Command::Show => store.sealing(),
        Command::Rotate => {
            let sealing = store.rotate_key();
            super::record(&mut store, "keys rotate", None, sealing.as_ref().err())?;
            sealing
        }
    };
    super::print(&text(&sealing.map_err(|e| run::store_failure(&e))?));
    Ok(())
}

fn text(sealing: &Sealing) -> String {
    let Sealing { key_id, place, awaits, secrets } = sealing;
    let place = place.display();
    let mut text = format!("sealed secrets: {secrets}\nkey: {key_id}, in {place}\n");
    match awaits {
        None => {}
        Some(Given::File(file)) => text.push_str(&format!(
            "{0} still holds another key. Put this one there and restart, then it goes from the state folder:\n  \
             install -m 600 {place} {0}\n  systemctl restart ringdown\n",
            file.display()
        )),
        Some(Given::Credential(_)) => text.push_str(&format!(
            "The systemd credential still holds another key. Put this one there and restart, then it goes from the state folder:\n  \
             systemd-creds encrypt --name=ringdown-seal-key {place} /etc/ringdown/seal-key.cred\n  \
             systemctl restart ringdown\n"
        )),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_keeps_the_key_as_a_credential_is_told_what_to_do() {
        let sealing =
            |awaits| Sealing { key_id: "00ff".to_owned(), place: "/s/seal.key.next".into(), awaits, secrets: 3 };
        assert_eq!(text(&sealing(None)), "sealed secrets: 3\nkey: 00ff, in /s/seal.key.next\n");
        assert!(
            text(&sealing(Some(Given::Credential("/c".into()))))
                .contains("--name=ringdown-seal-key /s/seal.key.next /etc/ringdown/seal-key.cred\n")
        );
        let named = text(&sealing(Some(Given::File("/etc/ringdown/seal.key".into()))));
        assert!(named.contains("\n  install -m 600 /s/seal.key.next /etc/ringdown/seal.key\n"), "{named}");
    }
}
