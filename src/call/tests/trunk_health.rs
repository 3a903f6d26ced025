//! Whether trunks are there: by OPTIONS, by what becomes of calls, and by an operator's word.

use super::{
    ALICE_FROM,
    bench::{Bench, CONFIG, SDP, TRUNK},
    from_alice, invite,
};
use crate::call::Input;

const OTHER: &str = "203.0.113.20:5060";

/// The bench's carrier with these further keys, and a second trunk behind it.
fn bench(keys: &str) -> Bench {
    let carrier = CONFIG.replace("[trunk.carrier]\n", &format!("[trunk.carrier]\n{keys}\n"));
    let other = "[trunk.zz-other]\nhost = \"203.0.113.20\"\nport = 5060\ntransport = \"udp\"\n\
                 numbers = [\"+12025550100\"]\n";
    let mut b = Bench::with(&format!("{carrier}{other}"));
    b.register(from_alice(1000, 1), "alice");
    b
}

fn state(b: &Bench, name: &str) -> &'static str {
    b.core.trunks().into_iter().find(|trunk| trunk.name == name).unwrap().state
}

fn call(b: &mut Bench, callee: &str) {
    invite(b, from_alice(1000, 1), &format!("sip:{callee}@pbx.example.com"), ALICE_FROM, "");
}

fn drain(b: &mut Bench, trunk: &str, is_draining: bool) {
    b.input(Input::DrainTrunk { trunk: trunk.to_owned(), is_draining });
}

/// The next final answer to Alice.
fn answer_to_alice(b: &mut Bench) -> u16 {
    b.take_response("INVITE", &from_alice(1000, 1).remote.to_string(), 200).status()
}

#[test]
fn each_round_asks_once_and_any_answer_but_503_is_a_good_one() {
    let mut b = bench("options_s = 30");
    b.pass(3_000);
    let first = b.take_request("OPTIONS", TRUNK);
    assert_eq!(first.1.request_uri(), "sip:203.0.113.5");
    assert!(b.find_request("OPTIONS", OTHER).is_none(), "nothing was said of that one");
    b.answer(&first, 503, "t", "", "");
    assert_eq!((state(&b, "carrier"), state(&b, "zz-other")), ("down", "up"));
    for status in [404, 200, 401, 500] {
        b.sent.clear();
        b.pass(30_000);
        let again = b.take_request("OPTIONS", TRUNK);
        b.answer(&again, status, "t", "", "");
        assert_eq!(state(&b, "carrier"), "up", "{status}");
    }
    b.sent.clear();
    b.pass(65_000);
    assert_eq!(state(&b, "carrier"), "down", "silence");
    assert!(b.core.trunks().iter().find(|t| t.name == "carrier").unwrap().servers.iter().all(|server| !server.up));
}

#[test]
fn a_connection_without_an_answer_is_closed_and_the_next_round_opens_another() {
    let mut b = Bench::with(&CONFIG.replace("transport = \"udp\"", "transport = \"tcp\"\noptions_s = 60"));
    b.pass(3_000);
    let first = b.take_request("OPTIONS", TRUNK);
    b.answer(&first, 200, "t", "", "");
    b.sent.clear();
    b.pass(60_000);
    assert_eq!(b.take_request("OPTIONS", TRUNK).0, first.0);
    b.pass(60_000);
    b.sent.retain(|(flow, _)| *flow != first.0);
    let second = b.take_request("OPTIONS", TRUNK);
    assert_ne!(second.0.connection, first.0.connection);
    b.answer(&second, 200, "t", "", "");
    b.pass(10_000);
    assert_eq!((state(&b, "carrier"), b.closed.as_slice()), ("up", &[first.0][..]));
}

#[test]
fn calls_take_a_trunk_that_is_up_before_one_that_is_down_and_that_one_before_none() {
    for callee in ["92025550177", "911"] {
        let mut b = bench("options_s = 30");
        b.pass(3_000);
        let ping = b.take_request("OPTIONS", TRUNK);
        b.answer(&ping, 503, "t", "", "");
        call(&mut b, callee);
        assert!(b.find_request("INVITE", TRUNK).is_none());
        let other = b.take_request("INVITE", OTHER);
        b.answer(&other, 503, "t", "", "");
        let last = b.take_request("INVITE", TRUNK);
        b.accept(&last, "t", SDP);
        assert_eq!(answer_to_alice(&mut b), 200);
        assert_eq!(state(&b, "carrier"), "up", "it has answered a call");
    }
}

#[test]
fn a_draining_trunk_keeps_its_calls_and_gets_no_new_one_but_for_emergencies() {
    let mut b = bench("");
    call(&mut b, "92025550177");
    let sent = b.take_request("INVITE", TRUNK);
    b.accept(&sent, "t", SDP);
    drain(&mut b, "carrier", true);
    drain(&mut b, "nobody", true);
    assert_eq!((state(&b, "carrier"), b.core.live_calls()), ("draining", 1));
    call(&mut b, "92025550178");
    assert!(b.find_request("INVITE", TRUNK).is_none());
    b.take_request("INVITE", OTHER);
    drain(&mut b, "zz-other", true);
    call(&mut b, "92025550179");
    assert_eq!((answer_to_alice(&mut b), answer_to_alice(&mut b)), (200, 480), "of the first call and of the third");
    b.trunk_calls_bob();
    b.take_request("INVITE", super::BOB);
    call(&mut b, "911");
    b.take_request("INVITE", TRUNK);
    drain(&mut b, "carrier", false);
    call(&mut b, "92025550177");
    b.take_request("INVITE", TRUNK);
}

#[test]
fn a_configured_code_leads_to_the_next_trunk_and_others_do_not() {
    for (status, goes_on) in [(403, true), (404, false), (486, false), (500, true), (408, true)] {
        let mut b = bench("failover_codes = [403]");
        call(&mut b, "92025550177");
        let first = b.take_request("INVITE", TRUNK);
        b.answer(&first, 100, "", "", "");
        b.answer(&first, status, "t", "", "");
        assert_eq!(b.find_request("INVITE", OTHER).is_some(), goes_on, "{status}");
    }
}

#[test]
fn nothing_leads_a_call_that_may_have_rung_to_another_trunk() {
    for provisional in [180, 183, 181] {
        for status in [503, 403, 500] {
            let mut b = bench("failover_codes = [403]");
            call(&mut b, "92025550177");
            let first = b.take_request("INVITE", TRUNK);
            b.answer(&first, provisional, "t", "", "");
            b.answer(&first, status, "t", "", "");
            assert!(b.find_request("INVITE", OTHER).is_none(), "{provisional}, then {status}");
            b.finish();
        }
    }
}

#[test]
fn listed_servers_are_one_trunk_in_the_order_of_their_priorities() {
    let listed =
        |n: u8, priority: u8| format!("[trunk.carrier.server.s{n}]\nhost = \"203.0.113.{n}\"\npriority = {priority}\n");
    let text = CONFIG.replace("host = \"203.0.113.5\"", "host = \"carrier.example\"");
    let mut b = Bench::with(&format!("{text}{}{}", listed(32, 2), listed(31, 1)));
    assert!(b.questions.is_empty(), "the host is not looked up");
    b.register(from_alice(1000, 1), "alice");
    call(&mut b, "92025550177");
    let first = b.take_request("INVITE", "203.0.113.31:5060");
    assert_eq!(first.1.request_uri(), "sip:92025550177@carrier.example;user=phone");
    b.answer(&first, 503, "t", "", "");
    let second = b.take_request("INVITE", "203.0.113.32:5060");
    b.accept(&second, "t", SDP);
    assert_eq!(answer_to_alice(&mut b), 200);
    b.sent.clear();
    let caller = "<sip:+14155550123@carrier.example>";
    invite(&mut b, super::udp("203.0.113.31:5060"), "sip:+12025551002@pbx.example.com", caller, "");
    b.take_request("INVITE", super::BOB);
    let trunk = b.core.trunks().into_iter().find(|trunk| trunk.name == "carrier").unwrap();
    assert_eq!(trunk.servers.iter().map(|server| server.up).collect::<Vec<_>>(), [true, false]);
}
