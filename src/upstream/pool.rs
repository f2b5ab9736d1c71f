//! A named pool: its peers, who of them is chosen, and caps on what is in flight.

mod again;
mod checks;
mod discovery;
mod members;
mod renewed;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use pingora::upstreams::peer::HttpPeer;
use prometheus::IntGauge;

use self::renewed::{breaker, members};
use super::NoPeer;
use super::balance::{Chooser, Wish};
use super::breaker::{Breaker, Ticket};
use super::layout::Layout;
use super::names::Names;
use super::peer::{AtPeer, Peer, Template};
use super::retry::{self, Budget};
use super::tried::{Failure, Tried};
use super::trust::Trust;
use super::warmth::Warmth;
use crate::clock::Clock;
use crate::config::plan::{
    Balance, DnsPlan, HealthPlan, OutlierPlan, RetryPlan, UpstreamId, UpstreamPlan,
};
use crate::observe::metrics::{Metrics, UpstreamMetrics};

/// A name with more addresses than this is a mistake, or an attack.
pub(super) const MOST_MEMBERS: usize = 1024;
/// How often a peer is chosen anew because others filled the chosen one in the meantime.
const RACES: usize = 16;

pub struct Pool {
    pub name: Arc<str>,
    plan: UpstreamPlan,
    members: ArcSwap<Vec<Arc<Peer>>>,
    /// The name that says who the members are.
    dns: Option<DnsPlan>,
    names: Names,
    template: Arc<Template>,
    chooser: Chooser,
    layout: ArcSwap<Layout>,
    /// Held while the peers are laid out anew, so that the last one who does it has seen everything.
    arranging: Mutex<()>,
    /// Milliseconds of the monotonic clock: when the next ejection, or slow start, ends.
    due: AtomicU64,
    slow_start: Option<Duration>,
    health: Option<HealthPlan>,
    outlier: Option<OutlierPlan>,
    retries: RetryPlan,
    budget: Budget,
    breaker: Option<Arc<Breaker>>,
    max_in_flight: Option<usize>,
    in_flight: Arc<AtomicUsize>,
    gauge: IntGauge,
    metrics: Arc<UpstreamMetrics>,
    clock: Clock,
}

/// Counts one request at the pool until dropped, also when its task is.
pub struct InFlight {
    count: Arc<AtomicUsize>,
    gauge: IntGauge,
    ticket: Option<Ticket>,
}

impl Pool {
    pub(super) fn new(
        id: UpstreamId,
        plan: &UpstreamPlan,
        metrics: &Metrics,
        clock: &Clock,
    ) -> Result<Self, String> {
        let template = Template::new(plan)?;
        Ok(Self::of(plan, template, metrics.upstream(id), clock, None))
    }

    fn of(
        plan: &UpstreamPlan,
        template: Arc<Template>,
        metrics: &Arc<UpstreamMetrics>,
        clock: &Clock,
        old: Option<&Arc<Pool>>,
    ) -> Self {
        let pool = Pool {
            name: plan.name.clone(),
            plan: plan.clone(),
            members: ArcSwap::from_pointee(members(plan, &template, old)),
            dns: plan.dns.clone(),
            names: Names::new(&plan.resolver),
            template,
            layout: ArcSwap::from_pointee(Layout::new(Vec::new(), &plan.balance, |_| false)),
            chooser: Chooser::new(plan.balance.clone(), plan.slow_start),
            slow_start: plan.slow_start,
            arranging: Mutex::new(()),
            due: AtomicU64::new(u64::MAX),
            health: plan.health.clone(),
            outlier: plan.outlier.clone(),
            budget: Budget::new(plan.retries.budget),
            retries: plan.retries.clone(),
            breaker: breaker(plan, metrics, clock, old),
            max_in_flight: plan.max_in_flight,
            in_flight: old.map(|old| old.in_flight.clone()).unwrap_or_default(),
            gauge: metrics.in_flight().clone(),
            metrics: metrics.clone(),
            clock: clock.clone(),
        };
        pool.arrange(&pool.alone(), clock.monotonic());
        pool
    }

    pub fn peers(&self) -> Arc<Vec<Arc<Peer>>> {
        self.members.load_full()
    }

    /// The name that says who the peers are.
    pub fn dns(&self) -> Option<&DnsPlan> {
        self.dns.as_ref()
    }

    /// Requests at the pool now.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub fn balance(&self) -> &Balance {
        self.chooser.balance()
    }

    /// A place in the pool.
    ///
    /// # Errors
    /// [`NoPeer::Busy`] when the pool is full, [`NoPeer::Open`] while its breaker is open.
    pub fn enter(&self) -> Result<InFlight, NoPeer> {
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        if self.max_in_flight.is_some_and(|max| before >= max) {
            self.in_flight.fetch_sub(1, Ordering::Relaxed);
            return Err(NoPeer::Busy);
        }
        self.gauge.inc();
        let mut place = InFlight {
            count: self.in_flight.clone(),
            gauge: self.gauge.clone(),
            ticket: None,
        };
        if let Some(breaker) = &self.breaker {
            place.ticket = Some(breaker.enter()?);
        }
        self.budget.earn();
        Ok(place)
    }

    /// The next peer that is not among those that were tried, and not full.
    ///
    /// A peer that took the request and failed is asked again where there is no other. One that had only let a
    /// connection die in Pingora's pool is not among them.
    ///
    /// # Errors
    /// [`NoPeer::Busy`] when all that could be asked are full, else [`NoPeer::Exhausted`].
    pub fn choose(
        &self,
        tried: &mut Tried,
        key: u64,
        now: Duration,
    ) -> Result<(AtPeer, Box<HttpPeer>), NoPeer> {
        self.take_back(now);
        let layout = self.layout.load();
        let wish = Wish {
            key,
            again: tried.attempts > 0,
            now,
        };
        let refused = |peer: &Peer| tried.has_refused(peer) || peer.is_full();
        let another = |peer: &Peer| refused(peer) || tried.has_failed(peer);
        for _ in 0..RACES {
            let chosen = self.chooser.choose(&layout, wish, another);
            let again = || self.chooser.choose(&layout, wish, refused);
            let Some(chosen) = chosen.or_else(again) else {
                break;
            };
            if let Some(place) = AtPeer::enter(chosen) {
                let peer = chosen.connectable().ok_or(NoPeer::Exhausted)?;
                tried.attempts += 1;
                return Ok((place, peer));
            }
        }
        Err(match layout.peers().any(|peer| !tried.has_refused(peer)) {
            true => NoPeer::Busy,
            false => NoPeer::Exhausted,
        })
    }

    /// The files that its connections are made with, if it has any.
    pub fn trust(&self) -> Option<&Arc<Trust>> {
        self.template.trust.as_ref()
    }

    /// `None`: this pool has no breaker that opens.
    pub fn breaker(&self) -> Option<&'static str> {
        self.breaker.as_ref().map(|breaker| breaker.label())
    }

    /// The peer has answered a request, and not with a 5xx.
    pub fn succeeded(&self, peer: &Peer) {
        if self.outlier.is_some() {
            peer.standing.succeeded();
        }
    }

    /// A request to the peer has failed: a 5xx, no answer in time, no connection, or one that broke off.
    pub fn failed(&self, peer: &Peer, now: Duration) {
        let Some(outlier) = &self.outlier else {
            return;
        };
        if peer.standing.failed(outlier.failures, now) {
            self.eject(peer, outlier, now);
        }
    }
}

impl InFlight {
    /// How the request ended, for the breaker. What ended for other reasons than the upstream's is not told.
    pub fn ended(&mut self, failed: bool) {
        if let Some(ticket) = &mut self.ticket {
            ticket.tell(failed);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
        self.gauge.dec();
    }
}

#[cfg(test)]
mod tests;
