//! Policy × principal → permit or denial. Pure: no clock, no network, no HTTP.
//!
//! A [`Permit`] can only be made here, and only a permit opens the way to an upstream: a step forgotten anywhere
//! before leaves the request without one, and it is answered 500.

use crate::config::plan::{Access, Policy};
use crate::verify::Principal;

/// Proof that a route's policy was held against this request. It has no public constructor.
#[derive(Debug, Clone)]
pub struct Permit {
    principal: Option<Principal>,
}

impl Permit {
    /// Who was permitted; `None` on a public route, where no token is judged and no identity set.
    pub fn principal(&self) -> Option<&Principal> {
        self.principal.as_ref()
    }
}

/// What the principal lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denial {
    Issuer,
    Client,
    Scope,
    Role,
}

/// The permit of a route that says `access: public`; `None` for every other route.
pub fn public(access: &Access) -> Option<Permit> {
    match access {
        Access::Public => Some(Permit { principal: None }),
        Access::Token(_) => None,
    }
}

/// Holds a proved principal against what the route demands.
///
/// # Errors
/// The first demand that fails, in the order issuer, client, scopes, roles.
pub fn check(policy: &Policy, principal: Principal) -> Result<Permit, Denial> {
    let who = &*principal.grants;
    if !policy.issuers.is_empty() && !policy.issuers.contains(&who.issuer) {
        return Err(Denial::Issuer);
    }
    if !policy.clients.is_empty() && !policy.clients.contains(&who.client) {
        return Err(Denial::Client);
    }
    if !all(&policy.scopes, &who.scopes) || !any(&policy.any_scope, &who.scopes) {
        return Err(Denial::Scope);
    }
    let client_roles = policy.client_roles.iter().all(|(client, wanted)| {
        wanted.is_empty()
            || who
                .client_roles
                .get(client)
                .is_some_and(|held| all(wanted, held))
    });
    if !all(&policy.realm_roles, &who.realm_roles)
        || !any(&policy.any_realm_role, &who.realm_roles)
        || !client_roles
    {
        return Err(Denial::Role);
    }
    Ok(Permit {
        principal: Some(principal),
    })
}

fn all(wanted: &[String], held: &[String]) -> bool {
    wanted.iter().all(|one| held.contains(one))
}

/// An empty list demands nothing.
fn any(wanted: &[String], held: &[String]) -> bool {
    wanted.is_empty() || wanted.iter().any(|one| held.contains(one))
}

#[cfg(test)]
mod tests;
