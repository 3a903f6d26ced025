//! The real binary in a network of our own: what loss, disorder, copies, forgeries, delay, a NAT that forgets and a narrow
//! path do to a call, and whether the server says of it what was done.
//!
//! Method: server, router and two telephones live in network namespaces. The kernel drops datagrams by chance (nftables;
//! many kernels have no netem), or a forwarder of our own mistreats them by seed. Both know to the packet what they did, and
//! the server must agree. No speed is asserted.
#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    reason = "tests of a real process read the clock, write files and speak on standard error"
)]

#[path = "../common/mod.rs"]
#[allow(dead_code, reason = "the process and interop tests use more of it")]
mod common;
mod device;
mod forwarder;
mod network;

use std::{
    fs,
    net::{SocketAddr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use common::{
    process::wait_for,
    server::{ALICE, BOB, Ringdown, SIP_PORT},
};
use device::{Device, Voice};
use forwarder::Forwarder;
use network::Network;
use ringdown::wire::srtp::Suite;

const COMPANY: &str = "[company]\nname = \"Example Corp\"\nregion = \"US\"\n";
const SECONDS_10: Duration = Duration::from_secs(10);
/// 20 ms of G.711.
const SPEECH_BYTES: usize = 160;

/// Alice's call to Bob, which he has answered.
struct Call {
    // Dropped in this order: the server ends before its network.
    server: Ringdown,
    alice: Device,
    bob: Device,
    a: Voice,
    b: Voice,
    id: String,
    network: Network,
}

/// What the server says of one leg.
#[derive(Debug, PartialEq)]
struct Seen {
    received: u64,
    lost: u64,
    refused: u64,
    jitter_ms: f64,
}

impl Seen {
    fn of(leg: &serde_json::Value) -> Self {
        let count = |name: &str| leg[name].as_u64().unwrap_or_else(|| panic!("no {name} in {leg}"));
        Self {
            received: count("packets_received"),
            lost: count("packets_lost"),
            refused: count("packets_refused"),
            jitter_ms: leg["jitter_ms"].as_f64().expect("a number"),
        }
    }
}

impl Call {
    fn start(suite: Suite) -> Self {
        let network = Network::new();
        let mut server = Ringdown::configured("required", COMPANY);
        let (loopback, address) = (server.ip, network.server.ip());
        let text = fs::read_to_string(server.config()).expect("it was written");
        let text = text
            .replace(&format!("tcp = [\"{loopback}:"), &format!("tcp = [\"{address}:{SIP_PORT}\", \"{loopback}:"))
            .replace(&format!("addresses = [\"{loopback}\"]"), &format!("addresses = [\"{address}\"]"));
        assert_eq!(text.matches(&address.to_string()).count(), 2);
        fs::write(server.config(), text).expect("a writable folder");
        // Every command tries the addresses of the configuration.
        network.server.enter(|| {
            [ALICE, BOB].iter().for_each(|account| server.add_user(account));
            server.start();
        });
        let sip = SocketAddr::new(address, SIP_PORT);
        let phone = |at, account| {
            let mut phone = Device::connect(at, sip, &loopback.to_string(), account, suite);
            phone.register();
            phone
        };
        let (mut alice, mut bob) = (phone(&network.alice, &ALICE), phone(&network.bob, &BOB));
        let [a, b] = alice.call(&mut bob, BOB.extension).map(|media| Voice::new(&media));
        let mut call = Self { server, alice, bob, a, b, id: String::new(), network };
        call.id = call.json("/v1/calls").expect("the admin interface")[0]["id"].as_str().expect("a call").to_owned();
        call
    }

    fn get(&self, path: &str) -> Option<(u16, String)> {
        let server = &self.server;
        self.network.server.enter(|| server.get(path))
    }

    fn json(&self, path: &str) -> Option<serde_json::Value> {
        let (status, body) = self.get(path)?;
        (status == 200).then(|| serde_json::from_str(&body).expect("JSON"))
    }

    /// What is shown of Alice's leg while the call is up.
    fn seen(&self) -> Option<Seen> {
        let call = self.json(&format!("/v1/calls/{}", self.id))?;
        assert_eq!(call["state"], "answered", "the call is not up");
        Some(Seen::of(&call["a"]))
    }

    /// Waits until so many packets of Alice's were taken.
    fn wait_received(&self, packets: impl Fn() -> u64) -> Seen {
        wait_for("the server to have received all that came", SECONDS_10, || {
            let (packets, seen) = (packets(), self.seen()?);
            assert!(seen.received <= packets, "{seen:?}, and only {packets} packets came");
            (seen.received == packets).then_some(seen)
        })
    }

    /// Alice says one thing, straight to the server.
    fn alice_speaks(&mut self) {
        let packet = self.a.speak(SPEECH_BYTES);
        self.alice.media().send_to(&packet, self.a.server).expect("the way is open");
    }

    fn bob_speaks(&mut self) {
        let packet = self.b.speak(SPEECH_BYTES);
        self.bob.media().send_to(&packet, self.b.server).expect("the way is open");
    }

    /// The numbers of so many packets, and of none more.
    fn heard_by_bob(&mut self, packets: u64) -> Vec<u16> {
        self.b.hear(self.bob.media(), usize::try_from(packets).expect("a few hundred"))
    }

    /// Hangs up; what the record says of Alice's leg.
    fn record(&mut self) -> Seen {
        self.alice.hang_up(&mut self.bob);
        let record = wait_for("the record", SECONDS_10, || {
            let server = &self.server;
            let output = self.network.server.enter(|| server.command(&["cdr", "list"], ""));
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            text.lines().find(|line| line.contains(&self.id)).map(str::to_owned)
        });
        let record: serde_json::Value = serde_json::from_str(&record).expect("a line of JSON");
        Seen::of(&record["a"])
    }
}

#[test]
fn what_the_kernel_drops_is_counted_to_the_packet_and_the_rest_is_heard() {
    const ROUNDS: u64 = 8;
    const PACKETS: u64 = 50;
    let mut call = Call::start(Suite::AesCm128HmacSha1_80);
    // Nobody can know of packets lost before the first and after the last.
    call.alice_speaks();
    let mut heard = call.heard_by_bob(1);
    call.network.lose(&call.network.alice, 10);
    for round in 1..=ROUNDS {
        (0..PACKETS).for_each(|_| call.alice_speaks());
        // A socket holds no more than a few rounds.
        let seen = call.wait_received(|| 1 + round * PACKETS - call.network.lost());
        heard.extend(call.heard_by_bob(seen.received - u64::try_from(heard.len()).expect("a few hundred")));
    }
    call.network.lose(&call.network.alice, 0);
    call.alice_speaks();
    heard.extend(call.heard_by_bob(1));
    let lost = call.network.lost();
    let received = 2 + ROUNDS * PACKETS - lost;
    assert!(lost > 0, "nothing was lost");
    let seen = call.wait_received(|| received);
    assert_eq!((seen.lost, seen.refused), (lost, 0));
    assert!(heard.is_sorted());
    let record = call.record();
    assert_eq!((record.received, record.lost, record.refused), (received, lost, 0));
}

/// Says so much through the forwarder; what came of it is heard by Bob, each once. Returns the numbers he heard.
fn mistreat(call: &mut Call, seed: u64) -> (Seen, Vec<u16>) {
    const ROUNDS: u64 = 6;
    const PACKETS: u64 = 40;
    let mut forwarder = Forwarder::new(&call.network, call.a.server, seed);
    forwarder.pass(&call.a.speak(SPEECH_BYTES));
    let mut heard = call.heard_by_bob(1);
    for _ in 0..ROUNDS {
        for _ in 0..PACKETS {
            forwarder.forward(call.a.speak(SPEECH_BYTES));
        }
        forwarder.release();
        let seen = call.wait_received(|| forwarder.passed - forwarder.doubled);
        heard.extend(call.heard_by_bob(seen.received - u64::try_from(heard.len()).expect("a few hundred")));
    }
    forwarder.pass(&call.a.speak(SPEECH_BYTES));
    heard.extend(call.heard_by_bob(1));
    let seen = call.wait_received(|| 2 + ROUNDS * PACKETS - forwarder.dropped);
    let Forwarder { dropped, doubled, forged, .. } = forwarder;
    assert!(dropped > 0 && doubled > 0 && forged > 0, "{dropped}, {doubled}, {forged}");
    assert_eq!((seen.lost, seen.refused), (dropped, doubled + forged), "seed {seed}");
    call.bob_speaks();
    assert_eq!(call.a.hear(forwarder.outside(), 1).len(), 1);
    (seen, heard)
}

#[test]
fn disorder_loss_copies_forgeries_and_delay_are_counted_to_the_packet_and_what_is_genuine_is_heard_once() {
    for (seed, suite) in [
        (1, Suite::AesCm128HmacSha1_80),
        (2, Suite::AesCm256HmacSha1_32),
        (3, Suite::AeadAes128Gcm),
        (4, Suite::AeadAes256Gcm),
    ] {
        let mut call = Call::start(suite);
        let (seen, heard) = mistreat(&mut call, seed);
        assert!(!heard.is_sorted(), "seed {seed}: nothing was overtaken");
        let record = call.record();
        assert_eq!((record.received, record.lost, record.refused), (seen.received, seen.lost, seen.refused));
    }
}

/// Every second packet waits 40 ms longer than the one before: what is measured can be more on a busy machine, and never less
/// than a part of it.
#[test]
fn delay_that_changes_is_shown_as_jitter() {
    let mut call = Call::start(Suite::AeadAes128Gcm);
    let began = Instant::now();
    for n in 0..60 {
        let due = Duration::from_millis(20 * n + if n % 2 == 0 { 0 } else { 40 });
        thread::sleep(due.saturating_sub(began.elapsed()));
        call.alice_speaks();
    }
    let seen = call.wait_received(|| 60);
    assert_eq!((seen.lost, seen.refused), (0, 0));
    assert!(seen.jitter_ms > 5.0, "{seen:?}");
    assert!(call.record().jitter_ms > 5.0);
}

#[test]
fn after_a_nat_forgets_the_telephone_is_followed_from_its_third_packet_on_and_no_stranger_ever() {
    let mut call = Call::start(Suite::AesCm128HmacSha1_80);
    let mut forwarder = Forwarder::new(&call.network, call.a.server, 0);
    let stranger = forwarder::socket(&call.network);
    let copies: Vec<_> = (0..5).map(|_| call.a.speak(SPEECH_BYTES)).collect();
    copies.iter().for_each(|packet| forwarder.pass(packet));
    call.heard_by_bob(5);
    // At which of these sockets what Bob says arrives.
    let arrives_at = |call: &mut Call, sockets: &[&UdpSocket]| {
        call.bob_speaks();
        sockets.iter().position(|socket| call.a.overhear(socket).is_some())
    };
    assert_eq!(arrives_at(&mut call, &[forwarder.outside(), &stranger]), Some(0));
    let before = forwarder.rebind(&call.network);
    // A leg that is spoken to hears only its peer; silence opens it to everybody.
    thread::sleep(Duration::from_secs(1));
    for expected in [1, 1, 0] {
        for copy in &copies {
            stranger.send_to(copy, call.a.server).expect("the way is open");
        }
        let genuine = call.a.speak(SPEECH_BYTES);
        let mut forged = genuine.clone();
        forged[40] ^= 1;
        stranger.send_to(&forged, call.a.server).expect("the way is open");
        forwarder.pass(&genuine);
        // It is heard at once; only the way back waits.
        call.heard_by_bob(1);
        assert_eq!(arrives_at(&mut call, &[forwarder.outside(), &before, &stranger]), Some(expected));
    }
    let seen = call.wait_received(|| 8);
    assert_eq!(seen.lost, 0);
    assert_eq!(call.record().received, 8);
}

#[test]
fn a_path_too_narrow_for_a_packet_is_counted_and_the_call_goes_on() {
    const LARGE: usize = 1_000;
    let mut call = Call::start(Suite::AesCm128HmacSha1_80);
    call.alice_speaks();
    call.heard_by_bob(1);
    call.network.narrow(&call.network.bob, 600);
    let is_counted = |call: &Call| {
        let (_, metrics) = call.get("/metrics").expect("the admin interface");
        let line = metrics.lines().find(|line| line.contains("reason=\"path_mtu\"")).expect("the metric");
        !line.ends_with(" 0")
    };
    assert!(!is_counted(&call), "nothing was too large");
    // The first does not arrive; those that follow do, in parts.
    let large = call.a.speak(LARGE);
    call.alice.media().send_to(&large, call.a.server).expect("the way is open");
    wait_for("the packet to be counted", SECONDS_10, || is_counted(&call).then_some(()));
    for bytes in [LARGE, SPEECH_BYTES, LARGE] {
        let packet = call.a.speak(bytes);
        call.alice.media().send_to(&packet, call.a.server).expect("the way is open");
        assert_eq!(call.b.hear(call.bob.media(), 1).len(), 1, "{bytes} bytes");
    }
    call.bob_speaks();
    assert_eq!(call.a.hear(call.alice.media(), 1).len(), 1);
    assert_eq!(call.record().received, 5);
}
