//! Fields that a caller may never send through.

use std::collections::HashSet;

use http::{HeaderMap, HeaderName, header};
use pingora::http::ResponseHeader;

use crate::config::plan::Plan;

/// RFC 9110 section 7.6.1. Pingora strips most of them towards HTTP/1, none towards HTTP/2.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-authentication-info",
    "proxy-connection",
    "te",
    "upgrade",
    "http2-settings",
];

/// `connection` and `transfer-encoding` are Pingora's to write.
const HOP_BY_HOP_OF_RESPONSES: [&str; 6] = [
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "proxy-authentication-info",
    "te",
    "upgrade",
];

/// Fields that some servers believe about a request's origin or target, or about who is calling.
const FORGEABLE: [&str; 32] = [
    // CGI and its heirs take it for the environment's `HTTP_PROXY`.
    "proxy",
    "forwarded",
    "x-forwarded",
    "x-original-forwarded-for",
    "x-real-ip",
    "x-client-ip",
    "client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "fastly-client-ip",
    "x-envoy-external-address",
    "x-originating-ip",
    "x-remote-ip",
    "x-remote-addr",
    "x-host",
    "x-original-host",
    "x-envoy-original-host",
    "x-original-url",
    "x-original-uri",
    "x-original-path",
    "x-rewrite-url",
    "x-envoy-original-path",
    "x-original-method",
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "remote-user",
    "x-remote-user",
    // RFC 9440 section 2.4: whoever ends TLS takes these out, whether it writes its own or not.
    "client-cert",
    "client-cert-chain",
    "x-client-cert",
];

/// Knows every name that is removed from every request, public routes included.
#[derive(Debug)]
pub struct Stripper {
    /// As [`canonical`] writes them.
    names: HashSet<String>,
    /// For each first byte, the lengths of the names: most fields are seen to be none of them without hashing.
    shapes: [u64; 256],
}

impl Stripper {
    /// `forward.headers` of any route are reserved on all of them.
    pub fn new(plan: &Plan) -> Self {
        let reserved = plan
            .routes
            .iter()
            .flat_map(|route| &route.forward_headers)
            .map(|(name, _)| canonical(name.as_str()));
        let names: HashSet<String> = HOP_BY_HOP
            .into_iter()
            .chain(FORGEABLE)
            .map(str::to_owned)
            .chain(reserved)
            .collect();
        let mut shapes = [0; 256];
        for name in &names {
            let (first, bit) = shape(name);
            shapes[first] |= bit;
        }
        Stripper { names, shapes }
    }

    pub fn strip(&self, fields: &mut HeaderMap) {
        let mut doomed: Vec<HeaderName> = Vec::new();
        for name in fields.keys() {
            if self.forbids(name.as_str()) {
                doomed.push(name.clone());
            }
        }
        for name in &doomed {
            fields.remove(name);
        }
    }

    fn forbids(&self, name: &str) -> bool {
        if is_plain(name) {
            let (first, bit) = shape(name);
            is_ours(name) || (self.shapes[first] & bit != 0 && self.names.contains(name))
        } else {
            let name = canonical(name);
            // No server needs another spelling of a field that decides who is calling or where the body ends.
            self.names.contains(&name)
                || is_ours(&name)
                || matches!(
                    name.as_str(),
                    "content-length" | "transfer-encoding" | "x-request-id"
                )
        }
    }
}

/// The first byte, and the length as a bit; names that share both are told apart by looking.
fn shape(name: &str) -> (usize, u64) {
    let first = name.as_bytes().first().copied().unwrap_or_default();
    (first.into(), 1 << (name.len() % 64))
}

/// Removes from a response what was for this connection alone.
pub(super) fn strip_response(head: &mut ResponseHeader) {
    let hop = |name: &HeaderName| HOP_BY_HOP_OF_RESPONSES.contains(&name.as_str());
    let mut doomed: Vec<HeaderName> = head.headers.keys().filter(|n| hop(n)).cloned().collect();
    // Pingora looks at these in requests alone. What ends the answer stays: it is not the peer's to name away.
    let ends = [
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
    ];
    for named in head.headers.get_all(header::CONNECTION) {
        let names = named.as_bytes().split(|byte| *byte == b',');
        let names = names.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok());
        doomed.extend(names.filter(|name| !ends.contains(name)));
    }
    for name in &doomed {
        head.remove_header(name);
    }
}

fn is_ours(name: &str) -> bool {
    name.starts_with("x-auth-") || name.starts_with("x-forwarded-")
}

/// Removes the other spellings of a field that a route sets or removes.
pub(super) fn strip_other_spellings(fields: &mut HeaderMap, of: &HeaderName) {
    let wanted = canonical(of.as_str());
    let doomed: Vec<HeaderName> = fields
        .keys()
        .filter(|name| *name != of && canonical(name.as_str()) == wanted)
        .cloned()
        .collect();
    for name in &doomed {
        fields.remove(name);
    }
}

fn is_plain(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Many servers read `_` and `.` in a field's name as `-`, and some every other sign: CGI and its heirs.
fn canonical(name: &str) -> String {
    name.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .collect()
}
