//! HTTP/2 through the guard: its frames are watched, and its opening is bounded.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use super::{GuardStream, OPEN, closed};
use crate::edge::Peer;
use crate::edge::frames::{Flood, Incoming, Outgoing, Refused};
use crate::request::RequestId;

/// HTTP/2 as it passes by.
pub(super) struct Http2 {
    incoming: Incoming,
    outgoing: Outgoing,
    flood: Arc<Flood>,
}

impl Http2 {
    pub(super) fn new() -> Self {
        Http2 {
            incoming: Incoming::new(),
            outgoing: Outgoing::new(),
            flood: Arc::default(),
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
        let before = buf.filled().len();
        if self.phase() == OPEN {
            ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        } else {
            ready!(self.poll_head(cx, buf))?;
        }
        let bytes = &buf.filled()[before..];
        let bearable = match &mut self.h2 {
            Some(h2) => h2.incoming.feed(bytes, &h2.flood),
            None => true,
        };
        if bearable {
            return Poll::Ready(Ok(()));
        }
        // A flood was counted when it was told that it is one.
        if !self.flood().is_on() {
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
        h2.outgoing.feed(sent, |refused| match refused {
            Refused::Request(rejection) => rules.refused(rejection, peer, &RequestId::fresh()),
            Refused::Connection(code) => {
                rules.metrics.unparsed();
                log::warn!(
                    "ended the HTTP/2 connection of {} with error code {code}",
                    Peer(peer)
                );
            }
        });
    }
}
