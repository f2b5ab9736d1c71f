//! Each client of the realm and the token it gets.

use super::*;
use crate::clock::Clock;
use crate::demo::keys::KeyState;

fn sorted(value: &Value) -> Vec<String> {
    let mut words: Vec<String> = match value {
        Value::String(text) => text.split_whitespace().map(str::to_owned).collect(),
        list => serde_json::from_value(list.clone()).unwrap(),
    };
    words.sort();
    words
}

#[tokio::test]
async fn callcenter_gets_every_role_and_the_scopes_it_asks_for() {
    let issuer = Issuer::start(IssuerOptions {
        clock: Clock::manual(1_790_000_000),
        ..IssuerOptions::default()
    })
    .await
    .unwrap();
    let got = grant(&issuer, CALLCENTER, ALL_SCOPES).await;
    assert_eq!(got.status, 200);
    assert_eq!(got.header("cache-control"), Some("no-store"));
    assert_eq!(got.header("pragma"), Some("no-cache"));
    assert_eq!(got.header("content-type"), Some("application/json"));

    let mut answer = got.json();
    let token = answer["access_token"].take();
    let token = token.as_str().unwrap();
    let scope = format!("profile email {ALL_SCOPES}");
    assert_eq!(
        answer,
        json!({ "access_token": null, "expires_in": 300, "refresh_expires_in": 0, "token_type": "Bearer",
                "not-before-policy": 0, "scope": scope })
    );

    let kid = issuer.active_kid("RS256").unwrap();
    assert_eq!(
        part(token, 0),
        format!(r#"{{"alg":"RS256","typ" : "JWT","kid" : "{kid}"}}"#)
    );
    let mut claims = claims(token);
    let jti = claims.remove("jti").unwrap();
    let sub = claims.remove("sub").unwrap();
    assert!(jti.as_str().unwrap().starts_with("trrtcc:"), "{jti}");
    assert_eq!(jti.as_str().unwrap().len(), 7 + 36);
    assert_eq!(sub.as_str().unwrap().len(), 36);
    assert_eq!(
        Value::Object(claims),
        json!({
            "exp": 1_790_000_300, "iat": 1_790_000_000, "iss": issuer.url(), "aud": "eazybank-gateway",
            "typ": "Bearer", "azp": CALLCENTER, "acr": "1",
            "realm_access": { "roles": ["ACCOUNTS", "CARDS", "LOANS"] },
            "scope": scope, "email_verified": false, "clientHost": "127.0.0.1",
            "clientAddress": "127.0.0.1", "client_id": CALLCENTER,
            "preferred_username": "service-account-eazybank-callcenter-cc",
        })
    );
}

#[tokio::test]
async fn credentials_may_come_in_the_body_and_be_form_encoded_in_the_header() {
    let issuer = issuer().await;
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", CALLCENTER),
        ("client_secret", "demo-only-callcenter-cc"),
        ("scope", "openid email profile"),
    ];
    let got = post(&issuer, Endpoint::Token, None, &form).await;
    assert_eq!(got.status, 200, "{}", got.text);
    assert_eq!(sorted(&got.json()["scope"]), ["email", "openid", "profile"]);

    let encoded = Some(("eazybank%2Dcallcenter%2Dcc", "demo%2donly%2dcallcenter-cc"));
    let got = post(&issuer, Endpoint::Token, encoded, &form[..1]).await;
    assert_eq!(got.status, 200, "{}", got.text);
}

#[tokio::test]
async fn reader_gets_what_the_administrator_left_it() {
    let issuer = issuer().await;
    let with = claims(&access_token(&issuer, READER, "accounts:read").await);
    assert_eq!(with["scope"], "accounts:read");
    assert_eq!(with["realm_access"], json!({ "roles": ["ACCOUNTS"] }));
    let client_roles = json!({ "accounts-api": { "roles": ["reader"] } });
    assert_eq!(with["resource_access"], client_roles);
    assert_eq!(sorted(&with["aud"]), ["accounts-api", "eazybank-gateway"]);

    let without = claims(&access_token(&issuer, READER, "").await);
    assert_eq!(without["scope"], "");
    assert_eq!(without["aud"], "eazybank-gateway");
    assert!(!without.contains_key("realm_access"));
    assert!(!without.contains_key("resource_access"));

    let refused = grant(&issuer, READER, "accounts:read loans:read").await;
    let text = "Invalid scopes: accounts:read loans:read";
    refused.is_error(400, "invalid_scope", text);
}

#[tokio::test]
async fn a_scope_whose_role_the_account_lacks_is_dropped_silently() {
    let issuer = issuer().await;
    let nothing = claims(&access_token(&issuer, "eazybank-no-roles-cc", "accounts:read").await);
    assert_eq!(nothing["scope"], "");
    assert!(!nothing.contains_key("realm_access"));

    let some = claims(&access_token(&issuer, "eazybank-short-cc", ALL_SCOPES).await);
    assert_eq!(sorted(&some["scope"]), ["accounts:read", "accounts:write"]);
    assert_eq!(
        some["exp"].as_u64().unwrap() - some["iat"].as_u64().unwrap(),
        5
    );
}

#[tokio::test]
async fn no_audience_and_lightweight_leave_out_what_a_gateway_needs() {
    let issuer = issuer().await;
    let token = access_token(&issuer, "eazybank-no-audience-cc", "accounts:read").await;
    let claims_of = claims(&token);
    assert!(!claims_of.contains_key("aud"));
    assert_eq!(claims_of["realm_access"], json!({ "roles": ["ACCOUNTS"] }));

    let token = access_token(&issuer, "eazybank-lightweight-cc", "accounts:read").await;
    let light = claims(&token);
    let left = ["azp", "exp", "iat", "iss", "jti", "scope", "sub", "typ"];
    assert_eq!(names(&light), left);
    assert!(light["jti"].as_str().unwrap().starts_with("trltcc:"));
}

#[tokio::test]
async fn every_algorithm_of_the_realm_verifies_with_the_published_keys() {
    let issuer = issuer().await;
    let jwks = get(&issuer, Endpoint::Certs).await.json();
    for (client, alg, typ) in [
        (CALLCENTER, "RS256", "JWT"),
        ("eazybank-es256-cc", "ES256", "at+jwt"),
        ("eazybank-ps256-cc", "PS256", "JWT"),
        ("eazybank-eddsa-cc", "EdDSA", "JWT"),
    ] {
        let token = access_token(&issuer, client, "accounts:read").await;
        let header = header(&token);
        assert_eq!((&header["alg"], &header["typ"]), (&json!(alg), &json!(typ)));
        assert_eq!(header["kid"], issuer.active_kid(alg).unwrap());
        assert!(verifies(&jwks, &token), "{client}");
    }
}

#[tokio::test]
async fn certs_lists_six_keys_as_keycloak_does() {
    let issuer = issuer().await;
    let got = get(&issuer, Endpoint::Certs).await;
    assert_eq!(got.header("cache-control"), Some("no-cache"));
    assert_eq!(got.header("etag"), None);
    let jwks = got.json();
    let mut seen: Vec<(String, String, Vec<String>)> = Vec::new();
    for key in jwks["keys"].as_array().unwrap() {
        let members: Map<String, Value> = serde_json::from_value(key.clone()).unwrap();
        let text = |name: &str| key[name].as_str().unwrap().to_owned();
        let shape: Vec<String> = names(&members).iter().map(|n| (*n).to_owned()).collect();
        seen.push((text("alg"), text("use"), shape));
    }
    seen.sort();
    let rsa = ["alg", "e", "kid", "kty", "n", "use"]
        .map(str::to_owned)
        .to_vec();
    let ec = ["alg", "crv", "kid", "kty", "use", "x", "y"]
        .map(str::to_owned)
        .to_vec();
    let okp = ["alg", "crv", "kid", "kty", "use", "x"]
        .map(str::to_owned)
        .to_vec();
    let is = |alg: &str, usage: &str, shape: &Vec<String>| {
        (alg.to_owned(), usage.to_owned(), shape.clone())
    };
    let expected = [
        is("ES256", "sig", &ec),
        is("EdDSA", "sig", &okp),
        is("PS256", "sig", &rsa),
        is("RS256", "sig", &rsa),
        is("RS256", "sig", &rsa),
        is("RSA-OAEP", "enc", &rsa),
    ];
    assert_eq!(seen, expected);
    assert_eq!(issuer.kids("RS256", KeyState::Passive).len(), 1);
}

#[tokio::test]
async fn openid_brings_an_id_token_signed_with_the_same_key() {
    let issuer = issuer().await;
    let answer = grant(&issuer, CALLCENTER, "openid").await.json();
    let access = answer["access_token"].as_str().unwrap();
    let id = answer["id_token"].as_str().unwrap();
    assert_eq!(header(access), header(id));
    assert!(verifies(&issuer.jwks(), id));
    let claims_of = claims(id);
    assert_eq!(claims_of["typ"], "ID");
    assert_eq!(claims_of["aud"], CALLCENTER);
    assert_eq!(claims_of["sub"], claims(access)["sub"]);
    assert!(!claims_of.contains_key("realm_access"));
    assert_eq!(
        grant(&issuer, CALLCENTER, "").await.json().get("id_token"),
        None
    );
}

#[tokio::test]
async fn alice_gets_refresh_offline_and_id_tokens() {
    let issuer = issuer().await;
    let form = |scope| {
        [
            ("grant_type", "password"),
            ("client_id", "eazybank-user-demo"),
            ("username", "alice"),
            ("password", "demo-only-alice"),
            ("scope", scope),
        ]
    };
    let got = post(
        &issuer,
        Endpoint::Token,
        None,
        &form("openid accounts:read"),
    )
    .await;
    assert_eq!(got.status, 200, "{}", got.text);
    let answer = got.json();
    let token = |name: &str| answer[name].as_str().unwrap().to_owned();
    let access = claims(&token("access_token"));
    assert!(access["jti"].as_str().unwrap().starts_with("onrtro:"));
    assert_eq!(access["sid"], answer["session_state"]);
    assert_eq!(access["email"], "alice@example.org");
    assert_eq!(access["sid"].as_str().unwrap().len(), 24);
    assert!(!access.contains_key("auth_time"));
    assert!(!access.contains_key("client_id"));
    assert_eq!(claims(&token("id_token"))["typ"], "ID");
    assert_eq!(answer["refresh_expires_in"], 1800);

    let refresh = token("refresh_token");
    assert_eq!(header(&refresh)["alg"], "HS512");
    assert_eq!(header(&refresh)["kid"].as_str().unwrap().len(), 36);
    assert_eq!(claims(&refresh)["typ"], "Refresh");
    let scope = "openid basic roles acr profile email gateway-audience accounts:read";
    assert_eq!(claims(&refresh)["scope"], scope);
    assert_eq!(claims(&refresh)["aud"], issuer.url());
    assert!(!verifies(&issuer.jwks(), &refresh));

    let got = post(&issuer, Endpoint::Token, None, &form("offline_access")).await;
    let offline = got.json()["refresh_token"].as_str().unwrap().to_owned();
    assert_eq!(claims(&offline)["typ"], "Offline");
    assert!(!claims(&offline).contains_key("exp"));
    assert_eq!(got.json()["refresh_expires_in"], 0);
}

#[tokio::test]
async fn iss_stays_whatever_host_is_named() {
    let issuer = Issuer::start(IssuerOptions {
        base_url: Some("https://sso.example.com/".to_owned()),
        ..IssuerOptions::default()
    })
    .await
    .unwrap();
    let url = "https://sso.example.com/realms/eazybank";
    assert_eq!(issuer.url(), url);
    let asked = http()
        .get(issuer.endpoint(Endpoint::Discovery))
        .header("host", "evil.example");
    let document = send(asked).await;
    let cache = "no-cache, must-revalidate, no-transform, no-store";
    assert_eq!(document.header("cache-control"), Some(cache));
    let document = document.json();
    assert_eq!(document["issuer"], url);
    for (member, endpoint) in [
        ("jwks_uri", Endpoint::Certs),
        ("token_endpoint", Endpoint::Token),
        ("introspection_endpoint", Endpoint::Introspect),
        ("revocation_endpoint", Endpoint::Revoke),
    ] {
        assert_eq!(document[member], issuer.endpoint(endpoint));
    }
    assert_eq!(claims(&issuer.token(CALLCENTER, &[]))["iss"], url);
}
