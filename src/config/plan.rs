//! What the whole program sees of the configuration: resolved, checked, immutable.
//!
//! Nothing outside [`crate::config`] ever reads the YAML. Every duration here is positive and every list that must
//! not be empty is not.

mod algorithm;
mod cors;
mod dpop;
mod forms;
mod rewrite;
mod upstream;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use ipnet::IpNet;

pub use algorithm::Algorithm;
pub use cors::{CorsPlan, Origins};
pub use dpop::{Dpop, PublicUrl, Schemes};
pub use forms::TargetForms;
pub use rewrite::{Piece, RewritePlan};
pub use upstream::{
    Balance, CheckPlan, DnsPlan, FallbackPlan, HashOn, HealthPlan, OutlierPlan, OwnCertificate,
    PeerPlan, RatePlan, RetryOn, RetryPlan, Shares, UpstreamPlan, UpstreamTimeouts, UpstreamTls,
};

use super::secret::Secret;

/// Index into [`Plan::issuers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IssuerId(pub usize);

/// Index into [`Plan::upstreams`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UpstreamId(pub usize);

/// Index into [`Plan::routes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RouteId(pub usize);

#[derive(Debug)]
pub struct Plan {
    pub server: ServerPlan,
    pub listeners: Vec<ListenerPlan>,
    pub admin: AdminPlan,
    pub limits: Limits,
    pub issuers: Vec<IssuerPlan>,
    pub token_cache: TokenCachePlan,
    pub revocations: RevocationsPlan,
    pub upstreams: Vec<UpstreamPlan>,
    pub routes: Vec<RoutePlan>,
    pub access_log: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerPlan {
    pub threads: usize,
    /// Readiness fails for this long before the listeners close.
    pub pre_stop: Duration,
    /// In-flight requests have this long to finish.
    pub drain: Duration,
    /// The Unix socket where a successor gets the listening sockets; `None` is nowhere.
    pub handover: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerPlan {
    /// As written: the metric label `listener`.
    pub name: Arc<str>,
    pub address: SocketAddr,
    pub tls: Option<ListenerTls>,
    /// Whose connections begin with a PROXY header.
    pub proxy_protocol: Arc<[IpNet]>,
    /// Whose `X-Forwarded-*` are believed.
    pub trusted_proxies: Arc<[IpNet]>,
    /// `None`: what the request says.
    pub public_url: Option<PublicUrl>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerTls {
    pub certificate: PathBuf,
    pub private_key: PathBuf,
    /// Callers have to show a certificate that one of these authorities has signed.
    pub client_ca: Option<PathBuf>,
}

#[derive(Debug, Clone)]
pub struct AdminPlan {
    pub address: SocketAddr,
    pub token: Option<Secret>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    pub header_timeout: Duration,
    pub header_bytes: usize,
    pub header_fields: usize,
    pub body_bytes: u64,
    /// Bytes a second after the first ten seconds; 0 is off.
    pub body_min_rate: u64,
    pub write_timeout: Duration,
    pub keep_alive: Duration,
    pub connections: usize,
    pub connections_per_source: usize,
    /// Connections that may end because they flooded us, by source. `None`: nothing is held against a source.
    pub floods_per_source: Option<RateLimit>,
    pub token_bytes: usize,
    pub http2_streams: u32,
    pub http2_header_list: u32,
    pub http2_idle: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerPlan {
    pub name: Arc<str>,
    /// What `iss` must say, compared byte for byte.
    pub issuer: String,
    pub keys_from: KeysFrom,
    /// Plain `http://` to a host that is not loopback is allowed.
    pub insecure: bool,
    pub ca: Option<PathBuf>,
    /// Any of these must be in `aud`.
    pub audience: Vec<String>,
    pub algorithms: Vec<Algorithm>,
    /// Lower case, without `application/`.
    pub token_types: Vec<String>,
    pub unmarked: Unmarked,
    pub leeway: Duration,
    pub keys: KeysPlan,
    /// `None`: its realm document is not looked at.
    pub not_before: Option<NotBeforePlan>,
    /// Clients whose back-channel logout is heard; empty is off.
    pub logout_clients: Vec<String>,
    pub dpop: Dpop,
    /// `None`: this issuer is never asked about a token.
    pub introspection: Option<IntrospectionPlan>,
}

/// Where an issuer's signing keys are read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeysFrom {
    /// `jwks_uri` of this discovery document, whose `issuer` must be ours.
    Discovery(String),
    /// This URL.
    Url(String),
    File(PathBuf),
}

/// What to do with a token that does not say that it is an access token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmarked {
    Refuse,
    Allow,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeysPlan {
    pub refresh: Duration,
    pub cooldown: Duration,
    pub max_stale: Duration,
    pub timeout: Duration,
    /// Where the last good keys survive a restart.
    pub snapshot: Option<PathBuf>,
}

/// How an issuer's not-before is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotBeforePlan {
    pub poll: Duration,
    pub url: String,
}

/// Where revocations are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevocationsPlan {
    /// `None`: in memory only.
    pub file: Option<PathBuf>,
    pub max: usize,
}

/// Memory for tokens that were already proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenCachePlan {
    pub max_bytes: u64,
    pub max_age: Duration,
}

/// How one issuer is asked about tokens (RFC 7662).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntrospectionPlan {
    pub endpoint: EndpointFrom,
    pub client_id: String,
    pub auth: ClientAuth,
    pub when: AskWhen,
    pub timeout: Duration,
    pub max_in_flight: usize,
    pub ttl: Duration,
    pub negative_ttl: Duration,
    pub max_bytes: u64,
    pub failures: u32,
    pub open: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndpointFrom {
    Url(String),
    /// `introspection_endpoint` of this discovery document, whose `issuer` must be ours.
    Discovery(String),
}

/// How the gateway proves itself to an issuer that it asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientAuth {
    /// RFC 6749 section 2.3.1: a secret in `Authorization`.
    Basic(Secret),
    /// The same in the form.
    Post(Secret),
    /// RFC 7523 section 2.2: an assertion that is signed with a key.
    PrivateKey {
        pem: Secret,
        /// What the assertion's header calls the key, if the issuer wants to know.
        kid: Option<String>,
    },
}

/// What makes the gateway ask where a route did not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AskWhen {
    pub opaque: bool,
    pub lightweight: bool,
    pub unknown_key: bool,
    pub keys_unavailable: bool,
}

/// How a route wants a token to be proved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Proof {
    #[default]
    Local,
    /// The issuer is asked for each request.
    Introspect,
    /// The issuer's answer may be this old.
    Fresh(Duration),
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Proof::Local => f.write_str("local"),
            Proof::Introspect => f.write_str("introspect"),
            Proof::Fresh(age) => write!(f, "fresh {age:?}"),
        }
    }
}

#[derive(Debug)]
pub struct RoutePlan {
    pub name: Arc<str>,
    pub matcher: MatchPlan,
    /// What is otherwise refused.
    pub allow_target: TargetForms,
    /// A prefix of `matcher.path` on a segment boundary.
    pub strip_prefix: Option<String>,
    /// Not together with `strip_prefix`.
    pub rewrite: Option<RewritePlan>,
    pub upstream: Shares,
    pub access: Access,
    pub keep_authorization: bool,
    /// A request may become a WebSocket.
    pub websocket: bool,
    /// Header → JSON pointer (RFC 6901) into the claims.
    pub forward_headers: Vec<(HeaderName, String)>,
    pub rate_limit: Option<RateLimit>,
    pub timeout: Duration,
    pub body_bytes: u64,
    pub request_headers: HeaderEdits,
    pub response_headers: HeaderEdits,
    /// `None`: nothing about it is ours to say.
    pub cors: Option<CorsPlan>,
}

#[derive(Debug)]
pub struct MatchPlan {
    /// Lower case, without port; `None` is any. `*.example.com` covers one or more labels.
    pub host: Option<String>,
    /// Starts with `/`; no trailing `/` unless it is `/` alone.
    pub path: String,
    pub exact: bool,
    /// Empty is any. `GET` brings `HEAD` with it.
    pub methods: Vec<Method>,
    pub headers: Vec<(HeaderName, String)>,
    pub query: Vec<(String, String)>,
}

/// Who may use a route. There is no default: a route that says nothing is a configuration error.
#[derive(Debug)]
pub enum Access {
    Public,
    Token(Policy),
}

/// What a route demands of a proved principal; every part that is empty demands nothing.
#[derive(Debug, Default)]
pub struct Policy {
    /// Empty is all.
    pub issuers: Vec<IssuerId>,
    /// `azp`, any of.
    pub clients: Vec<String>,
    pub scopes: Vec<String>,
    pub any_scope: Vec<String>,
    pub realm_roles: Vec<String>,
    pub any_realm_role: Vec<String>,
    pub client_roles: BTreeMap<String, Vec<String>>,
    pub proof: Proof,
    /// Follows from the issuers.
    pub schemes: Schemes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RatePer {
    Client,
    Source,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    pub per: RatePer,
    pub requests: u32,
    pub every: Duration,
    pub burst: u32,
}

#[derive(Debug, Default)]
pub struct HeaderEdits {
    pub set: Vec<(HeaderName, HeaderValue)>,
    pub remove: Vec<HeaderName>,
}

impl Plan {
    pub fn issuer(&self, id: IssuerId) -> &IssuerPlan {
        &self.issuers[id.0]
    }

    pub fn upstream(&self, id: UpstreamId) -> &UpstreamPlan {
        &self.upstreams[id.0]
    }

    pub fn route(&self, id: RouteId) -> &RoutePlan {
        &self.routes[id.0]
    }
}
