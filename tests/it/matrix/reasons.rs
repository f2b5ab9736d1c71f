//! The reasons to refuse that no credential brings about, each brought about.

use std::io::Write;
use std::time::Duration;

use portcullis::clock::Clock;
use portcullis::demo::issuer::{Endpoint, Fault, Issuer, IssuerOptions};
use portcullis::demo::mint::ClaimsEdit;

use crate::support::{Closed, Connection, Gateway, Origin, Scratch, Setup, Wire, eventually, get};

pub(super) const READER: &str = "eazybank-accounts-reader-cc";

/// One way to be refused.
pub(super) struct Reached {
    pub(super) how: &'static str,
    pub(super) status: u64,
    pub(super) reason: String,
}

pub(super) fn all() -> Vec<Reached> {
    let mut reached = heads();
    reached.extend(bodies());
    reached.extend(policies());
    reached.extend(pools());
    reached.extend(keys());
    reached.extend(introspection());
    reached
}

/// Sends one request; the reason is what the counter of rejections says, which counts what never became a request too.
pub(super) fn refused(gateway: &Gateway, how: &'static str, send: impl FnOnce() -> u16) -> Reached {
    let before = rejections(gateway);
    let status = u64::from(send());
    let mut new = Vec::new();
    eventually(&format!("a rejection is counted: {how}"), || {
        new = rejections(gateway);
        new.retain(|line| !before.contains(line));
        !new.is_empty()
    });
    assert_eq!(new.len(), 1, "{how}: {new:?}");
    let reason = new[0].split("reason=\"").nth(1).unwrap();
    Reached {
        how,
        status,
        reason: reason.split('"').next().unwrap().to_owned(),
    }
}

/// Samples that are not zero.
fn rejections(gateway: &Gateway) -> Vec<String> {
    gateway
        .metrics()
        .lines()
        .filter(|line| line.starts_with("portcullis_rejections_total{") && !line.ends_with(" 0"))
        .map(str::to_owned)
        .collect()
}

fn raw(gateway: &Gateway, how: &'static str, bytes: impl AsRef<[u8]>) -> Reached {
    refused(gateway, how, || {
        Connection::open(gateway.address())
            .send(bytes)
            .answer()
            .status
    })
}

pub(super) fn issuer(clock: &Clock) -> Issuer {
    Issuer::start_blocking(IssuerOptions {
        clock: clock.clone(),
        ..IssuerOptions::default()
    })
    .unwrap()
}

fn heads() -> Vec<Reached> {
    let (issuer, origin) = (issuer(&Clock::system()), Origin::start());
    let gateway = Setup::new(&issuer, origin.address())
        .limits("{ header_timeout: 1s, header_fields: 100 }")
        .routes(
            "[{ name: open, match: { path: /open, methods: [GET, POST] }, upstream: origin, access: public }]",
        )
        .start();
    let head = |line: &str, fields: &str| format!("{line} HTTP/1.1\r\n{fields}\r\n");
    let host = "Host: a\r\n";
    let many: String = (0..101).map(|n| format!("x-{n}: 1\r\n")).collect();
    let long = format!("{host}X: {}\r\n", "a".repeat(33 * 1024));
    let both = format!("{host}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n");
    let mut reached: Vec<Reached> = [
        ("a path with dots", head("GET /open/../x", host)),
        ("a path with an encoded slash", head("GET /open%2fx", host)),
        ("a path with a semicolon", head("GET /open;x=1", host)),
        ("a path with an empty segment", head("GET //open", host)),
        (
            "a blank in the target, which Pingora escapes",
            head("GET /open x", host),
        ),
        ("no Host", head("GET /open", "")),
        ("two Hosts", head("GET /open", "Host: a\r\nHost: b\r\n")),
        ("a Host that is none", head("GET /open", "Host: u@a\r\n")),
        ("Host and target disagree", head("GET http://b/open", host)),
        (
            "Content-Length and Transfer-Encoding",
            head("POST /open", &both),
        ),
        (
            "Content-Length twice",
            head(
                "POST /open",
                &format!("{host}Content-Length: 0\r\nContent-Length: 0\r\n"),
            ),
        ),
        ("a head that is none", "nonsense\r\n\r\n".to_owned()),
        (
            "HTTP/2 without TLS",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        ),
        (
            "a head that never ends",
            "GET /open HTTP/1.1\r\nHost: a\r\n".to_owned(),
        ),
        (
            "101 fields of 100",
            head("GET /open", &format!("{host}{many}")),
        ),
        ("a head of 33 KiB", head("GET /open", &long)),
        ("no such path", head("GET /nowhere", host)),
        ("a path that only begins alike", head("GET /openx", host)),
        ("another method", head("DELETE /open", host)),
        ("TRACE", head("TRACE /open", host)),
        ("CONNECT", head("CONNECT a:443", "Host: a:443\r\n")),
    ]
    .into_iter()
    .map(|(how, bytes)| raw(&gateway, how, bytes))
    .collect();
    assert!(origin.received().is_empty());
    reached.sort_by_key(|reached| reached.status);
    reached
}

fn bodies() -> Vec<Reached> {
    let clock = Clock::manual(Clock::system().unix());
    let (issuer, origin, wire) = (issuer(&clock), Origin::start(), Wire::start());
    let gateway = Setup::new(&issuer, origin.address())
        .upstreams(format!(
            "{{ origin: {{ peers: ['{}'] }}, slow: {{ peers: ['{}'] }} }}",
            origin.address(),
            wire.address()
        ))
        .routes(
            "[{ name: small, match: { path: /small }, upstream: origin, access: public, body_bytes: 10B },
              { name: open, match: { path: /open }, upstream: slow, access: public }]",
        )
        .clock(clock.clone())
        .start();
    let declared = "POST /small HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n";
    let counted =
        "POST /small HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nhello world\r\n";
    vec![
        raw(&gateway, "a body that says it is too large", declared),
        raw(&gateway, "a body that turns out too large", counted),
        refused(&gateway, "a body that trickles", || {
            let mut client = Connection::open(gateway.address());
            client.send("POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nslow");
            let mut upstream = wire.accept();
            upstream.head();
            // The clock of a body starts with its first piece.
            assert_eq!(upstream.exactly(4), b"slow");
            clock.advance(Duration::from_secs(11));
            client.send("slow").answer().status
        }),
    ]
}

fn policies() -> Vec<Reached> {
    let system = Clock::system();
    let (ours, other, origin) = (issuer(&system), issuer(&system), Origin::start());
    let gateway = Setup::new(&ours, origin.address())
        .issuers(format!(
            "{{ keycloak: {{ issuer: '{}', audience: [eazybank-gateway] }},
                other: {{ issuer: '{}', audience: [eazybank-gateway] }} }}",
            ours.url(),
            other.url()
        ))
        .routes(
            "[{ name: issuer, match: { path: /issuer }, upstream: origin, access: { issuers: [other] } },
              { name: client, match: { path: /client }, upstream: origin, access: { clients: [other] } },
              { name: client-role, match: { path: /client-role }, upstream: origin,
                access: { client_roles: { accounts-api: [writer] } } },
              { name: any-scope, match: { path: /any-scope }, upstream: origin,
                access: { any_scope: [a, b] } },
              { name: limited, match: { path: /limited }, upstream: origin, access: {},
                rate_limit: { per: client, requests: 1, every: 1m } }]",
        )
        .start();
    let token = ours.token(READER, &["accounts:read"]);
    let ask = |path: &str| get(gateway.address(), path, Some(&token)).status;
    assert_eq!(ask("/limited"), 200);
    vec![
        refused(
            &gateway,
            "a token of an issuer that the route does not name",
            || ask("/issuer"),
        ),
        refused(&gateway, "a client that the route does not name", || {
            ask("/client")
        }),
        refused(&gateway, "a client role that the client lacks", || {
            ask("/client-role")
        }),
        refused(&gateway, "none of the scopes that would do", || {
            ask("/any-scope")
        }),
        refused(&gateway, "one request more than the quota", || {
            ask("/limited")
        }),
    ]
}

fn pools() -> Vec<Reached> {
    let (closed, broken, silent, held) = (
        Closed::new(),
        Origin::answering(|_, stream| stream.write_all(b"nonsense\r\n\r\n").unwrap()),
        Origin::answering(|_, _| {}),
        Wire::start(),
    );
    let names = [
        "closed", "failing", "broken", "silent", "busy", "nameless", "newer",
    ];
    let routes = names.map(|name| {
        format!("{{ name: {name}, match: {{ path: /{name} }}, upstream: {name}, access: public }}")
    });
    let gateway = Setup::new(&issuer(&Clock::system()), held.address())
        .upstreams(format!(
            "{{ closed: {{ peers: ['{}'] }},
                failing: {{ peers: ['{}'], breaker: {{ window: 1 }} }},
                broken: {{ peers: ['{}'] }},
                silent: {{ peers: ['{}'], timeouts: {{ read: 200ms }} }},
                busy: {{ peers: ['{}'], breaker: {{ max_in_flight: 1 }} }},
                newer: {{ peers: ['{0}'], http: 2 }},
                nameless: {{ peers: ['no-such-host.invalid:80'] }} }}",
            closed.address(),
            closed.address(),
            broken.address(),
            silent.address(),
            held.address(),
        ))
        .routes(format!("[{}]", routes.join(",\n")))
        .start();
    let ask = |path: &str| get(gateway.address(), path, None).status;
    let mut first = Connection::open(gateway.address());
    first.send("GET /busy HTTP/1.1\r\nHost: a\r\n\r\n");
    let _upstream = held.accept();
    refused(&gateway, "the one failure of the window", || {
        ask("/failing")
    });
    vec![
        refused(&gateway, "a pool whose requests have failed", || {
            ask("/failing")
        }),
        refused(
            &gateway,
            "more requests in flight than the pool takes",
            || ask("/busy"),
        ),
        raw(
            &gateway,
            "HTTP/1.0 to a pool that speaks HTTP/2",
            "GET /newer HTTP/1.0\r\nHost: a\r\n\r\n",
        ),
        refused(&gateway, "a pool whose only peer has no address", || {
            ask("/nameless")
        }),
        refused(
            &gateway,
            "a pool whose only peer refuses connections",
            || ask("/closed"),
        ),
        refused(&gateway, "an upstream that speaks no HTTP", || {
            ask("/broken")
        }),
        refused(&gateway, "an upstream that says nothing", || ask("/silent")),
    ]
}

fn keys() -> Vec<Reached> {
    let clock = Clock::manual(Clock::system().unix());
    let (issuer, origin) = (issuer(&clock), Origin::start());
    issuer.set_fault(Endpoint::Certs, Fault::Status(500));
    let gateway = Setup::new(&issuer, origin.address())
        .clock(clock.clone())
        .start_unready();
    let ask = |token: &str| get(gateway.address(), "/accounts", Some(token)).status;
    let token = || issuer.token(READER, &[]);
    let none = refused(&gateway, "no keys yet", || ask(&token()));
    issuer.clear_fault(Endpoint::Certs);
    gateway.wait_ready();
    assert_eq!(ask(&token()), 200);
    issuer.set_down(true).unwrap();
    let nobody = issuer.mint(ClaimsEdit::of(READER, &[]).header(|header| {
        header.insert("kid".to_owned(), "nobody".into());
    }));
    let unknown = refused(&gateway, "an unknown kid while the issuer is down", || {
        ask(&nobody)
    });
    clock.advance(Duration::from_secs(25 * 3600));
    let stale = refused(&gateway, "keys of the day before yesterday", || {
        ask(&token())
    });
    vec![none, unknown, stale]
}

fn introspection() -> Vec<Reached> {
    let (issuer, origin, files) = (issuer(&Clock::system()), Origin::start(), Scratch::new());
    let secret = files.file("secret", "demo-only-gateway");
    let asking = Setup::new(&issuer, origin.address())
        .issuers(format!(
            "{{ keycloak: {{ issuer: '{}', audience: [eazybank-gateway],
                introspection: {{ client_id: eazybank-gateway, client_secret: '${{file:{secret}}}', timeout: 1s,
                  max_in_flight: 1, breaker: {{ failures: 1, open: 1m }} }} }} }}",
            issuer.url()
        ))
        .start();
    let silent = Setup::new(&issuer, origin.address()).start();
    let call =
        |gateway: &Gateway, token: &str| get(gateway.address(), "/accounts", Some(token)).status;
    let mut reached = vec![
        refused(&silent, "an opaque token and nobody to ask", || {
            call(&silent, "opaque-1")
        }),
        refused(
            &asking,
            "an opaque token that the issuer does not know",
            || call(&asking, "opaque-2"),
        ),
    ];
    issuer.set_fault(Endpoint::Introspect, Fault::Hang);
    let asked = issuer.requests(Endpoint::Introspect);
    let mut held = Connection::open(asking.address());
    held.send("GET /accounts HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer opaque-3\r\n\r\n");
    eventually("the issuer is asked", || {
        issuer.requests(Endpoint::Introspect) > asked
    });
    reached.push(refused(
        &asking,
        "more questions than may be asked at once",
        || call(&asking, "opaque-4"),
    ));
    reached.push(refused(&asking, "an issuer that does not answer", || {
        held.answer().status
    }));
    reached.push(refused(
        &asking,
        "an issuer that did not answer just now",
        || call(&asking, "opaque-5"),
    ));
    reached
}
