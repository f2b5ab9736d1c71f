//! What a payload says, held against what the issuer's configuration demands (RFC 7519 section 4, RFC 9068 section 4,
//! Keycloak's own claims).
//!
//! [`Claims::read`] and [`Claims::check`] run before the signature is computed, because a refusal on unproved data is
//! safe and cheap. Only [`Claims::into_principal`] turns them into somebody, and it is called after the signature held.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::fault::Refusal;
use super::json;
use super::principal::{Identity, Principal};
use crate::config::plan::{IssuerId, IssuerPlan, Plan, Unmarked};

/// A payload with registered claims of the right types. Not proved.
#[derive(Debug)]
pub(super) struct Claims {
    all: Map<String, Value>,
}

impl Claims {
    pub(super) fn read(payload: &[u8]) -> Result<Self, Refusal> {
        let all = json::object(payload).ok_or(Refusal::Malformed)?;
        Ok(Claims { all })
    }

    /// `iss`, which must be one string: an array that contains the right one is another issuer's joke.
    pub(super) fn issuer(&self) -> Result<&str, Refusal> {
        match self.all.get("iss") {
            Some(Value::String(issuer)) => Ok(issuer),
            _ => Err(Refusal::Issuer),
        }
    }

    /// Everything that can be refused without a key, `marked` being what the header said of itself.
    ///
    /// The edges: a token is expired from the second `exp` + leeway on (RFC 7519 section 4.1.4: the time must be
    /// *before* `exp`) and valid from the second `nbf` - leeway on.
    ///
    /// The audience is [`Claims::check_audience`]'s: a lightweight token has none until the issuer was asked.
    pub(super) fn check(&self, issuer: &IssuerPlan, marked: bool, now: u64) -> Result<(), Refusal> {
        Registered::of(&self.all).types()?;
        self.expires().ok_or(Refusal::Claims)?;
        self.check_rest(issuer, marked, now)
    }

    /// The same for an issuer's answer, which need not say `exp` (RFC 7662 section 2.2) nor `iss`, but must not say
    /// another `iss`.
    pub(super) fn check_answer(
        &self,
        issuer: &IssuerPlan,
        marked: bool,
        now: u64,
    ) -> Result<(), Refusal> {
        Registered::of(&self.all).types()?;
        if self
            .all
            .get("iss")
            .is_some_and(|iss| *iss != *issuer.issuer)
        {
            return Err(Refusal::Issuer);
        }
        if self.all.contains_key("exp") {
            self.expires().ok_or(Refusal::Claims)?;
        }
        // `typ` decides if present, else this is the mark.
        let bearer = text(self.all.get("token_type"));
        let marked = marked || bearer.is_some_and(|kind| kind.eq_ignore_ascii_case("bearer"));
        self.check_rest(issuer, marked, now)?;
        self.check_audience(issuer)
    }

    /// RFC 7662 section 2.2: trusted only when it is the boolean.
    pub(super) fn active(&self) -> Option<bool> {
        self.all.get("active")?.as_bool()
    }

    pub(super) fn expires(&self) -> Option<u64> {
        seconds(self.all.get("exp"))
    }

    /// 0 when nothing is said. Rounded up, like the check.
    pub(super) fn begins(&self) -> u64 {
        self.all.get("nbf").and_then(begins_at).unwrap_or(0)
    }

    /// Keycloak's lightweight tokens have no `aud` at all.
    pub(super) fn is_lightweight(&self) -> bool {
        !self.all.contains_key("aud")
    }

    pub(super) fn check_audience(&self, issuer: &IssuerPlan) -> Result<(), Refusal> {
        match Registered::of(&self.all).is_for(&issuer.audience) {
            true => Ok(()),
            false => Err(Refusal::Audience),
        }
    }

    fn check_rest(&self, issuer: &IssuerPlan, marked: bool, now: u64) -> Result<(), Refusal> {
        let claims = Registered::of(&self.all);
        if claims.client().is_none() {
            return Err(Refusal::Claims);
        }
        if claims.cnf.is_some() {
            return Err(Refusal::SenderConstrained);
        }
        match text(claims.typ) {
            Some("Bearer") => {}
            Some(_) => return Err(Refusal::Kind),
            None if marked || issuer.unmarked == Unmarked::Allow => {}
            None => return Err(Refusal::Unmarked),
        }
        let leeway = issuer.leeway.as_secs();
        let past = |expires: u64| now >= expires.saturating_add(leeway);
        if self.expires().is_some_and(past) {
            return Err(Refusal::Expired);
        }
        if let Some(begins) = claims.nbf {
            let begins = begins_at(begins).ok_or(Refusal::Claims)?;
            if now.saturating_add(leeway) < begins {
                return Err(Refusal::NotYetValid);
            }
        }
        Ok(())
    }

    /// Somebody. Call it for nothing but a payload whose signature held and whose [`Claims::check`] passed.
    pub(super) fn into_principal(
        self,
        id: IssuerId,
        issuer: &IssuerPlan,
        url: &Arc<str>,
        forwarded: &Forwarded,
    ) -> Principal {
        let claims = Registered::of(&self.all);
        let mut principal = Principal {
            issuer: id,
            issuer_name: issuer.name.clone(),
            issuer_url: url.clone(),
            client: claims.client().unwrap_or_default().to_owned(),
            subject: text(claims.sub).map(str::to_owned),
            // RFC 6749 section 3.3: U+0020 alone separates; other blanks belong to the word.
            scopes: text(claims.scope)
                .unwrap_or_default()
                .split(' ')
                .filter(|scope| !scope.is_empty())
                .map(str::to_owned)
                .collect(),
            realm_roles: claims.realm_access.map(roles).unwrap_or_default(),
            client_roles: client_roles(claims.resource_access),
            expires_at: seconds(claims.exp).unwrap_or_default(),
            claims: Map::new(),
            identity: Identity::default(),
        };
        principal.claims = forwarded.of(self.all);
        principal
    }
}

/// The claims that some route forwards. The others are not kept: a token's whole payload is several kilobytes of small
/// allocations, and the cache holds thousands of them.
#[derive(Debug, Clone)]
pub(super) struct Forwarded(Arc<[String]>);

impl Forwarded {
    pub(super) fn new(plan: &Plan) -> Self {
        let pointers = plan.routes.iter().flat_map(|route| &route.forward_headers);
        let members = pointers.filter_map(|(_, pointer)| {
            let member = pointer.strip_prefix('/')?.split('/').next()?;
            Some(member.replace("~1", "/").replace("~0", "~"))
        });
        Forwarded(members.collect())
    }

    fn of(&self, mut all: Map<String, Value>) -> Map<String, Value> {
        if self.0.is_empty() {
            return Map::new();
        }
        all.retain(|name, _| self.0.contains(name));
        all
    }
}

/// The claims that we read, found in one walk: a look-up by name for each would hash each name again.
#[derive(Default)]
struct Registered<'a> {
    sub: Option<&'a Value>,
    aud: Option<&'a Value>,
    exp: Option<&'a Value>,
    nbf: Option<&'a Value>,
    iat: Option<&'a Value>,
    jti: Option<&'a Value>,
    typ: Option<&'a Value>,
    azp: Option<&'a Value>,
    client_id: Option<&'a Value>,
    scope: Option<&'a Value>,
    cnf: Option<&'a Value>,
    realm_access: Option<&'a Value>,
    resource_access: Option<&'a Value>,
}

impl<'a> Registered<'a> {
    fn of(all: &'a Map<String, Value>) -> Self {
        let mut claims = Registered::default();
        for (name, value) in all {
            let slot = match name.as_str() {
                "sub" => &mut claims.sub,
                "aud" => &mut claims.aud,
                "exp" => &mut claims.exp,
                "nbf" => &mut claims.nbf,
                "iat" => &mut claims.iat,
                "jti" => &mut claims.jti,
                "typ" => &mut claims.typ,
                "azp" => &mut claims.azp,
                "client_id" => &mut claims.client_id,
                "scope" => &mut claims.scope,
                "cnf" => &mut claims.cnf,
                "realm_access" => &mut claims.realm_access,
                "resource_access" => &mut claims.resource_access,
                _ => continue,
            };
            *slot = Some(value);
        }
        claims
    }

    /// Registered claims of the wrong type refuse the token: another reader might make something of them.
    fn types(&self) -> Result<(), Refusal> {
        let texts = [
            self.sub,
            self.azp,
            self.client_id,
            self.scope,
            self.typ,
            self.jti,
        ];
        let times = [self.nbf, self.iat];
        let audience = match self.aud {
            None | Some(Value::String(_)) => true,
            Some(Value::Array(list)) => list.iter().all(Value::is_string),
            Some(_) => false,
        };
        let right = audience
            && texts.into_iter().flatten().all(Value::is_string)
            && times
                .into_iter()
                .flatten()
                .all(|at| seconds(Some(at)).is_some());
        right.then_some(()).ok_or(Refusal::Claims)
    }

    fn is_for(&self, ours: &[String]) -> bool {
        let named = |value: &Value| {
            value
                .as_str()
                .is_some_and(|aud| ours.iter().any(|o| o == aud))
        };
        match self.aud {
            Some(Value::Array(list)) => list.iter().any(named),
            Some(one) => named(one),
            None => false,
        }
    }

    /// The OAuth client; without one there is nobody to authorise. `sub` does not stand in for it: a user may bear
    /// a client's name (RFC 9700 section 4.15).
    fn client(&self) -> Option<&'a str> {
        text(self.azp)
            .or_else(|| text(self.client_id))
            .filter(|client| !client.is_empty())
    }
}

fn text(value: Option<&Value>) -> Option<&str> {
    value.and_then(Value::as_str)
}

fn client_roles(access: Option<&Value>) -> BTreeMap<String, Vec<String>> {
    let clients = access.and_then(Value::as_object);
    clients
        .into_iter()
        .flatten()
        .map(|(client, access)| (client.clone(), roles(access)))
        .collect()
}

/// Keycloak's `{"roles": [...]}`. Whatever has another shape grants nothing.
fn roles(access: &Value) -> Vec<String> {
    let list = access.get("roles").and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

/// RFC 7519 section 2, NumericDate, which may have a fraction; rounded down, which is strict for `exp`. A number too
/// large for us is the end of time, a negative one is refused.
fn seconds(value: Option<&Value>) -> Option<u64> {
    let number = value?.as_number()?;
    number.as_u64().or_else(|| {
        // `as` saturates; the strict reader has refused what is not finite.
        let at = number.as_f64()?;
        (at >= 0.0).then_some(at as u64)
    })
}

/// Rounded up, which is strict for `nbf`.
fn begins_at(value: &Value) -> Option<u64> {
    let whole = seconds(Some(value))?;
    let fraction = value.is_f64() && value.as_f64().is_some_and(|at| at > whole as f64);
    Some(whole.saturating_add(u64::from(fraction)))
}
