//! How much of its share a peer gets that has only just come back, or is new.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::millis;

/// What a peer gets at the beginning, of [`WHOLE`]: with nothing it would never get warm.
const LEAST: u64 = WHOLE / 10;
const WHOLE: u64 = 1 << 16;
/// In place of a moment.
const NEVER: u64 = u64::MAX;

/// Where a peer was when the pool was last laid out.
const NOWHERE: u8 = 0;
const IN: u8 = 1;
const OUT: u8 = 2;

pub(super) struct Warmth {
    place: AtomicU8,
    /// Milliseconds of the monotonic clock: when it came back.
    since: AtomicU64,
    /// What its turns have added up to; one in so many is taken.
    saved: AtomicU32,
}

impl Warmth {
    /// Of a peer that was there when its pool began: all of them are cold then, and nobody takes their load.
    pub(super) fn of_founder() -> Self {
        Warmth {
            place: AtomicU8::new(NOWHERE),
            since: AtomicU64::new(NEVER),
            saved: AtomicU32::new(0),
        }
    }

    /// Of a peer that comes to others.
    pub(super) fn of_newcomer() -> Self {
        let warmth = Self::of_founder();
        warmth.place.store(OUT, Ordering::Relaxed);
        warmth
    }

    /// Whether it may be chosen from now on. Only who lays the pool out calls this.
    pub(super) fn placed(&self, usable: bool, now: Duration) {
        let before = self.place.load(Ordering::Relaxed);
        match (usable, before) {
            (true, OUT) => self.since.store(millis(now), Ordering::Relaxed),
            (false, NOWHERE) => return,
            _ => {}
        }
        self.place
            .store(if usable { IN } else { OUT }, Ordering::Relaxed);
    }

    /// When it has its whole share, if it has not.
    pub(super) fn cold_until(&self, now: Duration, length: Duration) -> Option<u64> {
        let since = self.since.load(Ordering::Relaxed);
        let until = since.saturating_add(millis(length));
        (since != NEVER && millis(now) < until).then_some(until)
    }

    /// Whether it takes this turn. The share grows with time, and the turns that are taken are spread evenly.
    pub(super) fn admits(&self, now: Duration, length: Duration) -> bool {
        let Some(until) = self.cold_until(now, length) else {
            return true;
        };
        let length = millis(length).max(1);
        let gone = length.saturating_sub(until.saturating_sub(millis(now)));
        let share = (gone.saturating_mul(WHOLE) / length).max(LEAST);
        let share = u32::try_from(share).unwrap_or(u32::MAX);
        let saved = self.saved.fetch_add(share, Ordering::Relaxed);
        u64::from(saved) % WHOLE + u64::from(share) >= WHOLE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_secs(30);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(1_000_000 + seconds)
    }

    fn of_a_thousand(warmth: &Warmth, now: Duration) -> usize {
        (0..1000).filter(|_| warmth.admits(now, LENGTH)).count()
    }

    #[test]
    fn the_share_grows_from_a_tenth_to_the_whole() {
        let warmth = Warmth::of_newcomer();
        warmth.placed(true, at(0));
        for (seconds, share) in [(0, 100), (3, 100), (6, 200), (15, 500), (27, 900)] {
            let taken = of_a_thousand(&warmth, at(seconds));
            assert!(taken.abs_diff(share) <= 2, "{taken} after {seconds} s");
        }
        assert_eq!(of_a_thousand(&warmth, at(30)), 1000);
        assert_eq!(warmth.cold_until(at(30), LENGTH), None);
    }

    #[test]
    fn turns_that_are_taken_are_spread() {
        let warmth = Warmth::of_newcomer();
        warmth.placed(true, at(0));
        let taken: Vec<bool> = (0..40).map(|_| warmth.admits(at(15), LENGTH)).collect();
        assert!(taken.windows(2).all(|two| two[0] != two[1]), "{taken:?}");
    }

    #[test]
    fn who_was_there_from_the_beginning_is_not_held_back_until_it_was_away() {
        let warmth = Warmth::of_founder();
        warmth.placed(false, at(0));
        warmth.placed(true, at(1));
        assert!(warmth.admits(at(1), LENGTH), "its name was looked up late");
        warmth.placed(true, at(2));
        warmth.placed(false, at(3));
        warmth.placed(true, at(40));
        assert_eq!(warmth.cold_until(at(41), LENGTH), Some(1_000_070_000));
        warmth.placed(true, at(50));
        assert_eq!(warmth.cold_until(at(51), LENGTH), Some(1_000_070_000));
    }
}
