//! A listener's TLS: read and checked before anything listens, and again whenever its files change.

mod client;

use std::sync::Arc;

use pingora::listeners::tls::{Acceptor, TlsSettings};
use pingora::protocols::Stream;
use pingora::protocols::l4::stream::Stream as L4Stream;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

pub use client::ClientCertificate;

use crate::config::kept::{self, Files, Kept, unusable};
use crate::config::pair::{self, Unusable};
use crate::config::plan::ListenerTls;

/// What new connections of a listener get.
pub struct Tls(Kept<ListenerTls>);

/// The files as they are at one moment.
#[derive(Hash)]
pub struct Contents {
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
        Ok(Arc::new(Tls(Kept::open(files.clone())?)))
    }

    /// As [`Kept::refresh`]. Connections that are open keep what they have.
    ///
    /// # Errors
    /// As [`Tls::open`].
    pub fn refresh(&self) -> Option<Result<(), String>> {
        self.0.refresh()
    }

    /// The handshake; its time is for the caller to bound.
    pub(super) async fn accept(&self, stream: Stream) -> pingora::Result<Stream> {
        let socket = stream.into_any().downcast::<L4Stream>().map_err(|_| {
            pingora::Error::explain(pingora::ErrorType::InternalError, "not a socket")
        })?;
        let acceptor = Arc::clone(&self.0.value());
        Ok(Box::new(acceptor.tls_handshake(*socket).await?))
    }
}

impl Files for ListenerTls {
    type Contents = Contents;
    type Value = Acceptor;

    fn read(&self) -> Result<Contents, String> {
        let client_ca = self.client_ca.as_ref();
        Ok(Contents {
            certificate: kept::read(&self.certificate, CERTIFICATE)?,
            private_key: kept::read(&self.private_key, PRIVATE_KEY)?,
            client_ca: client_ca
                .map(|path| kept::read(path, CLIENT_CA))
                .transpose()?,
        })
    }

    /// HTTP/2 and HTTP/1.1 by ALPN, a certificate that goes with its key, and the callers' authorities.
    fn make(&self, contents: &Contents) -> Result<Acceptor, String> {
        let pair = pair::read(&contents.certificate, &contents.private_key);
        let pair = pair.map_err(|fault| match fault {
            Unusable::Certificate(why) => unusable(&self.certificate, CERTIFICATE, &why),
            Unusable::Key(why) => unusable(&self.private_key, PRIVATE_KEY, &why),
        })?;
        let mut settings = match (&contents.client_ca, &self.client_ca) {
            (Some(pem), Some(path)) => {
                let verifier =
                    client::verifier(pem).map_err(|why| unusable(path, CLIENT_CA, &why))?;
                let mut settings = TlsSettings::with_callbacks(client::remember())
                    .map_err(|e| unusable(path, CLIENT_CA, &e))?;
                settings.set_client_cert_verifier(verifier);
                settings
            }
            // No paths: the resolver brings what was read, because Pingora panics on files that it cannot use.
            _ => TlsSettings::intermediate("", "").map_err(|e| e.to_string())?,
        };
        settings.set_cert_resolver(Arc::new(Certificate(pair.certified)));
        settings.enable_h2();
        Ok(settings.build())
    }
}

const CERTIFICATE: &str = "TLS certificate (tls.certificate)";
const PRIVATE_KEY: &str = "TLS key (tls.private_key)";
const CLIENT_CA: &str = "client authorities (tls.client_ca)";

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

#[cfg(test)]
mod tests;
