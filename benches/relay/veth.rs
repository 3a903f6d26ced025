//! Sockets and AF_XDP beside each other, each between a pair of virtual cards of its own.

use std::ops::RangeInclusive;

use ringdown::{config, shell::media_io::Backend, wire::srtp::Suite};

use crate::{
    load::{Devices, Sealed},
    namespace::{Networks, SERVER_CARD, inside},
    relays::{self, Relay, Ringdown, Simple},
    turns::{Contender, Plan, report},
};

const SUITES: [Suite; 2] = [Suite::AesCm128HmacSha1_80; 2];
/// Nobody else is in these networks.
const PORTS: RangeInclusive<u16> = 20_000..=29_999;
/// 500 legs with a packet in five milliseconds are 100,000 packets a second.
const PTIME_MS: usize = 5;

/// One relay, with its devices on the other side of a pair of cards.
pub(crate) struct Side {
    pub(crate) devices: Devices,
    pub(crate) contender: Contender,
    /// Taken away after the relay in it.
    _networks: Networks,
}

impl Side {
    fn new<R>(legs: usize, start: impl FnOnce(&Devices, &Networks) -> R + Send) -> Option<Self>
    where
        R: Relay + Send + 'static,
    {
        let networks = Networks::new()?;
        let devices = inside(&networks.phones, || Devices::start(legs, networks.ipv4(2)));
        let relay = inside(&networks.server, || start(&devices, &networks));
        let contender = Contender::new(relay, Sealed::new(&devices, SUITES), PTIME_MS);
        Some(Self { devices, contender, _networks: networks })
    }

    /// ringdown with the packets carried by `backend`.
    pub(crate) fn ringdown(legs: usize, backend: &str) -> Option<Self> {
        Self::new(legs, |devices, networks| {
            let ip = networks.ipv4(1);
            let text = format!(
                "[media]\naddresses = [\"{ip}\"]\nports = \"{}-{}\"\nbackend = \"{backend}\"\n\
                 xdp_interface = \"{SERVER_CARD}\"\nworkers = 1\n[company]\nname = \"x\"\nregion = \"US\"\n",
                PORTS.start(),
                PORTS.end()
            );
            let (config, _) = config::parse(&text).unwrap();
            let (carried, _) = Backend::open(&config.media, 1);
            assert_eq!(carried.card.is_some(), backend == "xdp");
            Ringdown::at(format!("ringdown by {backend}"), ip, &PORTS, carried, devices, SUITES)
        })
    }
}

pub(crate) fn compare(plan: &Plan) {
    let legs = plan.legs / 2;
    let Some(mut sides) = [
        Side::new(legs, |devices, networks| Simple::bare(devices, networks.ipv4(1))),
        Side::new(legs, |devices, networks| Simple::tokio(devices, networks.ipv4(1))),
        Side::ringdown(legs, "epoll"),
        Side::ringdown(legs, "xdp"),
    ]
    .into_iter()
    .collect::<Option<Vec<_>>>() else {
        return;
    };
    relays::pin(1);
    let packets = legs * 1_000 / PTIME_MS;
    println!("virtual cards (veth), {legs} legs, {packets} packets/s, {} rounds of {:?}", plan.rounds, plan.slice);
    for _ in 0..plan.rounds {
        sides.iter_mut().for_each(|side| side.contender.take_turn(&side.devices, plan.slice));
    }
    report(&sides.iter().map(|side| &side.contender).collect::<Vec<_>>());
    let [_, tokio, _, xdp] = &sides[..] else { unreachable!() };
    println!("AF_XDP takes {:.2} times what tokio takes", xdp.contender.ratio(&tokio.contender));
}
