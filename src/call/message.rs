//! Text messages between users (RFC 3428): each goes to every contact of its receiver at once, the first 2xx wins, and the
//! sender hears what really happened. Nothing is stored: a message that no device takes now is refused now.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{
    admission::{Refusal, allowed_breadth},
    call::Caller,
    context::{Context, Owner, Pending},
    fork::{Failure, mapped},
    identity::Identity,
    outgoing::{escaped_user, host},
    passed_headers::PassedHeaders,
    pbx,
};
use crate::{
    sip::{MAX_FORWARDS, registrar::Binding},
    types::{
        Duration, Instant,
        limits::{MESSAGE_BODY_BYTES_MAX, MESSAGES_PER_SENDER_MAX},
    },
    wire::sip::{Message, Name, RequestBuilder},
};

/// The sender's transaction ends after 64*T1 = 32 s without having heard anything, so it is answered before. It must not be
/// answered 408 (RFC 4320 section 4.2).
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Messages on their way.
#[derive(Debug)]
pub(super) struct Messages {
    /// By number, hence by deadline.
    deliveries: BTreeMap<u64, Delivery>,
    /// How many of them each sender has.
    senders: HashMap<String, usize>,
    last: u64,
    messages_max: usize,
}

#[derive(Debug)]
struct Delivery {
    pending: Pending,
    sender: String,
    /// Contacts that have not answered.
    open: usize,
    /// The best failure so far.
    failure: Option<Failure>,
    deadline: Instant,
}

/// What stands against the body of a message (RFC 3261 section 8.2.3).
pub(super) fn unacceptable_body(request: &Message) -> Option<Refusal> {
    if request.header(Name::ContentEncoding).is_some_and(|v| !v.eq_ignore_ascii_case("identity")) {
        return Some(Refusal::of(415).with("Accept-Encoding", "identity"));
    }
    let is_too_long = request.body().len() > MESSAGE_BODY_BYTES_MAX;
    is_too_long.then_some(Refusal { reason: "Message Too Long", ..Refusal::of(413) })
}

impl Messages {
    /// `messages_max`: one more is answered 503.
    pub(super) fn new(messages_max: usize) -> Self {
        Self { deliveries: BTreeMap::new(), senders: HashMap::new(), last: 0, messages_max }
    }

    /// Sends the message to every one of `contacts`, all of one user.
    pub(super) fn deliver(&mut self, ctx: &mut Context, pending: Pending, caller: &Caller, contacts: &[Arc<Binding>]) {
        let of_sender = self.senders.get(&caller.user).copied().unwrap_or(0);
        if self.deliveries.len() >= self.messages_max || of_sender >= MESSAGES_PER_SENDER_MAX {
            return ctx.refuse_with(&pending, 503, "Too Many Messages", &[("Retry-After", "5")]);
        }
        if contacts.is_empty() {
            return ctx.refuse(&pending, 480, "Not Registered");
        }
        self.last += 1;
        let (id, request) = (self.last, &pending.request);
        // RFC 5393 section 5.3.3.
        let breadth = allowed_breadth(request);
        let contacts = &contacts[..contacts.len().min(breadth)];
        let share = breadth / contacts.len();
        for binding in contacts {
            ctx.send(binding.flow, Owner::Message(id), |ctx, via| {
                build(ctx, via, request, caller, binding).header("Max-Breadth", share)
            });
        }
        *self.senders.entry(caller.user.clone()).or_default() += 1;
        let (sender, deadline) = (caller.user.clone(), ctx.now + ANSWER_WITHIN);
        self.deliveries.insert(id, Delivery { pending, sender, open: contacts.len(), failure: None, deadline });
    }

    /// What one contact said, or a status that stands for nothing.
    pub(super) fn response(&mut self, ctx: &mut Context, id: u64, status: u16, reason: &str) {
        let Some(delivery) = self.deliveries.get_mut(&id).filter(|_| status >= 200) else { return };
        if status < 300 {
            return self.answer(ctx, id, &Failure::new(status, reason));
        }
        delivery.open -= 1;
        let failure = match status {
            408 => Failure::new(480, "Device Did Not Answer"),
            _ => mapped(status, reason, false),
        };
        delivery.failure = Some(match delivery.failure.take() {
            Some(earlier) => earlier.better_of(failure),
            None => failure,
        });
        if delivery.open == 0 {
            self.give_up(ctx, id);
        }
    }

    pub(super) fn timeout(&mut self, ctx: &mut Context) {
        while let Some((&id, _)) = self.deliveries.first_key_value().filter(|(_, d)| d.deadline <= ctx.now) {
            self.give_up(ctx, id);
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.deliveries.first_key_value().map(|(_, delivery)| delivery.deadline)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.deliveries.is_empty() && self.senders.is_empty()
    }

    fn give_up(&mut self, ctx: &mut Context, id: u64) {
        let failure = self.deliveries.get(&id).and_then(|delivery| delivery.failure.clone());
        self.answer(ctx, id, &failure.unwrap_or_else(|| Failure::new(480, "Device Did Not Answer")));
    }

    /// Later answers to the same message are nobody's business.
    fn answer(&mut self, ctx: &mut Context, id: u64, outcome: &Failure) {
        let Some(Delivery { pending, sender, .. }) = self.deliveries.remove(&id) else { return };
        if let Some(count) = self.senders.get_mut(&sender) {
            *count -= 1;
            if *count == 0 {
                self.senders.remove(&sender);
            }
        }
        ctx.refuse(&pending, outcome.status, &outcome.reason);
    }
}

/// A MESSAGE of our own: another transaction, Call-ID and From tag for each contact, and no Contact (RFC 3428 section 4).
fn build(ctx: &mut Context, via: &str, request: &Message, caller: &Caller, binding: &Binding) -> RequestBuilder {
    let identity = Identity::to_device(&ctx.config, caller);
    let line = pbx::called_number(&ctx.config, &binding.aor, request.request_uri());
    let (uri, called) = pbx::address_of(&ctx.config, binding, line);
    let to = format!("<sip:{}@{}>", escaped_user(called), host(&ctx.config.server.domain));
    let received = request.header(Name::MaxForwards).and_then(|v| v.parse::<u8>().ok());
    let mut message = RequestBuilder::new("MESSAGE", &uri)
        .header("Via", via)
        .header("Max-Forwards", received.unwrap_or(MAX_FORWARDS).saturating_sub(1).min(MAX_FORWARDS));
    for hop in &binding.path {
        message = message.header("Route", hop);
    }
    let message = message
        .header("From", format_args!("{};tag={}", identity.from, ctx.tag()))
        .header("To", to)
        .header("Call-ID", ctx.rng.token(32))
        .header("CSeq", "1 MESSAGE");
    let message = PassedHeaders::of_message(request, caller).add_to_request(identity.assert(message));
    match request.header(Name::ContentType) {
        Some(content_type) => message.body(content_type, &request.body()),
        None => message,
    }
}
