//! Who the token proved.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use http::HeaderValue;

use crate::config::plan::IssuerId;

/// A proved token's holder. Only [`crate::verify`] makes one.
#[derive(Debug, Clone, PartialEq)]
pub struct Principal {
    pub issuer: IssuerId,
    /// The configuration's name for the issuer, not its URL.
    pub issuer_name: Arc<str>,
    /// What `iss` says.
    pub issuer_url: Arc<str>,
    /// The OAuth client: `azp`, else `client_id`.
    pub client: String,
    pub subject: Option<String>,
    /// RFC 6749 section 3.3: separated by U+0020 alone.
    pub scopes: Vec<String>,
    /// Keycloak's `realm_access.roles`.
    pub realm_roles: Vec<String>,
    /// Keycloak's `resource_access`: client → roles.
    pub client_roles: BTreeMap<String, Vec<String>>,
    /// Seconds since the Unix epoch.
    pub expires_at: u64,
    /// The claims that some route forwards by a JSON pointer; no others are kept.
    pub claims: serde_json::Map<String, serde_json::Value>,
    pub identity: Identity,
}

/// The principal as header values, made when the first request needs them and cloned by the others. A principal that
/// was changed must not keep them.
#[derive(Debug, Clone, Default)]
pub struct Identity(OnceLock<IdentityFields>);

#[derive(Debug, Clone)]
pub struct IdentityFields {
    pub issuer: HeaderValue,
    pub client: HeaderValue,
    pub subject: Option<HeaderValue>,
    pub scope: Option<HeaderValue>,
    pub roles: Option<HeaderValue>,
}

impl Identity {
    pub fn get(&self, make: impl FnOnce() -> IdentityFields) -> &IdentityFields {
        self.0.get_or_init(make)
    }
}

/// What was made of a principal says nothing about it.
impl PartialEq for Identity {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
