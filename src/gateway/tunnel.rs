//! A request that becomes a WebSocket: its handshake, and what ends the tunnel behind it.

use std::sync::OnceLock;
use std::time::Duration;

use http::{StatusCode, Version, header};
use pingora::Error;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use super::{Gateway, Life};
use crate::edge::{self, Over};
use crate::forward;
use crate::reject::Rejection;
use crate::request;
use crate::verify::Refusal;

/// How far a request is on its way to be a tunnel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Tunnel {
    /// An ordinary request.
    #[default]
    No,
    /// A handshake, on a route that allows it.
    Asked,
    /// Both sides have agreed: bytes pass, and none of them is a request.
    Open,
    /// It was open, and we ended it.
    Over(Over),
}

/// Before the process ends, so that the end of a tunnel is logged.
const GOODBYE: Duration = Duration::from_secs(2);

impl Tunnel {
    pub(super) fn is_asked(self) -> bool {
        self == Tunnel::Asked
    }

    pub(super) fn is_open(self) -> bool {
        matches!(self, Tunnel::Open | Tunnel::Over(_))
    }

    /// Why we ended it: the log's `reason`.
    pub(super) fn label(self) -> Option<&'static str> {
        match self {
            Tunnel::Over(over) => Some(match over {
                Over::Expired => "expired",
                Over::Revoked => "revoked",
                Over::Silent | Over::Late => "tunnel_silent",
                Over::Stopping => "shutdown",
            }),
            _ => None,
        }
    }
}

/// 101: what follows is no HTTP.
pub(super) fn switches(status: StatusCode) -> bool {
    status.as_u16() == 101
}

/// Whether who looked after the connection has ended it.
pub(super) fn over(error: &Error) -> Option<Over> {
    let cause = error.root_cause().downcast_ref::<std::io::Error>()?;
    cause.get_ref()?.downcast_ref::<Over>().copied()
}

impl Life {
    /// Pingora has one read timeout for the handshake and for the tunnel. So it has none, and the edge looks after
    /// both: the peer's answer must be here until `deadline` of the gateway's clock.
    pub(super) fn await_answer(gateway: &Gateway, session: &Session, deadline: Duration) {
        let clock = gateway.clock.clone();
        let late = move |_| (clock.monotonic() >= deadline).then_some(Over::Late);
        edge::watch(session, Box::new(late));
    }

    /// Whether the connection to the peer is what the pool and the caller asked for.
    ///
    /// # Errors
    /// The peer speaks HTTP/1.1 where HTTP/2 was wanted: with TLS and without ALPN nobody has said so before.
    pub(super) async fn agree_on_version(
        &mut self,
        gateway: &Gateway,
        session: &mut Session,
        head: &mut RequestHeader,
    ) -> pingora::Result<()> {
        let plan = &gateway.plan;
        let http2 = head.version == Version::HTTP_2;
        let wanted = self.pool.is_some_and(|id| plan.upstream(id).http2);
        if wanted && !http2 {
            return Err(self.stop(Rejection::UpstreamFailed).into_up());
        }
        let asked = session.req_header();
        let waits = asked.version == Version::HTTP_11
            && asked
                .headers
                .get(header::EXPECT)
                .is_some_and(|expected| expected.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        if http2 && waits {
            // Pingora passes no interim answer of an HTTP/2 peer on, and the caller would wait for it.
            session.write_continue_response().await?;
        }
        match self.tunnel.is_asked() {
            true => forward::handshake(head),
            false => Ok(()),
        }
    }

    /// The peer has answered. If it agrees to be a WebSocket, the tunnel is open.
    ///
    /// # Errors
    /// It agrees to something that is no WebSocket, or that nobody asked for.
    pub(super) fn agreed(
        &mut self,
        gateway: &Gateway,
        session: &mut Session,
        answer: &ResponseHeader,
    ) -> Result<(), Rejection> {
        if !switches(answer.status) {
            return Ok(());
        }
        let asked = &session.req_header().headers;
        if !self.tunnel.is_asked() || !request::agrees(asked, &answer.headers) {
            return Err(Rejection::UpstreamFailed);
        }
        self.tunnel = Tunnel::Open;
        edge::open_tunnel(session);
        session.set_read_timeout(None);
        self.oversee(gateway, session);
        Ok(())
    }

    /// The peer has answered the handshake with something else, so this is a request like any other.
    pub(super) fn declined(&mut self, session: &mut Session) {
        if self.tunnel.is_asked() {
            // What was sent ahead into a tunnel is no request, and nobody can tell it from the next one.
            if edge::asks_on(session) {
                session.set_keepalive(None);
            }
            self.tunnel = Tunnel::No;
            let silence = self.silence;
            let silent = move |idle| (idle >= silence).then_some(Over::Silent);
            edge::watch(session, Box::new(silent));
        }
    }

    /// Ends the tunnel when its token's time is over, when the token is revoked, when nobody says anything for long,
    /// and when the process is about to end.
    fn oversee(&self, gateway: &Gateway, session: &Session) {
        let standing = self.standing.clone();
        let proof = standing.map(|standing| gateway.verifier.follow(standing));
        // What it needs, and not the generation: that one may be the last tunnel's for hours.
        let (drain, clock) = (gateway.drain.clone(), gateway.clock.clone());
        let draining = gateway.plan.server.drain;
        let silence = self
            .pool
            .map(|id| gateway.plan.upstream(id).timeouts.stream);
        let closed = OnceLock::new();
        let overseer = move |idle| {
            if let Some(Err(refusal)) = proof.as_ref().map(|holds| holds()) {
                return Some(match refusal {
                    Refusal::Expired => Over::Expired,
                    _ => Over::Revoked,
                });
            }
            if silence.is_some_and(|silence| idle >= silence) {
                return Some(Over::Silent);
            }
            if drain.closed() {
                let now = clock.monotonic();
                let patience = draining.saturating_sub(GOODBYE).max(draining / 2);
                let since = *closed.get_or_init(|| now);
                return (now.saturating_sub(since) >= patience).then_some(Over::Stopping);
            }
            None
        };
        edge::watch(session, Box::new(overseer));
    }
}
