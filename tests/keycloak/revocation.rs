//! Tokens that end before their time and are refused without a question: the realm's not-before, polled and pushed,
//! and a person who logs out.

use std::time::{Duration, Instant};

use portcullis::clock::Clock;
use serde_json::json;

use crate::gateway::{Portcullis, Setup, read};
use crate::keycloak::{REALM, member, opened};
use crate::say::say;
use crate::{World, eventually};

/// As the demo's configuration has it.
const NOT_BEFORE: &str = "not_before: { poll: 15s }";
/// Seconds between two looks at the realm.
const POLL: u64 = 2;
/// What is told takes effect within this.
const AT_ONCE: Duration = Duration::from_secs(1);
const SCOPE: &str = "accounts:read";
const REASON: &str = "revoked";

pub fn all(world: &World) {
    polled(world);
    pushed(world);
    logged_out(world);
}

fn gateway(world: &World, not_before: &str) -> Portcullis {
    let gateway = Portcullis::start(&Setup {
        changes: &[(NOT_BEFORE, not_before)],
        ..Setup::new(&world.keycloak.url(REALM), &world.services)
    });
    gateway.wait_ready();
    gateway
}

fn polled(world: &World) {
    let keycloak = &world.keycloak;
    let gateway = gateway(world, &format!("not_before: {{ poll: {POLL}s }}"));
    let old = old_token(world, &gateway);
    let not_before = Clock::system().unix();
    keycloak.set_not_before(not_before);
    // Ten per cent for the jitter of polls, and a second for the poll itself.
    let within = Duration::from_millis(POLL * 1100) + AT_ONCE;
    let took = refused_within(&gateway, &old, within);
    say!("realm not-before {not_before}: refused after {took:.1} s");
    refused_and_new_ones_pass(world, &gateway, &old);
}

fn pushed(world: &World) {
    let keycloak = &world.keycloak;
    // It does not look by itself in this time, so only the push can tell it.
    let gateway = gateway(world, "not_before: { poll: 12h }");
    let url = format!("http://{}/issuers/keycloak", gateway.admin());
    keycloak.set_client("gateway", &json!({ "adminUrl": url }));
    let old = old_token(world, &gateway);
    let not_before = Clock::system().unix();
    keycloak.set_not_before(not_before);
    gateway.passes("an old token, before the push", read("accounts"), &old);
    let answer = keycloak.push_not_before();
    let told = answer["successRequests"].as_array().unwrap();
    assert!(told.iter().any(|told| *told == url), "{answer}");
    let took = refused_within(&gateway, &old, AT_ONCE);
    say!("push of not-before {not_before} to {url}: refused after {took:.2} s");
    refused_and_new_ones_pass(world, &gateway, &old);
}

fn logged_out(world: &World) {
    let keycloak = &world.keycloak;
    let gateway = gateway(world, NOT_BEFORE);
    let url = format!(
        "http://{}/issuers/keycloak/backchannel-logout",
        gateway.admin()
    );
    let attributes = json!({ "attributes": { "backchannel.logout.url": url } });
    keycloak.set_client("user-demo", &attributes);
    let call = read("accounts");
    let [here, elsewhere] = ["here", "elsewhere"].map(|place| {
        let login = keycloak.login(SCOPE);
        let token = member(&login, "access_token");
        assert!(opened(&token).1["sid"].is_string());
        gateway.passes(&format!("alice {place}"), call, &token);
        (token, member(&login, "refresh_token"))
    });
    keycloak.logout(&here.1);
    let took = refused_within(&gateway, &here.0, AT_ONCE);
    say!("alice logs out here: refused after {took:.2} s");
    gateway.refuses("alice here, logged out", call, &here.0, 401, REASON);
    gateway.passes("alice elsewhere, still", call, &elsewhere.0);
    let again = member(&keycloak.login(SCOPE), "access_token");
    gateway.passes("alice here, logged in again", call, &again);
}

/// One that the gateway has proved and keeps, issued in a second that is over.
fn old_token(world: &World, gateway: &Portcullis) -> String {
    let token = world.keycloak.token("callcenter-cc", SCOPE);
    gateway.passes("an old token", read("accounts"), &token);
    gateway.passes("an old token, kept", read("accounts"), &token);
    let issued = opened(&token).1["iat"].as_u64().unwrap();
    eventually("the next second", 5, || Clock::system().unix() > issued);
    token
}

/// The seconds that it took. No call that begins later than `within` from now may pass.
#[track_caller]
fn refused_within(gateway: &Portcullis, token: &str, within: Duration) -> f64 {
    let began = Instant::now();
    loop {
        let sent = began.elapsed();
        let status = gateway.send(read("accounts"), token).status;
        if status == 401 {
            return sent.as_secs_f64();
        }
        assert!(status == 200 && sent <= within, "{status} after {sent:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn refused_and_new_ones_pass(world: &World, gateway: &Portcullis, old: &str) {
    gateway.refuses("an old token", read("accounts"), old, 401, REASON);
    let new = world.keycloak.token("callcenter-cc", SCOPE);
    gateway.passes("a new token", read("accounts"), &new);
}
