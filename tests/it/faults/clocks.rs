//! I12: the gateway's wall clock is set, forward or back.

use std::time::Duration;

use portcullis::demo::issuer::Endpoint;

use super::{READER, Rig, SCOPES, Wish};
use crate::support::Faulty;

/// The gateway's clock is one, the issuer's another.
fn apart() -> (Rig, portcullis::clock::Clock) {
    let (ours, theirs) = (super::now(), super::now());
    let rig = Rig::before(Faulty::start(theirs.clone()), ours, &Wish::default());
    rig.gateway.wait_ready();
    (rig, theirs)
}

#[test]
fn i12_a_clock_that_is_set_forward_ends_tokens_and_nothing_else() {
    let (rig, theirs) = apart();
    let (token, opaque) = (rig.good(), rig.faulty.issuer.opaque(READER, SCOPES));
    assert_eq!(rig.ask(&token), 200);
    assert_eq!(rig.ask(&opaque), 200);
    // Less than they live: our own intervals do not notice.
    rig.clock.step(200);
    assert_eq!(rig.ask(&token), 200);
    assert_eq!(rig.ask(&opaque), 200);
    rig.verified("cache", "ok", 2);
    assert_eq!(rig.faulty.requests(Endpoint::Introspect), 1);
    rig.clock.step(365 * 24 * 3600);
    theirs.step(365 * 24 * 3600 + 200);
    assert_eq!(rig.ask(&token), 401, "a kept proof too");
    assert_eq!(rig.ask(&opaque), 401, "a kept answer too");
    rig.rejected("expired", 1);
    rig.rejected("inactive", 1);
    // The keys have not grown old by that.
    assert_eq!(rig.ask(&rig.good()), 200);
    let age = "portcullis_jwks_age_seconds{issuer=\"keycloak\"}";
    assert_eq!(rig.gateway.metric(age), 0.0);
    assert_eq!(rig.readyz().status, 200);
    assert_eq!(rig.refreshes("ok"), 1.0);
}

#[test]
fn i12_a_clock_that_is_set_back_revives_nothing_that_was_kept() {
    let (rig, theirs) = apart();
    let (token, opaque) = (rig.good(), rig.faulty.issuer.opaque(READER, SCOPES));
    assert_eq!(rig.ask(&token), 200);
    assert_eq!(rig.ask(&opaque), 200);
    rig.verified("local", "ok", 1);
    rig.verified("introspection", "ok", 1);
    // They live for 300 s, and the leeway is 5.
    let life = Duration::from_secs(305);
    rig.clock.advance(life);
    theirs.advance(life);
    rig.clock.step(-305);
    // The issuer is asked again, and knows better.
    assert_eq!(rig.ask(&opaque), 401);
    rig.rejected("inactive", 1);
    // What carries its own end is proved anew, by the only wall clock that there is.
    rig.ask(&token);
    rig.verified("cache", "ok", 0);
    rig.clock.step(305);
    assert_eq!(rig.ask(&token), 401);
    rig.rejected("expired", 1);
}
