//! I1 to I9: the keys and what leads to them.

use std::time::Duration;

use portcullis::demo::issuer::Endpoint;
use portcullis::demo::keys::KeyState;
use portcullis::demo::mint::{ClaimsEdit, Signer};
use serde_json::json;

use super::{KEYS, READER, Rig, SCOPES, unavailable};
use crate::support::{Faulty, Ill, Origin, Setup, eventually, get, gzip_bomb};

fn signed(rig: &Rig, signer: Signer) -> String {
    let edit = ClaimsEdit::of(READER, SCOPES).signed_by(signer);
    rig.faulty.issuer.mint(edit)
}

#[test]
fn i01_without_keys_at_the_start_nothing_is_judged_and_no_key_is_made_up() {
    for (name, endpoint, ill) in [
        ("drop", Endpoint::Discovery, Ill::Drops),
        ("hang", Endpoint::Certs, Ill::Hangs),
        ("500", Endpoint::Certs, Ill::status(500)),
        ("empty set", Endpoint::Certs, Ill::body("{\"keys\":[]}")),
    ] {
        let rig = Rig::cold(|faulty| faulty.set(endpoint, ill));
        let failed = || rig.refreshes("failed") + rig.refreshes("invalid") >= 1.0;
        eventually("the first fetch failed", failed);
        let token = rig.good();
        unavailable(&rig.get(&token), name);
        assert_eq!(rig.gateway.metric(KEYS), 0.0, "{name}");
        rig.rejected("keys_unavailable", 1);
        rig.verified("local", "unavailable", 1);
        let ready = rig.readyz();
        assert_eq!(ready.status, 503, "{name}");
        assert!(ready.json()["issuers"][0]["reason"].is_string(), "{name}");
        assert_eq!(get(rig.gateway.admin(), "/livez", None).status, 200);
        rig.faulty.heal(endpoint);
        rig.gateway.wait_ready();
        assert_eq!(rig.ask(&token), 200, "{name}");
    }
}

#[test]
fn i02_an_outage_later_leaves_the_last_good_set_until_max_stale() {
    let rig = Rig::ready();
    rig.survives(
        Endpoint::Certs,
        vec![
            ("drop", Ill::Drops, "failed"),
            ("hang", Ill::Hangs, "failed"),
            ("500", Ill::status(500), "failed"),
            ("503", Ill::status(503), "failed"),
        ],
    );
    let rig = Rig::ready();
    rig.faulty.set(Endpoint::Certs, Ill::Drops);
    unavailable(&rig.provoke(), "an unknown key");
    let age = "portcullis_jwks_age_seconds{issuer=\"keycloak\"}";
    rig.gateway.counts(age, 41.0);
    rig.clock.advance(Duration::from_secs(24 * 3600 - 41));
    assert_eq!(rig.ask(&rig.good()), 200);
    let proved = rig.good();
    assert_eq!(rig.ask(&proved), 200);
    rig.clock.advance(Duration::from_secs(1));
    unavailable(&rig.get(&rig.good()), "keys that are too old");
    unavailable(&rig.get(&proved), "a kept proof too");
    rig.rejected("keys_stale", 2);
    rig.gateway.counts(age, 86401.0);
    let ready = rig.readyz();
    assert_eq!(ready.status, 503);
    let reason = ready.json()["issuers"][0]["reason"].clone();
    let reason = reason.as_str().unwrap();
    assert!(reason.starts_with("the keys are 86401 s old"), "{reason}");
}

#[test]
fn i03_no_bad_set_replaces_a_good_one() {
    let rig = Rig::ready();
    let only_enc = |set: &mut serde_json::Value| {
        let keys = set["keys"].as_array_mut().unwrap();
        keys.retain(|key| key["use"] == "enc");
        assert!(!keys.is_empty());
    };
    rig.survives(
        Endpoint::Certs,
        vec![
            ("nothing", Ill::body(""), "invalid"),
            ("HTML", Ill::html(), "invalid"),
            ("null", Ill::body("null"), "invalid"),
            ("an array", Ill::body("[]"), "invalid"),
            (
                "keys that are no list",
                Ill::body("{\"keys\":{}}"),
                "invalid",
            ),
            ("no keys", Ill::body("{\"keys\":[]}"), "invalid"),
            ("garbage", Ill::body(vec![0xff; 1000]), "invalid"),
            (
                "half of it as a whole",
                Ill::body("{\"keys\":[{\"kty\":"),
                "invalid",
            ),
            ("truncated", Ill::Truncated, "failed"),
            ("204", Ill::status(204), "failed"),
            ("only enc", Ill::changed(only_enc), "invalid"),
            (
                "a secret",
                Ill::body("{\"keys\":[{\"kty\":\"oct\",\"kid\":\"k\",\"k\":\"AAAA\"}]}"),
                "invalid",
            ),
        ],
    );
    // One bad key costs nobody else.
    let first_bad = |set: &mut serde_json::Value| {
        let keys = set["keys"].as_array_mut().unwrap();
        keys.insert(
            0,
            json!({"kty": "AKP", "alg": "ML-DSA-44", "kid": "pq", "pub": "x"}),
        );
        keys.insert(
            0,
            json!({"kty": "RSA", "kid": "broken", "n": "!", "e": "AQAB"}),
        );
        keys.insert(0, json!(null));
    };
    rig.faulty.set(Endpoint::Certs, Ill::changed(first_bad));
    let (held, ok) = (rig.gateway.metric(KEYS), rig.refreshes("ok"));
    assert_eq!(rig.provoke().status, 401);
    assert_eq!(rig.refreshes("ok"), ok + 1.0);
    assert_eq!(rig.gateway.metric(KEYS), held);
    assert_eq!(rig.ask(&rig.good()), 200);
    // Somebody else's good set is a good set: who answers at that address decides. It is taken, whole.
    let foreign = Faulty::start(rig.clock.clone()).issuer.jwks().to_string();
    let ours = rig.good();
    rig.faulty.set(Endpoint::Certs, Ill::body(foreign));
    assert_eq!(rig.provoke().status, 401);
    assert_eq!(rig.ask(&ours), 401);
}

#[test]
fn i04_nothing_that_is_too_large_or_too_slow_is_read() {
    let rig = Rig::ready();
    let began = std::time::Instant::now();
    let gzip = "Content-Encoding: gzip\r\n".to_owned();
    rig.survives(
        Endpoint::Certs,
        vec![
            ("64 MiB", Ill::body(vec![b' '; 64 << 20]), "failed"),
            (
                "a byte too much",
                Ill::body(vec![b' '; (256 << 10) + 1]),
                "failed",
            ),
            ("endless", Ill::Endless, "failed"),
            ("interim answers without end", Ill::Interims, "failed"),
            ("a slow drip", Ill::Drips, "failed"),
            ("a bomb", Ill::Says(200, gzip, gzip_bomb(32)), "failed"),
            ("a silent bomb", Ill::body(gzip_bomb(32)), "invalid"),
        ],
    );
    // The drip would take half an hour.
    assert!(began.elapsed() < Duration::from_secs(60));
}

#[test]
fn i05_redirects_are_not_followed() {
    let rig = Rig::ready();
    let elsewhere = Origin::start();
    let other = format!("http://{}/certs", elsewhere.address());
    let own = format!("/realms/eazybank{}", Endpoint::Certs.path());
    rig.survives(
        Endpoint::Certs,
        vec![
            ("in a circle", Ill::redirect(302, &own), "failed"),
            ("301 to another host", Ill::redirect(301, &other), "failed"),
            ("307 to another host", Ill::redirect(307, &other), "failed"),
            ("308 to another host", Ill::redirect(308, &other), "failed"),
        ],
    );
    assert!(elsewhere.received().is_empty());
}

/// Discovery is asked again when the keys' address stops working.
#[test]
fn i06_discovery_must_be_our_issuers_and_lead_to_a_safe_place() {
    let rig = Rig::ready();
    rig.faulty.set(Endpoint::Certs, Ill::status(404));
    let held = rig.gateway.metric(KEYS);
    let names = |member: &'static str, value: &str| {
        let value = value.to_owned();
        Ill::changed(move |document| document[member] = value.clone().into())
    };
    let url = rig.faulty.url();
    let longer = format!("{url}/");
    let cases = [
        (
            "another issuer",
            names("issuer", "http://127.0.0.1:1/realms/other"),
            "invalid",
        ),
        ("a longer issuer", names("issuer", &longer), "invalid"),
        (
            "an issuer in a list",
            Ill::changed(move |d| d["issuer"] = json!([url])),
            "invalid",
        ),
        (
            "plain HTTP elsewhere",
            names("jwks_uri", "http://keys.example/jwks"),
            "invalid",
        ),
        ("no address", names("jwks_uri", "certs"), "invalid"),
        ("HTML", Ill::html(), "invalid"),
        ("no document", Ill::body("[]"), "invalid"),
        ("nothing in it", Ill::body("{}"), "invalid"),
        ("truncated", Ill::Truncated, "failed"),
        ("too large", Ill::body(vec![b' '; 300 << 10]), "failed"),
        ("a redirect", Ill::redirect(302, "/elsewhere"), "failed"),
        ("hang", Ill::Hangs, "failed"),
        ("404", Ill::status(404), "failed"),
    ];
    for (name, ill, outcome) in cases {
        let before = rig.refreshes(outcome);
        rig.faulty.set(Endpoint::Discovery, ill);
        unavailable(&rig.provoke(), name);
        assert_eq!(rig.refreshes(outcome), before + 1.0, "{name}");
        assert_eq!(rig.gateway.metric(KEYS), held, "{name}");
        assert_eq!(rig.ask(&rig.good()), 200, "{name}");
    }
    rig.faulty.heal(Endpoint::Discovery);
    rig.faulty.heal(Endpoint::Certs);
    assert_eq!(rig.provoke().status, 401, "it is well again");
}

#[test]
fn i06_another_issuer_at_the_start_is_told_and_never_trusted() {
    let rig = Rig::cold(|faulty| {
        let other = |document: &mut serde_json::Value| {
            document["issuer"] = "http://127.0.0.1:1/realms/other".into();
        };
        faulty.set(Endpoint::Discovery, Ill::changed(other));
    });
    eventually("the first fetch ended", || rig.refreshes("invalid") >= 1.0);
    assert_eq!(rig.faulty.requests(Endpoint::Certs), 0);
    unavailable(&rig.get(&rig.good()), "no keys");
    let ready = rig.readyz();
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("/realms/other"), "{}", ready.text());
}

/// The keys of one issuer prove nothing for another.
#[test]
fn i06_one_issuer_never_speaks_for_another() {
    let clock = super::now();
    let (first, second) = (Faulty::start(clock.clone()), Faulty::start(clock.clone()));
    let origin = Origin::start();
    let gateway = Setup::new(&first.issuer, origin.address())
        .clock(clock)
        .issuers(format!(
            "{{ first: {{ issuer: '{}', audience: [eazybank-gateway] }},
                second: {{ issuer: '{}', audience: [eazybank-gateway] }} }}",
            first.url(),
            second.url()
        ))
        .start();
    let ask = |token: &str| get(gateway.address(), "/accounts", Some(token)).status;
    for issuer in [&first, &second] {
        assert_eq!(ask(&issuer.issuer.token(READER, &[])), 200);
    }
    for (received, issuer) in origin.received().iter().zip([&first, &second]) {
        let name = received.header("x-auth-issuer");
        assert_eq!(name, Some(issuer.url().as_str()));
    }
    // Signed by a key that we trust, for what its owner may not say.
    let theirs = second.url();
    let claiming = |claims: &mut serde_json::Map<String, serde_json::Value>, theirs: String| {
        claims.insert("iss".to_owned(), theirs.into());
    };
    let forged = {
        let theirs = theirs.clone();
        let edit = ClaimsEdit::of(READER, &[]);
        first
            .issuer
            .mint(edit.claims(move |claims| claiming(claims, theirs)))
    };
    assert_eq!(ask(&forged), 401);
    // Under the other's key id it is the signature that betrays it.
    let kid = second.issuer.active_kid("RS256").unwrap();
    let edit = ClaimsEdit::of(READER, &[])
        .claims(move |claims| claiming(claims, theirs))
        .header(move |header| {
            header.insert("kid".to_owned(), kid.into());
        })
        .signed_by(Signer::Foreign("RS256".to_owned()));
    assert_eq!(ask(&first.issuer.mint(edit)), 401);
    let log = gateway.access_log(4);
    assert_eq!(log[2]["reason"], "unknown_key");
    assert_eq!(log[3]["reason"], "bad_signature");
    // One of them is down: the other's tokens are judged.
    second.set(Endpoint::Certs, Ill::Drops);
    assert_eq!(ask(&first.issuer.token(READER, &[])), 200);
    let log = gateway.access_log(5);
    assert_eq!(log[0]["issuer"], "first");
    assert_eq!(log[1]["issuer"], "second");
}

#[test]
fn i07_a_new_key_serves_at_once_for_one_fetch() {
    let rig = Rig::ready();
    let old = rig.good();
    assert_eq!(rig.ask(&old), 200);
    assert_eq!(rig.faulty.requests(Endpoint::Certs), 1);
    rig.faulty.issuer.rotate("RS256").unwrap();
    // Nobody sees a 401 in between.
    let token = rig.good();
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..50).map(|_| scope.spawn(|| rig.ask(&token))).collect();
        let joined = asked.into_iter().map(|asked| asked.join().unwrap());
        joined.collect()
    });
    assert_eq!(statuses, [200; 50]);
    assert_eq!(rig.ask(&rig.good()), 200);
    assert_eq!(rig.faulty.requests(Endpoint::Certs), 2);
    assert_eq!(rig.faulty.requests(Endpoint::Discovery), 1);
    assert_eq!(rig.ask(&old), 200, "its key is passive, not gone");
    assert_eq!(rig.refreshes("ok"), 2.0);
    rig.rejected("unknown_key", 0);
}

#[test]
fn i08_a_withdrawn_key_takes_its_kept_proofs_along() {
    let rig = Rig::ready();
    let issuer = &rig.faulty.issuer;
    let kid = issuer.active_kid("RS256").unwrap();
    let passive = issuer.kids("RS256", KeyState::Passive).remove(0);
    let (old, unseen) = (rig.good(), rig.good());
    let passive = signed(&rig, Signer::Kid(passive));
    assert_eq!(rig.ask(&old), 200);
    assert_eq!(rig.ask(&passive), 200, "a passive key is good");
    let held = rig.gateway.metric(KEYS);
    issuer.rotate("RS256").unwrap();
    assert!(issuer.disable(&kid));
    assert_eq!(rig.ask(&old), 200, "nobody has told us");
    // The next fetch, whoever needs it, ends it.
    assert_eq!(rig.ask(&rig.good()), 200);
    assert_eq!(rig.refreshes("ok"), 2.0);
    assert_eq!(rig.gateway.metric(KEYS), held, "one came, one went");
    assert_eq!(rig.ask(&old), 401);
    assert_eq!(rig.ask(&unseen), 401);
    assert_eq!(rig.ask(&passive), 200);
    rig.rejected("unknown_key", 2);
    assert!(issuer.set_key_state(&kid, KeyState::Passive));
    assert_eq!(rig.provoke().status, 401);
    assert_eq!(rig.ask(&rig.good()), 200);
    rig.verified("local", "refused", 3);
}

/// It is found by itself, at the next refresh.
#[test]
fn i08_a_withdrawn_key_is_refused_within_the_refresh_period() {
    let (faulty, origin) = (Faulty::start(super::now()), Origin::start());
    let gateway = Setup::new(&faulty.issuer, origin.address())
        .issuers(format!(
            "{{ keycloak: {{ issuer: '{}', audience: [eazybank-gateway], keys: {{ refresh: 1s }} }} }}",
            faulty.url()
        ))
        .start();
    let token = faulty.issuer.token(READER, &[]);
    let ask = || get(gateway.address(), "/accounts", Some(&token)).status;
    assert_eq!(ask(), 200);
    let kid = faulty.issuer.active_kid("RS256").unwrap();
    assert!(faulty.issuer.disable(&kid));
    eventually("the withdrawn key is refused", || ask() == 401);
}

/// Set up anew from its export, Keycloak has other keys under the same ids.
#[test]
fn i09_another_key_under_a_known_id_is_found_by_its_first_token() {
    let rig = Rig::ready();
    let old = rig.good();
    assert_eq!(rig.ask(&old), 200);
    rig.faulty.issuer.set_up_anew("RS256").unwrap();
    assert_eq!(rig.ask(&rig.good()), 200, "in the same request");
    assert_eq!(rig.refreshes("ok"), 2.0);
    assert_eq!(rig.ask(&old), 401, "its key is gone, and its proof with it");
    // Forged tokens cost one fetch a window, and never an unknown key its own.
    for _ in 0..20 {
        let forged = signed(&rig, Signer::Foreign("RS256".to_owned()));
        assert_eq!(rig.ask(&forged), 401);
    }
    assert_eq!(rig.refreshes("ok"), 2.0);
    rig.rejected("bad_signature", 21);
    rig.faulty.issuer.rotate("RS256").unwrap();
    assert_eq!(rig.ask(&rig.good()), 200);
    assert_eq!(rig.refreshes("ok"), 3.0);
    rig.clock.advance(Duration::from_secs(11));
    let forged = signed(&rig, Signer::Foreign("RS256".to_owned()));
    assert_eq!(rig.ask(&forged), 401);
    assert_eq!(rig.ask(&forged), 401);
    assert_eq!(rig.refreshes("ok"), 4.0);
    // While the issuer is down they are 401 all the same: the key that is held has judged them.
    rig.faulty.set(Endpoint::Certs, Ill::status(500));
    rig.clock.advance(Duration::from_secs(11));
    assert_eq!(rig.ask(&forged), 401);
    assert_eq!(rig.refreshes("failed"), 1.0);
    rig.verified("local", "unavailable", 0);
}
