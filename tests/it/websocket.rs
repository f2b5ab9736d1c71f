//! WebSockets through the gateway. Both sides are tokio-tungstenite's, but where bytes matter.

use std::time::Duration;

use portcullis::clock::Clock;
use portcullis::demo::issuer::{Issuer, IssuerOptions};
use rustls::version::TLS13;
use serde_json::json;

use crate::support::{
    Authority, Connection, Gateway, Origin, Scratch, Setup, Socket, SocketOrigin, Wire, eventually,
    get, open_tls, send,
};

const READER: &str = "eazybank-accounts-reader-cc";
const ADMIN: &str = "Authorization: Bearer admin-of-the-test\r\n";
const IN_FLIGHT: &str = "portcullis_upstream_in_flight{upstream=\"origin\"}";

const ROUTES: &str = "[{ name: chat, match: { path: /chat }, upstream: origin, access: {}, upgrade: [websocket] },
    { name: open, match: { path: /open }, upstream: origin, access: public, upgrade: [websocket] },
    { name: brief, match: { path: /brief }, upstream: origin, access: public, upgrade: [websocket], timeout: 100ms,
      body_bytes: 10B },
    { name: plain, match: { path: /plain }, upstream: origin, access: public }]";

fn issuer() -> Issuer {
    Issuer::start_blocking(IssuerOptions::default()).unwrap()
}

fn setup(issuer: &Issuer, origin: std::net::SocketAddr, more: &str) -> Setup {
    Setup::new(issuer, origin)
        .upstreams(format!("{{ origin: {{ peers: ['{origin}'], {more} }} }}"))
        .routes(ROUTES)
}

fn before(origin: std::net::SocketAddr) -> Gateway {
    setup(&issuer(), origin, "").start()
}

/// Its key is the RFC's, whose answer is known.
fn handshake(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

const AGREED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
     Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

#[test]
fn a_socket_is_carried_and_counted() {
    let (issuer, origin) = (issuer(), SocketOrigin::start());
    let gateway = setup(&issuer, origin.address(), "").start();
    assert_eq!(
        Socket::open(gateway.address(), "/chat", None).err(),
        Some(401)
    );
    let token = issuer.token(READER, &["accounts:read"]);
    let mut socket = Socket::open(gateway.address(), "/chat", Some(&token))
        .ok()
        .unwrap();
    gateway.counts(IN_FLIGHT, 1.0);
    let long = "x".repeat(100_000);
    for text in ["one", "two", &long] {
        socket.say(text);
        assert_eq!(socket.hear().as_deref(), Some(text));
    }
    let head = &origin.heads()[0];
    assert_eq!(head["x-auth-client"], READER);
    assert_eq!(head["upgrade"], "websocket");
    assert!(!head.contains_key("authorization"));
    socket.say("close");
    assert_eq!(socket.hear(), None);
    drop(socket);
    let log = &gateway.access_log(2)[1];
    assert_eq!(log["status"], 101, "{log}");
    assert_eq!(log["client"], READER);
    assert_eq!(log["reason"], json!(null), "{log}");
    assert!(log["bytes_in"].as_u64().unwrap() > 100_000, "{log}");
    assert!(log["bytes_out"].as_u64().unwrap() > 100_000, "{log}");
    gateway.counts(IN_FLIGHT, 0.0);
    let class = "portcullis_requests_total{method=\"GET\",route=\"chat\",status_class=\"1xx\"}";
    gateway.counts(class, 1.0);
    let ok = "portcullis_upstream_requests_total{outcome=\"ok\",upstream=\"origin\"}";
    gateway.counts(ok, 1.0);
    assert_eq!(origin.heads().len(), 1);
}

#[test]
fn only_a_handshake_on_a_route_that_allows_it_goes_through_as_one() {
    let origin = Origin::start();
    let gateway = before(origin.address());
    let post = handshake("/open").replacen("GET", "POST", 1);
    let body = handshake("/open").replacen("\r\n\r\n", "\r\nContent-Length: 2\r\n\r\nhi", 1);
    for request in [
        handshake("/plain"),
        post,
        body,
        handshake("/open").replace("13", "12"),
        handshake("/open").replace("Upgrade: websocket", "Upgrade: h2c"),
        handshake("/open").replace("keep-alive, Upgrade", "keep-alive"),
        handshake("/open").replace("dGhlIHNhbXBsZSBub25jZQ==", "eA=="),
        handshake("/open").replace("HTTP/1.1", "HTTP/1.0"),
    ] {
        let mut caller = Connection::open(gateway.address());
        assert_eq!(caller.send(&request).answer().status, 200, "{request}");
    }
    for received in origin.received() {
        assert_eq!(received.header("upgrade"), None, "{received:?}");
        assert_eq!(received.header("connection"), None, "{received:?}");
    }
    assert_eq!(origin.received().len(), 8);
}

/// No tunnel, so the next bytes are a request and are judged as one.
#[test]
fn a_service_that_does_not_agree_answers_a_request() {
    let origin = Origin::start();
    let gateway = before(origin.address());
    let mut caller = Connection::open(gateway.address());
    for _ in 0..2 {
        let answer = caller.send(handshake("/open")).answer();
        assert_eq!((answer.status, answer.text()), (200, "hello"));
    }
    assert_eq!(origin.received()[1].header("upgrade"), Some("websocket"));
    let chat = caller.send(handshake("/chat")).answer();
    assert_eq!(chat.status, 401);
    assert_eq!(origin.received().len(), 2);
}

#[test]
fn what_is_sent_early_is_never_a_request() {
    let smuggled = "GET /plain HTTP/1.1\r\nHost: a\r\n\r\n";
    for answer in [AGREED, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"] {
        let wire = Wire::start();
        let gateway = before(wire.address());
        let mut caller = Connection::open(gateway.address());
        caller.send(handshake("/open") + smuggled);
        let mut peer = wire.accept();
        peer.head();
        peer.send(answer);
        assert_eq!(
            caller.answer().status,
            if answer == AGREED { 101 } else { 200 }
        );
        if answer == AGREED {
            // Bytes of the tunnel, as they came.
            assert_eq!(peer.exactly(smuggled.len()), smuggled.as_bytes());
        } else {
            assert!(caller.is_closed());
        }
        drop(caller);
        drop(peer);
        let log = gateway.access_log(1);
        assert_eq!(log.len(), 1, "{log:?}");
        assert!(!wire.is_wanted());
    }
    let wire = Wire::start();
    let gateway = before(wire.address());
    let mut caller = Connection::open(gateway.address());
    caller.send(handshake("/chat") + smuggled);
    let answer = caller.answer();
    assert_eq!(
        (answer.status, answer.header("connection")),
        (401, Some("close"))
    );
    assert!(caller.is_closed());
    assert!(!wire.is_wanted());
}

/// An interim answer decides nothing, and one that is tried again decides nothing either.
#[test]
fn a_handshake_is_tried_again_as_one() {
    let wire = Wire::start();
    let retries = "retries: { when: [connect, 503], attempts: 2 }";
    let gateway = setup(&issuer(), wire.address(), retries).start();
    let mut caller = Connection::open(gateway.address());
    caller.send(handshake("/open"));
    let mut first = wire.accept();
    first.head();
    first.send("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
    let mut second = wire.accept();
    let head = second.head().to_ascii_lowercase();
    assert!(head.contains("\r\nupgrade: websocket\r\n"), "{head}");
    second.send(format!("HTTP/1.1 103 Early Hints\r\n\r\n{AGREED}"));
    assert_eq!(caller.answer().status, 103);
    assert_eq!(caller.answer().status, 101);
    second.send("raw");
    assert_eq!(caller.exactly(3), b"raw");
}

#[test]
fn a_tunnel_goes_through_tls() {
    let (authority, files, wire) = (Authority::new(), Scratch::new(), Wire::start());
    let pair = authority.certify("api.test").written_to(&files);
    let gateway = setup(&issuer(), wire.address(), "")
        .listeners(format!("[{{ address: '127.0.0.1:1', tls: {{ {pair} }} }}]"))
        .start();
    let config = authority.client(&[&TLS13], &["http/1.1"]);
    let mut caller = open_tls(gateway.address(), "api.test", config).unwrap();
    caller.send(handshake("/open"));
    let mut peer = wire.accept();
    peer.head();
    peer.send(AGREED);
    assert_eq!(caller.answer().status, 101);
    caller.send("there");
    assert_eq!(peer.exactly(5), b"there");
    peer.send("and back");
    assert_eq!(caller.exactly(8), b"and back");
}

#[test]
fn an_agreement_to_something_else_is_none() {
    let wire = Wire::start();
    let gateway = before(wire.address());
    for (path, answer) in [
        ("/open", AGREED.replace("s3pPLMBi", "AAAAAAAA")),
        (
            "/open",
            AGREED.replace("Upgrade: websocket", "Upgrade: h2c"),
        ),
        (
            "/open",
            "HTTP/1.1 101 Switching Protocols\r\n\r\n".to_owned(),
        ),
        ("/plain", AGREED.to_owned()),
    ] {
        let mut caller = Connection::open(gateway.address());
        caller.send(handshake(path));
        let mut peer = wire.accept();
        peer.head();
        peer.send(&answer);
        assert_eq!(caller.answer().status, 502, "{path} {answer}");
        assert!(caller.is_closed());
    }
    let log = gateway.access_log(4);
    assert!(
        log.iter().all(|line| line["reason"] == "upstream_failed"),
        "{log:?}"
    );
}

#[test]
fn an_agreement_has_no_framing_in_it() {
    let wire = Wire::start();
    let gateway = before(wire.address());
    let mut caller = Connection::open(gateway.address());
    caller.send(handshake("/open"));
    let mut peer = wire.accept();
    let head = peer.head().to_ascii_lowercase();
    assert!(head.contains("\r\nconnection: upgrade\r\n"), "{head}");
    peer.send(AGREED.replacen(
        "\r\n\r\n",
        "\r\nTransfer-Encoding: chunked\r\nContent-Length: 9\r\n\r\n",
        1,
    ));
    let answer = caller.answer();
    assert_eq!(answer.status, 101);
    assert_eq!(answer.header("upgrade"), Some("websocket"));
    assert_eq!(answer.header("connection"), Some("Upgrade"));
    assert_eq!(answer.header("transfer-encoding"), None);
    assert_eq!(answer.header("content-length"), None);
    peer.send("raw");
    assert_eq!(caller.exactly(3), b"raw");
    caller.send("0\r\n\r\n");
    assert_eq!(peer.exactly(5), b"0\r\n\r\n");
    // Either side may end it.
    drop(peer);
    assert!(caller.is_closed());
}

#[test]
fn a_tunnel_ends_with_its_token() {
    let (issuer, origin) = (issuer(), SocketOrigin::start());
    let clock = Clock::manual(Clock::system().unix());
    let gateway = setup(&issuer, origin.address(), "")
        .clock(clock.clone())
        .start();
    let token = issuer.token(READER, &["accounts:read"]);
    let mut socket = Socket::open(gateway.address(), "/chat", Some(&token))
        .ok()
        .unwrap();
    let mut open = Socket::open(gateway.address(), "/open", None).ok().unwrap();
    socket.say("one");
    assert_eq!(socket.hear().as_deref(), Some("one"));
    clock.advance(Duration::from_secs(24 * 3600));
    assert_eq!(socket.hear(), None);
    eventually("the service's end is closed too", || origin.ended() == 1);
    let log = &gateway.access_log(1)[0];
    assert_eq!(
        (&log["status"], &log["reason"]),
        (&json!(101), &json!("expired")),
        "{log}"
    );
    // Nobody's token is nobody's end.
    open.say("two");
    assert_eq!(open.hear().as_deref(), Some("two"));
}

#[test]
fn a_tunnel_ends_when_its_token_is_revoked() {
    let (issuer, origin) = (issuer(), SocketOrigin::start());
    let scratch = Scratch::new();
    let admin = scratch.file("admin", "admin-of-the-test\n");
    let gateway = setup(&issuer, origin.address(), "")
        .admin_token(&format!("${{file:{admin}}}"))
        .start();
    let token = issuer.token(READER, &["accounts:read"]);
    let mut socket = Socket::open(gateway.address(), "/chat", Some(&token))
        .ok()
        .unwrap();
    let until = Clock::system().unix() + 3600;
    let revocation =
        json!({ "issuer": "keycloak", "client": READER, "until": until, "reason": "" });
    let made = send(
        gateway.admin(),
        "POST",
        "/revocations",
        ADMIN,
        &revocation.to_string(),
    );
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(socket.hear(), None);
    let log = &gateway.access_log(1)[0];
    assert_eq!(
        (&log["status"], &log["reason"]),
        (&json!(101), &json!("revoked")),
        "{log}"
    );
}

/// The clock is another route, whose service never answers: its 504 says that as much time is over.
#[test]
fn a_quiet_tunnel_outlives_the_timeouts_and_limits_of_requests() {
    let wire = Wire::start();
    let gateway = setup(&issuer(), wire.address(), "timeouts: { read: 100ms }").start();
    let mut caller = Connection::open(gateway.address());
    caller.send(handshake("/brief"));
    let mut peer = wire.accept();
    peer.head();
    peer.send(AGREED);
    assert_eq!(caller.answer().status, 101);
    let late = get(gateway.address(), "/plain", None);
    assert_eq!(late.status, 504);
    caller.send("more than ten bytes");
    assert_eq!(peer.exactly(19), b"more than ten bytes");
    peer.send("and back");
    assert_eq!(caller.exactly(8), b"and back");
}

#[test]
fn a_tunnel_that_nobody_uses_any_more_ends() {
    let origin = SocketOrigin::start();
    let gateway = setup(&issuer(), origin.address(), "timeouts: { stream: 100ms }").start();
    let mut socket = Socket::open(gateway.address(), "/open", None).ok().unwrap();
    assert_eq!(socket.hear(), None);
    let log = &gateway.access_log(1)[0];
    assert_eq!(log["reason"], "tunnel_silent", "{log}");
    let ok = "portcullis_upstream_requests_total{outcome=\"ok\",upstream=\"origin\"}";
    gateway.counts(ok, 1.0);
}

#[test]
fn a_service_that_does_not_answer_a_handshake_is_late() {
    let wire = Wire::start();
    let gateway = before(wire.address());
    let mut caller = Connection::open(gateway.address());
    caller.send(handshake("/brief"));
    let mut peer = wire.accept();
    peer.head();
    assert_eq!(caller.answer().status, 504);
    let log = &gateway.access_log(1)[0];
    assert_eq!(log["reason"], "upstream_timeout", "{log}");
}

#[test]
fn a_tunnel_does_not_hold_up_the_end_for_ever() {
    let (issuer, origin) = (issuer(), SocketOrigin::start());
    let mut setup = setup(&issuer, origin.address(), "");
    setup.drain = "{ drain: 4s }".to_owned();
    let gateway = setup.start();
    let mut socket = Socket::open(gateway.address(), "/open", None).ok().unwrap();
    gateway.drain();
    // It is not cut off at once.
    socket.say("still here");
    assert_eq!(socket.hear().as_deref(), Some("still here"));
    assert_eq!(socket.hear(), None);
    let log = &gateway.access_log(1)[0];
    assert_eq!(log["reason"], "shutdown", "{log}");
}
