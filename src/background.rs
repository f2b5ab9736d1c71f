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
use crate::upstream::{Peer, Pool, Trust};

/// How often a peer's name is looked up again.
const LOOK_UP_EVERY: Duration = Duration::from_secs(10);
/// How often the addresses of a pool's name are looked up again.
const FIND_EVERY: Duration = Duration::from_secs(5);
/// How soon after a look-up that brought nothing.
const LOOK_UP_AGAIN: Duration = Duration::from_secs(1);

/// How often the files of TLS are looked at.
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
            tasks.spawn(async move { keep_found(&gateway.upstreams.all()[pool]).await });
        }
        for (pool, upstream) in self.gateway.upstreams.all().iter().enumerate() {
            for (peer, _) in upstream
                .peers()
                .iter()
                .enumerate()
                .filter(|(_, p)| p.is_name())
            {
                let gateway = self.gateway.clone();
                tasks.spawn(async move {
                    let pool = &gateway.upstreams.all()[pool];
                    keep_resolved(pool, &pool.peers()[peer]).await;
                });
            }
        }
        for pool in self.gateway.upstreams.all() {
            if let Some(trust) = pool.trust() {
                tasks.spawn(keep_trusting(trust.clone(), pool.name.clone()));
            }
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

/// All addresses of a pool's name.
async fn keep_found(pool: &Pool) {
    let Some(name) = pool.dns() else {
        return;
    };
    loop {
        match tokio::net::lookup_host(name).await {
            Ok(addresses) => pool.found(addresses),
            Err(error) => {
                let pool = &pool.name;
                log::warn!("upstream {pool}: cannot look up {name}: {error}");
            }
        }
        let again = match pool.peers().is_empty() {
            true => LOOK_UP_AGAIN,
            false => FIND_EVERY,
        };
        tokio::time::sleep(again).await;
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

/// The same for what connections to peers are made with.
async fn keep_trusting(trust: Arc<Trust>, pool: Arc<str>) {
    loop {
        tokio::time::sleep(LOOK_AT_FILES_EVERY).await;
        let trust = trust.clone();
        match tokio::task::spawn_blocking(move || trust.refresh()).await {
            Ok(Some(Ok(()))) => log::info!("upstream {pool} has new TLS files"),
            Ok(Some(Err(why))) => log::error!("upstream {pool} keeps its old TLS files: {why}"),
            Ok(None) | Err(_) => {}
        }
    }
}

/// The system's resolver, so that `/etc/hosts` and a container's DNS are honoured; a failed look-up keeps the last
/// address.
async fn keep_resolved(pool: &Pool, peer: &Peer) {
    loop {
        let found = tokio::net::lookup_host(peer.address()).await;
        let again = match found.map(|mut addresses| addresses.next()) {
            Ok(Some(address)) => {
                pool.resolved(peer, address);
                LOOK_UP_EVERY
            }
            Ok(None) => LOOK_UP_AGAIN,
            Err(error) => {
                log::warn!("cannot look up peer {}: {error}", peer.address());
                LOOK_UP_AGAIN
            }
        };
        tokio::time::sleep(again).await;
    }
}
