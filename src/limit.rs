//! How often one client, or one address, may call a route.
//!
//! GCRA: each key is one number, the moment at which its bucket will be full again, moved by compare-and-swap. Memory is
//! bounded: past [`KEYS`] the least useful keys are forgotten, and a forgotten key merely starts with a fresh burst.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, UnitWeighter};

use crate::config::plan::{IssuerId, Plan, RateLimit, RouteId};

/// Keys remembered per route: some 10 MB when full.
pub const KEYS: u64 = 100_000;
/// Room made at first; it grows.
const KEYS_AT_START: usize = 1024;

/// Where a connection comes from, as far as one party can be told from another: an IPv4 address, or an IPv6 /64, which
/// is what one subscriber gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    V4(Ipv4Addr),
    V6Net(u64),
}

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        // An IPv4 client of a dual-stack socket comes as ::ffff:a.b.c.d; all of IPv4 would be one /64.
        match address.to_canonical() {
            IpAddr::V4(v4) => Source::V4(v4),
            IpAddr::V6(v6) => Source::V6Net((v6.to_bits() >> 64) as u64),
        }
    }
}

/// Whose calls are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Caller<'a> {
    /// Two issuers may each have a client of one name.
    Client {
        issuer: IssuerId,
        client: &'a str,
    },
    Source(Source),
}

/// Over the limit; in so many seconds (1 or more) the next call will pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryAfter(pub u32);

/// The limits of all routes.
pub struct Limiters(Vec<Option<Arc<Limiter>>>);

impl Limiters {
    pub fn new(plan: &Plan) -> Self {
        Self::of_each(plan, |_, limit| Arc::new(Limiter::new(limit)))
    }

    /// For another plan: a route whose limit is the same keeps its buckets. `old` is the plan that these are of.
    pub fn renewed(&self, old: &Plan, plan: &Plan) -> Self {
        // A bucket is known by its issuer's place, so that no name has to be hashed.
        let mut issuers = old.issuers.iter().zip(&plan.issuers);
        let same_places = issuers.all(|(old, new)| old.name == new.name);
        let named: HashMap<&str, usize> = old.routes.iter().map(|r| &*r.name).zip(0..).collect();
        Self::of_each(plan, |name, limit| {
            let place = named.get(name).filter(|_| same_places);
            let kept = place.filter(|place| old.routes[**place].rate_limit.as_ref() == Some(limit));
            let kept = kept.and_then(|place| self.0[*place].clone());
            kept.unwrap_or_else(|| Arc::new(Limiter::new(limit)))
        })
    }

    fn of_each(plan: &Plan, limiter: impl Fn(&str, &RateLimit) -> Arc<Limiter>) -> Self {
        let routes = plan.routes.iter();
        let limiters = routes.map(|route| {
            let limit = route.rate_limit.as_ref()?;
            Some(limiter(&route.name, limit))
        });
        Limiters(limiters.collect())
    }

    /// The route's limit, if it has one.
    pub fn of(&self, route: RouteId) -> Option<&Limiter> {
        self.0[route.0].as_deref()
    }
}

/// One route's limit.
pub struct Limiter {
    /// Nanoseconds that one call takes out of the bucket.
    interval: u64,
    /// Nanoseconds that the bucket holds.
    capacity: u64,
    hashers: [RandomState; 2],
    buckets: Cache<Key, Arc<AtomicU64>>,
}

/// 128 bits of keyed hash instead of the caller's name: of one small size, and without our random keys nobody can find
/// two names that meet.
type Key = [u64; 2];

impl Limiter {
    pub fn new(limit: &RateLimit) -> Self {
        Self::with_keys(limit, KEYS)
    }

    /// With room for so many keys.
    pub fn with_keys(limit: &RateLimit, keys: u64) -> Self {
        let every = nanos(limit.every);
        // Rounded up: what does not divide evenly admits a little less, never more.
        let interval = every.div_ceil(u64::from(limit.requests.max(1))).max(1);
        let options = OptionsBuilder::new()
            .estimated_items_capacity(KEYS_AT_START)
            .weight_capacity(keys)
            .build();
        let buckets = match options {
            Ok(options) => Cache::with_options(
                options,
                UnitWeighter,
                DefaultHashBuilder::default(),
                DefaultLifecycle::default(),
            ),
            Err(_) => Cache::new(usize::try_from(keys).unwrap_or(usize::MAX)),
        };
        Limiter {
            interval,
            capacity: interval.saturating_mul(u64::from(limit.burst.max(1))),
            hashers: [RandomState::new(), RandomState::new()],
            buckets,
        }
    }

    /// Counts one call at `now` (monotonic). A refused call costs nothing.
    pub fn check(&self, caller: Caller<'_>, now: Duration) -> Result<(), RetryAfter> {
        let key = self.key(caller);
        let bucket = match self.buckets.get(&key) {
            Some(bucket) => bucket,
            None => self.new_bucket(&key),
        };
        let now = nanos(now);
        let mut refused = 0;
        bucket
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
                let next = full_at.max(now).saturating_add(self.interval);
                refused = (next - now).saturating_sub(self.capacity);
                (refused == 0).then_some(next)
            })
            .map(|_| ())
            .map_err(|_| {
                let seconds = refused.div_ceil(1_000_000_000).max(1);
                RetryAfter(u32::try_from(seconds).unwrap_or(u32::MAX))
            })
    }

    /// Whether another call would be refused; counts nothing, and remembers nobody.
    pub fn would_refuse(&self, caller: Caller<'_>, now: Duration) -> bool {
        let now = nanos(now);
        let bucket = self.buckets.get(&self.key(caller));
        bucket.is_some_and(|full_at| {
            let next = full_at.load(Ordering::Relaxed).max(now);
            next.saturating_add(self.interval) - now > self.capacity
        })
    }

    fn key(&self, caller: Caller<'_>) -> Key {
        [0, 1].map(|i| self.hashers[i].hash_one(caller))
    }

    /// Two first calls of one caller get one bucket.
    fn new_bucket(&self, key: &Key) -> Arc<AtomicU64> {
        let made = self
            .buckets
            .get_or_insert_with(key, || Ok::<_, std::convert::Infallible>(Arc::default()));
        match made {
            Ok(bucket) => bucket,
            Err(never) => match never {},
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::RatePer;

    fn limiter(requests: u32, every: Duration, burst: u32) -> Limiter {
        Limiter::new(&rule(requests, every, burst))
    }

    fn rule(requests: u32, every: Duration, burst: u32) -> RateLimit {
        RateLimit {
            per: RatePer::Client,
            requests,
            every,
            burst,
        }
    }

    fn client(name: &str) -> Caller<'_> {
        Caller::Client {
            issuer: IssuerId(0),
            client: name,
        }
    }

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_burst_then_the_rate() {
        let limiter = limiter(10, SECOND, 3);
        for _ in 0..3 {
            assert_eq!(limiter.check(client("a"), at(5000)), Ok(()));
        }
        assert_eq!(limiter.check(client("a"), at(5000)), Err(RetryAfter(1)));
        assert_eq!(limiter.check(client("a"), at(5099)), Err(RetryAfter(1)));
        assert_eq!(limiter.check(client("a"), at(5100)), Ok(()));
        assert_eq!(limiter.check(client("a"), at(5100)), Err(RetryAfter(1)));
        // A long rest fills the bucket to the burst and no further.
        for _ in 0..3 {
            assert_eq!(limiter.check(client("a"), at(60_000)), Ok(()));
        }
        assert!(limiter.check(client("a"), at(60_000)).is_err());
    }

    #[test]
    fn retry_after_is_when_the_next_call_passes() {
        let limiter = limiter(1, Duration::from_secs(10), 1);
        assert_eq!(limiter.check(client("a"), at(0)), Ok(()));
        assert_eq!(limiter.check(client("a"), at(1)), Err(RetryAfter(10)));
        assert_eq!(limiter.check(client("a"), at(7500)), Err(RetryAfter(3)));
        assert_eq!(limiter.check(client("a"), at(9_999)), Err(RetryAfter(1)));
        assert_eq!(limiter.check(client("a"), at(10_000)), Ok(()));
    }

    #[test]
    fn looking_is_not_calling() {
        let limiter = limiter(1, SECOND, 2);
        assert!(!limiter.would_refuse(client("a"), at(0)));
        for _ in 0..2 {
            assert!(!limiter.would_refuse(client("a"), at(0)));
            assert_eq!(limiter.check(client("a"), at(0)), Ok(()));
        }
        assert!(limiter.would_refuse(client("a"), at(999)));
        assert!(!limiter.would_refuse(client("a"), at(1000)));
        assert!(!limiter.would_refuse(client("b"), at(0)));
        assert_eq!(limiter.buckets.len(), 1);
    }

    #[test]
    fn callers_do_not_share() {
        let limiter = limiter(1, SECOND, 1);
        let other_issuer = Caller::Client {
            issuer: IssuerId(1),
            client: "a",
        };
        let source = Caller::Source(Source::from(IpAddr::from([10, 0, 0, 1])));
        for caller in [client("a"), client("b"), other_issuer, source] {
            assert_eq!(limiter.check(caller, at(0)), Ok(()), "{caller:?}");
            assert!(limiter.check(caller, at(0)).is_err(), "{caller:?}");
        }
    }

    #[test]
    fn a_source_is_an_ipv4_address_or_an_ipv6_subscriber() {
        let of = |text: &str| Source::from(text.parse::<IpAddr>().unwrap());
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
        assert_ne!(of("::ffff:192.0.2.1"), of("::ffff:192.0.2.2"));
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
    }

    #[test]
    fn an_uneven_rate_admits_less_not_more() {
        let limiter = limiter(3, SECOND, 3);
        let admitted = (0..10_000)
            .filter(|ms| limiter.check(client("a"), at(*ms)).is_ok())
            .count();
        assert!((31..=32).contains(&admitted), "{admitted}");
    }

    #[test]
    fn absurd_rules_do_not_overflow() {
        let limiter = limiter(u32::MAX, Duration::from_nanos(1), 0);
        assert_eq!(limiter.check(client("a"), Duration::MAX), Ok(()));
        let limiter = super::Limiter::new(&rule(1, Duration::MAX, u32::MAX));
        assert_eq!(limiter.check(client("a"), at(0)), Ok(()));
        let limiter = super::Limiter::new(&rule(0, SECOND, 0));
        assert_eq!(limiter.check(client("a"), at(0)), Ok(()));
        assert!(limiter.check(client("a"), at(0)).is_err());
    }

    #[test]
    fn threads_together_never_get_more_than_burst_and_rate() {
        let limiter = limiter(1000, SECOND, 50);
        let moment = AtomicU64::new(0);
        let admitted = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    // The threads see the same clock run from 0 to 2 s, each step several times over.
                    loop {
                        let ms = moment.fetch_add(1, Ordering::Relaxed) / 16;
                        if ms > 2000 {
                            break;
                        }
                        if limiter.check(client("a"), at(ms)).is_ok() {
                            admitted.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        let admitted = admitted.into_inner();
        assert!(admitted <= 2050, "{admitted}");
        assert!(admitted >= 1900, "{admitted}");
    }

    #[test]
    fn first_calls_at_once_share_one_burst() {
        for _ in 0..50 {
            let limiter = limiter(1, Duration::from_secs(3600), 5);
            let admitted = AtomicU64::new(0);
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        for _ in 0..10 {
                            if limiter.check(client("a"), at(0)).is_ok() {
                                admitted.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    });
                }
            });
            assert_eq!(admitted.into_inner(), 5);
        }
    }

    #[test]
    fn memory_is_bounded() {
        let limiter = Limiter::with_keys(&rule(1, SECOND, 1), 1000);
        for n in 0..20_000 {
            let _ = limiter.check(client(&n.to_string()), at(0));
        }
        assert!(limiter.buckets.len() <= 1100, "{}", limiter.buckets.len());
    }
}
