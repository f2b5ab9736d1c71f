//! What can be called, by path and method.

use http::Method;

/// What a path means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call<'p> {
    Page(Page),
    /// Of an issuer's keys.
    Refresh(&'p str),
    /// Keycloak's push of an issuer's not-before.
    Push(&'p str),
    Logout(&'p str),
    Revocations,
    Revocation(&'p str),
}

/// What is only looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Page {
    Livez,
    Readyz,
    Metrics,
    Issuers,
    Upstreams,
    Routes,
}

impl<'p> Call<'p> {
    pub(super) fn of(path: &'p str) -> Option<Self> {
        // More segments than any of ours has.
        let segments: Vec<&str> = path.strip_prefix('/')?.splitn(5, '/').collect();
        Some(match segments[..] {
            ["livez"] => Call::Page(Page::Livez),
            ["readyz"] => Call::Page(Page::Readyz),
            ["metrics"] => Call::Page(Page::Metrics),
            ["issuers"] => Call::Page(Page::Issuers),
            ["upstreams"] => Call::Page(Page::Upstreams),
            ["routes"] => Call::Page(Page::Routes),
            ["issuers", issuer, "keys", "refresh"] => Call::Refresh(issuer),
            ["issuers", issuer, "k_push_not_before"] => Call::Push(issuer),
            ["issuers", issuer, "backchannel-logout"] => Call::Logout(issuer),
            ["revocations"] => Call::Revocations,
            ["revocations", name] if !name.is_empty() => Call::Revocation(name),
            _ => return None,
        })
    }

    /// Whether it takes `admin.token`. What an issuer sends is proved by its signature.
    pub(super) fn is_guarded(self) -> bool {
        match self {
            Call::Refresh(_) | Call::Revocations | Call::Revocation(_) => true,
            Call::Page(_) | Call::Push(_) | Call::Logout(_) => false,
        }
    }

    pub(super) fn allow(self) -> &'static str {
        match self {
            Call::Page(_) => "GET, HEAD",
            Call::Refresh(_) | Call::Push(_) | Call::Logout(_) => "POST",
            Call::Revocations => "GET, HEAD, POST",
            Call::Revocation(_) => "DELETE",
        }
    }

    pub(super) fn takes(self, method: &Method) -> bool {
        self.allow()
            .split(", ")
            .any(|known| known == method.as_str())
    }
}
