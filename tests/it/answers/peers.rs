//! The service behind.

use super::*;

#[test]
fn upstream_failures_are_502_503_and_504() {
    let issuer = issuer();
    let dead = Closed::new();
    let silent = Origin::answering(|_, _| {});
    let broken = Origin::answering(|_, stream| stream.write_all(b"nonsense\r\n\r\n").unwrap());
    let slow = Origin::answering(|request, stream| {
        if request.line.contains("/busy/held") {
            std::thread::park_timeout(std::time::Duration::from_secs(20));
        }
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
    });
    let routes = ["dead", "silent", "broken", "busy", "nameless"].map(|name| {
        format!("{{ name: {name}, match: {{ path: /{name} }}, upstream: {name}, access: public }}")
    });
    let gateway = Setup::new(&issuer, slow.address())
        .upstreams(format!(
            "{{ dead: {{ peers: ['{}'] }},
                silent: {{ peers: ['{}'], timeouts: {{ read: 200ms }} }},
                broken: {{ peers: ['{}'] }},
                busy: {{ peers: ['{}'], breaker: {{ max_in_flight: 1 }} }},
                nameless: {{ peers: ['no-such-host.invalid:80'] }} }}",
            dead.address(),
            silent.address(),
            broken.address(),
            slow.address(),
        ))
        .routes(format!("[{}]", routes.join(", ")))
        .start();
    let status = |path: &str| get(gateway.address(), path, None);
    problem(&status("/dead"), 502);
    problem(&status("/broken"), 502);
    problem(&status("/silent"), 504);
    let nameless = status("/nameless");
    problem(&nameless, 503);
    assert!(nameless.header("retry-after").is_some());
    let mut held = Connection::open(gateway.address());
    held.send("GET /busy/held HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the held request is in flight", || {
        gateway.metric("portcullis_upstream_in_flight{upstream=\"busy\"}") == 1.0
    });
    let busy = status("/busy");
    problem(&busy, 503);
    assert!(busy.header("retry-after").is_some());
    for (upstream, outcome) in [
        ("dead", "connect_failed"),
        ("broken", "failed"),
        ("silent", "timeout"),
    ] {
        let series = format!(
            "portcullis_upstream_requests_total{{outcome=\"{outcome}\",upstream=\"{upstream}\"}}"
        );
        gateway.counts(&series, 1.0);
    }
}

/// A peer that closed its pooled connection is asked again on a new one: it is not a peer that refused.
#[test]
fn a_connection_that_died_in_the_pool_costs_no_request() {
    let issuer = issuer();
    let origin = Origin::answering(|_, stream| {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
        // Without `Connection: close`: the gateway keeps the connection and finds it dead.
        stream.shutdown(std::net::Shutdown::Both).unwrap();
    });
    let gateway = Setup::new(&issuer, origin.address())
        .routes(reader_route())
        .start();
    for _ in 0..20 {
        assert_eq!(get(gateway.address(), "/open", None).status, 200);
    }
}
