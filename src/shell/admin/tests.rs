//! The interface over its own sockets, with a core played by hand.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::{
    call::{RegistrationView, TrunkView, WebUser},
    shell::{
        media_io::{Backend, MediaPlane},
        store::{Role, Store},
        transport::Listeners,
    },
};

/// An admin API on loopback; the receiver stands for the core's mailbox.
async fn started(folder: &std::path::Path) -> (std::net::SocketAddr, mpsc::Receiver<ToCore>) {
    let text = format!("[server]\nstate_dir = \"{}\"\n[company]\nname = \"x\"\nregion = \"US\"\n", folder.display());
    let (config, _) = config::parse(&text).unwrap();
    let clock = Clock::start();
    let (to_core, mail) = mpsc::channel(4);
    let tls = Arc::new(Tls::load(clock.now(), &config).unwrap());
    let none = config::Sip { udp: Vec::new(), tcp: Vec::new(), tls: Vec::new(), dscp: 0 };
    let admin = Admin {
        transports: Listeners::bind(&none, tls, clock, to_core.clone()).unwrap().transports(),
        to_core,
        store: crate::shell::store::thread::spawn(Store::open(folder, None).unwrap(), |_| true).unwrap().0,
        media: MediaPlane::start(clock, &(20_000..=20_003), 1, Backend::default()).unwrap().counters(),
        udp_errors: UdpErrors::open(),
        is_ready: Arc::new(AtomicBool::new(true)),
        emergency: EmergencyView::new(&config),
        missing: [].into(),
        notifier: Notifier::new(crate::shell::tls::web_client(false), crate::shell::resolve::Names::new(&[])),
        clock,
        started: clock.now(),
        operator: make_operator(folder, clock.now(), &mut crate::shell::entropy::rng()).unwrap(),
        refusals: Arc::default(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(serve(listener, admin));
    tasks.detach_all();
    (address, mail)
}

/// As this machine's operator asks.
async fn fetch(folder: &std::path::Path, address: std::net::SocketAddr, path: &str) -> String {
    exchange(address, &format!("GET {path}"), &operator(folder), "\r\n").await
}

fn operator(folder: &std::path::Path) -> String {
    let shown = std::fs::read_to_string(gate::operator_file(folder)).unwrap();
    format!("Authorization: Bearer {shown}\r\n")
}

async fn exchange(address: std::net::SocketAddr, request: &str, headers: &str, rest: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let text = format!("{request} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}{rest}");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    reply
}

#[tokio::test]
async fn a_core_that_does_not_answer_is_a_503_within_moments() {
    let folder = tempfile::tempdir().unwrap();
    let (address, _silent) = started(folder.path()).await;
    let begun = tokio::time::Instant::now();
    for path in ["/health", "/metrics", "/v1/calls", "/v1/registrations", "/v1/trunks"] {
        let reply = fetch(folder.path(), address, path).await;
        assert!(reply.starts_with("HTTP/1.1 503"), "{path}: {reply}");
    }
    assert!(begun.elapsed() < Duration::from_secs(10));
    for path in ["/ready", "/v1/cdrs", "/v1/emergency"] {
        let reply = fetch(folder.path(), address, path).await;
        assert!(reply.starts_with("HTTP/1.1 200"), "{path}: {reply}");
    }
    assert!(
        fetch(folder.path(), address, "/v1/emergency").await.contains("\"available\":false,\"reason\":\"no-trunk\"")
    );
}

#[test]
fn the_state_of_emergency_calling_is_told_in_one_line() {
    let company = "[company]\nname = \"Example Corp\"\nregion = \"GB\"\n";
    let view = |more: &str| {
        let text = format!("{company}{more}");
        EmergencyView::new(&config::parse(&text).unwrap_or_else(|p| panic!("{p:#?}")).0)
    };
    let refused = view("");
    assert!(refused.sentence().starts_with("EMERGENCY CALLS ARE REFUSED: no PSTN trunk is configured"));
    assert_eq!(refused.notice, "This service cannot call emergency numbers. Use a mobile or another telephone.");
    let trunk = |name: &str| {
        format!(
            "[trunk.{name}]\nhost = \"{name}.example\"\nnumbers = [\"+442079460100\"]\nlocation = \"elin\"\n\
             elins = [\"+442079460100\"]\n"
        )
    };
    let address =
        "address = { country = \"GB\", A3 = \"London\", RD = \"Sample Street\", HNO = \"7\", PC = \"ZZ99 9ZZ\" }\n";
    let emergency = "[emergency]\ncallback_numbers = [\"+442079460100\"]\ntrunks = [\"b\", \"a\"]\n\
                     notify = [\"https://desk.example.com/secret-hook\"]\n";
    let view = view(&format!("{address}{emergency}{}{}", trunk("a"), trunk("b")));
    assert_eq!(
        view.sentence(),
        "Emergency calls are available. Region GB: 112, 999, 911. Location: Example Corp, 7 Sample Street, London, \
         ZZ99 9ZZ, GB. Callback: +442079460100. Trunks: b, a."
    );
    assert!(view.notice.starts_with("Emergency calls report Example Corp, 7 Sample Street, London,"));
    let known = || vec!["+442079460100".to_owned()];
    assert_eq!(view.by_number, BTreeMap::from([("a".to_owned(), known()), ("b".to_owned(), known())]));
    assert_eq!(view.notify, ["https://desk.example.com:443"]);
}

#[tokio::test]
async fn what_a_users_emergency_calls_carry_is_shown_without_its_address() {
    let folder = tempfile::tempdir().unwrap();
    let (address, mut mail) = started(folder.path()).await;
    let own = Some(crate::types::Private::new("7 Home-Canary".to_owned()));
    let line = LineView { private_address: own, callback: Some("+12025550177".to_owned()) };
    let state =
        crate::call::EmergencyState { trunk_states: vec!["up", "draining"], of_user: Some(line), last_test: None };
    for (answer, wanted) in [
        (
            Some(state),
            "\"trunk_states\":[\"up\",\"draining\"],\"erl\":\"private\",\"callback\":\"+12025550177\",\"last_test_call\":null}",
        ),
        (None, "HTTP/1.1 404"),
    ] {
        let core = async {
            let Some(ToCore::Query(Query::Emergency { user, reply })) = mail.recv().await else { panic!("a question") };
            assert_eq!(user.as_deref(), Some("alice"));
            reply.send(answer).unwrap();
        };
        let (reply, ()) = tokio::join!(fetch(folder.path(), address, "/v1/emergency?user=alice"), core);
        assert!(reply.contains(wanted) && !reply.contains("Canary"), "{reply}");
    }
}

/// Goal: a user sees what its own calls carry, its private address, too, and acknowledges the notice itself; the rest of the
/// interface stays closed. Who it is, the core says.
#[tokio::test]
async fn a_user_of_the_directory_sees_its_own_state_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let password = crate::types::Secret::new("a-long-password".to_owned());
    let alice = crate::shell::store::Account::new("alice", "2001", None, password).unwrap();
    Store::open(folder.path(), None).unwrap().add_users("127.0.0.1", &[alice]).unwrap();
    let (address, mut mail) = started(folder.path()).await;
    let core = async {
        while let Some(letter) = mail.recv().await {
            match letter {
                ToCore::Query(Query::WebUser { request, reply }) => {
                    let who = match request.shown.expose().first().map(String::as_str) {
                        Some("Digest of alice") => WebUser::Known("alice".to_owned()),
                        Some("Digest of a guesser") => WebUser::Barred,
                        _ => WebUser::Unknown(vec!["Digest realm=\"x\"".to_owned()]),
                    };
                    assert!(request.source.is_loopback() && request.target.starts_with("/v1/emergency"));
                    reply.send(who).unwrap();
                }
                ToCore::Query(Query::Emergency { user, reply }) => {
                    assert_eq!(user.as_deref(), Some("alice"));
                    let own = Some(crate::types::Private::new("7 Home-Canary".to_owned()));
                    let of_user = Some(LineView { private_address: own, callback: None });
                    let state = crate::call::EmergencyState { trunk_states: Vec::new(), of_user, last_test: None };
                    reply.send(Some(state)).unwrap();
                }
                other => panic!("{other:?}"),
            }
        }
    };
    let asked = async {
        let alice = "Authorization: Digest of alice\r\n";
        for (request, headers, status, text) in [
            ("GET /v1/emergency", "", 401, "www-authenticate: Digest realm=\"x\"\r\nwww-authenticate: Bearer"),
            ("GET /v1/emergency", "Authorization: Digest of eve\r\n", 401, "(HTTP Digest)"),
            ("GET /v1/emergency", "Authorization: Digest of a guesser\r\n", 429, "retry-after: 300"),
            ("GET /v1/emergency", alice, 200, "\"erl\":\"private\",\"address\":\"7 Home-Canary\""),
            ("GET /v1/emergency?user=alice", alice, 200, "\"reason\":\"no-trunk\""),
            ("GET /v1/emergency?user=bob", alice, 403, ""),
            ("GET /v1/trunks", alice, 401, "www-authenticate: Bearer"),
            ("GET /v1/cdrs", alice, 401, ""),
        ] {
            let reply = exchange(address, request, headers, "\r\n").await;
            assert!(reply.starts_with(&format!("HTTP/1.1 {status}")) && reply.contains(text), "{request}: {reply}");
            for hidden in ["trunk_states", "notify", "acknowledged\""] {
                assert!(!reply.contains(hidden), "{hidden}: {reply}");
            }
        }
        let reply = exchange(address, "GET /v1/emergency", alice, "\r\n").await;
        let version = reply.split("\"notice_version\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        for (path, user, status) in [
            (ACKNOWLEDGE_PATH, "bob", 403),
            (ACKNOWLEDGE_PATH, "alice", 204),
            (TEST_CALL_PATH, "alice", 401),
            (RESYNC_PATH, "alice", 401),
        ] {
            let body = format!("{{\"user\":\"{user}\",\"notice\":\"{version}\"}}");
            let rest = format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            let reply = exchange(address, &format!("POST {path}"), alice, &rest).await;
            assert!(reply.starts_with(&format!("HTTP/1.1 {status}")), "{path} {user}: {reply}");
        }
        let reply = exchange(address, "GET /v1/emergency", alice, "\r\n").await;
        assert!(reply.contains("\"is_current\":true") && reply.contains("\"recorded_by\":\"user alice\""), "{reply}");
        // What would be written is, by then.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let audited = Store::open(folder.path(), None).unwrap().audit(0, 10).unwrap();
        assert!(audited.is_empty(), "a user can push no order out: {audited:?}");
    };
    tokio::select! {
        () = asked => {}
        () = core => panic!("the core's mailbox has ended"),
    }
}

async fn order(address: std::net::SocketAddr, headers: &str, body: &str) -> String {
    let rest = format!("Content-Length: {}\r\n\r\n{body}", body.len());
    exchange(address, &format!("POST {RESYNC_PATH}"), headers, &rest).await
}

#[tokio::test]
async fn an_order_to_telephones_reaches_the_core_and_its_report_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let (address, mut mail) = started(folder.path()).await;
    for (result, status) in
        [(Ok(Vec::new()), "200"), (Err(SyncRefusal::NoSuchUser), "404"), (Err(SyncRefusal::TooMany), "503")]
    {
        let core = async {
            let Some(ToCore::Query(Query::Resync { user, is_reboot, reply })) = mail.recv().await else {
                panic!("an order")
            };
            assert_eq!((user.as_str(), is_reboot), ("alice", true));
            reply.send(result).unwrap();
        };
        let body = r#"{"user":"alice","reboot":true}"#;
        let headers = format!("{}Content-Type: application/json\r\n", operator(folder.path()));
        let (answer, ()) = tokio::join!(order(address, &headers, body), core);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    }
}

/// Goal: what is done is known, too, if nobody waits for the answer.
#[tokio::test]
async fn an_order_is_recorded_whose_client_hangs_up_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let (address, mut mail) = started(folder.path()).await;
    let body = r#"{"user":"alice","reboot":true}"#;
    let headers = format!("{}Content-Type: application/json\r\n", operator(folder.path()));
    let reply = tokio::select! {
        answer = order(address, &headers, body) => panic!("{answer}"),
        Some(ToCore::Query(Query::Resync { reply, .. })) = mail.recv() => reply,
    };
    // The client's end is closed; that the server has noticed shows in nothing.
    tokio::time::sleep(Duration::from_millis(200)).await;
    reply.send(Ok(Vec::new())).expect("the order goes on");
    let store = Store::open(folder.path(), None).unwrap();
    let recorded = || store.audit(0, 10).unwrap().into_iter().map(|entry| (entry.action, entry.outcome));
    for _ in 0..100 {
        if recorded().eq([(format!("POST {RESYNC_PATH}"), "200".to_owned())]) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{:?}", recorded().collect::<Vec<_>>());
}

#[tokio::test]
async fn no_web_page_gives_telephones_an_order() {
    let folder = tempfile::tempdir().unwrap();
    let (address, mut mail) = started(folder.path()).await;
    let body = r#"{"user":"alice","reboot":true}"#;
    let operator = operator(folder.path());
    // What a browser sends to another origin without asking first (Fetch standard, CORS-safelisted request headers).
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
        let reply = order(address, &format!("{operator}Content-Type: {kind}\r\n"), body).await;
        assert!(reply.starts_with("HTTP/1.1 415"), "{reply}");
        // Nor does a browser know the token.
        assert!(order(address, &format!("Content-Type: {kind}\r\n"), body).await.starts_with("HTTP/1.1 401"));
    }
    assert!(order(address, &operator, body).await.starts_with("HTTP/1.1 415"));
    let json = format!("{operator}Content-Type: application/json\r\n");
    assert!(order(address, &json, "{}").await.starts_with("HTTP/1.1 422"));
    assert!(fetch(folder.path(), address, RESYNC_PATH).await.starts_with("HTTP/1.1 405"));
    assert!(mail.try_recv().is_err(), "the core was asked");
}

#[tokio::test]
async fn a_live_call_is_shown_with_its_legs_and_one_that_is_over_is_not_found() {
    let folder = tempfile::tempdir().unwrap();
    let (address, mut mail) = started(folder.path()).await;
    let record = crate::call::cdr::LegRecord { mos: Some(4.1), ..Default::default() };
    let silence = crate::call::SilenceView { since_ms: 7, cause: "no_packets", rtcp: true };
    let leg = crate::call::LegDetail { record, silence: Some(silence) };
    let call = crate::call::CallView {
        id: "18f-a".to_owned(),
        caller: "1001".to_owned(),
        callee: "1002".to_owned(),
        state: "answered",
        start_ms: 1,
        answer_ms: Some(2),
        emergency: false,
        trunk: None,
        answered_by: None,
        transferred_by: None,
        a_suite: None,
        b_suite: None,
    };
    let detail = crate::call::CallDetail { call, a: leg, b: None };
    for (result, status) in [
        (Ok(Box::new(detail)), "200"),
        (Err(InspectionRefusal::NoSuchCall), "404"),
        (Err(InspectionRefusal::TooMany), "503"),
    ] {
        let core = async {
            let Some(ToCore::Query(Query::Call { id, reply })) = mail.recv().await else { panic!("a look") };
            assert_eq!(id, "18f-a");
            reply.send(result).unwrap();
        };
        let (answer, ()) = tokio::join!(fetch(folder.path(), address, "/v1/calls/18f-a"), core);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        for part in ["\"state\":\"answered\"", "\"mos\":4.1", "\"cause\":\"no_packets\"", "\"b\":null"] {
            assert_eq!(answer.contains(part), status == "200", "{part} in {answer}");
        }
    }
}

#[tokio::test]
async fn metrics_name_every_total_and_every_drop_reason() {
    let folder = tempfile::tempdir().unwrap();
    let (address, mut mail) = started(folder.path()).await;
    let core = async {
        let Some(ToCore::Query(Query::Stats(reply))) = mail.recv().await else { panic!("a question for totals") };
        let mut counters = crate::call::Counters { calls: 7, emergency_refused: 2, ..Default::default() };
        counters.drops.count(crate::types::DropReason::SipMalformed);
        counters.quality.received.mos.observe(4.2);
        counters.quality.round_trip_s.observe(0.04);
        counters.emergency_attempts.insert(("a".to_owned(), 486), 2);
        counters.emergency_setup.0.observe(1.5);
        counters.emergency_setup.0.observe(40.0);
        counters.emergency_notify_failures = 3;
        counters.calls_rejected = [0, 1, 2, 3];
        let registration = Some(RegistrationView { state: "registered", at_ms: Some(1), status: None });
        let trunk = TrunkView { name: "carrier".to_owned(), state: "up", registration, servers: Vec::new(), calls: 2 };
        let stats = Stats {
            counters,
            calls: 3,
            open_calls: 3,
            bindings: 2,
            subscriptions: 1,
            trunks: vec![trunk],
            barred: 1,
            open_registrations: 0,
            emergency_calls: 1,
            urgent_calls: 1,
            loads: WorkerLoads { busy_permille: vec![0, 312], max_permille: 800, is_refusing: true },
        };
        reply.send(stats).unwrap();
    };
    let (reply, ()) = tokio::join!(fetch(folder.path(), address, "/metrics"), core);
    for line in [
        "ringdown_calls_total 7",
        "ringdown_calls_live 3",
        "ringdown_bindings_live 2",
        "ringdown_trunk_state{trunk=\"carrier\",state=\"up\"} 1",
        "ringdown_trunk_state{trunk=\"carrier\",state=\"down\"} 0",
        "ringdown_trunk_registered{trunk=\"carrier\"} 1",
        "ringdown_trunk_calls_live{trunk=\"carrier\"} 2",
        "ringdown_users_barred 1",
        "ringdown_calls_denied_total{limit=\"costly_calls_per_day\"} 0",
        "ringdown_calls_verified_total{verstat=\"TN-Validation-Failed\"} 0",
        "ringdown_subscriptions_live 1",
        "ringdown_dropped_total{reason=\"sip_malformed\"} 1",
        "ringdown_emergency_available 0",
        "ringdown_emergency_calls_total{outcome=\"refused\"} 2",
        "ringdown_emergency_calls_total{outcome=\"failed\"} 0",
        "ringdown_emergency_active 1",
        "ringdown_emergency_attempts_total{trunk=\"a\",code=\"486\"} 2",
        "ringdown_emergency_setup_seconds_bucket{le=\"2.0\"} 1",
        "ringdown_emergency_setup_seconds_bucket{le=\"+Inf\"} 2",
        "ringdown_emergency_setup_seconds_count 2",
        "ringdown_emergency_setup_seconds_sum 41.5",
        "ringdown_emergency_notify_failures_total 3",
        "ringdown_store_healthy 1",
        "ringdown_calls_rejected_total{reason=\"calls\"} 1",
        "ringdown_calls_rejected_total{reason=\"media_load\"} 2",
        "ringdown_calls_rejected_total{reason=\"media_ports\"} 3",
        "ringdown_media_load_ratio{worker=\"0\"} 0.0",
        "ringdown_media_load_ratio{worker=\"1\"} 0.312",
        "ringdown_media_load_max_ratio 0.8",
        "ringdown_media_load_refusing 1",
        "ringdown_leg_mos_bucket{le=\"4.03\",direction=\"received\"} 0",
        "ringdown_leg_mos_bucket{le=\"4.34\",direction=\"received\"} 1",
        "ringdown_leg_mos_count{direction=\"sent\"} 0",
        "ringdown_leg_round_trip_seconds_bucket{le=\"+Inf\"} 1",
        "ringdown_leg_round_trip_seconds_sum 0.04",
        "ringdown_leg_silences_total{cause=\"authentication\"} 0",
    ] {
        assert!(reply.lines().any(|l| l == line), "{line} in {reply}");
    }
    for reason in crate::types::DropReason::ALL {
        assert!(reply.contains(&format!("{{reason=\"{}\"}}", reason.label())), "{reason:?}");
    }
}

#[tokio::test]
async fn no_reply_holds_more_records_than_its_maximum() {
    let folder = tempfile::tempdir().unwrap();
    let cdr = |n: u32| crate::call::Cdr {
        id: format!("id-{n}"),
        caller: "alice".to_owned(),
        callee: "1002".to_owned(),
        answered_by: None,
        start_ms: u64::from(n),
        answer_ms: None,
        end_ms: u64::from(n),
        duration_s: 0,
        ended_by: crate::call::cdr::EndedBy::Caller,
        status: 487,
        reason: "cancelled".to_owned(),
        emergency: false,
        transferred_by: None,
        trunk: None,
        verification: None,
        a: None,
        b: None,
    };
    let cdrs: Vec<_> = (0..=ADMIN_CDRS_MAX).map(cdr).collect();
    Store::open(folder.path(), None).unwrap().commit(&[], &[], &cdrs).unwrap();
    let (address, _silent) = started(folder.path()).await;
    for (limit, count) in [(1, 1), (ADMIN_CDRS_MAX, ADMIN_CDRS_MAX), (ADMIN_CDRS_MAX + 1, ADMIN_CDRS_MAX)] {
        let reply = fetch(folder.path(), address, &format!("/v1/cdrs?limit={limit}")).await;
        assert_eq!(reply.matches("\"id\":").count(), usize::try_from(count).unwrap(), "limit={limit}");
    }
}

#[tokio::test]
async fn who_may_ask_what_is_a_matter_of_token_and_role() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(folder.path(), None).unwrap();
    let mut made = |name: &str, role: Role| {
        let (token, shown) = Token::make(name, role, Instant::from_unix_ns(0), &mut crate::shell::entropy::rng());
        store.add_token(&token).unwrap();
        format!("Authorization: Bearer {}\r\n", shown.expose())
    };
    let (reader, writer) = (made("reader", Role::Read), made("writer", Role::Admin));
    let (address, mut mail) = started(folder.path()).await;
    let core = async {
        while let Some(letter) = mail.recv().await {
            match letter {
                ToCore::Query(Query::Trunks(reply)) => drop(reply.send(Vec::new())),
                ToCore::Query(Query::Unbar { reply, .. }) => drop(reply.send(Vec::new())),
                _ => {}
            }
        }
    };
    let asked = async {
        let body = r#"{"user":"alice"}"#;
        let rest = format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let wrong = reader.replace("ringdown_", "ringdown-");
        let operator = operator(folder.path());
        for (request, headers, status) in [
            ("GET /ready", "", 200),
            ("GET /v1/trunks", "", 401),
            ("GET /nowhere", "", 401),
            ("GET /v1/trunks", &wrong, 401),
            ("GET /v1/trunks", &reader, 200),
            ("GET /v1/trunks", &writer, 200),
            ("GET /v1/trunks", &operator, 200),
            ("POST /v1/unbar", "", 401),
            ("POST /ready", "", 401),
            ("POST /v1/unbar", &reader, 403),
            ("POST /v1/trunks/drain", &reader, 403),
            ("POST /v1/unbar", &writer, 200),
            ("POST /v1/unbar", &operator, 200),
        ] {
            let rest = if request.starts_with("GET") { "\r\n" } else { &rest };
            let reply = exchange(address, request, headers, rest).await;
            assert!(reply.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {reply}");
        }
    };
    tokio::select! {
        () = asked => {}
        () = core => panic!("the core's mailbox has ended"),
    }
    let orders = async {
        loop {
            let entries = store.audit(0, 10).unwrap();
            if entries.len() == 3 {
                return entries;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let orders = tokio::time::timeout(Duration::from_secs(5), orders).await.unwrap();
    let told: Vec<_> = orders.iter().map(|e| (e.actor.as_str(), e.subject.as_deref(), e.outcome.as_str())).collect();
    let alice = Some("alice");
    assert_eq!(told, [("operator", alice, "200"), ("writer", alice, "200"), ("reader", None, "403")]);
    assert!(orders.iter().all(|entry| entry.action == "POST /v1/unbar"));
}

#[tokio::test]
async fn a_user_rates_a_call_that_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let mut call = crate::shell::store::tests::cdr(1);
    call.a = Some(Box::default());
    Store::open(folder.path(), None).unwrap().commit(&[], &[], &[call]).unwrap();
    let (address, _mail) = started(folder.path()).await;
    let headers = format!("{}Content-Type: application/json\r\n", operator(folder.path()));
    for (id, body, status) in [
        ("id-1", r#"{"user":"alice","rating":4}"#, 204),
        ("id-1", r#"{"user":"eve","rating":4}"#, 404),
        ("id-2", r#"{"user":"alice","rating":4}"#, 404),
        ("id-1", r#"{"user":"alice","rating":0}"#, 422),
        ("id-1", r#"{"user":"alice","rating":6}"#, 422),
        ("id-1", r#"{"user":"alice"}"#, 422),
    ] {
        let rest = format!("Content-Length: {}\r\n\r\n{body}", body.len());
        let reply = exchange(address, &format!("POST /v1/calls/{id}/rating"), &headers, &rest).await;
        assert!(reply.starts_with(&format!("HTTP/1.1 {status}")), "{id} {body}: {reply}");
    }
    assert!(fetch(folder.path(), address, "/v1/cdrs").await.contains("\"rating\":4"));
    let reply = exchange(address, "POST /v1/alice-canary", &headers, "Content-Length: 2\r\n\r\n{}").await;
    assert!(reply.starts_with("HTTP/1.1 404"), "{reply}");
    let store = Store::open(folder.path(), None).unwrap();
    let entries = async {
        loop {
            let entries = store.audit(0, 10).unwrap();
            if entries.len() == 7 {
                return entries;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let entries = tokio::time::timeout(Duration::from_secs(5), entries).await.unwrap();
    let (last, first) = (&entries[0], &entries[6]);
    assert_eq!((last.action.as_str(), &last.subject), ("POST to no page of this interface", &None));
    assert_eq!(first.action, "POST /v1/calls/{id}/rating");
    assert_eq!(first.subject.as_deref(), Some("alice, call id-1"));
}

#[test]
fn an_interface_for_other_machines_without_a_token_is_worth_a_warning() {
    let config = |more: &str| config::parse(&format!("[company]\nname = \"x\"\nregion = \"US\"\n{more}")).unwrap().0;
    let tls = config("[admin]\ntls = [\"192.0.2.1\"]\n");
    let token = Token::make("a", Role::Read, Instant::from_unix_ns(0), &mut crate::shell::entropy::rng()).0;
    assert!(without_tokens(&tls, &[]).is_some_and(|problem| problem.remedy.contains("token add")));
    assert_eq!((without_tokens(&tls, &[token]), without_tokens(&config(""), &[])), (None, None));
}
