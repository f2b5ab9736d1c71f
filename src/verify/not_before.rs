//! Following a realm's not-before, which Keycloak's public realm document says to everybody.
//!
//! What the document says holds until it says something else, a lower second too: it is the administrator's own word,
//! and comes the way that the keys come. While it cannot be had, the last word stays.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::claims;
use super::fetch::{FetchFault, Web};
use super::json;
use super::revoked::Revocations;
use crate::clock::Clock;
use crate::config::plan::IssuerPlan;
use crate::observe::metrics::{IssuerMetrics, Refresh};

/// One issuer whose realm document is looked at.
pub(super) struct Watch {
    name: Arc<str>,
    web: Web,
    url: String,
    every: Duration,
    revocations: Arc<Revocations>,
    metrics: Arc<IssuerMetrics>,
    /// Why the last look brought nothing; `None` when it did.
    fault: Mutex<Option<String>>,
}

impl Watch {
    /// `None` when the issuer's is not followed. Fails on what no waiting can cure.
    pub(super) fn new(
        issuer: &IssuerPlan,
        revocations: Arc<Revocations>,
        metrics: Arc<IssuerMetrics>,
        clock: &Clock,
    ) -> Result<Option<Self>, String> {
        let Some(plan) = &issuer.not_before else {
            return Ok(None);
        };
        Ok(Some(Watch {
            name: issuer.name.clone(),
            web: Web::new(issuer, &plan.url, issuer.keys.timeout, clock)?,
            url: plan.url.clone(),
            every: plan.poll,
            revocations,
            metrics,
            fault: Mutex::default(),
        }))
    }

    /// Looks for ever; dropped when the server stops.
    pub(super) async fn keep_looking(&self) {
        loop {
            // Ten per cent either way, so that replicas do not ask together.
            let jitter = 0.9 + 0.2 * fastrand::f64();
            tokio::time::sleep(self.every.mul_f64(jitter)).await;
            self.look().await;
        }
    }

    pub(super) async fn look(&self) {
        let document = self.web.get(&self.url).await;
        let (outcome, fault) = match document.and_then(|document| self.read(&document)) {
            Ok(at) => {
                self.follow(at).await;
                (Refresh::Ok, None)
            }
            Err(fault) => {
                let outcome = match &fault {
                    FetchFault::Failed(_) | FetchFault::Status(..) => Refresh::Failed,
                    FetchFault::Invalid(_) => Refresh::Invalid,
                };
                (outcome, Some(fault.text().to_owned()))
            }
        };
        self.metrics.not_before_polled(outcome);
        let mut known = self.known();
        // Once per change: an issuer that is down for an hour is one line.
        if fault != *known {
            match &fault {
                Some(why) => log::warn!("issuer {}: its not-before is not known: {why}", self.name),
                None => log::info!("issuer {}: its not-before is known again", self.name),
            }
            *known = fault;
        }
    }

    fn read(&self, document: &[u8]) -> Result<u64, FetchFault> {
        let at = json::object(document)
            .and_then(|realm| claims::seconds(realm.get("tokens-not-before")));
        at.ok_or_else(|| {
            FetchFault::Invalid(format!(
                "{}: no `tokens-not-before`, so it is no realm document of Keycloak's; set issuers.{}.not_before.url",
                self.url, self.name
            ))
        })
    }

    async fn follow(&self, at: u64) {
        if self.revocations.not_before(&self.name).polled == at {
            return;
        }
        let (revocations, name) = (self.revocations.clone(), self.name.clone());
        // What cannot be written holds all the same, and the log has said so.
        let _ = tokio::task::spawn_blocking(move || revocations.polled(&name, at)).await;
        let now = self.revocations.not_before(&self.name).in_force();
        log::warn!(
            "issuer {}: its not-before is {at} now; tokens issued before {now} are refused",
            self.name
        );
    }

    /// Why the last look brought nothing.
    pub(super) fn fault(&self) -> Option<String> {
        self.known().clone()
    }

    fn known(&self) -> MutexGuard<'_, Option<String>> {
        // The lock guards one assignment: a panic cannot have left it half done.
        self.fault.lock().unwrap_or_else(|e| e.into_inner())
    }
}
