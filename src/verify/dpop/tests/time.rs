//! When a proof is good, and how often.

use super::*;

#[test]
fn a_proof_is_good_for_a_minute() {
    let judge = Judge::new();
    judge.clock.advance(Duration::from_secs(1000));
    let now = NOW + 1000;
    for (iat, good) in [
        (now, true),
        (now - PAST, true),
        (now - PAST - 1, false),
        (now + AHEAD, true),
        (now + AHEAD + 1, false),
        (0, false),
        (u64::MAX, false),
    ] {
        let said = judge.says(|_, c| c["iat"] = json!(iat));
        let expected = match good {
            true => Ok(()),
            false => refused(ProofFlaw::Time),
        };
        assert_eq!(said, expected, "{iat}");
    }
    for (name, at, good) in [
        ("exp", now - AHEAD, false),
        ("exp", now - AHEAD + 1, true),
        ("nbf", now + AHEAD + 1, false),
        ("nbf", now + AHEAD, true),
    ] {
        let said = judge.says(|_, c| {
            c["iat"] = json!(now);
            c[name] = json!(at);
        });
        assert_eq!(said.is_ok(), good, "{name} {at}");
    }
}

#[test]
fn what_a_process_before_this_may_have_seen_needs_a_nonce() {
    let judge = Judge::new();
    let before = judge.says(|_, c| c["iat"] = json!(NOW - 1));
    assert_eq!(before, refused(ProofFlaw::Time));
    assert_eq!(judge.says(|_, c| c["iat"] = json!(NOW)), Ok(()));
}

#[test]
fn a_nonce_stands_for_the_time() {
    let judge = Judge::new();
    let asked = judge.check(&judge.client.proof(TOKEN, |_, c| c["iat"] = json!(0)));
    assert_eq!(asked.outcome, refused(ProofFlaw::Time));
    let nonce = asked.nonce.unwrap();
    let nonce = nonce.to_str().unwrap();
    let with = |iat: u64| {
        judge.client.proof(TOKEN, |_, c| {
            c["iat"] = json!(iat);
            c["nonce"] = json!(nonce);
        })
    };
    // The client's clock is what it is.
    for iat in [0, NOW, NOW + 86_400] {
        let checked = judge.check(&with(iat));
        assert_eq!(checked.outcome, Ok(()), "{iat}");
        assert_eq!(checked.nonce, None, "{iat}");
    }
    // Everything else counts as before, and a nonce is no second life.
    let proof = with(0);
    assert_eq!(judge.says_to(&proof), Ok(()));
    assert_eq!(judge.says_to(&proof), refused(ProofFlaw::Replayed));
    judge.clock.advance(Duration::from_secs(60));
    let checked = judge.check(&with(0));
    assert_eq!(checked.outcome, Ok(()));
    let next = checked.nonce.expect("the next nonce is due");
    assert_ne!(next, nonce);
    assert_eq!(judge.says_to(&proof), refused(ProofFlaw::Replayed));
    judge.clock.advance(Duration::from_secs(60));
    let checked = judge.check(&with(0));
    assert_eq!(checked.outcome, refused(ProofFlaw::Nonce));
    assert!(checked.nonce.is_some());
    assert_eq!(judge.says_to(&proof), refused(ProofFlaw::Nonce));
}

#[test]
fn a_proof_comes_once_for_as_long_as_it_would_be_good() {
    let judge = Judge::new();
    let now = judge.client.proof(TOKEN, |_, _| {});
    let ahead = judge
        .client
        .proof(TOKEN, |_, c| c["iat"] = json!(NOW + AHEAD));
    for proof in [&now, &ahead] {
        assert_eq!(judge.says_to(proof), Ok(()));
    }
    for second in 0..=PAST {
        assert_eq!(
            judge.says_to(&now),
            refused(ProofFlaw::Replayed),
            "{second}"
        );
        judge.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(judge.says_to(&now), refused(ProofFlaw::Time));
    for second in PAST + 1..=PAST + AHEAD {
        assert_eq!(
            judge.says_to(&ahead),
            refused(ProofFlaw::Replayed),
            "{second}"
        );
        judge.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(judge.says_to(&ahead), refused(ProofFlaw::Time));
    // The same `jti` in another proof of the same key is the same one.
    let judge = Judge::new();
    let named = |htu: &str| {
        judge.client.proof(TOKEN, |_, c| {
            c["jti"] = json!("twice");
            c["htu"] = json!(htu);
        })
    };
    assert_eq!(
        judge.says_to(&named("https://api.example.com/accounts/1")),
        Ok(())
    );
    let again = named("https://API.example.com/accounts/1");
    assert_eq!(judge.says_to(&again), refused(ProofFlaw::Replayed));
}

#[test]
fn a_proof_that_could_not_be_remembered_is_not_judged() {
    let mut judge = Judge::new();
    judge.dpop.replays = Replays::holding(0);
    let full = Err(Fault::Unjudged(Unjudged::ProofsFull));
    assert_eq!(judge.says(|_, _| {}), full);
    // What is wrong with it is said all the same.
    let forged = judge.says(|_, c| c["htm"] = json!("POST"));
    assert_eq!(forged, refused(ProofFlaw::Method));
}
