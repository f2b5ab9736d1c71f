//! A head is gathered here before Pingora hears of it. What Pingora holds for a request takes some twenty kilobytes, and
//! a caller who is slow, or silent, is to have none of them.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::PoisonError;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Instant;

use super::http2::BEGINNINGS;
use super::{
    ANSWERED, ANSWERING, Body, GuardStream, H2_OPENING_BYTES, HEAD, NEXT, OPEN, REPARSE, WATCHED,
    closed,
};
use crate::edge::head::{Head, Odd};
use crate::reject::Rejection;

/// Most heads come in one read.
const ROOM: usize = 4096;

/// What a wait for a head came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::edge) enum Gathered {
    Head,
    /// We have said no already.
    Refused,
    /// The caller is gone, or has asked nothing for too long.
    Nothing,
}

impl GuardStream {
    pub(in crate::edge) fn poll_gather(&mut self, cx: &mut Context<'_>) -> Poll<Gathered> {
        loop {
            let mut room = [MaybeUninit::uninit(); ROOM];
            let mut buf = ReadBuf::uninit(&mut room);
            match self.poll_head(cx, &mut buf) {
                Poll::Ready(Ok(())) if buf.filled().is_empty() => {
                    return Poll::Ready(Gathered::Nothing);
                }
                Poll::Ready(Ok(())) => {
                    self.early.extend(buf.filled());
                    if self.head.is_over() {
                        return Poll::Ready(Gathered::Head);
                    }
                }
                Poll::Ready(Err(_)) if matches!(self.phase(), ANSWERING | ANSWERED) => {
                    return Poll::Ready(Gathered::Refused);
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Gathered::Nothing),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Whether a request was served already and no byte of another has come.
    pub(in crate::edge) fn is_idle(&mut self) -> bool {
        self.phase() == HEAD && !self.begun()
    }

    /// A read of what belongs to the request that Pingora has, and not a byte more: what follows is the next one's.
    pub(super) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.phase() == WATCHED {
            self.look(cx)?;
        }
        let before = buf.filled().len();
        let asked_on = self.body().is_over() && !self.ahead.is_empty();
        let mut read = match asked_on {
            // Whether the caller is still there shows when it is answered.
            true => Poll::Pending,
            false => self.poll_bytes(cx, buf),
        };
        let bytes = &buf.filled()[before..];
        if !bytes.is_empty() {
            let taken = match self.body().feed(bytes) {
                Ok(taken) => taken,
                Err(doubtful) => {
                    let doubtful = io::Error::new(io::ErrorKind::InvalidData, doubtful);
                    return Poll::Ready(Err(doubtful));
                }
            };
            if taken < bytes.len() {
                self.ahead.put_back(&bytes[taken..]);
                buf.set_filled(before + taken);
            }
            if taken > 0 {
                self.moved();
            } else {
                read = Poll::Pending;
            }
        }
        if self.unflushed && read.is_pending() {
            self.flush_idle(cx);
        }
        read
    }

    /// What came ahead of its time, or else what comes.
    fn poll_bytes(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.inner).poll_read(cx, buf);
        }
        self.ahead.hand_out(buf);
        Poll::Ready(Ok(()))
    }

    /// A read that is not of a body.
    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.phase() {
            NEXT => {
                self.set_phase(HEAD);
                (self.seen, self.parsed, self.timing) = (0, 0, false);
                self.head = Head::default();
                *self.body() = Body::default();
                *self.watch.get_mut().unwrap_or_else(PoisonError::into_inner) = None;
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
                    Ok(of_the_head) => {
                        let behind = &bytes[of_the_head..];
                        if !behind.is_empty() {
                            self.seen -= behind.len();
                            self.ahead.put_back(behind);
                            buf.set_filled(before + of_the_head);
                        }
                    }
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
        let left = match self.h2 {
            Some(_) => BEGINNINGS,
            None => self.rules.head_bytes.saturating_sub(self.seen),
        };
        self.poll_some(cx, buf, left)
    }

    /// Takes no more than `most` bytes.
    pub(super) fn poll_some(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        most: usize,
    ) -> Poll<io::Result<()>> {
        if buf.remaining() <= most {
            return self.poll_bytes(cx, buf);
        }
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(most));
        ready!(self.poll_bytes(cx, &mut part))?;
        let read = part.filled().len();
        buf.advance(read);
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_deadline(&mut self, cx: &mut Context<'_>, after: Duration) -> Poll<()> {
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
