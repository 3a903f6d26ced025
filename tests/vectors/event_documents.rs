//! Goal: every document of an event package is well-formed, whatever the names in it hold.
//! Method: documents of hostile texts through `xmllint` (Debian package `libxml2-utils`), which also reads a text back.

use ringdown::wire::{
    dialog_info::{self, Dialog, Direction, State},
    reg_info,
};

use crate::xmllint::xmllint;

/// What the XPath expression finds in a document; `Err` if that is not well-formed.
fn find(document: &str, path: &str) -> Result<String, String> {
    let output = xmllint(&["--nonet", "--xpath", path, "-"], document);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end_matches('\n').to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

const HOSTILE: [&str; 7] = [
    "sip:1002@pbx.example.com",
    "sip:a&b<c>\"d'@x",
    "]]><!-- &amp; <dialog/>",
    "\0\u{b}\u{fffe}\u{85}",
    "\" entity=\"sip:other@x",
    "</dialog-info>",
    "Zo\u{eb}\u{10ffff}",
];

/// What is left of a text: characters that XML 1.0 cannot carry are left out.
fn readable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() && *c != '\u{fffe}').collect()
}

#[test]
fn the_check_can_fail() {
    let valid = reg_info::Document { aor: "sip:a@b", version: 0, contacts: &[] }.to_string();
    assert_eq!(find(&valid, "string(//@aor)").as_deref(), Ok("sip:a@b"));
    assert!(find(&valid.replace("</reginfo>", ""), "string(//@aor)").is_err());
}

#[test]
fn dialog_documents_are_well_formed_and_say_what_was_put_in() {
    for text in HOSTILE {
        let dialogs = [(State::Early, Direction::Initiator), (State::Terminated, Direction::Recipient)]
            .map(|(state, direction)| Dialog { id: text.to_owned(), direction, state, names: None });
        let document = dialog_info::Document { entity: text, version: u32::MAX, is_full: true, dialogs: &dialogs };
        let document = document.to_string();
        assert_eq!(find(&document, "string(/*/@entity)"), Ok(readable(text)), "{text:?}");
        assert_eq!(find(&document, "string(/*/*[2]/@id)"), Ok(readable(text)), "{text:?}");
        assert_eq!(find(&document, "concat(count(/*/*),count(//@*))").as_deref(), Ok("27"), "{text:?}");
        let told = find(&document, "concat(/*/@version,/*/@state,/*/*[1]/*,/*/*[1]/@direction,/*/*[2]/*)");
        assert_eq!(told.as_deref(), Ok("4294967295fullearlyinitiatorterminated"));
    }
}

#[test]
fn registration_documents_are_well_formed_and_say_what_was_put_in() {
    for text in HOSTILE {
        let contacts = [text.to_owned(), "sip:a@192.0.2.1".to_owned()];
        let document = reg_info::Document { aor: text, version: 1, contacts: &contacts }.to_string();
        assert_eq!(find(&document, "string(/*/*/@aor)"), Ok(readable(text)), "{text:?}");
        assert_eq!(find(&document, "string(/*/*/*[1]/*)"), Ok(readable(text)), "{text:?}");
        assert_eq!(find(&document, "count(/*/*/*)").as_deref(), Ok("2"), "{text:?}");
    }
}
