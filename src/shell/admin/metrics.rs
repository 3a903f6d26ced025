//! `/metrics`: the totals of core, workers and transports in the OpenMetrics text format.

use std::{collections::BTreeMap, sync::atomic::Ordering};

use prometheus_client::{
    encoding::{EncodeGaugeValue, EncodeMetric, MetricEncoder, NoLabelSet, text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

use crate::{
    call::{Rejection, TrunkView, WorkerLoads, quality_totals::QualityTotals},
    policy::{outside::LIMITS, stir::Verstat},
    shell::{core_task::Stats, store::Numbers},
    types::{histogram::Histogram, reason::DropCounters},
};

use super::Admin;

pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Values of a trunk's label `state`.
const TRUNK_STATES: [&str; 4] = ["up", "draining", "down", "off"];

/// One scrape. The registry is made for it: every value lives elsewhere, with its one owner.
pub(super) fn render(admin: &Admin, stats: Stats) -> String {
    let mut registry = Registry::with_prefix("ringdown");
    add_core(&mut registry, &stats);
    let failures = stats.counters.emergency_notify_failures.saturating_add(admin.notifier.failures());
    let help = "Desks that could not be told of an emergency call";
    registry.register("emergency_notify_failures", help, ConstCounter::new(failures));
    let refused = ConstCounter::new(admin.refusals.count());
    let help = "Requests to this interface without a known token, and orders of tokens that may give none";
    registry.register("admin_refused", help, refused);
    add_quality(&mut registry, &stats.counters.quality);
    add_media(&mut registry, admin, stats.counters.drops);
    add_process(&mut registry, admin);
    let mut out = String::new();
    text::encode(&mut out, &registry).expect("writing to a string does not fail");
    out
}

fn add_core(registry: &mut Registry, stats: &Stats) {
    let c = &stats.counters;
    for (name, help, value) in [
        ("sip_requests", "SIP requests received", c.requests),
        ("sip_responses", "SIP responses received", c.responses),
        ("sip_datagrams_large", "SIP messages sent over UDP that may be fragmented", c.datagrams_large),
        ("calls", "Calls begun", c.calls),
        ("calls_answered", "Calls answered", c.calls_answered),
        ("calls_refused", "Calls refused", c.calls_refused),
        ("registrations_refused", "Registrations refused", c.registrations_refused),
        ("contacts_displaced", "Contacts that made room for a new one of their user", c.contacts_displaced),
        (
            "media_ports_occupied",
            "Media ports that could not be bound, as other programs had them",
            c.media_ports_occupied,
        ),
        (
            "media_legs_refused",
            "Media legs that were not opened, as too many commands waited for their thread",
            c.media_legs_refused,
        ),
    ] {
        registry.register(name, help, ConstCounter::new(value));
    }
    let outcomes = [("refused", c.emergency_refused), ("routed", c.emergency_routed), ("failed", c.emergency_failed)];
    let help = "Emergency calls: refused, handed to a trunk, taken by no trunk";
    registry.register("emergency_calls", help, Labelled { label: "outcome", counts: outcomes.to_vec() });
    let denied = LIMITS.into_iter().zip(c.limits_reached).collect();
    registry.register(
        "calls_denied",
        "Calls outside denied at a limit of their user",
        Labelled { label: "limit", counts: denied },
    );
    registry.register(
        "trunk_limits_reached",
        "Calls outside that passed by a trunk at its limit",
        ByTrunk { label: "limit", counts: by_trunk(&c.trunk_limits_reached) },
    );
    let verified = Verstat::ALL.map(Verstat::as_str).into_iter().zip(c.verifications).collect();
    registry.register(
        "calls_verified",
        "Calls from trunks by what is known of the caller's number",
        Labelled { label: "verstat", counts: verified },
    );
    registry.register("users_barred", "Users barred from costly calls now", gauge(stats.barred));
    registry.register(
        "emergency_attempts",
        "Answers of trunks to emergency calls",
        ByTrunk { label: "code", counts: by_trunk(&c.emergency_attempts) },
    );
    registry.register(
        "emergency_setup_seconds",
        "From an emergency call's INVITE to its answer",
        Distribution(vec![(None, c.emergency_setup.0.clone())]),
    );
    registry.register("emergency_active", "Emergency calls now", gauge(stats.emergency_calls));
    let rejected = Rejection::ALL.into_iter().map(Rejection::label).zip(c.calls_rejected).collect();
    let help = "Calls refused with 503 for want of something that there is at other times";
    registry.register("calls_rejected", help, Labelled { label: "reason", counts: rejected });
    add_loads(registry, &stats.loads);
    registry.register("calls_live", "Calls now", gauge(stats.calls));
    registry.register("subscriptions_live", "Subscriptions to events now", gauge(stats.subscriptions));
    registry.register("bindings_live", "Registered contacts now", gauge(stats.bindings));
    add_trunks(registry, &stats.trunks);
}

fn add_loads(registry: &mut Registry, loads: &WorkerLoads) {
    let of_worker =
        |(worker, permille): (usize, &u16)| (vec![("worker", worker.to_string())], ratio((*permille).into()));
    let ratios = loads.busy_permille.iter().enumerate().map(of_worker).collect();
    let help = "Share of the last second in which a media worker did not wait for packets";
    registry.register("media_load_ratio", help, Gauges(ratios));
    let help = "Load of the least loaded media worker from which on new calls are refused";
    registry.register("media_load_max_ratio", help, ConstGauge::new(ratio(loads.max_permille)));
    let help = "1: new calls are refused because the media workers are too busy";
    registry.register("media_load_refusing", help, flag(loads.is_refusing));
}

fn ratio(permille: u32) -> f64 {
    f64::from(permille) / 1_000.0
}

fn add_trunks(registry: &mut Registry, trunks: &[TrunkView]) {
    let states = trunks.iter().flat_map(|trunk| {
        TRUNK_STATES.map(|state| {
            (vec![("trunk", trunk.name.clone()), ("state", state.to_owned())], i64::from(trunk.state == state))
        })
    });
    registry.register("trunk_state", "1: the trunk is in this state", Gauges(states.collect()));
    let of_trunk = |trunk: &TrunkView| vec![("trunk", trunk.name.clone())];
    let registered = trunks.iter().filter_map(|trunk| {
        let is_registered = trunk.registration.as_ref()?.state == "registered";
        Some((of_trunk(trunk), i64::from(is_registered)))
    });
    registry.register("trunk_registered", "1: this server is registered there", Gauges(registered.collect()));
    let calls = trunks.iter().map(|trunk| (of_trunk(trunk), i64::try_from(trunk.calls).unwrap_or(i64::MAX)));
    registry.register("trunk_calls_live", "Calls over the trunk now", Gauges(calls.collect()));
}

/// Of the legs of answered calls that have ended.
fn add_quality(registry: &mut Registry, quality: &QualityTotals) {
    let QualityTotals { received, sent, round_trip_s, .. } = quality;
    let both = |received: &Histogram, sent: &Histogram| {
        Distribution(vec![(Some("received"), received.clone()), (Some("sent"), sent.clone())])
    };
    let help = "Packets lost of those expected, by leg of an ended call";
    registry.register("leg_loss_ratio", help, both(&received.loss_ratio, &sent.loss_ratio));
    let help = "Interarrival jitter in seconds, by leg of an ended call";
    registry.register("leg_jitter_seconds", help, both(&received.jitter_s, &sent.jitter_s));
    let help = "Mean opinion score, by leg of an ended call, where one is known";
    registry.register("leg_mos", help, both(&received.mos, &sent.mos));
    let help = "Round trip between server and peer in seconds, by leg of an ended call";
    registry.register("leg_round_trip_seconds", help, Distribution(vec![(None, round_trip_s.clone())]));
    let help = "Times that a peer was not heard in an answered call, by cause";
    registry.register("leg_silences", help, Labelled { label: "cause", counts: quality.silences().collect() });
}

fn add_media(registry: &mut Registry, admin: &Admin, mut drops: DropCounters) {
    let totals = admin.media.totals();
    drops.add(&totals.drops);
    registry.register(
        "dropped",
        "Messages and packets dropped, by reason",
        Labelled { label: "reason", counts: drops.iter().collect() },
    );
    if let Some(count) = admin.udp_errors.receive_buffer_full() {
        let help =
            "Datagrams that the kernel dropped at a full receive buffer, of all programs in this network namespace";
        registry.register("udp_receive_buffer_full", help, ConstCounter::new(count));
    }
    registry.register("media_packets_relayed", "Media packets relayed", ConstCounter::new(totals.packets_relayed));
    let bypassed = [("received", totals.bypassed.received), ("sent", totals.bypassed.sent)];
    registry.register(
        "media_packets_bypassed",
        "Media packets that passed the kernel's network stack by (media.backend)",
        Labelled { label: "direction", counts: bypassed.to_vec() },
    );
    registry.register("media_legs_live", "Media legs open now", ConstGauge::new(saturated(totals.legs)));
}

fn add_process(registry: &mut Registry, admin: &Admin) {
    let refused = ConstCounter::new(admin.transports.connections_refused());
    registry.register("connections_refused", "TCP and TLS connections closed at a limit", refused);
    registry.register("connections_live", "TCP and TLS connections now", gauge(admin.transports.connections()));
    registry.register("store_healthy", "1: the last write reached the disk in time", flag(admin.store.is_healthy()));
    add_backlog(registry, admin.store.waiting(), admin.store.lost());
    registry.register("ready", "1: serving, not draining", flag(admin.is_ready.load(Ordering::Relaxed)));
    registry.register("emergency_available", "1: emergency calls can be made", flag(admin.emergency.available));
    let started = ConstGauge::new(saturated(admin.started.unix_s()));
    registry.register("process_start_time_seconds", "Start, in seconds since the Unix epoch", started);
}

fn add_backlog(registry: &mut Registry, waiting: Numbers, lost: Numbers) {
    let kinds = |numbers: Numbers| [("bindings", numbers.bindings), ("cdrs", numbers.cdrs)];
    let waiting = kinds(waiting).map(|(kind, number)| (vec![("kind", kind.to_owned())], saturated(number)));
    registry.register("store_waiting", "Entries that wait for the disk", Gauges(waiting.to_vec()));
    let help = "Entries lost because too many waited for the disk";
    registry.register("store_lost", help, Labelled { label: "kind", counts: kinds(lost).to_vec() });
}

fn gauge(value: usize) -> ConstGauge<i64> {
    ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX))
}

fn saturated(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn flag(is_set: bool) -> ConstGauge<i64> {
    ConstGauge::new(i64::from(is_set))
}

/// One gauge per set of labels.
#[derive(Debug)]
struct Gauges<N>(Vec<(Vec<(&'static str, String)>, N)>);

impl<N: EncodeGaugeValue + Copy> EncodeMetric for Gauges<N> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> std::fmt::Result {
        for (labels, value) in &self.0 {
            ConstGauge::new(*value).encode(encoder.encode_family(labels)?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

/// One counter per value of a label, zeros included: a series that appears late hides its first increase.
#[derive(Debug)]
struct Labelled {
    label: &'static str,
    counts: Vec<(&'static str, u64)>,
}

impl EncodeMetric for Labelled {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> std::fmt::Result {
        for (value, count) in &self.counts {
            ConstCounter::new(*count).encode(encoder.encode_family(&[(self.label, *value)])?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
}

/// Counters of trunks, each with one more label.
#[derive(Debug)]
struct ByTrunk {
    label: &'static str,
    counts: Vec<(String, String, u64)>,
}

fn by_trunk<L: ToString>(counts: &BTreeMap<(String, L), u64>) -> Vec<(String, String, u64)> {
    counts.iter().map(|((trunk, value), count)| (trunk.clone(), value.to_string(), *count)).collect()
}

impl EncodeMetric for ByTrunk {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> std::fmt::Result {
        for (trunk, value, count) in &self.counts {
            let labels = [("trunk", trunk.as_str()), (self.label, value)];
            ConstCounter::new(*count).encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
}

/// Histograms, one for each value of `direction`, or one without.
#[derive(Debug)]
struct Distribution(Vec<(Option<&'static str>, Histogram)>);

impl EncodeMetric for Distribution {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> std::fmt::Result {
        for (direction, histogram) in &self.0 {
            match direction {
                Some(direction) => {
                    encode_histogram(&mut encoder.encode_family(&[("direction", *direction)])?, histogram)?;
                }
                None => encode_histogram(&mut encoder, histogram)?,
            }
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

fn encode_histogram(encoder: &mut MetricEncoder<'_>, histogram: &Histogram) -> std::fmt::Result {
    // The encoder knows infinity by the largest number there is.
    let buckets: Vec<_> = histogram.buckets().map(|(bound, count)| (bound.min(f64::MAX), count)).collect();
    encoder.encode_histogram::<NoLabelSet>(histogram.sum(), histogram.count(), &buckets, None)
}
