//! The request target: what passes means the same to every server that we know of.

use http::{HeaderMap, HeaderValue, Method, header};

use super::readings::{Agrees, READINGS, Reading, decoded};
use crate::config::plan::{Plan, RouteId, TargetForms};
use crate::gateway::allowed_in_every_reading;
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
pub(super) struct Rig {
    plan: Plan,
    routes: RouteTable,
}

/// The place that allows every form that a route can allow.
pub(super) const LOOSE: &str = "/a";

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
        let mut routes: Vec<_> = PLACES.into_iter().map(testkit::route).collect();
        for route in &mut routes {
            if route.matcher.path == LOOSE {
                let forms = TargetForms::WORDS.iter().map(|(_, form)| *form);
                route.allow_target = forms.fold(TargetForms::default(), TargetForms::with);
            }
        }
        let plan = testkit::plan(routes);
        let routes = RouteTable::new(&plan);
        Rig { plan, routes }
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
        let Some(place) = self.allowed(&target) else {
            return Ok(None);
        };
        match self.dissenters(raw, &target, place).next() {
            None => Ok(Some(place)),
            Some(reading) => Err(format!(
                "{} reads {} as {}",
                reading.server,
                raw.escape_ascii(),
                (reading.read)(raw).escape_ascii()
            )),
        }
    }

    fn allowed(&self, target: &Target) -> Option<&'static str> {
        if target.forms.is_empty() {
            return self.place(&target.path);
        }
        let find = |path: &str| self.find(path);
        let route = allowed_in_every_reading(target, &self.plan, find).ok()?;
        Some(PLACES[route.0])
    }

    /// Those who read a target otherwise than as ours at this place.
    pub(super) fn dissenters(
        &self,
        raw: &[u8],
        target: &Target,
        place: &str,
    ) -> impl Iterator<Item = &'static Reading> {
        let ours = decoded(target.path.as_bytes());
        let one = target.forms.is_empty();
        READINGS.iter().filter(move |reading| {
            let theirs = (reading.read)(raw);
            match reading.agrees {
                Agrees::Path if one => decoded(&theirs) != ours,
                // Many readings were allowed; all of them have to be of one route.
                Agrees::Path | Agrees::Route => {
                    self.place(&String::from_utf8_lossy(&theirs)) != Some(place)
                }
            }
        })
    }

    /// Where a path leads to.
    pub(super) fn place(&self, path: &str) -> Option<&'static str> {
        match self.find(path) {
            Found::Route(RouteId(index)) => Some(PLACES[index]),
            _ => None,
        }
    }

    fn find(&self, path: &str) -> Found {
        self.routes.find(View {
            host: "api.example.com",
            path,
            query: None,
            method: &Method::GET,
            headers: &HeaderMap::new(),
        })
    }
}

/// Nothing in it ends a request line, a word of it, or a field.
fn is_plain(target: &Target) {
    let visible = |text: &str| text.bytes().all(|byte| (0x21..=0x7e).contains(&byte));
    let Target {
        host,
        path,
        query,
        forms: _,
        sent_as,
    } = target;
    // Only a route rewrites, and none has been found yet.
    assert_eq!(*sent_as, None);
    assert!(visible(path) && path.starts_with('/'), "{path:?}");
    assert!(!path.contains(['?', '#', '\\']), "{path:?}");
    assert!(query.as_deref().is_none_or(visible), "{query:?}");
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    assert!(!host.is_empty() && host.bytes().all(plain), "{host:?}");
    assert!(
        !host.bytes().any(|byte| byte.is_ascii_uppercase()),
        "{host:?}"
    );
}
