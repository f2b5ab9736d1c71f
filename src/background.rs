//! What goes on beside the requests: keys are kept fresh, peers are asked how they are, their names are looked up
//! again. What a plan no longer has ends, what it has anew begins, and what is unchanged goes on undisturbed.

mod jobs;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::{BackgroundService, GenBackgroundService};

use self::jobs::Jobs;
use crate::edge::Tls;
use crate::gateway::{Current, Gateway};
use crate::observe::metrics::Metrics;
use crate::reload::Reload;
use crate::upstream::{Peer, Pool};

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
    current: Arc<Current>,
    /// Of each listener that has it.
    tls: Vec<Option<Arc<Tls>>>,
    reload: Option<Reload>,
}

impl Background {
    /// Without a `reload` the plan stays as it is.
    pub fn service(
        current: Arc<Current>,
        tls: Vec<Option<Arc<Tls>>>,
        reload: Option<Reload>,
    ) -> GenBackgroundService<Self> {
        let background = Background {
            current,
            tls,
            reload,
        };
        GenBackgroundService::new("background".to_owned(), Arc::new(background))
    }
}

#[async_trait]
impl BackgroundService for Background {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut tasks = tokio::task::JoinSet::new();
        let gateway = self.current.gateway();
        for (listener, tls) in self.tls.iter().enumerate() {
            if let Some(tls) = tls {
                let name = gateway.plan.listeners[listener].name.clone();
                let metrics = gateway.metrics.clone();
                tasks.spawn(keep_current(tls.clone(), (listener, name), metrics));
            }
        }
        let mut jobs = Jobs::default();
        tend(&mut jobs, &gateway);
        jobs.end_others();
        drop(gateway);
        tokio::select! {
            () = self.keep_reloading(&mut jobs) => {}
            _ = shutdown.wait_for(|stopping| *stopping) => {}
        }
        // Draining requests may still need a key: the jobs end with the runtime, not with the signal.
        while tasks.join_next().await.is_some() {}
        std::future::pending().await
    }
}

impl Background {
    async fn keep_reloading(&self, jobs: &mut Jobs) {
        let Some(reload) = &self.reload else {
            return std::future::pending().await;
        };
        let mut trigger = reload.trigger();
        loop {
            trigger.wait().await;
            let Some(next) = reload.next().await else {
                continue;
            };
            // What is new in it is got ready before a request meets it.
            tend(jobs, &next);
            reload.warm(&next).await;
            reload.put(next).await;
            // It may have been refused.
            jobs.want_nothing();
            tend(jobs, &self.current.gateway());
            jobs.end_others();
        }
    }
}

/// Sees to it that there is a job for everything that the generation has.
fn tend(jobs: &mut Jobs, gateway: &Gateway) {
    for tended in gateway.verifier.tended() {
        jobs.want(tended.identity(), || tended.keep_fresh());
    }
    for pool in gateway.upstreams.all() {
        jobs.want(vec![pool.clone()], || keep_pool(pool.clone()));
    }
}

async fn keep_pool(pool: Arc<Pool>) {
    let peers = pool.peers();
    let names = peers.iter().filter(|peer| peer.is_name());
    let mut resolving = tokio::task::JoinSet::new();
    for peer in names {
        let (pool, peer) = (pool.clone(), peer.clone());
        resolving.spawn(async move { keep_resolved(&pool, &peer).await });
    }
    tokio::join!(pool.keep_checked(), keep_found(&pool), keep_trusting(&pool));
    while resolving.join_next().await.is_some() {}
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
async fn keep_current(tls: Arc<Tls>, (listener, name): (usize, Arc<str>), metrics: Arc<Metrics>) {
    loop {
        tokio::time::sleep(LOOK_AT_FILES_EVERY).await;
        let tls = tls.clone();
        // A file system may hang.
        let Ok(Some(outcome)) = tokio::task::spawn_blocking(move || tls.refresh()).await else {
            continue;
        };
        metrics.tls_reloaded(listener, outcome.is_ok());
        match outcome {
            Ok(()) => log::info!("listener {name} has a new certificate"),
            Err(why) => log::error!("listener {name} keeps its old certificate: {why}"),
        }
    }
}

/// The same for what connections to a pool's peers are made with.
async fn keep_trusting(pool: &Pool) {
    let Some(trust) = pool.trust() else {
        return;
    };
    let name = &pool.name;
    loop {
        tokio::time::sleep(LOOK_AT_FILES_EVERY).await;
        let trust = trust.clone();
        match tokio::task::spawn_blocking(move || trust.refresh()).await {
            Ok(Some(Ok(()))) => log::info!("upstream {name} has new TLS files"),
            Ok(Some(Err(why))) => log::error!("upstream {name} keeps its old TLS files: {why}"),
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
