//! What an upstream gets: nothing that the caller could have forged, and the identity that the token proved.

mod framing;
mod identity;
mod strip;

use std::net::IpAddr;

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, Version, header};
use ipnet::IpNet;
use pingora::http::{RequestHeader, ResponseHeader};

pub use framing::{is_plainly_framed, without_chunks};
pub use strip::Stripper;

use crate::authorize::Permit;
use crate::config::plan::{CorsPlan, HeaderEdits, RoutePlan};
use crate::cors;
use crate::reject;
use crate::request::{
    RequestId, TRACEPARENT, Target, Trace, X_REQUEST_ID, X_REQUEST_ID_NAME, unescaped,
};

/// RFC 9449 section 4.1.
pub const DPOP: HeaderName = HeaderName::from_static("dpop");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
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

/// The fields that we write beside what the caller sent.
const OURS: usize = 12;

/// Rewrites a request's head for the upstream. Runs after Pingora has dropped the fields that `Connection` names, so
/// that the caller cannot name ours away.
///
/// The fields leave in lower case, or in the usual case where Pingora knows one (RFC 9110 section 5.1: names have no
/// case). Keeping the caller's costs a second table of names for each request.
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
    let origin_form = head.raw_path().starts_with(b"/");
    let mut parts = take(head);
    let fields = &mut parts.headers;
    let forwarded = Forwarded::of(fields, target, caller);
    let trailers = parts.version == Version::HTTP_2 && asks_for_trailers(fields);
    stripper.strip(fields);
    if trailers {
        fields.insert(header::TE, TRAILERS);
    }
    if !route.keep_authorization {
        fields.remove(header::AUTHORIZATION);
        // Made for us, as the token was; with a token that a service keeps, it may judge the proof too.
        fields.remove(DPOP);
    }
    if trace.started_here() {
        fields.remove(TRACESTATE);
    }
    join_cookies(fields);
    for name in &route.request_headers.remove {
        strip::strip_other_spellings(fields, name);
        fields.remove(name);
    }
    // Once, and not by doubling twice.
    fields.reserve(OURS + route.forward_headers.len() + route.request_headers.set.len());
    for (name, value) in &route.request_headers.set {
        strip::strip_other_spellings(fields, name);
        fields.insert(name, value.clone());
    }
    fields.insert(X_FORWARDED_FOR, forwarded.source);
    fields.insert(X_FORWARDED_PROTO, forwarded.proto);
    fields.insert(X_FORWARDED_HOST, forwarded.host);
    fields.insert(X_REQUEST_ID, request_id.value().clone());
    fields.insert(TRACEPARENT, trace.parent().clone());
    if let Some(principal) = permit.principal() {
        identity::write(fields, principal, &route.forward_headers);
    }
    if parts.version == Version::HTTP_2 {
        name_host(fields, &parts.uri)?;
        // There are no interim answers on the way back: who waits for one has it from us.
        fields.remove(header::EXPECT);
    } else {
        // No trailers go to HTTP/1 peers.
        fields.remove(header::TRAILER);
    }
    if let Some(uri) = matched(route, target, origin_form)? {
        parts.uri = uri;
    }
    *head = parts.into();
    Ok(())
}

/// What makes a request a handshake again, after everything that is for one connection alone was taken out (RFC 6455
/// section 4.1). Only for a request that [`crate::request::opens_websocket`].
pub fn handshake(head: &mut RequestHeader) -> pingora::Result<()> {
    head.insert_header(header::CONNECTION, UPGRADE)?;
    head.insert_header(header::UPGRADE, WEBSOCKET)
}

/// The same on the way back, with nothing in it that could be read as framing (RFC 9110 section 15.2).
pub fn switched(head: &mut ResponseHeader) -> pingora::Result<()> {
    head.remove_header(&header::CONTENT_LENGTH);
    head.remove_header(&header::TRANSFER_ENCODING);
    head.insert_header(header::CONNECTION, UPGRADE)?;
    head.insert_header(header::UPGRADE, WEBSOCKET)
}

const UPGRADE: HeaderValue = HeaderValue::from_static("Upgrade");
const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");

/// The one use of `TE` that HTTP/2 has (RFC 9113 section 8.2.2); gRPC servers insist on it.
fn asks_for_trailers(fields: &HeaderMap) -> bool {
    fields
        .get(header::TE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"trailers"))
}

/// HTTP/2 may name the host in its target alone, which is about to be another.
fn name_host(fields: &mut HeaderMap, uri: &Uri) -> pingora::Result<()> {
    if fields.contains_key(header::HOST) {
        return Ok(());
    }
    let authority = uri.authority().map(|authority| authority.as_str());
    let host = HeaderValue::from_str(authority.unwrap_or_default()).map_err(|_| {
        pingora::Error::explain(
            pingora::ErrorType::InternalError,
            "the authority is no field's value",
        )
    })?;
    fields.insert(header::HOST, host);
    Ok(())
}

/// The head's parts, to be put back.
fn take(head: &mut RequestHeader) -> Parts {
    let (nothing, ()) = http::Request::new(()).into_parts();
    std::mem::replace(head, nothing.into()).into()
}

/// Rewrites an upstream's response head for the caller.
pub fn response(
    head: &mut ResponseHeader,
    edits: Option<&HeaderEdits>,
    request_id: &RequestId,
) -> pingora::Result<()> {
    strip::strip_response(head);
    framing::say_length_once(head)?;
    if let Some(edits) = edits {
        for name in &edits.remove {
            head.remove_header(name);
        }
        for (name, value) in &edits.set {
            head.insert_header(name.clone(), value.clone())?;
        }
    }
    head.insert_header(X_REQUEST_ID_NAME, request_id.value().clone())
}

/// The nonce that the caller's next DPoP proof needs (RFC 9449 section 8.2: an answer that is kept would give out an old
/// one).
pub fn nonce(head: &mut ResponseHeader, nonce: &HeaderValue) -> pingora::Result<()> {
    head.insert_header(header::CACHE_CONTROL, "no-store")?;
    head.insert_header(reject::DPOP_NONCE, nonce.clone())
}

/// Says what a route's CORS says, in place of what the service did: two answers to a browser are none.
pub fn cross_origin(
    head: &mut ResponseHeader,
    plan: &CorsPlan,
    request: &RequestHeader,
) -> pingora::Result<()> {
    let names = head.headers.keys();
    let theirs: Vec<HeaderName> = names.filter(|name| cors::is_ours(name)).cloned().collect();
    for name in &theirs {
        head.remove_header(name);
    }
    let varies = cors::varies(&head.headers);
    for (name, value) in cors::response(plan, &request.method, &request.headers) {
        if name != header::VARY || !varies {
            head.append_header(name, value)?;
        }
    }
    Ok(())
}

/// Whose request it is: the caller, or what a trusted proxy says of its own caller, from the right.
pub fn source(headers: &http::HeaderMap, caller: Caller<'_>) -> Option<IpAddr> {
    let mut source = caller.address?;
    let trusted = |address: &IpAddr| caller.trusted.iter().any(|net| net.contains(address));
    if !trusted(&source) {
        return Some(source);
    }
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

/// Scheme and authority that the caller's own caller sees, as far as a trusted proxy says so.
pub fn outside<'a>(
    fields: &'a HeaderMap,
    caller: Caller<'_>,
) -> (Option<&'a HeaderValue>, Option<&'a HeaderValue>) {
    let trusted = caller.is_trusted();
    let proto = believed(fields, &X_FORWARDED_PROTO, trusted);
    let host = believed(fields, &X_FORWARDED_HOST, trusted);
    (proto.filter(|proto| is_scheme(proto)), host)
}

/// A field that only a trusted proxy may send, if it was sent once.
fn believed<'a>(
    fields: &'a HeaderMap,
    name: &HeaderName,
    trusted: bool,
) -> Option<&'a HeaderValue> {
    if !trusted {
        return None;
    }
    let mut sent = fields.get_all(name).iter();
    match (sent.next(), sent.next()) {
        (Some(value), None) => Some(value),
        _ => None,
    }
}

impl Caller<'_> {
    fn is_trusted(&self) -> bool {
        self.address
            .is_some_and(|address| self.trusted.iter().any(|net| net.contains(&address)))
    }
}

struct Forwarded {
    source: HeaderValue,
    proto: HeaderValue,
    host: HeaderValue,
}

impl Forwarded {
    fn of(fields: &HeaderMap, target: &Target, caller: Caller<'_>) -> Self {
        let trusted = caller.is_trusted();
        let believed = |name: &HeaderName| believed(fields, name, trusted).cloned();
        let address = caller
            .address
            .map_or_else(|| "unknown".to_owned(), text_of_address);
        let source = if trusted {
            // A chain may come as several fields; it is one list (RFC 9110 section 5.3).
            fields
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
        let own_host = fields
            .get(header::HOST)
            .cloned()
            .or_else(|| HeaderValue::from_str(&target.host).ok());
        Forwarded {
            source: HeaderValue::from_str(&source).unwrap_or(HeaderValue::from_static("unknown")),
            proto: believed(&X_FORWARDED_PROTO)
                .filter(is_scheme)
                .unwrap_or(own_proto),
            host: believed(&X_FORWARDED_HOST)
                .or(own_host)
                .unwrap_or(HeaderValue::from_static("unknown")),
        }
    }
}

/// `Display` takes ten times as long for the usual four numbers, and each request needs them.
fn text_of_address(address: IpAddr) -> String {
    let IpAddr::V4(address) = address else {
        return address.to_string();
    };
    let mut text = String::with_capacity("255.255.255.255".len());
    let mut digits = itoa::Buffer::new();
    for octet in address.octets() {
        text.push_str(digits.format(octet));
        text.push('.');
    }
    text.pop();
    text
}

/// Services put links together with it. Some proxies name WebSocket's schemes.
fn is_scheme(proto: &HeaderValue) -> bool {
    const KNOWN: [&[u8]; 4] = [b"http", b"https", b"ws", b"wss"];
    let named = proto.as_bytes();
    KNOWN.iter().any(|known| named.eq_ignore_ascii_case(known))
}

/// HTTP/2 may split a `Cookie`, HTTP/1 may not (RFC 9113 section 8.2.3), and servers there read the first field only.
fn join_cookies(fields: &mut HeaderMap) {
    let crumbs = fields.get_all(header::COOKIE).iter();
    let mut crumbs = crumbs.map(HeaderValue::as_bytes);
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else {
        return;
    };
    let crumbs: Vec<&[u8]> = [first, second].into_iter().chain(crumbs).collect();
    // What two values may hold, one may.
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        fields.insert(header::COOKIE, joined);
    }
}

/// The path that was matched, after `strip_prefix` or as it was rewritten, in origin form; `None` if that is what came.
fn matched(route: &RoutePlan, target: &Target, origin_form: bool) -> pingora::Result<Option<Uri>> {
    let stripped = || {
        let prefix = route.strip_prefix.as_deref()?;
        without_prefix(&target.path, prefix)
    };
    let path = target
        .sent_as
        .as_deref()
        .or_else(stripped)
        .unwrap_or(&target.path);
    if path == target.path && origin_form {
        return Ok(None);
    }
    let mut sent = String::with_capacity(path.len() + 64);
    sent.push_str(path);
    if let Some(query) = &target.query {
        sent.push('?');
        sent.push_str(query);
    }
    let uri = Uri::from_maybe_shared(sent).map_err(|_| {
        pingora::Error::explain(
            pingora::ErrorType::InternalError,
            "the matched path is no URI",
        )
    })?;
    Ok(Some(uri))
}

/// Takes off as many segments as the prefix has, if they are the prefix in any spelling.
pub fn without_prefix<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
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
