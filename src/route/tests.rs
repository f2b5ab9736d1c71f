#![allow(clippy::unwrap_used)]

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

fn with_query(path: &str, wanted: &[(&str, &str)]) -> MatchPlan {
    MatchPlan {
        query: wanted
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        ..at(path)
    }
}

#[test]
fn a_path_covers_itself_and_what_is_beneath_it_on_segment_boundaries() {
    let table = table(vec![at("/accounts")]);
    for path in ["/accounts", "/accounts/", "/accounts/1", "/accounts/1/2/"] {
        assert_eq!(table.get(path), found(0), "{path}");
    }
    for path in [
        "/",
        "/account",
        "/accountsx",
        "/accounts.json",
        "/ACCOUNTS",
        "/x/accounts",
    ] {
        assert_eq!(table.get(path), Found::Nothing, "{path}");
    }
}

#[test]
fn the_root_covers_everything() {
    let table = table(vec![at("/")]);
    for path in ["/", "/a", "/a/", "/a/b/c"] {
        assert_eq!(table.get(path), found(0), "{path}");
    }
}

/// An escape changes how a path is written, not what an upstream reads: without this, `%3A` fell to the looser route.
#[test]
fn another_spelling_of_a_path_does_not_slip_past_its_route() {
    let table = table(vec![
        at("/v1"),
        at("/v1/accounts:export"),
        at("/v1/caf%C3%A9"),
        at("/v1/na\u{ef}ve"),
        MatchPlan {
            exact: true,
            ..at("/v1/a,b")
        },
    ]);
    for (target, route) in [
        ("/v1/accounts:export", 1),
        ("/v1/accounts%3Aexport", 1),
        ("/v1/accounts%3aexport/x", 1),
        ("/v1/caf%C3%A9", 2),
        ("/v1/caf%c3%a9/x%20y", 2),
        ("/v1/na%C3%AFve", 3),
        ("/v1/a,b", 4),
        ("/v1/a%2Cb", 4),
        ("/v1/a%2cb/c", 0),
        ("/v1/accounts%3Fexport", 0),
        ("/v1/a%20b", 0),
    ] {
        assert_eq!(table.get(target), found(route), "{target}");
    }
}

/// A server that decodes first and parses then (mod_rewrite did, CVE-2024-38474) ends the path at `%3F` and at `%23`.
#[test]
fn an_escaped_end_of_a_path_does_not_lead_to_another_route() {
    let exact = MatchPlan {
        exact: true,
        ..at("/contact")
    };
    let table = table(vec![at("/"), at("/accounts"), at("/tags"), exact]);
    for target in [
        "/accounts%3F",
        "/accounts%3fx",
        "/accounts%23/x",
        "/tags%23",
        "/contact%3F",
    ] {
        assert_eq!(table.get(target), Found::Ambiguous, "{target}");
    }
    for (target, route) in [
        ("/tags/c%23", 2),
        ("/accounts/what%3F/x", 1),
        ("/accounts/%3F", 1),
        ("/c%23", 0),
        ("/accounts?x=%23", 1),
    ] {
        assert_eq!(table.get(target), found(route), "{target}");
    }
}

#[test]
fn an_exact_path_covers_only_itself() {
    let exact = MatchPlan {
        exact: true,
        ..at("/contact")
    };
    let table = table(vec![exact]);
    assert_eq!(table.get("/contact"), found(0));
    assert_eq!(table.get("/contact?x=1"), found(0));
    for path in ["/contact/", "/contact/1", "/contacts", "/"] {
        assert_eq!(table.get(path), Found::Nothing, "{path}");
    }
}

#[test]
fn an_exact_root_covers_only_the_root() {
    let table = table(vec![MatchPlan {
        exact: true,
        ..at("/")
    }]);
    assert_eq!(table.get("/"), found(0));
    assert_eq!(table.get("/a"), Found::Nothing);
}

#[test]
fn an_exact_path_leaves_what_is_beneath_it_to_the_others() {
    let exact = MatchPlan {
        exact: true,
        ..at("/a")
    };
    let table = table(vec![at("/a"), exact]);
    assert_eq!(table.get("/a"), found(1));
    assert_eq!(table.get("/a/"), found(0));
    assert_eq!(table.get("/a/b"), found(0));
}

#[test]
fn the_longest_path_decides_in_any_order() {
    let table = table(vec![at("/a"), at("/a/b/c"), at("/a/b"), at("/")]);
    assert_eq!(table.get("/a/b/c/d"), found(1));
    assert_eq!(table.get("/a/b/cc"), found(2));
    assert_eq!(table.get("/a/bb"), found(0));
    assert_eq!(table.get("/aa"), found(3));
}

#[test]
fn the_longest_path_outranks_a_more_specific_host_and_any_condition() {
    let table = table(vec![
        on_host("api.example.com", "/a"),
        with_headers("/a", &[("x-canary", "1")]),
        at("/a/b"),
    ]);
    let ask = Ask {
        target: "/a/b",
        headers: &[("x-canary", "1")],
        ..GET
    };
    assert_eq!(table.ask(ask), found(2));
}

#[test]
fn an_exact_host_outranks_a_wildcard_and_that_outranks_any() {
    let table = table(vec![
        at("/a"),
        on_host("*.example.com", "/a"),
        on_host("api.example.com", "/a"),
        on_host("*.api.example.com", "/a"),
    ]);
    for (host, route) in [
        ("api.example.com", 2),
        ("www.example.com", 1),
        ("x.y.example.com", 1),
        ("v1.api.example.com", 3),
        ("example.com", 0),
        ("badexample.com", 0),
        ("example.com.evil.org", 0),
    ] {
        let ask = Ask {
            host,
            target: "/a",
            ..GET
        };
        assert_eq!(table.ask(ask), found(route), "{host}");
    }
}

#[test]
fn a_host_that_is_not_the_routes_finds_nothing() {
    let table = table(vec![
        on_host("api.example.com", "/a"),
        on_host("*.x.org", "/a"),
    ]);
    for host in ["example.com", "x.org", ".x.org", "api.example.com.x"] {
        let ask = Ask {
            host,
            target: "/a",
            ..GET
        };
        assert_eq!(table.ask(ask), Found::Nothing, "{host}");
    }
}

#[test]
fn a_more_specific_host_outranks_conditions() {
    let table = table(vec![
        with_headers("/a", &[("x-canary", "1"), ("x-second", "2")]),
        on_host("api.example.com", "/a"),
    ]);
    let ask = Ask {
        target: "/a",
        headers: &[("x-canary", "1"), ("x-second", "2")],
        ..GET
    };
    assert_eq!(table.ask(ask), found(1));
}

#[test]
fn more_conditions_outrank_fewer() {
    let both = MatchPlan {
        query: vec![("v".to_owned(), "2".to_owned())],
        ..with_headers("/a", &[("x-canary", "1")])
    };
    let table = table(vec![
        at("/a"),
        with_headers("/a", &[("x-canary", "1")]),
        both,
    ]);
    let canary: &[(&str, &str)] = &[("X-Canary", "1")];
    for (target, headers, route) in [
        ("/a?v=2", canary, 2),
        ("/a", canary, 1),
        ("/a?v=3", canary, 1),
        ("/a?v=2", &[], 0),
    ] {
        let ask = Ask {
            target,
            headers,
            ..GET
        };
        assert_eq!(table.ask(ask), found(route), "{target} {headers:?}");
    }
}

#[test]
fn equally_specific_routes_keep_the_order_of_the_file() {
    let table = table(vec![
        with_headers("/a", &[("x-first", "1")]),
        with_headers("/a", &[("x-second", "1")]),
    ]);
    let ask = Ask {
        target: "/a",
        headers: &[("x-second", "1"), ("x-first", "1")],
        ..GET
    };
    assert_eq!(table.ask(ask), found(0));
}

#[test]
fn a_header_condition_needs_every_value_to_be_the_wanted_one() {
    let table = table(vec![with_headers("/a", &[("x-canary", "1")])]);
    for (headers, expected) in [
        (&[("X-CANARY", "1")][..], found(0)),
        (&[("x-canary", "1"), ("x-canary", "1")], found(0)),
        (&[("x-canary", "1"), ("x-canary", "2")], Found::Nothing),
        (&[("x-canary", "2"), ("x-canary", "1")], Found::Nothing),
        (&[("x-canary", "1, 1")], Found::Nothing),
        (&[("x-canary", "")], Found::Nothing),
        (&[("x-canary", "\u{e9}")], Found::Nothing),
        (&[("x_canary", "1")], Found::Nothing),
        (&[], Found::Nothing),
    ] {
        let ask = Ask {
            target: "/a",
            headers,
            ..GET
        };
        assert_eq!(table.ask(ask), expected, "{headers:?}");
    }
}

#[test]
fn a_query_condition_needs_every_pair_to_be_the_wanted_one() {
    let table = table(vec![with_query("/a", &[("v", "2 b")])]);
    for (target, expected) in [
        ("/a?v=2%20b", found(0)),
        ("/a?v=2+b&x=1", found(0)),
        ("/a?x=1&%76=2+b", found(0)),
        ("/a?v=2+b&v=2+b", found(0)),
        ("/a?v=2+b&v=1", Found::Nothing),
        ("/a?v=1&v=2+b", Found::Nothing),
        ("/a?V=2+b", Found::Nothing),
        ("/a?v", Found::Nothing),
        ("/a?", Found::Nothing),
        ("/a", Found::Nothing),
    ] {
        assert_eq!(table.get(target), expected, "{target}");
    }
}

#[test]
fn a_condition_that_fails_leaves_the_request_to_the_next_place() {
    let table = table(vec![with_headers("/a/b", &[("x-canary", "1")]), at("/a")]);
    assert_eq!(table.get("/a/b"), found(1));
}

#[test]
fn another_method_is_405_and_never_falls_to_a_looser_route() {
    let table = table(vec![
        methods("/a/b", &[Method::GET]),
        at("/a"),
        MatchPlan {
            methods: vec![Method::PUT],
            ..on_host("api.example.com", "/c")
        },
        at("/c"),
        MatchPlan {
            methods: vec![Method::DELETE],
            ..with_headers("/d", &[("x-canary", "1")])
        },
        at("/d"),
    ]);
    assert_eq!(table.method("POST", "/a/b/1"), allow("GET, HEAD"));
    assert_eq!(table.method("POST", "/c"), allow("PUT"));
    let ask = Ask {
        method: "POST",
        target: "/d",
        headers: &[("x-canary", "1")],
        ..GET
    };
    assert_eq!(table.ask(ask), allow("DELETE"));
    assert_eq!(table.method("POST", "/d"), found(5));
}

#[test]
fn routes_at_the_same_place_share_their_methods() {
    let table = table(vec![
        methods("/a", &[Method::GET]),
        methods("/a", &[Method::POST, Method::GET]),
        methods("/a", &[Method::DELETE]),
    ]);
    assert_eq!(table.get("/a"), found(0));
    assert_eq!(table.method("POST", "/a"), found(1));
    assert_eq!(table.method("DELETE", "/a/1"), found(2));
    assert_eq!(
        table.method("PATCH", "/a"),
        allow("GET, HEAD, POST, DELETE")
    );
}

#[test]
fn the_order_of_conditions_does_not_split_a_place() {
    let read = MatchPlan {
        methods: vec![Method::GET],
        ..with_headers("/a", &[("x-one", "1"), ("x-two", "2")])
    };
    let write = MatchPlan {
        methods: vec![Method::POST],
        ..with_headers("/a", &[("x-two", "2"), ("x-one", "1")])
    };
    let table = table(vec![read, write]);
    let ask = Ask {
        method: "POST",
        target: "/a",
        headers: &[("x-one", "1"), ("x-two", "2")],
        ..GET
    };
    assert_eq!(table.ask(ask), found(1));
}

#[test]
fn get_brings_head_with_it_and_head_alone_does_not_bring_get() {
    let table = table(vec![
        methods("/a", &[Method::GET]),
        methods("/b", &[Method::HEAD]),
    ]);
    assert_eq!(table.method("HEAD", "/a"), found(0));
    assert_eq!(table.method("GET", "/b"), allow("HEAD"));
}

#[test]
fn methods_are_compared_with_their_case() {
    let table = table(vec![methods("/a", &[Method::GET])]);
    assert_eq!(table.method("get", "/a"), allow("GET, HEAD"));
    assert_eq!(table.method("GETX", "/a"), allow("GET, HEAD"));
}

#[test]
fn a_route_for_any_method_takes_uncommon_ones() {
    let table = table(vec![at("/a")]);
    for method in ["OPTIONS", "PROPFIND", "PURGE"] {
        assert_eq!(table.method(method, "/a"), found(0), "{method}");
    }
}

#[test]
fn trace_track_and_connect_never_pass() {
    let table = table(vec![
        at("/any"),
        methods("/listed", &[Method::TRACE, Method::CONNECT, Method::POST]),
    ]);
    for method in ["TRACE", "TRACK", "CONNECT"] {
        assert_eq!(
            table.method(method, "/any"),
            allow("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
            "{method}"
        );
        assert_eq!(table.method(method, "/listed"), allow("POST"), "{method}");
    }
}

#[test]
fn no_routes_find_nothing() {
    assert_eq!(table(Vec::new()).get("/a/b"), Found::Nothing);
}

/// Each look-up hashes its prefix: a look-up for each of 15,000 segments took 72 ms.
#[test]
fn a_path_of_many_segments_is_cut_to_the_longest_route() {
    let path = "/a".repeat(15_000);
    assert_eq!(no_longer_than(&path, 5), "/a/a");
    assert_eq!(no_longer_than(&path, 4), "/a/a");
    assert_eq!(no_longer_than(&path, 1), "/");
    assert_eq!(no_longer_than(&path, 0), "/");
    assert_eq!(no_longer_than("/abc", 4), "/abc");
    assert_eq!(no_longer_than("/abcd/e", 5), "/abcd");
    assert_eq!(no_longer_than("/abcdefg", 3), "/");

    let table = table(vec![at("/"), at("/a/a"), at("/a/a/a/b")]);
    assert_eq!(table.get(&path), found(1));
    assert_eq!(table.get("/a/a/a/b/c"), found(2));
    assert_eq!(table.get("/a/a/a/bcd"), found(1));
    assert_eq!(table.get("/accounts-of-some-length"), found(0));
}
