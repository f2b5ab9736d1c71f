//! Introspection, revocation and the public realm document.

use super::*;
use std::time::Duration;

use crate::clock::Clock;
use crate::demo::{ClaimsEdit, Signer};

#[track_caller]
fn inactive(got: &Got) {
    assert_eq!(
        (got.status, got.text.as_str()),
        (200, r#"{"active":false}"#)
    );
    assert_eq!(got.header("cache-control"), Some("no-cache"));
}

#[tokio::test]
async fn an_access_token_is_active_with_all_its_claims() {
    let issuer = issuer().await;
    let token = access_token(&issuer, CALLCENTER, "accounts:read").await;
    let got = introspect(&issuer, &token).await;
    assert_eq!(got.status, 200);
    assert_eq!(got.header("cache-control"), Some("no-cache"));
    assert_eq!(got.header("content-type"), Some("application/json"));
    let mut expected = claims(&token);
    expected.remove("clientHost");
    expected.remove("clientAddress");
    expected.insert("client_id".to_owned(), json!(CALLCENTER));
    expected.insert(
        "username".to_owned(),
        json!("service-account-eazybank-callcenter-cc"),
    );
    expected.insert("token_type".to_owned(), json!("Bearer"));
    expected.insert("active".to_owned(), json!(true));
    assert_eq!(got.json(), Value::Object(expected));
}

#[tokio::test]
async fn lightweight_tokens_are_made_whole_and_empty_members_left_out() {
    let issuer = issuer().await;
    let token = issuer.token("eazybank-lightweight-cc", &["accounts:read"]);
    let whole = introspect(&issuer, &token).await.json();
    assert_eq!(whole["active"], true);
    assert_eq!(whole["aud"], "eazybank-gateway");
    assert_eq!(whole["realm_access"], json!({ "roles": ["ACCOUNTS"] }));
    assert_eq!(whole["acr"], "1");
    assert_eq!(whole["jti"], claims(&token)["jti"]);
    assert_eq!(whole["exp"], claims(&token)["exp"]);

    let without = issuer.token(READER, &[]);
    assert_eq!(
        introspect(&issuer, &without).await.json().get("scope"),
        None
    );
}

#[tokio::test]
async fn all_else_is_inactive_and_says_no_more() {
    let clock = Clock::manual(1_790_000_000);
    let issuer = Issuer::start(IssuerOptions {
        clock: clock.clone(),
        ..IssuerOptions::default()
    })
    .await
    .unwrap();
    let answer = issuer.answer("eazybank-user-demo", &["openid"]);
    let offline = issuer.answer("eazybank-user-demo", &["offline_access"]);
    let of = |answer: &Map<String, Value>, name: &str| answer[name].as_str().unwrap().to_owned();
    let edit = || ClaimsEdit::of(CALLCENTER, &["accounts:read"]);
    for (what, token) in [
        ("empty", String::new()),
        ("garbage", "a.b.c".to_owned()),
        ("refresh", of(&answer, "refresh_token")),
        ("offline", of(&offline, "refresh_token")),
        ("id", of(&answer, "id_token")),
        ("audience", issuer.token("eazybank-no-audience-cc", &[])),
        (
            "foreign",
            issuer.mint(edit().signed_by(Signer::Foreign("RS256".to_owned()))),
        ),
        ("none", issuer.mint(edit().signed_by(Signer::Nobody))),
        (
            "issuer",
            issuer.mint(edit().claims(|c| {
                c.insert("iss".to_owned(), json!("http://other"));
            })),
        ),
    ] {
        let got = introspect(&issuer, &token).await;
        assert_eq!(got.text, r#"{"active":false}"#, "{what}");
        inactive(&got);
    }
    let token = issuer.token("eazybank-short-cc", &[]);
    assert_eq!(introspect(&issuer, &token).await.json()["active"], true);
    clock.advance(Duration::from_secs(5));
    inactive(&introspect(&issuer, &token).await);
}

#[tokio::test]
async fn callers_are_checked() {
    let issuer = issuer().await;
    let token = issuer.token(CALLCENTER, &[]);
    let gateway = Some(("eazybank-gateway", "demo-only-gateway"));
    let with = [("token", token.as_str())];
    let endpoint = Endpoint::Introspect;
    let wrong = post(&issuer, endpoint, Some(("eazybank-gateway", "x")), &with).await;
    wrong.is_error(401, "invalid_client", "Client authentication failed.");
    let nobody = post(&issuer, endpoint, None, &with).await;
    let text = "Invalid client or Invalid client credentials";
    nobody.is_error(401, "invalid_client", text);
    let public = [with[0], ("client_id", "eazybank-user-demo")];
    let public = post(&issuer, endpoint, None, &public).await;
    public.is_error(403, "invalid_request", "Client not allowed.");
    let none = post(&issuer, endpoint, gateway, &[]).await;
    none.is_error(400, "invalid_request", "Token not provided.");
    let hint = [with[0], ("token_type_hint", "foo")];
    let hint = post(&issuer, endpoint, gateway, &hint).await;
    hint.is_error(400, "invalid_request", "Unsupported token type.");
    let hint = [with[0], ("token_type_hint", "refresh_token")];
    inactive(&post(&issuer, endpoint, gateway, &hint).await);
    let twice = post(&issuer, endpoint, gateway, &[with[0], with[0]]).await;
    twice.is_error(400, "invalid_request", "duplicated parameter");
    let other = Some(("accounts-api", "demo-only-accounts-api"));
    inactive(&post(&issuer, endpoint, other, &with).await);
    // client_secret_post works as well.
    let body = [
        with[0],
        ("client_id", "eazybank-gateway"),
        ("client_secret", "demo-only-gateway"),
    ];
    let body = post(&issuer, endpoint, None, &body).await;
    assert_eq!(body.json()["active"], true);
}

#[tokio::test]
async fn revoked_and_disabled_show() {
    let issuer = issuer().await;
    let token = issuer.token(CALLCENTER, &[]);
    let me = Some((CALLCENTER, "demo-only-callcenter-cc"));
    let form = [("token", token.as_str())];
    let other = Some((READER, "demo-only-accounts-reader-cc"));
    let got = post(&issuer, Endpoint::Revoke, other, &form).await;
    got.is_error(400, "invalid_request", "Unmatching clients");
    let wrong = Some((CALLCENTER, "wrong"));
    let got = post(&issuer, Endpoint::Revoke, wrong, &form).await;
    let text = "Invalid client or Invalid client credentials";
    got.is_error(401, "unauthorized_client", text);
    let answer = issuer.answer(CALLCENTER, &["openid"]);
    let id = [("token", answer["id_token"].as_str().unwrap())];
    let got = post(&issuer, Endpoint::Revoke, me, &id).await;
    got.is_error(400, "unsupported_token_type", "Unsupported token type");
    let got = post(&issuer, Endpoint::Revoke, me, &[form[0], form[0]]).await;
    got.is_error(400, "invalid_request", "duplicated parameter");
    assert_eq!(introspect(&issuer, &token).await.json()["active"], true);

    issuer.set_client_enabled(CALLCENTER, false);
    inactive(&introspect(&issuer, &token).await);
    issuer.set_client_enabled(CALLCENTER, true);
    assert_eq!(introspect(&issuer, &token).await.json()["active"], true);

    let got = post(&issuer, Endpoint::Revoke, me, &form).await;
    assert_eq!((got.status, got.text.as_str()), (200, ""));
    inactive(&introspect(&issuer, &token).await);

    let got = post(&issuer, Endpoint::Revoke, me, &[("token", "garbage")]).await;
    assert_eq!(
        (got.status, &got.json()["error"]),
        (200, &json!("invalid_token"))
    );
}

#[tokio::test]
async fn the_realm_document_is_public_and_shows_not_before() {
    let issuer = issuer().await;
    let token = issuer.token(CALLCENTER, &[]);
    let got = get(&issuer, Endpoint::Realm).await;
    assert_eq!(got.header("cache-control"), Some("no-cache"));
    let document: Map<String, Value> = serde_json::from_str(&got.text).unwrap();
    let members = [
        "account-service",
        "public_key",
        "realm",
        "token-service",
        "tokens-not-before",
    ];
    assert_eq!(names(&document), members);
    assert_eq!(document["realm"], "eazybank");
    assert_eq!(document["tokens-not-before"], 0);

    let later = claims(&token)["iat"].as_u64().unwrap() + 1;
    issuer.set_not_before(later);
    assert_eq!(
        get(&issuer, Endpoint::Realm).await.json()["tokens-not-before"],
        later
    );
    inactive(&introspect(&issuer, &token).await);
    let answer = grant(&issuer, CALLCENTER, "").await.json();
    assert_eq!(answer["not-before-policy"], later);
}

/// As Keycloak: one audience, one use, a short life, and no secret beside it.
#[tokio::test]
async fn a_client_with_a_key_is_believed_once_for_each_assertion() {
    let issuer = issuer().await;
    let pem = issuer.give_key("eazybank-gateway", "ES256").unwrap();
    let key = crate::config::private_key::PrivateKey::from_pem(&pem).unwrap();
    let token = issuer.token(CALLCENTER, &[]);
    let now = Clock::system().unix();
    let good = json!({
        "iss": "eazybank-gateway", "sub": "eazybank-gateway", "aud": issuer.url(), "jti": "1",
        "iat": now, "exp": now + 60,
    });
    let sign = |claims: &Value, kid: Option<&str>| {
        let mut header = json!({ "alg": "ES256" });
        if let Some(kid) = kid {
            header["kid"] = kid.into();
        }
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let input = format!("{}.{}", part(&header), part(claims));
        let signature = URL_SAFE_NO_PAD.encode(key.sign(input.as_bytes()).unwrap());
        format!("{input}.{signature}")
    };
    let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    let ask = async |assertion: &str, kind: &str| {
        let form = [
            ("token", token.as_str()),
            ("client_assertion_type", kind),
            ("client_assertion", assertion),
        ];
        post(&issuer, Endpoint::Introspect, None, &form).await
    };
    let text = "Client authentication with signed JWT failed";
    let first = sign(&good, None);
    assert_eq!(ask(&first, kind).await.json()["active"], true);
    let again = ask(&first, kind).await;
    again.is_error(400, "invalid_client", text);
    for (member, value) in [
        ("aud", json!([issuer.url(), "another"])),
        ("aud", json!(issuer.endpoint(Endpoint::Token))),
        ("iss", json!("somebody")),
        ("sub", json!("somebody")),
        ("exp", json!(now)),
        ("iat", json!(now - 61)),
        ("iat", json!(now + 60)),
        ("jti", Value::Null),
    ] {
        let mut claims = good.clone();
        claims["jti"] = json!(format!("{member}{value}"));
        claims[member] = value;
        let refused = ask(&sign(&claims, None), kind).await;
        refused.is_error(400, "invalid_client", text);
    }
    let mut next = good.clone();
    next["jti"] = json!("2");
    let refused = ask(&sign(&next, Some("unknown")), kind).await;
    refused.is_error(400, "invalid_client", text);
    let refused = ask(&sign(&next, None), "another").await;
    refused.is_error(400, "invalid_client", text);
    let mut forged = sign(&next, None);
    forged.truncate(forged.len() - 4);
    let refused = ask(&forged, kind).await;
    refused.is_error(400, "invalid_client", text);
    assert_eq!(ask(&sign(&next, None), kind).await.json()["active"], true);
    let secret = Some(("eazybank-gateway", "demo-only-gateway"));
    let form = [("token", token.as_str())];
    let refused = post(&issuer, Endpoint::Introspect, secret, &form).await;
    refused.is_error(401, "invalid_client", "Client authentication failed.");
}
