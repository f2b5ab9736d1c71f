//! Keys are there before they are needed.

use std::time::Duration;

use tokio::time::Instant;

use super::keys::{Life, down, seconds, set, token};
use crate::config::plan::IssuerId;
use crate::verify::{Fault, Unjudged};

const STALE: Fault = Fault::Unjudged(Unjudged::KeysStale);

/// Runs `keep_fresh` for so long and says at which seconds it asked.
async fn asked_at(life: &Life, until: Duration) -> Vec<f64> {
    let began = Instant::now();
    let keeping = life.verifier.keep_fresh(IssuerId(0));
    let ended = tokio::time::timeout(until, keeping).await;
    assert!(ended.is_err(), "it never ends by itself");
    let asked = life.script.asked.lock().expect("asked");
    let since = asked.iter().filter(|at| **at >= began);
    since.map(|at| (*at - began).as_secs_f64()).collect()
}

#[tokio::test(start_paused = true)]
async fn keys_are_fetched_at_once_and_then_ahead_of_time() {
    let life = Life::new(vec![set(&["k1"])]);
    let at = asked_at(&life, seconds(1000)).await;
    assert!(at[0] < 0.01, "{at:?}");
    for pair in at.windows(2) {
        let pause = pair[1] - pair[0];
        assert!((215.0..=265.0).contains(&pause), "{at:?}");
    }
    assert!((4..=5).contains(&at.len()), "{at:?}");
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_is_down_is_asked_again_soon_and_then_patiently() {
    let life = Life::new(vec![down()]);
    let at = asked_at(&life, seconds(60)).await;
    // 250 ms, doubled up to 4 s, ten per cent either way.
    let wanted = [0.25, 0.5, 1.0, 2.0, 4.0, 4.0, 4.0, 4.0];
    for (pair, wanted) in at.windows(2).zip(wanted) {
        let pause = pair[1] - pair[0];
        assert!((pause - wanted).abs() < wanted * 0.11 + 0.01, "{at:?}");
    }
    // When it comes back, the keys come within five seconds.
    *life.script.answers.lock().expect("answers") = vec![set(&["k1"])].into();
    asked_at(&life, seconds(5)).await;
    assert_eq!(life.prove(&token("k1")).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_fails_is_asked_as_often_once_the_keys_are_too_old() {
    let day = 24 * 3600;
    let life = Life::new(vec![set(&["k1"]), down()]);
    assert!(life.refresh().await);
    // Good keys give time, but not more of it than they have left.
    life.clock.advance(seconds(day - 20));
    let at = asked_at(&life, seconds(100)).await;
    assert!((at[8] - at[7] - 16.0).abs() < 2.0, "{at:?}");
    assert!((at[9] - at[8] - 18.0).abs() < 2.0, "{at:?}");
    life.clock.advance(seconds(21));
    assert_eq!(life.prove(&token("k1")).await, Err(STALE));
    let at = asked_at(&life, seconds(60)).await;
    assert!(at[10] - at[9] < 4.5, "{at:?}");
    *life.script.answers.lock().expect("answers") = vec![set(&["k1"])].into();
    asked_at(&life, seconds(5)).await;
    assert_eq!(life.prove(&token("k1")).await, Ok(()));
}
