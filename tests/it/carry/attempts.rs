//! Who is asked, how often, and for how long.

use super::*;

#[test]
fn weights_share_requests_out_exactly() {
    let (heavy, light) = (Origin::start(), Origin::start());
    let gateway = in_front_of(&format!(
        "{{ peers: [{{ address: '{}', weight: 2 }}, '{}'] }}",
        heavy.address(),
        light.address()
    ))
    .start_unready();
    let mut client = Connection::open(gateway.address());
    for _ in 0..300 {
        let answer = client
            .send("GET /open HTTP/1.1\r\nHost: a\r\n\r\n")
            .answer();
        assert_eq!(answer.status, 200);
    }
    assert_eq!((heavy.received().len(), light.received().len()), (200, 100));
}

#[test]
fn a_refused_connect_moves_on_for_every_method() {
    let (closed, origin) = (Closed::new(), Origin::start());
    let gateway = in_front_of(&format!(
        "{{ peers: ['{}', '{}'] }}",
        closed.address(),
        origin.address()
    ))
    .start_unready();
    let methods = [
        "GET", "OPTIONS", "HEAD", "DELETE", "POST", "PUT", "PATCH", "PURGE",
    ];
    for method in methods {
        let body = if matches!(method, "POST" | "PUT" | "PATCH") {
            "Content-Length: 5\r\n\r\nhello"
        } else {
            "\r\n"
        };
        let answer = Connection::open(gateway.address())
            .send(format!("{method} /open HTTP/1.1\r\nHost: a\r\n{body}"))
            .answer_to(method == "HEAD");
        assert_eq!(answer.status, 200, "{method}");
    }
    let received = origin.received();
    assert_eq!(received.len(), methods.len());
    for (received, method) in received.iter().zip(methods) {
        assert!(received.line.starts_with(method));
        let whole = matches!(method, "POST" | "PUT" | "PATCH");
        assert_eq!(received.body == b"hello", whole, "{method}");
    }
    // Every second request met the closed port: a second attempt takes no turn of its own.
    let requests = methods.len() as f64;
    gateway.counts(&carried("ok"), requests);
    gateway.counts(&carried("connect_failed"), requests / 2.0);
    assert_eq!(
        gateway.access_log(methods.len())[0]["peer"],
        origin.address().to_string()
    );
}

#[test]
fn a_pool_of_closed_ports_is_502() {
    let closed = [Closed::new(), Closed::new()];
    let gateway = in_front_of(&format!(
        "{{ peers: ['{}', '{}'] }}",
        closed[0].address(),
        closed[1].address()
    ))
    .start_unready();
    let answer = get(gateway.address(), "/open", None);
    assert_eq!(answer.status, 502);
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json")
    );
    gateway.counts(&carried("connect_failed"), 2.0);
    gateway.counts(&carried("ok"), 0.0);
    gateway.counts(IN_FLIGHT, 0.0);
    let log = gateway.access_log(1);
    assert_eq!(log[0]["reason"], "upstream_connect");
    assert_eq!(log[0]["upstream"], "origin");
    assert!(log[0]["peer"].is_null());
}

#[test]
fn attempts_are_respected() {
    let closed = [Closed::new(), Closed::new(), Closed::new()];
    let origin = Origin::start();
    for (attempts, status) in [(1, 502), (2, 502), (3, 502), (4, 200)] {
        let gateway = in_front_of(&format!(
            "{{ peers: ['{}', '{}', '{}', '{}'], retries: {{ attempts: {attempts} }} }}",
            closed[0].address(),
            closed[1].address(),
            closed[2].address(),
            origin.address(),
        ))
        .start_unready();
        let answer = get(gateway.address(), "/open", None);
        assert_eq!(answer.status, status, "{attempts} attempts");
        gateway.counts(&carried("connect_failed"), f64::from(attempts.min(3)));
    }
    assert_eq!(origin.received().len(), 1);
}

#[test]
fn a_connect_that_hangs_is_504_or_moves_on() {
    let (full, origin) = (Full::new(), Origin::start());
    let gateway = in_front_of(&format!(
        "{{ peers: ['{}'], timeouts: {{ connect: 200ms }} }}",
        full.address()
    ))
    .start_unready();
    assert_eq!(get(gateway.address(), "/open", None).status, 504);
    gateway.counts(&carried("timeout"), 1.0);
    let gateway = in_front_of(&format!(
        "{{ peers: ['{}', '{}'], timeouts: {{ connect: 200ms }} }}",
        full.address(),
        origin.address()
    ))
    .start_unready();
    assert_eq!(get(gateway.address(), "/open", None).status, 200);
    gateway.counts(&carried("connect_failed"), 1.0);
}

#[test]
fn a_silent_upstream_is_504_and_its_connection_is_dropped() {
    let wire = Wire::start();
    let gateway = in_front_of(&format!(
        "{{ peers: ['{}'], timeouts: {{ read: 200ms }} }}",
        wire.address()
    ))
    .start_unready();
    let (mut client, mut upstream) =
        asked(&gateway, &wire, "GET /open HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer().status, 504);
    // A late answer must never meet the next request.
    assert!(upstream.is_closed());
    gateway.counts(&carried("timeout"), 1.0);
}

#[test]
fn a_route_that_takes_too_long_is_504() {
    let wire = Wire::start();
    let gateway = in_front_of(&format!("{{ peers: ['{}'] }}", wire.address()))
        .routes(
            "[{ name: hasty, match: { path: /hasty }, upstream: origin, access: public, timeout: 300ms }]",
        )
        .start_unready();
    let began = Instant::now();
    let (mut client, _upstream) = asked(&gateway, &wire, "GET /hasty HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = client.answer();
    assert_eq!(answer.status, 504);
    assert!(answer.text().contains("in time"), "{}", answer.text());
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(300), "{took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
}
