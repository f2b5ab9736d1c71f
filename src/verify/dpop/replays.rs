//! Proofs that were accepted, until they are void anyway (RFC 9449 section 11.1).
//!
//! A proof is known by half of a SHA-256 of its holder and its `jti`: two clients that count from one do not meet, and
//! no length of a `jti` costs memory. Memory is bounded; when it is full, no proof is accepted that could not be
//! remembered.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use ring::digest::{Context, SHA256};

use crate::verify::binding::Thumbprint;

/// In all: some 17,000 requests a second for a minute, and 44 MiB when it is full.
pub(super) const MOST: usize = 1 << 20;
/// So that requests seldom wait for one another.
const SHARDS: usize = 16;

type Id = [u8; 16];

pub(super) struct Replays {
    shards: [Mutex<Shard>; SHARDS],
    /// In each shard.
    most: usize,
}

#[derive(Default)]
struct Shard {
    /// When each is void, in seconds of the monotonic clock.
    seen: HashMap<Id, u32>,
    /// When what is void was last thrown out.
    swept: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Replayed {
    Before,
    /// It might have been: there is no place to remember it.
    Full,
}

impl Default for Replays {
    fn default() -> Self {
        Replays::holding(MOST)
    }
}

impl Replays {
    pub(super) fn holding(most: usize) -> Self {
        Replays {
            shards: Default::default(),
            most: most / SHARDS,
        }
    }

    /// Remembers a proof, once.
    pub(super) fn note(
        &self,
        holder: &Thumbprint,
        jti: &str,
        ends: u64,
        now: u64,
    ) -> Result<(), Replayed> {
        let id = id_of(holder, jti);
        let mut shard = self.lock(usize::from(id[0]) % SHARDS);
        let shard = &mut *shard;
        let is_alive = |ends: u32| now < u64::from(ends);
        if shard.seen.get(&id).is_some_and(|ends| is_alive(*ends)) {
            return Err(Replayed::Before);
        }
        // Once a second at most: a flood must not make us look through all of it for each of its proofs.
        let due = shard.seen.len() >= self.most || now >= shard.swept + super::PAST;
        if due && now > shard.swept {
            shard.swept = now;
            shard.seen.retain(|_, ends| is_alive(*ends));
            // What one flood took is not held for ever.
            shard.seen.shrink_to(shard.seen.len() * 2);
        }
        if shard.seen.len() >= self.most {
            return Err(Replayed::Full);
        }
        let ends = u32::try_from(ends).unwrap_or(u32::MAX);
        shard.seen.insert(id, ends);
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        (0..SHARDS).map(|shard| self.lock(shard).seen.len()).sum()
    }

    fn lock(&self, shard: usize) -> MutexGuard<'_, Shard> {
        // Each holder makes a few assignments that cannot panic.
        self.shards[shard].lock().unwrap_or_else(|e| e.into_inner())
    }
}

fn id_of(holder: &Thumbprint, jti: &str) -> Id {
    let mut hash = Context::new(&SHA256);
    hash.update(holder);
    hash.update(jti.as_bytes());
    let mut id = Id::default();
    id.copy_from_slice(&hash.finish().as_ref()[..16]);
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANNA: Thumbprint = [1; 32];
    const BERT: Thumbprint = [2; 32];

    #[test]
    fn a_proof_comes_once_until_it_is_void() {
        let replays = Replays::default();
        assert_eq!(replays.note(&ANNA, "1", 10, 0), Ok(()));
        assert_eq!(replays.note(&ANNA, "1", 10, 0), Err(Replayed::Before));
        assert_eq!(replays.note(&ANNA, "1", 80, 9), Err(Replayed::Before));
        // Another key's is another one.
        assert_eq!(replays.note(&BERT, "1", 10, 0), Ok(()));
        assert_eq!(replays.note(&ANNA, "2", 10, 0), Ok(()));
        assert_eq!(replays.len(), 3);
        assert_eq!(replays.note(&ANNA, "1", 20, 10), Ok(()));
    }

    #[test]
    fn memory_is_bounded_and_nothing_is_forgotten_for_it() {
        let replays = Replays::holding(SHARDS * 4);
        let mut kept = Vec::new();
        let mut full = 0;
        for jti in 0..1000 {
            let jti = jti.to_string();
            match replays.note(&ANNA, &jti, 100, 1) {
                Ok(()) => kept.push(jti),
                Err(refused) => {
                    assert_eq!(refused, Replayed::Full);
                    full += 1;
                }
            }
        }
        assert_eq!((kept.len(), full), (SHARDS * 4, 1000 - SHARDS * 4));
        assert_eq!(replays.len(), kept.len());
        for jti in &kept {
            let again = replays.note(&ANNA, jti, 100, 99);
            assert_eq!(again, Err(Replayed::Before), "{jti}");
        }
        // What is void makes room.
        for jti in 0..SHARDS {
            assert_eq!(replays.note(&BERT, &jti.to_string(), 200, 100), Ok(()));
        }
        assert!(replays.len() < kept.len());
    }

    #[test]
    fn what_is_void_is_thrown_out_though_there_is_room() {
        let replays = Replays::default();
        for jti in 0..1000 {
            assert_eq!(replays.note(&ANNA, &jti.to_string(), 62, 0), Ok(()));
        }
        for jti in 0..1000 {
            assert_eq!(replays.note(&BERT, &jti.to_string(), 200, 100), Ok(()));
        }
        assert_eq!(replays.len(), 1000);
    }
}
