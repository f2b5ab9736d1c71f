//! One question as HTTP: `POST` of a form, with the gateway's own credentials.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};

use super::assertion::{self, assertion};

use crate::clock::Clock;
use crate::config::kept::Reread;
use crate::config::plan::{ClientAuth, EndpointFrom, IntrospectionPlan, IssuerPlan};
use crate::config::private_key::PrivateKey;
use crate::config::secret::{Text, Word};
use crate::verify::claims::Claims;
use crate::verify::fetch::{self, FetchFault, Web};

pub(super) struct Client {
    web: Web,
    endpoint: EndpointFrom,
    /// What discovery said; forgotten when a question fails.
    discovered: Mutex<Option<String>>,
    issuer: String,
    name: Arc<str>,
    id: String,
    credentials: Credentials,
    clock: Clock,
    timeout: Duration,
}

/// [`ClientAuth`] with files that are read again.
enum Credentials {
    Basic(Word),
    Post(Word),
    Key(Reread<Text<Arc<PrivateKey>>>, Option<String>),
}

/// What one question shows of them.
pub(super) enum Shown {
    Basic(Arc<str>),
    Post(Arc<str>),
    Assertion(String),
}

/// Why there is no answer. The text is for the log.
pub(super) struct Silence {
    pub(super) text: String,
    /// The question itself was sent.
    pub(super) sent: bool,
    /// Another question may fare better.
    pub(super) for_this_token: bool,
}

impl Client {
    pub(super) fn new(
        issuer: &IssuerPlan,
        plan: &IntrospectionPlan,
        clock: Clock,
    ) -> Result<Self, String> {
        let (EndpointFrom::Url(url) | EndpointFrom::Discovery(url)) = &plan.endpoint;
        Ok(Client {
            web: Web::new(issuer, url, plan.timeout, &clock)?,
            endpoint: plan.endpoint.clone(),
            discovered: Mutex::default(),
            issuer: issuer.issuer.clone(),
            name: issuer.name.clone(),
            id: plan.client_id.clone(),
            credentials: Credentials::new(&issuer.name, &plan.auth, &clock)?,
            clock,
            timeout: plan.timeout,
        })
    }

    /// What the issuer says of a token: the document of its claims if it is active, `None` if it is not.
    pub(super) async fn ask(&self, token: &str) -> Result<Option<Vec<u8>>, Silence> {
        let mut sent = false;
        let asked = tokio::time::timeout(self.timeout, self.post(token, &mut sent)).await;
        let mut status = None;
        let asked = match asked {
            Ok(Ok(body)) => is_active(&body).map(|active| active.then_some(body)),
            Ok(Err(fault)) => {
                if let (true, FetchFault::Status(code, _)) = (sent, &fault) {
                    status = Some(*code);
                }
                Err(self.explained(status, fault.text()))
            }
            Err(_) => Err(format!("no answer within {:?}", self.timeout)),
        };
        asked.map_err(|text| {
            *self.discovered() = None;
            Silence {
                text,
                sent,
                for_this_token: status.is_some_and(is_for_this_token),
            }
        })
    }

    async fn post(&self, token: &str, sent: &mut bool) -> Result<Vec<u8>, FetchFault> {
        let url = self.url().await?;
        let shown = self.shown().await?;
        let (authorization, body) = question(&shown, &self.id, token);
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

    async fn shown(&self) -> Result<Shown, FetchFault> {
        Ok(match &self.credentials {
            Credentials::Basic(secret) => Shown::Basic(secret.current().await),
            Credentials::Post(secret) => Shown::Post(secret.current().await),
            Credentials::Key(key, kid) => {
                let key = key.current().await;
                let now = self.clock.unix();
                let signed = assertion(&key, kid.as_deref(), &self.id, &self.issuer, now);
                let no_randomness =
                    || FetchFault::Failed("the system gives no randomness to sign with".to_owned());
                Shown::Assertion(signed.ok_or_else(no_randomness)?)
            }
        })
    }

    fn explained(&self, status: Option<u16>, fault: &str) -> String {
        let by_key = matches!(self.credentials, Credentials::Key(..));
        let hint = match status {
            // Keycloak answers 400 to an assertion that it does not accept.
            Some(400 | 401) if by_key => {
                "; it does not accept the gateway's assertion: check that introspection.client_id authenticates with \
                 signed JWTs there, that the issuer has the public half of private_key, kid if it is set, and both \
                 clocks"
            }
            Some(401) => {
                "; it does not know the gateway: check introspection.client_id, client_secret and auth"
            }
            Some(403) => {
                "; it does not let the gateway ask: its client must be confidential, and nothing before the issuer \
                 may stop what a token says"
            }
            _ => "",
        };
        format!("{fault}{hint}")
    }

    fn discovered(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        // The lock guards one assignment: a panic cannot have left it half done.
        self.discovered.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Credentials {
    fn new(issuer: &str, auth: &ClientAuth, clock: &Clock) -> Result<Self, String> {
        let name = |key: &str| format!("issuers.{issuer}.introspection.{key}");
        let word = |secret| Text::word(secret, name("client_secret"), clock.clone());
        Ok(match auth {
            ClientAuth::Basic(secret) => Credentials::Basic(word(secret)),
            ClientAuth::Post(secret) => Credentials::Post(word(secret)),
            ClientAuth::PrivateKey { pem, kid } => {
                let read = |text: &str| {
                    let key = PrivateKey::from_pem(text).map(Arc::new);
                    key.map_err(|fault| fault.text().to_owned())
                };
                let key = Text::reread(pem, name("private_key"), read, clock.clone())?;
                Credentials::Key(key, kid.clone())
            }
        })
    }
}

/// A firewall before the issuer may stop what the text of one token looks like; anybody can send that, and so must not
/// be able to keep us from asking about others. The excepted ones say that we, or now, may not ask at all.
fn is_for_this_token(status: u16) -> bool {
    (400..500).contains(&status) && !matches!(status, 401 | 408 | 429)
}

/// The `Authorization` field, if there is one, and the form.
pub(super) fn question(shown: &Shown, id: &str, token: &str) -> (Option<String>, String) {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("token", token)
        .append_pair("token_type_hint", "access_token");
    let authorization = match shown {
        Shown::Basic(secret) => {
            // RFC 6749 section 2.3.1: both halves are form-encoded first.
            let encoded = |text: &str| -> String {
                form_urlencoded::byte_serialize(text.as_bytes()).collect()
            };
            let pair = format!("{}:{}", encoded(id), encoded(secret));
            Some(format!("Basic {}", STANDARD.encode(pair)))
        }
        Shown::Post(secret) => {
            form.append_pair("client_id", id)
                .append_pair("client_secret", secret);
            None
        }
        // RFC 7521 section 4.2: the assertion says who it is.
        Shown::Assertion(assertion) => {
            form.append_pair("client_assertion_type", assertion::TYPE)
                .append_pair("client_assertion", assertion);
            None
        }
    };
    (authorization, form.finish())
}

/// RFC 7662 section 2.2: `active` is a boolean, and everything else is no answer.
pub(in crate::verify) fn is_active(body: &[u8]) -> Result<bool, String> {
    let claims = Claims::read(body).map_err(|_| "what came is no JSON object".to_owned())?;
    claims
        .active()
        .ok_or_else(|| "`active` is not a boolean".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_form_encoded_before_base64() {
        let (field, form) = question(&Shown::Basic("p+ä&".into()), "a b:c", "t.o/k");
        let pair = STANDARD.encode("a+b%3Ac:p%2B%C3%A4%26");
        assert_eq!(field, Some(format!("Basic {pair}")));
        assert_eq!(form, "token=t.o%2Fk&token_type_hint=access_token");
        let (field, form) = question(&Shown::Post("p&q".into()), "a b", "t");
        assert_eq!(field, None);
        assert_eq!(
            form,
            "token=t&token_type_hint=access_token&client_id=a+b&client_secret=p%26q"
        );
        let (field, form) = question(&Shown::Assertion("a.b.c".to_owned()), "a b", "t");
        assert_eq!(field, None);
        assert_eq!(
            form,
            "token=t&token_type_hint=access_token\
             &client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer\
             &client_assertion=a.b.c"
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
}
