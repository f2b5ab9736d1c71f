//! Which peers of a pool have room, when each may have only so many requests: a bit for each. It tells where to look;
//! the peer's own count decides.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::pool::MOST_MEMBERS;
use crate::config::plan::UpstreamPlan;

/// Peers to a word.
pub(super) const BITS: usize = 64;

pub(super) struct Vacancies {
    /// Requests at one peer at the same time.
    most: u32,
    words: Box<[AtomicU64]>,
}

impl Vacancies {
    /// `None`: there is no bound.
    pub(super) fn of(plan: &UpstreamPlan) -> Option<Self> {
        let slots = match plan.dns {
            Some(_) => MOST_MEMBERS,
            None => plan.peers.len(),
        };
        Some(Self::new(plan.max_in_flight_per_peer?, slots))
    }

    fn new(most: u32, slots: usize) -> Self {
        Vacancies {
            most,
            words: (0..slots.div_ceil(BITS))
                .map(|_| AtomicU64::new(u64::MAX))
                .collect(),
        }
    }

    pub(super) fn most(&self) -> u32 {
        self.most
    }

    pub(super) fn words(&self) -> usize {
        self.words.len()
    }

    pub(super) fn word(&self, index: usize) -> u64 {
        self.words
            .get(index)
            .map_or(0, |word| word.load(Ordering::Relaxed))
    }

    /// Counts a request at the peer of this slot; false if it is full.
    pub(super) fn enter(&self, slot: usize, in_flight: &AtomicU32) -> bool {
        let one_more = |count: u32| (count < self.most).then_some(count + 1);
        let entered = in_flight.fetch_update(Ordering::AcqRel, Ordering::Relaxed, one_more);
        if entered.map_or(self.most, |before| before + 1) >= self.most {
            self.mark(slot, |word, bit| word.fetch_and(!bit, Ordering::AcqRel));
            // Somebody may have left between the count and the mark, and nobody else would take the mark back.
            if in_flight.load(Ordering::Acquire) < self.most {
                self.free(slot);
            }
        } else if !self.is_free(slot) {
            // Who left it knew another plan's marks: the count goes on over a reload.
            self.free(slot);
        }
        entered.is_ok()
    }

    pub(super) fn leave(&self, slot: usize, in_flight: &AtomicU32) {
        if in_flight.fetch_sub(1, Ordering::AcqRel) >= self.most {
            self.free(slot);
        }
    }

    fn free(&self, slot: usize) {
        self.mark(slot, |word, bit| word.fetch_or(bit, Ordering::AcqRel));
    }

    fn is_free(&self, slot: usize) -> bool {
        self.word(slot / BITS) & (1 << (slot % BITS)) != 0
    }

    fn mark(&self, slot: usize, change: impl Fn(&AtomicU64, u64) -> u64) {
        if let Some(word) = self.words.get(slot / BITS) {
            change(word, 1 << (slot % BITS));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_marked_while_it_is_full() {
        let (vacancies, count) = (Vacancies::new(2, 70), AtomicU32::new(0));
        assert_eq!(vacancies.words(), 2);
        assert!(vacancies.enter(69, &count) && vacancies.is_free(69));
        assert!(vacancies.enter(69, &count) && !vacancies.is_free(69));
        assert!(!vacancies.enter(69, &count));
        assert!(vacancies.is_free(68), "its neighbour is not");
        vacancies.leave(69, &count);
        assert!(vacancies.is_free(69));
        assert!(vacancies.enter(69, &count));
        assert_eq!(count.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn no_more_than_so_many_get_in_and_nobody_is_forgotten() {
        let (vacancies, count) = (Vacancies::new(3, 1), AtomicU32::new(0));
        let most = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..5000 {
                        if vacancies.enter(0, &count) {
                            most.fetch_max(count.load(Ordering::Relaxed), Ordering::Relaxed);
                            vacancies.leave(0, &count);
                        }
                    }
                });
            }
        });
        assert_eq!(count.load(Ordering::Relaxed), 0);
        assert!(most.load(Ordering::Relaxed) <= 3);
        assert!(vacancies.is_free(0), "and the mark is gone");
    }

    #[test]
    fn who_left_without_a_word_is_noticed() {
        let (vacancies, count) = (Vacancies::new(2, 1), AtomicU32::new(1));
        assert!(vacancies.enter(0, &count) && !vacancies.is_free(0));
        count.store(0, Ordering::Relaxed);
        assert!(vacancies.enter(0, &count) && vacancies.is_free(0));
    }
}
