//! Keys under stress: floods, forgeries, an issuer that fails, and one that was set up anew.

use std::sync::{Arc, OnceLock};

use serde_json::json;

use super::keys::{Answer, FAILED, Life, REFUSED, down, seconds, set, token};
use super::mint::{Signer, b64, keycloak_claims};
use super::{ISSUER, NOW, jwks};
use crate::verify::{Fault, Refusal};

const FORGED: Result<(), Fault> = Err(Fault::Refused(Refusal::Signature));

/// The key of an issuer that was set up anew.
fn new_key() -> &'static Signer {
    static KEY: OnceLock<Signer> = OnceLock::new();
    KEY.get_or_init(|| Signer::rsa(2048))
}

fn new_set(kid: &str) -> Answer {
    Ok(jwks(&[new_key().jwk(kid)]))
}

/// Signed by the new key.
fn new_token(kid: &str) -> String {
    let mut claims = keycloak_claims(ISSUER, NOW);
    claims["exp"] = json!(u64::MAX);
    new_key().token("RS256", kid, &claims)
}

#[tokio::test]
async fn an_issuer_that_fails_is_asked_less_and_less() {
    let life = Life::new(vec![set(&["k1"]), down()]);
    life.refresh().await;
    let mut asked = 1;
    for pause in [0, 10, 20, 40, 40, 40] {
        if pause > 0 {
            life.clock.advance(seconds(pause - 1));
            assert_eq!(life.unknown().await, FAILED);
            assert_eq!(life.asked(), asked, "not within {pause} s");
            life.clock.advance(seconds(1));
        }
        assert_eq!(life.unknown().await, FAILED);
        asked += 1;
        assert_eq!(life.asked(), asked, "after {pause} s");
    }
    // Whoever hears from it again ends that, and the window is as long as ever.
    *life.script.answers.lock().expect("answers") = vec![set(&["k1"])].into();
    assert!(life.refresh().await);
    life.clock.advance(seconds(9));
    assert_eq!(life.unknown().await, REFUSED);
    assert_eq!(life.asked(), asked + 1);
    life.clock.advance(seconds(1));
    assert_eq!(life.unknown().await, REFUSED);
    assert_eq!(life.asked(), asked + 2);
}

/// Keycloak that is set up anew from the same export keeps its key ids, and not its keys.
#[tokio::test]
async fn a_new_key_under_an_old_name_is_found_by_its_first_token() {
    let life = Life::new(vec![set(&["k1"]), new_set("k1")]);
    life.refresh().await;
    let old = token("k1");
    assert_eq!(life.prove(&old).await, Ok(()));
    assert_eq!(life.prove(&new_token("k1")).await, Ok(()));
    assert_eq!(life.asked(), 2);
    // The proof of the old one fell with its key.
    assert_eq!(life.prove(&old).await, FORGED);
    assert_eq!(life.asked(), 2);
}

#[tokio::test]
async fn forged_tokens_cost_one_fetch_a_floor_and_no_cool_down() {
    let life = Life::new(vec![set(&["k1"])]);
    life.refresh().await;
    let forged = new_token("k1");
    for round in 0..3 {
        for _ in 0..200 {
            assert_eq!(life.prove(&forged).await, FORGED);
        }
        assert_eq!(life.asked(), 2 + round);
        life.clock.advance(seconds(9));
        assert_eq!(life.prove(&forged).await, FORGED);
        assert_eq!(life.asked(), 2 + round);
        life.clock.advance(seconds(1));
    }
    assert_eq!(life.prove(&forged).await, FORGED);
    let asked = life.asked();
    // A key that is new just now is fetched at once.
    *life.script.answers.lock().expect("answers") = vec![set(&["k1", "k2"])].into();
    assert_eq!(life.prove(&token("k2")).await, Ok(()));
    assert_eq!(life.asked(), asked + 1);
}

#[tokio::test]
async fn a_doubt_that_cannot_be_cleared_leaves_the_last_good_key_the_judge() {
    let life = Life::new(vec![set(&["k1"]), down()]);
    life.refresh().await;
    let forged = new_token("k1");
    assert_eq!(life.prove(&forged).await, FORGED);
    assert_eq!(life.prove(&token("k1")).await, Ok(()));
    assert_eq!(life.asked(), 2);
    // An issuer that fails is spared.
    life.clock.advance(seconds(39));
    assert_eq!(life.prove(&forged).await, FORGED);
    assert_eq!(life.asked(), 2);
    life.clock.advance(seconds(1));
    assert_eq!(life.prove(&forged).await, FORGED);
    assert_eq!(life.asked(), 3);
    // No unknown `kid` pays for it.
    *life.script.answers.lock().expect("answers") = vec![set(&["k1", "k2"])].into();
    assert_eq!(life.prove(&token("k2")).await, Ok(()));
}

#[tokio::test]
async fn a_name_that_is_gone_after_a_doubt_is_unknown() {
    let life = Life::new(vec![set(&["k1"]), set(&["k2"])]);
    life.refresh().await;
    assert_eq!(life.prove(&new_token("k1")).await, Err(REFUSED));
    assert_eq!(life.asked(), 2);
}

#[tokio::test]
async fn only_the_first_doubt_waits() {
    let life = Arc::new(Life::new(vec![
        set(&["k1"]),
        new_set("k1"),
        Ok(jwks(&[new_key().jwk("k1"), new_key().jwk("k3")])),
    ]));
    life.refresh().await;
    life.close_gate();
    let spawn = |token: String| {
        let life = life.clone();
        tokio::spawn(async move { life.prove(&token).await })
    };
    let first = spawn(new_token("k1"));
    while life.asked() < 2 {
        tokio::task::yield_now().await;
    }
    // The others are answered while the fetch is on its way, by the key that is held.
    for _ in 0..100 {
        assert_eq!(life.prove(&new_token("k1")).await, FORGED);
    }
    // An unknown `kid` waits for it, and then asks for itself.
    let unknown = spawn(new_token("k3"));
    tokio::task::yield_now().await;
    assert_eq!(life.asked(), 2);
    life.let_go();
    life.let_go();
    assert_eq!(first.await.expect("joined"), Ok(()));
    assert_eq!(unknown.await.expect("joined"), Ok(()));
    assert_eq!(life.asked(), 3);
}

#[tokio::test]
async fn a_doubt_that_meets_an_older_fetch_asks_once_more() {
    let life = Arc::new(Life::new(vec![set(&["k1"]), set(&["k1"]), new_set("k1")]));
    life.refresh().await;
    // It began before the issuer was set up anew.
    let background = life.under_way().await;
    let doubt = tokio::spawn({
        let life = life.clone();
        async move { life.prove(&new_token("k1")).await }
    });
    tokio::task::yield_now().await;
    life.let_go();
    life.let_go();
    assert!(background.await.expect("joined"));
    assert_eq!(doubt.await.expect("joined"), Ok(()));
    assert_eq!(life.asked(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_doubt_waits_no_longer_than_two_seconds() {
    let life = Life::new(vec![set(&["k1"]), new_set("k1")]);
    life.refresh().await;
    life.close_gate();
    let began = tokio::time::Instant::now();
    assert_eq!(life.prove(&new_token("k1")).await, FORGED);
    assert_eq!(began.elapsed(), seconds(2));
    // The fetch goes on without it.
    life.let_go();
    while life.prove(&new_token("k1")).await.is_err() {
        tokio::task::yield_now().await;
    }
    assert_eq!(life.asked(), 2);
}

/// One fetch for each window, and nothing that is kept for anybody who made a name up.
#[tokio::test]
async fn a_hundred_thousand_random_names_leave_no_trace() {
    let life = Life::new(vec![set(&["k1"])]);
    life.refresh().await;
    let series = |life: &Life| life.metrics.expose().expect("metrics").len();
    assert_eq!(life.prove(&token("k1")).await, Ok(()));
    assert_eq!(life.unknown().await, REFUSED);
    life.verifier.publish();
    let (entries, bytes) = (life.verifier.proofs.entries(), life.verifier.proofs.bytes());
    let before = series(&life);
    let claims = json!({"iss": ISSUER, "aud": "eazybank-gateway", "exp": u64::MAX, "typ": "Bearer", "azp": "c"});
    let rest = format!("{}.{}", b64(claims.to_string()), b64([7; 256]));
    for second in 0..100u64 {
        for _ in 0..1000 {
            let kid = format!("{:032x}", fastrand::u128(..));
            let header = b64(format!(r#"{{"alg":"RS256","kid":"{kid}"}}"#));
            assert_eq!(life.prove(&format!("{header}.{rest}")).await, Err(REFUSED));
        }
        // The first keys, and one fetch for each ten seconds so far.
        assert_eq!(life.asked() as u64, 2 + second / 10);
        life.clock.advance(seconds(1));
    }
    life.verifier.publish();
    assert_eq!(life.verifier.proofs.entries(), entries);
    assert_eq!(life.verifier.proofs.bytes(), bytes);
    // As many series as before; the counts in them have more digits.
    let digits = series(&life) - before;
    assert!(digits < 64, "{digits} more bytes of metrics");
    assert_eq!(life.ready(), Ok(1));
    assert_eq!(life.prove(&token("k1")).await, Ok(()));
}
