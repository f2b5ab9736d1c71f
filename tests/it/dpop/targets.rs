//! `htu` is the URI that the caller sees, whatever stands between it and the gateway.

use portcullis::clock::Clock;

use super::World;
use crate::support::{Authority, Http2, Scratch, open_tls, send};

/// A listener with these keys beside its address, first of two; the other is plain.
fn world(keys: &str) -> World {
    World::with("allow", Clock::system(), |setup| {
        setup.listeners(format!("[{{ address: '127.0.0.1:1'{keys} }}]"))
    })
}

/// The status of a request for `/accounts/1?page=2` with these further fields, and a proof for `htu`.
fn status(world: &World, host: &str, fields: &str, htu: &str) -> u16 {
    let token = world.token();
    let proof = world.holder.proof("GET", htu).of(&token).seal();
    let mut client = crate::support::Connection::open(world.gateway.address());
    let request = format!(
        "GET /accounts/1?page=2 HTTP/1.1\r\nHost: {host}\r\n{fields}Authorization: DPoP {token}\r\n\
         DPoP: {proof}\r\n\r\n"
    );
    client.send(request).answer().status
}

#[test]
fn it_is_what_the_request_says() {
    let world = world("");
    for (host, htu, expected) in [
        ("gateway.test", "http://gateway.test/accounts/1", 200),
        ("gateway.test", "http://gateway.test/accounts/1?page=2", 200),
        ("gateway.test", "http://gateway.test/accounts/1?page=3", 200),
        ("gateway.test", "HTTP://GATEWAY.test:80/%61ccounts/1#x", 200),
        ("Gateway.TEST:80", "http://gateway.test/accounts/1", 200),
        (
            "gateway.test:8072",
            "http://gateway.test:8072/accounts/1",
            200,
        ),
        ("gateway.test:8072", "http://gateway.test/accounts/1", 401),
        ("gateway.test", "https://gateway.test/accounts/1", 401),
        ("gateway.test", "http://other.test/accounts/1", 401),
        ("gateway.test", "http://gateway.test/accounts", 401),
        ("gateway.test", "http://gateway.test/accounts/1/", 401),
        ("gateway.test", "http://gateway.test/Accounts/1", 401),
    ] {
        assert_eq!(status(&world, host, "", htu), expected, "{host} {htu}");
    }
    // Nobody is believed who is not trusted.
    let fields = "X-Forwarded-Proto: https\r\nX-Forwarded-Host: api.example.com\r\n";
    let forged = "https://api.example.com/accounts/1";
    assert_eq!(status(&world, "gateway.test", fields, forged), 401);
    let own = "http://gateway.test/accounts/1";
    assert_eq!(status(&world, "gateway.test", fields, own), 200);
}

#[test]
fn it_is_what_a_trusted_proxy_says() {
    let world = world(", trusted_proxies: [127.0.0.0/8]");
    let proto = "X-Forwarded-Proto: https\r\n";
    let host = "X-Forwarded-Host: api.example.com\r\n";
    for (fields, htu, expected) in [
        (
            format!("{proto}{host}"),
            "https://api.example.com/accounts/1",
            200,
        ),
        (
            format!("{proto}{host}"),
            "http://gateway.test/accounts/1",
            401,
        ),
        (proto.to_owned(), "https://gateway.test/accounts/1", 200),
        (host.to_owned(), "http://api.example.com/accounts/1", 200),
        (String::new(), "http://gateway.test/accounts/1", 200),
        (
            "X-Forwarded-Proto: wss\r\n".to_owned(),
            "https://gateway.test/accounts/1",
            200,
        ),
        // Said twice, it is not said.
        (
            format!("{proto}{host}{host}"),
            "https://gateway.test/accounts/1",
            200,
        ),
        (
            "X-Forwarded-Proto: https, http\r\n".to_owned(),
            "https://gateway.test/accounts/1",
            401,
        ),
    ] {
        let got = status(&world, "gateway.test", &fields, htu);
        assert_eq!(got, expected, "{fields:?} {htu}");
    }
}

#[test]
fn it_is_what_the_configuration_says() {
    for (url, front) in [
        ("https://api.example.com", "https://api.example.com"),
        (
            "https://api.example.com:8443/",
            "https://api.example.com:8443",
        ),
        (
            "https://api.example.com/bank",
            "https://api.example.com/bank",
        ),
    ] {
        let keys = format!(", public_url: '{url}', trusted_proxies: [127.0.0.0/8]");
        let world = world(&keys);
        for (host, fields) in [
            ("gateway.test", ""),
            ("evil.test", ""),
            ("gateway.test", "X-Forwarded-Host: evil.test\r\n"),
        ] {
            let htu = format!("{front}/accounts/1");
            assert_eq!(status(&world, host, fields, &htu), 200, "{url}");
            let evil = "http://evil.test/accounts/1";
            assert_eq!(status(&world, host, fields, evil), 401, "{url}");
            let inside = "http://gateway.test/accounts/1";
            assert_eq!(status(&world, host, fields, inside), 401, "{url}");
        }
    }
}

/// What the upstream gets is the gateway's own affair.
#[test]
fn it_is_the_path_before_it_was_rewritten() {
    let world = World::with("allow", Clock::system(), |setup| {
        setup.routes(
            "[{ name: accounts, match: { path: /accounts }, strip_prefix: /accounts, \
                upstream: origin, access: {} }]",
        )
    });
    let outside = "http://gateway.test/accounts/1";
    assert_eq!(status(&world, "gateway.test", "", outside), 200);
    assert_eq!(world.origin.only().line, "GET /1?page=2 HTTP/1.1");
    let inside = "http://gateway.test/1";
    assert_eq!(status(&world, "gateway.test", "", inside), 401);
}

#[test]
fn methods_are_told_apart() {
    let world = world("");
    let token = world.token();
    let url = format!("{}/accounts", super::HOST);
    for (sent, proved, expected) in [
        ("GET", "GET", 200),
        ("HEAD", "HEAD", 200),
        ("POST", "POST", 200),
        ("HEAD", "GET", 401),
        ("POST", "GET", 401),
        ("DELETE", "POST", 401),
    ] {
        let proof = world.holder.proof(proved, &url).of(&token).seal();
        let fields = format!("Authorization: DPoP {token}\r\nDPoP: {proof}\r\n");
        let answer = send(world.gateway.address(), sent, "/accounts", &fields, "");
        assert_eq!(answer.status, expected, "{sent} with a proof for {proved}");
    }
}

#[test]
fn a_tls_listener_is_https() {
    let (authority, files) = (Authority::new(), Scratch::new());
    let pair = authority.certify("gateway.test").written_to(&files);
    let world = world(&format!(", tls: {{ {pair} }}"));
    let token = world.token();
    let address = world.gateway.address();
    let versions = [&rustls::version::TLS13];
    let config = authority.client(&versions, &["h2"]);
    let http2 = Http2::open(address, "gateway.test", config);
    for (authority_part, scheme, expected) in [
        ("gateway.test", "https", 200),
        ("gateway.test:443", "https", 200),
        ("gateway.test:8443", "https", 401),
        ("gateway.test", "http", 401),
    ] {
        let htu = format!("{scheme}://gateway.test/accounts");
        let proof = || world.holder.proof("GET", &htu).of(&token).seal();
        let request = http::Request::get(format!("https://{authority_part}/accounts"))
            .header("authorization", format!("DPoP {token}"))
            .header("dpop", proof());
        let answer = http2.ask(request.body(()).unwrap(), &[]);
        assert_eq!(answer.status, expected, "{authority_part} {htu}");
        let mut http1 =
            open_tls(address, "gateway.test", authority.client(&versions, &[])).unwrap();
        let request = format!(
            "GET /accounts HTTP/1.1\r\nHost: {authority_part}\r\nAuthorization: DPoP {token}\r\n\
             DPoP: {}\r\n\r\n",
            proof()
        );
        assert_eq!(
            http1.send(request).answer().status,
            expected,
            "{authority_part} {htu}"
        );
    }
}
