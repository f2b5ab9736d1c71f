//! Where a permitted request goes. Nothing here chooses a peer without a [`Permit`].

mod balance;
mod breaker;
mod layout;
mod names;
mod peer;
mod pool;
mod probe;
mod retry;
mod ring;
mod standing;
mod tried;
mod trust;
mod vacancies;
mod warmth;

use std::sync::Arc;

pub use peer::{AtPeer, Peer};
pub use pool::{InFlight, Pool};
pub use standing::State;
pub use tried::{Failure, Tried};
pub use trust::Trust;

use crate::authorize::Permit;
use crate::clock::Clock;
use crate::config::plan::{Plan, UpstreamId};
use crate::observe::metrics::Metrics;

/// Why no peer was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPeer {
    /// More requests are in flight than the pool, or each of its peers, allows.
    Busy,
    /// Too many requests have failed: nobody is asked for a while, in seconds.
    Open { retry_after: u32 },
    /// No peer that was not tried yet is healthy.
    Exhausted,
}

pub struct Upstreams {
    pools: Vec<Arc<Pool>>,
}

impl Upstreams {
    /// # Errors
    /// An unreadable or empty CA file, as one line that names it.
    pub fn new(plan: &Plan, metrics: &Arc<Metrics>, clock: &Clock) -> Result<Self, String> {
        Self::of(plan, metrics, clock, None)
    }

    /// For another plan: a pool that is the same is kept, and one of the same name keeps what is known of its peers.
    ///
    /// # Errors
    /// As [`Upstreams::new`]; these are not changed then.
    pub fn renewed(
        &self,
        plan: &Plan,
        metrics: &Arc<Metrics>,
        clock: &Clock,
    ) -> Result<Self, String> {
        Self::of(plan, metrics, clock, Some(self))
    }

    fn of(
        plan: &Plan,
        metrics: &Arc<Metrics>,
        clock: &Clock,
        old: Option<&Upstreams>,
    ) -> Result<Self, String> {
        let pools = plan.upstreams.iter().enumerate().map(|(index, upstream)| {
            let named = |pool: &&Arc<Pool>| pool.name == upstream.name;
            let id = UpstreamId(index);
            match old.and_then(|old| old.pools.iter().find(named)) {
                Some(old) => Pool::renewed(id, upstream, metrics, clock, old),
                None => Pool::new(id, upstream, metrics, clock).map(Arc::new),
            }
        });
        let pools = pools.collect::<Result<_, _>>()?;
        Ok(Upstreams { pools })
    }

    /// The pool that a permitted request may use. The permit is what this asks for, not something that it reads.
    pub fn open(&self, id: UpstreamId, _permit: &Permit) -> &Pool {
        &self.pools[id.0]
    }

    /// Where on a pool's ring a request belongs.
    pub fn place_of(what: &impl std::hash::Hash) -> u64 {
        ring::place_of(what)
    }

    /// Counts the peers anew, for whoever asks when no request does.
    pub fn refresh(&self) {
        for pool in &self.pools {
            pool.refresh();
        }
    }

    /// The pools that no request can be sent to yet, and that these do not share with older ones.
    pub fn unready_since(&self, old: &Upstreams) -> usize {
        let shared = |pool| old.pools.iter().any(|old| Arc::ptr_eq(old, pool));
        let pools = self.pools.iter();
        let unready = pools.filter(|pool| !shared(*pool) && pool.readiness().is_err());
        unready.count()
    }

    /// Counts all peers anew, after a plan that was built and not used.
    pub fn recount(&self) {
        for pool in &self.pools {
            pool.recount();
        }
    }

    pub fn all(&self) -> &[Arc<Pool>] {
        &self.pools
    }
}

#[cfg(test)]
mod tests;
