//! Which headers a route may touch: none that carries identity, framing or the way a request came.

use http::{HeaderName, HeaderValue};

use crate::config::diagnostic::Fault;
use crate::config::plan::HeaderEdits;
use crate::config::view::{Named, View};

use super::Context;

/// Which way the edited message goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Request,
    Response,
}

/// Upstreams may read `X_Auth_Client` and `X.Auth.Client` as `X-Auth-Client`, so all spellings are one name here, as
/// they are where a caller's fields are removed.
pub(super) fn folded(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    name.to_ascii_lowercase().chars().map(plain).collect()
}

fn guarded(name: &str, direction: Direction) -> Option<&'static str> {
    let name = folded(name);
    match name.as_str() {
        "connection"
        | "keep-alive"
        | "http2-settings"
        | "proxy-authenticate"
        | "proxy-authentication-info"
        | "proxy-authorization"
        | "proxy-connection"
        | "te"
        | "trailer"
        | "transfer-encoding"
        | "upgrade" => Some("it belongs to one connection, not to the message"),
        "content-length" => Some("it says where the message ends"),
        "x-request-id" => Some("the gateway sets it"),
        _ if direction == Direction::Response => None,
        "host" | "expect" => Some("it says where and how the request is sent"),
        "authorization" => Some("`forward.authorization` decides about it"),
        "forwarded" => Some("the gateway says where a request came from"),
        _ if name.starts_with("x-auth-") => Some("it carries the identity that the gateway proved"),
        _ if name.starts_with("x-forwarded-") => Some("the gateway says where a request came from"),
        _ => None,
    }
}

/// A header name that passes, or nothing and a problem.
fn allowed(
    written: &str,
    place: (crate::config::tree::Position, String),
    direction: Direction,
    context: &mut Context<'_>,
) -> Option<HeaderName> {
    if let Some(why) = guarded(written, direction) {
        let fault = Fault::new(format!("`{written}` cannot be changed: {why}"));
        context.problem_at(place, fault.hint("leave it out, or choose another name"));
        return None;
    }
    HeaderName::from_bytes(written.as_bytes()).ok()
}

fn place(named: &Named<'_>) -> (crate::config::tree::Position, String) {
    (named.at, named.spot.path.clone())
}

pub(super) fn edits(
    view: &View<'_>,
    direction: Direction,
    context: &mut Context<'_>,
) -> HeaderEdits {
    let mut edits = HeaderEdits::default();
    for named in view.named("set") {
        let Some(name) = allowed(named.name, place(&named), direction, context) else {
            continue;
        };
        if let Ok(value) = HeaderValue::from_str(&named.spot.text()) {
            edits.set.push((name, value));
        }
    }
    for spot in view.items("remove") {
        let written = spot.text();
        let place = (spot.at(), spot.path.clone());
        let Some(name) = allowed(&written, place, direction, context) else {
            continue;
        };
        if edits.set.iter().any(|(set, _)| *set == name) {
            let fault = Fault::new(format!("{} is set and removed", spot.node.shown()));
            context.problem(
                &spot,
                fault.hint("`set` replaces what was there; leave it out here"),
            );
        }
        edits.remove.push(name);
    }
    edits
}

/// Headers that carry claims.
pub(super) fn forwarded(view: &View<'_>, context: &mut Context<'_>) -> Vec<(HeaderName, String)> {
    let mut headers = Vec::new();
    for named in view.named("headers") {
        if let Some(name) = allowed(named.name, place(&named), Direction::Request, context) {
            headers.push((name, named.spot.text()));
        }
    }
    headers
}

/// Setting a header that carries a claim anywhere would forge it.
pub(super) fn forgeries(view: &View<'_>, claims: &[String], context: &mut Context<'_>) {
    for named in view.named("set") {
        if claims.contains(&folded(named.name)) {
            let fault = Fault::new(format!(
                "`{}` carries a claim on some route (`forward.headers`)",
                named.name
            ));
            context.problem_at(place(&named), fault.hint("choose another name"));
        }
    }
}
