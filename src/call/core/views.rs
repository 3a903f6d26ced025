//! What can be seen of the core from outside.

use std::sync::Arc;

use super::{
    super::{
        capacity::WorkerLoads,
        emergency_call::EmergencyInfo,
        interface::{CallView, Counters, EmergencyState, LineView, RegistrationView, ServerView, TrunkView},
    },
    Core,
};
use crate::{
    policy::emergency::{self, Class, location},
    sip::{registrar::Binding, registration::State},
    types::Instant,
};

impl Core {
    pub fn calls(&self) -> Vec<CallView> {
        self.calls.values().filter(|call| call.is_live()).map(|call| call.view()).collect()
    }

    pub fn bindings(&self) -> Vec<Arc<Binding>> {
        self.registrar.iter().cloned().collect()
    }

    /// In the order of the configuration.
    pub fn trunks(&self) -> Vec<TrunkView> {
        (0..self.ctx.trunks.len()).map(|index| self.trunk_view(index)).collect()
    }

    fn trunk_view(&self, index: usize) -> TrunkView {
        let servers = self.ctx.trunks.targets(index, &self.ctx.listeners).into_iter().map(|(target, is_in_trouble)| {
            let transport = target.transport.uri_token();
            ServerView { transport, address: target.address, up: !is_in_trouble }
        });
        TrunkView {
            name: self.ctx.trunks.trunk(index).name.clone(),
            state: self.ctx.trunks.condition(index, &self.ctx.listeners).as_str(),
            registration: self.trunk_registrations.state(self.ctx.now, index).map(registration_view),
            servers: servers.collect(),
            calls: self.calls.values().filter(|call| call.is_live() && call.parties_on(index) > 0).count(),
        }
    }

    /// Registrations at trunks on their way in or out: what an end waits for.
    pub fn open_registrations(&self) -> usize {
        self.trunk_registrations.open()
    }

    pub fn counters(&self) -> Counters {
        self.ctx.counters.clone()
    }

    pub const fn bindings_len(&self) -> usize {
        self.registrar.len()
    }

    pub fn subscriptions_len(&self) -> usize {
        self.subscriptions.len()
    }

    /// Calls whose record is not written: what a drain waits for. One that is over may still wait for transactions, such
    /// as the INVITE to a device that answers nothing, and does not count.
    pub const fn live_calls(&self) -> usize {
        self.live_calls
    }

    pub fn worker_loads(&self) -> WorkerLoads {
        self.capacity.view()
    }

    /// Emergency calls whose record is not written, tests left out.
    pub fn emergency_calls(&self) -> usize {
        let is_emergency = |info: &EmergencyInfo| info.class == Class::Emergency;
        self.calls.values().filter(|call| call.is_live() && call.emergency.as_deref().is_some_and(is_emergency)).count()
    }

    /// Live calls that nothing may end: emergency calls, and the answering point's calls back.
    pub fn urgent_calls(&self) -> usize {
        self.calls.values().filter(|call| call.is_live() && call.is_urgent()).count()
    }

    /// What of emergency calling only a running server knows. `None`: there is no such user.
    pub fn emergency(&self, user: Option<&str>) -> Option<EmergencyState> {
        let config = &self.ctx.config;
        let user = user.map(|name| self.ctx.directory.by_name(name).ok_or(())).transpose().ok()?;
        let of_user = user.map(|user| LineView {
            private_address: location::private_line(&location::place(config, Some(user), user.direct_line.as_deref())),
            callback: location::callback(config, user.direct_line.as_deref(), 0).map(str::to_owned),
        });
        let trunks = emergency::eligible_trunks(config);
        let state = |trunk: &usize| self.ctx.trunks.condition(*trunk, &self.ctx.listeners).as_str();
        let last_test = self.last_test_call.clone();
        Some(EmergencyState { trunk_states: trunks.iter().map(state).collect(), of_user, last_test })
    }

    /// Nothing is left: no call, no transaction, no port, no timer. What simulations check at their end.
    pub fn is_idle(&self) -> bool {
        let nothing_owned = self.ctx.owners.is_empty()
            && self.ctx.dialogs.is_empty()
            && self.ctx.device_legs.is_empty()
            && self.ctx.media.is_empty();
        self.calls.is_empty()
            && self.live_calls == 0
            && self.capacity.is_empty()
            && self.invites.is_empty()
            && self.invite_keys.is_empty()
            && self.timers.is_empty()
            && self.transfers.is_empty()
            && self.waiting.is_empty()
            && self.verifications.is_empty()
            && self.test_calls.is_empty()
            && self.messages.is_empty()
            && self.notifications.is_empty()
            && self.refusal_tones.is_empty()
            && self.resyncs.is_empty()
            && self.inspections.is_empty()
            && self.trunk_pings.is_empty()
            && self.subscriptions.is_empty()
            && self.ctx.table.is_empty()
            && self.ctx.ports.taken() == 0
            && nothing_owned
    }
}

fn registration_view(state: State) -> RegistrationView {
    let (state, at, status) = match state {
        State::Registering => ("registering", None, None),
        State::Registered { until } => ("registered", Some(until), None),
        State::Failed { status, again_at } => ("failed", Some(again_at), Some(status)),
        State::Left => ("left", None, None),
    };
    RegistrationView { state, at_ms: at.map(Instant::unix_ms), status }
}
