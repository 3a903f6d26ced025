//! Step 5 for calls outside: what is used of whose limits, and the alarm when one is reached.

use tracing::error;

use super::Core;
use crate::{
    call::{
        call::{Call, Caller, State},
        fork::{Attempt, Outside, Plan},
        interface::BarredView,
        leg::Peer,
    },
    config::calling::Money,
    policy::{
        number,
        outside::{self, Denial, FullTrunk, LIMITS, Standing, Used},
        routing::Target,
    },
    types::{Transport, limits::ONWARD_CALLS_MAX},
    wire::sip::{Message, Name, NameAddr, Uri},
};

impl Core {
    /// The trunks to an outside number on behalf of a user, or the final answer.
    pub(super) fn plan_outside(
        &mut self,
        number: &str,
        is_secure: bool,
        payer: Option<&str>,
    ) -> Result<Plan, (u16, &'static str)> {
        let (user, region) = (payer.unwrap_or_default(), self.site.region());
        let (of_user, of_trunk) = (self.used_by(user), |trunk| self.used_on(trunk));
        let config = (&*self.ctx.config, region);
        let mut full = Vec::new();
        let decided = outside::decide(number, user, &of_user, &of_trunk, config, &mut full, &mut |_| {});
        self.trunks_full(&full);
        let mut trunks = decided.map_err(|denial| self.deny(user, denial))?;
        trunks.retain(|index| !is_secure || self.ctx.trunks.trunk(*index).transport == Some(Transport::Tls));
        let standing = |trunk| self.trunk_standing(trunk);
        let trunks = outside::available(trunks, number, &standing, (&self.ctx.config, region), &mut |_| {})
            .map_err(Denial::answer)?;
        let destination = number::destination(number, region);
        let attempt = |index| Attempt::to_number(index, number.to_owned());
        let mut plan = Plan::number(number, trunks.into_iter().map(attempt));
        plan.outside =
            Some(Outside { user: Some(user.to_owned()), number: number.to_owned(), destination, trunk: None });
        Ok(plan)
    }

    /// The trunk that has a number of ours, or the final answer. Nobody pays but the trunk.
    pub(super) fn plan_onward(
        &mut self,
        trunk: usize,
        number: &str,
        is_secure: bool,
        caller: &Caller,
    ) -> Result<Plan, (u16, &'static str)> {
        let source = match caller.peer {
            Peer::Trunk(source) => Some(source),
            Peer::Device(_) | Peer::Unknown => None,
        };
        let (region, now) = (self.site.region(), (self.used_on(trunk), self.trunk_standing(trunk)));
        let mut full = Vec::new();
        let allowed = outside::onward(number, source, trunk, now, (&self.ctx.config, region), &mut full, &mut |_| {});
        self.trunks_full(&full);
        allowed?;
        if is_secure && self.ctx.trunks.trunk(trunk).transport != Some(Transport::Tls) {
            return Err((480, "No Secure Way To This Number"));
        }
        if source.is_some() && self.seems_to_loop(number, caller) {
            return Err((482, "Loop Detected"));
        }
        let destination = number::destination(number, region);
        let mut plan = Plan::number(number, [Attempt::to_number(trunk, number.to_owned())]);
        plan.outside = Some(Outside { user: None, number: number.to_owned(), destination, trunk: None });
        Ok(plan)
    }

    /// Whether a caller is calling the same number so often at once that it must be one call, which comes back again and again
    /// from servers that do not count Max-Forwards.
    fn seems_to_loop(&self, number: &str, caller: &Caller) -> bool {
        let is_same = |call: &&Call| {
            let is_onward = |outside: &Outside| outside.user.is_none() && outside.number == number;
            call.state == State::Setup
                && call.caller.user == caller.user
                && call.plan.outside.as_ref().is_some_and(is_onward)
        };
        number::is_number(&caller.user)
            && self.calls.values().map(|call| &**call).filter(is_same).count() >= ONWARD_CALLS_MAX
    }

    /// Who calls, where a trunk's call goes on to a carrier: a number that is the company's.
    pub(super) fn show_onward(&self, caller: &mut Caller, target: &Target) {
        let (Peer::Trunk(_), Target::Onward { trunk, number }) = (&caller.peer, target) else { return };
        if self.ctx.trunks.trunk(*trunk).reaches_pstn {
            caller.direct_line = Some(number.clone());
        }
    }

    fn deny(&mut self, user: &str, denial: Denial) -> (u16, &'static str) {
        if let Some(limit) = denial.alarm() {
            let counter = LIMITS.iter().position(|name| *name == limit);
            if let Some(count) = counter.and_then(|index| self.ctx.counters.limits_reached.get_mut(index)) {
                *count += 1;
            }
            if self.ctx.usage.is_alarm_due(self.ctx.now, user) {
                error!(target: "fraud", user, limit, "A user has reached a limit on calls outside. If nobody knows why, change the password.");
            }
        }
        denial.answer()
    }

    /// Calls pass these trunks by: somebody should hear of it.
    fn trunks_full(&mut self, full: &[FullTrunk]) {
        for FullTrunk { trunk, limit } in full {
            let (name, limit) = (self.ctx.trunks.trunk(*trunk).name.clone(), limit.alarm().unwrap_or_default());
            if self.ctx.usage.is_trunk_alarm_due(self.ctx.now, *trunk) {
                error!(target: "fraud", trunk = name, limit, "A trunk has reached a limit on calls outside; calls take others, or fail.");
            }
            *self.ctx.counters.trunk_limits_reached.entry((name, limit)).or_default() += 1;
        }
    }

    pub(in crate::call) fn used_by(&self, user: &str) -> Used {
        let mut used = self.ctx.usage.of_user(self.ctx.now, user);
        for (outside, talked_ms) in self.live_outside().filter(|(outside, _)| outside.user.as_deref() == Some(user)) {
            used.concurrent_calls += 1;
            used.spent_today = self.with_cost(used.spent_today, outside, talked_ms);
        }
        used
    }

    pub(in crate::call) fn used_on(&self, trunk: usize) -> Used {
        let mut used = self.ctx.usage.of_trunk(self.ctx.now, trunk);
        for (outside, talked_ms) in self.live_outside().filter(|(outside, _)| outside.trunk == Some(trunk)) {
            used.spent_today = self.with_cost(used.spent_today, outside, talked_ms);
        }
        let live = self.calls.values().filter(|call| call.is_live());
        used.concurrent_calls = live.map(|call| call.parties_on(trunk)).sum();
        used
    }

    pub(super) fn trunk_standing(&self, trunk: usize) -> Standing {
        self.ctx.trunks.standing(self.ctx.now, trunk, &self.ctx.listeners)
    }

    fn live_outside(&self) -> impl Iterator<Item = (&Outside, u64)> {
        self.calls.values().filter(|call| call.is_live()).flat_map(|call| call.outside(self.ctx.now))
    }

    fn with_cost(&self, spent: Money, outside: &Outside, talked_ms: u64) -> Money {
        let trunk = outside.trunk.map(|index| self.ctx.trunks.trunk(index));
        let cost = trunk.map_or(Money(0), |trunk| outside::cost(trunk, &outside.number, talked_ms));
        Money(spent.0.saturating_add(cost.0))
    }

    /// What a call that has ended has cost.
    pub(super) fn note_spent(&mut self, call: &Call) {
        for (outside, talked_ms) in call.outside(self.ctx.now) {
            if let Some(index) = outside.trunk {
                let cost = outside::cost(self.ctx.trunks.trunk(index), &outside.number, talked_ms);
                self.ctx.usage.spend(self.ctx.now, outside.user.as_deref(), index, cost);
            }
        }
    }

    /// Lets a caller present the outside number that its P-Preferred-Identity asks for (RFC 3325 section 9.2). `false`: it is none of the
    /// user's. A telephone system chooses among its own numbers, and an address that is no outside number asks for nothing.
    pub(super) fn present(&self, caller: &mut Caller, request: &Message) -> bool {
        let Some(user) = caller.user_name().filter(|user| self.ctx.config.pbx_of(user).is_none()) else { return true };
        let preferred = request.values(Name::PPreferredIdentity).find_map(NameAddr::parse);
        let wanted = preferred.and_then(|address| Uri::parse(address.uri)?.user_decoded());
        let (region, prefixes) = (self.site.region(), &self.ctx.config.dialing.outside_prefixes);
        let Some(wanted) = wanted.filter(|w| number::is_number(w) && number::is_outside(w, region, prefixes)) else {
            return true;
        };
        let wanted = number::to_e164(&wanted, region, prefixes);
        let is_allowed =
            outside::may_present(self.ctx.config.calling.profile_of(user), caller.direct_line.as_deref(), &wanted);
        if is_allowed {
            caller.direct_line = Some(wanted);
        }
        is_allowed
    }

    /// Users at their limit of international and premium calls.
    pub fn barred(&self) -> Vec<BarredView> {
        let is_barred = |(user, count): &(&str, usize)| {
            let most = usize::from(self.ctx.config.calling.profile_of(user).costly_calls_per_day);
            most > 0 && *count >= most
        };
        let mut barred: Vec<_> = self.ctx.usage.costly(self.ctx.now).filter(is_barred).collect();
        barred.sort_unstable();
        barred.into_iter().map(|(user, costly_calls)| BarredView { user: user.to_owned(), costly_calls }).collect()
    }
}
