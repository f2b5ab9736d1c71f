//! Which paths a route covers.

use super::*;

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
