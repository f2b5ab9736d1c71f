//! How much trying again a pool may cost: a share of its requests, and a pause before each.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::config::plan::RetryPlan;

/// Tokens are counted in hundredths, so that a percentage of a request is a whole number.
const ONE: u64 = 100;
/// What is saved up in good times, and what a pool begins with: so much may be tried again in a row.
const MOST: u64 = 10 * ONE;

/// Each request brings a part of a token, each second attempt takes a whole one. So a pool whose every request fails
/// sees its load grow by that part and no more.
pub(super) struct Budget {
    share: u64,
    tokens: AtomicU64,
}

impl Budget {
    pub(super) fn new(percent: u8) -> Self {
        Budget {
            share: u64::from(percent),
            tokens: AtomicU64::new(MOST),
        }
    }

    pub(super) fn earn(&self) {
        // Mostly it is full, and requests need not fight for the line.
        let tokens = self.tokens.load(Ordering::Relaxed);
        if tokens < MOST {
            self.tokens.fetch_add(self.share, Ordering::Relaxed);
        }
    }

    pub(super) fn spend(&self) -> bool {
        let less = |tokens: u64| tokens.checked_sub(ONE);
        self.tokens
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
            .is_ok()
    }
}

/// The pause before attempt number `next`, the first being 1: doubled from attempt to attempt, and of that a random
/// part, at least half, so that requests that failed together do not come back together.
pub(super) fn pause(plan: &RetryPlan, next: usize) -> Duration {
    let doublings = u32::try_from(next.saturating_sub(2)).unwrap_or(u32::MAX);
    let full = plan
        .first
        .saturating_mul(2u32.saturating_pow(doublings))
        .min(plan.max);
    full.mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::RetryOn;

    #[test]
    fn a_pool_that_fails_altogether_is_asked_a_fifth_more_and_no_more() {
        let budget = Budget::new(20);
        let again = |requests: usize| {
            (0..requests)
                .filter(|_| {
                    budget.earn();
                    budget.spend()
                })
                .count()
        };
        // What was saved up goes first, while each request still brings its part.
        let first = again(100);
        assert!((29..=30).contains(&first), "{first}");
        assert_eq!(again(1000), 200);
    }

    #[test]
    fn no_more_is_saved_up_than_ten() {
        let budget = Budget::new(100);
        for _ in 0..1000 {
            budget.earn();
        }
        assert_eq!((0..50).filter(|_| budget.spend()).count(), 10);
    }

    #[test]
    fn threads_spend_no_token_twice() {
        let budget = Budget::new(1);
        let spent = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..100).filter(|_| budget.spend()).count()))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().expect("no panic"))
                .sum::<usize>()
        });
        assert_eq!(spent, 10);
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_are_never_the_same() {
        let plan = RetryPlan {
            attempts: 5,
            when: RetryOn::default(),
            budget: 20,
            first: Duration::from_millis(25),
            max: Duration::from_millis(70),
        };
        for (next, full) in [(2, 25), (3, 50), (4, 70), (5, 70), (usize::MAX, 70)] {
            let full = Duration::from_millis(full);
            let pauses: Vec<Duration> = (0..50).map(|_| pause(&plan, next)).collect();
            assert!(
                pauses.iter().all(|p| *p >= full / 2 && *p <= full),
                "{next}"
            );
            assert!(pauses.iter().any(|p| *p != pauses[0]));
        }
    }
}
