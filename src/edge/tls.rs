//! A listener's TLS: read and checked before anything listens, and again whenever its files change.

mod client;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use pingora::listeners::tls::{Acceptor, TlsSettings};
use pingora::protocols::Stream;
use pingora::protocols::l4::stream::Stream as L4Stream;
use ring::digest::{SHA256, digest};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

pub use client::ClientCertificate;

use crate::config::plan::ListenerTls;

/// What new connections of a listener get.
pub struct Tls {
    files: ListenerTls,
    acceptor: ArcSwap<Acceptor>,
    /// What the files held when they were last looked at, or why they could not be read.
    seen: Mutex<Result<Hash, String>>,
}

type Hash = [u8; 32];

/// The files as they are at one moment.
struct Contents {
    certificate: Vec<u8>,
    private_key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

#[derive(Debug)]
struct Certificate(Arc<CertifiedKey>);

impl Tls {
    /// # Errors
    /// The first thing that is wrong with the files, naming the file.
    pub fn open(files: &ListenerTls) -> Result<Arc<Self>, String> {
        let contents = Contents::read(files)?;
        let acceptor = contents.acceptor(files)?;
        Ok(Arc::new(Tls {
            files: files.clone(),
            acceptor: ArcSwap::from_pointee(acceptor),
            seen: Mutex::new(Ok(contents.hash())),
        }))
    }

    /// Looks at the files again. `None`: nothing has changed since the last look. A file that is broken leaves what
    /// was there; connections that are open keep what they have.
    ///
    /// # Errors
    /// As [`Tls::open`].
    pub fn refresh(&self) -> Option<Result<(), String>> {
        let contents = Contents::read(&self.files);
        let now = contents.as_ref().map(Contents::hash).map_err(Clone::clone);
        {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if *seen == now {
                return None;
            }
            *seen = now;
        }
        let acceptor = contents.and_then(|contents| contents.acceptor(&self.files));
        Some(acceptor.map(|acceptor| self.acceptor.store(Arc::new(acceptor))))
    }

    /// The handshake; its time is for the caller to bound.
    pub(super) async fn accept(&self, stream: Stream) -> pingora::Result<Stream> {
        let socket = stream.into_any().downcast::<L4Stream>().map_err(|_| {
            pingora::Error::explain(pingora::ErrorType::InternalError, "not a socket")
        })?;
        let acceptor = self.acceptor.load_full();
        Ok(Box::new(acceptor.tls_handshake(*socket).await?))
    }
}

impl Contents {
    fn read(files: &ListenerTls) -> Result<Self, String> {
        let read = |path: &Path, what: &str| {
            std::fs::read(path).map_err(|e| explain(path, what, &e.to_string()))
        };
        Ok(Contents {
            certificate: read(&files.certificate, CERTIFICATE)?,
            private_key: read(&files.private_key, PRIVATE_KEY)?,
            client_ca: files
                .client_ca
                .as_ref()
                .map(|path| read(path, CLIENT_CA))
                .transpose()?,
        })
    }

    fn hash(&self) -> Hash {
        let parts = [
            Some(&self.certificate),
            Some(&self.private_key),
            self.client_ca.as_ref(),
        ];
        let hashes: Vec<u8> = parts
            .into_iter()
            .flatten()
            .flat_map(|part| digest(&SHA256, part).as_ref().to_vec())
            .collect();
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, &hashes).as_ref());
        hash
    }

    /// HTTP/2 and HTTP/1.1 by ALPN, a certificate that goes with its key, and the callers' authorities.
    fn acceptor(&self, files: &ListenerTls) -> Result<Acceptor, String> {
        let pair = self.pair(files)?;
        let mut settings = match (&self.client_ca, &files.client_ca) {
            (Some(pem), Some(path)) => {
                let verifier =
                    client::verifier(pem).map_err(|why| explain(path, CLIENT_CA, &why))?;
                let mut settings = TlsSettings::with_callbacks(client::remember())
                    .map_err(|e| explain(path, CLIENT_CA, &e.to_string()))?;
                settings.set_client_cert_verifier(verifier);
                settings
            }
            // No paths: the resolver brings what was read, because Pingora panics on files that it cannot use.
            _ => TlsSettings::intermediate("", "").map_err(|e| e.to_string())?,
        };
        settings.set_cert_resolver(Arc::new(Certificate(pair)));
        settings.enable_h2();
        Ok(settings.build())
    }

    fn pair(&self, files: &ListenerTls) -> Result<Arc<CertifiedKey>, String> {
        let certificate = |why: &str| explain(&files.certificate, CERTIFICATE, why);
        let chain = CertificateDer::pem_slice_iter(&self.certificate)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| certificate(&e.to_string()))?;
        if chain.is_empty() {
            return Err(certificate("there is no certificate in it"));
        }
        let key = PrivateKeyDer::from_pem_slice(&self.private_key)
            .map_err(|e| explain(&files.private_key, PRIVATE_KEY, &e.to_string()))?;
        let provider = rustls::crypto::ring::default_provider();
        CertifiedKey::from_der(chain, key, &provider)
            .map(Arc::new)
            .map_err(|e| certificate(&format!("it does not go with its key: {e}")))
    }
}

const CERTIFICATE: &str = "TLS certificate (tls.certificate)";
const PRIVATE_KEY: &str = "TLS key (tls.private_key)";
const CLIENT_CA: &str = "client authorities (tls.client_ca)";

fn explain(path: &Path, what: &str, why: &str) -> String {
    format!("cannot use the {what} {}: {why}", path.display())
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

#[cfg(test)]
mod tests;
