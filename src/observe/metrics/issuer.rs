//! The handles of one issuer. Whoever keeps an issuer's keys over a reload keeps them too.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{Gauge, Histogram, IntCounter, IntCounterVec, IntGauge};

use super::VerificationHandles;
use super::families::Families;
use super::labels::{Asked, Heard, Kept, Refresh};

pub struct IssuerMetrics {
    name: Arc<str>,
    verification: VerificationHandles,
    keys: IntGauge,
    keys_age: Gauge,
    from_snapshot: IntGauge,
    refreshes: [IntCounter; 3],
    snapshots: [IntCounter; 2],
    skipped: IntCounterVec,
    introspections: [IntCounter; 3],
    introspections_shared: IntCounter,
    introspection_duration: Histogram,
    breaker_open: IntGauge,
    not_before: IntGauge,
    polls: [IntCounter; 3],
    pushes: [IntCounter; 3],
    logouts: [IntCounter; 3],
}

impl IssuerMetrics {
    pub(super) fn of(f: &Families, name: Arc<str>) -> Self {
        let issuer = &*name;
        let by_outcome = |family: &IntCounterVec, outcomes: [&str; 3]| {
            outcomes.map(|outcome| family.with_label_values(&[issuer, outcome]))
        };
        IssuerMetrics {
            verification: VerificationHandles::of(f, issuer),
            keys: f.keys.with_label_values(&[issuer]),
            keys_age: f.age.with_label_values(&[issuer]),
            from_snapshot: f.from_snapshot.with_label_values(&[issuer]),
            refreshes: by_outcome(&f.refreshes, ["ok", "failed", "invalid"]),
            snapshots: ["ok", "failed"]
                .map(|outcome| f.snapshots.with_label_values(&[issuer, outcome])),
            skipped: f.skipped.clone(),
            introspections: by_outcome(&f.introspections, ["active", "inactive", "failed"]),
            introspections_shared: f.shared.with_label_values(&[issuer]),
            introspection_duration: f.introspection_duration.with_label_values(&[issuer]),
            breaker_open: f.breaker_open.with_label_values(&[issuer]),
            not_before: f.not_before.with_label_values(&[issuer]),
            polls: by_outcome(&f.polls, ["ok", "failed", "invalid"]),
            pushes: by_outcome(&f.pushes, ["ok", "refused", "failed"]),
            logouts: by_outcome(&f.logouts, ["ok", "refused", "failed"]),
            name,
        }
    }

    pub(super) fn verification(&self) -> &VerificationHandles {
        &self.verification
    }

    pub fn keys_refreshed(&self, outcome: Refresh) {
        self.refreshes[outcome as usize].inc();
    }

    /// `reason` is one of a closed set of words.
    pub fn key_skipped(&self, reason: &'static str) {
        self.skipped.with_label_values(&[&*self.name, reason]).inc();
    }

    pub fn keys_kept(&self, outcome: Kept) {
        self.snapshots[outcome as usize].inc();
    }

    pub fn keys_held(&self, keys: usize, age: Duration, from_snapshot: bool) {
        self.from_snapshot.set(i64::from(from_snapshot));
        self.keys.set(i64::try_from(keys).unwrap_or(i64::MAX));
        self.keys_age.set(age.as_secs_f64());
    }

    /// One question that was sent.
    pub fn introspected(&self, outcome: Asked, took: Duration) {
        self.introspections[outcome as usize].inc();
        self.introspection_duration.observe(took.as_secs_f64());
    }

    /// One question that was not sent, because the same one was on its way.
    pub fn introspection_shared(&self) {
        self.introspections_shared.inc();
    }

    pub fn introspection_breaker(&self, open: bool) {
        self.breaker_open.set(i64::from(open));
    }

    pub fn not_before_polled(&self, outcome: Refresh) {
        self.polls[outcome as usize].inc();
    }

    pub fn not_before_pushed(&self, outcome: Heard) {
        self.pushes[outcome as usize].inc();
    }

    pub fn logged_out(&self, outcome: Heard) {
        self.logouts[outcome as usize].inc();
    }

    pub fn not_before(&self, at: u64) {
        let at = i64::try_from(at).unwrap_or(i64::MAX);
        self.not_before.set(at);
    }
}
