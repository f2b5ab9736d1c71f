//! The admin listener (contract section 7): what an orchestrator, Prometheus and a puzzled operator ask, what an
//! issuer sends, and what an operator does in an emergency.
//!
//! Never on a public listener; so it may say why something is not ready, but still no secret. What changes something
//! is proved: by the issuer's signature, or by `admin.token`.

mod answer;
mod body;
mod call;
mod guard;
mod issuers;
mod live;
mod pages;
mod revocations;
mod state;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderValue, Method, Response, StatusCode, header};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;

pub use state::{
    Demands, IssuerReadiness, IssuerState, KeyState, NotBeforeState, PeerState, Pools, Readiness,
    RouteState, ShareState, UpstreamReadiness, UpstreamState,
};

use self::answer::{Answer, problem};
use self::call::Call;
use self::guard::Guard;
use crate::clock::Clock;
use crate::config::plan::IssuerId;
use crate::config::secret::Word;
use crate::edge;
use crate::request::{RequestId, X_REQUEST_ID};
use crate::verify::Unheard;
use crate::verify::revoked::Revocations;

/// What the listener can be asked about and told; [`crate::gateway::Gateway`] answers.
#[async_trait]
pub trait AdminState: Send + Sync + 'static {
    fn readiness(&self) -> Readiness;
    /// The text exposition format, or why there is none.
    fn metrics(&self) -> Result<Vec<u8>, String>;
    fn issuers(&self) -> Vec<IssuerState>;
    fn upstreams(&self) -> Vec<UpstreamState>;
    fn routes(&self) -> Vec<RouteState>;
    /// The configuration's names, in its order.
    fn issuer_names(&self) -> Vec<Arc<str>>;
    /// Fetches an issuer's keys; what came, if something did.
    async fn refresh(&self, issuer: IssuerId) -> Option<Vec<KeyState>>;
    async fn push_not_before(&self, issuer: IssuerId, message: &str) -> Result<(), Unheard>;
    async fn log_out(&self, issuer: IssuerId, token: &str) -> Result<(), Unheard>;
    fn revocations(&self) -> &Arc<Revocations>;
    fn clock(&self) -> &Clock;
}

/// The application of the admin listener.
pub struct AdminApp<S> {
    /// What is current: each call is answered by one generation of the gateway.
    state: Box<dyn Fn() -> Arc<S> + Send + Sync>,
    guard: Guard,
}

/// How long a client may take over a body that nobody asked for, before its connection is closed.
const DRAIN: Duration = Duration::from_secs(2);

impl<S: AdminState> AdminApp<S> {
    /// Without a token the calls that it guards are off.
    pub fn new(
        state: impl Fn() -> Arc<S> + Send + Sync + 'static,
        token: Option<Arc<Word>>,
    ) -> Self {
        AdminApp {
            state: Box::new(state),
            guard: Guard::new(token),
        }
    }

    async fn answer(&self, session: &mut ServerSession, id: &RequestId) -> Answer {
        let head = session.req_header();
        let (method, path) = (head.method.clone(), head.uri.path().to_owned());
        let Some(call) = Call::of(&path) else {
            return problem(StatusCode::NOT_FOUND, "There is nothing at this path.", id);
        };
        if call.is_guarded() && self.guard.is_off() {
            let detail = "This is off: `admin.token` is not configured.";
            return problem(StatusCode::NOT_FOUND, detail, id);
        }
        if !call.takes(&method) {
            let detail = "This path does not take this method.";
            let mut answer = problem(StatusCode::METHOD_NOT_ALLOWED, detail, id);
            let allow = HeaderValue::from_static(call.allow());
            answer.headers_mut().insert(header::ALLOW, allow);
            return answer;
        }
        if call.is_guarded()
            && let Err(refusal) = self.guard.admit(&session.req_header().headers).await
        {
            return refusal.answer(id);
        }
        let state = (self.state)();
        let state = &*state;
        match call {
            Call::Page(page) => pages::answer(state, page, id),
            Call::Refresh(issuer) => issuers::refresh(state, issuer, id).await,
            Call::Push(issuer) => issuers::push(state, issuer, session, id).await,
            Call::Logout(issuer) => issuers::logout(state, issuer, session, id).await,
            Call::Revocations if method == Method::POST => {
                revocations::add(state, session, id).await
            }
            Call::Revocations => revocations::list(state, id).await,
            Call::Revocation(name) => revocations::remove(state, name, id).await,
        }
    }
}

#[async_trait]
impl<S: AdminState> ServeHttp for AdminApp<S> {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        edge::head_read(session);
        session.set_total_drain_timeout(Some(DRAIN));
        let id = RequestId::of(&session.req_header().headers);
        let mut answer = self.answer(session, &id).await;
        let length = HeaderValue::from(answer.body().len());
        if session.req_header().method == Method::HEAD {
            answer.body_mut().clear();
        }
        let bodiless = answer.status() == StatusCode::NO_CONTENT;
        let headers = answer.headers_mut();
        // RFC 9110 section 8.6: never with a 204.
        if !bodiless {
            headers.insert(header::CONTENT_LENGTH, length);
        }
        let no_store = HeaderValue::from_static("no-store");
        headers.insert(header::CACHE_CONTROL, no_store);
        headers.insert(X_REQUEST_ID, id.value().clone());
        answer
    }
}

#[cfg(test)]
mod tests;
