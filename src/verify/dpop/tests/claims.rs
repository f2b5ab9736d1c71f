//! A proof is wrong in one place only, and is refused for it.

use super::*;

#[test]
fn each_algorithm_proves_the_possession_of_its_key() {
    for (key, alg) in [
        (Signer::p256(), "ES256"),
        (Signer::p384(), "ES384"),
        (Signer::ed25519(), "EdDSA"),
        (Signer::rsa(2048), "RS256"),
        (Signer::rsa(2048), "RS384"),
        (Signer::rsa(2048), "RS512"),
        (Signer::rsa(2048), "PS256"),
        (Signer::rsa(2048), "PS384"),
        (Signer::rsa(2048), "PS512"),
    ] {
        let judge = Judge::of(Client::new(key, alg));
        assert_eq!(judge.says(|_, _| {}), Ok(()), "{alg}");
        let forged = judge.client.proof(TOKEN, |_, _| {});
        let end = forged.len();
        let forged = format!("{}{}", &forged[..end - 10], &"A".repeat(10));
        assert_eq!(
            judge.says_to(&forged),
            refused(ProofFlaw::Signature),
            "{alg}"
        );
    }
}

#[test]
fn a_proof_has_to_be_a_proof() {
    let judge = Judge::new();
    type Edit = fn(&mut Value, &mut Value);
    for (edit, flaw) in [
        (
            (|h, _| h["typ"] = json!("JWT")) as Edit,
            ProofFlaw::Malformed,
        ),
        (|h, _| h["typ"] = json!("at+jwt"), ProofFlaw::Malformed),
        (|h, _| h["typ"] = Value::Null, ProofFlaw::Malformed),
        (
            |h, _| drop(h.as_object_mut().unwrap().remove("typ")),
            ProofFlaw::Malformed,
        ),
        (|h, _| h["crit"] = json!(["exp"]), ProofFlaw::Malformed),
        (|h, _| h["b64"] = json!(false), ProofFlaw::Malformed),
        (
            |h, _| h["x"] = json!("y".repeat(2048)),
            ProofFlaw::Malformed,
        ),
        (|h, _| h["alg"] = json!("none"), ProofFlaw::Key),
        (|h, _| h["alg"] = json!("HS256"), ProofFlaw::Key),
        (|h, _| h["alg"] = json!("ES384"), ProofFlaw::Key),
        (|h, _| h["alg"] = json!(7), ProofFlaw::Malformed),
        (|h, _| h["jwk"] = Value::Null, ProofFlaw::Malformed),
        (
            |h, _| drop(h.as_object_mut().unwrap().remove("jwk")),
            ProofFlaw::Malformed,
        ),
        (|h, _| h["jwk"] = json!("x"), ProofFlaw::Malformed),
        (|h, _| h["jwk"]["d"] = json!("AAAA"), ProofFlaw::Key),
        (
            |h, _| h["jwk"] = json!({"kty": "oct", "k": "AAAA"}),
            ProofFlaw::Key,
        ),
        (|_, c| c["jti"] = json!(""), ProofFlaw::Malformed),
        (|_, c| c["jti"] = json!(7), ProofFlaw::Malformed),
        (
            |_, c| c["jti"] = json!("x".repeat(257)),
            ProofFlaw::Malformed,
        ),
        (|_, c| c["htm"] = json!(["GET"]), ProofFlaw::Malformed),
        (|_, c| c["htu"] = Value::Null, ProofFlaw::Malformed),
        (
            |_, c| c["iat"] = json!(NOW.to_string()),
            ProofFlaw::Malformed,
        ),
        (|_, c| c["iat"] = json!(-1), ProofFlaw::Malformed),
        (|_, c| c["ath"] = json!(true), ProofFlaw::Malformed),
        (|_, c| c["nonce"] = json!(1), ProofFlaw::Malformed),
        (|_, c| c["exp"] = json!("x"), ProofFlaw::Malformed),
        (|_, c| c["nbf"] = json!([]), ProofFlaw::Malformed),
        (|_, c| c["htm"] = json!("POST"), ProofFlaw::Method),
        (|_, c| c["htm"] = json!("get"), ProofFlaw::Method),
        (|_, c| c["htm"] = json!(""), ProofFlaw::Method),
        (
            |_, c| c["htu"] = json!("https://api.example.com/accounts/2"),
            ProofFlaw::Target,
        ),
        (
            |_, c| c["htu"] = json!("http://api.example.com/accounts/1"),
            ProofFlaw::Target,
        ),
        (|_, c| c["htu"] = json!("/accounts/1"), ProofFlaw::Target),
        (|_, c| c["ath"] = json!(""), ProofFlaw::Token),
        (
            |_, c| c["ath"] = json!(jws::encode(TokenHash::of(b"d.e.f").as_bytes())),
            ProofFlaw::Token,
        ),
        (|_, c| c["nonce"] = json!("nobody's"), ProofFlaw::Nonce),
        (|_, c| c["nonce"] = json!(""), ProofFlaw::Nonce),
    ] {
        let proof = judge.client.proof(TOKEN, edit);
        assert_eq!(judge.says_to(&proof), refused(flaw), "{proof}");
    }
    for name in ["jti", "htm", "htu", "iat", "ath"] {
        let without = judge.says(|_, c| drop(c.as_object_mut().unwrap().remove(name)));
        assert_eq!(without, refused(ProofFlaw::Malformed), "{name}");
    }
    let good = judge.client.proof(TOKEN, |_, _| {});
    let parts: Vec<&str> = good.split('.').collect();
    for proof in [
        "",
        ".",
        "..",
        "a.b.c",
        "a.b.c.d.e",
        TOKEN,
        &format!("{}.{}", parts[0], parts[1]),
        &format!("{good}.{}", parts[2]),
        &format!("{}=.{}.{}", parts[0], parts[1], parts[2]),
        &format!("{}.{}.{}", parts[1], parts[0], parts[2]),
    ] {
        let said = judge.says_to(proof);
        assert_eq!(said, refused(ProofFlaw::Malformed), "{proof}");
    }
    // Two members of one name are two readings.
    let header = json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": judge.client.jwk()});
    let twice = format!("{{\"htm\":\"GET\",\"htm\":\"GET\",\"iat\":{NOW}}}");
    let key = &judge.client.key;
    let twice = key.seal("ES256", &header.to_string(), twice.as_bytes());
    assert_eq!(judge.says_to(&twice), refused(ProofFlaw::Malformed));
    // After all of it the good one is as good as ever.
    assert_eq!(judge.says_to(&good), Ok(()));
}

#[test]
fn what_does_not_matter_does_not_matter() {
    let judge = Judge::new();
    type Edit = fn(&mut Value, &mut Value);
    for edit in [
        (|h, _| h["typ"] = json!("DPoP+JWT")) as Edit,
        |h, _| h["typ"] = json!("application/dpop+jwt"),
        |h, _| h["kid"] = json!("mine"),
        |h, _| h["jwk"]["kid"] = json!("mine"),
        |h, _| h["jwk"]["use"] = json!("sig"),
        |h, _| h["jwk"]["alg"] = json!("ES256"),
        |_, c| c["htu"] = json!("HTTPS://API.example.com:443/accounts/1?a=b#c"),
        |_, c| c["iat"] = json!(NOW as f64 + 0.5),
        |_, c| c["exp"] = json!(NOW + 5),
        |_, c| c["nbf"] = json!(NOW - 5),
        |_, c| c["iss"] = json!("somebody"),
        |_, c| c["jti"] = json!("x".repeat(256)),
    ] {
        let proof = judge.client.proof(TOKEN, edit);
        assert_eq!(judge.says_to(&proof), Ok(()), "{proof}");
    }
}

#[test]
fn the_key_is_the_one_that_the_token_names_and_has_signed() {
    let judge = Judge::new();
    let thief = Client::usual();
    let foreign = thief.proof(TOKEN, |_, _| {});
    assert_eq!(judge.says_to(&foreign), refused(ProofFlaw::Holder));
    // The right key, shown and not had.
    let shown = thief.proof(TOKEN, |h, _| h["jwk"] = judge.client.jwk());
    assert_eq!(judge.says_to(&shown), refused(ProofFlaw::Signature));
    // Claims of one proof with the signature of another.
    let (a, b) = (
        judge.client.proof(TOKEN, |_, _| {}),
        judge.client.proof(TOKEN, |_, _| {}),
    );
    let (_, signature) = b.rsplit_once('.').unwrap();
    let (input, _) = a.rsplit_once('.').unwrap();
    let mixed = format!("{input}.{signature}");
    assert_eq!(judge.says_to(&mixed), refused(ProofFlaw::Signature));
    for signature in ["", "A", "AAAA", &"A".repeat(87)] {
        let proof = format!("{input}.{signature}");
        assert_eq!(
            judge.says_to(&proof),
            refused(ProofFlaw::Signature),
            "{proof}"
        );
    }
    // A point that is on no curve.
    let off = judge
        .client
        .proof(TOKEN, |h, _| h["jwk"]["y"] = h["jwk"]["x"].clone());
    let holder = Proof::read(&off).unwrap().thumbprint;
    let checked = judge.dpop.check(
        &super::shown(&off),
        &TokenHash::of(TOKEN.as_bytes()),
        &holder,
    );
    assert_eq!(checked.outcome, refused(ProofFlaw::Signature));
}
