//! Files that are looked at when somebody uses what they are good for.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Files, Kept};
use crate::clock::Clock;

/// How often at most.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

pub struct Reread<F: Files> {
    kept: Arc<Kept<F>>,
    looked: Mutex<Option<Duration>>,
    clock: Clock,
}

impl<F: Files> Reread<F> {
    pub fn new(kept: Kept<F>, clock: Clock) -> Self {
        Reread {
            kept: Arc::new(kept),
            looked: Mutex::default(),
            clock,
        }
    }

    /// Whether the last look is long enough ago; then this one is it.
    fn is_due(&self) -> bool {
        let now = self.clock.monotonic();
        // The lock guards one assignment: a panic cannot have left it half done.
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let due = looked.is_none_or(|at| now.saturating_sub(at) >= LOOK_AGAIN);
        if due {
            *looked = Some(now);
        }
        due
    }
}

impl<F> Reread<F>
where
    F: Files + 'static,
    F::Value: Clone + Send + Sync,
{
    /// The last good value when the files cannot be read, or are good for nothing; the log says so once.
    pub async fn current(&self) -> F::Value {
        if self.is_due() {
            let kept = self.kept.clone();
            // A file system may hang.
            match tokio::task::spawn_blocking(move || kept.refresh()).await {
                Ok(Some(Err(why))) => log::warn!("{why}; the last good one stays"),
                Ok(None | Some(Ok(()))) => {}
                Err(panic) => log::error!("{panic}"),
            }
        }
        F::Value::clone(&self.kept.value())
    }
}
