//! How the gateway proves itself with a key: a signed assertion (RFC 7523 sections 2.2 and 3; OpenID Connect Core 1.0
//! section 9, `private_key_jwt`).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::json;

use crate::config::private_key::PrivateKey;

/// What `client_assertion_type` says of it.
pub(super) const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Its life in seconds: longer than any question takes, and as long as Keycloak allows one to live.
const LIFE: u64 = 60;

/// An assertion for one question. `None` if the system gives no randomness.
///
/// It has one audience, the issuer as configured: an assertion for several could be used by one of them at another,
/// and Keycloak refuses it. No `kid` is fine with Keycloak, which then takes the client's key by its algorithm; one
/// that it does not know is not.
pub(super) fn assertion(
    key: &PrivateKey,
    kid: Option<&str>,
    client: &str,
    issuer: &str,
    now: u64,
) -> Option<String> {
    let mut id = [0; 16];
    SystemRandom::new().fill(&mut id).ok()?;
    let mut header = json!({ "alg": key.algorithm().name(), "typ": "JWT" });
    if let Some(kid) = kid {
        header["kid"] = kid.into();
    }
    let claims = json!({
        "iss": client,
        "sub": client,
        "aud": issuer,
        "jti": URL_SAFE_NO_PAD.encode(id),
        "iat": now,
        "exp": now.saturating_add(LIFE),
    });
    let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let mut token = format!("{}.{}", part(&header), part(&claims));
    let signature = key.sign(token.as_bytes())?;
    token.push('.');
    token.push_str(&URL_SAFE_NO_PAD.encode(signature));
    Some(token)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::demo::keys::{Key, KeySource};

    #[test]
    fn an_assertion_says_who_asks_whom_and_never_twice_the_same() {
        for algorithm in ["RS256", "ES256", "ES384", "EdDSA"] {
            let (public, pem) = Key::with_pem(algorithm, KeySource::Shared, 0).expect("a key");
            let key = PrivateKey::from_pem(&pem).expect("a key");
            let mut seen = std::collections::HashSet::new();
            for kid in [None, Some("our-key")] {
                let token = assertion(&key, kid, "us", "https://sso.example", 1000);
                let token = token.expect("an assertion");
                let (input, signature) = token.rsplit_once('.').expect("three parts");
                let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).expect("base64url");
                assert!(public.verify(input.as_bytes(), &decode(signature)));
                let (header, claims) = input.split_once('.').expect("three parts");
                let read = |part| -> Value { serde_json::from_slice(&decode(part)).expect("JSON") };
                let (header, claims) = (read(header), read(claims));
                assert_eq!(header["alg"], algorithm);
                assert_eq!(header["typ"], "JWT");
                assert_eq!(header.get("kid").and_then(Value::as_str), kid);
                assert_eq!(claims["iss"], "us");
                assert_eq!(claims["sub"], "us");
                assert_eq!(claims["aud"], "https://sso.example");
                assert_eq!(claims["iat"], 1000);
                assert_eq!(claims["exp"], 1060);
                assert!(seen.insert(claims["jti"].to_string()));
            }
        }
    }
}
