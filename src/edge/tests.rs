//! The guard around a real `HttpProxy`, over in-memory connections and tokio's paused time.

mod bare;
mod heads;
mod http1;
mod http2;

use std::time::Duration;

use bytes::Bytes;
use pingora::apps::HttpServerOptions;
use pingora::http::ResponseHeader;
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;
use pingora_proxy::{HttpProxy, ProxyHttp, Session, http_proxy};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;

use super::*;
use crate::config::plan::{Limits, Plan};
use crate::testkit;

const TIMEOUT: Duration = Duration::from_secs(10);
const CAP: usize = 32 * 1024;
/// Of one connection.
const REQUESTS: u32 = 100;

/// Answers every request with the size of its body.
struct Tiny;

#[async_trait]
impl ProxyHttp for Tiny {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn early_request_filter(
        &self,
        session: &mut Session,
        _ctx: &mut (),
    ) -> pingora::Result<()> {
        head_read(session);
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, _ctx: &mut ()) -> pingora::Result<bool> {
        let mut size = 0;
        if session.req_header().uri.path() == "/unread" {
            // Pingora drains the body after the answer, as it does after a rejection.
            session.set_close_on_response_before_downstream_finish(false);
            session.set_total_drain_timeout(Some(Duration::from_secs(2)));
        } else {
            while let Some(piece) = session.read_request_body().await? {
                size += piece.len();
            }
        }
        let body = size.to_string();
        let mut head = ResponseHeader::build(200, None)?;
        head.insert_header("Content-Length", body.len().to_string())?;
        session.write_response_header(Box::new(head), false).await?;
        session
            .write_response_body(Some(Bytes::from(body)), true)
            .await?;
        Ok(true)
    }

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        _ctx: &mut (),
    ) -> pingora::Result<Box<HttpPeer>> {
        Err(pingora::Error::new(pingora::ErrorType::InternalError))
    }
}

struct Edge {
    app: Arc<GuardApp<HttpProxy<Tiny>>>,
    metrics: Arc<Metrics>,
    connections: Arc<Connections>,
    _shutdown: watch::Sender<bool>,
    watch: watch::Receiver<bool>,
}

impl Edge {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Limits)) -> Self {
        let plan = plan(change);
        let metrics = Metrics::new(&plan).unwrap();
        let bounds = Bounds::new(&plan.limits, metrics.clone());
        let connections = bounds.connections().clone();
        let mut proxy = http_proxy(&Arc::new(ServerConf::default()), Tiny);
        let mut options = HttpServerOptions::default();
        options.keepalive_request_limit = Some(REQUESTS);
        proxy.server_options = Some(options);
        let app = GuardApp::new(Arc::new(proxy), 0, Front::default(), bounds);
        let (shutdown, watch) = watch::channel(false);
        Edge {
            app: Arc::new(app),
            metrics,
            connections,
            _shutdown: shutdown,
            watch,
        }
    }

    /// The client's end of a new connection.
    fn connect(&self) -> DuplexStream {
        let (client, server) = tokio::io::duplex(256 * 1024);
        self.serve(Box::new(server));
        client
    }

    fn serve(&self, stream: Stream) {
        let (app, watch) = (self.app.clone(), self.watch.clone());
        tokio::spawn(async move { app.process_new(stream, &watch).await });
    }

    fn counted(&self, line: &str) -> bool {
        let text = String::from_utf8(self.metrics.expose().unwrap()).unwrap();
        let found = text.lines().any(|l| l == line);
        if !found {
            let near = text
                .lines()
                .filter(|l| !l.ends_with(" 0") && !l.starts_with('#'));
            eprintln!("not in the metrics: {line}");
            near.for_each(|l| eprintln!("  {l}"));
        }
        found
    }
}

fn plan(change: impl FnOnce(&mut Limits)) -> Plan {
    let mut plan = testkit::plan(Vec::new());
    change(&mut plan.limits);
    assert_eq!(plan.limits.header_timeout, TIMEOUT);
    plan
}

/// Reads one response with a `Content-Length`.
async fn response(client: &mut (impl AsyncReadExt + Unpin)) -> (String, String) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.expect("a whole head"));
    }
    let head = String::from_utf8(head).unwrap();
    let length = head
        .lines()
        .find_map(|l| l.strip_prefix("Content-Length: "))
        .map_or(0, |l| l.parse().unwrap());
    let mut body = vec![0; length];
    client.read_exact(&mut body).await.unwrap();
    (head, String::from_utf8(body).unwrap())
}

async fn ends(client: &mut (impl AsyncReadExt + Unpin)) {
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
}

fn is_problem(answer: &(String, String), status: u16) {
    let (head, body) = answer;
    assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
    assert!(head.contains("Content-Type: application/problem+json\r\n"));
    assert!(head.contains("Connection: close\r\n"));
    assert!(!head.contains("Pingora"));
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["status"], status);
}

/// A head of exactly `size` bytes.
fn head_of(size: usize) -> Vec<u8> {
    let mut head = b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec();
    let mut n = 0;
    while size - head.len() > 1100 {
        head.extend_from_slice(format!("X-{n}: {}\r\n", "x".repeat(1000)).as_bytes());
        n += 1;
    }
    let rest = size - head.len() - "Y: \r\n\r\n".len();
    head.extend_from_slice(format!("Y: {}\r\n\r\n", "y".repeat(rest)).as_bytes());
    assert_eq!(head.len(), size);
    head
}

const HELLO: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn caps_hold_for_the_process_and_for_each_source() {
    let edge = Edge::with(|limits| {
        limits.connections = 3;
        limits.connections_per_source = 2;
    });
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    let connect = async || {
        let client = TcpStream::connect(address).await.unwrap();
        let (accepted, _) = server.accept().await.unwrap();
        edge.serve(with_digest(accepted));
        client
    };
    let mut first = connect().await;
    let mut second = connect().await;
    for client in [&mut first, &mut second] {
        client.write_all(HELLO).await.unwrap();
        assert!(response(client).await.0.starts_with("HTTP/1.1 200 "));
    }
    let mut third = connect().await;
    ends(&mut third).await;
    assert!(edge.counted("portcullis_connections_refused_total{reason=\"too_many\"} 1"));
    assert!(edge.counted("portcullis_connections_open{listener=\"127.0.0.1:8072\"} 2"));

    // Of unknown source: only the cap of the whole holds.
    let mut unknown = edge.connect();
    unknown.write_all(HELLO).await.unwrap();
    assert!(response(&mut unknown).await.0.starts_with("HTTP/1.1 200 "));
    ends(&mut edge.connect()).await;

    // A place that is given back is free again.
    drop((first, unknown));
    while edge.connections.open() > 1 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut fourth = connect().await;
    fourth.write_all(HELLO).await.unwrap();
    assert!(response(&mut fourth).await.0.starts_with("HTTP/1.1 200 "));
}

/// As Pingora's listener hands it over.
fn with_digest(accepted: TcpStream) -> Stream {
    use pingora::protocols::l4::socket::SocketAddr;
    use pingora::protocols::{GetSocketDigest, SocketDigest};
    use std::os::fd::AsRawFd;
    let digest = SocketDigest::from_raw_fd(accepted.as_raw_fd());
    let peer = SocketAddr::Inet(accepted.peer_addr().unwrap());
    digest.peer_addr.set(Some(peer)).unwrap();
    let mut stream = pingora::protocols::l4::stream::Stream::from(accepted);
    stream.set_socket_digest(digest);
    Box::new(stream)
}

#[tokio::test]
async fn the_answer_survives_what_the_client_still_sends() {
    let edge = Edge::new();
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(server.local_addr().unwrap())
        .await
        .unwrap();
    edge.serve(with_digest(server.accept().await.unwrap().0));
    // Far more than the cap, and the client reads nothing until it has sent it all.
    let head = head_of(CAP * 40);
    client.write_all(&head).await.unwrap();
    is_problem(&response(&mut client).await, 431);
    ends(&mut client).await;
}
