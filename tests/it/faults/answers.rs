//! I10 and I11: what an issuer says about a token, and what is kept of it.

use std::time::Duration;

use portcullis::demo::issuer::Endpoint;

use super::{KEYS, READER, Rig, SCOPES, number, unavailable};
use crate::support::{Faulty, Ill, Origin, Scratch, Setup, get, gzip_bomb};

#[test]
fn i10_what_is_no_answer_is_never_a_401_and_never_passes() {
    let rig = Rig::ready();
    let elsewhere = Origin::start();
    let other = format!("http://{}/introspect", elsewhere.address());
    let gzip = "Content-Encoding: gzip\r\n".to_owned();
    let ills = [
        ("500", Ill::status(500)),
        ("our secret is wrong", Ill::status(401)),
        ("we may not ask", Ill::status(403)),
        ("404", Ill::status(404)),
        ("204", Ill::status(204)),
        (
            "201 with a yes",
            Ill::Says(201, String::new(), b"{\"active\":true}".to_vec()),
        ),
        ("HTML", Ill::html()),
        ("truncated", Ill::Truncated),
        ("drop", Ill::Drops),
        ("hang", Ill::Hangs),
        ("a slow drip", Ill::Drips),
        ("endless", Ill::Endless),
        ("interim answers without end", Ill::Interims),
        ("too large", Ill::body(vec![b' '; 300 << 10])),
        ("a bomb", Ill::Says(200, gzip, gzip_bomb(32))),
        ("a silent bomb", Ill::body(gzip_bomb(32))),
        ("a redirect", Ill::redirect(307, &other)),
        ("a text", Ill::body("{\"active\":\"true\"}")),
        ("a number", Ill::body("{\"active\":1}")),
        ("null", Ill::body("{\"active\":null}")),
        ("an array", Ill::body("[{\"active\":true}]")),
        ("true alone", Ill::body("true")),
        ("nothing in it", Ill::body("{}")),
        ("nothing", Ill::body("")),
        (
            "no and yes",
            Ill::body("{\"active\":false,\"active\":true}"),
        ),
        (
            "a JWT",
            Ill::body("eyJhbGciOiJSUzI1NiJ9.eyJhY3RpdmUiOnRydWV9.AA"),
        ),
        (
            "an error in JSON",
            Ill::Says(
                400,
                String::new(),
                b"{\"error\":\"invalid_client\",\"active\":true}".to_vec(),
            ),
        ),
    ];
    let count = ills.len();
    for (name, ill) in ills {
        rig.faulty.set(Endpoint::Introspect, ill);
        let opaque = rig.faulty.issuer.opaque(READER, SCOPES);
        unavailable(&rig.get(&opaque), name);
        // What can be proved without an answer is served as ever.
        assert_eq!(rig.ask(&rig.good()), 200, "{name}");
        rig.faulty.heal(Endpoint::Introspect);
        assert_eq!(rig.ask(&opaque), 200, "{name}: nothing of it was kept");
    }
    rig.introspected("failed", count);
    rig.introspected("active", count);
    rig.rejected("introspection_failed", count);
    rig.verified("introspection", "unavailable", count);
    assert!(rig.gateway.metric(KEYS) >= 2.0);
    assert!(elsewhere.received().is_empty());
}

#[test]
fn i10_an_active_answer_is_held_against_the_same_rules_as_a_signed_token() {
    let rig = Rig::ready();
    let good = |claims: &mut serde_json::Value| {
        let told = claims["active"] == true;
        assert!(told, "{claims}");
    };
    type Edit = fn(&mut serde_json::Value);
    let set: [(&str, Edit, u16, &str); 13] = [
        ("as it is", |_| {}, 200, ""),
        (
            "marked by token_type alone",
            |c| c["typ"] = "".into(),
            401,
            "wrong_kind",
        ),
        (
            "without typ",
            |c| {
                c.as_object_mut().unwrap().remove("typ");
            },
            200,
            "",
        ),
        (
            "without iss and exp",
            |c| {
                c.as_object_mut().unwrap().remove("iss");
                c.as_object_mut().unwrap().remove("exp");
            },
            200,
            "",
        ),
        (
            "without any mark",
            |c| {
                c.as_object_mut().unwrap().remove("typ");
                c.as_object_mut().unwrap().remove("token_type");
            },
            401,
            "unmarked",
        ),
        (
            "a refresh token",
            |c| c["typ"] = "Refresh".into(),
            401,
            "wrong_kind",
        ),
        (
            "another audience",
            |c| c["aud"] = "account".into(),
            401,
            "wrong_audience",
        ),
        (
            "another issuer",
            |c| c["iss"] = "https://evil.example".into(),
            401,
            "wrong_issuer",
        ),
        ("expired", |c| c["exp"] = 1000.into(), 401, "expired"),
        (
            "not valid yet",
            |c| c["nbf"] = 4_000_000_000u64.into(),
            401,
            "not_yet_valid",
        ),
        (
            "a time that is none",
            |c| c["exp"] = "never".into(),
            401,
            "bad_claims",
        ),
        (
            "bound to a key",
            |c| c["cnf"] = serde_json::json!({"jkt": "x"}),
            401,
            "sender_constrained",
        ),
        (
            "bound to a certificate that nobody shows",
            |c| c["cnf"] = serde_json::json!({"x5t#S256": "A".repeat(43)}),
            401,
            "sender_constrained",
        ),
    ];
    for (name, edit, status, reason) in set {
        let before = match reason {
            "" => 0.0,
            reason => rejections(&rig, reason),
        };
        let change = Ill::changed(move |claims| {
            good(claims);
            edit(claims);
        });
        rig.faulty.set(Endpoint::Introspect, change);
        let opaque = rig.faulty.issuer.opaque(READER, SCOPES);
        assert_eq!(rig.ask(&opaque), status, "{name}");
        if status == 401 {
            crate::support::eventually(name, || rejections(&rig, reason) == before + 1.0);
        }
    }
    rig.introspected("active", set.len());
}

fn rejections(rig: &Rig, reason: &str) -> f64 {
    rig.gateway.metric(&format!(
        "portcullis_rejections_total{{reason=\"{reason}\",route=\"accounts\"}}"
    ))
}

/// Where two issuers are asked, an answer is one issuer's, and it says who somebody is and not what he may do.
#[test]
fn i11_a_kept_answer_is_one_issuers_and_grants_no_more_than_it_says() {
    let clock = super::now();
    let (first, second) = (Faulty::start(clock.clone()), Faulty::start(clock.clone()));
    let (origin, files) = (Origin::start(), Scratch::new());
    let secret = files.file("secret", "demo-only-gateway\n");
    let issuer = |name: &str, url: String| {
        format!(
            "{name}: {{ issuer: '{url}', audience: [eazybank-gateway], introspection: {{
               client_id: eazybank-gateway, client_secret: '${{file:{secret}}}' }} }}"
        )
    };
    let gateway = Setup::new(&first.issuer, origin.address())
        .clock(clock.clone())
        .issuers(format!(
            "{{ {}, {} }}",
            issuer("first", first.url()),
            issuer("second", second.url())
        ))
        .routes(
            "[{ name: first, match: { path: /first }, upstream: origin, access: { issuers: [first] } },
              { name: loans, match: { path: /loans }, upstream: origin,
                access: { issuers: [first], scopes: ['loans:read'] } },
              { name: second, match: { path: /second }, upstream: origin, access: { issuers: [second] } }]",
        )
        .start();
    let ask = |path: &str, token: &str| get(gateway.address(), path, Some(token)).status;
    // Both issuers know a token of this name; behind it are two clients.
    let token = first.issuer.opaque(READER, SCOPES);
    assert_eq!(ask("/first", &token), 200);
    assert_eq!(
        ask("/second", &token),
        401,
        "a yes of the first is none of the second"
    );
    clock.advance(Duration::from_secs(5));
    assert_eq!(second.issuer.opaque("eazybank-callcenter-cc", &[]), token);
    assert_eq!(ask("/second", &token), 200);
    let received = origin.received();
    let clients: Vec<_> = received.iter().map(|r| r.header("x-auth-client")).collect();
    assert_eq!(clients, [Some(READER), Some("eazybank-callcenter-cc")]);
    // The same kept answer, held against another route.
    let asked = first.requests(Endpoint::Introspect);
    assert_eq!(ask("/loans", &token), 403);
    assert_eq!(first.requests(Endpoint::Introspect), asked);
    gateway.counts(
        "portcullis_rejections_total{reason=\"missing_scope\",route=\"loans\"}",
        1.0,
    );
    let cached =
        "portcullis_token_verifications_total{issuer=\"first\",outcome=\"ok\",source=\"cache\"}";
    gateway.counts(cached, 1.0);
}

#[test]
fn i11_a_kept_answer_ends_with_its_time_and_with_its_token() {
    let rig = Rig::ready();
    // Revoked: believed for `ttl` and no longer.
    let token = rig.faulty.issuer.opaque(READER, SCOPES);
    assert_eq!(rig.ask(&token), 200);
    rig.faulty.issuer.set_client_enabled(READER, false);
    rig.clock.advance(Duration::from_secs(29));
    assert_eq!(rig.ask(&token), 200);
    rig.verified("cache", "ok", 1);
    rig.clock.advance(Duration::from_secs(1));
    assert_eq!(rig.ask(&token), 401);
    rig.rejected("inactive", 1);
    rig.faulty.issuer.set_client_enabled(READER, true);
    // Expired: its own end comes first. No answer makes it live longer, and none is asked of an issuer that is down.
    let short = "eazybank-short-cc";
    let token = rig.faulty.issuer.opaque(short, &[]);
    assert_eq!(rig.ask(&token), 403, "it is somebody, who may not");
    rig.clock.advance(Duration::from_secs(10));
    rig.faulty.set(Endpoint::Introspect, Ill::Drops);
    unavailable(&rig.get(&token), "the kept yes is dead");
    rig.introspected("failed", 1);
    rig.introspected("active", 2);
    rig.introspected("inactive", 1);
}

/// Whoever cannot be asked about is told to come again, at once.
#[test]
fn i10_a_breaker_spares_an_issuer_that_does_not_answer() {
    let rig = Rig::wishing(&super::Wish {
        introspection: "breaker: { failures: 3, open: 5s }".to_owned(),
        ..super::Wish::default()
    });
    rig.faulty.set(Endpoint::Introspect, Ill::status(500));
    let opaque = |number: usize| rig.get(&format!("nobody-{number}"));
    for count in 0..10 {
        unavailable(&opaque(count), "broken");
    }
    assert_eq!(rig.faulty.requests(Endpoint::Introspect), 3);
    rig.rejected("introspection_failed", 3);
    rig.rejected("introspection_open", 7);
    let open = "portcullis_introspection_breaker_open{issuer=\"keycloak\"}";
    rig.gateway.counts(open, number(1));
    let ready = rig.readyz();
    assert_eq!(ready.status, 200);
    assert_eq!(ready.json()["issuers"][0]["introspection_breaker"], "open");
    assert_eq!(rig.ask(&rig.good()), 200);
    // One question tries it, and fails.
    rig.clock.advance(Duration::from_secs(5));
    unavailable(&opaque(10), "still broken");
    unavailable(&opaque(11), "and open again");
    assert_eq!(rig.faulty.requests(Endpoint::Introspect), 4);
    rig.faulty.heal(Endpoint::Introspect);
    rig.clock.advance(Duration::from_secs(5));
    let token = rig.faulty.issuer.opaque(READER, SCOPES);
    assert_eq!(rig.ask(&token), 200);
    rig.gateway.counts(open, 0.0);
    let ready = rig.readyz().json();
    assert_eq!(ready["issuers"][0]["introspection_breaker"], "closed");
}
