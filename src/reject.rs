//! The closed list of every way we say no, and the only place that gives it a status.
//!
//! Nothing below this module knows about HTTP answers. The exact reason goes to the log and the metrics; the caller
//! gets a fixed sentence (contract section 4, RFC 6750 section 3, RFC 9457).

mod grpc;
mod raw;
mod write;

pub use grpc::grpc_status;
pub use raw::raw;
pub use write::{
    Circumstances, DPOP_NONCE, bare, body, keep_alive_if_possible, problem, title, write,
};

use crate::authorize::Denial;
use crate::credential::CredentialFault;
use crate::upstream::NoPeer;
use crate::verify::{Fault, ProofFlaw, Refusal, Unjudged};

macro_rules! rejections {
    ($($(#[$doc:meta])* $variant:ident => $label:literal,)*) => {
        /// One way to refuse a request. The variant in snake_case is the metric label `reason`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Rejection { $($(#[$doc])* $variant,)* }

        impl Rejection {
            pub const ALL: &'static [Rejection] = &[$(Rejection::$variant,)*];

            /// The metric label and the log's `reason`.
            pub fn label(self) -> &'static str {
                match self { $(Rejection::$variant => $label,)* }
            }
        }
    };
}

rejections! {
    /// A target that two servers could read differently.
    AmbiguousTarget => "ambiguous_target",
    /// No `Host`, two of them, or one that is not a host.
    DoubtfulHost => "doubtful_host",
    /// Framing that two servers could read differently.
    AmbiguousFraming => "ambiguous_framing",
    /// Bytes that Pingora could not read as a request after it had begun.
    MalformedRequest => "malformed_request",
    HeaderTimeout => "header_timeout",
    HeaderTooLarge => "header_too_large",
    NoRoute => "no_route",
    MethodNotAllowed => "method_not_allowed",
    BodyTooLarge => "body_too_large",
    BodyTooSlow => "body_too_slow",
    MissingCredential => "missing_credential",
    SeveralCredentials => "several_credentials",
    MalformedCredential => "malformed_credential",
    OversizedToken => "oversized_token",
    MalformedToken => "malformed_token",
    OpaqueToken => "opaque_token",
    WrongAlgorithm => "wrong_algorithm",
    CriticalHeader => "critical_header",
    WrongHeaderType => "wrong_header_type",
    UnknownKey => "unknown_key",
    BadSignature => "bad_signature",
    WrongIssuer => "wrong_issuer",
    WrongAudience => "wrong_audience",
    Expired => "expired",
    NotYetValid => "not_yet_valid",
    BadClaims => "bad_claims",
    WrongKind => "wrong_kind",
    Unmarked => "unmarked",
    SenderConstrained => "sender_constrained",
    Unbound => "unbound",
    Inactive => "inactive",
    Revoked => "revoked",
    /// The scheme `DPoP` without a proof.
    DpopMissing => "dpop_missing",
    DpopMalformed => "dpop_malformed",
    DpopKey => "dpop_key",
    DpopSignature => "dpop_signature",
    DpopMethod => "dpop_method",
    DpopTarget => "dpop_target",
    DpopTime => "dpop_time",
    DpopToken => "dpop_token",
    DpopHolder => "dpop_holder",
    DpopNonce => "dpop_nonce",
    DpopReplayed => "dpop_replayed",
    /// Proofs come faster than they can be remembered.
    DpopBusy => "dpop_busy",
    KeysUnavailable => "keys_unavailable",
    KeysStale => "keys_stale",
    KeyFetchFailed => "key_fetch_failed",
    IntrospectionFailed => "introspection_failed",
    IntrospectionBusy => "introspection_busy",
    IntrospectionOpen => "introspection_open",
    IssuerNotAllowed => "issuer_not_allowed",
    ClientNotAllowed => "client_not_allowed",
    MissingScope => "missing_scope",
    MissingRole => "missing_role",
    TooManyRequests => "too_many_requests",
    /// The caller's HTTP, or what it speaks over it, cannot be carried over that of the peers.
    HttpVersion => "http_version",
    /// The pool's cap on requests in flight is reached.
    UpstreamBusy => "upstream_busy",
    /// The pool's breaker is open.
    UpstreamOpen => "upstream_open",
    /// No peer of the pool can be tried.
    NoPeer => "no_peer",
    UpstreamConnect => "upstream_connect",
    UpstreamFailed => "upstream_failed",
    UpstreamTimeout => "upstream_timeout",
    /// A step was skipped: fail closed.
    NoPermit => "no_permit",
    Internal => "internal",
}

/// RFC 6750 section 3, RFC 9449 section 7.1: what `WWW-Authenticate` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Challenge {
    None,
    /// No error code: the caller showed no credential.
    Bare,
    InvalidRequest,
    InvalidToken,
    InsufficientScope,
    /// RFC 9449 section 7.1.
    InvalidProof,
    /// RFC 9449 section 9.
    UseNonce,
}

/// What the caller gets for one rejection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub challenge: Challenge,
    /// The fixed sentence of `detail`.
    pub detail: &'static str,
    /// Seconds.
    pub retry_after: Option<u32>,
}

const NOT_VALID: &str = "The access token is not valid here.";
const NO_PROOF: &str = "The DPoP proof is not valid for this request.";

impl Rejection {
    /// Position in [`Rejection::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    #[rustfmt::skip]
    pub fn answer(self) -> Answer {
        use Challenge::{Bare, InsufficientScope, InvalidProof, InvalidRequest, InvalidToken, None as Silent, UseNonce};
        let say = |status, challenge, detail| Answer { status, challenge, detail, retry_after: None };
        let later = |status, seconds, detail| Answer { status, challenge: Silent, detail, retry_after: Some(seconds) };
        match self {
            Rejection::AmbiguousTarget => say(400, Silent, "The request target can be read in more than one way."),
            Rejection::DoubtfulHost => say(400, Silent, "The request needs exactly one valid Host."),
            Rejection::AmbiguousFraming => say(400, Silent, "The request's framing can be read in more than one way."),
            Rejection::MalformedRequest => say(400, Silent, "The request could not be read."),
            Rejection::HeaderTimeout => say(408, Silent, "The request head took too long."),
            Rejection::HeaderTooLarge => say(431, Silent, "The request head is too large."),
            Rejection::NoRoute => say(404, Silent, "There is nothing at this path."),
            Rejection::MethodNotAllowed => say(405, Silent, "This path does not take this method."),
            Rejection::BodyTooLarge => say(413, Silent, "The request body is too large."),
            Rejection::BodyTooSlow => say(408, Silent, "The request body took too long."),
            Rejection::MissingCredential => say(401, Bare, "An access token is needed; WWW-Authenticate says how to send it."),
            Rejection::SeveralCredentials => say(400, InvalidRequest, "The request carries more than one credential."),
            Rejection::MalformedCredential => say(400, InvalidRequest, "The Authorization field is malformed."),
            Rejection::OversizedToken => say(400, InvalidRequest, "The access token is too long."),
            Rejection::Expired => say(401, InvalidToken, "The access token has expired."),
            Rejection::MalformedToken
            | Rejection::OpaqueToken
            | Rejection::WrongAlgorithm
            | Rejection::CriticalHeader
            | Rejection::WrongHeaderType
            | Rejection::UnknownKey
            | Rejection::BadSignature
            | Rejection::WrongIssuer
            | Rejection::WrongAudience
            | Rejection::NotYetValid
            | Rejection::BadClaims
            | Rejection::WrongKind
            | Rejection::Unmarked
            | Rejection::SenderConstrained
            | Rejection::Unbound
            | Rejection::Inactive
            | Rejection::Revoked => say(401, InvalidToken, NOT_VALID),
            Rejection::DpopMissing => say(401, InvalidProof, "A DPoP proof is needed."),
            Rejection::DpopMalformed
            | Rejection::DpopKey
            | Rejection::DpopSignature
            | Rejection::DpopMethod
            | Rejection::DpopTarget
            | Rejection::DpopToken
            | Rejection::DpopHolder
            | Rejection::DpopReplayed => say(401, InvalidProof, NO_PROOF),
            Rejection::DpopTime
            | Rejection::DpopNonce => say(401, UseNonce, "The DPoP proof needs the nonce of this answer."),
            Rejection::DpopBusy
            | Rejection::KeysUnavailable
            | Rejection::KeysStale
            | Rejection::KeyFetchFailed
            | Rejection::IntrospectionFailed
            | Rejection::IntrospectionBusy
            | Rejection::IntrospectionOpen => later(503, 5, "The access token could not be checked just now."),
            Rejection::IssuerNotAllowed
            | Rejection::ClientNotAllowed
            | Rejection::MissingScope
            | Rejection::MissingRole => say(403, InsufficientScope, "The access token does not grant this."),
            Rejection::TooManyRequests => later(429, 1, "Too many requests."),
            Rejection::HttpVersion => say(505, Silent, "The service speaks another version of HTTP."),
            Rejection::UpstreamBusy
            | Rejection::UpstreamOpen
            | Rejection::NoPeer => later(503, 1, "The service is not available just now."),
            Rejection::UpstreamConnect => say(502, Silent, "The service could not be reached."),
            Rejection::UpstreamFailed => say(502, Silent, "The service did not answer properly."),
            Rejection::UpstreamTimeout => say(504, Silent, "The service did not answer in time."),
            Rejection::NoPermit | Rejection::Internal => say(500, Silent, "The gateway could not handle the request."),
        }
    }
}

impl From<CredentialFault> for Rejection {
    fn from(fault: CredentialFault) -> Self {
        match fault {
            CredentialFault::Missing => Rejection::MissingCredential,
            CredentialFault::Several => Rejection::SeveralCredentials,
            CredentialFault::Malformed => Rejection::MalformedCredential,
            CredentialFault::Oversized => Rejection::OversizedToken,
            CredentialFault::NoProof => Rejection::DpopMissing,
            CredentialFault::BadProof => Rejection::DpopMalformed,
        }
    }
}

impl From<Fault> for Rejection {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Refused(refusal) => match refusal {
                Refusal::Malformed => Rejection::MalformedToken,
                Refusal::Opaque => Rejection::OpaqueToken,
                Refusal::Algorithm => Rejection::WrongAlgorithm,
                Refusal::Critical => Rejection::CriticalHeader,
                Refusal::HeaderType => Rejection::WrongHeaderType,
                Refusal::UnknownKey => Rejection::UnknownKey,
                Refusal::Signature => Rejection::BadSignature,
                Refusal::Issuer => Rejection::WrongIssuer,
                Refusal::Audience => Rejection::WrongAudience,
                Refusal::Expired => Rejection::Expired,
                Refusal::Claims => Rejection::BadClaims,
                Refusal::NotYetValid => Rejection::NotYetValid,
                Refusal::Kind => Rejection::WrongKind,
                Refusal::Unmarked => Rejection::Unmarked,
                Refusal::SenderConstrained => Rejection::SenderConstrained,
                Refusal::Unbound => Rejection::Unbound,
                Refusal::Proof(flaw) => flaw.into(),
                Refusal::Inactive => Rejection::Inactive,
                Refusal::Revoked => Rejection::Revoked,
            },
            Fault::Unjudged(unjudged) => match unjudged {
                Unjudged::NoKeys => Rejection::KeysUnavailable,
                Unjudged::KeysStale => Rejection::KeysStale,
                Unjudged::KeyFetchFailed => Rejection::KeyFetchFailed,
                Unjudged::IntrospectionFailed => Rejection::IntrospectionFailed,
                Unjudged::IntrospectionBusy => Rejection::IntrospectionBusy,
                Unjudged::IntrospectionOpen => Rejection::IntrospectionOpen,
                Unjudged::ProofsFull => Rejection::DpopBusy,
            },
        }
    }
}

impl From<ProofFlaw> for Rejection {
    fn from(flaw: ProofFlaw) -> Self {
        match flaw {
            ProofFlaw::Malformed => Rejection::DpopMalformed,
            ProofFlaw::Key => Rejection::DpopKey,
            ProofFlaw::Signature => Rejection::DpopSignature,
            ProofFlaw::Method => Rejection::DpopMethod,
            ProofFlaw::Target => Rejection::DpopTarget,
            ProofFlaw::Time => Rejection::DpopTime,
            ProofFlaw::Token => Rejection::DpopToken,
            ProofFlaw::Holder => Rejection::DpopHolder,
            ProofFlaw::Nonce => Rejection::DpopNonce,
            ProofFlaw::Replayed => Rejection::DpopReplayed,
        }
    }
}

impl From<Denial> for Rejection {
    fn from(denial: Denial) -> Self {
        match denial {
            Denial::Issuer => Rejection::IssuerNotAllowed,
            Denial::Client => Rejection::ClientNotAllowed,
            Denial::Scope => Rejection::MissingScope,
            Denial::Role => Rejection::MissingRole,
        }
    }
}

impl From<NoPeer> for Rejection {
    fn from(none: NoPeer) -> Self {
        match none {
            NoPeer::Busy => Rejection::UpstreamBusy,
            NoPeer::Open { .. } => Rejection::UpstreamOpen,
            NoPeer::Exhausted => Rejection::NoPeer,
        }
    }
}

#[cfg(test)]
mod tests;
