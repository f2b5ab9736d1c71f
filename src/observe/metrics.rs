//! Every metric: name, help and labels, declared once.
//!
//! Labels come from closed sets or from the configuration, never from the wire; handles are resolved when the plan is
//! built, so a request only increments.

mod declare;
mod labels;

use std::sync::Arc;
use std::time::Duration;

use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use declare::{counters, gauges};

pub use labels::{Asked, Carried, Heard, Judged, Kept, Looked, ProofSource, Refresh, Unopened};

use crate::config::plan::{IssuerId, Plan, RouteId, UpstreamId};
use crate::reject::Rejection;
use crate::upstream::State;

/// The label value where a request met no route or a token no issuer of ours.
pub const NONE: &str = "none";

const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "other",
];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

pub struct Metrics {
    registry: Registry,
    routes: Vec<RouteHandles>,
    no_route: RouteHandles,
    issuers: Vec<IssuerHandles>,
    no_issuer: VerificationHandles,
    upstreams: Vec<UpstreamHandles>,
    connections: Vec<IntGauge>,
    unopened: Vec<[IntCounter; 4]>,
    tls_reloads: Vec<[IntCounter; 2]>,
    unparsed: IntCounter,
    refused_connections: IntCounter,
    lost_log_lines: IntCounter,
    token_cache_entries: IntGauge,
    token_cache_bytes: IntGauge,
    token_cache_evictions: IntCounter,
    revocations_held: IntGaugeVec,
}

struct RouteHandles {
    /// `[method][class]`
    requests: [[IntCounter; 5]; 9],
    duration: Histogram,
    rejections: Vec<IntCounter>,
}

struct VerificationHandles {
    /// `[source][outcome]`
    verifications: [[IntCounter; 3]; 3],
}

struct IssuerHandles {
    verification: VerificationHandles,
    keys: IntGauge,
    keys_age: Gauge,
    from_snapshot: IntGauge,
    refreshes: [IntCounter; 3],
    snapshots: [IntCounter; 2],
    skipped: IntCounterVec,
    name: Arc<str>,
    introspections: [IntCounter; 3],
    introspections_shared: IntCounter,
    introspection_duration: Histogram,
    breaker_open: IntGauge,
    not_before: IntGauge,
    polls: [IntCounter; 3],
    pushes: [IntCounter; 3],
    logouts: [IntCounter; 3],
}

struct UpstreamHandles {
    outcomes: [IntCounter; 4],
    in_flight: IntGauge,
    /// By [`State`].
    peers: [IntGauge; 3],
    breaker_open: IntGauge,
    lookups: [IntCounter; 3],
}

impl Metrics {
    /// Declares everything for this plan. Fails only if a name is declared twice, which no plan can cause.
    pub fn new(plan: &Plan) -> Result<Arc<Self>, prometheus::Error> {
        let registry = Registry::new();
        let requests = counters(
            &registry,
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
        registry.register(Box::new(duration.clone()))?;
        let rejections = counters(
            &registry,
            "portcullis_rejections_total",
            "Requests that the gateway itself refused, by route and exact reason.",
            &["route", "reason"],
        )?;
        let verifications = counters(
            &registry,
            "portcullis_token_verifications_total",
            "Tokens judged, by issuer, source of the proof and outcome.",
            &["issuer", "source", "outcome"],
        )?;
        let keys = gauges(
            &registry,
            "portcullis_jwks_keys",
            "Usable signing keys held, by issuer.",
            &["issuer"],
        )?;
        let age = prometheus::GaugeVec::new(
            Opts::new(
                "portcullis_jwks_age_seconds",
                "Time since the issuer's keys were last fetched.",
            ),
            &["issuer"],
        )?;
        registry.register(Box::new(age.clone()))?;
        let from_snapshot = gauges(
            &registry,
            "portcullis_jwks_from_snapshot",
            "1 while the issuer's keys are those that an earlier process left.",
            &["issuer"],
        )?;
        let snapshots = counters(
            &registry,
            "portcullis_jwks_snapshots_total",
            "Attempts to write a snapshot of an issuer's keys, by outcome.",
            &["issuer", "outcome"],
        )?;
        let refreshes = counters(
            &registry,
            "portcullis_jwks_refreshes_total",
            "Fetches of an issuer's keys, by outcome.",
            &["issuer", "outcome"],
        )?;
        let skipped = counters(
            &registry,
            "portcullis_jwks_keys_skipped_total",
            "Keys of fetched sets that were left out, by issuer and reason.",
            &["issuer", "reason"],
        )?;
        let introspections = counters(
            &registry,
            "portcullis_introspections_total",
            "Questions sent to an issuer about a token, by outcome.",
            &["issuer", "outcome"],
        )?;
        let shared = counters(
            &registry,
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
        registry.register(Box::new(introspection_duration.clone()))?;
        let breaker_open = gauges(
            &registry,
            "portcullis_introspection_breaker_open",
            "1 while an issuer that does not answer is not asked.",
            &["issuer"],
        )?;
        let token_cache_entries = IntGauge::new(
            "portcullis_token_cache_entries",
            "Proved tokens that are kept.",
        )?;
        registry.register(Box::new(token_cache_entries.clone()))?;
        let token_cache_bytes = IntGauge::new(
            "portcullis_token_cache_bytes",
            "Memory that kept proofs use, estimated.",
        )?;
        registry.register(Box::new(token_cache_bytes.clone()))?;
        let token_cache_evictions = IntCounter::new(
            "portcullis_token_cache_evictions_total",
            "Proofs that were dropped because the cache was full.",
        )?;
        registry.register(Box::new(token_cache_evictions.clone()))?;
        let not_before = gauges(
            &registry,
            "portcullis_not_before_timestamp_seconds",
            "Tokens of the issuer that were issued before this are refused; 0 is none.",
            &["issuer"],
        )?;
        let polls = counters(
            &registry,
            "portcullis_not_before_polls_total",
            "Looks at an issuer's realm document for its not-before, by outcome.",
            &["issuer", "outcome"],
        )?;
        let pushes = counters(
            &registry,
            "portcullis_not_before_pushes_total",
            "Pushes of a not-before that came for an issuer, by outcome.",
            &["issuer", "outcome"],
        )?;
        let logouts = counters(
            &registry,
            "portcullis_logouts_total",
            "Back-channel logouts that came for an issuer, by outcome.",
            &["issuer", "outcome"],
        )?;
        let revocations_held = gauges(
            &registry,
            "portcullis_revocations_held",
            "Revocations that hold, by what they name.",
            &["kind"],
        )?;
        let carried = counters(
            &registry,
            "portcullis_upstream_requests_total",
            "Requests sent to an upstream, by outcome.",
            &["upstream", "outcome"],
        )?;
        let in_flight = gauges(
            &registry,
            "portcullis_upstream_in_flight",
            "Requests at an upstream now.",
            &["upstream"],
        )?;
        let peers = gauges(
            &registry,
            "portcullis_upstream_peers",
            "Peers of an upstream, by state.",
            &["upstream", "state"],
        )?;
        let upstream_breaker = gauges(
            &registry,
            "portcullis_upstream_breaker_open",
            "1 while an upstream that fails is not asked, or only tried.",
            &["upstream"],
        )?;
        let lookups = counters(
            &registry,
            "portcullis_upstream_lookups_total",
            "Look-ups of an upstream's names, by outcome.",
            &["upstream", "outcome"],
        )?;
        let connections = gauges(
            &registry,
            "portcullis_connections_open",
            "Connections open, by listener.",
            &["listener"],
        )?;
        let unopened = counters(
            &registry,
            "portcullis_connections_unopened_total",
            "Connections that ended before a request could be read, by listener and reason.",
            &["listener", "reason"],
        )?;
        let tls_reloads = counters(
            &registry,
            "portcullis_tls_reloads_total",
            "Changes of a listener's TLS files, by outcome.",
            &["listener", "outcome"],
        )?;
        let unparsed = IntCounter::new(
            "portcullis_unparsed_requests_total",
            "Connections that ended on bytes that never became a request.",
        )?;
        registry.register(Box::new(unparsed.clone()))?;
        let refused_connections = IntCounter::new(
            "portcullis_connections_refused_total",
            "Connections closed at once because too many were open.",
        )?;
        registry.register(Box::new(refused_connections.clone()))?;
        let lost_log_lines = IntCounter::new(
            "portcullis_access_log_dropped_total",
            "Access-log lines dropped because their reader was too slow.",
        )?;
        registry.register(Box::new(lost_log_lines.clone()))?;
        let build = gauges(
            &registry,
            "portcullis_build_info",
            "Always 1; the labels say what runs.",
            &["version"],
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        #[cfg(target_os = "linux")]
        registry.register(Box::new(
            prometheus::process_collector::ProcessCollector::for_self(),
        ))?;

        let route = |name: &str| RouteHandles {
            requests: METHODS
                .map(|m| CLASSES.map(|class| requests.with_label_values(&[name, m, class]))),
            duration: duration.with_label_values(&[name]),
            rejections: Rejection::ALL
                .iter()
                .map(|r| rejections.with_label_values(&[name, r.label()]))
                .collect(),
        };
        let verification = |name: &str| VerificationHandles {
            verifications: ["cache", "local", "introspection"].map(|source| {
                ["ok", "refused", "unavailable"]
                    .map(|outcome| verifications.with_label_values(&[name, source, outcome]))
            }),
        };
        Ok(Arc::new(Metrics {
            routes: plan.routes.iter().map(|r| route(&r.name)).collect(),
            no_route: route(NONE),
            issuers: plan
                .issuers
                .iter()
                .map(|issuer| IssuerHandles {
                    verification: verification(&issuer.name),
                    keys: keys.with_label_values(&[&issuer.name]),
                    keys_age: age.with_label_values(&[&issuer.name]),
                    from_snapshot: from_snapshot.with_label_values(&[&issuer.name]),
                    snapshots: ["ok", "failed"]
                        .map(|outcome| snapshots.with_label_values(&[&*issuer.name, outcome])),
                    refreshes: ["ok", "failed", "invalid"]
                        .map(|outcome| refreshes.with_label_values(&[&*issuer.name, outcome])),
                    skipped: skipped.clone(),
                    name: issuer.name.clone(),
                    introspections: ["active", "inactive", "failed"]
                        .map(|outcome| introspections.with_label_values(&[&*issuer.name, outcome])),
                    introspections_shared: shared.with_label_values(&[&*issuer.name]),
                    introspection_duration: introspection_duration
                        .with_label_values(&[&*issuer.name]),
                    breaker_open: breaker_open.with_label_values(&[&*issuer.name]),
                    not_before: not_before.with_label_values(&[&*issuer.name]),
                    polls: ["ok", "failed", "invalid"]
                        .map(|outcome| polls.with_label_values(&[&*issuer.name, outcome])),
                    pushes: ["ok", "refused", "failed"]
                        .map(|outcome| pushes.with_label_values(&[&*issuer.name, outcome])),
                    logouts: ["ok", "refused", "failed"]
                        .map(|outcome| logouts.with_label_values(&[&*issuer.name, outcome])),
                })
                .collect(),
            no_issuer: verification(NONE),
            upstreams: plan
                .upstreams
                .iter()
                .map(|upstream| UpstreamHandles {
                    outcomes: ["ok", "connect_failed", "timeout", "failed"]
                        .map(|o| carried.with_label_values(&[&*upstream.name, o])),
                    in_flight: in_flight.with_label_values(&[&upstream.name]),
                    peers: [State::Healthy, State::Unhealthy, State::Ejected]
                        .map(|state| peers.with_label_values(&[&*upstream.name, state.label()])),
                    breaker_open: upstream_breaker.with_label_values(&[&upstream.name]),
                    lookups: ["ok", "empty", "failed"]
                        .map(|o| lookups.with_label_values(&[&*upstream.name, o])),
                })
                .collect(),
            connections: plan
                .listeners
                .iter()
                .map(|listener| connections.with_label_values(&[&listener.name]))
                .collect(),
            unopened: plan
                .listeners
                .iter()
                .map(|listener| {
                    ["proxy_header", "tls", "too_slow", "gone"]
                        .map(|why| unopened.with_label_values(&[&*listener.name, why]))
                })
                .collect(),
            tls_reloads: plan
                .listeners
                .iter()
                .map(|listener| {
                    ["ok", "failed"]
                        .map(|outcome| tls_reloads.with_label_values(&[&*listener.name, outcome]))
                })
                .collect(),
            unparsed,
            refused_connections,
            lost_log_lines,
            token_cache_entries,
            token_cache_bytes,
            token_cache_evictions,
            revocations_held,
            registry,
        }))
    }

    /// One finished request.
    pub fn request(
        &self,
        route: Option<RouteId>,
        method: &http::Method,
        status: u16,
        took: Duration,
    ) {
        let handles = self.route(route);
        let class = usize::from((status / 100).clamp(1, 5)) - 1;
        handles.requests[method_index(method)][class].inc();
        handles.duration.observe(took.as_secs_f64());
    }

    pub fn rejected(&self, route: Option<RouteId>, rejection: Rejection) {
        self.route(route).rejections[rejection.index()].inc();
    }

    pub fn judged(&self, issuer: Option<IssuerId>, source: ProofSource, outcome: Judged) {
        let handles = issuer.map_or(&self.no_issuer, |id| &self.issuers[id.0].verification);
        handles.verifications[source as usize][outcome as usize].inc();
    }

    pub fn keys_refreshed(&self, issuer: IssuerId, outcome: Refresh) {
        self.issuers[issuer.0].refreshes[outcome as usize].inc();
    }

    /// `reason` is one of a closed set of words.
    pub fn key_skipped(&self, issuer: IssuerId, reason: &'static str) {
        let handles = &self.issuers[issuer.0];
        handles
            .skipped
            .with_label_values(&[&*handles.name, reason])
            .inc();
    }

    pub fn keys_kept(&self, issuer: IssuerId, outcome: Kept) {
        self.issuers[issuer.0].snapshots[outcome as usize].inc();
    }

    pub fn keys_held(&self, issuer: IssuerId, keys: usize, age: Duration, from_snapshot: bool) {
        let handles = &self.issuers[issuer.0];
        handles.from_snapshot.set(i64::from(from_snapshot));
        handles.keys.set(i64::try_from(keys).unwrap_or(i64::MAX));
        handles.keys_age.set(age.as_secs_f64());
    }

    /// One question that was sent.
    pub fn introspected(&self, issuer: IssuerId, outcome: Asked, took: Duration) {
        let handles = &self.issuers[issuer.0];
        handles.introspections[outcome as usize].inc();
        handles.introspection_duration.observe(took.as_secs_f64());
    }

    /// One question that was not sent, because the same one was on its way.
    pub fn introspection_shared(&self, issuer: IssuerId) {
        self.issuers[issuer.0].introspections_shared.inc();
    }

    pub fn introspection_breaker(&self, issuer: IssuerId, open: bool) {
        self.issuers[issuer.0].breaker_open.set(i64::from(open));
    }

    pub fn token_cache(&self, entries: usize, bytes: u64) {
        let gauge = |value| i64::try_from(value).unwrap_or(i64::MAX);
        self.token_cache_entries.set(gauge(entries as u64));
        self.token_cache_bytes.set(gauge(bytes));
    }

    pub fn token_cache_evictions(&self) -> IntCounter {
        self.token_cache_evictions.clone()
    }

    pub fn not_before_polled(&self, issuer: IssuerId, outcome: Refresh) {
        self.issuers[issuer.0].polls[outcome as usize].inc();
    }

    pub fn not_before_pushed(&self, issuer: IssuerId, outcome: Heard) {
        self.issuers[issuer.0].pushes[outcome as usize].inc();
    }

    pub fn logged_out(&self, issuer: IssuerId, outcome: Heard) {
        self.issuers[issuer.0].logouts[outcome as usize].inc();
    }

    pub fn not_before(&self, issuer: IssuerId, at: u64) {
        let at = i64::try_from(at).unwrap_or(i64::MAX);
        self.issuers[issuer.0].not_before.set(at);
    }

    /// `kind` is one of a closed set of words.
    pub fn revocations_held(&self, kind: &'static str, count: usize) {
        let held = self.revocations_held.with_label_values(&[kind]);
        held.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub fn carried(&self, upstream: UpstreamId, outcome: Carried) {
        self.upstreams[upstream.0].outcomes[outcome as usize].inc();
    }

    pub fn upstream_in_flight(&self, upstream: UpstreamId) -> &IntGauge {
        &self.upstreams[upstream.0].in_flight
    }

    pub fn upstream_breaker(&self, upstream: UpstreamId) -> &IntGauge {
        &self.upstreams[upstream.0].breaker_open
    }

    pub fn upstream_looked_up(&self, upstream: UpstreamId, outcome: Looked) {
        self.upstreams[upstream.0].lookups[outcome as usize].inc();
    }

    /// How many peers are in which [`State`].
    pub fn upstream_peers(&self, upstream: UpstreamId, counts: [usize; 3]) {
        for (gauge, count) in self.upstreams[upstream.0].peers.iter().zip(counts) {
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Index into [`Plan::listeners`].
    pub fn connections_open(&self, listener: usize) -> &IntGauge {
        &self.connections[listener]
    }

    /// A connection ended before its first request could be read.
    pub fn unopened(&self, listener: usize, why: Unopened) {
        self.unopened[listener][why as usize].inc();
    }

    /// A listener's files changed, and what came of it.
    pub fn tls_reloaded(&self, listener: usize, ok: bool) {
        self.tls_reloads[listener][usize::from(!ok)].inc();
    }

    /// A request refused before its head was whole: it has no route yet, and no method.
    pub fn head_refused(&self, rejection: Rejection) {
        let status = rejection.answer().status;
        self.rejected(None, rejection);
        self.request(None, &http::Method::CONNECT, status, Duration::ZERO);
    }

    /// A connection was closed at once because too many were open.
    pub fn connection_refused(&self) {
        self.refused_connections.inc();
    }

    /// How many access-log lines have been lost since the start.
    pub fn log_lines_lost(&self, total: u64) {
        let known = self.lost_log_lines.get();
        self.lost_log_lines.inc_by(total.saturating_sub(known));
    }

    /// A connection ended on bytes that never became a request.
    pub fn unparsed(&self) {
        self.unparsed.inc();
    }

    /// The text exposition format of everything.
    pub fn expose(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::with_capacity(16 * 1024);
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }

    fn route(&self, route: Option<RouteId>) -> &RouteHandles {
        route.map_or(&self.no_route, |id| &self.routes[id.0])
    }
}

/// `CONNECT` is not in the label's closed set and counts as `other`.
fn method_index(method: &http::Method) -> usize {
    METHODS
        .iter()
        .position(|known| *known == method.as_str())
        .unwrap_or(METHODS.len() - 1)
}
