//! Which way a trunk says that a call has come before it came here (Diversion of RFC 5806, History-Info of RFC 7044), as far
//! as the next may be told: numbers, causes and counters, written anew. Hosts, names and unknown words stay behind, and so
//! does whoever wants privacy. Of devices none of it is read: it would let them claim to speak for others.

use super::outgoing::escaped_user;
use crate::{
    types::limits::{HISTORY_ENTRIES_MAX, HISTORY_INDEX_CHARS_MAX},
    wire::sip::{Message, Name, NameAddr, RequestBuilder, Uri},
};

/// Reasons of RFC 5806 section 4.
const REASONS: [&str; 10] = [
    "unknown",
    "user-busy",
    "no-answer",
    "unavailable",
    "unconditional",
    "time-of-day",
    "do-not-disturb",
    "deflection",
    "follow-me",
    "out-of-service",
];

/// Digits of the longest number in international form (E.164), and as many again for prefixes.
const NUMBER_DIGITS_MAX: usize = 30;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ReceivedHistory {
    /// The last one first.
    diversions: Vec<Diversion>,
    /// The first one first.
    entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Diversion {
    number: String,
    reason: &'static str,
    counter: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    number: String,
    /// RFC 4458: why the call came to this number.
    cause: Option<u16>,
    index: String,
    /// `rc` or `mp`, and the index that it names.
    from: Option<(&'static str, String)>,
}

impl ReceivedHistory {
    pub(super) fn of(invite: &Message) -> Self {
        if wants_no_history(invite) {
            return Self::default();
        }
        let diversions = invite.values(Name::Diversion).filter_map(Diversion::read);
        let entries = invite.values(Name::HistoryInfo).filter_map(Entry::read);
        Self {
            diversions: diversions.take(HISTORY_ENTRIES_MAX).collect(),
            entries: entries.take(HISTORY_ENTRIES_MAX).collect(),
        }
    }

    pub(super) fn add_diversions(&self, request: RequestBuilder, domain: &str) -> RequestBuilder {
        self.diversions.iter().fold(request, |request, Diversion { number, reason, counter }| {
            let uri = uri(number, domain);
            request.header("Diversion", format_args!("<{uri}>;reason={reason};counter={counter}"))
        })
    }

    pub(super) fn add_entries(&self, request: RequestBuilder, domain: &str) -> RequestBuilder {
        self.entries.iter().fold(request, |request, entry| {
            let cause = entry.cause.map_or_else(String::new, |cause| format!(";cause={cause}"));
            let from = entry.from.as_ref().map_or_else(String::new, |(name, index)| format!(";{name}={index}"));
            let (uri, index) = (uri(&entry.number, domain), &entry.index);
            request.header("History-Info", format_args!("<{uri}{cause}>;index={index}{from}"))
        })
    }

    /// The index after which an entry of ours follows.
    pub(super) fn last_index(&self) -> Option<&str> {
        self.entries.last().map(|entry| entry.index.as_str())
    }
}

/// RFC 7044 section 10.1: of the whole request.
fn wants_no_history(invite: &Message) -> bool {
    let mut kinds = invite.lines(Name::Privacy).flat_map(|line| line.split([';', ','])).map(str::trim);
    kinds.any(|kind| ["history", "header", "session"].iter().any(|hidden| kind.eq_ignore_ascii_case(hidden)))
}

impl Diversion {
    fn read(value: &str) -> Option<Self> {
        let diverted = NameAddr::parse(value)?;
        if !diverted.params.get("privacy").is_none_or(|privacy| privacy.eq_ignore_ascii_case("off")) {
            return None;
        }
        let word = diverted.params.get("reason").unwrap_or_default();
        let reason = REASONS.into_iter().find(|known| known.eq_ignore_ascii_case(word));
        let counter = diverted.params.get("counter").and_then(|counter| counter.parse().ok()).unwrap_or(1);
        Some(Self { number: number(&Uri::parse(diverted.uri)?)?, reason: reason.unwrap_or("unknown"), counter })
    }
}

impl Entry {
    fn read(value: &str) -> Option<Self> {
        let entry = NameAddr::parse(value)?;
        let uri = Uri::parse(entry.uri)?;
        // Whatever kind of privacy it is that this entry asks for.
        if uri.headers.to_ascii_lowercase().contains("privacy=") {
            return None;
        }
        let from = ["rc", "mp"].into_iter().find_map(|name| Some((name, index(entry.params.get(name)?)?)));
        let cause =
            uri.params.get("cause").and_then(|cause| cause.parse().ok()).filter(|cause| (100..700).contains(cause));
        Some(Self { number: number(&uri)?, cause, index: index(entry.params.get("index")?)?, from })
    }
}

fn uri(number: &str, domain: &str) -> String {
    format!("sip:{}@{domain};user=phone", escaped_user(number))
}

/// The user part, if it is a telephone number. Anything else may say how the other side is built.
fn number(uri: &Uri<'_>) -> Option<String> {
    let user = uri.user_decoded()?;
    let number: String = user.split(';').next()?.chars().filter(|c| !matches!(c, '-' | '.' | '(' | ')')).collect();
    let digits = number.strip_prefix('+').unwrap_or(&number);
    let is_number = matches!(digits.len(), 1..=NUMBER_DIGITS_MAX) && digits.bytes().all(|b| b.is_ascii_digit());
    is_number.then_some(number)
}

/// RFC 7044 section 10.3: numbers with dots between them.
fn index(value: &str) -> Option<String> {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    (value.len() <= HISTORY_INDEX_CHARS_MAX && value.split('.').all(is_number)).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told on of an INVITE with these header lines.
    fn told(lines: &str) -> Vec<String> {
        let text = format!("INVITE sip:a@b SIP/2.0\n{lines}Content-Length: 0\n\n").replace('\n', "\r\n");
        let received = ReceivedHistory::of(&Message::parse(text.into()).unwrap());
        let request = received.add_diversions(RequestBuilder::new("INVITE", "sip:x@y"), "pbx.example.com");
        let message = Message::parse(received.add_entries(request, "pbx.example.com").finish()).unwrap();
        let values = message.values(Name::Diversion).chain(message.values(Name::HistoryInfo));
        values.map(str::to_owned).collect()
    }

    #[test]
    fn numbers_causes_and_counters_pass_and_nothing_that_tells_of_the_other_side() {
        let lines = "Diversion: \"Sales\" <sip:+1-202-555.0177@10.1.2.3:5080;user=phone>;reason=\"user-busy\";counter=2;limit=5\n\
                     Diversion: <tel:+12025550178>;reason=bored;x=10.1.2.3\n\
                     History-Info: <sip:+12025550178@10.1.2.3?Reason=SIP%3Bcause%3D486>;index=1;x=10.1.2.3\n\
                     History-Info: <sip:+12025550177@host.internal;cause=486>;index=1.1;rc=1, <sip:1@x>;index=1.1.1;mp=1.1\n";
        assert_eq!(
            told(lines),
            [
                "<sip:+12025550177@pbx.example.com;user=phone>;reason=user-busy;counter=2",
                "<sip:+12025550178@pbx.example.com;user=phone>;reason=unknown;counter=1",
                "<sip:+12025550178@pbx.example.com;user=phone>;index=1",
                "<sip:+12025550177@pbx.example.com;user=phone;cause=486>;index=1.1;rc=1",
                "<sip:1@pbx.example.com;user=phone>;index=1.1.1;mp=1.1",
            ]
        );
    }

    #[test]
    fn whoever_wants_privacy_is_not_named() {
        for value in ["full", "\"full\"", "name", "uri", "yes"] {
            assert!(told(&format!("Diversion: <sip:+1202@x>;privacy={value}\n")).is_empty(), "{value}");
        }
        assert_eq!(told("Diversion: <sip:+1202@x>;privacy=off\n").len(), 1);
        for kind in ["history", "id;header", "session", "id, History"] {
            let lines = format!("Privacy: {kind}\nDiversion: <sip:+1202@x>\nHistory-Info: <sip:+1202@x>;index=1\n");
            assert!(told(&lines).is_empty(), "{kind}");
        }
        // The caller's own number is withheld elsewhere.
        assert_eq!(told("Privacy: id\nDiversion: <sip:+1202@x>\n").len(), 1);
        assert!(told("History-Info: <sip:+1202@x?Privacy=history>;index=1\n").is_empty());
    }

    #[test]
    fn what_is_no_number_or_no_entry_is_left_out() {
        for line in [
            "Diversion: <sip:host.internal>",
            "Diversion: <sip:alice@x>",
            "Diversion: <sip:+@x>",
            "Diversion: <sip:+1%0d%0a@x>",
            "Diversion: <urn:x:1>",
            "Diversion: garbage",
            "History-Info: <sip:+1@x>",
            "History-Info: <sip:+1@x>;index=1..1",
            "History-Info: <sip:+1@x>;index=a",
        ] {
            assert!(told(&format!("{line}\n")).is_empty(), "{line}");
        }
        let digits = |n: usize| told(&format!("Diversion: <sip:+{}@x>\n", "1".repeat(n))).len();
        assert_eq!((digits(NUMBER_DIGITS_MAX), digits(NUMBER_DIGITS_MAX + 1)), (1, 0));
        let index = |n: usize| told(&format!("History-Info: <sip:+1@x>;index={}\n", "1".repeat(n))).len();
        assert_eq!((index(HISTORY_INDEX_CHARS_MAX), index(HISTORY_INDEX_CHARS_MAX + 1)), (1, 0));
        let lines = "Diversion: <sip:+1@x>\nHistory-Info: <sip:+1@x>;index=1\n";
        assert_eq!(told(&lines.repeat(HISTORY_ENTRIES_MAX + 1)).len(), 2 * HISTORY_ENTRIES_MAX);
    }
}
