//! What the issuer says about a token: introspection (RFC 7662) and revocation (RFC 7009).

use serde_json::{Map, Value, json};

use super::state::{State, lock};
use crate::demo::grant::{Grant, Shape, Stamp};

type Claims = Map<String, Value>;

impl State {
    /// `{"active":false}` for every reason there is, else all that Keycloak says.
    pub(super) fn introspect(&self, token: &str, caller: &str) -> Value {
        self.active(token, caller)
            .map_or_else(|| json!({ "active": false }), Value::Object)
    }

    /// False if this is no token of ours, which RFC 7009 does not call an error.
    pub(super) fn revoke(&self, token: &str, caller: &str) -> Revocation {
        let Some(claims) = self.keys().verify(token) else {
            return Revocation::Unknown;
        };
        // Revoking a refresh token ends its session.
        let name = match text(&claims, "typ") {
            Some("Refresh" | "Offline") => "sid",
            Some("Bearer" | "DPoP") => "jti",
            _ => return Revocation::OtherKind,
        };
        if text(&claims, "azp") != Some(caller) {
            return Revocation::OtherClient;
        }
        if let Some(id) = text(&claims, name) {
            lock(&self.revoked).insert(id.to_owned());
        }
        Revocation::Done
    }

    fn active(&self, token: &str, caller: &str) -> Option<Claims> {
        let behind = lock(&self.opaque).get(token).cloned();
        let claims = self.keys().verify(behind.as_deref().unwrap_or(token))?;
        let client = self.realm.client(text(&claims, "azp")?)?;
        let issued = claims.get("iat")?.as_u64()?;
        let good = text(&claims, "iss") == Some(&self.issuer)
            && matches!(text(&claims, "typ"), Some("Bearer" | "DPoP"))
            && claims.get("exp")?.as_u64()? > self.clock.unix()
            && issued >= self.not_before()
            && self.is_enabled(client)
            && !self.is_revoked(&claims);
        if !good {
            return None;
        }
        let grant = self.grant_behind(&claims)?;
        let mut claims = if grant.is_lightweight() {
            expand(&grant, &claims)?
        } else {
            claims
        };
        // Since CVE-2026-37979 a caller that the (expanded) token is not meant for learns nothing.
        if !names(claims.get("aud")?, caller) {
            return None;
        }
        // Where a machine's grant came from is known when its token is made and not after.
        for name in ["clientHost", "clientAddress"] {
            claims.remove(name);
        }
        claims.insert("client_id".to_owned(), json!(client.client_id));
        claims.insert("username".to_owned(), json!(grant.account.username));
        claims.insert("token_type".to_owned(), json!(grant.token_type()));
        claims.insert("active".to_owned(), json!(true));
        claims.retain(|_, value| value != "");
        Some(claims)
    }

    /// The grant that a token came from, made again.
    fn grant_behind(&self, claims: &Claims) -> Option<Grant<'_>> {
        let client = self.realm.client(text(claims, "azp")?)?;
        let account = match self.realm.service_account(client) {
            Some(account) => account,
            None => self.realm.account("alice")?,
        };
        let scope = text(claims, "scope").unwrap_or_default();
        let holder = claims.get("cnf").and_then(|cnf| cnf.get("jkt")?.as_str());
        let grant = Grant::new(self.realm, client, account, scope, None).ok()?;
        Some(grant.bound_to(holder.map(str::to_owned)))
    }

    fn is_revoked(&self, claims: &Claims) -> bool {
        let revoked = lock(&self.revoked);
        let is = |name| text(claims, name).is_some_and(|id| revoked.contains(id));
        is("jti") || is("sid")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Revocation {
    Done,
    Unknown,
    OtherKind,
    OtherClient,
}

/// A lightweight token made whole, with its own times and id.
fn expand(grant: &Grant, light: &Claims) -> Option<Claims> {
    let stamp = Stamp {
        issuer: text(light, "iss")?,
        jti: text(light, "jti")?.to_owned(),
        now: light.get("iat")?.as_u64()?,
        expires: light.get("exp")?.as_u64()?,
    };
    Some(grant.claims(Shape::Introspection, &stamp))
}

fn text<'a>(claims: &'a Claims, name: &str) -> Option<&'a str> {
    claims.get(name)?.as_str()
}

fn names(audience: &Value, who: &str) -> bool {
    match audience {
        Value::String(one) => one == who,
        Value::Array(many) => many.iter().any(|one| one == who),
        _ => false,
    }
}
