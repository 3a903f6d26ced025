//! The command line.

/// Runs the command of the process's arguments.
pub fn main() -> std::process::ExitCode {
    todo!()
}
