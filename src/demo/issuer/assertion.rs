//! Clients that prove themselves with a key (RFC 7523), as strictly as Keycloak 26.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::state::{State, lock};
use crate::demo::realm::Client;

const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// How long an assertion may live, in seconds.
const LIFE: u64 = 60;

impl State {
    /// Whose assertion this is; each is good for one request.
    pub(super) fn asserted(&self, kind: Option<&str>, assertion: &str) -> Option<&Client> {
        let (input, signature) = assertion.rsplit_once('.')?;
        let (header, claims) = input.split_once('.')?;
        let (header, claims) = (decode(header)?, decode(claims)?);
        let text = |name: &str| claims.get(name)?.as_str();
        let number = |name: &str| claims.get(name)?.as_u64();
        let client = self.realm.client(text("sub")?)?;
        let now = self.clock.unix();
        let sound = kind == Some(TYPE)
            && self.is_enabled(client)
            && text("iss") == Some(&client.client_id)
            // One audience, and it is the issuer: an endpoint's URL is not taken since 26.
            && text("aud") == Some(&self.issuer)
            && number("iat").is_some_and(|at| at <= now && now <= at + LIFE)
            && number("exp").is_some_and(|at| at > now);
        let keys = lock(&self.client_keys);
        let key = keys.get(&client.client_id)?;
        // Without a `kid` the key is found by its algorithm; a wrong one finds nothing.
        let named = header.get("kid").is_none_or(|kid| kid == key.kid());
        let signed = header.get("alg")?.as_str() == Some(key.algorithm())
            && key.verify(input.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).ok()?);
        let good = sound && named && signed;
        let first = good && lock(&self.assertions).insert(text("jti")?.to_owned());
        first.then_some(client)
    }
}

fn decode(part: &str) -> Option<Map<String, Value>> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}
