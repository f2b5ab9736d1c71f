//! A client that has a key, and proves it (RFC 9449). The suite against Keycloak uses it too.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis::clock::Clock;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

/// Who has a key that nobody else has.
pub struct Holder {
    key: EcdsaKeyPair,
}

/// A proof that is still to be signed.
pub struct Proof<'a> {
    holder: &'a Holder,
    header: Value,
    claims: Value,
}

impl Holder {
    pub fn new() -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let key = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(algorithm, key.as_ref(), &random).unwrap();
        Holder { key }
    }

    pub fn jwk(&self) -> Value {
        // An uncompressed point: a marker and two coordinates.
        let (x, y) = self.key.public_key().as_ref()[1..].split_at(32);
        let [x, y] = [x, y].map(|coordinate| URL_SAFE_NO_PAD.encode(coordinate));
        json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y })
    }

    /// What a token's `cnf.jkt` says of it (RFC 7638).
    pub fn thumbprint(&self) -> String {
        let jwk = self.jwk();
        let [x, y] = ["x", "y"].map(|name| jwk[name].as_str().unwrap());
        let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        hash(&canonical)
    }

    /// For one request, now.
    pub fn proof(&self, method: &str, url: &str) -> Proof<'_> {
        let mut id = [0; 12];
        ring::rand::SecureRandom::fill(&SystemRandom::new(), &mut id).unwrap();
        Proof {
            holder: self,
            header: json!({ "typ": "dpop+jwt", "alg": "ES256", "jwk": self.jwk() }),
            claims: json!({
                "jti": URL_SAFE_NO_PAD.encode(id),
                "htm": method,
                "htu": url,
                "iat": Clock::system().unix(),
            }),
        }
    }
}

impl Proof<'_> {
    /// For this token and no other.
    pub fn of(self, token: &str) -> Self {
        self.with("ath", hash(token))
    }

    /// With another claim.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims[name] = value.into();
        self
    }

    /// Made at another time.
    pub fn at(self, unix: u64) -> Self {
        self.with("iat", unix)
    }

    /// With another member in its header.
    pub fn header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header[name] = value.into();
        self
    }

    pub fn seal(&self) -> String {
        let part = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", part(&self.header), part(&self.claims));
        let signature = self
            .holder
            .key
            .sign(&SystemRandom::new(), signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.unwrap()))
    }
}

fn hash(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, text.as_bytes()))
}
