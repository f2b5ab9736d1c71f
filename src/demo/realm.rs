//! The realm as its import file declares it: the same file that a real Keycloak imports, so that both agree.

use std::collections::{BTreeMap, BTreeSet};

use once_cell::sync::OnceCell;
use serde::Deserialize;

/// `deploy/keycloak/demo-realm.json`, compiled in. Its secrets are public: they open nothing but a demo.
const DEMO: &str = include_str!("../../deploy/keycloak/demo-realm.json");

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Realm {
    #[serde(rename = "realm")]
    pub name: String,
    access_token_lifespan: u64,
    default_signature_algorithm: String,
    client_scopes: Vec<ClientScope>,
    scope_mappings: Vec<ScopeMapping>,
    client_scope_mappings: BTreeMap<String, Vec<ScopeMapping>>,
    pub clients: Vec<Client>,
    users: Vec<Account>,
    components: Components,
}

#[derive(Debug, Deserialize)]
pub struct ClientScope {
    pub name: String,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
    #[serde(default, rename = "protocolMappers")]
    pub mappers: Vec<Mapper>,
}

#[derive(Debug, Deserialize)]
pub struct Mapper {
    #[serde(rename = "protocolMapper")]
    pub kind: String,
    #[serde(default)]
    config: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ScopeMapping {
    client_scope: Option<String>,
    client: Option<String>,
    roles: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Client {
    pub client_id: String,
    pub enabled: bool,
    pub public_client: bool,
    pub secret: Option<String>,
    pub service_accounts_enabled: bool,
    pub direct_access_grants_enabled: bool,
    full_scope_allowed: bool,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
    #[serde(default)]
    default_client_scopes: Vec<String>,
    #[serde(default)]
    optional_client_scopes: Vec<String>,
}

/// A person, or the service account of a client.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Account {
    pub username: String,
    pub email: Option<String>,
    #[serde(default)]
    pub email_verified: bool,
    service_account_client_id: Option<String>,
    #[serde(default)]
    credentials: Vec<Credential>,
    #[serde(default)]
    realm_roles: Vec<String>,
    #[serde(default)]
    client_roles: BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Deserialize)]
struct Credential {
    #[serde(rename = "type")]
    kind: String,
    value: String,
}

#[derive(Debug, Deserialize)]
struct Components {
    #[serde(rename = "org.keycloak.keys.KeyProvider")]
    keys: Vec<KeyProvider>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyProvider {
    provider_id: String,
    config: BTreeMap<String, Vec<String>>,
}

/// A realm role, or a role of the client that `owner` names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Role {
    pub owner: Option<String>,
    pub name: String,
}

/// `scope` asked for something that the administrator did not assign to the client.
#[derive(Debug, PartialEq, Eq)]
pub struct UnassignedScope;

impl Realm {
    /// The compiled-in realm, read once in a process that may hold many issuers.
    pub fn demo() -> Result<&'static Realm, serde_json::Error> {
        // The standard library's cell cannot be filled by something that may fail.
        static REALM: OnceCell<Realm> = OnceCell::new();
        REALM.get_or_try_init(|| {
            let mut realm: Realm = serde_json::from_str(DEMO)?;
            realm.add_offline_access();
            Ok(realm)
        })
    }

    pub fn client(&self, id: &str) -> Option<&Client> {
        self.clients.iter().find(|client| client.client_id == id)
    }

    pub fn service_account(&self, client: &Client) -> Option<&Account> {
        if !client.service_accounts_enabled {
            return None;
        }
        let owns = |account: &&Account| {
            account.service_account_client_id.as_deref() == Some(&client.client_id)
        };
        self.users.iter().find(owns)
    }

    pub fn account(&self, username: &str) -> Option<&Account> {
        self.users.iter().find(|user| user.username == username)
    }

    pub fn key_providers(&self) -> &[KeyProvider] {
        &self.components.keys
    }

    pub fn lifespan(&self, client: &Client) -> u64 {
        client
            .attribute("access.token.lifespan")
            .and_then(|seconds| seconds.parse().ok())
            .unwrap_or(self.access_token_lifespan)
    }

    pub fn algorithm<'a>(&'a self, client: &'a Client) -> &'a str {
        client
            .attribute("access.token.signed.response.alg")
            .unwrap_or(&self.default_signature_algorithm)
    }

    /// The algorithm of what is not an access token.
    pub fn default_algorithm(&self) -> &str {
        &self.default_signature_algorithm
    }

    /// The scopes that a client gets: default ones always, optional ones when asked for, and of both only those
    /// whose roles the account has at least one of. The last rule drops silently, as Keycloak does.
    pub fn scopes<'a>(
        &'a self,
        client: &'a Client,
        account: &Account,
        asked: &[&str],
    ) -> Result<Vec<&'a ClientScope>, UnassignedScope> {
        let assigned = |name: &str| {
            let is = |scope: &String| scope == name;
            client.default_client_scopes.iter().any(is)
                || client.optional_client_scopes.iter().any(is)
        };
        if asked
            .iter()
            .any(|name| *name != "openid" && !assigned(name))
        {
            return Err(UnassignedScope);
        }
        let optional = client.optional_client_scopes.iter();
        let optional = optional.filter(|name| asked.contains(&name.as_str()));
        let held = account.roles();
        Ok(client
            .default_client_scopes
            .iter()
            .chain(optional)
            .filter_map(|name| self.client_scopes.iter().find(|scope| scope.name == *name))
            .filter(|scope| {
                let wants = self.roles_of_scope(scope);
                wants.is_empty() || !wants.is_disjoint(&held)
            })
            .collect())
    }

    /// Roles of the account, narrowed to what the client and its granted scopes are mapped to unless the client has
    /// the full scope. A client always sees its own roles.
    pub fn roles(
        &self,
        client: &Client,
        account: &Account,
        scopes: &[&ClientScope],
    ) -> BTreeSet<Role> {
        let mut held = account.roles();
        if !client.full_scope_allowed {
            let of_client = |m: &ScopeMapping| m.client.as_deref() == Some(&client.client_id);
            let mut mapped = self.mapped(of_client);
            for scope in scopes {
                mapped.extend(self.roles_of_scope(scope));
            }
            held.retain(|role| {
                mapped.contains(role) || role.owner.as_deref() == Some(&client.client_id)
            });
        }
        held
    }

    fn roles_of_scope(&self, scope: &ClientScope) -> BTreeSet<Role> {
        self.mapped(|mapping| mapping.client_scope.as_deref() == Some(&scope.name))
    }

    fn mapped(&self, wanted: impl Fn(&ScopeMapping) -> bool) -> BTreeSet<Role> {
        let realm = self.scope_mappings.iter().map(|mapping| (None, mapping));
        let clients = self.client_scope_mappings.iter();
        let clients = clients.flat_map(|(owner, list)| list.iter().map(move |m| (Some(owner), m)));
        realm
            .chain(clients)
            .filter(|(_, mapping)| wanted(mapping))
            .flat_map(|(owner, mapping)| {
                mapping.roles.iter().map(move |name| Role {
                    owner: owner.cloned(),
                    name: name.clone(),
                })
            })
            .collect()
    }

    /// Keycloak's importer makes this scope and its role by itself, and so do we.
    fn add_offline_access(&mut self) {
        let name = "offline_access";
        if self.client_scopes.iter().any(|scope| scope.name == name) {
            return;
        }
        self.client_scopes.push(ClientScope {
            name: name.to_owned(),
            attributes: BTreeMap::new(),
            mappers: Vec::new(),
        });
        self.scope_mappings.push(ScopeMapping {
            client_scope: Some(name.to_owned()),
            client: None,
            roles: vec![name.to_owned()],
        });
    }
}

impl ClientScope {
    pub fn in_token(&self) -> bool {
        let attribute = self.attributes.get("include.in.token.scope");
        attribute.is_none_or(|value| value == "true")
    }
}

impl Mapper {
    pub fn config(&self, key: &str) -> Option<&str> {
        self.config.get(key).map(String::as_str)
    }

    pub fn is_set(&self, key: &str) -> bool {
        self.config(key) == Some("true")
    }
}

impl Client {
    pub fn attribute(&self, key: &str) -> Option<&str> {
        self.attributes.get(key).map(String::as_str)
    }

    pub fn flag(&self, key: &str) -> bool {
        self.attribute(key) == Some("true")
    }
}

impl Account {
    pub fn has_password(&self, password: &str) -> bool {
        let is = |c: &Credential| c.kind == "password" && c.value == password;
        self.credentials.iter().any(is)
    }

    fn roles(&self) -> BTreeSet<Role> {
        let realm = self.realm_roles.iter().map(|name| Role {
            owner: None,
            name: name.clone(),
        });
        let clients = self.client_roles.iter().flat_map(|(owner, names)| {
            names.iter().map(|name| Role {
                owner: Some(owner.clone()),
                name: name.clone(),
            })
        });
        realm.chain(clients).collect()
    }
}

impl KeyProvider {
    /// The JOSE name of what this provider's key does; `None` for keys that never leave the server (AES).
    pub fn algorithm(&self) -> Option<&str> {
        let said = self.setting("algorithm");
        match self.provider_id.as_str() {
            "rsa-generated" => Some(said.unwrap_or("RS256")),
            "rsa-enc-generated" => Some(said.unwrap_or("RSA-OAEP")),
            "hmac-generated" => Some(said.unwrap_or("HS256")),
            "eddsa-generated" => Some("EdDSA"),
            "ecdsa-generated" => match self.setting("ecdsaEllipticCurveKey") {
                Some("P-384") => Some("ES384"),
                _ => Some("ES256"),
            },
            _ => None,
        }
    }

    pub fn priority(&self) -> i64 {
        let priority = self.setting("priority").and_then(|p| p.parse().ok());
        priority.unwrap_or(0)
    }

    pub fn is_active(&self) -> bool {
        self.setting("active") != Some("false")
    }

    pub fn is_enabled(&self) -> bool {
        self.setting("enabled") != Some("false")
    }

    fn setting(&self, key: &str) -> Option<&str> {
        self.config.get(key)?.first().map(String::as_str)
    }
}
