//! A named pool: weighted round robin, and a cap on what is in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pingora::upstreams::peer::HttpPeer;
use prometheus::IntGauge;

use super::NoPeer;
use super::peer::{Peer, Template};
use crate::config::plan::{UpstreamId, UpstreamPlan};
use crate::observe::metrics::Metrics;

pub struct Pool {
    pub id: UpstreamId,
    pub name: Arc<str>,
    peers: Vec<Peer>,
    /// Peer indices, each as often as its weight, spread evenly.
    schedule: Vec<u16>,
    next: AtomicUsize,
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

impl Pool {
    pub(super) fn new(
        id: UpstreamId,
        plan: &UpstreamPlan,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, String> {
        let template = Template::new(plan)?;
        let weights: Vec<u32> = plan.peers.iter().map(|peer| peer.weight).collect();
        Ok(Pool {
            id,
            name: plan.name.clone(),
            peers: plan
                .peers
                .iter()
                .map(|peer| Peer::new(&peer.address, template.clone()))
                .collect(),
            schedule: spread(&weights),
            next: AtomicUsize::new(0),
            attempts: plan.attempts,
            max_in_flight: plan.max_in_flight,
            in_flight: Arc::default(),
            gauge: metrics.upstream_in_flight(id).clone(),
        })
    }

    pub fn peers(&self) -> &[Peer] {
        &self.peers
    }

    /// How often a request may try to connect, the first time included.
    pub fn attempts(&self) -> usize {
        self.attempts
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

    /// The next peer, and its index, that is not among those that refused to connect.
    ///
    /// A peer that took a connection and lost it may be asked again: Pingora does so for an idempotent request on a
    /// connection that had died in its pool.
    ///
    /// # Errors
    /// [`NoPeer::Exhausted`].
    pub fn choose(&self, refused: &[usize]) -> Result<(usize, Box<HttpPeer>), NoPeer> {
        // A second attempt takes no turn of its own: with two peers, one dead, every request would meet the dead one.
        let start = match refused {
            [] => self.next.fetch_add(1, Ordering::Relaxed),
            _ => self.next.load(Ordering::Relaxed),
        };
        for step in 0..self.schedule.len() {
            let slot = start.wrapping_add(step) % self.schedule.len();
            let index = usize::from(self.schedule[slot]);
            if refused.contains(&index) {
                continue;
            }
            if let Some(peer) = self.peers[index].connectable() {
                return Ok((index, peer));
            }
        }
        Err(NoPeer::Exhausted)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
        self.gauge.dec();
    }
}

/// Smooth weighted round robin, laid out once: `[2, 1]` becomes `0 1 0`, not `0 0 1`.
fn spread(weights: &[u32]) -> Vec<u16> {
    let divisor = weights.iter().copied().fold(0, gcd).max(1);
    let weights: Vec<i64> = weights.iter().map(|w| i64::from(w / divisor)).collect();
    let total: i64 = weights.iter().sum();
    let mut credit = vec![0i64; weights.len()];
    let mut schedule = Vec::new();
    for _ in 0..total {
        for (credit, weight) in credit.iter_mut().zip(&weights) {
            *credit += weight;
        }
        let richest = (0..credit.len())
            .rev()
            .max_by_key(|index| credit[*index])
            .unwrap_or_default();
        credit[richest] -= total;
        schedule.push(u16::try_from(richest).unwrap_or_default());
    }
    schedule
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}
