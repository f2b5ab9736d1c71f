//! AWS-LC, with the cargo feature `aws-lc`. A key is parsed once, when its set is read.

use aws_lc_rs::signature as a;
use jsonwebtoken::{DecodingKey, DecodingKeyKind};

use super::WrongSignature;
use crate::config::plan::Algorithm;

/// `None` is a key that AWS-LC does not take, such as a point that is not on its curve: it verifies nothing.
#[derive(Debug)]
pub(super) struct Check(Option<a::ParsedPublicKey>);

impl Check {
    pub(super) fn new(algorithm: Algorithm, key: &DecodingKey) -> Self {
        Check(match key.kind() {
            DecodingKeyKind::RsaModulusExponent { n, e } => {
                rsa(algorithm).and_then(|rsa| a::ParsedPublicKey::new(rsa, public_key(n, e)).ok())
            }
            DecodingKeyKind::SecretOrDer(point) => {
                curve(algorithm).and_then(|curve| a::ParsedPublicKey::new(curve, point).ok())
            }
        })
    }

    pub(super) fn verify(
        &self,
        _: Algorithm,
        _: &DecodingKey,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), WrongSignature> {
        let key = self.0.as_ref().ok_or(WrongSignature)?;
        key.verify_sig(message, signature)
            .map_err(|aws_lc_rs::error::Unspecified| WrongSignature)
    }
}

fn rsa(algorithm: Algorithm) -> Option<&'static a::RsaParameters> {
    Some(match algorithm {
        Algorithm::RS256 => &a::RSA_PKCS1_2048_8192_SHA256,
        Algorithm::RS384 => &a::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::RS512 => &a::RSA_PKCS1_2048_8192_SHA512,
        Algorithm::PS256 => &a::RSA_PSS_2048_8192_SHA256,
        Algorithm::PS384 => &a::RSA_PSS_2048_8192_SHA384,
        Algorithm::PS512 => &a::RSA_PSS_2048_8192_SHA512,
        Algorithm::ES256 | Algorithm::ES384 | Algorithm::EdDSA => return None,
    })
}

fn curve(algorithm: Algorithm) -> Option<&'static dyn a::VerificationAlgorithm> {
    Some(match algorithm {
        Algorithm::ES256 => &a::ECDSA_P256_SHA256_FIXED,
        Algorithm::ES384 => &a::ECDSA_P384_SHA384_FIXED,
        Algorithm::EdDSA => &a::ED25519,
        Algorithm::RS256
        | Algorithm::RS384
        | Algorithm::RS512
        | Algorithm::PS256
        | Algorithm::PS384
        | Algorithm::PS512 => return None,
    })
}

/// RFC 8017 appendix A.1.1: `RSAPublicKey`, a sequence of two integers, in DER.
fn public_key(n: &[u8], e: &[u8]) -> Vec<u8> {
    let integers = [integer(n), integer(e)].concat();
    tagged(0x30, &integers)
}

/// A DER integer is signed: a number that begins with a one bit has a zero byte before it.
fn integer(number: &[u8]) -> Vec<u8> {
    let sign: &[u8] = match number.first() {
        Some(first) if *first < 0x80 => &[],
        _ => &[0],
    };
    tagged(0x02, &[sign, number].concat())
}

fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let length = &length[content.len().leading_zeros() as usize / 8..];
    let mut der = vec![tag];
    match content.len() {
        0..0x80 => der.push(content.len() as u8),
        _ => {
            der.push(0x80 | length.len() as u8);
            der.extend_from_slice(length);
        }
    }
    der.extend_from_slice(content);
    der
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_rsa_key_is_written_as_der() {
        assert_eq!(public_key(&[1, 2], &[3]), [0x30, 7, 2, 2, 1, 2, 2, 1, 3]);
        assert_eq!(integer(&[0x80]), [2, 2, 0, 0x80]);
        let long = tagged(0x30, &[7; 300]);
        assert_eq!(long[..4], [0x30, 0x82, 1, 0x2c]);
        assert_eq!(long.len(), 304);
        assert_eq!(tagged(0x30, &[7; 0x80])[..3], [0x30, 0x81, 0x80]);
    }
}
