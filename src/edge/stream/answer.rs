//! What the guard says itself, where no Pingora session is there to write it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{ANSWERED, ANSWERING, GuardStream, LINGER, PARSER_FIELDS, closed};
use crate::reject::{self, Rejection};
use crate::request::RequestId;

impl GuardStream {
    /// Counts and writes our own answer, then fails.
    pub(super) fn refuse(
        &mut self,
        cx: &mut Context<'_>,
        rejection: Rejection,
    ) -> Poll<io::Result<()>> {
        self.prepare(rejection);
        ready!(self.poll_answer(cx))?;
        Poll::Ready(Err(closed()))
    }

    pub(super) fn prepare(&mut self, rejection: Rejection) {
        let request_id = RequestId::fresh();
        self.rules.refused(rejection, self.peer, &request_id);
        self.answer = reject::raw(rejection, request_id.as_str());
        self.answer_sent = 0;
        self.set_phase(ANSWERING);
    }

    pub(super) fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.answer_sent < self.answer.len() {
            let rest = &self.answer[self.answer_sent..];
            match ready!(Pin::new(&mut self.inner).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => self.answer_sent += sent,
            }
        }
        ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
        self.set_phase(ANSWERED);
        Poll::Ready(Ok(()))
    }

    /// A write while no request has been seen: Pingora's built-in answer to what it could not parse. It is empty and
    /// names Pingora, so ours goes out in its place.
    pub(super) fn poll_replace(
        &mut self,
        cx: &mut Context<'_>,
        theirs: &[u8],
    ) -> Poll<io::Result<()>> {
        match self.phase() {
            ANSWERED => return Poll::Ready(Ok(())),
            ANSWERING => {}
            _ if theirs.starts_with(b"HTTP/1.1 405") => self.prepare(Rejection::MethodNotAllowed),
            _ if self.head.lines() > PARSER_FIELDS => self.prepare(Rejection::HeaderTooLarge),
            _ => self.prepare(Rejection::MalformedRequest),
        }
        self.poll_answer(cx)
    }

    /// Pingora flushes a body of known length only when all of it is written, so that a slow upstream's first bytes
    /// would lie here for as long as the last ones take. While both sides wait is the time to send them.
    pub(super) fn flush_idle(&mut self, cx: &mut Context<'_>) {
        // What fails here fails the next write, which has somebody to tell.
        if Pin::new(&mut self.inner).poll_flush(cx).is_ready() {
            self.unflushed = false;
        }
    }

    pub(super) fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.lingering {
            self.lingering = true;
            self.timing = false;
        }
        let mut scratch = [0; 2048];
        loop {
            if self.poll_deadline(cx, LINGER).is_ready() {
                return Poll::Ready(());
            }
            let mut buf = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut self.inner).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {}
                _ => return Poll::Ready(()),
            }
        }
    }
}
