//! Finds out how frames reach a peer, for media threads, which may ask the kernel nothing: a thread of its own asks for
//! them. What is known grows old and is asked for again while it is in use, so moved routes and neighbours are followed.

use std::{
    collections::HashMap,
    io::{self, Read as _},
    net::IpAddr,
    os::unix::net::UnixStream,
    sync::Arc,
};

use rtrb::{Consumer, Producer, RingBuffer};

use super::netlink::{Link, Netlink};
use crate::{shell::media_io::wake::Ready, wire::frame::Ethernet};

/// Questions of one worker that wait. A further one is asked later; until then its leg sends through the kernel.
const QUESTIONS_MAX: usize = 1_024;
const NOTICES_PER_READ: usize = 64;

/// How frames reach a peer, and how large their IP packets may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Path {
    pub(super) ethernet: Ethernet,
    pub(super) mtu: usize,
}

/// The end of a worker.
pub(super) struct Asking {
    questions: Producer<Question>,
    answers: Consumer<Answer>,
    notice: Ready,
    has_asked: bool,
}

/// `slot` sends from its address to this peer.
struct Question {
    slot: u32,
    source: IpAddr,
    target: IpAddr,
}

/// `path`: `None` where packets go through the kernel, because the way leads over another interface or is not known (yet).
pub(super) struct Answer {
    pub(super) slot: u32,
    pub(super) target: IpAddr,
    pub(super) path: Option<Path>,
}

impl Asking {
    /// [`Asking::notify`] sends it.
    pub(super) fn ask(&mut self, slot: u32, source: IpAddr, target: IpAddr) {
        self.has_asked |= self.questions.push(Question { slot, source, target }).is_ok();
    }

    pub(super) fn notify(&mut self) {
        if std::mem::take(&mut self.has_asked) {
            self.notice.notify();
        }
    }

    pub(super) const fn notice(&self) -> &Ready {
        &self.notice
    }

    pub(super) fn answer(&mut self) -> Option<Answer> {
        self.answers.pop().ok()
    }
}

/// The thread that answers. It ends when every [`Asking`] is dropped.
pub(super) struct Answering {
    netlink: Netlink,
    /// Whose queues are read.
    interface: u32,
    workers: Vec<(Consumer<Question>, Producer<Answer>)>,
    notices: UnixStream,
}

impl Answering {
    /// Starts it, for so many workers.
    pub(super) fn start(interface: u32, workers: usize) -> io::Result<Vec<Asking>> {
        let (there, notices) = UnixStream::pair()?;
        there.set_nonblocking(true)?;
        let notice = Ready::new(there);
        let (asking, workers) = (0..workers)
            .map(|_| {
                let (questions, of_worker) = RingBuffer::new(QUESTIONS_MAX);
                let (to_worker, answers) = RingBuffer::new(QUESTIONS_MAX);
                let asking = Asking { questions, answers, notice: notice.clone(), has_asked: false };
                (asking, (of_worker, to_worker))
            })
            .unzip();
        let answering = Self { netlink: Netlink::route_family()?, interface, workers, notices };
        std::thread::Builder::new().name("media-paths".to_owned()).spawn(move || answering.run())?;
        Ok(asking)
    }

    fn run(mut self) {
        while self.is_noticed() {
            // Many legs share an interface and a next hop.
            let mut known = Known::default();
            for worker in 0..self.workers.len() {
                while let Ok(Question { slot, source, target }) = self.workers[worker].0.pop() {
                    let path = find(&mut self.netlink, &mut known, self.interface, source, target);
                    // Who finds no room asks again.
                    let _ = self.workers[worker].1.push(Answer { slot, target, path });
                }
            }
        }
    }

    /// Waits for a notice. `false`: nobody is left to give one.
    fn is_noticed(&mut self) -> bool {
        loop {
            match self.notices.read(&mut [0; NOTICES_PER_READ]) {
                Ok(len) => return len > 0,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
    }
}

/// What was found out since the last notice.
#[derive(Default)]
struct Known {
    links: HashMap<u32, Option<Arc<Link>>>,
    neighbours: HashMap<(u32, IpAddr), Option<[u8; 6]>>,
}

/// Over the interface itself, or over a VLAN on it.
fn find(netlink: &mut Netlink, known: &mut Known, interface: u32, source: IpAddr, target: IpAddr) -> Option<Path> {
    let route = netlink.route(source, target)?;
    let link = known.links.entry(route.interface).or_insert_with(|| netlink.link(route.interface).ok().map(Arc::new));
    let link = link.as_ref().filter(|link| link.is_running)?;
    let vlan = match link.vlan {
        _ if link.index == interface => None,
        Some((parent, id)) if parent == interface => Some(id),
        Some(_) | None => return None,
    };
    let next_hop = route.gateway.unwrap_or(target);
    let neighbour = known.neighbours.entry((link.index, next_hop)).or_insert_with(|| {
        // A fixed entry refuses; it is valid all the same.
        let _ = netlink.use_neighbour(link.index, next_hop);
        netlink.neighbour(link.index, next_hop)
    });
    let ethernet = Ethernet { source: link.mac, target: (*neighbour)?, vlan };
    let mtu = route.mtu.unwrap_or(link.mtu).min(link.mtu);
    Some(Path { ethernet, mtu: usize::try_from(mtu).unwrap_or(usize::MAX) })
}
