//! Who the token proved.

use std::collections::BTreeMap;
use std::sync::Arc;

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
    /// All claims, for `forward.headers` and its JSON pointers.
    pub claims: serde_json::Map<String, serde_json::Value>,
}
