//! The handle: minting, rotation, faults, absence.

use super::*;
use std::time::Duration;

use crate::demo::keys::{KeySource, KeyState};
use crate::demo::{ClaimsEdit, Fault, Signer};

#[tokio::test]
async fn rotation_keeps_the_passive_key_and_disabling_removes_it() {
    let issuer = issuer().await;
    let old = issuer.active_kid("RS256").unwrap();
    let before = issuer.token(CALLCENTER, &[]);
    let new = issuer.rotate("RS256").unwrap();
    assert_ne!(old, new);
    assert_eq!(issuer.active_kid("RS256"), Some(new.clone()));
    let after = issuer.token(CALLCENTER, &[]);
    assert_eq!(header(&after)["kid"], new);
    let jwks = get(&issuer, Endpoint::Certs).await.json();
    assert_eq!(jwks["keys"].as_array().unwrap().len(), 7);
    assert!(verifies(&jwks, &before) && verifies(&jwks, &after));
    assert!(issuer.kids("RS256", KeyState::Passive).contains(&old));

    assert!(issuer.disable(&old));
    assert!(!issuer.disable("unknown"));
    let jwks = get(&issuer, Endpoint::Certs).await.json();
    assert!(!verifies(&jwks, &before) && verifies(&jwks, &after));
    assert_eq!(introspect(&issuer, &before).await.json()["active"], false);
}

#[tokio::test]
async fn algorithms_that_the_realm_lacks_can_be_added() {
    let issuer = issuer().await;
    for algorithm in ["RS384", "RS512", "PS384", "PS512", "ES384"] {
        issuer.rotate(algorithm).unwrap();
        let edit = ClaimsEdit::of(CALLCENTER, &["accounts:read"]);
        let token = issuer.mint(edit.signed_by(Signer::Active(algorithm.to_owned())));
        assert_eq!(header(&token)["alg"], algorithm);
        assert!(verifies(&issuer.jwks(), &token), "{algorithm}");
        assert_eq!(introspect(&issuer, &token).await.json()["active"], true);
    }
    assert!(issuer.rotate("ES512").is_err());
}

#[tokio::test]
async fn minted_tokens_are_what_the_edit_says() {
    let issuer = issuer().await;
    let edit = || ClaimsEdit::of(CALLCENTER, &["accounts:read"]);
    let token = issuer.mint(
        edit()
            .header(|h| {
                h.insert("crit".to_owned(), json!(["exp"]));
            })
            .claims(|c| {
                c.remove("aud");
                c.insert("cnf".to_owned(), json!({ "jkt": "x" }));
            }),
    );
    assert_eq!(header(&token)["crit"], json!(["exp"]));
    assert_eq!(claims(&token)["cnf"], json!({ "jkt": "x" }));
    assert!(!claims(&token).contains_key("aud"));
    assert!(verifies(&issuer.jwks(), &token));

    let jwks = issuer.jwks();
    let foreign = issuer.mint(edit().signed_by(Signer::Foreign("RS256".to_owned())));
    assert_eq!(header(&foreign)["kid"], issuer.active_kid("RS256").unwrap());
    assert!(!verifies(&jwks, &foreign));

    let passive = issuer.kids("RS256", KeyState::Passive).remove(0);
    let by_passive = issuer.mint(edit().signed_by(Signer::Kid(passive)));
    assert!(verifies(&jwks, &by_passive));

    let encryption = issuer.kids("RSA-OAEP", KeyState::Active).remove(0);
    let by_encryption = issuer.mint(edit().signed_by(Signer::Kid(encryption.clone())));
    assert_eq!(header(&by_encryption)["alg"], "RS256");
    assert_eq!(header(&by_encryption)["kid"], encryption);

    let active = issuer.active_kid("RS256").unwrap();
    let other = Signer::KidAs(active.clone(), "PS256".to_owned());
    let other = issuer.mint(edit().signed_by(other));
    assert_eq!(header(&other)["alg"], "PS256");
    assert_eq!(header(&other)["kid"], active);

    let confused = Signer::Hmac("HS256".to_owned(), b"public key".to_vec());
    assert_eq!(
        header(&issuer.mint(edit().signed_by(confused)))["alg"],
        "HS256"
    );
    let nobody = issuer.mint(edit().signed_by(Signer::Nobody));
    assert!(nobody.ends_with('.') && header(&nobody)["alg"] == "none");

    let claims = r#"{"iss":"a","iss":"b"}"#;
    let raw = issuer.sign(&part(&token, 0), claims, &Signer::Realm);
    assert_eq!(part(&raw, 1), claims);
    assert!(verifies(&jwks, &raw));
}

#[tokio::test]
async fn down_refuses_connections_and_up_is_the_same_issuer() {
    let issuer = issuer().await;
    let client = http();
    let url = issuer.endpoint(Endpoint::Certs);
    let before = send(client.get(&url)).await.json();
    issuer.set_down(true).unwrap();
    // The kept-alive connection is cut as well.
    assert!(client.get(&url).send().await.is_err());
    assert!(
        tokio::net::TcpStream::connect(issuer.address())
            .await
            .is_err()
    );
    let token = issuer.token(CALLCENTER, &[]);
    issuer.set_down(false).unwrap();
    issuer.set_down(false).unwrap();
    assert_eq!(send(client.get(&url)).await.json(), before);
    assert!(verifies(&before, &token));
}

#[tokio::test]
async fn requests_are_counted() {
    let issuer = issuer().await;
    assert_eq!(issuer.requests(Endpoint::Certs), 0);
    get(&issuer, Endpoint::Certs).await;
    issuer.set_fault(Endpoint::Certs, Fault::Status(503));
    get(&issuer, Endpoint::Certs).await;
    issuer.token(CALLCENTER, &[]);
    let counted = |endpoint| issuer.requests(endpoint);
    assert_eq!(counted(Endpoint::Certs), 2);
    assert_eq!(counted(Endpoint::Token), 0);
    grant(&issuer, CALLCENTER, "").await;
    assert_eq!(counted(Endpoint::Token), 1);
}

#[tokio::test]
async fn faults_break_one_endpoint_until_cleared() {
    let issuer = issuer().await;
    let honest = get(&issuer, Endpoint::Certs).await.text;
    let broken = async |fault: Fault| {
        issuer.set_fault(Endpoint::Certs, fault);
        get(&issuer, Endpoint::Certs).await
    };
    assert_eq!(broken(Fault::Status(503)).await.status, 503);
    let html = broken(Fault::Html).await;
    assert_eq!(
        (html.status, html.header("content-type")),
        (200, Some("text/html"))
    );
    assert_eq!(
        broken(Fault::Truncated).await.text,
        honest[..honest.len() / 2]
    );
    assert_eq!(broken(Fault::EmptySet).await.text, r#"{"keys":[]}"#);
    assert_eq!(broken(Fault::RawBody("[]".to_owned())).await.text, "[]");
    let oversized = broken(Fault::Oversized(100_000)).await.text;
    assert_eq!(oversized.len(), 100_000 + honest.len());
    assert_eq!(
        broken(Fault::Slow(Duration::from_millis(20))).await.text,
        honest
    );

    let redirect = broken(Fault::Redirect).await;
    assert_eq!(redirect.status, 302);
    let target = redirect.header("location").unwrap();
    let target = format!("http://{}{target}", issuer.address());
    assert_eq!(send(http().get(target)).await.text, honest);

    issuer.set_fault(Endpoint::Certs, Fault::Hang);
    let hanging = get(&issuer, Endpoint::Certs);
    let waited = tokio::time::timeout(Duration::from_millis(100), hanging).await;
    assert!(waited.is_err());
    assert_eq!(get(&issuer, Endpoint::Realm).await.status, 200);

    issuer.clear_fault(Endpoint::Certs);
    assert_eq!(get(&issuer, Endpoint::Certs).await.text, honest);
    issuer.set_fault(Endpoint::Discovery, Fault::WrongIssuer);
    let document = get(&issuer, Endpoint::Discovery).await.json();
    assert_ne!(document["issuer"], issuer.url());
    assert_eq!(document["jwks_uri"], issuer.endpoint(Endpoint::Certs));
}

#[tokio::test]
async fn fresh_keys_are_nobody_elses() {
    let fresh = || IssuerOptions {
        keys: KeySource::Fresh,
        ..IssuerOptions::default()
    };
    let one = Issuer::start(fresh()).await.unwrap();
    let other = Issuer::start(fresh()).await.unwrap();
    let moduli = |issuer: &Issuer| -> Vec<String> {
        let jwks = issuer.jwks();
        let keys = jwks["keys"].as_array().unwrap().iter();
        keys.filter_map(|key| key["n"].as_str().map(str::to_owned))
            .collect()
    };
    assert_eq!(moduli(&one).len(), 4);
    assert!(moduli(&one).iter().all(|n| !moduli(&other).contains(n)));
}
