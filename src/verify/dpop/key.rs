//! The public key that a proof brings with it (RFC 7517), and its name (RFC 7638).

use ring::digest::{SHA256, digest};

use super::ProofFlaw;
use crate::config::plan::Algorithm;
use crate::verify::binding::Thumbprint;
use crate::verify::crypto::VerifyingKey;
use crate::verify::json::{Object, Value};
use crate::verify::jwk::Kind;
use crate::verify::weak;

/// A key that a proof with this algorithm may be verified with, in the sizes and on the curves that an issuer's may
/// have.
pub(super) fn read(
    jwk: &Object<'_>,
    algorithm: Algorithm,
) -> Result<(VerifyingKey, Thumbprint), ProofFlaw> {
    if weak::is_private(jwk) {
        return Err(ProofFlaw::Key);
    }
    let text = |name: &str| {
        jwk.get(name)
            .map(|value| value.as_text().ok_or(ProofFlaw::Key))
    };
    let text = |name: &str| text(name).transpose();
    let kty = text("kty")?.ok_or(ProofFlaw::Key)?;
    let for_signatures = text("use")?.is_none_or(|purpose| purpose == "sig")
        && text("alg")?.is_none_or(|alg| alg == algorithm.name())
        && jwk.get("key_ops").is_none_or(verifies);
    let kind = Kind::of(kty, jwk).map_err(|_| ProofFlaw::Key)?;
    if !for_signatures || !kind.algorithms().contains(&algorithm) {
        return Err(ProofFlaw::Key);
    }
    let material = kind.material(jwk).map_err(|_| ProofFlaw::Key)?;
    let key = VerifyingKey::new("".into(), algorithm, material);
    Ok((key, thumbprint(kty, jwk)))
}

fn verifies(operations: &Value<'_>) -> bool {
    let mut operations = operations.as_list().unwrap_or_default().iter();
    operations.any(|operation| operation.as_text() == Some("verify"))
}

/// RFC 7638 section 3, RFC 8037 section 2: the members that make the key, by name, without a blank. They were read as
/// base64url or are one of our words, so none needs an escape.
fn thumbprint(kty: &str, jwk: &Object<'_>) -> Thumbprint {
    let members: &[&str] = match kty {
        "RSA" => &["e", "kty", "n"],
        "EC" => &["crv", "kty", "x", "y"],
        _ => &["crv", "kty", "x"],
    };
    let members = members.iter().map(|name| {
        let value = jwk.get(name).and_then(Value::as_text).unwrap_or_default();
        format!("\"{name}\":\"{value}\"")
    });
    let canonical = format!("{{{}}}", members.collect::<Vec<_>>().join(","));
    let mut thumbprint = Thumbprint::default();
    thumbprint.copy_from_slice(digest(&SHA256, canonical.as_bytes()).as_ref());
    thumbprint
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::verify::json;
    use crate::verify::jws::encode;
    use crate::verify::tests::mint::{self, Signer};

    fn named(jwk: &Value, algorithm: Algorithm) -> Result<String, ProofFlaw> {
        let text = jwk.to_string();
        let jwk = json::object(text.as_bytes()).unwrap();
        read(&jwk, algorithm).map(|(_, thumbprint)| encode(&thumbprint))
    }

    #[test]
    fn a_key_has_the_name_that_the_rfcs_give_it() {
        // RFC 7638 section 3.1.
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_\
                 BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_\
                 FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4\
                 vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let rsa = json!({"kty": "RSA", "n": n, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"});
        assert_eq!(
            named(&rsa, Algorithm::RS256).as_deref(),
            Ok("NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs")
        );
        // RFC 8037 appendix A.3.
        let ed = json!({
            "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
        });
        assert_eq!(
            named(&ed, Algorithm::EdDSA).as_deref(),
            Ok("kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k")
        );
        // RFC 9449 sections 4.1 and 6.1.
        let ec = json!({
            "kty": "EC", "crv": "P-256",
            "x": "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs",
            "y": "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA",
        });
        assert_eq!(
            named(&ec, Algorithm::ES256).as_deref(),
            Ok("0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I")
        );
    }

    #[test]
    fn what_is_no_public_key_for_signatures_is_refused() {
        let ec = Signer::p256().jwk("k");
        let edited = |name: &str, value: Value| {
            let mut jwk = ec.clone();
            jwk[name] = value;
            jwk
        };
        assert!(named(&ec, Algorithm::ES256).is_ok());
        for (name, value) in [
            ("use", json!("sig")),
            ("alg", json!("ES256")),
            ("key_ops", json!(["verify"])),
            ("x5c", json!(["MIIB"])),
            ("d", Value::Null),
        ] {
            assert!(
                named(&edited(name, value), Algorithm::ES256).is_ok(),
                "{name}"
            );
        }
        let x = |length: usize| json!(encode(&vec![7; length]));
        for (name, value) in [
            ("d", x(32)),
            ("k", x(32)),
            ("p", x(32)),
            ("use", json!("enc")),
            ("use", json!(7)),
            ("alg", json!("ES384")),
            ("alg", json!("ECDH-ES")),
            ("key_ops", json!(["sign"])),
            ("key_ops", json!("verify")),
            ("kty", json!("oct")),
            ("kty", json!("RSA")),
            ("kty", json!("ec")),
            ("kty", Value::Null),
            ("crv", json!("P-384")),
            ("crv", json!("secp256k1")),
            ("x", x(31)),
            ("x", x(33)),
            ("y", Value::Null),
            ("y", json!("!")),
        ] {
            let jwk = edited(name, value);
            assert_eq!(named(&jwk, Algorithm::ES256), Err(ProofFlaw::Key), "{jwk}");
        }
        for algorithm in [Algorithm::ES384, Algorithm::RS256, Algorithm::EdDSA] {
            assert_eq!(named(&ec, algorithm), Err(ProofFlaw::Key), "{algorithm:?}");
        }
        let mut small = mint::rsa2048().jwk("k");
        small["n"] = json!(encode(&[0xff; 128]));
        assert_eq!(named(&small, Algorithm::RS256), Err(ProofFlaw::Key));
        assert!(named(&mint::rsa2048().jwk("k"), Algorithm::PS256).is_ok());
        // A point of small order.
        let mut weak = Signer::ed25519().jwk("k");
        weak["x"] = json!(encode(&[0; 32]));
        assert_eq!(named(&weak, Algorithm::EdDSA), Err(ProofFlaw::Key));
    }
}
