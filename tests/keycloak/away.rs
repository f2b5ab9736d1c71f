//! A gateway that comes before Keycloak, and one that outlives it.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis::demo::Services;
use serde_json::json;

use crate::gateway::{Call, FRESH, Portcullis, Setup, fresh, introspect, read};
use crate::keycloak::{Arrival, Keycloak, REALM};
use crate::load::{self, Lane, Seen, counts};
use crate::say::say;
use crate::{World, eventually};

/// Leaves everything running for the steps that follow.
pub fn before() -> World {
    let mut keycloak = Keycloak::new();
    let services = Services::start().unwrap();
    let issuer = keycloak.url(REALM);
    let mut gateway = Portcullis::start(&Setup::new(&issuer, &services));

    eventually("a third try for the keys", 20, || {
        gateway.fetched("failed") >= 3.0
    });
    gateway.assert_alive();
    let readiness = gateway.readiness();
    assert_eq!(readiness.status, 503, "{}", readiness.text());
    let reason = &readiness.json()["issuers"][0]["reason"];
    assert!(reason.as_str().unwrap().contains("refused"), "{reason}");
    say!("alive, /readyz 503: {reason}");

    let token = plausible(&issuer);
    let answer = gateway.send(read("accounts"), &token);
    assert_eq!(answer.status, 503, "{}", answer.text());
    let later = answer.header("retry-after").unwrap();
    later.parse::<u32>().unwrap();
    say!("a token that might be good: 503, Retry-After {later}");
    assert_eq!(gateway.get("/eazybank/accounts", None).status, 401);
    assert_eq!(gateway.get("/contact", None).status, 200);
    say!("no token: 401; a public route: 200");

    keycloak.start("");
    gateway.wait_ready();
    let token = keycloak.token("callcenter-cc", "accounts:read");
    gateway.passes("its first token", read("accounts"), &token);
    gateway.assert_alive();
    World {
        keycloak,
        services,
        gateway,
    }
}

/// Keycloak crashes and comes back while callers go on.
pub fn crash(world: &mut World) {
    let World {
        keycloak, gateway, ..
    } = world;
    // Beside a build it may take Keycloak minutes to come back, and these have to outlive that.
    let long = json!({ "attributes": { "access.token.lifespan": "1800" } });
    keycloak.set_client("callcenter-cc", &long);
    let mint = |count| -> Vec<String> {
        let token = |_| keycloak.token("callcenter-cc", "accounts:read");
        (0..count).map(token).collect()
    };
    let (known, unseen) = (mint(4), mint(150));
    let asked_about = known[0].clone();
    let away = AtomicBool::new(false);
    let next = AtomicUsize::new(0);
    let lanes = [
        lane("local", 20, read("accounts"), |n| known[n % 4].clone()),
        lane("local, too", 20, read("accounts"), |n| known[n % 4].clone()),
        // The gateway meets these while nobody can be asked: proved by the keys that it has.
        lane("first use", 100, read("accounts"), |n| {
            if away.load(Relaxed) {
                let next = next.fetch_add(1, Relaxed);
                unseen[next % unseen.len()].clone()
            } else {
                known[n % 4].clone()
            }
        }),
        lane("opaque", 50, read("accounts"), |n| format!("opaque-{n}")),
        lane("introspect", 50, introspect(), |_| asked_about.clone()),
        lane("fresh", 50, fresh(), |_| asked_about.clone()),
    ];
    let open = r#"portcullis_introspection_breaker_open{issuer="keycloak"}"#;
    load::beside(gateway, &lanes, |log| {
        eventually("every caller is served", 20, || {
            lanes.iter().all(|lane| {
                let seen = log.of(lane.name);
                let last = seen.len().checked_sub(10).map(|from| &seen[from..]);
                last.is_some_and(|last| last.iter().all(good))
            })
        });
        keycloak.kill();
        let killed = Instant::now();
        away.store(true, Relaxed);
        let failed = gateway.fetched("failed");
        eventually("it is noticed", 60, || {
            gateway.fetched("failed") >= failed + 2.0 && gateway.metric(open) == 1.0
        });
        let readiness = gateway.readiness();
        assert_eq!(readiness.status, 200, "{}", readiness.text());
        say!("away: the breaker is open, the keys cannot be refreshed, /readyz 200");

        let told = gateway.log().len();
        let Arrival { away_until, ready } = keycloak.resume();
        let answers = answers_in_time(keycloak, &asked_about);
        say!(
            "it answers us in time {:.1} s after its readiness",
            (answers - ready).as_secs_f64()
        );
        eventually("everybody is answered again", 60, || {
            ASKED
                .iter()
                .all(|lane| back(&log.of(lane), killed).is_some())
        });
        for line in gateway.log()[told..].lines() {
            if line.contains(" issuer keycloak: it ") {
                say!("the log: {line}");
            }
        }
        for lane in ASKED {
            let seen = log.of(lane);
            let back = back(&seen, killed).unwrap();
            let took = back.saturating_duration_since(answers);
            assert!(took <= RECOVERY, "{lane}: {took:?} after that");
            let took = back.saturating_duration_since(ready);
            judged(lane, &seen, killed, away_until);
            say!(
                "{lane}: {}; answered {:.1} s after readiness",
                counts(&seen),
                took.as_secs_f64()
            );
        }
        gateway.wait_refreshed();
        for lane in ["local", "local, too", "first use"] {
            let seen = log.of(lane);
            let bad: Vec<_> = seen.iter().filter(|seen| seen.status != 200).collect();
            assert!(bad.is_empty(), "{lane}: {bad:?}");
            say!("{lane}: {}", counts(&seen));
        }
        assert!(next.load(Relaxed) > 20, "hardly anything was new meanwhile");
    });
}

const ASKED: [&str; 3] = ["opaque", "introspect", "fresh"];
/// From Keycloak's readiness on.
const RECOVERY: Duration = Duration::from_secs(10);
/// What the gateway waits for an answer: the default of `introspection.timeout`.
const PATIENCE: Duration = Duration::from_secs(2);

/// When it first answered about a token as quickly as the gateway needs it. That is at once, but not beside a build: it
/// calls itself ready while it is still cold, and no gateway can mend that.
fn answers_in_time(keycloak: &Keycloak, token: &str) -> Instant {
    let mut answered = Instant::now();
    eventually("Keycloak answers in time", 60, || {
        let asked = Instant::now();
        let answer = keycloak.introspect(token);
        assert_eq!(answer["active"], true, "{answer}");
        answered = Instant::now();
        answered - asked < PATIENCE
    });
    answered
}

fn lane<'a>(
    name: &'static str,
    pause: u64,
    call: Call,
    token: impl Fn(usize) -> String + Sync + 'a,
) -> Lane<'a> {
    Lane {
        name,
        call,
        pause: Duration::from_millis(pause),
        token: Box::new(token),
    }
}

/// What a caller gets while Keycloak is there, which has never heard of the opaque tokens.
fn alive(lane: &str) -> u16 {
    if lane == "opaque" { 401 } else { 200 }
}

fn good(seen: &Seen) -> bool {
    seen.status == alive(seen.lane)
}

/// When the first of ten good answers in a row was asked for, after the crash.
fn back(seen: &[Seen], killed: Instant) -> Option<Instant> {
    let after = seen
        .iter()
        .position(|seen| seen.status == 503 && seen.sent > killed)?;
    let rows = seen[after..].windows(10);
    let row = rows.into_iter().find(|row| row.iter().all(good))?;
    Some(row[0].sent)
}

/// Nobody guesses: a token that cannot be judged is neither good nor bad.
fn judged(lane: &str, seen: &[Seen], killed: Instant, away_until: Instant) {
    let mut away = 0;
    for seen in seen {
        let unavailable = seen.status == 503 && seen.later;
        assert!(unavailable || good(seen), "{seen:?}");
        if seen.sent > killed && seen.sent < away_until {
            // An answer of before may still be fresh enough.
            let kept = lane == "fresh" && seen.sent < killed + Duration::from_secs(FRESH);
            assert!(unavailable || kept, "{seen:?}");
            away += 1;
        }
    }
    assert!(away > 50, "{lane}: {away} calls while away");
}

/// What nobody can judge without keys: everything about it is right as far as can be seen.
fn plausible(issuer: &str) -> String {
    let now = portcullis::clock::Clock::system().unix();
    let header = json!({ "alg": "RS256", "typ": "JWT", "kid": "some-key" });
    let claims = json!({
        "iss": issuer, "aud": "eazybank-gateway", "typ": "Bearer", "azp": "eazybank-callcenter-cc",
        "sub": "somebody", "iat": now, "exp": now + 300, "scope": "accounts:read",
    });
    let parts = [
        header.to_string().into_bytes(),
        claims.to_string().into_bytes(),
        vec![0; 256],
    ];
    parts.map(|part| URL_SAFE_NO_PAD.encode(part)).join(".")
}
