//! What an idle connection costs the server in memory.
//!
//! The server runs in this process as `ringdown run` runs it; the clients are a process of their own, this program again.
//! Each client connects over loopback, finishes the handshake, asks OPTIONS, reads the answer and says nothing more; or, of TCP
//! once more, says nothing at all. The first tenth of the connections is there before the count begins, so that what is needed
//! once does not count.
//!
//! Resident memory is the kernel's count for the process (`VmRSS`), with all that the allocator keeps or wastes; heap is
//! what was asked of the allocator. What the kernel keeps for a socket is in neither.
//!
//! `cargo bench --bench connections` takes about half a minute, with `-- --quick` a second or two.

#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a benchmark prints, reads the clock and files, and may stop when anything fails"
)]

mod clients;
#[expect(dead_code, reason = "how often something is allocated is the signalling bench's question")]
#[path = "../signalling/heap.rs"]
mod heap;

use std::{env, fs, net::SocketAddr, path::Path, process::Command, time::Duration};

use clients::{Clients, Kind};
use ringdown::{
    shell::{
        run::{FirstUsers, Server},
        settings::Settings,
        udp_errors::UdpErrors,
    },
    types::Transport,
};
use tokio::runtime::Runtime;

/// So that transactions end and timers that nobody needs go away.
const SETTLE: Duration = Duration::from_secs(2);
const ARGUMENT: &str = "--server";

fn main() {
    if clients::play() {
        return;
    }
    let arguments: Vec<String> = env::args().collect();
    let has = |wanted: &str| arguments.iter().any(|argument| argument == wanted);
    if let [_, first, kind, count] = &arguments[..]
        && first == ARGUMENT
    {
        return measure(Kind::named(kind).unwrap(), count.parse().unwrap());
    }
    // `cargo bench` says so; `cargo test --all-targets` only wants to see it work. 2000 are what one source may have.
    let count = if has("--quick") || !has("--bench") { "100" } else { "2000" };
    for kind in Kind::ALL {
        // A server of its own, because memory that was used once would not be counted again.
        let arguments = [ARGUMENT, kind.name(), count];
        assert!(Command::new(env::current_exe().unwrap()).args(arguments).status().unwrap().success());
    }
}

fn measure(kind: Kind, count: u32) {
    let folder = tempfile::tempdir().unwrap();
    let runtime = Runtime::new().unwrap();
    let server = runtime
        .block_on(Server::start(settings(folder.path()), Vec::new(), UdpErrors::default(), FirstUsers::Make))
        .unwrap();
    let (address, ca) = (address(&server, kind.transport()), server.facts.ca_file.clone().unwrap());
    let first = Clients::start(kind, address, &ca, count / 10);
    let before = Memory::now();
    let counted = count - count / 10;
    let rest = Clients::start(kind, address, &ca, counted);
    let after = Memory::now();
    let each = |before: u64, after: u64| after.saturating_sub(before) / u64::from(counted);
    let (resident, heap) = (each(before.resident, after.resident), each(before.heap, after.heap));
    let (name, max) = (kind.name(), kind.bytes_max());
    println!("{counted} idle connections, {name}: {resident} bytes of memory each, {heap} of them heap");
    assert!(heap <= max, "more than {max}");
    first.end();
    rest.end();
    runtime.block_on(server.end()).unwrap();
}

/// Bytes.
struct Memory {
    resident: u64,
    heap: u64,
}

impl Memory {
    fn now() -> Self {
        std::thread::sleep(SETTLE);
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix("kB")).unwrap();
        Self { resident: resident.trim().parse::<u64>().unwrap() * 1_024, heap: heap::bytes_in_use() }
    }
}

fn address(server: &Server, transport: Transport) -> SocketAddr {
    server.facts.listeners.iter().find(|(t, _)| *t == transport).unwrap().1
}

fn settings(folder: &Path) -> Settings {
    let text = format!(
        "[server]\ndomain = \"localhost\"\nstate_dir = {:?}\n\
         [sip]\nudp = []\ntcp = [\"127.0.0.1:0\"]\ntls = [\"127.0.0.1:0\"]\n[media]\nports = \"45000-45003\"\nworkers = 1\n\
         [company]\nname = \"x\"\nregion = \"US\"\n[admin]\nlisten = \"off\"\n",
        folder.join("state")
    );
    Settings::from_text(&text).unwrap_or_else(|problems| panic!("{problems:?}"))
}
