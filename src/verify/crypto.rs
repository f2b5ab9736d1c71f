//! The arithmetic behind jsonwebtoken: ring, or AWS-LC with the cargo feature `aws-lc`, through the one process-wide
//! `CryptoProvider`.
//!
//! Only verification of asymmetric signatures exists here (RFC 7518 sections 3.3 to 3.5, RFC 8037 section 3.1). There
//! is no signer and no HMAC, so no configuration and no token can confuse a public key with a secret.

#[cfg(feature = "aws-lc")]
mod aws_lc;
#[cfg(not(feature = "aws-lc"))]
mod ring;

use std::sync::Arc;

use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::signature::{Error, Verifier};
use jsonwebtoken::{Algorithm as Jose, DecodingKey, DecodingKeyKind};

#[cfg(feature = "aws-lc")]
use self::aws_lc::Check;
#[cfg(not(feature = "aws-lc"))]
use self::ring::Check;
use crate::config::plan::Algorithm;

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
    verifier_factory: |algorithm, key| {
        VerifyingKey::for_jose(*algorithm, key.clone())
            .map(|verifier| Box::new(verifier) as Box<dyn JwtVerifier>)
            .ok_or_else(|| ErrorKind::UnsupportedAlgorithm.into())
    },
    key_utils: KeyUtils::new_unimplemented(),
};

/// Gives jsonwebtoken its arithmetic, and makes ring the cryptography of rustls. Every call after the first does nothing.
pub fn install() {
    // An error says that a provider is there already. We link no other, so it is this one.
    let _ = PROVIDER.install_default();
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// One public key pinned to one algorithm; kept ready in the key set, so that no key is cloned per token.
#[derive(Debug)]
pub(super) struct VerifyingKey {
    kid: Arc<str>,
    algorithm: Algorithm,
    key: DecodingKey,
    check: Check,
}

/// Which of the libraries' reasons it was helps nobody.
#[derive(Debug)]
struct WrongSignature;

impl VerifyingKey {
    pub(super) fn new(kid: Arc<str>, algorithm: Algorithm, key: DecodingKey) -> Self {
        VerifyingKey {
            kid,
            algorithm,
            check: Check::new(algorithm, &key),
            key,
        }
    }

    fn for_jose(algorithm: Jose, key: DecodingKey) -> Option<Self> {
        let algorithm = Algorithm::ALL
            .into_iter()
            .find(|ours| jose(*ours) == algorithm)?;
        Some(VerifyingKey::new("".into(), algorithm, key))
    }

    /// Its name in the issuer's key set.
    pub(super) fn kid(&self) -> &str {
        &self.kid
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// What a signature by this key measures: anything else need not be computed.
    pub(super) fn signature_bytes(&self) -> usize {
        match (self.algorithm, self.key.kind()) {
            (Algorithm::ES384, _) => 96,
            (Algorithm::ES256 | Algorithm::EdDSA, _) => 64,
            (_, DecodingKeyKind::RsaModulusExponent { n, .. }) => n.len(),
            (_, DecodingKeyKind::SecretOrDer(_)) => 0,
        }
    }

    pub(super) fn same_key(&self, other: &Self) -> bool {
        use DecodingKeyKind::{RsaModulusExponent, SecretOrDer};
        match (self.key.kind(), other.key.kind()) {
            (SecretOrDer(a), SecretOrDer(b)) => a == b,
            (RsaModulusExponent { n, e }, RsaModulusExponent { n: n2, e: e2 }) => {
                n == n2 && e == e2
            }
            _ => false,
        }
    }
}

/// jsonwebtoken's name for one of our algorithms.
fn jose(algorithm: Algorithm) -> Jose {
    match algorithm {
        Algorithm::RS256 => Jose::RS256,
        Algorithm::RS384 => Jose::RS384,
        Algorithm::RS512 => Jose::RS512,
        Algorithm::PS256 => Jose::PS256,
        Algorithm::PS384 => Jose::PS384,
        Algorithm::PS512 => Jose::PS512,
        Algorithm::ES256 => Jose::ES256,
        Algorithm::ES384 => Jose::ES384,
        Algorithm::EdDSA => Jose::EdDSA,
    }
}

impl Verifier<Vec<u8>> for VerifyingKey {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), Error> {
        self.check
            .verify(self.algorithm, &self.key, message, signature)
            .map_err(|WrongSignature| Error::new())
    }
}

impl JwtVerifier for VerifyingKey {
    fn algorithm(&self) -> Jose {
        jose(self.algorithm)
    }
}
