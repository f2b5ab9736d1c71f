//! The proved principal as header fields.

use std::fmt::Write;

use http::{HeaderName, HeaderValue};
use pingora::http::RequestHeader;
use serde_json::Value;

use crate::verify::Principal;
use crate::verify::principal::IdentityFields;

const X_AUTH_ISSUER: HeaderName = HeaderName::from_static("x-auth-issuer");
const X_AUTH_CLIENT: HeaderName = HeaderName::from_static("x-auth-client");
const X_AUTH_SUBJECT: HeaderName = HeaderName::from_static("x-auth-subject");
const X_AUTH_SCOPE: HeaderName = HeaderName::from_static("x-auth-scope");
const X_AUTH_ROLES: HeaderName = HeaderName::from_static("x-auth-roles");

/// Sets the `X-Auth-*` fields and the route's own; a claim that is absent leaves its field out.
pub(super) fn write(
    head: &mut RequestHeader,
    principal: &Principal,
    forwarded: &[(HeaderName, String)],
) -> pingora::Result<()> {
    let fields = principal.identity.get(|| fields(principal));
    head.insert_header(X_AUTH_ISSUER, fields.issuer.clone())?;
    head.insert_header(X_AUTH_CLIENT, fields.client.clone())?;
    for (name, value) in [
        (X_AUTH_SUBJECT, &fields.subject),
        (X_AUTH_SCOPE, &fields.scope),
        (X_AUTH_ROLES, &fields.roles),
    ] {
        if let Some(value) = value {
            head.insert_header(name, value.clone())?;
        }
    }
    for (name, pointer) in forwarded {
        if let Some(claim) = claim_text(&principal.claims, pointer) {
            head.insert_header(name.clone(), value(&claim, false))?;
        }
    }
    Ok(())
}

/// Once for each proof: a cached one is cloned from.
fn fields(principal: &Principal) -> IdentityFields {
    let list = |parts: &[String], separator, in_list| {
        (!parts.is_empty()).then(|| joined(parts, separator, in_list))
    };
    IdentityFields {
        issuer: value(&principal.issuer_url, false),
        client: value(&principal.client, false),
        subject: principal.subject.as_deref().map(|s| value(s, false)),
        scope: list(&principal.scopes, " ", false),
        roles: list(&principal.realm_roles, ",", true),
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

fn value(text: &str, in_list: bool) -> HeaderValue {
    HeaderValue::from_str(&percent_encode(text, in_list)).unwrap_or(HeaderValue::from_static(""))
}

fn joined(parts: &[String], separator: &str, in_list: bool) -> HeaderValue {
    let text = parts
        .iter()
        .map(|part| percent_encode(part, in_list))
        .collect::<Vec<_>>()
        .join(separator);
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
}

/// Percent-encodes everything but visible ASCII and blank, and `%` itself, so that no claim can break a field; `,`
/// too where the value stands in a comma-separated list (contract section 5). A blank at an end is encoded as well,
/// because it would be lost on the way (RFC 9110 section 5.5) and ` root` arrive as `root`.
pub fn percent_encode(text: &str, in_list: bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    let last = text.len().saturating_sub(1);
    for (at, byte) in text.bytes().enumerate() {
        let kept = match byte {
            b' ' => at != 0 && at != last,
            b'%' => false,
            b',' => !in_list,
            _ => byte.is_ascii_graphic(),
        };
        if kept {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}
