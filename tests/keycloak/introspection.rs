//! What only Keycloak can say of a token: it is asked, seldom where that is enough and each time where it is not.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::gateway::{FRESH, fresh, introspect, read};
use crate::keycloak::opened;
use crate::say::say;
use crate::{World, eventually};

const SCOPE: &str = "accounts:read";

pub fn all(world: &World) {
    lightweight(world);
    without_audience(world);
    disabled_client(world);
    revoked(world);
}

/// Nothing in it says whom it is for and what it may do.
fn lightweight(world: &World) {
    let World {
        keycloak, gateway, ..
    } = world;
    let token = keycloak.token("lightweight-cc", SCOPE);
    let claims = opened(&token).1;
    assert!(claims.get("aud").is_none() && claims.get("realm_access").is_none());
    let seen = || {
        let asked = gateway.asked("active") + gateway.asked("inactive") + gateway.asked("failed");
        (
            gateway.proved("introspection"),
            gateway.proved("cache"),
            asked,
        )
    };
    let (by_asking, from_cache, asked) = seen();
    let after = |more: (f64, f64)| (by_asking + more.0, from_cache + more.1, asked + 1.0);
    gateway.passes("lightweight-cc", read("accounts"), &token);
    counted(after((1.0, 0.0)), seen);
    gateway.passes("lightweight-cc again", read("accounts"), &token);
    counted(after((1.0, 1.0)), seen);
    say!("proved by introspection, then from the cache: 1 question in all");
}

/// A request is counted after it was answered.
#[track_caller]
fn counted(meant: (f64, f64, f64), seen: impl Fn() -> (f64, f64, f64)) {
    let settled = || seen().0 + seen().1 >= meant.0 + meant.1;
    eventually("the proof is counted", 10, settled);
    assert_eq!(seen(), meant, "by introspection, from the cache, questions");
}

/// Keycloak tells nobody about a token that is not for him (since 26.6.2): an operator must be able to read why.
fn without_audience(world: &World) {
    let World {
        keycloak, gateway, ..
    } = world;
    let token = keycloak.token("no-audience-cc", SCOPE);
    assert_eq!(opened(&token).1.get("aud"), None);
    let before = gateway.log().len();
    let call = read("accounts");
    gateway.refuses("no-audience-cc", call, &token, 401, "inactive");
    let mut told = String::new();
    eventually("the log explains it", 10, || {
        let log = gateway.log();
        let mut lines = log[before..].lines();
        let line = lines.find(|line| line.contains("a token with a good signature is inactive"));
        told = line.unwrap_or_default().to_owned();
        !told.is_empty()
    });
    for word in [
        "issuer keycloak",
        "\"eazybank-gateway\"",
        "audience mapper",
        "\"Add to token introspection\"",
    ] {
        assert!(told.contains(word), "{word}: {told}");
    }
    assert!(!gateway.log().contains(&token), "the log has a token");
    say!("the log: {told}");
}

fn disabled_client(world: &World) {
    let World {
        keycloak, gateway, ..
    } = world;
    let who = "callcenter-cc";
    let token = keycloak.token(who, SCOPE);
    gateway.passes(who, introspect(), &token);
    keycloak.set_client(who, &json!({ "enabled": false }));
    let who = "callcenter-cc, disabled";
    gateway.refuses(who, introspect(), &token, 401, "inactive");
    // What a signature alone proves stays proved until the token ends.
    gateway.passes(who, read("accounts"), &token);

    keycloak.set_client("callcenter-cc", &json!({ "enabled": true }));
    // A no is kept for some seconds too.
    let took = eventually("the enabled client is served", 30, || {
        gateway.send(introspect(), &token).status == 200
    });
    let who = "callcenter-cc, enabled again";
    gateway.passes(who, introspect(), &token);
    say!("served again after {:.1} s", took.as_secs_f64());
}

/// RFC 7009.
fn revoked(world: &World) {
    let World {
        keycloak, gateway, ..
    } = world;
    let who = "callcenter-cc";
    let revoked = "callcenter-cc, revoked";
    let token = keycloak.token(who, SCOPE);
    gateway.passes(who, introspect(), &token);
    keycloak.revoke(who, &token);
    gateway.refuses(revoked, introspect(), &token, 401, "inactive");

    // Nobody asks about this one in between.
    let token = keycloak.token(who, SCOPE);
    gateway.passes(who, fresh(), &token);
    keycloak.revoke(who, &token);
    let at = Instant::now();
    let mut passed = 0;
    eventually("the revoked token is refused", 4 * FRESH, || {
        let sent = at.elapsed();
        let status = gateway.send(fresh(), &token).status;
        let late = sent > Duration::from_secs(FRESH);
        assert!(status == 401 || !late, "{status} {sent:?} after revocation");
        passed += usize::from(status == 200);
        status == 401
    });
    let took = at.elapsed().as_secs_f64();
    say!(
        "{revoked}: {}: 401 after {took:.1} s and {passed} x 200",
        fresh()
    );
    gateway.refuses(revoked, fresh(), &token, 401, "inactive");
    gateway.passes(revoked, read("accounts"), &token);

    // A newer no ends an older yes.
    let token = keycloak.token(who, SCOPE);
    gateway.passes(who, fresh(), &token);
    keycloak.revoke(who, &token);
    gateway.refuses(revoked, introspect(), &token, 401, "inactive");
    gateway.refuses(revoked, fresh(), &token, 401, "inactive");
}
