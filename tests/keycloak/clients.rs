//! Each client of the realm gets what the realm's author meant it to get.

use std::collections::BTreeSet;

use portcullis::clock::Clock;
use serde_json::Value;

use crate::gateway::{LEEWAY, read, write};
use crate::keycloak::{credentials, opened};
use crate::say::say;
use crate::{World, eventually};

const SERVICES: [&str; 3] = ["accounts", "loans", "cards"];
const ALL_SCOPES: &str =
    "accounts:read accounts:write loans:read loans:write cards:read cards:write";
/// By what follows `eazybank-`. A client that the realm gets must come here, and be tested.
const KNOWN: [&str; 13] = [
    "accounts-api",
    "accounts-reader-cc",
    "callcenter-cc",
    "dpop-cc",
    "eddsa-cc",
    "es256-cc",
    "gateway",
    // See `introspection` for these two.
    "lightweight-cc",
    "no-audience-cc",
    "no-roles-cc",
    "ps256-cc",
    "short-cc",
    // A person's: see `kinds`.
    "user-demo",
];

pub fn all(world: &World) {
    every_client_is_known();
    callcenter(world);
    accounts_reader(world);
    without_permission(world);
    algorithms(world);
    without_service_account(world);
}

fn every_client_is_known() {
    let realm = include_str!("../../deploy/keycloak/demo-realm.json");
    let realm: Value = serde_json::from_str(realm).unwrap();
    let clients = realm["clients"].as_array().unwrap().iter();
    let clients: BTreeSet<String> = clients
        .map(|client| client["clientId"].as_str().unwrap().to_owned())
        .collect();
    let known: BTreeSet<String> = KNOWN.iter().map(|name| credentials(name).0).collect();
    assert_eq!(clients, known);
    say!("{} clients, all known here", clients.len());
}

fn callcenter(world: &World) {
    let token = world.keycloak.token("callcenter-cc", ALL_SCOPES);
    for service in SERVICES {
        for call in [read(service), write(service)] {
            world.gateway.passes("callcenter-cc", call, &token);
        }
    }
}

fn accounts_reader(world: &World) {
    let World {
        keycloak, gateway, ..
    } = world;
    let who = "accounts-reader-cc";
    let token = keycloak.token(who, "accounts:read");
    gateway.passes(who, read("accounts"), &token);
    gateway.refuses(who, write("accounts"), &token, 403, "missing_scope");
    gateway.refuses(who, read("loans"), &token, 403, "missing_scope");

    refused_grant(world, who, "loans:read", 400, "invalid_scope");

    let token = keycloak.token(who, "");
    let who = "accounts-reader-cc, no scope asked";
    gateway.refuses(who, read("accounts"), &token, 403, "missing_scope");
}

fn without_permission(world: &World) {
    let token = world.keycloak.token("no-roles-cc", "accounts:read");
    for service in SERVICES {
        let (gateway, call) = (&world.gateway, read(service));
        gateway.refuses("no-roles-cc", call, &token, 403, "missing_scope");
    }
}

fn algorithms(world: &World) {
    for (who, algorithm, typ) in [
        ("callcenter-cc", "RS256", "JWT"),
        ("es256-cc", "ES256", "at+jwt"),
        ("ps256-cc", "PS256", "JWT"),
        ("eddsa-cc", "EdDSA", "JWT"),
    ] {
        let token = world.keycloak.token(who, "accounts:read");
        let (header, _) = opened(&token);
        assert_eq!(header["alg"], algorithm);
        assert_eq!(header["typ"], typ);
        let who = format!("{who} ({algorithm}, {typ})");
        world.gateway.passes(&who, read("accounts"), &token);
    }
}

fn without_service_account(world: &World) {
    for who in ["gateway", "accounts-api"] {
        refused_grant(world, who, "", 401, "unauthorized_client");
    }
}

fn refused_grant(world: &World, who: &str, scope: &str, status: u16, error: &str) {
    let answer = world.keycloak.grant(who, scope, "");
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(answer.json()["error"], error);
    say!("{who} asks for {scope:?}: {status} {}", answer.text());
}

/// Good for its five seconds and for the leeway, and not for longer.
pub fn short(world: &World) {
    let token = world.keycloak.token("short-cc", "accounts:read");
    let (gateway, call) = (&world.gateway, read("accounts"));
    gateway.passes("short-cc", call, &token);
    let (_, claims) = opened(&token);
    let seconds = |name: &str| claims[name].as_u64().unwrap();
    // Keycloak reads its clock twice, and a second may end in between.
    let life = seconds("exp") - seconds("iat");
    assert!((5..=6).contains(&life), "{life} s");
    let end = seconds("exp") + LEEWAY;
    let mut good_until = 0;
    eventually("the token has expired", 20, || {
        let now = Clock::system().unix();
        let good = gateway.send(call, &token).status == 200;
        if good {
            good_until = now;
        }
        !good
    });
    let refused = Clock::system().unix();
    // The seconds of the two clocks need not begin together with those of the request.
    assert!(refused >= end, "refused {} s too early", end - refused);
    assert!(good_until <= end, "good {} s too long", good_until - end);
    assert!(refused <= end + 5, "refused {} s too late", refused - end);
    say!("refused {} s after exp", refused - seconds("exp"));
    gateway.refuses("short-cc", call, &token, 401, "expired");
}
