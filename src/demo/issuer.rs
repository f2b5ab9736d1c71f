//! An issuer that answers as Keycloak does, on Keycloak's own paths, for one realm.
//!
//! [`Issuer`] is also the handle by which tests, benches and load tests mint tokens, rotate keys and break things.

mod assertion;
mod endpoint;
mod fault;
mod introspect;
mod possession;
mod protocol;
mod state;
mod token;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use axum::Router;
use serde_json::{Map, Value};

pub use self::endpoint::Endpoint;
pub use self::fault::Fault;
use self::state::State;
use super::keys::{Key, KeySource, KeyState};
use super::mint::{ClaimsEdit, Signer, Signing};
use super::serving::{Serving, bind_loopback};
use crate::clock::Clock;

pub struct IssuerOptions {
    /// Loopback only; port 0 takes a free one.
    pub address: SocketAddr,
    pub clock: Clock,
    /// What `iss` starts with, whatever `Host` a request names; by default the bound address. The endpoints that a
    /// gateway uses stay on the bound address, as with Keycloak's fixed hostname and dynamic back channel.
    pub base_url: Option<String>,
    pub keys: KeySource,
}

impl Default for IssuerOptions {
    /// For tests: a free port, the system's clock, keys from the shared pool.
    fn default() -> Self {
        IssuerOptions {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            clock: Clock::system(),
            base_url: None,
            keys: KeySource::Shared,
        }
    }
}

/// A running issuer; dropping it stops it.
pub struct Issuer {
    state: Arc<State>,
    address: SocketAddr,
    serving: Mutex<Option<Serving>>,
}

impl Issuer {
    /// Like [`Issuer::start_blocking`] without holding up the caller's runtime while keys are made.
    pub async fn start(options: IssuerOptions) -> io::Result<Issuer> {
        let starting = tokio::task::spawn_blocking(move || Issuer::start_blocking(options));
        starting.await.map_err(io::Error::other)?
    }

    /// Binds, makes the keys and serves from a thread of its own.
    pub fn start_blocking(options: IssuerOptions) -> io::Result<Issuer> {
        let listener = bind_loopback(options.address)?;
        let address = listener.local_addr()?;
        let state = Arc::new(State::new(&options, address)?);
        let serving = Serving::start("demo-issuer", listener, router(&state))?;
        Ok(Issuer {
            state,
            address,
            serving: Mutex::new(Some(serving)),
        })
    }

    /// The `iss` of its tokens: `http://127.0.0.1:8180/realms/eazybank`.
    pub fn url(&self) -> String {
        self.state.issuer.clone()
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where an endpoint listens, whatever `iss` says.
    pub fn endpoint(&self, endpoint: Endpoint) -> String {
        self.state.url_of(endpoint)
    }

    /// The access token that a client gets for these scopes. For the user client it is alice's.
    ///
    /// # Panics
    ///
    /// When the realm would refuse: a typo in a test, not a case to handle.
    #[track_caller]
    pub fn token(&self, client: &str, scopes: &[&str]) -> String {
        self.mint(ClaimsEdit::of(client, scopes))
    }

    /// The whole answer of the token endpoint: also the ID, refresh and offline tokens.
    ///
    /// # Panics
    ///
    /// As [`Issuer::token`].
    #[track_caller]
    pub fn answer(&self, client: &str, scopes: &[&str]) -> Map<String, Value> {
        match self.state.answer_for(client, &scopes.join(" ")) {
            Ok(answer) => answer,
            Err(why) => panic!("no token for {client} with {scopes:?}: {why}"),
        }
    }

    /// A token of a client, edited before it is signed by whomever the edit says.
    ///
    /// # Panics
    ///
    /// As [`Issuer::token`].
    #[track_caller]
    pub fn mint(&self, edit: ClaimsEdit) -> String {
        let name = format!("{} with {:?}", edit.client, edit.scope);
        match self.state.mint(edit) {
            Ok(token) => token,
            Err(why) => panic!("no token for {name}: {why}"),
        }
    }

    /// A token that says nothing, as other servers give; introspection knows what stands behind it. Keycloak has none.
    ///
    /// # Panics
    ///
    /// As [`Issuer::token`].
    #[track_caller]
    pub fn opaque(&self, client: &str, scopes: &[&str]) -> String {
        self.hide(self.token(client, scopes))
    }

    /// The same for a token that is there.
    pub fn hide(&self, token: String) -> String {
        let mut opaque = state::lock(&self.state.opaque);
        let name = format!("opaque-{}", opaque.len());
        opaque.insert(name.clone(), token);
        name
    }

    /// Revokes a token as RFC 7009 does, on behalf of its own client.
    pub fn revoke(&self, token: &str, client: &str) {
        self.state.revoke(token, client);
    }

    /// The compact serialisation of these very texts, duplicates and nonsense included.
    ///
    /// # Panics
    ///
    /// When the realm has no such key, or the key cannot sign so.
    #[track_caller]
    pub fn sign(&self, header: &str, claims: &str, signer: &Signer) -> String {
        let keys = self.state.keys();
        let signing = Signing::resolve(&keys, signer, self.state.realm.default_algorithm());
        let token = signing.and_then(|s| s.token(header.as_bytes(), claims.as_bytes()));
        match token {
            Some(token) => token,
            None => panic!("no key signs as {signer:?}"),
        }
    }

    /// The id of the key that signs with `algorithm` now.
    pub fn active_kid(&self, algorithm: &str) -> Option<String> {
        let keys = self.state.keys();
        keys.active(algorithm).map(|key| key.kid().to_owned())
    }

    /// The ids of all keys of this algorithm (`RSA-OAEP` too) in this state.
    pub fn kids(&self, algorithm: &str, state: KeyState) -> Vec<String> {
        self.state.keys().kids(algorithm, state)
    }

    /// The key set as `certs` lists it.
    pub fn jwks(&self) -> Value {
        self.state.keys().jwks()
    }

    /// A new active key for `algorithm`, which the realm need not have had; the old one becomes passive. Returns the
    /// new key id.
    pub fn rotate(&self, algorithm: &str) -> io::Result<String> {
        self.state.keys_mut().rotate(algorithm)
    }

    /// Set up anew: the keys for `algorithm` are others, under the same ids.
    pub fn set_up_anew(&self, algorithm: &str) -> io::Result<()> {
        self.state.keys_mut().renew(algorithm)
    }

    /// Takes a key out of the key set and its tokens out of service. False if there is no such key.
    pub fn disable(&self, kid: &str) -> bool {
        self.set_key_state(kid, KeyState::Disabled)
    }

    pub fn set_key_state(&self, kid: &str, state: KeyState) -> bool {
        self.state.keys_mut().set_state(kid, state)
    }

    /// The realm's not-before, in seconds since the epoch.
    pub fn set_not_before(&self, unix: u64) {
        self.state.not_before.store(unix, Ordering::Relaxed);
    }

    /// A disabled client gets no token, and its tokens are inactive.
    pub fn set_client_enabled(&self, client: &str, enabled: bool) {
        let mut disabled = state::lock(&self.state.disabled);
        if enabled {
            disabled.remove(client);
        } else {
            disabled.insert(client.to_owned());
        }
    }

    /// From now on this client proves itself with assertions signed by a new key (`private_key_jwt`) and no more with
    /// its secret. Returns the key's private half as PEM.
    pub fn give_key(&self, client: &str, algorithm: &str) -> io::Result<String> {
        // Places of the shared pool that no realm reaches.
        const BEYOND: usize = 72;
        let mut keys = state::lock(&self.state.client_keys);
        let (key, pem) = Key::with_pem(algorithm, KeySource::Shared, BEYOND + keys.len())?;
        keys.insert(client.to_owned(), key);
        Ok(pem)
    }

    /// Down: connections are cut and the port refuses new ones. Up again: the same port, the same keys.
    pub fn set_down(&self, down: bool) -> io::Result<()> {
        let mut serving = state::lock(&self.serving);
        if down {
            *serving = None;
        } else if serving.is_none() {
            let listener = bind_loopback(self.address)?;
            *serving = Some(Serving::start(
                "demo-issuer",
                listener,
                router(&self.state),
            )?);
        }
        Ok(())
    }

    /// How often an endpoint was called, failures included.
    pub fn requests(&self, endpoint: Endpoint) -> u64 {
        self.state.hits[endpoint as usize].load(Ordering::Relaxed)
    }

    /// Breaks an endpoint until [`Issuer::clear_fault`].
    pub fn set_fault(&self, endpoint: Endpoint, fault: Fault) {
        state::lock(&self.state.faults).insert(endpoint, fault);
    }

    pub fn clear_fault(&self, endpoint: Endpoint) {
        state::lock(&self.state.faults).remove(&endpoint);
    }
}

fn router(state: &Arc<State>) -> Router {
    Router::new()
        .fallback(protocol::handle)
        .with_state(state.clone())
}
