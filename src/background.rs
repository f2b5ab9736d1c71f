//! What goes on beside the requests: keys are kept fresh, peers are asked how they are, their names are looked up
//! again.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::{BackgroundService, GenBackgroundService};

use crate::config::plan::IssuerId;
use crate::edge::Tls;
use crate::gateway::Gateway;

/// How often the files of TLS listeners are looked at.
const LOOK_AT_FILES_EVERY: Duration = Duration::from_secs(2);

/// One Pingora background service for all of it: every service costs a runtime and a thread.
pub struct Background {
    gateway: Arc<Gateway>,
    /// Of each listener that has it.
    tls: Vec<Option<Arc<Tls>>>,
}

impl Background {
    pub fn service(
        gateway: Arc<Gateway>,
        tls: Vec<Option<Arc<Tls>>>,
    ) -> GenBackgroundService<Self> {
        let background = Background { gateway, tls };
        GenBackgroundService::new("background".to_owned(), Arc::new(background))
    }
}

#[async_trait]
impl BackgroundService for Background {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut tasks = tokio::task::JoinSet::new();
        for index in 0..self.gateway.plan.issuers.len() {
            let gateway = self.gateway.clone();
            tasks.spawn(async move { gateway.verifier.keep_fresh(IssuerId(index)).await });
        }
        for pool in 0..self.gateway.upstreams.all().len() {
            let gateway = self.gateway.clone();
            tasks.spawn(async move { gateway.upstreams.all()[pool].keep_checked().await });
        }
        for pool in 0..self.gateway.upstreams.all().len() {
            let gateway = self.gateway.clone();
            tasks.spawn(async move { gateway.upstreams.all()[pool].keep_found().await });
        }
        for (listener, tls) in self.tls.iter().enumerate() {
            if let Some(tls) = tls {
                tasks.spawn(keep_current(tls.clone(), listener, self.gateway.clone()));
            }
        }
        // Draining requests may still need a key: the tasks end with the runtime, not with the signal.
        let _ = shutdown.wait_for(|stopping| *stopping).await;
        while tasks.join_next().await.is_some() {}
    }
}

/// A mounted secret changes by a link that is put in place of another, so nothing but the contents tells.
async fn keep_current(tls: Arc<Tls>, listener: usize, gateway: Arc<Gateway>) {
    let name = &gateway.plan.listeners[listener].name;
    loop {
        tokio::time::sleep(LOOK_AT_FILES_EVERY).await;
        let tls = tls.clone();
        // A file system may hang.
        let Ok(Some(outcome)) = tokio::task::spawn_blocking(move || tls.refresh()).await else {
            continue;
        };
        gateway.metrics.tls_reloaded(listener, outcome.is_ok());
        match outcome {
            Ok(()) => log::info!("listener {name} has a new certificate"),
            Err(why) => log::error!("listener {name} keeps its old certificate: {why}"),
        }
    }
}
