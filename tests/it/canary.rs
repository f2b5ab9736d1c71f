//! No token, no secret and no query reaches any output, at the loudest log level and whatever is done to us.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis::clock::Clock;
use portcullis::demo::issuer::{Issuer, IssuerOptions};
use portcullis::demo::mint::{ClaimsEdit, Signer};

use crate::support::{Origin, Running, Scratch, Setup, eventually, get, portcullis, run};

const READER: &str = "eazybank-accounts-reader-cc";
/// Stands in everything that must not come out.
const CANARY: &str = "cAnArY5e1fQ";
/// So much of a token in a row is too much of it.
const TELLING: usize = 12;

/// What must not come out, and who tried to make it.
#[derive(Default)]
struct Secrets(Vec<(String, String)>);

impl Secrets {
    fn token(&mut self, what: &str, token: &str) {
        // The header segment tells nothing, but a whole token starts with it.
        for segment in token.split('.').filter(|segment| !segment.is_empty()) {
            let bytes = segment.as_bytes();
            for piece in bytes.windows(TELLING.min(bytes.len())) {
                let piece = String::from_utf8(piece.to_vec()).unwrap();
                self.0.push((what.to_owned(), piece));
            }
        }
    }

    #[track_caller]
    fn absent_from(&self, place: &str, text: &str) {
        assert!(!text.contains(CANARY), "the canary is in {place}:\n{text}");
        let encoded = URL_SAFE_NO_PAD.encode(CANARY);
        assert!(
            !text.contains(&encoded),
            "the canary is in {place}:\n{text}"
        );
        for (what, piece) in &self.0 {
            assert!(!text.contains(piece), "{what} is in {place}:\n{text}");
        }
    }
}

/// Sends bytes and returns whatever comes until the other side closes; ends our half when nothing more comes.
fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    // A refusal may come before the last byte is out.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    for patience in [Duration::from_millis(300), Duration::from_secs(20)] {
        stream.set_read_timeout(Some(patience)).unwrap();
        match stream.read_to_end(&mut answer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let _ = stream.shutdown(Shutdown::Write);
            }
            _ => break,
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn request(line: &str, fields: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: gateway.test\r\nConnection: close\r\n{fields}\r\n")
}

struct Tokens {
    all: Vec<(&'static str, String)>,
}

impl Tokens {
    fn of(issuer: &Issuer) -> Self {
        let edit = || {
            ClaimsEdit::of(READER, &["accounts:read"]).claims(|claims| {
                claims.insert("jti".to_owned(), CANARY.into());
                claims.insert("note".to_owned(), CANARY.into());
                claims.insert("sub".to_owned(), CANARY.into());
            })
        };
        let past = Clock::system().unix() - 3600;
        let expired = edit().claims(move |claims| {
            claims.insert("exp".to_owned(), past.into());
        });
        let foreign = edit().claims(|claims| {
            claims.insert("iss".to_owned(), format!("https://{CANARY}.example").into());
        });
        let stray = edit().header(|header| {
            header.insert("kid".to_owned(), CANARY.into());
        });
        let good = issuer.mint(edit());
        let (signed, _) = good.rsplit_once('.').unwrap();
        let header = format!(r#"{{"alg":"RS256","typ":"JWT","kid":"{CANARY}"}}"#);
        let nonsense = URL_SAFE_NO_PAD.encode(format!("{{\"{CANARY}\":"));
        Tokens {
            all: vec![
                ("the expired token", issuer.mint(expired)),
                ("the token of another issuer", issuer.mint(foreign)),
                ("the token of an unknown key", issuer.mint(stray)),
                (
                    "the token signed by nobody we know",
                    issuer.mint(edit().signed_by(Signer::Foreign("RS256".to_owned()))),
                ),
                (
                    "the token with a forged signature",
                    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(CANARY.repeat(20))),
                ),
                ("the token without a signature", format!("{signed}.")),
                (
                    "the token that is no JSON",
                    format!("{}.{nonsense}.c2lnbmF0dXJl", URL_SAFE_NO_PAD.encode(header)),
                ),
                ("the opaque token", format!("opaque-{CANARY}")),
                ("the good token", good),
            ],
        }
    }

    fn good(&self) -> &str {
        &self.all.last().unwrap().1
    }
}

/// Everything that one could do with these tokens, and some that one could not.
fn requests(tokens: &Tokens) -> Vec<String> {
    let good = tokens.good();
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let query = format!("GET /accounts/1?access_token={good}&q={CANARY}");
    let form = format!("access_token={good}&client_secret={CANARY}");
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("a:{CANARY}"));
    let mut requests: Vec<String> = tokens
        .all
        .iter()
        .map(|(_, token)| request(&query, &bearer(token)))
        .collect();
    let get = |fields: String| request(&query, &fields);
    requests.extend([
        // Where no token belongs.
        get(String::new()),
        get(format!("Cookie: access_token={good}; session={CANARY}\r\n")),
        get(format!(
            "X-Auth-Subject: {CANARY}\r\nX-Auth-Token: {good}\r\n"
        )),
        get(format!("Referer: https://a.example/?t={good}\r\n")),
        request(&format!("GET /accounts/{good}?x"), &bearer(good)),
        request(&format!("GET /{good}"), ""),
        request(&format!("GET /open?{CANARY}"), &bearer(good)),
        request(&format!("GET /broken?{CANARY}"), &bearer(good)),
        request(&format!("GET /dead?{CANARY}"), &bearer(good)),
        request(&format!("DELETE /accounts?{CANARY}"), &bearer(good)),
        request(
            &format!("GET http://gateway.test/accounts?{CANARY}"),
            &bearer(good),
        ),
        request(&format!("GET /accounts/%2e%2e/?{CANARY}"), &bearer(good)),
        request(&format!("{good} /accounts?{CANARY}"), &bearer(good)),
        request(
            "POST /accounts",
            &format!("{}Content-Length: {}\r\n", bearer(good), form.len()),
        ) + &form,
        request("POST /open", &format!("Content-Length: {}\r\n", form.len())) + &form,
        request(
            "POST /accounts",
            &format!("{}Content-Length: 99999999\r\n", bearer(good)),
        ) + &form,
        // Malformed credentials.
        get(format!("Authorization: Basic {basic}\r\n")),
        get(format!("Authorization: DPoP {good}\r\nDPoP: {good}\r\n")),
        get(format!("Authorization: {CANARY}\r\n")),
        get(format!("Authorization: Bearer {good} {CANARY}\r\n")),
        get(format!("{}{}", bearer(good), bearer(good))),
        get(bearer(&format!("{good}{}", CANARY.repeat(1000)))),
        get(bearer(&CANARY.repeat(1000))),
        // Heads that are none.
        get(format!("Author ization: Bearer {good}\r\n")),
        get(format!(
            "Authorization: Bearer {good}\r\n folded {CANARY}\r\n"
        )),
        get(format!("Authorization Bearer {good}\r\n")),
        get(format!("Authorization: Bearer \0{good}\u{1}{CANARY}\r\n")),
        get(format!(
            "X-{CANARY}: {}\r\n{}",
            "a".repeat(40_000),
            bearer(good)
        )),
        get((0..300).map(|n| format!("X-{n}: {CANARY}\r\n")).collect()),
        format!("GET /accounts?{CANARY} HTTP/9.9\r\nAuthorization: Bearer {good}\r\n\r\n"),
        format!("GET /accounts?{CANARY}\r\nAuthorization: Bearer {good}\r\n\r\n"),
        format!("GET /accounts?{CANARY} {good} HTTP/1.1\r\nHost: a\r\n\r\n"),
        format!("GET /accounts?{CANARY} HTTP/1.1\r\nHost: a\r\nHost: {good}\r\n\r\n"),
        format!("GET /accounts?{CANARY} HTTP/1.1\r\nAuthorization: Bearer {good}"),
        format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{CANARY}{good}"),
        format!("{good}\r\n\r\n"),
        // Framing that is doubtful or breaks off.
        get(format!("{}Transfer-Encoding: {CANARY}\r\n", bearer(good))),
        get(format!("{}Content-Length: {CANARY}\r\n", bearer(good))),
        request(
            &format!("POST /open?{CANARY}"),
            &format!(
                "{}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
                bearer(good)
            ),
        ) + &form,
        request(
            &format!("POST /open?{CANARY}"),
            &format!("{}Transfer-Encoding: chunked\r\n", bearer(good)),
        ) + &format!("{CANARY}\r\n{good}\r\n"),
        request(
            &format!("POST /open?{CANARY}"),
            &format!("{}Content-Length: 1000\r\n", bearer(good)),
        ) + good,
    ]);
    requests
}

/// Answers with nonsense that quotes the request, where it is asked to.
fn origin() -> Origin {
    Origin::answering(|received, stream| {
        let line = &received.line;
        let answer = if line.contains("/broken") {
            format!("HTTP/1.1 2x0 {line}\r\nX Broken {line}\r\n\r\n{line}")
        } else {
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_owned()
        };
        let _ = stream.write_all(answer.as_bytes());
    })
}

fn setup(issuer: &Issuer, origin: &Origin) -> Setup {
    let mut setup = Setup::new(issuer, origin.address())
        .upstreams(format!(
            "{{ origin: {{ peers: ['{}'] }}, dead: {{ peers: ['127.0.0.1:1'] }} }}",
            origin.address()
        ))
        .routes(
            "[{ name: accounts, match: { path: /accounts, methods: [GET, POST] }, upstream: origin, access: {} },
              { name: broken, match: { path: /broken }, upstream: origin, access: {} },
              { name: dead, match: { path: /dead }, upstream: dead, access: {} },
              { name: open, match: { path: /open, methods: [GET, POST] }, upstream: origin, access: public }]",
        );
    setup.drain = "{ drain: 2s }".to_owned();
    setup
}

#[test]
fn nothing_secret_comes_out_of_the_gateway() {
    let issuer = Issuer::start_blocking(IssuerOptions::default()).unwrap();
    let origin = origin();
    let tokens = Tokens::of(&issuer);
    let mut secrets = Secrets::default();
    for (what, token) in &tokens.all {
        secrets.token(what, token);
    }
    let mut running = Running::start_with(&setup(&issuer, &origin), |command| {
        command.env("PORTCULLIS_LOG", "trace");
    });
    running.wait_ready();

    let requests = requests(&tokens);
    for (number, request) in requests.iter().enumerate() {
        let answer = exchange(running.address, request.as_bytes());
        secrets.absent_from(&format!("the answer to request {number}"), &answer);
    }
    // The canary did sing: the good token got through, with its query.
    assert!(origin.received().iter().any(|request| {
        request.line.contains(CANARY) && request.header("x-auth-client") == Some(READER)
    }));

    for path in [
        "/livez",
        "/readyz",
        "/metrics",
        "/issuers",
        "/routes",
        "/upstreams",
        "/nothing",
    ] {
        let fields = format!("Authorization: Bearer {}\r\n", tokens.good());
        let line = format!("GET {path}?{CANARY}");
        let answer = exchange(running.admin, request(&line, &fields).as_bytes());
        assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
        secrets.absent_from(path, &answer);
    }
    for request in &requests {
        secrets.absent_from(
            "an admin answer",
            &exchange(running.admin, request.as_bytes()),
        );
    }
    // And once more with the issuer away and its keys unreachable.
    issuer.set_down(true).unwrap();
    for (_, token) in &tokens.all {
        let answer = get(running.address, &format!("/accounts?{CANARY}"), Some(token));
        secrets.absent_from("an error body", answer.text());
    }
    let lines = requests.len() / 2;
    eventually("the access log has most of it", || {
        running.process.stdout().lines().count() > lines
    });
    running.process.signal("TERM");
    assert_eq!(running.process.exit(), Some(0));
    let stderr = running.process.stderr();
    // There was something to hide: Pingora quotes what it cannot parse.
    assert!(stderr.contains("buf: ***"), "{stderr}");
    secrets.absent_from("standard error", &stderr);
    secrets.absent_from("standard output", &running.process.stdout());
}

#[test]
fn no_secret_of_the_configuration_comes_out() {
    let issuer = Issuer::start_blocking(IssuerOptions::default()).unwrap();
    let scratch = Scratch::new();
    let setup = setup(&issuer, &origin()).admin_token("${env:PORTCULLIS_TEST_TOKEN}");
    let yaml = setup.yaml();
    let good = scratch.file("good.yaml", &yaml);
    // Written in the open, which is a problem, and then told about.
    let open = yaml.replace("${env:PORTCULLIS_TEST_TOKEN}", CANARY);
    let open = scratch.file("open.yaml", &open);
    let not_yaml = scratch.file("not.yaml", &format!("admin: {{ token: '{CANARY}\n]]]"));
    for (command, file, code) in [
        ("check", &good, 0),
        ("check", &open, 64),
        ("run", &open, 64),
        ("check", &not_yaml, 64),
    ] {
        let mut command = portcullis(&[command, "--config", file]);
        command
            .env("PORTCULLIS_LOG", "trace")
            .env("PORTCULLIS_TEST_TOKEN", CANARY);
        let finished = run(command, "");
        assert_eq!(finished.code, Some(code), "{finished:?}");
        Secrets::default().absent_from("standard error", &finished.stderr);
        Secrets::default().absent_from("standard output", &finished.stdout);
    }

    let mut running = Running::start_with(&setup, |command| {
        command
            .env("PORTCULLIS_LOG", "trace")
            .env("PORTCULLIS_TEST_TOKEN", CANARY);
    });
    running.wait_ready();
    for path in ["/readyz", "/metrics", "/issuers", "/routes", "/upstreams"] {
        let answer = get(running.admin, path, Some(CANARY));
        Secrets::default().absent_from(path, answer.text());
    }
    running.process.signal("TERM");
    assert_eq!(running.process.exit(), Some(0));
    Secrets::default().absent_from("standard error", &running.process.stderr());
    Secrets::default().absent_from("standard output", &running.process.stdout());
}

/// A form, a bare message or a revocation, as a whole request.
fn post(path: &str, fields: &str, body: &str) -> String {
    let length = format!("{fields}Content-Length: {}\r\n", body.len());
    request(&format!("POST {path}"), &length) + body
}

#[test]
fn no_admin_token_and_no_message_of_an_issuer_comes_out() {
    const ADMIN: &str = "aDm1n-0f-ThE-cAnArY-t3st";
    let issuer = Issuer::start_blocking(IssuerOptions::default()).unwrap();
    let scratch = Scratch::new();
    let secret = scratch.file("gateway", "demo-only-gateway\n");
    let file = scratch.path("revocations.json");
    let setup = setup(&issuer, &origin())
        .admin_token("${env:PORTCULLIS_TEST_TOKEN}")
        .revocations(format!("{{ file: '{}', max: 3 }}", file.display()))
        .issuers(format!(
            "{{ keycloak: {{ issuer: '{}', audience: [eazybank-gateway], not_before: {{ poll: 1s }},
               logout: {{ clients: [eazybank-user-demo] }},
               introspection: {{ client_id: eazybank-gateway, client_secret: '${{file:{secret}}}' }} }} }}",
            issuer.url()
        ));
    let now = Clock::system().unix();
    let kid = issuer.active_kid("RS256").unwrap();
    let sign = |typ: &str, claims: serde_json::Value| {
        let header = format!(r#"{{"alg":"RS256","typ":"{typ}","kid":"{kid}"}}"#);
        issuer.sign(&header, &claims.to_string(), &Signer::Realm)
    };
    let push = |id: &str, resource: &str| {
        sign(
            "JWT",
            serde_json::json!({"id": id, "expiration": now + 300, "resource": resource,
                "action": "PUSH_NOT_BEFORE", "notBefore": 1}),
        )
    };
    let logout = |jti: &str, audience: &str| {
        sign(
            "logout+jwt",
            serde_json::json!({"iss": issuer.url(), "aud": audience, "iat": now, "exp": now + 300,
                "jti": jti, "sid": CANARY, "sub": CANARY, "note": CANARY,
                "events": {"http://schemas.openid.net/event/backchannel-logout": {}}}),
        )
    };
    let messages = [
        ("the push", push(CANARY, "eazybank-gateway")),
        ("the push to somebody else", push("1", CANARY)),
        ("the logout token", logout(CANARY, "eazybank-user-demo")),
        ("the logout token of another client", logout("2", CANARY)),
    ];
    let mut secrets = Secrets::default();
    secrets.token("the admin token", ADMIN);
    for (what, message) in &messages {
        secrets.token(what, message);
    }
    let mut running = Running::start_with(&setup, |command| {
        command
            .env("PORTCULLIS_LOG", "trace")
            .env("PORTCULLIS_TEST_TOKEN", ADMIN);
    });
    running.wait_ready();

    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let mut requests = Vec::new();
    for (_, message) in &messages {
        for path in [
            "/issuers/keycloak/k_push_not_before",
            "/issuers/keycloak/backchannel-logout",
        ] {
            requests.push(post(path, "", message));
            requests.push(post(
                path,
                form,
                &format!("logout_token={message}&x={CANARY}"),
            ));
            requests.push(post(&format!("{path}?{message}"), &bearer(message), ""));
            requests.push(post(path, &bearer(ADMIN), &message.repeat(20)));
        }
        requests.push(post("/revocations", &bearer(message), CANARY));
        requests.push(post("/revocations", &bearer(ADMIN), message));
        requests.push(post(
            "/revocations",
            &bearer(ADMIN),
            &format!("{{\"{message}\":1}}"),
        ));
        requests.push(post(
            "/revocations",
            &bearer(ADMIN),
            &format!("{{\"issuer\":\"{CANARY}\",\"jti\":\"{message}\",\"until\":\"{CANARY}\"}}"),
        ));
    }
    for fields in [
        bearer(&format!("{ADMIN}{CANARY}")),
        format!("{}{}", bearer(ADMIN), bearer(CANARY)),
        format!("Authorization: {ADMIN}\r\n"),
        format!("Authorization: Basic {ADMIN}\r\n"),
    ] {
        requests.push(request(&format!("GET /revocations?{ADMIN}"), &fields));
        requests.push(request("DELETE /revocations/a", &fields));
    }
    requests.push(request(
        &format!("DELETE /revocations/{CANARY}"),
        &bearer(ADMIN),
    ));
    requests.push(request(
        &format!("DELETE /revocations/{ADMIN}"),
        &bearer(ADMIN),
    ));
    for (number, request) in requests.iter().enumerate() {
        let answer = exchange(running.admin, request.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
        secrets.absent_from(&format!("the answer to request {number}"), &answer);
    }
    // They were not refused one and all: the session of the logout is revoked, for whoever may see it.
    let list = exchange(
        running.admin,
        request("GET /revocations", &bearer(ADMIN)).as_bytes(),
    );
    assert!(
        list.starts_with("HTTP/1.1 200") && list.contains(CANARY),
        "{list}"
    );
    let pushed = exchange(running.admin, request("GET /issuers", "").as_bytes());
    assert!(pushed.contains("\"from\":\"push\""), "{pushed}");
    running.process.signal("TERM");
    assert_eq!(running.process.exit(), Some(0));
    secrets.absent_from("standard error", &running.process.stderr());
    secrets.absent_from("standard output", &running.process.stdout());
}
