//! A gateway that comes before Keycloak, and one that outlives it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis::demo::Services;
use serde_json::json;

use crate::gateway::{Portcullis, REFRESH, read};
use crate::keycloak::{Keycloak, REALM};
use crate::say::say;
use crate::{World, eventually};

/// Leaves everything running for the steps that follow.
pub fn before() -> World {
    let mut keycloak = Keycloak::new();
    let services = Services::start().unwrap();
    let issuer = keycloak.url(REALM);
    let mut gateway = Portcullis::start(&issuer, "", &services);

    let failed = r#"portcullis_jwks_refreshes_total{issuer="keycloak",outcome="failed"}"#;
    eventually("a third try for the keys", 20, || {
        gateway.metric(failed) >= 3.0
    });
    gateway.assert_alive();
    let readiness = gateway.readiness();
    assert_eq!(readiness.status, 503, "{}", readiness.text());
    let reason = &readiness.json()["issuers"][0]["reason"];
    assert!(reason.as_str().unwrap().contains("refused"), "{reason}");
    say!("alive, /readyz 503: {reason}");

    let token = plausible(&issuer);
    let answer = gateway.send(read("accounts"), &token);
    assert_eq!(answer.status, 503, "{}", answer.text());
    let later = answer.header("retry-after").unwrap();
    later.parse::<u32>().unwrap();
    say!("a token that might be good: 503, Retry-After {later}");
    assert_eq!(gateway.get("/eazybank/accounts", None).status, 401);
    assert_eq!(gateway.get("/contact", None).status, 200);
    say!("no token: 401; a public route: 200");

    keycloak.start("");
    gateway.wait_ready();
    let token = keycloak.token("callcenter-cc", "accounts:read");
    gateway.passes("its first token", read("accounts"), &token);
    gateway.assert_alive();
    World {
        keycloak,
        services,
        gateway,
    }
}

/// The last step on this server.
pub fn after(world: &mut World) {
    let World {
        keycloak, gateway, ..
    } = world;
    let token = keycloak.token("callcenter-cc", "accounts:read");
    keycloak.stop();
    let failed = r#"portcullis_jwks_refreshes_total{issuer="keycloak",outcome="failed"}"#;
    let before = gateway.metric(failed);
    eventually("the keys cannot be refreshed", 4 * REFRESH, || {
        gateway.metric(failed) > before
    });
    gateway.passes("a token from before", read("accounts"), &token);
    let readiness = gateway.readiness();
    assert_eq!(readiness.status, 200, "{}", readiness.text());
    say!(
        "/readyz 200 with {} failed refreshes",
        gateway.metric(failed) - before
    );
}

/// What nobody can judge without keys: everything about it is right as far as can be seen.
fn plausible(issuer: &str) -> String {
    let now = portcullis::clock::Clock::system().unix();
    let header = json!({ "alg": "RS256", "typ": "JWT", "kid": "some-key" });
    let claims = json!({
        "iss": issuer, "aud": "eazybank-gateway", "typ": "Bearer", "azp": "eazybank-callcenter-cc",
        "sub": "somebody", "iat": now, "exp": now + 300, "scope": "accounts:read",
    });
    let parts = [
        header.to_string().into_bytes(),
        claims.to_string().into_bytes(),
        vec![0; 256],
    ];
    parts.map(|part| URL_SAFE_NO_PAD.encode(part)).join(".")
}
