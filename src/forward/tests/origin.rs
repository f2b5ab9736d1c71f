//! Where a request came from, and the names that it goes by.

use super::*;

const PROXY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 2, 3));

fn forged(way: Way) -> Way {
    way.sends("X-Forwarded-For", "203.0.113.9, 198.51.100.1")
        .sends("X-Forwarded-For", "198.51.100.2")
        .sends("X-Forwarded-Proto", "https")
        .sends("X-Forwarded-Host", "public.example.com")
        .sends("X-Forwarded-Port", "443")
}

#[test]
fn a_strangers_forwarded_fields_are_replaced() {
    let head = forged(Way::of(accounts())).go();
    assert_eq!(all(&head, "x-forwarded-for"), ["192.0.2.7"]);
    assert_eq!(all(&head, "x-forwarded-proto"), ["http"]);
    assert_eq!(all(&head, "x-forwarded-host"), ["api.example.com:8072"]);
    assert!(all(&head, "x-forwarded-port").is_empty());
}

#[test]
fn a_trusted_proxys_forwarded_fields_are_believed() {
    let trusted = ["10.0.0.0/8".parse().unwrap()];
    let caller = Caller {
        address: Some(PROXY),
        tls: false,
        trusted: &trusted,
    };
    let head = forged(Way::of(accounts())).from(caller);
    assert_eq!(
        all(&head, "x-forwarded-for"),
        ["203.0.113.9, 198.51.100.1, 198.51.100.2, 10.1.2.3"]
    );
    assert_eq!(all(&head, "x-forwarded-proto"), ["https"]);
    assert_eq!(all(&head, "x-forwarded-host"), ["public.example.com"]);

    let stranger = Caller {
        address: CALLER.address,
        ..caller
    };
    let head = forged(Way::of(accounts())).from(stranger);
    assert_eq!(all(&head, "x-forwarded-for"), ["192.0.2.7"]);
    assert_eq!(all(&head, "x-forwarded-proto"), ["http"]);
}

#[test]
fn a_trusted_proxy_that_says_two_things_is_not_believed() {
    let trusted = ["10.0.0.0/8".parse().unwrap()];
    let caller = Caller {
        address: Some(PROXY),
        tls: true,
        trusted: &trusted,
    };
    let head = Way::of(accounts())
        .sends("X-Forwarded-Proto", "http")
        .sends("X-Forwarded-Proto", "http")
        .sends("X-Forwarded-Host", "a.example")
        .sends("X-Forwarded-Host", "b.example")
        .from(caller);
    assert_eq!(all(&head, "x-forwarded-proto"), ["https"]);
    assert_eq!(all(&head, "x-forwarded-host"), ["api.example.com:8072"]);
    assert_eq!(all(&head, "x-forwarded-for"), ["10.1.2.3"]);
}

/// A proxy that hands on what its own callers say made `javascript` the beginning of a service's links.
#[test]
fn a_trusted_proxy_can_name_schemes_alone() {
    let trusted = ["10.0.0.0/8".parse().unwrap()];
    let caller = Caller {
        address: Some(PROXY),
        tls: false,
        trusted: &trusted,
    };
    for (said, sent) in [
        ("https", "https"),
        ("HTTPS", "HTTPS"),
        ("wss", "wss"),
        ("javascript", "http"),
        ("https, http", "http"),
        ("", "http"),
    ] {
        let way = Way::of(accounts()).sends("X-Forwarded-Proto", said);
        let head = way.from(caller);
        assert_eq!(all(&head, "x-forwarded-proto"), [sent], "{said}");
    }
}

#[test]
fn a_caller_without_an_address_is_trusted_by_nobody() {
    let trusted = ["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
    let caller = Caller {
        address: None,
        tls: true,
        trusted: &trusted,
    };
    let head = forged(Way::of(accounts())).from(caller);
    assert_eq!(all(&head, "x-forwarded-for"), ["unknown"]);
    assert_eq!(all(&head, "x-forwarded-proto"), ["https"]);
}

#[test]
fn request_id_and_trace_are_set_once() {
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let head = Way::of(accounts())
        .sends("X-Request-Id", "abc")
        .sends("Traceparent", parent)
        .sends("Tracestate", "v=1")
        .go();
    assert_eq!(all(&head, "x-request-id"), ["abc"]);
    assert_eq!(all(&head, "traceparent"), [parent]);
    assert_eq!(all(&head, "tracestate"), ["v=1"]);
}

#[test]
fn a_new_trace_takes_no_state_from_the_caller() {
    let head = Way::of(accounts())
        .sends("X-Request-Id", "a b")
        .sends("Traceparent", "00-0-0-0")
        .sends("Tracestate", "v=1")
        .sends("Tracestate", "w=2")
        .go();
    assert_eq!(all(&head, "x-request-id")[0].len(), 32);
    assert_eq!(all(&head, "traceparent")[0].len(), 55);
    assert!(all(&head, "tracestate").is_empty());
}
