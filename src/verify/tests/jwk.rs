//! Key by key: what is used, what is left out and why, and that one key never costs the others.

use serde_json::{Value, json};

use super::super::jwk::{Found, Keys, Skip};
use super::jwks;
use super::mint::{Signer, b64, rsa2048};
use crate::config::plan::Algorithm;

fn read(keys: &[Value]) -> (Keys, Vec<Skip>) {
    Keys::parse(&jwks(keys), &Algorithm::ALL).expect("a JWK Set")
}

fn skipped(key: Value) -> Option<Skip> {
    let (keys, skipped) = read(&[key, rsa2048().jwk("good")]);
    let good = matches!(keys.find("good", Algorithm::RS256), Found::Key(_));
    assert!(good, "the good key is there");
    assert_eq!(keys.len() + skipped.len(), 2);
    skipped.first().copied()
}

/// The usual RSA key with some members changed.
fn rsa(changes: &Value) -> Value {
    changed(rsa2048().jwk("k"), changes)
}

fn changed(mut key: Value, changes: &Value) -> Value {
    for (name, value) in changes.as_object().expect("changes") {
        key[name] = value.clone();
    }
    key
}

#[test]
fn a_key_that_is_not_for_us_is_skipped_for_its_own_reason() {
    let with_blanks = b64([vec![0x80], vec![0; 126], vec![1]].concat());
    for (changes, wanted) in [
        (json!({}), None),
        (
            json!({"use": "sig", "alg": "RS256", "key_ops": ["verify"]}),
            None,
        ),
        (json!({"key_ops": ["sign", "verify"]}), None),
        (
            json!({"x5c": ["MIIB"], "x5t": "x", "x5t#S256": 1, "ext": true, "oth": null}),
            None,
        ),
        (json!({"use": "enc"}), Some(Skip::UseEnc)),
        (json!({"use": "enc", "alg": "RSA-OAEP"}), Some(Skip::UseEnc)),
        (json!({"use": "tls"}), Some(Skip::UseOther)),
        (json!({"use": ["sig"]}), Some(Skip::Malformed)),
        (json!({"key_ops": ["encrypt"]}), Some(Skip::KeyOps)),
        (json!({"key_ops": []}), Some(Skip::KeyOps)),
        (json!({"key_ops": ["sign, verify"]}), Some(Skip::KeyOps)),
        (json!({"key_ops": "verify"}), Some(Skip::Malformed)),
        (json!({"alg": "RSA-OAEP"}), Some(Skip::AlgNotAllowed)),
        (json!({"alg": "HS256"}), Some(Skip::AlgNotAllowed)),
        (json!({"alg": "none"}), Some(Skip::AlgNotAllowed)),
        (json!({"alg": "ES256"}), Some(Skip::Malformed)),
        (json!({"alg": 256}), Some(Skip::Malformed)),
        (
            json!({"kty": "oct", "k": "c2VjcmV0"}),
            Some(Skip::Symmetric),
        ),
        (json!({"kty": "AKP"}), Some(Skip::UnknownKind)),
        (json!({"kty": "rsa"}), Some(Skip::UnknownKind)),
        (json!({"kty": null}), Some(Skip::Malformed)),
        (json!({"d": "AQAB"}), Some(Skip::Private)),
        (json!({"p": "AQAB"}), Some(Skip::Private)),
        (json!({"d": null, "q": null}), None),
        (json!({"oth": []}), Some(Skip::Private)),
        (json!({"k": [0]}), Some(Skip::Private)),
        (json!({"kid": 7}), Some(Skip::Malformed)),
        (json!({"kid": "k".repeat(257)}), Some(Skip::Malformed)),
        (json!({"kid": "k".repeat(256)}), None),
        (json!({"e": "AQ"}), Some(Skip::Weak)),
        (json!({"e": "Aw"}), None),
        (json!({"e": "AAAB"}), Some(Skip::Weak)),
        (json!({"e": "BA"}), Some(Skip::Malformed)),
        (json!({"e": ""}), Some(Skip::Malformed)),
        (json!({"e": "AQAB=="}), Some(Skip::Malformed)),
        (json!({"e": b64([2, 0, 0, 0, 1])}), Some(Skip::TooLarge)),
        (json!({"e": b64([1; 200])}), Some(Skip::TooLarge)),
        (json!({"n": ""}), Some(Skip::Malformed)),
        (json!({"n": "not base64!"}), Some(Skip::Malformed)),
        (json!({"n": with_blanks}), Some(Skip::TooSmall)),
        (json!({"n": b64([0x7f; 256])}), Some(Skip::TooSmall)),
        (json!({"n": b64([0xff; 1025])}), Some(Skip::TooLarge)),
        (json!({"n": b64([0x80; 256])}), Some(Skip::Malformed)),
        (json!({"n": [1, 2]}), Some(Skip::Malformed)),
    ] {
        assert_eq!(skipped(rsa(&changes)), wanted, "{changes}");
    }
    for (key, wanted) in [
        (json!("key"), Some(Skip::Malformed)),
        (json!(null), Some(Skip::Malformed)),
        (json!({}), Some(Skip::Malformed)),
        (json!({"kty": "RSA", "kid": "k"}), Some(Skip::Malformed)),
    ] {
        assert_eq!(skipped(key.clone()), wanted, "{key}");
    }
    let mut nameless = rsa2048().jwk("k");
    nameless.as_object_mut().expect("a key").remove("kid");
    assert_eq!(skipped(nameless), Some(Skip::NoKid));
}

#[test]
fn a_point_has_the_length_of_its_curve() {
    let (p256, p384, ed) = (Signer::p256(), Signer::p384(), Signer::ed25519());
    let x = p256.jwk("k")["x"].clone();
    for (key, wanted) in [
        (p256.jwk("k"), None),
        (p384.jwk("k"), None),
        (ed.jwk("k"), None),
        (
            changed(p256.jwk("k"), &json!({"crv": "P-384"})),
            Some(Skip::Malformed),
        ),
        (
            changed(p384.jwk("k"), &json!({"crv": "P-256"})),
            Some(Skip::Malformed),
        ),
        (
            changed(p256.jwk("k"), &json!({"crv": "secp256k1"})),
            Some(Skip::UnknownKind),
        ),
        (
            changed(p256.jwk("k"), &json!({"crv": "P-521", "alg": "ES512"})),
            Some(Skip::UnknownKind),
        ),
        (
            changed(p256.jwk("k"), &json!({"alg": "ES384"})),
            Some(Skip::Malformed),
        ),
        (
            changed(p256.jwk("k"), &json!({"crv": "Ed25519"})),
            Some(Skip::UnknownKind),
        ),
        (
            changed(p256.jwk("k"), &json!({"y": null})),
            Some(Skip::Malformed),
        ),
        (
            changed(ed.jwk("k"), &json!({"crv": "Ed448"})),
            Some(Skip::UnknownKind),
        ),
        (
            changed(ed.jwk("k"), &json!({"crv": "X25519"})),
            Some(Skip::UnknownKind),
        ),
        (
            changed(ed.jwk("k"), &json!({"x": b64([1; 31])})),
            Some(Skip::Malformed),
        ),
        (
            changed(ed.jwk("k"), &json!({"x": b64([0; 32])})),
            Some(Skip::Weak),
        ),
        (
            changed(ed.jwk("k"), &json!({"kty": "EC"})),
            Some(Skip::UnknownKind),
        ),
        (
            json!({"kty": "OKP", "crv": "P-256", "x": x, "kid": "k"}),
            Some(Skip::UnknownKind),
        ),
    ] {
        assert_eq!(skipped(key.clone()), wanted, "{key}");
    }
}

#[test]
fn a_sign_byte_before_a_number_does_not_cost_the_key() {
    let key = rsa2048().jwk("k");
    let n = super::super::jws::decode(key["n"].as_str().expect("n")).expect("base64url");
    let padded = changed(
        key,
        &json!({"n": b64([&[0], n.as_slice()].concat()), "e": b64([0, 1, 0, 1])}),
    );
    let (keys, skipped) = read(&[padded]);
    assert_eq!((keys.len(), skipped), (1, vec![]));
    let Found::Key(key) = keys.find("k", Algorithm::RS256) else {
        panic!("no key");
    };
    assert_eq!(key.signature_bytes(), 256);
}

#[test]
fn a_key_serves_the_issuers_algorithms_of_its_kind() {
    let keys = [
        rsa2048().jwk("free"),
        rsa(&json!({"kid": "pinned", "alg": "PS256"})),
        rsa(&json!({"kid": "other", "alg": "RS512"})),
        Signer::p256().jwk("curve"),
    ];
    let allowed = [Algorithm::RS256, Algorithm::PS256];
    let (keys, skipped) = Keys::parse(&jwks(&keys), &allowed).expect("a JWK Set");
    assert_eq!(keys.len(), 2);
    assert_eq!(skipped, [Skip::AlgNotAllowed, Skip::AlgNotAllowed]);
    let found = |kid, algorithm| match keys.find(kid, algorithm) {
        Found::Key(_) => "key",
        Found::OtherAlgorithm => "other algorithm",
        Found::Ambiguous => "ambiguous",
        Found::Unknown => "unknown",
    };
    assert_eq!(found("free", Algorithm::RS256), "key");
    assert_eq!(found("free", Algorithm::PS256), "key");
    assert_eq!(found("free", Algorithm::RS512), "other algorithm");
    assert_eq!(found("pinned", Algorithm::PS256), "key");
    assert_eq!(found("pinned", Algorithm::RS256), "other algorithm");
    assert_eq!(found("curve", Algorithm::ES256), "unknown");
    assert_eq!(found("free ", Algorithm::RS256), "unknown");
}

#[test]
fn two_keys_under_one_name_verify_nothing() {
    let (first, second) = (rsa2048().jwk("k"), Signer::rsa(2048).jwk("k"));
    let (keys, skips) = read(&[first.clone(), second.clone()]);
    assert!(matches!(keys.find("k", Algorithm::RS256), Found::Ambiguous));
    assert_eq!((keys.len(), skips), (0, vec![Skip::Duplicate]));
    // A third cannot bring the name back.
    let (keys, _) = read(&[first.clone(), second.clone(), first.clone()]);
    assert!(matches!(keys.find("k", Algorithm::RS256), Found::Ambiguous));
    // The same key twice is no ambiguity.
    let (keys, skips) = read(&[first.clone(), first.clone()]);
    assert!(matches!(keys.find("k", Algorithm::RS256), Found::Key(_)));
    assert_eq!((keys.len(), skips), (1, vec![Skip::Duplicate]));
    // Nor are two keys for two algorithms.
    let pinned = |key: &Value, alg: &str| changed(key.clone(), &json!({"alg": alg}));
    let (keys, skips) = read(&[pinned(&first, "RS256"), pinned(&second, "PS256")]);
    assert!(matches!(keys.find("k", Algorithm::RS256), Found::Key(_)));
    assert!(matches!(keys.find("k", Algorithm::PS256), Found::Key(_)));
    assert_eq!((keys.len(), skips), (2, vec![]));
    // Ambiguous for one algorithm, usable for the others.
    let (keys, _) = read(&[first, pinned(&second, "PS256")]);
    assert!(matches!(keys.find("k", Algorithm::RS256), Found::Key(_)));
    assert!(matches!(keys.find("k", Algorithm::PS256), Found::Ambiguous));
}

#[test]
fn what_is_no_key_set_is_none() {
    for document in [
        "",
        "null",
        "[]",
        "{}",
        r#"{"keys":null}"#,
        r#"{"keys":{}}"#,
        r#"{"keys":"x"}"#,
        r#"{"Keys":[]}"#,
        r#"{"keys":[],"keys":[]}"#,
        r#"{"keys":[]"#,
        r#"{"keys":[]} x"#,
        "<html>",
        r#"{"error":"Realm does not exist"}"#,
    ] {
        let read = Keys::parse(document.as_bytes(), &Algorithm::ALL);
        assert!(read.is_none(), "{document}");
    }
    let (keys, skips) = read(&[]);
    assert_eq!((keys.len(), skips), (0, vec![]));
}

#[test]
fn what_stands_beside_the_keys_does_not_matter() {
    let good = rsa2048().jwk("good").to_string();
    let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
    for other in ["1e999", r#""\ud800""#, r#"{"a":1,"a":2}"#, &deep] {
        let document = format!(r#"{{"x":{other},"keys":[{good}],"x":{other}}}"#);
        let (keys, skips) = Keys::parse(document.as_bytes(), &Algorithm::ALL).expect("a set");
        assert_eq!((keys.len(), skips), (1, vec![]), "{other}");
    }
}

#[test]
fn a_key_that_is_not_strict_json_costs_only_itself() {
    let good = rsa2048().jwk("good").to_string();
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    for bad in [
        r#"{"kty":"RSA","kty":"oct","kid":"k"}"#,
        r#"{"kty":"RSA","\u006bid":"k","kid":"good"}"#,
        &format!(r#"{{"kty":"RSA","kid":"k","x":{deep}}}"#),
        &deep,
        // What JSON's grammar allows and no reader takes.
        r#"{"kty":"RSA","kid":"k","iat":1e999}"#,
        &format!(r#"{{"kty":"RSA","kid":"k","iat":{}}}"#, "9".repeat(400)),
        r#"{"kty":"RSA","kid":"\ud800"}"#,
        r#"{"kty":"RSA","\udfff":"k"}"#,
        r#""\udc00""#,
        "1e999",
    ] {
        for list in [format!("{bad},{good}"), format!("{good},{bad}")] {
            let document = format!(r#"{{"keys":[{list}]}}"#);
            let (keys, skips) = Keys::parse(document.as_bytes(), &Algorithm::ALL).expect("a set");
            assert_eq!((keys.len(), skips), (1, vec![Skip::Malformed]), "{bad}");
        }
    }
}
