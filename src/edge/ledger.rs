//! What sources have done to us: how often their connections had to be ended because they flooded us. A source that
//! does it again and again spends nothing but connections, so those are what it is refused, before they cost a
//! handshake.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::time::Instant;

use crate::config::plan::RateLimit;
use crate::limit::{Caller, Limiter, Source};

/// Sources remembered: some 2 MB when full. A source that is forgotten starts with a fresh bucket.
const SOURCES: u64 = 16_384;

pub(super) struct Ledger {
    rule: RateLimit,
    buckets: Limiter,
    began: Instant,
}

impl Ledger {
    /// The one for this rule; `old` if that has the same, with what it knows.
    pub(super) fn of(rule: Option<&RateLimit>, old: Option<&Arc<Self>>) -> Option<Arc<Self>> {
        let rule = rule?;
        let same = old.filter(|old| old.rule == *rule);
        Some(same.cloned().unwrap_or_else(|| {
            Arc::new(Ledger {
                rule: rule.clone(),
                buckets: Limiter::with_keys(rule, SOURCES),
                began: Instant::now(),
            })
        }))
    }

    /// One more connection of this source had to be ended.
    pub(super) fn charge(&self, source: IpAddr) {
        let (caller, now) = (Caller::Source(Source::from(source)), self.began.elapsed());
        let was_open = self.buckets.check(caller, now).is_ok();
        if was_open && self.buckets.would_refuse(caller, now) {
            log::warn!(
                "closing new connections from {source} for a while: too many of its connections flooded us"
            );
        }
    }

    /// Whether new connections of this source are closed for now.
    pub(super) fn is_shut(&self, source: IpAddr) -> bool {
        let caller = Caller::Source(Source::from(source));
        self.buckets.would_refuse(caller, self.began.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::plan::RatePer;

    fn rule(burst: u32) -> RateLimit {
        RateLimit {
            per: RatePer::Source,
            requests: 1,
            every: Duration::from_secs(10),
            burst,
        }
    }

    fn source(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_is_shut_out_until_its_bucket_has_something_again() {
        let ledger = Ledger::of(Some(&rule(2)), None).unwrap();
        let (bad, good) = (source("192.0.2.1"), source("192.0.2.2"));
        ledger.charge(bad);
        assert!(!ledger.is_shut(bad));
        ledger.charge(bad);
        assert!(ledger.is_shut(bad));
        assert!(!ledger.is_shut(good));
        // What its open connections do meanwhile does not make it longer.
        ledger.charge(bad);
        tokio::time::advance(Duration::from_secs(9)).await;
        assert!(ledger.is_shut(bad));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!ledger.is_shut(bad));
        ledger.charge(bad);
        assert!(ledger.is_shut(bad));
    }

    #[test]
    fn a_subscriber_is_one_source() {
        let ledger = Ledger::of(Some(&rule(1)), None).unwrap();
        ledger.charge(source("2001:db8:1:2::1"));
        assert!(ledger.is_shut(source("2001:db8:1:2:ffff::9")));
        assert!(!ledger.is_shut(source("2001:db8:1:3::1")));
        ledger.charge(source("::ffff:192.0.2.1"));
        assert!(ledger.is_shut(source("192.0.2.1")));
    }

    #[test]
    fn a_reload_forgets_nothing_but_by_another_rule() {
        let bad = source("192.0.2.1");
        assert!(Ledger::of(None, None).is_none());
        let ledger = Ledger::of(Some(&rule(1)), None).unwrap();
        ledger.charge(bad);
        let same = Ledger::of(Some(&rule(1)), Some(&ledger)).unwrap();
        assert!(same.is_shut(bad));
        let other = Ledger::of(Some(&rule(2)), Some(&ledger)).unwrap();
        assert!(!other.is_shut(bad));
        assert!(Ledger::of(None, Some(&ledger)).is_none());
    }
}
