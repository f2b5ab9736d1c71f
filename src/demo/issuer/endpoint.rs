//! Keycloak's paths.

/// What a resource server and its clients use of a realm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    Discovery,
    Certs,
    Token,
    Introspect,
    Revoke,
    /// The public realm document.
    Realm,
}

/// What a path names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Named {
    Endpoint(Endpoint),
    UnknownRealm,
    Nothing,
}

impl Endpoint {
    pub(super) const ALL: [Endpoint; 6] = [
        Endpoint::Discovery,
        Endpoint::Certs,
        Endpoint::Token,
        Endpoint::Introspect,
        Endpoint::Revoke,
        Endpoint::Realm,
    ];

    /// Beneath the realm's URL.
    pub fn path(self) -> &'static str {
        match self {
            Endpoint::Discovery => "/.well-known/openid-configuration",
            Endpoint::Certs => "/protocol/openid-connect/certs",
            Endpoint::Token => "/protocol/openid-connect/token",
            Endpoint::Introspect => "/protocol/openid-connect/token/introspect",
            Endpoint::Revoke => "/protocol/openid-connect/revoke",
            Endpoint::Realm => "",
        }
    }

    pub(super) fn takes_form(self) -> bool {
        matches!(
            self,
            Endpoint::Token | Endpoint::Introspect | Endpoint::Revoke
        )
    }
}

pub(super) fn named(path: &str, realm: &str) -> Named {
    let Some(rest) = path.strip_prefix("/realms/") else {
        return Named::Nothing;
    };
    let (name, rest) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, ""),
    };
    if name != realm {
        return Named::UnknownRealm;
    }
    let found = Endpoint::ALL.into_iter().find(|e| e.path() == rest);
    found.map_or(Named::Nothing, Named::Endpoint)
}
