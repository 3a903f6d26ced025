//! A process full of clients that have nothing to say.

use std::{
    env,
    io::{self, BufRead as _, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use ringdown::{shell::tls, types::Transport};
use rustls::{ClientConnection, StreamOwned, pki_types::ServerName};

const OPTIONS: &[u8] = b"OPTIONS sip:localhost SIP/2.0\r\nVia: SIP/2.0/TLS 127.0.0.1;branch=z9hG4bKidle\r\n\
    Max-Forwards: 70\r\nFrom: <sip:x@localhost>;tag=1\r\nTo: <sip:localhost>\r\nCall-ID: idle\r\nCSeq: 1 OPTIONS\r\n\
    User-Agent: A Telephone 1.0\r\nContent-Length: 0\r\n\r\n";
const ARGUMENT: &str = "--clients";
const READY: &str = "ready";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Tls,
    Tcp,
    /// Over TCP, and not even asking.
    Silent,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Tls, Self::Tcp, Self::Silent];

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Tls => "TLS",
            Self::Tcp => "TCP",
            Self::Silent => "TCP without a word",
        }
    }

    pub(crate) const fn transport(self) -> Transport {
        match self {
            Self::Tls => Transport::Tls,
            Self::Tcp | Self::Silent => Transport::Tcp,
        }
    }

    /// What is promised.
    pub(crate) const fn bytes_max(self) -> u64 {
        match self {
            Self::Tls => 24_000,
            Self::Tcp | Self::Silent => 6_144,
        }
    }
}

/// The process, as long as it is wanted.
pub(crate) struct Clients(Child);

impl Clients {
    /// Returns when each is connected, and has had its answer if it has asked.
    pub(crate) fn start(kind: Kind, server: SocketAddr, ca: &Path, count: u32) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args([ARGUMENT, kind.name(), &server.to_string(), &count.to_string()])
            .arg(ca)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line.trim(), READY);
        Self(child)
    }

    /// They go when nobody writes to them any more.
    pub(crate) fn end(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success());
    }
}

/// In the clients' process: opens the connections and holds them. `false` in any other.
pub(crate) fn play() -> bool {
    let arguments: Vec<String> = env::args().collect();
    let [_, ARGUMENT, kind, server, count, ca] = arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] else {
        return false;
    };
    let (server, count): (SocketAddr, usize) = (server.parse().unwrap(), count.parse().unwrap());
    let config = tls::client_of(Path::new(ca)).unwrap();
    let connect = || TcpStream::connect(server).unwrap();
    let secure = || {
        let name = ServerName::from(server.ip());
        StreamOwned::new(ClientConnection::new(Arc::clone(&config), name).unwrap(), connect())
    };
    match Kind::named(kind).unwrap() {
        Kind::Tls => hold((0..count).map(|_| ask(secure())).collect()),
        Kind::Tcp => hold((0..count).map(|_| ask(connect())).collect()),
        Kind::Silent => hold((0..count).map(|_| connect()).collect()),
    }
    true
}

fn ask<S: Read + Write>(mut stream: S) -> S {
    stream.write_all(OPTIONS).unwrap();
    let (mut answer, mut buffer) = (Vec::new(), [0; 4_096]);
    while !answer.ends_with(b"\r\n\r\n") {
        let len = stream.read(&mut buffer).unwrap();
        assert_ne!(len, 0, "the connection is open");
        answer.extend_from_slice(&buffer[..len]);
    }
    assert!(answer.starts_with(b"SIP/2.0 200 "));
    stream
}

/// Until the other process closes its end.
fn hold<S>(_connections: Vec<S>) {
    println!("{READY}");
    io::stdin().read_to_end(&mut Vec::new()).unwrap();
}
