//! Who is in a pool, and who of them may be chosen.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use super::super::layout::Layout;
use super::super::names::{Answer, Member};
use super::super::peer::Peer;
use super::super::standing::State;
use super::super::warmth::Warmth;
use super::{MOST_MEMBERS, Pool};
use crate::clock::millis;
use crate::config::plan::OutlierPlan;

impl Pool {
    /// A peer's name has these addresses from now on.
    pub(in crate::upstream) fn resolved(&self, peer: &Peer, addresses: &[SocketAddr]) {
        if peer.resolved(addresses) {
            self.arrange(&self.alone(), self.clock.monotonic());
        }
    }

    /// The pool's name has these members from now on; none of them changes nothing. A peer whose address stays keeps
    /// what is known of it, and requests that are at a peer that went may end there.
    pub(in crate::upstream) fn found(&self, answer: &Answer) {
        let alone = self.alone();
        let old = self.members.load();
        let wanted = wanted(answer, &old);
        if wanted.is_empty() {
            return;
        }
        let known: HashMap<&str, &Arc<Peer>> =
            old.iter().map(|peer| (peer.address(), peer)).collect();
        let texts: Vec<String> = wanted.iter().map(|m| m.address.to_string()).collect();
        let mut taken = [false; MOST_MEMBERS];
        for peer in texts.iter().filter_map(|text| known.get(text.as_str())) {
            taken[peer.slot()] = true;
        }
        let mut free = (0..MOST_MEMBERS).filter(|slot| !taken[*slot]);
        let mut changed = old.len() != wanted.len();
        let mut new = Vec::with_capacity(wanted.len());
        for (member, text) in wanted.iter().zip(&texts) {
            let peer = match known.get(text.as_str()) {
                Some(peer) => Arc::clone(peer),
                None => {
                    let warmth = match old.is_empty() {
                        true => Warmth::of_founder(),
                        false => Warmth::of_newcomer(),
                    };
                    let slot = free.next().unwrap_or_default();
                    let build = self.template.clone();
                    Arc::new(Peer::new(text, member.weight, slot, warmth, build))
                }
            };
            changed |= peer.ranked(member.weight, member.priority);
            changed |= old
                .get(new.len())
                .is_none_or(|before| !Arc::ptr_eq(before, &peer));
            new.push(peer);
        }
        if !changed {
            return;
        }
        log::info!("upstream {}: {} peers", self.name, new.len());
        self.members.store(Arc::new(new));
        self.arrange(&alone, self.clock.monotonic());
    }

    pub(super) fn alone(&self) -> MutexGuard<'_, ()> {
        self.arranging
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Lays out the peers that may be chosen.
    pub(super) fn arrange(&self, _alone: &MutexGuard<'_, ()>, now: Duration) {
        let members = self.members.load();
        let mut counts = [0; 3];
        let mut usable = Vec::with_capacity(members.len());
        let mut due = u64::MAX;
        let cold_until = |peer: &Peer| self.cold_until(peer, now);
        for peer in members.iter() {
            let state = peer.state(now);
            counts[state as usize] += 1;
            peer.warmth.placed(state == State::Healthy, now);
            if state == State::Healthy {
                due = due.min(cold_until(peer).unwrap_or(u64::MAX));
                usable.push(peer.clone());
            }
            if let Some(until) = peer.standing.ejected_until(now) {
                due = due.min(until);
            }
        }
        self.metrics.peers(counts);
        let layout = Layout::new(usable, self.balance(), |peer| cold_until(peer).is_some());
        self.layout.store(Arc::new(layout));
        self.due.store(due, Ordering::Release);
    }

    fn cold_until(&self, peer: &Peer, now: Duration) -> Option<u64> {
        peer.warmth.cold_until(now, self.slow_start?)
    }

    /// Whether a peer that can be chosen gets less than its share.
    pub fn is_slow(&self, peer: &Peer, now: Duration) -> bool {
        peer.state(now) == State::Healthy && self.cold_until(peer, now).is_some()
    }

    /// Takes peers back whose ejection is over, and gives those their whole share whose slow start is.
    pub(super) fn take_back(&self, now: Duration) {
        if millis(now) < self.due.load(Ordering::Acquire) {
            return;
        }
        // Who comes second need not wait: the layout that is there is still right for all but one peer.
        if let Ok(alone) = self.arranging.try_lock() {
            self.arrange(&alone, now);
        }
    }

    pub(in crate::upstream) fn refresh(&self) {
        self.take_back(self.clock.monotonic());
    }

    /// Leaves a peer out, unless more than half of the pool were then out: when that many fail, it is not their fault
    /// alone, and those that are left would be overrun.
    pub(super) fn eject(&self, peer: &Peer, outlier: &OutlierPlan, now: Duration) {
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

    /// # Errors
    /// Why no request can be sent, in one sentence.
    pub fn readiness(&self) -> Result<(), String> {
        self.refresh();
        if self.layout.load().peers().next().is_some() {
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

/// What an answer says, and of what it does not answer, what was there: each address once, the first to go first.
fn wanted(answer: &Answer, old: &[Arc<Peer>]) -> Vec<Member> {
    let mut wanted = answer.members.clone();
    for peer in old {
        let Ok(address) = peer.address().parse::<SocketAddr>() else {
            continue;
        };
        let unanswered = match address {
            SocketAddr::V4(_) => answer.unanswered.v4,
            SocketAddr::V6(_) => answer.unanswered.v6,
        };
        if unanswered && !answer.members.iter().any(|known| known.address == address) {
            wanted.push(Member {
                address,
                weight: peer.weight(),
                priority: peer.priority(),
            });
        }
    }
    wanted.sort_unstable_by_key(|member| member.address);
    wanted.dedup_by(|again, first| {
        let same = again.address == first.address;
        if same {
            first.weight = first.weight.saturating_add(again.weight);
            first.priority = first.priority.min(again.priority);
        }
        same
    });
    wanted.sort_by_key(|member| member.priority);
    wanted.truncate(MOST_MEMBERS);
    wanted
}
