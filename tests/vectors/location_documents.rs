//! Goal: every location document is valid, whatever the address holds.
//! Method: documents of generated and of hostile addresses through `xmllint` (Debian package `libxml2-utils`) against the
//! schemas in `xsd/`.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::Arc,
};

use proptest::prelude::*;
use ringdown::{
    call::{Core, Input, Output, Setup},
    config::{self, Directory, Forwarding, Place, User},
    sip::registrar::Binding,
    types::{ConnectionId, Flow, Instant, Rng, Secret, Transport},
    wire::{
        pidf::{CivicAddress, Document, ELEMENTS, EXTENSION_ELEMENTS, Subject, pres_uri},
        sip::digest::Credential,
    },
};

use crate::xmllint::xmllint;

/// What `xmllint` says against the document; empty if it is valid.
fn complaints(document: &str) -> String {
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/xsd/pidf-lo.xsd");
    let output = xmllint(&["--noout", "--nonet", "--schema", schema, "-"], document);
    if output.status.success() { String::new() } else { String::from_utf8_lossy(&output.stderr).into_owned() }
}

fn print(elements: &[(&str, &str)], entity: &str, subject: Subject) -> String {
    let elements: BTreeMap<_, _> = elements.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
    let address = CivicAddress::new(&elements);
    let now = Instant::from_unix_ms(1_768_469_400_000);
    Document { entity, id: "erl-company", subject, address: &address, now }.to_string()
}

const ENTITY: &str = "pres:+12025550100@pbx.example.com";

#[test]
fn the_check_can_fail() {
    let valid = print(&[("country", "US"), ("A1", "DC")], ENTITY, Subject::Tuple);
    assert_eq!(complaints(&valid), "");
    assert_ne!(complaints(&valid.replace(">true<", ">yes<")), "", "not an XML boolean");
    assert_ne!(complaints(&valid.replace("ca:A1", "ca:A9")), "", "no such element");
    assert_ne!(complaints(&valid.replace("</tuple>", "")), "", "not well-formed");
}

#[test]
fn all_elements_together_are_in_the_order_of_the_schema() {
    let all: Vec<_> = ELEMENTS
        .into_iter()
        .chain(EXTENSION_ELEMENTS)
        .map(|e| (e, if e == "country" { "US" } else { "text" }))
        .collect();
    for subject in [Subject::Tuple, Subject::Device { uuid: [7; 16] }] {
        let document = print(&all, ENTITY, subject);
        assert_eq!(complaints(&document), "");
        assert_eq!(document.matches(">text<").count(), 34);
    }
}

#[test]
fn every_domain_the_configuration_takes_makes_a_valid_entity() {
    for domain in ["127.0.0.1", "localhost", "pbx.example.com", "[2001:db8::10]"] {
        let document = print(&[("country", "US")], &pres_uri("+12025550100", domain), Subject::Tuple);
        assert_eq!(complaints(&document), "", "{domain}");
    }
}

const COMPANY: &str = r#"
[server]
domain = "pbx.example.com"
[sip]
udp = ["192.0.2.1:5060", "[2001:db8::1]:5060"]
[media]
addresses = ["192.0.2.1", "2001:db8::1"]
encryption = "preferred"
[company]
name = "Example & Söhne"
region = "US"
[company.address]
country = "US"
A1 = "DC"
A3 = "Washington"
RD = "Example <Street>"
HNO = "500"
PC = "20001"
FLR = "4"
[emergency]
callback_numbers = ["+12025550100", "+12025550101"]
site_networks = ["172.16.0.0/12"]
[trunk.carrier]
host = "203.0.113.5"
port = 5060
transport = "udp"
encryption = "off"
numbers = ["+12025550100"]
[group.desk]
extension = "600"
direct_line = "+12025551004"
members = ["u4"]
[pbx.branch]
user = "u5"
numbers = ["+12025551005"]
"#;

/// A telephone: what it says it is, where it is, whose line it calls on, and what it dials.
struct Telephone {
    agent: &'static str,
    at: &'static str,
    line: Line,
    dials: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    /// Nobody's: it has not registered.
    None,
    Extension,
    Direct,
    /// With a private address, which others may not give away.
    Shared,
    Groups,
    Pbx,
}

const TELEPHONES: [Telephone; 10] = [
    Telephone { agent: "Deskphone/1", at: "10.1.2.3:5060", line: Line::Extension, dials: "911" },
    Telephone { agent: "Softphone/2", at: "192.168.7.9:40001", line: Line::Direct, dials: "112" },
    Telephone { agent: "Conference/3", at: "198.51.100.7:5062", line: Line::Shared, dials: "9-1-1" },
    Telephone { agent: "Desk/4", at: "198.18.4.4:1024", line: Line::Groups, dials: "urn:service:sos" },
    Telephone { agent: "PBX/5", at: "100.64.5.5:5060", line: Line::Pbx, dials: "urn:service:sos.police" },
    Telephone { agent: "Door/6", at: "172.16.6.6:5060", line: Line::None, dials: "911" },
    Telephone {
        agent: "Mobile/7",
        at: "[2001:db8:7::7]:5060",
        line: Line::Extension,
        dials: "%EF%BC%99%EF%BC%91%EF%BC%91",
    },
    Telephone { agent: "DECT/8", at: "[fd00:8::8]:5070", line: Line::Direct, dials: "911%23" },
    Telephone { agent: "Hotdesk/9", at: "203.0.113.99:65535", line: Line::Shared, dials: "*67911" },
    Telephone { agent: "Fax/10", at: "192.0.2.200:5060", line: Line::Extension, dials: "+1911" },
];

fn user(n: usize, line: Line) -> User {
    let private = "country = \"US\"\nA1 = \"VA\"\nA3 = \"Arlington\"\nRD = \"Private\"\nHNO = \"7\"\nPC = \"22201\"\n";
    let has_private = matches!(line, Line::Shared | Line::Groups | Line::Pbx);
    let private_address = has_private.then(|| config::parse_address(private).expect("an address"));
    User {
        name: format!("u{n}"),
        extension: (2000 + n).to_string(),
        direct_line: (line != Line::Extension).then(|| format!("+1202555{}", 1000 + n)),
        credential: Credential::derive(&format!("u{n}"), "pbx.example.com", "secret"),
        forwarding: Forwarding::default(),
        place: Place { private_address, is_shared: line == Line::Shared },
    }
}

fn flow(at: &str) -> Flow {
    let remote: SocketAddr = at.parse().expect("an address");
    let local = if remote.is_ipv4() { "192.0.2.1:5060" } else { "[2001:db8::1]:5060" };
    let local = local.parse().expect("an address");
    Flow { transport: Transport::Udp, local, remote, connection: ConnectionId::NONE }
}

/// A server at which the telephones have registered, but for the one that is nobody's.
fn server() -> Core {
    let config = config::parse(COMPANY).unwrap_or_else(|p| panic!("{p:#?}")).0;
    let known = || (1..).zip(&TELEPHONES).filter(|(_, telephone)| telephone.line != Line::None);
    let binding = |(n, telephone): (usize, &Telephone)| Binding {
        aor: format!("u{n}"),
        contact: format!("sip:u{n}@{}", telephone.at),
        flow: flow(telephone.at),
        expires_at: Instant::from_unix_ms(1_900_000_000_000),
        call_id: format!("r{n}"),
        cseq: 1,
        instance: Some(format!("urn:uuid:{n}")),
        reg_id: None,
        path: Vec::new(),
        is_proxied: false,
        user_agent: telephone.agent.to_owned(),
    };
    let setup = Setup {
        listeners: config.sip.udp.iter().map(|address| (Transport::Udp, *address)).collect(),
        directory: Arc::new(Directory::new(known().map(|(n, telephone)| user(n, telephone.line)))),
        config: Arc::new(config),
        workers: 1,
        trunk_passwords: HashMap::new(),
        bindings: known().map(binding).collect(),
        gruu_key: Secret::new([7; 32]),
        rng: Rng::from_small_seed(4),
    };
    Core::new(Instant::from_unix_ms(1_768_469_400_000), setup)
}

/// The INVITE that leaves for the carrier when this telephone, which says that it is somewhere else, calls for help.
fn invite_to_carrier(core: &mut Core, n: usize, telephone: &Telephone) -> String {
    let is_urn = telephone.dials.starts_with("urn:");
    let uri = if is_urn { telephone.dials.to_owned() } else { format!("sip:{}@pbx.example.com", telephone.dials) };
    let (at, agent) = (telephone.at, telephone.agent);
    let body = format!(
        "v=0\r\no=- {n} 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"
    );
    let text = format!(
        "INVITE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {at};branch=z9hG4bK{n}\r\nMax-Forwards: 70\r\n\
         From: <sip:whoever@pbx.example.com>;tag={n}\r\nTo: <{uri}>\r\nCall-ID: call-{n}\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:u{n}@{at}>\r\nUser-Agent: {agent}\r\nGeolocation: <cid:elsewhere@example.com>\r\n\
         P-Access-Network-Info: IEEE-802.11;i-wlan-node-id={n}\r\nContent-Type: application/sdp\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let now = Instant::from_unix_ms(1_768_469_400_000 + 1_000 * u64::try_from(n).expect("a small number"));
    core.handle_input(now, Input::Received { flow: flow(at), bytes: text.into() });
    let mut sent = Vec::new();
    loop {
        match core.poll_output() {
            Output::Transmit { flow, bytes } if flow.remote == "203.0.113.5:5060".parse().expect("an address") => {
                sent.push(String::from_utf8(bytes.to_vec()).expect("text"));
            }
            Output::Timeout(_) => break,
            _ => {}
        }
    }
    assert_eq!(sent.len(), 1, "{agent}");
    sent.remove(0)
}

#[test]
fn a4_ten_telephones_lines_and_networks_report_the_same_valid_address_byte_for_byte() {
    let mut core = server();
    let mut addresses = Vec::new();
    for (n, telephone) in (1..).zip(&TELEPHONES) {
        let text = invite_to_carrier(&mut core, n, telephone);
        assert!(!text.contains("elsewhere@example.com") && !text.contains("i-wlan-node-id"), "{text}");
        let begin = text.find("<?xml").expect("a location document");
        let document = &text[begin..begin + text[begin..].find("\r\n--").expect("the end of the part")];
        assert_eq!(complaints(document), "", "{document}");
        let (from, to) = ("<ca:civicAddress", "</ca:civicAddress>");
        let (from, to) = (document.find(from).expect("an address"), document.find(to).expect("its end"));
        addresses.push(document[from..to].to_owned());
    }
    assert!(addresses.iter().all(|address| *address == addresses[0]), "{addresses:#?}");
    assert!(addresses[0].contains("Example &lt;Street&gt;") && addresses[0].contains("Example &amp; S\u{f6}hne"));
}

fn hostile_text() -> impl Strategy<Value = String> {
    let traps = ["]]>", "<!--", "&amp;", "</ca:RD>", "\0", "\r\n", "\u{fffe}", "\u{b}", "'\"", "\u{10ffff}", " "];
    let traps: Vec<_> = traps.into_iter().map(str::to_owned).collect();
    let part = prop_oneof![proptest::sample::select(traps), any::<String>(), "\\PC{0,20}"];
    proptest::collection::vec(part, 0..4).prop_map(|parts| parts.concat())
}

fn element_name() -> impl Strategy<Value = String> {
    let names: Vec<_> = ELEMENTS.into_iter().chain(EXTENSION_ELEMENTS).map(str::to_owned).collect();
    prop_oneof![8 => proptest::sample::select(names), 1 => any::<String>()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_hostile_address_makes_a_valid_document(
        elements in proptest::collection::btree_map(element_name(), hostile_text(), 0..20),
        country in prop_oneof![Just("US".to_owned()), hostile_text()],
        uuid in proptest::option::of(any::<[u8; 16]>()),
    ) {
        let mut elements: Vec<_> = elements.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        elements.push(("country", &country));
        let subject = uuid.map_or(Subject::Tuple, |uuid| Subject::Device { uuid });
        let document = print(&elements, ENTITY, subject);
        prop_assert_eq!(complaints(&document), "", "{}", document);
    }
}
