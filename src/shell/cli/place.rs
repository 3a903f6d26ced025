//! `ringdown user address` and `ringdown user shared`: what emergency services are told of a user's telephones.

use std::{
    fmt::Write as _,
    io::Read as _,
    path::{Path, PathBuf},
};

use clap::Args;

use super::forwarding::{Switch, find};
use crate::{
    config::{self, Config, Place, PrivateAddress, User, UserRules},
    shell::{failure::Failure, run, settings, store::Store, toml_text::quoted},
    types::Secret,
    wire::pidf::{ELEMENTS, EXTENSION_ELEMENTS},
};

/// No address is longer.
const ADDRESS_BYTES_MAX: u64 = 65_536;

/// The address stays in the database, sealed, and in emergency calls of this line alone.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Name of the user.
    pub(super) name: String,
    /// A file with the elements of the address, one `NAME = "text"` a line as in [company.address]; `-` is standard input.
    /// Without it, the address is shown.
    file: Option<PathBuf>,
    /// Report the company's address again.
    #[arg(long, conflicts_with = "file")]
    remove: bool,
}

pub(super) fn address(config: &Config, store: &mut Store, options: &Options) -> Result<(), Failure> {
    let name = &options.name;
    if options.remove {
        store.set_address(name, None).map_err(|e| run::store_failure(&e))?;
        super::print(&format!("emergency calls of {name}: the company's address\n"));
        return Ok(());
    }
    let directory = store.directory().map_err(|e| run::store_failure(&e))?;
    let user = find(&directory, name)?;
    let Some(file) = &options.file else {
        super::print(&shown(user));
        return Ok(());
    };
    let address = read(file)?;
    let place = Place { private_address: Some(address.clone()), ..user.place };
    settings::refuse_errors(&UserRules::new(config).check(&User { place, ..user.clone() }))?;
    store.set_address(name, Some(&address)).map_err(|e| run::store_failure(&e))?;
    let while_shared = if user.place.is_shared { ", once the line is not shared any more" } else { "" };
    super::print(&format!("emergency calls of {name}: the private address{while_shared}\n"));
    Ok(())
}

pub(super) fn shared(store: &mut Store, name: &str, state: Switch) -> Result<(), Failure> {
    store.set_shared(name, state == Switch::On).map_err(|e| run::store_failure(&e))?;
    let directory = store.directory().map_err(|e| run::store_failure(&e))?;
    super::print(&format!("emergency calls of {name}: {}\n", told(find(&directory, name)?)));
    Ok(())
}

/// Whose address the user's emergency calls carry, in a word.
fn told(user: &User) -> &'static str {
    match (user.place.is_shared, user.place.private_address.is_some()) {
        (true, _) => "the company's address, because others use the line too",
        (false, true) => "the private address",
        (false, false) => "the company's address",
    }
}

/// What the operator has set, in the form in which it was given.
fn shown(user: &User) -> String {
    let mut text = format!("# emergency calls of {}: {}\n", user.name, told(user));
    let elements = user.place.private_address.as_ref().map(PrivateAddress::expose);
    for name in ELEMENTS.into_iter().chain(EXTENSION_ELEMENTS) {
        if let Some(value) = elements.and_then(|elements| elements.get(name)) {
            writeln!(text, "{name} = {}", quoted(value)).expect("strings take everything");
        }
    }
    text
}

fn read(file: &Path) -> Result<PrivateAddress, Failure> {
    let fail = |message: String| Failure::Usage(format!("{}: {message}", file.display()));
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().lock().take(ADDRESS_BYTES_MAX).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(ADDRESS_BYTES_MAX).read_to_string(&mut text))
    };
    read.map_err(|e| fail(format!("{e}.")))?;
    let text = Secret::new(text);
    config::parse_address(text.expose()).map_err(|problems| {
        let lines: Vec<_> = problems.iter().map(|p| format!("{}: {}", p.line, settings::sentence(p))).collect();
        fail(lines.join("\n"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Forwarding, wire::sip::digest::Credential};

    #[test]
    fn what_is_shown_can_be_given_again() {
        let text = "country = \"GB\"\nRD = \"Sample \\\"Lane\\\"\"\n";
        let place = |is_shared| Place { private_address: Some(config::parse_address(text).unwrap()), is_shared };
        let user = |place| User {
            name: "alice".to_owned(),
            extension: "1001".to_owned(),
            direct_line: None,
            credential: Credential { ha1_md5: Secret::new([0; 16]), ha1_sha256: Secret::new([0; 32]) },
            forwarding: Forwarding::default(),
            place,
        };
        let shown_text = shown(&user(place(false)));
        assert_eq!(shown_text, format!("# emergency calls of alice: the private address\n{text}"));
        assert_eq!(config::parse_address(&shown_text).unwrap(), place(false).private_address.unwrap());
        assert!(shown(&user(place(true))).contains("because others use the line too"));
        assert_eq!(shown(&user(Place::default())), "# emergency calls of alice: the company's address\n");
    }
}
