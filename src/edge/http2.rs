//! The requests of one HTTP/2 connection.
//!
//! Pingora has such a loop of its own. Ours also counts what is refused before any hook, answers `CONNECT` in our
//! words, tells a caller that abuses the connection so, and says goodbye to one that is idle or has asked enough (RFC 9113
//! section 6.8).

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::server::Connection;
use http::Method;
use pingora::apps::HttpServerApp;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{
    H2Accept, H2Options, HttpSession, default_h2_options, handshake,
};
use pingora::protocols::{Digest, GetProxyDigest, GetSocketDigest, GetTimingDigest, Ssl, Stream};
use pingora::server::ShutdownWatch;
use tokio::sync::watch;

use super::bounds::Rules;
use super::stream::GuardStream;
use crate::reject::{self, Rejection};
use crate::request::RequestId;

/// Requests of one connection that Pingora may refuse before any hook; its own figure.
const MALFORMED: usize = 32;

/// Streams that h2 may have to reset because of what the caller does (CVE-2025-8671, MadeYouReset). Its default is
/// 1024; nobody who means well comes near either.
const LOCAL_RESETS: usize = 128;

/// How long a goodbye may take to leave.
const GOODBYE: Duration = Duration::from_secs(2);

/// What holds for HTTP/2 on every listener.
fn options(rules: &Rules) -> H2Options {
    let mut options = default_h2_options();
    options.max_header_list_size(rules.http2_header_list);
    options.max_concurrent_streams(rules.http2_streams);
    options.max_local_error_reset_streams(Some(LOCAL_RESETS));
    options
}

pub(super) async fn serve<A: HttpServerApp + Send + Sync + 'static>(
    app: &Arc<A>,
    stream: GuardStream,
    rules: &Arc<Rules>,
    shutdown: &ShutdownWatch,
) {
    let flood = stream.flood();
    let digest = Arc::new(Digest {
        ssl_digest: stream.get_ssl_digest(),
        timing_digest: stream.get_timing_digest(),
        proxy_digest: stream.get_proxy_digest(),
        socket_digest: stream.get_socket_digest(),
    });
    let idle = Some(rules.http2_idle);
    // The guard bounds the time that the opening may take.
    let Ok(mut connection) = handshake(Box::new(stream), Some(options(rules))).await else {
        return;
    };
    let (alive, mut living) = watch::channel(0_usize);
    let alive = Arc::new(alive);
    let mut stopping = shutdown.clone();
    // We have said goodbye. What the caller asked before it heard that is still answered.
    let mut leaving = false;
    let (mut requests, mut malformed) = (0, 0);
    let most = app.server_options().and_then(|o| o.keepalive_request_limit);
    // What is there to be accepted now has waited for others.
    let mut waited = false;
    loop {
        let patience = if leaving { Some(GOODBYE) } else { idle };
        let accepted = tokio::select! {
            biased;
            _ = stopping.changed(), if !leaving => None,
            accepted = accept(&mut connection, &digest, &mut waited) => Some(accepted),
            () = idleness(&mut living, patience) => {
                if leaving {
                    return;
                }
                None
            }
        };
        let Some(accepted) = accepted else {
            connection.graceful_shutdown();
            leaving = true;
            continue;
        };
        requests += 1;
        match accepted {
            // A caller that is gone, an error that h2 has told it, or the end.
            Err(_) | Ok(None) => return,
            Ok(Some(H2Accept::Rejected)) => malformed += 1,
            Ok(Some(H2Accept::Session(mut session))) => {
                if flood.is_near() && !waited {
                    behind_others(&mut connection).await;
                    waited = true;
                }
                if !is_taken_back(&mut session) {
                    let session = ServerSession::new_http2(session);
                    let living = Living::new(&alive);
                    if session.req_header().method == Method::CONNECT {
                        tokio::spawn(refuse_connect(session, rules.clone(), living));
                    } else {
                        spawn(app, session, living, shutdown);
                    }
                }
            }
        }
        if malformed >= MALFORMED && !flood.is_on() {
            flood.deny();
        }
        if malformed >= MALFORMED || flood.is_on() {
            connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
            return goodbye(connection).await;
        }
        // As for HTTP/1.1: a caller who never leaves would never meet a new replica.
        if !leaving && most.is_some_and(|most| requests >= most) {
            connection.graceful_shutdown();
            leaving = true;
        }
    }
}

/// The next request. `waited` holds until there is none.
async fn accept(
    connection: &mut Connection<Stream, Bytes>,
    digest: &Arc<Digest>,
    waited: &mut bool,
) -> pingora::Result<Option<H2Accept>> {
    let mut accepted = pin!(HttpSession::from_h2_conn(connection, digest.clone()));
    poll_fn(|cx| {
        let accepted = accepted.as_mut().poll(cx);
        *waited &= accepted.is_ready();
        accepted
    })
    .await
}

/// Until nobody else has anything to do, and what came meanwhile has been read: it may take the request back.
async fn behind_others(connection: &mut Connection<Stream, Bytes>) {
    tokio::task::yield_now().await;
    // Whatever is wrong with it shows when the next request is accepted.
    poll_fn(|cx| Poll::Ready(connection.poll_closed(cx).is_ready())).await;
}

/// Whether the caller has reset the stream already: its HEADERS and its RST_STREAM came together. Such a request would
/// be judged, and a peer asked, for nobody.
fn is_taken_back(session: &mut HttpSession) -> bool {
    let nobody = &mut Context::from_waker(Waker::noop());
    pin!(session.idle()).poll(nobody).is_ready()
}

fn spawn<A: HttpServerApp + Send + Sync + 'static>(
    app: &Arc<A>,
    session: ServerSession,
    living: Living,
    shutdown: &ShutdownWatch,
) {
    let (app, shutdown) = (app.clone(), shutdown.clone());
    tokio::spawn(async move {
        app.process_new_http(session, &shutdown).await;
        drop(living);
    });
}

/// Resolves when no request has lived for this long.
async fn idleness(living: &mut watch::Receiver<usize>, idle: Option<Duration>) {
    let Some(idle) = idle else {
        return std::future::pending().await;
    };
    let nobody = living.wait_for(|requests| *requests == 0).await.is_ok();
    if nobody {
        tokio::time::sleep(idle).await;
    }
}

/// Lets what was said last leave, and takes nothing more.
async fn goodbye(mut connection: Connection<Stream, Bytes>) {
    let closed = poll_fn(|cx| connection.poll_closed(cx));
    // Whoever does not listen is left.
    let _ = tokio::time::timeout(GOODBYE, closed).await;
}

/// Pingora's answer to it is empty, and nobody would hear of it.
async fn refuse_connect(mut session: ServerSession, rules: Arc<Rules>, _living: Living) {
    let request_id = RequestId::fresh();
    let peer = session.client_addr().and_then(|peer| peer.as_inet());
    rules.refused(Rejection::MethodNotAllowed, peer.copied(), &request_id);
    let rejection = Rejection::MethodNotAllowed;
    let answer = reject::bare(&mut session, rejection, request_id.as_str());
    // A caller that is gone hears nothing, and one that takes nothing is not waited for.
    let _ = tokio::time::timeout(rules.head_timeout, answer).await;
}

/// One request; counts until dropped.
struct Living(Arc<watch::Sender<usize>>);

impl Living {
    fn new(alive: &Arc<watch::Sender<usize>>) -> Self {
        alive.send_modify(|requests| *requests += 1);
        Living(alive.clone())
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        self.0.send_modify(|requests| *requests -= 1);
    }
}
