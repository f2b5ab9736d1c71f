//! Tokens that are refused before their time, through the whole gateway: each way to revoke on a warm token, at its
//! next request.

use std::net::SocketAddr;

use portcullis::clock::Clock;
use portcullis::demo::issuer::{Endpoint, Issuer, IssuerOptions};
use portcullis::demo::mint::{ClaimsEdit, Signer};
use serde_json::{Value, json};

use crate::support::{
    Answer, Gateway, Origin, Running, Scratch, Setup, eventually, get, portcullis, run, send,
};

const READER: &str = "eazybank-accounts-reader-cc";
const LIGHT: &str = "eazybank-lightweight-cc";
const USER: &str = "eazybank-user-demo";
const ADMIN: &str = "Authorization: Bearer admin-of-the-test\r\n";
const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";
const PUSH: &str = "/issuers/keycloak/k_push_not_before";
const LOGOUT: &str = "/issuers/keycloak/backchannel-logout";

struct World {
    issuer: Issuer,
    origin: Origin,
    gateway: Gateway,
    _scratch: Scratch,
}

impl World {
    fn new() -> Self {
        Self::with("", "{}")
    }

    /// `issuer_more` are further keys of the issuer.
    fn with(issuer_more: &str, revocations: &str) -> Self {
        let issuer = issuer();
        let origin = Origin::start();
        let scratch = Scratch::new();
        let setup = setup(&issuer, origin.address(), &scratch, issuer_more);
        World {
            gateway: setup.revocations(revocations).start(),
            issuer,
            origin,
            _scratch: scratch,
        }
    }

    fn get(&self, token: &str) -> Answer {
        get(self.gateway.address(), "/accounts", Some(token))
    }

    /// Proved, and from now on found in the cache.
    #[track_caller]
    fn warm(&self, token: &str) {
        for _ in 0..2 {
            assert_eq!(self.get(token).status, 200);
        }
    }

    /// Refused as revoked, without a word to the service.
    #[track_caller]
    fn refuses(&self, token: &str) {
        let (before, counted) = (self.origin.received().len(), self.revoked());
        let answer = self.get(token);
        assert_eq!(answer.status, 401, "{}", answer.text());
        let challenge = answer.header("www-authenticate").unwrap();
        assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
        assert_eq!(
            answer.json()["detail"],
            "The access token is not valid here."
        );
        assert_eq!(self.origin.received().len(), before);
        self.gateway.counts(REVOKED, counted + 1.0);
    }

    fn revoked(&self) -> f64 {
        self.gateway.metric(REVOKED)
    }

    fn admin(&self, method: &str, path: &str, body: &str) -> Answer {
        send(self.gateway.admin(), method, path, ADMIN, body)
    }

    /// The path of the new revocation.
    #[track_caller]
    fn revoke(&self, kind: &str, value: &str) -> String {
        let made = self.admin("POST", "/revocations", &ask(kind, value));
        assert_eq!(made.status, 201, "{}", made.text());
        made.header("location").unwrap().to_owned()
    }

    fn push(&self, message: &str) -> u16 {
        let text = "Content-Type: text/plain; charset=ISO-8859-1\r\n";
        send(self.gateway.admin(), "POST", PUSH, text, message).status
    }

    fn logout(&self, token: &str) -> Answer {
        let form = format!("logout_token={token}");
        send(self.gateway.admin(), "POST", LOGOUT, FORM, &form)
    }

    /// What Keycloak signs when it pushes, changed.
    fn pushed(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut action = json!({
            "id": "8f1c9a52-3f0e-4a3b-bb0b-4e7c1f6f2a11",
            "expiration": now() + 30,
            "resource": "eazybank-gateway",
            "action": "PUSH_NOT_BEFORE",
            "notBefore": now() + 1,
        });
        change(&mut action);
        self.sign("JWT", &action)
    }

    /// What Keycloak signs when the user of this session logs out, changed.
    fn logged_out(&self, sid: &Value, change: impl FnOnce(&mut Value)) -> String {
        let mut logout = json!({
            "iat": now(),
            "exp": now() + 120,
            "jti": "0b5c1c0e-7a0f-4e8b-8b0e-3a9d0c2f4e55",
            "iss": self.issuer.url(),
            "aud": USER,
            "sub": "alice",
            "typ": "Logout",
            "sid": sid,
            "events": { "http://schemas.openid.net/event/backchannel-logout": {} },
        });
        change(&mut logout);
        self.sign("logout+jwt", &logout)
    }

    fn sign(&self, typ: &str, claims: &Value) -> String {
        let kid = self.issuer.active_kid("RS256").unwrap();
        let header = format!(r#"{{"alg":"RS256","typ" : "{typ}","kid" : "{kid}"}}"#);
        self.issuer
            .sign(&header, &claims.to_string(), &Signer::Realm)
    }
}

const REVOKED: &str = "portcullis_rejections_total{reason=\"revoked\",route=\"accounts\"}";

fn issuer() -> Issuer {
    Issuer::start_blocking(IssuerOptions::default()).unwrap()
}

fn setup(issuer: &Issuer, origin: SocketAddr, scratch: &Scratch, issuer_more: &str) -> Setup {
    let admin = scratch.file("admin", "admin-of-the-test\n");
    let secret = scratch.file("gateway", "demo-only-gateway\n");
    Setup::new(issuer, origin)
        .admin_token(&format!("${{file:{admin}}}"))
        .issuers(format!(
            "{{ keycloak: {{ issuer: '{}', audience: [eazybank-gateway],
               introspection: {{ client_id: eazybank-gateway, client_secret: '${{file:{secret}}}' }},
               {issuer_more} }} }}",
            issuer.url()
        ))
}

fn ask(kind: &str, value: &str) -> String {
    json!({"issuer": "keycloak", kind: value, "until": now() + 3600, "reason": "a test"})
        .to_string()
}

fn now() -> u64 {
    Clock::system().unix()
}

fn claims(token: &str) -> Value {
    use base64::Engine as _;
    let payload = token.split('.').nth(1).unwrap();
    let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload);
    serde_json::from_slice(&payload.unwrap()).unwrap()
}

#[test]
fn each_kind_refuses_a_warm_token_at_its_next_request() {
    let world = World::new();
    let token = world.issuer.token(USER, &[]);
    let other = world.issuer.token(READER, &[]);
    let (said, kid) = (claims(&token), world.issuer.active_kid("RS256").unwrap());
    let text = |name: &str| said[name].as_str().unwrap().to_owned();
    for (kind, value) in [
        ("jti", text("jti")),
        ("sub", text("sub")),
        ("sid", text("sid")),
        ("client", text("azp")),
        ("kid", kid),
    ] {
        world.warm(&token);
        world.warm(&other);
        let path = world.revoke(kind, &value);
        world.refuses(&token);
        world.refuses(&token);
        let status = world.get(&other).status;
        assert_eq!(status, if kind == "kid" { 401 } else { 200 }, "{kind}");
        let held = format!("portcullis_revocations_held{{kind=\"{kind}\"}}");
        world.gateway.counts(&held, 1.0);
        assert_eq!(world.admin("DELETE", &path, "").status, 204);
        world.gateway.counts(&held, 0.0);
        assert_eq!(world.get(&token).status, 200, "{kind}");
        assert_eq!(world.admin("DELETE", &path, "").status, 404);
    }
    let log = world.gateway.access_log(7);
    let refused: Vec<&Value> = log.iter().filter(|line| line["status"] == 401).collect();
    assert!(
        refused.iter().all(|line| line["reason"] == "revoked"),
        "{refused:?}"
    );
    assert!(refused.iter().all(|line| line["proof"] == "cache"));
}

#[test]
fn what_the_issuer_answered_is_revoked_here_too() {
    let world = World::new();
    let light = world.issuer.token(LIGHT, &[]);
    let opaque = world.issuer.opaque(READER, &[]);
    for (token, client) in [(&light, LIGHT), (&opaque, READER)] {
        world.warm(token);
        let asked = world.issuer.requests(Endpoint::Introspect);
        let path = world.revoke("client", client);
        world.refuses(token);
        world.refuses(token);
        assert_eq!(world.admin("DELETE", &path, "").status, 204);
        assert_eq!(world.get(token).status, 200);
        // Refusing it cost the issuer nothing, nor did taking it back.
        assert_eq!(world.issuer.requests(Endpoint::Introspect), asked);
    }
}

#[test]
fn revocations_outlive_a_crash_of_the_process() {
    let (issuer, origin, scratch) = (issuer(), Origin::start(), Scratch::new());
    let file = scratch.path("revocations.json");
    let setup = setup(&issuer, origin.address(), &scratch, "")
        .revocations(format!("{{ file: '{}' }}", file.display()));
    let (lost, kept) = (issuer.token(READER, &[]), issuer.token(READER, &[]));
    let jti = claims(&lost)["jti"].as_str().unwrap().to_owned();
    let mut first = Running::start(&setup);
    first.wait_ready();
    assert_eq!(get(first.address, "/accounts", Some(&lost)).status, 200);
    let made = send(
        first.admin,
        "POST",
        "/revocations",
        ADMIN,
        &ask("jti", &jti),
    );
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(get(first.address, "/accounts", Some(&lost)).status, 401);
    // A second gateway does not take the file away from it.
    let config = scratch.file("second.yaml", &setup.yaml());
    let second = run(portcullis(&["run", "--config", &config]), "");
    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(
        second.stderr.contains("another process"),
        "{}",
        second.stderr
    );
    first.process.signal("KILL");
    assert_eq!(first.process.exit(), None);

    let mut again = Running::start(&setup);
    again.wait_ready();
    assert_eq!(get(again.address, "/accounts", Some(&lost)).status, 401);
    assert_eq!(get(again.address, "/accounts", Some(&kept)).status, 200);
    let list = send(again.admin, "GET", "/revocations", ADMIN, "").json();
    assert_eq!(list, json!([made.json()]));
    again.process.signal("TERM");
    assert_eq!(again.process.exit(), Some(0));

    std::fs::write(&file, "{}\n").unwrap();
    let broken = run(portcullis(&["run", "--config", &config]), "");
    assert_eq!((broken.code, broken.stdout.as_str()), (Some(1), ""));
    assert_eq!(broken.stderr.lines().count(), 1, "{}", broken.stderr);
    assert!(
        broken.stderr.contains(&*file.to_string_lossy()),
        "{}",
        broken.stderr
    );
}

#[test]
fn there_is_room_for_so_many_and_no_more() {
    let world = World::with("", "{ max: 1 }");
    let (one, two) = (
        world.issuer.token(READER, &[]),
        world.issuer.token(LIGHT, &[]),
    );
    let path = world.revoke("client", READER);
    let full = world.admin("POST", "/revocations", &ask("client", LIGHT));
    assert_eq!(full.status, 503);
    assert!(full.text().contains("revocations.max"), "{}", full.text());
    world.refuses(&one);
    assert_eq!(world.get(&two).status, 200);
    assert_eq!(world.admin("DELETE", &path, "").status, 204);
    world.revoke("client", LIGHT);
    world.refuses(&two);
}

#[test]
fn the_admin_token_is_asked_for_and_read_again() {
    let (issuer, origin, scratch) = (issuer(), Origin::start(), Scratch::new());
    let gateway = setup(&issuer, origin.address(), &scratch, "").start();
    let list = |token: &str| {
        let fields = format!("Authorization: Bearer {token}\r\n");
        send(gateway.admin(), "GET", "/revocations", &fields, "").status
    };
    assert_eq!(get(gateway.admin(), "/revocations", None).status, 401);
    assert_eq!((list("admin-of-the-test"), list("another")), (200, 401));
    scratch.write("admin", "another\n");
    eventually("the new token is read", || list("another") == 200);
    assert_eq!(list("admin-of-the-test"), 401);

    let bare = Setup::new(&issuer, origin.address()).start();
    for (method, path) in [
        ("GET", "/revocations"),
        ("POST", "/issuers/keycloak/keys/refresh"),
    ] {
        let off = send(bare.admin(), method, path, ADMIN, "");
        assert_eq!(off.status, 404);
        assert!(off.text().contains("admin.token"), "{}", off.text());
    }
}

#[test]
fn keys_are_fetched_when_an_operator_says_so() {
    // Nothing else fetches them during the test.
    let world = World::with("keys: { refresh: 1h, cooldown: 1h }", "{}");
    let token = world.issuer.token(READER, &[]);
    world.warm(&token);
    let kid = world.issuer.active_kid("RS256").unwrap();
    let new = world.issuer.rotate("RS256").unwrap();
    world.issuer.disable(&kid);
    assert_eq!(world.get(&token).status, 200);
    let path = "/issuers/keycloak/keys/refresh";
    let came = world.admin("POST", path, "");
    assert_eq!(came.status, 200, "{}", came.text());
    let keys = came.json()["keys"].as_array().unwrap().clone();
    assert!(keys.iter().any(|key| key["kid"] == *new) && keys.iter().all(|key| key["kid"] != *kid));
    assert_eq!(world.get(&token).status, 401);
    world.issuer.set_down(true).unwrap();
    assert_eq!(world.admin("POST", path, "").status, 502);
    // What is held stays.
    world.issuer.set_down(false).unwrap();
    assert_eq!(world.get(&world.issuer.token(READER, &[])).status, 200);
}

#[test]
fn a_push_ends_older_tokens_and_fetches_the_keys() {
    let world = World::with("keys: { refresh: 1h }", "{}");
    let token = world.issuer.token(READER, &[]);
    world.warm(&token);
    let fetched = world.issuer.requests(Endpoint::Certs);
    let message = world.pushed(|_| ());
    assert_eq!(world.push(&message), 204);
    world.refuses(&token);
    eventually("the keys are fetched", || {
        world.issuer.requests(Endpoint::Certs) > fetched
    });
    let shown = get(world.gateway.admin(), "/issuers", None).json();
    assert_eq!(shown[0]["not_before"]["from"], "push", "{shown}");
    let in_force = shown[0]["not_before"]["at"].as_u64().unwrap();
    let gauge = "portcullis_not_before_timestamp_seconds{issuer=\"keycloak\"}";
    #[allow(clippy::cast_precision_loss, reason = "seconds")]
    world.gateway.counts(gauge, in_force as f64);

    let refused = [
        message,
        world.pushed(|action| action["resource"] = json!("another")),
        world.pushed(|action| action["expiration"] = json!(now() - 60)),
        world.pushed(|action| action["action"] = json!("LOGOUT")),
        world.issuer.sign(
            &format!(
                r#"{{"alg":"RS256","kid":"{}"}}"#,
                world.issuer.active_kid("RS256").unwrap()
            ),
            &json!({"id": "x", "expiration": now() + 30, "resource": "eazybank-gateway",
                "action": "PUSH_NOT_BEFORE", "notBefore": now() + 1000})
            .to_string(),
            &Signer::Foreign("RS256".to_owned()),
        ),
        "nonsense".to_owned(),
        token.clone(),
    ];
    for message in &refused {
        assert_eq!(world.push(message), 400, "{message}");
    }
    let pushes = |outcome: &str| {
        format!("portcullis_not_before_pushes_total{{issuer=\"keycloak\",outcome=\"{outcome}\"}}")
    };
    world.gateway.counts(&pushes("ok"), 1.0);
    world
        .gateway
        .counts(&pushes("refused"), refused.len() as f64);
    // It is never lowered by one, but by hand.
    let lower = world.pushed(|action| {
        action["id"] = json!("another");
        action["notBefore"] = json!(1);
    });
    assert_eq!(world.push(&lower), 204);
    world.refuses(&token);
    let path = "/revocations/not-before-keycloak";
    assert_eq!(world.admin("DELETE", path, "").status, 204);
    assert_eq!(world.get(&token).status, 200);
}

#[test]
fn a_logout_ends_the_tokens_of_its_session() {
    let world = World::with(&format!("logout: {{ clients: [web, {USER}] }}"), "{}");
    // Two logins of the same user.
    let (ended, other) = (world.issuer.token(USER, &[]), world.issuer.token(USER, &[]));
    world.warm(&ended);
    world.warm(&other);
    let sid = claims(&ended)["sid"].clone();
    let message = world.logged_out(&sid, |_| ());
    for wrong in [
        world.logged_out(&sid, |logout| logout["aud"] = json!("eazybank-gateway")),
        world.logged_out(&sid, |logout| logout["nonce"] = json!("n")),
        world.logged_out(&sid, |logout| logout["events"] = json!({})),
        world.logged_out(&sid, |logout| logout["exp"] = json!(now() - 60)),
        world.logged_out(&sid, |logout| logout["iss"] = json!("https://else.example")),
        ended.clone(),
        String::new(),
    ] {
        let answer = world.logout(&wrong);
        assert_eq!(answer.status, 400);
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.json()["error"], "invalid_request");
    }
    assert_eq!(world.get(&ended).status, 200);
    let answer = world.logout(&message);
    assert_eq!(
        (answer.status, answer.header("cache-control")),
        (200, Some("no-store"))
    );
    world.refuses(&ended);
    assert_eq!(world.get(&other).status, 200);
    assert_eq!(world.logout(&message).status, 400);
    // It is a revocation like any other.
    let list = world.admin("GET", "/revocations", "").json();
    assert_eq!(
        (&list[0]["sid"], &list[0]["origin"]),
        (&sid, &json!("logout"))
    );
    let logouts = |outcome: &str| {
        format!("portcullis_logouts_total{{issuer=\"keycloak\",outcome=\"{outcome}\"}}")
    };
    world.gateway.counts(&logouts("ok"), 1.0);

    // Of all of a user's sessions: what was issued until then, and not what comes after.
    let all = world.logged_out(&sid, |logout| {
        logout["jti"] = json!("another");
        logout["sub"] = claims(&other)["sub"].clone();
        logout.as_object_mut().unwrap().remove("sid");
    });
    assert_eq!(world.logout(&all).status, 200);
    world.refuses(&other);
    let later = world
        .issuer
        .mint(ClaimsEdit::of(USER, &[]).claims(|claims| {
            claims.insert("iat".to_owned(), json!(now() + 60));
        }));
    assert_eq!(world.get(&later).status, 200);
}

#[test]
fn a_logout_that_cannot_be_kept_is_not_said_to_be() {
    let world = World::with(&format!("logout: {{ clients: [{USER}] }}"), "{ max: 1 }");
    world.revoke("jti", "another");
    let token = world.issuer.token(USER, &[]);
    let message = world.logged_out(&claims(&token)["sid"], |_| ());
    assert_eq!(world.logout(&message).status, 503);
    let failed = "portcullis_logouts_total{issuer=\"keycloak\",outcome=\"failed\"}";
    world.gateway.counts(failed, 1.0);
    assert_eq!(world.get(&token).status, 200);
}

#[test]
fn the_realms_not_before_is_followed() {
    let world = World::with("not_before: { poll: 1s }", "{}");
    let token = world.issuer.token(READER, &[]);
    world.warm(&token);
    world.issuer.set_not_before(now() + 1);
    eventually("the realm document is looked at", || {
        world.get(&token).status == 401
    });
    world.refuses(&token);
    let shown = get(world.gateway.admin(), "/issuers", None).json();
    assert_eq!(shown[0]["not_before"]["from"], "poll", "{shown}");
    let polls = "portcullis_not_before_polls_total{issuer=\"keycloak\",outcome=\"ok\"}";
    assert!(world.gateway.metric(polls) >= 2.0);
    // While the realm is away, its last word stays.
    world.issuer.set_down(true).unwrap();
    let failed = "portcullis_not_before_polls_total{issuer=\"keycloak\",outcome=\"failed\"}";
    eventually("a look fails", || world.gateway.metric(failed) > 0.0);
    world.refuses(&token);
    assert_eq!(get(world.gateway.admin(), "/readyz", None).status, 200);
    world.issuer.set_down(false).unwrap();
    world.issuer.set_not_before(0);
    eventually("the realm takes it back", || {
        world.get(&token).status == 200
    });
}
