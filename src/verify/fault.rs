//! Why a token did not become a principal.

use super::dpop::ProofFlaw;

/// The token was judged and failed: 401. Each variant is a metric label and a log reason, never a public text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Not a compact JWS: segments, base64url, JSON, duplicate members, depth.
    Malformed,
    /// An opaque token, and no issuer is asked about those.
    Opaque,
    /// `alg` is not one of the issuer's, or not the key's.
    Algorithm,
    /// RFC 7515 section 4.1.11: we understand no critical extension, so none may be present.
    Critical,
    /// Header `typ` is not in `token_types`.
    HeaderType,
    /// No `kid`, or none that the current key set knows.
    UnknownKey,
    Signature,
    /// `iss` is absent, not a string, or none of ours.
    Issuer,
    Audience,
    /// `exp` is past.
    Expired,
    /// `exp` is absent or not a number, or a registered claim has the wrong type.
    Claims,
    NotYetValid,
    /// Payload `typ` names another kind: ID, refresh, offline, logout token.
    Kind,
    /// Nothing says that it is an access token (contract, "What is an access token").
    Unmarked,
    /// `cnf` binds it to something that the caller did not show, or that we cannot look at.
    SenderConstrained,
    /// Nothing binds it to a key, and its issuer or the scheme that it came with says that something does.
    Unbound,
    /// The proof of the key that it is bound to.
    Proof(ProofFlaw),
    /// The issuer was asked and says that the token is not active.
    Inactive,
    /// Somebody revoked it here, or it was issued before the issuer's not-before.
    Revoked,
}

/// The token could not be judged: 503 with `Retry-After`, never 401.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unjudged {
    /// No key set was ever fetched.
    NoKeys,
    /// The key set is older than `keys.max_stale`.
    KeysStale,
    /// The key is unknown and the fetch that could have brought it failed or took too long.
    KeyFetchFailed,
    /// The issuer was asked and gave no answer that can be used.
    IntrospectionFailed,
    /// Too many questions are on their way to the issuer.
    IntrospectionBusy,
    /// The issuer has not answered for a while: the breaker is open.
    IntrospectionOpen,
    /// There is no place to remember one more proof of possession.
    ProofsFull,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Refused(Refusal),
    Unjudged(Unjudged),
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Fault::Refused(refusal)
    }
}

impl From<ProofFlaw> for Refusal {
    fn from(flaw: ProofFlaw) -> Self {
        Refusal::Proof(flaw)
    }
}

impl From<Unjudged> for Fault {
    fn from(unjudged: Unjudged) -> Self {
        Fault::Unjudged(unjudged)
    }
}
