//! One key: what it signs, verifies and shows to the public.

use std::io;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::rsa::PublicKeyComponents;
use ring::signature as sig;
use ring::signature::KeyPair as _;
use serde_json::{Value, json};

use super::KeySource;
use super::rsa_pool::{self, RsaDer};
use crate::demo::grant::uuid;

pub struct Key {
    kid: String,
    algorithm: String,
    material: Material,
}

enum Material {
    Rsa(Box<sig::RsaKeyPair>, Arc<RsaDer>),
    Ec(Box<sig::EcdsaKeyPair>, Curve),
    Ed25519(Box<sig::Ed25519KeyPair>),
    Secret(Vec<u8>),
}

#[derive(Clone, Copy)]
enum Curve {
    P256,
    P384,
}

pub(super) fn is_rsa(algorithm: &str) -> bool {
    matches!(algorithm.get(..2), Some("RS" | "PS"))
}

impl Key {
    /// `place` tells keys of a shared source apart.
    pub(super) fn generate(algorithm: &str, source: KeySource, place: usize) -> io::Result<Key> {
        let (material, _) = Material::make(algorithm, source, place)?;
        // Keycloak's is a hash of the public key. Random here: issuers that share a key must not share its id. A secret
        // has a UUID.
        let kid = match material {
            Material::Secret(_) => uuid(random::<16>()?),
            _ => URL_SAFE_NO_PAD.encode(random::<32>()?),
        };
        Ok(Key {
            kid,
            algorithm: algorithm.to_owned(),
            material,
        })
    }

    /// A key whose owner is somebody else, who gets the private half as PEM (RFC 7468 section 10).
    pub(crate) fn with_pem(
        algorithm: &str,
        source: KeySource,
        place: usize,
    ) -> io::Result<(Key, String)> {
        let (material, pkcs8) = Material::make(algorithm, source, place)?;
        let key = Key {
            kid: URL_SAFE_NO_PAD.encode(random::<32>()?),
            algorithm: algorithm.to_owned(),
            material,
        };
        Ok((key, pem(&pkcs8)))
    }

    /// A key of nobody's realm.
    pub(in crate::demo) fn foreign(algorithm: &str) -> io::Result<Key> {
        // A place of the pool that no realm reaches: the key is made once for all tests.
        const BEYOND: usize = 64;
        Key::generate(algorithm, KeySource::Shared, BEYOND)
    }

    pub(super) fn named(self, kid: &str) -> Key {
        let kid = kid.to_owned();
        Key { kid, ..self }
    }

    pub fn kid(&self) -> &str {
        &self.kid
    }

    pub fn algorithm(&self) -> &str {
        &self.algorithm
    }

    /// Signs with `algorithm`, which need not be the key's own: tests need keys that are misused. `None` if the kind
    /// of key cannot do that.
    pub(in crate::demo) fn sign(&self, algorithm: &str, message: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match &self.material {
            Material::Rsa(pair, _) => {
                let padding: &'static dyn sig::RsaEncoding = match algorithm {
                    "RS256" => &sig::RSA_PKCS1_SHA256,
                    "RS384" => &sig::RSA_PKCS1_SHA384,
                    "RS512" => &sig::RSA_PKCS1_SHA512,
                    "PS256" => &sig::RSA_PSS_SHA256,
                    "PS384" => &sig::RSA_PSS_SHA384,
                    "PS512" => &sig::RSA_PSS_SHA512,
                    _ => return None,
                };
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(padding, &random, message, &mut signature).ok()?;
                Some(signature)
            }
            Material::Ec(pair, curve) if algorithm == curve.algorithm() => {
                Some(pair.sign(&random, message).ok()?.as_ref().to_vec())
            }
            Material::Ed25519(pair) if algorithm == "EdDSA" => {
                Some(pair.sign(message).as_ref().to_vec())
            }
            Material::Secret(secret) => sign_hmac(algorithm, secret, message),
            _ => None,
        }
    }

    /// Whether this key made `signature` with its own algorithm.
    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let unparsed = |algorithm, public: &[u8]| {
            let key = sig::UnparsedPublicKey::new(algorithm, public);
            key.verify(message, signature).is_ok()
        };
        match &self.material {
            Material::Rsa(pair, _) => {
                let parameters: &'static sig::RsaParameters = match self.algorithm.as_str() {
                    "RS256" => &sig::RSA_PKCS1_2048_8192_SHA256,
                    "RS384" => &sig::RSA_PKCS1_2048_8192_SHA384,
                    "RS512" => &sig::RSA_PKCS1_2048_8192_SHA512,
                    "PS256" => &sig::RSA_PSS_2048_8192_SHA256,
                    "PS384" => &sig::RSA_PSS_2048_8192_SHA384,
                    "PS512" => &sig::RSA_PSS_2048_8192_SHA512,
                    _ => return false,
                };
                let public: PublicKeyComponents<Vec<u8>> = pair.public().into();
                public.verify(parameters, message, signature).is_ok()
            }
            Material::Ec(pair, Curve::P256) => {
                unparsed(&sig::ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref())
            }
            Material::Ec(pair, Curve::P384) => {
                unparsed(&sig::ECDSA_P384_SHA384_FIXED, pair.public_key().as_ref())
            }
            Material::Ed25519(pair) => unparsed(&sig::ED25519, pair.public_key().as_ref()),
            Material::Secret(secret) => {
                let Some(algorithm) = hmac_algorithm(&self.algorithm) else {
                    return false;
                };
                let key = hmac::Key::new(algorithm, secret);
                hmac::verify(&key, message, signature).is_ok()
            }
        }
    }

    /// The public part as Keycloak lists it, without the certificate; `None` for a secret.
    pub(super) fn jwk(&self) -> Option<Value> {
        let usage = if self.algorithm.starts_with("RSA-OAEP") {
            "enc"
        } else {
            "sig"
        };
        let (kid, alg) = (&self.kid, &self.algorithm);
        let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        Some(match &self.material {
            Material::Rsa(pair, _) => {
                let public: PublicKeyComponents<Vec<u8>> = pair.public().into();
                json!({ "kid": kid, "kty": "RSA", "alg": alg, "use": usage,
                        "n": b64(&public.n), "e": b64(&public.e) })
            }
            Material::Ec(pair, curve) => {
                // Uncompressed point: 0x04, then x and y of one length.
                let point = pair.public_key().as_ref().get(1..)?;
                let (x, y) = point.split_at(point.len() / 2);
                json!({ "kid": kid, "kty": "EC", "alg": alg, "use": usage,
                        "crv": curve.name(), "x": b64(x), "y": b64(y) })
            }
            Material::Ed25519(pair) => {
                json!({ "kid": kid, "kty": "OKP", "alg": alg, "use": usage,
                        "crv": "Ed25519", "x": b64(pair.public_key().as_ref()) })
            }
            Material::Secret(_) => return None,
        })
    }

    /// SubjectPublicKeyInfo of an RSA key.
    pub fn spki(&self) -> Option<&[u8]> {
        match &self.material {
            Material::Rsa(_, der) => Some(&der.spki),
            _ => None,
        }
    }
}

impl Material {
    /// The material and its PKCS#8 document; a secret has none.
    fn make(algorithm: &str, source: KeySource, place: usize) -> io::Result<(Material, Vec<u8>)> {
        match algorithm {
            "ES256" => Material::ec(Curve::P256),
            "ES384" => Material::ec(Curve::P384),
            "EdDSA" => {
                let pkcs8 = sig::Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
                let pkcs8 = pkcs8.map_err(|_| no_key("Ed25519"))?;
                let pair = sig::Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).map_err(no_pair)?;
                Ok((Material::Ed25519(Box::new(pair)), pkcs8.as_ref().to_vec()))
            }
            "HS256" | "HS384" | "HS512" => {
                let secret = random::<64>()?.to_vec();
                Ok((Material::Secret(secret), Vec::new()))
            }
            rsa if is_rsa(rsa) => {
                let der = rsa_pool::take(source, place)?;
                let pair = sig::RsaKeyPair::from_pkcs8(&der.pkcs8).map_err(no_pair)?;
                let pkcs8 = der.pkcs8.clone();
                Ok((Material::Rsa(Box::new(pair), der), pkcs8))
            }
            other => Err(io::Error::other(format!("no key provider for {other}"))),
        }
    }

    fn ec(curve: Curve) -> io::Result<(Material, Vec<u8>)> {
        let signing: &'static sig::EcdsaSigningAlgorithm = match curve {
            Curve::P256 => &sig::ECDSA_P256_SHA256_FIXED_SIGNING,
            Curve::P384 => &sig::ECDSA_P384_SHA384_FIXED_SIGNING,
        };
        let random = SystemRandom::new();
        let pkcs8 = sig::EcdsaKeyPair::generate_pkcs8(signing, &random);
        let pkcs8 = pkcs8.map_err(|_| no_key(curve.name()))?;
        let pair = sig::EcdsaKeyPair::from_pkcs8(signing, pkcs8.as_ref(), &random);
        let pair = Box::new(pair.map_err(no_pair)?);
        Ok((Material::Ec(pair, curve), pkcs8.as_ref().to_vec()))
    }
}

fn pem(pkcs8: &[u8]) -> String {
    let text = STANDARD.encode(pkcs8);
    // Base64 is ASCII, so every byte is a boundary.
    let lines = (0..text.len()).step_by(64);
    let lines = lines.map(|at| &text[at..text.len().min(at + 64)]);
    let lines: Vec<&str> = lines.collect();
    format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        lines.join("\n")
    )
}

impl Curve {
    fn name(self) -> &'static str {
        match self {
            Curve::P256 => "P-256",
            Curve::P384 => "P-384",
        }
    }

    fn algorithm(self) -> &'static str {
        match self {
            Curve::P256 => "ES256",
            Curve::P384 => "ES384",
        }
    }
}

pub(in crate::demo) fn sign_hmac(
    algorithm: &str,
    secret: &[u8],
    message: &[u8],
) -> Option<Vec<u8>> {
    let key = hmac::Key::new(hmac_algorithm(algorithm)?, secret);
    Some(hmac::sign(&key, message).as_ref().to_vec())
}

fn hmac_algorithm(name: &str) -> Option<hmac::Algorithm> {
    match name {
        "HS256" => Some(hmac::HMAC_SHA256),
        "HS384" => Some(hmac::HMAC_SHA384),
        "HS512" => Some(hmac::HMAC_SHA512),
        _ => None,
    }
}

/// Random bytes.
pub(in crate::demo) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| io::Error::other("the system gives no randomness"))?;
    Ok(bytes)
}

fn no_pair(why: ring::error::KeyRejected) -> io::Error {
    io::Error::other(why.to_string())
}

fn no_key(kind: &str) -> io::Error {
    io::Error::other(format!("making a key of kind {kind} failed"))
}
