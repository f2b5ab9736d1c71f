//! The one route of a request.
//!
//! The longest path, then the more specific host, then header and query conditions decide alone (contract section 3,
//! "Matching"): another method there is 405 and never falls to a looser route, because the looser one may ask for less.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::HashMap;

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::config::plan::{Plan, RouteId};
use crate::request::unescaped;

/// What matching looks at. The target has passed [`crate::request`]: its path has one reading.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// Lower case, without port.
    pub host: &'a str,
    pub path: &'a str,
    pub query: Option<&'a str>,
    pub method: &'a Method,
    pub headers: &'a HeaderMap,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    Route(RouteId),
    /// The path is known, the method is not; the value of `Allow`.
    OtherMethod(HeaderValue),
    /// Whoever reads an escaped `?` or `#` as a real one serves another route's path.
    Ambiguous,
    Nothing,
}

#[derive(Debug)]
pub struct RouteTable {
    /// By path, unescaped: another spelling of a path must not slip past its route. The best candidate first.
    paths: HashMap<Box<str>, Vec<Candidate>>,
    /// Bytes of the longest path: nothing longer needs a look-up.
    longest: usize,
}

#[derive(Debug)]
struct Candidate {
    route: RouteId,
    exact: bool,
    host: HostPattern,
    /// Sorted, like `query`: their order in the file makes no other place of it.
    headers: Vec<(HeaderName, String)>,
    query: Vec<(String, String)>,
    /// Empty is any.
    methods: Vec<Method>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum HostPattern {
    Any,
    /// `.example.com`: one label or more before it.
    Under(Box<str>),
    Is(Box<str>),
}

impl RouteTable {
    pub fn new(plan: &Plan) -> Self {
        let mut paths: HashMap<Box<str>, Vec<Candidate>> = HashMap::new();
        for (index, route) in plan.routes.iter().enumerate() {
            let matcher = &route.matcher;
            let mut methods = matcher.methods.clone();
            if methods.contains(&Method::GET) && !methods.contains(&Method::HEAD) {
                methods.push(Method::HEAD);
            }
            let mut headers = matcher.headers.clone();
            headers.sort_by(|a, b| (a.0.as_str(), &a.1).cmp(&(b.0.as_str(), &b.1)));
            let mut query = matcher.query.clone();
            query.sort();
            paths
                .entry(unescaped(&matcher.path).into())
                .or_default()
                .push(Candidate {
                    route: RouteId(index),
                    exact: matcher.exact,
                    host: HostPattern::new(matcher.host.as_deref()),
                    headers,
                    query,
                    methods,
                });
        }
        for candidates in paths.values_mut() {
            // Stable: equally specific routes keep the order of the file.
            candidates.sort_by_key(|c| Reverse((c.exact, c.host.specificity(), c.conditions())));
        }
        let longest = paths.keys().map(|path| path.len()).max().unwrap_or(0);
        RouteTable { paths, longest }
    }

    pub fn find(&self, view: View<'_>) -> Found {
        let path = unescaped(view.path);
        let found = self.at(&path, view);
        // Only an escape can have brought one.
        let end = match &path {
            Cow::Owned(path) => path.find(['?', '#']),
            Cow::Borrowed(_) => None,
        };
        match end {
            Some(end) if self.at(&path[..end], view) != found => Found::Ambiguous,
            _ => found,
        }
    }

    fn at(&self, path: &str, view: View<'_>) -> Found {
        let mut prefix = no_longer_than(path, self.longest);
        loop {
            if let Some(candidates) = self.paths.get(prefix) {
                let whole = prefix.len() == path.len();
                if let Some(best) = candidates
                    .iter()
                    .position(|c| (whole || !c.exact) && c.applies(view))
                {
                    return decide(&candidates[best..], view);
                }
            }
            match shorter(prefix) {
                Some(parent) => prefix = parent,
                None => return Found::Nothing,
            }
        }
    }
}

/// The first candidate applies; it and its equals but for the method decide.
fn decide(candidates: &[Candidate], view: View<'_>) -> Found {
    let best = &candidates[0];
    let equals = || candidates.iter().filter(|c| c.same_place(best));
    if let Some(found) = equals().find(|c| c.takes(view.method)) {
        return Found::Route(found.route);
    }
    let mut allow: Vec<&str> = Vec::new();
    for method in equals().flat_map(Candidate::listed) {
        if !allow.contains(&method) {
            allow.push(method);
        }
    }
    Found::OtherMethod(
        HeaderValue::from_str(&allow.join(", ")).unwrap_or(HeaderValue::from_static("")),
    )
}

/// The path up to the last segment boundary within `longest` bytes. A caller's thousands of segments would otherwise
/// cost as many hashes of as many bytes.
fn no_longer_than(path: &str, longest: usize) -> &str {
    if path.len() <= longest {
        return path;
    }
    match path.as_bytes()[..=longest].iter().rposition(|b| *b == b'/') {
        Some(slash) => &path[..slash.max(1)],
        None => path,
    }
}

/// The path one segment up: `/a/b` → `/a` → `/`.
fn shorter(path: &str) -> Option<&str> {
    match path.rfind('/') {
        Some(0) if path.len() > 1 => Some("/"),
        Some(0) | None => None,
        Some(slash) => Some(&path[..slash]),
    }
}

impl Candidate {
    fn conditions(&self) -> usize {
        self.headers.len() + self.query.len()
    }

    fn same_place(&self, other: &Candidate) -> bool {
        self.exact == other.exact
            && self.host == other.host
            && self.headers == other.headers
            && self.query == other.query
    }

    fn applies(&self, view: View<'_>) -> bool {
        self.host.covers(view.host)
            && self
                .headers
                .iter()
                .all(|(name, wanted)| every_value_is(view.headers, name, wanted))
            && self
                .query
                .iter()
                .all(|(name, wanted)| every_pair_is(view.query.unwrap_or(""), name, wanted))
    }

    fn takes(&self, method: &Method) -> bool {
        !never_passes(method) && (self.methods.is_empty() || self.methods.contains(method))
    }

    fn listed(&self) -> impl Iterator<Item = &str> {
        const ANY: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
        let any = if self.methods.is_empty() {
            &ANY[..]
        } else {
            &[]
        };
        any.iter().copied().chain(
            self.methods
                .iter()
                .filter(|method| !never_passes(method))
                .map(Method::as_str),
        )
    }
}

/// `TRACE` and its old twin repeat the request, credentials too, to whoever can read the answer; `CONNECT` asks for a
/// tunnel (RFC 9110 sections 9.3.6 and 9.3.8).
fn never_passes(method: &Method) -> bool {
    matches!(*method, Method::TRACE | Method::CONNECT) || method.as_str() == "TRACK"
}

/// Every value, not any: a second field with another value must not slip past a condition.
fn every_value_is(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    let mut values = headers.get_all(name).iter().peekable();
    values.peek().is_some() && values.all(|value| value.as_bytes() == wanted.as_bytes())
}

fn every_pair_is(query: &str, name: &str, wanted: &str) -> bool {
    let mut pairs = form_urlencoded::parse(query.as_bytes())
        .filter(|(key, _)| key == name)
        .peekable();
    pairs.peek().is_some() && pairs.all(|(_, value)| value == wanted)
}

impl HostPattern {
    fn new(host: Option<&str>) -> Self {
        match host {
            None => HostPattern::Any,
            Some(host) => match host.strip_prefix('*') {
                Some(suffix) => HostPattern::Under(suffix.into()),
                None => HostPattern::Is(host.into()),
            },
        }
    }

    fn specificity(&self) -> (u8, usize) {
        match self {
            HostPattern::Any => (0, 0),
            HostPattern::Under(suffix) => (1, suffix.len()),
            HostPattern::Is(_) => (2, 0),
        }
    }

    fn covers(&self, host: &str) -> bool {
        match self {
            HostPattern::Any => true,
            HostPattern::Under(suffix) => {
                host.len() > suffix.len() && host.ends_with(suffix.as_ref())
            }
            HostPattern::Is(exact) => host == exact.as_ref(),
        }
    }
}

#[cfg(test)]
mod tests;
