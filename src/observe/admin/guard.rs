//! The admin token: who may fetch keys and change revocations.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use ring::hmac;
use ring::rand::SystemRandom;

use super::answer::{Answer, problem};
use crate::config::secret::Word;
use crate::request::RequestId;

pub(super) struct Guard {
    token: Option<Arc<Word>>,
}

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No token was shown.
    Missing,
    Wrong,
}

impl Guard {
    pub(super) fn new(token: Option<Arc<Word>>) -> Self {
        Guard { token }
    }

    pub(super) fn is_off(&self) -> bool {
        self.token.is_none()
    }

    pub(super) async fn admit(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let token = self.token.as_ref().ok_or(Refusal::Wrong)?;
        let mut shown = headers.get_all(header::AUTHORIZATION).iter();
        let (shown, None) = (shown.next().ok_or(Refusal::Missing)?, shown.next()) else {
            return Err(Refusal::Wrong);
        };
        let shown = bearer(shown.as_bytes()).ok_or(Refusal::Missing)?;
        match same(shown, token.current().await.as_bytes()) {
            true => Ok(()),
            false => {
                log::warn!("a call of the admin listener showed another token than admin.token");
                Err(Refusal::Wrong)
            }
        }
    }
}

/// What follows the scheme. Not as for callers' tokens: an administrator may have chosen any characters.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked("bearer ".len())?;
    let token = token.trim_ascii_start();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token)
}

/// In a time that says nothing about how much of it is right, nor how long it is: compared are two digests under a key
/// that nobody else has.
fn same(shown: &[u8], token: &[u8]) -> bool {
    // Without randomness nobody is let in.
    let Ok(key) = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()) else {
        return false;
    };
    let tag = hmac::sign(&key, token);
    hmac::verify(&key, shown, tag.as_ref()).is_ok()
}

impl Refusal {
    /// RFC 6750 section 3.
    pub(super) fn answer(self, id: &RequestId) -> Answer {
        let (challenge, detail) = match self {
            Refusal::Missing => (
                r#"Bearer realm="portcullis admin""#,
                "This needs the admin token: Authorization: Bearer.",
            ),
            Refusal::Wrong => (
                r#"Bearer realm="portcullis admin", error="invalid_token""#,
                "This is not the admin token.",
            ),
        };
        let mut answer = problem(StatusCode::UNAUTHORIZED, detail, id);
        let challenge = HeaderValue::from_static(challenge);
        let headers = answer.headers_mut();
        headers.insert(header::WWW_AUTHENTICATE, challenge);
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_what_follows_the_scheme() {
        for (value, token) in [
            ("Bearer a", Some("a")),
            ("bEARER   a b", Some("a b")),
            ("Bearer ", None),
            ("Bearer", None),
            ("Basic abcdef", None),
            ("", None),
            ("Bearera", None),
        ] {
            let found = bearer(value.as_bytes());
            assert_eq!(found, token.map(str::as_bytes), "{value}");
        }
    }

    #[test]
    fn only_the_same_is_the_same() {
        assert!(same(b"token", b"token"));
        for other in ["", "t", "toke", "token ", "Token", "tokentoken"] {
            assert!(!same(other.as_bytes(), b"token"), "{other}");
        }
    }
}
