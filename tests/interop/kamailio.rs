//! Kamailio 5.6 (Debian packages `kamailio` and `kamailio-tls-modules`) as what stands between the server and others: a
//! carrier's proxy, a telephone system that registers for many numbers, and a carrier's registrar.
//!
//! It runs as a plain process with a configuration of `tests/interop/kamailio`, on loopback addresses of its own. Both
//! configurations refuse a request within a dialog that does not come by the route they recorded.

use std::{
    collections::BTreeSet,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::{
    B_HZ, Baresip, HEARD_S_MIN, Setup, Sipp, TALK, Wanted, assert_heard,
    common::{
        process::{Process, fresh_ip, wait_for},
        server::{ALICE, Account, Ringdown, SIP_PORT, TLS_PORT, write_secret},
    },
    sipp, trunk,
};

const BRANCH: Account =
    Account { user: "branch", extension: "2100", direct_line: "+12025550300", password: "branch-password-canary-3d90" };
/// Numbers of the telephone system.
const NUMBERS: [&str; 2] = ["+12025550200", "+12025550201"];
const PATIENCE: Duration = Duration::from_secs(15);

/// What a Kamailio is before it runs: the server's configuration names its address and its CA.
struct Plan {
    ip: IpAddr,
    /// `udp`, `tcp` or `tls`: between it and the server.
    transport: &'static str,
    /// With the CA of its certificate. It ends with the test.
    dir: tempfile::TempDir,
}

impl Plan {
    fn new(transport: &'static str) -> Self {
        crate::need("kamailio", "kamailio kamailio-tls-modules");
        let (ip, dir) = (fresh_ip(), tempfile::tempdir().expect("a temporary folder"));
        write_certificate(dir.path(), ip);
        Self { ip, transport, dir }
    }

    fn port(&self) -> u16 {
        if self.transport == "tls" { TLS_PORT } else { SIP_PORT }
    }

    fn uri(&self, ip: IpAddr) -> String {
        format!("sip:{ip}:{};transport={}", self.port(), self.transport)
    }

    /// The table of the trunk that it is.
    fn trunk(&self) -> String {
        let over = format!("port = {}\ntransport = \"{}\"", self.port(), self.transport);
        let ca = match self.transport {
            "tls" => format!("ca = \"{}\"\n", self.dir.path().join("ca.pem").display()),
            _ => String::new(),
        };
        trunk(self.ip).replace("port = 5060\ntransport = \"udp\"", &over) + &ca
    }

    /// Runs it with this configuration, in which each word in `@` is replaced.
    fn start(self, server: &Ringdown, config: &str, words: &[(&str, &str)]) -> Kamailio {
        let dir = self.dir.path();
        let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/interop/kamailio").join(config);
        let mut text = fs::read_to_string(source).expect("a configuration");
        let (own, folder, at) = (self.ip.to_string(), dir.display().to_string(), server.ip.to_string());
        let uri = self.uri(server.ip);
        let usual = [("OWN", own.as_str()), ("DIR", &folder), ("SERVER", &at), ("SERVER_URI", &uri)];
        for (word, value) in usual.iter().chain(words) {
            text = text.replace(&format!("@{word}@"), value);
        }
        fs::write(dir.join("kamailio.cfg"), text).expect("a writable folder");
        // The server's certificate is checked, too.
        let tls = format!(
            "[server:default]\ncertificate = {folder}/own.pem\nprivate_key = {folder}/own.key\nmethod = TLSv1.2+\n\
             [client:default]\nca_list = {}\nverify_certificate = yes\nrequire_certificate = yes\nmethod = TLSv1.2+\n",
            server.ca().display()
        );
        fs::write(dir.join("tls.cfg"), tls).expect("a writable folder");
        let mut command = Command::new("kamailio");
        command.args(["-DD", "-E", "-m", "64", "-f"]).arg(dir.join("kamailio.cfg"));
        command.arg("-Y").arg(dir).arg("-P").arg(dir.join("pid"));
        let mut process = Process::start("kamailio", command, dir, Stdio::null());
        wait_for("kamailio to listen", PATIENCE, || {
            assert!(!process.has_ended(), "kamailio ended:\n{}", process.text());
            std::net::TcpStream::connect((self.ip, SIP_PORT)).ok()
        });
        Kamailio { process, plan: self }
    }
}

struct Kamailio {
    process: Process,
    plan: Plan,
}

impl Kamailio {
    /// Every in-dialog request came by the recorded route, from both sides; returns those, each with its sender.
    fn routed(&self) -> BTreeSet<String> {
        let log = self.process.text();
        assert!(!log.contains("NO ROUTE"), "{log}");
        let lines = log.lines().filter_map(|line| line.split_once("ROUTED "));
        lines.map(|(_, what)| what.to_owned()).collect()
    }

    /// How many requests of this method and of a dialog it passed on from this side, over the transport in use there. One that
    /// was sent again counts once.
    fn count(&self, method: &str, from: &str, transport: &str) -> usize {
        let wanted = format!("{method} from the {from} over {transport},");
        self.routed().iter().filter(|line| line.starts_with(&wanted)).count()
    }
}

/// `ca.pem`, and `own.pem` with `own.key` for this address.
fn write_certificate(dir: &Path, ip: IpAddr) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate");
    let key = KeyPair::generate().expect("a key");
    let own =
        CertificateParams::new([ip.to_string()]).expect("an address").signed_by(&key, &ca).expect("a certificate");
    for (name, text) in [("ca.pem", ca.pem()), ("own.pem", own.pem()), ("own.key", key.serialize_pem())] {
        fs::write(dir.join(name), text).expect("a writable folder");
    }
}

/// Alice calls out, holds, resumes and hangs up.
fn calls_out(alice: &mut Baresip) {
    alice.dial("+14155550123");
    alice.wait_established();
    thread::sleep(TALK);
    alice.hold();
    thread::sleep(Duration::from_secs(2));
    alice.resume();
    thread::sleep(Duration::from_secs(2));
    alice.hang_up();
}

/// Alice calls out through a carrier's proxy; the gateway behind it hears of all she does.
fn calls_out_through_a_proxy(transport: &'static str) {
    let (plan, gateway) = (Plan::new(transport), sipp::Setup::new("trunk_is_held.xml", B_HZ));
    let server = Ringdown::started("required", &plan.trunk(), &[ALICE]);
    let kamailio = plan.start(&server, "proxy.cfg", &[("GATEWAY", &gateway.ip.to_string())]);
    let sipp = Sipp::start(&server, &gateway);
    let mut alice = Baresip::start(&server, &Setup::new(ALICE, crate::A_HZ, false));
    calls_out(&mut alice);
    sipp.wait_done();
    server.wait_no_calls();
    for (method, times) in [("INVITE", 2), ("ACK", 3), ("BYE", 1)] {
        assert_eq!(kamailio.count(method, "server", transport), times, "{method}: {:?}", kamailio.routed());
    }
    let first = alice.recordings();
    assert_heard("alice", first.first().expect("a recording"), Wanted::whole(B_HZ, HEARD_S_MIN));
}

/// Alice calls for help through a carrier's proxy; what the gateway behind it gets is whole, and both hear each other.
fn calls_for_help_through_a_proxy(transport: &'static str) {
    let gateway = sipp::Setup { echoes: true, ..sipp::Setup::new("trunk_answers_with_echo.xml", B_HZ) };
    let plan = Plan::new(transport);
    let server = Ringdown::started("required", &plan.trunk(), &[ALICE]);
    let kamailio = plan.start(&server, "proxy.cfg", &[("GATEWAY", &gateway.ip.to_string())]);
    let sipp = Sipp::start(&server, &gateway);
    let mut alice = Baresip::start(&server, &Setup::new(ALICE, crate::A_HZ, false));
    alice.dial("911");
    alice.wait_established();
    thread::sleep(TALK);
    alice.hang_up();
    crate::emergency::assert_has_location(&sipp.wait_done());
    server.wait_no_calls();
    assert_eq!(kamailio.count("BYE", "server", transport), 1, "{:?}", kamailio.routed());
    assert_heard("alice", &alice.recording(), Wanted::whole(crate::A_HZ, HEARD_S_MIN));
}

#[test]
fn a_call_for_help_passes_a_kamailio_at_the_carriers_edge_over_udp() {
    calls_for_help_through_a_proxy("udp");
}

#[test]
fn a_call_for_help_passes_a_kamailio_at_the_carriers_edge_over_tls() {
    calls_for_help_through_a_proxy("tls");
}

#[test]
fn a_call_out_through_a_kamailio_follows_its_route_over_udp() {
    calls_out_through_a_proxy("udp");
}

#[test]
fn a_call_out_through_a_kamailio_follows_its_route_over_tcp() {
    calls_out_through_a_proxy("tcp");
}

#[test]
fn a_call_out_through_a_kamailio_follows_its_route_over_tls() {
    calls_out_through_a_proxy("tls");
}

/// A carrier's gateway calls Alice's direct line through its proxy, holds and resumes; then it or Alice hangs up.
fn is_called_through_a_proxy(transport: &'static str, scenario: &'static str) {
    let (plan, mut gateway) = (Plan::new(transport), sipp::Setup::new(scenario, B_HZ));
    let server = Ringdown::started("required", &plan.trunk(), &[ALICE]);
    gateway.remote = Some((plan.ip, SIP_PORT).into());
    gateway.keys = vec![("domain", server.ip.to_string()), ("callee", ALICE.direct_line.to_owned())];
    let kamailio = plan.start(&server, "proxy.cfg", &[("GATEWAY", &gateway.ip.to_string())]);
    let mut alice = Baresip::start(&server, &Setup::new(ALICE, crate::A_HZ, true));
    let sipp = Sipp::start(&server, &gateway);
    let is_hung_up_by_alice = scenario == "trunk_is_hung_up.xml";
    if is_hung_up_by_alice {
        alice.wait_established();
        thread::sleep(TALK);
        alice.hang_up();
    }
    sipp.wait_done();
    alice.wait_closed();
    server.wait_no_calls();
    if is_hung_up_by_alice {
        assert_eq!(kamailio.count("BYE", "server", transport), 1, "{:?}", kamailio.routed());
    } else {
        for (method, times) in [("INVITE", 2), ("ACK", 3), ("BYE", 1)] {
            assert_eq!(kamailio.count(method, "gateway", "udp"), times, "{method}: {:?}", kamailio.routed());
        }
    }
    let first = alice.recordings();
    assert_heard("alice", first.first().expect("a recording"), Wanted::whole(B_HZ, HEARD_S_MIN));
}

#[test]
fn a_call_in_through_a_kamailio_is_held_and_resumed_over_udp() {
    is_called_through_a_proxy("udp", "trunk_calls_and_holds.xml");
}

#[test]
fn a_call_in_through_a_kamailio_is_held_and_resumed_over_tcp() {
    is_called_through_a_proxy("tcp", "trunk_calls_and_holds.xml");
}

#[test]
fn a_call_in_through_a_kamailio_is_held_and_resumed_over_tls() {
    is_called_through_a_proxy("tls", "trunk_calls_and_holds.xml");
}

#[test]
fn the_end_of_a_call_in_goes_back_over_the_route_it_came() {
    for transport in ["udp", "tls"] {
        is_called_through_a_proxy(transport, "trunk_is_hung_up.xml");
    }
}

/// A Kamailio that has registered at the server for [`NUMBERS`], and where its one phone and the carrier are.
fn registered_pbx(transport: &'static str, phone: IpAddr, carrier: IpAddr) -> (Ringdown, Kamailio) {
    let plan = Plan::new(transport);
    let pbx = format!("[pbx.branch]\nuser = \"{}\"\nnumbers = {NUMBERS:?}\n", BRANCH.user);
    let server = Ringdown::started("preferred", &(trunk(carrier) + &pbx), &[BRANCH]);
    let (phone, contact) = (phone.to_string(), plan.uri(plan.ip));
    let words =
        [("PHONE", phone.as_str()), ("CONTACT", &contact), ("USER", BRANCH.user), ("PASSWORD", BRANCH.password)];
    let mut kamailio = plan.start(&server, "pbx.cfg", &words);
    kamailio.process.wait_log("REGISTERED 200", PATIENCE);
    (server, kamailio)
}

/// The carrier calls the second number of a telephone system, which learns which number that was.
fn a_pbx_is_called(transport: &'static str) {
    let phone = sipp::Setup::new("trunk_answers_with_tone.xml", B_HZ);
    let mut carrier = sipp::Setup::new("trunk_calls.xml", B_HZ);
    let (server, kamailio) = registered_pbx(transport, phone.ip, carrier.ip);
    carrier.remote = Some(server.sip());
    carrier.keys = vec![("domain", server.ip.to_string()), ("callee", NUMBERS[1].to_owned())];
    let phone = Sipp::start(&server, &phone);
    Sipp::start(&server, &carrier).wait_done();
    let messages = phone.wait_done();
    server.wait_no_calls();
    let invite = format!("INVITE sip:{}@{}:{}", NUMBERS[1], kamailio.plan.ip, kamailio.plan.port());
    assert!(messages.contains(&invite), "{messages}");
    for method in ["ACK", "BYE"] {
        assert_eq!(kamailio.count(method, "server", transport), 1, "{method}: {:?}", kamailio.routed());
    }
}

#[test]
fn a_kamailio_that_registered_for_many_numbers_is_called_over_udp() {
    a_pbx_is_called("udp");
}

#[test]
fn a_kamailio_that_registered_for_many_numbers_is_called_over_tcp() {
    a_pbx_is_called("tcp");
}

#[test]
fn a_kamailio_that_registered_for_many_numbers_is_called_over_tls() {
    a_pbx_is_called("tls");
}

/// A phone of the telephone system calls out under one of its numbers; the carrier is shown that number.
fn a_pbx_calls(transport: &'static str, agent: &str) {
    let carrier = sipp::Setup::new("trunk_answers_with_tone.xml", B_HZ);
    let mut phone = sipp::Setup::new("pbx_phone_calls.xml", B_HZ);
    let (server, kamailio) = registered_pbx(transport, phone.ip, carrier.ip);
    phone.remote = Some((kamailio.plan.ip, SIP_PORT).into());
    phone.keys = vec![
        ("domain", server.ip.to_string()),
        ("callee", "+14155550123".to_owned()),
        ("number", NUMBERS[1].to_owned()),
        ("agent", agent.to_owned()),
    ];
    let carrier = Sipp::start(&server, &carrier);
    Sipp::start(&server, &phone).wait_done();
    let messages = carrier.wait_done();
    server.wait_no_calls();
    let asserted = messages.lines().find(|line| line.starts_with("P-Asserted-Identity:")).expect("an identity");
    assert!(asserted.contains(&format!("sip:{}@", NUMBERS[1])), "{asserted}");
    assert_eq!(kamailio.count("BYE", "phone", "udp"), 1, "{:?}", kamailio.routed());
}

#[test]
fn a_phone_behind_a_kamailio_calls_out_over_udp_with_the_password_of_its_registration() {
    a_pbx_calls("udp", "A phone of its own");
}

#[test]
fn a_phone_behind_a_kamailio_calls_out_over_the_connection_that_registered() {
    for transport in ["tcp", "tls"] {
        a_pbx_calls(transport, "A phone of its own");
    }
}

/// The account that the server has at the carrier's registrar.
const ACCOUNT: (&str, &str) = ("example-corp", "account-password-canary-81c2");

/// A Kamailio at which the server has registered, in spite of a challenge and of a time that it finds too brief.
fn registrar(transport: &'static str, gateway: IpAddr) -> (Ringdown, Kamailio) {
    let plan = Plan::new(transport);
    let password = plan.dir.path().join("account.password");
    write_secret(&password, ACCOUNT.1);
    let account = format!(
        "user = \"{}\"\npassword_file = \"{}\"\nregister = \"on\"\nregister_expires_s = 60\noptions_s = 2\n",
        ACCOUNT.0,
        password.display()
    );
    let mut server = Ringdown::configured("required", &(plan.trunk() + &account));
    server.add_user(&ALICE);
    let gateway = gateway.to_string();
    let words = [("GATEWAY", gateway.as_str()), ("USER", ACCOUNT.0), ("PASSWORD", ACCOUNT.1)];
    // The server's CA is there once it has run.
    server.start();
    let kamailio = plan.start(&server, "registrar.cfg", &words);
    wait_for("the trunk to be up", Duration::from_secs(60), || {
        let output = server.command(&["trunk", "status", "carrier"], "");
        output.status.success().then_some(())
    });
    (server, kamailio)
}

fn is_called_at_its_account(transport: &'static str) {
    let mut gateway = sipp::Setup::new("trunk_calls.xml", B_HZ);
    let (server, kamailio) = registrar(transport, gateway.ip);
    gateway.remote = Some((kamailio.plan.ip, SIP_PORT).into());
    gateway.keys = vec![("domain", server.ip.to_string()), ("callee", ALICE.direct_line.to_owned())];
    let alice = Baresip::start(&server, &Setup::new(ALICE, crate::A_HZ, true));
    Sipp::start(&server, &gateway).wait_done();
    alice.wait_closed();
    assert_heard("alice", &alice.recording(), Wanted::whole(B_HZ, HEARD_S_MIN));
    assert!(kamailio.process.text().contains("CALLED example-corp"), "{}", kamailio.process.text());
}

#[test]
fn a_call_for_the_account_at_a_kamailio_reaches_the_number_it_is_for_over_udp() {
    is_called_at_its_account("udp");
}

#[test]
fn a_call_for_the_account_at_a_kamailio_reaches_the_number_it_is_for_over_tls() {
    is_called_at_its_account("tls");
}

/// Alice calls out through a carrier that the server is registered at and that lets nobody pass by another way.
fn calls_by_the_service_route(transport: &'static str) {
    let gateway = sipp::Setup::new("trunk_is_held.xml", B_HZ);
    let (server, kamailio) = registrar(transport, gateway.ip);
    let sipp = Sipp::start(&server, &gateway);
    let mut alice = Baresip::start(&server, &Setup::new(ALICE, crate::A_HZ, false));
    calls_out(&mut alice);
    sipp.wait_done();
    server.wait_no_calls();
    let log = kamailio.process.text();
    assert!(log.contains("BY SERVICE ROUTE +14155550123"), "{log}");
}

#[test]
fn a_call_out_goes_by_the_service_route_that_a_kamailio_told_over_udp() {
    calls_by_the_service_route("udp");
}

#[test]
fn a_call_out_goes_by_the_service_route_that_a_kamailio_told_over_tls() {
    calls_by_the_service_route("tls");
}

fn stays_registered(transport: &'static str) {
    let (mut server, mut kamailio) = registrar(transport, fresh_ip());
    // It keeps registrations for six seconds and nonces for two.
    wait_for("three refreshes", Duration::from_secs(30), || {
        (kamailio.process.text().matches("SAVED").count() >= 4).then_some(())
    });
    let log = kamailio.process.text();
    assert!(log.contains("TOO BRIEF 60") && log.contains("CHALLENGED"), "{log}");
    assert!(log.contains("PING"), "{log}");
    let (_, trunks) = server.get("/v1/trunks").expect("the admin interface");
    assert!(trunks.contains("\"state\":\"registered\""), "{trunks}");
    server.process().signal(rustix::process::Signal::TERM);
    assert!(server.process().wait_exit(Duration::from_secs(15)).success());
    kamailio.process.wait_log("REMOVED", PATIENCE);
    let text = server.process_text() + &kamailio.process.text();
    assert!(!text.contains(ACCOUNT.1), "the password is in a log");
}

#[test]
fn a_registration_at_a_kamailio_is_refreshed_with_stale_nonces_and_taken_back_at_the_end_over_udp() {
    stays_registered("udp");
}

#[test]
fn a_registration_at_a_kamailio_is_refreshed_with_stale_nonces_and_taken_back_at_the_end_over_tcp() {
    stays_registered("tcp");
}

#[test]
fn a_registration_at_a_kamailio_is_refreshed_with_stale_nonces_and_taken_back_at_the_end_over_tls() {
    stays_registered("tls");
}
