//! Goal: every location document is valid, whatever the address holds.
//! Method: documents of generated and of hostile addresses through `xmllint` (Debian package `libxml2-utils`) against the
//! schemas in `xsd/`.

use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;
use ringdown::{
    call::dry_run::{Rehearsal, rehearse},
    config::{self, Directory, Forwarding, Place, User},
    types::{Instant, Rng},
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

/// A user as the directory has it; some have a direct line, some telephones are everybody's.
fn user(n: u32) -> User {
    User {
        name: format!("u{n}"),
        extension: (1000 + n).to_string(),
        direct_line: n.is_multiple_of(2).then(|| format!("+1202555{}", 1000 + n)),
        credential: Credential::derive("u", "pbx.example.com", "secret"),
        forwarding: Forwarding::default(),
        place: Place { private_address: None, is_shared: n.is_multiple_of(3) },
    }
}

const COMPANY: &str = r#"
[server]
domain = "pbx.example.com"
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
[trunk.carrier]
host = "sip.carrier.example"
numbers = ["+12025550100"]
"#;

#[test]
fn a4_every_telephone_reports_the_same_valid_address_byte_for_byte() {
    let directory = Arc::new(Directory::new((1..=10).map(user)));
    let mut addresses = Vec::new();
    for n in 1..=10_u32 {
        let trunk = if n.is_multiple_of(4) { "pidf_element = \"device\"\n" } else { "" };
        let listener = format!("[sip]\nudp = [\"192.0.2.{n}\"]\n[media]\naddresses = [\"192.0.2.{n}\"]\n");
        let config = config::parse(&format!("{COMPANY}{trunk}{listener}")).unwrap_or_else(|p| panic!("{p:#?}")).0;
        let number = ["911", "112", "9-1-1", "urn:service:sos.police"][n as usize % 4];
        let now = Instant::from_unix_ms(1_768_469_400_000 + u64::from(n) * 86_400_000);
        let rng = Rng::from_small_seed(u64::from(n));
        let rehearsal = rehearse(now, (&Arc::new(config), &directory), &format!("u{n}"), number, rng);
        let Rehearsal::Invite(invite) = rehearsal else { panic!("u{n}: {rehearsal:?}") };
        let text = String::from_utf8(invite.to_vec()).expect("text");
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
