//! Which methods a place has, and what the others are told.

use super::*;

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
