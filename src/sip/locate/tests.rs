//! A zone of records on one side, the targets on the other.

use std::collections::BTreeMap;

use super::*;

const HOST: &str = "carrier.example";
const START: Instant = Instant::from_unix_ms(1_700_000_000_000);
const TTL: Duration = Duration::from_secs(600);

/// What a DNS server says, by name and type; everything else is absent.
#[derive(Default)]
struct Zone(BTreeMap<(String, RecordType), Reply>);

impl Zone {
    /// Lines of a zone file: `name type data`, with names that end in a dot.
    fn new(lines: &[&str]) -> Self {
        let mut zone = Self::default();
        for line in lines {
            let words: Vec<_> = line.split_whitespace().collect();
            let number = |at: usize| words[at].parse().unwrap();
            let text = |at: usize| words[at].to_owned();
            let (record_type, record) = match words[1] {
                "A" => (RecordType::A, Record::Address(words[2].parse().unwrap())),
                "AAAA" => (RecordType::Aaaa, Record::Address(words[2].parse().unwrap())),
                "SRV" => {
                    let record =
                        Record::Srv { priority: number(2), weight: number(3), port: number(4), target: text(5) };
                    (RecordType::Srv, record)
                }
                "NAPTR" => {
                    let (order, preference) = (number(2), number(3));
                    let (flags, service, replacement) = (text(4), text(5), text(6));
                    (RecordType::Naptr, Record::Naptr { order, preference, flags, service, replacement })
                }
                other => panic!("{other}"),
            };
            let key = (text(0), record_type);
            let reply = zone.0.entry(key).or_insert(Reply::Found { records: Vec::new(), ttl: TTL });
            let Reply::Found { records, .. } = reply else { panic!("{line}") };
            records.push(record);
        }
        zone
    }

    fn fails(mut self, name: &str, record_type: RecordType) -> Self {
        self.0.insert((name.to_owned(), record_type), Reply::Failed);
        self
    }

    fn reply(&self, question: &Question) -> Reply {
        self.0.get(&(absolute(&question.name), question.record_type)).cloned().unwrap_or(Reply::Absent)
    }
}

fn destination(port: Option<u16>, transport: Option<Transport>) -> Destination {
    Destination { host: HOST.to_owned(), port, transport }
}

/// Answers everything asked; returns the questions.
fn serve(now: Instant, locator: &mut Locator, zone: &Zone) -> Vec<Question> {
    let mut asked = Vec::new();
    while let Output::Ask(question) = locator.poll_output() {
        asked.push(question.clone());
        let reply = zone.reply(&question);
        locator.handle_input(now, Input::Answered { question, reply });
    }
    asked
}

fn timeout(locator: &mut Locator) -> Instant {
    match locator.poll_output() {
        Output::Timeout(at) => at.expect("something is to be asked again"),
        Output::Ask(question) => panic!("{question:?}"),
    }
}

fn told(targets: &[Target]) -> String {
    targets.iter().map(|t| format!("{} {}", t.transport, t.address)).collect::<Vec<_>>().join(", ")
}

fn located(destination: Destination, zone: &Zone) -> String {
    let mut locator = Locator::new(START, destination);
    serve(START, &mut locator, zone);
    told(&locator.order(&mut Rng::from_small_seed(1)))
}

#[test]
fn rfc_3263_section_4_decides_what_is_asked_and_where_it_leads() {
    let (tls, tcp, udp) = (Some(Transport::Tls), Some(Transport::Tcp), Some(Transport::Udp));
    let a = "carrier.example. A 192.0.2.1";
    let sip1 = "sip1.example. A 192.0.2.11";
    let naptr_udp = "carrier.example. NAPTR 20 0 s SIP+D2U _sip._udp.carrier.example.";
    let naptr_tcp = "carrier.example. NAPTR 10 5 S sip+d2t _x.example.";
    let naptr_tls = "carrier.example. NAPTR 10 1 s SIPS+D2T _sips._tcp.carrier.example.";
    let srv_udp = "_sip._udp.carrier.example. SRV 1 0 5070 sip1.example.";
    let srv_tcp = "_sip._tcp.carrier.example. SRV 1 0 5071 sip1.example.";
    let srv_x = "_x.example. SRV 1 0 5073 sip1.example.";
    let srv_tls = "_sips._tcp.carrier.example. SRV 1 0 5072 sip1.example.";
    for (port, transport, lines, expected) in [
        // An explicit port asks for addresses only (section 4.2), whatever SRV says.
        (Some(5080), tls, vec![a, srv_tls], "tls 192.0.2.1:5080"),
        (Some(5080), None, vec![a, srv_udp, naptr_udp], "udp 192.0.2.1:5080"),
        // A configured transport skips NAPTR.
        (None, tls, vec![a, sip1, srv_tls, srv_udp, naptr_udp], "tls 192.0.2.11:5072"),
        (None, udp, vec![a, sip1, srv_tls, naptr_tls], "udp 192.0.2.1:5060"),
        (None, tcp, vec![a], "tcp 192.0.2.1:5060"),
        (None, tls, vec![a], "tls 192.0.2.1:5061"),
        // NAPTR by order, then preference, and its replacement is where SRV is asked.
        (
            None,
            None,
            vec![a, sip1, naptr_udp, naptr_tcp, naptr_tls, srv_udp, srv_x, srv_tls],
            "tls 192.0.2.11:5072, tcp 192.0.2.11:5073, udp 192.0.2.11:5070",
        ),
        // Services that are not SIP's, flags that are not ours and empty replacements are no offer.
        (
            None,
            None,
            vec![
                "carrier.example. NAPTR 1 0 s SIPS+D2S _sips._sctp.carrier.example.",
                "carrier.example. NAPTR 1 0 u SIP+D2T _x.example.",
                "carrier.example. NAPTR 1 0 s SIP+D2T .",
                srv_x,
                srv_udp,
                sip1,
            ],
            "udp 192.0.2.11:5070",
        ),
        // Without NAPTR, SRV of every transport; without SRV, the host itself over UDP.
        (None, None, vec![a, sip1, srv_udp, srv_tcp], "tcp 192.0.2.11:5071, udp 192.0.2.11:5070"),
        (None, None, vec![a, "carrier.example. AAAA 2001:db8::1"], "udp [2001:db8::1]:5060, udp 192.0.2.1:5060"),
        // A dot says that there is no such service: nothing else is tried in its place.
        (None, tls, vec![a, "_sips._tcp.carrier.example. SRV 0 0 0 ."], ""),
        // Lower priorities first, and a name without addresses takes nobody along.
        (
            None,
            udp,
            vec![
                "_sip._udp.carrier.example. SRV 2 0 5060 late.example.",
                "_sip._udp.carrier.example. SRV 1 0 5060 none.example.",
                "_sip._udp.carrier.example. SRV 1 0 5060 early.example.",
                "late.example. A 192.0.2.22",
                "early.example. A 192.0.2.21",
            ],
            "udp 192.0.2.21:5060, udp 192.0.2.22:5060",
        ),
        (None, tls, vec![], ""),
    ] {
        assert_eq!(located(destination(port, transport), &Zone::new(&lines)), expected, "{lines:?}");
    }
}

#[test]
fn an_address_asks_for_nothing() {
    for (host, port, transport, expected) in [
        ("192.0.2.7", None, None, "udp 192.0.2.7:5060"),
        ("192.0.2.7", None, Some(Transport::Tls), "tls 192.0.2.7:5061"),
        ("[2001:db8::7]", Some(5070), Some(Transport::Tcp), "tcp [2001:db8::7]:5070"),
    ] {
        let mut locator = Locator::new(START, Destination { host: host.to_owned(), port, transport });
        assert_eq!(locator.poll_output(), Output::Timeout(None));
        assert_eq!(told(&locator.order(&mut Rng::from_small_seed(1))), expected);
    }
}

#[test]
fn only_the_hosts_own_addresses_may_come_by_a_search_list() {
    let mut locator = Locator::new(START, destination(None, None));
    let zone = Zone::new(&["_sip._tcp.carrier.example. SRV 1 0 5060 sip1.example"]);
    let asked = serve(START, &mut locator, &zone);
    let incomplete: Vec<_> = asked.iter().filter(|q| !q.name.ends_with('.')).collect();
    assert_eq!(incomplete, Vec::<&Question>::new());
    let mut locator = Locator::new(START, destination(Some(5060), None));
    assert_eq!(serve(START, &mut locator, &zone).len(), 2);
    assert!(locator.known.keys().all(|question| question.name == HOST));
}

#[test]
fn weights_share_the_calls_and_zero_comes_last() {
    let zone = Zone::new(&[
        "_sip._udp.carrier.example. SRV 1 0 1 s.example.",
        "_sip._udp.carrier.example. SRV 1 10 2 s.example.",
        "_sip._udp.carrier.example. SRV 1 30 3 s.example.",
        "s.example. A 192.0.2.1",
    ]);
    let mut locator = Locator::new(START, destination(None, Some(Transport::Udp)));
    serve(START, &mut locator, &zone);
    let mut rng = Rng::from_small_seed(3);
    let mut first = BTreeMap::new();
    for _ in 0..4_100 {
        let order = locator.order(&mut rng);
        assert_eq!(order.len(), 3);
        *first.entry(order[0].address.port()).or_insert(0) += 1;
    }
    // Of 41 numbers that can be drawn, 1, 10 and 30 lead to each.
    assert!((50..160).contains(&first[&1]) && (900..1_100).contains(&first[&2]), "{first:?}");
}

#[test]
fn records_are_asked_for_again_when_their_time_ends_within_bounds() {
    for (ttl_s, after_s) in [(0, 30), (29, 30), (600, 600), (3_601, 3_600), (u64::from(u32::MAX), 3_600)] {
        let mut locator = Locator::new(START, destination(Some(5060), None));
        let mut zone = Zone::new(&["carrier.example. A 192.0.2.1", "carrier.example. AAAA 2001:db8::1"]);
        for reply in zone.0.values_mut() {
            let Reply::Found { ttl, .. } = reply else { unreachable!() };
            *ttl = Duration::from_secs(ttl_s);
        }
        serve(START, &mut locator, &zone);
        let at = timeout(&mut locator);
        assert_eq!(at.since(START), Duration::from_secs(after_s), "{ttl_s}");
        locator.handle_input(at, Input::Timeout);
        assert_eq!(serve(at, &mut locator, &zone).len(), 2);
    }
}

/// Lets time pass with this zone until `end`.
fn pass(locator: &mut Locator, end: Instant, zone: &Zone) {
    loop {
        let at = timeout(locator);
        if at > end {
            return;
        }
        locator.handle_input(at, Input::Timeout);
        serve(at, locator, zone);
    }
}

#[test]
fn negative_answers_keep_what_was_known_until_its_grace_ends() {
    let good = Zone::new(&[
        "_sip._udp.carrier.example. SRV 1 0 5060 s1.example.",
        "_sip._udp.carrier.example. SRV 2 0 5060 s2.example.",
        "s1.example. A 192.0.2.1",
        "s2.example. A 192.0.2.2",
    ]);
    let both = "udp 192.0.2.1:5060, udp 192.0.2.2:5060";
    let absent = Zone::default();
    let failing =
        Zone::new(&[]).fails("_sip._udp.carrier.example.", RecordType::Srv).fails("s1.example.", RecordType::A);
    for bad in [absent, failing] {
        let mut locator = Locator::new(START, destination(None, Some(Transport::Udp)));
        serve(START, &mut locator, &good);
        pass(&mut locator, START + TTL + (GRACE.checked_sub(TTL_MIN).unwrap()), &bad);
        assert_eq!(told(&locator.order(&mut Rng::from_small_seed(1))), both);
        pass(&mut locator, START + TTL + GRACE + STALE_AGAIN, &bad);
        assert_eq!(told(&locator.order(&mut Rng::from_small_seed(1))), "");
        // ... and what comes back is found soon.
        let gone = START + TTL + GRACE + STALE_AGAIN;
        pass(&mut locator, gone + LOST_AGAIN + LOST_AGAIN, &good);
        assert_eq!(told(&locator.order(&mut Rng::from_small_seed(1))), both);
    }
}

#[test]
fn records_that_lead_to_hosts_without_addresses_take_nothing_away_until_the_old_grace_ends() {
    let before = ["_sip._udp.carrier.example. SRV 1 0 5060 old.example.", "old.example. A 192.0.2.1"];
    let after = Zone::new(&["_sip._udp.carrier.example. SRV 1 0 5060 new.example."]);
    for after in [
        Zone::new(&["_sip._udp.carrier.example. SRV 1 0 5060 new.example."]),
        after.fails("new.example.", RecordType::A),
    ] {
        let mut locator = Locator::new(START, destination(None, Some(Transport::Udp)));
        serve(START, &mut locator, &Zone::new(&before));
        let known: Vec<_> = locator.targets().copied().collect();
        assert_eq!(known.len(), 1);
        let mut pass = |now| {
            locator.handle_input(now, Input::Timeout);
            serve(now, &mut locator, &after);
            locator.targets().copied().collect::<Vec<_>>()
        };
        assert_eq!(pass(START + TTL), known);
        assert_eq!(pass(START + GRACE), known);
        assert_eq!(pass(START + TTL + GRACE), []);
    }
    let mut locator = Locator::new(START, destination(None, Some(Transport::Udp)));
    serve(START, &mut locator, &Zone::new(&before));
    locator.handle_input(START + TTL, Input::Timeout);
    serve(START + TTL, &mut locator, &Zone::new(&["_sip._udp.carrier.example. SRV 0 0 0 ."]));
    assert_eq!(locator.targets().count(), 0, "no such service is a clear word");
}

#[test]
fn one_broken_name_leaves_the_others_fresh() {
    let good = Zone::new(&[
        "_sip._udp.carrier.example. SRV 1 0 5060 s1.example.",
        "_sip._udp.carrier.example. SRV 2 0 5060 s2.example.",
        "s1.example. A 192.0.2.1",
        "s2.example. A 192.0.2.2",
    ]);
    let mut locator = Locator::new(START, destination(None, Some(Transport::Udp)));
    serve(START, &mut locator, &good);
    let moved = Zone::new(&[
        "_sip._udp.carrier.example. SRV 1 0 5060 s1.example.",
        "_sip._udp.carrier.example. SRV 2 0 5060 s2.example.",
        "s2.example. A 192.0.2.22",
    ])
    .fails("s1.example.", RecordType::A);
    pass(&mut locator, START + TTL, &moved);
    assert_eq!(told(&locator.order(&mut Rng::from_small_seed(1))), "udp 192.0.2.1:5060, udp 192.0.2.22:5060");
}

#[test]
fn what_nothing_points_to_is_forgotten_and_not_asked_again() {
    let zone = |server: &str| {
        Zone::new(&[
            &format!("_sip._udp.carrier.example. SRV 1 0 5060 {server}.example."),
            &format!("{server}.example. A 192.0.2.1"),
        ])
    };
    let mut locator = Locator::new(START, destination(None, Some(Transport::Udp)));
    serve(START, &mut locator, &zone("old"));
    pass(&mut locator, START + TTL, &zone("new"));
    assert!(locator.known.keys().any(|question| question.name == "new.example."));
    assert!(locator.known.keys().all(|question| question.name != "old.example."));
}

#[test]
fn answers_nobody_asked_for_change_nothing() {
    let mut locator = Locator::new(START, destination(Some(5060), None));
    let zone = Zone::new(&["carrier.example. A 192.0.2.1"]);
    serve(START, &mut locator, &zone);
    let question = Question { name: HOST.to_owned(), record_type: RecordType::A };
    let record = Record::Address("203.0.113.66".parse().unwrap());
    locator.handle_input(START, Input::Answered { question, reply: Reply::Found { records: vec![record], ttl: TTL } });
    assert_eq!(told(&locator.order(&mut Rng::from_small_seed(1))), "udp 192.0.2.1:5060");
}

#[test]
fn records_of_another_type_are_no_answer_and_displace_none() {
    let records = ["carrier.example. A 192.0.2.1", "carrier.example. AAAA 2001:db8::1"];
    let mut locator = Locator::new(START, destination(Some(5060), Some(Transport::Udp)));
    serve(START, &mut locator, &Zone::new(&records));
    let known: Vec<_> = locator.targets().copied().collect();
    assert_eq!(known.len(), 2);
    let later = START + TTL;
    locator.handle_input(later, Input::Timeout);
    let srv = Record::Srv { priority: 0, weight: 0, port: 1, target: "elsewhere.".to_owned() };
    for address in ["2001:db8::66", "192.0.2.66"] {
        let Output::Ask(question) = locator.poll_output() else { panic!("the records have expired") };
        let other = Record::Address(address.parse().unwrap());
        assert!(!other.answers(question.record_type), "IPv4 is asked for first");
        let reply = Reply::Found { records: vec![srv.clone(), other], ttl: TTL };
        locator.handle_input(later, Input::Answered { question, reply });
    }
    assert_eq!(locator.targets().copied().collect::<Vec<_>>(), known);
}

#[test]
fn a_zone_of_any_size_costs_a_bounded_number_of_questions() {
    let lines = |count: usize| {
        let line = |n| format!("_sip._udp.carrier.example. SRV 1 0 5060 s{n}.example.");
        (0..count).map(line).collect::<Vec<_>>()
    };
    for (records, questions) in [
        (1, 3),
        (limits::DNS_RECORDS_MAX - 1, 2 * (limits::DNS_RECORDS_MAX - 1) + 1),
        (limits::DNS_RECORDS_MAX, limits::DNS_QUESTIONS_MAX),
        (limits::DNS_RECORDS_MAX + 1, limits::DNS_QUESTIONS_MAX),
        (1_000, limits::DNS_QUESTIONS_MAX),
    ] {
        let lines = lines(records);
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        let mut locator = Locator::new(START, destination(None, Some(Transport::Udp)));
        assert_eq!(serve(START, &mut locator, &Zone::new(&lines)).len(), questions, "{records}");
    }
}

#[test]
fn a_failing_target_is_skipped_for_longer_each_time_until_it_answers() {
    let target = |port| Target { transport: Transport::Udp, address: SocketAddr::from(([192, 0, 2, 1], port)) };
    let (bad, good) = (target(1), target(2));
    let mut health = Health::default();
    let mut now = START;
    for skipped_s in [30, 60, 120, 240, 300, 300] {
        health.failed(now, bad);
        health.failed(now + Duration::from_secs(1), bad);
        assert!(health.is_skipped(now + Duration::from_secs(skipped_s - 1), &bad));
        assert!(!health.is_skipped(now + Duration::from_secs(skipped_s), &bad));
        assert!(!health.is_skipped(now, &good));
        now = now + Duration::from_secs(skipped_s);
    }
    health.answered(bad);
    health.failed(now, bad);
    assert!(!health.is_skipped(now + Duration::from_secs(30), &bad));
    health.retain(|target| *target == good);
    assert!(!health.is_skipped(now, &bad));
}

#[test]
fn listed_servers_come_by_priority_and_within_it_by_weight() {
    let listed = |host: &str, priority, weight| {
        let destination = Destination { host: host.to_owned(), port: Some(5060), transport: Some(Transport::Udp) };
        Listed { destination, priority, weight }
    };
    let servers = vec![
        listed("192.0.2.3", 2, 0),
        listed("192.0.2.1", 1, 90),
        listed("192.0.2.2", 1, 10),
        listed("b.example", 3, 0),
    ];
    let mut list = List::new(START, servers);
    let (index, Output::Ask(question)) = list.poll_output() else { panic!("the name is looked up") };
    assert_eq!((index, question.name.as_str()), (3, "b.example"));
    let mut first = [0; 4];
    for seed in 0..1_000 {
        let order = list.order(&mut Rng::from_small_seed(seed));
        assert_eq!((order.len(), told(&order[2..])), (3, "udp 192.0.2.3:5060".to_owned()));
        first[usize::from(order[0].address.to_string().as_bytes()[8] - b'0')] += 1;
    }
    assert!(first[1] > 800 && first[2] > 40, "{first:?}");
    let reply = Reply::Found { records: vec![Record::Address("192.0.2.4".parse().unwrap())], ttl: TTL };
    list.answered(START, index, Input::Answered { question, reply });
    let target = *list.targets().last().unwrap();
    assert_eq!((list.host_of(&target), told(&[target])), (Some("b.example"), "udp 192.0.2.4:5060".to_owned()));
}
