//! What is only looked at: health, metrics and the live state.

use http::StatusCode;
use serde::Serialize;
use serde_json::json;

use super::answer::{self, Answer, again_later, problem, response};
use super::call::Page;
use super::{AdminState, Readiness};
use crate::request::RequestId;

/// Prometheus's text format.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) fn answer<S: AdminState>(state: &S, page: Page, id: &RequestId) -> Answer {
    let ok = StatusCode::OK;
    match page {
        Page::Livez => answer::json(ok, &json!({ "status": "alive" })),
        Page::Readyz => readyz(&state.readiness()),
        Page::Metrics => match state.metrics() {
            Ok(text) => response(ok, METRICS, text),
            Err(error) => {
                log::error!("cannot expose the metrics: {error}");
                let detail = "The metrics could not be written.";
                problem(StatusCode::INTERNAL_SERVER_ERROR, detail, id)
            }
        },
        Page::Issuers => answer::json(ok, &state.issuers()),
        Page::Upstreams => answer::json(ok, &state.upstreams()),
        Page::Routes => answer::json(ok, &state.routes()),
    }
}

fn readyz(readiness: &Readiness) -> Answer {
    #[derive(Serialize)]
    struct Body<'a> {
        status: &'static str,
        #[serde(flatten)]
        readiness: &'a Readiness,
    }
    let ready = readiness.ready();
    let (status, word) = match (ready, readiness.shutting_down) {
        (true, _) => (StatusCode::OK, "ready"),
        (false, true) => (StatusCode::SERVICE_UNAVAILABLE, "shutting_down"),
        (false, false) => (StatusCode::SERVICE_UNAVAILABLE, "not_ready"),
    };
    let body = Body {
        status: word,
        readiness,
    };
    let answer = answer::json(status, &body);
    match ready {
        true => answer,
        false => again_later(answer),
    }
}
