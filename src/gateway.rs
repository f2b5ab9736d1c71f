//! `impl ProxyHttp`: the table of contents of a request's life. Each hook calls one step; no policy stands here.

mod attempt;
mod judge;
mod life;
mod preflight;
mod record;
mod tunnel;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderMap;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use pingora_proxy::{FailToProxy, ProxyHttp, Session};

use judge::Way;
#[cfg(any(test, fuzzing))]
pub(crate) use judge::allowed_in_every_reading;
pub use life::Life;

use crate::clock::Clock;
use crate::config::plan::Plan;
use crate::edge;
use crate::forward::{self, Stripper};
use crate::limit::Limiters;
use crate::observe::access_log::AccessLog;
use crate::observe::metrics::Metrics;
use crate::reject::{self, Rejection};
use crate::route::RouteTable;
use crate::server::drain::Drain;
use crate::upstream::Upstreams;
use crate::verify::Verifier;

/// One generation: all that follows from one plan, and what every plan shares. A request begins and ends with the
/// same; the next plan has its own, with what is unchanged in both.
pub struct Gateway {
    pub plan: Plan,
    pub routes: RouteTable,
    pub verifier: Verifier,
    pub limiters: Limiters,
    pub upstreams: Upstreams,
    pub stripper: Stripper,
    pub metrics: Arc<Metrics>,
    pub access_log: Arc<AccessLog>,
    pub drain: Drain,
    pub clock: Clock,
}

/// Where the generation is that new requests begin with. Reading it is one atomic load.
pub struct Current(ArcSwap<Gateway>);

impl Current {
    pub fn new(gateway: Gateway) -> Arc<Self> {
        Arc::new(Current(ArcSwap::from_pointee(gateway)))
    }

    pub fn gateway(&self) -> Arc<Gateway> {
        self.0.load_full()
    }

    /// The next one from now on. Requests in flight end with the one that they began with.
    pub fn replace(&self, next: Arc<Gateway>) {
        self.0.store(next);
    }
}

/// One listener's Pingora application.
pub struct Proxy {
    pub current: Arc<Current>,
    /// Index into [`Plan::listeners`].
    pub index: usize,
}

/// The gateway as one listener sees it.
pub struct Listener<'g> {
    pub gateway: &'g Gateway,
    /// Index into [`Plan::listeners`].
    pub index: usize,
}

/// What Pingora carries from hook to hook.
pub struct Context {
    /// What is current when the request begins.
    gateway: Arc<Gateway>,
    life: Life,
}

impl Proxy {
    fn parts<'c>(&self, context: &'c mut Context) -> (Listener<'c>, &'c mut Life) {
        let listener = Listener {
            gateway: &context.gateway,
            index: self.index,
        };
        (listener, &mut context.life)
    }
}

#[async_trait]
impl ProxyHttp for Proxy {
    /// In a box, because Pingora's futures move it five times for each request.
    type CTX = Box<Context>;

    fn new_ctx(&self) -> Box<Context> {
        let gateway = self.current.gateway();
        let life = Life::begin(&gateway);
        Box::new(Context { gateway, life })
    }

    /// None: Pingora's own would be asked about each request, and compress nothing.
    fn init_downstream_modules(&self, _: &mut pingora::modules::http::HttpModules) {}

    /// The head is here: hand the connection's deadlines over from the edge.
    async fn early_request_filter(
        &self,
        session: &mut Session,
        context: &mut Box<Context>,
    ) -> Result<()> {
        let (listener, life) = self.parts(context);
        edge::head_read(session);
        life.name(session.req_header());
        life::set_deadlines(session, &listener.gateway.plan.limits);
        life::heed(session);
        Ok(())
    }

    /// Everything that may refuse, in the contract's order. `true`: answered.
    async fn request_filter(
        &self,
        session: &mut Session,
        context: &mut Box<Context>,
    ) -> Result<bool> {
        let (listener, life) = self.parts(context);
        match judge::judge(&listener, session, life).await {
            Ok(Way::Upstream) => Ok(false),
            Ok(Way::Preflight(method)) => {
                preflight::answer(&listener, session, life, &method).await?;
                Ok(true)
            }
            Err(rejection) => {
                life.rejected(rejection);
                listener.answer(session, life, rejection).await?;
                Ok(true)
            }
        }
    }

    /// Only a permit opens the way to a peer.
    async fn upstream_peer(
        &self,
        session: &mut Session,
        context: &mut Box<Context>,
    ) -> Result<Box<HttpPeer>> {
        let (listener, life) = self.parts(context);
        if let Some(pause) = life.pause(listener.gateway) {
            tokio::time::sleep(pause).await;
        }
        life.choose_peer(&listener, session)
            .map_err(|rejection| life.stop(rejection))
    }

    async fn connected_to_upstream(
        &self,
        _: &mut Session,
        _reused: bool,
        peer: &HttpPeer,
        _fd: std::os::unix::io::RawFd,
        _: Option<&pingora::protocols::Digest>,
        context: &mut Box<Context>,
    ) -> Result<()> {
        context.life.connected(peer);
        Ok(())
    }

    /// After Pingora has dropped what `Connection` names: strip, then write the identity.
    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        head: &mut RequestHeader,
        context: &mut Box<Context>,
    ) -> Result<()> {
        let (listener, life) = self.parts(context);
        let gateway = listener.gateway;
        let Ok((route, permit, target)) = life.permitted(&gateway.plan) else {
            return Err(life.stop(Rejection::NoPermit));
        };
        let caller = life::caller(&listener, session);
        let ids = (&life.request_id, &life.trace);
        forward::request(head, &gateway.stripper, route, permit, target, caller, ids)?;
        life.agree_on_version(gateway, session, head).await
    }

    async fn request_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        context: &mut Box<Context>,
    ) -> Result<()> {
        // Pingora issue #935: an empty final chunk would end the upstream's message twice.
        if end && body.as_ref().is_some_and(Bytes::is_empty) {
            *body = None;
        }
        let length = body.as_ref().map_or(0, Bytes::len);
        let (listener, life) = self.parts(context);
        life.body_arrived(length, end, &listener.gateway.clock)
            // The caller's fault: of all others Pingora takes no notice while it waits for an HTTP/2 peer.
            .map_err(|rejection| life.stop(rejection).into_down())
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        context: &mut Box<Context>,
    ) -> Result<()> {
        let (listener, life) = self.parts(context);
        life.understood(listener.gateway, session, head)?;
        life.grpc_ended(&head.headers);
        life.answered(listener.gateway, session, head.status)
    }

    fn upstream_response_body_filter(
        &self,
        _: &mut Session,
        _: &mut Option<Bytes>,
        end: bool,
        context: &mut Box<Context>,
    ) -> Result<Option<Duration>> {
        context.life.answer_whole |= end;
        Ok(None)
    }

    fn upstream_response_trailer_filter(
        &self,
        _: &mut Session,
        trailers: &mut HeaderMap,
        context: &mut Box<Context>,
    ) -> Result<()> {
        context.life.answer_whole = true;
        context.life.grpc_ended(trailers);
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        context: &mut Box<Context>,
    ) -> Result<()> {
        let (listener, life) = self.parts(context);
        let route = life.route.map(|id| listener.gateway.plan.route(id));
        forward::without_chunks(head, session.req_header().version);
        if let Some(nonce) = &life.nonce {
            forward::nonce(head, nonce)?;
        }
        forward::response(head, route.map(|r| &r.response_headers), &life.request_id)?;
        if tunnel::switches(head.status) {
            forward::switched(head)?;
        }
        match route.and_then(|route| route.cors.as_ref()) {
            Some(cors) => forward::cross_origin(head, cors, session.req_header()),
            None => Ok(()),
        }
    }

    /// Nothing was sent yet: another peer may take any method.
    fn fail_to_connect(
        &self,
        _: &mut Session,
        _: &HttpPeer,
        context: &mut Box<Context>,
        mut error: Box<Error>,
    ) -> Box<Error> {
        let (listener, life) = self.parts(context);
        error.set_retry(life.may_connect_again(listener.gateway));
        error
    }

    /// Something went out, or may have.
    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        context: &mut Box<Context>,
        reused: bool,
    ) -> Box<Error> {
        let (listener, life) = self.parts(context);
        life.broke_off(listener.gateway, session, &mut error, reused);
        error
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        context: &mut Box<Context>,
    ) -> FailToProxy {
        let (listener, life) = self.parts(context);
        let rejection = life.failed(error, session.is_body_done());
        let status = rejection.map_or(0, |rejection| rejection.answer().status);
        // What was sent before an answer is none.
        let answered = session
            .response_written()
            .is_some_and(|head| !attempt::is_interim(head.status));
        // Pingora ends the connection after this, and the caller must not send its next request on it.
        session.set_keepalive(None);
        if let Some(rejection) = rejection
            && !answered
            && let Err(e) = listener.answer(session, life, rejection).await
        {
            log::debug!("the caller left before its answer: {}", e.etype().as_str());
        }
        FailToProxy {
            error_code: status,
            can_reuse_downstream: false,
        }
    }

    /// Metrics and the access log, once for each request however it ended.
    async fn logging(&self, session: &mut Session, _: Option<&Error>, context: &mut Box<Context>) {
        let (listener, life) = self.parts(context);
        record::finish(life, &listener, session);
    }

    /// Pingora's own has the query in it.
    fn request_summary(&self, session: &Session, context: &Box<Context>) -> String {
        format!(
            "{} {}",
            session.req_header().method,
            context.life.request_id.as_str()
        )
    }

    /// The access log has every failure, with its reason.
    fn suppress_error_log(&self, _: &Session, _: &Box<Context>, _: &Error) -> bool {
        true
    }
}

impl Listener<'_> {
    async fn answer(
        &self,
        session: &mut Session,
        life: &mut Life,
        rejection: Rejection,
    ) -> Result<()> {
        if life.grpc {
            life.told = Some(rejection.answer().status);
            life.grpc_status = Some(reject::grpc_status(rejection));
        }
        life.drop_what_follows(session, rejection);
        let plan = &self.gateway.plan;
        let route = life.route.map(|id| plan.route(id));
        let fallback = match rejection {
            Rejection::UpstreamOpen => {
                let pool = life.pool.map(|id| plan.upstream(id));
                pool.and_then(|pool| pool.fallback.as_ref())
            }
            _ => None,
        };
        let circumstances = reject::Circumstances {
            route,
            fallback,
            scheme: life.scheme,
            nonce: life.nonce.as_ref(),
            request_id: life.request_id.as_str(),
            allow: life.allow.as_ref(),
            retry_after: life.retry_after,
            grpc: life.grpc,
        };
        reject::write(session, rejection, circumstances).await
    }
}

/// A rejection as Pingora's error, for hooks that cannot answer themselves: [`Life::failed`] answers it.
fn refuse(rejection: Rejection) -> Box<Error> {
    Error::explain(
        ErrorType::CustomCode("rejected", rejection.answer().status),
        rejection.label(),
    )
}

/// How long an unfinished request body may keep us waiting between two reads.
const BODY_READ_TIMEOUT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
