//! Emergency services that call back (emergency RULES 9): the telephone that called, past do-not-disturb, forwarding and
//! limits, and whoever else can take the call when that one does not.

use std::sync::Arc;

use super::{
    super::{
        call::{Call, Caller},
        context::{Pending, Side},
        emergency_call::EmergencyInfo,
        fork::{Attempt, Plan},
        leg::{Leg, Peer},
    },
    Core,
};
use crate::{
    config::NotifyTarget,
    policy::{
        emergency::{Class, Ordinary},
        number, reach,
        routing::{self, Target},
    },
    sip::registrar::Binding,
    types::{Duration, Flow, Instant, limits::CALLBACKS_PER_NUMBER_MAX},
    wire::sip::{Message, Name},
};

/// A telephone that does not answer for so long is not waited for alone.
const ALONE: Duration = Duration::from_secs(20);

/// A call that the answering point may call back.
#[derive(Debug)]
pub(super) struct Expected {
    until: Instant,
    /// Where the telephone was then; of a telephone that nobody knew, `aor` is empty.
    device: Arc<Binding>,
}

impl Expected {
    fn is_due(&self, now: Instant) -> bool {
        self.until > now
    }

    fn is_of(&self, binding: &Binding) -> bool {
        is_same_device(&self.device, binding)
    }
}

/// One telephone, however often it has registered meanwhile.
pub(super) fn is_same_device(one: &Binding, other: &Binding) -> bool {
    one.aor == other.aor
        && match &one.instance {
            Some(instance) => other.is_of_instance(instance),
            None => one.contact == other.contact,
        }
}

impl Core {
    /// Remembers the telephone on `flow` that makes an emergency call; `contact`: of its request.
    pub(super) fn expect_callback(&mut self, info: &EmergencyInfo, device: Arc<Binding>) {
        if info.class != Class::Emergency {
            return;
        }
        let now = self.ctx.now;
        for expected in self.callbacks.values_mut() {
            expected.retain(|expected| expected.is_due(now));
        }
        self.callbacks.retain(|_, expected| !expected.is_empty());
        let until = now + self.callback_window();
        for number in info.callbacks(&self.ctx.config) {
            let of_number = self.callbacks.entry(number).or_default();
            of_number.retain(|expected| !expected.is_of(&device));
            if of_number.len() == CALLBACKS_PER_NUMBER_MAX {
                of_number.remove(0);
            }
            of_number.push(Expected { until, device: Arc::clone(&device) });
        }
    }

    /// The window is counted from the end of the call (6.3): whoever is cut off after a long one is called back, too.
    pub(super) fn extend_callback(&mut self, call: &Call) {
        let Some(info) = call.emergency.as_deref().filter(|info| info.class == Class::Emergency) else { return };
        let device = match call.caller.peer {
            Peer::Unknown if call.a.dialog.is_some() => {
                Some(self.device_on("", &call.a.flow, None, remote_target(&call.a)))
            }
            Peer::Device(_) | Peer::Unknown | Peer::Trunk(_) => self.device_of(call, Side::A),
        };
        let Some(device) = device else { return };
        let until = self.ctx.now + self.callback_window();
        let is_it = |expected: &Expected| {
            expected.is_of(&device) || expected.device.aor == device.aor && expected.device.flow == device.flow
        };
        let known =
            self.callbacks.get_mut(&info.callback).and_then(|all| all.iter_mut().find(|expected| is_it(expected)));
        match known {
            Some(expected) => expected.until = until,
            None => self.expect_callback(info, device),
        }
    }

    fn callback_window(&self) -> Duration {
        Duration::from_secs(60 * u64::from(self.ctx.config.emergency.callback_window_min))
    }

    /// The telephone that sends this INVITE.
    pub(super) fn calling_device(&self, pending: &Pending, caller: &Caller) -> Arc<Binding> {
        let user = match &caller.peer {
            Peer::Device(user) => user.as_str(),
            Peer::Trunk(_) | Peer::Unknown => "",
        };
        let contact = pending.request.contact();
        let instance = contact.as_ref().and_then(|contact| contact.params.get("+sip.instance")).map(str::to_owned);
        let contact = contact.map(|contact| contact.uri.to_owned()).unwrap_or_default();
        self.device_on(user, &pending.flow, instance, contact)
    }

    /// The telephone at one side of a call.
    pub(super) fn device_of(&self, call: &Call, side: Side) -> Option<Arc<Binding>> {
        let leg = call.leg(side)?;
        let device = leg.device.as_ref()?;
        Some(self.device_on(&device.user, &leg.flow, device.instance.clone(), remote_target(leg)))
    }

    fn device_on(&self, user: &str, flow: &Flow, instance: Option<String>, contact: String) -> Arc<Binding> {
        let of_instance = || self.registrar.flows_of(user, instance.as_deref()?).next();
        if let Some(binding) = self.registrar.binding_on(user, flow).or_else(of_instance) {
            return Arc::clone(binding);
        }
        Arc::new(Binding {
            aor: user.to_owned(),
            contact,
            flow: *flow,
            expires_at: self.ctx.now,
            call_id: String::new(),
            cseq: 0,
            instance,
            reg_id: None,
            path: Vec::new(),
            is_proxied: false,
            user_agent: String::new(),
        })
    }

    /// Whether an emergency call may be called back.
    pub(super) fn expects_callbacks(&self) -> bool {
        self.callbacks.values().flatten().any(|expected| expected.is_due(self.ctx.now))
    }

    /// Whether the answering point may want this telephone, or this number.
    pub(super) fn may_be_called_back(&self, binding: &Binding, line: Option<&str>) -> bool {
        let is_due = |expected: &&Expected| expected.is_due(self.ctx.now);
        let of_line = line.and_then(|line| self.callbacks.get(line));
        of_line.into_iter().flatten().any(|expected| is_due(&expected))
            || self.callbacks.values().flatten().filter(is_due).any(|expected| expected.is_of(binding))
    }

    /// Whether a trunk's INVITE is such a callback: no limit may stop it. While one may come, a trunk says so (RFC 7090 section 4),
    /// or somebody calls the number that an answering point was shown.
    pub(super) fn calls_back(&self, request: &Message, dialled: &Ordinary) -> bool {
        self.called_back(dialled).is_some() || is_marked(request) && self.expects_callbacks()
    }

    /// The calls that a call to this number may answer.
    pub(super) fn called_back(&self, dialled: &Ordinary) -> Option<&[Expected]> {
        let forms = number::inbound_forms(dialled.dialled(), self.site.region());
        let expected = forms.iter().find_map(|form| self.callbacks.get(form))?;
        expected.iter().any(|expected| expected.is_due(self.ctx.now)).then_some(expected)
    }

    /// Makes of a trunk's call the answering point's: `plan` is where it would go otherwise. The telephone that called last, of those
    /// with the number that is called if there are any, rings first, then those before it, then the others of their users, then those of whom the number belongs to.
    pub(super) fn answer_callback(&self, plan: Option<Plan>, request: &Message, dialled: &Ordinary) -> Option<Plan> {
        if !self.calls_back(request, dialled) {
            return plan;
        }
        let expected: Vec<&Expected> = match self.called_back(dialled) {
            Some(of_number) => of_number.iter().collect(),
            None => {
                let mut all: Vec<_> = self.callbacks.values().flatten().collect();
                all.sort_by_key(|expected| expected.until);
                all
            }
        };
        let owners = self.owners(dialled);
        let mut plan = plan.unwrap_or_default();
        plan.hunt.forget_steps();
        let mut plan = plan.devices_first(self.devices_to_call_back(&expected, &owners));
        if self.ctx.config.emergency.notify.iter().any(|target| matches!(target, NotifyTarget::Sip { .. })) {
            plan.hunt.alert_at = Some(self.ctx.now + ALONE);
        }
        plan.hunt.is_callback = true;
        Some(plan)
    }

    /// Waves of telephones, none of them twice.
    fn devices_to_call_back(&self, expected: &[&Expected], owners: &[Arc<Binding>]) -> Vec<Vec<Attempt>> {
        let due = || expected.iter().rev().filter(|expected| expected.is_due(self.ctx.now));
        let devices = due().map(|expected| self.contacts_of_device(&expected.device));
        let users = due().map(|expected| self.registrar.contacts(&expected.device.aor).cloned().collect());
        let mut waves: Vec<Vec<Arc<Binding>>> = Vec::new();
        for mut wave in devices.chain(users).chain([owners.to_vec()]) {
            let is_known =
                |binding: &Binding| waves.iter().flatten().any(|b| b.aor == binding.aor && b.is_same(binding));
            wave.retain(|binding| !is_known(binding));
            waves.push(wave);
        }
        waves.retain(|wave| !wave.is_empty());
        waves.into_iter().map(|wave| wave.into_iter().map(Attempt::contact).collect()).collect()
    }

    /// Where the telephone is registered now. One that never was is where its call came from.
    fn contacts_of_device(&self, device: &Arc<Binding>) -> Vec<Arc<Binding>> {
        if device.aor.is_empty() {
            return vec![Arc::clone(device)];
        }
        self.registrar.contacts(&device.aor).filter(|binding| is_same_device(device, binding)).cloned().collect()
    }

    /// Every telephone of whom a number belongs to.
    fn owners(&self, dialled: &Ordinary) -> Vec<Arc<Binding>> {
        let target = routing::route(dialled, true, &self.ctx.config, &self.ctx.directory);
        self.telephones(&target)
    }

    fn telephones(&self, target: &Target) -> Vec<Arc<Binding>> {
        match target {
            Target::User(user) => self.registrar.contacts(&user.name).cloned().collect(),
            Target::Group(index) => {
                let group = &self.ctx.config.groups[*index];
                let members = reach::members(group, &self.ctx.directory);
                members.flat_map(|user| self.registrar.contacts(&user.name)).cloned().collect()
            }
            Target::Outside(_) | Target::Onward { .. } | Target::Refuse(..) => Vec::new(),
        }
    }

    /// The telephones of the desks that are told of emergency calls.
    pub(super) fn desks(&self) -> impl Iterator<Item = (&NotifyTarget, Vec<Arc<Binding>>)> {
        self.ctx.config.emergency.notify.iter().filter_map(|target| match target {
            NotifyTarget::Sip { user, .. } => {
                let target_of = routing::inside(user, &self.ctx.config, &self.ctx.directory);
                Some((target, target_of.map(|found| self.telephones(&found)).unwrap_or_default()))
            }
            NotifyTarget::Https { .. } => None,
        })
    }

    /// The telephone that called does not answer, or is not there: the desks ring, too.
    pub(super) fn ring_desks(&mut self, call: &mut Call) {
        let attempts: Vec<_> = self
            .desks()
            .flat_map(|(_, bindings)| bindings)
            .filter(|binding| !call.rings(binding))
            .map(Attempt::contact)
            .collect();
        call.plan.try_next(attempts);
        call.next_wave(&mut self.ctx);
    }
}

fn remote_target(leg: &Leg) -> String {
    leg.dialog.as_ref().map(|dialog| dialog.remote_target.clone()).unwrap_or_default()
}

fn is_marked(request: &Message) -> bool {
    request.header(Name::Priority).is_some_and(|value| value.eq_ignore_ascii_case("psap-callback"))
}
