//! What the realm gives a client: the claims of its tokens, as the mappers of its scopes write them.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::realm::{Account, Client, ClientScope, Mapper, Realm, UnassignedScope};

/// Which of the four shapes of one grant a mapper is asked to write into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Access,
    Lightweight,
    Id,
    /// What introspection answers: a lightweight token is whole again here.
    Introspection,
}

pub(super) struct Grant<'r> {
    realm: &'r Realm,
    pub(super) client: &'r Client,
    pub(super) account: &'r Account,
    scopes: Vec<&'r ClientScope>,
    /// `openid` is not a client scope: anybody may ask for it.
    pub(super) openid: bool,
    /// The login session; a machine has none.
    pub(super) session: Option<Session>,
    /// The thumbprint of the key that the client has proved to have.
    bound_to: Option<String>,
}

#[derive(Clone)]
pub(super) struct Session {
    pub(super) id: String,
}

/// What changes from token to token of one grant.
pub(super) struct Stamp<'a> {
    pub(super) issuer: &'a str,
    pub(super) jti: String,
    pub(super) now: u64,
    pub(super) expires: u64,
}

/// What mappers may write before the token is put together in Keycloak's order.
#[derive(Default)]
struct Written {
    sub: bool,
    acr: bool,
    audience: Vec<String>,
    realm_roles: Vec<String>,
    client_roles: BTreeMap<String, Vec<String>>,
    other: Map<String, Value>,
}

impl<'r> Grant<'r> {
    pub(super) fn new(
        realm: &'r Realm,
        client: &'r Client,
        account: &'r Account,
        scope: &str,
        session: Option<Session>,
    ) -> Result<Self, UnassignedScope> {
        let asked: Vec<&str> = scope.split_whitespace().collect();
        Ok(Grant {
            scopes: realm.scopes(client, account, &asked)?,
            openid: asked.contains(&"openid"),
            realm,
            client,
            account,
            session,
            bound_to: None,
        })
    }

    pub(super) fn bound_to(mut self, thumbprint: Option<String>) -> Self {
        self.bound_to = thumbprint;
        self
    }

    /// `token_type` of the answer, and `typ` in the token.
    pub(super) fn token_type(&self) -> &'static str {
        match self.bound_to {
            Some(_) => "DPoP",
            None => "Bearer",
        }
    }

    /// The `scope` member of the token and of the token answer.
    pub(super) fn scope(&self) -> String {
        let openid = self.openid.then_some("openid");
        let shown = self.scopes.iter().filter(|scope| scope.in_token());
        let names = openid
            .into_iter()
            .chain(shown.map(|scope| scope.name.as_str()));
        names.collect::<Vec<_>>().join(" ")
    }

    /// The `scope` member of a refresh token, which names those too that no access token shows.
    pub(super) fn all_scopes(&self) -> String {
        let openid = self.openid.then_some("openid");
        let names = self.scopes.iter().map(|scope| scope.name.as_str());
        openid
            .into_iter()
            .chain(names)
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// The `aud` of an access token.
    pub(super) fn audience(&self) -> Option<Value> {
        one_or_many(self.written(Shape::Access).audience)
    }

    pub(super) fn has_scope(&self, name: &str) -> bool {
        self.scopes.iter().any(|scope| scope.name == name)
    }

    pub(super) fn is_lightweight(&self) -> bool {
        self.client
            .flag("client.use.lightweight.access.token.enabled")
    }

    /// `trrtcc:`, `trltcc:`, `onrtro:` and so on: session, token and grant, two letters each.
    pub(super) fn jti_prefix(&self) -> String {
        let (session, grant) = match &self.session {
            None => ("tr", "cc"),
            Some(_) if self.has_scope("offline_access") => ("of", "ro"),
            Some(_) => ("on", "ro"),
        };
        let token = if self.is_lightweight() { "lt" } else { "rt" };
        format!("{session}{token}{grant}:")
    }

    pub(super) fn claims(&self, shape: Shape, stamp: &Stamp) -> Map<String, Value> {
        let mut written = self.written(shape);
        let mut claims = Map::new();
        let mut put = |name: &str, value: Value| claims.insert(name.to_owned(), value);
        put("exp", json!(stamp.expires));
        put("iat", json!(stamp.now));
        put("jti", json!(stamp.jti));
        put("iss", json!(stamp.issuer));
        if shape == Shape::Id {
            put("aud", json!(self.client.client_id));
        } else if let Some(audience) = one_or_many(written.audience) {
            put("aud", audience);
        }
        if written.sub || shape == Shape::Id {
            put("sub", json!(subject(self.account)));
        }
        let typ = match shape {
            Shape::Id => "ID",
            _ => self.token_type(),
        };
        put("typ", json!(typ));
        put("azp", json!(self.client.client_id));
        if let Some(session) = &self.session {
            put("sid", json!(session.id));
        }
        if written.acr {
            put("acr", json!("1"));
        }
        if !written.realm_roles.is_empty() {
            put("realm_access", json!({ "roles": written.realm_roles }));
        }
        if !written.client_roles.is_empty() {
            let access = written.client_roles.into_iter();
            let access = access.map(|(client, roles)| (client, json!({ "roles": roles })));
            put("resource_access", Value::Object(access.collect()));
        }
        if shape != Shape::Id {
            if let Some(thumbprint) = &self.bound_to {
                put("cnf", json!({ "jkt": thumbprint, "kc-jkt-type": "DPoP" }));
            }
            put("scope", json!(self.scope()));
        }
        claims.append(&mut written.other);
        claims
    }

    fn written(&self, shape: Shape) -> Written {
        let mut written = Written::default();
        for scope in &self.scopes {
            for mapper in scope.mappers.iter().filter(|m| writes(m, shape)) {
                self.apply(mapper, &mut written);
            }
        }
        written
    }

    fn apply(&self, mapper: &Mapper, written: &mut Written) {
        let claim = mapper.config("claim.name").unwrap_or_default();
        let mut put = |value: Value| written.other.insert(claim.to_owned(), value);
        match mapper.kind.as_str() {
            "oidc-sub-mapper" => written.sub = true,
            "oidc-acr-mapper" => written.acr = true,
            "oidc-usersessionmodel-note-mapper" => {
                let note = mapper.config("user.session.note").unwrap_or_default();
                if let Some(value) = self.note(note) {
                    put(value);
                }
            }
            "oidc-usermodel-attribute-mapper" | "oidc-usermodel-property-mapper" => {
                let attribute = mapper.config("user.attribute").unwrap_or_default();
                if let Some(value) = attribute_of(self.account, attribute) {
                    put(value);
                }
            }
            "oidc-usermodel-realm-role-mapper" => {
                let roles = self.roles().into_iter().filter(|role| role.owner.is_none());
                written.realm_roles = roles.map(|role| role.name).collect();
            }
            "oidc-usermodel-client-role-mapper" => {
                for role in self.roles() {
                    if let Some(owner) = role.owner {
                        written
                            .client_roles
                            .entry(owner)
                            .or_default()
                            .push(role.name);
                    }
                }
            }
            // The clients whose roles are in the token, the token's own client left out.
            "oidc-audience-resolve-mapper" => {
                for owner in self.roles().into_iter().filter_map(|role| role.owner) {
                    if owner != self.client.client_id {
                        written.add_audience(&owner);
                    }
                }
            }
            "oidc-audience-mapper" => {
                let audience = mapper.config("included.client.audience");
                let client = audience.and_then(|id| self.realm.client(id));
                if let Some(client) = client.filter(|client| client.enabled) {
                    written.add_audience(&client.client_id);
                } else if let Some(custom) = mapper.config("included.custom.audience") {
                    written.add_audience(custom);
                }
            }
            // The rest (allowed origins) has nothing to say about clients without web origins.
            _ => {}
        }
    }

    fn roles(&self) -> std::collections::BTreeSet<super::realm::Role> {
        self.realm.roles(self.client, self.account, &self.scopes)
    }

    /// Notes of the session: a machine's grant leaves where it came from. A login by the password grant leaves none,
    /// not even when it was.
    fn note(&self, name: &str) -> Option<Value> {
        match (name, &self.session) {
            ("client_id", None) => Some(json!(self.client.client_id)),
            // The issuer is reachable from loopback only.
            ("clientHost" | "clientAddress", None) => Some(json!("127.0.0.1")),
            _ => None,
        }
    }
}

impl Written {
    fn add_audience(&mut self, audience: &str) {
        if !self.audience.iter().any(|known| known == audience) {
            self.audience.push(audience.to_owned());
        }
    }
}

/// The switches of a mapper. `sub` stays in a lightweight token although no switch says so: seen on 26.7.5.
fn writes(mapper: &Mapper, shape: Shape) -> bool {
    match shape {
        Shape::Access => mapper.is_set("access.token.claim"),
        Shape::Id => mapper.is_set("id.token.claim"),
        Shape::Introspection => mapper.is_set("introspection.token.claim"),
        Shape::Lightweight => {
            mapper.is_set("lightweight.claim") || mapper.kind == "oidc-sub-mapper"
        }
    }
}

fn attribute_of(account: &Account, name: &str) -> Option<Value> {
    match name {
        "username" => Some(json!(account.username)),
        "email" => account.email.as_ref().map(|email| json!(email)),
        "emailVerified" => Some(json!(account.email_verified)),
        _ => None,
    }
}

/// Keycloak's `aud`: absent, a string or an array.
fn one_or_many(mut values: Vec<String>) -> Option<Value> {
    match values.len() {
        0 => None,
        1 => values.pop().map(Value::String),
        _ => Some(json!(values)),
    }
}

/// The account's id. Made from its name, so that it outlives a restart as a real one does.
pub(super) fn subject(account: &Account) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, account.username.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.as_ref()[..16]);
    uuid(bytes)
}

/// A version 4 UUID with these bytes.
pub(super) fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = |range: std::ops::Range<usize>| -> String {
        bytes[range].iter().map(|b| format!("{b:02x}")).collect()
    };
    let parts = [hex(0..4), hex(4..6), hex(6..8), hex(8..10), hex(10..16)];
    parts.join("-")
}
