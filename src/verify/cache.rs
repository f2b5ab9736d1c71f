//! Proofs that are kept: a token is known by a digest of all of it, and a hit is one digest and one look-up.
//!
//! Only proofs enter, so that garbage cannot push good tokens out. What was true when a token was proved is asked again
//! on each hit: its times, and that the issuer still has the very key that signed it. That nobody revoked it the
//! verifier asks of every proof, kept or new: one that is revoked stays, so that it costs no signature and no question.
//! Plans share the cache as long as its size stays, and a proof is good for as long as the rules are the very ones that
//! it passed: what was proved for an issuer that has changed since is never found.

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus::IntCounter;
use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Lifecycle, Weighter};

use super::binding::{Binding, Thumbprint};
use super::claims::Claims;
use super::crypto::VerifyingKey;
use super::grants::heap;
use super::keys::KeyStore;
use super::principal::Principal;
use super::revoked::{Facts, Revocations};
use crate::clock::{Clock, millis};

/// Somebody, and everything that must still hold when a kept proof is used.
#[derive(Debug)]
pub(super) struct Proved {
    pub(super) principal: Principal,
    /// The key that the signature was checked with; `None` when the issuer's word alone is the proof.
    pub(super) signed_by: Option<Arc<VerifyingKey>>,
    /// The key set that was last seen to have this key.
    seen_in: AtomicU64,
    /// The epoch of the revocations at which it was last found clear of them.
    clear_at: AtomicU64,
    /// The number of the issuer, as the plan had it, that it was proved for.
    proved_for: u64,
    named: Named,
    pub(super) times: Times,
    /// What its user has to show beside it.
    bound_to: Option<Binding>,
    weight: u64,
}

/// When a proof stands for its token.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// The first second in which the token is valid, leeway included.
    pub(super) born_at: u64,
    /// The first second in which it is expired, leeway included.
    pub(super) dead_at: u64,
    /// Milliseconds by the monotonic clock; for an answer, when the question was sent.
    proved_at: u64,
    /// `dead_at` by the monotonic clock: a wall clock that is set back does not revive a proof.
    dies_at: u64,
}

impl Times {
    /// `at` is when it was proved.
    pub(super) fn new(begins: u64, expires: u64, leeway: Duration, at: Now) -> Self {
        let leeway = leeway.as_secs();
        let dead_at = expires.saturating_add(leeway);
        let left = dead_at.saturating_sub(at.unix).saturating_mul(1000);
        Times {
            born_at: begins.saturating_sub(leeway),
            dead_at,
            proved_at: millis(at.monotonic),
            dies_at: millis(at.monotonic).saturating_add(left),
        }
    }

    /// Whether the token has died, by either clock.
    pub(super) fn are_over(&self, now: Now) -> bool {
        now.unix >= self.dead_at || millis(now.monotonic) >= self.dies_at
    }

    fn last(&self, max_age: Duration, now: Now) -> bool {
        let moment = millis(now.monotonic);
        now.unix < self.dead_at
            && moment < self.dies_at
            && now.unix >= self.born_at
            && moment.saturating_sub(self.proved_at) < millis(max_age)
    }
}

/// What a token can be revoked by, beside what its principal says.
#[derive(Debug, Default)]
pub(super) struct Named {
    pub(super) token_id: Option<Box<str>>,
    pub(super) issued_at: Option<u64>,
    rare: Option<Box<Rare>>,
}

/// What the proof of a machine's token by its signature does not have, and so takes no room for.
#[derive(Debug, Default)]
struct Rare {
    session: Option<Box<str>>,
    /// Only if the principal does not say it.
    subject: Option<Box<str>>,
    /// What its header says, if no key was found for it: the issuer's yes does not undo that the key is out.
    kid: Option<Box<str>>,
}

impl Named {
    pub(super) fn of(claims: &Claims<'_>) -> Self {
        let session = claims.session().map(Box::from);
        Named {
            token_id: claims.token_id().map(Box::from),
            issued_at: claims.issued_at(),
            rare: session.map(|session| {
                Box::new(Rare {
                    session: Some(session),
                    ..Rare::default()
                })
            }),
        }
    }

    /// Of a token that its issuer is to be asked about: no principal says its subject yet, and `kid` is what its header
    /// says if no key was found for it.
    pub(super) fn in_question(claims: &Claims<'_>, kid: Option<&str>) -> Self {
        let mut named = Named::of(claims);
        let rare = named.rare.get_or_insert_default();
        rare.subject = claims.subject().map(Box::from);
        rare.kid = kid.map(Box::from);
        named
    }

    /// The principal says it.
    pub(super) fn forget_subject(&mut self) {
        if let Some(rare) = &mut self.rare {
            rare.subject = None;
            let is_empty = |rare: &mut Box<Rare>| rare.session.is_none() && rare.kid.is_none();
            self.rare.take_if(is_empty);
        }
    }

    fn session(&self) -> Option<&str> {
        self.rare.as_ref()?.session.as_deref()
    }

    fn subject(&self) -> Option<&str> {
        self.rare.as_ref()?.subject.as_deref()
    }

    fn kid(&self) -> Option<&str> {
        self.rare.as_ref()?.kid.as_deref()
    }

    /// What an answer says, else what the token that it is about says of itself.
    pub(super) fn or(self, token: Named) -> Self {
        let rare = match (self.rare, token.rare) {
            (Some(ours), Some(theirs)) => Some(Box::new(Rare {
                session: ours.session.or(theirs.session),
                subject: ours.subject.or(theirs.subject),
                kid: ours.kid.or(theirs.kid),
            })),
            (ours, theirs) => ours.or(theirs),
        };
        Named {
            token_id: self.token_id.or(token.token_id),
            issued_at: self.issued_at.or(token.issued_at),
            rare,
        }
    }
}

impl Proved {
    pub(super) fn new(
        principal: Principal,
        signed_by: Option<Arc<VerifyingKey>>,
        named: Named,
        times: Times,
    ) -> Self {
        let weight = weight(&principal, &named);
        Proved {
            principal,
            signed_by,
            seen_in: AtomicU64::new(0),
            clear_at: AtomicU64::new(0),
            proved_for: 0,
            named,
            times,
            bound_to: None,
            weight,
        }
    }

    /// Notes whose rules it passed: see `Trusted::number`.
    pub(super) fn proved_for(mut self, issuer: u64) -> Self {
        self.proved_for = issuer;
        self
    }

    pub(super) fn was_proved_for(&self, issuer: u64) -> bool {
        self.proved_for == issuer
    }

    pub(super) fn bound_to(mut self, binding: Option<Binding>) -> Self {
        self.weight += binding.as_ref().map_or(0, |_| heap(Binding::BYTES));
        self.bound_to = binding;
        self
    }

    /// Whether who shows this certificate may use the token.
    pub(super) fn may_be_used_by(&self, certificate: Option<&Thumbprint>) -> bool {
        let bound_to = self.bound_to.as_ref();
        bound_to.is_none_or(|binding| binding.is_met_by(certificate))
    }

    /// The thumbprint of the key that the token is bound to.
    pub(super) fn holder(&self) -> Option<&Thumbprint> {
        self.bound_to.as_ref()?.key()
    }

    /// Whether nobody has revoked it. Until something is added to the revocations that costs two loads.
    pub(super) fn is_clear(&self, revocations: &Revocations) -> bool {
        // Read first: what is added during the look-up is looked up again.
        let epoch = revocations.epoch();
        if self.clear_at.load(Ordering::Relaxed) == epoch {
            return true;
        }
        let subject = self.principal.subject();
        let clear = !revocations.revoked(&Facts {
            issuer: &self.principal.grants.issuer_name,
            jti: self.named.token_id.as_deref(),
            sub: subject.as_deref().or(self.named.subject()),
            sid: self.named.session(),
            client: &self.principal.grants.client,
            kid: match &self.signed_by {
                Some(key) => Some(key.kid()),
                None => self.named.kid(),
            },
            issued_at: self.named.issued_at,
        });
        if clear {
            self.clear_at.store(epoch, Ordering::Relaxed);
        }
        clear
    }

    /// Whether it may stand for the token now, unless somebody revoked it.
    pub(super) fn holds(&self, keys: &KeyStore, max_age: Duration, now: Now) -> bool {
        self.times.last(max_age, now)
            && self
                .signed_by
                .as_ref()
                .is_none_or(|key| keys.holds(key, &self.seen_in, now.monotonic))
    }
}

/// One reading of both clocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub(super) unix: u64,
    pub(super) monotonic: Duration,
}

impl Now {
    pub(super) fn of(clock: &Clock) -> Self {
        Now {
            unix: clock.unix(),
            monotonic: clock.monotonic(),
        }
    }
}

/// Bounded in bytes. `K` is what a token is known by.
pub(super) struct Proofs<K> {
    cache: Cache<K, Arc<Proved>, Bytes, DefaultHashBuilder, Evicted>,
    max_age: Duration,
}

impl<K: Copy + Eq + Hash> Proofs<K> {
    /// `evictions` counts what was pushed out before its time.
    pub(super) fn new(max_bytes: u64, max_age: Duration, evictions: Option<IntCounter>) -> Self {
        // Fewer than fit, at half a kilobyte each beside the grants: the number sizes tables at the start, and they grow.
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

    /// The proof of this token, if there is one that is not older than `max_age` and still holds: `keys` says with which
    /// store, `None` if it was proved for an issuer that is no more. One that is dead is dropped; one that is only too old for this caller stays for others.
    pub(super) fn get<'k>(
        &self,
        known_by: &K,
        max_age: Duration,
        now: Now,
        keys: impl FnOnce(&Proved) -> Option<&'k KeyStore>,
    ) -> Option<Arc<Proved>> {
        let proved = self.cache.get(known_by)?;
        let store = keys(&proved);
        let holds = |max_age| store.is_some_and(|store| proved.holds(store, max_age, now));
        if holds(max_age) {
            return Some(proved);
        }
        if !holds(self.max_age.max(max_age)) {
            self.cache
                .remove_if(known_by, |kept| Arc::ptr_eq(kept, &proved));
        }
        None
    }

    pub(super) fn put(&self, known_by: K, proved: Arc<Proved>) {
        self.cache.insert(known_by, proved);
    }

    /// What was proved is no longer so.
    pub(super) fn forget(&self, known_by: &K) {
        self.cache.remove(known_by);
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

impl<K> Weighter<K, Arc<Proved>> for Bytes {
    fn weight(&self, _: &K, proved: &Arc<Proved>) -> u64 {
        proved.weight
    }
}

#[derive(Clone)]
struct Evicted(Option<IntCounter>);

impl<K> Lifecycle<K, Arc<Proved>> for Evicted {
    type RequestState = ();

    fn on_evict(&self, (): &mut (), _: K, _: Arc<Proved>) {
        if let Some(evictions) = &self.0 {
            evictions.inc();
        }
    }
}

/// The entry in the cache, the proof itself, and its share of the grants: they are counted in full for the first of
/// their tokens, half for the second, and so on, so that no mix of tokens takes much more than it is weighed.
fn weight(principal: &Principal, named: &Named) -> u64 {
    const ENTRY: u64 = 96;
    let text = |text: Option<&str>| text.map_or(0, |text| heap(text.len()));
    let subject = principal.subject.as_ref();
    // The table of shared grants and this principal hold one each.
    let sharers = Arc::strong_count(&principal.grants)
        .saturating_sub(1)
        .max(1) as u64;
    ENTRY
        + heap(size_of::<Proved>() + 16)
        + text(named.token_id.as_deref())
        + named.rare.as_ref().map_or(0, |_| heap(size_of::<Rare>()))
        + text(named.session())
        + text(named.subject())
        + text(named.kid())
        // With the counters of its `Arc`.
        + subject.map_or(0, |subject| heap(subject.len() + 16))
        + principal.grants.bytes() / sharers
}
