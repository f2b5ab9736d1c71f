//! Every family of metrics: name, help and labels, declared once for the life of the process.
//!
//! A plan resolves its handles here. Series of routes, issuers and upstreams that a new plan does not have are dropped,
//! or names that come and go would fill the memory.

use std::collections::{HashMap, HashSet};

use prometheus::core::{Collector, MetricVec, MetricVecBuilder};
use prometheus::{
    GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

use super::{NONE, Reload};
use crate::config::plan::Plan;

pub(super) struct Families {
    pub(super) registry: Registry,
    vectors: Vec<Box<dyn Vector>>,
    pub(super) requests: IntCounterVec,
    pub(super) duration: HistogramVec,
    pub(super) rejections: IntCounterVec,
    pub(super) verifications: IntCounterVec,
    pub(super) keys: IntGaugeVec,
    pub(super) age: GaugeVec,
    pub(super) from_snapshot: IntGaugeVec,
    pub(super) snapshots: IntCounterVec,
    pub(super) refreshes: IntCounterVec,
    pub(super) skipped: IntCounterVec,
    pub(super) introspections: IntCounterVec,
    pub(super) shared: IntCounterVec,
    pub(super) introspection_duration: HistogramVec,
    pub(super) breaker_open: IntGaugeVec,
    pub(super) not_before: IntGaugeVec,
    pub(super) polls: IntCounterVec,
    pub(super) pushes: IntCounterVec,
    pub(super) logouts: IntCounterVec,
    pub(super) carried: IntCounterVec,
    pub(super) in_flight: IntGaugeVec,
    pub(super) peers: IntGaugeVec,
    pub(super) upstream_breaker: IntGaugeVec,
    pub(super) lookups: IntCounterVec,
    pub(super) connections: IntGaugeVec,
    pub(super) unopened: IntCounterVec,
    pub(super) tls_reloads: IntCounterVec,
    pub(super) unparsed: IntCounter,
    pub(super) refused_connections: IntCounterVec,
    pub(super) lost_log_lines: IntCounter,
    pub(super) token_cache_entries: IntGauge,
    pub(super) token_cache_bytes: IntGauge,
    pub(super) dpop_proofs: IntGauge,
    pub(super) token_cache_evictions: IntCounter,
    pub(super) revocations_held: IntGaugeVec,
    pub(super) reloads: IntCounterVec,
    pub(super) restart_needed: IntGauge,
}

impl Families {
    /// Fails only if a name is declared twice.
    pub(super) fn declare() -> Result<Self, prometheus::Error> {
        let mut declaring = Declaring::default();
        let requests = declaring.counters(
            "portcullis_requests_total",
            "Requests answered, by route, method and status class.",
            &["route", "method", "status_class"],
        )?;
        let duration = HistogramVec::new(
            HistogramOpts::new(
                "portcullis_request_duration_seconds",
                "Time from the request's head to the end of its response.",
            )
            .buckets(vec![
                0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
                10.0, 30.0,
            ]),
            &["route"],
        )?;
        declaring.vector(duration.clone())?;
        let rejections = declaring.counters(
            "portcullis_rejections_total",
            "Requests that the gateway itself refused, by route and exact reason.",
            &["route", "reason"],
        )?;
        let verifications = declaring.counters(
            "portcullis_token_verifications_total",
            "Tokens judged, by issuer, source of the proof and outcome.",
            &["issuer", "source", "outcome"],
        )?;
        let keys = declaring.gauges(
            "portcullis_jwks_keys",
            "Usable signing keys held, by issuer.",
            &["issuer"],
        )?;
        let age = GaugeVec::new(
            Opts::new(
                "portcullis_jwks_age_seconds",
                "Time since the issuer's keys were last fetched.",
            ),
            &["issuer"],
        )?;
        declaring.vector(age.clone())?;
        let from_snapshot = declaring.gauges(
            "portcullis_jwks_from_snapshot",
            "1 while the issuer's keys are those that an earlier process left.",
            &["issuer"],
        )?;
        let snapshots = declaring.counters(
            "portcullis_jwks_snapshots_total",
            "Attempts to write a snapshot of an issuer's keys, by outcome.",
            &["issuer", "outcome"],
        )?;
        let refreshes = declaring.counters(
            "portcullis_jwks_refreshes_total",
            "Fetches of an issuer's keys, by outcome.",
            &["issuer", "outcome"],
        )?;
        let skipped = declaring.counters(
            "portcullis_jwks_keys_skipped_total",
            "Keys of fetched sets that were left out, by issuer and reason.",
            &["issuer", "reason"],
        )?;
        let introspections = declaring.counters(
            "portcullis_introspections_total",
            "Questions sent to an issuer about a token, by outcome.",
            &["issuer", "outcome"],
        )?;
        let shared = declaring.counters(
            "portcullis_introspections_coalesced_total",
            "Tokens that waited for the answer to a question which was on its way already.",
            &["issuer"],
        )?;
        let introspection_duration = HistogramVec::new(
            HistogramOpts::new(
                "portcullis_introspection_duration_seconds",
                "Time of one question to an issuer.",
            )
            .buckets(vec![
                0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
            ]),
            &["issuer"],
        )?;
        declaring.vector(introspection_duration.clone())?;
        let breaker_open = declaring.gauges(
            "portcullis_introspection_breaker_open",
            "1 while an issuer that does not answer is not asked.",
            &["issuer"],
        )?;
        let token_cache_entries = IntGauge::new(
            "portcullis_token_cache_entries",
            "Proved tokens that are kept.",
        )?;
        declaring
            .registry
            .register(Box::new(token_cache_entries.clone()))?;
        let token_cache_bytes = IntGauge::new(
            "portcullis_token_cache_bytes",
            "Memory that kept proofs use, estimated.",
        )?;
        declaring
            .registry
            .register(Box::new(token_cache_bytes.clone()))?;
        let dpop_proofs = IntGauge::new(
            "portcullis_dpop_proofs",
            "DPoP proofs that are remembered, so that none comes twice.",
        )?;
        declaring.registry.register(Box::new(dpop_proofs.clone()))?;
        let token_cache_evictions = IntCounter::new(
            "portcullis_token_cache_evictions_total",
            "Proofs that were dropped because the cache was full.",
        )?;
        declaring
            .registry
            .register(Box::new(token_cache_evictions.clone()))?;
        let not_before = declaring.gauges(
            "portcullis_not_before_timestamp_seconds",
            "Tokens of the issuer that were issued before this are refused; 0 is none.",
            &["issuer"],
        )?;
        let polls = declaring.counters(
            "portcullis_not_before_polls_total",
            "Looks at an issuer's realm document for its not-before, by outcome.",
            &["issuer", "outcome"],
        )?;
        let pushes = declaring.counters(
            "portcullis_not_before_pushes_total",
            "Pushes of a not-before that came for an issuer, by outcome.",
            &["issuer", "outcome"],
        )?;
        let logouts = declaring.counters(
            "portcullis_logouts_total",
            "Back-channel logouts that came for an issuer, by outcome.",
            &["issuer", "outcome"],
        )?;
        let revocations_held = declaring.gauges(
            "portcullis_revocations_held",
            "Revocations that hold, by what they name.",
            &["kind"],
        )?;
        let carried = declaring.counters(
            "portcullis_upstream_requests_total",
            "Requests sent to an upstream, by outcome.",
            &["upstream", "outcome"],
        )?;
        let in_flight = declaring.gauges(
            "portcullis_upstream_in_flight",
            "Requests at an upstream now.",
            &["upstream"],
        )?;
        let peers = declaring.gauges(
            "portcullis_upstream_peers",
            "Peers of an upstream, by state.",
            &["upstream", "state"],
        )?;
        let lookups = declaring.counters(
            "portcullis_upstream_lookups_total",
            "Look-ups of an upstream's names, by outcome.",
            &["upstream", "outcome"],
        )?;
        let upstream_breaker = declaring.gauges(
            "portcullis_upstream_breaker_open",
            "1 while an upstream that fails is not asked, or only tried.",
            &["upstream"],
        )?;
        let connections = declaring.gauges(
            "portcullis_connections_open",
            "Connections open, by listener.",
            &["listener"],
        )?;
        let unopened = declaring.counters(
            "portcullis_connections_unopened_total",
            "Connections that ended before a request could be read, by listener and reason.",
            &["listener", "reason"],
        )?;
        let tls_reloads = declaring.counters(
            "portcullis_tls_reloads_total",
            "Changes of a listener's TLS files, by outcome.",
            &["listener", "outcome"],
        )?;
        let unparsed = IntCounter::new(
            "portcullis_unparsed_requests_total",
            "Connections that ended on bytes that never became a request.",
        )?;
        declaring.registry.register(Box::new(unparsed.clone()))?;
        let refused_connections = declaring.counters(
            "portcullis_connections_refused_total",
            "Connections closed at once, by reason.",
            &["reason"],
        )?;
        let lost_log_lines = IntCounter::new(
            "portcullis_access_log_dropped_total",
            "Access-log lines dropped because their reader was too slow.",
        )?;
        declaring
            .registry
            .register(Box::new(lost_log_lines.clone()))?;
        let reloads = declaring.counters(
            "portcullis_config_reloads_total",
            "Attempts to put a new configuration in place of the old one, by outcome.",
            &["outcome"],
        )?;
        for outcome in [Reload::Ok, Reload::Failed, Reload::Invalid] {
            reloads.with_label_values(&[outcome.label()]);
        }
        let restart_needed = IntGauge::new(
            "portcullis_config_restart_needed",
            "1 while the configuration's file says something that only a restart puts in place.",
        )?;
        declaring
            .registry
            .register(Box::new(restart_needed.clone()))?;
        let build = declaring.gauges(
            "portcullis_build_info",
            "Always 1; the labels say what runs.",
            &["version"],
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        #[cfg(target_os = "linux")]
        declaring.registry.register(Box::new(
            prometheus::process_collector::ProcessCollector::for_self(),
        ))?;

        Ok(Families {
            registry: declaring.registry,
            vectors: declaring.vectors,
            requests,
            duration,
            rejections,
            verifications,
            keys,
            age,
            from_snapshot,
            snapshots,
            refreshes,
            skipped,
            introspections,
            shared,
            introspection_duration,
            breaker_open,
            not_before,
            polls,
            pushes,
            logouts,
            carried,
            in_flight,
            peers,
            upstream_breaker,
            lookups,
            connections,
            unopened,
            tls_reloads,
            unparsed,
            refused_connections,
            lost_log_lines,
            token_cache_entries,
            token_cache_bytes,
            dpop_proofs,
            token_cache_evictions,
            revocations_held,
            reloads,
            restart_needed,
        })
    }

    /// Drops the series of names that this plan does not have.
    pub(super) fn forget_others(&self, plan: &Plan) {
        let routes: HashSet<&str> = plan.routes.iter().map(|route| &*route.name).collect();
        let issuers: HashSet<&str> = plan.issuers.iter().map(|issuer| &*issuer.name).collect();
        let upstreams: HashSet<&str> = plan.upstreams.iter().map(|pool| &*pool.name).collect();
        let known = |label: &str, value: &str| match label {
            "route" => value == NONE || routes.contains(value),
            "issuer" => value == NONE || issuers.contains(value),
            "upstream" => upstreams.contains(value),
            _ => true,
        };
        for vector in &self.vectors {
            vector.retain(&known);
        }
    }
}

/// A family with labels.
trait Vector: Send + Sync {
    /// Drops each series with a label that is not known.
    fn retain(&self, known: &dyn Fn(&str, &str) -> bool);
}

impl<T: MetricVecBuilder> Vector for MetricVec<T> {
    fn retain(&self, known: &dyn Fn(&str, &str) -> bool) {
        for family in self.collect() {
            for series in family.get_metric() {
                let labels = series.get_label().iter();
                let labels: HashMap<&str, &str> =
                    labels.map(|pair| (pair.name(), pair.value())).collect();
                if !labels.iter().all(|(label, value)| known(label, value)) {
                    // Who else could have dropped it has done so.
                    let _ = self.remove(&labels);
                }
            }
        }
    }
}

#[derive(Default)]
struct Declaring {
    registry: Registry,
    vectors: Vec<Box<dyn Vector>>,
}

impl Declaring {
    fn counters(
        &mut self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, prometheus::Error> {
        self.vector(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    fn gauges(
        &mut self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntGaugeVec, prometheus::Error> {
        self.vector(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn vector<T: MetricVecBuilder + 'static>(
        &mut self,
        vector: MetricVec<T>,
    ) -> Result<MetricVec<T>, prometheus::Error> {
        self.registry.register(Box::new(vector.clone()))?;
        self.vectors.push(Box::new(vector.clone()));
        Ok(vector)
    }
}
