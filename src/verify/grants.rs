//! From claims that were proved to somebody. The tokens of one client mostly differ in their times and their `jti`
//! alone, so what they grant is made once and shared: ten thousand tokens of fifty clients hold fifty grants.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use quick_cache::sync::Cache;
use quick_cache::{Equivalent, Weighter};
use serde_json::{Map, Value};

use super::claims::Claims;
use super::principal::{Grants, IdentityFields, Principal};
use crate::config::plan::{IssuerId, IssuerPlan, Plan};

/// Memory for the grants that new tokens may share: some thousand clients. Beyond it they are merely made anew.
const MAX_BYTES: u64 = 2 << 20;
/// What a client's grants take, about; it only sizes tables at the start.
const USUAL_BYTES: u64 = 1 << 10;

/// What one issuer has granted lately.
pub(super) struct Granted {
    issuer: IssuerId,
    name: Arc<str>,
    url: Arc<str>,
    forwarded: Forwarded,
    shared: Cache<Shared, Arc<Grants>, Bytes>,
}

impl Granted {
    pub(super) fn new(id: IssuerId, issuer: &IssuerPlan, forwarded: Forwarded) -> Arc<Self> {
        Arc::new(Granted {
            issuer: id,
            name: issuer.name.clone(),
            url: issuer.issuer.as_str().into(),
            forwarded,
            shared: Cache::with_weighter((MAX_BYTES / USUAL_BYTES) as usize, MAX_BYTES, Bytes),
        })
    }

    /// Somebody. Call it for nothing but claims whose signature held, or that the issuer answered with, and whose
    /// checks passed.
    pub(super) fn principal(&self, claims: &Claims<'_>) -> Principal {
        let said = Said {
            claims,
            forwarded: &self.forwarded,
        };
        let grants = self.shared.get(&said).unwrap_or_else(|| {
            let grants = Arc::new(self.grants(claims));
            self.shared.insert(Shared(grants.clone()), grants.clone());
            grants
        });
        Principal::new(grants, claims.subject())
    }

    fn grants(&self, claims: &Claims<'_>) -> Grants {
        let client = claims.client().unwrap_or_default().to_owned();
        let scopes: Vec<_> = claims.scopes().map(str::to_owned).collect();
        let realm_roles: Vec<_> = claims.realm_roles().map(str::to_owned).collect();
        let roles = claims.client_roles();
        let roles =
            roles.map(|(client, roles)| (client.to_owned(), roles.map(str::to_owned).collect()));
        Grants {
            issuer: self.issuer,
            issuer_name: self.name.clone(),
            issuer_url: self.url.clone(),
            fields: IdentityFields::of(&self.url, &client, &scopes, &realm_roles),
            client,
            scopes,
            realm_roles,
            client_roles: roles.collect(),
            claims: self.forwarded.of(claims),
        }
    }
}

/// The claims that some route forwards, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
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

    fn of(&self, claims: &Claims<'_>) -> Map<String, Value> {
        let kept = self.0.iter();
        kept.filter_map(|name| Some((name.clone(), claims.named(name)?.to_owned())))
            .collect()
    }
}

/// Grants as a token says them, to be looked up without making them.
struct Said<'c> {
    claims: &'c Claims<'c>,
    forwarded: &'c Forwarded,
}

/// Grants by what they say.
#[derive(Clone)]
struct Shared(Arc<Grants>);

// What stands out between clients is enough to hash; the comparison looks at everything.
impl Hash for Said<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.claims.client().unwrap_or_default().hash(state);
        self.claims.scopes().for_each(|scope| scope.hash(state));
    }
}

impl Hash for Shared {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.client.hash(state);
        self.0.scopes.iter().for_each(|scope| scope.hash(state));
    }
}

impl PartialEq for Shared {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Shared {}

impl Equivalent<Shared> for Said<'_> {
    fn equivalent(&self, Shared(grants): &Shared) -> bool {
        let claims = self.claims;
        let mut roles = 0;
        claims.client() == Some(&grants.client)
            && claims.scopes().eq(grants.scopes.iter().map(String::as_str))
            && claims
                .realm_roles()
                .eq(grants.realm_roles.iter().map(String::as_str))
            && claims.client_roles().all(|(client, said)| {
                roles += 1;
                let held = grants.client_roles.get(client);
                held.is_some_and(|held| said.eq(held.iter().map(String::as_str)))
            })
            && roles == grants.client_roles.len()
            && self.forwarded.of(claims) == grants.claims
    }
}

#[derive(Clone)]
struct Bytes;

impl Weighter<Shared, Arc<Grants>> for Bytes {
    fn weight(&self, _: &Shared, grants: &Arc<Grants>) -> u64 {
        grants.bytes()
    }
}

impl Grants {
    /// An estimate of the memory that they take, allocator's rounding included: every part is counted, none exactly.
    pub(super) fn bytes(&self) -> u64 {
        // A node of the ordered map has room for eleven entries.
        const NODE: u64 = 11 * (size_of::<String>() + size_of::<Vec<String>>()) as u64 + 64;
        let held = self.client_roles.iter();
        let held = held.map(|(client, roles)| heap(client.len()) + list(roles));
        let nodes = self.client_roles.len().div_ceil(6) as u64 * NODE;
        let words = self.scopes.iter().chain(&self.realm_roles);
        // The header values say the same once more.
        let fields: usize = words.map(|word| word.len() + 1).sum();
        heap(size_of::<Grants>())
            + heap(self.client.len())
            + list(&self.scopes)
            + list(&self.realm_roles)
            + nodes
            + held.sum::<u64>()
            + 4 * heap(0)
            + heap(fields + self.client.len() + self.issuer_url.len())
            + members(&self.claims)
    }
}

/// One allocation of so many bytes.
pub(super) fn heap(bytes: usize) -> u64 {
    bytes.next_multiple_of(16) as u64 + 16
}

fn list(words: &[String]) -> u64 {
    let own = heap(size_of_val(words));
    own + words.iter().map(|word| heap(word.len())).sum::<u64>()
}

fn members(map: &Map<String, Value>) -> u64 {
    // An entry of the ordered map: hash, name and value, and its place in the index; tables grow by doubling.
    const MEMBER: u64 = 96;
    let inner = |(name, value): (&String, &Value)| MEMBER + heap(name.len()) + outside(value);
    64 + map.iter().map(inner).sum::<u64>()
}

/// What a value holds beside itself.
fn outside(value: &Value) -> u64 {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => heap(text.len()),
        Value::Array(list) => {
            heap(list.len() * 2 * size_of::<Value>()) + list.iter().map(outside).sum::<u64>()
        }
        Value::Object(map) => members(map),
    }
}
