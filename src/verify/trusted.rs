//! One issuer whose tokens we may believe, and what of it a new plan keeps: all of it where nothing changed, its keys
//! where they come from the same place.

use std::any::Any;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Verifier;
use super::cache::Proofs;
use super::crypto;
use super::digest::Fingerprints;
use super::dpop::Dpop;
use super::fetch::{self, KeySource};
use super::grants::{Forwarded, Granted};
use super::inbox::Inbox;
use super::introspect::Introspector;
use super::jws::Headers;
use super::keys::KeyStore;
use super::not_before::Watch;
use super::refused::Refused;
use super::revoked::Revocations;
use crate::clock::Clock;
use crate::config::plan::{AskWhen, IssuerId, IssuerPlan, Plan};
use crate::observe::metrics::{IssuerMetrics, Metrics};

pub(super) struct Trusted {
    pub(super) id: IssuerId,
    /// No two that were ever made have the same, and none has 0. A kept proof says for which it was made: what another
    /// plan's rules let in proves nothing here.
    pub(super) number: u64,
    pub(super) plan: IssuerPlan,
    pub(super) keys: Arc<KeyStore>,
    pub(super) granted: Arc<Granted>,
    pub(super) introspector: Option<Arc<Introspector>>,
    pub(super) watch: Option<Arc<Watch>>,
    pub(super) inbox: Inbox,
    pub(super) metrics: Arc<IssuerMetrics>,
    authorities: Authorities,
    forwarded: Forwarded,
}

/// What of an issuer somebody has to look after, as long as a plan has it.
pub struct Tended {
    keys: Arc<KeyStore>,
    watch: Option<Arc<Watch>>,
}

impl Tended {
    /// Two that have the same are the same.
    pub fn identity(&self) -> Vec<Arc<dyn Any + Send + Sync>> {
        let mut identity: Vec<Arc<dyn Any + Send + Sync>> = vec![self.keys.clone()];
        identity.extend(self.watch.clone().map(|watch| watch as _));
        identity
    }

    /// Keeps the issuer's keys fresh, and follows its not-before, until dropped.
    pub async fn keep_fresh(self) {
        let Tended { keys, watch } = self;
        let Some(watch) = watch else {
            keys.restore();
            return keys.keep_fresh().await;
        };
        // Before the keys: until they are there no token is judged.
        watch.look().await;
        keys.restore();
        tokio::join!(keys.keep_fresh(), watch.keep_looking());
    }
}

/// What all issuers of a verifier are made with.
struct World {
    forwarded: Forwarded,
    revocations: Arc<Revocations>,
    clock: Clock,
    metrics: Arc<Metrics>,
}

/// The digest of the file `ca`: it may change while its name stays.
type Authorities = Option<[u8; 32]>;

impl Verifier {
    /// Fails on what no waiting can cure, such as an unreadable CA file; never because an issuer is down.
    pub fn new(plan: &Plan, clock: Clock, metrics: Arc<Metrics>) -> Result<Self, String> {
        Self::first(plan, clock, metrics, fetch::source)
    }

    /// For a process that takes over: what is revoked, and the file that says so, its predecessor has still.
    pub fn apart(plan: &Plan, clock: Clock, metrics: Arc<Metrics>) -> Result<Self, String> {
        let revocations = Revocations::apart(plan, clock.clone())?;
        Self::of(plan, revocations, clock, metrics, fetch::source, None)
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn with_sources(
        plan: &Plan,
        clock: Clock,
        metrics: Arc<Metrics>,
        sources: Vec<Box<dyn KeySource>>,
    ) -> Result<Self, String> {
        let mut sources = sources.into_iter();
        Self::first(plan, clock, metrics, |_, _| {
            sources.next().ok_or_else(|| "too few sources".to_owned())
        })
    }

    fn first(
        plan: &Plan,
        clock: Clock,
        metrics: Arc<Metrics>,
        source: impl FnMut(&IssuerPlan, &Clock) -> Result<Box<dyn KeySource>, String>,
    ) -> Result<Self, String> {
        let revocations = Revocations::of(plan, clock.clone())?;
        Self::of(plan, revocations, clock, metrics, source, None)
    }

    /// The same for another plan. What it shares with this one is not changed by it.
    pub fn renewed(&self, plan: &Plan, metrics: Arc<Metrics>) -> Result<Self, String> {
        let (revocations, clock) = (self.revocations.clone(), self.clock.clone());
        Self::of(plan, revocations, clock, metrics, fetch::source, Some(self))
    }

    fn of(
        plan: &Plan,
        revocations: Arc<Revocations>,
        clock: Clock,
        metrics: Arc<Metrics>,
        mut source: impl FnMut(&IssuerPlan, &Clock) -> Result<Box<dyn KeySource>, String>,
        old: Option<&Verifier>,
    ) -> Result<Self, String> {
        crypto::install();
        let world = World {
            forwarded: Forwarded::new(plan),
            revocations,
            clock,
            metrics,
        };
        let issuers = plan.issuers.iter().enumerate().map(|(index, issuer)| {
            let named = |old: &&Arc<Trusted>| old.plan.name == issuer.name;
            let old = old.and_then(|old| old.issuers.iter().find(named));
            Trusted::of(IssuerId(index), issuer, &world, &mut source, old)
        });
        let issuers = issuers.collect::<Result<_, String>>()?;
        let cache = plan.token_cache.clone();
        let (proofs, fingerprints) = match old.filter(|old| old.cache == cache) {
            Some(same) => (same.proofs.clone(), same.fingerprints.clone()),
            None => {
                let evictions = Some(world.metrics.token_cache_evictions());
                let proofs = Proofs::new(cache.max_bytes, cache.max_age, evictions);
                (Arc::new(proofs), Arc::new(Fingerprints::new()?))
            }
        };
        // What was accepted before, another plan accepts no more than this one does.
        let dpop = match old {
            Some(old) => old.dpop.clone(),
            None => Arc::new(Dpop::new(world.clock.clone())?),
        };
        Ok(Verifier {
            issuers,
            dpop,
            proofs,
            fingerprints,
            refused: Refused::new(),
            cache,
            headers: Headers::default(),
            revocations: world.revocations,
            clock: world.clock,
            metrics: world.metrics,
        })
    }
}

impl Trusted {
    /// When the issuer is asked about a token; never, where it cannot be.
    pub(super) fn when(&self) -> AskWhen {
        let asker = self.introspector.as_ref();
        asker.map(|asker| asker.when()).unwrap_or_default()
    }

    pub(super) fn tended(&self) -> Tended {
        Tended {
            keys: self.keys.clone(),
            watch: self.watch.clone(),
        }
    }

    fn of(
        id: IssuerId,
        plan: &IssuerPlan,
        world: &World,
        source: &mut impl FnMut(&IssuerPlan, &Clock) -> Result<Box<dyn KeySource>, String>,
        old: Option<&Arc<Trusted>>,
    ) -> Result<Arc<Self>, String> {
        let authorities = plan.ca.as_deref().and_then(authorities);
        let trusting_the_same = old.filter(|old| old.authorities == authorities);
        if let Some(old) = trusting_the_same
            && (old.id, &old.plan) == (id, plan)
            && old.forwarded == world.forwarded
        {
            return Ok(old.clone());
        }
        let (clock, metrics) = (&world.clock, world.metrics.issuer(id));
        let revocations = &world.revocations;
        let keys = match trusting_the_same.filter(|old| keys_alike(&old.plan, plan)) {
            Some(old) if paced_alike(&old.plan, plan) => old.keys.clone(),
            old => {
                let (source, clock) = (source(plan, clock)?, clock.clone());
                let old = old.map(|old| &*old.keys);
                KeyStore::new(plan, source, clock, metrics.clone(), old)
            }
        };
        let watch = match trusting_the_same.filter(|old| watched_alike(&old.plan, plan)) {
            Some(old) => old.watch.clone(),
            None => Watch::new(plan, revocations.clone(), metrics.clone(), clock)?.map(Arc::new),
        };
        let granted = Granted::new(id, plan, world.forwarded.clone());
        let introspector =
            Introspector::new(plan, granted.clone(), clock.clone(), metrics.clone())?;
        static LAST: AtomicU64 = AtomicU64::new(0);
        Ok(Arc::new(Trusted {
            id,
            number: LAST.fetch_add(1, Ordering::Relaxed) + 1,
            plan: plan.clone(),
            inbox: Inbox::new(
                plan,
                keys.clone(),
                revocations.clone(),
                old.map(|old| old.inbox.replays()).unwrap_or_default(),
                clock.clone(),
                metrics.clone(),
            ),
            keys,
            granted,
            introspector,
            watch,
            metrics: metrics.clone(),
            authorities,
            forwarded: world.forwarded.clone(),
        }))
    }
}

/// What is not there now is an error of whoever needs it.
fn authorities(ca: &Path) -> Authorities {
    let pem = std::fs::read(ca).ok()?;
    let digest = ring::digest::digest(&ring::digest::SHA256, &pem);
    digest.as_ref().try_into().ok()
}

/// Whether a key set of the one is a key set of the other.
fn keys_alike(a: &IssuerPlan, b: &IssuerPlan) -> bool {
    (&a.issuer, &a.keys_from, a.insecure, &a.ca, &a.algorithms)
        == (&b.issuer, &b.keys_from, b.insecure, &b.ca, &b.algorithms)
}

fn paced_alike(a: &IssuerPlan, b: &IssuerPlan) -> bool {
    // A snapshot is written with the leeway.
    (&a.keys, a.leeway) == (&b.keys, b.leeway)
}

fn watched_alike(a: &IssuerPlan, b: &IssuerPlan) -> bool {
    (&a.not_before, a.keys.timeout, a.insecure, &a.ca)
        == (&b.not_before, b.keys.timeout, b.insecure, &b.ca)
}
