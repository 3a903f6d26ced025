//! The media threads and the rings to and from them.
//!
//! Each worker is a plain thread, pinned to a core, that owns its sockets, legs and packet buffer. The core's task holds
//! the [`MediaPlane`]; commands go down and events come up over bounded rings, each with something that wakes its reader.

use std::{
    collections::{HashSet, VecDeque},
    io,
    ops::RangeInclusive,
    sync::Arc,
    thread::JoinHandle,
};

use rtrb::{Consumer, Producer, RingBuffer};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::sync::Notify;

mod counters;
mod epoll;
mod wake;

pub use counters::Totals;

use self::{
    counters::Published,
    wake::{Ready, Wake},
};
use crate::{
    media::{Command, Event, LegReport, ports::Ports},
    shell::clock::Clock,
    types::{
        LegId,
        limits::{MEDIA_COMMANDS_MAX, MEDIA_EVENTS_MAX},
    },
};

/// Room in a ring beyond [`MEDIA_COMMANDS_MAX`] for commands on legs that are already open: no call that has started may
/// fail to be closed because too many others start.
const RESERVED_COMMANDS: usize = 3 * MEDIA_COMMANDS_MAX;

/// A worker does not take commands any more: its thread has ended or hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// All media threads. Dropped, it ends them and waits until their sockets are closed and their keys wiped.
#[derive(Debug)]
pub struct MediaPlane {
    threads: Vec<Thread>,
    /// Shared by all workers.
    ready: Arc<Notify>,
    /// Legs whose `Open` found the ring full, until their `Close`.
    refused: HashSet<LegId>,
    /// Events that no worker sent.
    own_events: VecDeque<Event>,
}

/// Totals of all workers, readable from anywhere.
#[derive(Clone, Debug)]
pub struct MediaCounters(Arc<[Arc<Published>]>);

#[derive(Debug)]
struct Thread {
    commands: Option<Producer<Command>>,
    wake: Wake,
    events: Consumer<Event>,
    published: Arc<Published>,
    handle: Option<JoinHandle<()>>,
}

impl MediaPlane {
    /// Starts `workers` threads, which share `range` as [`Ports`] splits it.
    pub fn start(clock: Clock, range: &RangeInclusive<u16>, workers: u16) -> io::Result<Self> {
        let ports = Ports::new(range, workers);
        let ready = Arc::new(Notify::new());
        let threads = (0..workers)
            .map(|worker| Thread::start(clock, worker, ports.slots(worker), Ready(Arc::clone(&ready))))
            .collect::<io::Result<_>>()?;
        Ok(Self { threads, ready, refused: HashSet::new(), own_events: VecDeque::new() })
    }

    /// Hands a command to its worker.
    ///
    /// An `Open` that finds [`MEDIA_COMMANDS_MAX`] commands waiting is answered with `OpenFailed`, and its `Close` with
    /// `Closed`, as if its ports had been in use.
    pub fn send(&mut self, worker: u16, command: Command) -> Result<(), Full> {
        let thread = &mut self.threads[usize::from(worker)];
        match command {
            Command::Open { leg, .. } if thread.waiting() >= MEDIA_COMMANDS_MAX => {
                self.refused.insert(leg);
                self.own_events.push_back(Event::OpenFailed { leg });
                Ok(())
            }
            Command::Close { leg } if self.refused.remove(&leg) => {
                self.own_events.push_back(Event::Closed { leg, report: LegReport::default() });
                Ok(())
            }
            command => thread.send(command),
        }
    }

    /// The next event of any worker. Cancellation loses none. `None`: a worker's thread has ended.
    pub async fn next_event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.take_event() {
                return Some(event);
            }
            if self.threads.iter().any(|thread| thread.events.is_abandoned()) {
                return None;
            }
            self.ready.notified().await;
        }
    }

    pub fn counters(&self) -> MediaCounters {
        MediaCounters(self.threads.iter().map(|thread| Arc::clone(&thread.published)).collect())
    }

    fn take_event(&mut self) -> Option<Event> {
        let own = self.own_events.pop_front();
        own.or_else(|| self.threads.iter_mut().find_map(|thread| thread.events.pop().ok()))
    }
}

impl MediaCounters {
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for published in &*self.0 {
            published.add_to(&mut totals);
        }
        totals
    }
}

impl Thread {
    fn start(clock: Clock, worker: u16, share: (u16, u32), ready: Ready) -> io::Result<Self> {
        let (commands, worker_commands) = RingBuffer::new(MEDIA_COMMANDS_MAX + RESERVED_COMMANDS);
        let (worker_events, events) = RingBuffer::new(MEDIA_EVENTS_MAX);
        let wake = Wake::new()?;
        let published = Arc::new(Published::default());
        let rings = epoll::Rings { commands: worker_commands, wake: wake.clone(), events: worker_events, ready };
        let backend = epoll::Backend::new(clock, worker, share, rings, Arc::clone(&published))?;
        let handle = std::thread::Builder::new().name(format!("media-{worker}")).spawn(move || {
            pin(worker);
            backend.run();
        })?;
        Ok(Self { commands: Some(commands), wake, events, published, handle: Some(handle) })
    }

    fn send(&mut self, command: Command) -> Result<(), Full> {
        let commands = self.commands.as_mut().ok_or(Full)?;
        commands.push(command).map_err(|_| Full)?;
        self.wake.wake();
        Ok(())
    }

    fn waiting(&self) -> usize {
        self.commands.as_ref().map_or(0, |ring| ring.buffer().capacity() - ring.slots())
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.commands = None;
        self.wake.wake();
        if let Some(handle) = self.handle.take() {
            // A panic of the thread was reported by its own hook already.
            let _ = handle.join();
        }
    }
}

/// Puts the calling thread on one of the cores the process may use. Not being allowed to costs speed only.
fn pin(worker: u16) {
    let Ok(allowed) = sched_getaffinity(None) else { return };
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core)).collect();
    if let Some(&core) = cores.get(usize::from(worker) % cores.len().max(1)) {
        let mut one = CpuSet::new();
        one.set(core);
        let _ = sched_setaffinity(None, &one);
    }
}
