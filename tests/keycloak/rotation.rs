//! Keys that come, retire and go, by the administrator's hand.

use crate::World;
use crate::eventually;
use crate::gateway::{REFRESH, read};
use crate::keycloak::kid;
use crate::say::say;

pub fn all(world: &World) {
    let World {
        keycloak, gateway, ..
    } = world;
    let call = read("accounts");
    let token = || keycloak.token("callcenter-cc", "accounts:read");
    let old = token();
    let old_kid = kid(&old);

    // The new one is in use before the old one goes: Keycloak makes one of its own when none is left.
    keycloak.add_key(500);
    let new = token();
    assert_ne!(kid(&new), old_kid);
    say!("new key {}, old key {old_kid}", kid(&new));
    gateway.passes("the new key, at once", call, &new);
    gateway.passes("the old key", call, &old);

    keycloak.set_key(&old_kid, "active", false);
    assert!(keycloak.published().contains(&old_kid));
    gateway.wait_refreshed();
    gateway.passes("the old key, passive", call, &old);
    assert_eq!(kid(&token()), kid(&new));

    keycloak.set_key(&old_kid, "enabled", false);
    assert!(!keycloak.published().contains(&old_kid));
    let took = eventually("the disabled key is forgotten", 4 * REFRESH, || {
        gateway.send(call, &old).status == 401
    });
    say!(
        "a disabled key is refused after {:.1} s",
        took.as_secs_f64()
    );
    gateway.refuses("the old key, disabled", call, &old, 401, "unknown_key");
    gateway.passes("the new key, still", call, &new);
}
