//! Events: who may subscribe to what, where their state comes from, and when it may have changed.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    super::{
        context::{ALLOW, Context, Pending},
        leg::Peer,
        outgoing::{escaped_user, host},
        subscription::{Package, Snapshot, Subscriber, Wish, event},
    },
    Core,
};
use crate::{
    config::User,
    types::{ConnectionId, limits::LAMP_DIALOGS_MAX},
    wire::{
        message_summary::{self, MessageSummary},
        sip::{Message, Method, Name, Uri},
    },
};

impl Core {
    /// A SUBSCRIBE outside a dialog. Users watch each other's calls and their own mailbox and contacts.
    pub(super) fn subscribe(&mut self, pending: &Pending) {
        let Some(user) = self.subscriber(pending) else { return };
        let wish = match Wish::read(&pending.request) {
            Ok(wish) => wish,
            Err(refusal) => return self.refuse(pending, &refusal),
        };
        let Some(watched) = self.addressed_user(&pending.request, &user) else {
            return self.ctx.refuse(pending, 404, "No Such User");
        };
        if wish.package.is_private() && watched.name != user {
            return self.ctx.refuse(pending, 403, "Not Your Own");
        }
        let called = Uri::parse(pending.request.request_uri()).and_then(|uri| uri.user_decoded());
        let contact_user = escaped_user(called.as_deref().unwrap_or(&watched.name));
        let instance = self.registrar.binding_on(&user, &pending.flow).and_then(|binding| binding.instance.clone());
        let subscriber = Subscriber {
            user,
            watched: watched.name.clone(),
            entity: format!("sip:{contact_user}@{}", host(&self.ctx.config.server.domain)),
            contact_user,
            is_registered: self.registrar.is_bound(&pending.flow),
            instance,
        };
        self.subscriptions.begin(&mut self.ctx, pending, wish, subscriber);
    }

    /// The user that sends this request; refused or challenged if it is none.
    fn subscriber(&mut self, pending: &Pending) -> Option<String> {
        match self.identify(pending)?.peer {
            Peer::Device(user) => Some(user),
            Peer::Trunk(_) | Peer::Unknown => {
                self.ctx.refuse(pending, 403, "Subscriptions Are For Users");
                None
            }
        }
    }

    /// The user in the Request-URI: extension or name; the sender itself, if it addresses the server.
    fn addressed_user(&self, request: &Message, sender: &str) -> Option<Arc<User>> {
        let uri = Uri::parse(request.request_uri()).filter(|uri| uri.is_sip() && self.site.is_own_host(uri.host))?;
        let directory = &self.ctx.directory;
        match uri.user {
            None => directory.by_name(sender).cloned(),
            Some(_) => directory.by_dialled(&uri.user_decoded()?).cloned(),
        }
    }

    /// A request in the dialog of a subscription. Whoever refreshes it proves again to be its subscriber.
    pub(super) fn within_subscription(&mut self, tag: &str, pending: &Pending) {
        if pending.request.method() != Some(Method::Subscribe) {
            return self.ctx.refuse_with(pending, 405, "", &[("Allow", ALLOW)]);
        }
        let Some(user) = self.subscriber(pending) else { return };
        let wish = match Wish::read(&pending.request) {
            Ok(wish) => wish,
            Err(refusal) => return self.refuse(pending, &refusal),
        };
        let Some((id, _)) = self.subscriptions.find(tag).filter(|(_, owner)| *owner == user) else {
            return self.ctx.refuse(pending, 403, "Not Your Subscription");
        };
        let is_registered = self.registrar.is_bound(&pending.flow);
        self.subscriptions.refresh(&mut self.ctx, pending, id, &wish, is_registered);
    }

    /// A NOTIFY outside any dialog: the voice mail system behind a trunk reports a user's mailbox, by extension, name or
    /// direct line (RFC 3842, unsolicited). The last report is kept in memory, for the user's devices that subscribe.
    pub(super) fn mailbox_report(&mut self, pending: &Pending) {
        if self.trunk_of(pending).is_none() {
            return self.ctx.refuse(pending, 481, "");
        }
        match event(&pending.request) {
            Ok((Package::MessageSummary, _)) => {}
            Ok((Package::Dialog | Package::Reg, _)) | Err(_) => {
                return self.ctx.refuse_with(pending, 489, "", &[("Allow-Events", Package::MessageSummary.name())]);
            }
        }
        let Some(user) = self.mailbox_owner(&pending.request) else {
            return self.ctx.refuse(pending, 404, "No Such User");
        };
        let content_type = pending.request.header(Name::ContentType).unwrap_or_default();
        let content_type = content_type.split(';').next().unwrap_or_default().trim();
        if !content_type.eq_ignore_ascii_case(message_summary::CONTENT_TYPE) {
            return self.ctx.refuse_with(pending, 415, "", &[("Accept", message_summary::CONTENT_TYPE)]);
        }
        let Some(summary) = MessageSummary::parse(&pending.request.body()) else {
            return self.ctx.refuse(pending, 400, "Malformed Message Summary");
        };
        self.subscriptions.touch(Package::MessageSummary, &user.name);
        self.mailboxes.insert(user.name.clone(), summary);
        self.ctx.refuse(pending, 200, "");
    }

    fn mailbox_owner(&self, request: &Message) -> Option<Arc<User>> {
        let uri = Uri::parse(request.request_uri()).filter(|uri| self.site.is_own_host(uri.host))?;
        let user = uri.user_decoded()?;
        let directory = &self.ctx.directory;
        directory.by_dialled(&user).or_else(|| directory.by_direct_line(&user)).cloned()
    }

    /// Tells subscribers what has changed. Returns whether anything was sent.
    pub(super) fn notify(&mut self) -> bool {
        let Self { ctx, subscriptions, calls, registrar, mailboxes, .. } = self;
        subscriptions.flush(ctx, |ctx: &Context, package, user, is_own| match package {
            Package::Dialog => {
                let legs = ctx.device_legs.get(user).into_iter().flatten();
                let dialogs = legs.filter_map(|(id, side)| calls.get(id)?.lamp(*side, is_own));
                Snapshot::Dialogs(dialogs.take(LAMP_DIALOGS_MAX).collect())
            }
            Package::MessageSummary => Snapshot::Summary(mailboxes.get(user).cloned()),
            Package::Reg => {
                // Two devices may have the same private address.
                let contacts: BTreeSet<_> = registrar.contacts(user).map(|b| b.contact.clone()).collect();
                Snapshot::Contacts(contacts.into_iter().collect())
            }
        })
    }

    /// To be called when the registrar knows it already.
    pub(super) fn subscribers_lost(&mut self, connection: ConnectionId) {
        let other_flow = |user: &str, instance: &str| Some(self.registrar.flows_of(user, instance).next()?.flow);
        self.subscriptions.connection_closed(connection, other_flow);
    }

    pub(super) fn bindings_changed(&mut self, user: &str) {
        self.subscriptions.touch(Package::Reg, user);
        self.subscriptions.unregistered(user, |flow| self.registrar.is_bound(flow));
    }

    pub(super) fn users_changed(&mut self) {
        let directory = &self.ctx.directory;
        self.mailboxes.retain(|user, _| directory.by_name(user).is_some());
        self.subscriptions.users_changed(|user| directory.by_name(user).is_some());
    }
}
