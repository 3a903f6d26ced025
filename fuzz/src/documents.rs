//! Texts that are read or written around calls: STUN, documents of events, dialled numbers, the configuration.

use std::{collections::BTreeMap, net::SocketAddr, sync::LazyLock};

use ringdown::{
    config,
    policy::emergency::{Dialled, Site, classify},
    types::Instant,
    wire::{dialog_info, message_summary::MessageSummary, pidf, reg_info, stun},
};

use super::choices::Choices;

/// A datagram of STUN, answered to an address of either family. No answer is answered again, and an answer is no larger
/// than a little more than its question.
pub fn stun(data: &[u8]) {
    for source in ["192.0.2.1:5060", "[2001:db8::1]:5060"] {
        let source: SocketAddr = source.parse().expect("an address");
        let Some(answer) = stun::answer(data, source) else { continue };
        assert!(answer.len() <= data.len() + 64, "an answer that a forger gains by");
        assert_eq!(answer.len() % 4, 0);
        assert_eq!(answer[4..20], data[4..20], "the answer belongs to another question");
        assert_eq!(stun::answer(&answer, source), None, "two servers answer each other for ever");
    }
}

/// A message summary, and documents that hold whatever stood in it: nothing in a text can end its element.
pub fn events(data: &[u8]) {
    if let Some(summary) = MessageSummary::parse(data) {
        let written = summary.to_string();
        assert_eq!(MessageSummary::parse(written.as_bytes()), Some(summary), "what is written is read otherwise");
    }
    let mut choices = Choices::new(data);
    let (id, entity, value) = (choices.text(), choices.text(), choices.text());
    let marks = |text: String| {
        assert!(!text.contains(|c: char| c.is_control() && c != '\r' && c != '\n'), "XML has no such character");
        ['<', '>', '"'].map(|mark| text.matches(mark).count())
    };
    assert_eq!(marks(dialogs(&id, &entity)), marks(dialogs("x", "x")));
    assert_eq!(marks(contacts(&id, &entity)), marks(contacts("x", "x")));
    if !value.trim().is_empty() {
        assert_eq!(marks(location(&id, &entity, &value)), marks(location("x", "x", "x")));
    }
}

fn dialogs(id: &str, entity: &str) -> String {
    let (direction, state) = (dialog_info::Direction::Initiator, dialog_info::State::Early);
    let dialogs = [dialog_info::Dialog { id: id.to_owned(), direction, state, names: None }];
    dialog_info::Document { entity, version: 1, is_full: true, dialogs: &dialogs }.to_string()
}

fn contacts(uri: &str, aor: &str) -> String {
    reg_info::Document { aor, version: 1, contacts: &[uri.to_owned()] }.to_string()
}

fn location(id: &str, entity: &str, value: &str) -> String {
    let elements = ["A1", "STP"].map(|name| (name.to_owned(), value.to_owned()));
    let address = pidf::CivicAddress::new(&BTreeMap::from(elements));
    let (subject, now) = (pidf::Subject::Tuple, Instant::from_unix_ms(1_700_000_000_000));
    pidf::Document { entity, id, subject, address: &address, now }.to_string()
}

/// A location whose every part is what stood in the input. The document is well-formed, and its address has the elements that
/// were given, in the order of the schema.
pub fn pidf(data: &[u8]) {
    let mut choices = Choices::new(data);
    let subject =
        if choices.flag() { pidf::Subject::Tuple } else { pidf::Subject::Device { uuid: [choices.byte(); 16] } };
    let (number, host) = (choices.text(), choices.text());
    let mut elements = BTreeMap::new();
    while !choices.is_over() {
        let name = choices.one_of(pidf::ELEMENTS.into_iter().chain(pidf::EXTENSION_ELEMENTS)).expect("there are some");
        elements.insert(name.to_owned(), choices.text());
    }
    let address = pidf::CivicAddress::new(&elements);
    let (entity, now) = (pidf::pres_uri(&number, &host), Instant::from_unix_ms(1_700_000_000_000));
    let text = pidf::Document { entity: &entity, id: "location", subject, address: &address, now }.to_string();
    let names = element_names(&text);
    let position = |name: &&str| pidf::ELEMENTS.iter().position(|element| element == name);
    let printed: Vec<usize> = names.iter().filter_map(position).collect();
    assert!(printed.windows(2).all(|pair| pair[0] < pair[1]), "out of order in {text}");
}

/// Local names of the elements of a document, in order of their start tags; each is closed where it should be.
fn element_names(document: &str) -> Vec<&str> {
    let (mut names, mut open) = (Vec::new(), Vec::new());
    for piece in document.split('<').skip(1) {
        let (tag, text) = piece.split_once('>').expect("a tag ends");
        assert!(
            !text.contains('>') && text.split('&').skip(1).all(|rest| rest.contains(';')),
            "text that is none: {text}"
        );
        if tag.starts_with('?') {
            continue;
        }
        assert!(tag.matches('"').count() % 2 == 0, "an attribute that does not end: {tag}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "closed by another's end");
            continue;
        }
        let name = tag.split([' ', '/', '\r', '\n']).next().unwrap_or_default();
        names.push(name.rsplit(':').next().unwrap_or_default());
        if !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?} is not closed");
    names
}

/// A Request-URI. Emergency numbers are recognised however they are written, and nothing else changes a number's kind.
pub fn dialled(data: &[u8]) {
    static SITES: LazyLock<Vec<(Site, &str)>> = LazyLock::new(|| {
        let site = |region| Site::for_region(region, &["9"], &["pbx.example.com"]).expect("a region");
        vec![(site("US"), "911"), (site("GB"), "999"), (site("DE"), "112"), (site("AU"), "000")]
    });
    let text = String::from_utf8_lossy(data);
    let separators: String = text.chars().filter(|c| "-.()".contains(*c)).take(8).collect();
    for (site, number) in &*SITES {
        let _ = classify(&text, site);
        if let Dialled::Emergency(call) = classify(&format!("sip:{text}@pbx.example.com"), site) {
            assert!(!call.digits.is_empty() && call.urn.starts_with("urn:service:sos"), "{call:?}");
        }
        let (head, tail) = number.split_at(1);
        let written = format!("tel:{head}{separators}{tail}");
        assert!(matches!(classify(&written, site), Dialled::Emergency(_)), "{written} is not recognised");
    }
}

/// A configuration. Every problem names a line that there is.
pub fn config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let problems = match config::parse(&text) {
        Ok((config, warnings)) => {
            let _ = format!("{config:?}");
            warnings
        }
        Err(problems) => {
            assert!(problems.iter().any(|problem| problem.severity == config::Severity::Error));
            problems
        }
    };
    let lines = 1 + text.matches('\n').count();
    for problem in problems {
        assert!(problem.line <= lines && !problem.message.is_empty(), "{problem:?}");
    }
}
