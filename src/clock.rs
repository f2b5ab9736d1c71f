//! The only place that reads the time of day, so that every test of expiry can move it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A moment or a while in whole milliseconds, for where a [`Duration`] does not fit: atomics, and what there are many of.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Wall clock for what tokens say (`exp`, `nbf`), monotonic clock for our own intervals.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System { started: Instant },
    Manual(Arc<Hands>),
}

/// Milliseconds.
#[derive(Debug)]
struct Hands {
    monotonic: AtomicU64,
    /// What the wall clock is ahead of it.
    ahead: AtomicI64,
}

impl Clock {
    pub fn system() -> Self {
        Clock(Source::System {
            started: Instant::now(),
        })
    }

    /// A clock that stands still until [`Clock::advance`]; starts at `unix` seconds.
    pub fn manual(unix: u64) -> Self {
        Clock(Source::Manual(Arc::new(Hands {
            monotonic: AtomicU64::new(unix * 1000),
            ahead: AtomicI64::new(0),
        })))
    }

    /// Seconds since the Unix epoch.
    pub fn unix(&self) -> u64 {
        self.unix_millis() / 1000
    }

    /// Milliseconds since the Unix epoch.
    pub fn unix_millis(&self) -> u64 {
        match &self.0 {
            #[expect(
                clippy::disallowed_methods,
                reason = "the one reader of the wall clock"
            )]
            Source::System { .. } => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| {
                    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
                }),
            Source::Manual(hands) => {
                let ahead = hands.ahead.load(Ordering::Relaxed);
                let monotonic = hands.monotonic.load(Ordering::Relaxed);
                monotonic.saturating_add_signed(ahead)
            }
        }
    }

    /// Time since some fixed moment; never goes back.
    pub fn monotonic(&self) -> Duration {
        match &self.0 {
            Source::System { started } => started.elapsed(),
            Source::Manual(hands) => Duration::from_millis(hands.monotonic.load(Ordering::Relaxed)),
        }
    }

    /// Lets time pass on a manual clock. A system clock moves by itself and ignores this.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(hands) = &self.0 {
            let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
            hands.monotonic.fetch_add(by, Ordering::Relaxed);
        }
    }

    /// Sets the time of day of a manual clock forward or back, as an administrator does: no interval notices.
    pub fn step(&self, seconds: i64) {
        if let Source::Manual(hands) = &self.0 {
            hands.ahead.fetch_add(seconds * 1000, Ordering::Relaxed);
        }
    }
}
