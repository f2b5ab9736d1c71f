//! HTTP/2 to upstreams that is not gRPC, and mutual TLS to them.

use http::{Method, Request};
use portcullis::demo::issuer::{Issuer, IssuerOptions};
use rustls::version::TLS13;
use tonic::Code;

use crate::support::{
    Authority, Connection, First, Gateway, GrpcClient, GrpcOrigin, H2Origin, Http2, Scratch,
    SecureOrigin, Setup, eventually, get,
};

const NAME: &str = "api.test";
const PEER: &str = "origin.test";

/// A plain and a TLS listener, and one pool, given as its YAML.
struct Edge {
    gateway: Gateway,
    authority: Authority,
    _files: Scratch,
}

impl Edge {
    fn before(pool: &str) -> Self {
        let issuer = Issuer::start_blocking(IssuerOptions::default()).unwrap();
        let (authority, files) = (Authority::new(), Scratch::new());
        let pair = authority.certify(NAME).written_to(&files);
        let gateway = Setup::new(&issuer, ([127, 0, 0, 1], 1).into())
            .listeners(format!(
                "[{{ address: '127.0.0.1:1' }}, {{ address: '127.0.0.1:2', tls: {{ {pair} }} }}]"
            ))
            .upstreams(format!("{{ origin: {pool} }}"))
            .routes(
                "[{ name: open, match: { path: /open }, upstream: origin, access: public, strip_prefix: /open },
                  { name: talk, match: { path: /demo.Talk }, upstream: origin, access: public }]",
            )
            .start_unready();
        Edge {
            gateway,
            authority,
            _files: files,
        }
    }

    fn http2(&self) -> Http2 {
        let config = self.authority.client(&[&TLS13], &["h2"]);
        Http2::open(self.gateway.addresses()[1], NAME, config)
    }

    fn grpc(&self) -> GrpcClient {
        GrpcClient::open(self.gateway.addresses()[1], NAME, &self.authority.pem)
    }
}

fn plain(origin: &H2Origin) -> String {
    format!("{{ peers: ['{}'], http: 2 }}", origin.address())
}

#[test]
fn callers_of_both_versions_are_carried() {
    let origin = H2Origin::start(First::Answer);
    let edge = Edge::before(&plain(&origin));
    let old = get(edge.gateway.address(), "/open/a?b=c", None);
    assert_eq!((old.status, old.text()), (200, "hello"));

    let mut posted = Connection::open(edge.gateway.address());
    posted.send(
        "POST /open/p HTTP/1.1\r\nHost: api.test:8072\r\nTransfer-Encoding: chunked\r\n\
         Connection: x-hop\r\nX-Hop: 1\r\nTE: trailers\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n",
    );
    assert_eq!(posted.answer().text(), "hello");

    let request = Request::builder()
        .method(Method::PUT)
        .uri(format!("https://{NAME}/open/n"))
        .header("te", "trailers")
        .header("x-auth-client", "forged");
    let new = edge.http2().ask(request.body(()).unwrap(), &[b"one", b""]);
    assert_eq!((new.status, new.text()), (200, "hello"));

    let asked = origin.asked();
    let seen: Vec<_> = asked
        .iter()
        .map(|asked| {
            let authority = asked.uri.authority().map(|a| a.as_str());
            (
                asked.method.as_str(),
                authority,
                asked.uri.path(),
                asked.uri.query(),
                &asked.body[..],
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("GET", Some("gateway.test"), "/a", Some("b=c"), &b""[..]),
            ("POST", Some("api.test:8072"), "/p", None, b"onetwo"),
            ("PUT", Some(NAME), "/n", None, b"one"),
        ]
    );
    for asked in asked {
        assert_eq!(asked.uri.scheme_str(), Some("http"));
        // Only who speaks HTTP/2 can be sent trailers.
        let te = asked.headers.get("te").map(|te| te.as_bytes());
        let wanted = (asked.method == Method::PUT).then_some(&b"trailers"[..]);
        assert_eq!(te, wanted, "{asked:?}");
        for name in [
            "connection",
            "x-hop",
            "transfer-encoding",
            "host",
            "x-auth-client",
        ] {
            assert!(!asked.headers.contains_key(name), "{name}: {asked:?}");
        }
    }
}

#[test]
fn a_caller_that_waits_to_be_told_to_go_on_is_told() {
    let origin = H2Origin::start(First::Answer);
    let edge = Edge::before(&plain(&origin));
    let mut caller = Connection::open(edge.gateway.address());
    caller.send(
        "POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
    );
    assert_eq!(caller.answer().status, 100);
    caller.send("hello");
    assert_eq!(caller.answer().status, 200);
    let asked = &origin.asked()[0];
    assert_eq!(asked.body, b"hello");
    assert!(!asked.headers.contains_key("expect"));
    let log = edge.gateway.access_log(1);
    assert_eq!(log[0]["status"], 200);
}

/// RFC 9113 section 8.7: such a request was not begun with, so a POST may be sent again.
#[test]
fn a_request_that_its_peer_has_not_begun_with_is_sent_again() {
    let origin = H2Origin::start(First::Refuse);
    let edge = Edge::before(&plain(&origin));
    let mut caller = Connection::open(edge.gateway.address());
    caller.send("POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(caller.answer().status, 200);
    let bodies: Vec<_> = origin.asked().into_iter().map(|asked| asked.body).collect();
    assert_eq!(bodies, [b"hello"]);
    let failed = "portcullis_upstream_requests_total{outcome=\"failed\",upstream=\"origin\"}";
    edge.gateway.counts(failed, 1.0);
}

#[test]
fn a_peer_that_leaves_politely_fails_nobody() {
    let origin = H2Origin::start(First::Leave);
    let edge = Edge::before(&plain(&origin));
    let mut caller = Connection::open(edge.gateway.address());
    let mut sent = 0;
    eventually(
        "the goodbye is heard, and another connection is opened",
        || {
            caller.send("POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
            sent += 1;
            assert_eq!(caller.answer().status, 200);
            origin.connections() == 2
        },
    );
    assert_eq!(origin.asked().len(), sent);
}

#[test]
fn an_old_caller_is_refused_what_it_could_not_read() {
    let origin = H2Origin::start(First::Answer);
    let edge = Edge::before(&plain(&origin));
    let mut caller = Connection::open(edge.gateway.address());
    caller.send("GET /open HTTP/1.0\r\nHost: a\r\n\r\n");
    let answer = caller.answer();
    assert_eq!(answer.status, 505, "{}", answer.text());
    assert!(origin.asked().is_empty());
    let log = edge.gateway.access_log(1);
    assert_eq!(log[0]["reason"], "http_version", "{log:?}");
}

#[test]
fn a_request_that_may_not_be_tried_again_is_not() {
    let origin = H2Origin::start(First::Refuse);
    let pool = format!(
        "{{ peers: ['{}'], http: 2, retries: {{ attempts: 1 }} }}",
        origin.address()
    );
    let edge = Edge::before(&pool);
    let answer = get(edge.gateway.address(), "/open", None);
    assert_eq!(answer.status, 502);
    assert!(origin.asked().is_empty());
}

#[test]
fn health_is_asked_over_http2_on_connections_of_its_own() {
    let origin = H2Origin::start(First::Answer);
    let pool = format!(
        "{{ peers: ['{}'], http: 2, health: {{ path: /healthz, interval: 50ms, timeout: 50ms }} }}",
        origin.address()
    );
    let edge = Edge::before(&pool);
    eventually("it was asked thrice", || origin.asked().len() >= 3);
    assert!(
        origin
            .asked()
            .iter()
            .all(|asked| asked.uri.path() == "/healthz")
    );
    assert!(origin.connections() >= 3);
    assert_eq!(get(edge.gateway.address(), "/open", None).status, 200);
}

/// A peer that speaks HTTP/1.1 after all would lose trailers, and nobody would know why.
#[test]
fn a_peer_that_agrees_on_nothing_is_no_http2_peer() {
    let authority = Authority::new();
    let files = Scratch::new();
    let ca = files.file("ca.pem", &authority.pem);
    let origin = SecureOrigin::start(&authority.certify(PEER));
    let pool = format!(
        "{{ peers: ['{}'], http: 2, tls: {{ server_name: {PEER}, ca: '{ca}' }} }}",
        origin.address()
    );
    let edge = Edge::before(&pool);
    let answer = get(edge.gateway.address(), "/open", None);
    assert_eq!(answer.status, 502);
    assert_eq!(origin.requests(), 0);
    assert_eq!(origin.connections(), 1);
    let log = edge.gateway.access_log(1);
    assert_eq!(log[0]["reason"], "upstream_failed", "{log:?}");
}

/// A peer that takes only clients of its own authority, and what the gateway shows it.
struct Mutual {
    origin: GrpcOrigin,
    peers: Authority,
    clients: Authority,
    files: Scratch,
}

impl Mutual {
    fn new() -> Self {
        let (peers, clients) = (Authority::new(), Authority::new());
        let origin = GrpcOrigin::secure(&peers.certify(PEER), Some(&clients.pem));
        Mutual {
            origin,
            peers,
            clients,
            files: Scratch::new(),
        }
    }

    fn pool(&self, own: &str) -> String {
        let ca = self.files.file("ca.pem", &self.peers.pem);
        let address = self.origin.address();
        format!(
            "{{ peers: ['{address}'], http: 2, tls: {{ server_name: {PEER}, ca: '{ca}', {own} }} }}"
        )
    }
}

#[test]
fn a_peer_that_asks_who_we_are_is_told() {
    let mutual = Mutual::new();
    let own = mutual
        .clients
        .certify("gateway.test")
        .written_to(&mutual.files);
    let edge = Edge::before(&mutual.pool(&own));
    assert_eq!(
        edge.grpc().unary("/demo.Talk/Echo", "hello").unwrap(),
        "hello"
    );
}

#[test]
fn a_peer_that_does_not_know_us_is_not_reached() {
    let mutual = Mutual::new();
    let edge = Edge::before(&mutual.pool(""));
    let refused = edge.grpc().unary("/demo.Talk/Echo", "hello").unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    assert!(mutual.origin.heads().is_empty());
}

#[test]
fn a_new_certificate_is_shown_without_a_restart() {
    let mutual = Mutual::new();
    let stranger = Authority::new().certify("gateway.test");
    let own = stranger.written_to(&mutual.files);
    let edge = Edge::before(&mutual.pool(&own));
    let client = edge.grpc();
    assert!(client.unary("/demo.Talk/Echo", "hello").is_err());
    mutual
        .clients
        .certify("gateway.test")
        .written_to(&mutual.files);
    eventually("the new certificate is used", || {
        client.unary("/demo.Talk/Echo", "hello").is_ok()
    });
    // Half of a pair is none: what there was stays, and the connection with it.
    mutual.files.write("tls.key", &stranger.key);
    assert!(client.unary("/demo.Talk/Echo", "hello").is_ok());
}
