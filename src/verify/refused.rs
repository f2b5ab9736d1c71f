//! Refusals that are remembered for a moment: a client whose token is over asks with it again and again.
//!
//! Only what follows from the token and the plan alone, so that no key, no route and no answer has a say in it, and that
//! its key is unknown, for as long as the keys stay the same and nobody would fetch others. Whoever sends a new token each
//! time pays as before, and what he pushes out is read once more.

use std::time::Duration;

use quick_cache::sync::Cache;

use super::digest::Fingerprint;
use super::fault::Refusal;
use crate::config::plan::IssuerId;

/// Long enough for those who try again at once; so short that a wall clock which was wrong is soon forgiven.
const FOR: Duration = Duration::from_secs(10);
const MOST: usize = 1024;

pub(super) struct Refused(Cache<Fingerprint, Known>);

#[derive(Clone, Copy)]
pub(super) struct Known {
    /// Whose token it was.
    pub(super) issuer: Option<IssuerId>,
    pub(super) refusal: Refusal,
    /// The number of the key set that does not have its key.
    pub(super) key_set: Option<u64>,
    until: Duration,
}

impl Refused {
    pub(super) fn new() -> Self {
        Refused(Cache::new(MOST))
    }

    /// `now` by the monotonic clock.
    pub(super) fn get(&self, print: Fingerprint, now: Duration) -> Option<Known> {
        self.0.get(&print).filter(|known| now < known.until)
    }

    /// A token that is not valid yet will be, and is not remembered.
    pub(super) fn put(
        &self,
        print: Fingerprint,
        issuer: Option<IssuerId>,
        refusal: Refusal,
        key_set: Option<u64>,
        now: Duration,
    ) {
        if refusal == Refusal::NotYetValid {
            return;
        }
        let until = now.saturating_add(FOR);
        let known = Known {
            issuer,
            refusal,
            key_set,
            until,
        };
        self.0.insert(print, known);
    }
}
