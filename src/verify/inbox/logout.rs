//! The logout token (OpenID Connect Back-Channel Logout 1.0 sections 2.4 and 2.6).

use super::Flaw;
use crate::config::plan::IssuerPlan;
use crate::verify::claims;
use crate::verify::json::{Object, Value};

/// What makes it a logout token.
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

pub(super) struct Logout {
    pub(super) jti: String,
    pub(super) sid: Option<String>,
    /// There if `sid` is not.
    pub(super) sub: Option<String>,
    pub(super) issued: u64,
    /// The first second in which it is void.
    pub(super) ends: u64,
}

impl Logout {
    /// `typ` is what its header says.
    pub(super) fn read(
        typ: Option<&str>,
        payload: &Object<'_>,
        issuer: &IssuerPlan,
        now: u64,
    ) -> Result<Self, Flaw> {
        // Section 2.4 recommends the type and Keycloak sends it. Without it, nothing but its members would tell it from
        // an ID token.
        if typ != Some("logout+jwt") {
            return Err(Flaw::Type);
        }
        let says = |name, what: &str| {
            payload
                .get(name)
                .is_some_and(|said| said.as_text() == Some(what))
        };
        if !says("iss", &issuer.issuer) {
            return Err(Flaw::Member("iss"));
        }
        if !claims::names_one_of(payload.get("aud"), &issuer.logout_clients) {
            return Err(Flaw::Member("aud"));
        }
        // Keycloak's own mark.
        if payload.get("typ").is_some() && !says("typ", "Logout") {
            return Err(Flaw::Member("typ"));
        }
        if payload.get("nonce").is_some() {
            return Err(Flaw::Foreign("nonce"));
        }
        let events = payload.get("events").and_then(Value::as_object);
        let event = events.and_then(|events| events.get(EVENT)?.as_object());
        event.ok_or(Flaw::Member("events"))?;
        let leeway = issuer.leeway.as_secs();
        let seconds = |name| claims::seconds(payload.get(name));
        let issued = seconds("iat").ok_or(Flaw::Member("iat"))?;
        if issued > now.saturating_add(leeway) {
            return Err(Flaw::Time);
        }
        let (sid, sub) = (super::text(payload, "sid")?, super::text(payload, "sub")?);
        if sid.is_none() && sub.is_none() {
            return Err(Flaw::Member("sid"));
        }
        Ok(Logout {
            jti: super::text(payload, "jti")?.ok_or(Flaw::Member("jti"))?,
            sid,
            sub,
            issued,
            ends: super::ends(seconds("exp"), "exp", now, leeway)?,
        })
    }
}
