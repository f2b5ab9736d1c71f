//! What is known of one request while it lives.

use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode, Version, header};
use pingora::http::RequestHeader;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType};
use pingora_proxy::Session;

use super::tunnel::{self, Tunnel};
use super::{BODY_READ_TIMEOUT, Gateway, Listener, refuse};
use crate::authorize::Permit;
use crate::clock::Clock;
use crate::config::plan::{IssuerId, Limits, Plan, RouteId, RoutePlan, UpstreamId};
use crate::credential::Scheme;
use crate::edge::{self, BodyRate, DoubtfulChunks};
use crate::forward::Caller;
use crate::observe::metrics::{Judged, Metrics, ProofSource};
use crate::reject::Rejection;
use crate::request::{self, BodyLength, RequestId, Target, Trace};
use crate::server::drain::Active;
use crate::upstream::{AtPeer, InFlight, Tried};
use crate::verify::{Fault, Principal, Source, Standing, Verdict};

/// The context that Pingora carries from hook to hook. What was not learned yet is `None`, and every step that needs
/// it refuses without it.
pub struct Life {
    pub(super) started: Duration,
    pub(super) request_id: RequestId,
    pub(super) trace: Trace,
    pub(super) target: Option<Target>,
    pub(super) route: Option<RouteId>,
    pub(super) allow: Option<HeaderValue>,
    pub(super) retry_after: Option<u32>,
    pub(super) principal: Option<Principal>,
    pub(super) permit: Option<Permit>,
    /// The route's pool, or the one that was drawn from its split.
    pub(super) pool: Option<UpstreamId>,
    pub(super) in_flight: Option<InFlight>,
    pub(super) body: Body,
    /// How the token was sent.
    pub(super) scheme: Option<Scheme>,
    /// What the client's next proof needs.
    pub(super) nonce: Option<HeaderValue>,
    pub(super) issuer: Option<IssuerId>,
    pub(super) proof: Option<Source>,
    pub(super) peer: Option<SocketAddr>,
    pub(super) answered_at: Option<Duration>,
    /// The peer's answer.
    pub(super) status: Option<StatusCode>,
    /// Interim answers of the peer.
    pub(super) interims: u32,
    pub(super) rejection: Option<Rejection>,
    /// The caller did not take its whole answer.
    pub(super) caller_gone: bool,
    /// The peer that has the request.
    pub(super) chosen: Option<AtPeer>,
    pub(super) tried: Tried,
    /// The last attempt failed at a service, and the next one shall wait a moment.
    pub(super) again: bool,
    /// The caller speaks gRPC.
    pub(super) grpc: bool,
    /// The status that the caller would have got if it did not.
    pub(super) told: Option<u16>,
    /// How its call ended, by the service's word or ours.
    pub(super) grpc_status: Option<u8>,
    /// The peer's answer has come to its end.
    pub(super) answer_whole: bool,
    pub(super) tunnel: Tunnel,
    /// For how long the peer may be silent once it has answered a handshake with something else.
    pub(super) silence: Duration,
    /// The proof of the caller's token, for a tunnel.
    pub(super) standing: Option<Standing>,
    /// Holds the process open while it drains.
    _active: Active,
}

/// The request body so far.
#[derive(Debug, Default)]
pub(super) struct Body {
    pub(super) bytes: u64,
    limit: u64,
    rate: Option<BodyRate>,
    /// What the head says of it.
    pub(super) length: Option<BodyLength>,
}

impl Body {
    pub(super) fn limit(&mut self, bytes: u64, min_rate: u64) {
        self.limit = bytes;
        self.rate = (min_rate > 0).then(|| BodyRate::new(min_rate));
    }
}

impl Life {
    pub(super) fn begin(gateway: &Gateway) -> Self {
        Life {
            started: gateway.clock.monotonic(),
            request_id: RequestId::unknown(),
            trace: Trace::unknown(),
            target: None,
            route: None,
            allow: None,
            retry_after: None,
            principal: None,
            permit: None,
            pool: None,
            in_flight: None,
            body: Body::default(),
            scheme: None,
            nonce: None,
            issuer: None,
            proof: None,
            peer: None,
            answered_at: None,
            status: None,
            interims: 0,
            rejection: None,
            caller_gone: false,
            chosen: None,
            tried: Tried::default(),
            again: false,
            grpc: false,
            told: None,
            grpc_status: None,
            answer_whole: false,
            tunnel: Tunnel::default(),
            silence: Duration::ZERO,
            standing: None,
            _active: gateway.drain.enter(),
        }
    }

    /// The request's own name and trace, from the head or new.
    pub(super) fn name(&mut self, head: &RequestHeader) {
        self.request_id = RequestId::of(&head.headers);
        self.trace = Trace::of(&head.headers);
        self.grpc = request::is_grpc(head.version, &head.headers);
    }

    /// Notes why the request was refused; the first reason stays.
    pub(super) fn rejected(&mut self, rejection: Rejection) -> Rejection {
        *self.rejection.get_or_insert(rejection)
    }

    pub(super) fn judged(&mut self, metrics: &Metrics, verdict: &Verdict) {
        self.issuer = verdict.issuer;
        self.proof = Some(verdict.source);
        self.nonce.clone_from(&verdict.nonce);
        let source = match verdict.source {
            Source::Cache => ProofSource::Cache,
            Source::Local => ProofSource::Local,
            Source::Introspection => ProofSource::Introspection,
        };
        let outcome = match &verdict.outcome {
            Ok(_) => Judged::Ok,
            Err(Fault::Refused(_)) => Judged::Refused,
            Err(Fault::Unjudged(_)) => Judged::Unavailable,
        };
        metrics.judged(verdict.issuer, source, outcome);
    }

    /// What only a permitted request has; without a permit the answer is 500.
    pub(super) fn permitted<'a>(
        &'a self,
        plan: &'a Plan,
    ) -> Result<(&'a RoutePlan, &'a Permit, &'a Target), Rejection> {
        match (self.route, &self.permit, &self.target) {
            (Some(route), Some(permit), Some(target)) => Ok((plan.route(route), permit, target)),
            _ => Err(Rejection::NoPermit),
        }
    }

    pub(super) fn connected(&mut self, peer: &HttpPeer) {
        self.peer = peer._address.as_inet().copied();
    }

    pub(super) fn body_arrived(
        &mut self,
        bytes: usize,
        end: bool,
        clock: &Clock,
    ) -> Result<(), Rejection> {
        self.body.bytes = self.body.bytes.saturating_add(bytes as u64);
        if self.tunnel.is_open() {
            return Ok(());
        }
        if self.body.bytes > self.body.limit {
            return Err(Rejection::BodyTooLarge);
        }
        match &mut self.body.rate {
            // A body that is complete was fast enough, and a stream has no speed.
            Some(rate) if !end && !self.grpc => rate
                .feed(clock.monotonic(), bytes)
                .map_err(|_| Rejection::BodyTooSlow),
            _ => Ok(()),
        }
    }

    /// Reads a failure of the proxying itself; `None` when the caller is gone and nobody hears an answer. `body_done`:
    /// nothing more of the request was to come.
    pub(super) fn failed(&mut self, error: &Error, body_done: bool) -> Option<Rejection> {
        if self.rejection.is_some() {
            return self.rejection;
        }
        if let Some(over) = tunnel::over(error) {
            if self.tunnel.is_open() {
                self.tunnel = Tunnel::Over(over);
                return None;
            }
            return Some(self.rejected(Rejection::UpstreamTimeout));
        }
        use ErrorType as E;
        let rejection = match (error.esource(), error.etype()) {
            (ErrorSource::Downstream, E::ReadTimedout) => Rejection::BodyTooSlow,
            (ErrorSource::Downstream, _) if is_doubtful(error) => Rejection::AmbiguousFraming,
            (
                ErrorSource::Downstream,
                E::ReadError | E::WriteError | E::WriteTimedout | E::ConnectionClosed,
            )
            | (ErrorSource::Downstream, E::H2Error | E::InvalidH2) => {
                // Who has the end of its answer may leave: a caller of gRPC need not say all it wanted to.
                self.caller_gone = !self.answer_whole;
                return None;
            }
            (ErrorSource::Downstream, _) => Rejection::MalformedRequest,
            // The peer has nothing to answer yet. Pingora has no timeout of its own for bodies over HTTP/2.
            (ErrorSource::Upstream, E::ReadTimedout) if !body_done && !self.grpc => {
                Rejection::BodyTooSlow
            }
            (
                ErrorSource::Upstream,
                E::ConnectTimedout | E::ReadTimedout | E::WriteTimedout | E::TLSHandshakeTimedout,
            ) => Rejection::UpstreamTimeout,
            (
                ErrorSource::Upstream,
                E::ConnectRefused
                | E::ConnectNoRoute
                | E::ConnectError
                | E::SocketError
                | E::BindError
                | E::TLSHandshakeFailure
                | E::HandshakeError
                | E::InvalidCert,
            ) => Rejection::UpstreamConnect,
            (ErrorSource::Upstream, _) => Rejection::UpstreamFailed,
            (ErrorSource::Internal | ErrorSource::Unset, _) => Rejection::Internal,
        };
        Some(self.rejected(rejection))
    }

    /// The service says how the call has ended, in its trailers or in a head that is all there is.
    pub(super) fn grpc_ended(&mut self, fields: &HeaderMap) {
        if !self.grpc {
            return;
        }
        let said = fields
            .get("grpc-status")
            .and_then(|code| code.to_str().ok());
        if let Some(code) = said.and_then(|code| code.parse().ok()) {
            self.answer_whole = true;
            self.grpc_status = Some(code);
        }
    }

    /// Which pool was tried, if one was.
    pub(super) fn upstream(&self) -> Option<UpstreamId> {
        self.pool.filter(|_| self.chosen.is_some())
    }

    /// What stands behind a request with two readings may have two as well, and what was sent ahead into a tunnel is no
    /// request: neither is looked at, and the connection ends.
    pub(super) fn drop_what_follows(&self, session: &mut Session, rejection: Rejection) {
        let doubtful = matches!(
            rejection,
            Rejection::AmbiguousTarget | Rejection::DoubtfulHost | Rejection::MalformedRequest
        );
        if (doubtful || self.tunnel.is_asked()) && edge::asks_on(session) {
            session.set_keepalive(None);
        }
    }

    /// Notes a rejection in a hook that cannot answer itself.
    pub(super) fn stop(&mut self, rejection: Rejection) -> Box<Error> {
        refuse(self.rejected(rejection))
    }
}

/// The edge did not let the rest of a body pass.
fn is_doubtful(error: &Error) -> bool {
    let cause = error.root_cause().downcast_ref::<std::io::Error>();
    cause
        .and_then(std::io::Error::get_ref)
        .is_some_and(|inner| inner.is::<DoubtfulChunks>())
}

/// What each request may take; Pingora's own defaults are unlimited. How long the connection waits for the next one is
/// the edge's to say: Pingora is given a head when it is whole, and so waits for none.
pub(super) fn set_deadlines(session: &mut Session, limits: &Limits) {
    session.set_read_timeout(Some(BODY_READ_TIMEOUT));
    session.set_write_timeout(Some(limits.write_timeout));
}

/// What Pingora overlooks in a head. It reads the first `Connection` alone. And a caller of HTTP/1.0 knows no interim
/// answers: it gets none, and what it expects is not to be heeded (RFC 9110 sections 10.1.1 and 15.2).
pub(super) fn heed(session: &mut Session) {
    if says_close(&session.req_header().headers) {
        session.set_keepalive(None);
    }
    if session.req_header().version < Version::HTTP_11 {
        session.set_ignore_info_resp(true);
        session.req_header_mut().remove_header(&header::EXPECT);
    }
}

/// Whether the caller wants this to be the last request (RFC 9112 section 9.3).
fn says_close(headers: &HeaderMap) -> bool {
    let options = headers.get_all(header::CONNECTION).iter();
    let mut options = options.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
}

pub(super) fn caller<'a>(listener: &Listener<'a>, session: &Session) -> Caller<'a> {
    let plan = &listener.gateway.plan.listeners[listener.index];
    Caller {
        address: session
            .client_addr()
            .and_then(|address| address.as_inet())
            .map(|address| address.ip().to_canonical()),
        tls: plan.tls.is_some(),
        trusted: &plan.trusted_proxies,
    }
}
