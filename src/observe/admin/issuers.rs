//! What is told about an issuer: by the issuer itself, signed, or by an operator who wants its keys now.

use http::{StatusCode, header};
use pingora::protocols::http::ServerSession;
use serde_json::json;

use super::answer::{self, Answer, no_content, problem, problem_for_now};
use super::{AdminState, body};
use crate::config::plan::IssuerId;
use crate::request::RequestId;
use crate::verify::Unheard;

/// `POST /issuers/NAME/keys/refresh`.
pub(super) async fn refresh<S: AdminState>(state: &S, name: &str, id: &RequestId) -> Answer {
    let Some(issuer) = named(state, name) else {
        return no_issuer(id);
    };
    match state.refresh(issuer).await {
        Some(keys) => answer::json(StatusCode::OK, &json!({ "issuer": name, "keys": keys })),
        None => {
            let detail = "No usable keys came; those that are held stay. The log says why.";
            problem(StatusCode::BAD_GATEWAY, detail, id)
        }
    }
}

/// `POST /issuers/NAME/k_push_not_before`: Keycloak's push, a bare JWS as text.
pub(super) async fn push<S: AdminState>(
    state: &S,
    name: &str,
    session: &mut ServerSession,
    id: &RequestId,
) -> Answer {
    let Some(issuer) = named(state, name) else {
        return no_issuer(id);
    };
    let body = match body::read(session).await {
        Ok(body) => body,
        Err(fault) => return fault.answer(id),
    };
    // What is not text is no JWS.
    let message = std::str::from_utf8(&body).unwrap_or_default();
    match state.push_not_before(issuer, message).await {
        Ok(()) => no_content(),
        Err(Unheard::Refused(_)) => {
            let detail = "This is no push for this gateway. The log says why.";
            problem(StatusCode::BAD_REQUEST, detail, id)
        }
        Err(other) => not_heard(&other, id),
    }
}

/// `POST /issuers/NAME/backchannel-logout`: OpenID Connect Back-Channel Logout 1.0 sections 2.5 to 2.8.
pub(super) async fn logout<S: AdminState>(
    state: &S,
    name: &str,
    session: &mut ServerSession,
    id: &RequestId,
) -> Answer {
    let kind = session.req_header().headers.get(header::CONTENT_TYPE);
    let is_form = kind.is_some_and(|kind| is_form(kind.as_bytes()));
    let Some(issuer) = named(state, name) else {
        return no_issuer(id);
    };
    let body = match body::read(session).await {
        Ok(body) => body,
        Err(fault) => return fault.answer(id),
    };
    let Some(token) = only_token(&body).filter(|_| is_form) else {
        return invalid_request("a form with one logout_token is needed");
    };
    match state.log_out(issuer, &token).await {
        Ok(()) => answer::json(StatusCode::OK, &json!({})),
        Err(Unheard::Refused(_)) => invalid_request("the logout token is not valid here"),
        Err(other) => not_heard(&other, id),
    }
}

fn named<S: AdminState>(state: &S, name: &str) -> Option<IssuerId> {
    let names = state.issuer_names();
    let place = names.iter().position(|known| **known == *name);
    place.map(IssuerId)
}

fn no_issuer(id: &RequestId) -> Answer {
    problem(
        StatusCode::NOT_FOUND,
        "There is no issuer of this name.",
        id,
    )
}

/// What is neither good nor bad.
fn not_heard(unheard: &Unheard, id: &RequestId) -> Answer {
    match unheard {
        Unheard::Off(why) => {
            let detail = format!("This is off for this issuer: {why}.");
            problem(StatusCode::NOT_FOUND, &detail, id)
        }
        Unheard::Unwritten => {
            let detail = "It is in force until the gateway stops, but could not be written to \
                          `revocations.file`. The log says why.";
            problem(StatusCode::INTERNAL_SERVER_ERROR, detail, id)
        }
        Unheard::Full => problem_for_now("There is no place to keep it. The log says why.", id),
        Unheard::Unjudged(_) | Unheard::Refused(_) => {
            problem_for_now("It could not be checked just now.", id)
        }
    }
}

/// Section 2.8: a 400 says so in OAuth's words.
fn invalid_request(why: &str) -> Answer {
    let body = json!({ "error": "invalid_request", "error_description": why });
    answer::json(StatusCode::BAD_REQUEST, &body)
}

fn is_form(kind: &[u8]) -> bool {
    const FORM: &[u8] = b"application/x-www-form-urlencoded";
    let kind = kind.split(|byte| *byte == b';').next();
    kind.is_some_and(|kind| kind.trim_ascii().eq_ignore_ascii_case(FORM))
}

/// Other fields are ignored, as section 2.5 demands; two tokens are not chosen between.
fn only_token(body: &[u8]) -> Option<String> {
    let mut tokens = form_urlencoded::parse(body).filter(|(name, _)| name == "logout_token");
    match (tokens.next(), tokens.next()) {
        (Some((_, token)), None) => Some(token.into_owned()),
        _ => None,
    }
}
