//! `ringdown check`.

use std::path::Path;

use crate::shell::{failure::Failure, run, store::Store};

/// Configuration, files, addresses; and the users, where there is a store already.
pub(super) fn run(config_file: &Path) -> Result<(), Failure> {
    let settings = super::load(config_file)?;
    let config = &settings.config;
    if Store::exists(&config.server.state_dir) {
        let mut store = run::open_store(config)?;
        let (_, warnings) = run::load_directory(&mut store, config)?;
        super::show_warnings(config_file, &warnings);
    }
    super::print(&format!("{}: good.\n", config_file.display()));
    Ok(())
}
