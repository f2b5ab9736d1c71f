//! What a request has been through at its pool.

use std::sync::Arc;

use super::peer::Peer;

/// The attempts that a request has behind it.
#[derive(Default)]
pub struct Tried {
    pub(super) attempts: usize,
    /// Peers that did not take a connection.
    refused: Vec<Arc<Peer>>,
    /// Peers that took the request and failed.
    failed: Vec<Arc<Peer>>,
}

/// How an attempt failed that had a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The connection broke off before the answer.
    Reset,
    Timeout,
    Status(u16),
}

impl Tried {
    /// The peer did not take a connection.
    pub fn refused(&mut self, peer: &Arc<Peer>) {
        self.refused.push(peer.clone());
    }

    /// The peer took the request and failed.
    pub fn failed(&mut self, peer: &Arc<Peer>) {
        self.failed.push(peer.clone());
    }

    /// The attempt met a connection that had died while nobody used it: it does not count.
    pub fn uncounted(&mut self) {
        self.attempts = self.attempts.saturating_sub(1);
    }

    pub(super) fn has_failed(&self, peer: &Peer) -> bool {
        self.failed
            .iter()
            .any(|known| std::ptr::eq(Arc::as_ptr(known), peer))
    }

    pub(super) fn has_refused(&self, peer: &Peer) -> bool {
        self.refused
            .iter()
            .any(|known| std::ptr::eq(Arc::as_ptr(known), peer))
    }
}
