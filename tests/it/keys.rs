//! The life of an issuer's keys, end to end: rotation, cool-down, withdrawal, and an issuer that fails in every way.

use std::time::Duration;

use portcullis::clock::Clock;
use portcullis::config::plan::Algorithm;
use portcullis::demo::issuer::{Endpoint, Fault, Issuer, IssuerOptions};
use portcullis::demo::keys::KeyState;
use portcullis::demo::mint::{ClaimsEdit, Signer};

use crate::support::{Gateway, Origin, Scratch, Setup, eventually, get};

const READER: &str = "eazybank-accounts-reader-cc";

fn issuer() -> Issuer {
    Issuer::start_blocking(IssuerOptions::default()).unwrap()
}

/// An issuer of this configuration name; `more` is what follows `issuer` and `audience`.
fn trusted(issuer: &Issuer, more: &str) -> String {
    format!(
        "{{ keycloak: {{ issuer: '{}', audience: [eazybank-gateway]{more} }} }}",
        issuer.url()
    )
}

/// Keys that are fetched anew as often as the contract allows, and fetches that give up soon.
const BRISK: &str = ", keys: { refresh: 1s, timeout: 300ms }";

fn refreshes(outcome: &str) -> String {
    format!("portcullis_jwks_refreshes_total{{issuer=\"keycloak\",outcome=\"{outcome}\"}}")
}

const KEYS: &str = "portcullis_jwks_keys{issuer=\"keycloak\"}";

fn ask(gateway: &Gateway, token: &str) -> u16 {
    get(gateway.address(), "/accounts", Some(token)).status
}

/// The reason of the last of `lines` requests.
fn last_reason(gateway: &Gateway, lines: usize) -> String {
    let log = gateway.access_log(lines);
    log.last().unwrap()["reason"].as_str().unwrap().to_owned()
}

fn signed(issuer: &Issuer, signer: Signer) -> String {
    issuer.mint(ClaimsEdit::of(READER, &["accounts:read"]).signed_by(signer))
}

/// Tokens under key ids that nobody has.
fn of_nobody(issuer: &Issuer, number: usize) -> String {
    issuer.mint(ClaimsEdit::of(READER, &[]).header(move |header| {
        header.insert("kid".to_owned(), format!("nobody-{number}").into());
    }))
}

#[test]
fn a_new_key_serves_at_once_for_one_fetch() {
    let (issuer, origin) = (issuer(), Origin::start());
    let gateway = Setup::new(&issuer, origin.address()).start();
    let old = issuer.token(READER, &[]);
    assert_eq!(ask(&gateway, &old), 200);
    assert_eq!(issuer.requests(Endpoint::Certs), 1);
    issuer.rotate("RS256").unwrap();
    for _ in 0..3 {
        assert_eq!(ask(&gateway, &issuer.token(READER, &[])), 200);
    }
    assert_eq!(issuer.requests(Endpoint::Certs), 2);
    assert_eq!(issuer.requests(Endpoint::Discovery), 1);
    assert_eq!(ask(&gateway, &old), 200, "its key is passive, not gone");
    gateway.counts(&refreshes("ok"), 2.0);
}

#[test]
fn fifty_first_requests_share_one_fetch() {
    let (issuer, origin) = (issuer(), Origin::start());
    let gateway = Setup::new(&issuer, origin.address()).start();
    issuer.rotate("RS256").unwrap();
    // Long enough for all of them to meet.
    let slow = Fault::Slow(Duration::from_millis(500));
    issuer.set_fault(Endpoint::Certs, slow);
    let token = issuer.token(READER, &[]);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..50)
            .map(|_| scope.spawn(|| ask(&gateway, &token)))
            .collect();
        asked
            .into_iter()
            .map(|asked| asked.join().unwrap())
            .collect()
    });
    assert_eq!(statuses, [200; 50]);
    assert_eq!(issuer.requests(Endpoint::Certs), 2);
}

#[test]
fn unknown_key_ids_cost_one_fetch_a_window() {
    let clock = Clock::manual(Clock::system().unix());
    let (issuer, origin) = (issuer(), Origin::start());
    let gateway = Setup::new(&issuer, origin.address())
        .clock(clock.clone())
        .start();
    let good = issuer.token(READER, &[]);
    let mut number = 0;
    let mut flood = |status: u16| {
        for _ in 0..10 {
            number += 1;
            assert_eq!(
                ask(&gateway, &of_nobody(&issuer, number)),
                status,
                "{number}"
            );
        }
    };
    flood(401);
    assert_eq!(issuer.requests(Endpoint::Certs), 2);
    clock.advance(Duration::from_secs(9));
    flood(401);
    assert_eq!(
        issuer.requests(Endpoint::Certs),
        2,
        "the window lasts ten seconds"
    );
    clock.advance(Duration::from_secs(2));
    // A fetch that fails leaves the question open, and the window too.
    issuer.set_fault(Endpoint::Certs, Fault::Status(500));
    flood(503);
    assert_eq!(issuer.requests(Endpoint::Certs), 3);
    assert_eq!(ask(&gateway, &good), 200);
    clock.advance(Duration::from_secs(11));
    issuer.clear_fault(Endpoint::Certs);
    flood(401);
    assert_eq!(issuer.requests(Endpoint::Certs), 4);
    assert_eq!(ask(&gateway, &good), 200);
    let reasons: Vec<String> = gateway
        .access_log(42)
        .iter()
        .filter_map(|line| Some(line["reason"].as_str()?.to_owned()))
        .collect();
    let count = |reason: &str| reasons.iter().filter(|r| *r == reason).count();
    assert_eq!((count("unknown_key"), count("key_fetch_failed")), (30, 10));
}

#[test]
fn an_undecided_key_is_503_with_retry_after() {
    let (issuer, origin) = (issuer(), Origin::start());
    let gateway = Setup::new(&issuer, origin.address()).start();
    issuer.set_down(true).unwrap();
    let answer = get(gateway.address(), "/accounts", Some(&of_nobody(&issuer, 0)));
    assert_eq!(answer.status, 503);
    assert!(answer.header("retry-after").is_some());
    assert!(answer.header("www-authenticate").is_none());
}

#[test]
fn a_removed_key_is_refused_after_the_next_refresh() {
    let (issuer, origin) = (issuer(), Origin::start());
    let gateway = Setup::new(&issuer, origin.address())
        .issuers(trusted(&issuer, BRISK))
        .start();
    let kid = issuer.active_kid("RS256").unwrap();
    let passive = issuer.kids("RS256", KeyState::Passive).remove(0);
    let old = issuer.token(READER, &[]);
    let passive = signed(&issuer, Signer::Kid(passive));
    assert_eq!(ask(&gateway, &old), 200);
    assert_eq!(ask(&gateway, &passive), 200, "a passive key is good");
    issuer.rotate("RS256").unwrap();
    assert!(issuer.disable(&kid));
    eventually("the removed key is refused", || ask(&gateway, &old) == 401);
    eventually("the log says why", || {
        let log = gateway.access_log(3);
        log.iter().any(|line| line["reason"] == "unknown_key")
    });
    assert_eq!(ask(&gateway, &passive), 200);
    assert_eq!(ask(&gateway, &issuer.token(READER, &[])), 200);
    assert!(issuer.set_key_state(&kid, KeyState::Passive));
    eventually("the key is back", || ask(&gateway, &old) == 200);
}

#[test]
fn no_bad_answer_replaces_good_keys() {
    let (issuer, origin) = (issuer(), Origin::start());
    let gateway = Setup::new(&issuer, origin.address())
        .issuers(trusted(&issuer, BRISK))
        .start();
    let held = gateway.metric(KEYS);
    assert!(held >= 2.0);
    let foreign = self::issuer().jwks().to_string();
    for (fault, outcome) in [
        (Fault::Status(500), "failed"),
        (Fault::Status(204), "failed"),
        (Fault::Html, "invalid"),
        (Fault::Truncated, "invalid"),
        (Fault::EmptySet, "invalid"),
        (Fault::Hang, "failed"),
        (Fault::Slow(Duration::from_secs(2)), "failed"),
        (Fault::Redirect, "failed"),
        (Fault::Oversized(300 * 1024), "failed"),
        (Fault::RawBody(String::new()), "invalid"),
        (Fault::RawBody("{\"keys\":{}}".to_owned()), "invalid"),
        (
            Fault::RawBody("{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"}]}".to_owned()),
            "invalid",
        ),
    ] {
        let (failed, ok) = (gateway.metric(&refreshes(outcome)), refreshes("ok"));
        let name = format!("{fault:?}");
        issuer.set_fault(Endpoint::Certs, fault);
        eventually(&format!("{name} counts as {outcome}"), || {
            gateway.metric(&refreshes(outcome)) > failed
        });
        assert_eq!(gateway.metric(KEYS), held, "{name}");
        assert_eq!(ask(&gateway, &issuer.token(READER, &[])), 200, "{name}");
        assert_eq!(get(gateway.admin(), "/readyz", None).status, 200, "{name}");
        let before = gateway.metric(&ok);
        issuer.clear_fault(Endpoint::Certs);
        eventually("the issuer has recovered", || gateway.metric(&ok) > before);
    }
    // Somebody else's good set is a good set: who answers at that address decides. It is taken, whole.
    let ours = issuer.token(READER, &[]);
    issuer.set_fault(Endpoint::Certs, Fault::RawBody(foreign));
    eventually("the set is replaced", || ask(&gateway, &ours) == 401);
}

/// Discovery is asked again when the keys' address stops working.
#[test]
fn no_bad_discovery_replaces_good_keys() {
    let (issuer, origin) = (issuer(), Origin::start());
    let gateway = Setup::new(&issuer, origin.address())
        .issuers(trusted(&issuer, BRISK))
        .start();
    let held = gateway.metric(KEYS);
    for (fault, outcome) in [
        (Fault::WrongIssuer, "invalid"),
        (Fault::Html, "invalid"),
        (Fault::Truncated, "invalid"),
        (Fault::EmptySet, "invalid"),
        (
            Fault::RawBody(format!("{{\"issuer\":\"{}\"}}", issuer.url())),
            "invalid",
        ),
        (
            Fault::RawBody(format!(
                "{{\"issuer\":\"{}\",\"jwks_uri\":\"http://keys.example/jwks\"}}",
                issuer.url()
            )),
            "invalid",
        ),
        (Fault::Redirect, "failed"),
        (Fault::Oversized(300 * 1024), "failed"),
        (Fault::Hang, "failed"),
        (Fault::Status(404), "failed"),
    ] {
        let (before, ok) = (gateway.metric(&refreshes(outcome)), refreshes("ok"));
        let name = format!("{fault:?}");
        issuer.set_fault(Endpoint::Discovery, fault);
        issuer.set_fault(Endpoint::Certs, Fault::Status(500));
        eventually(&format!("{name} counts as {outcome}"), || {
            gateway.metric(&refreshes(outcome)) > before
        });
        assert_eq!(gateway.metric(KEYS), held, "{name}");
        assert_eq!(ask(&gateway, &issuer.token(READER, &[])), 200, "{name}");
        let before = gateway.metric(&ok);
        issuer.clear_fault(Endpoint::Discovery);
        issuer.clear_fault(Endpoint::Certs);
        eventually("the issuer has recovered", || gateway.metric(&ok) > before);
    }
}

#[test]
fn a_wrong_issuer_at_the_start_is_told_and_never_trusted() {
    let (issuer, origin) = (issuer(), Origin::start());
    issuer.set_fault(Endpoint::Discovery, Fault::WrongIssuer);
    let gateway = Setup::new(&issuer, origin.address()).start_unready();
    eventually("the first fetch ended", || {
        gateway.metric(&refreshes("invalid")) >= 1.0
    });
    assert_eq!(issuer.requests(Endpoint::Certs), 0);
    assert_eq!(ask(&gateway, &issuer.token(READER, &[])), 503);
    let ready = get(gateway.admin(), "/readyz", None);
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("/realms/other"), "{}", ready.text());
}

#[test]
fn the_gateway_outlives_its_issuer() {
    let (issuer, origin) = (issuer(), Origin::start());
    issuer.set_down(true).unwrap();
    let gateway = Setup::new(&issuer, origin.address()).start_unready();
    let token = issuer.token(READER, &[]);
    eventually("the first fetch failed", || {
        gateway.metric(&refreshes("failed")) >= 1.0
    });
    assert_eq!(ask(&gateway, &token), 503);
    assert_eq!(get(gateway.admin(), "/readyz", None).status, 503);
    assert_eq!(get(gateway.admin(), "/livez", None).status, 200);
    issuer.set_down(false).unwrap();
    gateway.wait_ready();
    assert_eq!(ask(&gateway, &token), 200);
    issuer.set_down(true).unwrap();
    assert_eq!(ask(&gateway, &token), 200, "cached keys go on serving");
    assert_eq!(get(gateway.admin(), "/readyz", None).status, 200);
}

#[test]
fn keys_that_are_too_old_are_none() {
    let clock = Clock::manual(Clock::system().unix());
    let issuer = Issuer::start_blocking(IssuerOptions {
        clock: clock.clone(),
        ..IssuerOptions::default()
    })
    .unwrap();
    let origin = Origin::start();
    let gateway = Setup::new(&issuer, origin.address())
        .clock(clock.clone())
        .start();
    clock.advance(Duration::from_secs(24 * 3600));
    assert_eq!(ask(&gateway, &issuer.token(READER, &[])), 200);
    clock.advance(Duration::from_secs(1));
    assert_eq!(ask(&gateway, &issuer.token(READER, &[])), 503);
    assert_eq!(last_reason(&gateway, 2), "keys_stale");
    let ready = get(gateway.admin(), "/readyz", None);
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("old"), "{}", ready.text());
}

#[test]
fn keys_are_read_from_a_file_and_read_again() {
    let (issuer, origin, files) = (issuer(), Origin::start(), Scratch::new());
    let path = files.write("jwks.json", issuer.jwks().to_string());
    let from = format!(
        ", jwks_uri: 'file:{}', keys: {{ refresh: 1s }}",
        path.display()
    );
    let gateway = Setup::new(&issuer, origin.address())
        .issuers(trusted(&issuer, &from))
        .start();
    assert_eq!(ask(&gateway, &issuer.token(READER, &[])), 200);
    issuer.rotate("RS256").unwrap();
    let rotated = issuer.token(READER, &[]);
    assert_eq!(ask(&gateway, &rotated), 401);
    files.write("jwks.json", issuer.jwks().to_string());
    eventually("the file is read again", || ask(&gateway, &rotated) == 200);
    std::fs::remove_file(&path).unwrap();
    eventually("its absence is noticed", || {
        gateway.metric(&refreshes("failed")) >= 1.0
    });
    assert_eq!(ask(&gateway, &rotated), 200);
    assert_eq!(issuer.requests(Endpoint::Certs), 0);
    assert_eq!(issuer.requests(Endpoint::Discovery), 0);
}

#[test]
fn a_jwks_uri_needs_no_discovery() {
    let (issuer, origin) = (issuer(), Origin::start());
    issuer.set_fault(Endpoint::Discovery, Fault::Status(404));
    let from = format!(", jwks_uri: '{}'", issuer.endpoint(Endpoint::Certs));
    let gateway = Setup::new(&issuer, origin.address())
        .issuers(trusted(&issuer, &from))
        .start();
    assert_eq!(ask(&gateway, &issuer.token(READER, &[])), 200);
    assert_eq!(issuer.requests(Endpoint::Discovery), 0);
}

/// Internal and external address of one issuer.
#[test]
fn tokens_may_name_another_address_than_discovery_has() {
    let origin = Origin::start();
    let issuer = Issuer::start_blocking(IssuerOptions {
        base_url: Some("https://sso.example.com".to_owned()),
        ..IssuerOptions::default()
    })
    .unwrap();
    let from = format!(
        ", discovery_url: '{}'",
        issuer.endpoint(Endpoint::Discovery)
    );
    let gateway = Setup::new(&issuer, origin.address())
        .issuers(trusted(&issuer, &from))
        .start();
    assert!(issuer.url().starts_with("https://sso.example.com/"));
    assert_eq!(ask(&gateway, &issuer.token(READER, &[])), 200);
    let got = origin.only();
    assert_eq!(got.header("x-auth-issuer"), Some(issuer.url().as_str()));
}

#[test]
fn one_issuer_never_speaks_for_another() {
    let origin = Origin::start();
    let (first, second) = (issuer(), issuer());
    let gateway = Setup::new(&first, origin.address())
        .issuers(format!(
            "{{ first: {{ issuer: '{}', audience: [eazybank-gateway] }},
                second: {{ issuer: '{}', audience: [eazybank-gateway] }} }}",
            first.url(),
            second.url()
        ))
        .start();
    for issuer in [&first, &second] {
        assert_eq!(ask(&gateway, &issuer.token(READER, &[])), 200);
    }
    let received = origin.received();
    for (received, issuer) in received.iter().zip([&first, &second]) {
        assert_eq!(
            received.header("x-auth-issuer"),
            Some(issuer.url().as_str())
        );
    }
    // Signed by a key that we trust, for what its owner may not say.
    let theirs = second.url();
    let forged = first.mint(ClaimsEdit::of(READER, &[]).claims(move |claims| {
        claims.insert("iss".to_owned(), theirs.into());
    }));
    assert_eq!(ask(&gateway, &forged), 401);
    assert_eq!(last_reason(&gateway, 3), "unknown_key");
    // Under the other's key id it is the signature that betrays it.
    let (theirs, kid) = (second.url(), second.active_kid("RS256").unwrap());
    let forged = first.mint(
        ClaimsEdit::of(READER, &[])
            .claims(move |claims| {
                claims.insert("iss".to_owned(), theirs.into());
            })
            .header(move |header| {
                header.insert("kid".to_owned(), kid.into());
            })
            .signed_by(Signer::Foreign("RS256".to_owned())),
    );
    assert_eq!(ask(&gateway, &forged), 401);
    assert_eq!(last_reason(&gateway, 4), "bad_signature");
    // One of them is down: the other's tokens are judged.
    second.set_down(true).unwrap();
    assert_eq!(ask(&gateway, &first.token(READER, &[])), 200);
    let log = gateway.access_log(5);
    assert_eq!(log[0]["issuer"], "first");
    assert_eq!(log[1]["issuer"], "second");
}

#[test]
fn every_algorithm_verifies_with_its_own_key_and_no_other() {
    let (issuer, origin) = (issuer(), Origin::start());
    let names: Vec<&str> = Algorithm::ALL.iter().map(|a| a.name()).collect();
    for name in &names {
        issuer.rotate(name).unwrap();
    }
    let all = format!(", algorithms: [{}]", names.join(", "));
    let gateway = Setup::new(&issuer, origin.address())
        .issuers(trusted(&issuer, &all))
        .start();
    let strict = Setup::new(&issuer, origin.address())
        .issuers(trusted(&issuer, ""))
        .start();
    let mut asked = 0;
    for name in &names {
        let token = signed(&issuer, Signer::Active((*name).to_owned()));
        assert_eq!(ask(&gateway, &token), 200, "{name}");
        asked += 1;
        let forged = signed(&issuer, Signer::Foreign((*name).to_owned()));
        assert_eq!(ask(&gateway, &forged), 401, "{name}");
        asked += 1;
        assert_eq!(last_reason(&gateway, asked), "bad_signature", "{name}");
        // RS256 alone is the default.
        let status = if *name == "RS256" { 200 } else { 401 };
        assert_eq!(ask(&strict, &token), status, "{name}");
    }
    // A key that says its algorithm signs with no other, though RSA could.
    let kid = issuer.active_kid("RS256").unwrap();
    for other in ["RS384", "RS512", "PS256", "PS384", "PS512"] {
        let token = signed(&issuer, Signer::KidAs(kid.clone(), other.to_owned()));
        assert_eq!(ask(&gateway, &token), 401, "{other}");
        asked += 1;
        assert_eq!(last_reason(&gateway, asked), "wrong_algorithm", "{other}");
    }
}

#[test]
fn an_encryption_key_verifies_nothing() {
    let (issuer, origin) = (issuer(), Origin::start());
    let gateway = Setup::new(&issuer, origin.address()).start();
    let kid = issuer.kids("RSA-OAEP", KeyState::Active).remove(0);
    assert_eq!(ask(&gateway, &signed(&issuer, Signer::Kid(kid))), 401);
    assert_eq!(last_reason(&gateway, 1), "unknown_key");
}
