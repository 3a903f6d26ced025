//! Two networks of their own (network namespaces), joined by a pair of virtual Ethernet cards: what a server and its phones
//! on another machine are to each other, headers, neighbours and all.

use std::{
    fs::File,
    net::IpAddr,
    os::fd::AsFd,
    process::Command,
    sync::atomic::{AtomicU16, Ordering},
    thread,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The card on the server's side; the other one is on the phones'.
pub(crate) const SERVER_CARD: &str = "server0";
const PHONES_CARD: &str = "phones0";

/// Taken away with everything in them when dropped.
pub(crate) struct Networks {
    pub(crate) server: String,
    pub(crate) phones: String,
    net: u8,
}

impl Networks {
    /// `None`, and a word about it, where this user may make none.
    pub(crate) fn new() -> Option<Self> {
        Self::with_queues(1)
    }

    /// The same with a server's card of so many queues, the first of which gets everything that the phones send.
    pub(crate) fn with_queues(count: u8) -> Option<Self> {
        static USED: AtomicU16 = AtomicU16::new(0);
        if !rustix::process::geteuid().is_root() {
            eprintln!("NOT RUN: only root may make network namespaces");
            return None;
        }
        let n = USED.fetch_add(1, Ordering::Relaxed);
        let name = |side: &str| format!("ringdown-{}-{n}-{side}", std::process::id());
        let networks = Self { server: name("server"), phones: name("phones"), net: u8::try_from(n).expect("a few") };
        for namespace in [&networks.server, &networks.phones] {
            ip(&["netns", "add", namespace]);
            ip(&["-n", namespace, "link", "set", "lo", "up"]);
        }
        let (server, phones) = (&networks.server[..], &networks.phones[..]);
        let count = count.to_string();
        let queues = ["numtxqueues", &count, "numrxqueues", &count];
        let pair = ["netns", server, "type", "veth", "peer", "name", PHONES_CARD, "numtxqueues", "1", "netns", phones];
        ip(&[&["link", "add", SERVER_CARD], &queues[..], &pair].concat());
        networks.add_address(server, SERVER_CARD, networks.ipv4(1), 24);
        networks.add_address(server, SERVER_CARD, networks.ipv6(1), 64);
        for host in [2, 3] {
            networks.add_address(phones, PHONES_CARD, networks.ipv4(host), 24);
            networks.add_address(phones, PHONES_CARD, networks.ipv6(host), 64);
        }
        ip(&["-n", server, "link", "set", SERVER_CARD, "up"]);
        ip(&["-n", phones, "link", "set", PHONES_CARD, "up"]);
        Some(networks)
    }

    /// 1 is the server, 2 and 3 are phones.
    pub(crate) fn ipv4(&self, host: u8) -> IpAddr {
        IpAddr::from([10, 77, self.net, host])
    }

    pub(crate) fn ipv6(&self, host: u8) -> IpAddr {
        IpAddr::from([0xfd77, 0, 0, self.net.into(), 0, 0, 0, host.into()])
    }

    fn add_address(&self, namespace: &str, card: &str, address: IpAddr, bits: u8) {
        let address = format!("{address}/{bits}");
        let mut command = vec!["-n", namespace, "address", "add", &address, "dev", card];
        if address.contains(':') {
            // Nobody else can have it.
            command.push("nodad");
        }
        ip(&command);
    }
}

impl Drop for Networks {
    fn drop(&mut self) {
        for namespace in [&self.server, &self.phones] {
            let _ = Command::new("ip").args(["netns", "delete", namespace]).status();
        }
    }
}

/// Runs on a thread of its own in that network. Sockets stay there.
pub(crate) fn inside<T: Send>(namespace: &str, act: impl FnOnce() -> T + Send) -> T {
    let file = File::open(format!("/run/netns/{namespace}")).expect("a namespace of ours");
    let enter = || {
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may");
        act()
    };
    thread::scope(|scope| match scope.spawn(enter).join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// ip(8).
pub(crate) fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("iproute2");
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
