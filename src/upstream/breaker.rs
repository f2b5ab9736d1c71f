//! Stops asking an upstream that mostly fails, and finds out with a few requests whether it has recovered.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus::IntGauge;

use super::NoPeer;
use crate::clock::{Clock, millis};
use crate::config::plan::RatePlan;

pub(super) struct Breaker {
    plan: RatePlan,
    name: Arc<str>,
    clock: Clock,
    /// What a request looks at first; all else is behind the lock, which nobody takes while the breaker is closed.
    closed: AtomicBool,
    state: Mutex<State>,
    window: ArcSwap<Window>,
    gauge: IntGauge,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    Open {
        /// Milliseconds of the monotonic clock.
        until: u64,
    },
    HalfOpen(Trials),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Trials {
    /// Since when, so that a result that comes too late belongs to nothing.
    since: u64,
    sent: u32,
    done: u32,
    failed: u32,
}

/// The last so many results, one bit each.
struct Window {
    size: u64,
    bits: Vec<AtomicU64>,
    seen: AtomicU64,
    failures: AtomicI64,
}

/// A request that the breaker has let through. What is not told of it is no result.
pub(super) struct Ticket {
    breaker: Arc<Breaker>,
    /// [`Trials::since`].
    trial: Option<u64>,
    failed: Option<bool>,
}

impl Breaker {
    pub(super) fn new(plan: RatePlan, name: Arc<str>, clock: Clock, gauge: IntGauge) -> Arc<Self> {
        Arc::new(Breaker {
            window: ArcSwap::from_pointee(Window::new(plan.window)),
            plan,
            name,
            clock,
            closed: AtomicBool::new(true),
            state: Mutex::new(State::Closed),
            gauge,
        })
    }

    /// # Errors
    /// [`NoPeer::Open`].
    pub(super) fn enter(self: &Arc<Self>) -> Result<Ticket, NoPeer> {
        let ticket = |trial| Ticket {
            breaker: self.clone(),
            trial,
            failed: None,
        };
        if self.closed.load(Ordering::Acquire) {
            return Ok(ticket(None));
        }
        let now = millis(self.clock.monotonic());
        let mut state = self.lock();
        let trials = match *state {
            State::Closed => return Ok(ticket(None)),
            State::Open { until } if now < until => {
                let retry_after = (until - now).div_ceil(1000);
                return Err(NoPeer::Open {
                    retry_after: u32::try_from(retry_after).unwrap_or(u32::MAX),
                });
            }
            State::Open { .. } => Trials {
                since: now,
                sent: 0,
                done: 0,
                failed: 0,
            },
            State::HalfOpen(trials) => trials,
        };
        if trials.sent >= self.plan.half_open {
            return Err(NoPeer::Open { retry_after: 1 });
        }
        *state = State::HalfOpen(Trials {
            sent: trials.sent + 1,
            ..trials
        });
        Ok(ticket(Some(trials.since)))
    }

    /// `closed`, `open` or `half_open`.
    pub(super) fn label(&self) -> &'static str {
        match *self.lock() {
            State::Closed => "closed",
            State::Open { .. } => "open",
            State::HalfOpen(_) => "half_open",
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counted(&self, failed: bool) {
        if !self.closed.load(Ordering::Acquire) || !self.window.load().record(failed, &self.plan) {
            return;
        }
        let mut state = self.lock();
        if *state == State::Closed {
            self.open(&mut state);
        }
    }

    fn tried(&self, since: u64, failed: Option<bool>) {
        let mut state = self.lock();
        let State::HalfOpen(mut trials) = *state else {
            return;
        };
        if trials.since != since {
            return;
        }
        match failed {
            // The caller left: another may try in its place.
            None => trials.sent = trials.sent.saturating_sub(1),
            Some(failed) => {
                trials.done += 1;
                trials.failed += u32::from(failed);
            }
        }
        *state = State::HalfOpen(trials);
        let (failures, all) = (u64::from(trials.failed), u64::from(self.plan.half_open));
        if failures > 0 && self.plan.too_many(failures, all) {
            self.open(&mut state);
        } else if trials.done >= self.plan.half_open {
            *state = State::Closed;
            self.window.store(Arc::new(Window::new(self.plan.window)));
            self.gauge.set(0);
            self.closed.store(true, Ordering::Release);
            log::info!("upstream {}: the breaker is closed again", self.name);
        }
    }

    fn open(&self, state: &mut State) {
        let until = millis(self.clock.monotonic()).saturating_add(millis(self.plan.open));
        *state = State::Open { until };
        self.closed.store(false, Ordering::Release);
        self.gauge.set(1);
        let seconds = Duration::as_secs_f64(&self.plan.open);
        log::warn!(
            "upstream {}: too many requests fail, the breaker is open for {seconds} s",
            self.name
        );
    }
}

impl RatePlan {
    fn too_many(&self, failures: u64, of: u64) -> bool {
        failures.saturating_mul(100) >= u64::from(self.failure_rate).saturating_mul(of)
    }
}

impl Window {
    fn new(size: usize) -> Self {
        let size = size.max(1);
        Window {
            size: size as u64,
            bits: (0..size.div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
            seen: AtomicU64::new(0),
            failures: AtomicI64::new(0),
        }
    }

    /// True if the window is full and this failure makes too many.
    fn record(&self, failed: bool, plan: &RatePlan) -> bool {
        let number = self.seen.fetch_add(1, Ordering::Relaxed);
        let slot = number % self.size;
        let word = &self.bits[usize::try_from(slot / 64).unwrap_or_default()];
        let bit = 1 << (slot % 64);
        let before = match failed {
            true => word.fetch_or(bit, Ordering::Relaxed),
            false => word.fetch_and(!bit, Ordering::Relaxed),
        };
        let failures = match (failed, before & bit != 0) {
            (true, false) => self.failures.fetch_add(1, Ordering::Relaxed) + 1,
            (false, true) => self.failures.fetch_sub(1, Ordering::Relaxed) - 1,
            _ => self.failures.load(Ordering::Relaxed),
        };
        let full = number + 1 >= self.size;
        failed && full && plan.too_many(failures.unsigned_abs(), self.size)
    }
}

impl Ticket {
    pub(super) fn tell(&mut self, failed: bool) {
        self.failed = Some(failed);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        match (self.trial, self.failed) {
            (Some(since), failed) => self.breaker.tried(since, failed),
            (None, Some(failed)) => self.breaker.counted(failed),
            (None, None) => {}
        }
    }
}

#[cfg(test)]
mod tests;
