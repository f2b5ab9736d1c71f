//! Where key documents come from: discovery (OpenID Connect Discovery 1.0 section 4), a URL or a file.
//!
//! The other side may be down, slow, endless, or somebody else: no redirects, no proxy from the environment, a
//! deadline on the whole, a cap on what is read, and nothing compressed.

mod apart;
mod authorities;
mod discovery;

use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::{ACCEPT, CONTENT_ENCODING};
use reqwest::{Client, RequestBuilder, Url};

use self::authorities::Authorities;
use self::discovery::FromDiscovery;
pub(super) use self::discovery::discover;
use crate::clock::Clock;
use crate::config::kept::{Kept, Reread};
use crate::config::plan::{IssuerPlan, KeysFrom};

/// Of one document. Keycloak's six keys with their certificates take some 10 kB.
const MAX_BYTES: usize = 256 * 1024;

/// Why no document came. The text is for the log and for `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FetchFault {
    /// Nothing usable came: connection, size, time.
    Failed(String),
    /// An answer came, with another status than 200.
    Status(u16, String),
    /// Something came that is not what it should be.
    Invalid(String),
}

impl FetchFault {
    pub(super) fn text(&self) -> &str {
        match self {
            FetchFault::Failed(text) | FetchFault::Status(_, text) | FetchFault::Invalid(text) => {
                text
            }
        }
    }
}

/// Gives the bytes of a JWK Set document. The tests script it.
#[async_trait]
pub(super) trait KeySource: Send + Sync {
    async fn document(&self) -> Result<Vec<u8>, FetchFault>;

    /// The last document had no key to verify with. Whoever was led to it asks for the way again.
    fn was_useless(&self) {}
}

/// The source that an issuer's configuration names. Fails on what no waiting can cure: an unreadable CA, no CA at all.
pub(super) fn source(issuer: &IssuerPlan, clock: &Clock) -> Result<Box<dyn KeySource>, String> {
    let timeout = issuer.keys.timeout;
    Ok(match &issuer.keys_from {
        KeysFrom::File(path) => Box::new(FromFile {
            path: path.clone(),
            timeout,
        }),
        KeysFrom::Url(url) => Box::new(FromUrl {
            web: Web::new(issuer, url, timeout, clock)?,
            url: url.clone(),
            timeout,
        }),
        KeysFrom::Discovery(url) => Box::new(FromDiscovery::new(issuer, url, clock)?),
    })
}

struct FromFile {
    path: PathBuf,
    timeout: Duration,
}

#[async_trait]
impl KeySource for FromFile {
    async fn document(&self) -> Result<Vec<u8>, FetchFault> {
        within(self.timeout, read_file(&self.path)).await
    }
}

struct FromUrl {
    web: Web,
    url: String,
    timeout: Duration,
}

#[async_trait]
impl KeySource for FromUrl {
    async fn document(&self) -> Result<Vec<u8>, FetchFault> {
        within(self.timeout, self.web.get(&self.url)).await
    }
}

/// What [`Web::may_call`] takes.
const SAFE: &str = "only https, or http to a loopback address or with `insecure: true`";

/// A client for one issuer's documents.
pub(super) struct Web {
    client: Reread<Authorities>,
    insecure: bool,
}

impl Web {
    pub(super) fn new(
        issuer: &IssuerPlan,
        url: &str,
        timeout: Duration,
        clock: &Clock,
    ) -> Result<Self, String> {
        super::crypto::install();
        let authorities = Authorities {
            issuer: issuer.name.clone(),
            ca: issuer.ca.clone(),
            plain: url.starts_with("http://"),
            timeout,
        };
        Ok(Web {
            client: Reread::new(Kept::open(authorities)?, clock.clone()),
            insecure: issuer.insecure,
        })
    }

    /// The body of a plain 200 of bounded size.
    pub(super) async fn get(&self, url: &str) -> Result<Vec<u8>, FetchFault> {
        self.fetch(url, |client, target| client.get(target)).await
    }

    /// The body of a plain 200 of bounded size, to whatever request is made of the client and the URL.
    pub(super) async fn fetch(
        &self,
        url: &str,
        request: impl FnOnce(&Client, Url) -> RequestBuilder,
    ) -> Result<Vec<u8>, FetchFault> {
        let failed = |what: String| FetchFault::Failed(format!("{url}: {what}"));
        let target = Url::parse(url).map_err(|error| failed(error.to_string()))?;
        if !self.may_call(&target) {
            return Err(FetchFault::Invalid(format!("{url}: {SAFE}")));
        }
        let request = request(&self.client.current().await, target);
        let asked = url.to_owned();
        let document = apart::run(async move { document(&asked, request).await }).await;
        document.map_err(failed)?
    }

    /// The configuration's rule, held against what discovery says too.
    fn may_call(&self, url: &Url) -> bool {
        match url.scheme() {
            "https" => true,
            "http" => self.insecure || is_loopback(url),
            _ => false,
        }
    }
}

/// Sends it, and reads the whole answer.
async fn document(url: &str, request: RequestBuilder) -> Result<Vec<u8>, FetchFault> {
    let failed = |what: String| FetchFault::Failed(format!("{url}: {what}"));
    let sent = request.header(ACCEPT, "application/json").send().await;
    let mut response = sent.map_err(|error| failed(chain(&error.without_url())))?;
    let status = response.status();
    if status.is_redirection() {
        return Err(failed(format!(
            "status {status}; redirects are not followed"
        )));
    }
    if status != 200 {
        return Err(FetchFault::Status(
            status.as_u16(),
            format!("{url}: status {status}"),
        ));
    }
    if let Some(encoding) = response.headers().get(CONTENT_ENCODING)
        && encoding != "identity"
    {
        return Err(failed("compressed, which nobody asked for".to_owned()));
    }
    let too_large = || failed(format!("more than {MAX_BYTES} bytes"));
    if response
        .content_length()
        .is_some_and(|length| length > MAX_BYTES as u64)
    {
        return Err(too_large());
    }
    let mut body = Vec::new();
    loop {
        let chunk = response.chunk().await;
        let Some(chunk) = chunk.map_err(|error| failed(chain(&error.without_url())))? else {
            return Ok(body);
        };
        if body.len() + chunk.len() > MAX_BYTES {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
}

fn is_loopback(url: &Url) -> bool {
    let Some(host) = url.host_str() else {
        return false;
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

async fn read_file(path: &Path) -> Result<Vec<u8>, FetchFault> {
    let owned = path.to_owned();
    let read = move || {
        let mut document = Vec::new();
        let file = std::fs::File::open(owned)?;
        file.take(MAX_BYTES as u64 + 1).read_to_end(&mut document)?;
        Ok::<_, std::io::Error>(document)
    };
    let failed = |what: String| FetchFault::Failed(format!("{}: {what}", path.display()));
    match tokio::task::spawn_blocking(read).await {
        Ok(Ok(document)) if document.len() > MAX_BYTES => {
            Err(failed(format!("more than {MAX_BYTES} bytes")))
        }
        Ok(Ok(document)) => Ok(document),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// One deadline over all that a fetch does, discovery included.
async fn within<T>(
    timeout: Duration,
    fetch: impl Future<Output = Result<T, FetchFault>>,
) -> Result<T, FetchFault> {
    tokio::time::timeout(timeout, fetch)
        .await
        .unwrap_or_else(|_| Err(FetchFault::Failed(format!("no answer within {timeout:?}"))))
}

/// An error with its causes, which is where reqwest says what happened.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
