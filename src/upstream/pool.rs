//! A named pool: its peers, and a cap on what is in flight.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use pingora::upstreams::peer::HttpPeer;
use prometheus::IntGauge;

use super::NoPeer;
use super::balance::{Chooser, Layout};
use super::peer::{AtPeer, Peer, Template};
use crate::config::plan::{Balance, UpstreamId, UpstreamPlan};
use crate::observe::metrics::Metrics;

pub struct Pool {
    pub id: UpstreamId,
    pub name: Arc<str>,
    peers: Vec<Arc<Peer>>,
    chooser: Chooser,
    layout: ArcSwap<Layout>,
    /// Held while the peers are laid out anew, so that the last one who does it has seen everything.
    arranging: Mutex<()>,
    attempts: usize,
    max_in_flight: Option<usize>,
    in_flight: Arc<AtomicUsize>,
    gauge: IntGauge,
}

/// Counts one request at the pool until dropped, also when its task is.
#[derive(Debug)]
pub struct InFlight {
    count: Arc<AtomicUsize>,
    gauge: IntGauge,
}

/// The attempts that a request has behind it.
#[derive(Default)]
pub struct Tried {
    /// Peers that did not take a connection.
    refused: Vec<Arc<Peer>>,
}

impl Pool {
    pub(super) fn new(
        id: UpstreamId,
        plan: &UpstreamPlan,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, String> {
        let template = Template::new(plan)?;
        let peers = plan
            .peers
            .iter()
            .map(|peer| Arc::new(Peer::new(&peer.address, peer.weight, template.clone())))
            .collect();
        let pool = Pool {
            id,
            name: plan.name.clone(),
            peers,
            layout: ArcSwap::from_pointee(Layout::new(Vec::new(), &plan.balance)),
            chooser: Chooser::new(plan.balance.clone()),
            arranging: Mutex::new(()),
            attempts: plan.attempts,
            max_in_flight: plan.max_in_flight,
            in_flight: Arc::default(),
            gauge: metrics.upstream_in_flight(id).clone(),
        };
        pool.arrange();
        Ok(pool)
    }

    pub fn peers(&self) -> &[Arc<Peer>] {
        &self.peers
    }

    pub fn balance(&self) -> &Balance {
        self.chooser.balance()
    }

    /// How often a request may try to connect, the first time included.
    pub fn attempts(&self) -> usize {
        self.attempts
    }

    /// A peer's name has this address from now on.
    pub fn resolved(&self, peer: &Peer, address: SocketAddr) {
        if peer.resolved(address) {
            self.arrange();
        }
    }

    /// Lays out the peers that may be chosen.
    fn arrange(&self) {
        let _alone = self
            .arranging
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let usable = self.peers.iter().filter(|peer| peer.is_known());
        let layout = Layout::new(usable.cloned().collect(), self.balance());
        self.layout.store(Arc::new(layout));
    }

    /// A place in the pool.
    ///
    /// # Errors
    /// [`NoPeer::Busy`] when the pool is full.
    pub fn enter(&self) -> Result<InFlight, NoPeer> {
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        if self.max_in_flight.is_some_and(|max| before >= max) {
            self.in_flight.fetch_sub(1, Ordering::Relaxed);
            return Err(NoPeer::Busy);
        }
        self.gauge.inc();
        Ok(InFlight {
            count: self.in_flight.clone(),
            gauge: self.gauge.clone(),
        })
    }

    /// The next peer that is not among those that refused to connect. A pool that hashes goes by `key`.
    ///
    /// A peer that took a connection and lost it may be asked again: Pingora does so for an idempotent request on a
    /// connection that had died in its pool.
    ///
    /// # Errors
    /// [`NoPeer::Exhausted`].
    pub fn choose(&self, tried: &Tried, key: u64) -> Result<(AtPeer, Box<HttpPeer>), NoPeer> {
        let layout = self.layout.load();
        let again = !tried.refused.is_empty();
        let chosen = self
            .chooser
            .choose(&layout, key, again, |peer| tried.has_refused(peer))
            .ok_or(NoPeer::Exhausted)?;
        let peer = chosen.connectable().ok_or(NoPeer::Exhausted)?;
        Ok((AtPeer::new(chosen.clone()), peer))
    }

    /// Whether a request that could not connect may try again.
    pub fn may_connect_again(&self, tried: &Tried) -> bool {
        tried.refused.len() < self.attempts.min(self.layout.load().peers().len())
    }
}

impl Tried {
    /// The peer did not take a connection.
    pub fn refused(&mut self, peer: &Arc<Peer>) {
        self.refused.push(peer.clone());
    }

    fn has_refused(&self, peer: &Peer) -> bool {
        self.refused
            .iter()
            .any(|known| std::ptr::eq(Arc::as_ptr(known), peer))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
        self.gauge.dec();
    }
}
