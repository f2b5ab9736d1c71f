//! What is asked of the verifier, and what it says.

use http::HeaderValue;

use super::{Fault, Principal, Shown, Standing};
use crate::config::plan::{IssuerId, Policy, Proof};

/// How the proof was had; the metric label `source`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A proof that was kept, whichever way it was had.
    Cache,
    Local,
    Introspection,
}

impl Source {
    /// The metric label and the log's word.
    pub fn label(self) -> &'static str {
        match self {
            Source::Cache => "cache",
            Source::Local => "local",
            Source::Introspection => "introspection",
        }
    }
}

/// What a route wants of a proof.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'a> {
    pub(super) proof: Proof,
    /// Empty is all.
    pub(super) issuers: &'a [IssuerId],
    /// SHA-256 of the certificate that the caller has shown on its connection.
    pub(super) certificate: Option<&'a [u8; 32]>,
    /// What came beside a token with the scheme `DPoP`; `None` is the scheme `Bearer`.
    pub(super) shown: Option<&'a Shown<'a>>,
}

impl<'a> Wanted<'a> {
    pub fn of(policy: &'a Policy) -> Self {
        Wanted {
            proof: policy.proof,
            issuers: &policy.issuers,
            certificate: None,
            shown: None,
        }
    }

    /// By a caller with this certificate, or with none.
    #[must_use]
    pub fn by(mut self, certificate: Option<&'a [u8; 32]>) -> Self {
        self.certificate = certificate;
        self
    }

    /// With a proof that the caller has the key of the token.
    #[must_use]
    pub fn showing(mut self, shown: &'a Shown<'a>) -> Self {
        self.shown = Some(shown);
        self
    }

    pub(super) fn takes(&self, issuer: IssuerId) -> bool {
        self.issuers.is_empty() || self.issuers.contains(&issuer)
    }
}

/// What came of one token.
#[derive(Debug)]
pub struct Verdict {
    /// `None` when the token names no issuer of ours.
    pub issuer: Option<IssuerId>,
    pub source: Source,
    pub outcome: Result<Principal, Fault>,
    /// What the client shall put into its next proof (RFC 9449 section 8.2).
    pub nonce: Option<HeaderValue>,
    /// The proof itself, for what lives on it longer than a request.
    pub standing: Option<Standing>,
}
