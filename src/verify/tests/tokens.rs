//! Forgery and confusion: the header, the encoding and the choice of the key.

use serde_json::json;

use super::mint::{Signer, b64, keycloak_claims, rsa2048};
use super::{ISSUER, NOW, Rig, issuer};
use crate::config::plan::{Algorithm, IssuerId};
use crate::credential::BearerToken;
use crate::verify::Wanted;
use crate::verify::{Fault, Refusal, Source};

pub(super) fn payload() -> Vec<u8> {
    keycloak_claims(ISSUER, NOW).to_string().into_bytes()
}

pub(super) fn good() -> String {
    rsa2048().token("RS256", "k1", &keycloak_claims(ISSUER, NOW))
}

/// A token with this header and a good payload, signed with RS256 and the right key, whatever the header says.
pub(super) fn with_header(header: &str) -> String {
    rsa2048().seal("RS256", header, &payload())
}

pub(super) async fn refused(rig: &Rig, what: &str, token: &str, wanted: Refusal) {
    let got = rig.prove(token).await.err();
    assert_eq!(got, Some(Fault::Refused(wanted)), "{what}");
}

#[tokio::test]
async fn a_keycloak_token_proves_its_client() {
    let rig = Rig::usual().await;
    let verdict = rig
        .verifier
        .prove(BearerToken::unchecked(&good()), Wanted::default())
        .await;
    assert_eq!(verdict.issuer, Some(IssuerId(0)));
    assert_eq!(verdict.source, Source::Local);
    let principal = verdict.outcome.expect("a principal");
    assert_eq!(&*principal.grants.issuer_name, "keycloak");
    assert_eq!(&*principal.grants.issuer_url, ISSUER);
    assert_eq!(principal.grants.client, "eazybank-callcenter-cc");
    assert_eq!(
        principal.grants.scopes,
        ["email", "profile", "accounts:read", "accounts:write"]
    );
    assert!(
        principal
            .grants
            .realm_roles
            .contains(&"ACCOUNTS".to_owned())
    );
    assert_eq!(principal.grants.client_roles["accounts-api"], ["reader"]);
    assert!(principal.grants.claims.is_empty(), "no route forwards any");
}

#[tokio::test]
async fn every_algorithm_verifies_under_a_key_of_its_kind_and_under_no_other() {
    let signers = [
        ("rsa", Signer::rsa(2048), Algorithm::RSA),
        ("p256", Signer::p256(), &[Algorithm::ES256]),
        ("p384", Signer::p384(), &[Algorithm::ES384]),
        ("ed", Signer::ed25519(), &[Algorithm::EdDSA]),
    ];
    let keys = signers.iter().map(|(kid, signer, _)| signer.jwk(kid));
    let mut plan = issuer();
    plan.algorithms = Algorithm::ALL.to_vec();
    let rig = Rig::new(vec![(plan, keys.collect())]).await;
    let claims = keycloak_claims(ISSUER, NOW);
    for (kid, signer, algorithms) in &signers {
        for algorithm in *algorithms {
            let token = signer.token(algorithm.name(), kid, &claims);
            assert!(rig.prove(&token).await.is_ok(), "{}", algorithm.name());
        }
        for other in Algorithm::ALL.iter().filter(|a| !algorithms.contains(a)) {
            let header = format!(r#"{{"alg":"{}","kid":"{kid}"}}"#, other.name());
            let token = signer.seal(algorithms[0].name(), &header, &payload());
            refused(&rig, other.name(), &token, Refusal::Algorithm).await;
        }
    }
    // One algorithm of the key's kind signed, the header names another.
    let token = signers[0]
        .1
        .seal("RS256", r#"{"alg":"PS256","kid":"rsa"}"#, &payload());
    refused(&rig, "PS256 over RS256", &token, Refusal::Signature).await;
}

#[tokio::test]
async fn an_algorithm_that_is_not_the_issuers_or_not_the_keys_is_refused() {
    let signer = rsa2048();
    let mut pinned = signer.jwk("pinned");
    pinned["alg"] = json!("PS256");
    let mut plan = issuer();
    plan.algorithms = vec![Algorithm::RS256, Algorithm::PS256];
    let rig = Rig::new(vec![(plan, vec![pinned, signer.jwk("free")])]).await;
    let claims = keycloak_claims(ISSUER, NOW);
    for (alg, kid, ok) in [
        ("RS256", "pinned", false),
        ("PS256", "pinned", true),
        ("RS256", "free", true),
        ("PS256", "free", true),
        ("RS512", "free", false),
    ] {
        let got = rig.prove(&signer.token(alg, kid, &claims)).await;
        assert_eq!(got.is_ok(), ok, "{alg} {kid}");
        if !ok {
            assert_eq!(got.err(), Some(Refusal::Algorithm.into()), "{alg} {kid}");
        }
    }
}

#[tokio::test]
async fn no_token_is_unsigned_and_none_is_symmetric() {
    let rig = Rig::usual().await;
    for alg in [
        "none",
        "None",
        "NONE",
        "nOnE",
        "",
        "HS256",
        "HS384",
        "HS512",
        "ES512",
        "ES256K",
        "RS1",
        "rs256",
        "RS256 ",
        "dir",
        "RSA-OAEP",
        "ML-DSA-44",
        "Ed25519",
    ] {
        let header = json!({"alg": alg, "kid": "k1", "typ": "JWT"}).to_string();
        refused(&rig, alg, &with_header(&header), Refusal::Algorithm).await;
    }
    let escaped = r#"{"\u0061lg":"\u006eone","kid":"k1"}"#;
    refused(&rig, escaped, &with_header(escaped), Refusal::Algorithm).await;
    for header in [
        r#"{"kid":"k1"}"#,
        r#"{"alg":null,"kid":"k1"}"#,
        r#"{"alg":["RS256"],"kid":"k1"}"#,
        r#"{"alg":{"RS256":1},"kid":"k1"}"#,
        r#"{"alg":256,"kid":"k1"}"#,
        r#"{"alg":true,"kid":"k1"}"#,
        r#"{"ALG":"RS256","kid":"k1"}"#,
    ] {
        refused(&rig, header, &with_header(header), Refusal::Malformed).await;
    }
    // The public key as an HMAC secret.
    let input = format!(
        "{}.{}",
        b64(r#"{"alg":"HS256","kid":"k1"}"#),
        b64(payload())
    );
    let secret = rsa2048().jwk("k1").to_string();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
    let token = format!("{input}.{}", b64(ring::hmac::sign(&key, input.as_bytes())));
    refused(&rig, "HMAC", &token, Refusal::Algorithm).await;
}

#[tokio::test]
async fn a_header_that_asks_for_more_than_we_understand_is_refused() {
    let rig = Rig::usual().await;
    for more in [
        r#""crit":["exp"]"#,
        r#""crit":["b64"],"b64":false"#,
        r#""crit":[]"#,
        r#""crit":null"#,
        r#""crit":"exp""#,
        r#""crit":["x"],"x":1"#,
        r#""b64":false"#,
        r#""b64":true"#,
    ] {
        let header = format!(r#"{{"alg":"RS256","kid":"k1",{more}}}"#);
        refused(&rig, more, &with_header(&header), Refusal::Critical).await;
    }
}

#[tokio::test]
async fn the_header_type_must_be_one_of_the_issuers() {
    let rig = Rig::usual().await;
    for typ in [
        "JWT",
        "jwt",
        "at+jwt",
        "AT+JWT",
        "application/at+jwt",
        "Application/JWT",
    ] {
        let header = json!({"alg": "RS256", "kid": "k1", "typ": typ}).to_string();
        assert!(rig.prove(&with_header(&header)).await.is_ok(), "{typ}");
    }
    let absent = r#"{"alg":"RS256","kid":"k1"}"#;
    assert!(rig.prove(&with_header(absent)).await.is_ok());
    for typ in [
        "",
        "logout+jwt",
        "dpop+jwt",
        "secevent+jwt",
        "token-introspection+jwt",
        "JWE",
        "at+jwt ",
        "text/at+jwt",
        "application/application/jwt",
        "JW\u{54}2",
    ] {
        let header = json!({"alg": "RS256", "kid": "k1", "typ": typ}).to_string();
        refused(&rig, typ, &with_header(&header), Refusal::HeaderType).await;
    }
    for typ in ["null", "1", r#"["JWT"]"#, "{}"] {
        let header = format!(r#"{{"alg":"RS256","kid":"k1","typ":{typ}}}"#);
        refused(&rig, typ, &with_header(&header), Refusal::Malformed).await;
    }
}

#[tokio::test]
async fn a_key_is_found_by_its_exact_kid_alone() {
    let rig = Rig::usual().await;
    let long = "k".repeat(257);
    for kid in [
        "",
        "K1",
        "k1 ",
        "k2",
        "../k1",
        "k1\0",
        "k1\r\nX: y",
        "' OR 1=1 --",
        "https://evil.example/k1",
        "$(id)",
        &long,
    ] {
        let header = json!({"alg": "RS256", "kid": kid}).to_string();
        refused(&rig, kid, &with_header(&header), Refusal::UnknownKey).await;
    }
    refused(
        &rig,
        "none",
        &with_header(r#"{"alg":"RS256"}"#),
        Refusal::UnknownKey,
    )
    .await;
    for kid in ["null", "1", r#"["k1"]"#, "{}"] {
        let header = format!(r#"{{"alg":"RS256","kid":{kid}}}"#);
        refused(&rig, kid, &with_header(&header), Refusal::Malformed).await;
    }
}

#[tokio::test]
async fn a_key_in_the_token_is_nobodys_key() {
    let rig = Rig::usual().await;
    let mallory = Signer::p256();
    let evil = Signer::rsa(2048);
    for (name, value) in [
        ("jwk", evil.jwk("k1")),
        ("jku", json!("http://127.0.0.1:1/evil.json")),
        ("x5u", json!("http://127.0.0.1:1/evil.pem")),
        ("x5c", json!(["MIIB"])),
        ("x5t#S256", json!("abc")),
    ] {
        let header = json!({"alg": "RS256", "kid": "k1", name: value}).to_string();
        refused(
            &rig,
            name,
            &evil.seal("RS256", &header, &payload()),
            Refusal::Signature,
        )
        .await;
        // The right key's signature stands, whatever else the header carries.
        assert!(rig.prove(&with_header(&header)).await.is_ok(), "{name}");
    }
    let token = mallory.token("ES256", "k1", &keycloak_claims(ISSUER, NOW));
    refused(&rig, "another kind", &token, Refusal::Algorithm).await;
}

#[tokio::test]
async fn what_is_no_compact_jws_is_told_apart_by_its_dots() {
    let rig = Rig::usual().await;
    let many = ".".repeat(8000);
    for token in ["abc", "abc.def", "a.b.c.d", "AAAA", "."] {
        refused(&rig, token, token, Refusal::Opaque).await;
    }
    let jwe = "eyJhbGciOiJSU0EtT0FFUCJ9.a.b.c.d";
    for token in [
        "..",
        "a..",
        "..a",
        ".a.",
        "a.b.c",
        "....",
        jwe,
        &many,
        "x.y.z.w.v.u",
    ] {
        refused(&rig, token, token, Refusal::Malformed).await;
    }
}

#[tokio::test]
async fn a_segment_has_one_spelling() {
    let rig = Rig::usual().await;
    let token = good();
    let [header, payload, signature]: [&str; 3] = token
        .split('.')
        .collect::<Vec<_>>()
        .try_into()
        .expect("three segments");
    for (what, token) in [
        ("padding", format!("{header}=.{payload}.{signature}")),
        ("plus", format!("{header}.{payload}+.{signature}")),
        ("slash", format!("{header}/.{payload}.{signature}")),
        ("tilde", format!("{header}.{payload}~.{signature}")),
        (
            "one character more",
            format!("{header}.{payload}A.{signature}"),
        ),
    ] {
        let got = rig.prove(&token).await;
        assert!(matches!(got, Err(Fault::Refused(_))), "{what}");
    }
    // The unused bits of the last character: `{"alg":"RS256","kid":"k1"}` has 26 bytes.
    let header = b64(r#"{"alg":"RS256","kid":"k1"}"#);
    let twin = format!("{}1", &header[..header.len() - 1]);
    assert_ne!(header, twin);
    refused(
        &rig,
        "unused bits",
        &format!("{twin}.{payload}.{signature}"),
        Refusal::Malformed,
    )
    .await;
}

#[tokio::test]
async fn a_header_is_strict_json_of_bounded_size() {
    let rig = Rig::usual().await;
    let large = format!(r#"{{"alg":"RS256","kid":"k1","x":"{}"}}"#, "x".repeat(1024));
    for header in [
        r#"{"alg":"RS256","alg":"RS256","kid":"k1"}"#,
        r#"{"alg":"RS256","\u0061lg":"none","kid":"k1"}"#,
        r#"{"alg":"RS256","kid":"k1","x":{"a":1,"a":2}}"#,
        r#"{"alg":"RS256","kid":"k1"} "x""#,
        r#"{"alg":"RS256","kid":"k1"}}"#,
        r#"{"alg":"RS256","kid":"k1",}"#,
        r#"{'alg':'RS256','kid':'k1'}"#,
        "\u{feff}{\"alg\":\"RS256\",\"kid\":\"k1\"}",
        r#"["RS256"]"#,
        r#""RS256""#,
        "null",
        "",
        "{",
        &large,
    ] {
        refused(&rig, header, &with_header(header), Refusal::Malformed).await;
    }
}

#[tokio::test]
async fn a_header_is_known_only_from_tokens_that_were_proved() {
    let rig = Rig::usual().await;
    let known = || rig.verifier.headers.len();
    for at in 0..20 {
        let forged = with_header(&format!(r#"{{"alg":"RS256","kid":"k1","x":{at}}}"#));
        let forged = &forged[..forged.len() - 8];
        assert!(rig.prove(forged).await.is_err());
    }
    assert_eq!(known(), 0);
    for at in 0..20 {
        let header = format!(r#"{{"alg":"RS256","kid":"k1","x":{at}}}"#);
        for again in 0..2 {
            let mut claims = keycloak_claims(ISSUER, NOW);
            claims["jti"] = json!(format!("{at}-{again}"));
            let token = rsa2048().seal("RS256", &header, claims.to_string().as_bytes());
            assert!(rig.prove(&token).await.is_ok());
        }
        assert_eq!(known(), (at + 1).min(8));
    }
    // One that is known says no more than it says: another payload under it still needs its own signature.
    let (header, rest) = good()
        .split_once('.')
        .map(|(h, r)| (h.to_owned(), r.to_owned()))
        .unwrap();
    assert!(rig.prove(&format!("{header}.{rest}")).await.is_ok());
    let mut claims = keycloak_claims(ISSUER, NOW);
    claims["azp"] = json!("another");
    let signature = rest
        .split_once('.')
        .map(|(_, signature)| signature)
        .unwrap();
    let forged = format!("{header}.{}.{signature}", b64(claims.to_string()));
    refused(&rig, "a known header", &forged, Refusal::Signature).await;
}
