//! Every metric: name, help and labels, declared once.
//!
//! Labels come from closed sets or from the configuration, never from the wire; handles are resolved when the plan is
//! built, so a request only increments.

mod families;
mod issuer;
mod labels;
mod upstream;

use std::sync::Arc;
use std::time::Duration;

use prometheus::{Encoder, Histogram, IntCounter, IntGauge, TextEncoder};

pub use issuer::IssuerMetrics;
pub use labels::{
    Asked, Carried, Heard, Judged, Kept, Looked, ProofSource, Refresh, Reload, TurnedAway, Unopened,
};
pub use upstream::UpstreamMetrics;

use self::families::Families;

use crate::config::plan::{IssuerId, Plan, RouteId, UpstreamId};
use crate::reject::Rejection;

/// The label value where a request met no route or a token no issuer of ours.
pub const NONE: &str = "none";

const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "other",
];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// One plan's handles into the families, which live as long as the process: a series that two plans have goes on.
pub struct Metrics {
    families: Arc<Families>,
    routes: Vec<RouteHandles>,
    no_route: RouteHandles,
    issuers: Vec<Arc<IssuerMetrics>>,
    no_issuer: VerificationHandles,
    upstreams: Vec<Arc<UpstreamMetrics>>,
    connections: Vec<IntGauge>,
    unopened: Vec<[IntCounter; 4]>,
    tls_reloads: Vec<[IntCounter; 2]>,
    turned_away: [IntCounter; 2],
}

struct RouteHandles {
    /// `[method][class]`
    requests: [[IntCounter; 5]; 9],
    duration: Histogram,
    rejections: Vec<IntCounter>,
}

impl RouteHandles {
    fn of(families: &Families, name: &str) -> Self {
        let requests = &families.requests;
        let rejections = Rejection::ALL.iter();
        RouteHandles {
            requests: METHODS
                .map(|m| CLASSES.map(|class| requests.with_label_values(&[name, m, class]))),
            duration: families.duration.with_label_values(&[name]),
            rejections: rejections
                .map(|r| families.rejections.with_label_values(&[name, r.label()]))
                .collect(),
        }
    }
}

struct VerificationHandles {
    /// `[source][outcome]`
    verifications: [[IntCounter; 3]; 3],
}

impl VerificationHandles {
    fn of(families: &Families, name: &str) -> Self {
        let family = &families.verifications;
        VerificationHandles {
            verifications: ["cache", "local", "introspection"].map(|source| {
                ["ok", "refused", "unavailable"]
                    .map(|outcome| family.with_label_values(&[name, source, outcome]))
            }),
        }
    }
}

impl Metrics {
    /// Declares everything. Fails only if a name is declared twice, which no plan can cause.
    pub fn new(plan: &Plan) -> Result<Arc<Self>, prometheus::Error> {
        Ok(Self::of(Arc::new(Families::declare()?), plan))
    }

    /// The same families for another plan.
    pub fn renewed(&self, plan: &Plan) -> Arc<Self> {
        Self::of(self.families.clone(), plan)
    }

    fn of(families: Arc<Families>, plan: &Plan) -> Arc<Self> {
        let f = &*families;
        let listeners = || plan.listeners.iter();
        Arc::new(Metrics {
            routes: plan
                .routes
                .iter()
                .map(|route| RouteHandles::of(f, &route.name))
                .collect(),
            no_route: RouteHandles::of(f, NONE),
            issuers: plan
                .issuers
                .iter()
                .map(|issuer| Arc::new(IssuerMetrics::of(f, issuer.name.clone())))
                .collect(),
            no_issuer: VerificationHandles::of(f, NONE),
            upstreams: plan
                .upstreams
                .iter()
                .map(|upstream| Arc::new(UpstreamMetrics::of(f, &upstream.name)))
                .collect(),
            connections: listeners()
                .map(|listener| f.connections.with_label_values(&[&listener.name]))
                .collect(),
            unopened: listeners()
                .map(|listener| {
                    ["proxy_header", "tls", "too_slow", "gone"]
                        .map(|why| f.unopened.with_label_values(&[&*listener.name, why]))
                })
                .collect(),
            tls_reloads: listeners()
                .map(|listener| {
                    ["ok", "failed"]
                        .map(|outcome| f.tls_reloads.with_label_values(&[&*listener.name, outcome]))
                })
                .collect(),
            turned_away: ["too_many", "flooded"]
                .map(|why| f.refused_connections.with_label_values(&[why])),
            families,
        })
    }

    /// Drops the series of routes, issuers and upstreams that this plan, the current one, does not have.
    pub fn forget_others(&self, plan: &Plan) {
        self.families.forget_others(plan);
    }

    /// One attempt to put a new configuration in place.
    pub fn reloaded(&self, outcome: Reload) {
        self.families
            .reloads
            .with_label_values(&[outcome.label()])
            .inc();
    }

    /// Whether the file says something that only a restart puts in place.
    pub fn restart_needed(&self, needed: bool) {
        self.families.restart_needed.set(i64::from(needed));
    }

    /// The handles of one issuer, for whoever outlives a plan.
    pub fn issuer(&self, issuer: IssuerId) -> &Arc<IssuerMetrics> {
        &self.issuers[issuer.0]
    }

    /// The handles of one pool, for whoever outlives a plan.
    pub fn upstream(&self, upstream: UpstreamId) -> &Arc<UpstreamMetrics> {
        &self.upstreams[upstream.0]
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
        let handles = issuer.map_or(&self.no_issuer, |id| self.issuers[id.0].verification());
        handles.verifications[source as usize][outcome as usize].inc();
    }

    pub fn token_cache(&self, entries: usize, bytes: u64) {
        let gauge = |value| i64::try_from(value).unwrap_or(i64::MAX);
        self.families.token_cache_entries.set(gauge(entries as u64));
        self.families.token_cache_bytes.set(gauge(bytes));
    }

    pub fn dpop_proofs(&self, remembered: usize) {
        let remembered = i64::try_from(remembered).unwrap_or(i64::MAX);
        self.families.dpop_proofs.set(remembered);
    }

    pub fn token_cache_evictions(&self) -> IntCounter {
        self.families.token_cache_evictions.clone()
    }

    /// `kind` is one of a closed set of words.
    pub fn revocations_held(&self, kind: &'static str, count: usize) {
        let held = self.families.revocations_held.with_label_values(&[kind]);
        held.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub fn carried(&self, upstream: UpstreamId, outcome: Carried) {
        self.upstreams[upstream.0].carried(outcome);
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

    /// A connection was closed at once.
    pub fn connection_refused(&self, why: TurnedAway) {
        self.turned_away[why as usize].inc();
    }

    /// How many access-log lines have been lost since the start.
    pub fn log_lines_lost(&self, total: u64) {
        let known = self.families.lost_log_lines.get();
        self.families
            .lost_log_lines
            .inc_by(total.saturating_sub(known));
    }

    /// A connection ended on bytes that never became a request.
    pub fn unparsed(&self) {
        self.families.unparsed.inc();
    }

    /// The text exposition format of everything.
    pub fn expose(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::with_capacity(16 * 1024);
        TextEncoder::new().encode(&self.families.registry.gather(), &mut text)?;
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
