//! A connection's bytes, bounded while they are a request's head.

mod answer;
mod body;
mod delegate;
mod gather;
mod http2;
mod kept;
mod watch;

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use pingora::protocols::{Shutdown, Stream};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, Sleep};

use self::body::Body;
pub(super) use self::body::Framing;
pub(super) use self::gather::Gathered;
use self::http2::Http2;
use self::kept::Kept;
use self::watch::Watch;
pub use self::watch::{Over, Overseer};
use super::Peer;
use super::bounds::Rules;
use super::head::Head;
use crate::reject::Rejection;

/// The request has been read: everything passes. Must be the cheapest to see.
const OPEN: u8 = 0;
/// Before the first request: the deadline runs from the accept.
const FIRST: u8 = 1;
/// Before a further request: keep-alive bounds the wait for its first byte, the head's deadline the time from there.
const NEXT: u8 = 2;
/// Within a further request's head.
const HEAD: u8 = 3;
/// Before the client's first HTTP/2 frames.
const H2_OPENING: u8 = 4;
/// Our refusal is on its way out.
const ANSWERING: u8 = 5;
/// Our refusal has been written: nothing more will be said on this connection.
const ANSWERED: u8 = 6;
/// The request has been read, and somebody looks after it.
const WATCHED: u8 = 7;

/// The HTTP/2 client preface and the frame header of the SETTINGS that must follow it. From there on h2's own limits
/// and the idle timeout hold.
const H2_OPENING_BYTES: usize = 24 + 9;

/// Pingora parses the whole head again after every read, so its work grows with the square of the number of reads.
/// A head may cost this many times its largest size; single bytes reach it after some 4 KiB of head.
const REPARSE: usize = 256;

/// Pingora's parser gives up on more fields than this, with the 400 that it also gives for malformed ones.
const PARSER_FIELDS: usize = 256;

/// How long we go on reading (and discarding) from a connection that we have closed for writing. Without it the
/// kernel would answer late bytes with a reset, and that destroys our last answer before the client has read it.
const LINGER: Duration = Duration::from_secs(2);

/// See the module above.
pub(super) struct GuardStream {
    inner: Stream,
    /// Atomic only because the hooks reach it through a shared reference; nothing races.
    phase: AtomicU8,
    h2: Option<Box<Http2>>,
    /// Bytes of the current head.
    seen: usize,
    head: Head,
    /// Bytes that the parser has had to look at for the current head.
    parsed: usize,
    /// Bytes of the head that Pingora has not read yet.
    early: Kept,
    /// Bytes that came before anybody wanted them: of a body behind its head, of a request behind another.
    ahead: Kept,
    /// Made when first needed and used again for every later wait of the connection.
    timer: Option<Pin<Box<Sleep>>>,
    timing: bool,
    /// When the wait that is timed is over. The timer may go off sooner, for one that was timed before.
    due: Instant,
    lingering: bool,
    /// Bytes of a response may lie in the buffers below.
    unflushed: bool,
    answer: Vec<u8>,
    answer_sent: usize,
    /// Locked only by the hooks, which reach it through a shared reference too.
    body: Mutex<Body>,
    /// Likewise.
    watch: Mutex<Option<Box<Watch>>>,
    peer: Option<SocketAddr>,
    rules: Arc<Rules>,
}

impl GuardStream {
    pub(super) fn new(
        inner: Stream,
        h2: bool,
        peer: Option<SocketAddr>,
        rules: Arc<Rules>,
    ) -> Self {
        GuardStream {
            inner,
            phase: AtomicU8::new(if h2 { H2_OPENING } else { FIRST }),
            h2: h2.then(|| Box::new(Http2::new())),
            seen: 0,
            head: Head::default(),
            parsed: 0,
            early: Kept::default(),
            ahead: Kept::default(),
            timer: None,
            timing: false,
            due: Instant::now(),
            lingering: false,
            unflushed: false,
            answer: Vec::new(),
            answer_sent: 0,
            body: Mutex::default(),
            watch: Mutex::default(),
            peer,
            rules,
        }
    }

    /// Another request may begin. The first one needs no call.
    pub(super) fn arm(&mut self) {
        if matches!(self.phase(), OPEN | WATCHED) {
            self.set_phase(NEXT);
        }
    }

    /// The request's head is complete, and what follows of it is framed like this.
    pub(super) fn disarm(&self, framing: &Framing) {
        if matches!(self.phase.load(Ordering::Relaxed), FIRST | NEXT | HEAD) {
            self.phase.store(OPEN, Ordering::Relaxed);
        }
        let mut body = self.body.lock().unwrap_or_else(PoisonError::into_inner);
        body.begin(framing, self.ahead.rest());
    }

    /// Whether bytes have come that are not the request's.
    pub(super) fn asks_on(&self) -> bool {
        let body = self.body.lock().unwrap_or_else(PoisonError::into_inner);
        body.count(self.ahead.rest()) < self.ahead.rest().len()
    }

    /// What follows is a tunnel's, and no request any more.
    pub(super) fn unframe(&self) {
        let mut body = self.body.lock().unwrap_or_else(PoisonError::into_inner);
        body.begin(&Framing::Unknown, &[]);
    }

    /// Whether the body so far can be read in more than one way.
    pub(super) fn is_doubtful(&self) -> bool {
        let body = self.body.lock().unwrap_or_else(PoisonError::into_inner);
        body.doubtful
    }

    /// Whether the caller has asked for anything.
    fn begun(&self) -> bool {
        self.head.begun() || self.h2.is_some() && self.seen > 0
    }

    /// Whether Pingora has had the request to its last byte, and nothing of the next.
    pub(super) fn is_through(&mut self) -> bool {
        self.early.is_empty() && self.body().is_over()
    }

    fn body(&mut self) -> &mut Body {
        self.body.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    fn phase(&mut self) -> u8 {
        *self.phase.get_mut()
    }

    /// Whether what is written is a response, and counts as movement for who looks after it.
    fn passes(&mut self) -> bool {
        match self.phase() {
            OPEN => true,
            WATCHED => {
                self.moved();
                true
            }
            _ => false,
        }
    }

    fn set_phase(&mut self, phase: u8) {
        *self.phase.get_mut() = phase;
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "closed by the edge")
}

impl Drop for GuardStream {
    fn drop(&mut self) {
        if self.begun() && matches!(self.phase(), FIRST | HEAD | H2_OPENING) {
            self.rules.metrics.unparsed();
            log::warn!(
                "a connection from {} ended within the head of a request, after {} bytes",
                Peer(self.peer),
                self.seen,
            );
        }
    }
}

impl AsyncRead for GuardStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.h2.is_some() {
            return this.poll_frames(cx, buf);
        }
        if !this.early.is_empty() {
            this.early.hand_out(buf);
            return Poll::Ready(Ok(()));
        }
        match this.phase() {
            OPEN | WATCHED => this.poll_body(cx, buf),
            // The head is whole to us and not to Pingora, so it has two readings.
            _ if this.head.is_over() => this.refuse(cx, Rejection::MalformedRequest),
            _ => this.poll_head(cx, buf),
        }
    }
}

impl AsyncWrite for GuardStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.h2.is_some() {
            let sent = ready!(Pin::new(&mut this.inner).poll_write(cx, buf))?;
            this.watch_outgoing(&buf[..sent]);
            return Poll::Ready(Ok(sent));
        }
        if this.passes() {
            this.unflushed = true;
            return Pin::new(&mut this.inner).poll_write(cx, buf);
        }
        ready!(this.poll_replace(cx, buf))?;
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.h2.is_some() {
            let sent = ready!(Pin::new(&mut this.inner).poll_write_vectored(cx, bufs))?;
            let mut left = sent;
            for buf in bufs {
                let part = left.min(buf.len());
                this.watch_outgoing(&buf[..part]);
                left -= part;
            }
            return Poll::Ready(Ok(sent));
        }
        if this.passes() {
            this.unflushed = true;
            return Pin::new(&mut this.inner).poll_write_vectored(cx, bufs);
        }
        let first = bufs.iter().find(|buf| !buf.is_empty());
        ready!(this.poll_replace(cx, first.map_or(&[][..], |buf| buf)))?;
        Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.phase() == ANSWERING {
            return this.poll_answer(cx);
        }
        ready!(Pin::new(&mut this.inner).poll_flush(cx))?;
        this.unflushed = false;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.lingering {
            if this.phase() == ANSWERING {
                ready!(this.poll_answer(cx))?;
            }
            ready!(Pin::new(&mut this.inner).poll_shutdown(cx))?;
        }
        ready!(this.poll_linger(cx));
        Poll::Ready(Ok(()))
    }
}

#[async_trait]
impl Shutdown for GuardStream {
    async fn shutdown(&mut self) {
        // A peer that has gone already is no news.
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}
