//! Many legs beside few: what is no longer in the processor's caches when a leg's next packet comes.

use crate::{
    CM,
    load::{Devices, PTIME_MS, Sealed},
    relays::{self, LOCALHOST, Ringdown},
    turns::{Contender, Plan, report},
};

/// Times as many legs.
const MANY: usize = 5;

/// As many packets a second over more legs, and as many packets of each leg.
pub(crate) fn compare(plan: &Plan) {
    let (few, many) = (Devices::start(plan.legs, LOCALHOST), Devices::start(MANY * plan.legs, LOCALHOST));
    let contender =
        |devices: &Devices| Contender::new(Ringdown::start(devices, CM), Sealed::new(devices, CM), PTIME_MS);
    let mut sides = [(&few, contender(&few)), (&many, contender(&many))];
    relays::pin(1);
    println!("{} and {} legs, {} rounds of {:?}", few.len(), many.len(), plan.rounds, plan.slice);
    for (ptime_ms, what) in [(MANY * PTIME_MS, "as many packets a second"), (PTIME_MS, "as many packets of each leg")] {
        sides[1].1.begin(ptime_ms);
        sides[0].1.begin(PTIME_MS);
        for _ in 0..plan.rounds {
            sides.iter_mut().for_each(|(devices, contender)| contender.take_turn(devices, plan.slice));
        }
        println!("{what}:");
        report(&sides.each_ref().map(|(_, contender)| contender));
    }
}
