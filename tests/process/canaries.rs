//! Secrets planted in everything that reaches a real server: what it logs at `trace`, shows, counts, records and stores
//! holds none of them, as they are, in hexadecimal or in base64.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use memchr::memmem;
use ringdown::wire::{
    sip::{Message, Method, Name, ResponseBuilder, digest},
    srtp::{Inbound, MasterKey, Outbound, Suite, TAG_ROOM_BYTES},
};

use crate::{
    COMPANY, SECONDS_5,
    common::{
        process::fresh_ip,
        server::{ALICE, Account, BOB, Ringdown, write_secret},
    },
    connect, files,
    phone::{AUDIO_CANARY, Dialog, Phone},
};

const CARRIER: Account =
    Account { user: "carrier", extension: "", direct_line: "", password: "carrier-password-canary-20b7" };
const STREET: &str = "Street-Canary-b81d";
const ROOM: &str = "Room-Canary-44f0";
/// Of Alice's own address.
const HOME: &str = "Home-Canary-93bd";
const TEXT: &str = "message-body-canary-6c2e";
const PIN: &str = "pin-canary-90514736";
const BASIC: &str = "alice:basic-password-canary-e3";
const URI_PASSWORD: &str = "uri-password-canary-51ac";
const BROKEN_RESPONSE: &str = "digest-response-canary-7d0f";
const BROKEN_KEY: &str = "broken-key-canary-c9e2";
/// Shown to the admin interface, in the right place and in wrong ones.
const ADMIN_TOKEN: &str = "admin-token-canary-8e44";
const ADMIN_BASIC: &str = "operator:admin-password-canary-17d9";
const ADMIN_ORDER: &str = "admin-order-canary-a0c6";
/// Alice's offer, and Bob's answer to the suite in the server's.
const OFFER: &str = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:Y2FuYXJ5LWtleS1mb3ItYWxpY2UtMTIzNDU2Nzg5\r\n";
const ANSWER: &str = "a=crypto:4 AES_CM_128_HMAC_SHA1_80 inline:Y2FuYXJ5LWtleS1mb3ItYWxpY2UtMTIzNDU2Nzg5\r\n";
const KEY: &str = "Y2FuYXJ5LWtleS1mb3ItYWxpY2UtMTIzNDU2Nzg5";

/// One secret in one form of writing.
struct Canary {
    secret: String,
    text: String,
}

#[test]
fn secrets_of_good_refused_and_malformed_messages_stand_nowhere() {
    let carrier_ip = fresh_ip();
    let mut server = Ringdown::configured("preferred", &company(&carrier_ip.to_string()));
    write_secret(&server.dir().join("carrier.password"), CARRIER.password);
    for account in [ALICE, BOB] {
        server.add_user(&account);
    }
    let home = format!("country = \"US\"\nA3 = \"Arlington\"\nRD = \"{HOME}\"\nHNO = \"7\"\nPC = \"22201\"\n");
    let told = server.command(&["user", "address", ALICE.user, "-"], &home);
    assert!(told.status.success() && !format!("{told:?}").contains(HOME), "{told:?}");
    server.start();
    let mut alice = Phone::new(&server, ALICE).encrypted(OFFER);
    let mut bob = Phone::new(&server, BOB).encrypted(ANSWER);
    let mut carrier = Phone::at(carrier_ip, &server, CARRIER);
    assert_eq!((alice.register(), bob.register()), (200, 200));
    call_with_digits(&mut alice, &mut bob);
    let mut secrets = vec![outside_call(&mut alice, &mut carrier)];
    emergency_call(&mut alice, &mut carrier, &[HOME], &[STREET, ROOM]);
    emergency_call(&mut bob, &mut carrier, &[STREET, ROOM], &[HOME]);
    secrets.push(text_message(&server, &alice, &bob));
    say_what_is_refused(&server, &alice);
    ask_what_is_refused(&server);
    server.wait_no_calls();

    assert!(alice.secrets().len() > 5, "no digest and no key went over the network");
    secrets.extend([&alice, &bob, &carrier].into_iter().flat_map(Phone::secrets));
    secrets.extend([ALICE.password, BOB.password, CARRIER.password, HOME, TEXT, PIN, KEY].map(str::to_owned));
    secrets.extend([BASIC, URI_PASSWORD, BROKEN_RESPONSE, BROKEN_KEY].map(str::to_owned));
    secrets.extend([ADMIN_TOKEN, ADMIN_BASIC, ADMIN_ORDER].map(str::to_owned));
    secrets.push(token_of(&server));
    secrets.push(String::from_utf8_lossy(AUDIO_CANARY).into_owned());
    let canaries: Vec<Canary> = secrets.iter().flat_map(|secret| forms(secret)).collect();
    let places = places(&mut server);
    let log = String::from_utf8_lossy(&places[0].1);
    assert!(
        log.contains("TRACE") || log.contains("DEBUG"),
        "the log is not what an operator in need switches on:\n{log}"
    );
    for (place, bytes) in &places {
        let bytes = bytes.to_ascii_lowercase();
        for Canary { secret, text } in &canaries {
            let is_found = memmem::find(&bytes, text.to_ascii_lowercase().as_bytes()).is_some();
            assert!(!is_found, "{secret} stands in {place} as {text}");
        }
    }
}

#[test]
fn what_is_wrong_with_a_configuration_or_a_list_of_users_repeats_no_secret() {
    let server = Ringdown::configured("preferred", "");
    let good = fs::read_to_string(server.config()).expect("it was written");
    let trunk = "[trunk.a]\nhost = \"127.0.0.1\"\npstn = false\n";
    for more in [
        format!("{trunk}password = \"{PIN}\"\n"),
        format!("{trunk}user = \"u\"\npassword = {PIN}\n"),
        format!("{trunk}location = {{ header = \"X-Id\", value = \"{PIN}\\r\" }}\n"),
        format!("[emergency]\nnotify = [\"https://127.0.0.1/{PIN} x\"]\n"),
        format!("[emergency]\nnotify = [\"https://127.0.0.1/{PIN}\", \"https://127.0.0.1/{PIN}\"]\n"),
        format!("[tls]\nkey = \"\"\"-----BEGIN PRIVATE KEY-----\n{PIN}\n"),
    ] {
        fs::write(server.config(), format!("{good}{COMPANY}{more}")).expect("a writable folder");
        let told = server.command(&["check"], "");
        assert_eq!(told.status.code(), Some(64), "{more}: {told:?}");
        let text = [told.stdout, told.stderr].concat();
        assert!(memmem::find(&text, PIN.as_bytes()).is_none(), "{}", String::from_utf8_lossy(&text));
    }
    fs::write(server.config(), format!("{good}{COMPANY}")).expect("a writable folder");
    let list = server.dir().join("users.csv");
    for row in [format!("eve,\"{PIN}\u{7}\",1003"), format!("eve,{PIN},x"), format!("eve,{PIN},1003,+15550100,more")] {
        fs::write(&list, format!("user,password,extension,direct_line\n{row}\n")).expect("a writable folder");
        let told = server.command(&["user", "import", &list.display().to_string()], "");
        assert_eq!(told.status.code(), Some(64), "{told:?}");
        let text = [told.stdout, told.stderr].concat();
        assert!(memmem::find(&text, PIN.as_bytes()).is_none(), "{}", String::from_utf8_lossy(&text));
    }
}

#[test]
fn the_search_knows_a_secret_in_every_form() {
    let found = |text: &str| forms("canary-5d1e").iter().any(|form| text.contains(&form.text));
    for text in ["x canary-5d1e y", "63616e6172792d35643165"] {
        assert!(found(text), "{text}");
    }
    for before in ["", "a", "ab"] {
        assert!(found(&STANDARD.encode(format!("{before}canary-5d1e, and more"))), "behind {before:?}");
    }
    assert!(!found("canary-5d1f"));
}

fn company(carrier: &str) -> String {
    format!(
        "[company]\nname = \"Example Corp\"\nregion = \"US\"\n\
         address = {{ country = \"US\", A1 = \"DC\", A3 = \"Washington\", RD = \"{STREET}\", HNO = \"500\", PC = \"20001\", \
         ROOM = \"{ROOM}\" }}\n[emergency]\ncallback_numbers = [\"{}\"]\n\
         [trunk.carrier]\nhost = \"{carrier}\"\nport = 5060\ntransport = \"udp\"\nuser = \"{}\"\n\
         password_file = \"carrier.password\"\nnumbers = [\"{}\"]\n",
        ALICE.direct_line, CARRIER.user, ALICE.direct_line
    )
}

/// An encrypted call in which one side speaks, and sends a PIN by INFO.
fn call_with_digits(alice: &mut Phone, bob: &mut Phone) {
    let (a, b) = connect(alice, bob);
    speak_encrypted(alice, &a, bob, &b);
    alice.ask_in(&a, "INFO", "application/dtmf-relay", &format!("Signal=5\r\nDuration=160\r\nPin={PIN}\r\n"));
    let info = bob.wait(|message| message.method() == Some(Method::Info));
    assert!(String::from_utf8_lossy(&info.body()).contains(PIN), "the PIN went nowhere");
    bob.accept(&info);
    bob.hang_up(&b);
    alice.wait_bye();
}

/// Alice speaks, and Bob hears it under a key of the server's: in between the server has it in clear.
fn speak_encrypted(alice: &Phone, a: &Dialog, bob: &Phone, b: &Dialog) {
    const PACKETS: u8 = 20;
    let suite = Suite::AesCm128HmacSha1_80;
    let key = |text: &str| MasterKey::new(suite, STANDARD.decode(text).expect("base64")).expect("a key of the suite");
    let line = b.sdp.lines().find_map(|line| line.strip_prefix("a=crypto:4 AES_CM_128_HMAC_SHA1_80 inline:"));
    let of_server = line.and_then(|line| line.split('|').next()).expect("the server's offer");
    let (mut protect, mut unprotect) = (Outbound::new(suite, &key(KEY)), Inbound::new(suite, &key(of_server), None));
    for sequence in 0..PACKETS {
        let mut packet = [&[0x80, 0, 0, sequence, 0, 0, 0, sequence], &b"ssrc"[..], AUDIO_CANARY].concat();
        let len = packet.len();
        packet.resize(len + TAG_ROOM_BYTES, 0);
        let len = protect.protect_rtp(&mut packet, len).expect("a packet");
        alice.rtp.send_to(&packet[..len], a.media).expect("loopback takes it");
    }
    bob.rtp.set_read_timeout(Some(SECONDS_5)).expect("a valid timeout");
    let mut buffer = [0; 2048];
    for _ in 0..PACKETS {
        let len = bob.rtp.recv(&mut buffer).expect("what Alice says");
        let len = unprotect.unprotect_rtp(&mut buffer[..len]).expect("a packet of the server's");
        assert!(buffer[..len].ends_with(AUDIO_CANARY), "Bob hears something else");
    }
}

/// A call to a carrier that wants to know who we are. Returns the digest response that it got.
fn outside_call(alice: &mut Phone, carrier: &mut Phone) -> String {
    let (call_id, cseq) = alice.invite("+14155550123");
    let is_invite = |message: &Message| message.method() == Some(Method::Invite);
    let invite = carrier.wait(is_invite);
    let challenge = "Digest realm=\"carrier\", nonce=\"n\", qop=\"auth\"";
    let refusal = ResponseBuilder::to(&invite, 407, "Who Are You", "t", ([127, 0, 0, 1], 5060).into());
    carrier.say(&refusal.header("Proxy-Authenticate", challenge).finish());
    let again = carrier.wait(|message| is_invite(message) && message.header(Name::ProxyAuthorization).is_some());
    let credentials = again.header(Name::ProxyAuthorization).and_then(digest::Response::parse);
    let response = credentials.expect("credentials").response.to_owned();
    let outside = carrier.answer_this(&again);
    alice.answered(&call_id, cseq);
    carrier.hang_up(&outside);
    alice.wait_bye();
    response
}

/// A call that carries one address and nothing of another.
fn emergency_call(caller: &mut Phone, carrier: &mut Phone, present: &[&str], absent: &[&str]) {
    let (call_id, cseq) = caller.invite("911");
    let invite = carrier.wait(|message| message.method() == Some(Method::Invite));
    let body = String::from_utf8_lossy(&invite.body()).into_owned();
    assert!(present.iter().all(|text| body.contains(text)), "the address is not in the call:\n{body}");
    assert!(!absent.iter().any(|text| body.contains(text)), "another address is in the call:\n{body}");
    let outside = carrier.answer_this(&invite);
    caller.answered(&call_id, cseq);
    carrier.hang_up(&outside);
    caller.wait_bye();
}

/// A text message that arrives. Returns the digest response that let it through.
fn text_message(server: &Ringdown, alice: &Phone, bob: &Phone) -> String {
    let (domain, uri) = (server.ip, format!("sip:bob@{}", server.ip));
    let message = |cseq: u32, credentials: &str| {
        format!(
            "MESSAGE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK-text-{cseq};rport\r\nMax-Forwards: 70\r\n\
             From: <sip:alice@{domain}>;tag=m\r\nTo: <{uri}>\r\nCall-ID: text\r\nCSeq: {cseq} MESSAGE\r\n{credentials}\
             Content-Type: text/plain\r\nContent-Length: {}\r\n\r\n{TEXT}",
            TEXT.len()
        )
    };
    let is_answer = |m: &Message, status: u16| m.status() == status && m.call_id() == "text";
    alice.say(message(1, "").as_bytes());
    let challenge = alice.wait(|m| is_answer(m, 407));
    let lines = challenge.lines(Name::ProxyAuthenticate);
    let (user, password) = (ALICE.user, ALICE.password);
    let answer = digest::answer(lines, user, password, "MESSAGE", &uri, TEXT.as_bytes(), "cnonce", 1);
    let answer = answer.expect("a challenge that can be answered");
    alice.say(message(2, &format!("Proxy-Authorization: {answer}\r\n")).as_bytes());
    let heard = bob.wait(|m| m.method() == Some(Method::Message));
    assert_eq!(heard.body(), TEXT);
    bob.accept(&heard);
    alice.wait(|m| is_answer(m, 200) || is_answer(m, 202));
    digest::Response::parse(&answer).expect("an answer of ours").response.to_owned()
}

/// Text messages, and requests that get no further than their refusal, or not even that far.
fn say_what_is_refused(server: &Ringdown, alice: &Phone) {
    let domain = server.ip;
    let request = |start: &str, cseq: &str, extra: &str, body: &str| {
        let branch: u32 = start.bytes().chain(extra.bytes()).chain(body.bytes()).map(u32::from).sum();
        format!(
            "{start} SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK-{branch};rport\r\nMax-Forwards: 70\r\n\
             From: <sip:alice:{URI_PASSWORD}@{domain}>;tag=c\r\nTo: <sip:bob@{domain}>\r\nCall-ID: c{branch}\r\n\
             CSeq: {cseq}\r\n{extra}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let basic = format!("Authorization: Basic {}\r\n", STANDARD.encode(BASIC));
    let digest = format!(
        "Authorization: Digest username=\"alice\", realm=\"{domain}\", nonce=\"x\", uri=\"sip:{domain}\", \
         response=\"{BROKEN_RESPONSE}\"\r\n"
    );
    let text = "Content-Type: text/plain\r\n";
    let sdp = format!("v=0\r\nm=audio x RTP/SAVP 0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{BROKEN_KEY}\r\n");
    let invite = format!("INVITE sip:bob:{URI_PASSWORD}@{domain}");
    let message = format!("MESSAGE sip:bob@{domain}");
    let register = format!("REGISTER sip:{domain}");
    let all = [
        request(&message, "1 MESSAGE", text, TEXT),
        request(&message, "1 MESSAGE", text, &TEXT.repeat(60)),
        request(&message, "1 MESSAGE", &format!("Content-Encoding: gzip\r\n{text}"), TEXT),
        request(&register, "1 REGISTER", &basic, ""),
        request(&register, "1 REGISTER", &digest, ""),
        request(&register, "one REGISTER", &digest, ""),
        request(&register, "1 REGISTER", &format!("{digest}Contact: <<>{URI_PASSWORD}\r\n"), ""),
        request(&register, "1 REGISTER", &format!("{digest}Require: {URI_PASSWORD}\r\n"), ""),
        request(&invite, "1 INVITE", "Content-Type: application/sdp\r\n", &sdp),
        request(&invite, "1 INVITE", &format!("{digest}Content-Type: application/sdp\r\n"), &sdp),
        request(&invite, "1 OPTIONS", &digest, ""),
        request(&format!("{URI_PASSWORD} sip:{domain}"), &format!("1 {URI_PASSWORD}"), &digest, ""),
        request(&format!("INVITE {URI_PASSWORD}:x@{domain}"), "1 INVITE", &digest, ""),
        request("INVITE", "1 INVITE", &digest, TEXT),
        format!("{TEXT}\r\n{digest}\r\n"),
    ];
    for text in &all {
        alice.say(text.as_bytes());
        let unframed = text.replace("Content-Length: ", "Content-Length: x").replace("/UDP", "/TCP");
        for text in [text, &unframed] {
            let mut stream = TcpStream::connect(server.sip()).expect("the server listens");
            stream.write_all(text.as_bytes()).expect("loopback takes it");
        }
    }
    // What is answered proves that all before it was read.
    alice.say(request(&format!("OPTIONS sip:{domain}"), "77 OPTIONS", "", "").as_bytes());
    alice.wait(|message| message.cseq().is_some_and(|cseq| cseq.number == 77));
}

/// Tokens, passwords and orders that the admin interface refuses; what it answers repeats none of them.
fn ask_what_is_refused(server: &Ringdown) {
    let operator = format!("Bearer {}", server.operator_token());
    let order = format!("{{\"user\":\"alice\",\"{ADMIN_ORDER}\":1}}");
    for (request, credentials, body) in [
        ("GET /v1/cdrs", format!("Bearer {ADMIN_TOKEN}"), ""),
        ("POST /v1/unbar", format!("Bearer {ADMIN_TOKEN}"), "{\"user\":\"alice\"}"),
        ("GET /v1/cdrs", format!("Basic {}", STANDARD.encode(ADMIN_BASIC)), ""),
        ("GET /v1/cdrs", ADMIN_TOKEN.to_owned(), ""),
        ("POST /v1/unbar", operator.clone(), &order[..order.len() - 1]),
        ("POST /v1/unbar", operator.replace("Bearer", "Basic"), &order),
    ] {
        let mut stream = TcpStream::connect((server.ip, 8080)).expect("it listens");
        write!(
            stream,
            "{request} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nAuthorization: {credentials}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            server.ip,
            body.len()
        )
        .expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
        assert!(!answer.contains("canary") && !answer.contains(&server.operator_token()), "{answer}");
    }
}

/// A token of the admin interface that is good.
fn token_of(server: &Ringdown) -> String {
    let output = server.command(&["token", "add", "reader", "--role", "read"], "");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().last().filter(|line| line.starts_with("ringdown_")).expect("a token").to_owned()
}

/// The log first; then what the admin interface and the command line show, and every file that is kept.
fn places(server: &mut Ringdown) -> Vec<(String, Vec<u8>)> {
    let mut places = vec![("the log".to_owned(), Vec::new())];
    for page in ["/health", "/ready", "/metrics", "/v1/calls", "/v1/registrations", "/v1/cdrs", "/v1/emergency"] {
        let (status, body) = server.get(page).expect("the admin interface");
        assert_eq!(status, 200, "{page}");
        places.push((page.to_owned(), body.into_bytes()));
    }
    for arguments in [["cdr", "list"], ["user", "list"], ["audit", "list"], ["token", "list"], ["privacy", "table"]] {
        let output = server.command(&arguments, "");
        places.push((arguments.join(" "), [output.stdout, output.stderr].concat()));
    }
    for file in files(&server.state_dir()) {
        places.push((file.display().to_string(), fs::read(&file).expect("a file of ours")));
    }
    places[0].1 = server.process().text().into_bytes();
    places
}

/// As it is, in hexadecimal, and in base64 at each of the three ways in which it can lie in what is encoded.
fn forms(secret: &str) -> Vec<Canary> {
    let bytes = secret.as_bytes();
    let hexadecimal: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut texts = vec![secret.to_owned(), hexadecimal];
    for before in 0..3 {
        let encoded = STANDARD.encode([&vec![0; before], bytes].concat());
        // Only the digits that no neighbour has a part in.
        let from = [0, 2, 3][before];
        let to = (before + bytes.len()) * 8 / 6;
        texts.push(encoded[from..to].to_owned());
    }
    if let Ok(key) = STANDARD.decode(secret) {
        texts.push(key.iter().map(|byte| format!("{byte:02x}")).collect());
    }
    texts.into_iter().map(|text| Canary { secret: secret.to_owned(), text }).collect()
}
