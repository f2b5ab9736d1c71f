//! Whether a request may be tried again at its pool.

use std::time::Duration;

use super::{Arc, Failure, Peer, Pool, Tried, retry};

impl Pool {
    /// Whether a request that its peer has not begun with may be sent again, to the same peer too.
    pub fn may_repeat(&self, tried: &Tried) -> bool {
        self.retries.when.connect && tried.attempts < self.retries.attempts
    }

    /// Whether a request that could not connect may try again. Nothing was sent, so it costs no service anything.
    pub fn may_connect_again(&self, tried: &Tried) -> bool {
        let another = |peer: &Arc<Peer>| !tried.has_refused(peer);
        self.retries.when.connect
            && tried.attempts < self.retries.attempts
            && self.layout.load().peers().iter().any(another)
    }

    /// Whether a request that may have reached a service, and may be repeated, is to be tried again. Each time that it
    /// is takes its share of the budget.
    pub fn may_try_again(&self, tried: &Tried, failure: Failure) -> bool {
        let when = &self.retries.when;
        let wanted = match failure {
            Failure::Reset => when.reset,
            Failure::Timeout => when.timeout,
            Failure::Status(502) => when.bad_gateway,
            Failure::Status(503) => when.unavailable,
            Failure::Status(504) => when.gateway_timeout,
            Failure::Status(_) => false,
        };
        wanted && tried.attempts < self.retries.attempts && self.budget.spend()
    }

    /// How long the next attempt waits.
    pub fn pause(&self, tried: &Tried) -> Duration {
        retry::pause(&self.retries, tried.attempts + 1)
    }
}
