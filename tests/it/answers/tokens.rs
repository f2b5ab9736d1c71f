//! The credential, the token, and what it grants.

use super::*;

fn refused(gateway: &Gateway, token: &str, reason: &str, detail: &str) {
    let series = format!("portcullis_rejections_total{{reason=\"{reason}\",route=\"accounts\"}}");
    let before = gateway.metric(&series);
    let answer = get(gateway.address(), "/accounts", Some(token));
    assert_eq!(problem(&answer, 401), detail, "{reason}");
    assert_eq!(
        answer.header("www-authenticate").unwrap(),
        format!(
            "Bearer realm=\"portcullis\", error=\"invalid_token\", error_description=\"{detail}\""
        )
    );
    assert!(answer.header("retry-after").is_none());
    gateway.counts(&series, before + 1.0);
}

#[test]
fn a_good_token_gets_through() {
    let (issuer, origin) = (issuer(), Origin::start());
    let gateway = start(&issuer, &origin);
    let token = issuer.token(READER, &["accounts:read"]);
    let answer = get(gateway.address(), "/accounts/1?x=1", Some(&token));
    assert_eq!((answer.status, answer.text()), (200, "hello"));
    assert_eq!(origin.only().line, "GET /accounts/1?x=1 HTTP/1.1");
}

#[test]
fn no_credential_is_401_without_an_error_code() {
    let (issuer, origin) = (issuer(), Origin::start());
    let gateway = start(&issuer, &origin);
    let token = issuer.token(READER, &["accounts:read"]);
    let none = get(gateway.address(), "/accounts", None);
    problem(&none, 401);
    assert_eq!(
        none.header("www-authenticate"),
        Some("Bearer realm=\"portcullis\"")
    );
    // Other schemes, and tokens anywhere but in the field, are no credential.
    for request in [
        "GET /accounts HTTP/1.1\r\nHost: a\r\nAuthorization: Basic YTpi\r\n\r\n".to_owned(),
        format!("GET /accounts?access_token={token} HTTP/1.1\r\nHost: a\r\n\r\n"),
        format!("GET /accounts HTTP/1.1\r\nHost: a\r\nCookie: access_token={token}\r\n\r\n"),
        format!(
            "POST /accounts HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {}\r\n\r\naccess_token={token}",
            token.len() + 13
        ),
    ] {
        let answer = Connection::open(gateway.address()).send(request).answer();
        problem(&answer, 401);
        assert_eq!(
            answer.header("www-authenticate"),
            Some("Bearer realm=\"portcullis\"")
        );
    }
    assert!(origin.received().is_empty());
}

#[test]
fn malformed_credentials_are_400_invalid_request() {
    let (issuer, origin) = (issuer(), Origin::start());
    let gateway = start(&issuer, &origin);
    let good = issuer.token(READER, &["accounts:read"]);
    let long = "a".repeat(8 * 1024 + 1);
    for (fields, reason) in [
        (
            format!("Authorization: Bearer {good}\r\nAuthorization: Bearer {good}\r\n"),
            "several_credentials",
        ),
        (
            format!("Authorization: Bearer {good}\r\nauthorization: Basic YTpi\r\n"),
            "several_credentials",
        ),
        (
            "Authorization: Bearer\r\n".to_owned(),
            "malformed_credential",
        ),
        (
            format!("Authorization: Bearer {good}, Bearer {good}\r\n"),
            "malformed_credential",
        ),
        (
            format!("Authorization: Bearer {good} x\r\n"),
            "malformed_credential",
        ),
        (
            format!("Authorization: Bearer {long}\r\n"),
            "oversized_token",
        ),
    ] {
        let series =
            format!("portcullis_rejections_total{{reason=\"{reason}\",route=\"accounts\"}}");
        let before = gateway.metric(&series);
        let answer = Connection::open(gateway.address())
            .send(format!("GET /accounts HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
            .answer();
        problem(&answer, 400);
        assert!(
            answer
                .header("www-authenticate")
                .unwrap()
                .contains("error=\"invalid_request\"")
        );
        gateway.counts(&series, before + 1.0);
    }
    assert!(origin.received().is_empty());
}

#[test]
fn a_judged_token_is_401_invalid_token_and_says_no_more() {
    let (issuer, origin) = (issuer(), Origin::start());
    let gateway = start(&issuer, &origin);
    let edit = || ClaimsEdit::of(READER, &["accounts:read"]);
    let claims = |name: &'static str, value: serde_json::Value| {
        issuer.mint(edit().claims(move |claims| {
            claims.insert(name.to_owned(), value);
        }))
    };
    let header = |name: &'static str, value: serde_json::Value| {
        issuer.mint(edit().header(move |header| {
            header.insert(name.to_owned(), value);
        }))
    };
    const SILENT: &str = "The access token is not valid here.";
    let past = portcullis::clock::Clock::system().unix() - 60;
    let future = past + 3600;
    refused(
        &gateway,
        &claims("exp", past.into()),
        "expired",
        "The access token has expired.",
    );
    refused(
        &gateway,
        &claims("nbf", future.into()),
        "not_yet_valid",
        SILENT,
    );
    refused(
        &gateway,
        &claims("iss", "https://else.example".into()),
        "wrong_issuer",
        SILENT,
    );
    refused(
        &gateway,
        &claims("iss", serde_json::json!([issuer.url()])),
        "wrong_issuer",
        SILENT,
    );
    refused(
        &gateway,
        &claims("aud", "account".into()),
        "wrong_audience",
        SILENT,
    );
    refused(&gateway, &claims("typ", "ID".into()), "wrong_kind", SILENT);
    refused(
        &gateway,
        &claims("exp", "soon".into()),
        "bad_claims",
        SILENT,
    );
    refused(
        &gateway,
        &claims("cnf", serde_json::json!({ "jkt": "x" })),
        "sender_constrained",
        SILENT,
    );
    let unmarked = issuer.mint(edit().claims(|claims| {
        claims.remove("typ");
    }));
    refused(&gateway, &unmarked, "unmarked", SILENT);
    refused(
        &gateway,
        &header("kid", "nobody".into()),
        "unknown_key",
        SILENT,
    );
    refused(
        &gateway,
        &header("typ", "logout+jwt".into()),
        "wrong_header_type",
        SILENT,
    );
    refused(
        &gateway,
        &header("crit", serde_json::json!(["b64"])),
        "critical_header",
        SILENT,
    );
    let foreign = issuer.mint(edit().signed_by(Signer::Foreign("RS256".to_owned())));
    refused(&gateway, &foreign, "bad_signature", SILENT);
    let nobody = issuer.mint(edit().signed_by(Signer::Nobody));
    refused(&gateway, &nobody, "wrong_algorithm", SILENT);
    let hmac = issuer.mint(edit().signed_by(Signer::Hmac("HS256".to_owned(), b"k".to_vec())));
    refused(&gateway, &hmac, "wrong_algorithm", SILENT);
    refused(&gateway, "opaque-token", "opaque_token", SILENT);
    refused(&gateway, "a.b.c", "malformed_token", SILENT);
    assert!(origin.received().is_empty());
}

#[test]
fn what_the_client_may_not_do_is_403_with_the_scopes_asked() {
    let (issuer, origin) = (issuer(), Origin::start());
    let other = issuer_with_base("http://other.example");
    let gateway = Setup::new(&issuer, origin.address())
        .issuers(format!(
            "{{ keycloak: {{ issuer: '{}', audience: [eazybank-gateway] }},
                other: {{ issuer: '{}', jwks_uri: '{}', audience: [eazybank-gateway] }} }}",
            issuer.url(),
            other.url(),
            other.endpoint(Endpoint::Certs),
        ))
        .routes(
            "[{ name: scope, match: { path: /scope }, upstream: origin,
                access: { scopes: ['accounts:write'], any_scope: ['a', 'b'] } },
              { name: role, match: { path: /role }, upstream: origin, access: { realm_roles: [LOANS] } },
              { name: client-role, match: { path: /client-role }, upstream: origin,
                access: { client_roles: { accounts-api: [writer] } } },
              { name: client, match: { path: /client }, upstream: origin, access: { clients: [other] } },
              { name: issuer, match: { path: /issuer }, upstream: origin, access: { issuers: [other] } },
              { name: fine, match: { path: /fine }, upstream: origin,
                access: { issuers: [keycloak], clients: [eazybank-accounts-reader-cc],
                  scopes: ['accounts:read'], any_scope: [x, 'accounts:read'], realm_roles: [ACCOUNTS],
                  any_realm_role: [ACCOUNTS, LOANS], client_roles: { accounts-api: [reader] } } }]",
        )
        .start();
    let token = issuer.token(READER, &["accounts:read"]);
    for (path, reason, scope) in [
        ("scope", "missing_scope", ", scope=\"accounts:write a b\""),
        ("role", "missing_role", ""),
        ("client-role", "missing_role", ""),
        ("client", "client_not_allowed", ""),
        ("issuer", "issuer_not_allowed", ""),
    ] {
        let answer = get(gateway.address(), &format!("/{path}"), Some(&token));
        let detail = problem(&answer, 403);
        assert_eq!(
            answer.header("www-authenticate").unwrap(),
            format!(
                "Bearer realm=\"portcullis\", error=\"insufficient_scope\", \
                 error_description=\"{detail}\"{scope}"
            )
        );
        let series = format!("portcullis_rejections_total{{reason=\"{reason}\",route=\"{path}\"}}");
        gateway.counts(&series, 1.0);
    }
    assert!(origin.received().is_empty());
    assert_eq!(get(gateway.address(), "/fine", Some(&token)).status, 200);
    let foreign = other.token(READER, &["accounts:read"]);
    assert_eq!(
        get(gateway.address(), "/issuer", Some(&foreign)).status,
        200
    );
    assert_eq!(get(gateway.address(), "/fine", Some(&foreign)).status, 403);
}

fn issuer_with_base(base: &str) -> Issuer {
    Issuer::start_blocking(IssuerOptions {
        base_url: Some(base.to_owned()),
        ..IssuerOptions::default()
    })
    .unwrap()
}

#[test]
fn no_keys_is_503_with_retry_after_and_not_ready() {
    let (issuer, origin) = (issuer(), Origin::start());
    issuer.set_fault(Endpoint::Certs, Fault::Status(500));
    let gateway = Setup::new(&issuer, origin.address())
        .routes(reader_route())
        .start_unready();
    eventually("the first fetch failed", || {
        issuer.requests(Endpoint::Certs) > 0
    });
    let token = issuer.token(READER, &["accounts:read"]);
    let answer = get(gateway.address(), "/accounts", Some(&token));
    problem(&answer, 503);
    assert!(
        answer
            .header("retry-after")
            .unwrap()
            .parse::<u32>()
            .unwrap()
            > 0
    );
    assert!(answer.header("www-authenticate").is_none());
    let ready = get(gateway.admin(), "/readyz", None);
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("keycloak"), "{}", ready.text());
    assert_eq!(get(gateway.admin(), "/livez", None).status, 200);
    // A public route needs no keys.
    assert_eq!(get(gateway.address(), "/open", None).status, 200);
    issuer.clear_fault(Endpoint::Certs);
    gateway.wait_ready();
    assert_eq!(
        get(gateway.address(), "/accounts", Some(&token)).status,
        200
    );
}

#[test]
fn a_token_on_a_public_route_is_not_judged() {
    let (issuer, origin) = (issuer(), Origin::start());
    let gateway = start(&issuer, &origin);
    assert_eq!(get(gateway.address(), "/open", Some("a.b.c")).status, 200);
    let received = origin.only();
    assert!(received.header("authorization").is_none());
    assert!(
        !received
            .headers
            .iter()
            .any(|(name, _)| name.starts_with("x-auth-"))
    );
}
