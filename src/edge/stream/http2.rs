//! HTTP/2 through the guard: its frames are watched, and its opening is bounded.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::ReadBuf;

use super::{GuardStream, OPEN, closed};
use crate::edge::Peer;
use crate::edge::frames::{Flood, Incoming, Outgoing, Refused};
use crate::request::RequestId;

/// Bytes that a connection may bring before others have their turn. h2 takes frames for as long as there are any, and
/// some cost far more than the bytes that they come in.
const TURN: usize = 16 << 10;
/// Bytes in which frames may begin that are read at once: some sixty of the smallest, and each may be a request.
pub(super) const BEGINNINGS: usize = 2 << 10;

/// HTTP/2 as it passes by.
pub(super) struct Http2 {
    incoming: Incoming,
    outgoing: Outgoing,
    flood: Arc<Flood>,
    /// Bytes of this turn.
    turn: usize,
    /// It has been held against its source.
    charged: bool,
}

impl Http2 {
    pub(super) fn new() -> Self {
        Http2 {
            incoming: Incoming::new(),
            outgoing: Outgoing::new(),
            flood: Arc::default(),
            turn: 0,
            charged: false,
        }
    }
}

impl GuardStream {
    /// Says when the caller takes back more requests than anybody has to; always off for HTTP/1.
    pub(in crate::edge) fn flood(&self) -> Arc<Flood> {
        let h2 = self.h2.as_ref();
        h2.map_or_else(Arc::default, |h2| h2.flood.clone())
    }

    pub(super) fn poll_frames(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(h2) = &mut self.h2
            && h2.turn >= TURN
        {
            h2.turn = 0;
            return later(cx);
        }
        let before = buf.filled().len();
        let rest = self.h2.as_ref().map_or(0, |h2| h2.incoming.rest());
        let read = match self.phase() {
            OPEN => self.poll_some(cx, buf, rest.max(BEGINNINGS)),
            _ => self.poll_head(cx, buf),
        };
        let Some(h2) = &mut self.h2 else {
            return read;
        };
        if read.is_pending() {
            h2.turn = 0;
        }
        ready!(read)?;
        let bytes = &buf.filled()[before..];
        h2.turn += match bytes.len() {
            within if within <= rest => within,
            begun => begun * (TURN / BEGINNINGS),
        };
        let bearable = h2.incoming.feed(bytes, &h2.flood);
        let flooded = h2.flood.is_on();
        if flooded {
            self.charge();
        }
        if bearable {
            return Poll::Ready(Ok(()));
        }
        // A flood was counted when it was told that it is one.
        if !flooded {
            self.set_phase(OPEN);
            self.rules.metrics.unparsed();
            log::warn!(
                "closed the HTTP/2 connection of {}: it does not begin with SETTINGS",
                Peer(self.peer)
            );
        }
        Poll::Ready(Err(closed()))
    }

    pub(super) fn watch_outgoing(&mut self, sent: &[u8]) {
        let (Some(h2), rules, peer) = (&mut self.h2, &self.rules, self.peer) else {
            return;
        };
        let Http2 {
            incoming,
            outgoing,
            flood,
            ..
        } = &mut **h2;
        let mut flooded = false;
        outgoing.feed(sent, |refused| match refused {
            Refused::Request(rejection) => rules.refused(rejection, peer, &RequestId::fresh()),
            Refused::Connection(code) => {
                flooded |= incoming.is_flood(code, flood, rules.http2_header_list);
                rules.metrics.unparsed();
                log::warn!(
                    "ended the HTTP/2 connection of {} with error code {code}",
                    Peer(peer)
                );
            }
        });
        if flooded {
            self.charge();
        }
    }

    /// Holds it against the source, once.
    fn charge(&mut self) {
        let (Some(h2), Some(ledger), Some(peer)) = (&mut self.h2, &self.rules.ledger, self.peer)
        else {
            return;
        };
        if !std::mem::replace(&mut h2.charged, true) {
            ledger.charge(peer.ip());
        }
    }
}

/// Behind whoever is ready, and not before the sockets of others have been looked at.
fn later<T>(cx: &mut Context<'_>) -> Poll<T> {
    match pin!(tokio::task::yield_now()).poll(cx) {
        // Only its first poll counts, and that is always so.
        Poll::Pending | Poll::Ready(()) => Poll::Pending,
    }
}
