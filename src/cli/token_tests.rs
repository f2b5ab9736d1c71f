//! The command's parts against the embedded issuer.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::config::plan::{Algorithm, KeysPlan, Unmarked};
use crate::demo::{Endpoint, Fault, Issuer, IssuerOptions};

const CALLCENTER: &str = "eazybank-callcenter-cc";
const SECRET: &str = "demo-only-callcenter-cc";

fn issuer_plan(name: &str, issuer: &str, keys_from: KeysFrom) -> IssuerPlan {
    IssuerPlan {
        name: name.into(),
        issuer: issuer.to_owned(),
        keys_from,
        ca: None,
        insecure: false,
        audience: vec!["eazybank-gateway".to_owned()],
        algorithms: vec![Algorithm::RS256],
        token_types: vec!["jwt".to_owned()],
        unmarked: Unmarked::Refuse,
        leeway: TIMEOUT,
        keys: KeysPlan {
            refresh: TIMEOUT,
            cooldown: TIMEOUT,
            max_stale: TIMEOUT,
            timeout: TIMEOUT,
            snapshot: None,
        },
        not_before: None,
        logout_clients: Vec::new(),
        dpop: crate::config::plan::Dpop::Refuse,
        introspection: None,
    }
}

fn plan_of(issuer: &Issuer) -> IssuerPlan {
    let discovery = KeysFrom::Discovery(issuer.endpoint(Endpoint::Discovery));
    issuer_plan("keycloak", &issuer.url(), discovery)
}

fn request(scope: Option<&'static str>) -> Request<'static> {
    Request {
        client: CALLCENTER,
        secret: SECRET,
        scope,
    }
}

async fn issuer() -> Issuer {
    Issuer::start(IssuerOptions::default()).await.unwrap()
}

fn says(error: TokenError, what: &str) {
    let text = error.to_string();
    assert!(text.contains(what), "{text}");
    assert!(!text.contains(SECRET), "{text}");
}

#[tokio::test]
async fn prints_a_bare_token() {
    let issuer = issuer().await;
    for keys_from in [
        KeysFrom::Discovery(issuer.endpoint(Endpoint::Discovery)),
        KeysFrom::Url(issuer.endpoint(Endpoint::Certs)),
    ] {
        let plan = issuer_plan("keycloak", &issuer.url(), keys_from);
        let token = fetch(&plan, &request(Some("accounts:read loans:read"))).await;
        assert_eq!(token.unwrap().split('.').count(), 3);
    }
    assert_eq!(issuer.requests(Endpoint::Token), 2);
}

#[tokio::test]
async fn hands_on_what_the_issuer_says() {
    let issuer = issuer().await;
    let plan = plan_of(&issuer);
    let refused = fetch(&plan, &request(Some("admin"))).await.unwrap_err();
    let expected = TokenError::Refused {
        status: 400,
        error: "invalid_scope".to_owned(),
        description: Some("Invalid scopes: admin".to_owned()),
    };
    assert_eq!(refused, expected);
    says(refused, "(400): invalid_scope: Invalid scopes: admin");
    let wrong = Request {
        secret: "%+wrong: secret",
        ..request(None)
    };
    says(
        fetch(&plan, &wrong).await.unwrap_err(),
        "unauthorized_client",
    );
}

#[tokio::test]
async fn broken_issuers_are_named_and_redirects_not_followed() {
    let issuer = issuer().await;
    let plan = plan_of(&issuer);
    let discovery = Endpoint::Discovery;
    for (endpoint, fault, what) in [
        (discovery, Fault::Status(503), "answered 503"),
        (discovery, Fault::Redirect, "answered 302"),
        (discovery, Fault::Html, "not a discovery document"),
        (discovery, Fault::WrongIssuer, "/realms/other"),
        (discovery, Fault::Oversized(2 << 20), "too long"),
        (Endpoint::Token, Fault::Redirect, "(302)"),
        (Endpoint::Token, Fault::Html, "without an access_token"),
        (Endpoint::Token, Fault::Status(502), "(502): no reason"),
    ] {
        issuer.set_fault(endpoint, fault);
        says(fetch(&plan, &request(None)).await.unwrap_err(), what);
        issuer.clear_fault(endpoint);
    }
    issuer.set_down(true).unwrap();
    let gone = fetch(&plan, &request(None)).await.unwrap_err();
    says(gone, "onnection refused");
}

#[test]
fn the_secret_never_leaves_tls() {
    // Discovery over TLS cannot be had here; the rule is checked where it is made.
    let said = "http://sso.example.com/token";
    assert!(downgrades("https://sso.example.com/discovery", said));
    assert!(!downgrades("http://127.0.0.1/discovery", said));
}

#[test]
fn issuers_are_chosen_by_name() {
    let plan = |name| issuer_plan(name, "https://a", KeysFrom::Url("https://a".to_owned()));
    let two = [plan("one"), plan("two")];
    assert_eq!(&*choose(&two, Some("two")).unwrap().name, "two");
    assert_eq!(&*choose(&two[..1], None).unwrap().name, "one");
    let unknown = choose(&two, Some("three")).unwrap_err();
    assert_eq!(unknown, r#"no issuer "three"; known: one, two"#);
    let several = choose(&two, None).unwrap_err();
    assert_eq!(
        several,
        "several issuers, choose one with --issuer: one, two"
    );
    assert!(choose(&[], None).is_err());
}

#[test]
fn secrets_lose_one_newline() {
    for (text, secret) in [
        ("a", "a"),
        ("a\n", "a"),
        ("a\r\n", "a"),
        ("a\n\n", "a\n"),
        (" a ", " a "),
    ] {
        assert_eq!(without_line_end(text), secret);
    }
    let file = std::env::temp_dir().join(format!("portcullis-secret-{}", std::process::id()));
    std::fs::write(&file, "s3cret\n").unwrap();
    assert_eq!(read_secret(Some(&file)).unwrap(), "s3cret");
    std::fs::write(&file, "\n").unwrap();
    assert!(read_secret(Some(&file)).is_err());
    std::fs::remove_file(&file).unwrap();
    let missing = read_secret(Some(&file)).unwrap_err();
    assert!(missing.to_string().contains("portcullis-secret-"));
}

#[test]
fn form_encoding_is_that_of_the_standard() {
    assert_eq!(form_encode("a-Z_0.9*"), "a-Z_0.9*");
    assert_eq!(form_encode("a b:c%ü+/~"), "a+b%3Ac%25%C3%BC%2B%2F%7E");
}

#[test]
fn usage_is_64_and_the_rest_1() {
    let refused = TokenError::Issuer(String::new());
    assert_eq!(TokenError::Usage(String::new()).exit(), ExitCode::from(64));
    assert_eq!(refused.exit(), ExitCode::from(1));
}
