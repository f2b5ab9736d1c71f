//! One question as HTTP: `POST` of a form, with the gateway's own credentials.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};

use crate::clock::Clock;
use crate::config::plan::{ClientAuth, EndpointFrom, IntrospectionPlan, IssuerPlan};
use crate::config::secret::Secret;
use crate::verify::claims::Claims;
use crate::verify::fetch::{self, FetchFault, Web};

/// How often a file with a secret is looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

pub(super) struct Client {
    web: Web,
    endpoint: EndpointFrom,
    /// What discovery said; forgotten when a question fails.
    discovered: Mutex<Option<String>>,
    issuer: String,
    name: Arc<str>,
    id: String,
    secret: Reread,
    auth: ClientAuth,
    timeout: Duration,
}

/// Why there is no answer. The text is for the log.
pub(super) struct Silence {
    pub(super) text: String,
    /// The question itself was sent.
    pub(super) sent: bool,
}

impl Client {
    pub(super) fn new(
        issuer: &IssuerPlan,
        plan: &IntrospectionPlan,
        clock: Clock,
    ) -> Result<Self, String> {
        let (EndpointFrom::Url(url) | EndpointFrom::Discovery(url)) = &plan.endpoint;
        Ok(Client {
            web: Web::new(issuer, url, plan.timeout)?,
            endpoint: plan.endpoint.clone(),
            discovered: Mutex::default(),
            issuer: issuer.issuer.clone(),
            name: issuer.name.clone(),
            id: plan.client_id.clone(),
            secret: Reread::new(plan.client_secret.clone(), clock),
            auth: plan.auth,
            timeout: plan.timeout,
        })
    }

    /// What the issuer says of a token: the document of its claims if it is active, `None` if it is not.
    pub(super) async fn ask(&self, token: &str) -> Result<Option<Vec<u8>>, Silence> {
        let mut sent = false;
        let asked = tokio::time::timeout(self.timeout, self.post(token, &mut sent)).await;
        let asked = match asked {
            Ok(Ok(body)) => is_active(&body).map(|active| active.then_some(body)),
            Ok(Err(fault)) => Err(self.explained(fault.text())),
            Err(_) => Err(format!("no answer within {:?}", self.timeout)),
        };
        asked.map_err(|text| {
            *self.discovered() = None;
            Silence { text, sent }
        })
    }

    async fn post(&self, token: &str, sent: &mut bool) -> Result<Vec<u8>, FetchFault> {
        let url = self.url().await?;
        let secret = self.secret.current().await;
        let (authorization, body) = question(self.auth, &self.id, &secret, token);
        *sent = true;
        let request = |client: &reqwest::Client, target| {
            let request = client
                .post(target)
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(body);
            match authorization {
                Some(value) => request.header(AUTHORIZATION, value),
                None => request,
            }
        };
        self.web.fetch(&url, request).await
    }

    async fn url(&self) -> Result<String, FetchFault> {
        let document = match &self.endpoint {
            EndpointFrom::Url(url) => return Ok(url.clone()),
            EndpointFrom::Discovery(document) => document,
        };
        if let Some(url) = self.discovered().clone() {
            return Ok(url);
        }
        let ours = (&*self.issuer, &*self.name);
        let url = fetch::discover(&self.web, document, ours, "introspection_endpoint").await?;
        *self.discovered() = Some(url.clone());
        Ok(url)
    }

    fn explained(&self, fault: &str) -> String {
        let hint = if fault.contains("status 401") {
            "; it does not know the gateway: check introspection.client_id, client_secret and auth"
        } else if fault.contains("status 403") {
            "; it does not let the gateway ask: its client must be confidential"
        } else {
            ""
        };
        format!("{fault}{hint}")
    }

    fn discovered(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        // The lock guards one assignment: a panic cannot have left it half done.
        self.discovered.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// The `Authorization` field, if there is one, and the form.
pub(super) fn question(
    auth: ClientAuth,
    id: &str,
    secret: &str,
    token: &str,
) -> (Option<String>, String) {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("token", token)
        .append_pair("token_type_hint", "access_token");
    let authorization = match auth {
        ClientAuth::Basic => {
            // RFC 6749 section 2.3.1: both halves are form-encoded first.
            let encoded = |text: &str| -> String {
                form_urlencoded::byte_serialize(text.as_bytes()).collect()
            };
            let pair = format!("{}:{}", encoded(id), encoded(secret));
            Some(format!("Basic {}", STANDARD.encode(pair)))
        }
        ClientAuth::Post => {
            form.append_pair("client_id", id)
                .append_pair("client_secret", secret);
            None
        }
    };
    (authorization, form.finish())
}

/// RFC 7662 section 2.2: `active` is a boolean, and everything else is no answer.
pub(super) fn is_active(body: &[u8]) -> Result<bool, String> {
    let claims = Claims::read(body).map_err(|_| "what came is no JSON object".to_owned())?;
    claims
        .active()
        .ok_or_else(|| "`active` is not a boolean".to_owned())
}

/// A secret that may stand in a file, read again when the file changes.
pub(super) struct Reread {
    clock: Clock,
    state: Mutex<Known>,
}

struct Known {
    secret: Secret,
    /// When and how large the file was when it was read.
    seen: Option<(SystemTime, u64)>,
    looked: Option<Duration>,
}

impl Reread {
    pub(super) fn new(secret: Secret, clock: Clock) -> Self {
        Reread {
            clock,
            state: Mutex::new(Known {
                secret,
                seen: None,
                looked: None,
            }),
        }
    }

    /// The last good value when the file cannot be read.
    pub(super) async fn current(&self) -> String {
        let now = self.clock.monotonic();
        let (path, seen) = {
            let mut known = self.known();
            let fresh = known
                .looked
                .is_some_and(|at| now.saturating_sub(at) < LOOK_AGAIN);
            match known.secret.file() {
                Some(path) if !fresh => {
                    let path = path.clone();
                    known.looked = Some(now);
                    (path, known.seen)
                }
                _ => return known.secret.expose().to_owned(),
            }
        };
        let read = {
            let path = path.clone();
            tokio::task::spawn_blocking(move || changed(&path, seen)).await
        };
        let mut known = self.known();
        if let Ok(Some((value, seen))) = read {
            known.secret = Secret::from_file(value, path);
            known.seen = Some(seen);
        }
        known.secret.expose().to_owned()
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        // Each holder makes a few assignments that cannot panic.
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// The file's text without its line end, if it is another file than the one that was seen.
fn changed(path: &Path, seen: Option<(SystemTime, u64)>) -> Option<(String, (SystemTime, u64))> {
    let meta = std::fs::metadata(path).ok()?;
    let now = (meta.modified().ok()?, meta.len());
    if seen == Some(now) {
        return None;
    }
    let text = std::fs::read_to_string(path).ok()?;
    let value = text.strip_suffix('\n').unwrap_or(&text);
    let value = value.strip_suffix('\r').unwrap_or(value);
    (!value.is_empty()).then(|| (value.to_owned(), now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_form_encoded_before_base64() {
        let (field, form) = question(ClientAuth::Basic, "a b:c", "p+ä&", "t.o/k");
        let pair = STANDARD.encode("a+b%3Ac:p%2B%C3%A4%26");
        assert_eq!(field, Some(format!("Basic {pair}")));
        assert_eq!(form, "token=t.o%2Fk&token_type_hint=access_token");
        let (field, form) = question(ClientAuth::Post, "a b", "p&q", "t");
        assert_eq!(field, None);
        assert_eq!(
            form,
            "token=t&token_type_hint=access_token&client_id=a+b&client_secret=p%26q"
        );
    }

    #[test]
    fn only_the_boolean_is_an_answer() {
        assert_eq!(is_active(br#"{"active":true}"#), Ok(true));
        assert_eq!(is_active(br#"{"active":false,"x":1}"#), Ok(false));
        for no in [
            r#"{"active":"true"}"#,
            r#"{"active":1}"#,
            r#"{"active":null}"#,
            "{}",
            r#"[{"active":true}]"#,
            "true",
            "",
            r#"{"active":false,"active":true}"#,
        ] {
            assert!(is_active(no.as_bytes()).is_err(), "{no}");
        }
    }

    #[tokio::test]
    async fn a_secret_file_is_read_again_at_most_once_a_second() {
        let directory =
            std::env::temp_dir().join(format!("portcullis-reread-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        let file = directory.join("secret");
        std::fs::write(&file, "one\n").expect("written");
        let clock = Clock::manual(1_790_000_000);
        let secret = Reread::new(Secret::from_file("one", file.clone()), clock.clone());
        assert_eq!(secret.current().await, "one");
        std::fs::write(&file, "second\n").expect("written");
        assert_eq!(secret.current().await, "one");
        clock.advance(LOOK_AGAIN);
        assert_eq!(secret.current().await, "second");
        // What cannot be read leaves the last one.
        std::fs::remove_dir_all(&directory).expect("removed");
        clock.advance(LOOK_AGAIN);
        assert_eq!(secret.current().await, "second");
    }
}
