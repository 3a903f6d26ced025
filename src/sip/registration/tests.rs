//! A registrar written by hand, in virtual time.

use bytes::Bytes;

use super::*;

const START: Instant = Instant::from_unix_ms(1_700_000_000_000);
const CONTACT: &str = "<sip:corp@192.0.2.1:5060;transport=udp>";

const fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

struct Bench {
    machine: Registration,
    now: Instant,
}

impl Bench {
    fn new(change: impl FnOnce(&mut Account)) -> Self {
        let mut account = Account {
            address_of_record: "sip:corp@carrier.example".to_owned(),
            registrar: "sip:carrier.example".to_owned(),
            is_bulk: false,
            expires_s: 3_600,
            credentials: Some(("corp".to_owned(), Secret::new("secret".to_owned()))),
        };
        change(&mut account);
        Self { machine: Registration::new(account, Rng::from_small_seed(1)), now: START }
    }

    /// Takes the REGISTER that is due.
    fn take(&mut self) -> Message {
        assert_eq!(self.machine.poll_output(), Output::Register);
        let request = self.machine.request("SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1", CONTACT);
        Message::parse(request.finish()).unwrap()
    }

    fn answer(&mut self, status: u16, headers: &str) {
        let text = format!("SIP/2.0 {status} X\r\n{}\r\n", headers.replace('\n', "\r\n"));
        let response = Message::parse(Bytes::from(text)).unwrap();
        self.machine.handle_input(self.now, Input::Response(&response));
    }

    fn input(&mut self, input: Input<'_>) {
        self.machine.handle_input(self.now, input);
    }

    /// Passes time until the next REGISTER is due, and returns how much.
    fn wait(&mut self) -> Duration {
        let begun = self.now;
        for _ in 0..4 {
            match self.machine.poll_output() {
                Output::Register => return self.now.since(begun),
                Output::Timeout(at) => self.now = at.expect("a timer"),
            }
            self.input(Input::Timeout);
        }
        panic!("nothing becomes due")
    }

    fn state(&self) -> State {
        self.machine.state(self.now)
    }

    fn register(&mut self) -> Message {
        let request = self.take();
        self.answer(200, "Contact: <sip:corp@192.0.2.1:5060;transport=udp>;expires=3600\n");
        assert_eq!(self.state(), State::Registered { until: self.now + seconds(3_600) });
        request
    }
}

fn header(message: &Message, name: &str) -> String {
    let found = message.all().find(|(written, ..)| *written == name);
    found.map(|(_, _, value)| value.to_owned()).unwrap_or_default()
}

const CHALLENGE: &str =
    "WWW-Authenticate: Digest realm=\"carrier.example\", nonce=\"n1\", qop=\"auth\", algorithm=MD5\n";
const STALE: &str =
    "WWW-Authenticate: Digest realm=\"carrier.example\", nonce=\"n2\", qop=\"auth\", algorithm=MD5, stale=TRUE\n";

#[test]
fn a_registration_is_one_sequence_of_requests_and_refreshed_before_its_end() {
    let mut b = Bench::new(|_| {});
    assert_eq!(b.state(), State::Registering);
    let first = b.register();
    assert_eq!((first.method_text(), first.request_uri()), ("REGISTER", "sip:carrier.example"));
    assert_eq!(header(&first, "To"), "<sip:corp@carrier.example>");
    assert_eq!((header(&first, "Contact").as_str(), header(&first, "Expires").as_str()), (CONTACT, "3600"));
    assert_eq!(b.wait(), seconds(3_240), "a tenth is left");
    let second = b.register();
    assert_eq!(second.call_id(), first.call_id());
    assert_eq!((first.cseq().unwrap().number, second.cseq().unwrap().number), (1, 2));
}

#[test]
fn what_the_registrar_grants_is_what_counts() {
    for (answer, until_s, refresh_s) in [
        ("Contact: <sip:CORP@other.invalid>;expires=60, <sip:corp@192.0.2.1>;expires=600\n", 600, 540),
        ("Contact: <sip:corp@10.0.0.1:9999>;expires=120\n", 120, 60),
        ("Contact: <sip:corp@192.0.2.1>\nExpires: 1800\n", 1_800, 1_620),
        ("Expires: 30\n", 30, 15),
        ("", 3_600, 3_240),
        ("Contact: <sip:a@192.0.2.9>;expires=5, <sip:b@192.0.2.8>;expires=5\n", 3_600, 3_240),
        ("Contact: <sip:corp@192.0.2.1>;expires=86400\n", 86_400, 77_760),
    ] {
        let mut b = Bench::new(|_| {});
        b.take();
        b.answer(100, "");
        b.answer(200, answer);
        assert_eq!(b.state(), State::Registered { until: START + seconds(until_s) }, "{answer}");
        assert_eq!(b.wait(), seconds(refresh_s), "{answer}");
    }
}

#[test]
fn a_200_that_keeps_nothing_is_a_failure() {
    let mut b = Bench::new(|_| {});
    b.take();
    b.answer(200, "Contact: <sip:corp@192.0.2.1:5060>;expires=0\n");
    assert!(matches!(b.state(), State::Failed { status: 200, .. }));
}

#[test]
fn a_challenge_is_answered_once_and_a_stale_nonce_again() {
    let mut b = Bench::new(|_| {});
    assert_eq!(header(&b.take(), "Authorization"), "");
    b.answer(401, CHALLENGE);
    assert!(header(&b.take(), "Authorization").contains("nonce=\"n1\""));
    b.answer(401, STALE);
    let answer = header(&b.take(), "Authorization");
    assert!(answer.contains("nonce=\"n2\"") && answer.contains("nc=00000001"), "{answer}");
    b.answer(200, "Expires: 600\n");
    b.wait();
    let refresh = header(&b.take(), "Authorization");
    assert!(refresh.contains("nonce=\"n2\"") && refresh.contains("nc=00000002"), "{refresh}");
    // The nonce is too old by now.
    b.answer(401, CHALLENGE);
    assert!(header(&b.take(), "Authorization").contains("nonce=\"n1\""));
}

#[test]
fn a_password_that_is_wrong_is_shown_once_an_attempt_and_a_registrar_whose_nonces_are_always_stale_thrice() {
    let mut b = Bench::new(|_| {});
    for _ in 0..2 {
        assert_eq!(header(&b.take(), "Authorization"), "");
        b.answer(401, CHALLENGE);
        b.take();
        b.answer(401, CHALLENGE);
        assert!(matches!(b.state(), State::Failed { status: 401, .. }));
        b.wait();
    }
    b.take();
    for _ in 0..3 {
        b.answer(401, STALE);
        b.take();
    }
    b.answer(401, STALE);
    assert!(matches!(b.state(), State::Failed { status: 401, .. }));
}

#[test]
fn without_a_password_a_challenge_is_a_failure() {
    let mut b = Bench::new(|account| account.credentials = None);
    b.take();
    b.answer(407, "Proxy-Authenticate: Digest realm=\"r\", nonce=\"n\"\n");
    assert!(matches!(b.state(), State::Failed { status: 407, .. }));
}

#[test]
fn a_time_that_is_too_brief_is_raised_at_once_and_stays_raised() {
    let mut b = Bench::new(|account| account.expires_s = 60);
    b.take();
    b.answer(423, "Min-Expires: 300\n");
    assert_eq!(header(&b.take(), "Expires"), "300");
    b.answer(200, "");
    assert_eq!(b.state(), State::Registered { until: START + seconds(300) });
    b.wait();
    assert_eq!(header(&b.take(), "Expires"), "300");
    for (min_expires, asked) in [(600, "600"), (900, "900")] {
        b.answer(423, &format!("Min-Expires: {min_expires}\n"));
        assert_eq!(header(&b.take(), "Expires"), asked);
    }
    b.answer(423, "Min-Expires: 1200\n");
    b.pass_over();
    assert!(matches!(b.state(), State::Failed { status: 423, .. }), "it never ends");
}

#[test]
fn a_423_without_a_longer_time_is_a_failure() {
    for headers in ["", "Min-Expires: 60\n", "Min-Expires: soon\n"] {
        let mut b = Bench::new(|account| account.expires_s = 60);
        b.take();
        b.answer(423, headers);
        assert!(matches!(b.state(), State::Failed { status: 423, .. }), "{headers}");
    }
}

#[test]
fn failures_wait_longer_each_time_and_success_forgets_them() {
    let mut b = Bench::new(|_| {});
    for longest_s in [30, 60, 120, 240, 480, 960, 1_800, 1_800] {
        b.take();
        b.answer(500, "");
        let waited = b.wait();
        assert!((seconds(longest_s) / 2..=seconds(longest_s)).contains(&waited), "{waited:?} of {longest_s} s");
    }
    b.register();
    b.wait();
    b.take();
    b.input(Input::Failed { status: 408, is_alternative_known: false });
    assert!(b.wait() <= seconds(30));
}

#[test]
fn retry_after_is_obeyed_within_reason() {
    for (value, least_s, most_s) in
        [("120 (busy);duration=5", 120, 120), ("5", 15, 30), ("999999", 3_600, 3_600), ("x", 15, 30)]
    {
        let mut b = Bench::new(|_| {});
        b.take();
        b.answer(503, &format!("Retry-After: {value}\n"));
        let waited = b.wait();
        assert!((seconds(least_s)..=seconds(most_s)).contains(&waited), "{value}: {waited:?}");
    }
}

#[test]
fn a_failed_refresh_leaves_the_registration_until_its_end() {
    let mut b = Bench::new(|_| {});
    b.register();
    b.wait();
    b.take();
    b.answer(503, "Retry-After: 1000\n");
    assert!(matches!(b.state(), State::Registered { .. }));
    b.wait();
    assert_eq!(b.state(), State::Registering, "it has run out meanwhile");
    b.register();
}

#[test]
fn another_server_is_asked_at_once() {
    let mut b = Bench::new(|_| {});
    b.take();
    b.input(Input::Failed { status: 503, is_alternative_known: true });
    b.register();
}

#[test]
fn a_registrar_without_an_address_is_asked_as_soon_as_there_is_one() {
    let mut b = Bench::new(|_| {});
    b.input(Input::Unreachable);
    assert!(matches!(b.state(), State::Failed { status: 503, .. }));
    b.input(Input::Reachable);
    b.register();
    b.input(Input::Reachable);
    assert_ne!(b.machine.poll_output(), Output::Register);
    let mut b = Bench::new(|_| {});
    b.input(Input::Unreachable);
    assert_eq!(b.wait(), seconds(30));
}

#[test]
fn a_lost_flow_is_registered_anew_and_one_that_carried_nothing_is_no_news() {
    let mut b = Bench::new(|_| {});
    b.register();
    b.input(Input::FlowLost);
    assert!(!matches!(b.state(), State::Registered { .. }));
    assert_eq!(b.wait(), seconds(1));
    b.take();
    b.answer(500, "");
    b.input(Input::FlowLost);
    assert!(b.wait() >= seconds(15));
}

#[test]
fn leaving_takes_the_contact_back_and_says_so_once() {
    let mut b = Bench::new(|_| {});
    b.register();
    b.input(Input::Leave);
    assert!(b.machine.is_busy());
    let last = b.take();
    assert_eq!((header(&last, "Contact").as_str(), header(&last, "Expires").as_str()), (CONTACT, "0"));
    b.answer(401, STALE);
    assert_eq!(header(&b.take(), "Expires"), "0");
    b.answer(200, "");
    assert!(b.state() == State::Left && !b.machine.is_busy());
    for input in [Input::Leave, Input::FlowLost, Input::Reachable, Input::Timeout] {
        b.input(input);
        assert_eq!(b.machine.poll_output(), Output::Timeout(None));
    }
}

#[test]
fn leaving_while_a_register_is_on_its_way_takes_back_what_comes_of_it() {
    let mut b = Bench::new(|_| {});
    b.take();
    b.input(Input::Leave);
    b.answer(200, "Expires: 600\n");
    assert_eq!(header(&b.take(), "Expires"), "0");
    b.input(Input::Failed { status: 408, is_alternative_known: true });
    assert_eq!(b.state(), State::Left);
}

#[test]
fn leaving_without_a_registration_sends_nothing() {
    let mut b = Bench::new(|_| {});
    b.take();
    b.answer(403, "");
    b.input(Input::Leave);
    assert_eq!((b.state(), b.machine.poll_output()), (State::Left, Output::Timeout(None)));
}

#[test]
fn a_bulk_registration_requires_gin() {
    let mut b = Bench::new(|account| account.is_bulk = true);
    let register = b.take();
    assert_eq!(["Require", "Proxy-Require", "Supported"].map(|name| header(&register, name)), ["gin", "gin", "path"]);
}

#[test]
fn answers_to_nothing_change_nothing() {
    let mut b = Bench::new(|_| {});
    b.register();
    b.answer(500, "");
    b.input(Input::Failed { status: 408, is_alternative_known: true });
    b.input(Input::Unreachable);
    assert_eq!(b.state(), State::Registered { until: START + seconds(3_600) });
}

impl Bench {
    /// What was registered has run out.
    fn pass_over(&mut self) {
        self.now = self.now + seconds(301);
    }
}

#[test]
fn the_service_route_is_the_one_of_the_last_answer_and_taken_whole_or_not_at_all() {
    let long = format!("Service-Route: <sip:{}.example;lr>\n", "a".repeat(ROUTES_BYTES_MAX));
    let mut b = Bench::new(|_| {});
    for (headers, expected) in [
        ("", &[][..]),
        ("Service-Route: <sip:p1.example;lr>, <sip:p2.example;lr>\n", &["<sip:p1.example;lr>", "<sip:p2.example;lr>"]),
        (
            "Service-Route: <sip:p1.example;lr>\nService-Route: <sip:p2.example;lr>;x\n",
            &["<sip:p1.example;lr>", "<sip:p2.example;lr>;x"],
        ),
        ("Service-Route: <sip:p1.example;lr>, nobody\n", &[]),
        (&"Service-Route: <sip:p.example;lr>\n".repeat(ROUTES_MAX), &["<sip:p.example;lr>"; ROUTES_MAX]),
        (&"Service-Route: <sip:p.example;lr>\n".repeat(ROUTES_MAX + 1), &[]),
        (&long, &[]),
    ] {
        b.take();
        b.answer(200, &format!("Expires: 60\n{headers}"));
        assert_eq!(b.machine.service_route(), expected, "{headers}");
        b.wait();
    }
}
