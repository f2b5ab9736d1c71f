//! The only place that reads the time of day, so that every test of expiry can move it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Wall clock for what tokens say (`exp`, `nbf`), monotonic clock for our own intervals.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System { started: Instant },
    Manual(Arc<AtomicU64>),
}

impl Clock {
    pub fn system() -> Self {
        Clock(Source::System {
            started: Instant::now(),
        })
    }

    /// A clock that stands still until [`Clock::advance`]; starts at `unix` seconds.
    pub fn manual(unix: u64) -> Self {
        Clock(Source::Manual(Arc::new(AtomicU64::new(unix * 1000))))
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
            Source::Manual(millis) => millis.load(Ordering::Relaxed),
        }
    }

    /// Time since some fixed moment; never goes back.
    pub fn monotonic(&self) -> Duration {
        match &self.0 {
            Source::System { started } => started.elapsed(),
            Source::Manual(millis) => Duration::from_millis(millis.load(Ordering::Relaxed)),
        }
    }

    /// Moves a manual clock. A system clock moves by itself and ignores this.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(millis) = &self.0 {
            let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
            millis.fetch_add(by, Ordering::Relaxed);
        }
    }
}
