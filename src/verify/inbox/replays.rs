//! Messages that had their effect, until they are void anyway.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

/// About a megabyte, and far more than an issuer says in an hour. Only what it signed enters.
const MOST: usize = 10_000;

#[derive(Default)]
pub(in crate::verify) struct Replays {
    /// When each is void.
    seen: Mutex<HashMap<String, u64>>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Replayed {
    Before,
    /// It might have been: there is no place to remember it.
    Full,
}

impl Replays {
    pub(super) fn note(&self, id: &str, ends: u64, now: u64) -> Result<(), Replayed> {
        let mut seen = self.seen();
        if seen.get(id).is_some_and(|ends| now < *ends) {
            return Err(Replayed::Before);
        }
        if seen.len() >= MOST {
            seen.retain(|_, ends| now < *ends);
        }
        if seen.len() >= MOST {
            return Err(Replayed::Full);
        }
        seen.insert(id.to_owned(), ends);
        Ok(())
    }

    pub(super) fn forget(&self, id: &str) {
        self.seen().remove(id);
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        // Each holder makes a few assignments that cannot panic.
        self.seen.lock().unwrap_or_else(|e| e.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_once_until_it_is_void() {
        let replays = Replays::default();
        assert_eq!(replays.note("a", 10, 0), Ok(()));
        assert_eq!(replays.note("a", 10, 9), Err(Replayed::Before));
        assert_eq!(replays.note("b", 10, 9), Ok(()));
        assert_eq!(replays.note("a", 20, 10), Ok(()));
        replays.forget("a");
        assert_eq!(replays.note("a", 20, 10), Ok(()));
    }

    #[test]
    fn memory_is_bounded_and_nothing_is_forgotten_for_it() {
        let replays = Replays::default();
        for number in 0..MOST {
            assert_eq!(replays.note(&number.to_string(), 10, 0), Ok(()));
        }
        assert_eq!(replays.note("more", 10, 9), Err(Replayed::Full));
        assert_eq!(replays.note("0", 10, 9), Err(Replayed::Before));
        assert_eq!(replays.note("more", 20, 10), Ok(()));
        assert_eq!(replays.seen().len(), 1);
    }
}
