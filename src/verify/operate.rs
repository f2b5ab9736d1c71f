//! What an operator sees of a verifier and does to it, beside its judging tokens.

use std::sync::Arc;

use super::inbox::Unheard;
use super::revoked::{NotBefore, Revocations};
use super::trusted::{Tended, Trusted};
use super::{HeldKey, KeysState, Verifier};
use crate::config::plan::IssuerId;

/// An issuer's not-before as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldNotBefore {
    pub not_before: NotBefore,
    /// Its realm document is looked at.
    pub followed: bool,
    /// Why the last look brought nothing.
    pub fault: Option<String>,
}

impl Verifier {
    /// Per issuer, what `/readyz` says about its keys.
    pub fn readiness(&self) -> Vec<(Arc<str>, KeysState)> {
        let issuers = self.issuers.iter();
        issuers
            .map(|issuer| (issuer.plan.name.clone(), issuer.keys.state_of_keys()))
            .collect()
    }

    /// Whether an issuer is not asked about tokens now because it does not answer; `None` if it never is.
    pub fn breaker_open(&self, issuer: IssuerId) -> Option<bool> {
        let asker = self.issuers[issuer.0].introspector.as_ref()?;
        Some(asker.is_open())
    }

    /// The keys that an issuer's tokens are proved with.
    pub fn keys(&self, issuer: IssuerId) -> Vec<HeldKey> {
        self.issuers[issuer.0].keys.held()
    }

    /// Brings the gauges of keys, breakers, revocations and kept proofs up to date. Call it before a scrape is
    /// answered.
    pub fn publish(&self) {
        for issuer in &self.issuers {
            issuer.keys.publish();
            if let Some(asker) = &issuer.introspector {
                asker.publish();
            }
            let not_before = self.revocations.not_before(&issuer.plan.name);
            issuer.metrics.not_before(not_before.in_force());
        }
        for (kind, count) in self.revocations.held() {
            self.metrics.revocations_held(kind.name(), count);
        }
        let cache = &self.proofs;
        self.metrics.token_cache(cache.entries(), cache.bytes());
    }

    /// Keeps one issuer's keys fresh, and follows its not-before, until dropped; run by a background service for each
    /// issuer.
    pub async fn keep_fresh(&self, issuer: IssuerId) {
        self.issuers[issuer.0].tended().keep_fresh().await;
    }

    /// What has to be looked after, an issuer each.
    pub fn tended(&self) -> impl Iterator<Item = Tended> {
        self.issuers.iter().map(|issuer| issuer.tended())
    }

    /// The issuers whose tokens cannot be proved yet, and that this verifier does not share with an older one.
    pub fn unready_since(&self, old: &Verifier) -> usize {
        let shared = |keys| old.issuers.iter().any(|old| Arc::ptr_eq(&old.keys, keys));
        let unready = self.issuers.iter().filter(|issuer| {
            !shared(&issuer.keys) && issuer.keys.state_of_keys().problem.is_some()
        });
        unready.count()
    }

    /// Fetches one issuer's keys now, past any cool-down; whether usable ones came.
    pub async fn refresh(&self, issuer: IssuerId) -> bool {
        self.issuers[issuer.0].keys.refresh().await
    }

    /// What is refused before its time.
    pub fn revocations(&self) -> &Arc<Revocations> {
        &self.revocations
    }

    pub fn not_before(&self, issuer: IssuerId) -> HeldNotBefore {
        let Trusted { plan, watch, .. } = &*self.issuers[issuer.0];
        HeldNotBefore {
            not_before: self.revocations.not_before(&plan.name),
            followed: watch.is_some(),
            fault: watch.as_ref().and_then(|watch| watch.fault()),
        }
    }

    /// Keycloak's `k_push_not_before`, as it came.
    pub async fn push_not_before(&self, issuer: IssuerId, message: &str) -> Result<(), Unheard> {
        self.issuers[issuer.0].inbox.push(message).await
    }

    /// A logout token, as it came.
    pub async fn log_out(&self, issuer: IssuerId, token: &str) -> Result<(), Unheard> {
        self.issuers[issuer.0].inbox.logout(token).await
    }
}
