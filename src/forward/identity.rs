//! The proved principal as header fields.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use crate::verify::Principal;
use crate::verify::principal::field;

const X_AUTH_ISSUER: HeaderName = HeaderName::from_static("x-auth-issuer");
const X_AUTH_CLIENT: HeaderName = HeaderName::from_static("x-auth-client");
const X_AUTH_SUBJECT: HeaderName = HeaderName::from_static("x-auth-subject");
const X_AUTH_SCOPE: HeaderName = HeaderName::from_static("x-auth-scope");
const X_AUTH_ROLES: HeaderName = HeaderName::from_static("x-auth-roles");

/// Sets the `X-Auth-*` fields and the route's own; a claim that is absent leaves its field out.
pub(super) fn write(
    fields: &mut HeaderMap,
    principal: &Principal,
    forwarded: &[(HeaderName, String)],
) {
    let grants = &*principal.grants;
    fields.insert(X_AUTH_ISSUER, grants.fields.issuer.clone());
    fields.insert(X_AUTH_CLIENT, grants.fields.client.clone());
    if let Some(subject) = &principal.subject {
        // It is visible ASCII already.
        let value = HeaderValue::from_str(subject).unwrap_or(HeaderValue::from_static(""));
        fields.insert(X_AUTH_SUBJECT, value);
    }
    for (name, value) in [
        (X_AUTH_SCOPE, &grants.fields.scope),
        (X_AUTH_ROLES, &grants.fields.roles),
    ] {
        if let Some(value) = value {
            fields.insert(name, value.clone());
        }
    }
    for (name, pointer) in forwarded {
        if let Some(claim) = claim_text(&grants.claims, pointer) {
            fields.insert(name, field(&claim, false));
        }
    }
}

/// RFC 6901; strings as they are, numbers and booleans as JSON writes them, everything else as compact JSON.
fn claim_text(claims: &serde_json::Map<String, Value>, pointer: &str) -> Option<String> {
    let (first, rest) = match pointer.strip_prefix('/')?.split_once('/') {
        Some((first, rest)) => (first, Some(rest)),
        None => (pointer.strip_prefix('/')?, None),
    };
    let member = claims.get(&first.replace("~1", "/").replace("~0", "~"))?;
    let found = match rest {
        Some(rest) => member.pointer(&format!("/{rest}"))?,
        None => member,
    };
    match found {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}
