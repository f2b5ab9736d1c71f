//! What there is to say about an issuer's keys: to `/readyz`, to the gauges and to the log.

use std::collections::BTreeMap;
use std::time::Duration;

use super::KeyStore;
use crate::verify::jwk::{HeldKey, Skip};

/// An issuer's keys as whoever operates the gateway sees them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeysState {
    /// Usable keys held.
    pub keys: usize,
    /// Since the issuer gave them; `None` when there are none.
    pub age: Option<Duration>,
    /// They are what an earlier process left, and the issuer has not answered this one yet.
    pub from_snapshot: bool,
    /// Why no token can be proved with them; `None` when tokens can.
    pub problem: Option<String>,
    /// What is wrong although tokens can be proved.
    pub warning: Option<String>,
}

impl KeyStore {
    pub(in crate::verify) fn state_of_keys(&self) -> KeysState {
        let set = self.current.load();
        let fault = self.state().fault.clone();
        let Some(set) = set.as_deref() else {
            let problem = fault.unwrap_or_else(|| "no keys were fetched yet".to_owned());
            return KeysState {
                problem: Some(problem),
                ..KeysState::default()
            };
        };
        let age = self.age(set);
        let old = format!("the keys are {} s old", age.as_secs());
        let (mut problem, mut warning) = (None, None);
        if age > self.plan.max_stale {
            let why = fault.as_deref().unwrap_or("no fetch since");
            problem = Some(format!("{old}: {why}"));
        } else if set.from_snapshot {
            let why = fault.as_deref().unwrap_or("no fetch yet");
            warning = Some(format!("{old} and from a snapshot: {why}"));
        } else if let Some(fault) = fault {
            warning = Some(format!("{old} and could not be refreshed: {fault}"));
        }
        KeysState {
            keys: set.keys.len(),
            age: Some(age),
            from_snapshot: set.from_snapshot,
            problem,
            warning,
        }
    }

    /// Of the current set.
    pub(in crate::verify) fn number(&self) -> Option<u64> {
        let set = self.current.load();
        set.as_deref().map(|set| set.number)
    }

    /// Whether this set is still the current one, good, and nobody would fetch another for an unknown `kid` now.
    pub(in crate::verify) fn rests_with(&self, number: u64) -> bool {
        let set = self.current.load();
        let good = set
            .as_deref()
            .is_some_and(|set| set.number == number && self.age(set) <= self.plan.max_stale);
        if !good {
            return false;
        }
        let state = self.state();
        let over = state
            .cool
            .is_over(self.clock.monotonic(), self.plan.cooldown);
        !over && state.in_flight.is_none() && state.fault.is_none()
    }

    /// Whether the issuer has given them lately: another job looked after them before this one.
    pub(super) fn is_fresh(&self) -> bool {
        let set = self.current.load();
        let set = set.as_deref().filter(|set| !set.from_snapshot);
        set.is_some_and(|set| self.age(set) < self.plan.refresh / 2)
    }

    pub(in crate::verify) fn held(&self) -> Vec<HeldKey> {
        let set = self.current.load();
        let held = set.as_deref().map(|set| set.keys.held(self.age(set)));
        held.unwrap_or_default()
    }

    /// Brings the gauges up to date; called when somebody looks.
    pub(in crate::verify) fn publish(&self) {
        let set = self.current.load();
        let (keys, age, snapshot) = set.as_deref().map_or((0, Duration::ZERO, false), |set| {
            (set.keys.len(), self.age(set), set.from_snapshot)
        });
        self.metrics.keys_held(keys, age, snapshot);
    }
}

/// What was left out, by reason.
pub(super) fn summary(skipped: &[Skip]) -> String {
    if skipped.is_empty() {
        return String::new();
    }
    let mut counts = BTreeMap::<Skip, usize>::new();
    for skip in skipped {
        *counts.entry(*skip).or_default() += 1;
    }
    let listed: Vec<_> = counts
        .iter()
        .map(|(skip, count)| format!("{} {count}", skip.label()))
        .collect();
    format!("; skipped: {}", listed.join(", "))
}
