//! What the issuer knows and remembers.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::endpoint::Endpoint;
use super::fault::Fault;
use super::{Clock, IssuerOptions};
use crate::demo::keys::{Key, KeyRing};
use crate::demo::realm::{Client, Realm};

pub(super) struct State {
    pub(super) realm: &'static Realm,
    /// The `iss` of every token. Fixed at start: it never follows the `Host` of a request.
    pub(super) issuer: String,
    /// The realm's URL on the bound address.
    local: String,
    pub(super) clock: Clock,
    keys: RwLock<KeyRing>,
    /// `jti`s and `sid`s.
    pub(super) revoked: Mutex<HashSet<String>>,
    /// Tokens that say nothing, and what stands behind them.
    pub(super) opaque: Mutex<HashMap<String, String>>,
    /// Keys of clients that prove themselves with assertions, and the ids of those that were used.
    pub(super) client_keys: Mutex<HashMap<String, Key>>,
    pub(super) assertions: Mutex<HashSet<String>>,
    /// Ids of the proofs of possession that were used.
    pub(super) proofs: Mutex<HashSet<String>>,
    /// Ids of clients disabled after start.
    pub(super) disabled: Mutex<HashSet<String>>,
    pub(super) not_before: AtomicU64,
    pub(super) hits: [AtomicU64; Endpoint::ALL.len()],
    pub(super) faults: Mutex<HashMap<Endpoint, Fault>>,
}

impl State {
    pub(super) fn new(options: &IssuerOptions, bound: SocketAddr) -> io::Result<State> {
        let realm = Realm::demo().map_err(io::Error::other)?;
        let local = format!("http://{bound}");
        let base = options.base_url.as_ref().unwrap_or(&local);
        Ok(State {
            keys: RwLock::new(KeyRing::generate(realm, options.keys)?),
            issuer: format!("{}/realms/{}", base.trim_end_matches('/'), realm.name),
            local: format!("{local}/realms/{}", realm.name),
            realm,
            clock: options.clock.clone(),
            revoked: Mutex::default(),
            opaque: Mutex::default(),
            client_keys: Mutex::default(),
            assertions: Mutex::default(),
            proofs: Mutex::default(),
            disabled: Mutex::default(),
            not_before: AtomicU64::new(0),
            hits: Default::default(),
            faults: Mutex::default(),
        })
    }

    pub(super) fn keys(&self) -> RwLockReadGuard<'_, KeyRing> {
        self.keys.read().unwrap_or_else(|e| e.into_inner())
    }

    pub(super) fn keys_mut(&self) -> RwLockWriteGuard<'_, KeyRing> {
        self.keys.write().unwrap_or_else(|e| e.into_inner())
    }

    pub(super) fn url_of(&self, endpoint: Endpoint) -> String {
        format!("{}{}", self.local, endpoint.path())
    }

    pub(super) fn is_enabled(&self, client: &Client) -> bool {
        client.enabled && !lock(&self.disabled).contains(&client.client_id)
    }

    pub(super) fn not_before(&self) -> u64 {
        self.not_before.load(Ordering::Relaxed)
    }
}

/// A panic elsewhere leaves nothing half done in what we lock.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}
