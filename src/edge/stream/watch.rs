//! A connection that somebody looks after while its request lives: a tunnel that must not outlive its token, and the
//! handshake that is to become one.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use super::{GuardStream, OPEN, WATCHED};

/// How often it is looked after. So much longer than it should may a tunnel live.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why a connection was ended by who looked after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Over {
    #[error("the peer has not answered in time")]
    Late,
    #[error("the token has expired")]
    Expired,
    #[error("the token was revoked")]
    Revoked,
    #[error("nobody has said anything for long")]
    Silent,
    #[error("the gateway stops")]
    Stopping,
}

/// Says whether it is over; hears for how long no byte has passed in either direction.
pub type Overseer = Box<dyn Fn(Duration) -> Option<Over> + Send + Sync>;

pub(super) struct Watch {
    overseer: Overseer,
    /// When the last byte passed.
    moved: Instant,
    tick: Pin<Box<Sleep>>,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

impl GuardStream {
    /// From now on, until the next request; instead of who looked before.
    pub(in crate::edge) fn watch(&self, overseer: Overseer) {
        let watch = Watch {
            overseer,
            moved: Instant::now(),
            tick: Box::pin(tokio::time::sleep(LOOK_EVERY)),
        };
        *self.watch.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(watch));
        // Within a head, or behind an answer of ours, nobody may look.
        let _ = self
            .phase
            .compare_exchange(OPEN, WATCHED, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn watcher(&mut self) -> Option<&mut Watch> {
        let watch = self.watch.get_mut();
        watch.unwrap_or_else(PoisonError::into_inner).as_deref_mut()
    }

    pub(super) fn moved(&mut self) {
        if let Some(watch) = self.watcher() {
            watch.moved = Instant::now();
        }
    }

    /// Looks when it is time to.
    pub(super) fn look(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Some(watch) = self.watcher() else {
            return Ok(());
        };
        while watch.tick.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if let Some(over) = (watch.overseer)(now - watch.moved) {
                return Err(io::Error::new(io::ErrorKind::TimedOut, over));
            }
            watch.tick.as_mut().reset(now + LOOK_EVERY);
        }
        Ok(())
    }
}
