//! A NAT with bad habits between a telephone and the server: it drops, doubles, delays and disorders datagrams by seed, forges
//! some, and may change the port by which the server knows the telephone.

use std::{
    net::{SocketAddr, UdpSocket},
    thread,
    time::Duration,
};

use ringdown::types::Rng;

use crate::network::Network;

pub(crate) struct Forwarder {
    /// What the server sees.
    outside: UdpSocket,
    server: SocketAddr,
    rng: Rng,
    waiting: Vec<Vec<u8>>,
    pub(crate) passed: u64,
    pub(crate) dropped: u64,
    pub(crate) doubled: u64,
    pub(crate) forged: u64,
}

impl Forwarder {
    /// `server`: its media port.
    pub(crate) fn new(network: &Network, server: SocketAddr, seed: u64) -> Self {
        let (outside, rng) = (socket(network), Rng::from_small_seed(seed));
        Self { outside, server, rng, waiting: Vec::new(), passed: 0, dropped: 0, doubled: 0, forged: 0 }
    }

    /// A packet of the telephone meets its fate.
    pub(crate) fn forward(&mut self, packet: Vec<u8>) {
        match self.rng.below(20) {
            0 | 1 => self.dropped += 1,
            2 => {
                self.pass(&packet);
                self.pass(&packet);
                self.doubled += 1;
            }
            3 => {
                self.forge(&packet);
                self.pass(&packet);
            }
            4..=6 => self.waiting.push(packet),
            7 => {
                thread::sleep(Duration::from_millis(u64::from(self.rng.below(15))));
                self.pass(&packet);
            }
            _ => self.pass(&packet),
        }
        // Those that wait are overtaken by a few.
        if self.waiting.len() > 3 {
            self.release();
        }
    }

    /// All that wait leave, the last one first.
    pub(crate) fn release(&mut self) {
        for packet in std::mem::take(&mut self.waiting).into_iter().rev() {
            self.pass(&packet);
        }
    }

    /// Untouched, and at once.
    pub(crate) fn pass(&mut self, packet: &[u8]) {
        self.outside.send_to(packet, self.server).expect("the way is open");
        self.passed += 1;
    }

    fn forge(&mut self, packet: &[u8]) {
        let mut forged = packet.to_vec();
        // Not the sequence number, so that nobody can say it was late.
        let at = 12 + usize::try_from(self.rng.below(u32::try_from(packet.len()).expect("small") - 12)).expect("small");
        forged[at] ^= 1 << self.rng.below(8);
        self.outside.send_to(&forged, self.server).expect("the way is open");
        self.forged += 1;
    }

    /// The NAT forgets the telephone, and knows it by another port from now on. Returns the socket of before.
    pub(crate) fn rebind(&mut self, network: &Network) -> UdpSocket {
        std::mem::replace(&mut self.outside, socket(network))
    }

    /// What the server sends to the telephone arrives here.
    pub(crate) const fn outside(&self) -> &UdpSocket {
        &self.outside
    }
}

/// A port of the router on the server's network.
pub(crate) fn socket(network: &Network) -> UdpSocket {
    network.router.enter(|| UdpSocket::bind((network.server.gateway(), 0)).expect("a free port"))
}
