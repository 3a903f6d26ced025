//! `ringdown completions`: what a shell needs to complete the command line.

use clap::{Args, CommandFactory as _};
use clap_complete::{Shell, generate};

use crate::shell::failure::Failure;

#[derive(Debug, Args)]
pub(super) struct Options {
    shell: Shell,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    super::print(&text(options.shell));
    Ok(())
}

fn text(shell: Shell) -> String {
    let mut text = Vec::new();
    generate(shell, &mut super::Cli::command(), "ringdown", &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shell_completes_commands_and_options() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let text = text(shell);
            for word in ["selftest", "emergency", "direct-line"] {
                assert!(text.contains(word), "{shell} does not know {word}");
            }
        }
    }
}
