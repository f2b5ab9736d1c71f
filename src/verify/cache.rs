//! Proofs that are kept: a token is known by the SHA-256 of all of it, and a hit is one digest and one look-up.
//!
//! Only proofs enter, so that garbage cannot push good tokens out. What was true when a token was proved is asked again
//! on each hit: its times, and that the issuer still has the very key that signed it. A plan has its own verifier and
//! so its own caches: nothing that another configuration proved is ever found here.

use std::sync::Arc;
use std::time::Duration;

use prometheus::IntCounter;
use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Lifecycle, Weighter};
use serde_json::Value;

use super::crypto::RingVerifier;
use super::keys::KeyStore;
use super::principal::Principal;

/// Of the whole token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct TokenHash([u8; 32]);

impl TokenHash {
    pub(super) fn of(token: &str) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
        let mut hash = [0; 32];
        hash.copy_from_slice(digest.as_ref());
        TokenHash(hash)
    }
}

/// The key that a signature was checked with.
#[derive(Debug, Clone)]
pub(super) struct SignedBy {
    pub(super) kid: Box<str>,
    pub(super) key: Arc<RingVerifier>,
}

/// Somebody, and everything that must still hold when a kept proof is used.
#[derive(Debug)]
pub(super) struct Proved {
    pub(super) principal: Arc<Principal>,
    /// `None` when the issuer's word alone is the proof.
    pub(super) signed_by: Option<SignedBy>,
    /// The first second in which it is expired, leeway included.
    pub(super) dead_at: u64,
    /// The first second in which it is valid, leeway included.
    pub(super) born_at: u64,
    /// By the monotonic clock; for an answer, when the question was sent.
    pub(super) proved_at: Duration,
    weight: u64,
}

impl Proved {
    pub(super) fn new(
        principal: Principal,
        signed_by: Option<SignedBy>,
        (born_at, dead_at): (u64, u64),
        proved_at: Duration,
    ) -> Self {
        let weight = weight(&principal, signed_by.as_ref());
        Proved {
            principal: Arc::new(principal),
            signed_by,
            dead_at,
            born_at,
            proved_at,
            weight,
        }
    }

    /// Whether it may stand for the token now. A later check of revocations belongs here.
    pub(super) fn holds(&self, keys: &KeyStore, max_age: Duration, now: Now) -> bool {
        now.unix < self.dead_at
            && now.unix >= self.born_at
            && now.monotonic.saturating_sub(self.proved_at) < max_age
            && self
                .signed_by
                .as_ref()
                .is_none_or(|by| keys.holds(&by.kid, &by.key))
    }
}

/// One reading of both clocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub(super) unix: u64,
    pub(super) monotonic: Duration,
}

/// Bounded in bytes.
pub(super) struct Proofs {
    cache: Cache<TokenHash, Arc<Proved>, Bytes, DefaultHashBuilder, Evicted>,
    max_age: Duration,
}

impl Proofs {
    /// `evictions` counts what was pushed out before its time.
    pub(super) fn new(max_bytes: u64, max_age: Duration, evictions: Option<IntCounter>) -> Self {
        // A Keycloak token's proof takes some four kilobytes; the number only sizes tables at the start.
        let entries = usize::try_from(max_bytes / 4096).unwrap_or(usize::MAX);
        Proofs {
            cache: Cache::with(
                entries.clamp(1, 1 << 20),
                max_bytes,
                Bytes,
                DefaultHashBuilder::default(),
                Evicted(evictions),
            ),
            max_age,
        }
    }

    /// The proof of this token, if there is one that is not older than `max_age` and still holds. One that is dead is
    /// dropped; one that is only too old for this caller stays for others.
    pub(super) fn get<'k>(
        &self,
        hash: &TokenHash,
        max_age: Duration,
        now: Now,
        keys: impl FnOnce(&Proved) -> &'k KeyStore,
    ) -> Option<Arc<Proved>> {
        let proved = self.cache.get(hash)?;
        let store = keys(&proved);
        if proved.holds(store, max_age, now) {
            return Some(proved);
        }
        if !proved.holds(store, self.max_age.max(max_age), now) {
            self.cache
                .remove_if(hash, |kept| Arc::ptr_eq(kept, &proved));
        }
        None
    }

    pub(super) fn put(&self, hash: TokenHash, proved: Arc<Proved>) {
        self.cache.insert(hash, proved);
    }

    pub(super) fn max_age(&self) -> Duration {
        self.max_age
    }

    pub(super) fn entries(&self) -> usize {
        self.cache.len()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.cache.weight()
    }
}

#[derive(Clone)]
struct Bytes;

impl Weighter<TokenHash, Arc<Proved>> for Bytes {
    fn weight(&self, _: &TokenHash, proved: &Arc<Proved>) -> u64 {
        proved.weight
    }
}

#[derive(Clone)]
struct Evicted(Option<IntCounter>);

impl Lifecycle<TokenHash, Arc<Proved>> for Evicted {
    type RequestState = ();

    fn on_evict(&self, (): &mut (), _: TokenHash, _: Arc<Proved>) {
        if let Some(evictions) = &self.0 {
            evictions.inc();
        }
    }
}

/// What the allocator gives for this text: a size class is up to an eighth larger than what was asked for.
fn heap(bytes: usize) -> u64 {
    let bytes = bytes as u64;
    bytes + bytes / 8 + 16
}

/// The entry in the cache, the two `Arc`s and all that the principal holds, header values included.
fn weight(principal: &Principal, signed_by: Option<&SignedBy>) -> u64 {
    const ENTRY: u64 = 128;
    let list = |list: &[String]| -> u64 {
        heap(size_of_val(list)) + list.iter().map(|text| heap(text.len())).sum::<u64>()
    };
    let roles: u64 = principal
        .client_roles
        .iter()
        .map(|(client, roles)| 64 + heap(client.len()) + list(roles))
        .sum();
    // The identity's five values, made when first used.
    let words: usize = principal
        .scopes
        .iter()
        .chain(&principal.realm_roles)
        .map(|w| w.len() + 1)
        .sum();
    let subject = principal.subject.as_ref().map_or(0, String::len);
    let identity =
        heap(words) + heap(principal.issuer_url.len() + principal.client.len() + subject) + 64;
    ENTRY
        + heap(size_of::<Proved>())
        + heap(size_of::<Principal>())
        + heap(principal.client.len())
        + heap(subject)
        + list(&principal.scopes)
        + list(&principal.realm_roles)
        + roles
        + identity
        + members(&principal.claims)
        + signed_by.map_or(0, |by| heap(by.kid.len()))
}

fn members(map: &serde_json::Map<String, Value>) -> u64 {
    // An entry of the ordered map: hash, name and value, and its place in the index; tables grow by doubling.
    const MEMBER: u64 = 96;
    let inner = |(name, value): (&String, &Value)| MEMBER + heap(name.len()) + outside(value);
    64 + map.iter().map(inner).sum::<u64>()
}

/// What a value holds beside itself.
fn outside(value: &Value) -> u64 {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => heap(text.len()),
        Value::Array(list) => {
            heap(list.len() * 2 * size_of::<Value>()) + list.iter().map(outside).sum::<u64>()
        }
        Value::Object(map) => members(map),
    }
}
