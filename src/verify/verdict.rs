//! What is asked of the verifier, and what it says.

use super::{Fault, Principal, Standing};
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
}

impl<'a> Wanted<'a> {
    pub fn of(policy: &'a Policy) -> Self {
        Wanted {
            proof: policy.proof,
            issuers: &policy.issuers,
            certificate: None,
        }
    }

    /// By a caller with this certificate, or with none.
    #[must_use]
    pub fn by(mut self, certificate: Option<&'a [u8; 32]>) -> Self {
        self.certificate = certificate;
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
    /// The proof itself, for what lives on it longer than a request.
    pub standing: Option<Standing>,
}
