#![allow(clippy::unwrap_used)]

mod method;
mod order;
mod path;

use super::*;
use crate::config::plan::{MatchPlan, RoutePlan};
use crate::testkit::{at, fields, plan, route};

/// A table whose routes are named by their position.
fn table(matchers: Vec<MatchPlan>) -> RouteTable {
    let routes = matchers
        .into_iter()
        .map(|matcher| RoutePlan {
            matcher,
            ..route("/")
        })
        .collect();
    RouteTable::new(&plan(routes))
}

/// `GET http://HOST/PATH?QUERY` and the like.
struct Ask<'a> {
    host: &'a str,
    target: &'a str,
    method: &'a str,
    headers: &'a [(&'a str, &'a str)],
}

const GET: Ask<'_> = Ask {
    host: "api.example.com",
    target: "/",
    method: "GET",
    headers: &[],
};

impl RouteTable {
    fn ask(&self, ask: Ask<'_>) -> Found {
        let (path, query) = match ask.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (ask.target, None),
        };
        self.find(View {
            host: ask.host,
            path,
            query,
            method: &Method::from_bytes(ask.method.as_bytes()).unwrap(),
            headers: &fields(ask.headers),
        })
    }

    fn get(&self, target: &str) -> Found {
        self.ask(Ask { target, ..GET })
    }

    fn method(&self, method: &str, target: &str) -> Found {
        self.ask(Ask {
            method,
            target,
            ..GET
        })
    }
}

fn found(index: usize) -> Found {
    Found::Route(RouteId(index))
}

fn allow(methods: &'static str) -> Found {
    Found::OtherMethod(HeaderValue::from_static(methods))
}

fn methods(path: &str, methods: &[Method]) -> MatchPlan {
    MatchPlan {
        methods: methods.to_vec(),
        ..at(path)
    }
}

fn on_host(host: &str, path: &str) -> MatchPlan {
    MatchPlan {
        host: Some(host.to_owned()),
        ..at(path)
    }
}

fn with_headers(path: &str, wanted: &[(&'static str, &str)]) -> MatchPlan {
    MatchPlan {
        headers: wanted
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), (*value).to_owned()))
            .collect(),
        ..at(path)
    }
}
