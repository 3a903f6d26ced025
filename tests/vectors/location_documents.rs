//! Goal: every location document is valid, whatever the address holds.
//! Method: documents of generated and of hostile addresses through `xmllint` (Debian package `libxml2-utils`) against the
//! schemas in `xsd/`.

use std::collections::BTreeMap;

use proptest::prelude::*;
use ringdown::{
    types::Instant,
    wire::pidf::{CivicAddress, Document, ELEMENTS, EXTENSION_ELEMENTS, Subject, pres_uri},
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
