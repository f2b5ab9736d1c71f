//! The realm's keys: made at start, never in the repository.

mod material;
mod rsa_pool;

use std::io;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use super::realm::Realm;
pub use material::Key;
pub(super) use material::{random, sign_hmac};

/// Where RSA keys come from, which are slow to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// Made for this issuer alone.
    Fresh,
    /// Taken from a pool of this process, for tests: issuers then share RSA keys, under key ids of their own.
    Shared,
}

/// Keycloak's three states of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// The one with the highest priority signs.
    Active,
    /// Signs no more, still verifies, still listed.
    Passive,
    /// Gone for everyone but the tests.
    Disabled,
}

#[derive(Clone)]
pub(super) struct RealmKey {
    pub(super) key: Arc<Key>,
    pub(super) state: KeyState,
    priority: i64,
}

pub(super) struct KeyRing {
    keys: Vec<RealmKey>,
    source: KeySource,
    /// How many RSA keys were taken so far: the place in the shared pool of the next one.
    rsa_taken: usize,
}

impl KeyRing {
    /// One key per provider of the realm. The RSA ones are made on threads of their own.
    pub(super) fn generate(realm: &Realm, source: KeySource) -> io::Result<KeyRing> {
        let mut rsa_taken = 0;
        let mut wanted = Vec::new();
        for provider in realm.key_providers() {
            if let Some(algorithm) = provider.algorithm() {
                wanted.push((provider, algorithm, rsa_taken));
                rsa_taken += usize::from(material::is_rsa(algorithm));
            }
        }
        let made: Vec<io::Result<Key>> = std::thread::scope(|scope| {
            let making: Vec<_> = wanted
                .iter()
                .map(|(_, algorithm, place)| {
                    scope.spawn(|| Key::generate(algorithm, source, *place))
                })
                .collect();
            let lost = |_| Err(io::Error::other("making a key failed"));
            making
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(lost))
                .collect()
        });
        let mut keys = Vec::new();
        for ((provider, _, _), key) in wanted.iter().zip(made) {
            let state = match (provider.is_enabled(), provider.is_active()) {
                (false, _) => KeyState::Disabled,
                (true, false) => KeyState::Passive,
                (true, true) => KeyState::Active,
            };
            keys.push(RealmKey {
                key: Arc::new(key?),
                state,
                priority: provider.priority(),
            });
        }
        Ok(KeyRing {
            keys,
            source,
            rsa_taken,
        })
    }

    /// The key that signs with `algorithm` now.
    pub(super) fn active(&self, algorithm: &str) -> Option<&Arc<Key>> {
        let active = self.keys.iter().filter(|k| k.state == KeyState::Active);
        active
            .filter(|k| k.key.algorithm() == algorithm)
            .max_by_key(|k| k.priority)
            .map(|k| &k.key)
    }

    /// Any key of the realm, disabled ones too.
    pub(super) fn find(&self, kid: &str) -> Option<&RealmKey> {
        self.keys.iter().find(|k| k.key.kid() == kid)
    }

    pub(super) fn kids(&self, algorithm: &str, state: KeyState) -> Vec<String> {
        let of = |k: &&RealmKey| k.state == state && k.key.algorithm() == algorithm;
        let kid = |k: &RealmKey| k.key.kid().to_owned();
        self.keys.iter().filter(of).map(kid).collect()
    }

    /// A new active key; those that were active before become passive. Returns the new key id.
    pub(super) fn rotate(&mut self, algorithm: &str) -> io::Result<String> {
        let key = Key::generate(algorithm, self.source, self.rsa_taken)?;
        self.rsa_taken += usize::from(material::is_rsa(algorithm));
        let mut priority = 0;
        for old in &mut self.keys {
            if old.key.algorithm() == algorithm {
                priority = priority.max(old.priority);
                if old.state == KeyState::Active {
                    old.state = KeyState::Passive;
                }
            }
        }
        let kid = key.kid().to_owned();
        self.keys.push(RealmKey {
            key: Arc::new(key),
            state: KeyState::Active,
            priority: priority + 100,
        });
        Ok(kid)
    }

    /// Other keys under the names of those for `algorithm`: what an issuer has that is set up anew from its export.
    pub(super) fn renew(&mut self, algorithm: &str) -> io::Result<()> {
        for held in &mut self.keys {
            if held.key.algorithm() == algorithm {
                let new = Key::generate(algorithm, self.source, self.rsa_taken)?;
                self.rsa_taken += usize::from(material::is_rsa(algorithm));
                held.key = Arc::new(new.named(held.key.kid()));
            }
        }
        Ok(())
    }

    /// False if there is no such key.
    pub(super) fn set_state(&mut self, kid: &str, state: KeyState) -> bool {
        let found = self.keys.iter_mut().find(|k| k.key.kid() == kid);
        let known = found.is_some();
        if let Some(key) = found {
            key.state = state;
        }
        known
    }

    /// What `certs` lists: every enabled asymmetric key.
    pub(super) fn jwks(&self) -> Value {
        let enabled = self.keys.iter().filter(|k| k.state != KeyState::Disabled);
        let keys: Vec<Value> = enabled.filter_map(|k| k.key.jwk()).collect();
        json!({ "keys": keys })
    }

    /// Base64 of the active key of the realm's default algorithm, as the public realm document shows it.
    pub(super) fn public_key(&self, algorithm: &str) -> Option<String> {
        let spki = self.active(algorithm)?.spki()?;
        Some(base64::engine::general_purpose::STANDARD.encode(spki))
    }

    /// Header and claims of a token that an enabled key of this realm signed.
    pub(super) fn verify(&self, token: &str) -> Option<Map<String, Value>> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header: Value = decode(header)?;
        let found = self.find(header.get("kid")?.as_str()?)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        let algorithm = header.get("alg")?.as_str()?;
        let good = found.state != KeyState::Disabled
            && found.key.algorithm() == algorithm
            && found.key.verify(signed.as_bytes(), &signature);
        if good { decode(claims) } else { None }
    }
}

fn decode<T: serde::de::DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}
