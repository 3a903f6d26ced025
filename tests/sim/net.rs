//! A seeded network in virtual time: datagrams may be lost, delayed, duplicated and reordered; streams arrive in order
//! or break. Owns nothing but what is under way.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap},
    net::{IpAddr, SocketAddr},
};

use ringdown::types::{ConnectionId, Duration, Instant, Rng, Transport};

/// How bad the network is. It applies to everything sent from then on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    /// Datagrams lost, of 1000.
    pub(crate) lost_per_mille: u32,
    /// Datagrams that arrive twice, of 1000.
    pub(crate) doubled_per_mille: u32,
    /// One-way delay is drawn between these; a wide range reorders datagrams.
    pub(crate) delay_ms_min: u32,
    pub(crate) delay_ms_max: u32,
}

pub(crate) const CALM: Weather = Weather { lost_per_mille: 0, doubled_per_mille: 0, delay_ms_min: 5, delay_ms_max: 5 };

pub(crate) const STORM: Weather =
    Weather { lost_per_mille: 200, doubled_per_mille: 100, delay_ms_min: 2, delay_ms_max: 220 };

/// Which end of a connection: the one that asked for it or the one that listened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Opener,
    Acceptor,
}

impl End {
    const fn other(self) -> Self {
        match self {
            Self::Opener => Self::Acceptor,
            Self::Acceptor => Self::Opener,
        }
    }

    const fn index(self) -> usize {
        match self {
            Self::Opener => 0,
            Self::Acceptor => 1,
        }
    }
}

/// Something that reaches `to` now.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) to: SocketAddr,
    pub(crate) what: Happening,
}

#[derive(Debug)]
pub(crate) enum Happening {
    Datagram { from: SocketAddr, bytes: Vec<u8> },
    Accepted { connection: ConnectionId, transport: Transport, from: SocketAddr },
    Bytes { connection: ConnectionId, bytes: Vec<u8> },
    Closed { connection: ConnectionId },
}

#[derive(Debug)]
struct Connection {
    ends: [SocketAddr; 2],
    /// When the last bytes towards each end arrive: later ones never overtake them.
    settled: [Instant; 2],
}

/// Everything between the hosts.
#[derive(Debug)]
pub(crate) struct Net {
    rng: Rng,
    pub(crate) weather: Weather,
    order: BinaryHeap<Reverse<(Instant, u64)>>,
    under_way: HashMap<u64, Arrival>,
    sent: u64,
    connections: BTreeMap<ConnectionId, Connection>,
    accepted: u64,
    /// Hosts that nothing reaches and nothing leaves before this time.
    cut_off: HashMap<IpAddr, Instant>,
    /// Hosts that nothing reaches before this time, although they are heard.
    deaf: HashMap<IpAddr, Instant>,
    /// Messages that are lost whatever the weather.
    losses: Vec<Loss>,
}

/// Datagrams of one kind that leave or would reach a host.
#[derive(Debug)]
pub(crate) struct Loss {
    pub(crate) host: IpAddr,
    pub(crate) is_from: bool,
    /// How its bytes begin.
    pub(crate) start: String,
    /// How many more are lost; `None`: all.
    pub(crate) left: Option<u32>,
}

impl Net {
    pub(crate) fn new(rng: Rng) -> Self {
        Self {
            rng,
            weather: CALM,
            order: BinaryHeap::new(),
            under_way: HashMap::new(),
            sent: 0,
            connections: BTreeMap::new(),
            accepted: 0,
            cut_off: HashMap::new(),
            deaf: HashMap::new(),
            losses: Vec::new(),
        }
    }

    /// Datagrams from and to `host` are lost until `until`; streams stall.
    pub(crate) fn cut_off(&mut self, host: IpAddr, until: Instant) {
        self.cut_off.insert(host, until);
    }

    /// Datagrams to `host` are lost until `until`; streams stall in both directions, for want of acknowledgements.
    pub(crate) fn deafen(&mut self, host: IpAddr, until: Instant) {
        self.deaf.insert(host, until);
    }

    pub(crate) fn lose(&mut self, loss: Loss) {
        self.losses.push(loss);
    }

    /// Losses that were asked for and have not happened yet.
    pub(crate) fn losses_left(&self) -> u32 {
        self.losses.iter().filter_map(|loss| loss.left).sum()
    }

    /// Calm weather, nobody cut off. What is under way still arrives late.
    pub(crate) fn heal(&mut self) {
        self.weather = CALM;
        self.cut_off.clear();
        self.deaf.clear();
        self.losses.clear();
    }

    pub(crate) fn next_at(&self) -> Option<Instant> {
        self.order.peek().map(|Reverse((at, _))| *at)
    }

    /// The next arrival not later than `now`.
    pub(crate) fn take(&mut self, now: Instant) -> Option<Arrival> {
        if self.next_at()? > now {
            return None;
        }
        let Reverse((_, id)) = self.order.pop()?;
        self.under_way.remove(&id)
    }

    pub(crate) fn datagram(&mut self, now: Instant, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let is_deaf = self.deaf.get(&to.ip()).is_some_and(|until| *until > now);
        if is_deaf || self.reachable_at(now, from.ip(), to.ip()) > now || self.is_picked_out(from, to, bytes) {
            return;
        }
        if self.rng.below(1000) < self.weather.lost_per_mille {
            return;
        }
        let copies = if self.rng.below(1000) < self.weather.doubled_per_mille { 2 } else { 1 };
        for _ in 0..copies {
            let at = now + self.delay();
            self.schedule(at, to, Happening::Datagram { from, bytes: bytes.to_vec() });
        }
    }

    /// Opens a connection of the opener's choosing (`connection`) or numbers a new one.
    pub(crate) fn connect(
        &mut self,
        now: Instant,
        transport: Transport,
        from: SocketAddr,
        to: SocketAddr,
        connection: Option<ConnectionId>,
    ) -> ConnectionId {
        let connection = connection.unwrap_or_else(|| {
            self.accepted += 1;
            ConnectionId(self.accepted)
        });
        self.connections.insert(connection, Connection { ends: [from, to], settled: [now; 2] });
        self.stream(now, connection, End::Acceptor, Happening::Accepted { connection, transport, from });
        connection
    }

    /// Sends on a connection; false if it is broken. The bytes arrive in pieces.
    pub(crate) fn send(&mut self, now: Instant, connection: ConnectionId, by: End, bytes: &[u8]) -> bool {
        if !self.connections.contains_key(&connection) {
            return false;
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let most = u32::try_from(rest.len()).expect("messages are small");
            let cut = if self.rng.below(4) == 0 { 1 + self.rng.below(most) } else { most };
            let (piece, tail) = rest.split_at(usize::try_from(cut).expect("a u32 fits"));
            self.stream(now, connection, by.other(), Happening::Bytes { connection, bytes: piece.to_vec() });
            rest = tail;
        }
        true
    }

    /// Closes a connection from one end: the other learns of it after everything sent before.
    pub(crate) fn close(&mut self, now: Instant, connection: ConnectionId, by: End) {
        if self.connections.contains_key(&connection) {
            self.stream(now, connection, by.other(), Happening::Closed { connection });
            self.connections.remove(&connection);
        }
    }

    /// Breaks a connection in the middle: both ends learn of it.
    pub(crate) fn cut(&mut self, now: Instant, connection: ConnectionId) {
        if self.connections.contains_key(&connection) {
            self.stream(now, connection, End::Opener, Happening::Closed { connection });
            self.stream(now, connection, End::Acceptor, Happening::Closed { connection });
            self.connections.remove(&connection);
        }
    }

    /// Breaks every connection of a host that died.
    pub(crate) fn cut_all(&mut self, now: Instant, host: IpAddr) {
        let of_host = |c: &Connection| c.ends.iter().any(|e| e.ip() == host);
        let ids: Vec<_> = self.connections.iter().filter(|(_, c)| of_host(c)).map(|(id, _)| *id).collect();
        for id in ids {
            self.cut(now, id);
        }
    }

    /// Which end of a live connection `address` is.
    pub(crate) fn end_of(&self, connection: ConnectionId, address: SocketAddr) -> Option<End> {
        let ends = &self.connections.get(&connection)?.ends;
        [End::Opener, End::Acceptor].into_iter().find(|e| ends[e.index()] == address)
    }

    fn stream(&mut self, now: Instant, connection: ConnectionId, to: End, what: Happening) {
        let delay = self.delay();
        let Some(c) = self.connections.get(&connection) else { return };
        let ends = [c.ends[0].ip(), c.ends[1].ip()];
        let deaf = ends.iter().filter_map(|ip| self.deaf.get(ip)).copied().max().unwrap_or(now);
        let reachable = self.reachable_at(now, ends[0], ends[1]).max(deaf);
        let at = (reachable + delay).max(c.settled[to.index()]);
        let address = c.ends[to.index()];
        if let Some(c) = self.connections.get_mut(&connection) {
            c.settled[to.index()] = at;
        }
        self.schedule(at, address, what);
    }

    fn reachable_at(&self, now: Instant, a: IpAddr, b: IpAddr) -> Instant {
        [a, b].iter().filter_map(|ip| self.cut_off.get(ip)).copied().fold(now, Instant::max)
    }

    fn is_picked_out(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) -> bool {
        let is_it = |loss: &&mut Loss| {
            let host = if loss.is_from { from.ip() } else { to.ip() };
            loss.left != Some(0) && loss.host == host && bytes.starts_with(loss.start.as_bytes())
        };
        let found = self.losses.iter_mut().find(is_it);
        found.map(|loss| loss.left = loss.left.map(|left| left - 1)).is_some()
    }

    fn delay(&mut self) -> Duration {
        let spread = self.weather.delay_ms_max - self.weather.delay_ms_min;
        // Microseconds, so that two datagrams rarely arrive in the same instant.
        let us = self.weather.delay_ms_min * 1000 + self.rng.below(spread * 1000 + 1);
        Duration::from_micros(u64::from(us))
    }

    fn schedule(&mut self, at: Instant, to: SocketAddr, what: Happening) {
        self.sent += 1;
        self.order.push(Reverse((at, self.sent)));
        self.under_way.insert(self.sent, Arrival { to, what });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn after(ms: u64) -> Instant {
        Instant::from_unix_ms(ms)
    }

    fn drain(net: &mut Net) -> Vec<(u64, Vec<u8>)> {
        let mut out = Vec::new();
        while let Some(at) = net.next_at() {
            let arrival = net.take(at).expect("it is due");
            match arrival.what {
                Happening::Datagram { bytes, .. } | Happening::Bytes { bytes, .. } => out.push((at.unix_ms(), bytes)),
                Happening::Accepted { .. } => out.push((at.unix_ms(), b"open".to_vec())),
                Happening::Closed { .. } => out.push((at.unix_ms(), b"closed".to_vec())),
            }
        }
        out
    }

    fn storm(seed: u64) -> Vec<(u64, Vec<u8>)> {
        let mut net = Net::new(Rng::from_small_seed(seed));
        net.weather = STORM;
        for n in 0..200u8 {
            net.datagram(after(u64::from(n)), address("10.0.0.1:1"), address("10.0.0.2:2"), &[n]);
        }
        drain(&mut net)
    }

    #[test]
    fn a_storm_loses_doubles_and_reorders_datagrams_and_its_seed_repeats_it() {
        let seen = storm(7);
        let mut different = seen.iter().map(|(_, b)| b[0]).collect::<Vec<_>>();
        assert!(different.windows(2).any(|w| w[0] > w[1]), "nothing was reordered");
        different.sort_unstable();
        assert!(different.windows(2).any(|w| w[0] == w[1]), "nothing was doubled");
        different.dedup();
        assert!(different.len() < 200 && different.len() > 100, "{} of 200 arrived", different.len());
        assert_eq!(seen, storm(7));
        assert_ne!(seen, storm(8));
    }

    #[test]
    fn a_stream_keeps_its_order_in_a_storm_and_says_when_it_breaks() {
        let mut net = Net::new(Rng::from_small_seed(1));
        net.weather = STORM;
        let (a, b) = (address("10.0.0.1:1"), address("10.0.0.2:2"));
        let c = net.connect(after(0), Transport::Tcp, a, b, None);
        let text: Vec<u8> = (0..=255).collect();
        for piece in text.chunks(16) {
            assert!(net.send(after(1), c, End::Opener, piece));
        }
        net.close(after(2), c, End::Opener);
        assert!(!net.send(after(3), c, End::Opener, b"late"));
        let seen = drain(&mut net);
        assert_eq!(seen.first().map(|(_, b)| b.as_slice()), Some(b"open".as_slice()));
        assert_eq!(seen.last().map(|(_, b)| b.as_slice()), Some(b"closed".as_slice()));
        let middle: Vec<u8> = seen[1..seen.len() - 1].iter().flat_map(|(_, b)| b.clone()).collect();
        assert_eq!(middle, text);
    }

    #[test]
    fn a_deaf_host_is_heard_and_hears_nothing_and_what_is_picked_out_is_lost_as_often_as_said() {
        let mut net = Net::new(Rng::from_small_seed(1));
        let (a, b) = (address("10.0.0.1:1"), address("10.0.0.2:2"));
        net.deafen(b.ip(), after(1000));
        net.datagram(after(10), a, b, b"unheard");
        net.datagram(after(20), b, a, b"heard");
        net.datagram(after(2000), a, b, b"heard again");
        net.lose(Loss { host: b.ip(), is_from: true, start: "ACK ".to_owned(), left: Some(2) });
        for text in [b"ACK 1", b"BYE 1", b"ACK 2", b"ACK 3"] {
            net.datagram(after(3000), b, a, text);
            net.datagram(after(4000), a, b, text);
        }
        let seen: Vec<String> = drain(&mut net).into_iter().map(|(_, b)| String::from_utf8_lossy(&b).into()).collect();
        let wanted = ["heard", "heard again", "BYE 1", "ACK 3", "ACK 1", "BYE 1", "ACK 2", "ACK 3"];
        assert_eq!(seen, wanted);
    }

    #[test]
    fn a_host_that_is_cut_off_loses_datagrams_and_delays_streams() {
        let mut net = Net::new(Rng::from_small_seed(1));
        let (a, b) = (address("10.0.0.1:1"), address("10.0.0.2:2"));
        let c = net.connect(after(0), Transport::Tls, a, b, None);
        net.cut_off(b.ip(), after(1000));
        net.datagram(after(10), a, b, b"lost");
        assert!(net.send(after(10), c, End::Opener, b"late"));
        net.datagram(after(2000), a, b, b"found");
        let seen = drain(&mut net);
        assert!(seen.iter().all(|(_, b)| b != b"lost"));
        assert!(seen.iter().all(|(at, b)| !b.starts_with(b"l") || *at >= 1000));
        assert!(seen.iter().any(|(_, b)| b == b"found"));
    }
}
