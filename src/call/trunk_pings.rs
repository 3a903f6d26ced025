//! Trunks' servers asked whether they are there: OPTIONS to each, every `options_s` seconds (RFC 3261 section 11). Any answer
//! but 503 is a good one.

use std::collections::BTreeMap;

use super::{
    context::{Context, Owner},
    failover::target_of,
    outgoing::{host, reach_one_of},
};
use crate::{
    sip::MAX_FORWARDS,
    types::{Duration, Flow, Instant},
    wire::sip::RequestBuilder,
};

/// Within this time of the start each trunk is asked first.
const FIRST_WITHIN_MS: u32 = 3_000;

#[derive(Debug, Default)]
pub(super) struct TrunkPings {
    rounds: Vec<Round>,
    /// Those without an answer, by number.
    open: BTreeMap<u64, Ping>,
    last: u64,
}

#[derive(Debug)]
struct Ping {
    trunk: usize,
    flow: Flow,
    sent_at: Instant,
}

/// When the servers of a trunk are asked next.
#[derive(Debug)]
struct Round {
    trunk: usize,
    interval: Duration,
    next: Instant,
}

impl TrunkPings {
    pub(super) fn new(ctx: &mut Context) -> Self {
        let mut rounds = Vec::new();
        for trunk in 0..ctx.trunks.len() {
            let interval = Duration::from_secs(ctx.trunks.trunk(trunk).options_s.into());
            if ctx.trunks.trunk(trunk).is_enabled && !interval.is_zero() {
                let first = Duration::from_millis(ctx.rng.below(FIRST_WITHIN_MS).into());
                rounds.push(Round { trunk, interval, next: ctx.now + first });
            }
        }
        Self { rounds, ..Self::default() }
    }

    pub(super) fn timeout(&mut self, ctx: &mut Context) {
        let now = ctx.now;
        for round in self.rounds.iter_mut().filter(|round| round.next <= now) {
            round.next = now + round.interval;
            for (target, _) in ctx.trunks.targets(round.trunk, &ctx.listeners) {
                if self.open.values().any(|ping| (ping.trunk, target_of(&ping.flow)) == (round.trunk, target)) {
                    continue;
                }
                let Some(flow) = reach_one_of(ctx, round.trunk, |t| *t == target) else { continue };
                self.last += 1;
                self.open.insert(self.last, Ping { trunk: round.trunk, flow, sent_at: now });
                ctx.send(flow, Owner::Ping(self.last), |ctx, via| build(ctx, via, &flow, round.trunk));
            }
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.rounds.iter().map(|round| round.next).min()
    }

    /// A response, or a status that stands for none.
    pub(super) fn response(&mut self, ctx: &mut Context, id: u64, status: u16, is_answer: bool) {
        if status < 200 {
            return;
        }
        let Some(Ping { trunk, flow, sent_at }) = self.open.remove(&id) else { return };
        let target = target_of(&flow);
        if is_answer && status != 503 {
            ctx.trunks.target_answered(trunk, target);
        } else if ctx.trunks.unanswered(ctx.now, trunk, &flow, sent_at) {
            // What may be the connection's fault is not held against the server.
            self.ask_again(ctx.now, trunk);
        } else {
            ctx.trunks.target_failed(ctx.now, trunk, target);
        }
    }

    fn ask_again(&mut self, now: Instant, trunk: usize) {
        self.rounds.iter_mut().filter(|round| round.trunk == trunk).for_each(|round| round.next = now);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}

fn build(ctx: &mut Context, via: &str, flow: &Flow, trunk: usize) -> RequestBuilder {
    let (theirs, ours) = (host(ctx.trunks.trunk(trunk).domain()), host(&ctx.config.server.domain));
    RequestBuilder::new("OPTIONS", &format!("sip:{theirs}"))
        .header("Via", via)
        .header("Max-Forwards", MAX_FORWARDS)
        .header("From", format_args!("<sip:{ours}>;tag={}", ctx.tag()))
        .header("To", format_args!("<sip:{theirs}>"))
        .header("Call-ID", ctx.rng.token(32))
        .header("CSeq", "1 OPTIONS")
        .header("Contact", ctx.contact(flow, "", false))
        .header("Accept", "application/sdp")
}
