//! `ringdown check`.

use std::path::Path;

use crate::{
    config::{Media, MediaBackend},
    shell::{
        admin,
        failure::Failure,
        media_io::{xdp, xdp_workers},
        run,
        sandbox::{self, Missing},
        store::Store,
    },
};

/// Configuration, files, addresses; the users, where there is a store already; how media packets would be carried; and the
/// sandbox, by entering it.
pub(super) fn run(config_file: &Path) -> Result<(), Failure> {
    let settings = super::load(config_file)?;
    let config = &settings.config;
    let mut tokens = Vec::new();
    if Store::exists(&config.server.state_dir) {
        let mut store = run::open_store(config)?;
        let (_, warnings) = run::load_directory(&mut store, config)?;
        super::show_warnings(config_file, &warnings);
        tokens = store.tokens().map_err(|e| run::store_failure(&e))?;
    }
    super::show_warnings(config_file, admin::without_tokens(config, &tokens).as_slice());
    let media = of_media(&config.media);
    let missing = sandbox::attempt(config);
    sandbox::accept(config.privacy.sandbox, &missing)?;
    let lines: String = missing.iter().map(|missing: &Missing| format!("SANDBOX INCOMPLETE: {missing}\n")).collect();
    super::print(&format!("{media}{lines}{}: good.\n", config_file.display()));
    Ok(())
}

/// Nothing of it keeps the server from starting.
fn of_media(media: &Media) -> String {
    if media.backend == MediaBackend::Epoll {
        return String::new();
    }
    match xdp::missing(media, xdp_workers(media)) {
        Ok(how) => format!("media packets would be read {how}.\n"),
        Err(missing) => missing.iter().map(|it| format!("MEDIA BY EPOLL INSTEAD OF XDP: {it}\n")).collect(),
    }
}
