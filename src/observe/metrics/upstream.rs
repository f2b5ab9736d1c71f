//! The handles of one pool, which keeps them over a reload.

use prometheus::{IntCounter, IntGauge};

use super::families::Families;
use super::labels::{Carried, Looked};
use crate::upstream::State;

pub struct UpstreamMetrics {
    outcomes: [IntCounter; 4],
    in_flight: IntGauge,
    /// By [`State`].
    peers: [IntGauge; 3],
    breaker_open: IntGauge,
    lookups: [IntCounter; 3],
}

impl UpstreamMetrics {
    pub(super) fn of(f: &Families, upstream: &str) -> Self {
        UpstreamMetrics {
            outcomes: ["ok", "connect_failed", "timeout", "failed"]
                .map(|outcome| f.carried.with_label_values(&[upstream, outcome])),
            in_flight: f.in_flight.with_label_values(&[upstream]),
            peers: [State::Healthy, State::Unhealthy, State::Ejected]
                .map(|state| f.peers.with_label_values(&[upstream, state.label()])),
            breaker_open: f.upstream_breaker.with_label_values(&[upstream]),
            lookups: ["ok", "empty", "failed"]
                .map(|outcome| f.lookups.with_label_values(&[upstream, outcome])),
        }
    }

    pub(super) fn carried(&self, outcome: Carried) {
        self.outcomes[outcome as usize].inc();
    }

    pub fn looked_up(&self, outcome: Looked) {
        self.lookups[outcome as usize].inc();
    }

    pub fn in_flight(&self) -> &IntGauge {
        &self.in_flight
    }

    pub fn breaker_open(&self) -> &IntGauge {
        &self.breaker_open
    }

    /// How many peers are in which [`State`].
    pub fn peers(&self, counts: [usize; 3]) {
        for (gauge, count) in self.peers.iter().zip(counts) {
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}
