//! Matches messages to transactions and runs their timers.

use bytes::Bytes;

use crate::{
    types::{DropReason, Flow, Instant, Rng, TxnId},
    wire::sip::Message,
};

/// What the table is told.
#[derive(Debug)]
pub enum Input {
    /// A parsed and validated message.
    Received { flow: Flow, message: Message },
    /// Start a client transaction. `request` is complete; its top Via carries the branch of [`Table::reserve`].
    Send { txn: TxnId, flow: Flow, request: Message },
    /// Answer a server transaction. The layer retransmits it as its machine demands; a 2xx to INVITE is retransmitted
    /// until [`Input::Acknowledged`] (RFC 3261 section 13.3.1.4).
    Respond { txn: TxnId, status: u16, response: Bytes },
    /// The ACK for our 2xx arrived (the user of the layer matches it to its dialog).
    Acknowledged { txn: TxnId },
    /// Give up an INVITE of ours (RFC 3261 section 9.1).
    Cancel { txn: TxnId },
    /// Nothing can be sent on this flow any more.
    FlowFailed { flow: Flow },
    /// A timer may have fired.
    Timeout,
}

/// What the table wants done. Drain until `Timeout`.
#[derive(Debug)]
pub enum Output {
    Transmit {
        flow: Flow,
        bytes: Bytes,
    },
    Event(Event),
    /// Dropped and counted.
    Dropped(DropReason),
    /// Call again with [`Input::Timeout`] at this time; `None`: no timer runs.
    Timeout(Option<Instant>),
}

/// What happened, for the user of the layer.
#[derive(Debug)]
pub enum Event {
    /// A new server transaction. For INVITE the layer sends 100 by itself if no answer follows within 200 ms.
    Request { txn: TxnId, flow: Flow, message: Message },
    /// A CANCEL for a live INVITE server transaction; the layer has answered the CANCEL with 200. The user answers the
    /// INVITE with 487 unless it has a final response already.
    Cancelled { txn: TxnId },
    /// An ACK that belongs to no transaction: for a 2xx.
    Ack { flow: Flow, message: Message },
    /// A response to a client transaction; 2xx to INVITE is passed up again each time it is retransmitted (RFC 6026).
    Response { txn: TxnId, message: Message },
    /// Client: no final response (timer B or F), to be treated as 408.
    TimedOut { txn: TxnId },
    /// Client or server: the transport failed, to be treated as 503.
    TransportFailed { txn: TxnId },
    /// Server: no ACK for our 2xx within 64*T1; the user ends the dialog with BYE.
    NotAcknowledged { txn: TxnId },
    /// The transaction and its memory are gone.
    Terminated { txn: TxnId },
}

/// All transactions of one server.
#[derive(Debug)]
pub struct Table {}

impl Table {
    /// `transactions_max`: a new request above it is answered 503 with Retry-After, statelessly.
    pub fn new(rng: Rng, transactions_max: usize) -> Self {
        let _ = (rng, transactions_max);
        todo!()
    }

    /// An id for a new client transaction and the branch its Via must carry.
    pub fn reserve(&mut self) -> (TxnId, String) {
        todo!()
    }

    pub fn handle_input(&mut self, now: Instant, input: Input) {
        let _ = (now, input);
        todo!()
    }

    pub fn poll_output(&mut self) -> Output {
        todo!()
    }

    /// Live transactions.
    pub fn len(&self) -> usize {
        todo!()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
