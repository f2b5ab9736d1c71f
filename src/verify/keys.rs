//! The life of one issuer's keys: fetched before they are needed, replaced as a whole, never worse than before.
//!
//! The rules are the contract's ("Proof"). A request reads the current set with one atomic load. Whoever needs a fetch
//! joins the one in flight; it runs in a task of its own, so that a caller who leaves cancels nothing. Nothing here
//! grows with what callers send: whatever they name, there is one set, one flight, one cool-down and one floor.

mod flight;
mod pace;
mod report;
mod snapshot;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::time::Instant;

use self::flight::{Flight, Landing};
use self::pace::{CoolDown, Floor, jittered, pause};
pub use self::report::KeysState;
use self::report::summary;
use self::snapshot::Snapshot;
use super::crypto::VerifyingKey;
use super::fault::{Fault, Refusal, Unjudged};
use super::fetch::{FetchFault, KeySource};
use super::jwk::{Found, Keys, Skip};
use crate::clock::Clock;
use crate::config::plan::{Algorithm, IssuerPlan, KeysPlan};
use crate::observe::metrics::{IssuerMetrics, Refresh};

/// How long a request waits for a fetch.
const PATIENCE: Duration = Duration::from_secs(2);

/// One document's usable keys and when they came.
#[derive(Debug)]
pub(super) struct KeySet {
    pub(super) keys: Keys,
    /// Since when this process has them, by [`Clock::monotonic`].
    since: Duration,
    /// How old they were then: a snapshot's may be.
    born: Duration,
    from_snapshot: bool,
    /// No two sets of an issuer have the same; never 0.
    number: u64,
}

type OldSet = Option<Arc<KeySet>>;

impl KeySet {
    fn age(&self, now: Duration) -> Duration {
        now.saturating_sub(self.since).saturating_add(self.born)
    }
}

pub(super) struct KeyStore {
    name: Arc<str>,
    algorithms: Vec<Algorithm>,
    plan: KeysPlan,
    source: Box<dyn KeySource>,
    snapshot: Option<Snapshot>,
    clock: Clock,
    metrics: Arc<IssuerMetrics>,
    current: ArcSwapOption<KeySet>,
    /// Of the last set.
    number: AtomicU64,
    /// When a signature that does not hold may fetch again.
    floor: Floor,
    /// Held for a few assignments, never across an await.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    in_flight: Option<Flight>,
    /// When an unknown `kid` may fetch again.
    cool: CoolDown,
    /// Why the last finished fetch failed; `None` when it succeeded.
    fault: Option<String>,
}

/// What an unknown `kid` may do about it.
enum Demand {
    Wait(Flight),
    Settled(Fault),
}

impl KeyStore {
    /// With the keys of `old`, which must have had the same source.
    pub(super) fn new(
        plan: &IssuerPlan,
        source: Box<dyn KeySource>,
        clock: Clock,
        metrics: Arc<IssuerMetrics>,
        old: Option<&KeyStore>,
    ) -> Arc<Self> {
        let snapshot = plan.keys.snapshot.clone();
        Arc::new(KeyStore {
            name: plan.name.clone(),
            algorithms: plan.algorithms.clone(),
            plan: plan.keys.clone(),
            source,
            snapshot: snapshot
                .map(|path| Snapshot::new(path, plan, clock.clone(), metrics.clone())),
            clock,
            metrics,
            current: ArcSwapOption::new(old.and_then(|old| old.current.load_full())),
            number: AtomicU64::new(old.map_or(0, |old| old.number.load(Ordering::Relaxed))),
            floor: Floor::default(),
            state: Mutex::default(),
        })
    }

    /// Takes what an earlier process left, if it is still good and nothing came yet. Anything else is as if there were
    /// nothing.
    pub(super) fn restore(&self) {
        let (Some(snapshot), None) = (&self.snapshot, &*self.current.load()) else {
            return;
        };
        let read = snapshot.read().and_then(|left| match left {
            None => Ok(None),
            Some(left) => match self.read(&left.document) {
                Ok((keys, _)) => Ok(Some((keys, left.age))),
                Err(fault) => Err(fault.text().to_owned()),
            },
        });
        match read {
            Ok(None) => {}
            Ok(Some((keys, age))) => {
                log::info!(
                    "issuer {}: {} signing keys from {snapshot}, {} s old",
                    self.name,
                    keys.len(),
                    age.as_secs()
                );
                self.put(keys, age, true);
            }
            Err(why) => log::warn!("issuer {}: {snapshot} is not used: {why}", self.name),
        }
    }

    /// Holds `check` against the key that `kid` and `algorithm` name. Waits only when the `kid` is unknown, or when the
    /// signature does not hold and it is the first in a while.
    pub(super) async fn check(
        self: &Arc<Self>,
        kid: &str,
        algorithm: Algorithm,
        check: impl Fn(&VerifyingKey) -> Result<(), Refusal>,
    ) -> Result<Arc<VerifyingKey>, Fault> {
        match self.known(kid, algorithm, &check) {
            Ok(Some(key)) => return Ok(key),
            Ok(None) => {}
            // An issuer that was set up anew may give an old name to a new key. Nearly always somebody made the token
            // up, so all but the first are refused at the cost of one atomic load.
            Err(Fault::Refused(Refusal::Signature))
                if self.floor.pass(self.clock.monotonic(), self.plan.cooldown) =>
            {
                return self.doubt(kid, algorithm, &check).await;
            }
            Err(fault) => return Err(fault),
        }
        let patience = Instant::now() + PATIENCE;
        loop {
            let mut flight = match self.demand() {
                Demand::Wait(flight) => flight,
                // A fetch may have landed since we looked.
                Demand::Settled(fault) => {
                    return self.known(kid, algorithm, &check)?.ok_or(fault);
                }
            };
            let brought = tokio::time::timeout_at(patience, flight.landed()).await;
            if let Some(key) = self.known(kid, algorithm, &check)? {
                return Ok(key);
            }
            if brought != Ok(true) {
                return Err(Unjudged::KeyFetchFailed.into());
            }
            // A fetch of the background may have begun before the key was published: then ask once more. One that an
            // unknown `kid` began has started the cool-down, which ends this loop.
            if flight.demanded {
                return Err(Refusal::UnknownKey.into());
            }
        }
    }

    /// Fetches because of a signature, and judges it again with whatever key has the name then.
    async fn doubt(
        self: &Arc<Self>,
        kid: &str,
        algorithm: Algorithm,
        check: impl Fn(&VerifyingKey) -> Result<(), Refusal>,
    ) -> Result<Arc<VerifyingKey>, Fault> {
        let patience = Instant::now() + PATIENCE;
        loop {
            let (mut flight, ours) = self.join(false);
            if tokio::time::timeout_at(patience, flight.landed()).await != Ok(true) {
                // The key that we hold is the last good one, and by it the token was judged.
                let until = self.plan.cooldown.saturating_mul(pace::LONGEST);
                self.floor.raise(self.clock.monotonic(), until);
                return Err(Refusal::Signature.into());
            }
            match self.known(kid, algorithm, &check) {
                // The fetch that we joined may have begun before the key was changed.
                Err(Fault::Refused(Refusal::Signature)) if !ours => {}
                judged => return judged?.ok_or(Refusal::UnknownKey.into()),
            }
        }
    }

    /// Whether the current set still has this very key under its name. The name alone proves nothing: an issuer that
    /// is set up anew may give the old name to a new key. `seen_in` remembers the set that was asked last, so that a
    /// set is searched once.
    pub(super) fn holds(
        &self,
        key: &Arc<VerifyingKey>,
        seen_in: &AtomicU64,
        now: Duration,
    ) -> bool {
        let set = self.current.load();
        let Some(set) = set.as_deref() else {
            return false;
        };
        if set.age(now) > self.plan.max_stale {
            return false;
        }
        if seen_in.load(Ordering::Relaxed) == set.number {
            return true;
        }
        let held = match set.keys.find(key.kid(), key.algorithm()) {
            Found::Key(now) => Arc::ptr_eq(now, key) || now.same_key(key),
            Found::OtherAlgorithm | Found::Ambiguous | Found::Unknown => false,
        };
        if held {
            seen_in.store(set.number, Ordering::Relaxed);
        }
        held
    }

    /// `Ok(None)` when the set is good but does not know the `kid`.
    fn known(
        &self,
        kid: &str,
        algorithm: Algorithm,
        check: impl Fn(&VerifyingKey) -> Result<(), Refusal>,
    ) -> Result<Option<Arc<VerifyingKey>>, Fault> {
        let set = self.current.load();
        let Some(set) = set.as_deref() else {
            return Err(Unjudged::NoKeys.into());
        };
        if self.age(set) > self.plan.max_stale {
            return Err(Unjudged::KeysStale.into());
        }
        match set.keys.find(kid, algorithm) {
            Found::Key(key) => Ok(check(key).map(|()| Some(key.clone()))?),
            Found::OtherAlgorithm => Err(Refusal::Algorithm.into()),
            Found::Ambiguous => Err(Refusal::UnknownKey.into()),
            Found::Unknown => Ok(None),
        }
    }

    fn demand(self: &Arc<Self>) -> Demand {
        let mut state = self.state();
        if let Some(flight) = &state.in_flight {
            return Demand::Wait(flight.clone());
        }
        let now = self.clock.monotonic();
        if !state.cool.is_over(now, self.plan.cooldown) {
            return Demand::Settled(match state.fault {
                None => Refusal::UnknownKey.into(),
                Some(_) => Unjudged::KeyFetchFailed.into(),
            });
        }
        state.cool.begin(now);
        Demand::Wait(Flight::take_off(self, &mut state, true))
    }

    /// The fetch that is under way, or a new one; whether it is new.
    fn join(self: &Arc<Self>, demanded: bool) -> (Flight, bool) {
        let mut state = self.state();
        match &state.in_flight {
            Some(flight) => (flight.clone(), false),
            None => (Flight::take_off(self, &mut state, demanded), true),
        }
    }

    /// Fetches now, or waits for the fetch that is under way; whether it brought keys.
    pub(super) async fn refresh(self: &Arc<Self>) -> bool {
        let (mut flight, _) = self.join(false);
        flight.landed().await
    }

    /// One fetch, from the source to the current set and the snapshot.
    async fn fetch(&self, landing: Landing) {
        let fetched = match self.source.document().await {
            Ok(document) => {
                let read = self.read(&document);
                let read = read.inspect_err(|_| self.source.was_useless());
                read.map(|(keys, skipped)| {
                    self.replace(keys, &skipped);
                    document
                })
            }
            Err(fault) => Err(fault),
        };
        match fetched {
            Ok(document) => {
                self.metrics.keys_refreshed(Refresh::Ok);
                landing.ended(Ok(()));
                // Nobody waits for the disk.
                if let Some(snapshot) = &self.snapshot {
                    snapshot.keep(document).await;
                }
            }
            Err(fault) => {
                let outcome = match &fault {
                    FetchFault::Failed(_) | FetchFault::Status(..) => Refresh::Failed,
                    FetchFault::Invalid(_) => Refresh::Invalid,
                };
                self.metrics.keys_refreshed(outcome);
                landing.ended(Err(fault.text().to_owned()));
            }
        }
    }

    /// The whole set is replaced, so that a key that was withdrawn dies here.
    fn replace(&self, keys: Keys, skipped: &[Skip]) {
        log::info!(
            "issuer {}: {} signing keys{}",
            self.name,
            keys.len(),
            summary(skipped)
        );
        let (set, old) = self.put(keys, Duration::ZERO, false);
        for kid in old.iter().flat_map(|old| set.keys.renamed(&old.keys)) {
            log::warn!(
                "issuer {}: {kid:?} names another key than before: the issuer was set up anew, or somebody else \
                 answers in its place",
                self.name
            );
        }
    }

    /// Makes this the current set; it and the one before.
    fn put(&self, keys: Keys, born: Duration, from_snapshot: bool) -> (Arc<KeySet>, OldSet) {
        let set = Arc::new(KeySet {
            keys,
            since: self.clock.monotonic(),
            born,
            from_snapshot,
            number: self.number.fetch_add(1, Ordering::Relaxed) + 1,
        });
        let old = self.current.swap(Some(set.clone()));
        (set, old)
    }

    fn read(&self, document: &[u8]) -> Result<(Keys, Vec<Skip>), FetchFault> {
        let (keys, skipped) = Keys::parse(document, &self.algorithms)
            .ok_or_else(|| FetchFault::Invalid("what came is no JWK Set".to_owned()))?;
        for skip in &skipped {
            self.metrics.key_skipped(skip.label());
        }
        // A set that verifies nothing is a mistake at the other end; the last good one is better.
        if keys.len() == 0 {
            return Err(FetchFault::Invalid(format!(
                "no key in it can verify {}{}",
                self.algorithms
                    .iter()
                    .map(|a| a.name())
                    .collect::<Vec<_>>()
                    .join(", "),
                summary(&skipped)
            )));
        }
        Ok((keys, skipped))
    }

    /// Fetches at once, unless somebody just did, and then for ever ahead of time; dropped when the server stops.
    pub(super) async fn keep_fresh(self: &Arc<Self>) {
        let mut failures = 0;
        let mut fresh = self.is_fresh();
        loop {
            failures = if std::mem::take(&mut fresh) || self.refresh().await {
                0
            } else {
                failures + 1
            };
            tokio::time::sleep(jittered(pause(&self.plan, failures, self.good_for()))).await;
        }
    }

    fn age(&self, set: &KeySet) -> Duration {
        set.age(self.clock.monotonic())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each holder makes a few assignments that cannot panic.
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}
