//! Trunks found by DNS: a name server of the test's own on loopback, and carriers that it leads to.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use crate::{
    COMPANY,
    common::{
        process::{fresh_ip, wait_for},
        server::{ALICE, Account, Ringdown},
    },
    phone::Phone,
};

const CARRIER: Account = Account { user: "carrier", extension: "", direct_line: "", password: "" };
const A: u16 = 1;
const SRV: u16 = 33;
const NAPTR: u16 = 35;
const NO_ERROR: u8 = 0;
const NX_DOMAIN: u8 = 3;

/// Name and type of a record, and its data.
type Zone = Vec<(&'static str, u16, Vec<u8>)>;

/// A name server over UDP that lives as long as its test.
struct NameServer {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<(String, u16)>>>,
}

impl NameServer {
    fn start(zone: Zone) -> Self {
        let socket = UdpSocket::bind((fresh_ip(), 5300)).expect("a fresh address");
        let address = socket.local_addr().expect("it is bound");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        thread::spawn(move || {
            let mut buffer = [0; 1_500];
            while let Ok((len, from)) = socket.recv_from(&mut buffer) {
                let (name, record_type, reply) = answer(&zone, &buffer[..len]);
                log.lock().expect("no panic").push((name, record_type));
                socket.send_to(&reply, from).expect("loopback takes it");
            }
        });
        Self { address, asked }
    }

    fn was_asked(&self, name: &str, record_type: u16) -> bool {
        self.asked.lock().expect("no panic").contains(&(name.to_owned(), record_type))
    }
}

/// RFC 1035 section 4: the question's name and type, and the whole reply.
fn answer(zone: &Zone, query: &[u8]) -> (String, u16, Vec<u8>) {
    let (mut at, mut labels) = (12, Vec::new());
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..end]).to_lowercase());
        at = end;
    }
    let name = labels.join(".");
    let record_type = u16::from_be_bytes([query[at + 1], query[at + 2]]);
    let question = &query[12..at + 5];
    let found: Vec<_> = zone.iter().filter(|(n, t, _)| *n == name && *t == record_type).collect();
    let code = if zone.iter().any(|(n, ..)| *n == name) { NO_ERROR } else { NX_DOMAIN };
    let mut reply =
        vec![query[0], query[1], 0x81, 0x80 | code, 0, 1, 0, u8::try_from(found.len()).expect("few"), 0, 0, 0, 0];
    reply.extend(question);
    for (_, _, data) in found {
        reply.extend([0xc0, 12]);
        reply.extend(record_type.to_be_bytes());
        reply.extend([0, 1, 0, 0, 2, 88]);
        reply.extend(u16::try_from(data.len()).expect("short").to_be_bytes());
        reply.extend(data);
    }
    (name, record_type, reply)
}

fn labels(name: &str) -> Vec<u8> {
    let mut out: Vec<u8> = name.split('.').flat_map(counted).collect();
    out.push(0);
    out
}

fn counted(text: &str) -> Vec<u8> {
    let mut out = vec![u8::try_from(text.len()).expect("short")];
    out.extend(text.bytes());
    out
}

fn naptr(order: u8, service: &str, replacement: &str) -> Vec<u8> {
    [vec![0, order, 0, 0], counted("s"), counted(service), counted(""), labels(replacement)].concat()
}

fn srv(priority: u8, port: u16, target: &str) -> Vec<u8> {
    [vec![0, priority, 0, 1], port.to_be_bytes().to_vec(), labels(target)].concat()
}

fn a(ip: IpAddr) -> Vec<u8> {
    let IpAddr::V4(ip) = ip else { panic!("{ip} is no IPv4 address") };
    ip.octets().to_vec()
}

#[test]
fn a_call_finds_its_carrier_by_naptr_and_srv_past_a_dead_server_and_a_name_that_does_not_exist() {
    let (alive, dead) = (fresh_ip(), fresh_ip());
    let dns = NameServer::start(vec![
        ("carrier.test", NAPTR, naptr(20, "SIP+D2U", "_sip._udp.carrier.test")),
        ("carrier.test", NAPTR, naptr(10, "SIP+D2T", "_sip._tcp.carrier.test")),
        ("_sip._tcp.carrier.test", SRV, srv(1, 5060, "dead.carrier.test")),
        ("_sip._udp.carrier.test", SRV, srv(1, 5060, "nobody.carrier.test")),
        ("_sip._udp.carrier.test", SRV, srv(2, 5060, "alive.carrier.test")),
        ("dead.carrier.test", A, a(dead)),
        ("alive.carrier.test", A, a(alive)),
    ]);
    let more = format!(
        "{COMPANY}[company.address]\ncountry = \"US\"\nA3 = \"Washington\"\nRD = \"Example\"\nHNO = \"500\"\nPC = \"20001\"\n\
         [emergency]\ncallback_numbers = [\"+12025550101\"]\n[dns]\nservers = [\"{}\"]\n\
         [trunk.carrier]\nhost = \"carrier.test\"\ntransport = \"auto\"\nnumbers = [\"+12025550101\"]\n",
        dns.address
    );
    let server = Ringdown::started("preferred", &more, &[ALICE]);
    let mut carrier = Phone::at(alive, &server, CARRIER);
    let mut alice = Phone::new(&server, ALICE);
    assert_eq!(alice.register(), 200);
    wait_for("the last name to be looked up", Duration::from_secs(10), || {
        ["nobody.carrier.test", "dead.carrier.test", "alive.carrier.test"]
            .into_iter()
            .all(|name| dns.was_asked(name, A))
            .then_some(())
    });
    let (call_id, cseq) = alice.invite("+14155550123");
    let outside = carrier.answer();
    let inside = alice.answered(&call_id, cseq);
    alice.speak(&inside, 20);
    assert!(carrier.hear() > 10, "audio does not pass");
    carrier.hang_up(&outside);
    alice.wait_bye();
    assert!(!dns.was_asked("_sips._tcp.carrier.test", SRV), "NAPTR does not offer TLS");
    assert!(!dns.was_asked("carrier.test", A), "SRV says where the servers are");
}
