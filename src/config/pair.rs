//! A certificate and its private key, read so that nobody after it has to doubt them.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

/// They go with each other, and Pingora, which panics on what it cannot read, can read them.
pub struct Pair {
    /// The certificate itself first.
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
    /// Both, as rustls signs with them.
    pub certified: Arc<CertifiedKey>,
    /// Seconds since the Unix epoch.
    ends: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unusable {
    Certificate(String),
    Key(String),
}

impl Pair {
    pub fn has_expired(&self, unix: u64) -> bool {
        i64::try_from(unix).is_ok_and(|now| now > self.ends)
    }
}

/// Reads both from PEM.
///
/// # Errors
/// Which of the two cannot be used, and why.
pub fn read(certificate: &[u8], key: &[u8]) -> Result<Pair, Unusable> {
    let refuse = |why: &dyn ToString| Unusable::Certificate(why.to_string());
    let chain = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| refuse(&e))?;
    let mut ends = None;
    for certificate in &chain {
        let (rest, read) = X509Certificate::from_der(certificate)
            .map_err(|_| refuse(&"it is no X.509 certificate"))?;
        if !rest.is_empty() {
            return Err(refuse(&"there is something behind a certificate"));
        }
        ends.get_or_insert(read.validity().not_after.timestamp());
    }
    let Some(ends) = ends else {
        return Err(refuse(&"there is no certificate in it"));
    };
    let refuse = |why: &dyn ToString| Unusable::Key(why.to_string());
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| refuse(&e))?;
    // Pingora keeps the bytes alone and finds out again what they are.
    PrivateKeyDer::try_from(key.secret_der().to_vec()).map_err(|e| refuse(&e))?;
    let provider = rustls::crypto::ring::default_provider();
    let certified = CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider)
        .map_err(|e| refuse(&format!("it does not go with its certificate: {e}")))?;
    Ok(Pair {
        chain,
        key,
        certified: Arc::new(certified),
        ends,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["gateway.test".to_owned()]);
        let made = made.expect("a pair");
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    fn fault(certificate: &str, key: &str) -> Option<Unusable> {
        read(certificate.as_bytes(), key.as_bytes()).err()
    }

    #[test]
    fn a_pair_is_read_and_knows_its_end() {
        let (certificate, key) = pair();
        let two = format!("{certificate}{}", pair().0);
        let read = read(two.as_bytes(), key.as_bytes()).unwrap_or_else(|e| panic!("{e:?}"));
        assert_eq!(read.chain.len(), 2);
        assert!(!read.has_expired(1_790_000_000));
        assert!(read.has_expired(u64::try_from(i64::MAX).expect("positive")));
    }

    #[test]
    fn what_is_no_pair_is_refused() {
        let ((certificate, key), (_, other)) = (pair(), pair());
        let none = Unusable::Certificate("there is no certificate in it".to_owned());
        assert_eq!(fault("", &key), Some(none.clone()));
        assert_eq!(fault(&key, &key), Some(none));
        let torn = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let torn = fault(torn, &key);
        assert!(matches!(torn, Some(Unusable::Certificate(_))), "{torn:?}");
        for key in ["", &certificate, &other] {
            let fault = fault(&certificate, key);
            assert!(matches!(fault, Some(Unusable::Key(_))), "{fault:?}");
        }
    }
}
