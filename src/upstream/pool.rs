//! A named pool: its peers, who of them may be chosen, and a cap on what is in flight.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use pingora::upstreams::peer::HttpPeer;
use prometheus::IntGauge;
use tokio::task::JoinSet;

use super::NoPeer;
use super::balance::{Chooser, Layout};
use super::breaker::{Breaker, Ticket};
use super::peer::{AtPeer, Peer, Template};
use super::probe::Prober;
use super::retry::{self, Budget};
use super::standing::{State, millis};
use crate::clock::Clock;
use crate::config::plan::{Balance, HealthPlan, OutlierPlan, RetryPlan, UpstreamId, UpstreamPlan};
use crate::observe::metrics::Metrics;

pub struct Pool {
    pub id: UpstreamId,
    pub name: Arc<str>,
    peers: Vec<Arc<Peer>>,
    chooser: Chooser,
    layout: ArcSwap<Layout>,
    /// Held while the peers are laid out anew, so that the last one who does it has seen everything.
    arranging: Mutex<()>,
    /// Milliseconds of the monotonic clock: when the next ejection ends.
    due: AtomicU64,
    health: Option<HealthPlan>,
    outlier: Option<OutlierPlan>,
    retries: RetryPlan,
    budget: Budget,
    breaker: Option<Arc<Breaker>>,
    max_in_flight: Option<usize>,
    in_flight: Arc<AtomicUsize>,
    gauge: IntGauge,
    metrics: Arc<Metrics>,
    clock: Clock,
}

/// Counts one request at the pool until dropped, also when its task is.
pub struct InFlight {
    count: Arc<AtomicUsize>,
    gauge: IntGauge,
    ticket: Option<Ticket>,
}

/// The attempts that a request has behind it.
#[derive(Default)]
pub struct Tried {
    attempts: usize,
    /// Peers that did not take a connection.
    refused: Vec<Arc<Peer>>,
    /// Peers that took the request and failed.
    failed: Vec<Arc<Peer>>,
}

/// How an attempt failed that had a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The connection broke off before the answer.
    Reset,
    Timeout,
    Status(u16),
}

impl Pool {
    pub(super) fn new(
        id: UpstreamId,
        plan: &UpstreamPlan,
        metrics: &Arc<Metrics>,
        clock: &Clock,
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
            due: AtomicU64::new(u64::MAX),
            health: plan.health.clone(),
            outlier: plan.outlier.clone(),
            budget: Budget::new(plan.retries.budget),
            retries: plan.retries.clone(),
            breaker: plan.rate.clone().map(|rate| {
                let gauge = metrics.upstream_breaker(id).clone();
                Breaker::new(rate, plan.name.clone(), clock.clone(), gauge)
            }),
            max_in_flight: plan.max_in_flight,
            in_flight: Arc::default(),
            gauge: metrics.upstream_in_flight(id).clone(),
            metrics: metrics.clone(),
            clock: clock.clone(),
        };
        pool.arrange(&pool.alone(), clock.monotonic());
        Ok(pool)
    }

    pub fn peers(&self) -> &[Arc<Peer>] {
        &self.peers
    }

    pub fn balance(&self) -> &Balance {
        self.chooser.balance()
    }

    /// A peer's name has this address from now on.
    pub fn resolved(&self, peer: &Peer, address: SocketAddr) {
        if peer.resolved(address) {
            self.arrange(&self.alone(), self.clock.monotonic());
        }
    }

    fn alone(&self) -> MutexGuard<'_, ()> {
        self.arranging
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Lays out the peers that may be chosen.
    fn arrange(&self, _alone: &MutexGuard<'_, ()>, now: Duration) {
        let mut counts = [0; 3];
        let mut usable = Vec::with_capacity(self.peers.len());
        let mut due = u64::MAX;
        for peer in &self.peers {
            let state = peer.state(now);
            counts[state as usize] += 1;
            if state == State::Healthy {
                usable.push(peer.clone());
            }
            if let Some(until) = peer.standing.ejected_until(now) {
                due = due.min(until);
            }
        }
        self.metrics.upstream_peers(self.id, counts);
        self.layout
            .store(Arc::new(Layout::new(usable, self.balance())));
        self.due.store(due, Ordering::Release);
    }

    /// Takes peers back whose ejection is over.
    fn take_back(&self, now: Duration) {
        if millis(now) < self.due.load(Ordering::Acquire) {
            return;
        }
        // Who comes second need not wait: the layout that is there is still right for all but one peer.
        if let Ok(alone) = self.arranging.try_lock() {
            self.arrange(&alone, now);
        }
    }

    pub(super) fn refresh(&self) {
        self.take_back(self.clock.monotonic());
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

    /// The next peer that is not among those that were tried. A pool that hashes goes by `key`.
    ///
    /// A peer that took the request and failed is asked again where there is no other. One that had only let a
    /// connection die in Pingora's pool is not among them.
    ///
    /// # Errors
    /// [`NoPeer::Exhausted`].
    pub fn choose(
        &self,
        tried: &mut Tried,
        key: u64,
        now: Duration,
    ) -> Result<(AtPeer, Box<HttpPeer>), NoPeer> {
        self.take_back(now);
        let layout = self.layout.load();
        let again = tried.attempts > 0;
        let another = |peer: &Peer| tried.has_refused(peer) || tried.has_failed(peer);
        let chosen = self
            .chooser
            .choose(&layout, key, again, another)
            .or_else(|| {
                let refused = |peer: &Peer| tried.has_refused(peer);
                self.chooser.choose(&layout, key, again, refused)
            })
            .ok_or(NoPeer::Exhausted)?;
        tried.attempts += 1;
        let peer = chosen.connectable().ok_or(NoPeer::Exhausted)?;
        Ok((AtPeer::new(chosen.clone()), peer))
    }

    /// Whether a request that could not connect may try again. Nothing was sent, so it costs no service anything.
    pub fn may_connect_again(&self, tried: &Tried) -> bool {
        let another = |peer: &Arc<Peer>| !tried.has_refused(peer);
        self.retries.when.connect
            && tried.attempts < self.retries.attempts
            && self.layout.load().peers().iter().any(another)
    }

    /// Whether a request that may have reached a service, and may be repeated, is to be tried again. Each time that it
    /// is takes its share of the budget.
    pub fn may_try_again(&self, tried: &Tried, failure: Failure) -> bool {
        let when = &self.retries.when;
        let wanted = match failure {
            Failure::Reset => when.reset,
            Failure::Timeout => when.timeout,
            Failure::Status(502) => when.bad_gateway,
            Failure::Status(503) => when.unavailable,
            Failure::Status(504) => when.gateway_timeout,
            Failure::Status(_) => false,
        };
        wanted && tried.attempts < self.retries.attempts && self.budget.spend()
    }

    /// How long the next attempt waits.
    pub fn pause(&self, tried: &Tried) -> Duration {
        retry::pause(&self.retries, tried.attempts + 1)
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

    /// Leaves a peer out, unless more than half of the pool were then out: when that many fail, it is not their fault
    /// alone, and those that are left would be overrun.
    fn eject(&self, peer: &Peer, outlier: &OutlierPlan, now: Duration) {
        let alone = self.alone();
        let healthy = |peer: &&Arc<Peer>| peer.state(now) == State::Healthy;
        let out = self.peers.len() - self.peers.iter().filter(healthy).count();
        if peer.state(now) != State::Healthy || (out + 1) * 2 > self.peers.len() {
            return;
        }
        let length = peer.standing.eject(outlier.eject, now);
        self.arrange(&alone, now);
        drop(alone);
        let (pool, address) = (&self.name, peer.address());
        let seconds = length.as_secs();
        log::warn!("upstream {pool}: peer {address} keeps failing and is left out for {seconds} s");
    }

    /// Asks all peers again and again, until the task is dropped. At once where there is nothing to ask.
    pub async fn keep_checked(&self) {
        let Some(plan) = &self.health else {
            return;
        };
        let prober = Arc::new(Prober::new(plan.clone()));
        let mut rounds = tokio::time::interval(plan.interval);
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            let mut asked = JoinSet::new();
            for peer in &self.peers {
                let (peer, prober) = (peer.clone(), prober.clone());
                asked.spawn(async move {
                    tokio::time::sleep(prober.jitter()).await;
                    let answer = prober.ask(&peer).await;
                    (peer, answer)
                });
            }
            while let Some(done) = asked.join_next().await {
                if let Ok((peer, answer)) = done {
                    self.checked(&peer, &answer, plan);
                }
            }
        }
    }

    fn checked(&self, peer: &Peer, answer: &Result<(), String>, plan: &HealthPlan) {
        if !peer.standing.checked(answer.is_ok(), plan) {
            return;
        }
        self.arrange(&self.alone(), self.clock.monotonic());
        let (pool, address) = (&self.name, peer.address());
        match answer {
            Ok(()) => log::info!("upstream {pool}: peer {address} is healthy again"),
            Err(why) => log::warn!("upstream {pool}: peer {address} is unhealthy: {why}"),
        }
    }

    /// # Errors
    /// Why no request can be sent, in one sentence.
    pub fn readiness(&self) -> Result<(), String> {
        self.refresh();
        if !self.layout.load().peers().is_empty() {
            return Ok(());
        }
        let now = self.clock.monotonic();
        let count = |state| self.peers.iter().filter(|p| p.state(now) == state).count();
        Err(format!(
            "no peer is healthy: {} unhealthy, {} ejected",
            count(State::Unhealthy),
            count(State::Ejected)
        ))
    }
}

impl Tried {
    /// The peer did not take a connection.
    pub fn refused(&mut self, peer: &Arc<Peer>) {
        self.refused.push(peer.clone());
    }

    /// The peer took the request and failed.
    pub fn failed(&mut self, peer: &Arc<Peer>) {
        self.failed.push(peer.clone());
    }

    /// The attempt met a connection that had died while nobody used it: it does not count.
    pub fn uncounted(&mut self) {
        self.attempts = self.attempts.saturating_sub(1);
    }

    fn has_failed(&self, peer: &Peer) -> bool {
        self.failed
            .iter()
            .any(|known| std::ptr::eq(Arc::as_ptr(known), peer))
    }

    fn has_refused(&self, peer: &Peer) -> bool {
        self.refused
            .iter()
            .any(|known| std::ptr::eq(Arc::as_ptr(known), peer))
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
