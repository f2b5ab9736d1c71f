//! Keycloak's admin action `PUSH_NOT_BEFORE`, as its adapters know it.

use super::Flaw;
use crate::verify::claims;
use crate::verify::json::Object;

pub(super) struct Push {
    pub(super) id: String,
    pub(super) not_before: u64,
    /// The first second in which it is void.
    pub(super) ends: u64,
}

impl Push {
    /// `ours` is whom it must be for, `typ` what its header says.
    pub(super) fn read(
        typ: Option<&str>,
        payload: &Object<'_>,
        ours: &str,
        now: u64,
        leeway: u64,
    ) -> Result<Self, Flaw> {
        if !matches!(typ, None | Some("jwt")) {
            return Err(Flaw::Type);
        }
        // The same key signs tokens. No action has these, and no token whose mappers write an action's members is one.
        for foreign in ["iss", "typ"] {
            if payload.get(foreign).is_some() {
                return Err(Flaw::Foreign(foreign));
            }
        }
        let says = |name, what| payload.get(name).and_then(|said| said.as_text()) == Some(what);
        if !says("action", "PUSH_NOT_BEFORE") {
            return Err(Flaw::Member("action"));
        }
        if !says("resource", ours) {
            return Err(Flaw::Member("resource"));
        }
        let seconds = |name| claims::seconds(payload.get(name));
        Ok(Push {
            id: super::text(payload, "id")?.ok_or(Flaw::Member("id"))?,
            not_before: seconds("notBefore").ok_or(Flaw::Member("notBefore"))?,
            ends: super::ends(seconds("expiration"), "expiration", now, leeway)?,
        })
    }
}
