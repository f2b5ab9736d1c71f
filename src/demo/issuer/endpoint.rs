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

/// Why a path names no endpoint; Keycloak has a text of its own for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// Empty and dot segments.
    NotNormal,
    /// A semicolon.
    Character,
    NoSuchRealm,
    NoSuchProtocol,
    /// Within the realm.
    Nothing,
    /// Outside of all realms.
    Nowhere,
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

/// What a path names. One slash at its end does not matter.
pub(super) fn named(path: &str, realm: &str) -> Result<Endpoint, Lost> {
    if path.contains(';') {
        return Err(Lost::Character);
    }
    let dots = |segment: &str| segment == "." || segment == "..";
    if path.contains("//") || path.split('/').any(dots) {
        return Err(Lost::NotNormal);
    }
    let path = path.strip_suffix('/').unwrap_or(path);
    let Some(rest) = path.strip_prefix("/realms/") else {
        return Err(Lost::Nowhere);
    };
    let (name, rest) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, ""),
    };
    if name != realm {
        return Err(Lost::NoSuchRealm);
    }
    let found = Endpoint::ALL.into_iter().find(|e| e.path() == rest);
    found.ok_or_else(|| match rest.strip_prefix("/protocol/") {
        Some(rest) if rest.split('/').next() != Some("openid-connect") => Lost::NoSuchProtocol,
        _ => Lost::Nothing,
    })
}
