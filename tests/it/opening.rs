//! Before the first request: the PROXY header, the handshake, the callers' certificates, and the caps that hold from
//! the accept on.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use http::Request;
use portcullis::demo::issuer::{Issuer, IssuerOptions};
use portcullis::demo::mint::ClaimsEdit;
use rustls::ClientConfig;
use rustls::version::{TLS12, TLS13};

use crate::support::{
    Answer, Authority, Connection, Gateway, Http2, Origin, Pair, Scratch, Setup, eventually,
    handshake, open_tls,
};

const NAME: &str = "api.test";
const READER: &str = "eazybank-accounts-reader-cc";
const GET: &str = "GET /open HTTP/1.1\r\nHost: api.test\r\n\r\n";
const ROUTES: &str = "[{ name: open, match: { path: /open }, upstream: origin, access: public },
    { name: closed, match: { path: /closed }, upstream: origin, access: {} },
    { name: limited, match: { path: /limited }, upstream: origin, access: public,
      rate_limit: { per: source, requests: 1, every: 1m } }]";

/// A plain listener and one with TLS, each with these keys besides.
struct Bench {
    issuer: Issuer,
    origin: Origin,
    gateway: Gateway,
    authority: Authority,
    files: Scratch,
}

impl Bench {
    fn start(listener: &str, tls: &str, limits: &str) -> Self {
        let issuer = Issuer::start_blocking(IssuerOptions::default()).unwrap();
        let (origin, authority, files) = (Origin::start(), Authority::new(), Scratch::new());
        let pair = authority.certify(NAME).written_to(&files);
        files.write("ca.pem", &authority.pem);
        let tls = tls.replace("CA", files.path("ca.pem").to_str().unwrap());
        let gateway = Setup::new(&issuer, origin.address())
            .listeners(format!(
                "[{{ address: '127.0.0.1:1'{listener} }}, {{ address: '127.0.0.1:2'{listener},
                   tls: {{ {pair}{tls} }} }}]"
            ))
            .limits(limits)
            .routes(ROUTES)
            .start();
        Bench {
            issuer,
            origin,
            gateway,
            authority,
            files,
        }
    }

    fn plain(&self) -> SocketAddr {
        self.gateway.addresses()[0]
    }

    fn secure(&self) -> SocketAddr {
        self.gateway.addresses()[1]
    }

    fn trusting(&self) -> Arc<ClientConfig> {
        self.authority.client(&[&TLS13], &[])
    }

    /// One request on a plain connection that begins with these bytes.
    fn after(&self, opening: &[u8], request: &str) -> Option<Answer> {
        let mut client = Connection::open(self.plain());
        client.try_send(opening);
        client.try_send(request);
        client.try_answer()
    }

    fn unopened(&self, listener: u8, reason: &str, count: f64) {
        self.gateway.counts(
            &format!(
                "portcullis_connections_unopened_total{{listener=\"127.0.0.1:{listener}\",reason=\"{reason}\"}}"
            ),
            count,
        );
    }

    /// The `X-Forwarded-For` of the last request.
    fn forwarded_for(&self) -> String {
        let last = self.origin.received().pop().unwrap();
        last.header("x-forwarded-for").unwrap().to_owned()
    }
}

const FROM_US: &str = ", proxy_protocol: { from: [127.0.0.0/8] }";
const FROM_OTHERS: &str = ", proxy_protocol: { from: [192.0.2.0/24] }";

/// Version 2, TCP over IPv4.
fn binary(source: [u8; 4]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend_from_slice(&source);
    header.extend_from_slice(&[192, 0, 2, 254, 0x30, 0x39, 1, 0xbb]);
    header
}

#[test]
fn a_balancer_names_its_caller() {
    let bench = Bench::start(FROM_US, "", "{}");
    for (opening, source) in [
        (
            b"PROXY TCP4 192.0.2.1 192.0.2.9 12345 80\r\n".to_vec(),
            "192.0.2.1",
        ),
        (
            b"PROXY TCP6 2001:db8::1 ::1 12345 80\r\n".to_vec(),
            "2001:db8::1",
        ),
        (binary([192, 0, 2, 2]), "192.0.2.2"),
        // It speaks for itself, or does not know: the connection's own address stays.
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".to_vec(), "127.0.0.1"),
    ] {
        let answer = bench.after(&opening, GET).unwrap();
        assert_eq!(answer.status, 200, "{}", opening.escape_ascii());
        assert_eq!(bench.forwarded_for(), source);
        // TLS comes after it.
        let mut tcp = TcpStream::connect(bench.secure()).unwrap();
        tcp.write_all(&opening).unwrap();
        let mut client = handshake(tcp, NAME, bench.trusting()).unwrap();
        assert_eq!(client.send(GET).answer().status, 200);
        assert_eq!(bench.forwarded_for(), source);
        // And holds for all that follows.
        assert_eq!(client.send(GET).answer().status, 200);
        assert_eq!(bench.forwarded_for(), source);
    }
}

#[test]
fn http2_has_the_balancers_caller_too() {
    let bench = Bench::start(FROM_US, "", "{}");
    let config = bench.authority.client(&[&TLS13], &["h2"]);
    let opening = binary([192, 0, 2, 7]);
    let client = Http2::open_after(&opening, bench.secure(), NAME, config);
    let request = Request::get(format!("https://{NAME}/open"))
        .body(())
        .unwrap();
    assert_eq!(client.ask(request, &[]).status, 200);
    assert_eq!(bench.forwarded_for(), "192.0.2.7");
}

#[test]
fn a_connection_without_its_header_is_closed() {
    let bench = Bench::start(FROM_US, "", "{}");
    let openings: [&[u8]; 5] = [
        b"GET /open HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.9 x 80\r\n",
        b"PROXY TCP5 192.0.2.1 192.0.2.9 1 80\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.9 1 80\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x31\0\0",
    ];
    for opening in openings {
        let answer = bench.after(opening, GET);
        assert!(answer.is_none(), "{}", opening.escape_ascii());
    }
    bench.unopened(1, "proxy_header", openings.len() as f64);
    let hello = open_tls(bench.secure(), NAME, bench.trusting());
    assert!(hello.is_err(), "a ClientHello is no PROXY header");
    bench.unopened(2, "proxy_header", 1.0);
    // A balancer that looks whether the port is open is no news.
    drop(Connection::open(bench.plain()));
    bench.unopened(1, "gone", 1.0);
    assert!(bench.origin.received().is_empty());
}

#[test]
fn from_others_the_header_is_no_request() {
    let bench = Bench::start(FROM_OTHERS, "", "{}");
    for opening in [
        b"PROXY TCP4 192.0.2.1 192.0.2.9 12345 80\r\n".to_vec(),
        b"PROXY UNKNOWN\r\n".to_vec(),
        binary([192, 0, 2, 2]),
    ] {
        let answer = bench.after(&opening, GET).unwrap();
        assert_eq!(answer.status, 400, "{}", opening.escape_ascii());
    }
    assert!(bench.origin.received().is_empty());
    let answer = bench.after(b"", GET).unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(bench.forwarded_for(), "127.0.0.1");
}

#[test]
fn limits_count_whom_the_balancer_names() {
    let bench = Bench::start(FROM_US, "", "{ connections_per_source: 2 }");
    let limited = "GET /limited HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n";
    for (last, status) in [(1, 200), (2, 200), (1, 429), (2, 429), (3, 200)] {
        let answer = bench.after(&binary([192, 0, 2, last]), limited).unwrap();
        assert_eq!(answer.status, status, "{last}");
    }
    eventually("those are gone", || {
        bench
            .gateway
            .metric("portcullis_connections_open{listener=\"127.0.0.1:1\"}")
            == 0.0
    });
    let open = |last| {
        let mut client = Connection::open(bench.plain());
        client.try_send(binary([192, 0, 2, last]));
        client.try_send(GET);
        let status = client.try_answer().map(|answer| answer.status);
        (client, status)
    };
    let held = [open(1), open(1), open(2), open(2)];
    assert!(held.iter().all(|(_, status)| *status == Some(200)));
    // One too many of the same caller's, though all of them are the balancer's.
    assert_eq!(open(1).1, None);
    assert_eq!(open(3).1, Some(200));
    bench.gateway.counts(
        "portcullis_connections_refused_total{reason=\"too_many\"}",
        1.0,
    );
}

#[test]
fn a_header_that_does_not_come_is_waited_for_as_long_as_a_head() {
    let bench = Bench::start(FROM_US, "", "{ header_timeout: 300ms }");
    for opening in [
        &b""[..],
        b"PROXY TCP4 192.0.2.1 ",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x0f\0",
    ] {
        let mut client = Connection::open(bench.plain());
        client.try_send(opening);
        assert!(client.is_closed(), "{}", opening.escape_ascii());
    }
    bench.unopened(1, "too_slow", 3.0);
}

#[test]
fn a_handshake_that_does_not_come_is_waited_for_as_long_as_a_head() {
    let bench = Bench::start("", "", "{ header_timeout: 300ms }");
    for opening in [&b""[..], b"\x16\x03\x01\x02\0\x01"] {
        let mut client = Connection::open(bench.secure());
        client.try_send(opening);
        client.rest();
    }
    bench.unopened(2, "too_slow", 2.0);
    // What is no TLS at all is told so at once.
    let mut client = Connection::open(bench.secure());
    client.try_send(GET);
    client.rest();
    bench.unopened(2, "tls", 1.0);
    let mut client = open_tls(bench.secure(), NAME, bench.trusting()).unwrap();
    assert_eq!(client.send(GET).answer().status, 200);
}

/// A flood of handshakes that never begin takes no more room than any other.
#[test]
fn caps_hold_before_the_handshake() {
    let bench = Bench::start("", "", "{ connections: 3, connections_per_source: 2 }");
    let open = "portcullis_connections_open{listener=\"127.0.0.1:2\"}";
    let held = [
        Connection::open(bench.secure()),
        Connection::open(bench.secure()),
    ];
    bench.gateway.counts(open, 2.0);
    let mut third = Connection::open(bench.secure());
    assert!(third.is_closed());
    bench.gateway.counts(
        "portcullis_connections_refused_total{reason=\"too_many\"}",
        1.0,
    );
    drop(held);
    bench.gateway.counts(open, 0.0);
    let mut client = open_tls(bench.secure(), NAME, bench.trusting()).unwrap();
    assert_eq!(client.send(GET).answer().status, 200);
}

const CLIENTS: &str = ", client_ca: 'CA'";

impl Bench {
    fn showing(&self, pair: Option<&Pair>, alpn: &[&str]) -> Arc<ClientConfig> {
        self.authority.client_with(&[&TLS13, &TLS12], alpn, pair)
    }

    /// One request over HTTP/1.1; with TLS 1.3 a refusal comes after the client has finished.
    fn ask_with(&self, config: Arc<ClientConfig>) -> Option<u16> {
        let mut client = open_tls(self.secure(), NAME, config).ok()?;
        client.try_send(GET);
        client.try_answer().map(|answer| answer.status)
    }
}

#[test]
fn callers_show_a_certificate_of_our_authorities() {
    let bench = Bench::start("", CLIENTS, "{}");
    let own = bench.authority.certify("loans.client.test");
    assert_eq!(bench.ask_with(bench.showing(Some(&own), &[])), Some(200));
    let http2 = Http2::open(bench.secure(), NAME, bench.showing(Some(&own), &["h2"]));
    let request = Request::get(format!("https://{NAME}/open"))
        .body(())
        .unwrap();
    assert_eq!(http2.ask(request, &[]).status, 200);
    let log = bench.gateway.access_log(2);
    for line in &log[..2] {
        assert_eq!(line["cert_sha256"], own.fingerprint());
        assert_eq!(line["cert_subject"], "CN=rcgen self signed cert");
    }
    // None, one of somebody else's, and one that is signed by itself.
    let stranger = Authority::new().certify("loans.client.test");
    for version in [&TLS12, &TLS13] {
        for pair in [None, Some(&stranger)] {
            let config = bench.authority.client_with(&[version], &[], pair);
            assert_eq!(bench.ask_with(config), None, "{version:?}");
        }
    }
    bench.unopened(2, "tls", 4.0);
    assert_eq!(bench.origin.received().len(), 2);
    // The plain listener asks for nothing, and has nothing to log.
    assert_eq!(bench.after(b"", GET).unwrap().status, 200);
    let log = bench.gateway.access_log(3);
    assert!(log[2].get("cert_sha256").is_none());
}

/// RFC 8705: a token that names a certificate is good where that is shown, over both protocols, and nowhere else,
/// though its proof is kept.
#[test]
fn a_bound_token_is_good_on_its_own_connection_alone() {
    let bench = Bench::start("", CLIENTS, "{}");
    let own = bench.authority.certify("reader.client.test");
    let other = bench.authority.certify("other.client.test");
    let bound = |to: &Pair| {
        let thumbprint = base64url(ring::digest::digest(&ring::digest::SHA256, &to.der()));
        bench
            .issuer
            .mint(ClaimsEdit::of(READER, &[]).claims(move |claims| {
                let cnf = serde_json::json!({ "x5t#S256": thumbprint });
                claims.insert("cnf".to_owned(), cnf);
            }))
    };
    let token = bound(&own);
    let plain = bench.issuer.token(READER, &[]);
    let ask = |pair: &Pair, token: &str| {
        let config = bench.showing(Some(pair), &[]);
        let mut client = open_tls(bench.secure(), NAME, config).unwrap();
        client.send(with_token(token)).answer().status
    };
    let ask_h2 = |pair: &Pair, token: &str| {
        let client = Http2::open(bench.secure(), NAME, bench.showing(Some(pair), &["h2"]));
        let request = Request::get(format!("https://{NAME}/closed"))
            .header("authorization", format!("Bearer {token}"));
        client.ask(request.body(()).unwrap(), &[]).status
    };
    for _ in 0..2 {
        assert_eq!(ask(&own, &token), 200);
        assert_eq!(ask_h2(&own, &token), 200);
        assert_eq!(ask(&other, &token), 401);
        assert_eq!(ask_h2(&other, &token), 401);
        // Stolen, and used where nobody asks for a certificate.
        let answer = bench.after(b"", &with_token(&token)).unwrap();
        assert_eq!(answer.status, 401);
        assert!(
            answer
                .header("www-authenticate")
                .unwrap()
                .contains("invalid_token")
        );
        // A token that is bound to nothing is anybody's.
        assert_eq!(ask(&other, &plain), 200);
    }
    assert_eq!(ask(&other, &bound(&other)), 200);
    bench.gateway.counts(
        "portcullis_rejections_total{reason=\"sender_constrained\",route=\"closed\"}",
        6.0,
    );
}

fn base64url(bytes: impl AsRef<[u8]>) -> String {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

fn with_token(token: &str) -> String {
    format!("GET /closed HTTP/1.1\r\nHost: api.test\r\nAuthorization: Bearer {token}\r\n\r\n")
}

#[test]
fn a_changed_certificate_is_served_without_a_restart() {
    let bench = Bench::start("", "", "{}");
    let reloads = |outcome: &str| {
        format!("portcullis_tls_reloads_total{{listener=\"127.0.0.1:2\",outcome=\"{outcome}\"}}")
    };
    let mut early = open_tls(bench.secure(), NAME, bench.trusting()).unwrap();
    assert_eq!(early.send(GET).answer().status, 200);
    // Another authority's, as whole files in place of the old ones.
    let other = Authority::new();
    let pair = other.certify(NAME);
    bench.files.write("tls.key", &pair.key);
    bench.files.write("tls.crt", &pair.certificate);
    let trusting = other.client(&[&TLS13], &[]);
    eventually("the new certificate is served", || {
        open_tls(bench.secure(), NAME, trusting.clone()).is_ok()
    });
    assert!(open_tls(bench.secure(), NAME, bench.trusting()).is_err());
    assert!(bench.gateway.metric(&reloads("ok")) >= 1.0);
    // What is open goes on.
    assert_eq!(early.send(GET).answer().status, 200);
    // A broken one is not taken, and the last good one stays.
    let failed = bench.gateway.metric(&reloads("failed"));
    bench.files.write("tls.crt", "nonsense");
    eventually("the broken certificate was seen", || {
        bench.gateway.metric(&reloads("failed")) > failed
    });
    let mut client = open_tls(bench.secure(), NAME, trusting).unwrap();
    assert_eq!(client.send(GET).answer().status, 200);
}
