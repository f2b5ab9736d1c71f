//! Where an issuer's discovery document says that something is (OpenID Connect Discovery 1.0 section 4).

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use reqwest::Url;

use super::{FetchFault, KeySource, SAFE, Web, within};
use crate::clock::Clock;
use crate::config::plan::IssuerPlan;
use crate::verify::json::{self, Value};

/// Of an address that a document names.
const MAX_URL: usize = 1024;

/// Keys where discovery says that they are.
pub(super) struct FromDiscovery {
    web: Web,
    url: String,
    issuer: String,
    /// The configuration's name for the issuer, for the hint in an error.
    name: String,
    /// Forgotten when it stops working.
    known: Mutex<Option<Known>>,
    /// For how long what discovery said is not asked again.
    fresh: Duration,
    timeout: Duration,
    clock: Clock,
}

/// What the last good discovery said.
#[derive(Clone)]
struct Known {
    jwks_uri: String,
    /// By the monotonic clock.
    said_at: Duration,
}

#[async_trait]
impl KeySource for FromDiscovery {
    async fn document(&self) -> Result<Vec<u8>, FetchFault> {
        within(self.timeout, self.keys()).await
    }

    fn was_useless(&self) {
        *self.known() = None;
    }
}

impl FromDiscovery {
    pub(super) fn new(issuer: &IssuerPlan, url: &str, clock: &Clock) -> Result<Self, String> {
        let timeout = issuer.keys.timeout;
        Ok(FromDiscovery {
            web: Web::new(issuer, url, timeout, clock)?,
            url: url.to_owned(),
            issuer: issuer.issuer.clone(),
            name: issuer.name.to_string(),
            known: Mutex::default(),
            // Each fetch ahead of time asks, and none that a token's unknown `kid` caused meanwhile.
            fresh: issuer.keys.refresh / 2,
            timeout,
            clock: clock.clone(),
        })
    }

    async fn keys(&self) -> Result<Vec<u8>, FetchFault> {
        let known = self.known().clone();
        let now = self.clock.monotonic();
        let (fresh, old) = match known {
            Some(known) if now.saturating_sub(known.said_at) < self.fresh => {
                (Some(known.jwks_uri), None)
            }
            known => (None, known.map(|known| known.jwks_uri)),
        };
        let mut failed = None;
        if let Some(uri) = &fresh {
            match self.web.get(uri).await {
                Ok(document) => return Ok(document),
                Err(fault) => failed = Some(fault),
            }
            *self.known() = None;
        }
        // Half of the time, so that some is left for the old address.
        let said = match &old {
            Some(_) => within(self.timeout / 2, self.discover()).await,
            None => self.discover().await,
        };
        let jwks_uri = match (said, old) {
            (Ok(uri), _) => uri,
            // The keys may be there though the document is not.
            (Err(FetchFault::Failed(_) | FetchFault::Status(..)), Some(old)) => {
                return self.web.get(&old).await;
            }
            (Err(fault), _) => return Err(fault),
        };
        if let Some(fault) = failed.filter(|_| fresh.as_ref() == Some(&jwks_uri)) {
            return Err(fault);
        }
        let document = self.web.get(&jwks_uri).await?;
        let said_at = now;
        *self.known() = Some(Known { jwks_uri, said_at });
        Ok(document)
    }

    async fn discover(&self) -> Result<String, FetchFault> {
        discover(&self.web, &self.url, (&self.issuer, &self.name), "jwks_uri").await
    }

    fn known(&self) -> MutexGuard<'_, Option<Known>> {
        // The lock guards one assignment: a panic cannot have left it half done.
        self.known.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// A URL that a discovery document names, which must be the document of this issuer (its URL and our name for it).
pub(in crate::verify) async fn discover(
    web: &Web,
    url: &str,
    (issuer, name): (&str, &str),
    member: &str,
) -> Result<String, FetchFault> {
    let document = web.get(url).await?;
    let invalid = |what: &str| FetchFault::Invalid(format!("discovery {url}: {what}"));
    let document = json::object(&document).ok_or_else(|| invalid("not a JSON object"))?;
    // OpenID Connect Discovery 1.0 section 4.3: exactly ours, or the keys are somebody else's.
    match document.get("issuer").and_then(Value::as_text) {
        None => return Err(invalid("no `issuer`")),
        Some(theirs) if theirs != issuer => {
            return Err(invalid(&format!(
                "it says its issuer is {:?}, expected {issuer:?}; set issuers.{name}.issuer to the former if that is \
                 what tokens say, or discovery_url to the right document",
                beginning(theirs)
            )));
        }
        Some(_) => {}
    }
    let named = document
        .get(member)
        .and_then(Value::as_text)
        .ok_or_else(|| invalid(&format!("no `{member}`")))?;
    if named.len() > MAX_URL {
        return Err(invalid(&format!(
            "`{member}` has more than {MAX_URL} bytes"
        )));
    }
    let target = Url::parse(named).map_err(|error| invalid(&format!("{named:?}: {error}")))?;
    if !web.may_call(&target) {
        return Err(invalid(&format!("`{member}` is {named:?}: {SAFE}")));
    }
    // A document that came over TLS leads to nothing that comes without, a service on this machine included.
    if url.starts_with("https:") && target.scheme() != "https" && !web.insecure {
        return Err(invalid(&format!(
            "`{member}` is {named:?}, which is not https as the document itself is"
        )));
    }
    Ok(named.to_owned())
}

/// Enough to see what it is: it goes to the log and to `/readyz`.
fn beginning(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_URL)]
}
