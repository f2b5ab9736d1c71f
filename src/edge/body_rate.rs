//! The slowest upload we wait for.

use std::time::Duration;

/// A body may begin as slowly as it likes for this long.
const GRACE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooSlow;

/// Watches one request body. It measures what we took, so a slow upstream counts against the sender as well: we cannot
/// tell the two apart from here, and either way the request is stuck.
#[derive(Debug, Clone)]
pub struct BodyRate {
    /// Bytes a second; 0 is off.
    min_rate: u64,
    began: Option<Duration>,
    bytes: u64,
}

impl BodyRate {
    pub fn new(min_rate: u64) -> Self {
        BodyRate {
            min_rate,
            began: None,
            bytes: 0,
        }
    }

    /// Counts a piece that has arrived at `now` (monotonic); the first call starts the clock. Do not ask about the last
    /// piece: a body that is complete was fast enough.
    pub fn feed(&mut self, now: Duration, bytes: usize) -> Result<(), TooSlow> {
        if self.min_rate == 0 {
            return Ok(());
        }
        self.bytes = self.bytes.saturating_add(bytes as u64);
        let took = now.saturating_sub(*self.began.get_or_insert(now));
        let wanted = u128::from(self.min_rate) * took.as_millis() / 1000;
        if took > GRACE && u128::from(self.bytes) < wanted {
            return Err(TooSlow);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn a_slow_start_is_forgiven_until_the_grace_is_over() {
        let mut rate = BodyRate::new(1024);
        assert_eq!(rate.feed(seconds(100), 1), Ok(()));
        assert_eq!(rate.feed(seconds(110), 1), Ok(()));
        assert_eq!(rate.feed(seconds(111), 1), Err(TooSlow));
    }

    #[test]
    fn the_average_counts_not_the_moment() {
        let mut rate = BodyRate::new(1024);
        assert_eq!(rate.feed(seconds(0), 100 * 1024), Ok(()));
        assert_eq!(rate.feed(seconds(99), 1), Ok(()));
        assert_eq!(rate.feed(seconds(101), 1), Err(TooSlow));
    }

    #[test]
    fn exactly_the_minimum_passes() {
        let mut rate = BodyRate::new(1000);
        assert_eq!(rate.feed(seconds(0), 0), Ok(()));
        for s in 1..60 {
            assert_eq!(rate.feed(seconds(s), 1000), Ok(()), "second {s}");
        }
    }

    #[test]
    fn zero_is_off() {
        let mut rate = BodyRate::new(0);
        assert_eq!(rate.feed(seconds(0), 0), Ok(()));
        assert_eq!(rate.feed(seconds(1_000_000), 0), Ok(()));
    }
}
