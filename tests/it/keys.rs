//! The life of an issuer's keys, end to end: cool-down, where they come from, and which of them verifies what.

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

fn refreshes(outcome: &str) -> String {
    format!("portcullis_jwks_refreshes_total{{issuer=\"keycloak\",outcome=\"{outcome}\"}}")
}

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
fn a_restart_during_an_outage_serves_from_the_snapshot() {
    let (issuer, origin, files) = (issuer(), Origin::start(), Scratch::new());
    let path = files.path("keys.json");
    let keeping = format!(", keys: {{ snapshot: '{}' }}", path.display());
    let setup = Setup::new(&issuer, origin.address()).issuers(trusted(&issuer, &keeping));
    let first = setup.clone().start();
    eventually("the keys are kept", || path.exists());
    let written = "portcullis_jwks_snapshots_total{issuer=\"keycloak\",outcome=\"ok\"}";
    first.counts(written, 1.0);
    drop(first);
    issuer.set_down(true).unwrap();
    // It is ready, though nobody has answered it.
    let gateway = setup.clone().start();
    assert_eq!(ask(&gateway, &issuer.token(READER, &[])), 200);
    assert_eq!(ask(&gateway, &of_nobody(&issuer, 1)), 503);
    assert_eq!(
        ask(
            &gateway,
            &signed(&issuer, Signer::Foreign("RS256".to_owned()))
        ),
        401
    );
    let state = || get(gateway.admin(), "/readyz", None).json()["issuers"][0].clone();
    assert_eq!(state()["from_snapshot"], true);
    let warning = state()["warning"].to_string();
    assert!(warning.contains("from a snapshot"), "{warning}");
    let from_snapshot = "portcullis_jwks_from_snapshot{issuer=\"keycloak\"}";
    gateway.counts(from_snapshot, 1.0);
    // Rotated meanwhile, and back: it has not been forgotten for minutes.
    issuer.rotate("RS256").unwrap();
    issuer.set_down(false).unwrap();
    eventually("the issuer is asked again", || {
        ask(&gateway, &issuer.token(READER, &[])) == 200
    });
    gateway.counts(from_snapshot, 0.0);
    assert_eq!(state()["from_snapshot"], false);
    assert!(state()["warning"].is_null());
    gateway.counts(written, 1.0);
    drop(gateway);
    // What is broken is as if it were not there.
    issuer.set_down(true).unwrap();
    files.write("keys.json", "<html>");
    let gateway = setup.start_unready();
    assert_eq!(ask(&gateway, &issuer.token(READER, &[])), 503);
    assert_eq!(get(gateway.admin(), "/readyz", None).status, 503);
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
