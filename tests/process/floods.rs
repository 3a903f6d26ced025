//! Floods from strangers: calls go on, emergency calls connect, memory stays within its bounds, and nothing is left.
//!
//! Method: bursts of a bounded number from threads of the test, so that they end by themselves on any machine; what is judged
//! is what arrives, not when.

use std::{
    io::Write,
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    process::Command,
    thread,
    time::Duration,
};

use ringdown::wire::sip::{Message, Method, frame::Framer};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

use crate::{
    common::{
        process::{fresh_ip, wait_for},
        server::{ALICE, Account, BINARY, BOB, Ringdown, TLS_PORT},
    },
    phone::Phone,
    torture::Wire,
};

const CARRIER: Account = Account { user: "carrier", extension: "", direct_line: "", password: "" };
const EVE: Account = Account { user: "eve", extension: "2003", direct_line: "+12025550103", password: "eve-password" };
/// Of each flood.
const DATAGRAMS: usize = 2_400;
const STRANGERS: usize = 8;
/// Between two of one stranger: all together what a server without optimisation on a busy machine still reads. What the kernel
/// has no room for tells nothing of the server.
const REST: Duration = Duration::from_millis(10);
/// Between a call's bursts of packets.
const ROUND: Duration = Duration::from_millis(100);
/// What floods may add to the resident memory: transactions of 32 s, tables of sources, buffers of connections.
const MORE_KB_MAX: u64 = 400_000;

fn company(carrier: IpAddr) -> String {
    format!(
        "[company]\nname = \"Example Corp\"\nregion = \"US\"\n\
         address = {{ country = \"US\", A1 = \"DC\", A3 = \"Washington\", RD = \"Example\", HNO = \"500\", PC = \"20001\" }}\n\
         [emergency]\ncallback_numbers = [\"{}\"]\n\
         [trunk.carrier]\nhost = \"{carrier}\"\nport = 5060\ntransport = \"udp\"\nnumbers = [\"{}\"]\n",
        ALICE.direct_line, ALICE.direct_line
    )
}

/// What a stranger may send over and over; `n` makes each its own transaction.
fn request(method: &str, uri: &str, from: &UdpSocket, n: usize, lines: &str) -> String {
    let own = from.local_addr().expect("it is bound");
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bK{n};rport\r\nMax-Forwards: 70\r\n\
         From: <sip:user{n}@example.com>;tag={n}\r\nTo: <{uri}>\r\nCall-ID: flood-{n}\r\nCSeq: 1 {method}\r\n\
         Contact: <sip:stranger@{own}>\r\nUser-Agent: a stranger with a name that is as long as that of many telephones\r\n\
         {lines}Content-Length: 0\r\n\r\n"
    )
}

/// Sends what `make` says from several sources at once.
fn datagrams(make: impl Fn(&UdpSocket, usize) -> (Vec<u8>, SocketAddr) + Sync) {
    thread::scope(|scope| {
        for stranger in 0..STRANGERS {
            let make = &make;
            scope.spawn(move || {
                let socket = UdpSocket::bind((fresh_ip(), 0)).expect("a fresh address");
                for n in 0..DATAGRAMS / STRANGERS {
                    let (bytes, to) = make(&socket, stranger * DATAGRAMS + n);
                    let _ = socket.send_to(&bytes, to);
                    thread::sleep(REST);
                }
            });
        }
    });
}

fn resident_kb(server: &mut Ringdown) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.process().id())).expect("a process of ours");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Runs a call through the server while `flood` runs, and an emergency call that begins meanwhile.
fn withstands(flood: impl Fn(&Ringdown) + Sync) {
    let carrier_ip = fresh_ip();
    let mut server = Ringdown::configured("preferred", &company(carrier_ip));
    // A line of log for each of them is the operator's own choice.
    let config = std::fs::read_to_string(server.config()).expect("it was written").replace("\"trace\"", "\"warn\"");
    std::fs::write(server.config(), config).expect("a writable folder");
    for account in [ALICE, BOB, EVE] {
        server.add_user(&account);
    }
    server.start();
    let [mut alice, mut bob, mut eve] = [ALICE, BOB, EVE].map(|account| Phone::new(&server, account));
    let mut carrier = Phone::at(carrier_ip, &server, CARRIER);
    assert_eq!([&mut alice, &mut bob, &mut eve].map(Phone::register), [200, 200, 200]);
    let (call_id, cseq) = alice.invite(BOB.extension);
    let b = bob.answer();
    let a = alice.answered(&call_id, cseq);
    let before = resident_kb(&mut server);
    thread::scope(|scope| {
        let flooding = scope.spawn(|| flood(&server));
        let mut rounds = 0;
        while !flooding.is_finished() || rounds < 3 {
            let sequences = 20 * rounds..20 * (rounds + 1);
            alice.speak_on(&a, sequences.clone());
            bob.speak_on(&b, sequences);
            assert_eq!((bob.hear_all(20), alice.hear_all(20)), (20, 20), "a packet of the call is lost");
            rounds += 1;
            // People do not talk faster, and sequence numbers do not come round.
            thread::sleep(ROUND);
            if rounds == 1 {
                let (call_id, cseq) = eve.invite("911");
                let invite = carrier.wait(|m: &Message| m.method() == Some(Method::Invite));
                let outside = carrier.answer_this(&invite);
                eve.answered(&call_id, cseq);
                carrier.hang_up(&outside);
                eve.wait_bye();
            }
        }
    });
    let after = resident_kb(&mut server);
    assert!(after < before + MORE_KB_MAX, "{before} kB before, {after} kB after");
    assert_eq!(server.get("/health").expect("the admin interface").0, 200);
    // At once as before.
    assert_eq!([&mut alice, &mut bob, &mut eve].map(Phone::register), [200, 200, 200]);
    alice.hang_up(&a);
    bob.wait_bye();
    server.wait_no_calls();
    wait_for("strangers' connections to end", Duration::from_secs(10), || {
        let (_, metrics) = server.get("/metrics")?;
        metrics.contains("ringdown_connections_live 0\n").then_some(())
    });
}

#[test]
fn junk_over_udp_ends_no_call_and_stops_no_emergency_call() {
    withstands(|server| {
        datagrams(|_, n| {
            let junk = format!("INVITE sip:{n} SIP/2.0\r\nVia: \u{1}\u{2}{}", "x".repeat(n % 900));
            (junk.into_bytes(), server.sip())
        });
    });
}

#[test]
fn invites_of_strangers_end_no_call_and_stop_no_emergency_call() {
    withstands(|server| {
        let uri = format!("sip:{}@{}", BOB.extension, server.ip);
        datagrams(|socket, n| (request("INVITE", &uri, socket, n, "").into_bytes(), server.sip()));
    });
}

#[test]
fn guessed_registrations_end_no_call_and_stop_no_emergency_call() {
    withstands(|server| {
        let uri = format!("sip:{}", server.ip);
        datagrams(|socket, n| {
            let digest = format!(
                "Authorization: Digest username=\"{}\", realm=\"{}\", nonce=\"guess\", uri=\"{uri}\", response=\"{n:032x}\", \
                 algorithm=MD5\r\n",
                ALICE.user, server.ip
            );
            (request("REGISTER", &uri, socket, n, &digest).into_bytes(), server.sip())
        });
    });
}

#[test]
fn packets_to_every_media_port_reach_no_call() {
    withstands(|server| {
        datagrams(|_, n| {
            let mut packet = vec![0x80, 0, 0, 1];
            packet.resize(172, 7);
            let port = u16::try_from(20_000 + n % 1_000).expect("a port");
            (packet, (server.ip, port).into())
        });
    });
}

/// Connections that say nothing, and handshakes that go no further, up to the limits of one source and beyond.
#[test]
fn connections_and_handshakes_that_nobody_finishes_end_no_call_and_stop_no_emergency_call() {
    /// A record of a ClientHello that announces more than comes.
    const BEGUN_HANDSHAKE: [u8; 9] = [22, 3, 1, 2, 0, 1, 0, 1, 252];
    withstands(|server| {
        let mut open = Vec::new();
        for n in 0..600 {
            let port = if n % 2 == 0 { TLS_PORT } else { crate::common::server::SIP_PORT };
            let Ok(mut stream) = TcpStream::connect((server.ip, port)) else { continue };
            let _ = stream.write_all(if n % 2 == 0 { &BEGUN_HANDSHAKE } else { b"OPTIONS sip:x SIP/2.0\r\nVia: " });
            open.push(stream);
        }
        thread::sleep(Duration::from_secs(1));
    });
}

/// Goal: idle connections of one address close each other, and not that of a stranger who has connected before and calls for
/// help only now.
/// Method: a limit of descriptors that leaves few places, each of which is taken twice after the stranger's.
#[test]
fn idle_connections_of_one_address_leave_a_stranger_his_who_then_calls_for_help() {
    const PLACES: usize = 400;
    let mut server = Ringdown::configured("preferred", crate::COMPANY);
    let mut command = Command::new("prlimit");
    command.args([&format!("--nofile={}", 2 * PLACES), BINARY, "run", "--config", "ringdown.toml"]);
    server.start_by(command);
    let stream = connect_from(fresh_ip(), server.sip());
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a valid timeout");
    let mut stranger = Wire::Tcp(stream, Framer::new());
    let idle: Vec<_> = (0..2 * PLACES).map(|_| TcpStream::connect(server.sip()).expect("it listens")).collect();
    let closed = format!("ringdown_connections_refused_total {}\n", idle.len() + 1 - PLACES);
    wait_for("every place to be taken", Duration::from_secs(20), || {
        server.get("/metrics")?.1.contains(&closed).then_some(())
    });
    let invite = format!(
        "INVITE sip:911@{ip} SIP/2.0\r\nVia: SIP/2.0/TCP 192.0.2.9;branch=z9hG4bK-help\r\nMax-Forwards: 70\r\n\
         From: <sip:x@192.0.2.9>;tag=1\r\nTo: <sip:911@{ip}>\r\nCall-ID: help\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:x@192.0.2.9>\r\nContent-Length: 0\r\n\r\n",
        ip = server.ip
    );
    stranger.send(invite.as_bytes());
    let mut statuses = std::iter::from_fn(|| stranger.hear()).map(|answer| answer.status());
    assert_eq!(statuses.find(|status| *status > 100), Some(403));
}

fn connect_from(ip: IpAddr, to: SocketAddr) -> TcpStream {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&socket, &SocketAddr::new(ip, 0)).expect("a fresh address");
    connect(&socket, &to).expect("it listens");
    socket.into()
}
