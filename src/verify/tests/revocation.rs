//! Proofs and revocations: every proof is held against them, a kept one at its next use.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::introspect::{ASKED, CACHE, Said, World};
use super::mint::{keycloak_claims, rsa2048};
use super::revoked::entry;
use super::{ISSUER, NOW, Rig};
use crate::credential::BearerToken;
use crate::demo::issuer::Fault as Broken;
use crate::verify::revoked::{Entry, Kind, Revocations};
use crate::verify::{Fault, Refusal, Source, Verifier, Wanted};

const LIGHT: &str = "eazybank-lightweight-cc";
const READER: &str = "eazybank-accounts-reader-cc";
const LOCAL: Said = (Source::Local, Ok(()));
const REVOKED: Result<(), Fault> = Err(Fault::Refused(Refusal::Revoked));

async fn prove(verifier: &Verifier, token: &str) -> Said {
    let token = BearerToken::unchecked(token);
    let verdict = verifier.prove(token, Wanted::default()).await;
    (verdict.source, verdict.outcome.map(drop))
}

fn revoke(store: &Revocations, kind: Kind, value: &str) -> Entry {
    let entry = entry(kind, value);
    store.revoke(entry.clone()).expect("room");
    entry
}

fn claims() -> Value {
    let mut claims = keycloak_claims(ISSUER, NOW);
    claims["sid"] = json!("session");
    claims["sub"] = json!("5bd3 äö%20");
    claims
}

fn token(claims: &Value) -> String {
    rsa2048().token("RS256", "k1", claims)
}

#[tokio::test]
async fn each_kind_ends_a_kept_proof_at_its_next_use_and_gives_it_back() {
    let rig = Rig::usual().await;
    let store = rig.verifier.revocations().clone();
    let claims = claims();
    let token = token(&claims);
    assert_eq!(prove(&rig.verifier, &token).await, LOCAL);
    for (kind, value) in [
        (Kind::Jti, claims["jti"].as_str()),
        (Kind::Sub, claims["sub"].as_str()),
        (Kind::Sid, Some("session")),
        (Kind::Client, claims["azp"].as_str()),
        (Kind::Kid, Some("k1")),
    ] {
        assert_eq!(prove(&rig.verifier, &token).await, CACHE);
        revoke(&store, kind, "somebody else's");
        assert_eq!(prove(&rig.verifier, &token).await, CACHE);
        let entry = revoke(&store, kind, value.expect("a text"));
        // Twice: it is no worse for having been refused.
        for _ in 0..2 {
            let refused = prove(&rig.verifier, &token).await;
            assert_eq!(refused, (Source::Cache, REVOKED), "{kind:?}");
        }
        assert_eq!(store.restore(&entry.id()), Ok(true));
    }
    assert_eq!(prove(&rig.verifier, &token).await, CACHE);
}

#[tokio::test]
async fn a_token_that_is_new_here_is_held_against_them_too() {
    let rig = Rig::usual().await;
    let (first, mut second) = (claims(), claims());
    second["jti"] = json!("another");
    revoke(rig.verifier.revocations(), Kind::Jti, "another");
    assert_eq!(prove(&rig.verifier, &token(&first)).await, LOCAL);
    let second = token(&second);
    let refused = (Source::Local, REVOKED);
    assert_eq!(prove(&rig.verifier, &second).await, refused);
    // The word is for what is proved: of a forged token nothing is known.
    let forged = format!("{}AAAAAAAA", &second[..second.len() - 8]);
    let bad = Err(Fault::Refused(Refusal::Signature));
    assert_eq!(prove(&rig.verifier, &forged).await, (Source::Local, bad));
    // From its end on it is a token like any other.
    rig.clock.advance(std::time::Duration::from_secs(60));
    assert_eq!(prove(&rig.verifier, &second).await, CACHE);
}

/// The key that is out is the one whose signature cannot be checked here, and the issuer still says yes.
#[tokio::test]
async fn a_revoked_key_ends_tokens_whose_signature_only_the_issuer_checks() {
    let world = World::without_keys(|plan| plan.when.keys_unavailable = true).await;
    let (warm, new) = (
        world.issuer.token(READER, &[]),
        world.issuer.token(READER, &["accounts:read"]),
    );
    assert_eq!(world.prove(&warm).await, ASKED);
    let header = warm.split('.').next().expect("a header");
    let header = URL_SAFE_NO_PAD.decode(header).expect("base64url");
    let header: Value = serde_json::from_slice(&header).expect("JSON");
    let kid = header["kid"].as_str().expect("a kid");
    let entry = revoke(world.verifier.revocations(), Kind::Kid, kid);
    assert_eq!(world.prove(&warm).await, (Source::Cache, REVOKED));
    assert_eq!(world.prove(&new).await, (Source::Local, REVOKED));
    assert_eq!(world.asked(), 1);
    let restored = world.verifier.revocations().restore(&entry.id());
    assert_eq!(restored, Ok(true));
    assert_eq!(world.prove(&warm).await, CACHE);
}

#[tokio::test]
async fn not_before_ends_what_was_issued_earlier() {
    let rig = Rig::usual().await;
    let store = rig.verifier.revocations().clone();
    let issuer: Arc<str> = "keycloak".into();
    let at = |issued: Option<u64>| {
        let mut claims = claims();
        match issued {
            Some(at) => claims["iat"] = json!(at),
            None => drop(claims.as_object_mut().expect("a map").remove("iat")),
        }
        token(&claims)
    };
    let tokens = [at(Some(NOW - 1)), at(Some(NOW)), at(None)];
    for token in &tokens {
        assert_eq!(prove(&rig.verifier, token).await, LOCAL);
    }
    assert_eq!(store.polled(&issuer, NOW), Ok(true));
    let refused = (Source::Cache, REVOKED);
    for (token, expected) in tokens.iter().zip([refused, CACHE, refused]) {
        assert_eq!(prove(&rig.verifier, token).await, expected);
    }
    assert_eq!(store.polled(&issuer, 0), Ok(true));
    for token in &tokens {
        assert_eq!(prove(&rig.verifier, token).await, CACHE);
    }
}

#[tokio::test]
async fn an_answer_of_the_issuer_is_a_proof_like_any_other() {
    let world = World::new(|_| {}).await;
    let store = world.verifier.revocations().clone();
    let kept = world.issuer.token(LIGHT, &[]);
    assert_eq!(world.prove(&kept).await, ASKED);
    assert_eq!(world.prove(&kept).await, CACHE);
    let entry = revoke(&store, Kind::Client, LIGHT);
    assert_eq!(world.prove(&kept).await, (Source::Cache, REVOKED));
    // What is known to be revoked is not asked about.
    let new = world.issuer.token(LIGHT, &[]);
    assert_eq!(world.prove(&new).await, (Source::Local, REVOKED));
    assert_eq!(world.asked(), 1);
    assert_eq!(store.restore(&entry.id()), Ok(true));
    assert_eq!(world.prove(&kept).await, CACHE);
    assert_eq!(world.prove(&new).await, ASKED);

    // Of an opaque token only the answer says whose it is; asking again would not make it better.
    let opaque = world.issuer.opaque(READER, &[]);
    revoke(&store, Kind::Client, READER);
    let before = world.asked();
    let refused = (Source::Introspection, REVOKED);
    assert_eq!(world.prove(&opaque).await, refused);
    assert_eq!(world.prove(&opaque).await, (Source::Cache, REVOKED));
    assert_eq!(world.asked(), before + 1);
}

#[tokio::test]
async fn what_an_answer_leaves_out_the_token_may_say() {
    let world = World::new(|_| {}).await;
    let store = world.verifier.revocations().clone();
    let iss = world.issuer.url();
    let answer = format!(
        r#"{{"active":true,"iss":"{iss}","azp":"{LIGHT}","aud":"eazybank-gateway","typ":"Bearer"}}"#
    );
    world.breaks(Broken::RawBody(answer));
    let token = world
        .issuer
        .mint(crate::demo::ClaimsEdit::of(LIGHT, &[]).claims(|claims| {
            claims.insert("jti".to_owned(), json!("its own"));
            claims.insert("sub".to_owned(), json!("its subject"));
            claims.insert("sid".to_owned(), json!("its session"));
        }));
    assert_eq!(world.prove(&token).await, ASKED);
    for (kind, value) in [
        (Kind::Jti, "its own"),
        (Kind::Sub, "its subject"),
        (Kind::Sid, "its session"),
    ] {
        let entry = revoke(&store, kind, value);
        let refused = (Source::Cache, REVOKED);
        assert_eq!(world.prove(&token).await, refused, "{kind:?}");
        assert_eq!(store.restore(&entry.id()), Ok(true));
        assert_eq!(world.prove(&token).await, CACHE);
    }
    assert_eq!(world.asked(), 1);

    // Neither says when it was issued: then not after the question.
    let issuer: Arc<str> = "keycloak".into();
    assert_eq!(world.prove("opaque").await, ASKED);
    assert_eq!(store.polled(&issuer, NOW), Ok(true));
    assert_eq!(world.prove("opaque").await, CACHE);
    assert_eq!(store.polled(&issuer, NOW + 1), Ok(true));
    assert_eq!(world.prove("opaque").await, (Source::Cache, REVOKED));
}
