//! What must not leave before the disk has what it says.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    ops::Range,
};

use bytes::Bytes;

use crate::types::{CallId, ConnectionId, Flow, FlowKey};

use super::store::thread::Written;

/// What the core wants of the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outgoing {
    Transmit { flow: Flow, bytes: Bytes },
    Connect { flow: Flow, server_name: String, trunk: usize },
    Close(ConnectionId),
}

impl Outgoing {
    /// Where it leads. `None`: nowhere any more.
    fn key(&self) -> Option<FlowKey> {
        match self {
            Self::Transmit { flow, .. } | Self::Connect { flow, .. } => flow.key(),
            Self::Close(connection) => Some(FlowKey::Connection(*connection)),
        }
    }
}

/// Turns of the core that wait for the disk, oldest first. The store acknowledges in order and each within a second, so
/// this stays small.
#[derive(Debug, Default)]
pub struct Held {
    turns: VecDeque<Turn>,
    /// How much is held for whom: few of those that are sent something else.
    waiting: HashMap<FlowKey, usize>,
}

#[derive(Debug)]
struct Turn {
    written: Written,
    outgoing: Vec<Outgoing>,
    opened: Vec<CallId>,
}

/// What the disk has let go.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Released {
    pub outgoing: Vec<Outgoing>,
    /// Calls whose beginning is on disk.
    pub opened: Vec<CallId>,
}

impl Released {
    fn add(&mut self, turn: Turn) {
        self.outgoing.extend(turn.outgoing);
        self.opened.extend(turn.opened);
    }
}

impl Held {
    /// Keeps what stands at the `dependent` places until it is `written`, and which calls have begun with it. Returns the rest; both
    /// stay in their order.
    pub fn hold(
        &mut self,
        written: Written,
        outgoing: Vec<Outgoing>,
        dependent: &[Range<usize>],
        opened: Vec<CallId>,
    ) -> Vec<Outgoing> {
        let (mut kept, mut rest) = (Vec::new(), Vec::new());
        for (place, one) in outgoing.into_iter().enumerate() {
            let is_dependent = dependent.iter().any(|places| places.contains(&place));
            if is_dependent { &mut kept } else { &mut rest }.push(one);
        }
        if !kept.is_empty() || !opened.is_empty() {
            for key in kept.iter().filter_map(Outgoing::key) {
                *self.waiting.entry(key).or_default() += 1;
            }
            self.turns.push_back(Turn { written, outgoing: kept, opened });
        }
        rest
    }

    pub fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// Of what need not wait, what may leave now: a connection is not closed before what is held for it has left, and
    /// what is held already is not sent a second time (a retransmitted REGISTER is answered from memory).
    pub fn queue(&mut self, mut outgoing: Vec<Outgoing>) -> Vec<Outgoing> {
        if !self.is_empty() {
            outgoing.retain(|one| !self.takes(one));
        }
        outgoing
    }

    fn takes(&mut self, one: &Outgoing) -> bool {
        let Some(waiting) = one.key().and_then(|key| self.waiting.get_mut(&key)) else { return false };
        if self.turns.iter().any(|turn| turn.outgoing.contains(one)) {
            return true;
        }
        let is_first = |held: &Outgoing| must_leave_before(held, one);
        let Some(last) = self.turns.iter_mut().rfind(|turn| turn.outgoing.iter().any(is_first)) else { return false };
        last.outgoing.push(one.clone());
        *waiting += 1;
        true
    }

    /// Waits until something is written and returns all that is. Never ends while nothing is held; may be given up at any
    /// time.
    pub async fn next(&mut self) -> Released {
        match self.turns.front_mut() {
            Some(turn) => turn.written.wait().await,
            None => std::future::pending().await,
        }
        let mut released = Released::default();
        self.turns.pop_front().into_iter().for_each(|turn| released.add(turn));
        while self.turns.front_mut().is_some_and(|turn| turn.written.is_known()) {
            self.turns.pop_front().into_iter().for_each(|turn| released.add(turn));
        }
        for key in released.outgoing.iter().filter_map(Outgoing::key) {
            self.let_go(key);
        }
        released
    }

    fn let_go(&mut self, key: FlowKey) {
        if let Entry::Occupied(mut waiting) = self.waiting.entry(key) {
            *waiting.get_mut() -= 1;
            if *waiting.get() == 0 {
                waiting.remove();
            }
        }
    }
}

/// A connection is opened before anything goes over it, and closed after all that does.
fn must_leave_before(held: &Outgoing, one: &Outgoing) -> bool {
    match (held, one) {
        (Outgoing::Connect { flow: opened, .. }, Outgoing::Transmit { flow, .. }) => {
            opened.connection == flow.connection
        }
        (Outgoing::Transmit { flow, .. }, Outgoing::Close(connection)) => flow.connection == *connection,
        (Outgoing::Connect { .. } | Outgoing::Transmit { .. } | Outgoing::Close(_), _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        shell::store::{
            Store, Writes,
            tests::{binding, cdr},
            thread::spawn,
        },
        sip::registrar::Change,
        types::Transport,
    };

    fn flow(connection: u64) -> Flow {
        let address = "192.0.2.7:5060".parse().unwrap();
        Flow {
            transport: Transport::Tcp,
            local: address,
            remote: address,
            connection: ConnectionId::outbound(connection),
        }
    }

    fn says(connection: u64, text: &'static str) -> Outgoing {
        Outgoing::Transmit { flow: flow(connection), bytes: Bytes::from_static(text.as_bytes()) }
    }

    fn only(places: Range<usize>) -> [Range<usize>; 1] {
        [places]
    }

    #[tokio::test]
    async fn what_the_disk_must_have_waits_for_it_and_nothing_else_does() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _join) = spawn(Store::open(dir.path(), None).unwrap(), |_| true).unwrap();
        let change = |aor| {
            let changes = vec![Change::Set(binding(aor, "sip:a@192.0.2.1").into())];
            Writes { changes, ..Writes::default() }
        };
        let mut held = Held::default();
        let mut hold = |aor, outgoing, dependent: &[Range<usize>]| {
            held.hold(store.commit(change(aor)).unwrap(), outgoing, dependent, vec![])
        };
        let mixed = vec![says(1, "OPTIONS"), says(1, "200 alice"), says(3, "ACK")];
        assert_eq!(hold("alice", mixed, &only(1..2)), [says(1, "OPTIONS"), says(3, "ACK")]);
        assert!(hold("bob", vec![says(2, "200 bob")], &[0..0, 0..1]).is_empty());
        assert!(hold("carol", vec![], &only(0..0)).is_empty());
        let later = |connection| Outgoing::Connect { flow: flow(connection), server_name: String::new(), trunk: 0 };
        assert!(hold("dave", vec![later(4)], &only(0..1)).is_empty());
        let close = |connection| Outgoing::Close(flow(connection).connection);
        let retransmission = says(2, "200 bob");
        let wanted = vec![says(1, "INVITE"), retransmission, close(1), close(3), says(4, "INVITE")];
        assert_eq!(held.queue(wanted), [says(1, "INVITE"), close(3)]);
        let mut released = Vec::new();
        while !held.is_empty() {
            released.extend(held.next().await.outgoing);
        }
        assert_eq!(released, [says(1, "200 alice"), close(1), says(2, "200 bob"), later(4), says(4, "INVITE")]);
        assert_eq!(held.queue(vec![close(1)]), [close(1)]);
        let begun = Writes { begun: vec![cdr(1)], ..Writes::default() };
        let written = store.commit(begun).unwrap();
        assert_eq!(held.hold(written, vec![says(1, "INVITE")], &[], vec![CallId(7)]), [says(1, "INVITE")]);
        assert_eq!(held.next().await, Released { outgoing: vec![], opened: vec![CallId(7)] });
        assert!(held.waiting.is_empty() && held.is_empty());
    }
}
