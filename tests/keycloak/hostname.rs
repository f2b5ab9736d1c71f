//! One name for Keycloak outside, another inside.

use crate::gateway::{Portcullis, Setup, introspect, read};
use crate::keycloak::REALM;
use crate::say::say;
use crate::{World, eventually};

const DISCOVERY: &str = "/realms/eazybank/.well-known/openid-configuration";

/// Needs a server of its own, so the first one must be away by now.
pub fn all(world: &mut World) {
    let World {
        keycloak, services, ..
    } = world;
    let inside = keycloak.url(DISCOVERY);
    let outside = format!("http://localhost:{}", keycloak.port);
    keycloak.stop();
    keycloak.start(&format!(
        "--hostname={outside} --hostname-backchannel-dynamic=true"
    ));

    let seen = keycloak.get(DISCOVERY);
    let issuer = format!("{outside}{REALM}");
    assert_eq!(seen["issuer"], issuer);
    let certs = keycloak.url("/realms/eazybank/protocol/openid-connect/certs");
    assert_eq!(seen["jwks_uri"], certs);
    say!("asked as {inside}: issuer {issuer}, jwks_uri {certs}");

    let discovery = format!("    discovery_url: {inside}\n");
    let setup = Setup {
        more: &discovery,
        ..Setup::new(&issuer, services)
    };
    let gateway = Portcullis::start(&setup);
    gateway.wait_ready();
    for host in ["localhost", "127.0.0.1"] {
        keycloak.call_it(host);
        let token = keycloak.token("callcenter-cc", "accounts:read");
        let who = format!("a token fetched through {host}");
        gateway.passes(&who, read("accounts"), &token);
        // The gateway asks through the inside, about a token that names the outside.
        gateway.passes(&who, introspect(), &token);
    }

    let wrong = keycloak.url(REALM);
    let gateway = Portcullis::start(&Setup {
        issuer: &wrong,
        ..setup
    });
    let mut readiness = gateway.readiness();
    eventually("the reason names both issuers", 20, || {
        readiness = gateway.readiness();
        let told = readiness.text();
        told.contains(&format!("{issuer}\\\"")) && told.contains(&format!("{wrong}\\\""))
    });
    assert_eq!(readiness.status, 503);
    let told = readiness.json()["issuers"][0].clone();
    assert_eq!(told["ready"], false);
    say!("with issuer {wrong}: /readyz 503: {}", told["reason"]);
}
