//! The `ringdown` binary: everything is in the library.

fn main() -> std::process::ExitCode {
    ringdown::shell::cli::main()
}
