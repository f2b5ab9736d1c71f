//! Which of several routes decides, alone.

use super::*;

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
