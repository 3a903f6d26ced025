//! The backends beside each other, each between a pair of virtual cards of its own.

use std::ops::RangeInclusive;

use ringdown::{config, shell::media_io::Backend, wire::srtp::Suite};

use crate::{
    Plan,
    load::{Devices, Sealed},
    namespace::{Networks, SERVER_CARD, inside},
    relays::{self, Relay, Ringdown},
    report, turn,
};

const SUITES: [Suite; 2] = [Suite::AesCm128HmacSha1_80; 2];
/// Nobody else is in these networks.
const PORTS: RangeInclusive<u16> = 20_000..=29_999;

/// One backend, with its devices on the other side of a pair of cards.
struct Side {
    devices: Devices,
    relay: Box<dyn Relay>,
    packets: Sealed,
    /// Taken away at the end.
    _networks: Networks,
}

impl Side {
    fn new(legs: usize, backend: &str) -> Option<Self> {
        let networks = Networks::new()?;
        let (ip, phones) = (networks.ipv4(1), networks.ipv4(2));
        let devices = inside(&networks.phones, || Devices::start(legs, phones));
        let relay = inside(&networks.server, || {
            let text = format!(
                "[media]\naddresses = [\"{ip}\"]\nports = \"{}-{}\"\nbackend = \"{backend}\"\n\
                 xdp_interface = \"{SERVER_CARD}\"\nworkers = 1\n[company]\nname = \"x\"\nregion = \"US\"\n",
                PORTS.start(),
                PORTS.end()
            );
            let (config, _) = config::parse(&text).unwrap();
            let (carried, _) = Backend::open(&config.media, 1);
            assert_eq!(carried.card.is_some(), backend == "xdp");
            Ringdown::at(format!("ringdown by {backend}"), ip, &PORTS, carried, &devices, SUITES)
        });
        let packets = Sealed::new(&devices, SUITES);
        Some(Self { devices, relay: Box::new(relay), packets, _networks: networks })
    }
}

pub(crate) fn compare(plan: &Plan) {
    let legs = plan.legs / 2;
    let Some(mut sides) =
        ["epoll", "xdp"].map(|backend| Side::new(legs, backend)).into_iter().collect::<Option<Vec<_>>>()
    else {
        return;
    };
    relays::pin(1);
    println!("virtual cards (veth, AF_XDP with a copy); {legs} legs, {} rounds of {:?}", plan.rounds, plan.slice);
    let mut turns: Vec<_> = sides.iter().map(|_| Vec::new()).collect();
    for _ in 0..plan.rounds {
        for (side, turns) in sides.iter_mut().zip(&mut turns) {
            turns.push(turn(&*side.relay, &mut side.packets, &side.devices, plan.slice));
        }
    }
    // The namespaces end after the relays in them.
    let (contenders, _networks): (Vec<_>, Vec<_>) =
        sides.into_iter().map(|side| ((side.relay, side.packets), side._networks)).unzip();
    report(&contenders, &turns);
}
