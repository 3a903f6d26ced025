//! More calls than the machine can carry.
//!
//! Method: a machine that relays a given number of packets a second and loses what is above. Each phone speaks ten times a second.

use ringdown::{
    types::Duration,
    wire::{sip::Name, srtp::Suite},
};

use crate::{
    phone::{Answer, State},
    world::{Plan, World},
};

const CM: &[Suite] = &[Suite::AesCm128HmacSha1_80];
/// Ten calls for each of two workers.
const PACKETS_PER_S: u32 = 200;
const CALLS: usize = 2 * 10;

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Two telephones that talk in four calls, a caller whose calls ring for three seconds, and a fifth that can call for help.
struct Company {
    world: World,
    talkers: [usize; 2],
    caller: usize,
    fifth: usize,
    carrier: usize,
}

impl Company {
    fn new(seed: u64, load_max_percent: &str) -> Self {
        let mut plan = Plan::with_trunk(seed).media("20000-20399", 2);
        plan.media = format!("{}load_max_percent = {load_max_percent}\n", plan.media);
        let mut w = World::new(&plan);
        w.server.limit_packets(PACKETS_PER_S);
        let [a, b, caller, slow, fifth] = [1, 2, 3, 4, 5].map(|user| w.registered(user, CM));
        let carrier = w.trunk(Answer::After(Duration::from_millis(300)));
        for _ in 0..4 {
            w.connect(a, "1002", b);
        }
        w.phones[slow].profile.answer = Answer::After(s(3));
        w.run(s(3));
        Self { world: w, talkers: [a, b], caller, fifth, carrier }
    }

    /// Three times as many calls as the machine can carry, within two seconds; returns how many were let in.
    fn flood(&mut self) -> usize {
        let w = &mut self.world;
        let calls: Vec<_> = (0..3 * CALLS)
            .map(|_| {
                w.run(Duration::from_millis(33));
                w.dial(self.caller, "1004")
            })
            .collect();
        w.run(s(10));
        let is_up = |call: &&usize| w.state(self.caller, **call) == State::Up;
        for call in calls.iter().filter(|call| !is_up(call)) {
            let refusal = w.response(self.caller, *call);
            assert_eq!((refusal.status(), refusal.reason_phrase()), (503, "Media Overloaded"));
            assert_eq!(refusal.header(Name::RetryAfter), Some("30"));
        }
        calls.iter().filter(is_up).count()
    }

    /// Packets that the first of the talkers has heard in all its calls.
    fn heard(&self) -> usize {
        let [a, b] = self.talkers;
        let id = |phone: usize, call: usize| (self.world.phones[phone].profile.id, u32::try_from(call).expect("few"));
        let calls = self.world.phones[a].calls.iter().enumerate();
        calls.map(|(call, c)| c.voice.heard_from(id(b, call))).sum()
    }
}

/// Goal: a flood of calls takes what the machine has and no more; who talks hears every packet, who needs help gets it, and
/// when the flood is over calls are taken again.
#[test]
fn a_flood_of_calls_harms_no_call_and_hinders_no_call_for_help() {
    let mut company = Company::new(401, "80");
    let before = company.world.server.packets_lost();
    let accepted = company.flood();
    assert!((8..=12).contains(&accepted), "{accepted} more calls were let in");
    let legs: Vec<usize> = company.world.server.workers.iter().map(ringdown::media::Worker::len).collect();
    assert!(legs.iter().all(|legs| legs.abs_diff(accepted + 4) <= 2), "legs of each worker: {legs:?}");

    let (fifth, carrier) = (company.fifth, company.carrier);
    let (help, _) = company.world.connect(fifth, "911", carrier);
    let heard = company.heard();
    company.world.run(s(2));
    assert!(company.heard() >= heard + 4 * 18, "of 80 packets {} were heard", company.heard() - heard);
    assert_eq!(company.world.state(fifth, help), State::Up);
    assert_eq!(company.world.server.packets_lost(), before, "packets of calls were lost");

    let w = &mut company.world;
    let live: Vec<usize> = w.phones[company.caller].live_calls().map(|(call, _)| call).collect();
    for call in live {
        w.hang_up(company.caller, call);
    }
    w.run(s(3));
    assert!(!w.server.core.worker_loads().is_refusing);
    w.connect(fifth, "1001", company.talkers[0]);
    assert_eq!(w.server.core.counters().calls_rejected[2], u64::try_from(3 * CALLS - accepted).expect("few"));
    company.world.finish();
}

/// The same without a limit, to see that it is the limit that helps.
#[test]
fn without_a_limit_the_same_flood_costs_packets() {
    let mut company = Company::new(402, "100");
    assert_eq!(company.flood(), 3 * CALLS);
    assert!(company.world.server.packets_lost() > 0);
    company.world.finish();
}
