//! Kept proofs: when they stand for the token, and when they no longer do.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::super::fetch::{FetchFault, KeySource};
use super::mint::{Signer, keycloak_claims, rsa2048};
use super::{ISSUER, NOW, Rig, issuer, jwks, plan};
use crate::clock::Clock;
use crate::config::plan::{IssuerId, TokenCachePlan};
use crate::credential::BearerToken;
use crate::observe::metrics::Metrics;
use crate::verify::{Fault, Refusal, Source, Unjudged, Verifier, Wanted};

type Document = Arc<Mutex<Result<Vec<u8>, FetchFault>>>;

/// Gives whatever was put there last.
struct Latest(Document);

#[async_trait]
impl KeySource for Latest {
    async fn document(&self) -> Result<Vec<u8>, FetchFault> {
        self.0.lock().expect("a document").clone()
    }
}

struct Life {
    clock: Clock,
    verifier: Verifier,
    document: Document,
    metrics: Arc<Metrics>,
}

impl Life {
    async fn new(cache: TokenCachePlan) -> Self {
        let document: Document = Arc::new(Mutex::new(Ok(jwks(&[rsa2048().jwk("k1")]))));
        let clock = Clock::manual(NOW);
        let mut plan = plan(vec![issuer()]);
        plan.token_cache = cache;
        let metrics = Metrics::new(&plan).expect("metrics");
        let source = Box::new(Latest(document.clone()));
        let verifier = Verifier::with_sources(&plan, clock.clone(), metrics.clone(), vec![source])
            .expect("a verifier");
        let life = Life {
            clock,
            verifier,
            document,
            metrics,
        };
        assert!(life.verifier.refresh(IssuerId(0)).await);
        life
    }

    async fn usual() -> Self {
        Self::new(TokenCachePlan {
            max_bytes: 32 << 20,
            max_age: Duration::from_secs(300),
        })
        .await
    }

    async fn prove(&self, token: &str) -> (Source, Result<(), Fault>) {
        self.prove_by(None, token).await
    }

    /// On a connection whose caller has shown this certificate.
    async fn prove_by(
        &self,
        certificate: Option<&[u8; 32]>,
        token: &str,
    ) -> (Source, Result<(), Fault>) {
        let token = BearerToken::unchecked(token);
        let wanted = Wanted::default().by(certificate);
        let verdict = self.verifier.prove(token, wanted).await;
        (verdict.source, verdict.outcome.map(drop))
    }

    async fn serve(&self, keys: &[Value]) {
        *self.document.lock().expect("a document") = Ok(jwks(keys));
        self.verifier.refresh(IssuerId(0)).await;
    }

    fn gauge(&self, name: &str) -> u64 {
        self.verifier.publish();
        let text = String::from_utf8(self.metrics.expose().expect("metrics")).expect("UTF-8");
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.expect(name).trim().parse().expect("a number")
    }
}

const LOCAL: (Source, Result<(), Fault>) = (Source::Local, Ok(()));
const CACHE: (Source, Result<(), Fault>) = (Source::Cache, Ok(()));

fn refused(refusal: Refusal) -> (Source, Result<(), Fault>) {
    (Source::Local, Err(Fault::Refused(refusal)))
}

/// That lives for `seconds`.
fn token(seconds: u64) -> String {
    let mut claims = keycloak_claims(ISSUER, NOW);
    claims["exp"] = json!(NOW + seconds);
    rsa2048().token("RS256", "k1", &claims)
}

/// RFC 8705: kept or not, the token is good on its own client's connections alone.
#[tokio::test]
async fn a_bound_token_is_good_with_its_certificate_alone() {
    let life = Life::usual().await;
    let mut claims = keycloak_claims(ISSUER, NOW);
    claims["cnf"] = json!({ "x5t#S256": super::mint::b64([1; 32]) });
    let token = rsa2048().token("RS256", "k1", &claims);
    let (ours, another) = (Some(&[1; 32]), Some(&[2; 32]));
    let constrained = |source| (source, Err(Fault::Refused(Refusal::SenderConstrained)));
    for source in [Source::Local, Source::Cache] {
        let got = life.prove_by(another, &token).await;
        assert_eq!(got, constrained(source));
        let got = life.prove_by(ours, &token).await;
        assert_eq!(got, CACHE, "the refusal above has proved it");
        assert_eq!(life.prove(&token).await, constrained(Source::Cache));
    }
    // Who shows a certificate may use a token that is bound to nothing.
    let unbound = self::token(60);
    assert_eq!(life.prove_by(ours, &unbound).await, LOCAL);
    assert_eq!(life.prove_by(another, &unbound).await, CACHE);
}

#[tokio::test]
async fn a_proof_is_kept_and_never_past_the_tokens_end() {
    let life = Life::usual().await;
    let token = token(60);
    assert_eq!(life.prove(&token).await, LOCAL);
    assert_eq!(life.prove(&token).await, CACHE);
    // The leeway is five seconds.
    life.clock.advance(Duration::from_secs(64));
    assert_eq!(life.prove(&token).await, CACHE);
    life.clock.advance(Duration::from_secs(1));
    assert_eq!(life.prove(&token).await, refused(Refusal::Expired));
    assert_eq!(life.gauge("portcullis_token_cache_entries "), 0);
}

/// It is proved anew, by the time of day as it is now believed to be.
#[tokio::test]
async fn a_wall_clock_that_is_set_back_revives_no_proof() {
    let life = Life::usual().await;
    let token = token(60);
    assert_eq!(life.prove(&token).await, LOCAL);
    life.clock.advance(Duration::from_secs(64));
    life.clock.step(-64);
    assert_eq!(life.prove(&token).await, CACHE);
    life.clock.advance(Duration::from_secs(1));
    assert_eq!(life.prove(&token).await, LOCAL);
    // Set forward, it ends at once, and so does the proof.
    life.clock.step(64);
    assert_eq!(life.prove(&token).await, refused(Refusal::Expired));
}

#[tokio::test]
async fn a_proof_ages() {
    let life = Life::usual().await;
    let token = token(3600);
    assert_eq!(life.prove(&token).await, LOCAL);
    life.clock.advance(Duration::from_secs(299));
    assert_eq!(life.prove(&token).await, CACHE);
    life.clock.advance(Duration::from_secs(1));
    assert_eq!(life.prove(&token).await, LOCAL);
    assert_eq!(life.prove(&token).await, CACHE);
}

#[tokio::test]
async fn a_key_that_is_gone_or_another_ends_its_proofs() {
    let life = Life::usual().await;
    let token = token(3600);
    assert_eq!(life.prove(&token).await, LOCAL);
    // The same key in a newer set, beside another.
    let (same, other) = (rsa2048().jwk("k1"), Signer::rsa(2048));
    life.serve(&[other.jwk("k2"), same.clone()]).await;
    assert_eq!(life.prove(&token).await, CACHE);
    // Another key under the same name: an issuer that was set up anew.
    life.serve(&[other.jwk("k1")]).await;
    assert_eq!(life.prove(&token).await, refused(Refusal::Signature));
    life.serve(std::slice::from_ref(&same)).await;
    assert_eq!(life.prove(&token).await, LOCAL);
    life.serve(&[other.jwk("k2")]).await;
    assert_eq!(life.prove(&token).await, refused(Refusal::UnknownKey));
    // Nothing comes back by itself.
    life.serve(&[same]).await;
    assert_eq!(life.prove(&token).await, LOCAL);
}

#[tokio::test]
async fn keys_that_are_too_old_prove_nothing_that_is_kept() {
    let life = Life::new(TokenCachePlan {
        max_bytes: 32 << 20,
        max_age: Duration::from_secs(1_000_000),
    })
    .await;
    let token = token(1_000_000);
    assert_eq!(life.prove(&token).await, LOCAL);
    life.clock.advance(Duration::from_secs(24 * 3600));
    assert_eq!(life.prove(&token).await, CACHE);
    life.clock.advance(Duration::from_secs(1));
    let stale = (Source::Local, Err(Fault::Unjudged(Unjudged::KeysStale)));
    assert_eq!(life.prove(&token).await, stale);
}

#[tokio::test]
async fn garbage_does_not_enter() {
    let life = Life::usual().await;
    let good = token(60);
    assert_eq!(life.prove(&good).await, LOCAL);
    for bad in [
        format!("{}AAAAAAAA", &good[..good.len() - 8]),
        "opaque".to_owned(),
        rsa2048().token("RS256", "nobody", &keycloak_claims(ISSUER, NOW)),
        good[..good.len() - 1].to_owned(),
    ] {
        assert!(life.prove(&bad).await.1.is_err());
        assert!(life.prove(&bad).await.1.is_err());
    }
    assert_eq!(life.gauge("portcullis_token_cache_entries "), 1);
    assert_eq!(life.prove(&good).await, CACHE);
}

#[tokio::test]
async fn memory_is_bounded() {
    let max_bytes = 1 << 19;
    let life = Life::new(TokenCachePlan {
        max_bytes,
        max_age: Duration::from_secs(300),
    })
    .await;
    let signer = rsa2048();
    for number in 0..1500 {
        let mut claims = keycloak_claims(ISSUER, NOW);
        claims["jti"] = json!(number.to_string());
        assert_eq!(
            life.prove(&signer.token("RS256", "k1", &claims)).await,
            LOCAL
        );
    }
    let entries = life.gauge("portcullis_token_cache_entries ");
    let bytes = life.gauge("portcullis_token_cache_bytes ");
    assert!(bytes <= max_bytes, "{bytes}");
    // A proof of a Keycloak token takes half a kilobyte beside what it shares, not a pointer.
    assert!(
        (300..1000).contains(&(bytes / entries)),
        "{bytes} {entries}"
    );
    let evicted = life.gauge("portcullis_token_cache_evictions_total ");
    assert_eq!(entries + evicted, 1500);
}

#[tokio::test]
async fn the_tokens_of_a_client_share_what_it_was_granted() {
    let rig = Rig::usual().await;
    let grants = async |change: &dyn Fn(&mut Value)| {
        let mut claims = keycloak_claims(ISSUER, NOW);
        change(&mut claims);
        let token = rsa2048().token("RS256", "k1", &claims);
        rig.prove(&token).await.expect("a principal")
    };
    let first = grants(&|_| {}).await;
    let again = grants(&|claims| {
        claims["jti"] = json!("another");
        claims["sub"] = json!("somebody else");
        claims["exp"] = json!(NOW + 1);
    })
    .await;
    assert!(Arc::ptr_eq(&first.grants, &again.grants));
    assert_eq!(again.subject().as_deref(), Some("somebody else"));
    let others: [&dyn Fn(&mut Value); 6] = [
        &|claims| claims["azp"] = json!("another"),
        &|claims| claims["scope"] = json!("accounts:read"),
        &|claims| claims["realm_access"] = json!({"roles": ["ADMIN"]}),
        &|claims| claims["resource_access"] = json!({"accounts-api": {"roles": ["writer"]}}),
        &|claims| claims["resource_access"]["more"] = json!({"roles": []}),
        &|claims| {
            claims
                .as_object_mut()
                .expect("claims")
                .remove("realm_access");
        },
    ];
    for (at, other) in others.into_iter().enumerate() {
        let other = grants(other).await;
        assert!(*other.grants != *first.grants, "{at}");
    }
}

/// A wall clock that was wrong is forgiven soon, and a token that is not valid yet as soon as it is.
#[tokio::test]
async fn a_refusal_is_remembered_for_ten_seconds() {
    let life = Life::usual().await;
    let token = token(60);
    life.clock.step(65);
    assert_eq!(life.prove(&token).await, refused(Refusal::Expired));
    life.clock.step(-65);
    life.clock.advance(Duration::from_millis(9_999));
    assert_eq!(life.prove(&token).await, refused(Refusal::Expired));
    life.clock.advance(Duration::from_millis(1));
    assert_eq!(life.prove(&token).await, LOCAL);

    let mut claims = keycloak_claims(ISSUER, NOW);
    claims["nbf"] = json!(NOW + 17);
    let early = rsa2048().token("RS256", "k1", &claims);
    assert_eq!(life.prove(&early).await, refused(Refusal::NotYetValid));
    life.clock.advance(Duration::from_secs(2));
    assert_eq!(life.prove(&early).await, LOCAL);
}

/// For as long as the keys are the same, and nobody would ask for others.
#[tokio::test]
async fn a_token_whose_key_was_unknown_is_good_as_soon_as_its_key_is_there() {
    let life = Life::usual().await;
    let other = Signer::rsa(2048);
    let token = other.token("RS256", "new", &keycloak_claims(ISSUER, NOW));
    for _ in 0..2 {
        assert_eq!(life.prove(&token).await, refused(Refusal::UnknownKey));
    }
    let both = [rsa2048().jwk("k1"), other.jwk("new")];
    life.serve(&both).await;
    assert_eq!(life.prove(&token).await, LOCAL);

    life.serve(&both[..1]).await;
    assert_eq!(life.prove(&token).await, refused(Refusal::UnknownKey));
    *life.document.lock().expect("a document") = Ok(jwks(&both));
    life.clock.advance(Duration::from_secs(10));
    assert_eq!(life.prove(&token).await, LOCAL, "the cool-down is over");
}

#[tokio::test]
async fn a_refusal_is_remembered_with_whose_token_it_was() {
    let life = Life::usual().await;
    let mut claims = keycloak_claims(ISSUER, NOW);
    claims["aud"] = json!("another");
    let token = rsa2048().token("RS256", "k1", &claims);
    for _ in 0..2 {
        let token = BearerToken::unchecked(&token);
        let verdict = life.verifier.prove(token, Wanted::default()).await;
        assert_eq!(verdict.issuer, Some(IssuerId(0)));
        assert_eq!(verdict.outcome.map(drop), Err(Refusal::Audience.into()));
    }
}
