//! The thread on which issuers are talked to. Whatever an issuer sends has to be read, and one that sends without end
//! keeps its reader busy: that must not be a worker, who has requests to serve.

use once_cell::sync::OnceCell;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

/// What came of it there. It ends when nobody waits for it any more; `Err` says why there is nothing.
pub(super) async fn run<T: Send + 'static>(
    task: impl Future<Output = T> + Send + 'static,
) -> Result<T, String> {
    static THREAD: OnceCell<Runtime> = OnceCell::new();
    let thread = THREAD.get_or_try_init(|| {
        let mut thread = Builder::new_multi_thread();
        thread.worker_threads(1).thread_name("issuers");
        thread.enable_all().build()
    });
    let thread = thread.map_err(|error| format!("no thread to talk to issuers on: {error}"))?;
    let mut tasks = JoinSet::new();
    tasks.spawn_on(task, thread.handle());
    match tasks.join_next().await {
        Some(Ok(outcome)) => Ok(outcome),
        Some(Err(error)) => Err(error.to_string()),
        None => Err("nobody talked to the issuer".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_done_on_another_thread_and_ends_with_who_waits() {
        let name = run(async { std::thread::current().name().map(str::to_owned) }).await;
        assert_eq!(name, Ok(Some("issuers".to_owned())));

        let (held, dropped) = tokio::sync::oneshot::channel::<()>();
        let waits = run(async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        tokio::select! {
            biased;
            _ = waits => unreachable!("it never ends by itself"),
            () = std::future::ready(()) => {}
        }
        assert!(dropped.await.is_err());
    }

    #[tokio::test]
    async fn a_panic_there_is_an_error_here() {
        let outcome = run(async { panic!("on purpose") }).await;
        assert!(outcome.is_err_and(|why: String| why.contains("panic")));
    }
}
