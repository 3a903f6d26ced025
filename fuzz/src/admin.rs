//! The admin API of a server that runs in this process, asked by clients that say anything.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    sync::LazyLock,
    time::Duration,
};

use ringdown::shell::{
    run::{FirstUsers, Server},
    settings::Settings,
    udp_errors::UdpErrors,
};

/// Longer than any answer takes that waits for no telephone.
const PATIENCE: Duration = Duration::from_secs(10);
/// Who has not asked all there is to ask hears nothing more.
const QUIET: Duration = Duration::from_millis(20);

/// One for all inputs. It keeps the files it has open; their folder is gone before the first input.
static ADMIN: LazyLock<SocketAddr> = LazyLock::new(|| {
    let folder: PathBuf = std::env::temp_dir().join(format!("ringdown-fuzz-{}", std::process::id()));
    let text = format!(
        "[server]\nstate_dir = {:?}\n[sip]\nudp = []\ntcp = []\ntls = [\"127.0.0.1:0\"]\n\
         [media]\nworkers = 1\n[company]\nname = \"Example Corp\"\nregion = \"US\"\n\
         [admin]\nlisten = \"127.0.0.1:0\"\n[privacy]\nsandbox = \"best-effort\"\n",
        folder.join("state").display().to_string()
    );
    let settings = Settings::from_text(&text).expect("a configuration");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let server = runtime
        .block_on(Server::start(settings, Vec::new(), UdpErrors::default(), FirstUsers::Make))
        .expect("a server");
    fs::remove_dir_all(&folder).expect("the server has made it");
    let admin = server.facts.admin.expect("it was configured");
    // Both live as long as the process.
    std::mem::forget((runtime, server));
    admin
});

/// One connection. Whatever is asked gets answers of HTTP or none, and the next client is served.
pub fn admin(data: &[u8]) {
    let answer = ask(data, QUIET);
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{}", String::from_utf8_lossy(&answer));
    let next = ask(b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", PATIENCE);
    assert!(next.starts_with(b"HTTP/1.1 "), "the next client is not served: {}", String::from_utf8_lossy(&next));
}

/// What comes before the server closes the connection, or is silent for so long.
fn ask(request: &[u8], silence: Duration) -> Vec<u8> {
    let mut stream = TcpStream::connect(*ADMIN).expect("it listens");
    stream.set_read_timeout(Some(silence)).expect("a valid timeout");
    // A server that has heard enough may close before all is said.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}
