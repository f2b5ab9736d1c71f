//! From a credential to a proved principal. Keycloak's shapes are read here and nowhere else.
//!
//! The cheapest test comes first: a token is taken apart, its header and claims are held against the configuration,
//! and only what could be accepted costs a key look-up, then a signature (RFC 7515 section 5.2, RFC 7519 section 7.2,
//! RFC 8725). Refusing on unproved data is safe; nothing is accepted before the signature held.

mod claims;
mod crypto;
pub mod fault;
mod fetch;
mod json;
mod jwk;
mod jws;
mod keys;
pub mod principal;
mod weak;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

pub use crypto::install as install_crypto;
pub use fault::{Fault, Refusal, Unjudged};
pub use principal::Principal;

use crate::clock::Clock;
use crate::config::plan::{Algorithm, IssuerId, IssuerPlan, Plan};
use crate::credential::BearerToken;
use crate::observe::metrics::Metrics;

use self::claims::Claims;
use self::fetch::KeySource;
use self::jws::Compact;
use self::keys::KeyStore;

/// How the proof was had; the metric label `source`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Local,
}

impl Source {
    /// The metric label and the log's word.
    pub fn label(self) -> &'static str {
        match self {
            Source::Local => "local",
        }
    }
}

/// A key of the current set, for the operator to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldKey {
    pub kid: String,
    /// What it verifies.
    pub algorithms: Vec<Algorithm>,
    /// Since the set that brought it was fetched.
    pub age: Duration,
}

/// What came of one token.
#[derive(Debug)]
pub struct Verdict {
    /// `None` when the token names no issuer of ours.
    pub issuer: Option<IssuerId>,
    pub source: Source,
    pub outcome: Result<Arc<Principal>, Fault>,
}

/// Judges tokens. It counts key fetches; counting verdicts is the caller's, who knows them all.
pub struct Verifier {
    issuers: Vec<Trusted>,
    clock: Clock,
}

/// An issuer whose tokens we may believe.
struct Trusted {
    id: IssuerId,
    plan: IssuerPlan,
    url: Arc<str>,
    keys: Arc<KeyStore>,
}

impl Verifier {
    /// Fails on what no waiting can cure, such as an unreadable CA file; never because an issuer is down.
    pub fn new(plan: &Plan, clock: Clock, metrics: Arc<Metrics>) -> Result<Self, String> {
        let sources = plan.issuers.iter().map(fetch::source);
        let sources = sources.collect::<Result<Vec<_>, _>>()?;
        Ok(Self::with_sources(plan, clock, metrics, sources))
    }

    fn with_sources(
        plan: &Plan,
        clock: Clock,
        metrics: Arc<Metrics>,
        sources: Vec<Box<dyn KeySource>>,
    ) -> Self {
        crypto::install();
        let issuers = plan.issuers.iter().zip(sources).enumerate();
        let issuers = issuers.map(|(index, (issuer, source))| {
            let id = IssuerId(index);
            Trusted {
                id,
                plan: issuer.clone(),
                url: issuer.issuer.as_str().into(),
                keys: KeyStore::new(id, issuer, source, clock.clone(), metrics.clone()),
            }
        });
        Verifier {
            issuers: issuers.collect(),
            clock,
        }
    }

    /// Proves a token. Waits for the network only when its `kid` is unknown (contract, "Proof").
    pub async fn prove(&self, token: BearerToken<'_>) -> Verdict {
        let (issuer, outcome) = match self.claimed(token) {
            Ok((issuer, token, claims)) => {
                (Some(issuer.id), self.judge(issuer, token, claims).await)
            }
            Err(refusal) => (None, Err(refusal.into())),
        };
        Verdict {
            issuer,
            source: Source::Local,
            outcome: outcome.map(Arc::new),
        }
    }

    /// What the token says of itself, as far as it takes to know whose it claims to be.
    fn claimed<'t>(
        &self,
        token: BearerToken<'t>,
    ) -> Result<(&Trusted, Compact<'t>, Claims), Refusal> {
        let token = Compact::read(token.expose())?;
        let claims = Claims::read(&token.payload()?)?;
        let named = claims.issuer()?;
        let issuer = self.issuers.iter().find(|issuer| *issuer.url == *named);
        Ok((issuer.ok_or(Refusal::Issuer)?, token, claims))
    }

    async fn judge(
        &self,
        issuer: &Trusted,
        token: Compact<'_>,
        claims: Claims,
    ) -> Result<Principal, Fault> {
        let plan = &issuer.plan;
        let header = &token.header;
        if !plan.algorithms.contains(&header.algorithm) {
            return Err(Refusal::Algorithm.into());
        }
        // RFC 8725 section 3.11; an absent type counts as the plain one.
        let typ = header.typ.as_deref().unwrap_or("jwt");
        if !plan.token_types.iter().any(|allowed| allowed == typ) {
            return Err(Refusal::HeaderType.into());
        }
        claims.check(plan, header.marks_access_token(), self.clock.unix())?;
        let kid = header.kid.as_deref().ok_or(Refusal::UnknownKey)?;
        issuer
            .keys
            .check(kid, header.algorithm, |key| token.verify(key))
            .await?;
        Ok(claims.into_principal(issuer.id, plan, &issuer.url))
    }

    /// Per issuer, what `/readyz` says about its keys: `Ok(keys)` or why not.
    pub fn readiness(&self) -> Vec<(Arc<str>, Result<usize, String>)> {
        let issuers = self.issuers.iter();
        issuers
            .map(|issuer| (issuer.plan.name.clone(), issuer.keys.readiness()))
            .collect()
    }

    /// The keys that an issuer's tokens are proved with.
    pub fn keys(&self, issuer: IssuerId) -> Vec<HeldKey> {
        self.issuers[issuer.0].keys.held()
    }

    /// Brings the gauges of the keys held and their age up to date. Call it before a scrape is answered.
    pub fn publish(&self) {
        for issuer in &self.issuers {
            issuer.keys.publish();
        }
    }

    /// Keeps one issuer's keys fresh until dropped; run by a background service for each issuer.
    pub async fn keep_fresh(&self, issuer: IssuerId) {
        self.issuers[issuer.0].keys.keep_fresh().await;
    }

    /// Fetches one issuer's keys now, past any cool-down; whether usable ones came.
    pub async fn refresh(&self, issuer: IssuerId) -> bool {
        self.issuers[issuer.0].keys.refresh().await
    }
}
