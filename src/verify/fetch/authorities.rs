//! The client for calls to an issuer, made anew when the file `ca` has changed.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Certificate, Client};

use super::chain;
use crate::config::kept::Files;

/// Whom calls to an issuer trust, and what else their client is made with.
pub(super) struct Authorities {
    pub(super) issuer: Arc<str>,
    pub(super) ca: Option<PathBuf>,
    /// The issuer is called without TLS.
    pub(super) plain: bool,
    pub(super) timeout: Duration,
}

impl Files for Authorities {
    type Contents = Option<Vec<u8>>;
    type Value = Client;

    fn read(&self) -> Result<Self::Contents, String> {
        let ca = self.ca.as_ref();
        ca.map(|path| std::fs::read(path).map_err(|error| self.fault(path, &error)))
            .transpose()
    }

    fn make(&self, pem: &Self::Contents) -> Result<Client, String> {
        let builder = || {
            Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .no_proxy()
                .http1_only()
                .connect_timeout(self.timeout)
                .timeout(self.timeout)
                .pool_max_idle_per_host(0)
                .user_agent(concat!("portcullis/", env!("CARGO_PKG_VERSION")))
        };
        let client = match (pem, &self.ca) {
            (Some(pem), Some(path)) => {
                let roots = roots(pem).map_err(|why| self.fault(path, &why))?;
                builder().tls_certs_only(roots).build()
            }
            // Without CA files the platform's verifier cannot be built, and a plain issuer does not need it.
            _ => builder().build().or_else(|error| match self.plain {
                true => builder().tls_certs_only([]).build(),
                false => Err(error),
            }),
        };
        client.map_err(|error| {
            format!(
                "issuers.{}: no trusted certificates for calls to the issuer ({}); install the system's CA \
                 certificates or set `ca`",
                self.issuer,
                chain(&error)
            )
        })
    }
}

impl Authorities {
    fn fault(&self, path: &Path, why: &dyn Display) -> String {
        format!("issuers.{}.ca: {}: {why}", self.issuer, path.display())
    }
}

fn roots(pem: &[u8]) -> Result<Vec<Certificate>, String> {
    let roots = Certificate::from_pem_bundle(pem).map_err(|error| chain(&error))?;
    match roots.is_empty() {
        true => Err("no PEM certificate in it".to_owned()),
        false => Ok(roots),
    }
}
