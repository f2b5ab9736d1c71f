//! Every kind of credential that a caller may show.

use portcullis::demo::issuer::Issuer;
use portcullis::demo::keys::KeyState;
use portcullis::demo::mint::{ClaimsEdit, Signer};
use serde_json::{Map, Value, json};

const READER: &str = "eazybank-accounts-reader-cc";
const CALLCENTER: &str = "eazybank-callcenter-cc";
const USER: &str = "eazybank-user-demo";

/// The `jti` that is revoked before the requests come.
pub(super) const REVOKED: &str = "revoked";

/// Every scope of the realm.
const SCOPES: [&str; 6] = [
    "accounts:read",
    "accounts:write",
    "loans:read",
    "loans:write",
    "cards:read",
    "cards:write",
];

pub(super) struct Credential {
    pub(super) name: &'static str,
    /// Header lines, each with its end.
    pub(super) fields: String,
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// What the call centre, which may do everything, would get, changed.
fn everything() -> ClaimsEdit {
    ClaimsEdit::of(CALLCENTER, &SCOPES)
}

fn claims(issuer: &Issuer, edit: impl FnOnce(&mut Map<String, Value>) + Send + 'static) -> String {
    issuer.mint(everything().claims(edit))
}

fn claim(issuer: &Issuer, name: &'static str, value: Value) -> String {
    claims(issuer, move |claims| {
        claims.insert(name.to_owned(), value);
    })
}

fn without(issuer: &Issuer, name: &'static str) -> String {
    claims(issuer, move |claims| {
        claims.remove(name);
    })
}

fn header(issuer: &Issuer, name: &'static str, value: Value) -> String {
    issuer.mint(everything().header(move |header| {
        header.insert(name.to_owned(), value);
    }))
}

fn signed(issuer: &Issuer, signer: Signer) -> String {
    issuer.mint(everything().signed_by(signer))
}

/// A member of the token endpoint's answer.
fn answered(issuer: &Issuer, client: &str, scopes: &[&str], member: &str) -> String {
    issuer.answer(client, scopes)[member]
        .as_str()
        .unwrap()
        .to_owned()
}

pub(super) fn all(issuer: &Issuer) -> Vec<Credential> {
    let mut rows = without_a_token(issuer);
    let token = |name, token: String| Credential {
        name,
        fields: bearer(&token),
    };
    rows.extend(broken(issuer).into_iter().map(|(name, t)| token(name, t)));
    rows.extend(misused(issuer).into_iter().map(|(name, t)| token(name, t)));
    rows.extend(granted(issuer).into_iter().map(|(name, t)| token(name, t)));
    rows
}

fn without_a_token(issuer: &Issuer) -> Vec<Credential> {
    let good = issuer.token(CALLCENTER, &SCOPES);
    [
        ("nothing", String::new()),
        ("Basic", "Authorization: Basic YTpi\r\n".to_owned()),
        (
            "a good token as a cookie",
            format!("Cookie: access_token={good}\r\n"),
        ),
        (
            "Bearer without a token",
            "Authorization: Bearer\r\n".to_owned(),
        ),
        (
            "a good token and a word",
            format!("Authorization: Bearer {good} x\r\n"),
        ),
        (
            "two good tokens in one field",
            format!("Authorization: Bearer {good}, Bearer {good}\r\n"),
        ),
        ("two good tokens in two fields", bearer(&good).repeat(2)),
        (
            "a good token and Basic",
            format!("{}Authorization: Basic YTpi\r\n", bearer(&good)),
        ),
        ("a token of 8193 bytes", bearer(&"a".repeat(8193))),
        ("an opaque token", bearer("2YotnFZFEjr1zCsicMWpAA")),
    ]
    .map(|(name, fields)| Credential { name, fields })
    .into()
}

fn broken(issuer: &Issuer) -> Vec<(&'static str, String)> {
    let good = issuer.token(CALLCENTER, &SCOPES);
    let now = portcullis::clock::Clock::system().unix();
    let last = good.len() - 20;
    let flip = if good.as_bytes()[last] == b'A' {
        'B'
    } else {
        'A'
    };
    let bent = format!("{}{flip}{}", &good[..last], &good[last + 1..]);
    let parts: Vec<&str> = good.split('.').collect();
    let spliced = {
        let other = issuer.token(READER, &["accounts:read"]);
        let other: Vec<&str> = other.split('.').collect();
        format!("{}.{}.{}", other[0], parts[1], other[2])
    };
    let twice = {
        let kid = issuer.active_kid("RS256").unwrap();
        let header = format!(r#"{{"alg":"RS256","typ":"JWT","kid":"{kid}"}}"#);
        let claims = format!(
            r#"{{"iss":"{}","iss":"{}","aud":"eazybank-gateway","azp":"a","typ":"Bearer","exp":{}}}"#,
            issuer.url(),
            issuer.url(),
            now + 300
        );
        issuer.sign(&header, &claims, &Signer::Realm)
    };
    vec![
        ("no base64", "a.b.c".to_owned()),
        (
            "a token without its signature",
            format!("{}.{}.", parts[0], parts[1]),
        ),
        ("five segments (encrypted)", "a.b.c.d.e".to_owned()),
        ("one bit of the signature changed", bent),
        ("one token's claims under another's signature", spliced),
        ("a claim twice", twice),
        ("alg none", signed(issuer, Signer::Nobody)),
        ("HS256 with the public key as secret", {
            let key = issuer.jwks().to_string().into_bytes();
            signed(issuer, Signer::Hmac("HS256".to_owned(), key))
        }),
        (
            "a stranger's key under a known kid",
            signed(issuer, Signer::Foreign("RS256".to_owned())),
        ),
        ("another algorithm than the key's", {
            let kid = issuer.active_kid("RS256").unwrap();
            signed(issuer, Signer::KidAs(kid, "PS256".to_owned()))
        }),
        ("an algorithm that is not allowed", {
            let kid = issuer.active_kid("RS256").unwrap();
            signed(issuer, Signer::KidAs(kid, "RS512".to_owned()))
        }),
        ("an unknown kid", header(issuer, "kid", json!("nobody"))),
        ("the kid of the encryption key", {
            signed(
                issuer,
                Signer::Kid(issuer.kids("RSA-OAEP", KeyState::Active).remove(0)),
            )
        }),
        ("a kid that is a number", header(issuer, "kid", json!(1))),
        ("crit", header(issuer, "crit", json!(["exp"]))),
        (
            "header typ logout+jwt",
            header(issuer, "typ", json!("logout+jwt")),
        ),
    ]
}

fn misused(issuer: &Issuer) -> Vec<(&'static str, String)> {
    let now = portcullis::clock::Clock::system().unix();
    vec![
        ("expired", claim(issuer, "exp", json!(now - 60))),
        ("not yet valid", claim(issuer, "nbf", json!(now + 3600))),
        (
            "another issuer",
            claim(issuer, "iss", json!("https://else.example/realms/eazybank")),
        ),
        (
            "our issuer in an array",
            claim(issuer, "iss", json!([issuer.url()])),
        ),
        ("no issuer", without(issuer, "iss")),
        ("another audience", claim(issuer, "aud", json!("account"))),
        (
            "no audience (eazybank-no-audience-cc)",
            issuer.token("eazybank-no-audience-cc", &SCOPES),
        ),
        ("no expiry", without(issuer, "exp")),
        (
            "no client",
            claims(issuer, |claims| {
                claims.remove("azp");
                claims.remove("client_id");
            }),
        ),
        (
            "an expiry in words",
            claim(issuer, "exp", json!("tomorrow")),
        ),
        ("cnf", claim(issuer, "cnf", json!({ "jkt": "x" }))),
        ("unmarked", without(issuer, "typ")),
        ("payload typ Logout", claim(issuer, "typ", json!("Logout"))),
        (
            "an ID token",
            answered(issuer, USER, &["openid", "accounts:read"], "id_token"),
        ),
        (
            "a refresh token",
            answered(issuer, USER, &["accounts:read"], "refresh_token"),
        ),
        (
            "an offline token",
            answered(issuer, USER, &["offline_access"], "refresh_token"),
        ),
        ("a revoked token", claim(issuer, "jti", json!(REVOKED))),
        (
            "a lightweight token (eazybank-lightweight-cc)",
            issuer.token("eazybank-lightweight-cc", &SCOPES),
        ),
    ]
}

fn granted(issuer: &Issuer) -> Vec<(&'static str, String)> {
    let all = |client| issuer.token(client, &SCOPES);
    vec![
        (
            "every scope without a role",
            without(issuer, "realm_access"),
        ),
        (
            "every role without a scope",
            claim(issuer, "scope", json!("")),
        ),
        (
            "no role (eazybank-no-roles-cc)",
            issuer.token("eazybank-no-roles-cc", &["accounts:read"]),
        ),
        ("the reader, no scope asked", issuer.token(READER, &[])),
        (
            "the reader, accounts:read",
            issuer.token(READER, &["accounts:read"]),
        ),
        (
            "the call centre, no scope asked",
            issuer.token(CALLCENTER, &[]),
        ),
        (
            "the call centre, loans:read",
            issuer.token(CALLCENTER, &["loans:read"]),
        ),
        (
            "the call centre, every scope",
            issuer.token(CALLCENTER, &SCOPES),
        ),
        (
            "ES256 and at+jwt (eazybank-es256-cc)",
            all("eazybank-es256-cc"),
        ),
        ("PS256 (eazybank-ps256-cc)", all("eazybank-ps256-cc")),
        ("EdDSA (eazybank-eddsa-cc)", all("eazybank-eddsa-cc")),
        ("a passive key", {
            signed(
                issuer,
                Signer::Kid(issuer.kids("RS256", KeyState::Passive).remove(0)),
            )
        }),
        ("a user's token, every scope", all(USER)),
    ]
}
