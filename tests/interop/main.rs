//! Calls between SIP clients that we did not write, through the real server, judged by what each one heard.
//!
//! Goal: a phone out of the box makes an encrypted call. Method: baresip, linphonec and SIPp run headless on loopback
//! addresses of their own; each plays one tone, and its partner's recording must hold that tone, whole. A client that is
//! not installed fails its tests and names the command that installs it.
#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    reason = "tests of a real process read the clock, write files and speak on standard error"
)]

mod baresip;
#[path = "../common/mod.rs"]
#[allow(dead_code, reason = "the process tests use more of it")]
mod common;
mod emergency;
mod fax;
mod features;
mod kamailio;
mod linphone;
mod phone;
mod sipp;
mod sipvicious;
mod tone;

use std::{
    net::{IpAddr, UdpSocket},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use baresip::{Baresip, Setup};
use common::{
    process::{fresh_ip, wait_for},
    server::{ALICE, Account, BOB, Ringdown},
};
use linphone::Linphone;
use sipp::Sipp;
use tone::{A_HZ, B_HZ, Wanted, assert_heard};

const TALK: Duration = Duration::from_secs(4);
/// Media may begin this much after the answer.
const HEARD_S_MIN: f64 = 3.5;

const CAROL: Account =
    Account { user: "carol", extension: "2003", direct_line: "+12025550103", password: "carol-password-canary-5d2e" };

/// Fails unless a client is installed.
pub(crate) fn need(program: &str, package: &str) {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).stdout(Stdio::null()).status();
    assert!(
        found.is_ok_and(|s| s.success()),
        "{program} is not installed: apt-get install --no-install-recommends {package}"
    );
}

/// The table of a trunk at `ip` that takes and gives plain RTP, over UDP.
fn trunk(ip: IpAddr) -> String {
    trunk_over("udp", ip)
}

fn trunk_over(transport: &str, ip: IpAddr) -> String {
    format!(
        "[company]\nname = \"Example Corp\"\nregion = \"US\"\n[company.address]\ncountry = \"US\"\nA1 = \"DC\"\n\
         A3 = \"Washington\"\nRD = \"Example\"\nSTS = \"Avenue\"\nHNO = \"500\"\nPC = \"20001\"\n\
         [emergency]\ncallback_numbers = [\"+12025550100\"]\n\
         [trunk.carrier]\nhost = \"{ip}\"\nport = 5060\ntransport = \"{transport}\"\nnumbers = [\"+12025550100\"]\n\
         encryption = \"off\"\npstn = true\n"
    )
}

const COMPANY: &str = "[company]\nname = \"Example Corp\"\nregion = \"US\"\n";

/// Alice calls Bob, both talk, Alice hangs up; each must have heard the other.
fn talk(server: &Ringdown, alice: &mut Baresip, bob: &Baresip) {
    alice.dial(BOB.extension);
    alice.wait_established();
    bob.wait_established();
    thread::sleep(TALK);
    alice.hang_up();
    bob.wait_closed();
    server.wait_no_calls();
    assert_heard("alice", &alice.recording(), Wanted::whole(B_HZ, HEARD_S_MIN));
    assert_heard("bob", &bob.recording(), Wanted::whole(A_HZ, HEARD_S_MIN));
}

/// Values of `inline:` in a client's SIP trace, by direction: ours are all that the client did not make.
fn inline_keys(log: &str) -> std::collections::BTreeSet<&str> {
    log.split("inline:").skip(1).filter_map(|rest| rest.split(['|', '\r', '\n', ' ']).next()).collect()
}

#[test]
fn two_baresips_talk_encrypted_over_udp_and_no_key_passes_from_leg_to_leg() {
    let server = Ringdown::started("required", COMPANY, &[ALICE, BOB]);
    let bob = Baresip::start(&server, &Setup::new(BOB, B_HZ, true));
    let mut alice = Baresip::start(&server, &Setup::new(ALICE, A_HZ, false));
    talk(&server, &mut alice, &bob);
    let (log_a, log_b) = (alice.log(), bob.log());
    let (a, b) = (inline_keys(&log_a), inline_keys(&log_b));
    assert!(a.len() >= 2 && b.len() >= 2, "keys in the traces: {} and {}", a.len(), b.len());
    assert!(a.is_disjoint(&b), "a key of one leg stands on the other");
}

#[test]
fn two_baresips_talk_encrypted_over_tls() {
    let server = Ringdown::started("required", COMPANY, &[ALICE, BOB]);
    let ca = server.ca();
    let bob = Baresip::start(&server, &Setup::new(BOB, B_HZ, true).over("tls", Some(&ca)));
    let mut alice = Baresip::start(&server, &Setup::new(ALICE, A_HZ, false).over("tls", Some(&ca)));
    talk(&server, &mut alice, &bob);
}

#[test]
fn a_linphone_that_trusts_another_ca_does_not_register() {
    let server = Ringdown::started("required", COMPANY, &[ALICE]);
    let other = Ringdown::started("required", COMPANY, &[]);
    let setup = linphone::Setup { ca: Some(&other.ca()), ..linphone::Setup::new(ALICE, A_HZ, false) };
    let _phone = Linphone::launch(&server, &setup);
    thread::sleep(Duration::from_secs(4));
    let (_, registrations) = server.get("/v1/registrations").expect("the admin interface");
    assert!(!registrations.contains(ALICE.user), "it registered over a connection it could not trust: {registrations}");
}

#[test]
fn a_baresip_that_dials_911_without_a_trunk_is_refused_at_once_and_nobody_is_rung() {
    let server = Ringdown::started("required", COMPANY, &[ALICE, BOB]);
    let bob = Baresip::start(&server, &Setup::new(BOB, B_HZ, true));
    let mut alice = Baresip::start(&server, &Setup::new(ALICE, A_HZ, false));
    alice.dial("911");
    let reason = alice.wait_closed();
    assert!(reason.contains("403") && reason.contains("Emergency Calls Not Available"), "{reason}");
    let log = alice.log();
    assert!(log.contains("Q.850;cause=63"), "no Reason header");
    assert!(log.to_ascii_lowercase().contains("mobile"), "no explanation");
    assert!(!bob.was_called());
    let (_, metrics) = server.get("/metrics").expect("the admin interface");
    assert!(metrics.contains("emergency"), "{metrics}");
}

/// A SIPp that has registered as Alice, and one that then follows `scenario` towards Bob.
fn registered_sipp(server: &Ringdown, scenario: &'static str, transport: &'static str) -> Sipp {
    let mut setup = sipp::Setup {
        transport,
        keys: vec![
            ("domain", server.ip.to_string()),
            ("user", ALICE.user.to_owned()),
            ("callee", BOB.extension.to_owned()),
        ],
        account: Some(ALICE),
        remote: Some(server.sip()),
        ..sipp::Setup::new("register.xml", B_HZ)
    };
    Sipp::start(server, &setup).wait_done();
    // What was registered over TCP ends with its connection, and that SIPp is gone.
    wait_for("the registration to stand or to end", Duration::from_secs(10), || {
        let (_, registrations) = server.get("/v1/registrations")?;
        (registrations.contains(ALICE.user) == (transport == "udp")).then_some(())
    });
    setup.scenario = scenario;
    setup.echoes = scenario == "device_calls_and_echoes.xml";
    setup.auth_uri = Some(format!("{}@{}", BOB.extension, server.ip));
    Sipp::start(server, &setup)
}

#[test]
fn a_registered_sipp_without_encryption_calls_a_baresip_with_encryption() {
    let server = Ringdown::started("preferred", COMPANY, &[ALICE, BOB]);
    let bob = Baresip::start(&server, &Setup { encryption: "srtp", ..Setup::new(BOB, A_HZ, true) });
    registered_sipp(&server, "device_calls.xml", "udp").wait_done();
    bob.wait_closed();
    assert!(inline_keys(&bob.log()).len() >= 2, "the encrypted leg is not encrypted");
    assert_heard("bob", &bob.recording(), Wanted::whole(B_HZ, HEARD_S_MIN));
}

/// SIPp cannot record, so what it hears is judged by the phone that gets it back.
fn a_registered_sipp_sends_back_what_it_hears(transport: &'static str) {
    let server = Ringdown::started("preferred", COMPANY, &[ALICE, BOB]);
    let bob = Baresip::start(&server, &Setup { encryption: "srtp", ..Setup::new(BOB, A_HZ, true) });
    registered_sipp(&server, "device_calls_and_echoes.xml", transport).wait_done();
    bob.wait_closed();
    assert_heard("bob", &bob.recording(), Wanted::whole(A_HZ, HEARD_S_MIN));
}

#[test]
fn a_registered_sipp_without_encryption_hears_the_baresip_it_calls_and_sends_its_tone_back() {
    a_registered_sipp_sends_back_what_it_hears("udp");
}

#[test]
fn a_registered_sipp_does_so_over_tcp() {
    a_registered_sipp_sends_back_what_it_hears("tcp");
}

#[test]
fn a_required_encryption_refuses_the_sipp_that_has_none() {
    let server = Ringdown::started("required", COMPANY, &[ALICE, BOB]);
    let bob = Baresip::start(&server, &Setup::new(BOB, A_HZ, true));
    registered_sipp(&server, "device_is_refused.xml", "udp").wait_done();
    assert!(!bob.was_called());
}

#[test]
fn a_baresip_hears_a_plain_trunk_through_its_encrypted_leg() {
    let setup = sipp::Setup::new("trunk_answers_with_tone.xml", B_HZ);
    let server = Ringdown::started("required", &trunk(setup.ip), &[ALICE]);
    let sipp = Sipp::start(&server, &setup);
    let mut alice = Baresip::start(&server, &Setup::new(ALICE, A_HZ, false));
    alice.dial("+14155550123");
    alice.wait_established();
    thread::sleep(TALK);
    alice.hang_up();
    sipp.wait_done();
    assert_heard("alice", &alice.recording(), Wanted::whole(B_HZ, HEARD_S_MIN));
}

fn a_trunk_sends_back_what_it_hears(transport: &'static str) {
    let setup = sipp::Setup { transport, echoes: true, ..sipp::Setup::new("trunk_answers_with_echo.xml", B_HZ) };
    let server = Ringdown::started("required", &trunk_over(transport, setup.ip), &[ALICE]);
    let sipp = Sipp::start(&server, &setup);
    let mut alice = Baresip::start(&server, &Setup::new(ALICE, A_HZ, false));
    alice.dial("+14155550123");
    alice.wait_established();
    thread::sleep(TALK);
    alice.hang_up();
    sipp.wait_done();
    assert_heard("alice", &alice.recording(), Wanted::whole(A_HZ, HEARD_S_MIN));
}

#[test]
fn a_plain_trunk_hears_the_baresip_and_sends_its_tone_back() {
    a_trunk_sends_back_what_it_hears("udp");
}

#[test]
fn a_plain_trunk_does_so_over_tcp() {
    a_trunk_sends_back_what_it_hears("tcp");
}

/// Goal: a trunk that asks who we are gets an answer that only its password gives. Method: what the trunk received is
/// computed again with the system's own `md5sum` or `sha256sum`.
fn trunk_by_digest(algorithm: &'static str, sum: &str) {
    const PASSWORD: &str = "trunk-password-canary-55ab";
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("carrier.password");
    common::server::write_secret(&file, &format!("{PASSWORD}\n"));
    let setup = sipp::Setup {
        keys: vec![("algorithm", algorithm.to_owned())],
        ..sipp::Setup::new("trunk_challenges.xml", B_HZ)
    };
    let credentials = format!("user = \"example-corp\"\npassword_file = \"{}\"\n", file.display());
    let server = Ringdown::started("required", &(trunk(setup.ip) + &credentials), &[ALICE]);
    let sipp = Sipp::start(&server, &setup);
    let mut alice = Baresip::start(&server, &Setup::new(ALICE, A_HZ, false));
    alice.dial("+14155550123");
    alice.wait_established();
    alice.hang_up();
    let messages = sipp.wait_done();

    let answer = messages.lines().find_map(|l| l.strip_prefix("Proxy-Authorization: Digest ")).expect("credentials");
    let value = |name: &str| {
        let fields = answer.split(',').filter_map(|field| field.trim().split_once('='));
        fields.into_iter().find(|(n, _)| *n == name).map_or("", |(_, v)| v.trim_matches('"')).to_owned()
    };
    assert_eq!((value("username"), value("realm")), ("example-corp".to_owned(), "carrier.example".to_owned()));
    assert_eq!(value("algorithm"), algorithm);
    let hash = |text: String| {
        let output = Command::new("sh").args(["-c", "printf %s \"$1\" | \"$2\"", "sh", &text, sum]).output();
        let output = output.expect("a shell").stdout;
        String::from_utf8_lossy(&output).split(' ').next().expect("a sum").to_owned()
    };
    let who = hash(format!("example-corp:carrier.example:{PASSWORD}"));
    let what = hash(format!("INVITE:{}", value("uri")));
    let [nonce, nc, cnonce, qop] = ["nonce", "nc", "cnonce", "qop"].map(value);
    assert_eq!(value("response"), hash(format!("{who}:{nonce}:{nc}:{cnonce}:{qop}:{what}")), "{answer}");
    assert!(!messages.contains(PASSWORD));
}

#[test]
fn a_trunk_that_challenges_with_md5_gets_its_answer() {
    trunk_by_digest("MD5", "md5sum");
}

#[test]
fn a_trunk_that_challenges_with_sha_256_gets_its_answer() {
    trunk_by_digest("SHA-256", "sha256sum");
}

fn a_trunk_answers_reliably(transport: &'static str) {
    let setup = sipp::Setup { transport, ..sipp::Setup::new("trunk_answers_reliably.xml", B_HZ) };
    let server = Ringdown::started("required", &trunk_over(transport, setup.ip), &[ALICE]);
    let sipp = Sipp::start(&server, &setup);
    let mut alice = Baresip::start(&server, &Setup::new(ALICE, A_HZ, false));
    alice.dial("+14155550123");
    alice.wait_established();
    thread::sleep(TALK);
    alice.hang_up();
    let messages = sipp.wait_done();
    assert_eq!(sipp::requests(&messages, "PRACK"), 1, "each reliable response is acknowledged once");
    assert_heard("alice", &alice.recording(), Wanted::whole(B_HZ, HEARD_S_MIN));
}

#[test]
fn a_trunk_that_answers_in_a_reliable_183_is_acknowledged_and_heard() {
    a_trunk_answers_reliably("udp");
}

#[test]
fn a_trunk_that_answers_in_a_reliable_183_over_tcp_is_acknowledged_and_heard() {
    a_trunk_answers_reliably("tcp");
}

/// A trunk calls Alice's direct line as `scenario` says and plays its tone; she must hear it. Returns her log.
fn a_trunk_is_heard(scenario: &'static str, transport: &'static str) -> String {
    a_trunk_is_heard_after(None, scenario, transport)
}

/// The telephone answers when the trunk has sent this, or at once.
fn a_trunk_is_heard_after(sent: Option<&str>, scenario: &'static str, transport: &'static str) -> String {
    let mut setup = sipp::Setup { transport, ..sipp::Setup::new(scenario, B_HZ) };
    let server = Ringdown::started("required", &trunk_over(transport, setup.ip), &[ALICE]);
    let mut alice = Baresip::start(&server, &Setup::new(ALICE, A_HZ, sent.is_none()));
    setup.remote = Some(server.sip());
    setup.keys = vec![("domain", server.ip.to_string()), ("callee", ALICE.direct_line.to_owned())];
    let trunk = Sipp::start(&server, &setup);
    if let Some(sent) = sent {
        trunk.wait_message(sent, 1);
        alice.answer();
    }
    trunk.wait_done();
    alice.wait_closed();
    assert_heard("alice", &alice.recording(), Wanted::whole(B_HZ, HEARD_S_MIN));
    alice.log()
}

#[test]
fn a_trunk_calls_a_direct_line_and_is_heard() {
    a_trunk_is_heard("trunk_calls.xml", "udp");
}

#[test]
fn a_trunk_that_makes_no_offer_is_offered_what_the_baresip_speaks() {
    a_trunk_is_heard("trunk_calls_without_offer.xml", "udp");
}

/// SIPp takes no answer to the INVITE before it has acknowledged the ringing; RFC 3262 section 3 allows one.
const PRACK: Option<&str> = Some("CSeq: 2 PRACK");

#[test]
fn a_trunk_that_requires_reliable_ringing_gets_it() {
    a_trunk_is_heard_after(PRACK, "trunk_calls_reliably.xml", "udp");
}

#[test]
fn a_trunk_over_tcp_is_heard_too() {
    a_trunk_is_heard("trunk_calls.xml", "tcp");
}

#[test]
fn a_trunk_over_tcp_that_requires_reliable_ringing_gets_it() {
    a_trunk_is_heard_after(PRACK, "trunk_calls_reliably.xml", "tcp");
}

#[test]
fn a_trunk_that_calls_with_the_habits_of_carriers_is_heard() {
    for transport in ["udp", "tcp"] {
        a_trunk_is_heard("trunk_calls_with_habits.xml", transport);
    }
}

/// What the scenario wants to see of our requests, it checks itself.
fn a_trunk_has_habits(transport: &'static str) {
    let setup = sipp::Setup { transport, ..sipp::Setup::new("trunk_has_habits.xml", B_HZ) };
    let server = Ringdown::started("required", &trunk_over(transport, setup.ip), &[ALICE]);
    let sipp = Sipp::start(&server, &setup);
    let mut alice = Baresip::start(&server, &Setup::new(ALICE, A_HZ, false));
    alice.dial("+14155550123");
    alice.wait_established();
    sipp.wait_message("CSeq: 7 ACK", 1);
    thread::sleep(TALK);
    alice.hang_up();
    sipp.wait_done();
    assert_heard("alice", &alice.recording(), Wanted::whole(B_HZ, HEARD_S_MIN));
}

#[test]
fn a_trunk_with_the_habits_of_carriers_is_called_and_heard_over_udp() {
    a_trunk_has_habits("udp");
}

#[test]
fn a_trunk_with_the_habits_of_carriers_is_called_and_heard_over_tcp() {
    a_trunk_has_habits("tcp");
}

fn a_trunk_refreshes_its_session(transport: &'static str) {
    let log = a_trunk_is_heard("trunk_refreshes.xml", transport);
    assert_eq!((sipp::requests(&log, "INVITE"), sipp::requests(&log, "UPDATE")), (1, 0));
}

#[test]
fn a_trunk_refreshes_its_session_and_the_baresip_it_talks_to_hears_the_tone_and_nothing_of_that() {
    a_trunk_refreshes_its_session("udp");
}

#[test]
fn a_trunk_that_refreshes_its_session_over_tcp_changes_nothing_either() {
    a_trunk_refreshes_its_session("tcp");
}

#[test]
fn a_baresip_calls_a_linphone() {
    let server = Ringdown::started("required", COMPANY, &[ALICE, BOB]);
    let bob = Linphone::start(&server, &BOB, B_HZ, true);
    let mut alice = Baresip::start(&server, &Setup::new(ALICE, A_HZ, false));
    alice.dial(BOB.extension);
    alice.wait_established();
    bob.wait_established();
    thread::sleep(TALK);
    alice.hang_up();
    server.wait_no_calls();
    thread::sleep(Duration::from_millis(700));
    assert_heard("alice", &alice.recording(), Wanted::whole(B_HZ, HEARD_S_MIN));
    assert_heard("bob", &bob.recording(), Wanted::whole(A_HZ, HEARD_S_MIN));
}

#[test]
fn a_linphone_calls_a_baresip() {
    let server = Ringdown::started("required", COMPANY, &[ALICE, BOB]);
    let bob = Baresip::start(&server, &Setup::new(BOB, B_HZ, true));
    let mut alice = Linphone::start(&server, &ALICE, A_HZ, false);
    alice.dial(BOB.extension);
    bob.wait_established();
    alice.wait_established();
    thread::sleep(TALK);
    alice.hang_up();
    bob.wait_closed();
    server.wait_no_calls();
    thread::sleep(Duration::from_millis(700));
    assert_heard("alice", &alice.recording(), Wanted::whole(B_HZ, HEARD_S_MIN));
    assert_heard("bob", &bob.recording(), Wanted::whole(A_HZ, HEARD_S_MIN));
}

/// Bob's phone with its one subscription, and the address of the voice mail system. `None`: it subscribes without end, as
/// more than every second baresip 1.0 does from its start.
fn subscribed() -> Option<(Ringdown, Baresip, IpAddr)> {
    let ip = fresh_ip();
    let server = Ringdown::started("required", &trunk(ip), &[BOB]);
    let bob = Baresip::launch(&server, &Setup { subscribes: true, ..Setup::new(BOB, B_HZ, true) });
    thread::sleep(Duration::from_secs(2));
    let (_, metrics) = server.get("/metrics")?;
    metrics.contains("ringdown_subscriptions_live 1\n").then_some((server, bob, ip))
}

#[test]
fn a_baresip_shows_the_mailbox_that_the_voice_mail_system_reports() {
    let (server, mut bob, ip) = (0..25).find_map(|_| subscribed()).expect("one baresip of 25 subscribes once");
    let system = UdpSocket::bind((ip, 5060)).expect("a free address");
    system.set_read_timeout(Some(Duration::from_secs(5))).expect("a time above zero");
    let body = "Messages-Waiting: yes\r\nMessage-Account: sip:bob@mailbox.invalid\r\nVoice-Message: 2/8 (0/2)\r\n";
    let uri = format!("sip:{}@{}", BOB.direct_line, server.ip);
    let report = format!(
        "NOTIFY {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {ip}:5060;branch=z9hG4bKmailbox\r\nMax-Forwards: 70\r\n\
         From: <sip:mailbox@{ip}>;tag=m\r\nTo: <{uri}>\r\nCall-ID: mailbox\r\nCSeq: 1 NOTIFY\r\n\
         Contact: <sip:mailbox@{ip}>\r\nEvent: message-summary\r\nSubscription-State: active\r\n\
         Content-Type: application/simple-message-summary\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    system.send_to(report.as_bytes(), (server.ip, common::server::SIP_PORT)).expect("loopback takes it");
    let mut answer = [0; 2048];
    let len = system.recv(&mut answer).expect("an answer");
    assert!(answer[..len].starts_with(b"SIP/2.0 200"), "{}", String::from_utf8_lossy(&answer[..len]));
    bob.wait_log("Voice-Message: 2/8 (0/2)");
    assert!(!bob.log().contains("mailbox.invalid"), "the account of the other system stays there");
}
