//! The loop of a worker's thread, whatever carries its packets: wait, take commands, relay a round, look at the timers.

use std::{collections::VecDeque, sync::Arc};

use rtrb::{Consumer, Producer};

use super::{
    counters::{Bypassed, Published},
    load::LoadMeter,
    spin::Spin,
    wake::{Ready, Wake},
};
use crate::{
    media::{
        Command, Event, Worker,
        packet_io::{PacketIo, perform_outputs, relay_round},
        worker::{Input, Send},
    },
    shell::clock::Clock,
    types::{Duration, Instant},
};

/// Packets of a round, between two looks at the clock and the timers. More would not be relayed any cheaper, and the
/// first of them would wait longer.
pub(super) const ROUND_PACKETS_MAX: usize = 32;
/// How stale published counters may be.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(100);
/// When to try again to hand over events that found their ring full.
const BACKLOG_INTERVAL: Duration = Duration::from_millis(10);

/// A backend: carries packets, and can be waited for.
pub(super) trait Carrier: PacketIo {
    /// Returns when something is there, after a signal or after `timeout`.
    fn wait(&mut self, timeout: Option<Duration>) -> Woken;

    fn bypassed(&self) -> Bypassed {
        Bypassed::default()
    }
}

/// What a wait has ended with.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Woken {
    /// The core has rung.
    pub(super) by_core: bool,
    pub(super) by_packets: bool,
}

/// Everything one worker thread owns.
pub(super) struct EventLoop<Io> {
    clock: Clock,
    number: u16,
    worker: Worker,
    io: Io,
    commands: Consumer<Command>,
    wake: Wake,
    events: Events,
    published: Arc<Published>,
    /// When to publish; `None`: nothing has changed.
    publish_at: Option<Instant>,
    load: LoadMeter,
    spin: Spin,
    to_send: Vec<(usize, Send)>,
}

/// The ends of the rings between core and worker that belong to the worker.
pub(super) struct Rings {
    pub(super) commands: Consumer<Command>,
    pub(super) wake: Wake,
    pub(super) events: Producer<Event>,
    pub(super) ready: Ready,
}

impl<Io: Carrier> EventLoop<Io> {
    pub(super) fn new(
        clock: Clock,
        number: u16,
        io: Io,
        slots: u32,
        rings: Rings,
        published: Arc<Published>,
        spin: Duration,
    ) -> Self {
        let Rings { commands, wake, events, ready } = rings;
        Self {
            clock,
            number,
            worker: Worker::new(number, slots),
            io,
            commands,
            wake,
            events: Events { ring: events, ready, backlog: VecDeque::new() },
            published,
            publish_at: None,
            load: LoadMeter::default(),
            spin: Spin::new(spin),
            to_send: Vec::with_capacity(ROUND_PACKETS_MAX),
        }
    }

    /// Works until the core lets go of the command ring; then closes all sockets and wipes keys and buffer by dropping
    /// them.
    pub(super) fn run(mut self) {
        let (mut now, mut wake_at) = (self.clock.now(), None);
        while !(self.commands.is_abandoned() && self.commands.is_empty()) {
            let timeout = wake_at.map(|at: Instant| at.since(now));
            let woken = self.io.wait(if self.spin.is_on(now) { Some(Duration::ZERO) } else { timeout });
            now = self.clock.now();
            if woken.by_packets {
                self.spin.found(now);
            }
            // Most rounds relay packets and nothing else: then the machine need not be asked what else there is.
            let mut is_due = wake_at.is_some_and(|at| at <= now);
            if woken.by_core || woken.by_packets {
                is_due |= self.publish_at.is_none();
                self.publish_at.get_or_insert(now + PUBLISH_INTERVAL);
                self.load.begin(now);
            }
            // Looking in vain without sleeping is waiting, too.
            let is_busy = woken.by_core || woken.by_packets || is_due;
            if self.take_commands(now, woken) {
                wake_at = self.perform_outputs(now);
            }
            relay_round(now, &mut self.worker, &mut self.io, &mut self.to_send);
            if is_due || self.worker.has_output() {
                self.worker.handle_input(now, Input::Timeout);
                wake_at = self.perform_outputs(now);
            }
            if is_busy {
                self.load.add(self.clock.now().since(now));
            }
        }
    }

    /// Before each round, not only when woken: what a peer sends in answer to our signalling must find the leg as that
    /// signalling described it, and its command went into the ring first. Returns whether there was any.
    fn take_commands(&mut self, now: Instant, woken: Woken) -> bool {
        if woken.by_core {
            self.wake.clear();
            self.published.pulse.answer();
        }
        let mut is_any = false;
        while let Ok(command) = self.commands.pop() {
            self.worker.handle_input(now, Input::Command(command));
            is_any = true;
        }
        is_any
    }

    /// Does what the worker asks for; returns when it must be looked at again.
    fn perform_outputs(&mut self, now: Instant) -> Option<Instant> {
        let backlog = &mut self.events.backlog;
        let worker_at = perform_outputs(now, &mut self.worker, &mut self.io, |event| backlog.push_back(event));
        if self.publish_at.is_some_and(|at| at <= now) {
            self.published.publish(&self.worker, self.io.bypassed());
            self.publish_at = None;
        }
        // A core that takes no events is told only what it must not miss.
        let can_tell = self.events.backlog.is_empty();
        if let Some(busy_permille) = self.load.measure(now, can_tell) {
            self.events.backlog.push_back(Event::Load { worker: self.number, busy_permille });
        }
        let backlog_at = (!self.events.hand_over()).then(|| now + BACKLOG_INTERVAL);
        [worker_at, self.publish_at, self.load.due_at(), backlog_at].into_iter().flatten().min()
    }
}

/// The way up to the core. The ring is declared, and so dropped, before the last notice is given: that is how the core
/// learns of the end of the thread, even of a panic.
struct Events {
    ring: Producer<Event>,
    ready: Ready,
    backlog: VecDeque<Event>,
}

impl Events {
    /// `false`: the ring is full, try again.
    fn hand_over(&mut self) -> bool {
        if self.backlog.is_empty() {
            return true;
        }
        while let Some(event) = self.backlog.pop_front() {
            if let Err(rtrb::PushError::Full(event)) = self.ring.push(event) {
                self.backlog.push_front(event);
                break;
            }
        }
        self.ready.notify();
        self.backlog.is_empty()
    }
}
