//! What is known of one peer's health: by asking it, and by how real requests fared. Atomics only; the pool decides.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::millis;
use crate::config::plan::HealthPlan;

/// However often a peer was left out, it is tried again after this, or after `eject` if that is longer.
const LONGEST: Duration = Duration::from_secs(300);

/// The values of the metric label `state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Healthy,
    /// Does not answer health checks, or its name is not known.
    Unhealthy,
    /// Left out for a while, because requests to it failed.
    Ejected,
}

#[derive(Debug, Default)]
pub(super) struct Standing {
    /// What the checks say.
    ill: AtomicBool,
    /// Checks in a row that said the opposite.
    against: AtomicU32,
    /// Requests in a row that failed.
    failures: AtomicU32,
    /// Milliseconds of the monotonic clock: the end of the last ejection, also when it is over.
    ejected_until: AtomicU64,
    /// How often it was ejected, less what good times have made up for.
    ejections: AtomicU32,
}

impl State {
    pub fn label(self) -> &'static str {
        match self {
            State::Healthy => "healthy",
            State::Unhealthy => "unhealthy",
            State::Ejected => "ejected",
        }
    }
}

impl Standing {
    pub(super) fn state(&self, now: Duration) -> State {
        if self.ill.load(Ordering::Relaxed) {
            State::Unhealthy
        } else if self.ejected_until(now).is_some() {
            State::Ejected
        } else {
            State::Healthy
        }
    }

    pub(super) fn is_well(&self) -> bool {
        !self.ill.load(Ordering::Relaxed)
    }

    /// When the ejection ends that is on now.
    pub(super) fn ejected_until(&self, now: Duration) -> Option<u64> {
        let until = self.ejected_until.load(Ordering::Relaxed);
        (millis(now) < until).then_some(until)
    }

    /// One check's result; true if it has changed the state. Only the pool's one checker calls this.
    pub(super) fn checked(&self, well: bool, plan: &HealthPlan) -> bool {
        if self.ill.load(Ordering::Relaxed) != well {
            self.against.store(0, Ordering::Relaxed);
            return false;
        }
        let needed = if well { plan.healthy } else { plan.unhealthy };
        if self.against.fetch_add(1, Ordering::Relaxed) + 1 < needed {
            return false;
        }
        self.against.store(0, Ordering::Relaxed);
        self.ill.store(!well, Ordering::Relaxed);
        true
    }

    pub(super) fn succeeded(&self) {
        // Most requests succeed: they share the line and do not fight for it.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// True for each so many failures in a row. What began before an ejection does not count while it lasts.
    pub(super) fn failed(&self, limit: u32, now: Duration) -> bool {
        if self.ejected_until(now).is_some() {
            return false;
        }
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        failures.is_multiple_of(limit)
    }

    /// Leaves the peer out: `eject` the first time, twice that the second time, and so on. Each `eject` that it has
    /// since been in use takes one time off. The caller has made sure that nobody else does this now.
    pub(super) fn eject(&self, eject: Duration, now: Duration) -> Duration {
        let unit = millis(eject).max(1);
        let used = millis(now).saturating_sub(self.ejected_until.load(Ordering::Relaxed));
        let before = u64::from(self.ejections.load(Ordering::Relaxed));
        let times = before.saturating_sub(used / unit) + 1;
        let length = unit.saturating_mul(times).min(millis(LONGEST).max(unit));
        self.ejections
            .store(u32::try_from(times).unwrap_or(u32::MAX), Ordering::Relaxed);
        self.ejected_until
            .store(millis(now).saturating_add(length), Ordering::Relaxed);
        self.failures.store(0, Ordering::Relaxed);
        Duration::from_millis(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::CheckPlan;

    const PLAN: HealthPlan = HealthPlan {
        check: CheckPlan::Tcp,
        port: None,
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(1),
        healthy: 2,
        unhealthy: 3,
    };

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(1_000_000 + seconds)
    }

    #[test]
    fn checks_in_a_row_decide() {
        let standing = Standing::default();
        let told = |results: &[bool]| {
            results
                .iter()
                .map(|well| {
                    let changed = standing.checked(*well, &PLAN);
                    (changed, standing.state(at(0)))
                })
                .collect::<Vec<_>>()
        };
        let healthy = (false, State::Healthy);
        let ill = (false, State::Unhealthy);
        assert_eq!(
            told(&[false, false, true, false, false]),
            [healthy; 5],
            "a good answer in between starts the count again"
        );
        assert_eq!(told(&[false]), [(true, State::Unhealthy)]);
        assert_eq!(told(&[false, true, false, true]), [ill; 4]);
        assert_eq!(told(&[true]), [(true, State::Healthy)]);
        assert_eq!(told(&[true]), [healthy]);
    }

    #[test]
    fn failures_in_a_row_count_and_a_success_forgives() {
        let standing = Standing::default();
        let fail = || standing.failed(3, at(0));
        assert_eq!([fail(), fail()], [false, false]);
        standing.succeeded();
        assert_eq!([fail(), fail(), fail()], [false, false, true]);
        assert_eq!(
            [fail(), fail(), fail()],
            [false, false, true],
            "who could not be left out is looked at again"
        );
    }

    #[test]
    fn each_ejection_is_longer_and_time_in_use_makes_up_for_it() {
        let standing = Standing::default();
        let ten = Duration::from_secs(10);
        let eject = |seconds| standing.eject(ten, at(seconds)).as_secs();
        assert_eq!(eject(0), 10);
        assert_eq!(standing.state(at(9)), State::Ejected);
        assert!(!standing.failed(1, at(9)), "it was asked before");
        assert_eq!(standing.state(at(10)), State::Healthy);
        assert_eq!(eject(11), 20);
        assert_eq!(eject(32), 30);
        // In use from 62 to 85: two periods of good conduct.
        assert_eq!(eject(85), 20);
        assert_eq!(eject(1000), 10);
        for round in 0..100 {
            let start = 2000 + round * 301;
            assert!(eject(start) <= 300);
            assert_eq!(standing.state(at(start + 300)), State::Healthy);
        }
        assert_eq!(Standing::default().eject(LONGEST * 2, at(0)), LONGEST * 2);
    }
}
