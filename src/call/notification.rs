//! Desks that are told of emergency calls (emergency RULES 7.1): a text message to telephones of ours, a POST to web servers.
//! Nothing waits for either.

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;
use tracing::error;

use super::{
    call::Caller,
    context::{Context, Owner},
    emergency_call::EmergencyInfo,
    leg::Peer,
    outgoing::{escaped_user, host},
};
use crate::{
    policy::emergency::{EmergencyCall, location},
    sip::{MAX_FORWARDS, registrar::Binding},
    types::{Instant, limits::NOTIFICATIONS_MAX},
    wire::{pidf, sip::RequestBuilder},
};

/// What a desk is told of one emergency call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Notice {
    pub outcome: Outcome,
    /// As in the call's record; absent from a call that was refused.
    pub call: Option<String>,
    pub dialed: String,
    /// Where the answering point calls back, E.164.
    pub callback: Option<String>,
    pub extension: Option<String>,
    pub user: Option<String>,
    /// `company` or `private NAME`.
    pub erl: String,
    /// The company's address in one line, where that was given; a private address is nobody else's business.
    pub address: Option<String>,
    #[serde(skip)]
    pub time: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It is on its way to the answering point.
    Routed,
    /// Emergency calls cannot be made here.
    Refused,
    /// The telephone has not proven whose it is, and policy wants that of every telephone.
    #[serde(rename = "refused")]
    Denied,
    /// Every trunk was tried.
    Failed,
}

impl Outcome {
    const fn for_people(self) -> &'static str {
        match self {
            Self::Routed => "it is being connected",
            Self::Refused => "it was refused, because no trunk for emergency calls is configured",
            Self::Denied => "it was refused, because the telephone has shown no valid password",
            Self::Failed => "it could not be connected",
        }
    }
}

impl Notice {
    pub(super) fn of_call(ctx: &Context, outcome: Outcome, call: &str, caller: &Caller, info: &EmergencyInfo) -> Self {
        Self {
            call: Some(call.to_owned()),
            callback: Some(info.callback.clone()),
            erl: info.place.label(),
            address: (info.place == location::Place::Company).then(|| location::company_line(&ctx.config)),
            ..Self::refused(ctx, outcome, caller, &info.dialled)
        }
    }

    /// Of a call that no answering point hears of.
    pub(super) fn refused(ctx: &Context, outcome: Outcome, caller: &Caller, dialled: &EmergencyCall) -> Self {
        let user = match &caller.peer {
            Peer::Device(user) => Some(user.clone()),
            Peer::Trunk(_) | Peer::Unknown => None,
        };
        Self {
            outcome,
            call: None,
            dialed: dialled.dialled.clone(),
            callback: None,
            extension: user.is_some().then(|| caller.user.clone()),
            user,
            erl: "none".to_owned(),
            address: None,
            time: ctx.now,
        }
    }

    /// For a telephone's display.
    fn text(&self) -> String {
        let who = match (&self.user, &self.extension) {
            (Some(user), Some(extension)) => format!("{user} (extension {extension})"),
            (Some(user), None) => user.clone(),
            (None, _) => "an unknown telephone of this site".to_owned(),
        };
        let mut lines = vec![
            format!("EMERGENCY CALL: {who} has dialed {}; {}.", self.dialed, self.outcome.for_people()),
            format!("Time: {}", pidf::rfc3339(self.time)),
        ];
        lines.extend(self.callback.as_ref().map(|number| format!("Callback number: {number}")));
        match (&self.address, self.erl.as_str()) {
            (Some(address), _) => lines.push(format!("Location given: {address}")),
            (None, "none") => {}
            (None, _) => lines.push("Location given: the private address of this direct line".to_owned()),
        }
        lines.join("\r\n")
    }
}

/// Text messages to desks on their way.
#[derive(Debug, Default)]
pub(super) struct Notifications {
    open: BTreeMap<u64, Sent>,
    last: u64,
}

#[derive(Debug)]
struct Sent {
    /// Whom it is for, in logs.
    desk: String,
    /// Telephones that have not answered.
    open: usize,
}

impl Notifications {
    /// Sends the notice to every telephone of a desk; one that takes it is enough.
    pub(super) fn send(&mut self, ctx: &mut Context, notice: &Notice, desk: String, telephones: &[Arc<Binding>]) {
        if telephones.is_empty() || self.open.len() >= NOTIFICATIONS_MAX {
            return failed(ctx, &desk, "no telephone is registered there");
        }
        self.last += 1;
        for binding in telephones {
            ctx.send(binding.flow, Owner::Notification(self.last), |ctx, via| message(ctx, via, notice, binding));
        }
        self.open.insert(self.last, Sent { desk, open: telephones.len() });
    }

    /// What one telephone said, or a status that stands for nothing.
    pub(super) fn response(&mut self, ctx: &mut Context, id: u64, status: u16) {
        let Some(sent) = self.open.get_mut(&id).filter(|_| status >= 200) else { return };
        sent.open -= 1;
        if status < 300 {
            self.open.remove(&id);
        } else if sent.open == 0 {
            let desk = self.open.remove(&id).map(|sent| sent.desk).unwrap_or_default();
            failed(ctx, &desk, "no telephone there has taken the message");
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}

fn failed(ctx: &mut Context, desk: &str, why: &str) {
    ctx.counters.emergency_notify_failures += 1;
    error!(target: "emergency", stage = "notify", desk, why, "A desk could not be told of an emergency call.");
}

fn message(ctx: &mut Context, via: &str, notice: &Notice, binding: &Binding) -> RequestBuilder {
    let domain = host(&ctx.config.server.domain);
    let name = ctx.config.company.name.replace(['"', '\\'], "'");
    let mut message =
        RequestBuilder::new("MESSAGE", binding.request_uri()).header("Via", via).header("Max-Forwards", MAX_FORWARDS);
    for hop in &binding.path {
        message = message.header("Route", hop);
    }
    message
        .header("From", format_args!("\"{name}\" <sip:{domain}>;tag={}", ctx.tag()))
        .header("To", format_args!("<sip:{}@{domain}>", escaped_user(&binding.aor)))
        .header("Call-ID", ctx.rng.token(32))
        .header("CSeq", "1 MESSAGE")
        .header("Priority", "emergency")
        .body("text/plain;charset=UTF-8", notice.text().as_bytes())
}
