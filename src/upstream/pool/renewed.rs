//! A pool in another plan: what it keeps of itself.

use std::sync::Arc;

use super::{Breaker, Peer, Pool, Template, Warmth};
use crate::clock::Clock;
use crate::config::plan::{UpstreamId, UpstreamPlan};
use crate::observe::metrics::{Metrics, UpstreamMetrics};

impl Pool {
    /// The old one where nothing changed; else a new one, which knows of its peers what the old one knew.
    pub(in crate::upstream) fn renewed(
        id: UpstreamId,
        plan: &UpstreamPlan,
        metrics: &Metrics,
        clock: &Clock,
        old: &Arc<Pool>,
    ) -> Result<Arc<Self>, String> {
        let template = Template::new(plan)?;
        if old.plan == *plan && old.template.trusts_as(&template) {
            return Ok(old.clone());
        }
        let pool = Self::of(plan, template, metrics.upstream(id), clock, Some(old));
        Ok(Arc::new(pool))
    }

    /// Sets the gauges anew: another pool of this name had them.
    pub(in crate::upstream) fn recount(&self) {
        let breaker = self.breaker.as_ref();
        let open = breaker.is_some_and(|breaker| breaker.label() != "closed");
        self.metrics.breaker_open().set(i64::from(open));
        self.arrange(&self.alone(), self.clock.monotonic());
    }
}

pub(super) fn members(
    plan: &UpstreamPlan,
    template: &Arc<Template>,
    old: Option<&Arc<Pool>>,
) -> Vec<Arc<Peer>> {
    let known = old.map(|old| old.peers()).unwrap_or_default();
    let peer = |slot: usize, address: &str, weight: u32| {
        let old = known.iter().find(|peer| peer.address() == address);
        let warmth = match known.is_empty() {
            true => Warmth::of_founder(),
            false => Warmth::of_newcomer(),
        };
        let new = Peer::new(address, weight, slot, warmth, template.clone());
        match old {
            // A peer that is ill stays so until a check finds it well: without checks it would be out for ever.
            Some(old) => new.known_as(old, plan.health.is_some()),
            None => new,
        }
    };
    match &plan.dns {
        // Until the name is looked up again, its last addresses are better than none.
        Some(dns) if old.is_some_and(|old| old.dns() == Some(dns)) => {
            let ranked = |(slot, known): (usize, &Arc<Peer>)| {
                let peer = peer(slot, known.address(), known.weight());
                peer.ranked(known.weight(), known.priority());
                Arc::new(peer)
            };
            known.iter().enumerate().map(ranked).collect()
        }
        _ => {
            let peers = plan.peers.iter().enumerate();
            peers
                .map(|(slot, plan)| Arc::new(peer(slot, &plan.address, plan.weight)))
                .collect()
        }
    }
}

/// The old one, with all that it has seen, where it is the same.
pub(super) fn breaker(
    plan: &UpstreamPlan,
    metrics: &UpstreamMetrics,
    clock: &Clock,
    old: Option<&Arc<Pool>>,
) -> Option<Arc<Breaker>> {
    let rate = plan.rate.clone()?;
    let same = old.filter(|old| old.plan.rate.as_ref() == Some(&rate));
    let kept = same.and_then(|old| old.breaker.clone());
    Some(kept.unwrap_or_else(|| {
        let gauge = metrics.breaker_open().clone();
        Breaker::new(rate, plan.name.clone(), clock.clone(), gauge)
    }))
}
