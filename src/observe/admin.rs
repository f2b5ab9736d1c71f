//! The admin listener (contract section 7): what an orchestrator, Prometheus and a puzzled operator ask.
//!
//! Never on a public listener; so it may say why something is not ready, but still no secret.

mod live;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderValue, Method, Response, StatusCode, header};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;
use serde::Serialize;
use serde_json::json;

use crate::edge;
use crate::reject::title;
use crate::request::{RequestId, X_REQUEST_ID};

/// What the listener can be asked about; [`crate::gateway::Gateway`] answers.
pub trait AdminState: Send + Sync + 'static {
    fn readiness(&self) -> Readiness;
    /// The text exposition format, or why there is none.
    fn metrics(&self) -> Result<Vec<u8>, String>;
    fn issuers(&self) -> Vec<IssuerState>;
    fn upstreams(&self) -> Vec<UpstreamState>;
    fn routes(&self) -> Vec<RouteState>;
}

/// What `/readyz` says.
#[derive(Debug, Clone, Serialize)]
pub struct Readiness {
    pub issuers: Vec<IssuerReadiness>,
    /// Told, but not decisive: a gateway whose pools are all down still answers better than a closed port.
    pub upstreams: Vec<UpstreamReadiness>,
    pub shutting_down: bool,
}

#[derive(Debug, Clone, Serialize)]
pub struct IssuerReadiness {
    pub name: String,
    pub ready: bool,
    /// Usable signing keys held.
    pub keys: usize,
    /// Since the issuer gave them.
    pub keys_age_seconds: Option<u64>,
    /// They are what an earlier process left.
    pub from_snapshot: bool,
    /// `open` while the issuer is not asked about tokens because it does not answer, else `closed`; `None` if it never
    /// is asked. Told, but not decisive.
    pub introspection_breaker: Option<&'static str>,
    /// Why not ready.
    pub reason: Option<String>,
    /// What is wrong although ready.
    pub warning: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct UpstreamReadiness {
    pub name: String,
    pub ready: bool,
    pub peers: usize,
    pub reason: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct IssuerState {
    pub name: String,
    pub issuer: String,
    pub audience: Vec<String>,
    pub algorithms: Vec<&'static str>,
    pub ready: bool,
    pub key_count: usize,
    pub keys: Vec<KeyState>,
    pub from_snapshot: bool,
    pub introspection_breaker: Option<&'static str>,
    pub reason: Option<String>,
    pub warning: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct KeyState {
    pub kid: String,
    pub algorithms: Vec<&'static str>,
    pub age_seconds: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct UpstreamState {
    pub name: String,
    pub in_flight: i64,
    pub max_in_flight: Option<usize>,
    pub tls: bool,
    pub peers: Vec<PeerState>,
}

#[derive(Debug, Clone, Serialize)]
pub struct PeerState {
    pub address: String,
    pub weight: u32,
    /// The values of the metric label `state`.
    pub state: &'static str,
}

#[derive(Debug, Clone, Serialize)]
pub struct RouteState {
    pub name: String,
    pub host: Option<String>,
    pub path: String,
    pub exact: bool,
    /// Empty is any.
    pub methods: Vec<String>,
    pub upstream: String,
    /// `None`: public.
    pub demands: Option<Demands>,
}

/// What a route asks of a token; what is empty asks nothing.
#[derive(Debug, Clone, Serialize)]
pub struct Demands {
    /// Never empty: which issuers' tokens the route takes.
    pub issuers: Vec<String>,
    pub clients: Vec<String>,
    pub scopes: Vec<String>,
    pub any_scope: Vec<String>,
    pub realm_roles: Vec<String>,
    pub any_realm_role: Vec<String>,
    pub client_roles: std::collections::BTreeMap<String, Vec<String>>,
}

impl Readiness {
    pub fn ready(&self) -> bool {
        !self.shutting_down && self.issuers.iter().all(|issuer| issuer.ready)
    }
}

/// The application of the admin listener.
pub struct AdminApp<S> {
    state: Arc<S>,
}

/// How long a client may take over a body that nobody asked for, before its connection is closed.
const DRAIN: Duration = Duration::from_secs(2);
/// When to ask `/readyz` again.
const RETRY_AFTER: &str = "1";

const JSON: &str = "application/json";
const PROBLEM: &str = "application/problem+json";
/// Prometheus's text format.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

impl<S: AdminState> AdminApp<S> {
    pub fn new(state: Arc<S>) -> Self {
        AdminApp { state }
    }

    /// The answer to a `GET`; a `HEAD` gets the same without its body.
    fn answer(&self, method: &Method, path: &str, id: &RequestId) -> Response<Vec<u8>> {
        type Page<S> = fn(&S, &RequestId) -> Response<Vec<u8>>;
        let page: Page<S> = match path {
            "/livez" => |_, _| with_body(StatusCode::OK, JSON, &json!({ "status": "alive" })),
            "/readyz" => |state, _| readyz(&state.readiness()),
            "/metrics" => |state, id| match state.metrics() {
                Ok(text) => response(StatusCode::OK, METRICS, text),
                Err(error) => {
                    log::error!("cannot expose the metrics: {error}");
                    let detail = "The metrics could not be written.";
                    problem(StatusCode::INTERNAL_SERVER_ERROR, detail, id)
                }
            },
            "/issuers" => |state, _| with_body(StatusCode::OK, JSON, &state.issuers()),
            "/upstreams" => |state, _| with_body(StatusCode::OK, JSON, &state.upstreams()),
            "/routes" => |state, _| with_body(StatusCode::OK, JSON, &state.routes()),
            _ => return problem(StatusCode::NOT_FOUND, "There is nothing at this path.", id),
        };
        if *method != Method::GET && *method != Method::HEAD {
            let detail = "This path does not take this method.";
            let mut answer = problem(StatusCode::METHOD_NOT_ALLOWED, detail, id);
            let allow = HeaderValue::from_static("GET, HEAD");
            answer.headers_mut().insert(header::ALLOW, allow);
            return answer;
        }
        page(&self.state, id)
    }
}

#[async_trait]
impl<S: AdminState> ServeHttp for AdminApp<S> {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        edge::head_read(session);
        session.set_total_drain_timeout(Some(DRAIN));
        let head = session.req_header();
        let id = RequestId::of(&head.headers);
        let mut answer = self.answer(&head.method, head.uri.path(), &id);
        let length = HeaderValue::from(answer.body().len());
        if head.method == Method::HEAD {
            answer.body_mut().clear();
        }
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_LENGTH, length);
        let no_store = HeaderValue::from_static("no-store");
        headers.insert(header::CACHE_CONTROL, no_store);
        headers.insert(X_REQUEST_ID, id.value().clone());
        answer
    }
}

fn readyz(readiness: &Readiness) -> Response<Vec<u8>> {
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
    let mut answer = with_body(status, JSON, &body);
    if !ready {
        let seconds = HeaderValue::from_static(RETRY_AFTER);
        answer.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    answer
}

fn problem(status: StatusCode, detail: &str, id: &RequestId) -> Response<Vec<u8>> {
    let body = json!({
        "type": "about:blank",
        "title": title(status.as_u16()),
        "status": status.as_u16(),
        "detail": detail,
        "request_id": id.as_str(),
    });
    with_body(status, PROBLEM, &body)
}

fn with_body(status: StatusCode, kind: &'static str, body: &impl Serialize) -> Response<Vec<u8>> {
    // Plain data with string keys always serialises.
    response(status, kind, serde_json::to_vec(body).unwrap_or_default())
}

fn response(status: StatusCode, kind: &'static str, body: Vec<u8>) -> Response<Vec<u8>> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests;
