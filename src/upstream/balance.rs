//! Which peer is next. What is slow, laying the peers out, is done when they change; a choice costs the same among
//! two and among five hundred.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::peer::Peer;
use crate::config::plan::Balance;

/// How many turns a layout may have, so that odd weights of many peers stay small. Greater weights are scaled down.
const MOST_TURNS: u64 = 16 * 1024;
/// How many steps laying the turns out may take: turns times peers.
const MOST_STEPS: u64 = 4 * 1024 * 1024;
/// Places on the ring for each unit of weight: the shares of equal peers then differ by some tenth.
const PLACES: u64 = 128;
const MOST_PLACES: u64 = 64 * 1024;
/// How far the second candidate of a least-request choice is looked for.
const LOOK_AHEAD: usize = 8;

/// The peers that may be chosen now.
pub(super) struct Layout {
    peers: Vec<Arc<Peer>>,
    /// Indices of peers, each as often as its weight, spread evenly.
    turns: Vec<u16>,
    /// Places and indices of peers, in the order of the places. Empty unless the pool hashes.
    ring: Vec<(u64, u16)>,
}

/// A pool's way to choose, and what it remembers from one choice to the next.
pub(super) struct Chooser {
    balance: Balance,
    next: AtomicUsize,
}

impl Layout {
    pub(super) fn new(peers: Vec<Arc<Peer>>, balance: &Balance) -> Self {
        let weights: Vec<u32> = peers.iter().map(|peer| peer.weight()).collect();
        let ring = match balance {
            Balance::Hash(_) => ring(&peers),
            Balance::RoundRobin | Balance::LeastRequest | Balance::Random => Vec::new(),
        };
        Layout {
            turns: spread(&weights),
            ring,
            peers,
        }
    }

    pub(super) fn peers(&self) -> &[Arc<Peer>] {
        &self.peers
    }
}

impl Chooser {
    pub(super) fn new(balance: Balance) -> Self {
        Chooser {
            balance,
            next: AtomicUsize::new(0),
        }
    }

    pub(super) fn balance(&self) -> &Balance {
        &self.balance
    }

    /// A peer that is not to be skipped. `key` is what a pool that hashes goes by; `again` is true for all attempts
    /// of a request but its first.
    pub(super) fn choose<'a>(
        &self,
        layout: &'a Layout,
        key: u64,
        again: bool,
        skip: impl Fn(&Peer) -> bool,
    ) -> Option<&'a Arc<Peer>> {
        let turns = layout.turns.len();
        if turns == 0 {
            return None;
        }
        let from = |start: usize| {
            let slots = (0..turns).map(move |step| start.wrapping_add(step) % turns);
            slots.map(|slot| (slot, &layout.peers[usize::from(layout.turns[slot])]))
        };
        let first = |start| from(start).find(|(_, peer)| !skip(peer));
        match self.balance {
            // A second attempt takes no turn of its own: with two peers, one dead, every request would meet the dead
            // one.
            Balance::RoundRobin if again => first(self.next.load(Ordering::Relaxed)),
            Balance::RoundRobin => first(self.next.fetch_add(1, Ordering::Relaxed)),
            Balance::Random => first(fastrand::usize(..turns)),
            Balance::LeastRequest => {
                let (slot, one) = first(fastrand::usize(..turns))?;
                let start = match turns {
                    1 => slot,
                    _ => slot + 1 + fastrand::usize(..turns - 1),
                };
                let other = from(start)
                    .take(LOOK_AHEAD)
                    .find(|(_, peer)| !skip(peer) && !Arc::ptr_eq(peer, one));
                return Some(match other {
                    Some((_, other)) if other.less_loaded_than(one) => other,
                    _ => one,
                });
            }
            Balance::Hash(_) => return on_ring(layout, key, skip),
        }
        .map(|(_, peer)| peer)
    }
}

/// The first peer at or after the key's place.
fn on_ring(layout: &Layout, key: u64, skip: impl Fn(&Peer) -> bool) -> Option<&Arc<Peer>> {
    let ring = &layout.ring;
    let start = ring.partition_point(|(place, _)| *place < key);
    let (before, after) = ring.split_at_checked(start)?;
    let peers = after.iter().chain(before);
    peers
        .map(|(_, index)| &layout.peers[usize::from(*index)])
        .find(|peer| !skip(peer))
}

/// Each peer's places follow from its address alone, so that a peer that leaves takes only its own share along, and
/// replicas with one file agree.
fn ring(peers: &[Arc<Peer>]) -> Vec<(u64, u16)> {
    let total: u64 = peers.iter().map(|peer| u64::from(peer.weight())).sum();
    let each = PLACES.min((MOST_PLACES / total.max(1)).max(1));
    let mut ring: Vec<(u64, u16)> = Vec::new();
    for (index, peer) in peers.iter().enumerate() {
        let index = u16::try_from(index).unwrap_or_default();
        for place in 0..each * u64::from(peer.weight()) {
            ring.push((place_of(&(peer.address(), place)), index));
        }
    }
    ring.sort_unstable();
    ring
}

/// Without a secret: whoever chooses the key chooses the peer, which is what a hash is for.
pub(super) fn place_of(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// Smooth weighted round robin, laid out once: `[2, 1]` becomes `0 1 0`, not `0 0 1`.
fn spread(weights: &[u32]) -> Vec<u16> {
    let weights: Vec<i64> = bounded(weights).into_iter().map(i64::from).collect();
    let total: i64 = weights.iter().sum();
    let mut credit = vec![0i64; weights.len()];
    let mut turns = Vec::new();
    for _ in 0..total {
        for (credit, weight) in credit.iter_mut().zip(&weights) {
            *credit += weight;
        }
        let richest = (0..credit.len())
            .rev()
            .max_by_key(|index| credit[*index])
            .unwrap_or_default();
        credit[richest] -= total;
        turns.push(u16::try_from(richest).unwrap_or_default());
    }
    turns
}

/// The same shares in numbers as small as may be.
fn bounded(weights: &[u32]) -> Vec<u32> {
    let divisor = weights.iter().copied().fold(0, gcd).max(1);
    let total: u64 = weights.iter().map(|w| u64::from(w / divisor)).sum();
    let peers = weights.len().max(1) as u64;
    let most = MOST_TURNS.min(MOST_STEPS / peers).max(peers);
    let scaled = |weight: &u32| {
        let weight = u64::from(weight / divisor);
        let smaller = match total > most {
            // A peer with any weight keeps a turn.
            true => (weight * most / total).max(weight.min(1)),
            false => weight,
        };
        u32::try_from(smaller).unwrap_or(u32::MAX)
    };
    weights.iter().map(scaled).collect()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests;
