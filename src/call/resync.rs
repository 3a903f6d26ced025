//! Telephones made to fetch their configuration again: a NOTIFY outside any dialog with the event `check-sync`. No RFC defines
//! it; desk phones have it in common. With `reboot=false` they only look for news, with `reboot=true` they start anew, and
//! either way not before their calls have ended.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    context::{Context, Owner},
    interface::{DeviceSync, Output, SyncOutcome, SyncRefusal},
    outgoing::{escaped_user, host},
    pbx,
};
use crate::{
    sip::{MAX_FORWARDS, dialog::is_sips, registrar::Binding},
    types::{Duration, Instant, limits::RESYNC_ANSWER_S_MAX},
    wire::sip::{RequestBuilder, build::reason_phrase},
};

/// Who has been asked and has not answered.
#[derive(Debug)]
pub(super) struct Resyncs {
    /// By the number that the operator's answer bears.
    open: BTreeMap<u64, Resync>,
    resyncs_max: usize,
}

#[derive(Debug)]
struct Resync {
    devices: Vec<Device>,
    deadline: Instant,
}

#[derive(Debug)]
struct Device {
    binding: Arc<Binding>,
    outcome: Option<SyncOutcome>,
}

impl Resyncs {
    /// `resyncs_max`: one more is refused.
    pub(super) const fn new(resyncs_max: usize) -> Self {
        Self { open: BTreeMap::new(), resyncs_max }
    }

    /// Asks every one of `contacts`, all of one user, but those that come with `true`: they must not be disturbed.
    pub(super) fn begin(
        &mut self,
        ctx: &mut Context,
        id: u64,
        contacts: impl Iterator<Item = (Arc<Binding>, bool)>,
        is_reboot: bool,
    ) {
        if self.open.len() >= self.resyncs_max {
            return ctx.outputs.push_back(Output::Resynced { id, result: Err(SyncRefusal::TooMany) });
        }
        let devices: Vec<_> = contacts.map(|(binding, is_needed)| Device::new(binding, is_needed)).collect();
        for (index, device) in devices.iter().enumerate().filter(|(_, device)| device.outcome.is_none()) {
            let owner = Owner::Resync(id, index);
            ctx.send(device.binding.flow, owner, |ctx, via| build(ctx, via, &device.binding, is_reboot));
        }
        self.open.insert(id, Resync { devices, deadline: ctx.now + Duration::from_secs(RESYNC_ANSWER_S_MAX) });
        self.report_if_complete(ctx, id);
    }

    /// What one device said, or a status that stands for nothing.
    pub(super) fn response(&mut self, ctx: &mut Context, (id, index): (u64, usize), status: u16, is_answer: bool) {
        let device = self.open.get_mut(&id).and_then(|resync| resync.devices.get_mut(index));
        let Some(device) = device.filter(|_| status >= 200) else { return };
        device.outcome = Some(match status {
            status if is_answer => SyncOutcome::Answered { status, reason: reason_phrase(status) },
            408 => SyncOutcome::NoAnswer,
            _ => SyncOutcome::NoConnection,
        });
        self.report_if_complete(ctx, id);
    }

    pub(super) fn timeout(&mut self, ctx: &mut Context) {
        let is_late = |(_, resync): &(&u64, &Resync)| resync.deadline <= ctx.now;
        let late: Vec<u64> = self.open.iter().filter(is_late).map(|(id, _)| *id).collect();
        for id in late {
            self.report(ctx, id);
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.open.values().map(|resync| resync.deadline).min()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    fn report_if_complete(&mut self, ctx: &mut Context, id: u64) {
        if self.open.get(&id).is_some_and(|resync| resync.devices.iter().all(|device| device.outcome.is_some())) {
            self.report(ctx, id);
        }
    }

    /// Later answers are nobody's business.
    fn report(&mut self, ctx: &mut Context, id: u64) {
        let Some(resync) = self.open.remove(&id) else { return };
        let result = Ok(resync.devices.into_iter().map(Device::report).collect());
        ctx.outputs.push_back(Output::Resynced { id, result });
    }
}

impl Device {
    /// Some need not be asked: their outcome is known.
    fn new(binding: Arc<Binding>, is_needed: bool) -> Self {
        let outcome = match binding.flow.key() {
            _ if is_needed => Some(SyncOutcome::Emergency),
            // Restored after a restart, and not heard of since.
            None => Some(SyncOutcome::NoConnection),
            Some(_) => None,
        };
        Self { binding, outcome }
    }

    fn report(self) -> DeviceSync {
        let Binding { flow, user_agent, .. } = &*self.binding;
        DeviceSync {
            transport: flow.transport.uri_token(),
            remote: flow.remote,
            user_agent: user_agent.clone(),
            outcome: self.outcome.unwrap_or(SyncOutcome::NoAnswer),
        }
    }
}

/// From the server itself to the user's device. It belongs to no subscription, hence `terminated` (RFC 6665 section 8.2.1
/// requires Subscription-State).
fn build(ctx: &mut Context, via: &str, binding: &Binding, is_reboot: bool) -> RequestBuilder {
    let (uri, called) = pbx::address_of(&ctx.config, binding, None);
    let domain = host(&ctx.config.server.domain);
    let to = format!("<sip:{}@{domain}>", escaped_user(called));
    let contact = ctx.contact(&binding.flow, "", is_sips(&uri));
    let mut notify = RequestBuilder::new("NOTIFY", &uri).header("Via", via).header("Max-Forwards", MAX_FORWARDS);
    for hop in &binding.path {
        notify = notify.header("Route", hop);
    }
    notify
        .header("From", format_args!("<sip:{domain}>;tag={}", ctx.tag()))
        .header("To", to)
        .header("Call-ID", ctx.rng.token(32))
        .header("CSeq", "1 NOTIFY")
        .header("Contact", contact)
        .header("Event", format_args!("check-sync;reboot={is_reboot}"))
        .header("Subscription-State", "terminated")
}
