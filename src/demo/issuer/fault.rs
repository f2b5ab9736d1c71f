//! Ways in which an issuer goes wrong.

use std::time::Duration;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use super::protocol::Answer;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This status with a plain text, as load shedding and proxies answer.
    Status(u16),
    /// 200 with a page: the login wall of a proxy.
    Html,
    /// The first half of the honest JSON, in sound HTTP.
    Truncated,
    /// `{"keys":[]}`
    EmptySet,
    /// No answer, ever.
    Hang,
    /// The honest answer, this much later.
    Slow(Duration),
    /// 302 to where the honest answer is: who follows, gets it.
    Redirect,
    /// The honest JSON behind this many blanks.
    Oversized(usize),
    /// Another `issuer` in an otherwise honest document.
    WrongIssuer,
    /// 200 with this body.
    RawBody(String),
}

/// The query that leads past [`Fault::Redirect`].
pub(super) const FOLLOWED: &str = "followed=1";

impl Fault {
    /// What the caller gets instead of `honest`; `path` is the one it asked for.
    pub(super) async fn spoil(self, mut honest: Answer, path: &str) -> Response {
        let json = [(header::CONTENT_TYPE, "application/json")];
        match self {
            Fault::Status(code) => {
                let status = StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_GATEWAY);
                (status, "out of order").into_response()
            }
            Fault::Html => {
                let page = "<!DOCTYPE html><title>Sign in</title><h1>Sign in</h1>";
                ([(header::CONTENT_TYPE, "text/html")], page).into_response()
            }
            Fault::Truncated => (json, first_half(honest)).into_response(),
            Fault::EmptySet => (json, r#"{"keys":[]}"#).into_response(),
            Fault::Hang => std::future::pending().await,
            Fault::Slow(delay) => {
                tokio::time::sleep(delay).await;
                honest.into_response()
            }
            Fault::Redirect => {
                let location = format!("{path}?{FOLLOWED}");
                (StatusCode::FOUND, [(header::LOCATION, location)]).into_response()
            }
            Fault::Oversized(blanks) => {
                let body = " ".repeat(blanks) + &honest.text();
                (json, body).into_response()
            }
            Fault::WrongIssuer => {
                if let Some(issuer) = honest.member_mut("issuer") {
                    *issuer = "http://127.0.0.1:1/realms/other".into();
                }
                honest.into_response()
            }
            Fault::RawBody(body) => (json, body).into_response(),
        }
    }
}

fn first_half(answer: Answer) -> String {
    let text = answer.text();
    // JSON from serde_json: the realm's names are ASCII, so any byte is a boundary; if not, nothing is half enough.
    text.get(..text.len() / 2).unwrap_or_default().to_owned()
}
