//! What is revoked, in memory and in its file.

mod file;
mod memory;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::NOW;
use crate::clock::Clock;
use crate::verify::revoked::{Entry, Facts, Id, Kind, NotBefore, Origin, Revocations, Unkept};

const FACTS: Facts<'_> = Facts {
    issuer: "keycloak",
    jti: Some("trrtcc:1"),
    sub: Some("subject"),
    sid: Some("session"),
    client: "callcenter",
    kid: Some("k1"),
    issued_at: Some(NOW),
};

fn in_memory(max: usize) -> (Clock, Arc<Revocations>) {
    let clock = Clock::manual(NOW);
    let store = Revocations::open(None, max, clock.clone(), |_| true);
    (clock, store.expect("a store"))
}

pub(super) fn entry(kind: Kind, value: &str) -> Entry {
    Entry {
        issuer: "keycloak".into(),
        kind,
        value: value.into(),
        until: NOW + 60,
        issued_up_to: None,
        reason: None,
        origin: Origin::Admin,
        made: NOW,
    }
}

/// Whether it is new.
fn revoke(store: &Revocations, entry: Entry) -> Result<bool, Unkept> {
    store.revoke(entry).map(|(_, new)| new)
}

fn keycloak() -> Arc<str> {
    "keycloak".into()
}
