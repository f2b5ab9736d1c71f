//! The hooks one by one, in states that no request can bring about.

use std::net::TcpListener;

use pingora::apps::HttpServerApp;
use pingora::protocols::http::ServerSession;
use pingora::server::configuration::ServerConf;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;
use crate::config::plan::{Access, RouteId, RoutePlan};
use crate::server::{Surroundings, bind};
use crate::testkit::{plan, route, upstream};

/// A gateway with one public route, and the socket of its only peer.
fn gateway() -> (Proxy, TcpListener) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut plan = plan(vec![RoutePlan {
        access: Access::Public,
        ..route("/open")
    }]);
    plan.issuers.clear();
    plan.upstreams = vec![upstream(
        "origin",
        &[(&socket.local_addr().unwrap().to_string(), 1)],
    )];
    plan.listeners[0].address.set_port(0);
    plan.admin.address.set_port(0);
    let surroundings = Surroundings {
        clock: Clock::system(),
        access_log: Box::new(std::io::sink()),
        alone: false,
        file: None,
        upgrade: false,
    };
    let bound = bind(plan, surroundings).unwrap();
    let proxy = Proxy {
        current: bound.current().clone(),
        index: 0,
    };
    (proxy, socket)
}

const REQUEST: &[u8] =
    b"POST /open HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// A session that has read a request, and the caller's end of its connection.
async fn session() -> (Session, DuplexStream) {
    let (mut caller, connection) = tokio::io::duplex(64 * 1024);
    caller.write_all(REQUEST).await.unwrap();
    let mut session = Session::new_h1(Box::new(connection));
    assert!(session.read_request().await.unwrap());
    (session, caller)
}

async fn answer(mut caller: DuplexStream) -> String {
    let mut text = String::new();
    caller.read_to_string(&mut text).await.unwrap();
    text
}

fn is_500(text: &str) {
    assert!(text.starts_with("HTTP/1.1 500 "), "{text}");
    assert!(text.contains("application/problem+json"), "{text}");
    assert!(text.contains("could not handle the request"), "{text}");
}

/// The gateway as it would be if a check were forgotten: everything is known of the request but that it may pass.
struct Forgetful(Proxy);

#[async_trait]
impl ProxyHttp for Forgetful {
    type CTX = Box<Context>;

    fn new_ctx(&self) -> Box<Context> {
        self.0.new_ctx()
    }

    async fn request_filter(
        &self,
        session: &mut Session,
        context: &mut Box<Context>,
    ) -> Result<bool> {
        let answered = self.0.request_filter(session, context).await?;
        assert!(!answered && context.life.permit.is_some());
        context.life.permit = None;
        Ok(false)
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        context: &mut Box<Context>,
    ) -> Result<Box<HttpPeer>> {
        self.0.upstream_peer(session, context).await
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        context: &mut Box<Context>,
    ) -> FailToProxy {
        self.0.fail_to_proxy(session, error, context).await
    }

    async fn logging(
        &self,
        session: &mut Session,
        error: Option<&Error>,
        context: &mut Box<Context>,
    ) {
        assert_eq!(context.life.rejection, Some(Rejection::NoPermit));
        self.0.logging(session, error, context).await;
    }
}

#[tokio::test]
async fn a_request_without_a_permit_is_500_and_never_connects() {
    let (proxy, socket) = gateway();
    let gateway = proxy.current.gateway();
    let conf = Arc::new(ServerConf::default());
    let proxy = Arc::new(pingora_proxy::http_proxy(&conf, Forgetful(proxy)));
    let (mut caller, connection) = tokio::io::duplex(64 * 1024);
    caller.write_all(REQUEST).await.unwrap();
    let (_stop, shutdown) = tokio::sync::watch::channel(false);
    let session = ServerSession::new_http1(Box::new(connection));
    proxy.process_new_http(session, &shutdown).await;
    is_500(&answer(caller).await);
    assert!(socket.accept().is_err(), "nobody connected");
    let counted = String::from_utf8(gateway.metrics.expose().unwrap()).unwrap();
    let series = "portcullis_rejections_total{reason=\"no_permit\",route=\"/open\"} 1";
    assert!(counted.contains(series), "{counted}");
}

#[tokio::test]
async fn no_hook_goes_on_without_a_permit() {
    let (proxy, _socket) = gateway();
    let (mut session, caller) = session().await;
    // Nothing known, then only the route: neither is enough.
    let mut context = proxy.new_ctx();
    for known in [None, Some(RouteId(0))] {
        let Context { gateway, life } = &mut *context;
        life.route = known;
        assert!(matches!(
            life.permitted(&gateway.plan),
            Err(Rejection::NoPermit)
        ));
        assert!(!life.may_connect_again(gateway));
        assert!(
            proxy
                .upstream_peer(&mut session, &mut context)
                .await
                .is_err()
        );
        let mut head = RequestHeader::build("GET", b"/open", None).unwrap();
        let filtered = proxy
            .upstream_request_filter(&mut session, &mut head, &mut context)
            .await;
        assert!(filtered.is_err());
    }
    let error = proxy
        .upstream_peer(&mut session, &mut context)
        .await
        .unwrap_err();
    let told = proxy
        .fail_to_proxy(&mut session, &error, &mut context)
        .await;
    assert_eq!(told.error_code, 500);
    drop(session);
    is_500(&answer(caller).await);
}

#[tokio::test]
async fn a_permitted_request_has_a_peer() {
    let (proxy, socket) = gateway();
    let (mut session, _caller) = session().await;
    let mut context = proxy.new_ctx();
    assert!(
        !proxy
            .request_filter(&mut session, &mut context)
            .await
            .unwrap()
    );
    let peer = proxy
        .upstream_peer(&mut session, &mut context)
        .await
        .unwrap();
    assert_eq!(
        peer._address.to_string(),
        socket.local_addr().unwrap().to_string()
    );
}

#[tokio::test]
async fn a_failure_of_our_own_is_500() {
    let (proxy, _socket) = gateway();
    let (mut session, caller) = session().await;
    let mut context = proxy.new_ctx();
    let error = Error::new(ErrorType::InternalError);
    let told = proxy
        .fail_to_proxy(&mut session, &error, &mut context)
        .await;
    assert_eq!(told.error_code, 500);
    assert_eq!(context.life.rejection, Some(Rejection::Internal));
    drop(session);
    is_500(&answer(caller).await);
}

/// Pingora issue #935: its HTTP/1 writer encodes an empty piece as the last chunk, and then writes the last chunk.
#[tokio::test]
async fn an_empty_last_piece_of_a_body_is_no_piece() {
    let (proxy, _socket) = gateway();
    let (mut session, _caller) = session().await;
    let mut context = proxy.new_ctx();
    assert!(
        !proxy
            .request_filter(&mut session, &mut context)
            .await
            .unwrap()
    );
    for (piece, end, passed) in [
        (Some(""), true, None),
        (None, true, None),
        (Some("last"), true, Some("last")),
        (Some("more"), false, Some("more")),
        // Pingora itself drops these.
        (Some(""), false, Some("")),
    ] {
        let mut body = piece.map(Bytes::from);
        proxy
            .request_body_filter(&mut session, &mut body, end, &mut context)
            .await
            .unwrap();
        assert_eq!(body, passed.map(Bytes::from), "{piece:?} {end}");
    }
}
