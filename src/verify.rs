//! From a credential to a proved principal. Keycloak's shapes are read here and nowhere else.

pub mod fault;
pub mod principal;

use std::sync::Arc;

pub use fault::{Fault, Refusal, Unjudged};
pub use principal::Principal;

use crate::clock::Clock;
use crate::config::plan::{IssuerId, Plan};
use crate::credential::BearerToken;
use crate::observe::metrics::Metrics;

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

/// What came of one token.
#[derive(Debug)]
pub struct Verdict {
    /// `None` when the token names no issuer of ours.
    pub issuer: Option<IssuerId>,
    pub source: Source,
    pub outcome: Result<Arc<Principal>, Fault>,
}

pub struct Verifier {}

impl Verifier {
    pub fn new(_plan: &Plan, _clock: Clock, _metrics: Arc<Metrics>) -> Result<Self, String> {
        Ok(Verifier {})
    }

    /// Proves a token. Waits for the network only when its `kid` is unknown (contract, "Proof").
    pub async fn prove(&self, _token: BearerToken<'_>) -> Verdict {
        Verdict {
            issuer: None,
            source: Source::Local,
            outcome: Err(Unjudged::NoKeys.into()),
        }
    }

    /// Per issuer, what `/readyz` says about its keys: `Ok(keys)` or why not.
    pub fn readiness(&self) -> Vec<(Arc<str>, Result<usize, String>)> {
        Vec::new()
    }

    /// Keeps one issuer's keys fresh until dropped; run by a background service for each issuer.
    pub async fn keep_fresh(&self, _issuer: IssuerId) {}
}
