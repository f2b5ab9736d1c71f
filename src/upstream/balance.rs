//! Which peer is next.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::layout::{Layout, Tier};
use super::peer::Peer;
use crate::config::plan::Balance;

/// How many turns are taken before anybody with room will do: so many peers in a row have failed this request, are
/// full, or are only just back.
const PROBES: usize = 16;
/// How far the second candidate of a least-request choice is looked for.
const LOOK_AHEAD: usize = 8;
/// Places of the ring, of which each peer has many.
const PLACES: usize = 64;

/// A pool's way to choose, and what it remembers from one choice to the next.
pub(super) struct Chooser {
    balance: Balance,
    next: AtomicUsize,
    slow_start: Option<Duration>,
}

/// What a choice depends on.
#[derive(Clone, Copy)]
pub(super) struct Wish {
    /// What a pool that hashes goes by.
    pub(super) key: u64,
    /// True for all attempts of a request but its first.
    pub(super) again: bool,
    pub(super) now: Duration,
}

impl Chooser {
    pub(super) fn new(balance: Balance, slow_start: Option<Duration>) -> Self {
        Chooser {
            balance,
            next: AtomicUsize::new(0),
            slow_start,
        }
    }

    pub(super) fn balance(&self) -> &Balance {
        &self.balance
    }

    /// A peer that is not to be skipped, of the first tier that has one.
    pub(super) fn choose<'l>(
        &self,
        layout: &'l Layout,
        wish: Wish,
        skip: impl Fn(&Peer) -> bool,
    ) -> Option<&'l Arc<Peer>> {
        let mut tiers = layout.tiers().iter();
        tiers.find_map(|tier| {
            self.within(tier, wish, &skip)
                .or_else(|| tier.anyone(&skip))
        })
    }

    fn within<'l>(
        &self,
        tier: &'l Tier,
        wish: Wish,
        skip: impl Fn(&Peer) -> bool,
    ) -> Option<&'l Arc<Peer>> {
        let turns = tier.turns();
        if turns == 0 {
            return None;
        }
        // Who is only just back is passed over now and then. A second attempt has seen trouble enough.
        let gate = self.slow_start.filter(|_| tier.warming && !wish.again);
        let fits = |peer: &&Arc<Peer>| {
            !skip(peer) && gate.is_none_or(|length| peer.warmth.admits(wish.now, length))
        };
        let mut probes = 0..PROBES;
        match self.balance {
            // A second attempt takes no turn of its own: with two peers, one dead, every request would meet the dead
            // one.
            Balance::RoundRobin if wish.again => {
                let start = self.next.load(Ordering::Relaxed);
                let mut turns = probes.filter_map(|step| tier.at(start.wrapping_add(step)));
                turns.find(fits)
            }
            Balance::RoundRobin => probes.find_map(|_| {
                tier.at(self.next.fetch_add(1, Ordering::Relaxed))
                    .filter(fits)
            }),
            Balance::Random => probes.find_map(|_| tier.at(fastrand::usize(..turns)).filter(fits)),
            Balance::LeastRequest => {
                let (turn, one) = probes.find_map(|_| {
                    let turn = fastrand::usize(..turns);
                    Some((turn, tier.at(turn).filter(fits)?))
                })?;
                // Any turn but that one.
                let start = turn + 1 + fastrand::usize(..(turns - 1).max(1));
                let mut others = (start..start + LOOK_AHEAD).filter_map(|turn| tier.at(turn));
                let other = others.find(|peer| !Arc::ptr_eq(peer, one) && fits(peer));
                Some(match other {
                    Some(other) if other.less_loaded_than(one) => other,
                    _ => one,
                })
            }
            Balance::Hash(_) => tier.around(wish.key).take(PLACES).find(fits),
        }
    }
}

#[cfg(test)]
mod tests;
