//! A listener's certificate, read and checked before anything listens.

use std::path::Path;
use std::sync::Arc;

use pingora::listeners::tls::TlsSettings;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::config::plan::ListenerTls;

#[derive(Debug)]
struct Certificate(Arc<CertifiedKey>);

/// What a TLS listener needs: HTTP/2 and HTTP/1.1 by ALPN, and a certificate that goes with its key.
pub(super) fn settings(files: &ListenerTls) -> Result<TlsSettings, String> {
    let certificate = Certificate::load(files)?;
    // No paths: the resolver brings what was read, because Pingora panics on files that it cannot use.
    let mut settings = TlsSettings::intermediate("", "").map_err(|e| e.to_string())?;
    settings.set_cert_resolver(Arc::new(certificate));
    settings.enable_h2();
    Ok(settings)
}

impl Certificate {
    fn load(files: &ListenerTls) -> Result<Self, String> {
        let explain = |path: &Path, what: &str, why: String| {
            format!("cannot use the {what} {}: {why}", path.display())
        };
        let certificate =
            |why: String| explain(&files.certificate, "TLS certificate (tls.certificate)", why);
        let chain = CertificateDer::pem_file_iter(&files.certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|e| certificate(e.to_string()))?;
        if chain.is_empty() {
            return Err(certificate("there is no certificate in it".to_owned()));
        }
        let key = PrivateKeyDer::from_pem_file(&files.private_key).map_err(|e| {
            explain(
                &files.private_key,
                "TLS key (tls.private_key)",
                e.to_string(),
            )
        })?;
        let provider = rustls::crypto::ring::default_provider();
        let pair = CertifiedKey::from_der(chain, key, &provider)
            .map_err(|e| certificate(format!("it does not go with its key: {e}")))?;
        Ok(Certificate(Arc::new(pair)))
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}
