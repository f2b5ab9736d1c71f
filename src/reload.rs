//! Another plan without a restart: the file is read again, all of it is checked, and then it is swapped at once, or
//! refused with the reasons while the old one serves on.
//!
//! A generation ([`Gateway`]) holds all that follows from one plan. The next one is built beside it and takes over what
//! is unchanged: key sets, proofs, pools and peers, buckets, breakers. What is new in it is got ready before a request
//! meets it. Requests in flight end with the generation that they began with.

mod file;
mod next;
mod restart;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

pub use file::{File, Trigger};

use crate::config::{self, Diagnostic, Loaded, Mode, System};
use crate::edge::Bounds;
use crate::gateway::{Current, Gateway};
use crate::observe::metrics;

/// How long what is new may take to get ready: keys to be fetched, names to be looked up.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is asked whether it is.
const LOOK: Duration = Duration::from_millis(20);

/// Everything that a new plan changes.
pub struct Reload {
    file: File,
    current: Arc<Current>,
    /// Of the listeners, and of the admin listener.
    bounds: [Arc<Bounds>; 2],
}

/// A generation that is not in place.
pub struct Next {
    pub gateway: Arc<Gateway>,
    /// What the file has otherwise than what runs, and only a restart changes.
    left: Vec<&'static str>,
}

impl Reload {
    pub fn new(file: File, current: Arc<Current>, bounds: [Arc<Bounds>; 2]) -> Self {
        Reload {
            file,
            current,
            bounds,
        }
    }

    pub fn trigger(&self) -> Trigger {
        Trigger::new(self.file.clone())
    }

    /// What the file says now, checked and built but not in place; `None` if it is refused, and then the log says why.
    pub async fn next(&self) -> Option<Next> {
        let file = self.file.path().to_owned();
        let old = self.current.gateway();
        // Files are read, and a file system may hang.
        let built = tokio::task::spawn_blocking(move || {
            let loaded = config::load(&file, &System, Mode::Online).map_err(Refused::of)?;
            let Loaded { mut plan, warnings } = loaded;
            for warning in &warnings {
                log::warn!("reload: {}", in_one_line(warning));
            }
            let left = restart::leave(&old.plan, &mut plan);
            let gateway = Arc::new(next::generation(&old, plan).map_err(Refused::Failed)?);
            Ok(Next { gateway, left })
        });
        let refused = match built.await {
            Ok(Ok(next)) => return Some(next),
            Ok(Err(refused)) => refused,
            Err(panic) => Refused::Failed(panic.to_string()),
        };
        self.refuse(&refused);
        None
    }

    /// Waits until what is new can be used, but no longer than it may take: an issuer that is down must not keep a
    /// change from those that are not.
    pub async fn warm(&self, next: &Gateway) {
        let old = self.current.gateway();
        let unready = || {
            let issuers = next.verifier.unready_since(&old.verifier);
            issuers + next.upstreams.unready_since(&old.upstreams)
        };
        let ready = async {
            while unready() > 0 {
                tokio::time::sleep(LOOK).await;
            }
        };
        if tokio::time::timeout(PATIENCE, ready).await.is_err() {
            let seconds = PATIENCE.as_secs();
            log::warn!(
                "reload: after {seconds} s some of what is new is not ready; the log and /readyz say why"
            );
        }
    }

    /// Puts it in place. Only the file of the revocations can refuse it still.
    pub async fn put(&self, next: Next) {
        let Next {
            gateway: next,
            left,
        } = next;
        let settling = next.clone();
        let settled = tokio::task::spawn_blocking(move || {
            settling.verifier.revocations().settle(&settling.plan)
        });
        match settled.await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => return self.refuse(&Refused::Failed(why)),
            Err(panic) => return self.refuse(&Refused::Failed(panic.to_string())),
        }
        for bounds in &self.bounds {
            bounds.adopt(&next.plan.limits);
        }
        next.access_log.switch(next.plan.access_log);
        self.current.replace(next.clone());
        // What the old one said of pools that both have, the new one says now.
        next.upstreams.recount();
        next.metrics.forget_others(&next.plan);
        next.metrics.reloaded(metrics::Reload::Ok);
        log::info!(
            "reload: {} is in place: {} routes, {} upstreams, {} issuers",
            self.file.path().display(),
            next.plan.routes.len(),
            next.plan.upstreams.len(),
            next.plan.issuers.len()
        );
        restart::tell(&left, &next.metrics);
    }

    fn refuse(&self, refused: &Refused) {
        let file = self.file.path().display();
        let gateway = self.current.gateway();
        match refused {
            Refused::Invalid(problems) | Refused::Unreadable(problems) => {
                // The log thins out what says more at a time.
                const LINES: usize = 10;
                for problems in problems.chunks(problems.len().div_ceil(LINES).max(1)) {
                    let lines: Vec<String> = problems.iter().map(in_one_line).collect();
                    log::error!("reload: {}", lines.join("; "));
                }
                let count = problems.len();
                log::error!(
                    "reload: {file} is refused, problems: {count}; what was there before serves on"
                );
            }
            Refused::Failed(why) => {
                log::error!("reload: {file} is refused: {why}; what was there before serves on");
            }
        }
        // Pools that were built for it may have set the gauges.
        gateway.upstreams.recount();
        gateway.metrics.reloaded(match refused {
            Refused::Invalid(_) => metrics::Reload::Invalid,
            Refused::Unreadable(_) | Refused::Failed(_) => metrics::Reload::Failed,
        });
    }
}

/// Why a plan is not put in place.
enum Refused {
    Invalid(Vec<Diagnostic>),
    /// The text is good, and names files that cannot be read.
    Unreadable(Vec<Diagnostic>),
    Failed(String),
}

impl Refused {
    fn of(problems: Vec<Diagnostic>) -> Self {
        match problems.iter().all(|problem| problem.unreadable) {
            true => Refused::Unreadable(problems),
            false => Refused::Invalid(problems),
        }
    }
}

fn in_one_line(diagnostic: &Diagnostic) -> String {
    diagnostic.to_string().replace("\n  hint: ", " (hint: ") + closing(diagnostic)
}

fn closing(diagnostic: &Diagnostic) -> &'static str {
    match diagnostic.hint {
        Some(_) => ")",
        None => "",
    }
}
