//! The life of the keys: a clock that is moved by hand, a source that does what it is told.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::super::fetch::{FetchFault, KeySource};
use super::mint::{Signer, keycloak_claims, rsa2048};
use super::{ISSUER, NOW, issuer, jwks, plan};
use crate::clock::Clock;
use crate::config::plan::{IssuerId, IssuerPlan};
use crate::credential::BearerToken;
use crate::observe::metrics::Metrics;
use crate::verify::Wanted;
use crate::verify::{Fault, Refusal, Unjudged, Verifier};

pub(super) type Answer = Result<Vec<u8>, FetchFault>;

/// Gives its answers in turn, the last for ever; each waits until it is let go.
pub(super) struct Script {
    pub(super) answers: Mutex<VecDeque<Answer>>,
    /// When each was asked for.
    pub(super) asked: Mutex<Vec<Instant>>,
    gate: Semaphore,
}

struct Scripted(Arc<Script>);

#[async_trait]
impl KeySource for Scripted {
    async fn document(&self) -> Answer {
        self.0.asked.lock().expect("asked").push(Instant::now());
        self.0.gate.acquire().await.expect("the gate").forget();
        let mut answers = self.0.answers.lock().expect("answers");
        match answers.len() {
            1 => answers[0].clone(),
            _ => answers.pop_front().expect("an answer"),
        }
    }
}

pub(super) struct Life {
    pub(super) clock: Clock,
    pub(super) verifier: Arc<Verifier>,
    pub(super) script: Arc<Script>,
    pub(super) metrics: Arc<Metrics>,
}

impl Life {
    pub(super) fn new(answers: Vec<Answer>) -> Self {
        Self::at(issuer(), NOW, answers)
    }

    /// The gate is open.
    pub(super) fn at(issuer: IssuerPlan, now: u64, answers: Vec<Answer>) -> Self {
        let script = Arc::new(Script {
            answers: Mutex::new(answers.into()),
            asked: Mutex::default(),
            gate: Semaphore::new(10_000),
        });
        let clock = Clock::manual(now);
        let plan = plan(vec![issuer]);
        let metrics = Metrics::new(&plan).expect("metrics");
        let source = Box::new(Scripted(script.clone()));
        let verifier = Verifier::with_sources(&plan, clock.clone(), metrics.clone(), vec![source])
            .expect("a verifier");
        Life {
            clock,
            verifier: Arc::new(verifier),
            script,
            metrics,
        }
    }

    pub(super) async fn refresh(&self) -> bool {
        self.verifier.refresh(IssuerId(0)).await
    }

    pub(super) async fn prove(&self, token: &str) -> Result<(), Fault> {
        let verdict = self
            .verifier
            .prove(BearerToken::unchecked(token), Wanted::default())
            .await;
        verdict.outcome.map(|_| ())
    }

    /// A token that nobody can have made.
    pub(super) async fn unknown(&self) -> Fault {
        self.prove(&token("nobody")).await.expect_err("unknown")
    }

    pub(super) fn asked(&self) -> usize {
        self.script.asked.lock().expect("asked").len()
    }

    /// A fetch of the background that waits to be let go.
    pub(super) async fn under_way(self: &Arc<Self>) -> tokio::task::JoinHandle<bool> {
        let before = self.asked();
        self.close_gate();
        let life = self.clone();
        let background = tokio::spawn(async move { life.refresh().await });
        while self.asked() == before {
            tokio::task::yield_now().await;
        }
        background
    }

    pub(super) fn close_gate(&self) {
        self.script.gate.forget_permits(usize::MAX >> 4);
    }

    pub(super) fn let_go(&self) {
        self.script.gate.add_permits(1);
    }

    pub(super) fn ready(&self) -> Result<usize, String> {
        let (_, state) = self.verifier.readiness().remove(0);
        state.problem.map_or(Ok(state.keys), Err)
    }

    pub(super) fn metric(&self, line: &str) -> bool {
        let text = String::from_utf8(self.metrics.expose().expect("metrics")).expect("UTF-8");
        text.lines().any(|l| l == line)
    }
}

pub(super) fn token(kid: &str) -> String {
    let mut claims = keycloak_claims(ISSUER, NOW);
    // The clock goes far in here, and expiry is not the matter.
    claims["exp"] = json!(u64::MAX);
    rsa2048().token("RS256", kid, &claims)
}

pub(super) fn set(kids: &[&str]) -> Answer {
    let keys: Vec<_> = kids.iter().map(|kid| rsa2048().jwk(kid)).collect();
    Ok(jwks(&keys))
}

pub(super) fn down() -> Answer {
    Err(FetchFault::Failed("connection refused".to_owned()))
}

pub(super) const REFUSED: Fault = Fault::Refused(Refusal::UnknownKey);
pub(super) const FAILED: Fault = Fault::Unjudged(Unjudged::KeyFetchFailed);
pub(super) const NO_KEYS: Fault = Fault::Unjudged(Unjudged::NoKeys);
pub(super) const STALE: Fault = Fault::Unjudged(Unjudged::KeysStale);

pub(super) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test]
async fn before_the_first_keys_nothing_is_judged_and_nobody_asks() {
    let life = Life::new(vec![down(), set(&["k1"])]);
    assert_eq!(life.prove(&token("k1")).await, Err(NO_KEYS));
    assert_eq!(life.asked(), 0);
    assert_eq!(life.ready(), Err("no keys were fetched yet".to_owned()));
    assert!(!life.refresh().await);
    assert_eq!(life.prove(&token("k1")).await, Err(NO_KEYS));
    assert_eq!(life.ready(), Err("connection refused".to_owned()));
    assert!(life.refresh().await);
    assert_eq!(life.prove(&token("k1")).await, Ok(()));
    assert_eq!(life.ready(), Ok(1));
    // What can be refused without a key is refused even then.
    let life = Life::new(vec![down()]);
    let unsigned = format!("{}.e30.", super::mint::b64(r#"{"alg":"none"}"#));
    assert_eq!(life.prove(&unsigned).await, Err(Refusal::Algorithm.into()));
}

#[tokio::test]
async fn a_new_key_is_fetched_by_its_first_token_and_served() {
    let life = Life::new(vec![set(&["k1"]), set(&["k1", "k2"])]);
    life.refresh().await;
    assert_eq!(life.prove(&token("k2")).await, Ok(()));
    assert_eq!(life.prove(&token("k1")).await, Ok(()));
    assert_eq!(life.asked(), 2);
}

#[tokio::test]
async fn one_fetch_serves_all_who_wait_and_a_leaver_cancels_nothing() {
    let life = Arc::new(Life::new(vec![set(&["k1"]), set(&["k1", "k2"])]));
    life.refresh().await;
    life.close_gate();
    let waiters: Vec<_> = (0..50)
        .map(|_| {
            let life = life.clone();
            tokio::spawn(async move { life.prove(&token("k2")).await })
        })
        .collect();
    while life.asked() < 2 {
        tokio::task::yield_now().await;
    }
    // The one who began it leaves.
    waiters[0].abort();
    tokio::task::yield_now().await;
    life.let_go();
    for waiter in waiters.into_iter().skip(1) {
        assert_eq!(waiter.await.expect("not cancelled"), Ok(()));
    }
    assert_eq!(life.asked(), 2);
}

#[tokio::test]
async fn a_flood_of_unknown_kids_costs_one_fetch_per_cool_down() {
    let life = Life::new(vec![set(&["k1"])]);
    life.refresh().await;
    for round in 0..5 {
        for number in 0..100 {
            let token = token(&format!("random-{round}-{number}"));
            assert_eq!(life.prove(&token).await, Err(REFUSED));
        }
        assert_eq!(life.asked(), 2 + round);
        // The good ones never notice.
        assert_eq!(life.prove(&token("k1")).await, Ok(()));
        life.clock.advance(seconds(10));
    }
}

#[tokio::test]
async fn during_the_cool_down_the_last_fetch_decides() {
    let life = Life::new(vec![
        set(&["k1"]),
        down(),
        down(),
        set(&["k1"]),
        set(&["k1", "nobody"]),
    ]);
    life.refresh().await;
    assert_eq!(life.unknown().await, FAILED);
    life.clock.advance(seconds(9));
    assert_eq!(life.unknown().await, FAILED);
    assert_eq!(life.asked(), 2);
    life.clock.advance(seconds(1));
    assert_eq!(life.unknown().await, FAILED);
    assert_eq!(life.asked(), 3);
    // A fetch of the background counts as the last, and starts no cool-down.
    assert!(life.refresh().await);
    assert_eq!(life.unknown().await, REFUSED);
    assert_eq!(life.asked(), 4);
    life.clock.advance(seconds(10));
    assert_eq!(life.prove(&token("nobody")).await, Ok(()));
    assert_eq!(life.asked(), 5);
}

#[tokio::test]
async fn a_background_fetch_starts_no_cool_down_and_is_not_the_last_word() {
    let life = Arc::new(Life::new(vec![
        set(&["k1"]),
        set(&["k1"]),
        set(&["k1", "k2"]),
    ]));
    life.refresh().await;
    // One began before the key was published; the token that meets it must not pay for that.
    let background = life.under_way().await;
    let waiter = tokio::spawn({
        let life = life.clone();
        async move { life.prove(&token("k2")).await }
    });
    tokio::task::yield_now().await;
    life.let_go();
    life.let_go();
    assert!(background.await.expect("joined"));
    assert_eq!(waiter.await.expect("joined"), Ok(()));
    assert_eq!(life.asked(), 3);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_than_two_seconds() {
    let life = Life::new(vec![set(&["k1"]), set(&["k1", "k2"])]);
    life.refresh().await;
    life.close_gate();
    let began = Instant::now();
    assert_eq!(life.prove(&token("k2")).await, Err(FAILED));
    assert_eq!(began.elapsed(), seconds(2));
    // The fetch goes on without them.
    life.let_go();
    while life.prove(&token("k2")).await.is_err() {
        tokio::task::yield_now().await;
    }
    assert_eq!(life.asked(), 2);
}

#[tokio::test]
async fn a_key_that_was_withdrawn_dies_at_the_next_refresh() {
    let life = Life::new(vec![set(&["k1", "k2"]), set(&["k2"])]);
    life.refresh().await;
    assert_eq!(life.prove(&token("k1")).await, Ok(()));
    life.refresh().await;
    assert_eq!(life.prove(&token("k1")).await, Err(REFUSED));
    assert_eq!(life.prove(&token("k2")).await, Ok(()));
}

#[tokio::test]
async fn no_bad_answer_replaces_the_last_good_set() {
    let only_enc = json!({"keys": [{"kty": "RSA", "use": "enc", "kid": "k1"}]});
    let symmetric = json!({"keys": [{"kty": "oct", "kid": "k1", "k": "c2VjcmV0"}]});
    let invalid: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b"null".to_vec(),
        b"{}".to_vec(),
        b"[]".to_vec(),
        b"<html>Keycloak is starting</html>".to_vec(),
        br#"{"keys":[]}"#.to_vec(),
        br#"{"keys":[{"kty":"RSA","#.to_vec(),
        br#"{"keys":null}"#.to_vec(),
        only_enc.to_string().into_bytes(),
        symmetric.to_string().into_bytes(),
        b"\xff\xfe\x00".to_vec(),
        "[".repeat(100_000).into_bytes(),
    ];
    for document in invalid {
        let what = String::from_utf8_lossy(&document[..document.len().min(60)]).into_owned();
        let life = Life::new(vec![set(&["k1"]), Ok(document), down()]);
        life.refresh().await;
        assert!(!life.refresh().await, "{what}");
        assert_eq!(life.prove(&token("k1")).await, Ok(()), "{what}");
        assert_eq!(life.ready(), Ok(1), "{what}");
        assert!(!life.refresh().await);
        assert_eq!(life.prove(&token("k1")).await, Ok(()), "{what}");
        for (outcome, count) in [("ok", 1), ("invalid", 1), ("failed", 1)] {
            let line = format!(
                "portcullis_jwks_refreshes_total{{issuer=\"keycloak\",outcome=\"{outcome}\"}} {count}"
            );
            assert!(life.metric(&line), "{what}: {line}");
        }
    }
}

#[tokio::test]
async fn one_bad_key_never_costs_the_set() {
    let good = rsa2048().jwk("k1");
    let document = jwks(&[
        json!(null),
        json!({"kty": "AKP", "alg": "ML-DSA-44", "kid": "pq", "pub": "x"}),
        json!({"kty": "OKP", "crv": "Ed448", "kid": "ed448", "x": "x"}),
        json!({"kty": "RSA", "kid": "broken", "n": "!", "e": "AQAB"}),
        json!({"kty": "RSA", "use": "enc", "alg": "RSA-OAEP", "kid": "enc"}),
        good,
        Signer::p256().jwk("curve"),
    ]);
    let life = Life::new(vec![Ok(document)]);
    assert!(life.refresh().await);
    assert_eq!(life.prove(&token("k1")).await, Ok(()));
    assert_eq!(life.ready(), Ok(1));
    for (reason, count) in [
        ("malformed", 2),
        ("unknown_kind", 2),
        ("use_enc", 1),
        ("alg_not_allowed", 1),
    ] {
        let line = format!(
            "portcullis_jwks_keys_skipped_total{{issuer=\"keycloak\",reason=\"{reason}\"}} {count}"
        );
        assert!(life.metric(&line), "{line}");
    }
}

#[tokio::test]
async fn keys_that_grew_too_old_judge_nothing_until_new_ones_come() {
    let life = Life::new(vec![set(&["k1"]), down(), set(&["k1"])]);
    life.refresh().await;
    life.clock.advance(seconds(24 * 3600));
    assert_eq!(life.prove(&token("k1")).await, Ok(()));
    life.clock.advance(seconds(1));
    assert_eq!(life.prove(&token("k1")).await, Err(STALE));
    assert_eq!(life.unknown().await, STALE);
    assert_eq!(life.asked(), 1);
    life.refresh().await;
    let said = "the keys are 86401 s old: connection refused".to_owned();
    assert_eq!(life.ready(), Err(said));
    life.verifier.publish();
    assert!(life.metric("portcullis_jwks_age_seconds{issuer=\"keycloak\"} 86401"));
    assert!(life.metric("portcullis_jwks_keys{issuer=\"keycloak\"} 1"));
    life.refresh().await;
    assert_eq!(life.prove(&token("k1")).await, Ok(()));
}

#[tokio::test]
async fn a_source_that_panics_is_a_failed_fetch() {
    struct Broken;
    #[async_trait]
    impl KeySource for Broken {
        async fn document(&self) -> Answer {
            panic!("a bug");
        }
    }
    let plan = plan(vec![issuer()]);
    let metrics = Metrics::new(&plan).expect("metrics");
    let verifier =
        Verifier::with_sources(&plan, Clock::manual(NOW), metrics, vec![Box::new(Broken)])
            .expect("a verifier");
    assert!(!verifier.refresh(IssuerId(0)).await);
    // And the next one can begin.
    assert!(!verifier.refresh(IssuerId(0)).await);
    let said = "the fetch was interrupted".to_owned();
    assert_eq!(verifier.readiness()[0].1.problem, Some(said));
}
