//! From an accepted socket to a connection that may ask: a place among the connections, the PROXY header, TLS.
//!
//! Pingora would do the handshake before it calls us, for up to 60 s and without a limit on how many at once. So its
//! endpoints are plain, and all of this stands here, under one deadline.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use ipnet::IpNet;
use pingora::protocols::l4::socket::SocketAddr as PingoraAddress;
use pingora::protocols::{SocketDigest, Stream};
use tokio::sync::Semaphore;

use super::bounds::Rules;
use super::proxy_header::{self, Broken};
use super::{GuardApp, Open, Peer, Ticket, Tls};
use crate::observe::metrics::{TurnedAway, Unopened};

/// What stands between a listener's socket and its first request.
#[derive(Default)]
pub struct Front {
    pub tls: Option<Arc<Tls>>,
    /// Whose connections begin with a PROXY header.
    pub proxies: Arc<[IpNet]>,
    pub turns: Turns,
}

/// Whose handshake is worked on. A step of one is the longest piece of work that strangers can have for nothing, and a
/// crowd of them would stand before every request; so they are done one after the other, each when nothing else waits.
pub struct Turns(Semaphore);

impl Turns {
    /// So many at once, as there are workers.
    pub fn new(workers: usize) -> Self {
        Turns(Semaphore::new(workers.clamp(1, Semaphore::MAX_PERMITS)))
    }

    /// Whoever waits for its caller holds no turn.
    async fn take<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            // Never closed, and without a turn it would merely go on at once.
            let turn = self.0.acquire().await;
            // Behind whatever is ready, the sockets that have not been looked at yet included.
            tokio::task::yield_now().await;
            let step = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await;
            drop(turn);
            if let Poll::Ready(done) = step {
                return done;
            }
            woken().await;
        }
    }
}

impl Default for Turns {
    fn default() -> Self {
        Turns::new(1)
    }
}

/// Until somebody who was told of this task has something for it.
async fn woken() {
    let mut asleep = true;
    poll_fn(|_| match std::mem::take(&mut asleep) {
        true => Poll::Pending,
        false => Poll::Ready(()),
    })
    .await;
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
    #[error("its source has flooded us too often")]
    Flooded,
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
        if source.is_some_and(|source| rules.is_shut(source)) {
            self.give_up(peer, &Fault::Flooded);
            return None;
        }
        let Some(mut ticket) = self.bounds.connections.admit(source) else {
            self.give_up(peer, &Fault::TooMany);
            return None;
        };
        let open = self
            .listener
            .map(|listener| Open::new(self.bounds.metrics.clone(), listener));
        let opened = if behind_proxy || self.front.tls.is_some() {
            // In a box, so that an open connection does not keep the room that its handshake took.
            let opening = Box::pin(self.open(stream, peer, behind_proxy, &mut ticket, rules));
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
        rules: &Rules,
    ) -> Result<(Stream, Option<SocketAddr>), Fault> {
        if behind_proxy {
            if let Some(named) = proxy_header::read(&mut stream).await? {
                stream.set_socket_digest(naming(&stream, named));
                peer = Some(named);
            }
            if peer.is_some_and(|peer| rules.is_shut(peer.ip())) {
                return Err(Fault::Flooded);
            }
            if peer.is_some_and(|peer| !ticket.charge(peer.ip())) {
                return Err(Fault::TooMany);
            }
        }
        if let Some(tls) = &self.front.tls {
            let handshake = self.front.turns.take(tls.accept(stream));
            stream = handshake.await.map_err(|error| {
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
                metrics.connection_refused(TurnedAway::TooMany);
                log::warn!("closed a connection from {} at once: {fault}", Peer(peer));
                return;
            }
            Fault::Flooded => {
                // The log has it once for each time that a source is shut out.
                metrics.connection_refused(TurnedAway::Flooded);
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use tokio::sync::Notify;
    use tokio::task::{JoinSet, yield_now};

    use super::*;

    const CROWD: u32 = 20;

    #[tokio::test]
    async fn a_crowd_stands_before_nobody() {
        let turns = Arc::new(Turns::new(1));
        let (done, others) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let mut crowd = JoinSet::new();
        for _ in 0..CROWD {
            let (turns, done, others) = (turns.clone(), done.clone(), others.clone());
            crowd.spawn(async move {
                let step = async {
                    // Whoever else is ready has been at work since the last one's step.
                    let before = done.fetch_add(1, Relaxed);
                    assert!(others.load(Relaxed) >= before, "after {before}");
                };
                turns.take(step).await;
            });
        }
        while done.load(Relaxed) < CROWD && !crowd.is_empty() {
            others.fetch_add(1, Relaxed);
            yield_now().await;
        }
        while let Some(ended) = crowd.join_next().await {
            ended.unwrap();
        }
    }

    #[tokio::test]
    async fn who_waits_for_its_caller_is_in_nobodys_way() {
        let (turns, bell) = (Turns::new(1), Notify::new());
        let slow = turns.take(bell.notified());
        let quick = async {
            for _ in 0..10 {
                turns.take(async {}).await;
            }
            bell.notify_waiters();
        };
        tokio::join!(slow, quick);
    }
}
