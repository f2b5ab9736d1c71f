//! The requests of one HTTP/1 connection, one after the other.
//!
//! Pingora has such a loop of its own. Ours has the head of each request gathered before there is a session for it.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use pingora::apps::{HttpPersistentSettings, HttpServerApp};
use pingora::protocols::http::ServerSession;
use pingora::protocols::{Shutdown, Stream};
use pingora::server::ShutdownWatch;

use super::LINGER;
use super::stream::{Gathered, GuardStream};

pub(super) async fn serve<A: HttpServerApp + Send + Sync + 'static>(
    app: &Arc<A>,
    stream: GuardStream,
    shutdown: &ShutdownWatch,
) {
    let mut watch = shutdown.clone();
    let mut stopping = pin!(async {
        // An error is a server that is gone, and so is its word.
        let _ = watch.wait_for(|stopping| *stopping).await;
        // A caller may be sending its next request just now. Whoever asks in this time is answered and told to close.
        tokio::time::sleep(LINGER).await;
    });
    let mut stopped = false;
    let mut stream = Box::new(stream);
    let mut settings: Option<HttpPersistentSettings> = None;
    let limit = app.server_options().and_then(|o| o.keepalive_request_limit);
    loop {
        let gathered = poll_fn(|cx| {
            if let Poll::Ready(gathered) = stream.poll_gather(cx) {
                return Poll::Ready(gathered);
            }
            if stream.is_idle() {
                stopped = stopped || stopping.as_mut().poll(cx).is_ready();
                if stopped {
                    return Poll::Ready(Gathered::Nothing);
                }
            }
            Poll::Pending
        });
        match gathered.await {
            Gathered::Head => {}
            Gathered::Refused => return stream.shutdown().await,
            Gathered::Nothing => return,
        }
        let mut session = ServerSession::new_http1(stream);
        match settings.take() {
            Some(settings) => settings.apply_to_session(&mut session),
            // Whether the connection may go on is in the head, and how long it waits then is for us to say.
            None => session.set_keepalive_reuses_remaining(limit),
        }
        if *shutdown.borrow() {
            session.set_keepalive(None);
        }
        let Some(reused) = app.process_new_http(session, shutdown).await else {
            return;
        };
        let (reused, kept) = reused.consume();
        let Some(ours) = ours(reused) else {
            return;
        };
        // Only now is it certain that the body before it, drained or not, is over.
        stream = ours;
        // Pingora thinks so, and we have to think so too: what follows is the caller's next request.
        if !stream.is_through() {
            return;
        }
        stream.arm();
        settings = kept;
    }
}

/// The connection, out of Pingora's hands.
fn ours(stream: Stream) -> Option<Box<GuardStream>> {
    stream.into_any().downcast().ok()
}
