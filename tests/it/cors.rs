//! Requests of browsers from other origins: preflights that the gateway answers, and fields that let a page's script
//! read an answer.

use std::io::Write;
use std::net::TcpStream;

use http::{Method, Request};
use portcullis::demo::issuer::{Issuer, IssuerOptions};
use rustls::version::{TLS12, TLS13};

use crate::support::{
    Answer, Authority, Closed, Connection, Gateway, Http2, Origin, Received, Scratch, Setup, send,
};

const READER: &str = "eazybank-accounts-reader-cc";
const APP: &str = "https://app.example.com";
const CORS: &str = "cors: { origins: ['https://app.example.com', 'http://localhost:3000'],
    headers: [authorization, content-type], expose: [ETag], max_age: 1h }";

fn issuer() -> Issuer {
    Issuer::start_blocking(IssuerOptions::default()).unwrap()
}

/// A service with a mind of its own about CORS.
fn opinionated() -> Origin {
    let respond = |_: &Received, stream: &mut TcpStream| {
        let _ = stream.write_all(
            b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nAccess-Control-Allow-Credentials: true\r\n\
              access-control-expose-headers: X-Secret\r\nVary: Accept-Encoding\r\nContent-Length: 5\r\n\r\nhello",
        );
    };
    Origin::answering(respond)
}

fn start(issuer: &Issuer, origin: &Origin) -> Gateway {
    Setup::new(issuer, origin.address())
        .upstreams(format!(
            "{{ origin: {{ peers: ['{}'] }}, gone: {{ peers: ['{}'] }} }}",
            origin.address(),
            Closed::new().address()
        ))
        .routes(format!(
            "[{{ name: read, match: {{ path: /accounts, methods: [GET] }}, upstream: origin,
                access: {{ scopes: ['accounts:read'] }}, {CORS},
                rate_limit: {{ per: client, requests: 2, every: 1h }} }},
              {{ name: write, match: {{ path: /accounts, methods: [POST, PUT] }}, upstream: origin, access: {{}},
                body_bytes: 10B, cors: {{ origins: ['https://admin.example.com'], headers: [authorization] }} }},
              {{ name: any, match: {{ path: /any, exact: true }}, upstream: origin, access: public,
                cors: {{ origins: ['*'], methods: [GET] }} }},
              {{ name: gone, match: {{ path: /gone, exact: true }}, upstream: gone, access: public, {CORS} }},
              {{ name: own, match: {{ path: /own, exact: true }}, upstream: origin, access: public }},
              {{ name: plain, match: {{ path: /plain, methods: [GET, OPTIONS] }}, upstream: origin, access: {{}} }}]"
        ))
        .start()
}

fn fields(origin: &str, method: &str) -> String {
    format!("Origin: {origin}\r\nAccess-Control-Request-Method: {method}\r\n")
}

fn preflight(gateway: &Gateway, path: &str, origin: &str, method: &str) -> Answer {
    let more = "Access-Control-Request-Headers: authorization\r\n";
    Connection::open(gateway.address())
        .send(format!(
            "OPTIONS {path} HTTP/1.1\r\nHost: a\r\n{}{more}\r\n",
            fields(origin, method)
        ))
        .answer()
}

/// Names and values of what tells a browser something.
fn told(answer: &Answer) -> Vec<(&str, &str)> {
    let telling = |name: &str| name.starts_with("access-control-") || name == "vary";
    let mut told: Vec<(&str, &str)> = answer
        .headers
        .iter()
        .filter(|(name, _)| telling(name))
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    told.sort_unstable();
    told
}

const SILENT: [(&str, &str); 1] = [("vary", "Origin")];

#[test]
fn a_preflight_is_answered_before_any_token_is_asked() {
    let (issuer, origin) = (issuer(), Origin::start());
    let gateway = start(&issuer, &origin);
    for from in [APP, "http://localhost:3000"] {
        let answer = preflight(&gateway, "/accounts/1", from, "GET");
        assert_eq!(
            (answer.status, told(&answer)),
            (
                204,
                vec![
                    (
                        "access-control-allow-headers",
                        "authorization, content-type"
                    ),
                    ("access-control-allow-methods", "GET, HEAD"),
                    ("access-control-allow-origin", from),
                    ("access-control-max-age", "3600"),
                    ("vary", "Origin"),
                ]
            )
        );
        // RFC 9110 section 8.6.
        assert!(answer.header("content-length").is_none());
        assert!(answer.header("transfer-encoding").is_none());
        assert!(answer.header("x-request-id").is_some());
        assert!(answer.header("www-authenticate").is_none());
    }
    assert!(origin.received().is_empty(), "the service saw a preflight");
    gateway.counts(
        "portcullis_requests_total{method=\"OPTIONS\",route=\"read\",status_class=\"2xx\"}",
        2.0,
    );
    let line = &gateway.access_log(2)[1];
    assert_eq!(
        (&line["route"], &line["status"]),
        (&"read".into(), &204.into())
    );
    assert!(line["reason"].is_null() && line["upstream"].is_null());
    let metrics = gateway.metrics();
    let mut refusals = metrics
        .lines()
        .filter(|line| line.starts_with("portcullis_rejections_total"));
    assert!(refusals.all(|line| line.ends_with(" 0")), "{metrics}");
}

#[test]
fn a_preflight_for_what_is_not_listed_allows_nothing() {
    let (issuer, origin) = (issuer(), Origin::start());
    let gateway = start(&issuer, &origin);
    for other in [
        "https://evil.example",
        "https://app.example.com.evil.example",
        "https://evilapp.example.com",
        "null",
    ] {
        let answer = preflight(&gateway, "/accounts", other, "GET");
        assert_eq!(
            (answer.status, told(&answer)),
            (204, SILENT.to_vec()),
            "{other}"
        );
    }
    assert!(origin.received().is_empty());
}

/// The route is that of the request that follows, not one that takes `OPTIONS`.
#[test]
fn the_method_that_is_asked_for_finds_the_route() {
    let (issuer, origin) = (issuer(), Origin::start());
    let gateway = start(&issuer, &origin);
    let admin = "https://admin.example.com";
    let answer = preflight(&gateway, "/accounts", admin, "PUT");
    assert_eq!(
        answer.header("access-control-allow-methods"),
        Some("POST, PUT")
    );
    assert_eq!(
        told(&preflight(&gateway, "/accounts", admin, "GET")),
        SILENT
    );
    assert_eq!(told(&preflight(&gateway, "/accounts", APP, "PUT")), SILENT);

    // Nothing to allow: the request is one like others.
    let unknown = preflight(&gateway, "/accounts", APP, "DELETE");
    assert_eq!(unknown.status, 405);
    assert_eq!(unknown.header("allow"), Some("GET, HEAD, POST, PUT"));
    assert_eq!(preflight(&gateway, "/accounts", APP, "TRACE").status, 405);
    assert_eq!(preflight(&gateway, "/nowhere", APP, "GET").status, 404);
    assert_eq!(preflight(&gateway, "/any", APP, "GET").status, 204);
    // `POST` is sent by browsers whatever the list says, so nothing may be said.
    assert!(told(&preflight(&gateway, "/any", APP, "POST")).is_empty());
    assert!(origin.received().is_empty());
}

#[test]
fn what_is_no_preflight_needs_its_route_and_token() {
    let (issuer, origin) = (issuer(), Origin::start());
    let gateway = start(&issuer, &origin);
    let ask = |path: &str, fields: &str| send(gateway.address(), "OPTIONS", path, fields, "");
    // No method asked for; two origins; two methods.
    assert_eq!(
        ask("/accounts", "Origin: https://app.example.com\r\n").status,
        405
    );
    let get = fields(APP, "GET");
    assert_eq!(
        ask("/accounts", &format!("{get}Origin: null\r\n")).status,
        405
    );
    assert_eq!(ask("/accounts", &get.repeat(2)).status, 405);
    // Doubtful targets stay doubtful.
    assert_eq!(ask("/accounts/%2e%2e/own", &get).status, 400);
    assert_eq!(ask("/accounts/a%2Fb", &get).status, 400);
    // Without CORS of ours.
    assert_eq!(ask("/plain", &get).status, 401);
    assert!(origin.received().is_empty());
    assert_eq!(ask("/own", &get).status, 200);
    assert_eq!(origin.only().line, "OPTIONS /own HTTP/1.1");
}

#[test]
fn a_preflight_is_a_whole_request_of_its_connection() {
    let (issuer, origin) = (issuer(), Origin::start());
    let gateway = start(&issuer, &origin);
    let token = issuer.token(READER, &["accounts:read"]);
    let mut caller = Connection::open(gateway.address());
    for body in ["", "0123456789abcdef"] {
        let length = body.len();
        let fields = fields(APP, "GET");
        caller.send(format!(
            "OPTIONS /accounts HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n{fields}\r\n{body}"
        ));
        assert_eq!(caller.answer().status, 204);
    }
    caller.send(format!(
        "GET /accounts HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n"
    ));
    assert_eq!(caller.answer().status, 200);
    assert_eq!(origin.only().line, "GET /accounts HTTP/1.1");
}

#[test]
fn the_services_own_fields_are_replaced() {
    let (issuer, origin) = (issuer(), opinionated());
    let gateway = start(&issuer, &origin);
    let token = issuer.token(READER, &["accounts:read"]);
    let ask = |origin: &str| {
        let fields = format!("Authorization: Bearer {token}\r\n{origin}");
        send(gateway.address(), "GET", "/accounts", &fields, "")
    };
    let allowed = ask("Origin: https://app.example.com\r\n");
    assert_eq!(allowed.status, 200);
    assert_eq!(
        told(&allowed),
        [
            ("access-control-allow-origin", APP),
            (
                "access-control-expose-headers",
                "X-Request-Id, WWW-Authenticate, Retry-After, ETag"
            ),
            ("vary", "Accept-Encoding"),
            ("vary", "Origin"),
        ]
    );
    // The service still decides what it does for an origin: it is no business of CORS to refuse one.
    let other = ask("Origin: https://evil.example\r\n");
    assert_eq!(other.status, 200);
    assert_eq!(
        told(&other),
        [("vary", "Accept-Encoding"), ("vary", "Origin")]
    );
    assert_eq!(
        origin.received()[0].header("origin"),
        Some("https://app.example.com")
    );

    let every = send(gateway.address(), "GET", "/any", "", "");
    assert_eq!(every.header("access-control-allow-origin"), Some("*"));
    assert_eq!(every.header("vary"), Some("Accept-Encoding"));
    assert!(every.header("access-control-allow-credentials").is_none());
    // Where CORS is not ours, we have no opinion.
    let own = send(gateway.address(), "GET", "/own", "Origin: null\r\n", "");
    assert_eq!(own.header("access-control-allow-credentials"), Some("true"));
    assert_eq!(own.header("vary"), Some("Accept-Encoding"));
}

#[test]
fn a_refusal_can_be_read_too() {
    let (issuer, origin) = (issuer(), Origin::start());
    let gateway = start(&issuer, &origin);
    let scopeless = issuer.token(READER, &[]);
    let good = issuer.token(READER, &["accounts:read"]);
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let ask = |method: &str, path: &str, from: &str, fields: &str, body: &str| {
        let fields = format!("Origin: {from}\r\n{fields}");
        send(gateway.address(), method, path, &fields, body)
    };
    for _ in 0..2 {
        assert_eq!(ask("GET", "/accounts", APP, &bearer(&good), "").status, 200);
    }
    let admin = "https://admin.example.com";
    for (status, from, answer) in [
        (401, APP, ask("GET", "/accounts", APP, "", "")),
        (
            403,
            APP,
            ask("GET", "/accounts", APP, &bearer(&scopeless), ""),
        ),
        (429, APP, ask("GET", "/accounts", APP, &bearer(&good), "")),
        (
            413,
            admin,
            ask("POST", "/accounts", admin, "", "0123456789a"),
        ),
        (502, APP, ask("GET", "/gone", APP, "", "")),
    ] {
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(answer.header("access-control-allow-origin"), Some(from));
        assert_eq!(answer.header("vary"), Some("Origin"));
        let exposed = answer.header("access-control-expose-headers").unwrap();
        assert!(exposed.contains("WWW-Authenticate") && exposed.contains("Retry-After"));
    }
    let other = ask("GET", "/accounts", "https://evil.example", "", "");
    assert_eq!((other.status, told(&other)), (401, SILENT.to_vec()));
    assert!(told(&ask("GET", "/nowhere", APP, "", "")).is_empty());
    // A used-up quota and a service that is away do not keep a browser from asking.
    assert_eq!(preflight(&gateway, "/accounts", APP, "GET").status, 204);
    assert_eq!(preflight(&gateway, "/gone", APP, "GET").status, 204);
}

#[test]
fn browsers_ask_over_http2() {
    let (issuer, origin) = (issuer(), Origin::start());
    let (authority, files) = (Authority::new(), Scratch::new());
    let pair = authority.certify("api.test").written_to(&files);
    let gateway = Setup::new(&issuer, origin.address())
        .listeners(format!("[{{ address: '127.0.0.1:1', tls: {{ {pair} }} }}]"))
        .routes(format!(
            "[{{ name: read, match: {{ path: /accounts, methods: [GET] }}, upstream: origin, access: {{}}, {CORS} }}]"
        ))
        .start();
    let config = authority.client(&[&TLS13, &TLS12], &["h2"]);
    let caller = Http2::open(gateway.address(), "api.test", config);
    let request = |method| {
        Request::builder()
            .method(method)
            .uri("https://api.test/accounts")
            .header("origin", APP)
    };
    let asks = request(Method::OPTIONS).header("access-control-request-method", "GET");
    let answer = caller.ask(asks.body(()).unwrap(), &[]);
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("access-control-allow-origin"), Some(APP));
    let answer = caller.ask(request(Method::GET).body(()).unwrap(), &[]);
    assert_eq!(answer.status, 401);
    assert_eq!(answer.header("access-control-allow-origin"), Some(APP));
    assert!(origin.received().is_empty());
}
