//! A head is gathered here before Pingora hears of it. What Pingora holds for a request takes some forty kilobytes, and
//! a caller who is slow, or silent, is to have none of them.

use std::mem::MaybeUninit;
use std::task::{Context, Poll};

use tokio::io::ReadBuf;

use super::{ANSWERED, ANSWERING, GuardStream};

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
                    self.early.extend_from_slice(buf.filled());
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
        self.phase() == super::HEAD && !self.begun()
    }

    pub(in crate::edge) fn has_early(&self) -> bool {
        self.early_read < self.early.len()
    }

    pub(super) fn read_early(&mut self, buf: &mut ReadBuf<'_>) {
        let rest = &self.early[self.early_read..];
        let count = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..count]);
        self.early_read += count;
        if !self.has_early() {
            // An idle connection is to hold nothing.
            self.early = Vec::new();
            self.early_read = 0;
        }
    }
}
