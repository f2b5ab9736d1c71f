//! Tokens as Keycloak writes them, and every token that it would never write.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use super::keys::{Key, KeyRing, sign_hmac};

type Edit = Box<dyn FnOnce(&mut Map<String, Value>) + Send>;

/// Who signs a minted token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signer {
    /// What the realm chose for the client.
    Realm,
    /// The active key of this algorithm.
    Active(String),
    /// This key, with its own algorithm; passive, disabled and encryption keys too (the latter as RS256).
    Kid(String),
    /// This key, with another algorithm that its kind can do.
    KidAs(String, String),
    /// A key of this algorithm that the realm never had, under the `kid` that the header names.
    Foreign(String),
    /// HMAC (`HS256`, `HS384`, `HS512`) with this secret.
    Hmac(String, Vec<u8>),
    /// Nobody: `alg: none` and an empty signature.
    Nobody,
}

/// A token of a client, changed before it is signed.
pub struct ClaimsEdit {
    pub(super) client: String,
    pub(super) scope: String,
    pub(super) signer: Signer,
    pub(super) bound_to: Option<String>,
    pub(super) header: Option<Edit>,
    pub(super) claims: Option<Edit>,
}

impl ClaimsEdit {
    /// The access token that the client would get for these scopes.
    pub fn of(client: &str, scopes: &[&str]) -> Self {
        ClaimsEdit {
            client: client.to_owned(),
            scope: scopes.join(" "),
            signer: Signer::Realm,
            bound_to: None,
            header: None,
            claims: None,
        }
    }

    pub fn signed_by(mut self, signer: Signer) -> Self {
        self.signer = signer;
        self
    }

    /// For a client that has proved to have the key with this thumbprint.
    pub fn bound_to(mut self, thumbprint: String) -> Self {
        self.bound_to = Some(thumbprint);
        self
    }

    pub fn header(mut self, edit: impl FnOnce(&mut Map<String, Value>) + Send + 'static) -> Self {
        self.header = Some(Box::new(edit));
        self
    }

    pub fn claims(mut self, edit: impl FnOnce(&mut Map<String, Value>) + Send + 'static) -> Self {
        self.claims = Some(Box::new(edit));
        self
    }
}

/// Header `alg`, `kid` and the key behind a signer.
pub(super) struct Signing {
    pub(super) algorithm: String,
    pub(super) kid: String,
    by: By,
}

enum By {
    Key(std::sync::Arc<Key>),
    Secret(Vec<u8>),
    Nobody,
}

impl Signing {
    /// `realm_algorithm` is what [`Signer::Realm`] stands for. `None`: the realm has no such key.
    pub(super) fn resolve(ring: &KeyRing, signer: &Signer, realm_algorithm: &str) -> Option<Self> {
        let of_key = |key: &std::sync::Arc<Key>, algorithm: &str| Signing {
            algorithm: algorithm.to_owned(),
            kid: key.kid().to_owned(),
            by: By::Key(key.clone()),
        };
        let active = |algorithm: &str| Some(of_key(ring.active(algorithm)?, algorithm));
        match signer {
            Signer::Realm => active(realm_algorithm),
            Signer::Active(algorithm) => active(algorithm),
            Signer::Kid(kid) => {
                let key = &ring.find(kid)?.key;
                let algorithm = match key.algorithm() {
                    encryption if encryption.starts_with("RSA-OAEP") => "RS256",
                    own => own,
                };
                Some(of_key(key, algorithm))
            }
            Signer::KidAs(kid, algorithm) => Some(of_key(&ring.find(kid)?.key, algorithm)),
            Signer::Foreign(algorithm) => {
                let key = std::sync::Arc::new(Key::foreign(algorithm).ok()?);
                // Under a known id: only the signature betrays it.
                let kid = ring
                    .active(algorithm)
                    .map_or(key.kid(), |known| known.kid());
                Some(Signing {
                    kid: kid.to_owned(),
                    ..of_key(&key, algorithm)
                })
            }
            Signer::Hmac(algorithm, secret) => Some(Signing {
                algorithm: algorithm.clone(),
                kid: ring.active(realm_algorithm)?.kid().to_owned(),
                by: By::Secret(secret.clone()),
            }),
            Signer::Nobody => Some(Signing {
                algorithm: "none".to_owned(),
                kid: ring.active(realm_algorithm)?.kid().to_owned(),
                by: By::Nobody,
            }),
        }
    }

    pub(super) fn header(&self, typ: &str) -> Map<String, Value> {
        let mut header = Map::new();
        header.insert("alg".to_owned(), json!(self.algorithm));
        header.insert("typ".to_owned(), json!(typ));
        header.insert("kid".to_owned(), json!(self.kid));
        header
    }

    /// The compact serialisation of these very bytes.
    pub(super) fn token(&self, header: &[u8], claims: &[u8]) -> Option<String> {
        let header = URL_SAFE_NO_PAD.encode(header);
        let claims = URL_SAFE_NO_PAD.encode(claims);
        let mut token = format!("{header}.{claims}");
        let signature = match &self.by {
            By::Key(key) => key.sign(&self.algorithm, token.as_bytes())?,
            By::Secret(secret) => sign_hmac(&self.algorithm, secret, token.as_bytes())?,
            By::Nobody => Vec::new(),
        };
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(signature));
        Some(token)
    }
}

/// `{"alg":"RS256","typ" : "JWT","kid" : "…"}`: Keycloak's blanks, which a reader of headers must not stumble over.
pub(super) fn header_text(header: &Map<String, Value>) -> String {
    let members = header.iter().enumerate().map(|(place, (name, value))| {
        let colon = if place == 0 { ":" } else { " : " };
        format!("{}{colon}{value}", json!(name))
    });
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}

/// The ID token's `at_hash`.
pub(super) fn at_hash(access_token: &str) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, access_token.as_bytes());
    URL_SAFE_NO_PAD.encode(&hash.as_ref()[..16])
}
