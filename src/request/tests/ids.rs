//! The names of a request and of its trace.

use super::*;

#[test]
fn a_safe_request_id_of_the_callers_is_kept() {
    let longest = "x".repeat(128);
    for id in ["1", "a.b_c-D9", "..", longest.as_str()] {
        let kept = RequestId::of(&fields(&[("X-Request-Id", id)]));
        assert_eq!(kept.as_str(), id);
    }
}

#[test]
fn any_other_request_id_is_replaced() {
    let too_long = "x".repeat(129);
    for headers in [
        &[][..],
        &[("x-request-id", "")],
        &[("x-request-id", too_long.as_str())],
        &[("x-request-id", "a b")],
        &[("x-request-id", "a/b")],
        &[("x-request-id", "a:b")],
        &[("x-request-id", "\"a\"")],
        &[("x-request-id", "${jndi:ldap://x}")],
        &[("x-request-id", "caf\u{e9}")],
        &[("x-request-id", "a"), ("x-request-id", "a")],
        &[("x_request_id", "a")],
    ] {
        let fresh = RequestId::of(&fields(headers));
        let text = fresh.as_str();
        assert_eq!(text.len(), 32, "{headers:?}");
        assert!(text.bytes().all(|b| b.is_ascii_hexdigit()), "{headers:?}");
    }
    assert_ne!(RequestId::fresh(), RequestId::fresh());
}

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[test]
fn a_valid_traceparent_is_passed_on() {
    for parent in [
        PARENT,
        "00-00000000000000000000000000000001-0000000000000001-00",
        "00-ffffffffffffffffffffffffffffffff-ffffffffffffffff-ff",
    ] {
        let trace = Trace::of(&fields(&[("Traceparent", parent)]));
        assert_eq!(trace.parent(), parent);
        assert_eq!(trace.id(), &parent[3..35]);
        assert!(!trace.started_here());
    }
}

#[test]
fn any_other_traceparent_starts_a_new_trace() {
    for headers in [
        &[][..],
        &[("traceparent", "")],
        &[("traceparent", PARENT), ("traceparent", PARENT)],
        &[("traceparent", &PARENT[..54])],
        &[(
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-011",
        )],
        &[(
            "traceparent",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        )],
        &[(
            "traceparent",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        )],
        &[(
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        )],
        &[(
            "traceparent",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        )],
        &[(
            "traceparent",
            "00_0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331_01",
        )],
        &[(
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0g",
        )],
    ] {
        let trace = Trace::of(&fields(headers));
        assert!(trace.started_here(), "{headers:?}");
        let parent = trace.parent().to_str().unwrap();
        let again = Trace::of(&fields(&[("traceparent", parent)]));
        assert_eq!(
            (again.parent(), again.started_here()),
            (trace.parent(), false)
        );
    }
    assert_ne!(Trace::fresh(), Trace::fresh());
}

#[test]
fn no_headers_are_needed_for_fresh_names() {
    let none = HeaderMap::new();
    assert!(Trace::of(&none).started_here());
    assert_eq!(RequestId::of(&none).as_str().len(), 32);
}
