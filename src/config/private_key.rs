//! The gateway's own signing key, which cannot be printed.

use std::fmt;

use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use rustls::pki_types::pem::{PemObject, SectionKind};

use super::plan::Algorithm;

/// A private key and the one algorithm that it signs with.
pub struct PrivateKey(Pair);

enum Pair {
    Rsa(Box<RsaKeyPair>),
    P256(Box<EcdsaKeyPair>),
    P384(Box<EcdsaKeyPair>),
    Ed25519(Box<Ed25519KeyPair>),
}

/// Why a text is no key that we sign with. It never repeats the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFault {
    NotPem,
    Encrypted,
    /// PKCS#1 or SEC 1, which do not say what the key is for.
    NotPkcs8,
    /// A certificate or a public key.
    Public,
    UnknownKind,
    TooSmall,
    TooLarge,
    Broken,
}

impl KeyFault {
    pub fn text(self) -> &'static str {
        match self {
            KeyFault::NotPem => "there is no private key in PEM in it",
            KeyFault::Encrypted => "the key is encrypted",
            KeyFault::NotPkcs8 => "the key is not in PKCS#8",
            KeyFault::Public => "it holds what is public, and no private key",
            KeyFault::UnknownKind => "the key is none of RSA, P-256, P-384 and Ed25519",
            KeyFault::TooSmall => "the RSA key has less than 2048 bits",
            KeyFault::TooLarge => "the RSA key has more than 4096 bits",
            KeyFault::Broken => "the key contradicts itself or is cut off",
        }
    }

    /// What to do about it.
    pub fn hint(self) -> &'static str {
        match self {
            KeyFault::Encrypted => {
                "store it without a passphrase, readable by the gateway alone: `openssl pkcs8 -topk8 -nocrypt`"
            }
            KeyFault::NotPkcs8 => "convert it: `openssl pkcs8 -topk8 -nocrypt -in OLD -out NEW`",
            KeyFault::NotPem
            | KeyFault::Public
            | KeyFault::UnknownKind
            | KeyFault::TooSmall
            | KeyFault::TooLarge
            | KeyFault::Broken => {
                "make one, such as `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`"
            }
        }
    }
}

impl PrivateKey {
    /// The first private key of a PEM text, which must be PKCS#8 (RFC 5958): it alone names the kind of its key.
    pub fn from_pem(text: &str) -> Result<Self, KeyFault> {
        let mut other = match text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") {
            true => KeyFault::Encrypted,
            false => KeyFault::NotPem,
        };
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes()) {
            match section.map_err(|_| KeyFault::NotPem)? {
                (SectionKind::PrivateKey, der) => return Self::from_pkcs8(&der),
                (SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey, _) => {
                    other = KeyFault::NotPkcs8;
                }
                (SectionKind::Certificate | SectionKind::PublicKey, _)
                    if other == KeyFault::NotPem =>
                {
                    other = KeyFault::Public;
                }
                _ => {}
            }
        }
        Err(other)
    }

    fn from_pkcs8(der: &[u8]) -> Result<Self, KeyFault> {
        let random = SystemRandom::new();
        let curve = |algorithm: &'static EcdsaSigningAlgorithm| {
            EcdsaKeyPair::from_pkcs8(algorithm, der, &random).map(Box::new)
        };
        let rsa = || RsaKeyPair::from_pkcs8(der).map(|pair| Pair::Rsa(Box::new(pair)));
        let p256 = || curve(&ECDSA_P256_SHA256_FIXED_SIGNING).map(Pair::P256);
        let p384 = || curve(&ECDSA_P384_SHA384_FIXED_SIGNING).map(Pair::P384);
        // OpenSSL leaves the public half out of an Ed25519 key: then there is nothing to check it against.
        let ed25519 = || {
            let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der);
            pair.map(|pair| Pair::Ed25519(Box::new(pair)))
        };
        let attempts: [&dyn Fn() -> Result<Pair, ring::error::KeyRejected>; 4] =
            [&rsa, &p256, &p384, &ed25519];
        let mut fault = KeyFault::UnknownKind;
        for attempt in attempts {
            match attempt() {
                Ok(pair) => return Ok(PrivateKey(pair)),
                // ring tells its reasons apart by their text alone.
                Err(rejected) => match rejected.to_string().as_str() {
                    "WrongAlgorithm" => {}
                    "TooSmall" => fault = KeyFault::TooSmall,
                    "TooLarge" => fault = KeyFault::TooLarge,
                    _ => fault = KeyFault::Broken,
                },
            }
        }
        Err(fault)
    }

    /// RS256 for RSA, because every issuer that takes assertions takes it (OpenID Connect Core 1.0 section 9).
    pub fn algorithm(&self) -> Algorithm {
        match &self.0 {
            Pair::Rsa(_) => Algorithm::RS256,
            Pair::P256(_) => Algorithm::ES256,
            Pair::P384(_) => Algorithm::ES384,
            Pair::Ed25519(_) => Algorithm::EdDSA,
        }
    }

    /// The signature as JWS wants it (RFC 7518 section 3); `None` if the system gives no randomness.
    pub fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match &self.0 {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                let signed = pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature);
                signed.ok().map(|()| signature)
            }
            Pair::P256(pair) | Pair::P384(pair) => {
                let signature = pair.sign(&random, message).ok()?;
                Some(signature.as_ref().to_vec())
            }
            Pair::Ed25519(pair) => Some(pair.sign(message).as_ref().to_vec()),
        }
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
    use ring::signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, UnparsedPublicKey,
        VerificationAlgorithm,
    };

    use super::*;
    use crate::demo::keys::{Key, KeySource};

    #[test]
    fn the_key_says_what_it_signs_with() {
        type Kind = (
            &'static rcgen::SignatureAlgorithm,
            Algorithm,
            &'static dyn VerificationAlgorithm,
        );
        let kinds: [Kind; 3] = [
            (
                &PKCS_ECDSA_P256_SHA256,
                Algorithm::ES256,
                &ECDSA_P256_SHA256_FIXED,
            ),
            (
                &PKCS_ECDSA_P384_SHA384,
                Algorithm::ES384,
                &ECDSA_P384_SHA384_FIXED,
            ),
            (&PKCS_ED25519, Algorithm::EdDSA, &ED25519),
        ];
        for (kind, algorithm, verifies) in kinds {
            let made = KeyPair::generate_for(kind).expect("a key");
            let key = PrivateKey::from_pem(&made.serialize_pem()).expect("a key");
            assert_eq!(key.algorithm(), algorithm);
            let signature = key.sign(b"message").expect("a signature");
            UnparsedPublicKey::new(verifies, made.public_key_raw())
                .verify(b"message", &signature)
                .expect("it holds");
            assert_eq!(format!("{key:?}"), "***");
        }
        let (made, pem) = Key::with_pem("RS256", KeySource::Shared, 0).expect("a key");
        let key = PrivateKey::from_pem(&pem).expect("a key");
        assert_eq!(key.algorithm(), Algorithm::RS256);
        let signature = key.sign(b"message").expect("a signature");
        assert!(made.verify(b"message", &signature));
    }

    /// What `openssl genpkey -algorithm ed25519` writes (RFC 8410 section 7): no public half.
    #[test]
    fn an_ed25519_key_without_its_public_half_is_taken() {
        let mut der = vec![
            0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20,
        ];
        der.extend([7; 32]);
        let key = PrivateKey::from_pkcs8(&der).expect("a key");
        assert_eq!(key.algorithm(), Algorithm::EdDSA);
    }

    #[test]
    fn what_is_no_usable_key_is_said_and_not_shown() {
        let fault = |text: &str| PrivateKey::from_pem(text).map(|_| ()).expect_err(text);
        let labelled = |label: &str, body: &str| {
            format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
        };
        for (text, expected) in [
            (String::new(), KeyFault::NotPem),
            ("hunter2".to_owned(), KeyFault::NotPem),
            (labelled("PRIVATE KEY", "!"), KeyFault::NotPem),
            (labelled("RSA PRIVATE KEY", "MAA="), KeyFault::NotPkcs8),
            (labelled("EC PRIVATE KEY", "MAA="), KeyFault::NotPkcs8),
            (
                labelled("ENCRYPTED PRIVATE KEY", "MAA="),
                KeyFault::Encrypted,
            ),
            (labelled("CERTIFICATE", "MAA="), KeyFault::Public),
            (labelled("PUBLIC KEY", "MAA="), KeyFault::Public),
            (labelled("PRIVATE KEY", "MAA="), KeyFault::Broken),
        ] {
            assert_eq!(fault(&text), expected, "{text}");
        }
        // P-521: version, algorithm and curve, then nothing.
        let p521 = labelled("PRIVATE KEY", "MBkCAQAwEAYHKoZIzj0CAQYFK4EEACMEAgQA");
        assert_eq!(fault(&p521), KeyFault::UnknownKind);
        let der = |text: &str| {
            let (_, der) = <(SectionKind, Vec<u8>)>::from_pem_slice(text.as_bytes()).expect("PEM");
            der
        };
        // Cut off, and with one bit of the public half turned.
        let good = der(&KeyPair::generate().expect("a key").serialize_pem());
        let broken = |der: &[u8]| PrivateKey::from_pkcs8(der).map(|_| ()).expect_err("broken");
        assert_eq!(broken(&good[..good.len() - 1]), KeyFault::Broken);
        let mut turned = good.clone();
        if let Some(last) = turned.last_mut() {
            *last ^= 1;
        }
        assert_eq!(broken(&turned), KeyFault::Broken);
    }
}
