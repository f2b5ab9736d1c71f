//! Introspection through the whole gateway: what is asked, how often, and what a caller gets when the issuer does not
//! answer.

use std::time::Duration;

use portcullis::demo::issuer::{Endpoint, Fault, Issuer, IssuerOptions};

use crate::support::{Answer, Gateway, Origin, Scratch, Setup, eventually, get};

const READER: &str = "eazybank-accounts-reader-cc";
const LIGHT: &str = "eazybank-lightweight-cc";
const SCOPES: &[&str] = &["accounts:read"];

const ROUTES: &str = "[{ name: accounts, match: { path: /accounts }, upstream: origin,
        access: { scopes: ['accounts:read'] } },
      { name: each, match: { path: /each }, upstream: origin, access: { proof: introspect } },
      { name: fresh, match: { path: /fresh }, upstream: origin, access: { proof: { fresh: 1s } } }]";

struct World {
    issuer: Issuer,
    origin: Origin,
    gateway: Gateway,
}

impl World {
    fn new(name: &str) -> Self {
        Self::with(name, "demo-only-gateway", "breaker: { failures: 100 }", "")
    }

    /// `name` tells the tests' secret files apart.
    fn with(name: &str, secret: &str, more: &str, issuer_more: &str) -> Self {
        let issuer = Issuer::start_blocking(IssuerOptions::default()).expect("an issuer");
        let file = format!("{}/introspection-{name}", env!("CARGO_TARGET_TMPDIR"));
        std::fs::write(&file, format!("{secret}\n")).expect("a secret file");
        let credentials = format!("client_secret: '${{file:{file}}}', {more}");
        Self::of(issuer, &credentials, issuer_more)
    }

    fn of(issuer: Issuer, credentials: &str, issuer_more: &str) -> Self {
        let origin = Origin::start();
        let gateway = Setup::new(&issuer, origin.address())
            .issuers(format!(
                "{{ keycloak: {{ issuer: '{}', audience: [eazybank-gateway], {issuer_more}
                   introspection: {{ client_id: eazybank-gateway, timeout: 1s, {credentials} }} }} }}",
                issuer.url()
            ))
            .routes(ROUTES)
            .start();
        World {
            issuer,
            origin,
            gateway,
        }
    }

    fn get(&self, path: &str, token: &str) -> Answer {
        get(self.gateway.address(), path, Some(token))
    }

    fn asked(&self) -> u64 {
        self.issuer.requests(Endpoint::Introspect)
    }

    fn verified(&self, source: &str, outcome: &str, count: f64) {
        self.gateway.counts(
            &format!(
                "portcullis_token_verifications_total{{issuer=\"keycloak\",outcome=\"{outcome}\",\
                 source=\"{source}\"}}"
            ),
            count,
        );
    }

    fn rejected(&self, reason: &str, count: f64) {
        self.gateway.counts(
            &format!("portcullis_rejections_total{{reason=\"{reason}\",route=\"accounts\"}}"),
            count,
        );
    }

    fn sent(&self, outcome: &str, count: f64) {
        self.gateway.counts(
            &format!(
                "portcullis_introspections_total{{issuer=\"keycloak\",outcome=\"{outcome}\"}}"
            ),
            count,
        );
    }
}

fn unavailable(answer: &Answer) {
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.header("retry-after").is_some());
    assert!(answer.header("www-authenticate").is_none());
}

#[test]
fn a_self_contained_token_is_proved_once_and_never_asked_about() {
    let world = World::new("local");
    let token = world.issuer.token(READER, SCOPES);
    for _ in 0..3 {
        assert_eq!(world.get("/accounts", &token).status, 200);
    }
    assert_eq!(world.asked(), 0);
    world.verified("local", "ok", 1.0);
    world.verified("cache", "ok", 2.0);
    world.gateway.counts("portcullis_token_cache_entries", 1.0);
    assert!(world.gateway.metric("portcullis_token_cache_bytes") > 1000.0);
    let log = world.gateway.access_log(3);
    assert_eq!(log[0]["proof"], "local");
    assert_eq!(log[1]["proof"], "cache");
    let received = world.origin.received();
    assert_eq!(
        received[0].header("x-auth-roles"),
        received[1].header("x-auth-roles")
    );
}

#[test]
fn a_lightweight_token_is_asked_about_once() {
    let world = World::new("light");
    let token = world.issuer.token(LIGHT, SCOPES);
    assert_eq!(world.get("/accounts", &token).status, 200);
    assert_eq!(world.get("/accounts", &token).status, 200);
    assert_eq!(world.asked(), 1);
    world.verified("introspection", "ok", 1.0);
    world.verified("cache", "ok", 1.0);
    world.sent("active", 1.0);
    let received = world.origin.received();
    assert_eq!(received[1].header("x-auth-client"), Some(LIGHT));
    assert_eq!(world.gateway.access_log(2)[1]["proof"], "cache");
    // A forged one costs the issuer nothing.
    let forged = format!("{}AAAAAAAA", &token[..token.len() - 8]);
    assert_eq!(world.get("/accounts", &forged).status, 401);
    assert_eq!(world.asked(), 1);
}

#[test]
fn opaque_tokens_go_to_the_issuer_and_a_no_is_kept() {
    let world = World::new("opaque");
    let token = world.issuer.opaque(READER, SCOPES);
    for _ in 0..2 {
        assert_eq!(world.get("/accounts", &token).status, 200);
    }
    assert_eq!(world.asked(), 1);
    for _ in 0..2 {
        let answer = world.get("/accounts", "never-seen");
        assert_eq!(answer.status, 401);
        assert!(
            answer
                .header("www-authenticate")
                .unwrap()
                .contains("error=\"invalid_token\"")
        );
    }
    assert_eq!(world.asked(), 2);
    world.sent("inactive", 1.0);
    world.rejected("inactive", 2.0);
}

#[test]
fn a_wrong_secret_is_our_fault_and_a_new_file_heals_it() {
    let world = World::with("secret", "old", "breaker: { failures: 100 }", "");
    let token = world.issuer.opaque(READER, SCOPES);
    unavailable(&world.get("/accounts", &token));
    let file = format!("{}/introspection-secret", env!("CARGO_TARGET_TMPDIR"));
    std::fs::write(file, "demo-only-gateway\n").unwrap();
    eventually("the new secret is read", || {
        world.get("/accounts", &token).status == 200
    });
}

/// RFC 7523: no secret is shared, and each assertion is good for one question.
#[test]
fn a_key_proves_the_gateway_and_a_new_file_replaces_it() {
    for algorithm in ["RS256", "ES256", "ES384", "EdDSA"] {
        let issuer = Issuer::start_blocking(IssuerOptions::default()).unwrap();
        let files = Scratch::new();
        let key = issuer.give_key("eazybank-gateway", algorithm).unwrap();
        let file = files.file("gateway.pem", &key);
        let credentials = format!(
            "auth: private_key_jwt, private_key: '${{file:{file}}}', breaker: {{ failures: 100 }}"
        );
        let world = World::of(issuer, &credentials, "");
        for _ in 0..2 {
            let token = world.issuer.opaque(READER, SCOPES);
            assert_eq!(world.get("/accounts", &token).status, 200, "{algorithm}");
        }
        // The issuer has another key now: that is nobody's fault but ours.
        let key = world
            .issuer
            .give_key("eazybank-gateway", algorithm)
            .unwrap();
        let token = world.issuer.opaque(READER, SCOPES);
        unavailable(&world.get("/accounts", &token));
        files.write("gateway.pem", key);
        eventually("the new key is read", || {
            world.get("/accounts", &token).status == 200
        });
        world.sent("active", 3.0);
        world.sent("inactive", 0.0);
    }
}

#[test]
fn a_kid_that_the_issuer_does_not_know_is_our_fault() {
    let issuer = Issuer::start_blocking(IssuerOptions::default()).unwrap();
    let files = Scratch::new();
    let key = issuer.give_key("eazybank-gateway", "ES256").unwrap();
    let file = files.file("gateway.pem", &key);
    let credentials =
        format!("auth: private_key_jwt, private_key: '${{file:{file}}}', kid: nobody");
    let world = World::of(issuer, &credentials, "");
    unavailable(&world.get("/accounts", &world.issuer.opaque(READER, SCOPES)));
    world.sent("failed", 1.0);
}

#[test]
fn the_breaker_opens_and_local_proof_goes_on() {
    let world = World::with(
        "breaker",
        "demo-only-gateway",
        "breaker: { failures: 3, open: 1s }",
        "",
    );
    let good = world.issuer.token(READER, SCOPES);
    world
        .issuer
        .set_fault(Endpoint::Introspect, Fault::Status(500));
    for number in 0..10 {
        unavailable(&world.get("/accounts", &format!("opaque-breaker-{number}")));
    }
    assert_eq!(world.asked(), 3);
    world.rejected("introspection_open", 7.0);
    let open = "portcullis_introspection_breaker_open{issuer=\"keycloak\"}";
    world.gateway.counts(open, 1.0);
    assert_eq!(world.get("/accounts", &good).status, 200);
    world.issuer.clear_fault(Endpoint::Introspect);
    let token = world.issuer.opaque(READER, SCOPES);
    eventually("the breaker closes", || {
        world.get("/accounts", &token).status == 200
    });
    world.gateway.counts(open, 0.0);
}

#[test]
fn a_crowd_makes_one_call() {
    let world = World::new("crowd");
    let slow = Fault::Slow(Duration::from_millis(300));
    world.issuer.set_fault(Endpoint::Introspect, slow);
    let token = world.issuer.opaque(READER, SCOPES);
    std::thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| assert_eq!(world.get("/accounts", &token).status, 200));
        }
    });
    assert_eq!(world.asked(), 1);
    // Whoever did not ask has waited for who did, or has come after the answer.
    let metric = |name: &str, labels: &str| {
        let name = format!("portcullis_{name}{{issuer=\"keycloak\"{labels}}}");
        world.gateway.metric(&name)
    };
    let cached = metric(
        "token_verifications_total",
        ",outcome=\"ok\",source=\"cache\"",
    );
    let shared = metric("introspections_coalesced_total", "");
    assert!(shared > 0.0);
    assert_eq!(shared + cached, 99.0);
}

#[test]
fn a_route_may_ask_each_time() {
    let world = World::new("each");
    let token = world.issuer.token(READER, SCOPES);
    assert_eq!(world.get("/accounts", &token).status, 200);
    for _ in 0..3 {
        assert_eq!(world.get("/each", &token).status, 200);
    }
    assert_eq!(world.asked(), 3);
    world.issuer.set_client_enabled(READER, false);
    assert_eq!(world.get("/each", &token).status, 401);
    // Another route still believes the signature.
    assert_eq!(world.get("/accounts", &token).status, 200);
    world
        .issuer
        .set_fault(Endpoint::Introspect, Fault::Status(502));
    let other = world.issuer.token("eazybank-callcenter-cc", &[]);
    unavailable(&world.get("/each", &other));
}

#[test]
fn a_fresh_answer_is_used_until_it_is_too_old() {
    let world = World::new("fresh");
    let token = world.issuer.token(READER, SCOPES);
    assert_eq!(world.get("/fresh", &token).status, 200);
    assert_eq!(world.get("/fresh", &token).status, 200);
    assert_eq!(world.asked(), 1);
    world.issuer.revoke(&token, READER);
    let revoked = std::time::Instant::now();
    eventually("the revocation shows", || {
        world.get("/fresh", &token).status == 401
    });
    assert!(revoked.elapsed() < Duration::from_secs(3));
}

#[test]
fn a_newer_no_ends_an_older_yes() {
    let world = World::with(
        "newer",
        "demo-only-gateway",
        "cache: { ttl: 1h, negative_ttl: 1h }",
        "",
    );
    let token = world.issuer.token(LIGHT, SCOPES);
    assert_eq!(world.get("/accounts", &token).status, 200);
    world.issuer.revoke(&token, LIGHT);
    assert_eq!(world.get("/accounts", &token).status, 200);
    assert_eq!(world.get("/each", &token).status, 401);
    assert_eq!(world.get("/accounts", &token).status, 401);
    assert_eq!(world.asked(), 2);
}

#[test]
fn refresh_and_id_tokens_stay_refused() {
    let world = World::new("kinds");
    let answer = world.issuer.answer("eazybank-user-demo", &["openid"]);
    for kind in ["refresh_token", "id_token"] {
        let token = answer[kind].as_str().unwrap();
        for path in ["/accounts", "/each"] {
            assert_eq!(world.get(path, token).status, 401, "{kind} {path}");
        }
    }
    assert_eq!(world.asked(), 0);
}
