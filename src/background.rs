//! What goes on beside the requests: keys are kept fresh, peers are asked how they are, their names are looked up
//! again. What a plan no longer has ends, what it has anew begins, and what is unchanged goes on undisturbed.

mod jobs;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::{BackgroundService, GenBackgroundService};

use self::jobs::Jobs;
use crate::config::secret::Word;
use crate::edge::Tls;
use crate::gateway::{Current, Gateway};
use crate::observe::metrics::Metrics;
use crate::reload::Reload;
use crate::server::Takeover;
use crate::upstream::Pool;

/// How often the files of TLS and of the admin token are looked at.
const LOOK_AT_FILES_EVERY: Duration = Duration::from_secs(2);

/// One Pingora background service for all of it: every service costs a runtime and a thread.
pub struct Background {
    current: Arc<Current>,
    /// Of each listener that has it.
    tls: Vec<Option<Arc<Tls>>>,
    admin_token: Option<Arc<Word>>,
    reload: Option<Reload>,
    /// Taken when it begins.
    takeover: Mutex<Option<Takeover>>,
}

impl Background {
    /// Without a `reload` the plan stays as it is.
    pub fn service(
        current: Arc<Current>,
        tls: Vec<Option<Arc<Tls>>>,
        admin_token: Option<Arc<Word>>,
        reload: Option<Reload>,
        takeover: Takeover,
    ) -> GenBackgroundService<Self> {
        let background = Background {
            current,
            tls,
            admin_token,
            reload,
            takeover: Mutex::new(Some(takeover)),
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
        if let Some(token) = self.admin_token.clone() {
            tasks.spawn(keep_reading(token));
        }
        let mut jobs = Jobs::default();
        tend(&mut jobs, &gateway);
        jobs.end_others();
        drop(gateway);
        let takeover = {
            let mut takeover = self.takeover.lock().unwrap_or_else(PoisonError::into_inner);
            takeover.take()
        };
        if let Some(takeover) = takeover {
            takeover.run(&self.current).await;
        }
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
            tend(jobs, &next.gateway);
            reload.warm(&next.gateway).await;
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
    tokio::join!(pool.keep_checked(), pool.keep_found(), keep_trusting(&pool));
}

async fn keep_current(tls: Arc<Tls>, (listener, name): (usize, Arc<str>), metrics: Arc<Metrics>) {
    let tell = |outcome: Result<(), String>| {
        metrics.tls_reloaded(listener, outcome.is_ok());
        match outcome {
            Ok(()) => log::info!("listener {name} has a new certificate"),
            Err(why) => log::error!("listener {name} keeps its old certificate: {why}"),
        }
    };
    keep_looking(move || tls.refresh(), tell).await;
}

/// The same for what connections to a pool's peers are made with.
async fn keep_trusting(pool: &Pool) {
    let Some(trust) = pool.trust().cloned() else {
        return;
    };
    let name = &pool.name;
    let tell = |outcome| match outcome {
        Ok(()) => log::info!("upstream {name} has new TLS files"),
        Err(why) => log::error!("upstream {name} keeps its old TLS files: {why}"),
    };
    keep_looking(move || trust.refresh(), tell).await;
}

async fn keep_looking(
    look: impl Fn() -> Option<Result<(), String>> + Clone + Send + 'static,
    tell: impl Fn(Result<(), String>),
) {
    loop {
        tokio::time::sleep(LOOK_AT_FILES_EVERY).await;
        // A file system may hang.
        if let Ok(Some(outcome)) = tokio::task::spawn_blocking(look.clone()).await {
            tell(outcome);
        }
    }
}

/// Whoever empties the file or takes it away does so to lock somebody out: that the old token still opens is to be in
/// the log before somebody shows it.
async fn keep_reading(token: Arc<Word>) {
    loop {
        tokio::time::sleep(LOOK_AT_FILES_EVERY).await;
        token.current().await;
    }
}
