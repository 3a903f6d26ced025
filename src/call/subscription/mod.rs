//! Subscriptions to events (RFC 6665), this server as notifier: who watches whom, until when, and what each was last shown.
//!
//! The table knows nothing of calls, registrations and mailboxes. It is told that something of a user may have changed
//! ([`Subscriptions::touch`]) and asks for the state when it is time to send ([`Subscriptions::flush`]). One NOTIFY of a
//! subscription is under way at a time; what changes meanwhile is told in the next.

mod package;
mod snapshot;

pub(super) use package::{ALLOW_EVENTS, Package, Wish, event};
pub(super) use snapshot::Snapshot;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::context::{Context, Owner, Pending};
use crate::{
    sip::dialog::Dialog,
    types::{
        ConnectionId, Duration, Flow, FlowKey, Instant,
        limits::{SUBSCRIPTION_EXPIRES_S_MAX, SUBSCRIPTIONS_PER_USER_MAX},
    },
    wire::sip::{Message, Method, Name, RequestBuilder},
};

/// Who subscribes to what.
pub(super) struct Subscriber {
    /// The authenticated user's name.
    pub user: String,
    /// Name of the user that is watched.
    pub watched: String,
    /// URI of the watched user, as the subscriber wrote its user part.
    pub entity: String,
    /// User part of our Contact, escaped.
    pub contact_user: String,
    /// The request came on the flow of a registration.
    pub is_registered: bool,
    /// `+sip.instance` of that registration.
    pub instance: Option<String>,
}

/// Why a subscription ends (RFC 6665 section 4.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// It ran out, or the subscriber ended it.
    Timeout,
    /// The device is no longer registered. If it lives, it may subscribe again.
    Deactivated,
    /// The subscriber is no user any more.
    Rejected,
    /// The watched user is gone.
    NoResource,
}

#[derive(Debug)]
struct Subscription {
    package: Package,
    event_id: Option<String>,
    dialog: Dialog,
    flow: Flow,
    user: String,
    watched: String,
    entity: String,
    contact_user: String,
    is_registered: bool,
    instance: Option<String>,
    expires_at: Instant,
    /// What the subscriber has been told; `None`: it is to hear the full state.
    shown: Option<Snapshot>,
    version: u32,
    /// A NOTIFY has no answer yet.
    is_notifying: bool,
    /// Something may have changed since.
    is_touched: bool,
    /// No NOTIFY before this time; asking for the state brings it forward.
    not_before: Instant,
    ending: Option<Ending>,
    /// As set in `timers`.
    timer: Instant,
}

/// Every subscription.
#[derive(Debug)]
pub(super) struct Subscriptions {
    all: BTreeMap<u64, Subscription>,
    last: u64,
    /// By our tag of the dialog.
    tags: HashMap<String, u64>,
    users: HashMap<String, BTreeSet<u64>>,
    /// By package: the watchers of each user.
    watchers: [HashMap<String, BTreeSet<u64>>; Package::ALL.len()],
    flows: BTreeSet<(FlowKey, u64)>,
    timers: BTreeSet<(Instant, u64)>,
    /// To be looked at by the next [`Subscriptions::flush`].
    due: BTreeSet<u64>,
    subscriptions_max: usize,
}

impl Subscriptions {
    /// `subscriptions_max`: one more is answered 503.
    pub(super) fn new(subscriptions_max: usize) -> Self {
        Self {
            all: BTreeMap::new(),
            last: 0,
            tags: HashMap::new(),
            users: HashMap::new(),
            watchers: Default::default(),
            flows: BTreeSet::new(),
            timers: BTreeSet::new(),
            due: BTreeSet::new(),
            subscriptions_max,
        }
    }

    /// A SUBSCRIBE outside a dialog, of an authenticated user that may see what it asks for.
    pub(super) fn begin(&mut self, ctx: &mut Context, pending: &Pending, wish: Wish, subscriber: Subscriber) {
        let of_user = self.users.get(&subscriber.user).map_or(0, BTreeSet::len);
        if of_user >= SUBSCRIPTIONS_PER_USER_MAX {
            return ctx.refuse(pending, 403, "Too Many Subscriptions");
        }
        if self.all.len() >= self.subscriptions_max {
            return ctx.refuse_with(pending, 503, "Too Many Subscriptions", &[("Retry-After", "60")]);
        }
        let tag = ctx.tag();
        let Some(dialog) = Dialog::uas(&pending.request, &tag) else {
            return ctx.refuse(pending, 400, "Missing Contact header");
        };
        self.last += 1;
        let id = self.last;
        let Subscriber { user, watched, entity, contact_user, is_registered, instance } = subscriber;
        let subscription = Subscription {
            package: wish.package,
            event_id: wish.event_id,
            dialog,
            flow: pending.flow,
            user,
            watched,
            entity,
            contact_user,
            is_registered,
            instance,
            expires_at: ctx.now,
            shown: None,
            version: 0,
            is_notifying: false,
            is_touched: false,
            not_before: ctx.now,
            ending: None,
            timer: ctx.now,
        };
        self.tags.insert(tag, id);
        self.users.entry(subscription.user.clone()).or_default().insert(id);
        let watchers = &mut self.watchers[subscription.package.index()];
        watchers.entry(subscription.watched.clone()).or_default().insert(id);
        self.flows.extend(subscription.flow.key().map(|key| (key, id)));
        self.timers.insert((subscription.timer, id));
        self.all.insert(id, subscription);
        self.grant(ctx, pending, id, wish.expires_s);
    }

    /// The subscription whose dialog has this tag of ours, and its subscriber.
    pub(super) fn find(&self, tag: &str) -> Option<(u64, &str)> {
        let id = *self.tags.get(tag)?;
        Some((id, self.all.get(&id)?.user.as_str()))
    }

    /// A SUBSCRIBE in the dialog of a subscription, of its authenticated subscriber: refreshes or ends it.
    pub(super) fn refresh(&mut self, ctx: &mut Context, pending: &Pending, id: u64, wish: &Wish, is_registered: bool) {
        let Some(subscription) = self.all.get_mut(&id) else { return ctx.refuse(pending, 481, "") };
        let dialog = &mut subscription.dialog;
        let is_ours = dialog.id.call_id == pending.request.call_id()
            && Some(dialog.id.remote_tag.as_str()) == pending.request.from_tag()
            && (subscription.package, &subscription.event_id) == (wish.package, &wish.event_id);
        if !is_ours {
            return ctx.refuse(pending, 481, "");
        }
        if dialog.receive(&pending.request).is_err() {
            return ctx.refuse(pending, 500, "CSeq Out Of Order");
        }
        // SUBSCRIBE refreshes the target (RFC 6665 section 4.4.1), and the subscriber may have a new connection.
        dialog.refresh(&pending.request);
        subscription.is_registered = is_registered;
        self.change_flow(id, pending.flow);
        self.grant(ctx, pending, id, wish.expires_s);
    }

    /// Answers 200; the NOTIFY with the full state follows at once (RFC 6665 section 4.2.1.2).
    fn grant(&mut self, ctx: &mut Context, pending: &Pending, id: u64, expires_s: u32) {
        let Some(subscription) = self.all.get_mut(&id) else { return };
        subscription.expires_at = ctx.now + Duration::from_secs(expires_s.into());
        subscription.shown = None;
        subscription.not_before = ctx.now;
        if expires_s == 0 {
            subscription.ending = Some(Ending::Timeout);
        }
        let contact = subscription.contact(ctx);
        let tag = subscription.dialog.id.local_tag.clone();
        let response = ctx.response(pending, 200, "", &tag).header("Contact", contact).header("Expires", expires_s);
        let bytes = response.finish();
        ctx.respond(pending.txn, 200, bytes);
        self.due.insert(id);
        self.set_timer(id);
    }

    /// Something of this user may have changed.
    pub(super) fn touch(&mut self, package: Package, user: &str) {
        if let Some(watchers) = self.watchers[package.index()].get(user) {
            self.due.extend(watchers);
        }
    }

    /// Sends what is due; `state` tells how a user is now, also to itself (`true`). Returns whether anything was sent.
    pub(super) fn flush(
        &mut self,
        ctx: &mut Context,
        mut state: impl FnMut(&Context, Package, &str, bool) -> Snapshot,
    ) -> bool {
        let mut has_sent = false;
        for id in std::mem::take(&mut self.due) {
            let Some(subscription) = self.all.get_mut(&id) else { continue };
            if subscription.is_held_back(ctx.now) {
                subscription.is_touched = true;
            } else {
                let is_own = subscription.user == subscription.watched;
                let now = state(ctx, subscription.package, &subscription.watched, is_own);
                has_sent |= subscription.notify(ctx, id, now);
            }
            if subscription.ending.is_some() {
                self.remove(id);
            } else {
                self.set_timer(id);
            }
        }
        has_sent
    }

    /// A response to a NOTIFY, or a status that stands for none. A subscriber that does not take it is gone (RFC 6665
    /// section 4.2.2), unless it names a time to try again.
    pub(super) fn response(&mut self, now: Instant, id: u64, status: u16, response: Option<&Message>) {
        let Some(subscription) = self.all.get_mut(&id).filter(|_| status >= 200) else { return };
        subscription.is_notifying = false;
        if status >= 300 {
            let pause = response.filter(|_| status != 481).and_then(retry_after);
            let Some(pause) = pause else { return self.remove(id) };
            subscription.shown = None;
            subscription.is_touched = true;
            subscription.not_before = now + pause.max(subscription.package.interval());
        }
        if subscription.is_touched {
            self.due.insert(id);
        }
    }

    /// Ends the subscriptions of `user` that came over a registered flow which is no longer registered.
    pub(super) fn unregistered(&mut self, user: &str, is_bound: impl Fn(&Flow) -> bool) {
        let is_over = |s: &Subscription| s.is_registered && !is_bound(&s.flow);
        let over: Vec<u64> = self.of_user(user).filter(|id| self.all.get(id).is_some_and(is_over)).collect();
        for id in over {
            self.end(id, Ending::Deactivated);
        }
    }

    fn of_user(&self, user: &str) -> impl Iterator<Item = u64> {
        self.users.get(user).into_iter().flatten().copied()
    }

    /// Subscriptions over this connection go on over another flow of the same device of the user (RFC 5626), or else end
    /// without a word: there is nowhere to say it.
    pub(super) fn connection_closed(
        &mut self,
        connection: ConnectionId,
        other_flow: impl Fn(&str, &str) -> Option<Flow>,
    ) {
        let key = FlowKey::Connection(connection);
        let affected: Vec<u64> = self.flows.range((key, 0)..=(key, u64::MAX)).map(|(_, id)| *id).collect();
        for id in affected {
            let of_device = self.all.get(&id).and_then(|s| other_flow(&s.user, s.instance.as_deref()?));
            match of_device {
                Some(flow) => self.change_flow(id, flow),
                None => self.remove(id),
            }
        }
    }

    fn change_flow(&mut self, id: u64, flow: Flow) {
        let Some(subscription) = self.all.get_mut(&id) else { return };
        let old = std::mem::replace(&mut subscription.flow, flow);
        if let Some(key) = old.key() {
            self.flows.remove(&(key, id));
        }
        self.flows.extend(flow.key().map(|key| (key, id)));
    }

    /// Ends the subscriptions of and to users that are gone.
    pub(super) fn users_changed(&mut self, is_user: impl Fn(&str) -> bool) {
        let ending = |s: &Subscription| {
            let rejected = (!is_user(&s.user)).then_some(Ending::Rejected);
            rejected.or_else(|| (!is_user(&s.watched)).then_some(Ending::NoResource))
        };
        let over: Vec<_> = self.all.iter().filter_map(|(id, s)| Some((*id, ending(s)?))).collect();
        for (id, ending) in over {
            self.end(id, ending);
        }
    }

    fn end(&mut self, id: u64, ending: Ending) {
        if let Some(subscription) = self.all.get_mut(&id) {
            subscription.ending.get_or_insert(ending);
            self.due.insert(id);
        }
    }

    pub(super) fn timeout(&mut self, now: Instant) {
        while let Some(&(at, id)) = self.timers.first().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, id));
            let Some(subscription) = self.all.get_mut(&id) else { continue };
            if subscription.expires_at <= now {
                subscription.ending.get_or_insert(Ending::Timeout);
            }
            self.due.insert(id);
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Neither a subscription nor an entry that outlived one.
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
            && self.tags.is_empty()
            && self.users.is_empty()
            && self.watchers.iter().all(HashMap::is_empty)
            && self.flows.is_empty()
            && self.timers.is_empty()
            && self.due.is_empty()
    }

    fn set_timer(&mut self, id: u64) {
        let Some(subscription) = self.all.get_mut(&id) else { return };
        self.timers.remove(&(subscription.timer, id));
        subscription.timer = subscription.next_timeout();
        self.timers.insert((subscription.timer, id));
    }

    fn remove(&mut self, id: u64) {
        let Some(subscription) = self.all.remove(&id) else { return };
        self.tags.remove(&subscription.dialog.id.local_tag);
        leave(&mut self.users, &subscription.user, id);
        leave(&mut self.watchers[subscription.package.index()], &subscription.watched, id);
        if let Some(key) = subscription.flow.key() {
            self.flows.remove(&(key, id));
        }
        self.timers.remove(&(subscription.timer, id));
        self.due.remove(&id);
    }
}

fn leave(index: &mut HashMap<String, BTreeSet<u64>>, name: &str, id: u64) {
    if let Some(ids) = index.get_mut(name) {
        ids.remove(&id);
        if ids.is_empty() {
            index.remove(name);
        }
    }
}

/// A Retry-After value (RFC 3261 section 20.33), at most as long as a subscription.
fn retry_after(response: &Message) -> Option<Duration> {
    let value = response.header(Name::RetryAfter)?;
    let seconds = value.split([';', '(', ' ']).next()?.parse::<u32>().ok()?;
    Some(Duration::from_secs(seconds.min(SUBSCRIPTION_EXPIRES_S_MAX).into()))
}

impl Subscription {
    /// A change has to wait; the end does not.
    fn is_held_back(&self, now: Instant) -> bool {
        self.ending.is_none() && (self.is_notifying || now < self.not_before)
    }

    fn next_timeout(&self) -> Instant {
        if self.is_touched && !self.is_notifying { self.expires_at.min(self.not_before) } else { self.expires_at }
    }

    fn contact(&self, ctx: &Context) -> String {
        ctx.contact(&self.flow, &self.contact_user, self.dialog.is_secure)
    }

    /// Tells the subscriber how things are `now`, if that is news. Returns whether a NOTIFY was sent.
    fn notify(&mut self, ctx: &mut Context, id: u64, now: Snapshot) -> bool {
        self.is_touched = false;
        if self.ending.is_none() && self.shown.as_ref() == Some(&now) {
            return false;
        }
        let earlier = self.shown.take().filter(|_| self.ending.is_none());
        let document = self.may_see().then(|| now.document(earlier.as_ref(), self.version, &self.entity)).flatten();
        let owner = if self.ending.is_some() { Owner::Nobody } else { Owner::Notify(id) };
        let contact = self.contact(ctx);
        let flow = self.flow;
        ctx.send(flow, owner, |ctx, via| self.build(ctx.now, via, &contact, document.as_deref()));
        self.shown = Some(now);
        self.version = self.version.wrapping_add(1);
        self.is_notifying = true;
        self.not_before = ctx.now + self.package.interval();
        true
    }

    /// Whoever is no longer allowed to subscribe is not shown the state a last time either.
    const fn may_see(&self) -> bool {
        match self.ending {
            None | Some(Ending::Timeout | Ending::Deactivated) => true,
            Some(Ending::Rejected | Ending::NoResource) => false,
        }
    }

    fn build(&mut self, now: Instant, via: &str, contact: &str, document: Option<&str>) -> RequestBuilder {
        let id = self.event_id.as_ref().map_or_else(String::new, |id| format!(";id={id}"));
        let state = match self.ending {
            None => format!("active;expires={}", self.expires_at.since(now).as_secs()),
            Some(ending) => format!("terminated;reason={}", ending.as_str()),
        };
        let request = self
            .dialog
            .request(Method::Notify, via)
            .header("Contact", contact)
            .header("Event", format_args!("{}{id}", self.package.name()))
            .header("Subscription-State", state);
        match document {
            Some(document) => request.body(self.package.content_type(), document.as_bytes()),
            None => request,
        }
    }
}

impl Ending {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Deactivated => "deactivated",
            Self::Rejected => "rejected",
            Self::NoResource => "noresource",
        }
    }
}
