//! The `ringdown` binary: everything is in the library.

use mimalloc::MiMalloc;
use ringdown::shell::sandbox::wipe::Wiping;

#[global_allocator]
static ALLOCATOR: Wiping<MiMalloc> = Wiping(MiMalloc);

fn main() -> std::process::ExitCode {
    ringdown::shell::cli::main()
}
