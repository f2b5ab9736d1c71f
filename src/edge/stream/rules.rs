//! What holds for every connection of a listener, and the word about a request that met no hook.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::edge::Peer;
use crate::observe::metrics::Metrics;
use crate::reject::Rejection;
use crate::request::RequestId;

/// What holds for every connection of a listener.
pub(in crate::edge) struct Rules {
    pub(in crate::edge) head_timeout: Duration,
    pub(in crate::edge) head_bytes: usize,
    pub(in crate::edge) metrics: Arc<Metrics>,
}

impl Rules {
    /// Counts and logs a request that was refused before any hook saw it, without its bytes.
    pub(in crate::edge) fn refused(
        &self,
        rejection: Rejection,
        peer: Option<SocketAddr>,
        request_id: &RequestId,
    ) {
        let status = rejection.answer().status;
        self.metrics.head_refused(rejection);
        if rejection == Rejection::MalformedRequest {
            self.metrics.unparsed();
        }
        log::warn!(
            "refused the head of a request from {}: {status} {}, request_id {}",
            Peer(peer),
            rejection.label(),
            request_id.as_str(),
        );
    }
}
