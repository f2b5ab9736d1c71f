//! Asks a pool's peers whether they are well.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::super::peer::Peer;
use super::super::probe::Prober;
use super::Pool;
use crate::config::plan::HealthPlan;

impl Pool {
    /// Asks all peers again and again, until the task is dropped. At once where there is nothing to ask.
    pub async fn keep_checked(&self) {
        let Some(plan) = &self.health else {
            return;
        };
        let prober = Arc::new(Prober::new(plan.clone()));
        let mut rounds = tokio::time::interval(plan.interval);
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            let mut asked = JoinSet::new();
            for peer in self.peers().iter() {
                let (peer, prober) = (peer.clone(), prober.clone());
                asked.spawn(async move {
                    tokio::time::sleep(prober.jitter()).await;
                    let answer = prober.ask(&peer).await;
                    (peer, answer)
                });
            }
            while let Some(done) = asked.join_next().await {
                if let Ok((peer, answer)) = done {
                    self.checked(&peer, &answer, plan);
                }
            }
        }
    }

    pub(super) fn checked(&self, peer: &Peer, answer: &Result<(), String>, plan: &HealthPlan) {
        if !peer.standing.checked(answer.is_ok(), plan) {
            return;
        }
        self.arrange(&self.alone(), self.clock.monotonic());
        let (pool, address) = (&self.name, peer.address());
        match answer {
            Ok(()) => log::info!("upstream {pool}: peer {address} is healthy again"),
            Err(why) => log::warn!("upstream {pool}: peer {address} is unhealthy: {why}"),
        }
    }
}
