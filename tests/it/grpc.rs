//! gRPC through the gateway: calls of each kind, their ends, and our refusals. Both sides are tonic's.

use http::{Method, Request, Version};
use portcullis::demo::issuer::{Issuer, IssuerOptions};
use rustls::version::TLS13;
use serde_json::json;
use tonic::Code;

use crate::support::{
    Authority, Closed, Full, Gateway, GrpcClient, GrpcOrigin, Http2, Scratch, Setup, eventually,
};

const READER: &str = "eazybank-accounts-reader-cc";
const NAME: &str = "api.test";

const ROUTES: &str = "[{ name: talk, match: { path: /demo.Talk }, upstream: origin, access: {} },
    { name: small, match: { path: /demo.Talk/Collect }, upstream: origin, access: {}, body_bytes: 100B },
    { name: denied, match: { path: /demo.Denied }, upstream: origin, access: { scopes: ['loans:write'] } },
    { name: posted, match: { path: /demo.Get, methods: [GET] }, upstream: origin, access: public },
    { name: full, match: { path: /full }, upstream: full, access: public, timeout: 300ms },
    { name: old, match: { path: /old }, upstream: old, access: public },
    { name: dead, match: { path: /dead }, upstream: dead, access: public }]";

struct World {
    gateway: Gateway,
    origin: GrpcOrigin,
    authority: Authority,
    issuer: Issuer,
    _files: Scratch,
    _dead: Closed,
    _full: Full,
}

impl World {
    fn new() -> Self {
        Self::with("", |setup| setup)
    }

    /// `more` are further keys of the pool.
    fn with(more: &str, edit: impl FnOnce(Setup) -> Setup) -> Self {
        let issuer = Issuer::start_blocking(IssuerOptions::default()).unwrap();
        let (authority, files, origin) = (Authority::new(), Scratch::new(), GrpcOrigin::start());
        let (dead, full) = (Closed::new(), Full::new());
        let pair = authority.certify(NAME).written_to(&files);
        let setup = Setup::new(&issuer, origin.address())
            .listeners(format!("[{{ address: '127.0.0.1:1', tls: {{ {pair} }} }}]"))
            .upstreams(format!(
                "{{ origin: {{ peers: ['{}'], http: 2, {more} }}, dead: {{ peers: ['{}'], http: 2 }},
                    old: {{ peers: ['{0}'] }}, full: {{ peers: ['{}'], http: 2, timeouts: {{ connect: 100ms }} }} }}",
                origin.address(),
                dead.address(),
                full.address(),
            ))
            .routes(ROUTES);
        World {
            gateway: edit(setup).start(),
            origin,
            authority,
            issuer,
            _files: files,
            _dead: dead,
            _full: full,
        }
    }

    fn anybody(&self) -> GrpcClient {
        GrpcClient::open(self.gateway.address(), NAME, &self.authority.pem)
    }

    fn reader(&self) -> GrpcClient {
        let token = self.issuer.token(READER, &["accounts:read"]);
        self.anybody().with(token)
    }
}

#[test]
fn calls_of_each_kind_pass() {
    let world = World::new();
    let client = world.reader();
    assert_eq!(client.unary("/demo.Talk/Echo", "hello").unwrap(), "hello");

    let mut counted = client.call("/demo.Talk/Count", "\x03").unwrap();
    counted.end();
    let numbers: Vec<_> = std::iter::from_fn(|| counted.hear().unwrap()).collect();
    assert_eq!(numbers, ["\0", "\x01", "\x02"]);

    // Each message is answered before the next one is said.
    let mut chat = client.call("/demo.Talk/Echo", "first").unwrap();
    assert_eq!(chat.metadata["x-of"], "head");
    assert_eq!(chat.hear().unwrap().unwrap(), "first");
    for message in ["second", "third"] {
        chat.say(message);
        assert_eq!(chat.hear().unwrap().unwrap(), message);
    }
    chat.end();
    assert_eq!(chat.hear().unwrap(), None);

    for (version, head) in world.origin.heads() {
        assert_eq!(version, Version::HTTP_2);
        assert_eq!(head["te"], "trailers");
        assert_eq!(head["x-auth-client"], READER);
        assert_eq!(head["content-type"], "application/grpc");
        assert!(!head.contains_key("authorization"));
    }
    let log = world.gateway.access_log(3);
    assert!(log.iter().all(|line| line["status"] == 200), "{log:?}");
    assert!(log.iter().all(|line| line["grpc_status"] == 0), "{log:?}");
}

#[test]
fn what_a_service_says_at_the_end_is_kept() {
    let world = World::new();
    let client = world.reader();
    let refused = client.unary("/demo.Talk/Fail", "").unwrap_err();
    let mut broken = client.call("/demo.Talk/Break", "").unwrap();
    assert_eq!(broken.hear().unwrap().unwrap(), "one");
    for status in [refused, broken.hear().unwrap_err()] {
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert_eq!(status.message(), "not like this");
        assert_eq!(status.metadata().get("x-of").unwrap(), "trailers");
    }
    // The caller of the second has not said its end: it need not, once it has the service's.
    drop(broken);
    for line in world.gateway.access_log(2) {
        assert_eq!(
            (&line["status"], &line["reason"]),
            (&json!(200), &json!(null)),
            "{line}"
        );
        assert_eq!(line["grpc_status"], 9, "{line}");
    }
}

#[test]
fn a_refusal_is_a_status() {
    let world = World::new();
    let (anybody, reader) = (world.anybody(), world.reader());
    let unknown = world.anybody().with("a.b.c");
    let long = "more than a hundred bytes: 0123456789012345678901234567890123456789012345678901234\
                5678901234567890123456789";
    #[rustfmt::skip]
    let refusals = [
        (&anybody, "/demo.Talk/Echo", "", Code::Unauthenticated, 401, "missing_credential"),
        (&unknown, "/demo.Talk/Echo", "", Code::Unauthenticated, 401, "malformed_token"),
        (&reader, "/demo.Denied/X", "", Code::PermissionDenied, 403, "missing_scope"),
        (&reader, "/demo.None/X", "", Code::Unimplemented, 404, "no_route"),
        (&anybody, "/demo.Get/X", "", Code::Unimplemented, 405, "method_not_allowed"),
        (&reader, "/demo.Talk/Collect", long, Code::ResourceExhausted, 413, "body_too_large"),
        (&anybody, "/old/X", "", Code::Unimplemented, 505, "http_version"),
        (&anybody, "/dead/X", "", Code::Unavailable, 502, "upstream_connect"),
        (&anybody, "/full/X", "", Code::DeadlineExceeded, 504, "upstream_timeout"),
    ];
    for (client, path, message, code, status, reason) in refusals {
        let lines = world.gateway.access_log(0).len();
        let refused = client.unary(path, message).unwrap_err();
        assert_eq!(refused.code(), code, "{path}: {refused:?}");
        assert!(!refused.message().is_empty(), "{path}");
        assert!(refused.metadata().contains_key("x-request-id"), "{path}");
        // What is counted and logged is what was meant.
        let line = &world.gateway.access_log(lines + 1)[lines];
        assert_eq!(line["status"], status, "{line}");
        assert_eq!(line["reason"], reason, "{line}");
        assert_eq!(line["grpc_status"], code as u8, "{line}");
    }
    let refused = anybody.unary("/demo.Talk/Echo", "").unwrap_err();
    let challenge = refused.metadata().get("www-authenticate").unwrap();
    assert_eq!(challenge, "Bearer realm=\"portcullis\"");
    world.gateway.counts(
        "portcullis_rejections_total{reason=\"missing_credential\",route=\"talk\"}",
        2.0,
    );
    let class = "portcullis_requests_total{method=\"POST\",route=\"talk\",status_class=\"4xx\"}";
    world.gateway.counts(class, 3.0);
    let only_refused = world.origin.heads().into_iter();
    assert!(only_refused.count() <= 1, "the body that was too large");
}

#[test]
fn whoever_does_not_speak_grpc_hears_http() {
    let world = World::new();
    let config = world.authority.client(&[&TLS13], &["h2"]);
    let http2 = Http2::open(world.gateway.address(), NAME, config);
    for (kind, status) in [
        ("application/json", 401),
        ("application/grpc-web", 401),
        ("application/grpc+proto", 200),
    ] {
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("https://{NAME}/demo.Talk/Echo"))
            .header("content-type", kind);
        let answer = http2.ask(request.body(()).unwrap(), &[]);
        assert_eq!(answer.status, status, "{kind}");
        let grpc = (status == 200).then_some("16");
        assert_eq!(answer.header("grpc-status"), grpc, "{kind}");
        assert_eq!(answer.body.is_empty(), grpc.is_some(), "{kind}");
    }
}

/// The clock is a route whose peer never answers: its 504 says that as much time is over.
#[test]
fn a_quiet_stream_outlives_the_timeouts_of_answers() {
    let world = World::with("timeouts: { read: 100ms }", |setup| {
        let routes = ROUTES.replacen("access: {} }", "access: {}, timeout: 100ms }", 1);
        setup.routes(routes).limits("{ body_min_rate: 1MiB }")
    });
    let client = world.reader();
    let mut quiet = client.call("/demo.Talk/Echo", "first").unwrap();
    assert_eq!(quiet.hear().unwrap().unwrap(), "first");
    let late = world.anybody().unary("/full/X", "").unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded);
    quiet.say("second");
    assert_eq!(quiet.hear().unwrap().unwrap(), "second");
}

#[test]
fn a_stream_that_nobody_uses_any_more_ends() {
    let world = World::with("timeouts: { stream: 300ms }", |setup| setup);
    let client = world.reader();
    let late = client.unary("/demo.Talk/Mute", "").unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded, "{late:?}");
    let mut quiet = client.call("/demo.Talk/Quiet", "").unwrap();
    assert_eq!(quiet.hear().unwrap().unwrap(), "one");
    assert!(quiet.hear().is_err());
    let log = world.gateway.access_log(2);
    let seen: Vec<_> = log.iter().map(|line| &line["status"]).collect();
    assert_eq!(seen, [504, 200], "{log:?}");
    assert!(
        log.iter().all(|line| line["reason"] == "upstream_timeout"),
        "{log:?}"
    );
    eventually("the service hears that both are over", || {
        world.origin.given_up() == 2
    });
}

#[test]
fn a_caller_that_leaves_ends_its_call_at_the_service() {
    let world = World::new();
    let client = world.reader();
    let mut left = client.call("/demo.Talk/Quiet", "").unwrap();
    let mut stays = client.call("/demo.Talk/Echo", "here").unwrap();
    assert_eq!(left.hear().unwrap().unwrap(), "one");
    assert_eq!(stays.hear().unwrap().unwrap(), "here");
    drop(left);
    eventually("the service hears of it", || world.origin.given_up() == 1);
    stays.say("still here");
    assert_eq!(stays.hear().unwrap().unwrap(), "still here");
    let log = world.gateway.access_log(1);
    assert_eq!(log[0]["reason"], "caller_gone", "{log:?}");
}

#[test]
fn calls_share_a_connection() {
    let world = World::new();
    let client = world.reader();
    // All stay open while the next one begins.
    let calls: Vec<_> = (0..20)
        .map(|_| client.call("/demo.Talk/Echo", "x").unwrap())
        .collect();
    for mut call in calls {
        assert_eq!(call.hear().unwrap().unwrap(), "x");
        call.end();
        assert_eq!(call.hear().unwrap(), None);
    }
    assert_eq!(world.origin.heads().len(), 20);
    assert_eq!(world.origin.connections(), 1);
}
