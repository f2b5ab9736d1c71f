//! Around Pingora: what a connection may cost us before it has become a request.
//!
//! Pingora reads a request's head without any deadline, takes up to 1 MiB of it, and answers what it cannot parse by
//! itself, without calling a hook (`docs/decisions`). So every connection passes through [`GuardApp`], which caps the
//! connections, and every byte of it through `GuardStream`, which bounds the head in time and size.

mod body_rate;
mod bounds;
mod chunks;
mod connections;
mod frames;
mod head;
mod http1;
mod http2;
mod ledger;
mod line;
mod opening;
pub mod proxy_header;
mod stream;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::header;
use pingora::apps::{HttpServerApp, ServerApp};
use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession;
use pingora::protocols::{ALPN, Stream};
use pingora::server::ShutdownWatch;

pub use body_rate::{BodyRate, TooSlow};
pub use bounds::Bounds;
pub use chunks::DoubtfulChunks;
pub use connections::{Connections, Ticket};
pub use opening::{Front, Turns};
use stream::{Framing, GuardStream};
pub use stream::{Over, Overseer};
pub use tls::{ClientCertificate, Tls};

use crate::observe::metrics::Metrics;

/// The Pingora application of one listener: the connection caps, then the guarded stream, then `A` (the proxy).
pub struct GuardApp<A> {
    app: Arc<A>,
    /// Index into [`crate::config::plan::Plan::listeners`]; `None` is the admin listener, which has no gauge.
    listener: Option<usize>,
    front: Front,
    bounds: Arc<Bounds>,
}

impl<A> GuardApp<A> {
    /// `bounds` are shared by all listeners: the caps hold for the process.
    pub fn new(app: Arc<A>, listener: usize, front: Front, bounds: Arc<Bounds>) -> Self {
        Self::with(app, Some(listener), front, bounds)
    }

    /// For the admin listener. Its bounds are its own, so it counts its connections by itself: no flood of callers may
    /// keep out the probe that asks whether we live.
    pub fn for_admin(app: Arc<A>, bounds: Arc<Bounds>) -> Self {
        Self::with(app, None, Front::default(), bounds)
    }

    fn with(app: Arc<A>, listener: Option<usize>, front: Front, bounds: Arc<Bounds>) -> Self {
        GuardApp {
            app,
            listener,
            front,
            bounds,
        }
    }
}

/// How long idle connections stay after the listeners have closed.
pub const LINGER: Duration = Duration::from_secs(2);

#[async_trait]
impl<A: HttpServerApp + Send + Sync + 'static> ServerApp for GuardApp<A> {
    async fn process_new(
        self: &Arc<Self>,
        stream: Stream,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        let rules = self.bounds.rules();
        let arrived = self.arrive(stream, &rules).await?;
        let (stream, peer) = (arrived.stream, arrived.peer);
        let h2 = matches!(stream.selected_alpn_proto(), Some(ALPN::H2));
        let stream = GuardStream::new(stream, h2, peer, rules.clone());
        if h2 {
            // In a box, because HTTP/1 has no use for its room.
            Box::pin(http2::serve(&self.app, stream, &rules, shutdown)).await;
            return None;
        }
        http1::serve(&self.app, stream, shutdown).await;
        None
    }

    async fn cleanup(&self) {
        // Who waits for a request hears of the shutdown by itself; this is for what Pingora has.
        tokio::time::sleep(LINGER).await;
        self.app.http_cleanup().await;
    }
}

/// The head has become a request: what follows is its body and is no longer ours to bound. Must be the first thing in
/// `early_request_filter` (for other applications: before they answer); while it has not been called, the guard takes
/// every answer for Pingora's own.
pub fn head_read(session: &ServerSession) {
    if let Some(guard) = guard_of(session) {
        guard.disarm(&framing(session.req_header()));
    }
}

/// As the head has it, if that has one reading.
fn framing(head: &RequestHeader) -> Framing {
    let mut lengths = head.headers.get_all(header::CONTENT_LENGTH).iter();
    let chunked = head.headers.contains_key(header::TRANSFER_ENCODING);
    match (lengths.next(), lengths.next()) {
        (None, _) if chunked => Framing::Chunks,
        (None, _) => Framing::Length(0),
        (Some(length), None) if !chunked => {
            let length = length.to_str().ok().and_then(|text| text.parse().ok());
            length.map_or(Framing::Unknown, Framing::Length)
        }
        _ => Framing::Unknown,
    }
}

/// Whether the caller has sent more than its request already.
pub fn asks_on(session: &ServerSession) -> bool {
    guard_of(session).is_some_and(GuardStream::asks_on)
}

/// Both sides have agreed on a tunnel: bytes that came before that are its own too.
pub fn open_tunnel(session: &ServerSession) {
    if let Some(guard) = guard_of(session) {
        guard.unframe();
    }
}

/// Whether what came of the body can be read in more than one way; reading on fails with [`DoubtfulChunks`].
pub fn body_is_doubtful(session: &ServerSession) -> bool {
    guard_of(session).is_some_and(GuardStream::is_doubtful)
}

/// Has the connection looked after from now on, until its next request; HTTP/1 only.
pub fn watch(session: &ServerSession, overseer: Overseer) {
    if let Some(guard) = guard_of(session) {
        guard.watch(overseer);
    }
}

/// The certificate that the caller of this connection has shown, if its listener asks for one.
pub fn certificate(session: &ServerSession) -> Option<&ClientCertificate> {
    session.digest()?.ssl_digest.as_ref()?.extension.get()
}

/// `None` for HTTP/2, where no session owns the connection.
fn guard_of(session: &ServerSession) -> Option<&GuardStream> {
    session.stream()?.as_any().downcast_ref()
}

fn peer_of(stream: &Stream) -> Option<SocketAddr> {
    let digest = stream.get_socket_digest()?;
    digest.peer_addr()?.as_inet().copied()
}

/// An address for a log line.
struct Peer(Option<SocketAddr>);

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(peer) => peer.fmt(f),
            None => f.write_str("an unknown peer"),
        }
    }
}

/// Counts a connection as open for as long as it lives.
struct Open {
    metrics: Arc<Metrics>,
    listener: usize,
}

impl Open {
    fn new(metrics: Arc<Metrics>, listener: usize) -> Self {
        metrics.connections_open(listener).inc();
        Open { metrics, listener }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.metrics.connections_open(self.listener).dec();
    }
}

#[cfg(test)]
mod tests;
