//! How the admin listener puts its answers.

use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use serde_json::json;

use crate::reject::title;
use crate::request::RequestId;

pub(super) type Answer = Response<Vec<u8>>;

const JSON: &str = "application/json";
const PROBLEM: &str = "application/problem+json";

/// RFC 9457.
pub(super) fn problem(status: StatusCode, detail: &str, id: &RequestId) -> Answer {
    let body = json!({
        "type": "about:blank",
        "title": title(status.as_u16()),
        "status": status.as_u16(),
        "detail": detail,
        "request_id": id.as_str(),
    });
    with_body(status, PROBLEM, &body)
}

/// The same for something that may be tried again.
pub(super) fn problem_for_now(detail: &str, id: &RequestId) -> Answer {
    again_later(problem(StatusCode::SERVICE_UNAVAILABLE, detail, id))
}

pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Answer {
    with_body(status, JSON, body)
}

pub(super) fn no_content() -> Answer {
    let mut answer = Response::new(Vec::new());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer
}

/// When to ask again.
pub(super) fn again_later(mut answer: Answer) -> Answer {
    let seconds = HeaderValue::from_static("1");
    answer.headers_mut().insert(header::RETRY_AFTER, seconds);
    answer
}

pub(super) fn response(status: StatusCode, kind: &'static str, body: Vec<u8>) -> Answer {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn with_body(status: StatusCode, kind: &'static str, body: &impl Serialize) -> Answer {
    // Plain data with string keys always serialises.
    response(status, kind, serde_json::to_vec(body).unwrap_or_default())
}
