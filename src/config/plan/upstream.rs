//! Upstreams: who is in a pool, and how patient we are with them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderName;

use super::UpstreamId;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamPlan {
    pub name: Arc<str>,
    /// Empty where `dns` is.
    pub peers: Vec<PeerPlan>,
    /// `host:port`: all addresses of the name are the peers.
    pub dns: Option<String>,
    pub balance: Balance,
    /// `None`: nobody asks the peers.
    pub health: Option<HealthPlan>,
    /// `None`: a peer that fails stays in.
    pub outlier: Option<OutlierPlan>,
    pub timeouts: UpstreamTimeouts,
    pub retries: RetryPlan,
    /// More requests in flight than this are answered 503.
    pub max_in_flight: Option<usize>,
    /// `None`: an upstream that fails is asked all the same.
    pub rate: Option<RatePlan>,
    /// Answered while the breaker is open, instead of the problem.
    pub fallback: Option<FallbackPlan>,
    pub tls: Option<UpstreamTls>,
    /// By ALPN with TLS, with prior knowledge without; never HTTP/1.1 instead.
    pub http2: bool,
}

/// How peers are asked whether they are well.
#[derive(Debug, Clone, PartialEq, Eq)]
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlierPlan {
    /// In a row, at least 1.
    pub failures: u32,
    /// The first time; longer when it happens again.
    pub eject: Duration,
}

/// What is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPlan {
    /// The first included: 1 to 5.
    pub attempts: usize,
    pub when: RetryOn,
    /// Percent of the pool's requests that may be tried again; failed connects do not count.
    pub budget: u8,
    /// The first pause, and the longest.
    pub first: Duration,
    pub max: Duration,
}

/// All but `connect` for idempotent methods only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RetryOn {
    pub connect: bool,
    pub reset: bool,
    pub timeout: bool,
    pub bad_gateway: bool,
    pub unavailable: bool,
    pub gateway_timeout: bool,
}

/// When the breaker opens, and how it closes again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RatePlan {
    /// Results that are looked back on.
    pub window: usize,
    /// Percent.
    pub failure_rate: u8,
    pub open: Duration,
    /// Requests that are let through to see whether it is over.
    pub half_open: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FallbackPlan {
    pub status: u16,
    pub body: Bytes,
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

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerPlan {
    /// `host:port` as written; a name is looked up again every ten seconds.
    pub address: String,
    pub weight: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamTimeouts {
    pub connect: Duration,
    pub read: Duration,
    pub write: Duration,
    pub idle: Duration,
    /// What a stream may be silent: a gRPC call, an upload over HTTP/2, a tunnel.
    pub stream: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamTls {
    /// Never empty: an empty name would switch Pingora's check off.
    pub server_name: String,
    pub ca: Option<PathBuf>,
    /// What we show to peers that ask who we are.
    pub own: Option<OwnCertificate>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnCertificate {
    pub certificate: PathBuf,
    pub private_key: PathBuf,
}

/// The pools of a route, each with its weight; never empty, and no pool twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shares(Vec<(UpstreamId, u32)>);

impl Shares {
    /// `None` without a pool, or without any weight.
    pub fn split(pools: Vec<(UpstreamId, u32)>) -> Option<Self> {
        let any = pools.iter().any(|(_, weight)| *weight > 0);
        any.then_some(Shares(pools))
    }

    pub fn all(&self) -> &[(UpstreamId, u32)] {
        &self.0
    }

    pub fn total(&self) -> u32 {
        self.0.iter().map(|(_, weight)| weight).sum()
    }

    /// Whose part of the whole this number below [`Shares::total`] is in.
    pub fn of(&self, mut number: u32) -> UpstreamId {
        for (pool, weight) in &self.0 {
            match number.checked_sub(*weight) {
                Some(rest) => number = rest,
                None => return *pool,
            }
        }
        self.0[0].0
    }
}

impl From<UpstreamId> for Shares {
    fn from(pool: UpstreamId) -> Self {
        Shares(vec![(pool, 1)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_belongs_to_one_share() {
        let pools = vec![(UpstreamId(4), 2), (UpstreamId(7), 0), (UpstreamId(1), 3)];
        let shares = Shares::split(pools).expect("weights");
        let drawn: Vec<usize> = (0..shares.total()).map(|n| shares.of(n).0).collect();
        assert_eq!(drawn, [4, 4, 1, 1, 1]);
        assert_eq!(Shares::split(Vec::new()), None);
        assert_eq!(Shares::split(vec![(UpstreamId(1), 0)]), None);
        assert_eq!(Shares::from(UpstreamId(3)).of(0), UpstreamId(3));
    }
}
