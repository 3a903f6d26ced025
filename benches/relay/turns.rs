//! Turns of the relays: the same load for each, one after the other, so that whatever else the machine does hits all of them.

use std::time::{Duration, Instant};

use crate::{
    load::{Devices, Sealed},
    relays::Relay,
};

/// Packets flow for a moment before they count: a relay that was silent while others had their turn looks addresses up
/// anew, which a call in progress never does.
const WARM_UP: Duration = Duration::from_millis(200);

#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) legs: usize,
    pub(crate) rounds: usize,
    pub(crate) slice: Duration,
}

/// A relay with the packets it gets.
pub(crate) struct Contender {
    pub(crate) relay: Box<dyn Relay>,
    pub(crate) packets: Sealed,
    /// Milliseconds between two packets of a leg.
    ptime_ms: usize,
    turns: Vec<Turn>,
}

/// What one relay did in one turn.
struct Turn {
    relayed: u64,
    sent: u64,
    received: u64,
    cpu_ns: u64,
    /// How long it took to send.
    time: Duration,
}

impl Contender {
    pub(crate) fn new(relay: impl Relay + 'static, packets: Sealed, ptime_ms: usize) -> Self {
        Self { relay: Box::new(relay), packets, ptime_ms, turns: Vec::new() }
    }

    /// Forgets its turns, for others at another pace.
    pub(crate) fn begin(&mut self, ptime_ms: usize) {
        (self.ptime_ms, self.turns) = (ptime_ms, Vec::new());
    }

    pub(crate) fn take_turn(&mut self, devices: &Devices, slice: Duration) {
        let (warm_up, packets) = (self.packets.seal(WARM_UP, self.ptime_ms), self.packets.seal(slice, self.ptime_ms));
        let relay = &*self.relay;
        let relayed = relay.relayed();
        settle(relay, relayed + devices.send(&warm_up, relay.ports(), self.ptime_ms));
        let (relayed, cpu_ns, received) = (relay.relayed(), relay.cpu_ns(), devices.received());
        let start = Instant::now();
        let sent = devices.send(&packets, relay.ports(), self.ptime_ms);
        let time = start.elapsed();
        settle(relay, relayed + sent);
        if let Some(keys) = relay.sample_keys() {
            devices.check_samples(keys);
        }
        self.turns.push(Turn {
            relayed: relay.relayed() - relayed,
            sent,
            received: devices.received() - received,
            cpu_ns: relay.cpu_ns() - cpu_ns,
            time,
        });
    }

    /// CPU time of a packet in each turn, in nanoseconds.
    fn per_packet(&self) -> Vec<f64> {
        self.turns.iter().map(|turn| turn.cpu_ns as f64 / turn.relayed.max(1) as f64).collect()
    }

    /// The median of them.
    pub(crate) fn cost_ns(&self) -> f64 {
        median(self.per_packet())
    }

    /// Median of what each round's packet cost this relay, beside what it cost another in the same round.
    pub(crate) fn ratio(&self, other: &Self) -> f64 {
        median(self.per_packet().iter().zip(other.per_packet()).map(|(own, other)| own / other).collect())
    }

    fn print(&self, first: &Self) {
        let sum = |of: fn(&Turn) -> u64| self.turns.iter().map(of).sum::<u64>();
        let (relayed, sent, received) = (sum(|turn| turn.relayed), sum(|turn| turn.sent), sum(|turn| turn.received));
        let lost = 100.0 * (1.0 - received as f64 / sent as f64);
        let (name, cost, ratio) = (self.relay.name(), self.cost_ns(), self.ratio(first));
        let pace = sent as f64 / self.turns.iter().map(|turn| turn.time.as_secs_f64()).sum::<f64>();
        println!("{name:<54} {relayed:>10} {pace:>10.0} {lost:>7.2}% {cost:>14.0} {ratio:>8.2}");
    }
}

/// Waits until everything sent is relayed (or lost), and for the CPU time that the relay publishes when it is idle.
fn settle(relay: &dyn Relay, expected: u64) {
    let give_up = Instant::now() + Duration::from_secs(1);
    while relay.relayed() < expected && Instant::now() < give_up {
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(80));
}

/// Ratios are to the first.
pub(crate) fn report(contenders: &[&Contender]) {
    println!(
        "{:<54} {:>10} {:>10} {:>8} {:>14} {:>8}",
        "relay", "packets", "packets/s", "lost", "CPU ns/packet", "ratio"
    );
    contenders.iter().for_each(|contender| contender.print(contenders[0]));
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
