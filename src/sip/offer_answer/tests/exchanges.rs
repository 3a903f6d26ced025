//! Hold, keys across re-INVITEs, and two legs between two phones, which are legs too.

use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};

use super::*;

const DIRECTIONS: [Direction; 4] = [Direction::SendRecv, Direction::SendOnly, Direction::RecvOnly, Direction::Inactive];

fn attribute(direction: Direction) -> &'static str {
    match direction {
        Direction::SendRecv => "a=sendrecv",
        Direction::SendOnly => "a=sendonly",
        Direction::RecvOnly => "a=recvonly",
        Direction::Inactive => "a=inactive",
    }
}

/// What A is told for each of [`DIRECTIONS`] that B answers, by what A offered: RFC 3264 section 6.1, RFC 6337 section 5.3.
fn answers_told() -> [(Direction, [Direction; 4]); 4] {
    use Direction::{Inactive, RecvOnly, SendOnly, SendRecv};
    [
        (SendRecv, [SendRecv, SendOnly, RecvOnly, Inactive]),
        (SendOnly, [RecvOnly, Inactive, RecvOnly, Inactive]),
        (RecvOnly, [SendOnly, SendOnly, Inactive, Inactive]),
        (Inactive, [Inactive, Inactive, Inactive, Inactive]),
    ]
}

/// One offer of A with one answer of B, and what A is told.
fn passed(a: &mut Leg, b: &mut Leg, stated: Direction, answered: Direction) -> Direction {
    let seen = a.read_offer(body(&["m=audio 6000 RTP/AVP 0", attribute(stated)]).as_bytes()).unwrap();
    let to_b = read(&b.offer(&mut rng(), &seen, &local(&[20_000])));
    assert_eq!(to_b.media[0].direction, stated);
    let answer = body(&["m=audio 7000 RTP/AVP 0", attribute(answered)]);
    let (from_b, b_settled) = b.read_answer(answer.as_bytes()).unwrap();
    assert_eq!(b_settled[0].peer_direction, answered);
    let (to_a, a_settled) = a.answer(&mut rng(), &from_b, &local(&[20_002])).unwrap();
    assert_eq!(a_settled[0].peer_direction, stated);
    read(&to_a).media[0].direction
}

/// Goal: directions pass in offers and are confined in answers. Method: every offer of A with every answer of B, those that B
/// may not give included.
#[test]
fn directions_pass_in_offers_and_are_confined_in_answers() {
    for (stated, row) in answers_told() {
        for (answered, expected) in DIRECTIONS.into_iter().zip(row) {
            let told = passed(&mut leg(PlainOnly), &mut leg(PlainOnly), stated, answered);
            assert_eq!(told, expected, "{stated:?} answered {answered:?}");
        }
    }
}

/// Goal: hold and resume by either side, whatever held before. Method: the same table for an offer that follows another
/// exchange, begun by A or by B, of each direction.
#[test]
fn a_new_offer_is_answered_as_the_first_would_be_whoever_made_the_one_before() {
    for is_by_a in [true, false] {
        for (before, answers) in answers_told() {
            for (stated, row) in answers_told() {
                for (answered, expected) in DIRECTIONS.into_iter().zip(row) {
                    let (mut a, mut b) = (leg(PlainOnly), leg(PlainOnly));
                    let (first, second) = if is_by_a { (&mut a, &mut b) } else { (&mut b, &mut a) };
                    assert_eq!(passed(first, second, before, Direction::SendRecv), answers[0]);
                    let told = passed(&mut a, &mut b, stated, answered);
                    assert_eq!(told, expected, "{before:?}, then {stated:?} answered {answered:?}");
                }
            }
        }
    }
}

#[test]
fn hold_by_the_zero_address_reads_as_a_peer_that_does_not_receive() {
    use Direction::{Inactive, RecvOnly, SendOnly, SendRecv};
    for (stated, effective) in [(SendRecv, SendOnly), (SendOnly, SendOnly), (RecvOnly, Inactive), (Inactive, Inactive)]
    {
        for zero in ["c=IN IP4 0.0.0.0", "c=IN IP6 ::"] {
            let held = body(&["m=audio 6000 RTP/AVP 0", zero, attribute(stated)]);
            let mut answerer = leg(PlainOnly);
            let seen = answerer.read_offer(held.as_bytes()).unwrap();
            assert_eq!(seen.media[0].direction, effective);
            let (text, settled) =
                answerer.answer(&mut rng(), &session(&["m=audio 4000 RTP/AVP 0"]), &local(&[20_000])).unwrap();
            assert!(text.contains("c=IN IP4 198.51.100.5"), "our address is never zero");
            let mut offerer = leg(PlainOnly);
            offered(&mut offerer, &["m=audio 4000 RTP/AVP 0"]);
            let (_, answered) = offerer.read_answer(held.as_bytes()).unwrap();
            for settled in [&settled[0], &answered[0]] {
                assert_eq!((settled.remote_rtp, settled.remote_rtcp), (None, None));
                assert_eq!(settled.peer_direction, effective);
            }
        }
    }
}

// Carriers

#[test]
fn a_carrier_is_offered_nothing_of_a_browser_unless_it_has_spoken_of_it() {
    let source = ["m=audio 4000 RTP/SAVPF 0", "a=rtcp-mux", "a=rtcp-fb:0 nack", "a=extmap:1 urn:x", "a=ptime:20"];
    let browser = ["a=rtcp-mux", "a=rtcp-fb", "a=extmap", "AVPF"];
    let offers = |leg: &mut Leg| {
        let session = sdp::parse(body(&source).as_bytes()).unwrap();
        let text = leg.offer(&mut rng(), &session, &local(&[20_000]));
        assert!(text.contains("a=ptime:20\r\n"), "{text}");
        browser.map(|word| text.contains(word))
    };
    assert_eq!(offers(&mut leg(SrtpOnly)), [true; 4], "a telephone is");
    let mut carrier = leg(SrtpOnly);
    carrier.keep_to_telephony();
    assert_eq!(offers(&mut carrier), [false; 4]);
    let mut carrier = leg(SrtpOnly);
    carrier.keep_to_telephony();
    let line = crypto(1, Suite::AeadAes128Gcm, 1);
    let theirs = body(&["m=audio 6000 RTP/SAVP 0", &line, "a=rtcp-mux"]);
    let seen = carrier.read_offer(theirs.as_bytes()).unwrap();
    carrier.answer(&mut rng(), &seen, &local(&[20_000])).unwrap();
    assert_eq!(offers(&mut carrier), [true; 4]);
}

// Keys across re-INVITEs

#[test]
fn our_key_stays_while_the_suite_does_and_is_new_when_it_changes() {
    let mut leg = leg(SrtpOnly);
    let mut exchange = |tag, suite| {
        let offer = body(&["m=audio 6000 RTP/SAVP 0", &crypto(tag, suite, 1)]);
        let seen = leg.read_offer(offer.as_bytes()).unwrap();
        leg.answer(&mut rng(), &seen, &local(&[20_000])).unwrap().1.remove(0).send
    };
    let first = exchange(1, Suite::AeadAes128Gcm);
    assert_eq!(exchange(4, Suite::AeadAes128Gcm), first, "another tag is no other key");
    let other = exchange(1, Suite::AesCm128HmacSha1_80);
    let third = exchange(1, Suite::AeadAes128Gcm);
    assert_ne!(third, first, "a key given up does not come back");
    assert_ne!(third, other);
}

#[test]
fn a_re_offer_that_lists_a_stronger_suite_too_keeps_the_one_in_use() {
    let mut leg = leg(SrtpOnly);
    let (weaker, stronger) = (Suite::AesCm128HmacSha1_80, Suite::AeadAes256Gcm);
    let mut exchange = |lines: &[&str]| {
        let seen = leg.read_offer(body(lines).as_bytes()).unwrap();
        leg.answer(&mut rng(), &seen, &local(&[20_000])).unwrap().1.remove(0).send
    };
    let audio = "m=audio 6000 RTP/SAVP 0";
    let first = exchange(&[audio, &crypto(1, weaker, 1)]);
    assert_eq!(exchange(&[audio, &crypto(1, stronger, 2), &crypto(2, weaker, 1)]), first);
    assert_ne!(exchange(&[audio, &crypto(1, stronger, 2)]), first);
}

#[test]
fn a_section_that_was_rejected_in_between_gets_a_new_key() {
    let mut leg = leg(SrtpOnly);
    let line = crypto(1, Suite::AeadAes128Gcm, 1);
    let mut exchange = |video: u16| {
        let video = format!("m=video {video} RTP/SAVP 96");
        let offer = body(&["m=audio 6000 RTP/SAVP 0", &line, &video, &line]);
        let seen = leg.read_offer(offer.as_bytes()).unwrap();
        leg.answer(&mut rng(), &seen, &local(&[20_000, 20_002])).unwrap().1
    };
    let (first, without, again) = (exchange(6002), exchange(0), exchange(6002));
    assert_eq!(without[1].send, Protection::Plain);
    assert_ne!(again[1].send, first[1].send);
    assert!([&without, &again].iter().all(|settled| settled[0].send == first[0].send));
    assert_ne!(first[0].send, first[1].send, "each section has a key of its own");
}

#[test]
fn another_dialog_goes_on_from_before_unless_a_key_was_given_up_since() {
    for (video, is_possible) in [(6002, true), (0, false)] {
        let mut leg = leg(SrtpOnly);
        let source = ["m=audio 4000 RTP/SAVP 0", "m=video 4002 RTP/SAVP 96"];
        let exchange = |leg: &mut Leg, video: u16| {
            let offer = offered(leg, &source);
            let line =
                |i: usize| offer.media[i].crypto.first().map_or_else(String::new, |line| crypto(1, line.suite, 1));
            let (audio_line, video, video_line) = (line(0), format!("m=video {video} RTP/SAVP 96"), line(1));
            let answer = body(&["m=audio 6000 RTP/SAVP 0", &audio_line, &video, &video_line]);
            leg.read_answer(answer.as_bytes()).unwrap().1
        };
        let then = exchange(&mut leg, 6002);
        let past = leg.past();
        exchange(&mut leg, video);
        assert_eq!(leg.return_to(past), is_possible);
        assert_eq!(leg.settled() == then, is_possible);
    }
}

#[test]
fn a_re_offer_repeats_the_line_in_use_and_its_profile() {
    // The peer offered, in the form called optional, and spelled the suite in its own way.
    let theirs = crypto(9, Suite::AesCm256HmacSha1_80, 1).replace("AES_256_CM", "AES_CM_256");
    let mut leg = leg(SrtpOnly);
    let seen = leg.read_offer(body(&["m=audio 6000 RTP/AVP 0", "a=rtcp-mux", &theirs]).as_bytes()).unwrap();
    let (answer, _) = leg.answer(&mut rng(), &seen, &local(&[20_000])).unwrap();
    let line = |text: &str| -> Vec<String> {
        text.lines().filter(|line| line.starts_with("a=crypto")).map(str::to_owned).collect()
    };
    let offer = leg.offer(&mut rng(), &session(&["m=audio 4000 RTP/SAVP 0", "a=sendonly"]), &local(&[20_000]));
    assert_eq!(line(&offer), line(&answer));
    assert!(offer.contains("m=audio 20000 RTP/AVP 0\r\n") && offer.contains("a=rtcp-mux"), "{offer}");
}

#[test]
fn a_plain_trunk_that_multiplexes_is_offered_it_again() {
    let mut leg = leg(PlainOnly);
    let seen = leg.read_offer(body(&["m=audio 6000 RTP/AVP 0", "a=rtcp-mux"]).as_bytes()).unwrap();
    leg.answer(&mut rng(), &seen, &local(&[20_000])).unwrap();
    assert!(offered(&mut leg, &["m=audio 4000 RTP/AVP 0"]).media[0].has_rtcp_mux);
}

#[test]
fn debug_shows_no_key() {
    let mut leg = leg(SrtpOnly);
    let text = leg.offer(&mut rng(), &session(&["m=audio 4000 RTP/AVP 0"]), &local(&[20_000]));
    let shown = format!("{leg:?}");
    for key in announced(&text) {
        assert!(!shown.contains(&key));
    }
}

// Two legs between two phones

/// Base64 of every key in a description.
fn announced(text: &str) -> HashSet<String> {
    text.lines().filter_map(|line| line.split_once(" inline:")).map(|(_, key)| key.to_owned()).collect()
}

/// One phone, and our leg towards it.
struct Side {
    phone: Leg,
    leg: Leg,
    /// All that was said on this leg, by either end.
    said: String,
}

impl Side {
    fn new(security: LegSecurity, seed: u64) -> Self {
        let leg = |offset| Leg::new(security, &mut Rng::from_small_seed(seed * 2 + offset));
        Self { phone: leg(0), leg: leg(1), said: String::new() }
    }

    /// Both ends agree on keys, crosswise, and meet the policy.
    fn check(&self) {
        for (ours, theirs) in self.leg.settled().iter().zip(self.phone.settled()) {
            assert_eq!((&ours.send, &ours.receive), (&theirs.receive, &theirs.send));
            assert_eq!(ours.remote_rtcp.is_none(), theirs.remote_rtcp.is_none());
            if ours.remote_rtp.is_some() {
                let is_encrypted = ours.send != Protection::Plain;
                assert_eq!(is_encrypted, self.leg.security != PlainOnly, "phones here encrypt when they may");
                assert!(!is_encrypted || ours.send != ours.receive);
            }
        }
    }
}

/// One whole exchange, from `from`'s phone to `to`'s and back.
fn exchange(from: &mut Side, to: &mut Side, lines: &[&str]) {
    let ports = local(&[20_000, 20_002]);
    let offer = from.phone.offer(&mut rng(), &session(lines), &ports);
    let seen = from.leg.read_offer(offer.as_bytes()).unwrap();
    let forwarded = to.leg.offer(&mut rng(), &seen, &ports);
    let at_phone = to.phone.read_offer(forwarded.as_bytes()).unwrap();
    let (answer, _) = to.phone.answer(&mut rng(), &at_phone, &ports).unwrap();
    let (accepted, _) = to.leg.read_answer(answer.as_bytes()).unwrap();
    let (returned, _) = from.leg.answer(&mut rng(), &accepted, &ports).unwrap();
    from.phone.read_answer(returned.as_bytes()).unwrap();
    from.said += &(offer + &returned);
    to.said += &(forwarded + &answer);
    from.check();
    to.check();
}

#[test]
fn a_concluded_exchange_is_answered_no_more_and_its_keys_stay() {
    let mut offerer = leg(SrtpOnly);
    let offer = offerer.offer(&mut rng(), &session(&["m=audio 4000 RTP/SAVP 0"]), &local(&[20_000]));
    let mut answerer = leg(SrtpOnly);
    let seen = answerer.read_offer(offer.as_bytes()).unwrap();
    offerer.conclude();
    let (answer, _) = answerer.answer(&mut rng(), &seen, &local(&[20_000])).unwrap();
    offerer.read_answer(answer.as_bytes()).expect("what has no answer yet is not concluded");
    let settled = (offerer.settled().to_vec(), answerer.settled().to_vec());
    offerer.conclude();
    answerer.conclude();
    assert_eq!(offerer.read_answer(answer.as_bytes()), Err(OutOfTurn));
    assert_eq!(answerer.answer(&mut rng(), &seen, &local(&[20_000])), Err(OutOfTurn));
    let again = offerer.offer(&mut rng(), &session(&["m=audio 4000 RTP/SAVP 0"]), &local(&[20_000]));
    let seen = answerer.read_offer(again.as_bytes()).unwrap();
    let (answer, _) = answerer.answer(&mut rng(), &seen, &local(&[20_000])).unwrap();
    offerer.read_answer(answer.as_bytes()).unwrap();
    assert_eq!((offerer.settled().to_vec(), answerer.settled().to_vec()), settled);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Goal: keys never cross. Method: calls between phones of every policy, with re-INVITEs from either side.
    #[test]
    fn keys_announced_on_one_leg_never_appear_on_the_other(
        seed in 0..u64::MAX / 8,
        a in 0..3_usize,
        b in 0..3_usize,
        steps in proptest::collection::vec((any::<bool>(), 0..4_usize, any::<bool>()), 1..6),
    ) {
        let mut a = Side::new(SECURITIES[a], seed);
        let mut b = Side::new(SECURITIES[b], seed + 1);
        let mut keys: Option<Vec<Protection>> = None;
        for (is_from_a, direction, has_feedback) in steps {
            let profile = if has_feedback { "RTP/AVPF" } else { "RTP/AVP" };
            let lines = [
                format!("m=audio 4000 {profile} 0"), attribute(DIRECTIONS[direction]).to_owned(),
                format!("m=video 4002 {profile} 96"), "a=rtpmap:96 VP8/90000".to_owned(),
            ];
            let (from, to) = if is_from_a { (&mut a, &mut b) } else { (&mut b, &mut a) };
            exchange(from, to, &lines.each_ref().map(String::as_str));
            let now: Vec<_> = [&a.leg, &b.leg].iter().flat_map(|leg| leg.settled()).map(|s| s.send.clone()).collect();
            prop_assert_eq!(keys.get_or_insert_with(|| now.clone()), &now, "keys stay across re-INVITEs");
        }
        let on_a = announced(&a.said);
        prop_assert_eq!(on_a.is_empty(), a.leg.security == PlainOnly);
        prop_assert!(on_a.is_disjoint(&announced(&b.said)));
    }

    #[test]
    fn arbitrary_peers_never_panic(lines in proptest::collection::vec("[mac]=[ -~]{0,40}", 0..12)) {
        let text = body(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        for security in SECURITIES {
            let mut leg = leg(security);
            offered(&mut leg, &["m=audio 4000 RTP/AVP 0"]);
            let _ = leg.read_answer(text.as_bytes());
            leg.roll_back();
            if let Ok(seen) = leg.read_offer(text.as_bytes()) {
                let _ = leg.answer(&mut rng(), &seen, &local(&[20_000, 20_002]));
            }
        }
    }
}
