//! One attempt at a peer: whom it goes to, how it ended, and whether there is another.

use std::time::Duration;

use http::StatusCode;
use pingora::http::ResponseHeader;
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};
use pingora::{Error, ErrorSource, ErrorType, RetryType};
use pingora_proxy::Session;

use super::life::caller;
use super::tunnel::{self, Tunnel};
use super::{Gateway, Life, Listener, refuse};
use crate::authorize::Permit;
use crate::config::plan::{Balance, HashOn, RoutePlan};
use crate::forward;
use crate::observe::metrics::Carried;
use crate::reject::Rejection;
use crate::request::{BodyLength, Target};
use crate::upstream::{Failure, Peer, Pool, Upstreams};

/// How many interim answers one attempt may bring. Go's client takes five.
const MOST_INTERIMS: u32 = 16;

impl Life {
    pub(super) fn choose_peer(
        &mut self,
        listener: &Listener<'_>,
        session: &mut Session,
    ) -> Result<Box<HttpPeer>, Rejection> {
        let gateway = listener.gateway;
        let now = gateway.clock.monotonic();
        let (route, permit, target) = self.permitted(&gateway.plan)?;
        let id = self.pool.ok_or(Rejection::NoPermit)?;
        let (pool, plan) = (
            gateway.upstreams.open(id, permit),
            gateway.plan.upstream(id),
        );
        let left = self.left(route, now);
        if left.is_zero() {
            return Err(Rejection::UpstreamTimeout);
        }
        let key = match pool.balance() {
            Balance::Hash(on) => hash_key(on, listener, session, target, permit),
            Balance::RoundRobin | Balance::LeastRequest | Balance::Random => 0,
        };
        // The place at the last peer is free for this attempt too.
        if let Some(last) = &mut self.chosen {
            last.leave();
        }
        let (chosen, mut peer) = pool.choose(&mut self.tried, key, now)?;
        self.chosen = Some(chosen);
        self.again = false;
        self.answered_at = None;
        self.status = None;
        self.interims = 0;
        // Pingora hands the body over again from its beginning.
        self.body.bytes = 0;
        // No wait may be longer than the whole.
        let options = &mut peer.options;
        for wait in [
            &mut options.connection_timeout,
            &mut options.total_connection_timeout,
            &mut options.write_timeout,
        ] {
            *wait = Some(wait.map_or(left, |own| own.min(left)));
        }
        self.silence = peer.options.read_timeout.map_or(left, |own| own.min(left));
        peer.options.read_timeout = match self.tunnel {
            Tunnel::Asked => {
                peer.options.http_upstream_request_policy = HttpUpstreamRequestPolicy::standard();
                Self::await_answer(gateway, session, now + self.silence);
                None
            }
            _ if plan.http2 && self.is_stream(session) => Some(plan.timeouts.stream),
            _ => Some(self.silence),
        };
        Ok(peer)
    }

    /// Whether the peer may rightly have nothing to say for long. Pingora's HTTP/2 to peers does not begin to wait anew
    /// when a piece of the body has gone out, as its HTTP/1 does; so a body that takes its time counts, and one that is
    /// small does not.
    fn is_stream(&self, session: &mut Session) -> bool {
        const SMALL: u64 = 64 * 1024;
        let small =
            matches!(self.body.length, Some(BodyLength::Declared(length)) if length <= SMALL);
        self.grpc || !small && !session.is_body_done()
    }

    /// Whether a failed connect may be tried on another peer.
    pub(super) fn may_connect_again(&mut self, gateway: &Gateway) -> bool {
        if let Some(chosen) = &self.chosen {
            self.tried.refused(chosen.peer());
        }
        let Some((pool, peer)) = self.at(gateway) else {
            return false;
        };
        pool.failed(peer, gateway.clock.monotonic());
        let again = pool.may_connect_again(&self.tried);
        if again && let Some(id) = self.pool {
            gateway.metrics.carried(id, Carried::ConnectFailed);
        }
        again
    }

    /// The pool and the peer that has the request.
    fn at<'a>(&'a self, gateway: &'a Gateway) -> Option<(&'a Pool, &'a Peer)> {
        let (_, permit, _) = self.permitted(&gateway.plan).ok()?;
        let pool = gateway.upstreams.open(self.pool?, permit);
        Some((pool, self.chosen.as_ref()?.peer()))
    }

    /// The peer's response head is here.
    ///
    /// # Errors
    /// The status is to be tried again: Pingora goes on with [`Life::broke_off`], and gives up the connection.
    pub(super) fn answered(
        &mut self,
        gateway: &Gateway,
        session: &mut Session,
        status: StatusCode,
    ) -> pingora::Result<()> {
        // An interim answer says nothing yet. A peer that sends nothing else has answered nonsense.
        if is_interim(status) {
            self.interims += 1;
            if self.interims <= MOST_INTERIMS {
                return Ok(());
            }
            let mut error = refuse(Rejection::UpstreamFailed);
            error.as_up();
            return Err(error);
        }
        let now = gateway.clock.monotonic();
        self.answered_at = Some(now);
        self.status = Some(status);
        match self.at(gateway) {
            Some((pool, peer)) if status.is_server_error() => pool.failed(peer, now),
            Some((pool, peer)) => pool.succeeded(peer),
            None => {}
        }
        if status.is_server_error()
            && self.try_again(gateway, session, Failure::Status(status.as_u16()))
        {
            let mut error = refuse(Rejection::UpstreamFailed);
            error.as_up();
            return Err(error);
        }
        self.declined(session);
        Ok(())
    }

    /// Whether it is clear where the peer's answer ends, and what it agrees to.
    pub(super) fn understood(
        &mut self,
        gateway: &Gateway,
        session: &mut Session,
        answer: &ResponseHeader,
    ) -> pingora::Result<()> {
        let understood = match forward::is_plainly_framed(&answer.headers) {
            true => self.agreed(gateway, session, answer),
            false => Err(Rejection::UpstreamFailed),
        };
        understood.map_err(|rejection| self.stop(rejection).into_up())
    }

    /// The exchange with the peer has failed after the connection was there.
    pub(super) fn broke_off(
        &mut self,
        gateway: &Gateway,
        session: &mut Session,
        error: &mut Error,
        reused: bool,
    ) {
        if self.again {
            error.set_retry(true);
            return;
        }
        // Pingora's own rule: a connection that had died in its pool is no failure, and another may be tried if the
        // request can be sent again.
        let stale = reused && error.retry == RetryType::ReusedOnly;
        error.retry.decide_reuse(reused);
        error.set_retry(repeatable(session) && error.retry());
        if is_unbegun(error) && self.answered_at.is_none() {
            let whole = !session.as_ref().retry_buffer_truncated();
            let again = match self.at(gateway) {
                Some((pool, _)) => whole && pool.may_repeat(&self.tried),
                None => false,
            };
            if again && let Some(id) = self.pool {
                gateway.metrics.carried(id, Carried::Failed);
            }
            error.set_retry(again);
            return;
        }
        // The edge ended it: to Pingora that looks as if the caller had.
        if tunnel::over(error).is_some() && self.answered_at.is_none() {
            if let Some((pool, peer)) = self.at(gateway) {
                pool.failed(peer, gateway.clock.monotonic());
            }
            return;
        }
        // A peer has nothing to answer while the caller has not sent its body, or slow callers could take peers out.
        let unasked = *error.etype() == ErrorType::ReadTimedout && !session.is_body_done();
        if stale {
            self.tried.uncounted();
        } else if *error.esource() == ErrorSource::Upstream
            && self.answered_at.is_none()
            && !unasked
        {
            if let Some((pool, peer)) = self.at(gateway) {
                pool.failed(peer, gateway.clock.monotonic());
            }
            use ErrorType as E;
            let failure = match error.etype() {
                E::ReadTimedout | E::WriteTimedout => Failure::Timeout,
                E::ReadError | E::WriteError | E::ConnectionClosed => Failure::Reset,
                E::H2Error if is_reset(error) => Failure::Reset,
                // What answers nonsense has perhaps done what was asked.
                _ => return,
            };
            let again = error.retry() || self.try_again(gateway, session, failure);
            error.set_retry(again);
        }
    }

    /// Decides on another attempt of a request that may have reached a service, and notes it.
    fn try_again(&mut self, gateway: &Gateway, session: &Session, failure: Failure) -> bool {
        // Nothing that is no interim answer may have been sent.
        let begun = session
            .response_written()
            .is_some_and(|head| !is_interim(head.status));
        let Some((pool, _)) = self.at(gateway) else {
            return false;
        };
        if begun || !repeatable(session) || !pool.may_try_again(&self.tried, failure) {
            return false;
        }
        let carried = match failure {
            Failure::Status(_) => Carried::Ok,
            Failure::Timeout => Carried::Timeout,
            Failure::Reset => Carried::Failed,
        };
        if let Some(id) = self.pool {
            gateway.metrics.carried(id, carried);
        }
        if let Some(chosen) = &self.chosen {
            self.tried.failed(chosen.peer());
        }
        self.again = true;
        true
    }

    /// How long the next attempt waits, if it does.
    pub(super) fn pause(&self, gateway: &Gateway) -> Option<Duration> {
        if !self.again {
            return None;
        }
        let (pool, _) = self.at(gateway)?;
        let left = self.left(gateway.plan.route(self.route?), gateway.clock.monotonic());
        Some(pool.pause(&self.tried).min(left))
    }

    /// What is left of the route's time.
    fn left(&self, route: &RoutePlan, now: Duration) -> Duration {
        let gone = now.saturating_sub(self.started);
        route.timeout.saturating_sub(gone)
    }

    /// Whether the upstream has failed this request, as its breaker sees it; `None` if it ended for another reason.
    pub(super) fn upstream_failed(&self) -> Option<bool> {
        // How a tunnel ends is between its two ends.
        if self.tunnel.is_open() {
            return Some(false);
        }
        match (self.rejection, self.status) {
            (
                Some(
                    Rejection::UpstreamConnect
                    | Rejection::UpstreamFailed
                    | Rejection::UpstreamTimeout
                    | Rejection::NoPeer,
                ),
                _,
            ) => Some(true),
            (None, Some(status)) => Some(status.is_server_error()),
            _ => None,
        }
    }
}

/// 101 is the last answer on its connection, all other 1xx come before one (RFC 9110 section 15.2).
pub(super) fn is_interim(status: StatusCode) -> bool {
    status.is_informational() && !tunnel::switches(status)
}

/// Whether an HTTP/2 peer has taken the request and given it up: what a broken connection is to HTTP/1.
fn is_reset(error: &Error) -> bool {
    let cause = error.root_cause().downcast_ref::<h2::Error>();
    cause.is_some_and(|cause| cause.is_reset() && cause.is_remote())
}

/// Whether an HTTP/2 peer says that it has not begun with the request: it is going away, or has enough to do. Then any
/// method may be sent again (RFC 9113 section 8.7).
fn is_unbegun(error: &Error) -> bool {
    let cause = error.root_cause().downcast_ref::<h2::Error>();
    cause.is_some_and(|cause| {
        let refused = cause.is_reset() && cause.reason() == Some(h2::Reason::REFUSED_STREAM);
        let leaves = cause.is_go_away() && cause.reason() == Some(h2::Reason::NO_ERROR);
        cause.is_remote() && (refused || leaves)
    })
}

/// Whether the request can be sent a second time: RFC 9110 section 9.2.2, and Pingora keeps 64 KiB of a body.
fn repeatable(session: &Session) -> bool {
    session.req_header().method.is_idempotent() && !session.as_ref().retry_buffer_truncated()
}

/// What a pool that hashes goes by.
fn hash_key(
    on: &HashOn,
    listener: &Listener<'_>,
    session: &Session,
    target: &Target,
    permit: &Permit,
) -> u64 {
    let headers = &session.req_header().headers;
    let source = || forward::source(headers, caller(listener, session));
    match (on, permit.principal()) {
        (HashOn::Path, _) => Upstreams::place_of(&target.path),
        (HashOn::Client, Some(who)) => {
            Upstreams::place_of(&(who.grants.issuer, &who.grants.client))
        }
        (HashOn::Client, None) => Upstreams::place_of(&source()),
        (HashOn::Header(name), _) => match headers.get(name) {
            Some(value) => Upstreams::place_of(&value.as_bytes()),
            None => Upstreams::place_of(&source()),
        },
    }
}
