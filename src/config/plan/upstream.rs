//! Upstreams: who is in a pool, and how patient we are with them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

#[derive(Debug)]
pub struct UpstreamPlan {
    pub name: Arc<str>,
    pub peers: Vec<PeerPlan>,
    pub balance: Balance,
    /// `None`: nobody asks the peers.
    pub health: Option<HealthPlan>,
    /// `None`: a peer that fails stays in.
    pub outlier: Option<OutlierPlan>,
    pub timeouts: UpstreamTimeouts,
    /// Attempts on connect failure, the first included: 1 to 5.
    pub attempts: usize,
    /// More requests in flight than this are answered 503.
    pub max_in_flight: Option<usize>,
    pub tls: Option<UpstreamTls>,
}

/// How peers are asked whether they are well.
#[derive(Debug, Clone)]
pub struct HealthPlan {
    pub path: String,
    pub interval: Duration,
    pub timeout: Duration,
    /// Good answers in a row that bring a peer back, at least 1.
    pub healthy: u32,
    /// Bad ones that take it out, at least 1.
    pub unhealthy: u32,
}

/// When a peer is left out because requests to it fail.
#[derive(Debug, Clone)]
pub struct OutlierPlan {
    /// In a row, at least 1.
    pub failures: u32,
    /// The first time; longer when it happens again.
    pub eject: Duration,
}

/// How the next peer is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Balance {
    RoundRobin,
    /// Of two at random, the one with fewer requests in flight for its weight.
    LeastRequest,
    Random,
    Hash(HashOn),
}

/// What brings requests to the same peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashOn {
    /// The proved client; on public routes the source address.
    Client,
    Path,
    /// Its value; without one, the source address.
    Header(HeaderName),
}

#[derive(Debug)]
pub struct PeerPlan {
    /// `host:port` as written; a name is looked up again every ten seconds.
    pub address: String,
    pub weight: u32,
}

#[derive(Debug, Clone)]
pub struct UpstreamTimeouts {
    pub connect: Duration,
    pub read: Duration,
    pub write: Duration,
    pub idle: Duration,
}

#[derive(Debug)]
pub struct UpstreamTls {
    /// Never empty: an empty name would switch Pingora's check off.
    pub server_name: String,
    pub ca: Option<PathBuf>,
}
