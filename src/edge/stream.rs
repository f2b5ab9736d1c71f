//! A connection's bytes, bounded while they are a request's head.

mod answer;
mod body;
mod delegate;
mod gather;
mod http2;

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
pub(super) use self::gather::Gathered;
use self::http2::Http2;
use super::Peer;
use super::bounds::Rules;
use super::head::{Head, Odd};
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
    /// Bytes of the head, and what came with it, that Pingora has not read yet.
    early: Vec<u8>,
    early_read: usize,
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
            early: Vec::new(),
            early_read: 0,
            timer: None,
            timing: false,
            due: Instant::now(),
            lingering: false,
            unflushed: false,
            answer: Vec::new(),
            answer_sent: 0,
            body: Mutex::default(),
            peer,
            rules,
        }
    }

    /// Another request may begin. The first one needs no call.
    pub(super) fn arm(&mut self) {
        if self.phase() == OPEN {
            self.set_phase(NEXT);
        }
    }

    /// The request's head is complete, and a body in chunks follows or not.
    pub(super) fn disarm(&self, chunked: bool) {
        if matches!(self.phase.load(Ordering::Relaxed), FIRST | NEXT | HEAD) {
            self.phase.store(OPEN, Ordering::Relaxed);
        }
        let mut body = self.body.lock().unwrap_or_else(PoisonError::into_inner);
        body.begin(chunked);
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

    fn body(&mut self) -> &mut Body {
        self.body.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    fn phase(&mut self) -> u8 {
        *self.phase.get_mut()
    }

    fn set_phase(&mut self, phase: u8) {
        *self.phase.get_mut() = phase;
    }

    /// A read that is not of a body.
    fn poll_head(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.phase() {
            NEXT => {
                self.set_phase(HEAD);
                (self.seen, self.parsed, self.timing) = (0, 0, false);
                self.head = Head::default();
                *self.body() = Body::default();
            }
            ANSWERING | ANSWERED => {
                ready!(self.poll_answer(cx))?;
                return Poll::Ready(Err(closed()));
            }
            _ => {}
        }
        if self.h2.is_none() && self.seen >= self.rules.head_bytes {
            // The parser asks for more, so the head goes on beyond the cap.
            return self.refuse(cx, Rejection::HeaderTooLarge);
        }
        let before = buf.filled().len();
        match self.poll_inner(cx, buf) {
            Poll::Ready(Ok(())) => {
                let bytes = &buf.filled()[before..];
                if bytes.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                self.seen += bytes.len();
                let waited = !self.head.begun();
                if self.h2.is_some() {
                    if self.seen >= H2_OPENING_BYTES {
                        self.set_phase(OPEN);
                    }
                    return Poll::Ready(Ok(()));
                }
                self.parsed += self.seen;
                match self.head.feed(bytes) {
                    Ok(of_the_head) if of_the_head < bytes.len() => {
                        let behind = &bytes[of_the_head..];
                        let body = self.body.get_mut();
                        let body = body.unwrap_or_else(PoisonError::into_inner);
                        body.behind.extend_from_slice(behind);
                    }
                    Ok(_) => {}
                    Err(Odd::RequestLine) => return self.refuse(cx, Rejection::AmbiguousTarget),
                    Err(Odd::LineEnd) => return self.refuse(cx, Rejection::AmbiguousFraming),
                }
                if waited && self.begun() && self.phase() == HEAD {
                    self.timing = false;
                }
                let cap = self.rules.head_bytes;
                if self.parsed > cap.saturating_mul(REPARSE.max(cap / 1024)) {
                    return self.refuse(cx, Rejection::HeaderTimeout);
                }
                Poll::Ready(Ok(()))
            }
            Poll::Pending => {
                let patience = match self.phase() != HEAD || self.begun() {
                    true => self.rules.head_timeout,
                    false => self.rules.keep_alive,
                };
                if self.poll_deadline(cx, patience).is_ready() {
                    return self.expire(cx);
                }
                Poll::Pending
            }
            failed => failed,
        }
    }

    /// Never takes more than the head may still have, so that a head of exactly the cap passes whatever the size of
    /// the parser's buffer, and bytes of a body behind it are not held against it.
    fn poll_inner(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let left = self.rules.head_bytes.saturating_sub(self.seen);
        if self.h2.is_some() || buf.remaining() <= left {
            return Pin::new(&mut self.inner).poll_read(cx, buf);
        }
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(left));
        ready!(Pin::new(&mut self.inner).poll_read(cx, &mut part))?;
        let read = part.filled().len();
        buf.advance(read);
        Poll::Ready(Ok(()))
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>, after: Duration) -> Poll<()> {
        if !self.timing {
            self.timing = true;
            self.due = Instant::now() + after;
        }
        let due = self.due;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        if timer.deadline() > due {
            timer.as_mut().reset(due);
        }
        // Moving it for each request would cost more than that it goes off once in a while for nothing.
        while timer.as_mut().poll(cx).is_ready() {
            if timer.deadline() >= due {
                return Poll::Ready(());
            }
            timer.as_mut().reset(due);
        }
        Poll::Pending
    }

    fn expire(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.h2.is_some() || !self.begun() {
            // HTTP/2 has no answer before its first frames, and who asked nothing is answered nothing: a client
            // that keeps a connection in reserve would take a 408 for the answer to its first request.
            return Poll::Ready(Err(closed()));
        }
        self.refuse(cx, Rejection::HeaderTimeout)
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
        let before = buf.filled().len();
        if this.h2.is_some() {
            return this.poll_frames(cx, buf);
        }
        if this.has_early() {
            this.read_early(buf);
            return Poll::Ready(Ok(()));
        }
        if this.phase() != OPEN {
            return this.poll_head(cx, buf);
        }
        let read = Pin::new(&mut this.inner).poll_read(cx, buf);
        if this.unflushed && read.is_pending() {
            this.flush_idle(cx);
        }
        if let Err(doubtful) = this.body().feed(&buf.filled()[before..]) {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, doubtful)));
        }
        read
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
        if this.phase() == OPEN {
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
        if this.phase() == OPEN {
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
