//! What a realm signs or issues besides access tokens must not work as one.

use serde_json::Value;

use crate::World;
use crate::gateway::read;
use crate::keycloak::{member, opened};
use crate::say::say;

pub fn all(world: &World) {
    let World {
        keycloak, gateway, ..
    } = world;
    let call = read("accounts");
    let login = keycloak.login("openid accounts:read");
    let offline = keycloak.login("accounts:read offline_access");
    let machine = keycloak.tokens("callcenter-cc", "openid accounts:read");

    for (who, answer) in [
        ("alice", &login),
        ("alice, offline session", &offline),
        ("callcenter-cc, with openid", &machine),
    ] {
        gateway.passes(who, call, &member(answer, "access_token"));
    }
    for (who, answer, name, typ, algorithm, reason) in [
        ("alice", &login, "id_token", "ID", "RS256", "wrong_kind"),
        (
            "callcenter-cc",
            &machine,
            "id_token",
            "ID",
            "RS256",
            "wrong_kind",
        ),
        (
            "alice",
            &login,
            "refresh_token",
            "Refresh",
            "HS512",
            "wrong_algorithm",
        ),
        (
            "alice",
            &offline,
            "refresh_token",
            "Offline",
            "HS512",
            "wrong_algorithm",
        ),
    ] {
        let token = member(answer, name);
        let (header, claims) = opened(&token);
        let seen = (&header["alg"], &claims["typ"]);
        let meant = (Value::from(algorithm), Value::from(typ));
        assert_eq!(seen, (&meant.0, &meant.1), "{who}: {name}");
        let who = format!("{who}, {typ} token ({algorithm})");
        gateway.refuses(&who, call, &token, 401, reason);
    }
    say!("a client without openid gets an ID token: {}", {
        let without = keycloak.tokens("callcenter-cc", "accounts:read");
        without.get("id_token").is_some()
    });
}
