//! Who the token proved.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use http::HeaderValue;

use crate::config::plan::IssuerId;

/// A proved token's holder. Only [`crate::verify`] makes one; a copy costs two counters.
#[derive(Debug, Clone, PartialEq)]
pub struct Principal {
    pub grants: Arc<Grants>,
    /// `sub`, ready to be sent: as [`field_text`] writes it. It is no part of the grants, because some issuers give
    /// each token another one; and no header value, which takes three times the room of a short text.
    pub subject: Option<Arc<str>>,
}

/// What an issuer grants a client: the part of a proof that all tokens of the client share, and most of its memory.
#[derive(Debug, PartialEq)]
pub struct Grants {
    pub issuer: IssuerId,
    /// The configuration's name for the issuer, not its URL.
    pub issuer_name: Arc<str>,
    /// What `iss` says.
    pub issuer_url: Arc<str>,
    /// The OAuth client: `azp`, else `client_id`.
    pub client: String,
    /// RFC 6749 section 3.3: separated by U+0020 alone.
    pub scopes: Vec<String>,
    /// Keycloak's `realm_access.roles`.
    pub realm_roles: Vec<String>,
    /// Keycloak's `resource_access`: client → roles.
    pub client_roles: BTreeMap<String, Vec<String>>,
    /// The claims that some route forwards by a JSON pointer; no others are kept.
    pub claims: serde_json::Map<String, serde_json::Value>,
    pub fields: IdentityFields,
}

/// The grants as header values, made once and cloned for each request.
#[derive(Debug, PartialEq)]
pub struct IdentityFields {
    pub issuer: HeaderValue,
    pub client: HeaderValue,
    pub scope: Option<HeaderValue>,
    pub roles: Option<HeaderValue>,
}

impl Principal {
    pub fn new(grants: Arc<Grants>, subject: Option<&str>) -> Self {
        Principal {
            grants,
            subject: subject.map(|subject| field_text(subject, false).into()),
        }
    }

    /// `sub` as the token says it.
    pub fn subject(&self) -> Option<Cow<'_, str>> {
        let field = self.subject.as_deref()?;
        Some(match field.contains('%') {
            true => Cow::Owned(percent_decode(field)),
            false => Cow::Borrowed(field),
        })
    }
}

impl IdentityFields {
    pub fn of(issuer_url: &str, client: &str, scopes: &[String], realm_roles: &[String]) -> Self {
        IdentityFields {
            issuer: field(issuer_url, false),
            client: field(client, false),
            scope: list(scopes, " ", false),
            roles: list(realm_roles, ",", true),
        }
    }
}

fn list(parts: &[String], separator: &str, in_list: bool) -> Option<HeaderValue> {
    if parts.is_empty() {
        return None;
    }
    let parts = parts.iter().map(|part| field_text(part, in_list));
    let text = parts.collect::<Vec<_>>().join(separator);
    Some(HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("")))
}

/// A claim's text as a header value.
pub fn field(text: &str, in_list: bool) -> HeaderValue {
    let text = field_text(text, in_list);
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
}

/// Percent-encodes everything but visible ASCII and blank, and `%` itself, so that no claim can break a field; `,`
/// too where the value stands in a comma-separated list (contract section 5). A blank at an end is encoded as well,
/// because it would be lost on the way (RFC 9110 section 5.5) and ` root` arrive as `root`.
pub fn field_text(text: &str, in_list: bool) -> Cow<'_, str> {
    let last = text.len().saturating_sub(1);
    let kept = |at: usize, byte: u8| match byte {
        b' ' => at != 0 && at != last,
        b'%' => false,
        b',' => !in_list,
        _ => byte.is_ascii_graphic(),
    };
    if text.bytes().enumerate().all(|(at, byte)| kept(at, byte)) {
        return Cow::Borrowed(text);
    }
    let mut encoded = String::with_capacity(text.len() + 16);
    for (at, byte) in text.bytes().enumerate() {
        if kept(at, byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    Cow::Owned(encoded)
}

/// What [`field_text`] wrote, read back.
fn percent_decode(field: &str) -> String {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let [byte, tail @ ..] = rest {
        let digits = std::str::from_utf8(tail.get(..2).unwrap_or_default()).unwrap_or_default();
        match (byte, u8::from_str_radix(digits, 16)) {
            (b'%', Ok(decoded)) => {
                bytes.push(decoded);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_read_back_as_it_was_said() {
        let grants = Arc::new(Grants {
            issuer: IssuerId(0),
            issuer_name: "keycloak".into(),
            issuer_url: "https://sso.example.com".into(),
            client: String::new(),
            scopes: Vec::new(),
            realm_roles: Vec::new(),
            client_roles: BTreeMap::new(),
            claims: serde_json::Map::new(),
            fields: IdentityFields::of("https://sso.example.com", "", &[], &[]),
        });
        for said in [
            "5bd3c6c4",
            "",
            " a b ",
            "100%",
            "%41",
            "ä\r\nX: y",
            "%",
            "a,b",
        ] {
            let principal = Principal::new(grants.clone(), Some(said));
            assert_eq!(principal.subject().as_deref(), Some(said));
        }
        assert_eq!(Principal::new(grants, None).subject(), None);
    }
}
