//! The live state as the admin listener shows it: plain data, and no secret in it.

use serde::Serialize;

/// What `/readyz` says.
#[derive(Debug, Clone, Serialize)]
pub struct Readiness {
    pub issuers: Vec<IssuerReadiness>,
    /// Told, but not decisive: a gateway whose pools are all down still answers better than a closed port.
    pub upstreams: Vec<UpstreamReadiness>,
    pub shutting_down: bool,
}

#[derive(Debug, Clone, Serialize)]
pub struct IssuerReadiness {
    pub name: String,
    pub ready: bool,
    /// Usable signing keys held.
    pub keys: usize,
    /// Since the issuer gave them.
    pub keys_age_seconds: Option<u64>,
    /// They are what an earlier process left.
    pub from_snapshot: bool,
    /// `open` while the issuer is not asked about tokens because it does not answer, else `closed`; `None` if it never
    /// is asked. Told, but not decisive.
    pub introspection_breaker: Option<&'static str>,
    /// Why not ready.
    pub reason: Option<String>,
    /// What is wrong although ready.
    pub warning: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct UpstreamReadiness {
    pub name: String,
    pub ready: bool,
    pub peers: usize,
    pub reason: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct IssuerState {
    pub name: String,
    pub issuer: String,
    pub audience: Vec<String>,
    pub algorithms: Vec<&'static str>,
    pub ready: bool,
    pub key_count: usize,
    pub keys: Vec<KeyState>,
    pub from_snapshot: bool,
    pub introspection_breaker: Option<&'static str>,
    pub reason: Option<String>,
    pub warning: Option<String>,
    /// `None`: neither followed nor pushed.
    pub not_before: Option<NotBeforeState>,
}

#[derive(Debug, Clone, Serialize)]
pub struct NotBeforeState {
    /// Tokens issued before this second are refused; 0 is none.
    pub at: u64,
    /// `poll` or `push`: who said so.
    pub from: Option<&'static str>,
    /// Its realm document is looked at.
    pub followed: bool,
    /// Why the last look brought nothing.
    pub reason: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct KeyState {
    pub kid: String,
    pub algorithms: Vec<&'static str>,
    pub age_seconds: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct UpstreamState {
    pub name: String,
    pub in_flight: usize,
    pub max_in_flight: Option<usize>,
    pub max_in_flight_per_peer: Option<u32>,
    /// The name that says who the peers are.
    pub dns: Option<String>,
    pub tls: bool,
    /// `closed`, `open` or `half_open`; `None` if it has none that opens.
    pub breaker: Option<&'static str>,
    pub peers: Vec<PeerState>,
}

#[derive(Debug, Clone, Serialize)]
pub struct PeerState {
    pub address: String,
    pub weight: u32,
    /// Those with a lower one go first.
    pub priority: u16,
    /// It gets less than its share, because it came back or is new.
    pub slow_start: bool,
    /// The values of the metric label `state`.
    pub state: &'static str,
    pub in_flight: u32,
}

#[derive(Debug, Clone, Serialize)]
pub struct RouteState {
    pub name: String,
    pub host: Option<String>,
    pub path: String,
    pub exact: bool,
    /// Empty is any.
    pub methods: Vec<String>,
    pub upstream: Pools,
    /// `None`: public.
    pub demands: Option<Demands>,
}

/// As in the configuration: a name, or a split.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Pools {
    One(String),
    Split(Vec<ShareState>),
}

#[derive(Debug, Clone, Serialize)]
pub struct ShareState {
    pub name: String,
    pub weight: u32,
}

/// What a route asks of a token; what is empty asks nothing.
#[derive(Debug, Clone, Serialize)]
pub struct Demands {
    /// Never empty: which issuers' tokens the route takes.
    pub issuers: Vec<String>,
    pub clients: Vec<String>,
    pub scopes: Vec<String>,
    pub any_scope: Vec<String>,
    pub realm_roles: Vec<String>,
    pub any_realm_role: Vec<String>,
    pub client_roles: std::collections::BTreeMap<String, Vec<String>>,
    /// `local`, `introspect`, or how old an answer may be.
    pub proof: String,
}

impl Readiness {
    pub fn ready(&self) -> bool {
        !self.shutting_down && self.issuers.iter().all(|issuer| issuer.ready)
    }
}
