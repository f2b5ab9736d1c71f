//! I13 and I14: TLS to the issuer, and where a configuration or a document may lead.

use portcullis::config::{self, Mode, Overrides};
use portcullis::demo::issuer::Endpoint;

use super::{KEYS, READER, Rig, SCOPES, Wish, unavailable};
use crate::support::{Authority, Faulty, Ill, Origin, Pair, Scratch, eventually};

/// An issuer behind TLS that shows `pair`, and a gateway that trusts `authority`.
fn behind_tls(authority: &Authority, pair: &Pair) -> (Rig, Scratch) {
    let (clock, files) = (super::now(), Scratch::new());
    let ca = files.file("ca.pem", &authority.pem);
    let faulty = Faulty::start_tls(clock.clone(), pair);
    let wish = Wish {
        issuer: format!("ca: '{ca}',"),
        ..Wish::default()
    };
    (Rig::before(faulty, clock, &wish), files)
}

fn bad_certificates(authority: &Authority) -> [(&'static str, Pair); 3] {
    [
        ("expired", authority.certify_past("localhost")),
        ("another name", authority.certify("sso.example.com")),
        ("another authority", Authority::new().certify("localhost")),
    ]
}

#[test]
fn i13_a_bad_certificate_at_the_start_is_no_keys() {
    let authority = Authority::new();
    for (name, bad) in bad_certificates(&authority) {
        let (rig, _files) = behind_tls(&authority, &bad);
        eventually("the first fetch failed", || rig.refreshes("failed") >= 1.0);
        unavailable(&rig.get(&rig.good()), name);
        rig.rejected("keys_unavailable", 1);
        let ready = rig.readyz();
        assert_eq!(ready.status, 503, "{name}");
        assert!(
            ready.text().contains("certificate"),
            "{name}: {}",
            ready.text()
        );
        rig.faulty.present(&authority.certify("localhost"));
        rig.gateway.wait_ready();
        assert_eq!(rig.ask(&rig.good()), 200, "{name}");
    }
}

#[test]
fn i13_a_certificate_that_goes_bad_leaves_the_last_good_set() {
    let authority = Authority::new();
    let (rig, _files) = behind_tls(&authority, &authority.certify("localhost"));
    rig.gateway.wait_ready();
    let held = rig.gateway.metric(KEYS);
    let opaque = rig.faulty.issuer.opaque(READER, SCOPES);
    assert_eq!(rig.ask(&opaque), 200);
    let bad = bad_certificates(&authority);
    let count = bad.len();
    for (name, bad) in bad {
        let failed = rig.refreshes("failed");
        rig.faulty.present(&bad);
        unavailable(&rig.provoke(), name);
        assert_eq!(rig.refreshes("failed"), failed + 1.0, "{name}");
        assert_eq!(rig.gateway.metric(KEYS), held, "{name}");
        assert_eq!(rig.ask(&rig.good()), 200, "{name}");
        // Nobody is asked who does not prove who he is.
        let opaque = rig.faulty.issuer.opaque(READER, SCOPES);
        unavailable(&rig.get(&opaque), name);
    }
    rig.rejected("key_fetch_failed", count);
    rig.rejected("introspection_failed", count);
    // The first went to the address that was known. Then discovery was asked for another, in vain.
    rig.introspected("failed", 1);
    rig.faulty.present(&authority.certify("localhost"));
    assert_eq!(rig.provoke().status, 401, "it is well again");
}

#[test]
fn i14_a_document_leads_nowhere_that_the_configuration_could_not_name() {
    let rig = Rig::ready();
    let elsewhere = Origin::start();
    let passwd = "file:///etc/passwd".to_owned();
    let metadata = "http://169.254.169.254/latest/meta-data/".to_owned();
    let user = "http://127.0.0.1@192.0.2.1/".to_owned();
    let ftp = format!("ftp://{}/certs", elsewhere.address());
    let held = rig.gateway.metric(KEYS);
    for target in [&passwd, &metadata, &user, &ftp] {
        let before = rig.refreshes("invalid");
        let leads = target.clone();
        let document = move |document: &mut serde_json::Value| {
            document["jwks_uri"] = leads.clone().into();
            document["introspection_endpoint"] = leads.clone().into();
        };
        rig.faulty.set(Endpoint::Certs, Ill::status(404));
        rig.faulty.set(Endpoint::Discovery, Ill::changed(document));
        unavailable(&rig.provoke(), target);
        assert_eq!(rig.refreshes("invalid"), before + 1.0, "{target}");
        assert_eq!(rig.gateway.metric(KEYS), held, "{target}");
        assert_eq!(rig.ask(&rig.good()), 200, "{target}");
        unavailable(&rig.get(&rig.faulty.issuer.opaque(READER, SCOPES)), target);
    }
    rig.rejected("introspection_failed", 4);
    // No question left the house.
    rig.introspected("failed", 0);
    assert!(elsewhere.received().is_empty());
}

/// From a document that came over TLS, not even to a service on this machine.
#[test]
fn i14_a_document_from_tls_leads_to_nothing_without() {
    let authority = Authority::new();
    let (rig, _files) = behind_tls(&authority, &authority.certify("localhost"));
    rig.gateway.wait_ready();
    let local = Origin::start();
    let leads = format!("http://{}/certs", local.address());
    let document = move |document: &mut serde_json::Value| {
        document["jwks_uri"] = leads.clone().into();
        document["introspection_endpoint"] = leads.clone().into();
    };
    rig.faulty.set(Endpoint::Certs, Ill::status(404));
    rig.faulty.set(Endpoint::Discovery, Ill::changed(document));
    unavailable(&rig.provoke(), "an unknown key");
    assert_eq!(rig.refreshes("invalid"), 1.0);
    assert_eq!(rig.ask(&rig.good()), 200);
    unavailable(
        &rig.get(&rig.faulty.issuer.opaque(READER, SCOPES)),
        "opaque",
    );
    rig.rejected("introspection_failed", 1);
    assert!(local.received().is_empty());
}

#[test]
fn i14_a_configuration_leads_to_http_and_https_alone() {
    for (key, target) in [
        ("discovery_url", "file:///etc/passwd"),
        ("discovery_url", "http://169.254.169.254/latest"),
        ("introspection_endpoint", "file:///etc/passwd"),
        ("introspection_endpoint", "http://169.254.169.254/latest"),
        ("introspection_endpoint", "ftp://sso.example.com/"),
        ("jwks_uri", "http://169.254.169.254/latest"),
        ("jwks_uri", "gopher://sso.example.com/"),
        ("jwks_uri", "file:relative.json"),
    ] {
        let yaml = format!(
            "listeners: [{{ address: 127.0.0.1:1 }}]\nupstreams: {{ a: {{ peers: ['127.0.0.1:2'] }} }}\n\
             issuers: {{ keycloak: {{ issuer: 'https://sso.example.com', audience: [a], {key}: '{target}' }} }}\n\
             routes: [{{ name: a, match: {{ path: /a }}, upstream: a, access: {{}} }}]\n"
        );
        let (overrides, system) = (Overrides::default(), config::System);
        let loaded = config::load_str("a.yaml", &yaml, &overrides, &system, Mode::Online);
        let problems = loaded.err().unwrap_or_else(|| panic!("{key}: {target}"));
        let place = format!("issuers.keycloak.{key}");
        assert!(
            problems.iter().any(|p| p.to_string().contains(&place)),
            "{problems:?}"
        );
    }
}
