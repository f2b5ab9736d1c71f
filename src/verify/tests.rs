//! One issuer, one clock that stands still, keys that never left this process.

mod cache;
mod claims;
mod fetch;
mod inbox;
mod introspect;
mod jwk;
mod keys;
pub(super) mod mint;
mod not_before;
mod refresh;
mod revocation;
mod revoked;
mod server;
mod signatures;
mod snapshot;
mod stress;
mod tls;
mod tokens;
mod wycheproof;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::fetch::{FetchFault, KeySource};
use super::{Fault, Principal, Verifier};
use crate::clock::Clock;
use crate::config::plan::{IssuerPlan, KeysFrom, Plan};
use crate::credential::BearerToken;
use crate::observe::metrics::Metrics;
use crate::testkit;
use crate::verify::Wanted;

pub(super) const ISSUER: &str = "https://sso.example.com/realms/eazybank";
pub(super) const NOW: u64 = 1_790_000_000;

pub(super) fn issuer() -> IssuerPlan {
    IssuerPlan {
        issuer: ISSUER.to_owned(),
        keys_from: KeysFrom::Url("http://127.0.0.1:1/certs".to_owned()),
        ..testkit::issuer("keycloak")
    }
}

pub(super) fn plan(issuers: Vec<IssuerPlan>) -> Plan {
    Plan {
        issuers,
        ..testkit::plan(Vec::new())
    }
}

/// A source that always gives the same document.
struct Fixed(Vec<u8>);

#[async_trait]
impl KeySource for Fixed {
    async fn document(&self) -> Result<Vec<u8>, FetchFault> {
        Ok(self.0.clone())
    }
}

pub(super) fn jwks(keys: &[Value]) -> Vec<u8> {
    json!({"keys": keys}).to_string().into_bytes()
}

/// A verifier that holds its issuers' keys.
pub(super) struct Rig {
    pub(super) clock: Clock,
    pub(super) verifier: Verifier,
}

impl Rig {
    pub(super) async fn new(issuers: Vec<(IssuerPlan, Vec<Value>)>) -> Self {
        let (issuers, keys) = issuers.into_iter().unzip();
        Self::of(plan(issuers), keys).await
    }

    /// A plan, and the keys of each of its issuers.
    pub(super) async fn of(plan: Plan, keys: Vec<Vec<Value>>) -> Self {
        let clock = Clock::manual(NOW);
        let metrics = Metrics::new(&plan).expect("metrics");
        let sources = keys
            .iter()
            .map(|keys| Box::new(Fixed(jwks(keys))) as Box<dyn KeySource>)
            .collect();
        let verifier =
            Verifier::with_sources(&plan, clock.clone(), metrics, sources).expect("a verifier");
        for index in 0..keys.len() {
            assert!(verifier.refresh(crate::config::plan::IssuerId(index)).await);
        }
        Rig { clock, verifier }
    }

    /// The usual issuer with the usual RSA key `k1`.
    pub(super) async fn usual() -> Self {
        Self::new(vec![(issuer(), vec![mint::rsa2048().jwk("k1")])]).await
    }

    pub(super) async fn prove(&self, token: &str) -> Result<Principal, Fault> {
        self.verifier
            .prove(BearerToken::unchecked(token), Wanted::default())
            .await
            .outcome
    }
}
