//! Tokens that belong to the holder of a key (RFC 9449) are not for those who only have the token.

use serde_json::json;

use crate::World;
use crate::gateway::{Call, Portcullis, Setup, challenge, fresh, introspect, read};
use crate::http1::Answer;
use crate::keycloak::{Keycloak, TOKEN, member, opened};
use crate::proof::Holder;
use crate::say::say;

const SCOPE: &str = "accounts:read";
/// The realm's client that has to send a proof, and one that need not.
const CLIENTS: [&str; 2] = ["dpop-cc", "callcenter-cc"];

pub fn bound(world: &World) {
    let World {
        keycloak,
        gateway,
        services,
    } = world;
    let answer = keycloak.grant("dpop-cc", SCOPE, "");
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert_eq!(answer.json()["error_description"], "DPoP proof is missing");
    say!("dpop-cc without a proof: 400 {}", answer.text());

    let holder = Holder::new();
    for client in CLIENTS {
        let token = token(keycloak, client, &holder);
        let who = format!("{client}, bound, as Bearer");
        gateway.refuses(&who, read("accounts"), &token, 401, "sender_constrained");
        let with_proof = call(gateway, read("accounts"), &token, &holder);
        assert_eq!(with_proof.status, 401, "{}", with_proof.text());
        let challenge = with_proof.header("www-authenticate").unwrap();
        assert_eq!(challenge, "Bearer realm=\"portcullis\"");
    }
    say!("dpop: refuse, as by default: a proof changes nothing");

    let issuer = keycloak.url("/realms/eazybank");
    for (setting, unbound) in [("allow", None), ("require", Some("unbound"))] {
        let more = format!("    dpop: {setting}\n");
        let gateway = Portcullis::start(&Setup {
            more: &more,
            ..Setup::new(&issuer, services)
        });
        gateway.wait_ready();
        say!("dpop: {setting}");
        for client in CLIENTS {
            proved(keycloak, &gateway, client);
        }
        let plain = keycloak.token("callcenter-cc", SCOPE);
        let who = "callcenter-cc, not bound";
        match unbound {
            None => gateway.passes(who, read("accounts"), &plain),
            Some(reason) => gateway.refuses(who, read("accounts"), &plain, 401, reason),
        }
        let answer = call(&gateway, read("accounts"), &plain, &holder);
        assert_eq!(answer.status, 401, "{}", answer.text());
        say!("{who}, with a proof: 401");
    }
}

/// One client in front of a gateway that takes its proofs.
fn proved(keycloak: &Keycloak, gateway: &Portcullis, client: &str) {
    let holder = Holder::new();
    let token = token(keycloak, client, &holder);
    for way in [read("accounts"), introspect(), fresh()] {
        for _ in 0..2 {
            let answer = call(gateway, way, &token, &holder);
            assert_eq!(answer.status, 200, "{client}: {way}: {}", answer.text());
        }
        say!("{client}, bound, with a proof each: {way}: 200 twice");
        let who = format!("{client}, bound, as Bearer");
        gateway.refuses(&who, way, &token, 401, "sender_constrained");
    }
    let url = gateway.url(read("accounts"));
    let proof = || holder.proof("GET", &url).of(&token);
    let thief = Holder::new();
    let once = proof().seal();
    let stale = proof().with("iat", 1).seal();
    for (what, sent, error) in [
        ("the first time", once.clone(), None),
        ("again", once, Some("invalid_dpop_proof")),
        (
            "for another method",
            proof().with("htm", "PUT").seal(),
            Some("invalid_dpop_proof"),
        ),
        (
            "for another path",
            proof().with("htu", format!("{url}/1")).seal(),
            Some("invalid_dpop_proof"),
        ),
        (
            "of another key",
            thief.proof("GET", &url).of(&token).seal(),
            Some("invalid_dpop_proof"),
        ),
        (
            "signed by another key",
            thief
                .proof("GET", &url)
                .of(&token)
                .header("jwk", holder.jwk())
                .seal(),
            Some("invalid_dpop_proof"),
        ),
        (
            "for another token",
            proof().of("another").seal(),
            Some("invalid_dpop_proof"),
        ),
        ("of long ago", stale, Some("use_dpop_nonce")),
    ] {
        let answer = gateway.send_with(read("accounts"), &token, &sent);
        let challenge = challenge(&answer);
        match error {
            None => assert_eq!(answer.status, 200, "{what}: {}", answer.text()),
            Some(error) => {
                assert_eq!(answer.status, 401, "{what}: {}", answer.text());
                let said = format!("DPoP realm=\"portcullis\", error=\"{error}\"");
                assert!(challenge.starts_with(&said), "{what}: {challenge}");
            }
        }
        say!(
            "{client}: a proof {what}: {} {}",
            answer.status,
            error.unwrap_or("ok")
        );
        if let Some(nonce) = answer.header("dpop-nonce") {
            let retry = proof().with("iat", 1).with("nonce", nonce).seal();
            let answer = gateway.send_with(read("accounts"), &token, &retry);
            assert_eq!(answer.status, 200, "{}", answer.text());
            say!("{client}: the same with the nonce: 200");
        }
    }
}

/// A token that is bound to the holder's key: Keycloak binds the token of whoever sends a proof, whether the client has
/// to or not.
fn token(keycloak: &Keycloak, client: &str, holder: &Holder) -> String {
    let proof = holder.proof("POST", &keycloak.url(TOKEN)).seal();
    let answer = keycloak.grant(client, SCOPE, &format!("DPoP: {proof}\r\n"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["token_type"], "DPoP");
    let token = member(&answer.json(), "access_token");
    let claims = opened(&token).1;
    assert_eq!(claims["typ"], "DPoP");
    let cnf = json!({ "jkt": holder.thumbprint(), "kc-jkt-type": "DPoP" });
    assert_eq!(claims["cnf"], cnf);
    token
}

/// With a new proof.
fn call(gateway: &Portcullis, call: Call, token: &str, holder: &Holder) -> Answer {
    let proof = holder.proof(call.method(), &gateway.url(call)).of(token);
    gateway.send_with(call, token, &proof.seal())
}
