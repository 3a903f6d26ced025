//! Two phones, each the other's server, in virtual time. What they say crosses in pieces of 7 bytes.

use super::*;
use crate::{
    types::{ConnectionId, Duration, Flow, Transport},
    wire::{sdp, srtp::Suite},
};

const PIECE_BYTES: usize = 7;

fn config(user: &str, suite: Suite) -> Config {
    let flow = Flow {
        transport: Transport::Tls,
        local: format!("192.0.2.{}:40000", user.len()).parse().unwrap(),
        remote: "192.0.2.100:5061".parse().unwrap(),
        connection: ConnectionId(1),
    };
    Config {
        user: user.to_owned(),
        password: Secret::new("correct horse".to_owned()),
        domain: "example.test".to_owned(),
        flow,
        media: format!("192.0.2.{}:30000", user.len()).parse().unwrap(),
        suite,
    }
}

/// The caller is `Side::A`.
struct Pair {
    now: Instant,
    phones: [Phone; 2],
    events: [Vec<Event>; 2],
    /// Messages by their first word; those of `lost` do not arrive, once each.
    crossed: Vec<String>,
    lost: Vec<&'static str>,
}

const A: usize = 0;
const B: usize = 1;

impl Pair {
    fn new(suites: [Suite; 2]) -> Self {
        let mut rng = Rng::from_small_seed(1);
        let [a, b] = suites;
        Self {
            now: Instant::from_unix_ms(1_000),
            phones: [Phone::new(config("ann", a), rng.fork()), Phone::new(config("robert", b), rng.fork())],
            events: [Vec::new(), Vec::new()],
            crossed: Vec::new(),
            lost: Vec::new(),
        }
    }

    fn input(&mut self, side: usize, input: Input) {
        self.phones[side].handle_input(self.now, input);
        self.settle();
    }

    fn dial(&mut self) {
        self.input(A, Input::Dial { user: "robert".to_owned() });
    }

    /// Carries what is said until both are silent; the earliest timer.
    fn settle(&mut self) -> Option<Instant> {
        let mut wakes = [None; 2];
        let mut is_silent = [false; 2];
        while is_silent != [true; 2] {
            for side in [A, B] {
                match self.phones[side].poll_output() {
                    Output::Transmit(bytes) => {
                        is_silent = [false; 2];
                        self.carry(side, &bytes);
                    }
                    Output::Event(event) => self.events[side].push(event),
                    Output::Timeout(at) => (wakes[side], is_silent[side]) = (at, true),
                }
            }
        }
        wakes.into_iter().flatten().min()
    }

    fn carry(&mut self, from: usize, bytes: &Bytes) {
        let line = String::from_utf8_lossy(bytes).lines().next().unwrap().to_owned();
        let is_lost = self.lost.iter().position(|lost| line.starts_with(lost)).map(|at| self.lost.remove(at)).is_some();
        self.crossed.push(line);
        if !is_lost {
            for piece in bytes.chunks(PIECE_BYTES) {
                self.phones[1 - from].handle_input(self.now, Input::Received(Bytes::copy_from_slice(piece)));
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.settle().filter(|at| *at <= end) {
            self.now = at;
            for phone in &mut self.phones {
                phone.handle_input(at, Input::Timeout);
            }
        }
        self.now = end;
    }

    fn names(&mut self, side: usize) -> Vec<String> {
        let name = |event: &Event| format!("{event:?}").split(['(', ' ']).next().unwrap().to_owned();
        self.events[side].iter().map(name).collect()
    }

    fn media(&self, side: usize) -> Media {
        let media = |event: &Event| if let Event::Established(media) = event { Some(media.clone()) } else { None };
        self.events[side].iter().find_map(media).expect("the call is established")
    }
}

#[test]
fn a_call_rings_is_established_carries_voice_and_ends() {
    for suite in Suite::ALL {
        let mut pair = Pair::new([suite; 2]);
        pair.dial();
        assert_eq!(pair.names(A), ["Ringing", "Established"]);
        assert_eq!(pair.names(B), ["Established"]);
        let (a, b) = (pair.media(A), pair.media(B));
        assert_eq!((&a.send, &a.receive, a.suite), (&b.receive, &b.send, suite));
        assert_ne!(a.send, a.receive);
        assert_eq!((a.remote, b.remote), (pair.phones[B].config.media, pair.phones[A].config.media));

        let mut rng = Rng::from_small_seed(2);
        let ((mut speaker, mut deaf), (_, mut listener)) = (a.voices(&mut rng), b.voices(&mut rng));
        let mut packet = [0; PACKET_BYTES_MAX];
        let len = speaker.speak(&[7; PAYLOAD_BYTES_MAX], &mut packet).unwrap();
        assert!(deaf.hear(&mut packet[..len].to_vec()).is_err(), "the other direction has another key");
        assert_eq!(listener.hear(&mut packet[..len]), Ok(&[7; PAYLOAD_BYTES_MAX][..]));

        pair.input(B, Input::HangUp);
        assert_eq!(pair.names(A), ["Ringing", "Established", "Ended"]);
        assert_eq!(pair.names(B), ["Established", "Ended"]);
        pair.run(Duration::from_secs(120));
        assert!(pair.phones.iter().all(|phone| phone.table.is_empty() && phone.attempts.is_empty()));
    }
}

#[test]
fn a_call_rests_at_the_word_of_either_side_under_the_keys_it_has() {
    for holder in [A, B] {
        let mut pair = Pair::new([Suite::AesCm128HmacSha1_80; 2]);
        pair.input(holder, Input::Hold);
        assert!(pair.crossed.is_empty(), "there is no call");
        pair.dial();
        pair.input(holder, Input::Hold);
        assert_eq!(pair.names(A), ["Ringing", "Established", "Held"]);
        assert_eq!(pair.names(B), ["Established", "Held"]);
        for phone in &pair.phones {
            let Call::Up { own, .. } = &phone.call else { panic!("the call goes on") };
            let session = sdp::parse(own.text().expose().as_bytes()).unwrap();
            assert_eq!(session.media[0].direction, sdp::Direction::Inactive);
            assert_eq!(session.origin_version, 2);
        }
        let [a, b] = [A, B].map(|side| {
            let Call::Up { own, .. } = &pair.phones[side].call else { panic!("the call goes on") };
            sdp::parse(own.text().expose().as_bytes()).unwrap().media[0].crypto[0].key.clone()
        });
        assert_eq!([&a, &b], [&pair.media(A).send, &pair.media(B).send]);
        pair.input(1 - holder, Input::HangUp);
        assert_eq!(pair.names(holder).last().unwrap(), "Ended");
        pair.run(Duration::from_secs(120));
        assert!(pair.phones.iter().all(|phone| phone.table.is_empty() && phone.attempts.is_empty()));
    }
}

#[test]
fn a_hold_that_is_refused_or_not_answered_leaves_the_call_as_it_was() {
    let mut pair = Pair::new([Suite::AesCm128HmacSha1_80; 2]);
    pair.dial();
    pair.phones[B].call = Call::Idle;
    pair.input(A, Input::Hold);
    assert!(matches!(pair.events[A].last(), Some(Event::Refused(_))), "{:?}", pair.events[A]);
    assert!(matches!(pair.phones[A].call, Call::Up { .. }));
}

#[test]
fn a_lost_ack_is_sent_again_for_the_repeated_200() {
    let mut pair = Pair::new([Suite::AeadAes128Gcm; 2]);
    pair.lost = vec!["ACK"];
    pair.dial();
    assert_eq!(pair.names(B), [""; 0], "no ACK, no call");
    pair.run(Duration::from_secs(5));
    assert_eq!(pair.names(A), ["Ringing", "Established"], "established once only");
    assert_eq!(pair.names(B), ["Established"]);
    assert_eq!(pair.crossed.iter().filter(|line| line.starts_with("ACK")).count(), 2);
}

#[test]
fn a_phone_insists_on_its_suite_and_is_free_again_after_a_refusal() {
    let mut pair = Pair::new([Suite::AesCm128HmacSha1_80, Suite::AeadAes256Gcm]);
    for refusals in 1..3 {
        pair.dial();
        assert_eq!(pair.names(A), vec!["Refused"; refusals]);
    }
    assert!(matches!(&pair.events[A][0], Event::Refused(refusal) if refusal.status == 488 && !refusal.is_explained()));
    assert!(pair.events[B].is_empty());
}

#[test]
fn a_second_call_is_refused_and_the_first_one_goes_on() {
    let mut pair = Pair::new([Suite::AeadAes128Gcm; 2]);
    pair.dial();
    let mut third = Phone::new(config("mallory", Suite::AeadAes128Gcm), Rng::from_small_seed(3));
    third.handle_input(pair.now, Input::Dial { user: "robert".to_owned() });
    let Output::Transmit(invite) = third.poll_output() else { panic!("no INVITE") };
    pair.phones[B].handle_input(pair.now, Input::Received(invite));
    let Output::Transmit(answer) = pair.phones[B].poll_output() else { panic!("no answer") };
    assert!(answer.starts_with(b"SIP/2.0 486 "));
    pair.input(A, Input::HangUp);
    assert_eq!(pair.names(B), ["Established", "Ended"]);
}

/// Answers the phone's request with this status and these header lines.
fn answer(phone: &mut Phone, request: &Bytes, status: u16, headers: &[(&str, &str)]) {
    let request = Message::parse(request.clone()).unwrap();
    let mut response = ResponseBuilder::to(&request, status, reason_phrase(status), "tag", phone.config.flow.local);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    phone.handle_input(Instant::default(), Input::Received(response.finish()));
}

fn next_request(phone: &mut Phone) -> Bytes {
    let Output::Transmit(request) = phone.poll_output() else { panic!("no request") };
    request
}

fn next_event(phone: &mut Phone) -> Event {
    let Output::Event(event) = phone.poll_output() else { panic!("no event") };
    event
}

const CHALLENGE: (&str, &str) =
    ("WWW-Authenticate", r#"Digest realm="example.test", nonce="n1", qop="auth", algorithm=SHA-256"#);

#[test]
fn a_challenge_is_answered_with_the_password_once() {
    let mut phone = Phone::new(config("ann", Suite::AeadAes128Gcm), Rng::from_small_seed(1));
    phone.handle_input(Instant::default(), Input::Register);
    let first = next_request(&mut phone);
    answer(&mut phone, &first, 401, &[CHALLENGE]);
    let second = next_request(&mut phone);
    let message = Message::parse(second.clone()).unwrap();
    let credential = digest::Credential::derive("ann", "example.test", "correct horse");
    let response = digest::Response::parse(message.header(Name::Authorization).unwrap()).unwrap();
    assert!(response.matches(&credential, "REGISTER", b""));
    assert_eq!(message.cseq().unwrap().number, 2);
    answer(&mut phone, &second, 200, &[]);
    assert!(matches!(next_event(&mut phone), Event::Registered));

    phone.handle_input(Instant::default(), Input::Register);
    let third = next_request(&mut phone);
    assert_eq!(Message::parse(third.clone()).unwrap().cseq().unwrap().number, 3);
    answer(&mut phone, &third, 401, &[CHALLENGE]);
    let fourth = next_request(&mut phone);
    answer(&mut phone, &fourth, 401, &[CHALLENGE]);
    assert!(matches!(next_event(&mut phone), Event::Refused(refusal) if refusal.status == 401));
}

#[test]
fn only_a_403_with_both_reasons_is_an_explained_refusal() {
    let (warning, reason) = (("Warning", r#"399 example.test "No""#), ("Reason", "Q.850;cause=63"));
    for (status, headers, is_explained) in [
        (403, &[warning, reason][..], true),
        (403, &[warning], false),
        (403, &[reason], false),
        (404, &[warning, reason], false),
    ] {
        let mut phone = Phone::new(config("ann", Suite::AeadAes128Gcm), Rng::from_small_seed(1));
        phone.handle_input(Instant::default(), Input::Dial { user: "911".to_owned() });
        let invite = next_request(&mut phone);
        answer(&mut phone, &invite, status, headers);
        let refusal = std::iter::from_fn(|| Some(phone.poll_output())).find_map(|output| match output {
            Output::Event(Event::Refused(refusal)) => Some(refusal),
            Output::Event(_) | Output::Transmit(_) | Output::Timeout(_) => None,
        });
        assert_eq!(refusal.map(|refusal| refusal.is_explained()), Some(is_explained), "{status} {headers:?}");
    }
}

#[test]
fn silence_ends_a_registration_attempt() {
    let mut pair = Pair::new([Suite::AeadAes128Gcm; 2]);
    pair.lost = vec!["REGISTER"];
    pair.input(A, Input::Register);
    pair.run(Duration::from_secs(31));
    assert!(pair.events[A].is_empty());
    pair.run(Duration::from_secs(2));
    assert!(matches!(&pair.events[A][..], [Event::Refused(refusal)] if refusal.status == 408));
}

#[test]
fn what_no_server_may_send_is_a_fault() {
    for bytes in [
        &b"SIP/2.0 200 OK\r\nContent-Length: x\r\n\r\n"[..],
        b"SIP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"SIP/2.0 200 OK\r\nVia: SIP/2.0/TLS 192.0.2.3;branch=z9hG4bKx\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>;tag=2\r\n\
          Call-ID: stray\r\nCSeq: 1 BYE\r\nContent-Length: 0\r\n\r\n",
    ] {
        let mut phone = Phone::new(config("ann", Suite::AeadAes128Gcm), Rng::from_small_seed(1));
        phone.handle_input(Instant::default(), Input::Received(Bytes::from_static(bytes)));
        assert!(matches!(next_event(&mut phone), Event::Fault(_)));
    }
}

#[test]
fn keys_are_found_raw_and_in_a_crypto_line_and_nowhere_else() {
    let mut pair = Pair::new([Suite::AesCm256HmacSha1_80; 2]);
    pair.dial();
    let (media, own) = (pair.media(A), &pair.phones[A]);
    let mut rng = Rng::from_small_seed(4);
    let offer = Description::offer(media.suite, own.config.media, &mut rng);
    assert!(!media.has_key_in(offer.text().expose().as_bytes()), "the key of another call");
    for key in [&media.send, &media.receive] {
        assert!(media.has_key_in(key.expose()));
        assert!(media.has_key_in(format!("x{}y", sdp::inline_key(key).expose()).as_bytes()));
    }
}
