//! The whole signalling core, fed by peers whose every message is a choice: what is meant is nearly right, so that runs get
//! deep into calls, transfers of session descriptions, subscriptions and their ends.

use std::{
    net::SocketAddr,
    sync::{Arc, LazyLock},
};

use ringdown::{
    call::Input,
    config::Config,
    media,
    sip::locate::{Record, RecordType, Reply},
    types::Duration,
    wire::sip::{Message, Name, digest},
};

use super::{
    choices::Choices,
    machine::{PEERS, Server, configuration, flow},
};

const CONFIG: &str = r#"
[dialing]
voicemail = "+12025559999"
[trunk.named]
host = "carrier.example"
transport = "auto"
numbers = ["+12025550100"]
encryption = "off"
pstn = true
[group.sales]
extension = "600"
members = ["alice", "bob"]
strategy = "in_order"
"#;

const STEPS_MAX: usize = 64;
/// Every call has ended after this time of silence: its session timer ran out, or nobody answered.
const QUIET: Duration = Duration::from_secs(2 * 3_600);

const TARGETS: [&str; 12] = [
    "sip:1001@pbx.example.com",
    "sip:1002@pbx.example.com",
    "sip:+12025551002@pbx.example.com",
    "sip:+14155550123@pbx.example.com",
    "sip:600@pbx.example.com",
    "sip:911@pbx.example.com",
    "urn:service:sos",
    "sip:bob@pbx.example.com",
    "sip:9999@pbx.example.com",
    "sip:pbx.example.com",
    "sips:1002@pbx.example.com",
    "tel:+12025551001",
];
const METHODS: [&str; 14] = [
    "INVITE",
    "ACK",
    "BYE",
    "CANCEL",
    "UPDATE",
    "PRACK",
    "INFO",
    "OPTIONS",
    "MESSAGE",
    "SUBSCRIBE",
    "NOTIFY",
    "REFER",
    "REGISTER",
    "PUBLISH",
];
const STATUSES: [u16; 22] =
    [100, 180, 183, 199, 200, 202, 302, 401, 407, 408, 422, 430, 480, 481, 486, 487, 488, 491, 500, 503, 504, 603];
const HEADERS: [&str; 40] = [
    "Require: 100rel",
    "Supported: 100rel, timer, replaces",
    "Supported: timer",
    "Require: unheard-of",
    "Session-Expires: 90",
    "Session-Expires: 1800;refresher=uac",
    "Session-Expires: 600;refresher=uas",
    "Min-SE: 600",
    "Min-SE: 3600",
    "RSeq: 1",
    "RSeq: 2",
    "RAck: 1 1 INVITE",
    "RAck: 2 1 INVITE",
    "Replaces: c0;to-tag=a;from-tag=t",
    "Refer-To: <sip:1002@pbx.example.com>",
    "Refer-To: <sip:+14155550123@pbx.example.com?Replaces=c0%3Bto-tag%3Da%3Bfrom-tag%3Dt>",
    "Referred-By: <sip:alice@pbx.example.com>",
    "Max-Forwards: 0",
    "Max-Breadth: 1",
    "Expires: 0",
    "Expires: 60",
    "Event: dialog",
    "Event: message-summary",
    "Event: reg",
    "Event: refer",
    "Event: check-sync",
    "Subscription-State: terminated",
    "Allow: INVITE, ACK, BYE, CANCEL, UPDATE, PRACK",
    "Allow: INVITE, ACK, BYE, CANCEL",
    "Reason: Q.850;cause=16",
    "Privacy: id",
    "P-Asserted-Identity: <sip:+14155550199@pbx.example.com>",
    "P-Preferred-Identity: \"A\" <sip:alice@pbx.example.com>",
    "Diversion: <sip:1002@pbx.example.com>;reason=unconditional",
    "History-Info: <sip:1002@pbx.example.com>;index=1",
    "Record-Route: <sip:proxy.example.com;lr>, <sip:[2001:db8::1]>",
    "Retry-After: 5",
    "Contact: <sip:dev@198.51.100.9?Subject=x>;q=0.5",
    "Path: <sip:proxy.example.com;lr>",
    "Alert-Info: <urn:alert:service:call-waiting>",
];
const BODIES: [(&str, &str); 9] = [
    ("", ""),
    ("application/sdp", "m=audio 4000 RTP/AVP 0 101\n"),
    ("application/sdp", "m=audio 4000 RTP/AVP 0\na=sendonly\n"),
    ("application/sdp", "m=audio 4000 RTP/AVP 8\nm=video 4002 RTP/AVP 96\na=rtpmap:96 VP8/90000\n"),
    (
        "application/sdp",
        "m=audio 4000 RTP/AVP 0\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2\n",
    ),
    ("application/sdp", "m=audio 0 RTP/AVP 0\n"),
    ("application/simple-message-summary", "Messages-Waiting: yes\nVoice-Message: 1/2\n"),
    ("text/plain", "hello\n"),
    ("application/dtmf-relay", "Signal=1\nDuration=160\n"),
];

/// Each step is a choice of who does what. Whatever happens, when everybody is silent for long enough every call ends, and
/// nothing is left of any. Only an emergency call rings and goes on for as long as its ends do not say otherwise.
pub fn calls(data: &[u8]) {
    let mut choices = Choices::new(data);
    static CONFIGURATION: LazyLock<Arc<Config>> = LazyLock::new(|| configuration(CONFIG));
    let mut server = Server::new(Arc::clone(&CONFIGURATION));
    for _ in 0..STEPS_MAX {
        if choices.is_over() {
            break;
        }
        step(&mut server, &mut choices);
    }
    server.pass(QUIET);
    let left = server.core.calls();
    assert!(left.iter().all(|call| call.emergency), "a call outlives everybody's silence");
    if left.is_empty() {
        server.check_idle();
    }
}

fn step(server: &mut Server, choices: &mut Choices<'_>) {
    match choices.below(16) {
        0..5 => request(server, choices),
        5..11 => respond(server, choices),
        11 => server.pass(Duration::from_millis(choices.time_ms())),
        12 => server.pass(Duration::from_secs(choices.time_ms() / 64)),
        13 => dns(server, choices),
        14 => {
            let Some(leg) = choices.one_of(server.open_legs.iter().copied()) else { return };
            let event = if choices.flag() { media::Event::OpenFailed { leg } } else { media::Event::Flowing { leg } };
            server.input(Input::Media(event));
        }
        _ => match choices.below(8) {
            0 => server.input(Input::Drain),
            n => server.input(Input::FlowFailed { flow: flow(PEERS[n % PEERS.len()].0) }),
        },
    }
}

/// Out of any dialog, in the one of the last message to this peer, or in that of an earlier request of the server.
fn request(server: &mut Server, choices: &mut Choices<'_>) {
    let peer = choices.of(&PEERS).0;
    let remote = flow(peer).remote;
    let method = *choices.of(&METHODS);
    let target = *choices.of(&TARGETS);
    let (call, number) = (choices.below(3), choices.below(6));
    let branch = *choices.of(&["n", "n", "same"]);
    let dialog = match choices.below(3) {
        0 => None,
        1 => server.last.get(&remote).cloned(),
        _ => choices.one_of(server.requests.iter().filter(|(to, _)| *to == remote).map(|(_, message)| message.clone())),
    };
    let dialog = dialog.filter(|last| last.to_tag().is_some());
    let (uri, from, to, call_id, number) = match &dialog {
        Some(last) => in_dialog(last, number),
        None => (target.to_owned(), caller(peer), format!("<{target}>"), format!("c{call}"), number),
    };
    let branch = match branch {
        "same" => format!("z9hG4bK-{call}"),
        _ => format!("z9hG4bK-{method}-{number}-{call}-{}", choices.byte()),
    };
    let mut text = format!(
        "{method} {uri} SIP/2.0\nVia: SIP/2.0/UDP h;branch={branch}\nFrom: {from}\nTo: {to}\nCall-ID: {call_id}\n\
         CSeq: {number} {method}\nContact: <sip:dev@{remote}>\n"
    );
    headers(&mut text, choices);
    let body = body(choices);
    let credentials = (choices.below(4) != 0).then(|| credentials(server, remote, peer, method, &uri, choices));
    text += &credentials.flatten().unwrap_or_default();
    finish(server, peer, text, &body);
}

/// Request-URI, From, To, Call-ID and CSeq number of a request in the dialog of what the server said last.
fn in_dialog(last: &Message, number: usize) -> (String, String, String, String, usize) {
    let line = |name: Name| last.header(name).unwrap_or_default().to_owned();
    let uri = last.contact().map_or("sip:us@192.0.2.1", |contact| contact.uri).to_owned();
    let (ours, theirs) = if last.is_request() { (Name::To, Name::From) } else { (Name::From, Name::To) };
    // In our own dialogs as caller the number goes on from the request that the answer belongs to.
    let base = match last.cseq() {
        Some(cseq) if !last.is_request() => usize::try_from(cseq.number).unwrap_or(0),
        Some(_) | None => 1,
    };
    (uri, line(ours), line(theirs), last.call_id().to_owned(), base.saturating_add(number).saturating_sub(1))
}

fn caller(peer: u8) -> String {
    let uri = match peer {
        b'A' | b'C' => "sip:alice@pbx.example.com",
        b'B' => "sip:bob@pbx.example.com",
        b'T' => "sip:+14155550123@203.0.113.5",
        _ => "sip:stranger@elsewhere.example",
    };
    format!("<{uri}>;tag=t")
}

fn headers(text: &mut String, choices: &mut Choices<'_>) {
    for _ in 0..choices.below(5) {
        match choices.below(HEADERS.len() + 2) {
            n if n < HEADERS.len() => text.push_str(HEADERS[n]),
            _ => text.push_str(&format!("Subject: {}", choices.text())),
        }
        text.push('\n');
    }
    if !text.contains("\nMax-Forwards") && !text.starts_with("SIP/2.0") {
        text.push_str("Max-Forwards: 70\n");
    }
}

fn body(choices: &mut Choices<'_>) -> String {
    let (kind, body) = *choices.of(&BODIES);
    let head = match kind {
        "application/sdp" => "v=0\no=- 1 1 IN IP4 198.51.100.9\ns=-\nc=IN IP4 198.51.100.9\nt=0 0\n",
        _ => "",
    };
    if kind.is_empty() { "\n".to_owned() } else { format!("Content-Type: {kind}\n\n{head}{body}") }
}

/// The answer to the last challenge, by a user who knows the password.
fn credentials(
    server: &Server,
    remote: SocketAddr,
    peer: u8,
    method: &str,
    uri: &str,
    choices: &mut Choices<'_>,
) -> Option<String> {
    let challenge = server.challenges.get(&remote)?;
    let (asked, answered) = match challenge.status() {
        401 => (Name::WwwAuthenticate, "Authorization"),
        _ => (Name::ProxyAuthenticate, "Proxy-Authorization"),
    };
    let user = if peer == b'B' { "bob" } else { "alice" };
    let count = u32::from(choices.byte());
    let value = digest::answer(challenge.lines(asked), user, "secret", method, uri, b"", "cnonce", count)?;
    Some(format!("{answered}: {value}\n"))
}

/// To a request of the server that it sent to this peer.
fn respond(server: &mut Server, choices: &mut Choices<'_>) {
    let Some((remote, request)) = choices.one_of(server.requests.iter().rev().take(16).cloned()) else { return };
    let Some((peer, _)) = PEERS.iter().find(|(_, address)| address.parse() == Ok(remote)) else { return };
    let status = *choices.of(&STATUSES);
    let line = |name: Name| request.header(name).unwrap_or_default().to_owned();
    let tag = match request.to_tag() {
        Some(_) => "",
        None => choices.of(&[";tag=a", ";tag=b", ""]),
    };
    let mut text = format!("SIP/2.0 {status} Any\n");
    for via in request.lines(Name::Via) {
        text += &format!("Via: {via}\n");
    }
    text += &format!(
        "From: {}\nTo: {}{tag}\nCall-ID: {}\nCSeq: {}\nContact: <sip:dev@{remote}>\n",
        line(Name::From),
        line(Name::To),
        request.call_id(),
        line(Name::CSeq)
    );
    if status == 401 || status == 407 {
        let name = if status == 401 { "WWW-Authenticate" } else { "Proxy-Authenticate" };
        text += &format!("{name}: Digest realm=\"carrier\", nonce=\"{}\", qop=\"auth\"\n", choices.byte());
    }
    headers(&mut text, choices);
    let body = body(choices);
    finish(server, *peer, text, &body);
}

/// With the length of its body, which a stream cannot do without; every line feed becomes two bytes.
fn finish(server: &mut Server, peer: u8, text: String, body: &str) {
    let (head, content) = body.split_once("\n\n").map_or(("", ""), |(head, content)| (head, content));
    let head = if head.is_empty() { String::new() } else { format!("{head}\n") };
    let length = content.len() + content.matches('\n').count();
    server.hear(peer, format!("{text}{head}Content-Length: {length}\n\n{content}").as_bytes());
}

fn dns(server: &mut Server, choices: &mut Choices<'_>) {
    if server.questions.is_empty() {
        return;
    }
    let (query, question) = server.questions.remove(choices.below(server.questions.len()));
    let record = match question.record_type {
        RecordType::A => Record::Address([203, 0, 113, 5].into()),
        RecordType::Aaaa => Record::Address([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into()),
        RecordType::Srv => Record::Srv { priority: 0, weight: 0, port: 5060, target: "one.example.".to_owned() },
        RecordType::Naptr => Record::Naptr {
            order: 0,
            preference: 0,
            flags: "s".to_owned(),
            service: choices.of(&["SIP+D2U", "SIP+D2T", "SIPS+D2T"]).to_string(),
            replacement: "_sip._udp.carrier.example.".to_owned(),
        },
    };
    let reply = match choices.below(4) {
        0 => Reply::Absent,
        1 => Reply::Failed,
        _ => Reply::Found { records: vec![record], ttl: Duration::from_secs(choices.time_ms()) },
    };
    server.input(Input::Resolved { query, question, reply });
}
