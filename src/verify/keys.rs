//! The life of one issuer's keys: fetched before they are needed, replaced as a whole, never worse than before.
//!
//! The rules are the contract's ("Proof"). A request reads the current set with one atomic load. Whoever needs a fetch
//! joins the one in flight; it runs in a task of its own, so that a caller who leaves cancels nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::watch;
use tokio::time::Instant;

use super::crypto::RingVerifier;
use super::fault::{Fault, Refusal, Unjudged};
use super::fetch::{FetchFault, KeySource};
use super::jwk::{Found, HeldKey, Keys, Skip};
use crate::clock::Clock;
use crate::config::plan::{Algorithm, IssuerId, IssuerPlan, KeysPlan};
use crate::observe::metrics::{Metrics, Refresh};

/// How long a request waits for a fetch.
const PATIENCE: Duration = Duration::from_secs(2);
/// The first pause after a failed fetch; doubled with each further one.
const FIRST_RETRY: Duration = Duration::from_millis(250);

/// One document's usable keys and when they came.
#[derive(Debug)]
pub(super) struct KeySet {
    pub(super) keys: Keys,
    /// By [`Clock::monotonic`].
    fetched: Duration,
    /// No two sets of an issuer have the same; never 0.
    number: u64,
}

pub(super) struct KeyStore {
    issuer: IssuerId,
    name: Arc<str>,
    algorithms: Vec<Algorithm>,
    plan: KeysPlan,
    source: Box<dyn KeySource>,
    clock: Clock,
    metrics: Arc<Metrics>,
    current: ArcSwapOption<KeySet>,
    /// Of the last set.
    number: AtomicU64,
    /// Held for a few assignments, never across an await.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    in_flight: Option<Flight>,
    /// When an unknown `kid` may fetch again.
    cool: Duration,
    /// Why the last finished fetch failed; `None` when it succeeded.
    fault: Option<String>,
}

/// A fetch under way. The channel says whether it brought keys; it closes without a word if the task died.
#[derive(Clone)]
struct Flight {
    landed: watch::Receiver<Option<bool>>,
    /// Begun for an unknown `kid`.
    demanded: bool,
}

impl Flight {
    async fn landed(&mut self) -> bool {
        match self.landed.wait_for(Option::is_some).await {
            Ok(outcome) => *outcome == Some(true),
            Err(_) => false,
        }
    }
}

/// What an unknown `kid` may do about it.
enum Demand {
    Wait(Flight),
    Settled(Fault),
}

impl KeyStore {
    pub(super) fn new(
        issuer: IssuerId,
        plan: &IssuerPlan,
        source: Box<dyn KeySource>,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        Arc::new(KeyStore {
            issuer,
            name: plan.name.clone(),
            algorithms: plan.algorithms.clone(),
            plan: plan.keys.clone(),
            source,
            clock,
            metrics,
            current: ArcSwapOption::empty(),
            number: AtomicU64::new(0),
            state: Mutex::default(),
        })
    }

    /// Holds `check` against the key that `kid` and `algorithm` name. Waits only when the `kid` is unknown.
    pub(super) async fn check(
        self: &Arc<Self>,
        kid: &str,
        algorithm: Algorithm,
        check: impl Fn(&RingVerifier) -> Result<(), Refusal>,
    ) -> Result<Arc<RingVerifier>, Fault> {
        if let Some(key) = self.known(kid, algorithm, &check)? {
            return Ok(key);
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

    /// Whether the current set still has this very key under its name. The name alone proves nothing: an issuer that
    /// is set up anew may give the old name to a new key. `seen_in` remembers the set that was asked last, so that a
    /// set is searched once.
    pub(super) fn holds(
        &self,
        key: &Arc<RingVerifier>,
        seen_in: &AtomicU64,
        now: Duration,
    ) -> bool {
        let set = self.current.load();
        let Some(set) = set.as_deref() else {
            return false;
        };
        if now.saturating_sub(set.fetched) > self.plan.max_stale {
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
        check: impl Fn(&RingVerifier) -> Result<(), Refusal>,
    ) -> Result<Option<Arc<RingVerifier>>, Fault> {
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
        if now < state.cool {
            return Demand::Settled(match state.fault {
                None => Refusal::UnknownKey.into(),
                Some(_) => Unjudged::KeyFetchFailed.into(),
            });
        }
        state.cool = now.saturating_add(self.plan.cooldown);
        Demand::Wait(self.take_off(&mut state, true))
    }

    /// Fetches now, or waits for the fetch that is under way; whether it brought keys.
    pub(super) async fn refresh(self: &Arc<Self>) -> bool {
        let mut flight = {
            let mut state = self.state();
            match &state.in_flight {
                Some(flight) => flight.clone(),
                None => self.take_off(&mut state, false),
            }
        };
        flight.landed().await
    }

    fn take_off(self: &Arc<Self>, state: &mut State, demanded: bool) -> Flight {
        let (landing, landed) = watch::channel(None);
        let flight = Flight { landed, demanded };
        state.in_flight = Some(flight.clone());
        let landing = Landing {
            store: self.clone(),
            channel: landing,
            outcome: Err("the fetch was interrupted".to_owned()),
        };
        tokio::spawn(async move {
            let outcome = landing.store.fetch().await;
            landing.ended(outcome);
        });
        flight
    }

    /// One fetch, from the source to the current set.
    async fn fetch(&self) -> Result<(), String> {
        let fetched = match self.source.document().await {
            Ok(document) => self.read(&document),
            Err(fault) => Err(fault),
        };
        match fetched {
            Ok((keys, skipped)) => {
                self.metrics.keys_refreshed(self.issuer, Refresh::Ok);
                log::info!(
                    "issuer {}: {} signing keys{}",
                    self.name,
                    keys.len(),
                    summary(&skipped)
                );
                // The whole set is replaced, so that a key that was withdrawn dies here.
                self.current.store(Some(Arc::new(KeySet {
                    keys,
                    fetched: self.clock.monotonic(),
                    number: self.number.fetch_add(1, Ordering::Relaxed) + 1,
                })));
                Ok(())
            }
            Err(fault) => {
                let outcome = match &fault {
                    FetchFault::Failed(_) => Refresh::Failed,
                    FetchFault::Invalid(_) => Refresh::Invalid,
                };
                self.metrics.keys_refreshed(self.issuer, outcome);
                Err(fault.text().to_owned())
            }
        }
    }

    fn read(&self, document: &[u8]) -> Result<(Keys, Vec<Skip>), FetchFault> {
        let (keys, skipped) = Keys::parse(document, &self.algorithms)
            .ok_or_else(|| FetchFault::Invalid("what came is no JWK Set".to_owned()))?;
        for skip in &skipped {
            self.metrics.key_skipped(self.issuer, skip.label());
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

    /// Fetches at once and then for ever ahead of time; dropped when the server stops.
    pub(super) async fn keep_fresh(self: &Arc<Self>) {
        let mut failures = 0;
        loop {
            failures = if self.refresh().await {
                0
            } else {
                failures + 1
            };
            let pause = pause(&self.plan, failures, self.current.load().is_some());
            tokio::time::sleep(jittered(pause)).await;
        }
    }

    /// How many keys are held and for how long, or why there are none.
    pub(super) fn readiness(&self) -> Result<usize, String> {
        let set = self.current.load();
        let fault = self.state().fault.clone();
        let Some(set) = set.as_deref() else {
            return Err(fault.unwrap_or_else(|| "no keys were fetched yet".to_owned()));
        };
        let age = self.age(set);
        if age > self.plan.max_stale {
            return Err(format!(
                "the keys are {} s old: {}",
                age.as_secs(),
                fault.as_deref().unwrap_or("no fetch since")
            ));
        }
        Ok(set.keys.len())
    }

    pub(super) fn held(&self) -> Vec<HeldKey> {
        let set = self.current.load();
        let held = set.as_deref().map(|set| set.keys.held(self.age(set)));
        held.unwrap_or_default()
    }

    /// Brings the gauges up to date; called when somebody looks.
    pub(super) fn publish(&self) {
        let set = self.current.load();
        let (keys, age) = set
            .as_deref()
            .map_or((0, Duration::ZERO), |set| (set.keys.len(), self.age(set)));
        self.metrics.keys_held(self.issuer, keys, age);
    }

    fn age(&self, set: &KeySet) -> Duration {
        self.clock.monotonic().saturating_sub(set.fetched)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each holder makes a few assignments that cannot panic.
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// Ends a flight however its task ends, a panic included.
struct Landing {
    store: Arc<KeyStore>,
    channel: watch::Sender<Option<bool>>,
    outcome: Result<(), String>,
}

impl Landing {
    fn ended(mut self, outcome: Result<(), String>) {
        self.outcome = outcome;
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        let fault = std::mem::replace(&mut self.outcome, Ok(())).err();
        let brought = fault.is_none();
        let mut state = self.store.state();
        // Once per change: an issuer that is down for an hour is one line.
        if fault != state.fault
            && let Some(reason) = &fault
        {
            log::warn!("issuer {}: keys not fetched: {reason}", self.store.name);
        }
        state.fault = fault;
        state.in_flight = None;
        drop(state);
        self.channel.send_replace(Some(brought));
    }
}

/// The pause before the next fetch, after this many failures in a row.
fn pause(plan: &KeysPlan, failures: u32, have_keys: bool) -> Duration {
    // Ahead of time, so that the jitter never makes a set older than `refresh`.
    let ahead = plan.refresh.mul_f64(0.8);
    if failures == 0 {
        return ahead;
    }
    let doubled = FIRST_RETRY.saturating_mul(1u32.checked_shl(failures - 1).unwrap_or(u32::MAX));
    // With keys in hand there is no hurry, and an issuer that comes back should not find a crowd.
    let longest = if have_keys {
        ahead
    } else {
        plan.cooldown.min(ahead)
    };
    doubled.min(longest)
}

/// Ten per cent either way, so that replicas do not ask together.
fn jittered(pause: Duration) -> Duration {
    let mut byte = [128];
    // Without randomness the pause is merely exact.
    let _ = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut byte);
    pause.mul_f64(0.9 + 0.2 * f64::from(byte[0]) / 255.0)
}

/// What was left out, by reason.
fn summary(skipped: &[Skip]) -> String {
    if skipped.is_empty() {
        return String::new();
    }
    let mut counts = std::collections::BTreeMap::<Skip, usize>::new();
    for skip in skipped {
        *counts.entry(*skip).or_default() += 1;
    }
    let listed: Vec<_> = counts
        .iter()
        .map(|(skip, count)| format!("{} {count}", skip.label()))
        .collect();
    format!("; skipped: {}", listed.join(", "))
}
