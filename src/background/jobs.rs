//! What is done again and again for something that a plan has, for as long as a plan has it.

use std::any::Any;
use std::sync::Arc;

use tokio::task::AbortHandle;

/// Whom a job is for. The same things in the next plan are the same job, which goes on.
pub(super) type Identity = Vec<Arc<dyn Any + Send + Sync>>;

#[derive(Default)]
pub(super) struct Jobs(Vec<Job>);

struct Job {
    /// Held, so that nothing new can be where it was.
    identity: Identity,
    task: AbortHandle,
    wanted: bool,
}

impl Jobs {
    /// Begins the job unless it is on. What the next [`Jobs::end_others`] finds to have been wanted since the last one
    /// stays.
    pub(super) fn want<F>(&mut self, identity: Identity, begin: impl FnOnce() -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        match self.0.iter_mut().find(|job| job.is_for(&identity)) {
            Some(job) => job.wanted = true,
            None => self.0.push(Job {
                identity,
                task: tokio::spawn(begin()).abort_handle(),
                wanted: true,
            }),
        }
    }

    /// Nothing is wanted any more, until somebody says so.
    pub(super) fn want_nothing(&mut self) {
        for job in &mut self.0 {
            job.wanted = false;
        }
    }

    pub(super) fn end_others(&mut self) {
        self.0.retain_mut(|job| {
            if !job.wanted {
                job.task.abort();
            }
            std::mem::take(&mut job.wanted)
        });
    }
}

impl Job {
    fn is_for(&self, identity: &Identity) -> bool {
        let mut pairs = self.identity.iter().zip(identity);
        self.identity.len() == identity.len()
            && pairs.all(|(a, b)| std::ptr::addr_eq(Arc::as_ptr(a), Arc::as_ptr(b)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_still_wanted_goes_on_and_the_rest_ends() {
        let (kept, gone, new) = (Arc::new(1), Arc::new(2), Arc::new(3));
        let begun = Arc::new(std::sync::Mutex::new(Vec::new()));
        let mut jobs = Jobs::default();
        let want = |jobs: &mut Jobs, of: &Arc<i32>| {
            let (of, begun) = (of.clone(), begun.clone());
            jobs.want(vec![of.clone()], || {
                begun.lock().expect("no panic").push(*of);
                // Each holds what it is for, as the real ones do.
                async move {
                    let _of = of;
                    std::future::pending().await
                }
            });
        };
        want(&mut jobs, &kept);
        want(&mut jobs, &gone);
        jobs.end_others();
        want(&mut jobs, &kept);
        want(&mut jobs, &new);
        jobs.end_others();
        assert_eq!(*begun.lock().expect("no panic"), [1, 2, 3]);
        assert_eq!(jobs.0.len(), 2);
        while Arc::strong_count(&gone) > 1 {
            tokio::task::yield_now().await;
        }
        assert_eq!(Arc::strong_count(&kept), 3);
    }
}
