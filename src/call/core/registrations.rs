//! REGISTER, and what the registrar decides: replies, changes to store, devices that come back over another flow.

use std::sync::Arc;

use tracing::info;

use super::{
    super::{context::Pending, interface::Output, pbx},
    Core,
};
use crate::{
    config::User,
    policy::emergency,
    sip::{
        auth::{Role, Verdict},
        registrar::{self, Binding},
    },
    types::Flow,
    wire::sip::{Message, Uri},
};

impl Core {
    pub(super) fn register(&mut self, pending: &Pending) {
        let verdict = self.check(Role::Registrar, pending);
        let Verdict::Passed(name) = verdict else {
            if verdict == Verdict::Refused {
                self.ctx.counters.registrations_refused += 1;
            }
            return self.challenge(pending, Role::Registrar, &verdict);
        };
        match self.registered_user(&pending.request) {
            Some(user) if user.name == name => {
                if self.contradicts_certificate(&pending.flow, &user) {
                    return self.ctx.refuse(pending, 403, "Certificate Of Another User");
                }
                if let Some(refusal) = pbx::bulk_refusal(&self.ctx.config, &user, &pending.request) {
                    return self.refuse(pending, &refusal);
                }
                let input = registrar::Input::Register {
                    txn: pending.txn,
                    aor: name,
                    flow: pending.flow,
                    request: pending.request.clone(),
                };
                self.registrar.handle_input(self.ctx.now, input);
                self.drain_registrar(Some(pending));
                self.device_is_back(user.as_ref(), &pending.flow);
            }
            _ => self.ctx.refuse(pending, 403, "Not Your Address-Of-Record"),
        }
    }

    /// A device that has registered over a new connection is reached over it in its calls, too.
    fn device_is_back(&mut self, user: &User, flow: &Flow) {
        let Some(legs) = self.ctx.device_legs.get(&user.name) else { return };
        let Some(binding) = self.registrar.binding_on(&user.name, flow) else { return };
        for &(id, side) in legs {
            let leg = self.calls.get_mut(&id).and_then(|call| call.leg_mut(side));
            if let Some(leg) = leg.filter(|leg| !self.registrar.is_bound(&leg.flow) && leg.is_of_device(binding)) {
                leg.flow = binding.flow;
            }
        }
    }

    /// The user whose address-of-record stands in To (RFC 3261 section 10.3 step 3).
    fn registered_user(&self, request: &Message) -> Option<Arc<User>> {
        let to = request.to()?;
        let uri = Uri::parse(to.uri)?;
        let name = uri.user_decoded()?;
        self.ctx.directory.by_dialled(&name).cloned()
    }

    pub(super) fn drain_registrar(&mut self, pending: Option<&Pending>) {
        loop {
            match self.registrar.poll_output() {
                registrar::Output::Store(change) => {
                    self.bindings_changed(change.aor());
                    self.ctx.outputs.push_back(Output::StoreBinding(change));
                }
                registrar::Output::Displaced(binding) => self.displaced(&binding),
                registrar::Output::Reply { status, reason, contacts, headers, .. } => {
                    let pending = pending.expect("only a REGISTER is replied to, and its reply is drained with it");
                    self.reply_register(pending, status, reason, &contacts, &headers);
                }
                registrar::Output::Timeout(_) => return,
            }
        }
    }

    fn displaced(&mut self, binding: &Binding) {
        self.ctx.counters.contacts_displaced += 1;
        let Binding { aor, user_agent, .. } = binding;
        info!(user = aor, ?user_agent, "A contact made room for a new one of the same user.");
    }

    fn reply_register(
        &mut self,
        pending: &Pending,
        status: u16,
        reason: &str,
        contacts: &[String],
        headers: &[(&'static str, String)],
    ) {
        let tag = self.ctx.tag();
        let mut response = self.ctx.response(pending, status, reason, &tag);
        for contact in contacts {
            response = response.header("Contact", contact);
        }
        for (name, value) in headers {
            response = response.header(name, value);
        }
        if headers.iter().any(|(name, _)| *name == "Flow-Timer") {
            self.keep_alives.watch(self.ctx.now, pending.flow);
        } else if status == 200 {
            // Its device no longer keeps it alive.
            self.keep_alives.forget(pending.flow.connection);
        }
        if let Some(warning) = emergency::refusal::register_warning(&self.ctx.config).filter(|_| status == 200) {
            response = response.header("Warning", warning);
        }
        let bytes = response.finish();
        self.ctx.respond(pending.txn, status, bytes);
    }

    /// Closes the connections of devices that should have been heard of. Not in a call: whether its signalling still works is
    /// the session timer's to find out, and an emergency call is nobody's to touch.
    pub(super) fn end_silent_flows(&mut self) {
        while let Some(flow) = self.keep_alives.next_silent(self.ctx.now) {
            let users = self.registrar.users_on(&flow);
            if users.is_empty() {
                self.keep_alives.forget(flow.connection);
            } else if users.iter().all(|user| !self.ctx.device_legs.contains_key(user)) && !self.carries_a_call(&flow) {
                info!(?users, "A device was not heard of in time; its connection is closed.");
                self.ctx.outputs.push_back(Output::Close { flow });
                self.flow_failed(flow);
            }
        }
    }

    /// Closes connections to trunks that may be dead, when no call is on them any more.
    pub(super) fn end_left_connections(&mut self) {
        while let Some(flow) = self.ctx.trunks.next_left(self.ctx.now) {
            if !self.carries_a_call(&flow) {
                self.ctx.outputs.push_back(Output::Close { flow });
                self.flow_failed(flow);
            }
        }
    }

    /// Whether a leg is on this connection, also one of nobody we know.
    fn carries_a_call(&self, flow: &Flow) -> bool {
        self.calls.values().any(|call| call.flows().any(|other| other.connection == flow.connection))
    }

    /// Calls of a device that lost one of its flows go on over another of its own: without an instance, one device cannot be
    /// told from another behind the same address.
    pub(super) fn device_has_another_flow(&mut self, user: &str) {
        let Some(user) = self.ctx.directory.by_name(user).cloned() else { return };
        let flows: Vec<Flow> =
            self.registrar.contacts(&user.name).filter(|b| b.instance.is_some()).map(|b| b.flow).collect();
        flows.iter().for_each(|flow| self.device_is_back(&user, flow));
    }
}
