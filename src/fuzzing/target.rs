//! The request target: what passes means the same to every server that we know of.

use http::{HeaderMap, HeaderValue, Method, header};

use super::readings::{Agrees, READINGS, Reading, decoded};
use crate::config::plan::RouteId;
use crate::request::{Target, inspect};
use crate::route::{Found, RouteTable, View};
use crate::testkit;

/// Routes whose places a hostile target would like to exchange. The last one takes what no other does.
pub(super) const PLACES: [&str; 8] = [
    "/accounts",
    "/accounts/secret",
    "/public",
    "/public/a%20b",
    "/admin",
    "/a",
    "/caf%C3%A9",
    "/",
];

/// The table that targets are matched with.
pub(super) struct Rig(RouteTable);

/// A host and a target, with a line feed between them; without one the host is ordinary.
pub fn target(input: &[u8]) {
    thread_local! {
        static RIG: Rig = Rig::new();
    }
    let feed = input.iter().position(|byte| *byte == b'\n');
    let (host, raw) = match feed {
        Some(at) => (&input[..at], &input[at + 1..]),
        None => (&b"api.example.com"[..], input),
    };
    if let Err(why) = RIG.with(|rig| rig.judge(host, raw)) {
        panic!("{why}");
    }
}

impl Rig {
    pub(super) fn new() -> Self {
        let routes = PLACES.into_iter().map(testkit::route).collect();
        Rig(RouteTable::new(&testkit::plan(routes)))
    }

    /// The place that a target leads to; `None` when it is refused.
    ///
    /// # Errors
    /// Who reads a target in another way that is not refused.
    pub(super) fn judge(&self, host: &[u8], raw: &[u8]) -> Result<Option<&'static str>, String> {
        let Ok(host) = HeaderValue::from_bytes(host) else {
            return Ok(None);
        };
        let headers = HeaderMap::from_iter([(header::HOST, host)]);
        let Ok(target) = inspect(raw, None, &headers) else {
            return Ok(None);
        };
        is_plain(&target);
        let Some(place) = self.place(&target.path) else {
            return Ok(None);
        };
        match self.dissenters(raw, &target.path, place).next() {
            None => Ok(Some(place)),
            Some(reading) => Err(format!(
                "{} reads {} as {}",
                reading.server,
                raw.escape_ascii(),
                (reading.read)(raw).escape_ascii()
            )),
        }
    }

    /// Those who read a target otherwise than as this path at this place.
    pub(super) fn dissenters(
        &self,
        raw: &[u8],
        path: &str,
        place: &str,
    ) -> impl Iterator<Item = &'static Reading> {
        let ours = decoded(path.as_bytes());
        READINGS.iter().filter(move |reading| {
            let theirs = (reading.read)(raw);
            match reading.agrees {
                Agrees::Path => decoded(&theirs) != ours,
                Agrees::Route => self.place(&String::from_utf8_lossy(&theirs)) != Some(place),
            }
        })
    }

    /// Where a path leads to.
    pub(super) fn place(&self, path: &str) -> Option<&'static str> {
        let view = View {
            host: "api.example.com",
            path,
            query: None,
            method: &Method::GET,
            headers: &HeaderMap::new(),
        };
        match self.0.find(view) {
            Found::Route(RouteId(index)) => Some(PLACES[index]),
            _ => None,
        }
    }
}

/// Nothing in it ends a request line, a word of it, or a field.
fn is_plain(target: &Target) {
    let visible = |text: &str| text.bytes().all(|byte| (0x21..=0x7e).contains(&byte));
    let Target { host, path, query } = target;
    assert!(visible(path) && path.starts_with('/'), "{path:?}");
    assert!(!path.contains(['?', '#', '\\', ';']), "{path:?}");
    assert!(query.as_deref().is_none_or(visible), "{query:?}");
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    assert!(!host.is_empty() && host.bytes().all(plain), "{host:?}");
    assert!(
        !host.bytes().any(|byte| byte.is_ascii_uppercase()),
        "{host:?}"
    );
}
