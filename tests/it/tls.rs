//! TLS on both sides, and HTTP/2, which only TLS brings.

use std::sync::Arc;

use http::{Method, Request};
use portcullis::demo::issuer::{Issuer, IssuerOptions};
use rustls::ClientConfig;
use rustls::version::{TLS12, TLS13};

use crate::support::{
    Answer, Authority, Connection, Gateway, Http2, Origin, Scratch, SecureOrigin, Setup, get,
    open_tls,
};

const READER: &str = "eazybank-accounts-reader-cc";
const NAME: &str = "api.test";

fn issuer() -> Issuer {
    Issuer::start_blocking(IssuerOptions::default()).unwrap()
}

const ROUTES: &str = "[{ name: accounts, match: { path: /accounts }, upstream: origin,
      access: { scopes: ['accounts:read'] } },
    { name: small, match: { path: /small }, upstream: origin, access: public, body_bytes: 10B },
    { name: open, match: { path: /open }, upstream: origin, access: public }]";

/// A gateway with one TLS listener and whoever trusts it.
struct Edge {
    gateway: Gateway,
    authority: Authority,
    issuer: Issuer,
    _files: Scratch,
}

impl Edge {
    fn before(origin: &Origin) -> Self {
        let (authority, files, issuer) = (Authority::new(), Scratch::new(), issuer());
        let pair = authority.certify(NAME).written_to(&files);
        let gateway = Setup::new(&issuer, origin.address())
            .listeners(format!(
                "[{{ address: '127.0.0.1:1', tls: {{ {pair} }} }}, {{ address: '127.0.0.1:2' }}]"
            ))
            .routes(ROUTES)
            .start();
        Edge {
            gateway,
            authority,
            issuer,
            _files: files,
        }
    }

    fn trusting(&self, alpn: &[&str]) -> Arc<ClientConfig> {
        self.authority.client(&[&TLS13, &TLS12], alpn)
    }

    fn http2(&self) -> Http2 {
        let config = self.trusting(&["h2", "http/1.1"]);
        Http2::open(self.gateway.address(), NAME, config)
    }
}

fn request(method: &str, path: &str) -> http::request::Builder {
    Request::builder()
        .method(Method::from_bytes(method.as_bytes()).unwrap())
        .uri(format!("https://{NAME}{path}"))
}

fn h2(method: &str, path: &str) -> Request<()> {
    request(method, path).body(()).unwrap()
}

fn lines(origin: &Origin) -> Vec<String> {
    origin.received().into_iter().map(|r| r.line).collect()
}

#[test]
fn alpn_chooses_between_both_protocols() {
    let origin = Origin::start();
    let edge = Edge::before(&origin);
    let ask = format!("GET /open HTTP/1.1\r\nHost: {NAME}\r\n\r\n");
    for alpn in [&[][..], &["http/1.1"]] {
        let mut client = open_tls(edge.gateway.address(), NAME, edge.trusting(alpn)).unwrap();
        for _ in 0..2 {
            let answer = client.send(&ask).answer();
            assert_eq!((answer.status, answer.text()), (200, "hello"));
        }
    }
    for alpn in [&["h2"][..], &["http/1.1", "h2"]] {
        let client = Http2::open(edge.gateway.address(), NAME, edge.trusting(alpn));
        let answer = client.ask(h2("GET", "/open"), &[]);
        assert_eq!((answer.status, answer.text()), (200, "hello"));
    }
    for received in origin.received() {
        assert_eq!(received.line, "GET /open HTTP/1.1");
        assert_eq!(received.header("x-forwarded-proto"), Some("https"));
        assert_eq!(received.header("x-forwarded-host"), Some(NAME));
        assert_eq!(received.header("host"), Some(NAME));
    }
    assert_eq!(origin.received().len(), 6);
    // The plain listener beside it says so.
    get(edge.gateway.addresses()[1], "/open", None);
    let plain = origin.received().pop().unwrap();
    assert_eq!(plain.header("x-forwarded-proto"), Some("http"));
}

#[test]
fn both_versions_of_tls_are_served_and_no_stranger_is_trusted() {
    let origin = Origin::start();
    let edge = Edge::before(&origin);
    let address = edge.gateway.address();
    let ask = format!("GET /open HTTP/1.1\r\nHost: {NAME}\r\n\r\n");
    for version in [&TLS12, &TLS13] {
        let config = edge.authority.client(&[version], &[]);
        let answer = open_tls(address, NAME, config).unwrap().send(&ask).answer();
        assert_eq!(answer.status, 200, "{version:?}");
        let config = edge.authority.client(&[version], &["h2"]);
        let answer = Http2::open(address, NAME, config).ask(h2("GET", "/open"), &[]);
        assert_eq!(answer.status, 200, "{version:?}");
    }
    let stranger = Authority::new().client(&[&TLS13], &[]);
    assert!(open_tls(address, NAME, stranger).is_err());
    // Plain HTTP on the TLS port is no request.
    let mut plain = Connection::open(address);
    plain.send(&ask);
    assert!(!String::from_utf8_lossy(&plain.rest()).contains("HTTP/1.1"));
}

#[test]
fn a_plain_listener_speaks_no_http2() {
    let origin = Origin::start();
    let edge = Edge::before(&origin);
    let plain = edge.gateway.addresses()[1];
    let mut client = Connection::open(plain);
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let answer = client.send(preface).answer();
    assert_eq!(answer.status, 400);
    assert!(client.is_closed());
    // Nor does it change to it.
    let answer = Connection::open(plain)
        .send(
            "GET /open HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
             HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n",
        )
        .answer();
    assert_eq!(answer.status, 200);
    let received = origin.only();
    assert!(received.header("upgrade").is_none());
    assert!(received.header("http2-settings").is_none());
}

/// Pools over TLS to one port: the right name and CA, another name, another CA, and the system's CAs.
#[test]
fn an_upstream_has_to_prove_its_name() {
    let (authority, stranger, files) = (Authority::new(), Authority::new(), Scratch::new());
    let ours = files.write("ours.pem", &authority.pem);
    let theirs = files.write("theirs.pem", &stranger.pem);
    let origin = SecureOrigin::start(&authority.certify("accounts.internal"));
    let (at, ours, theirs) = (origin.address(), ours.display(), theirs.display());
    let gateway = Setup::new(&issuer(), at)
        .upstreams(format!(
            "{{ good: {{ peers: ['{at}'], tls: {{ server_name: accounts.internal, ca: '{ours}' }} }},
                misnamed: {{ peers: ['{at}'], tls: {{ server_name: loans.internal, ca: '{ours}' }} }},
                foreign: {{ peers: ['{at}'], tls: {{ server_name: accounts.internal, ca: '{theirs}' }} }},
                public: {{ peers: ['{at}'], tls: {{ server_name: accounts.internal }} }} }}"
        ))
        .routes(format!(
            "[{}]",
            ["good", "misnamed", "foreign", "public"]
                .map(|name| format!(
                    "{{ name: {name}, match: {{ path: /{name} }}, upstream: {name}, access: public }}"
                ))
                .join(",\n")
        ))
        .start_unready();
    let ask = |path: &str| get(gateway.address(), path, None);
    assert_eq!(ask("/good").text(), "hello");
    for pool in ["misnamed", "foreign", "public"] {
        // The good pool's connection waits in the pool, and nobody else gets it.
        let answer = ask(&format!("/{pool}"));
        assert_eq!(answer.status, 502, "{pool}");
        let series = format!(
            "portcullis_upstream_requests_total{{outcome=\"connect_failed\",upstream=\"{pool}\"}}"
        );
        gateway.counts(&series, 1.0);
    }
    assert_eq!(ask("/good").text(), "hello");
    assert_eq!(origin.requests(), 2);
    // One of them carried both good requests; each other pool tried one of its own.
    assert_eq!(origin.connections(), 4);
}

#[test]
fn http2_gets_the_identity_and_cannot_forge_it() {
    let origin = Origin::start();
    let edge = Edge::before(&origin);
    let token = edge.issuer.token(READER, &["accounts:read"]);
    let answer = edge.http2().ask(
        request("GET", "/accounts?x=1")
            .header("authorization", format!("Bearer {token}"))
            .header("x-auth-client", "evil")
            .header("x_auth_client", "evil")
            .header("x-forwarded-for", "6.6.6.6")
            .header("x-forwarded-proto", "evil")
            .header("te", "trailers")
            .header("proxy-authorization", "evil")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .body(())
            .unwrap(),
        &[],
    );
    assert_eq!((answer.status, answer.text()), (200, "hello"));
    let got = origin.only();
    assert_eq!(got.line, "GET /accounts?x=1 HTTP/1.1");
    assert_eq!(got.header("x-auth-client"), Some(READER));
    assert_eq!(got.header("x-auth-scope"), Some("accounts:read"));
    assert_eq!(got.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(got.header("x-forwarded-proto"), Some("https"));
    assert_eq!(got.header("host"), Some(NAME));
    assert_eq!(got.header("cookie"), Some("a=1; b=2"));
    for name in [
        "authorization",
        "te",
        "proxy-authorization",
        "transfer-encoding",
    ] {
        assert!(got.header(name).is_none(), "{name}");
    }
    let raw = String::from_utf8(got.raw).unwrap();
    assert!(!raw.contains("evil") && !raw.contains("6.6.6.6"), "{raw}");
    assert_eq!(
        answer.header("x-request-id"),
        {
            let got = origin.only();
            got.header("x-request-id").map(str::to_owned)
        }
        .as_deref()
    );
}

#[test]
fn http2_is_refused_in_the_same_words() {
    let origin = Origin::start();
    let edge = Edge::before(&origin);
    let client = edge.http2();
    let none = client.ask(h2("GET", "/accounts"), &[]);
    let is_problem = |answer: &Answer, status: u16| {
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json")
        );
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.json()["status"], status);
        assert_eq!(
            answer.json()["request_id"],
            answer.header("x-request-id").unwrap()
        );
        // RFC 9113 section 8.2.2.
        for name in ["connection", "keep-alive", "transfer-encoding"] {
            assert!(answer.header(name).is_none(), "{name}");
        }
    };
    is_problem(&none, 401);
    assert_eq!(
        none.header("www-authenticate"),
        Some("Bearer realm=\"portcullis\"")
    );
    let head = client.ask(h2("HEAD", "/accounts"), &[]);
    assert_eq!((head.status, head.body.len()), (401, 0));
    let bad = request("GET", "/accounts").header("authorization", "Bearer a.b.c");
    let bad = client.ask(bad.body(()).unwrap(), &[]);
    is_problem(&bad, 401);
    assert!(
        bad.header("www-authenticate")
            .unwrap()
            .contains("error=\"invalid_token\"")
    );
    let token = edge.issuer.token(READER, &[]);
    let poor = request("GET", "/accounts").header("authorization", format!("Bearer {token}"));
    let poor = client.ask(poor.body(()).unwrap(), &[]);
    is_problem(&poor, 403);
    assert!(
        poor.header("www-authenticate")
            .unwrap()
            .contains("scope=\"accounts:read\"")
    );
    is_problem(&client.ask(h2("GET", "/nowhere"), &[]), 404);
    // Refused before, while and after the body comes.
    is_problem(&client.ask(h2("POST", "/accounts"), &[b"hello"]), 401);
    // All on one connection, which is as good as before.
    assert_eq!(client.ask(h2("GET", "/open"), &[]).status, 200);
    assert_eq!(lines(&origin), ["GET /open HTTP/1.1"]);
}

#[test]
fn http2_bodies_have_their_limits() {
    let origin = Origin::start();
    let edge = Edge::before(&origin);
    let client = edge.http2();
    let declared = request("POST", "/small").header("content-length", "11");
    let answer = client.ask(declared.body(()).unwrap(), &[b"hello", b" world"]);
    assert_eq!(answer.status, 413);
    assert!(origin.received().is_empty());
    let answer = client.ask(h2("POST", "/small"), &[b"hello", b" world"]);
    assert_eq!(answer.status, 413);
    let answer = client.ask(h2("POST", "/small"), &[b"hello", b"world"]);
    assert_eq!(answer.status, 200);
    assert_eq!(origin.received().last().unwrap().body, b"helloworld");
}

#[test]
fn http2_with_two_hosts_is_400() {
    let origin = Origin::start();
    let edge = Edge::before(&origin);
    let client = edge.http2();
    let other = request("GET", "/open").header("host", "evil.test");
    let answer = client.ask(other.body(()).unwrap(), &[]);
    assert_eq!(answer.status, 400);
    assert!(origin.received().is_empty());
    let same = request("GET", "/open").header("host", NAME);
    assert_eq!(client.ask(same.body(()).unwrap(), &[]).status, 200);
    assert_eq!(origin.only().header("host"), Some(NAME));
}

#[test]
fn one_connection_carries_many_streams() {
    let origin = Origin::echoing();
    let edge = Edge::before(&origin);
    let paths: Vec<String> = (0..90).map(|n| format!("/open/{n}")).collect();
    let asked = paths.iter().map(|path| h2("GET", path)).collect();
    let answers = edge.http2().ask_all(asked);
    for (path, answer) in paths.iter().zip(answers) {
        assert_eq!(answer.text(), format!("GET {path} HTTP/1.1"));
    }
}

/// Pingora issue #935: bare 0.9.1 sends `0 CRLF CRLF` twice, and the second one is somebody else's request.
#[test]
fn an_empty_last_frame_ends_one_message() {
    let origin = Origin::start();
    let edge = Edge::before(&origin);
    let client = edge.http2();
    for method in ["POST", "PUT", "GET", "DELETE"] {
        for (pieces, framed) in [
            (&[&b"hello"[..], b""][..], "\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
            (&[b""], "\r\n\r\n0\r\n\r\n"),
            (
                &[b"", b"hello", b"", b""],
                "\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            ),
        ] {
            let before = origin.received().len();
            assert_eq!(client.ask(h2(method, "/open"), pieces).status, 200);
            // What the first message left behind would be the beginning of the second.
            assert_eq!(client.ask(h2("GET", "/open/next"), &[]).status, 200);
            let received = origin.received().split_off(before);
            let raw: Vec<String> = received
                .iter()
                .map(|r| String::from_utf8(r.raw.clone()).unwrap())
                .collect();
            assert_eq!(raw.len(), 2, "{raw:#?}");
            assert!(
                raw[0].starts_with(&format!("{method} /open HTTP/1.1\r\n")),
                "{raw:#?}"
            );
            assert!(raw[0].to_ascii_lowercase().ends_with(framed), "{raw:#?}");
            assert!(
                raw[1].starts_with("GET /open/next HTTP/1.1\r\n"),
                "{raw:#?}"
            );
        }
    }
    assert_eq!(
        origin.connections(),
        1,
        "every message ended where it should have"
    );
}

/// The same with a declared length, which needs no ending.
#[test]
fn an_empty_last_frame_after_a_declared_length_adds_nothing() {
    let origin = Origin::start();
    let edge = Edge::before(&origin);
    let client = edge.http2();
    for (length, pieces) in [("5", &[&b"hello"[..], b""][..]), ("0", &[b""])] {
        let declared = request("POST", "/open").header("content-length", length);
        assert_eq!(client.ask(declared.body(()).unwrap(), pieces).status, 200);
        let received = origin.received().pop().unwrap();
        assert_eq!(received.header("content-length"), Some(length));
        assert!(received.header("transfer-encoding").is_none());
        assert_eq!(client.ask(h2("GET", "/open/next"), &[]).status, 200);
        assert!(lines(&origin).ends_with(&["GET /open/next HTTP/1.1".to_owned()]));
    }
    assert_eq!(origin.connections(), 1);
}
