//! One question as HTTP: `POST` of a form, with the gateway's own credentials.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};

use crate::clock::Clock;
use crate::config::plan::{ClientAuth, EndpointFrom, IntrospectionPlan, IssuerPlan};
use crate::config::secret::Reread;
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
}
