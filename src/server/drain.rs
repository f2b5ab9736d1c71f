//! How many requests are alive, and whether we are going down.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Shared by all listeners and the admin listener.
#[derive(Debug, Clone, Default)]
pub struct Drain(Arc<State>);

#[derive(Debug, Default)]
struct State {
    stopping: AtomicBool,
    closed: AtomicBool,
    abandoned: AtomicBool,
    active: AtomicUsize,
}

/// One live request; counts until dropped, also when its task is.
#[derive(Debug)]
pub struct Active(Arc<State>);

impl Drain {
    pub fn enter(&self) -> Active {
        self.0.active.fetch_add(1, Ordering::AcqRel);
        Active(self.0.clone())
    }

    pub fn active(&self) -> usize {
        self.0.active.load(Ordering::Acquire)
    }

    /// From now on `/readyz` fails.
    pub fn stop(&self) {
        self.0.stopping.store(true, Ordering::Release);
    }

    /// The listeners close now: what is alive is all that will be.
    pub fn close(&self) {
        self.0.closed.store(true, Ordering::Release);
    }

    pub fn closed(&self) -> bool {
        self.0.closed.load(Ordering::Acquire)
    }

    /// Nobody waits for what is still alive.
    pub fn abandon(&self) {
        self.0.abandoned.store(true, Ordering::Release);
    }

    pub fn abandoned(&self) -> bool {
        self.0.abandoned.load(Ordering::Acquire)
    }

    pub fn stopping(&self) -> bool {
        self.0.stopping.load(Ordering::Acquire)
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::AcqRel);
    }
}
