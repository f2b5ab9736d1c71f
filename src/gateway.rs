//! `impl ProxyHttp`: the table of contents of a request's life. Each hook calls one step; no policy stands here.

mod attempt;
mod judge;
mod life;
mod preflight;
mod record;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
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

/// What all listeners share.
pub struct Gateway {
    pub plan: Plan,
    pub routes: RouteTable,
    pub verifier: Verifier,
    pub limiters: Limiters,
    pub upstreams: Upstreams,
    pub stripper: Stripper,
    pub metrics: Arc<Metrics>,
    pub access_log: AccessLog,
    pub drain: Drain,
    pub clock: Clock,
}

/// The gateway as one listener sees it.
pub struct Listener {
    pub gateway: Arc<Gateway>,
    /// Index into [`Plan::listeners`].
    pub index: usize,
}

#[async_trait]
impl ProxyHttp for Listener {
    /// In a box, because Pingora's futures move it five times for each request.
    type CTX = Box<Life>;

    fn new_ctx(&self) -> Box<Life> {
        Box::new(Life::begin(&self.gateway))
    }

    /// The head is here: hand the connection's deadlines over from the edge.
    async fn early_request_filter(
        &self,
        session: &mut Session,
        life: &mut Box<Life>,
    ) -> Result<()> {
        edge::head_read(session);
        life.name(&session.req_header().headers);
        life::set_deadlines(session, &self.gateway.plan.limits);
        Ok(())
    }

    /// Everything that may refuse, in the contract's order. `true`: answered.
    async fn request_filter(&self, session: &mut Session, life: &mut Box<Life>) -> Result<bool> {
        match judge::judge(self, session, life).await {
            Ok(Way::Upstream) => Ok(false),
            Ok(Way::Preflight(method)) => {
                preflight::answer(self, session, life, &method).await?;
                Ok(true)
            }
            Err(rejection) => {
                life.rejected(rejection);
                self.answer(session, life, rejection).await?;
                Ok(true)
            }
        }
    }

    /// Only a permit opens the way to a peer.
    async fn upstream_peer(
        &self,
        session: &mut Session,
        life: &mut Box<Life>,
    ) -> Result<Box<HttpPeer>> {
        if let Some(pause) = life.pause(&self.gateway) {
            tokio::time::sleep(pause).await;
        }
        life.choose_peer(self, session)
            .map_err(|rejection| life.stop(rejection))
    }

    async fn connected_to_upstream(
        &self,
        _: &mut Session,
        _reused: bool,
        peer: &HttpPeer,
        _fd: std::os::unix::io::RawFd,
        _: Option<&pingora::protocols::Digest>,
        life: &mut Box<Life>,
    ) -> Result<()> {
        life.connected(peer);
        Ok(())
    }

    /// After Pingora has dropped what `Connection` names: strip, then write the identity.
    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        head: &mut RequestHeader,
        life: &mut Box<Life>,
    ) -> Result<()> {
        if let Err(rejection) = life.permitted(&self.gateway.plan) {
            return Err(life.stop(rejection));
        }
        let (route, permit, target) = life.permitted(&self.gateway.plan).map_err(refuse)?;
        let caller = life::caller(self, session);
        let ids = (&life.request_id, &life.trace);
        forward::request(
            head,
            &self.gateway.stripper,
            route,
            permit,
            target,
            caller,
            ids,
        )
    }

    async fn request_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        life: &mut Box<Life>,
    ) -> Result<()> {
        // Pingora issue #935: an empty final chunk would end the upstream's message twice.
        if end && body.as_ref().is_some_and(Bytes::is_empty) {
            *body = None;
        }
        let length = body.as_ref().map_or(0, Bytes::len);
        life.body_arrived(length, end, self.gateway.clock.monotonic())
            .map_err(|rejection| life.stop(rejection))
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        life: &mut Box<Life>,
    ) -> Result<()> {
        life.answered(&self.gateway, session, head.status)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        life: &mut Box<Life>,
    ) -> Result<()> {
        let route = life.route.map(|id| self.gateway.plan.route(id));
        forward::without_chunks(head, session.req_header().version);
        forward::response(head, route.map(|r| &r.response_headers), &life.request_id)?;
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
        life: &mut Box<Life>,
        mut error: Box<Error>,
    ) -> Box<Error> {
        error.set_retry(life.may_connect_again(&self.gateway));
        error
    }

    /// Something went out, or may have.
    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        life: &mut Box<Life>,
        reused: bool,
    ) -> Box<Error> {
        life.broke_off(&self.gateway, session, &mut error, reused);
        error
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        life: &mut Box<Life>,
    ) -> FailToProxy {
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
            && let Err(e) = self.answer(session, life, rejection).await
        {
            log::debug!("the caller left before its answer: {}", e.etype().as_str());
        }
        FailToProxy {
            error_code: status,
            can_reuse_downstream: false,
        }
    }

    /// Metrics and the access log, once for each request however it ended.
    async fn logging(&self, session: &mut Session, _: Option<&Error>, life: &mut Box<Life>) {
        record::finish(life, self, session);
    }

    /// Pingora's own has the query in it.
    fn request_summary(&self, session: &Session, life: &Box<Life>) -> String {
        format!(
            "{} {}",
            session.req_header().method,
            life.request_id.as_str()
        )
    }

    /// The access log has every failure, with its reason.
    fn suppress_error_log(&self, _: &Session, _: &Box<Life>, _: &Error) -> bool {
        true
    }
}

impl Listener {
    async fn answer(&self, session: &mut Session, life: &Life, rejection: Rejection) -> Result<()> {
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
            request_id: life.request_id.as_str(),
            allow: life.allow.as_ref(),
            retry_after: life.retry_after,
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
