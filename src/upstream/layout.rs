//! The peers that may be chosen, laid out so that a choice costs the same among two and among five hundred. This is the
//! slow part, and done only when the peers change.

use std::sync::Arc;

use super::peer::Peer;
use super::ring::Ring;
use super::vacancies::{BITS, Vacancies};
use crate::config::plan::Balance;

/// How many turns a layout may have, so that odd weights of many peers stay small. Greater weights are scaled down.
const MOST_TURNS: u64 = 16 * 1024;
/// How many steps laying the turns out may take: turns times peers.
const MOST_STEPS: u64 = 4 * 1024 * 1024;

/// The peers that may be chosen now, those that go first in the first tier.
pub(super) struct Layout {
    tiers: Vec<Tier>,
}

/// Peers of one priority.
pub(super) struct Tier {
    peers: Vec<Arc<Peer>>,
    /// Indices of peers, each as often as its weight, spread evenly.
    turns: Vec<u16>,
    /// Empty unless the pool hashes.
    ring: Ring,
    /// Some of the peers, and not all of them, get less than their share for a while.
    pub(super) warming: bool,
    room: Option<Room>,
}

/// How a peer with room is found when most have none.
struct Room {
    vacancies: Arc<Vacancies>,
    /// Bits of the tier's peers.
    mask: Vec<u64>,
    /// Index of the peer that has a slot.
    at: Vec<u16>,
}

impl Layout {
    pub(super) fn new(
        mut peers: Vec<Arc<Peer>>,
        balance: &Balance,
        is_warm: impl Fn(&Peer) -> bool,
    ) -> Self {
        peers.retain(|peer| peer.weight() > 0);
        // Stable: peers stay in their order within a tier.
        peers.sort_by_key(|peer| peer.priority());
        let tiers = peers.chunk_by(|a, b| a.priority() == b.priority());
        Layout {
            tiers: tiers
                .map(|peers| Tier::new(peers.to_vec(), balance, &is_warm))
                .collect(),
        }
    }

    pub(super) fn tiers(&self) -> &[Tier] {
        &self.tiers
    }

    pub(super) fn peers(&self) -> impl Iterator<Item = &Arc<Peer>> {
        self.tiers.iter().flat_map(|tier| &tier.peers)
    }
}

impl Tier {
    fn new(peers: Vec<Arc<Peer>>, balance: &Balance, is_warm: impl Fn(&Peer) -> bool) -> Self {
        let weights: Vec<u32> = peers.iter().map(|peer| peer.weight()).collect();
        let ring = match balance {
            Balance::Hash(_) => Ring::new(&peers),
            Balance::RoundRobin | Balance::LeastRequest | Balance::Random => Ring::default(),
        };
        let cold = peers.iter().filter(|peer| !is_warm(peer)).count();
        Tier {
            turns: spread(&weights),
            ring,
            // Where all are new there is nobody to take their load.
            warming: cold > 0 && cold < peers.len(),
            room: peers
                .first()
                .and_then(|peer| Some(Room::new(&peers, peer.vacancies()?))),
            peers,
        }
    }

    pub(super) fn turns(&self) -> usize {
        self.turns.len()
    }

    /// Whose turn this is, counted round and round.
    pub(super) fn at(&self, turn: usize) -> Option<&Arc<Peer>> {
        let turn = turn.checked_rem(self.turns.len())?;
        self.peers.get(usize::from(*self.turns.get(turn)?))
    }

    /// The peers at and after a place of the ring, each as often as it has a place.
    pub(super) fn around(&self, place: u64) -> impl Iterator<Item = &Arc<Peer>> {
        let indices = self.ring.around(place);
        indices.filter_map(|index| self.peers.get(usize::from(index)))
    }

    /// Anybody who is not to be skipped, and has room. Weights do not count here: this is for when turns led nowhere.
    pub(super) fn anyone(&self, skip: impl Fn(&Peer) -> bool) -> Option<&Arc<Peer>> {
        match &self.room {
            Some(room) => room.anyone(&self.peers, skip),
            None => {
                let (before, after) = self
                    .peers
                    .split_at_checked(fastrand::usize(..self.peers.len().max(1)))?;
                after.iter().chain(before).find(|peer| !skip(peer))
            }
        }
    }

    #[cfg(test)]
    pub(super) fn places(&self) -> usize {
        self.ring.len()
    }
}

impl Room {
    fn new(peers: &[Arc<Peer>], vacancies: &Arc<Vacancies>) -> Self {
        let mut room = Room {
            mask: vec![0; vacancies.words()],
            at: vec![0; vacancies.words() * BITS],
            vacancies: vacancies.clone(),
        };
        for (index, peer) in peers.iter().enumerate() {
            let slot = peer.slot();
            if let (Some(mask), Some(at)) = (room.mask.get_mut(slot / BITS), room.at.get_mut(slot))
            {
                *mask |= 1 << (slot % BITS);
                *at = u16::try_from(index).unwrap_or_default();
            }
        }
        room
    }

    /// Looks at a word for each 64 peers, so five hundred cost eight loads.
    fn anyone<'p>(
        &self,
        peers: &'p [Arc<Peer>],
        skip: impl Fn(&Peer) -> bool,
    ) -> Option<&'p Arc<Peer>> {
        let words = self.mask.len();
        let (start, turn) = (fastrand::usize(..words.max(1)), fastrand::u32(..64));
        for word in (0..words).map(|step| (start + step) % words) {
            let mut free = (self.vacancies.word(word) & self.mask[word]).rotate_right(turn);
            while free != 0 {
                let bit = free.trailing_zeros();
                free &= free - 1;
                let slot = word * BITS + (bit + turn) as usize % BITS;
                let peer = peers.get(usize::from(*self.at.get(slot)?))?;
                if !skip(peer) {
                    return Some(peer);
                }
            }
        }
        None
    }
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
mod tests {
    use super::*;

    #[test]
    fn heavy_weights_are_scaled_down_and_nobody_is_lost() {
        let weights: Vec<u32> = (1..=500)
            .map(|index| 501 - index)
            .chain([1000, 1])
            .collect();
        let scaled = bounded(&weights);
        let total: u64 = scaled.iter().map(|weight| u64::from(*weight)).sum();
        assert!(total <= MOST_TURNS + 502, "{total}");
        assert!(scaled.iter().all(|weight| *weight > 0));
        assert!(scaled[500] > scaled[0] && scaled[0] > scaled[400]);
        assert_eq!(bounded(&[1000, 500]), [2, 1]);
        assert_eq!(bounded(&[0, 3]), [0, 1]);
    }
}
