//! What a payload says, held against what the issuer's configuration demands (RFC 7519 section 4, RFC 9068 section 4,
//! Keycloak's own claims).
//!
//! [`Claims::read`] and [`Claims::check`] run before the signature is computed, because a refusal on unproved data is
//! safe and cheap. Only [`super::grants`] turns them into somebody, after the signature held.

use super::binding::Binding;
use super::fault::Refusal;
use super::json::{self, Object, Value};
use crate::config::plan::{Dpop, IssuerPlan, Unmarked};

/// A payload whose registered claims were found. Not proved.
#[derive(Debug)]
pub(super) struct Claims<'a> {
    all: Object<'a>,
    /// Where each claim that we read stands; found in one walk.
    places: [Option<u16>; NAMES.len()],
}

/// The claims that we read, by their place in [`NAMES`].
#[derive(Debug, Clone, Copy)]
pub(super) enum Claim {
    Iss,
    Sub,
    Aud,
    Exp,
    Nbf,
    Iat,
    Jti,
    Sid,
    Typ,
    Azp,
    ClientId,
    Scope,
    Cnf,
    RealmAccess,
    ResourceAccess,
    Active,
    TokenType,
}

const NAMES: [&str; 17] = [
    "iss",
    "sub",
    "aud",
    "exp",
    "nbf",
    "iat",
    "jti",
    "sid",
    "typ",
    "azp",
    "client_id",
    "scope",
    "cnf",
    "realm_access",
    "resource_access",
    "active",
    "token_type",
];

impl<'a> Claims<'a> {
    pub(super) fn read(payload: &'a [u8]) -> Result<Self, Refusal> {
        let all = json::object(payload).ok_or(Refusal::Malformed)?;
        let mut places = [None; NAMES.len()];
        for (place, (name, _)) in all.iter().enumerate() {
            if let Some(claim) = NAMES.iter().position(|known| *known == name) {
                places[claim] = Some(u16::try_from(place).map_err(|_| Refusal::Malformed)?);
            }
        }
        Ok(Claims { all, places })
    }

    fn get(&self, claim: Claim) -> Option<&Value<'a>> {
        self.places[claim as usize].and_then(|place| self.all.nth(place.into()))
    }

    fn text(&self, claim: Claim) -> Option<&str> {
        self.get(claim)?.as_text()
    }

    /// `iss`, which must be one string: an array that contains the right one is another issuer's joke.
    pub(super) fn issuer(&self) -> Result<&str, Refusal> {
        self.text(Claim::Iss).ok_or(Refusal::Issuer)
    }

    /// Everything that can be refused without a key, `marked` being what the header said of itself.
    ///
    /// The edges: a token is expired from the second `exp` + leeway on (RFC 7519 section 4.1.4: the time must be
    /// *before* `exp`) and valid from the second `nbf` - leeway on.
    ///
    /// The audience is [`Claims::check_audience`]'s: a lightweight token has none until the issuer was asked.
    pub(super) fn check(&self, issuer: &IssuerPlan, marked: bool, now: u64) -> Result<(), Refusal> {
        self.check_types()?;
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
        self.check_types()?;
        if self.get(Claim::Iss).is_some() && self.issuer() != Ok(&issuer.issuer) {
            return Err(Refusal::Issuer);
        }
        if self.get(Claim::Exp).is_some() {
            self.expires().ok_or(Refusal::Claims)?;
        }
        // `typ` decides if present, else this is the mark.
        let kind = self.text(Claim::TokenType);
        let is = |word: &str| kind.is_some_and(|kind| kind.eq_ignore_ascii_case(word));
        // RFC 9449 section 6.2: then it says which key, too.
        if is("dpop") && !self.is_bound_to_a_key(issuer.dpop)? {
            return Err(Refusal::SenderConstrained);
        }
        let marked = marked || is("bearer") || is("dpop");
        self.check_rest(issuer, marked, now)?;
        self.check_audience(issuer)
    }

    /// RFC 7662 section 2.2: trusted only when it is the boolean.
    pub(super) fn active(&self) -> Option<bool> {
        match self.get(Claim::Active)? {
            Value::Bool(active) => Some(*active),
            _ => None,
        }
    }

    pub(super) fn expires(&self) -> Option<u64> {
        seconds(self.get(Claim::Exp))
    }

    pub(super) fn issued_at(&self) -> Option<u64> {
        seconds(self.get(Claim::Iat))
    }

    /// 0 when nothing is said. Rounded up, like the check.
    pub(super) fn begins(&self) -> u64 {
        self.get(Claim::Nbf).and_then(begins_at).unwrap_or(0)
    }

    pub(super) fn token_id(&self) -> Option<&str> {
        self.text(Claim::Jti)
    }

    pub(super) fn session(&self) -> Option<&str> {
        self.text(Claim::Sid)
    }

    pub(super) fn subject(&self) -> Option<&str> {
        self.text(Claim::Sub)
    }

    /// The OAuth client; without one there is nobody to authorise. `sub` does not stand in for it: a user may bear
    /// a client's name (RFC 9700 section 4.15).
    pub(super) fn client(&self) -> Option<&str> {
        self.text(Claim::Azp)
            .or_else(|| self.text(Claim::ClientId))
            .filter(|client| !client.is_empty())
    }

    /// What its user has to show beside it; an error where that is nothing we could look at.
    pub(super) fn binding(&self, dpop: Dpop) -> Result<Option<Binding>, Refusal> {
        Binding::of(self.get(Claim::Cnf), dpop)
    }

    fn is_bound_to_a_key(&self, dpop: Dpop) -> Result<bool, Refusal> {
        let bound_to = self.binding(dpop)?;
        Ok(bound_to.is_some_and(|bound_to| bound_to.key().is_some()))
    }

    /// RFC 6749 section 3.3: U+0020 alone separates; other blanks belong to the word.
    pub(super) fn scopes(&self) -> impl Iterator<Item = &str> {
        let scopes = self.text(Claim::Scope).unwrap_or_default().split(' ');
        scopes.filter(|scope| !scope.is_empty())
    }

    /// Keycloak's `realm_access`.
    pub(super) fn realm_roles(&self) -> impl Iterator<Item = &str> {
        self.get(Claim::RealmAccess).into_iter().flat_map(roles)
    }

    /// Keycloak's `resource_access`: each client with its roles.
    pub(super) fn client_roles(&self) -> impl Iterator<Item = (&str, impl Iterator<Item = &str>)> {
        let clients = self.get(Claim::ResourceAccess).and_then(Value::as_object);
        let clients = clients.into_iter().flat_map(Object::iter);
        clients.map(|(client, access)| (client, roles(access)))
    }

    /// A claim by its name.
    pub(super) fn named(&self, name: &str) -> Option<&Value<'a>> {
        self.all.get(name)
    }

    /// Keycloak's lightweight tokens have no `aud` at all.
    pub(super) fn is_lightweight(&self) -> bool {
        self.get(Claim::Aud).is_none()
    }

    pub(super) fn check_audience(&self, issuer: &IssuerPlan) -> Result<(), Refusal> {
        let ours = names_one_of(self.get(Claim::Aud), &issuer.audience);
        ours.then_some(()).ok_or(Refusal::Audience)
    }

    fn check_rest(&self, issuer: &IssuerPlan, marked: bool, now: u64) -> Result<(), Refusal> {
        if self.client().is_none() {
            return Err(Refusal::Claims);
        }
        let to_a_key = self.is_bound_to_a_key(issuer.dpop)?;
        match self.text(Claim::Typ) {
            Some("Bearer") => {}
            // Keycloak's word for a token that is bound to a key.
            Some("DPoP") if to_a_key => {}
            Some(_) => return Err(Refusal::Kind),
            None if marked || issuer.unmarked == Unmarked::Allow => {}
            None => return Err(Refusal::Unmarked),
        }
        let leeway = issuer.leeway.as_secs();
        let past = |expires: u64| now >= expires.saturating_add(leeway);
        if self.expires().is_some_and(past) {
            return Err(Refusal::Expired);
        }
        if let Some(begins) = self.get(Claim::Nbf) {
            let begins = begins_at(begins).ok_or(Refusal::Claims)?;
            if now.saturating_add(leeway) < begins {
                return Err(Refusal::NotYetValid);
            }
        }
        Ok(())
    }

    /// Registered claims of the wrong type refuse the token: another reader might make something of them.
    fn check_types(&self) -> Result<(), Refusal> {
        const TEXTS: [Claim; 7] = [
            Claim::Sub,
            Claim::Azp,
            Claim::ClientId,
            Claim::Scope,
            Claim::Typ,
            Claim::Jti,
            Claim::Sid,
        ];
        let is_text = |value: &Value<'_>| value.as_text().is_some();
        let texts = TEXTS.iter().filter_map(|claim| self.get(*claim));
        let times = [Claim::Nbf, Claim::Iat];
        let mut times = times.iter().filter_map(|claim| self.get(*claim));
        let audience = match self.get(Claim::Aud) {
            None | Some(Value::Text(_)) => true,
            Some(Value::List(list)) => list.iter().all(is_text),
            Some(_) => false,
        };
        let right = audience
            && texts.into_iter().all(is_text)
            && times.all(|at| seconds(Some(at)).is_some());
        right.then_some(()).ok_or(Refusal::Claims)
    }
}

/// RFC 7519 section 4.1.3: an `aud` is one name or a list of them; absent, it is for nobody.
pub(super) fn names_one_of(audience: Option<&Value<'_>>, ours: &[String]) -> bool {
    let named = |value: &Value<'_>| {
        let aud = value.as_text();
        aud.is_some_and(|aud| ours.iter().any(|ours| ours == aud))
    };
    match audience {
        Some(Value::List(list)) => list.iter().any(named),
        Some(one) => named(one),
        None => false,
    }
}

/// Keycloak's `{"roles": [...]}`. Whatever has another shape grants nothing.
fn roles<'v>(access: &'v Value<'_>) -> impl Iterator<Item = &'v str> {
    let roles = access.as_object().and_then(|access| access.get("roles"));
    let list = roles.and_then(Value::as_list).unwrap_or_default();
    list.iter().filter_map(Value::as_text)
}

/// RFC 7519 section 2, NumericDate, which may have a fraction; rounded down, which is strict for `exp`. A number too
/// large for us is the end of time, a negative one is refused.
pub(super) fn seconds(value: Option<&Value<'_>>) -> Option<u64> {
    let Some(Value::Number(number)) = value else {
        return None;
    };
    number.as_u64().or_else(|| {
        // `as` saturates; the strict reader has refused what is not finite.
        let at = number.as_f64()?;
        (at >= 0.0).then_some(at as u64)
    })
}

/// Rounded up, which is strict for `nbf`.
pub(super) fn begins_at(value: &Value<'_>) -> Option<u64> {
    let whole = seconds(Some(value))?;
    let fraction = matches!(value, Value::Number(number) if number.is_f64()
        && number.as_f64().is_some_and(|at| at > whole as f64));
    Some(whole.saturating_add(u64::from(fraction)))
}
