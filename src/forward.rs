//! What an upstream gets: nothing that the caller could have forged, and the identity that the token proved.

mod identity;
mod strip;

use std::net::IpAddr;

use http::{HeaderName, HeaderValue, Uri, header};
use ipnet::IpNet;
use pingora::http::{RequestHeader, ResponseHeader};

pub use strip::Stripper;

use crate::authorize::Permit;
use crate::config::plan::{HeaderEdits, RoutePlan};
use crate::request::{RequestId, TRACEPARENT, Target, Trace, X_REQUEST_ID, unescaped};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// What is known of the caller's side of the connection.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    pub address: Option<IpAddr>,
    pub tls: bool,
    /// Whose `X-Forwarded-*` are believed on this listener.
    pub trusted: &'a [IpNet],
}

/// Rewrites a request's head for the upstream. Runs after Pingora has dropped the fields that `Connection` names, so
/// that the caller cannot name ours away.
pub fn request(
    head: &mut RequestHeader,
    stripper: &Stripper,
    route: &RoutePlan,
    permit: &Permit,
    target: &Target,
    caller: Caller<'_>,
    ids: (&RequestId, &Trace),
) -> pingora::Result<()> {
    let (request_id, trace) = ids;
    let forwarded = Forwarded::of(head, target, caller);
    stripper.strip(head);
    if !route.keep_authorization {
        head.remove_header(&header::AUTHORIZATION);
    }
    if trace.started_here() {
        head.remove_header("tracestate");
    }
    join_cookies(head)?;
    for name in &route.request_headers.remove {
        strip::strip_other_spellings(head, name);
        head.remove_header(name);
    }
    for (name, value) in &route.request_headers.set {
        strip::strip_other_spellings(head, name);
        head.insert_header(name.clone(), value.clone())?;
    }
    head.insert_header(X_FORWARDED_FOR, forwarded.source)?;
    head.insert_header(X_FORWARDED_PROTO, forwarded.proto)?;
    head.insert_header(X_FORWARDED_HOST, forwarded.host)?;
    head.insert_header(X_REQUEST_ID, request_id.value().clone())?;
    head.insert_header(TRACEPARENT, trace.parent().clone())?;
    if let Some(principal) = permit.principal() {
        identity::write(head, principal, &route.forward_headers)?;
    }
    send_what_was_matched(head, route, target)
}

/// Rewrites an upstream's response head for the caller.
pub fn response(
    head: &mut ResponseHeader,
    edits: Option<&HeaderEdits>,
    request_id: &RequestId,
) -> pingora::Result<()> {
    for name in strip::HOP_BY_HOP_OF_RESPONSES {
        head.remove_header(name);
    }
    if let Some(edits) = edits {
        for name in &edits.remove {
            head.remove_header(name);
        }
        for (name, value) in &edits.set {
            head.insert_header(name.clone(), value.clone())?;
        }
    }
    head.insert_header(X_REQUEST_ID, request_id.value().clone())
}

/// Whose request it is: the caller, or what a trusted proxy says of its own caller, from the right.
pub fn source(headers: &http::HeaderMap, caller: Caller<'_>) -> Option<IpAddr> {
    let mut source = caller.address?;
    let trusted = |address: &IpAddr| caller.trusted.iter().any(|net| net.contains(address));
    let chain = headers.get_all(&X_FORWARDED_FOR).iter();
    let chain: Vec<&str> = chain
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .collect();
    for hop in chain.iter().rev() {
        if !trusted(&source) {
            break;
        }
        match hop.trim().parse::<IpAddr>() {
            Ok(address) => source = address.to_canonical(),
            Err(_) => break,
        }
    }
    Some(source)
}

/// RFC 9112 section 6.1: a caller of HTTP/1.0 knows no chunks, so the end of its connection ends its body.
pub fn without_chunks(head: &mut ResponseHeader, version: http::Version) {
    if version < http::Version::HTTP_11 {
        head.remove_header(&http::header::TRANSFER_ENCODING);
    }
}

struct Forwarded {
    source: HeaderValue,
    proto: HeaderValue,
    host: HeaderValue,
}

impl Forwarded {
    fn of(head: &RequestHeader, target: &Target, caller: Caller<'_>) -> Self {
        let trusted = caller
            .address
            .is_some_and(|address| caller.trusted.iter().any(|net| net.contains(&address)));
        let believed = |name: &HeaderName| {
            let mut sent = head.headers.get_all(name).iter();
            match (sent.next(), sent.next()) {
                (Some(value), None) if trusted => Some(value.clone()),
                _ => None,
            }
        };
        let address = caller
            .address
            .map_or_else(|| "unknown".to_owned(), |address| address.to_string());
        let source = if trusted {
            // A chain may come as several fields; it is one list (RFC 9110 section 5.3).
            head.headers
                .get_all(&X_FORWARDED_FOR)
                .iter()
                .filter_map(|value| value.to_str().ok())
                .chain([address.as_str()])
                .collect::<Vec<_>>()
                .join(", ")
        } else {
            address
        };
        let own_proto = HeaderValue::from_static(if caller.tls { "https" } else { "http" });
        let own_host = head
            .headers
            .get(header::HOST)
            .cloned()
            .or_else(|| HeaderValue::from_str(&target.host).ok());
        Forwarded {
            source: HeaderValue::from_str(&source).unwrap_or(HeaderValue::from_static("unknown")),
            proto: believed(&X_FORWARDED_PROTO).unwrap_or(own_proto),
            host: believed(&X_FORWARDED_HOST)
                .or(own_host)
                .unwrap_or(HeaderValue::from_static("unknown")),
        }
    }
}

/// HTTP/2 may split a `Cookie`, HTTP/1 may not (RFC 9113 section 8.2.3), and servers there read the first field only.
fn join_cookies(head: &mut RequestHeader) -> pingora::Result<()> {
    let mut crumbs = head.headers.get_all(header::COOKIE).iter();
    if crumbs.next().is_none() || crumbs.next().is_none() {
        return Ok(());
    }
    let crumbs: Vec<&[u8]> = head
        .headers
        .get_all(header::COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    head.insert_header(header::COOKIE, crumbs.join(&b"; "[..]))
}

/// The path that was matched, after `strip_prefix`, in origin form.
fn send_what_was_matched(
    head: &mut RequestHeader,
    route: &RoutePlan,
    target: &Target,
) -> pingora::Result<()> {
    let path = route
        .strip_prefix
        .as_deref()
        .and_then(|prefix| without_prefix(&target.path, prefix))
        .unwrap_or(&target.path);
    let origin_form = head.raw_path().starts_with(b"/");
    if path.len() == target.path.len() && origin_form {
        return Ok(());
    }
    let mut sent = String::with_capacity(path.len() + 64);
    sent.push_str(path);
    if let Some(query) = &target.query {
        sent.push('?');
        sent.push_str(query);
    }
    let uri = sent.parse::<Uri>().map_err(|_| {
        pingora::Error::explain(
            pingora::ErrorType::InternalError,
            "the matched path is no URI",
        )
    })?;
    head.set_uri(uri);
    Ok(())
}

/// Takes off as many segments as the prefix has, if they are the prefix in any spelling.
fn without_prefix<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    let (end, _) = path
        .match_indices('/')
        .chain([(path.len(), "")])
        .nth(prefix.matches('/').count())?;
    let (taken, rest) = path.split_at(end);
    let same = unescaped(taken) == unescaped(prefix);
    same.then_some(if rest.is_empty() { "/" } else { rest })
}

#[cfg(test)]
mod tests;
