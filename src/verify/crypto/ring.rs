//! ring, the default. It has no parsed form of a public key: each check reads the key anew.

use jsonwebtoken::{DecodingKey, DecodingKeyKind};
use ring::signature as r;

use super::WrongSignature;
use crate::config::plan::Algorithm;

#[derive(Debug)]
pub(super) struct Check;

impl Check {
    pub(super) fn new(_: Algorithm, _: &DecodingKey) -> Self {
        Check
    }

    pub(super) fn verify(
        &self,
        algorithm: Algorithm,
        key: &DecodingKey,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), WrongSignature> {
        let rsa = |parameters| match key.kind() {
            DecodingKeyKind::RsaModulusExponent { n, e } => {
                r::RsaPublicKeyComponents { n, e }.verify(parameters, message, signature)
            }
            DecodingKeyKind::SecretOrDer(_) => Err(ring::error::Unspecified),
        };
        let curve = |parameters: &'static dyn r::VerificationAlgorithm| match key.kind() {
            DecodingKeyKind::SecretOrDer(key) => {
                r::UnparsedPublicKey::new(parameters, key).verify(message, signature)
            }
            DecodingKeyKind::RsaModulusExponent { .. } => Err(ring::error::Unspecified),
        };
        match algorithm {
            Algorithm::RS256 => rsa(&r::RSA_PKCS1_2048_8192_SHA256),
            Algorithm::RS384 => rsa(&r::RSA_PKCS1_2048_8192_SHA384),
            Algorithm::RS512 => rsa(&r::RSA_PKCS1_2048_8192_SHA512),
            Algorithm::PS256 => rsa(&r::RSA_PSS_2048_8192_SHA256),
            Algorithm::PS384 => rsa(&r::RSA_PSS_2048_8192_SHA384),
            Algorithm::PS512 => rsa(&r::RSA_PSS_2048_8192_SHA512),
            Algorithm::ES256 => curve(&r::ECDSA_P256_SHA256_FIXED),
            Algorithm::ES384 => curve(&r::ECDSA_P384_SHA384_FIXED),
            Algorithm::EdDSA => curve(&r::ED25519),
        }
        .map_err(|ring::error::Unspecified| WrongSignature)
    }
}
