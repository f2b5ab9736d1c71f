//! Tokens that belong to the holder of a key (RFC 9449) are not for those who only have the token.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis::clock::Clock;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

use crate::World;
use crate::gateway::read;
use crate::keycloak::{TOKEN, member, opened};
use crate::say::say;

pub fn bound(world: &World) {
    let World {
        keycloak, gateway, ..
    } = world;
    let answer = keycloak.grant("dpop-cc", "accounts:read", "");
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert_eq!(answer.json()["error_description"], "DPoP proof is missing");
    say!("dpop-cc without a proof: 400 {}", answer.text());

    // Keycloak binds the token of whoever sends a proof, whether the client has to or not.
    for client in ["dpop-cc", "callcenter-cc"] {
        let proof = proof("POST", &keycloak.url(TOKEN));
        let answer = keycloak.grant(client, "accounts:read", &format!("DPoP: {proof}\r\n"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["token_type"], "DPoP");
        let token = member(&answer.json(), "access_token");
        let claims = opened(&token).1;
        assert!(claims["cnf"]["jkt"].is_string(), "{claims}");
        say!(
            "{client} with a proof: typ {}, cnf {}",
            claims["typ"],
            claims["cnf"]
        );
        let (who, call) = (format!("{client}, bound, as Bearer"), read("accounts"));
        gateway.refuses(&who, call, &token, 401, "sender_constrained");
    }
}

/// A proof for one request, with a key that nobody will use again.
fn proof(method: &str, url: &str) -> String {
    let random = SystemRandom::new();
    let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let key = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
    let key = EcdsaKeyPair::from_pkcs8(algorithm, key.as_ref(), &random).unwrap();
    // An uncompressed point: a marker and two coordinates.
    let (x, y) = key.public_key().as_ref()[1..].split_at(32);
    let [x, y] = [x, y].map(|coordinate| URL_SAFE_NO_PAD.encode(coordinate));
    let header = json!({
        "typ": "dpop+jwt",
        "alg": "ES256",
        "jwk": { "kty": "EC", "crv": "P-256", "x": x, "y": y },
    });
    // As good a random name as any other.
    let claims = json!({ "jti": x, "htm": method, "htu": url, "iat": Clock::system().unix() });
    let part = |part: Value| URL_SAFE_NO_PAD.encode(part.to_string());
    let signed = format!("{}.{}", part(header), part(claims));
    let signature = key.sign(&random, signed.as_bytes()).unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}
