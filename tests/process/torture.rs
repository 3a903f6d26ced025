//! The messages of RFC 4475 and RFC 5118, byte for byte, against the running server over UDP, TCP and TLS.
//!
//! Each message has a socket of its own. What the server says to it must be exactly what the table names: the statuses
//! of its answers, or the drop it is counted as. Straight afterwards an OPTIONS must be answered, on the same connection
//! unless the table says that the message ended or spoilt it.

use std::{
    collections::HashSet,
    fs,
    io::{self, Read, Write},
    net::{TcpStream, UdpSocket},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use ringdown::wire::sip::{
    Message, Name,
    frame::{Frame, Framer},
    validate,
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};

use crate::{
    COMPANY,
    common::server::{ALICE, Ringdown, TLS_PORT},
};

const PATIENCE: Duration = Duration::from_secs(5);

/// What the server says to a message.
#[derive(Clone, Copy, Debug)]
enum Verdict {
    /// With these statuses, one for each message that the bytes hold.
    Answered(&'static [u16]),
    /// With nothing, and counted under this name.
    Dropped(&'static str),
    /// With this status once the bytes that its Content-Length promises have come.
    Completed(u16),
}

/// What becomes of a TCP or TLS connection after the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Afterwards {
    /// The next message is read on it.
    Kept,
    /// The server closes it: nothing can be known of where the next message starts.
    Closed,
    /// The message is longer than it says; the rest is read as the start of the next one.
    Spoilt,
}

struct Row {
    name: &'static str,
    datagram: Verdict,
    stream: Verdict,
    afterwards: Afterwards,
    /// The RFC's section, and its reason.
    why: &'static str,
}

use Afterwards::{Closed, Kept, Spoilt};
use Verdict::{Answered, Completed, Dropped};

/// The same over every transport.
const fn all(name: &'static str, verdict: Verdict, why: &'static str) -> Row {
    Row { name, datagram: verdict, stream: verdict, afterwards: Kept, why }
}

const fn each(
    name: &'static str,
    datagram: Verdict,
    (stream, afterwards): (Verdict, Afterwards),
    why: &'static str,
) -> Row {
    Row { name, datagram, stream, afterwards, why }
}

/// A stranger's requests: what is understood is an INVITE or REGISTER that is asked for credentials (407, 401), an OPTIONS
/// that is answered (200), or a method that is refused by name (405, 501).
const RFC_4475: [Row; 49] = [
    all(
        "wsinv",
        Answered(&[481]),
        "3.1.1.1: valid; folds and blanks wherever the grammar has them, in no dialog of ours",
    ),
    all("intmeth", Answered(&[501]), "3.1.1.2: valid; every byte a method may have, and no method we know"),
    all("esc01", Answered(&[407]), "3.1.1.3: valid; escapes in URIs"),
    all("escnull", Answered(&[401]), "3.1.1.4: valid; escaped NUL in URIs"),
    all("esc02", Answered(&[501]), "3.1.1.5: valid; a percent sign that escapes nothing, in the method, too"),
    all("lwsdisp", Answered(&[200]), "3.1.1.6: valid; no blank between display name and bracket"),
    all("longreq", Answered(&[407]), "3.1.1.7: valid; long values, 34 Via"),
    each(
        "dblreq",
        Answered(&[401]),
        (Answered(&[401, 400]), Closed),
        "3.1.1.8: a datagram is one message, a stream two; the second lacks its Contact and is 5 bytes longer than it says",
    ),
    all("semiuri", Answered(&[200]), "3.1.1.9: valid; a semicolon in the user part"),
    all("transports", Answered(&[200]), "3.1.1.10: valid; unknown transports in Via"),
    all("mpart01", Answered(&[407]), "3.1.1.11: valid; a MESSAGE of several parts, from nobody known here"),
    all("unreason", Dropped("sip_stray_response"), "3.1.1.12: valid; answers no request of ours"),
    all("noreason", Dropped("sip_stray_response"), "3.1.1.13: valid; answers no request of ours"),
    all("badinv01", Answered(&[400]), "3.1.2.1: separators with nothing between"),
    each(
        "clerr",
        Answered(&[400]),
        (Completed(407), Kept),
        "3.1.2.2: fewer bytes than promised, which a stream waits for",
    ),
    each("ncl", Answered(&[400]), (Answered(&[400]), Closed), "3.1.2.3: negative Content-Length"),
    all("scalar02", Answered(&[400]), "3.1.2.4: numbers out of range"),
    all("scalarlg", Dropped("sip_malformed"), "3.1.2.5: a response with numbers out of range"),
    all("quotbal", Answered(&[400]), "3.1.2.6: an open quote in To"),
    all("ltgtruri", Answered(&[400]), "3.1.2.7: brackets around the Request-URI"),
    all("lwsruri", Answered(&[400]), "3.1.2.8: a blank in the Request-URI"),
    all("lwsstart", Answered(&[400]), "3.1.2.9: two blanks in the request line"),
    all("trws", Answered(&[400]), "3.1.2.10: blanks after the version"),
    all("escruri", Answered(&[400]), "3.1.2.11: headers in the Request-URI"),
    all("baddate", Answered(&[400]), "3.1.2.12: a Date that is not in GMT"),
    all("regbadct", Answered(&[400]), "3.1.2.13: a Contact that needs brackets"),
    all("badaspec", Answered(&[400]), "3.1.2.14: blanks inside the brackets of To"),
    all("baddn", Answered(&[400]), "3.1.2.15: a comma in an unquoted display name"),
    all("badvers", Answered(&[505]), "3.1.2.16: SIP/7.0"),
    all("mismatch01", Answered(&[400]), "3.1.2.17: CSeq names another method"),
    all("mismatch02", Answered(&[400]), "3.1.2.18: CSeq names another method, and the method is unknown"),
    all("bigcode", Dropped("sip_malformed"), "3.1.2.19: a status code of ten digits"),
    all("badbranch", Answered(&[400]), "3.2.1: a magic cookie and nothing behind it"),
    all("insuf", Answered(&[400]), "3.3.1: mandatory headers are missing"),
    all("unkscm", Answered(&[416]), "3.3.2: an unknown scheme in the Request-URI"),
    all("novelsc", Answered(&[416]), "3.3.3: a registered scheme that is no call's"),
    all("unksm2", Answered(&[400]), "3.3.4: an address-of-record that is no SIP URI"),
    all("bext01", Answered(&[420]), "3.3.5: required extensions that nobody has"),
    all("invut", Answered(&[415]), "3.3.6: a body of an unknown type"),
    all("regaut01", Answered(&[401]), "3.3.7: credentials of an unknown scheme are none"),
    all("multi01", Answered(&[400]), "3.3.8: headers that may stand once stand twice"),
    each("mcl01", Answered(&[400]), (Answered(&[400]), Closed), "3.3.9: two values of Content-Length"),
    all("bcast", Dropped("sip_stray_response"), "3.3.10: a response by way of a broadcast address"),
    all("zeromf", Answered(&[200]), "3.3.11: no hop left, and none needed: OPTIONS ends here"),
    all("cparam01", Answered(&[401]), "3.3.12: valid; a parameter of Contact"),
    all("cparam02", Answered(&[401]), "3.3.13: valid; a parameter of the URI in Contact"),
    all("regescrt", Answered(&[401]), "3.3.14: valid; a header in the URI in Contact"),
    all("sdp01", Answered(&[406]), "3.3.15: accepts only what is no session description"),
    each(
        "inv2543",
        Answered(&[407]),
        (Answered(&[400]), Closed),
        "3.4.1: valid of RFC 2543; without Content-Length a stream cannot be cut (RFC 3261 section 20.14)",
    ),
];

const RFC_5118: [Row; 12] = [
    all("ipv6-good", Answered(&[401]), "4.1: valid"),
    all("ipv6-bad", Answered(&[400]), "4.2: IPv6 without brackets in the Request-URI"),
    all("port-ambiguous", Answered(&[401]), "4.3: valid; what looks like a port is part of the address"),
    all("port-unambiguous", Answered(&[401]), "4.4: valid"),
    all("via-received-param-with-delim", Answered(&[481]), "4.5: valid; a BYE in no dialog of ours"),
    all("via-received-param-no-delim", Answered(&[200]), "4.5: valid"),
    each("ipv6-in-sdp", Answered(&[400]), (Completed(407), Kept), "4.6: its printed Content-Length is 17 too large"),
    all("mult-ip-in-header", Answered(&[481]), "4.7: valid; a BYE in no dialog of ours"),
    each(
        "mult-ip-in-sdp",
        Answered(&[407]),
        (Answered(&[407]), Spoilt),
        "4.8: its printed Content-Length is 8 too small",
    ),
    each("ipv4-mapped-ipv6", Answered(&[407]), (Answered(&[407]), Spoilt), "4.9: its Content-Length is 9 too small"),
    all("ipv6-bug-abnf-3-colons", Answered(&[200]), "4.10: a colon too many is tolerated"),
    all("ipv6-correct-abnf-2-colons", Answered(&[200]), "4.10: valid"),
];

fn files(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(folder)
}

/// Every row with the bytes of its file; each file has a row.
fn messages() -> Vec<(Row, Vec<u8>)> {
    let mut found = Vec::new();
    for (folder, ending, rows) in [("rfc4475", "dat", Vec::from(RFC_4475)), ("rfc5118", "sip", Vec::from(RFC_5118))] {
        let count = fs::read_dir(files(folder)).expect("a folder").count();
        assert_eq!(rows.len(), count, "the rows of {folder} and its files");
        for row in rows {
            let path = files(folder).join(format!("{}.{ending}", row.name));
            let bytes = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            found.push((row, bytes));
        }
    }
    found
}

/// A way to the server: a socket of its own, or a connection.
pub(crate) enum Wire {
    Udp(UdpSocket),
    Tcp(TcpStream, Framer),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>, Framer),
}

impl Wire {
    pub(crate) fn udp(server: &Ringdown) -> Self {
        // One address for all: each socket has a port of its own.
        let socket = UdpSocket::bind((server.ip, 0)).expect("a free port");
        socket.connect(server.sip()).expect("loopback");
        socket.set_read_timeout(Some(PATIENCE)).expect("a valid timeout");
        Self::Udp(socket)
    }

    fn stream(server: &Ringdown, port: u16) -> TcpStream {
        let stream = TcpStream::connect((server.ip, port)).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a valid timeout");
        stream.set_nodelay(true).expect("a TCP socket");
        stream
    }

    pub(crate) fn tcp(server: &Ringdown) -> Self {
        Self::Tcp(Self::stream(server, server.sip().port()), Framer::new())
    }

    fn tls(server: &Ringdown) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(server.ca()).expect("the server's CA")).expect("a certificate");
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let client = ClientConnection::new(Arc::new(config), ServerName::from(server.ip)).expect("a valid set-up");
        Self::Tls(Box::new(StreamOwned::new(client, Self::stream(server, TLS_PORT))), Framer::new())
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        match self {
            Self::Udp(socket) => assert_eq!(socket.send(bytes).expect("loopback takes it"), bytes.len()),
            // Where the server has closed the connection, nothing will be heard.
            Self::Tcp(stream, _) => drop(stream.write_all(bytes)),
            Self::Tls(stream, _) => drop(stream.write_all(bytes)),
        }
    }

    /// The next message; `None` when the server has closed the connection.
    pub(crate) fn hear(&mut self) -> Option<Message> {
        let mut buffer = [0; 65_535];
        let (stream, framer): (&mut dyn Read, _) = match self {
            Self::Udp(socket) => {
                let len = socket.recv(&mut buffer).expect("an answer in time");
                return Some(parsed(Bytes::copy_from_slice(&buffer[..len])));
            }
            Self::Tcp(stream, framer) => (stream, framer),
            Self::Tls(stream, framer) => (stream, framer),
        };
        loop {
            if let Some(Frame::Message(bytes)) = framer.poll().expect("the server's messages are well-framed") {
                return Some(parsed(bytes));
            }
            match stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(len) => framer.push(&buffer[..len]),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("nothing in time: {error}"),
            }
        }
    }
}

fn parsed(bytes: Bytes) -> Message {
    let message = Message::parse(bytes).expect("the server's messages can be indexed");
    assert!(!message.is_request(), "the server asks something: {}", message.method_text());
    message
}

pub(crate) fn options(id: &str) -> String {
    format!(
        "OPTIONS sip:127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/X 192.0.2.9;branch=z9hG4bK-{id};rport\r\nMax-Forwards: 70\r\n\
         From: <sip:x@192.0.2.9>;tag=1\r\nTo: <sip:127.0.0.1>\r\nCall-ID: {id}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
    )
}

fn padded_options(name: &str) -> String {
    let padding = format!("X-Padding: {}\r\nContent-Length", "x".repeat(4_000));
    options(&format!("before-{name}")).replace("Content-Length", &padding)
}

/// Asks for the server's options and returns what it said before, without what it said twice.
fn heard_before_options(wire: &mut Wire, name: &str) -> Vec<Message> {
    let id = format!("straight-after-{name}");
    wire.send(options(&id).as_bytes());
    let mut before: Vec<Message> = Vec::new();
    loop {
        let Some(message) = wire.hear() else { panic!("{name}: the connection is closed") };
        if message.call_id() == id {
            assert_eq!(message.status(), 200, "{name}: OPTIONS straight afterwards");
            return before;
        }
        // INVITE's final answers are repeated over UDP: a slow machine may hear them again.
        if before.iter().all(|earlier| earlier.bytes() != message.bytes()) {
            before.push(message);
        }
    }
}

/// An answer to bytes that may be anything must itself be well-formed and find its way back.
fn assert_answers(answer: &Message, sent: &[u8], name: &str) {
    let request = Message::parse(Bytes::copy_from_slice(sent)).expect("every message of the RFCs can be indexed");
    if validate(&request).is_ok() {
        assert_eq!(validate(answer), Ok(()), "{name}");
    }
    let ids: Vec<_> = String::from_utf8_lossy(sent).lines().map(str::to_owned).collect();
    assert!(ids.iter().any(|line| line.ends_with(answer.call_id())), "{name}: Call-ID {}", answer.call_id());
    assert!(answer.header(Name::Via).is_some(), "{name}: no Via");
    assert!(answer.header(Name::To).is_none() || answer.to().is_none() || answer.to_tag().is_some(), "{name}: no tag");
    let wanted = match answer.status() {
        401 => Name::WwwAuthenticate,
        405 | 501 => Name::Allow,
        407 => Name::ProxyAuthenticate,
        415 => Name::Accept,
        420 => Name::Unsupported,
        _ => return,
    };
    assert!(answer.header(wanted).is_some_and(|value| !value.is_empty()), "{name}: {wanted:?} is missing");
}

/// What is wrong with the answers heard, if anything.
fn complaint(heard: &[Message], statuses: &[u16]) -> Option<String> {
    let found: Vec<u16> = heard.iter().map(Message::status).collect();
    let reasons: Vec<&str> = heard.iter().map(Message::reason_phrase).collect();
    (found != statuses).then(|| format!("{found:?} {reasons:?} instead of {statuses:?}"))
}

pub(crate) fn dropped(server: &Ringdown, reason: &str) -> u64 {
    let metrics = server.get("/metrics").expect("the admin interface").1;
    let line = format!("ringdown_dropped_total{{reason=\"{reason}\"}} ");
    let count =
        metrics.lines().find_map(|l| l.strip_prefix(&line)).unwrap_or_else(|| panic!("no {reason}:\n{metrics}"));
    count.parse().expect("a number")
}

/// Two messages with the same key are one request and its repetition (RFC 3261 section 17.2.3).
fn key(message: &[u8]) -> String {
    let message = Message::parse(Bytes::copy_from_slice(message)).expect("an index");
    let via = message.via().map_or("", |via| via.branch().unwrap_or_default());
    let sent_by = message.via().map_or("", |via| via.host);
    format!("{via} {sent_by} {} {}", message.method_text(), if via.is_empty() { message.call_id() } else { "" })
}

/// Bytes that the body lacks.
fn missing_bytes(message: &[u8]) -> Vec<u8> {
    let head = message.windows(4).position(|w| w == b"\r\n\r\n").expect("a header end") + 4;
    let parsed = Message::parse(Bytes::copy_from_slice(message)).expect("an index");
    let length: usize = parsed.header(Name::ContentLength).and_then(|l| l.parse().ok()).expect("a length");
    vec![b' '; length - (message.len() - head)]
}

/// Sends one message and returns what the server said to it, after it has answered OPTIONS.
fn said(
    server: &Ringdown,
    connect: fn(&Ringdown) -> Wire,
    name: &str,
    bytes: &[u8],
    plan: (Verdict, Afterwards),
) -> Vec<Message> {
    let mut wire = connect(server);
    if let Wire::Udp(_) = wire {
        // A stranger is never sent more than came from it: so much comes that every answer may leave at once.
        wire.send(padded_options(name).as_bytes());
        let heard = wire.hear().expect("a datagram");
        assert_eq!(heard.status(), 200, "{name}");
    }
    wire.send(bytes);
    let (verdict, afterwards) = plan;
    if matches!(verdict, Completed(_)) {
        wire.send(&missing_bytes(bytes));
    }
    if afterwards == Kept {
        return heard_before_options(&mut wire, name);
    }
    let mut answers = Vec::new();
    while let Some(answer) = wire.hear() {
        answers.push(answer);
        if afterwards == Spoilt {
            break;
        }
    }
    assert!(heard_before_options(&mut connect(server), name).is_empty(), "{name}");
    answers
}

fn run(connect: fn(&Ringdown) -> Wire, is_stream: bool) {
    // Some of the messages share a branch: to one server, the second is the first one sent again.
    let mut servers: Vec<(Ringdown, HashSet<String>)> = Vec::new();
    let mut complaints = Vec::new();
    for (row, bytes) in messages() {
        let key = key(&bytes);
        let index = servers.iter().position(|(_, seen)| !seen.contains(&key)).unwrap_or(servers.len());
        if index == servers.len() {
            servers.push((Ringdown::started("preferred", COMPANY, &[ALICE]), HashSet::new()));
        }
        let (server, seen) = &mut servers[index];
        seen.insert(key);
        let Row { name, why, .. } = row;
        let (verdict, afterwards) = if is_stream { (row.stream, row.afterwards) } else { (row.datagram, Kept) };
        let drops = |reason: &'static str| (reason, dropped(server, reason));
        let counted = if let Dropped(reason) = verdict { Some(drops(reason)) } else { None };
        let heard = said(server, connect, name, &bytes, (verdict, afterwards));
        let statuses = match &verdict {
            Answered(statuses) => *statuses,
            Dropped(_) => &[],
            Completed(status) => std::slice::from_ref(status),
        };
        complaints.extend(complaint(&heard, statuses).map(|what| format!("{name} ({why}): {what}")));
        heard.iter().for_each(|answer| assert_answers(answer, &bytes, name));
        if let Some((reason, before)) = counted {
            assert_eq!(dropped(server, reason), before + 1, "{name}: {reason}");
        }
    }
    servers.iter_mut().for_each(|(server, _)| server.kill());
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn every_message_of_rfc_4475_and_5118_over_udp() {
    run(Wire::udp, false);
}

#[test]
fn every_message_of_rfc_4475_and_5118_over_tcp() {
    run(Wire::tcp, true);
}

#[test]
fn every_message_of_rfc_4475_and_5118_over_tls() {
    run(Wire::tls, true);
}
