//! What waits for a request, and until when.

use std::sync::atomic::{AtomicUsize, Ordering};

use pingora::apps::{HttpServerApp, ReusedHttpStream};
use pingora::protocols::http::ServerSession;

use super::*;

/// Counts what Pingora is given to do.
struct Counting {
    inner: Arc<HttpProxy<Tiny>>,
    given: AtomicUsize,
}

#[async_trait]
impl HttpServerApp for Counting {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        self.given.fetch_add(1, Ordering::Relaxed);
        self.inner.process_new_http(session, shutdown).await
    }
}

struct Rig {
    app: Arc<GuardApp<Counting>>,
    counting: Arc<Counting>,
    stop: watch::Sender<bool>,
}

impl Rig {
    fn new() -> Self {
        let plan = plan(|_| {});
        let metrics = Metrics::new(&plan).unwrap();
        let counting = Arc::new(Counting {
            inner: Arc::new(http_proxy(&Arc::new(ServerConf::default()), Tiny)),
            given: AtomicUsize::new(0),
        });
        let bounds = Bounds::new(&plan.limits, metrics);
        let app = GuardApp::new(counting.clone(), 0, Front::default(), bounds);
        Rig {
            app: Arc::new(app),
            counting,
            stop: watch::channel(false).0,
        }
    }

    fn connect(&self) -> DuplexStream {
        let (client, server) = tokio::io::duplex(256 * 1024);
        let (app, watch) = (self.app.clone(), self.stop.subscribe());
        tokio::spawn(async move { app.process_new(Box::new(server), &watch).await });
        client
    }

    fn given(&self) -> usize {
        self.counting.given.load(Ordering::Relaxed)
    }

    async fn asks(&self, client: &mut DuplexStream) -> String {
        client.write_all(HELLO).await.unwrap();
        response(client).await.0
    }
}

/// Lets everybody do what can be done now.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn pingora_hears_of_a_request_when_its_head_is_whole() {
    let rig = Rig::new();
    let mut client = rig.connect();
    for byte in &HELLO[..HELLO.len() - 1] {
        client.write_all(&[*byte]).await.unwrap();
        settle().await;
    }
    assert_eq!(rig.given(), 0);
    client.write_all(b"\n").await.unwrap();
    assert!(response(&mut client).await.0.starts_with("HTTP/1.1 200 "));
    assert_eq!(rig.given(), 1);
    // Nor of a kept connection on which nobody asks.
    settle().await;
    assert_eq!(rig.given(), 1);
    assert!(rig.asks(&mut client).await.starts_with("HTTP/1.1 200 "));
    assert_eq!(rig.given(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_within_its_head_never_gets_there() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.write_all(b"GET /a b HTTP/1.1\r\n").await.unwrap();
    is_problem(&response(&mut client).await, 400);
    ends(&mut client).await;
    assert_eq!(rig.given(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_after_keep_alive_however_often_it_was_used() {
    let rig = Rig::new();
    let keep_alive = plan(|_| {}).limits.keep_alive;
    let mut client = rig.connect();
    for _ in 0..3 {
        rig.asks(&mut client).await;
        tokio::time::sleep(keep_alive - Duration::from_secs(1)).await;
    }
    rig.asks(&mut client).await;
    let began = Instant::now();
    ends(&mut client).await;
    let waited = began.elapsed();
    assert!(waited >= keep_alive && waited < keep_alive + Duration::from_secs(1));
    // An empty line is no request, and buys no more time than the head of one.
    let mut client = rig.connect();
    rig.asks(&mut client).await;
    client.write_all(b"\r\n").await.unwrap();
    let began = Instant::now();
    ends(&mut client).await;
    assert!(began.elapsed() < keep_alive + Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_who_is_idle_and_nobody_else() {
    let rig = Rig::new();
    let mut idle = rig.connect();
    rig.asks(&mut idle).await;
    let (mut new, mut within) = (rig.connect(), rig.connect());
    rig.asks(&mut within).await;
    within.write_all(&HELLO[..9]).await.unwrap();
    settle().await;
    let began = Instant::now();
    rig.stop.send(true).unwrap();
    ends(&mut idle).await;
    assert!(began.elapsed() < TIMEOUT);
    // These have asked, or are about to: they are answered, and told that it was the last time.
    within.write_all(&HELLO[9..]).await.unwrap();
    assert!(
        response(&mut within)
            .await
            .0
            .contains("Connection: close\r\n")
    );
    assert!(rig.asks(&mut new).await.contains("Connection: close\r\n"));
    ends(&mut within).await;
    ends(&mut new).await;
}

/// RFC 9112 section 9.3.2: one after the other, each of them as if it had come alone.
#[tokio::test(start_paused = true)]
async fn requests_in_one_breath_are_answered_in_a_row() {
    let rig = Rig::new();
    let mut large = b"GET / HTTP/1.1\r\nHost: a\r\nX: ".to_vec();
    large.extend([b'x'; 4000]);
    large.extend(b"\r\n\r\n");
    let head = "POST / HTTP/1.1\r\nHost: a\r\n";
    let long = format!("{head}Content-Length: 70000\r\n\r\n{}", "y".repeat(70_000));
    let unread = "POST /unread HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    let chunks =
        format!("{head}Transfer-Encoding: chunked\r\n\r\n5;x\r\nhello\r\n0\r\nA: b\r\n\r\n");
    let all = [
        (HELLO, "0"),
        (&large, "0"),
        (unread.as_bytes(), "0"),
        (chunks.as_bytes(), "5"),
        (b"\r\n", ""),
        (long.as_bytes(), "70000"),
        (HELLO, "0"),
    ];
    let sent: Vec<u8> = all.iter().flat_map(|(bytes, _)| bytes.to_vec()).collect();
    for piece in [sent.len(), 4096, 1000, 37] {
        let (mut client, pieces) = (rig.connect(), sent.clone());
        let (mut read, mut write) = tokio::io::split(&mut client);
        let sends = async {
            for piece in pieces.chunks(piece) {
                write.write_all(piece).await.unwrap();
                settle().await;
            }
        };
        let reads = async {
            for (_, size) in all.iter().filter(|(_, size)| !size.is_empty()) {
                let (head, body) = response(&mut read).await;
                assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
                assert_eq!(body, *size);
            }
        };
        tokio::join!(sends, reads);
        rig.asks(&mut client).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_behind_another_is_looked_at_as_closely() {
    let rig = Rig::new();
    let (post, body) = ("POST / HTTP/1.1\r\nHost: a\r\n", "5\r\nhello\r\n0\r\n\r\n");
    let chunked = format!("{post}Transfer-Encoding: chunked\r\n\r\n{body}");
    let many = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(CAP));
    for second in [
        "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\n\n",
        "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        &many,
    ] {
        for first in [HELLO, chunked.as_bytes()] {
            let mut client = rig.connect();
            let sent = [first, second.as_bytes(), HELLO].concat();
            client.write_all(&sent).await.unwrap();
            assert!(response(&mut client).await.0.starts_with("HTTP/1.1 200 "));
            let status = if second.len() > CAP { 431 } else { 400 };
            is_problem(&response(&mut client).await, status);
            ends(&mut client).await;
        }
    }
}
