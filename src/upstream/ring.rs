//! The ring of consistent hashing. Looking something up costs the same on a ring of any size.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::peer::Peer;

/// Places on the ring for each unit of weight: the shares of equal peers then differ by some tenth.
const PLACES: u64 = 128;
/// So that a ring of many peers stays in the processor's cache; five hundred have half as many places each.
const MOST_PLACES: u64 = 32 * 1024;

#[derive(Default)]
pub(super) struct Ring {
    /// Places and indices of peers, in the order of the places. Half of a hash is enough to tell them apart, and fits
    /// the processor's cache.
    places: Vec<(u32, u16)>,
    /// Where each of as many equal parts of the circle begins in `places`, and how far a place is shifted to be a part.
    /// Places are spread evenly, so a part has about one, and no search is needed.
    parts: Vec<u32>,
    shift: u32,
}

impl Ring {
    /// Each peer's places follow from its address alone, so that a peer that leaves takes only its own share along, and
    /// replicas with one file agree.
    pub(super) fn new(peers: &[Arc<Peer>]) -> Self {
        let total: u64 = peers.iter().map(|peer| u64::from(peer.weight())).sum();
        let each = PLACES.min((MOST_PLACES / total.max(1)).max(1));
        let mut places: Vec<(u32, u16)> = Vec::new();
        for (index, peer) in peers.iter().enumerate() {
            let index = u16::try_from(index).unwrap_or_default();
            for place in 0..each * u64::from(peer.weight()) {
                places.push((half(place_of(&(peer.address(), place))), index));
            }
        }
        Self::of(places)
    }

    fn of(mut places: Vec<(u32, u16)>) -> Self {
        places.sort_unstable();
        let count = places.len().next_power_of_two();
        let shift = u32::BITS - count.trailing_zeros();
        let mut ring = Ring {
            places,
            parts: Vec::with_capacity(count),
            shift,
        };
        let mut at = 0;
        for part in 0..count {
            while ring
                .places
                .get(at)
                .is_some_and(|(place, _)| ring.part(*place) < part)
            {
                at += 1;
            }
            ring.parts.push(u32::try_from(at).unwrap_or_default());
        }
        ring
    }

    fn part(&self, place: u32) -> usize {
        // A ring of one part is shifted by all there is.
        place.checked_shr(self.shift).unwrap_or(0) as usize
    }

    /// The peers at and after a place, each as often as it has a place.
    pub(super) fn around(&self, place: u64) -> impl Iterator<Item = u16> {
        let place = half(place);
        let start = self.parts.get(self.part(place)).copied();
        let mut start = start.unwrap_or_default() as usize;
        while self
            .places
            .get(start)
            .is_some_and(|(other, _)| *other < place)
        {
            start += 1;
        }
        let (before, after) = self.places.split_at(start);
        after.iter().chain(before).map(|(_, index)| *index)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }
}

fn half(place: u64) -> u32 {
    (place >> u32::BITS) as u32
}

/// Without a secret: whoever chooses the key chooses the peer, which is what a hash is for.
pub(super) fn place_of(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_leads_to_the_next_one_on_a_ring_of_any_size() {
        for size in [0, 1, 2, 3, 5, 256, 1000, 64_000] {
            let places = (0..size).map(|n: u32| (half(place_of(&n)), (n % 60_000) as u16));
            let ring = Ring::of(places.collect());
            let asked = (0..2000u32).map(|n| place_of(&(n, "asked")));
            let met = ring
                .places
                .iter()
                .take(100)
                .map(|(place, _)| u64::from(*place) << 32);
            let edges = [0, 1, u64::MAX, u64::MAX / 2, u64::MAX / 2 + 1];
            for place in asked.chain(met).chain(edges) {
                let next = ring
                    .places
                    .partition_point(|(other, _)| *other < half(place));
                let wanted = ring.places.iter().cycle().skip(next).take(ring.len());
                let around: Vec<u16> = ring.around(place).take(3).collect();
                let wanted: Vec<u16> = wanted.take(3).map(|(_, index)| *index).collect();
                assert_eq!(around, wanted, "{size} places, {place}");
            }
            assert_eq!(ring.around(7).count(), size as usize);
        }
    }
}
