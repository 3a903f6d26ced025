//! A call between two encrypted legs through any order of hold, re-key, new start, change of SSRC, wrap, loss, disorder, roaming,
//! moves to other workers and spoofing.
//!
//! Method: a model knows of each packet whether it is genuine, under which keys, how far behind, and where each leg's
//! latch must be. What is genuine and owed arrives and decodes to what was sent, if perhaps under another sequence number; copies and forgeries never pass and move
//! nothing. That no index is used twice is judged by the far telephone, whose replay window refuses a packet whose index
//! it has seen, or that is too old to know: every packet relayed to it must pass.

use std::{collections::HashMap, net::SocketAddr};

use proptest::{prelude::*, test_runner::RngSeed};

use super::{
    command::{Command, Protection, Remote, Rtcp},
    protection::History,
    testing::*,
};
use crate::{
    types::{DropReason, Duration, Instant, Rng},
    wire::srtp::{Inbound, MasterKey, Outbound, Suite, TAG_ROOM_BYTES},
};

/// Streams of each telephone.
const STREAMS: usize = 3;
/// How far behind the newest a packet may come: what the replay window tells apart, less a round number.
const LATE_MAX: u64 = 400;
/// The longest that is left out at once.
const GAP_MAX: u64 = 20_000;
/// How far ahead of the newest: less than half a cycle, which is all that a sequence number can tell.
const AHEAD_MAX: u64 = 30_000;
const OLD_KEY_LIFE: Duration = Duration::from_secs(2);

#[derive(Clone, Debug)]
enum Step {
    /// A packet of one of a telephone's streams, so many numbers after the last.
    Speak {
        who: usize,
        stream: usize,
        gap: u64,
        fate: Fate,
    },
    Report {
        who: usize,
        fate: Fate,
    },
    /// One of the packets that are late arrives.
    Arrive {
        which: prop::sample::Index,
    },
    /// What was sent before comes again.
    Copy {
        which: prop::sample::Index,
        source: Source,
    },
    /// ... with one bit changed.
    Forge {
        which: prop::sample::Index,
        bit: prop::sample::Index,
        source: Source,
    },
    /// A whole packet under a key of nobody's.
    Invent {
        who: usize,
        stream: usize,
        source: Source,
    },
    Hold {
        who: usize,
        may_send: bool,
        wants_media: bool,
    },
    /// A telephone is put on hold, and sends for so long that its sequence numbers say nothing when it is heard again.
    TalkOnHold {
        who: usize,
        stream: usize,
        packets: u64,
    },
    /// The telephone sends, or receives, under a new key; it may begin its streams anew.
    RekeySends {
        who: usize,
        start: Option<u16>,
    },
    RekeyReceives {
        who: usize,
    },
    /// Its leg moves to another worker: its own key stays, and it hears under a new one.
    Move {
        who: usize,
    },
    /// The network gives it another address.
    Roam {
        who: usize,
        port: u16,
    },
    Wait {
        ms: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Arrives,
    Lost,
    Late,
}

#[derive(Clone, Copy, Debug)]
enum Source {
    /// The telephone's own address; a copy of the network's making, or a forged source.
    Itself,
    Stranger,
}

fn step() -> impl Strategy<Value = Step> {
    let (who, stream) = (|| 0_usize..2, || prop_oneof![4 => Just(0), 1 => 1..STREAMS]);
    let fate = || prop_oneof![6 => Just(Fate::Arrives), 1 => Just(Fate::Lost), 2 => Just(Fate::Late)];
    let gap = prop_oneof![12 => Just(1_u64), 2 => 2_u64..60, 1 => 1_000_u64..GAP_MAX];
    let source = || prop_oneof![Just(Source::Itself), Just(Source::Stranger)];
    let index = any::<prop::sample::Index>;
    prop_oneof![
        24 => (who(), stream(), gap, fate()).prop_map(|(who, stream, gap, fate)| Step::Speak { who, stream, gap, fate }),
        3 => (who(), fate()).prop_map(|(who, fate)| Step::Report { who, fate }),
        5 => index().prop_map(|which| Step::Arrive { which }),
        3 => (index(), source()).prop_map(|(which, source)| Step::Copy { which, source }),
        3 => (index(), index(), source()).prop_map(|(which, bit, source)| Step::Forge { which, bit, source }),
        1 => (who(), stream(), source()).prop_map(|(who, stream, source)| Step::Invent { who, stream, source }),
        2 => (who(), any::<bool>(), any::<bool>()).prop_map(|(who, may_send, wants_media)| {
            Step::Hold { who, may_send, wants_media }
        }),
        1 => (who(), stream(), 1_u64..5).prop_map(|(who, stream, packets)| Step::TalkOnHold { who, stream, packets }),
        1 => (who(), prop_oneof![Just(None), any::<u16>().prop_map(Some), (0_u16..99).prop_map(Some)])
            .prop_map(|(who, start)| Step::RekeySends { who, start }),
        1 => who().prop_map(|who| Step::RekeyReceives { who }),
        1 => who().prop_map(|who| Step::Move { who }),
        2 => (who(), 1_u16..4).prop_map(|(who, port)| Step::Roam { who, port }),
        2 => prop_oneof![Just(20_u64), 100_u64..1_500].prop_map(|ms| Step::Wait { ms }),
    ]
}

/// Where a stream of one sender stands under one key.
#[derive(Clone, Copy, Debug)]
struct Heard {
    first: u64,
    highest: u64,
    /// Whatever came before counts as heard.
    passed: u64,
}

/// A packet that a telephone has sent. `index`: its number from the beginning of the stream, wraps included.
#[derive(Clone, Debug)]
struct Sent {
    who: usize,
    stream: usize,
    index: u64,
    key: u32,
    source: SocketAddr,
    is_rtcp: bool,
    plain: Vec<u8>,
    bytes: Vec<u8>,
    /// The server has taken it for genuine.
    has_passed: bool,
}

/// One telephone and what must be known of its leg.
struct Peer {
    suite: Suite,
    address: SocketAddr,
    remote: Remote,
    sends: MasterKey,
    receives: MasterKey,
    outbound: Outbound,
    inbound: Inbound,
    /// How often it was changed.
    sends_key: u32,
    /// Until when packets under the key before this one are read.
    old_key_until: Instant,
    next: [u64; STREAMS],
    reports: u64,
    /// By key and stream: the first number sent, and what the server has read. `STREAMS`: reports.
    first_sent: HashMap<(u32, usize), u64>,
    read: HashMap<(u32, usize), Heard>,
    latched: Option<SocketAddr>,
    candidate: Option<(SocketAddr, u8)>,
}

impl Peer {
    fn new(slot: u32, suite: Suite, start: u64, rng: &mut Rng) -> Self {
        let (sends, receives) = (MasterKey::generate(suite, rng), MasterKey::generate(suite, rng));
        let address = at(&format!("203.0.113.{}:4000", slot + 1));
        Self {
            suite,
            address,
            remote: Remote {
                rtp: Some(address),
                rtcp: Rtcp::Multiplexed,
                host: None,
                network: None,
                wants_media: true,
                may_send: true,
            },
            outbound: Outbound::new(suite, &sends),
            inbound: Inbound::new(suite, &receives, 0),
            sends,
            receives,
            sends_key: 0,
            old_key_until: Instant::default(),
            next: [start; STREAMS],
            reports: 0,
            first_sent: HashMap::new(),
            read: HashMap::new(),
            latched: None,
            candidate: None,
        }
    }

    fn renew_receives(&mut self, rng: &mut Rng) {
        self.receives = MasterKey::generate(self.suite, rng);
        self.inbound = Inbound::new(self.suite, &self.receives, 0);
    }

    fn destination(&self) -> SocketAddr {
        self.latched.or(self.remote.rtp).expect("it was signalled")
    }

    /// An authentic packet from this source; three in a row move a latch that holds.
    fn accept(&mut self, source: SocketAddr) {
        let packets = match self.candidate {
            _ if self.latched == Some(source) => 0,
            Some((candidate, packets)) if candidate == source => packets + 1,
            Some(_) | None => 1,
        };
        self.candidate = Some((source, packets)).filter(|_| packets > 0);
        if self.latched.is_none() || packets == 3 {
            (self.latched, self.candidate) = (Some(source), None);
        }
    }

    fn protect(&mut self, plain: &[u8], is_rtcp: bool) -> Vec<u8> {
        let mut bytes = plain.to_vec();
        bytes.resize(plain.len() + TAG_ROOM_BYTES, 0);
        let len = match is_rtcp {
            true => self.outbound.protect_rtcp(&mut bytes, plain.len()),
            false => self.outbound.protect_rtp(&mut bytes, plain.len()),
        };
        bytes.truncate(len.expect("a number that was not used before"));
        bytes
    }

    /// What was relayed to it.
    fn open(&mut self, mut bytes: Vec<u8>, is_rtcp: bool) -> Result<Vec<u8>, DropReason> {
        let len = match is_rtcp {
            true => self.inbound.unprotect_rtcp(&mut bytes)?,
            false => self.inbound.unprotect_rtp(&mut bytes)?,
        };
        bytes.truncate(len);
        Ok(bytes)
    }
}

fn ssrc(who: usize, stream: usize) -> u32 {
    0x0707_0000 + u32::try_from(0x100 * who + stream).expect("a few")
}

fn slot(who: usize) -> u32 {
    u32::from(who == 1)
}

/// Whether a number stands where a receiver that has heard this much can place it. One that has heard nothing can place any
/// of the sender's first cycle.
fn is_placed(heard: Option<&Heard>, index: u64) -> bool {
    heard.is_none_or(|heard| {
        index >= heard.passed
            && index >> 16 >= heard.first >> 16
            && index + LATE_MAX > heard.highest
            && index < heard.highest + AHEAD_MAX
    })
}

fn note(heard: &mut HashMap<(u32, usize), Heard>, key: (u32, usize), index: u64) {
    let entry = heard.entry(key).or_insert(Heard { first: index, highest: index, passed: 0 });
    entry.highest = entry.highest.max(index);
}

struct World {
    rig: Rig,
    rng: Rng,
    peers: [Peer; 2],
    sent: Vec<Sent>,
    late: Vec<usize>,
    relayed: usize,
}

impl World {
    fn new(suites: [Suite; 2], start: u64, seed: u64) -> Self {
        let mut rng = Rng::from_small_seed(seed);
        let mut rig = Rig::new(2);
        let peers = [0, 1].map(|slot| Peer::new(slot, suites[slot as usize], start, &mut rng));
        for slot in [0, 1] {
            rig.open(slot);
        }
        let mut world = Self { rig, rng, peers, sent: Vec::new(), late: Vec::new(), relayed: 0 };
        world.configure(0);
        world.configure(1);
        world.rig.command(Command::Connect { a: leg(0), b: leg(1) });
        world
    }

    fn configure(&mut self, who: usize) {
        self.configure_heir(who, None);
    }

    fn configure_heir(&mut self, who: usize, history: Option<Box<History>>) {
        let Peer { suite, remote, ref sends, ref receives, .. } = self.peers[who];
        let protection = |key: &MasterKey| Protection::Srtp { suite, key: key.clone(), mki_bytes: 0 };
        let (receive, send) = (protection(sends), protection(receives));
        let (leg, traffic) = (leg(slot(who)), crate::wire::classify::Traffic::Rtp);
        let formats = formats();
        self.rig.command(Command::Configure { leg, traffic, remote, formats, receive, send, history });
    }

    fn perform(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Speak { who, stream, gap, fate } => self.speak(who, stream, gap, fate)?,
            Step::Report { who, fate } => {
                let index = self.peers[who].reports;
                self.peers[who].reports += 1;
                let mut plain = sender_report(0, index << 16, None);
                plain[4..8].copy_from_slice(&ssrc(who, 0).to_be_bytes());
                self.send(who, STREAMS, index, plain, fate)?;
            }
            Step::Arrive { which } if !self.late.is_empty() => {
                let at = which.index(self.late.len());
                let packet = self.late.remove(at);
                self.arrive(packet)?;
            }
            Step::Copy { which, source } if !self.sent.is_empty() => {
                let sent = self.sent[which.index(self.sent.len())].clone();
                if sent.has_passed {
                    self.refuse(sent.who, &sent.bytes, source)?;
                }
            }
            Step::Forge { which, bit, source } if !self.sent.is_empty() => {
                let sent = self.sent[which.index(self.sent.len())].clone();
                let (mut bytes, bit) = (sent.bytes.clone(), bit.index(8 * sent.bytes.len()));
                bytes[bit / 8] ^= 1 << (bit % 8);
                self.refuse(sent.who, &bytes, source)?;
            }
            Step::Invent { who, stream, source } => {
                let key = MasterKey::generate(self.peers[who].suite, &mut self.rng);
                let index = self.peers[who].next[stream] + 1;
                let mut sent = self.packet(who, stream, index);
                sent.resize(sent.len() + TAG_ROOM_BYTES, 0);
                let len = sent.len() - TAG_ROOM_BYTES;
                let len = Outbound::new(self.peers[who].suite, &key).protect_rtp(&mut sent, len).expect("its first");
                self.refuse(who, &sent[..len], source)?;
            }
            Step::Hold { who, may_send, wants_media } => {
                self.peers[who].remote = Remote { may_send, wants_media, ..self.peers[who].remote };
                self.configure(who);
            }
            Step::TalkOnHold { who, stream, packets } => {
                let Remote { wants_media, may_send, .. } = self.peers[1 - who].remote;
                self.perform(Step::Hold { who: 1 - who, may_send, wants_media: false })?;
                for _ in 0..packets {
                    self.perform(Step::Speak { who, stream, gap: GAP_MAX, fate: Fate::Arrives })?;
                }
                self.perform(Step::Hold { who: 1 - who, may_send, wants_media })?;
            }
            Step::RekeySends { who, start } => {
                let (now, peer) = (self.rig.now, &mut self.peers[who]);
                peer.sends = MasterKey::generate(peer.suite, &mut self.rng);
                peer.outbound = Outbound::new(peer.suite, &peer.sends);
                (peer.sends_key, peer.old_key_until) = (peer.sends_key + 1, now + OLD_KEY_LIFE);
                peer.reports = 0;
                if let Some(start) = start {
                    peer.next = [start.into(); STREAMS];
                }
                self.configure(who);
            }
            Step::RekeyReceives { who } => {
                self.peers[who].renew_receives(&mut self.rng);
                self.configure(who);
            }
            Step::Move { who } => {
                let (_, history) = self.rig.close_for_heir(slot(who)).expect("it is open");
                self.rig.open(slot(who));
                let (now, peer) = (self.rig.now, &mut self.peers[who]);
                (peer.latched, peer.candidate, peer.old_key_until) = (None, None, now);
                let of_key = peer.read.iter_mut().filter(|((key, _), _)| *key == peer.sends_key);
                of_key.for_each(|(_, heard)| heard.passed = heard.highest + 1);
                peer.renew_receives(&mut self.rng);
                self.configure_heir(who, Some(history));
                self.rig.command(Command::Connect { a: leg(0), b: leg(1) });
            }
            Step::Roam { who, port } => self.peers[who].address.set_port(4_000 + port),
            Step::Wait { ms } => self.rig.advance(ms),
            Step::Arrive { .. } | Step::Copy { .. } | Step::Forge { .. } => {}
        }
        Ok(())
    }

    fn packet(&self, who: usize, stream: usize, index: u64) -> Vec<u8> {
        let sequence = u16::try_from(index & 0xffff).expect("16 bits");
        let mut plain = plain_rtp(0, sequence, sequence.to_be_bytes()[1]);
        plain[8..12].copy_from_slice(&ssrc(who, stream).to_be_bytes());
        plain
    }

    /// Gaps are as long as the other side can bridge. What nobody has heard of does not wrap: nobody could know.
    fn speak(&mut self, who: usize, stream: usize, gap: u64, fate: Fate) -> Result<(), TestCaseError> {
        let peer = &self.peers[who];
        let key = (peer.sends_key, stream);
        let can_be_followed = |index: u64| {
            let first = peer.first_sent.get(&key).copied().unwrap_or(index);
            let is_of_first_cycle = first >> 16 == index >> 16;
            peer.read.get(&key).map_or(is_of_first_cycle, |heard| index < heard.highest + AHEAD_MAX)
        };
        let last = peer.next[stream];
        let Some(index) = [last + gap, last + 1].into_iter().find(|index| can_be_followed(*index)) else {
            return Ok(());
        };
        let plain = self.packet(who, stream, index);
        self.peers[who].next[stream] = index;
        self.peers[who].first_sent.entry(key).or_insert(index);
        self.send(who, stream, index, plain, fate)
    }

    fn send(&mut self, who: usize, stream: usize, index: u64, plain: Vec<u8>, fate: Fate) -> Result<(), TestCaseError> {
        let is_rtcp = stream == STREAMS;
        let peer = &mut self.peers[who];
        let bytes = peer.protect(&plain, is_rtcp);
        let (key, source) = (peer.sends_key, peer.address);
        self.sent.push(Sent { who, stream, index, key, source, is_rtcp, plain, bytes, has_passed: false });
        let packet = self.sent.len() - 1;
        match fate {
            Fate::Arrives => self.arrive(packet),
            Fate::Late => {
                self.late.push(packet);
                Ok(())
            }
            Fate::Lost => Ok(()),
        }
    }

    /// A genuine packet comes, for the first time.
    fn arrive(&mut self, number: usize) -> Result<(), TestCaseError> {
        let sent = self.sent[number].clone();
        let Sent { who, stream, index, key, source, is_rtcp, .. } = sent;
        let (peer, other) = (&self.peers[who], &self.peers[1 - who]);
        // Under a key that was replaced only where the telephone is known to be.
        let is_old_one_s = || peer.latched.is_none_or(|latched| latched == source) && self.rig.now < peer.old_key_until;
        let is_of_key = key == peer.sends_key || (key + 1 == peer.sends_key && is_old_one_s());
        let is_readable = is_of_key && is_placed(peer.read.get(&(key, stream)), index);
        let is_held = !is_rtcp && (!peer.remote.may_send || !other.remote.wants_media);
        let (to, held_before) = (other.destination(), self.rig.worker.drops().of(DropReason::PacketOnHold));

        let relayed = self.rig.receive(rtp(slot(who)), source, &sent.bytes);
        let was_held = self.rig.worker.drops().of(DropReason::PacketOnHold) > held_before;
        prop_assert!(!was_held || is_held, "it is not on hold");
        if is_readable && is_held {
            prop_assert!(was_held, "a packet on hold is not named as such: {:?}", self.rig.worker.drops());
        }
        if is_readable && !is_held {
            prop_assert!(relayed.is_some(), "a genuine packet is refused: {:?}", self.rig.worker.drops());
        }
        if relayed.is_some() || was_held {
            self.sent[number].has_passed = true;
            self.peers[who].accept(source);
        }
        if is_readable || relayed.is_some() || was_held {
            note(&mut self.peers[who].read, (key, stream), index);
        }
        if let Some((send, bytes)) = relayed {
            prop_assert_eq!(send.to, to, "it goes elsewhere");
            let mut read = self.peers[1 - who].open(bytes, is_rtcp);
            if let (Ok(read), false) = (&mut read, is_rtcp) {
                read[2..4].copy_from_slice(&sent.plain[2..4]);
            }
            prop_assert_eq!(read, Ok(sent.plain), "it is read as something else");
            self.relayed += 1;
        }
        Ok(())
    }

    /// A copy or a forgery comes to a telephone's leg.
    fn refuse(&mut self, who: usize, bytes: &[u8], source: Source) -> Result<(), TestCaseError> {
        let source = match source {
            Source::Itself => self.peers[who].address,
            Source::Stranger => at("198.51.100.66:6666"),
        };
        let on_hold = self.rig.worker.drops().of(DropReason::PacketOnHold);
        let connects = self.rig.connects.len();
        prop_assert!(self.rig.receive(rtp(slot(who)), source, bytes).is_none(), "it passes");
        prop_assert_eq!(self.rig.worker.drops().of(DropReason::PacketOnHold), on_hold, "it was taken for genuine");
        prop_assert_eq!(self.rig.connects.len(), connects, "it has moved a leg");
        Ok(())
    }
}

/// The same interleavings each time; `PROPTEST_RNG_SEED` and `PROPTEST_CASES` look for others.
fn config() -> ProptestConfig {
    let config = ProptestConfig::default();
    let rng_seed = match config.rng_seed {
        RngSeed::Random => RngSeed::Fixed(1),
        RngSeed::Fixed(seed) => RngSeed::Fixed(seed),
    };
    ProptestConfig { rng_seed, ..config }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn genuine_packets_decode_forgeries_never_do_and_no_index_is_used_twice(
        suites in prop::array::uniform2(prop::sample::select(Suite::ALL.to_vec())),
        start in prop_oneof![0_u64..3, 60_000_u64..65_536],
        seed: u64,
        steps in prop::collection::vec(step(), 1..250),
    ) {
        let mut world = World::new(suites, start, seed);
        for step in steps {
            world.perform(step)?;
        }
        // In the end, under keys that nobody has lost track of, everybody hears everybody.
        for who in [0, 1] {
            world.perform(Step::Hold { who, may_send: true, wants_media: true })?;
            world.perform(Step::RekeySends { who, start: None })?;
            world.perform(Step::RekeyReceives { who })?;
        }
        for _ in 0..4 {
            for who in [0, 1] {
                for stream in 0..STREAMS {
                    world.perform(Step::Speak { who, stream, gap: 1, fate: Fate::Arrives })?;
                }
            }
        }
        for who in [0, 1] {
            prop_assert_eq!(world.peers[who].latched, Some(world.peers[who].address), "a telephone that roamed is lost");
        }
        prop_assert!(world.relayed > 0);
    }
}
