//! A named pool: its peers, who of them may be chosen, and a cap on what is in flight.

mod again;
mod renewed;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use pingora::upstreams::peer::HttpPeer;
use prometheus::IntGauge;
use tokio::task::JoinSet;

use self::renewed::{breaker, members};
use super::NoPeer;
use super::balance::{Chooser, Layout};
use super::breaker::{Breaker, Ticket};
use super::peer::{AtPeer, Peer, Template};
use super::probe::Prober;
use super::retry::{self, Budget};
use super::standing::State;
use super::tried::{Failure, Tried};
use super::trust::Trust;
use crate::clock::{Clock, millis};
use crate::config::plan::{Balance, HealthPlan, OutlierPlan, RetryPlan, UpstreamId, UpstreamPlan};
use crate::observe::metrics::{Metrics, UpstreamMetrics};

/// A name with more addresses than this is a mistake, or an attack.
const MOST_MEMBERS: usize = 1024;

pub struct Pool {
    pub name: Arc<str>,
    plan: UpstreamPlan,
    members: ArcSwap<Vec<Arc<Peer>>>,
    /// The name whose addresses are the members.
    dns: Option<String>,
    template: Arc<Template>,
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
            template,
            layout: ArcSwap::from_pointee(Layout::new(Vec::new(), &plan.balance)),
            chooser: Chooser::new(plan.balance.clone()),
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

    /// The name whose addresses are the peers.
    pub fn dns(&self) -> Option<&str> {
        self.dns.as_deref()
    }

    /// Requests at the pool now.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
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

    /// The pool's name has these addresses from now on; none of them changes nothing. A peer whose address stays
    /// keeps what is known of it, and requests that are at a peer that went may end there.
    pub fn found(&self, addresses: impl IntoIterator<Item = SocketAddr>) {
        let mut addresses: Vec<SocketAddr> = addresses.into_iter().take(MOST_MEMBERS).collect();
        addresses.sort_unstable();
        addresses.dedup();
        if addresses.is_empty() {
            return;
        }
        let alone = self.alone();
        let old = self.members.load();
        let member = |address: SocketAddr| {
            let text = address.to_string();
            let known = old.iter().find(|peer| peer.address() == text).cloned();
            known.unwrap_or_else(|| Arc::new(Peer::new(&text, 1, self.template.clone())))
        };
        let new: Vec<Arc<Peer>> = addresses.into_iter().map(member).collect();
        let same = |(a, b): (&Arc<Peer>, &Arc<Peer>)| Arc::ptr_eq(a, b);
        if old.len() == new.len() && old.iter().zip(&new).all(same) {
            return;
        }
        log::info!("upstream {}: {} peers", self.name, new.len());
        self.members.store(Arc::new(new));
        self.arrange(&alone, self.clock.monotonic());
    }

    fn alone(&self) -> MutexGuard<'_, ()> {
        self.arranging
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Lays out the peers that may be chosen.
    fn arrange(&self, _alone: &MutexGuard<'_, ()>, now: Duration) {
        let members = self.members.load();
        let mut counts = [0; 3];
        let mut usable = Vec::with_capacity(members.len());
        let mut due = u64::MAX;
        for peer in members.iter() {
            let state = peer.state(now);
            counts[state as usize] += 1;
            if state == State::Healthy {
                usable.push(peer.clone());
            }
            if let Some(until) = peer.standing.ejected_until(now) {
                due = due.min(until);
            }
        }
        self.metrics.peers(counts);
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

    /// Leaves a peer out, unless more than half of the pool were then out: when that many fail, it is not their fault
    /// alone, and those that are left would be overrun.
    fn eject(&self, peer: &Peer, outlier: &OutlierPlan, now: Duration) {
        let alone = self.alone();
        let members = self.members.load();
        let healthy = |peer: &&Arc<Peer>| peer.state(now) == State::Healthy;
        let out = members.len() - members.iter().filter(healthy).count();
        if peer.state(now) != State::Healthy || (out + 1) * 2 > members.len() {
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
            for peer in self.peers().iter() {
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
        let members = self.members.load();
        if let (Some(name), true) = (&self.dns, members.is_empty()) {
            return Err(format!("no address of {name} is known yet"));
        }
        let now = self.clock.monotonic();
        let count = |state| members.iter().filter(|p| p.state(now) == state).count();
        Err(format!(
            "no peer is healthy: {} unhealthy, {} ejected",
            count(State::Unhealthy),
            count(State::Ejected)
        ))
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
