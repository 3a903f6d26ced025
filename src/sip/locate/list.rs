//! Servers that an operator lists with priorities and weights, as SRV records would (RFC 2782); each is located by itself.

use super::{Destination, Input, Locator, Output, Target, order};
use crate::types::{Instant, Rng};

/// One server of a list.
#[derive(Clone, Debug)]
pub struct Listed {
    pub destination: Destination,
    /// Lower first.
    pub priority: u16,
    /// Share of the calls among those of the same priority.
    pub weight: u16,
}

/// The servers that stand for one peer.
#[derive(Debug)]
pub struct List(Vec<Located>);

#[derive(Debug)]
struct Located {
    host: String,
    rank: (u16, u16),
    locator: Locator,
}

impl List {
    pub fn new(now: Instant, servers: Vec<Listed>) -> Self {
        let located = |Listed { destination, priority, weight }| Located {
            host: destination.host.clone(),
            rank: (priority, weight),
            locator: Locator::new(now, destination),
        };
        Self(servers.into_iter().map(located).collect())
    }

    /// `index`: whose question was answered, as [`List::poll_output`] gave it.
    pub fn answered(&mut self, now: Instant, index: usize, input: Input) {
        if let Some(server) = self.0.get_mut(index) {
            server.locator.handle_input(now, input);
        }
    }

    pub fn timeout(&mut self, now: Instant) {
        self.0.iter_mut().for_each(|server| server.locator.handle_input(now, Input::Timeout));
    }

    /// Drain until `Timeout`. The number tells whose question it is.
    pub fn poll_output(&mut self) -> (usize, Output) {
        let mut next = None;
        for (index, server) in self.0.iter_mut().enumerate() {
            match server.locator.poll_output() {
                Output::Timeout(at) => next = [next, at].into_iter().flatten().min(),
                ask @ Output::Ask(_) => return (index, ask),
            }
        }
        (0, Output::Timeout(next))
    }

    /// The targets in the order to try them for one call; the weights are drawn anew each time.
    pub fn order(&self, rng: &mut Rng) -> Vec<Target> {
        let servers = order::by_weight(&self.0, |server| server.rank, rng);
        servers.into_iter().flat_map(|server| server.locator.order(rng)).collect()
    }

    /// Every target, in no particular order.
    pub fn targets(&self) -> impl Iterator<Item = &Target> {
        self.0.iter().flat_map(|server| server.locator.targets())
    }

    /// The host that led to a target: whom its certificate must name (RFC 5922 section 4).
    pub fn host_of(&self, target: &Target) -> Option<&str> {
        let server = self.0.iter().find(|server| server.locator.targets().any(|known| known == target));
        server.map(|server| server.host.as_str())
    }
}
