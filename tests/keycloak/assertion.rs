//! A gateway that proves itself to Keycloak with a key of its own (RFC 7523) instead of a shared secret.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PublicKeyData as _};
use rsa::PrivateKey;
use rsa::pkcs1::DecodeRsaPrivateKey as _;
use rsa::pkcs8::EncodePrivateKey as _;
use serde_json::{Value, json};

use crate::World;
use crate::eventually;
use crate::gateway::{Portcullis, Setup, introspect, read};
use crate::keycloak::REALM;
use crate::say::say;

const SECRET: &str = "      client_secret: ${env:PORTCULLIS_DEMO_GATEWAY_SECRET}\n";

pub fn all(world: &World) {
    let World {
        keycloak,
        services,
        gateway: by_secret,
    } = world;
    let token = keycloak.token("callcenter-cc", "accounts:read");
    by_secret.passes("by its secret", introspect(), &token);

    let file = KeyFile::new();
    let (first, public) = key("ES256");
    file.write(&first);
    knows(world, &public);
    let by_key = format!(
        "      auth: private_key_jwt\n      private_key: ${{file:{}}}\n",
        file.0.display()
    );
    let gateway = Portcullis::start(&Setup {
        changes: &[(SECRET, &by_key)],
        ..Setup::new(&keycloak.url(REALM), services)
    });
    gateway.wait_ready();
    gateway.passes("by its key (ES256)", introspect(), &token);
    gateway.passes("by its key (ES256), again", introspect(), &token);
    let light = keycloak.token("lightweight-cc", "accounts:read");
    gateway.passes("a lightweight token", read("accounts"), &light);
    // The client has one way to prove itself now.
    let who = "by the secret of before";
    by_secret.refuses(who, introspect(), &token, 503, "introspection_failed");

    // Another key at Keycloak, and the gateway goes on with the old one until its file changes.
    let (second, public) = key("EdDSA");
    knows(world, &public);
    let who = "by a key that Keycloak forgot";
    gateway.refuses(who, introspect(), &token, 503, "introspection_failed");
    next_key(&gateway, &file, &second, "EdDSA", &token);
    // Keycloak makes RSA keys, and keeps the certificate.
    let certificate = json!({ "attributes": {
        "use.jwks.string": "false",
        "token.endpoint.auth.signing.alg": "RS256",
    }});
    keycloak.set_client("gateway", &certificate);
    let third = pkcs8(&keycloak.make_client_key("gateway"));
    next_key(&gateway, &file, &third, "RS256", &token);
    let log = gateway.log();
    assert!(!log.contains("PRIVATE KEY"), "the log has a key");

    let secret = json!({ "clientAuthenticatorType": "client-secret" });
    keycloak.set_client("gateway", &secret);
    eventually("the secret is good again", 20, || {
        by_secret.send(introspect(), &token).status == 200
    });
    by_secret.passes("by its secret again", introspect(), &token);
}

fn next_key(gateway: &Portcullis, file: &KeyFile, pem: &str, algorithm: &str, token: &str) {
    file.write(pem);
    let took = eventually("the new key is read", 20, || {
        gateway.send(introspect(), token).status == 200
    });
    say!(
        "the next key is used {:.1} s after it was written",
        took.as_secs_f64()
    );
    gateway.passes(
        &format!("by its next key ({algorithm})"),
        introspect(),
        token,
    );
}

/// Keycloak takes this key and nothing else from the gateway's client.
fn knows(world: &World, public: &Value) {
    let client = json!({
        "clientAuthenticatorType": "client-jwt",
        "attributes": {
            "use.jwks.url": "false",
            "use.jwks.string": "true",
            "jwks.string": json!({ "keys": [public] }).to_string(),
            "token.endpoint.auth.signing.alg": public["alg"],
        },
    });
    world.keycloak.set_client("gateway", &client);
    say!("Keycloak knows the gateway by an {} key", public["alg"]);
}

/// A new key as PKCS#8 in PEM, and its public half as a JWK.
fn key(algorithm: &str) -> (String, Value) {
    let kind = match algorithm {
        "ES256" => &PKCS_ECDSA_P256_SHA256,
        _ => &PKCS_ED25519,
    };
    let key = KeyPair::generate_for(kind).unwrap();
    let coordinate = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let public = key.der_bytes();
    let mut jwk = match algorithm {
        // An uncompressed point: a marker and two coordinates.
        "ES256" => json!({
            "kty": "EC",
            "crv": "P-256",
            "x": coordinate(&public[1..33]),
            "y": coordinate(&public[33..]),
        }),
        _ => json!({ "kty": "OKP", "crv": "Ed25519", "x": coordinate(public) }),
    };
    jwk["use"] = json!("sig");
    jwk["alg"] = json!(algorithm);
    jwk["kid"] = jwk["x"].clone();
    (key.serialize_pem(), jwk)
}

/// What `openssl pkcs12` makes of the file that Keycloak's console gives.
fn pkcs8(pkcs1: &[u8]) -> String {
    let key = PrivateKey::from_pkcs1_der(pkcs1).unwrap();
    let key = STANDARD.encode(key.to_pkcs8_der().unwrap().as_bytes());
    format!("-----BEGIN PRIVATE KEY-----\n{key}\n-----END PRIVATE KEY-----\n")
}

/// A private key for one run.
struct KeyFile(PathBuf);

impl KeyFile {
    fn new() -> Self {
        let name = format!("keycloak-{}-key.pem", std::process::id());
        KeyFile(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name))
    }

    fn write(&self, pem: &str) {
        std::fs::write(&self.0, pem).unwrap();
    }
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
