//! How often keys are fetched: by ourselves, for an unknown `kid`, and for a signature that does not hold.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::millis;
use crate::config::plan::KeysPlan;

/// The first pause of the background after a failed fetch; doubled with each further one.
const FIRST_RETRY: Duration = Duration::from_millis(250);
/// Its longest pause while no token can be judged: an issuer that is back is served from within five seconds.
const WITHOUT_KEYS: Duration = Duration::from_secs(4);

/// How many cool-downs the pause between fetches of callers grows to while the issuer fails. Not more: a key that is
/// new when the issuer comes back waits that long.
pub(super) const LONGEST: u32 = 4;

/// The time in which an unknown `kid` does not fetch: `keys.cooldown`, and twice as long with each fetch that failed
/// after the first, so that callers cannot keep an issuer down that is down.
#[derive(Default)]
pub(super) struct CoolDown {
    /// When the last fetch for an unknown `kid` began.
    begun: Option<Duration>,
    /// How many of them failed in a row.
    failed: u32,
}

impl CoolDown {
    pub(super) fn is_over(&self, now: Duration, cooldown: Duration) -> bool {
        let doubled = self.failed.saturating_sub(1);
        let times = 1u32.checked_shl(doubled).unwrap_or(u32::MAX).min(LONGEST);
        let pause = cooldown.saturating_mul(times);
        self.begun
            .is_none_or(|begun| now >= begun.saturating_add(pause))
    }

    pub(super) fn begin(&mut self, now: Duration) {
        self.begun = Some(now);
    }

    /// Any fetch that brought keys resets the pause, whoever began it.
    pub(super) fn ended(&mut self, brought: bool, demanded: bool) {
        if brought {
            self.failed = 0;
        } else if demanded {
            self.failed = self.failed.saturating_add(1);
        }
    }
}

/// When the next signature that does not hold may fetch, in milliseconds of the monotonic clock. It is no cool-down of
/// unknown key ids, so that forged tokens cannot start one; and no lock, because forged tokens come here.
#[derive(Default)]
pub(super) struct Floor(AtomicU64);

impl Floor {
    /// Whether it is this caller who fetches; nobody else does for the time of `pause`.
    pub(super) fn pass(&self, now: Duration, pause: Duration) -> bool {
        let open = self.0.load(Ordering::Relaxed);
        if millis(now) < open {
            return false;
        }
        let next = millis(now.saturating_add(pause));
        let won = self
            .0
            .compare_exchange(open, next, Ordering::Relaxed, Ordering::Relaxed);
        won.is_ok()
    }

    pub(super) fn raise(&self, now: Duration, pause: Duration) {
        let next = millis(now.saturating_add(pause));
        self.0.fetch_max(next, Ordering::Relaxed);
    }
}

/// The pause of the background before its next fetch, after this many failures in a row. `good_for` is how long the
/// keys in hand may still be believed.
pub(super) fn pause(plan: &KeysPlan, failures: u32, good_for: Duration) -> Duration {
    // Ahead of time, so that the jitter never makes a set older than `refresh`.
    let ahead = plan.refresh.mul_f64(0.8);
    if failures == 0 {
        return ahead;
    }
    let doubled = FIRST_RETRY.saturating_mul(1u32.checked_shl(failures - 1).unwrap_or(u32::MAX));
    let hurried = plan.cooldown.min(ahead).min(WITHOUT_KEYS);
    // With keys in hand there is no hurry, and an issuer that comes back should not find a crowd. But they must not
    // die while we wait, whatever the jitter.
    let patient = ahead.min(good_for.mul_f64(0.9));
    doubled.min(patient.max(hurried))
}

/// Ten per cent either way, so that replicas do not ask together.
pub(super) fn jittered(pause: Duration) -> Duration {
    let mut byte = [128];
    // Without randomness the pause is merely exact.
    let _ = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut byte);
    pause.mul_f64(0.9 + 0.2 * f64::from(byte[0]) / 255.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn plan(refresh: u32, cooldown: u32) -> KeysPlan {
        KeysPlan {
            refresh: S * refresh,
            cooldown: S * cooldown,
            max_stale: S * 86_400,
            timeout: S * 5,
            snapshot: None,
        }
    }

    #[test]
    fn an_issuer_that_fails_is_asked_more_often_by_who_cannot_judge() {
        let plan = plan(300, 10);
        let first = Duration::from_millis(250);
        let pause = |failures, good_for| pause(&plan, failures, good_for);
        for good_for in [Duration::ZERO, S * 3600] {
            assert_eq!(pause(0, good_for), S * 240);
            assert_eq!(pause(1, good_for), first);
            assert_eq!(pause(3, good_for), S);
        }
        assert_eq!(pause(30, S * 3600), S * 240);
        assert_eq!(pause(100, Duration::ZERO), S * 4);
        // The keys do not die in a pause that was begun while they were good.
        assert_eq!(pause(30, S * 100), S * 90);
        assert_eq!(pause(30, S), S * 4);
        assert_eq!(pause(3, S * 100), S);
    }

    #[test]
    fn short_settings_shorten_the_pause() {
        assert_eq!(pause(&plan(300, 1), 30, Duration::ZERO), S);
        assert_eq!(pause(&plan(1, 10), 30, Duration::ZERO), S.mul_f64(0.8));
    }
}
