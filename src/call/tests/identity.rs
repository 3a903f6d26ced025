//! Who speaks is what the server knows, and is hidden when the speaker wants it.

use super::{ALICE_FROM, BOBS_LINE, TRUNK_FROM, bench::*, from_alice, invite};
use crate::wire::sip::{Message, Name, NameAddr};

/// An INVITE as text.
fn text(message: &Message) -> String {
    String::from_utf8_lossy(message.bytes()).into_owned()
}

const LIES: &str = "P-Asserted-Identity: \"Boss\" <sip:1002@pbx.example.com>\nP-Preferred-Identity: <sip:1002@pbx.example.com>\n\
                    Remote-Party-ID: \"Boss\" <sip:1002@pbx.example.com>;party=calling\nReferred-By: <sip:1002@pbx.example.com>\n";

#[test]
fn a_device_speaks_as_its_own_user_whatever_it_claims() {
    let mut b = Bench::new();
    let alice = from_alice(1000, 1);
    b.register(alice, "alice");
    invite(&mut b, alice, "sip:1002@pbx.example.com", "\"Boss\" <sip:1002@pbx.example.com>", LIES);
    let sent = b.take_request("INVITE", BOB).1;
    assert!(sent.header(Name::From).is_some_and(|from| from.starts_with("<sip:1001@pbx.example.com>;tag=")));
    assert_eq!(sent.lines(Name::PAssertedIdentity).collect::<Vec<_>>(), ["<sip:1001@pbx.example.com>"]);
    for name in [Name::PPreferredIdentity, Name::RemotePartyId, Name::ReferredBy, Name::Privacy] {
        assert_eq!(sent.header(name), None, "{name:?}");
    }
    assert!(!text(&sent).contains("Boss"));
    invite(&mut b, alice, "sip:92025550177@pbx.example.com", "\"Boss\" <sip:+12025551002@pbx.example.com>", LIES);
    let sent = b.take_request("INVITE", TRUNK).1;
    let asserted = "<sip:+12025551001@pbx.example.com;user=phone>";
    assert!(sent.header(Name::From).is_some_and(|from| from.starts_with(asserted)));
    assert_eq!(sent.lines(Name::PAssertedIdentity).collect::<Vec<_>>(), [asserted]);
    assert!(!text(&sent).contains("Boss") && !text(&sent).contains("1002"));
}

#[test]
fn a_device_that_asks_for_privacy_is_anonymous_to_the_callee_and_known_to_the_trunk() {
    for (from, privacy) in [
        (ALICE_FROM, "Privacy: id\n"),
        (ALICE_FROM, "Privacy: header;user\n"),
        ("\"Anonymous\" <sip:anonymous@anonymous.invalid>", ""),
    ] {
        let mut b = Bench::new();
        let alice = from_alice(1000, 1);
        b.register(alice, "alice");
        invite(&mut b, alice, "sip:1002@pbx.example.com", from, &format!("{privacy}{LIES}"));
        let to_bob = b.take_request("INVITE", BOB);
        let sent = text(&to_bob.1);
        assert!(sent.contains("From: \"Anonymous\" <sip:anonymous@anonymous.invalid>;tag="), "{sent}");
        for trace in ["1001", "alice", "Alice", "P-Asserted-Identity"] {
            assert!(!sent.contains(trace), "{trace} in {sent}");
        }
        // Nor later in the dialog.
        b.accept(&to_bob, "bob", SDP);
        b.take_request("ACK", BOB);
        let caller = Leg::of_caller(alice, &b.take_response("INVITE", &alice.remote.to_string(), 200));
        b.acknowledge(&caller, 1, "");
        b.within(&caller, "BYE", 2, "", "");
        assert!(!text(&b.take_request("BYE", BOB).1).contains("1001"));

        invite(&mut b, alice, "sip:92025550177@pbx.example.com", from, privacy);
        let sent = b.take_request("INVITE", TRUNK).1;
        assert_eq!(sent.from().map(|from| from.uri), Some("sip:anonymous@anonymous.invalid"));
        assert_eq!(
            sent.header(Name::PAssertedIdentity),
            Some("<sip:+12025551001@pbx.example.com;user=phone>"),
            "RFC 3325 section 9.1"
        );
        assert_eq!(sent.header(Name::Privacy), Some("id"));
        assert!(sent.contact().is_some_and(|contact| contact.uri.starts_with("sip:anonymous@")));
    }
}

#[test]
fn what_a_carrier_writes_beside_a_callers_number_is_no_part_of_it() {
    for (from, shown) in [
        ("+14155550123;cpc=ordinary", "sip:+14155550123@"),
        ("+1-415-555-0123;isup-oli=62;verstat=TN-Validation-Passed", "sip:+14155550123@"),
        ("front.desk", "sip:front.desk@"),
    ] {
        let mut b = Bench::new();
        let (from, to) = (format!("<sip:{from}@203.0.113.5;user=phone>;tag=c"), format!("<{BOBS_LINE}>"));
        b.request(udp(TRUNK), ("INVITE", BOBS_LINE), (&from, &to), ("c", 1), ("", SDP));
        let sent = b.take_request("INVITE", BOB).1;
        assert!(sent.from().is_some_and(|from| from.uri.starts_with(shown)), "{:?}", sent.header(Name::From));
    }
}

#[test]
fn an_emergency_call_carries_identity_whatever_privacy_was_asked_for() {
    let mut b = Bench::new();
    let privacy = "Privacy: id;user;header;critical\n";
    invite(&mut b, udp(ALICE), "sip:911@pbx.example.com", "<sip:anonymous@anonymous.invalid>", privacy);
    let sent = b.take_request("INVITE", TRUNK).1;
    assert!(sent.from().is_some_and(|from| from.uri.starts_with("sip:+12025551001@")));
    assert!(sent.header(Name::PAssertedIdentity).is_some_and(|identity| identity.contains("+12025551001")));
    assert_eq!(sent.header(Name::Privacy), None);
    assert!(!text(&sent).contains("anonymous"));
}

#[test]
fn a_trunks_display_name_is_never_taken_for_an_address() {
    for display in [
        r#""Boss <sip:1001@pbx.example.com>""#,
        r#""Boss\" <sip:1001@pbx.example.com>;tag=x""#,
        r#""sip:1001@pbx.example.com, <sip:1001@pbx.example.com>""#,
        r#""\\\"" "#,
        "sip:1001@pbx.example.com",
    ] {
        let mut b = Bench::new();
        invite(&mut b, udp(TRUNK), BOBS_LINE, &format!("{display} <sip:+14155550123@203.0.113.5>"), "");
        let sent = b.take_request("INVITE", BOB).1;
        let from = sent.from().expect("From is an address");
        assert_eq!(from.uri, "sip:+14155550123@pbx.example.com", "{display}");
        assert!(from.tag().is_some_and(|tag| tag != "x"), "{display}");
        let asserted = sent.header(Name::PAssertedIdentity).and_then(NameAddr::parse).expect("one address");
        assert_eq!(asserted.uri, from.uri, "{display}");
        assert_eq!(sent.values(Name::PAssertedIdentity).count(), 1, "{display}");
    }
}

#[test]
fn a_trunks_caller_who_withholds_the_number_is_anonymous_although_from_has_it() {
    let mut b = Bench::new();
    invite(&mut b, udp(TRUNK), BOBS_LINE, TRUNK_FROM, "Privacy: id\n");
    let sent = text(&b.take_request("INVITE", BOB).1);
    assert!(sent.contains("sip:anonymous@anonymous.invalid") && !sent.contains("+1415"), "{sent}");
}
