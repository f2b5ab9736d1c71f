//! How many questions are on their way, who waits for which, and when to stop asking.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;

use super::Introspector;
use crate::config::plan::IntrospectionPlan;
use crate::verify::cache::Proved;
use crate::verify::digest::TokenHash;
use crate::verify::fault::{Fault, Unjudged};

pub(super) type Outcome = Result<Arc<Proved>, Fault>;
pub(super) type Landed = watch::Receiver<Option<Outcome>>;

pub(super) struct Flights {
    max: usize,
    failures: u32,
    open: Duration,
    /// Held for a few look-ups, never across an await.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    calls: HashMap<TokenHash, Landed>,
    /// In a row.
    failed: u32,
    /// Open until then; the breaker closes with an answer, not with time.
    opened: Option<Duration>,
    /// The one question that an open breaker lets through.
    probing: bool,
    /// Why the last question failed; `None` when it was answered.
    fault: Option<String>,
}

pub(super) enum Entry {
    Known(Arc<Proved>),
    Join(Landed),
    Fly(Landing, Landed),
    Refused(Unjudged),
}

impl Flights {
    pub(super) fn new(plan: &IntrospectionPlan) -> Self {
        Flights {
            max: plan.max_in_flight,
            failures: plan.failures,
            open: plan.open,
            state: Mutex::default(),
        }
    }

    pub(super) fn enter(
        &self,
        hash: TokenHash,
        now: Duration,
        known: impl FnOnce() -> Option<Arc<Proved>>,
    ) -> Entry {
        let mut state = self.state();
        if let Some(landed) = state.calls.get(&hash) {
            return Entry::Join(landed.clone());
        }
        if let Some(proved) = known() {
            return Entry::Known(proved);
        }
        if let Some(until) = state.opened {
            if now < until || state.probing {
                return Entry::Refused(Unjudged::IntrospectionOpen);
            }
            state.probing = true;
        } else if state.calls.len() >= self.max {
            return Entry::Refused(Unjudged::IntrospectionBusy);
        }
        let (channel, landed) = watch::channel(None);
        state.calls.insert(hash, landed.clone());
        Entry::Fly(Landing { channel }, landed)
    }

    /// The issuer answered, whatever it said.
    pub(super) fn answered(&self, issuer: &str) {
        let mut state = self.state();
        if state.fault.take().is_some() {
            log::info!("issuer {issuer}: it answers about tokens again");
        }
        state.failed = 0;
        state.opened = None;
    }

    /// `counts`: for the breaker.
    pub(super) fn failed(&self, issuer: &str, fault: String, counts: bool, now: Duration) {
        let mut state = self.state();
        if counts {
            state.failed = state.failed.saturating_add(1);
            if state.failed >= self.failures || state.opened.is_some() {
                state.opened = Some(now.saturating_add(self.open));
            }
        }
        // Once per change: an issuer that is down for an hour is one line.
        if state.fault.as_ref() != Some(&fault) {
            log::warn!("issuer {issuer}: it did not answer about a token: {fault}");
            state.fault = Some(fault);
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.state().opened.is_some()
    }

    fn landed(&self, hash: &TokenHash) {
        let mut state = self.state();
        state.calls.remove(hash);
        // Whichever flight this was, an open breaker has none left that could be the probe but this one.
        if state.calls.is_empty() || state.opened.is_none() {
            state.probing = false;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each holder makes a few assignments that cannot panic.
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

pub(super) struct Landing {
    channel: watch::Sender<Option<Outcome>>,
}

impl Landing {
    pub(super) fn guard(self, asker: Arc<Introspector>, hash: TokenHash) -> Guard {
        Guard {
            asker,
            hash,
            channel: self.channel,
            outcome: Err(Unjudged::IntrospectionFailed.into()),
        }
    }
}

/// Ends a flight however its task ends, a panic included.
pub(super) struct Guard {
    asker: Arc<Introspector>,
    hash: TokenHash,
    channel: watch::Sender<Option<Outcome>>,
    outcome: Outcome,
}

impl Guard {
    pub(super) fn ended(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let failed = Err(Unjudged::IntrospectionFailed.into());
        let outcome = std::mem::replace(&mut self.outcome, failed);
        self.asker.flights.landed(&self.hash);
        self.channel.send_replace(Some(outcome));
    }
}
