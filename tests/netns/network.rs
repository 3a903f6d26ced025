//! A server, two telephones and the router between them, each in a network namespace of its own.

use std::{
    fs::File,
    net::{IpAddr, Ipv4Addr},
    os::fd::AsFd,
    process::{Command, Output},
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The router's rules: as yet none, and a counter of what it has dropped by chance.
const LOSS: &str = "add table inet loss; add counter inet loss lost; \
                    add chain inet loss forward { type filter hook forward priority 0; }";

pub(crate) struct Namespace {
    name: String,
    /// Third byte of its network; the router is 1 there, and who lives here 2.
    net: u8,
}

pub(crate) struct Network {
    pub(crate) server: Namespace,
    pub(crate) alice: Namespace,
    pub(crate) bob: Namespace,
    pub(crate) router: Namespace,
}

impl Network {
    pub(crate) fn new() -> Self {
        static USED: AtomicU32 = AtomicU32::new(0);
        let n = USED.fetch_add(1, Ordering::Relaxed);
        let namespace = |who: &str, net| Namespace::new(format!("rd-{}-{n}-{who}", std::process::id()), net);
        let network = Self {
            router: namespace("router", 3),
            server: namespace("server", 0),
            alice: namespace("alice", 1),
            bob: namespace("bob", 2),
        };
        for end in [&network.server, &network.alice, &network.bob] {
            network.link(end);
        }
        network.router.run("sh", &["-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]);
        network.router.run("nft", &[LOSS]);
        network
    }

    /// A cable from the router to somebody, who has no other.
    fn link(&self, end: &Namespace) {
        let port = format!("r{}", end.net);
        ip(&[
            "link",
            "add",
            "e0",
            "netns",
            &end.name,
            "type",
            "veth",
            "peer",
            "name",
            &port,
            "netns",
            &self.router.name,
        ]);
        for (namespace, device, address) in [(end, "e0", end.ip()), (&self.router, &*port, end.gateway())] {
            ip(&["-n", &namespace.name, "address", "add", &format!("{address}/24"), "dev", device]);
            ip(&["-n", &namespace.name, "link", "set", device, "up"]);
        }
        ip(&["-n", &end.name, "link", "set", "lo", "up"]);
        ip(&["-n", &end.name, "route", "add", "default", "via", &end.gateway().to_string()]);
    }

    /// What comes from there in datagrams is dropped by chance, so many of a hundred; 0: none.
    pub(crate) fn lose(&self, from: &Namespace, percent: u8) {
        self.router.run("nft", &["flush chain inet loss forward"]);
        if percent > 0 {
            let rule = format!(
                "add rule inet loss forward iifname r{} meta l4proto udp numgen random mod 100 < {percent} \
                 counter name lost drop",
                from.net
            );
            self.router.run("nft", &[&rule]);
        }
    }

    /// Datagrams dropped by [`Network::lose`].
    pub(crate) fn lost(&self) -> u64 {
        let output = self.router.run("nft", &["-j", "list", "counter", "inet", "loss", "lost"]);
        let listing: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let counters = listing["nftables"].as_array().expect("a list");
        let packets = counters.iter().find_map(|entry| entry["counter"]["packets"].as_u64());
        packets.expect("the counter")
    }

    /// The largest packet that fits the cable of this one, in both directions.
    pub(crate) fn narrow(&self, end: &Namespace, mtu: u16) {
        for (namespace, device) in [(end, "e0".to_owned()), (&self.router, format!("r{}", end.net))] {
            ip(&["-n", &namespace.name, "link", "set", &device, "mtu", &mtu.to_string()]);
        }
    }
}

impl Namespace {
    fn new(name: String, net: u8) -> Self {
        ip(&["netns", "add", &name]);
        Self { name, net }
    }

    pub(crate) const fn ip(&self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 77, self.net, 2))
    }

    /// The router's address on this network.
    pub(crate) const fn gateway(&self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 77, self.net, 1))
    }

    /// What `act` opens and starts is here for good, wherever it is used.
    pub(crate) fn enter<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let enter_and_act = || {
            let file = File::open(format!("/run/netns/{}", self.name)).expect("a namespace of ours");
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may enter it");
            act()
        };
        let result = thread::scope(|scope| scope.spawn(enter_and_act).join());
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// A program in this namespace, to its end.
    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let whole: Vec<_> = ["netns", "exec", &self.name, program].iter().chain(arguments).copied().collect();
        ip(&whole)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).output();
    }
}

fn ip(arguments: &[&str]) -> Output {
    let output = Command::new("ip").args(arguments).output();
    let output = output.expect("ip is needed for this test: apt-get install iproute2 nftables");
    assert!(
        output.status.success(),
        "ip {}: {}\nThese tests make networks of their own: run them as root, where network namespaces and nftables are \
         allowed (in a container: CAP_NET_ADMIN and CAP_SYS_ADMIN), with iproute2 and nftables installed (tests/run).",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    output
}
