//! `ringdown man`: manual pages of the same words as `--help`, for packages.

use std::{io, path::PathBuf};

use clap::{Args, Command, CommandFactory as _};
use clap_mangen::Man;

use crate::shell::{failure::Failure, files};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Made where it does not exist; pages in it are replaced.
    folder: PathBuf,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let folder = &options.folder;
    let write = || {
        files::create_folder(folder)?;
        for (name, page) in pages()? {
            files::write(&folder.join(format!("{name}.1")), &page)?;
        }
        Ok(())
    };
    write().map_err(|e: io::Error| Failure::Usage(format!("{}: {e}. Name a folder to write to.", folder.display())))
}

/// Name and text of each page.
fn pages() -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut root = super::Cli::command().disable_help_subcommand(true);
    root.build();
    let mut pages = Vec::new();
    let mut waiting = vec![root];
    while let Some(command) = waiting.pop() {
        waiting.extend(command.get_subcommands().cloned());
        pages.push((name(&command), text(command)?));
    }
    Ok(pages)
}

fn name(command: &Command) -> String {
    command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned()
}

fn text(command: Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    Man::new(command).render(&mut page)?;
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_its_page_with_its_options() {
        let pages = pages().unwrap();
        let page = |wanted: &str| {
            let found = pages.iter().find(|(name, _)| name == wanted);
            String::from_utf8(found.unwrap_or_else(|| panic!("no page {wanted}")).1.clone()).unwrap()
        };
        assert!(page("ringdown").contains("user"));
        assert!(page("ringdown-user-add").contains("password"));
        assert!(page("ringdown-cdr-list").contains(".SH OPTIONS"));
        assert!(!pages.iter().any(|(name, _)| name.contains("help")), "help explains itself");
    }
}
