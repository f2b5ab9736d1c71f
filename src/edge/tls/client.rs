//! The certificate that a caller shows (mutual TLS, RFC 8705).

use std::any::Any;
use std::sync::Arc;

use async_trait::async_trait;
use pingora::listeners::{TlsAccept, TlsAcceptCallbacks};
use pingora::protocols::tls::TlsRef;
use ring::digest::{SHA256, digest};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::prelude::{FromDer, X509Certificate};

/// A subject is cut here in the log.
const SUBJECT: usize = 256;

/// What is known of a caller by its certificate, which one of the listener's authorities has signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// As RFC 4514 writes it, in the order of the certificate.
    pub subject: String,
    /// SHA-256 of the whole certificate in DER: what `cnf.x5t#S256` names (RFC 8705 section 3.1).
    pub fingerprint: [u8; 32],
}

impl ClientCertificate {
    /// `None` if it is no certificate.
    pub(super) fn of(der: &[u8]) -> Option<Self> {
        let (rest, certificate) = X509Certificate::from_der(der).ok()?;
        if !rest.is_empty() {
            return None;
        }
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(digest(&SHA256, der).as_ref());
        Some(ClientCertificate {
            subject: subject(&certificate),
            fingerprint,
        })
    }
}

fn subject(certificate: &X509Certificate<'_>) -> String {
    let mut subject = String::new();
    for (place, name) in certificate.subject().iter().enumerate() {
        for (part, attribute) in name.iter().enumerate() {
            match (place, part) {
                (0, 0) => {}
                (_, 0) => subject.push(','),
                _ => subject.push('+'),
            }
            match oid2abbrev(attribute.attr_type(), oid_registry()) {
                Ok(name) => subject.push_str(name),
                Err(_) => subject.push_str(&attribute.attr_type().to_id_string()),
            }
            subject.push('=');
            // What is no text says nothing to a reader of logs.
            for c in attribute.as_str().unwrap_or("?").chars() {
                if matches!(c, ',' | '+' | '"' | '\\' | '<' | '>' | ';' | '=') {
                    subject.push('\\');
                }
                subject.push(c);
            }
        }
    }
    subject.truncate(subject.floor_char_boundary(SUBJECT));
    subject
}

/// Wants a certificate that one of these authorities has signed for a client.
pub(super) fn verifier(pem: &[u8]) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|e| e.to_string())?;
        roots.add(certificate).map_err(|e| e.to_string())?;
    }
    if roots.is_empty() {
        return Err("there is no certificate in it".to_owned());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let inner = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|e| e.to_string())?;
    Ok(Arc::new(Readable(inner)))
}

/// Remembers the certificate with its connection.
pub(super) fn remember() -> TlsAcceptCallbacks {
    Box::new(Remember)
}

struct Remember;

#[async_trait]
impl TlsAccept for Remember {
    async fn handshake_complete_callback(
        &self,
        tls: &TlsRef,
    ) -> Option<Arc<dyn Any + Send + Sync>> {
        let certificate = ClientCertificate::of(tls.peer_certificate_der()?)?;
        Some(Arc::new(certificate))
    }
}

/// After the handshake Pingora parses the certificate with a parser of its own, and panics where that cannot and
/// rustls's could. So it is tried before.
#[derive(Debug)]
struct Readable(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Readable {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if ClientCertificate::of(end_entity).is_none() {
            return Err(Error::InvalidCertificate(CertificateError::BadEncoding));
        }
        self.0.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
