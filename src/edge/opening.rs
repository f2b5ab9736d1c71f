//! From an accepted socket to a connection that may ask: a place among the connections, the PROXY header, TLS.
//!
//! Pingora would do the handshake before it calls us, for up to 60 s and without a limit on how many at once. So its
//! endpoints are plain, and all of this stands here, under one deadline.

use std::net::SocketAddr;
use std::sync::Arc;

use ipnet::IpNet;
use pingora::protocols::l4::socket::SocketAddr as PingoraAddress;
use pingora::protocols::{SocketDigest, Stream};

use super::bounds::Rules;
use super::proxy_header::{self, Broken};
use super::{GuardApp, Open, Peer, Ticket, Tls};
use crate::observe::metrics::Unopened;

/// What stands between a listener's socket and its first request.
#[derive(Default)]
pub struct Front {
    pub tls: Option<Arc<Tls>>,
    /// Whose connections begin with a PROXY header.
    pub proxies: Arc<[IpNet]>,
}

/// A connection that may ask.
pub(super) struct Arrived {
    pub(super) stream: Stream,
    /// Who is at the other end, or whom a balancer of ours names.
    pub(super) peer: Option<SocketAddr>,
    /// Given back with the connection.
    pub(super) _held: (Ticket, Option<Open>),
}

#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("too many are open")]
    TooMany,
    #[error("{0}")]
    Header(#[from] Broken),
    #[error("TLS: {0}")]
    Tls(String),
    #[error("it ended before its first request")]
    Gone,
    #[error("it took too long to begin")]
    TooSlow,
}

impl<A> GuardApp<A> {
    /// `None`: it was closed, counted and logged.
    pub(super) async fn arrive(&self, stream: Stream, rules: &Rules) -> Option<Arrived> {
        let peer = super::peer_of(&stream);
        let behind_proxy = self.is_proxy(peer);
        // Whom a balancer's connection stands for is not known yet: until then it counts against the whole.
        let source = peer.filter(|_| !behind_proxy).map(|peer| peer.ip());
        let Some(mut ticket) = self.bounds.connections.admit(source) else {
            self.give_up(peer, &Fault::TooMany);
            return None;
        };
        let open = self
            .listener
            .map(|listener| Open::new(self.bounds.metrics.clone(), listener));
        let opened = if behind_proxy || self.front.tls.is_some() {
            // In a box, so that an open connection does not keep the room that its handshake took.
            let opening = Box::pin(self.open(stream, peer, behind_proxy, &mut ticket));
            let opened = tokio::time::timeout(rules.head_timeout, opening).await;
            opened.unwrap_or(Err(Fault::TooSlow))
        } else {
            Ok((stream, peer))
        };
        match opened {
            Ok((stream, peer)) => Some(Arrived {
                stream,
                peer,
                _held: (ticket, open),
            }),
            Err(fault) => {
                self.give_up(peer, &fault);
                None
            }
        }
    }

    async fn open(
        &self,
        mut stream: Stream,
        mut peer: Option<SocketAddr>,
        behind_proxy: bool,
        ticket: &mut Ticket,
    ) -> Result<(Stream, Option<SocketAddr>), Fault> {
        if behind_proxy {
            if let Some(named) = proxy_header::read(&mut stream).await? {
                stream.set_socket_digest(naming(&stream, named));
                peer = Some(named);
            }
            if peer.is_some_and(|peer| !ticket.charge(peer.ip())) {
                return Err(Fault::TooMany);
            }
        }
        if let Some(tls) = &self.front.tls {
            stream = tls.accept(stream).await.map_err(|error| {
                let cause = error.root_cause().downcast_ref::<std::io::Error>();
                match cause.map(std::io::Error::kind) {
                    Some(
                        std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset,
                    ) => Fault::Gone,
                    _ => Fault::Tls(error.to_string()),
                }
            })?;
        }
        Ok((stream, peer))
    }

    fn is_proxy(&self, peer: Option<SocketAddr>) -> bool {
        let address = peer.map(|peer| peer.ip().to_canonical());
        address.is_some_and(|ip| self.front.proxies.iter().any(|net| net.contains(&ip)))
    }

    fn give_up(&self, peer: Option<SocketAddr>, fault: &Fault) {
        let metrics = &self.bounds.metrics;
        let why = match fault {
            Fault::TooMany => {
                metrics.connection_refused();
                log::warn!("closed a connection from {} at once: {fault}", Peer(peer));
                return;
            }
            Fault::Header(Broken::Ended) | Fault::Gone => Unopened::Gone,
            Fault::Header(_) => Unopened::ProxyHeader,
            Fault::Tls(_) => Unopened::Tls,
            Fault::TooSlow => Unopened::TooSlow,
        };
        if let Some(listener) = self.listener {
            metrics.unopened(listener, why);
        }
        // Balancers look whether a port is open by opening it and leaving.
        let level = if why == Unopened::Gone {
            log::Level::Debug
        } else {
            log::Level::Warn
        };
        log::log!(level, "closed a connection from {}: {fault}", Peer(peer));
    }
}

/// What Pingora knows of a socket, with another address for its other end.
fn naming(stream: &Stream, named: SocketAddr) -> SocketDigest {
    let digest = SocketDigest::from_raw_fd(stream.id());
    // It is new, so nobody has set it.
    let _ = digest.peer_addr.set(Some(PingoraAddress::Inet(named)));
    digest
}
