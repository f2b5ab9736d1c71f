//! What browsers want to hear about requests from other origins: the Fetch standard, section 3.3.
//!
//! Nothing here protects a service: who is not a browser sends any `Origin` or none, and the token decides. It tells a
//! browser which pages may use a token that they have. `Access-Control-Allow-Credentials` is never sent, because the
//! gateway reads tokens from `Authorization` alone: a browser has no credential of its own to add.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN,
    VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::config::plan::{CorsPlan, Origins};

type Field = (HeaderName, HeaderValue);

/// The method that a preflight asks for; `None` for every other request. Two fields of a name are no preflight: no
/// browser sends them.
pub fn asked(method: &Method, headers: &HeaderMap) -> Option<Method> {
    if *method != Method::OPTIONS {
        return None;
    }
    only(headers, &ORIGIN)?;
    let wanted = only(headers, &ACCESS_CONTROL_REQUEST_METHOD)?;
    Method::from_bytes(wanted.as_bytes()).ok()
}

/// The fields of a preflight's answer.
///
/// An origin or a method that is not listed gets none that allows anything. For a method, leaving it out of the list
/// would not do: browsers send `GET`, `HEAD` and `POST` whatever the list says. Headers are the browser's to compare,
/// and its console names the one that is missing.
pub fn preflight(cors: &CorsPlan, asked: &Method, headers: &HeaderMap) -> Vec<Field> {
    let mut fields = vary(cors);
    if let Some(origin) = allowed(cors, asked, headers) {
        fields.push((ACCESS_CONTROL_ALLOW_ORIGIN, origin));
        fields.push((ACCESS_CONTROL_ALLOW_METHODS, cors.allow_methods.clone()));
        let headers = cors.allow_headers.clone();
        fields.extend(headers.map(|value| (ACCESS_CONTROL_ALLOW_HEADERS, value)));
        let max_age = cors.max_age.clone();
        fields.extend(max_age.map(|value| (ACCESS_CONTROL_MAX_AGE, value)));
    }
    fields
}

/// The fields of every other answer on the route, refusals included.
pub fn response(cors: &CorsPlan, method: &Method, headers: &HeaderMap) -> Vec<Field> {
    let mut fields = vary(cors);
    if let Some(origin) = allowed(cors, method, headers) {
        fields.push((ACCESS_CONTROL_ALLOW_ORIGIN, origin));
        fields.push((ACCESS_CONTROL_EXPOSE_HEADERS, cors.expose_headers.clone()));
    }
    fields
}

/// Whether a field of a service's answer is ours to write on a route with CORS.
pub fn is_ours(name: &HeaderName) -> bool {
    name.as_str().starts_with("access-control-")
}

/// Whether an answer already says that it depends on the origin.
pub fn varies(headers: &HeaderMap) -> bool {
    let values = headers.get_all(VARY).iter();
    let names = values.filter_map(|value| value.to_str().ok());
    names
        .flat_map(|value| value.split(','))
        .any(|name| name.trim() == "*" || name.trim().eq_ignore_ascii_case("origin"))
}

/// The same answer is stored for all origins, unless it says that it is for one. Also where no origin was sent: the
/// next request may have one.
fn vary(cors: &CorsPlan) -> Vec<Field> {
    match cors.origins {
        Origins::Any => Vec::new(),
        Origins::Listed(_) => vec![(VARY, HeaderValue::from_static("Origin"))],
    }
}

/// Compared byte for byte: endings and patterns have let `https://evil-example.com` in elsewhere.
fn allowed(cors: &CorsPlan, method: &Method, headers: &HeaderMap) -> Option<HeaderValue> {
    if !cors.methods.is_empty() && !cors.methods.contains(method) {
        return None;
    }
    match &cors.origins {
        Origins::Any => Some(HeaderValue::from_static("*")),
        Origins::Listed(origins) => {
            let origin = only(headers, &ORIGIN)?;
            origins.iter().find(|listed| *listed == origin).cloned()
        }
    }
}

fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
