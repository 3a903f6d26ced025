//! `media.backend = "xdp"`: the real server in a network of its own, with a virtual card, and phones on the other side.

use std::{
    fs,
    net::{SocketAddr, UdpSocket},
    ops::Range,
    process::Command,
    thread,
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ringdown::wire::srtp::{Inbound, MasterKey, Outbound, Suite, TAG_ROOM_BYTES};
use rustix::process::Signal;

use crate::{
    COMPANY, SECONDS_5, call,
    common::{
        namespace::{Networks, SERVER_CARD, inside},
        process::wait_for,
        server::{ALICE, BINARY, BOB, Ringdown},
    },
    connect,
    phone::{AUDIO_CANARY, Dialog, Phone},
};

const SUITE: Suite = Suite::AesCm128HmacSha1_80;
/// In the phones' descriptions, with the tags that their suite has where they answer an offer of the server's.
const OFFER: &str = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:eGRwLWtleS1vZi1hbGljZS1hbmQtb2YtYm9iLTEy\r\n";
const ANSWER: &str = "a=crypto:4 AES_CM_128_HMAC_SHA1_80 inline:eGRwLWtleS1vZi1hbGljZS1hbmQtb2YtYm9iLTEy\r\n";
const FELL_BACK: &str = "Media go through the kernel's sockets (epoll), since AF_XDP cannot be had.";
/// A leg that was silent so long hears everyone again.
const LEG_SILENCE: Duration = Duration::from_millis(500);

/// One end of an encrypted call.
struct Voice {
    outbound: Outbound,
    inbound: Inbound,
    media: SocketAddr,
    sequence: u16,
}

impl Voice {
    fn new(dialog: &Dialog) -> Self {
        let key_of = |line: &str| {
            let inline = line.split("inline:").nth(1).expect("a key").split(['|', '\r', '\n', ' ']).next();
            let bytes = BASE64_STANDARD.decode(inline.expect("a key")).expect("base64");
            MasterKey::new(SUITE, bytes).expect("a key of this suite")
        };
        let theirs = dialog.sdp.lines().find(|line| line.starts_with("a=crypto:") && line.contains(SUITE.name()));
        let inbound = Inbound::new(SUITE, &key_of(theirs.expect("the server encrypts")), None);
        Self { outbound: Outbound::new(SUITE, &key_of(OFFER)), inbound, media: dialog.media, sequence: 0 }
    }

    fn speak(&mut self, phone: &Phone, payload: &[u8]) {
        self.sequence += 1;
        let mut packet = vec![0x80, 0];
        packet.extend(self.sequence.to_be_bytes());
        packet.extend((u32::from(self.sequence) * 160).to_be_bytes());
        packet.extend(b"ssrc");
        packet.extend(payload);
        let len = packet.len();
        packet.resize(len + TAG_ROOM_BYTES, 0);
        let len = self.outbound.protect_rtp(&mut packet, len).expect("a packet of ours");
        phone.rtp.send_to(&packet[..len], self.media).expect("the card takes it");
    }

    /// The payload of the next packet, if one comes.
    fn hear(&mut self, phone: &Phone) -> Option<Vec<u8>> {
        let mut packet = [0; 4_096];
        phone.rtp.set_read_timeout(Some(SECONDS_5)).expect("a valid timeout");
        let (len, _) = phone.rtp.recv_from(&mut packet).ok()?;
        let len = self.inbound.unprotect_rtp(&mut packet[..len]).expect("under the key that the server gave");
        Some(packet[12..len].to_vec())
    }
}

/// So many packets of one to the other, one after the other and each as it was sent.
fn carries(from: (&Phone, &mut Voice), to: (&Phone, &mut Voice), payload_bytes: usize, count: u8) {
    for n in 0..count {
        let payload = vec![n; payload_bytes];
        from.1.speak(from.0, &payload);
        assert_eq!(to.1.hear(to.0).as_ref(), Some(&payload), "packet {n} of {payload_bytes} bytes");
    }
}

/// Speaks both ways until packets are received and sent past the kernel; returns how many were by then. Until the ways are
/// found out, however long the thread that does it must wait for a processor, the kernel sends.
fn wait_for_ways(server: &Ringdown, a: (&Phone, &mut Voice), b: (&Phone, &mut Voice)) -> [u64; 2] {
    let [mut received, mut sent] = [0, 0];
    wait_for("the ways over the card", Duration::from_secs(10), || {
        carries((a.0, &mut *a.1), (b.0, &mut *b.1), 160, 1);
        carries((b.0, &mut *b.1), (a.0, &mut *a.1), 160, 1);
        let before = sent;
        [received, sent] = bypassed(server, |[now, _]| now == received + 2);
        (sent == before + 2).then_some([received, sent])
    })
}

fn configured(networks: &Networks) -> Ringdown {
    let [four, six] = [networks.ipv4(1), networks.ipv6(1)];
    let media = format!(
        "addresses = [\"{four}\", \"{six}\"]\nencryption = \"preferred\"\n\
         backend = \"xdp\"\nxdp_interface = \"{SERVER_CARD}\"\nspin_us = 100\n"
    );
    let server = Ringdown::inside(&networks.server, four, &media, COMPANY);
    let text = fs::read_to_string(server.config()).expect("it was written");
    let (udp, both) = (format!("udp = [\"{four}:5060\"]"), format!("udp = [\"{four}:5060\", \"[{six}]:5060\"]"));
    fs::write(server.config(), text.replace(&udp, &both)).expect("a writable folder");
    for account in [ALICE, BOB] {
        server.add_user(&account);
    }
    server
}

/// Packets received and sent past the kernel, once `is_enough`.
fn bypassed(server: &Ringdown, is_enough: impl Fn([u64; 2]) -> bool) -> [u64; 2] {
    wait_for("packets past the kernel", SECONDS_5, || {
        let (_, metrics) = server.get("/metrics")?;
        let counts = ["received", "sent"].map(|direction| {
            let name = format!("ringdown_media_packets_bypassed_total{{direction=\"{direction}\"}} ");
            let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
            line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {metrics}"))
        });
        is_enough(counts).then_some(counts)
    })
}

/// A phone on IPv4 and one on IPv6, which differ in the length of every header.
fn phones(networks: &Networks, server: &Ringdown, crypto: [&'static str; 2]) -> [Phone; 2] {
    let mut alice = Phone::at(networks.ipv4(2), server, ALICE).encrypted(crypto[0]);
    let by = SocketAddr::new(networks.ipv6(1), 5060);
    let mut bob = Phone::at(networks.ipv6(3), server, BOB).by(by).encrypted(crypto[1]);
    assert_eq!((alice.register(), bob.register()), (200, 200));
    [alice, bob]
}

#[test]
fn encrypted_calls_pass_the_kernel_by_from_ipv4_to_ipv6_and_back_under_the_sandbox() {
    let Some(networks) = Networks::new() else { return };
    let mut server = configured(&networks);
    server.start();
    server.process().wait_log("Media pass the kernel's network stack by (AF_XDP).", SECONDS_5);
    let (_, health) = server.get("/health").expect("the admin interface");
    let health: serde_json::Value = serde_json::from_str(&health).expect("JSON");
    assert_eq!((&health["sandbox"]["media_calls"], &health["sandbox"]["media_files"]), (&true.into(), &true.into()));
    inside(&networks.phones, || {
        let [mut alice, mut bob] = phones(&networks, &server, [OFFER, ANSWER]);
        let (a, b) = connect(&mut alice, &mut bob);
        let (mut from_a, mut from_b) = (Voice::new(&a), Voice::new(&b));
        let [received, sent] = wait_for_ways(&server, (&alice, &mut from_a), (&bob, &mut from_b));
        carries((&alice, &mut from_a), (&bob, &mut from_b), 160, 20);
        carries((&bob, &mut from_b), (&alice, &mut from_a), 160, 20);
        bypassed(&server, |now| now == [received + 40, sent + 40]);

        // Larger than the card takes in a piece: fragments, by way of the kernel.
        carries((&alice, &mut from_a), (&bob, &mut from_b), 1_900, 5);
        bypassed(&server, |now| now == [received + 40, sent + 40]);
        // Received in one piece, and too large to leave in one as the longer header of IPv6 joins it.
        carries((&alice, &mut from_a), (&bob, &mut from_b), 1_440, 5);
        bypassed(&server, |now| now == [received + 45, sent + 40]);

        // Alice's telephone moves to another port and is followed.
        thread::sleep(LEG_SILENCE);
        alice.rtp = UdpSocket::bind((networks.ipv4(2), 0)).expect("any port");
        carries((&alice, &mut from_a), (&bob, &mut from_b), 160, 5);
        carries((&bob, &mut from_b), (&alice, &mut from_a), 160, 5);
        bypassed(&server, |now| now == [received + 55, sent + 50]);
        bob.hang_up(&b);
        alice.wait_bye();
    });
    server.wait_no_calls();
    // What was read past the kernel is the kernel's again, and can be taken again.
    server.process().signal(Signal::TERM);
    assert!(server.process().wait_exit(Duration::from_secs(10)).success());
    server.start();
    server.process().wait_log("Media pass the kernel's network stack by (AF_XDP).", SECONDS_5);
    assert!(!server.process_text().contains(FELL_BACK));
}

/// The card puts everything into its first queue, and the call is the first worker's, as none is busy.
#[test]
fn packets_on_another_workers_queue_take_the_sockets() {
    for (queues, has_the_queue) in [("[0, 1]", true), ("[1, 0]", false)] {
        let Some(networks) = Networks::with_queues(2) else { return };
        let mut server = configured(&networks);
        let text = fs::read_to_string(server.config()).expect("it was written");
        let queues = format!("spin_us = 100\nxdp_queues = {queues}");
        fs::write(server.config(), text.replace("spin_us = 100", &queues)).expect("a writable folder");
        server.start();
        server.process().wait_log("Media pass the kernel's network stack by (AF_XDP).", SECONDS_5);
        inside(&networks.phones, || {
            let [mut alice, mut bob] = phones(&networks, &server, [OFFER, ANSWER]);
            let (a, b) = connect(&mut alice, &mut bob);
            let (mut from_a, mut from_b) = (Voice::new(&a), Voice::new(&b));
            let before = has_the_queue.then(|| wait_for_ways(&server, (&alice, &mut from_a), (&bob, &mut from_b)));
            carries((&alice, &mut from_a), (&bob, &mut from_b), 160, 20);
            carries((&bob, &mut from_b), (&alice, &mut from_a), 160, 20);
            // A worker tells its counts now and then.
            thread::sleep(LEG_SILENCE);
            let read = before.map_or(0, |[received, _]| received + 40);
            bypassed(&server, |[received, _]| received == read);
            bob.hang_up(&b);
            alice.wait_bye();
        });
        server.wait_no_calls();
    }
}

/// Plain packets with the canary, one at once.
fn say(phone: &Phone, dialog: &Dialog, sequences: Range<u16>) {
    for sequence in sequences {
        let mut packet = vec![0x80, 0];
        packet.extend(sequence.to_be_bytes());
        packet.extend((u32::from(sequence) * 160).to_be_bytes());
        packet.extend(b"ssrc");
        packet.extend(AUDIO_CANARY);
        phone.rtp.send_to(&packet, dialog.media).expect("the card takes it");
    }
}

/// Each packet with the canary, until it is quiet; others are a failure.
fn heard(phone: &Phone) -> usize {
    let mut packet = [0; 2_048];
    let mut count = 0;
    phone.rtp.set_read_timeout(Some(SECONDS_5)).expect("a valid timeout");
    while let Ok((len, _)) = phone.rtp.recv_from(&mut packet) {
        assert!(packet[..len].ends_with(AUDIO_CANARY), "somebody else is heard");
        phone.rtp.set_read_timeout(Some(Duration::from_millis(200))).expect("a valid timeout");
        count += 1;
    }
    count
}

#[test]
fn plain_calls_pass_the_kernel_by_and_strangers_are_not_heard() {
    let Some(networks) = Networks::new() else { return };
    let mut server = configured(&networks);
    server.start();
    inside(&networks.phones, || {
        let [mut alice, mut bob] = phones(&networks, &server, ["", ""]);
        let (a, b) = connect(&mut alice, &mut bob);
        say(&alice, &a, 0..20);
        say(&bob, &b, 0..20);
        assert!(heard(&bob) > 10 && heard(&alice) > 10, "audio does not pass");
        // By now the ways are known. Somebody else speaks into the call, and to a port without a leg.
        let stranger = UdpSocket::bind((networks.ipv4(3), 0)).expect("any port");
        let nobody = SocketAddr::new(networks.ipv4(1), 20_998);
        for to in [a.media, nobody] {
            for _ in 0..20 {
                stranger.send_to(&[0x80; 172], to).expect("the card takes it");
            }
        }
        say(&alice, &a, 20..40);
        say(&bob, &b, 20..40);
        assert!(heard(&bob) > 10 && heard(&alice) > 10, "audio does not pass");
        bob.hang_up(&b);
        alice.wait_bye();
    });
    server.wait_no_calls();
    bypassed(&server, |[received, sent]| received > 60 && sent > 20);
}

/// The lines of `check` about media.
fn check(server: &Ringdown) -> String {
    let output = server.command(&["check"], "");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn check_tells_how_the_card_would_be_read_and_what_is_missing() {
    let Some(networks) = Networks::new() else { return };
    let mut server = configured(&networks);
    let text = check(&server);
    assert!(text.contains("media packets would be read in the driver, with a copy"), "{text}");
    server.start();
    let text = check(&server);
    assert!(text.contains("MEDIA BY EPOLL INSTEAD OF XDP: the interface has an XDP program already"), "{text}");
    let good = fs::read_to_string(server.config()).expect("it was written");
    fs::write(server.config(), good.replace("spin_us = 100", "xdp_queues = [0, 99]")).expect("a writable folder");
    let text = check(&server);
    assert!(text.contains("the interface has no queue 99") && text.contains("media.xdp_queues"), "{text}");
}

/// A server whose configuration wants what this machine does not have.
fn without_card() -> Ringdown {
    let mut server = Ringdown::configured("preferred", COMPANY);
    let text = fs::read_to_string(server.config()).expect("it was written");
    let xdp = "workers = 1\nbackend = \"xdp\"\nxdp_interface = \"nowhere0\"";
    fs::write(server.config(), text.replace("workers = 1", xdp)).expect("a writable folder");
    for account in [ALICE, BOB] {
        server.add_user(&account);
    }
    server.start();
    server
}

#[test]
fn without_the_interface_calls_go_through_the_kernel_and_one_line_of_the_log_says_why() {
    let server = without_card();
    let text = server.process_text();
    let lines: Vec<_> = text.lines().filter(|line| line.contains(FELL_BACK)).collect();
    assert!(lines.len() == 1 && lines[0].contains("there is no interface nowhere0"), "{lines:?}");
    let (mut alice, mut bob) = (Phone::new(&server, ALICE), Phone::new(&server, BOB));
    assert_eq!((alice.register(), bob.register()), (200, 200));
    call(&mut alice, &mut bob);
    let text = check(&server);
    assert!(text.contains("MEDIA BY EPOLL INSTEAD OF XDP: there is no interface nowhere0. Name one"), "{text}");
}

#[test]
fn without_the_capabilities_check_and_run_name_them_and_calls_go_through_the_kernel() {
    let Some(networks) = Networks::new() else { return };
    let mut server = configured(&networks);
    let bare = |command: &str| {
        let mut bare = Command::new("ip");
        bare.args(["netns", "exec", &networks.server, "setpriv"]);
        bare.args(["--bounding-set", "-net_admin,-net_raw,-bpf,-sys_admin,-perfmon", BINARY, command, "--config"]);
        bare.arg(server.config()).current_dir(server.dir());
        bare
    };
    let output = bare("check").output().expect("util-linux");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    assert!(text.contains("CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF is missing"), "{text}");
    let run = bare("run");
    server.start_by(run);
    let text = server.process_text();
    assert_eq!(text.matches(FELL_BACK).count(), 1, "{text}");
    inside(&networks.phones, || {
        let [mut alice, mut bob] = phones(&networks, &server, ["", ""]);
        call(&mut alice, &mut bob);
    });
    bypassed(&server, |counts| counts == [0, 0]);
}
