//! Keys made at run time and tokens signed with them. The benches use this file too.

use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384,
    RSA_PSS_SHA512, RsaKeyPair,
};
use rsa::pkcs8::EncodePrivateKey;
use rsa::rand_core::{TryCryptoRng, TryRng};
use serde_json::{Value, json};

pub(crate) fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// ring's randomness for the `rsa` crate.
struct Random;

impl TryRng for Random {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_ne_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Self::Error> {
        SystemRandom::new().fill(dst).expect("randomness");
        Ok(())
    }
}

impl TryCryptoRng for Random {}

/// A private key of any kind that we verify.
pub(crate) enum Signer {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Signer {
    pub(crate) fn rsa(bits: usize) -> Self {
        let key = rsa::PrivateKey::new(&mut Random, bits).expect("an RSA key");
        let der = key.to_pkcs8_der().expect("PKCS#8");
        Signer::Rsa(RsaKeyPair::from_pkcs8(der.as_bytes()).expect("an RSA key for ring"))
    }

    pub(crate) fn p256() -> Self {
        let rng = SystemRandom::new();
        let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng);
        let der = der.expect("a P-256 key");
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.as_ref(), &rng);
        Signer::P256(key.expect("a P-256 key"))
    }

    pub(crate) fn p384() -> Self {
        let rng = SystemRandom::new();
        let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &rng);
        let der = der.expect("a P-384 key");
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, der.as_ref(), &rng);
        Signer::P384(key.expect("a P-384 key"))
    }

    pub(crate) fn ed25519() -> Self {
        let der = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("an Ed25519 key");
        Signer::Ed25519(Ed25519KeyPair::from_pkcs8(der.as_ref()).expect("an Ed25519 key"))
    }

    /// The public half as a JWK without `alg` and `use`.
    pub(crate) fn jwk(&self, kid: &str) -> Value {
        match self {
            Signer::Rsa(key) => {
                let public = ring::rsa::PublicKeyComponents::<Vec<u8>>::from(key.public());
                let (n, e) = (public.n, public.e);
                json!({"kty": "RSA", "kid": kid, "n": b64(n), "e": b64(e)})
            }
            Signer::P256(key) => point(key, "P-256", kid),
            Signer::P384(key) => point(key, "P-384", kid),
            Signer::Ed25519(key) => {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": b64(key.public_key())})
            }
        }
    }

    pub(crate) fn sign(&self, alg: &str, message: &[u8]) -> Vec<u8> {
        let rng = SystemRandom::new();
        match self {
            Signer::Rsa(key) => {
                let padding: &dyn ring::signature::RsaEncoding = match alg {
                    "RS256" => &RSA_PKCS1_SHA256,
                    "RS384" => &RSA_PKCS1_SHA384,
                    "RS512" => &RSA_PKCS1_SHA512,
                    "PS256" => &RSA_PSS_SHA256,
                    "PS384" => &RSA_PSS_SHA384,
                    "PS512" => &RSA_PSS_SHA512,
                    _ => panic!("{alg} is not for an RSA key"),
                };
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(padding, &rng, message, &mut signature)
                    .expect("a signature");
                signature
            }
            Signer::P256(key) | Signer::P384(key) => {
                let signature = key.sign(&rng, message).expect("a signature");
                signature.as_ref().to_vec()
            }
            Signer::Ed25519(key) => key.sign(message).as_ref().to_vec(),
        }
    }

    /// Header and payload as they are, bytes and all, with a signature that holds.
    pub(crate) fn seal(&self, alg: &str, header: &str, payload: &[u8]) -> String {
        let input = format!("{}.{}", b64(header), b64(payload));
        let signature = self.sign(alg, input.as_bytes());
        format!("{input}.{}", b64(signature))
    }

    pub(crate) fn token(&self, alg: &str, kid: &str, claims: &Value) -> String {
        // The blanks are Keycloak's.
        let header = format!(r#"{{"alg":"{alg}","typ" : "JWT","kid" : "{kid}"}}"#);
        self.seal(alg, &header, claims.to_string().as_bytes())
    }
}

fn point(key: &EcdsaKeyPair, curve: &str, kid: &str) -> Value {
    let (x, y) = {
        let public = &key.public_key().as_ref()[1..];
        public.split_at(public.len() / 2)
    };
    json!({"kty": "EC", "crv": curve, "kid": kid, "x": b64(x), "y": b64(y)})
}

/// One RSA key for all who do not need their own: making it takes a while.
pub(crate) fn rsa2048() -> &'static Signer {
    static KEY: OnceLock<Signer> = OnceLock::new();
    KEY.get_or_init(|| Signer::rsa(2048))
}

/// What Keycloak puts into a client-credentials token that is issued at `now` for five minutes.
pub(crate) fn keycloak_claims(issuer: &str, now: u64) -> Value {
    json!({
        "exp": now + 300,
        "iat": now,
        "jti": "trrtcc:5f1e2c1a-8a5d-4a3f-9b57-0d5d6b1c9e11",
        "iss": issuer,
        "aud": ["eazybank-gateway", "account"],
        "sub": "4d1f9a1e-6e1b-4d0e-8f2b-1f6d4f0b7c55",
        "typ": "Bearer",
        "azp": "eazybank-callcenter-cc",
        "acr": "1",
        "allowed-origins": ["/*"],
        "realm_access": {
            "roles": ["default-roles-eazybank", "offline_access", "uma_authorization", "ACCOUNTS", "LOANS", "CARDS"]
        },
        "resource_access": {
            "accounts-api": {"roles": ["reader"]},
            "account": {"roles": ["manage-account", "manage-account-links", "view-profile"]}
        },
        "scope": "email profile accounts:read accounts:write",
        "email_verified": false,
        "clientHost": "127.0.0.1",
        "clientAddress": "127.0.0.1",
        "client_id": "eazybank-callcenter-cc",
        "preferred_username": "service-account-eazybank-callcenter-cc"
    })
}
