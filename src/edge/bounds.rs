//! What connections are held to. It comes from `limits`, which a reload may change.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::ledger::Ledger;
use super::{Connections, Peer};
use crate::config::plan::Limits;
use crate::observe::metrics::Metrics;
use crate::reject::Rejection;
use crate::request::RequestId;

/// What connections are held to, and the count of them. A reload may change it for the connections that follow.
pub struct Bounds {
    rules: ArcSwap<Rules>,
    pub(super) connections: Arc<Connections>,
    pub(super) metrics: Arc<Metrics>,
}

impl Bounds {
    pub fn new(limits: &Limits, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Bounds {
            rules: ArcSwap::from_pointee(Rules::of(limits, metrics.clone(), None)),
            connections: Connections::new(limits),
            metrics,
        })
    }

    pub fn adopt(&self, limits: &Limits) {
        self.connections.adopt(limits);
        let old = self.rules.load().ledger.clone();
        let rules = Rules::of(limits, self.metrics.clone(), old.as_ref());
        self.rules.store(Arc::new(rules));
    }

    /// Those that hold for a connection that begins now, as long as it lives.
    pub(super) fn rules(&self) -> Arc<Rules> {
        self.rules.load_full()
    }

    pub fn connections(&self) -> &Arc<Connections> {
        &self.connections
    }
}

/// What holds for every connection of a listener.
pub(super) struct Rules {
    pub(super) head_timeout: Duration,
    pub(super) head_bytes: usize,
    pub(super) keep_alive: Duration,
    pub(super) http2_idle: Duration,
    pub(super) http2_header_list: u32,
    pub(super) http2_streams: u32,
    /// `None`: nothing is held against a source.
    pub(super) ledger: Option<Arc<Ledger>>,
    pub(super) metrics: Arc<Metrics>,
}

impl Rules {
    fn of(limits: &Limits, metrics: Arc<Metrics>, ledger: Option<&Arc<Ledger>>) -> Self {
        Rules {
            head_timeout: limits.header_timeout,
            head_bytes: limits.header_bytes,
            keep_alive: limits.keep_alive,
            http2_idle: limits.http2_idle,
            http2_header_list: limits.http2_header_list,
            http2_streams: limits.http2_streams,
            ledger: Ledger::of(limits.floods_per_source.as_ref(), ledger),
            metrics,
        }
    }

    /// Whether new connections of this source are closed for now, for what its others have done.
    pub(super) fn is_shut(&self, source: IpAddr) -> bool {
        let ledger = self.ledger.as_ref();
        ledger.is_some_and(|ledger| ledger.is_shut(source))
    }

    /// Counts and logs a request that was refused before any hook saw it, without its bytes.
    pub(super) fn refused(
        &self,
        rejection: Rejection,
        peer: Option<SocketAddr>,
        request_id: &RequestId,
    ) {
        let status = rejection.answer().status;
        self.metrics.head_refused(rejection);
        if rejection == Rejection::MalformedRequest {
            self.metrics.unparsed();
        }
        log::warn!(
            "refused the head of a request from {}: {status} {}, request_id {}",
            Peer(peer),
            rejection.label(),
            request_id.as_str(),
        );
    }
}
