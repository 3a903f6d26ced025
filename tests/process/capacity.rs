//! More packets than the server is allowed to spend its time on.

use std::{
    sync::mpsc::{TryRecvError, channel},
    thread,
    time::Duration,
};

use ringdown::wire::sip::{Method, Name};

use crate::{
    common::{
        process::{fresh_ip, wait_for},
        server::{ALICE, Account, BOB, Ringdown},
    },
    phone::Phone,
};

const CARRIER: Account = Account { user: "carrier", extension: "", direct_line: "", password: "" };
const CAROL: Account =
    Account { user: "carol", extension: "2003", direct_line: "+12025550103", password: "carol-password-canary-3d2e" };
const SECONDS_20: Duration = Duration::from_secs(20);

fn health(server: &Ringdown) -> serde_json::Value {
    let (status, body) = server.get("/health").expect("the admin interface");
    assert_eq!(status, 200, "calls go on: {body}");
    serde_json::from_str(&body).expect("JSON")
}

/// Goal: above the limit a new call is refused with 503 and Retry-After, a call for help is not, and the call that makes the
/// load is heard to its end. Method: a limit of one twentieth of a worker's time, and a telephone that sends without pause.
#[test]
fn above_the_measured_load_new_calls_are_refused_and_calls_for_help_are_not() {
    let carrier_ip = fresh_ip();
    let more = format!(
        "[company]\nname = \"Example Corp\"\nregion = \"US\"\naddress = {{ country = \"US\", A1 = \"DC\", A3 = \"Washington\", \
         RD = \"Example\", HNO = \"500\", PC = \"20001\", ROOM = \"Reception\" }}\n\
         [emergency]\ncallback_numbers = [\"{}\"]\n[trunk.carrier]\nhost = \"{carrier_ip}\"\nport = 5060\n\
         transport = \"udp\"\nnumbers = [\"{}\"]\nencryption = \"off\"\n",
        ALICE.direct_line, ALICE.direct_line
    );
    let mut server = Ringdown::configured("preferred", &more);
    let text = std::fs::read_to_string(server.config()).expect("it was written");
    std::fs::write(server.config(), text.replace("workers = 1", "workers = 1\nload_max_percent = 5"))
        .expect("a writable folder");
    for account in [ALICE, BOB, CAROL] {
        server.add_user(&account);
    }
    server.start();
    let [mut alice, mut bob, mut carol] = [ALICE, BOB, CAROL].map(|account| Phone::new(&server, account));
    let mut carrier = Phone::at(carrier_ip, &server, CARRIER);
    assert_eq!((alice.register(), bob.register(), carol.register()), (200, 200, 200));
    let (call_id, cseq) = alice.invite(BOB.extension);
    let b = bob.answer();
    let a = alice.answered(&call_id, cseq);
    let (enough, is_enough) = channel::<()>();
    let speaking = thread::spawn(move || {
        // Until told, or until the other end has failed.
        while is_enough.try_recv() == Err(TryRecvError::Empty) {
            alice.speak(&a, u16::MAX);
        }
        alice
    });
    wait_for("the load to be measured", SECONDS_20, || {
        let capacity = &health(&server)["capacity"];
        capacity["media_load_percent"][0].as_f64().is_some_and(|percent| percent >= 5.0).then_some(())
    });
    let refusal = carol.refusal(ALICE.extension);
    assert_eq!((refusal.status(), refusal.reason_phrase()), (503, "Media Overloaded"));
    assert_eq!(refusal.header(Name::RetryAfter), Some("30"));
    assert_eq!(health(&server)["capacity"]["refusing"], true);
    let (call_id, cseq) = carol.invite("911");
    let invite = carrier.wait(|message| message.method() == Some(Method::Invite));
    let outside = carrier.answer_this(&invite);
    carol.answered(&call_id, cseq);
    carrier.hang_up(&outside);
    carol.wait_bye();
    drop(enough);
    let mut alice = speaking.join().expect("the telephone speaks");
    let (_, metrics) = server.get("/metrics").expect("the admin interface");
    assert!(metrics.contains("ringdown_calls_rejected_total{reason=\"media_load\"} 1\n"), "{metrics}");
    assert!(bob.hear() > 0, "the call is cut");
    bob.speak(&b, 20);
    assert!(alice.hear() > 10, "the call is cut");
    bob.hang_up(&b);
    alice.wait_bye();
    wait_for("calls to be taken again", SECONDS_20, || {
        (health(&server)["capacity"]["refusing"] == false).then_some(())
    });
    let (call_id, cseq) = carol.invite(ALICE.extension);
    let called = alice.answer();
    carol.answered(&call_id, cseq);
    alice.hang_up(&called);
    carol.wait_bye();
    server.process().wait_log("New calls are refused", SECONDS_20);
}
