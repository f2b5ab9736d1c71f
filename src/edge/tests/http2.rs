//! HTTP/2: the guard bounds the opening of a connection and nothing after it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::*;

/// A TLS connection that agreed on `h2`, without its TLS.
#[derive(Debug)]
pub(super) struct Agreed(pub(super) DuplexStream);

impl Ssl for Agreed {
    fn selected_alpn_proto(&self) -> Option<ALPN> {
        Some(ALPN::H2)
    }
}

impl AsyncRead for Agreed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Agreed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[async_trait]
impl Shutdown for Agreed {
    async fn shutdown(&mut self) {}
}

impl UniqueID for Agreed {
    fn id(&self) -> UniqueIDType {
        0
    }
}

impl GetTimingDigest for Agreed {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Agreed {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Agreed {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}

impl Peek for Agreed {}

fn connect(edge: &Edge) -> DuplexStream {
    let (client, server) = tokio::io::duplex(256 * 1024);
    edge.serve(Box::new(Agreed(server)));
    client
}

#[tokio::test(start_paused = true)]
async fn requests_come_through_whatever_their_size_and_however_late() {
    let edge = Edge::new();
    let (sender, connection) = h2::client::handshake(connect(&edge)).await.unwrap();
    tokio::spawn(connection);
    let mut sender = sender.ready().await.unwrap();
    for size in [0, 4 * CAP] {
        // Longer than a head may take.
        tokio::time::sleep(TIMEOUT * 3).await;
        let request = http::Request::post("https://a/").body(()).unwrap();
        let (answer, mut body) = sender.send_request(request, size == 0).unwrap();
        if size > 0 {
            tokio::time::sleep(TIMEOUT * 3).await;
            body.send_data(Bytes::from(vec![0; size]), true).unwrap();
        }
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), 200);
        let mut body = answer.into_body();
        let said = body.data().await.unwrap().unwrap();
        assert_eq!(said, size.to_string());
    }
    assert!(edge.counted("portcullis_unparsed_requests_total 0"));
}

/// h2 would take frames for as long as there are any.
#[tokio::test]
async fn a_connection_that_brings_much_lets_others_go_before() {
    const OPENING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    const PRIORITY: [u8; 14] = [0, 0, 5, 2, 0, 0, 0, 0, 1, 0, 0, 0, 3, 16];
    let edge = Edge::new();
    let (mut client, server) = tokio::io::duplex(256 * 1024);
    client.write_all(OPENING).await.unwrap();
    let (many, mut written) = (PRIORITY.repeat(20_000), 0);
    // What is taken now is what was read since the last time.
    let mut room = async || {
        let rest = &many[written % PRIORITY.len()..];
        let taken = std::future::poll_fn(|cx| {
            let wrote = Pin::new(&mut client).poll_write(cx, rest);
            Poll::Ready(match wrote {
                Poll::Ready(wrote) => wrote.unwrap(),
                Poll::Pending => 0,
            })
        });
        let taken = taken.await;
        written += taken;
        taken
    };
    while room().await > 0 {}
    edge.serve(Box::new(Agreed(server)));
    let mut read = 0;
    while read < 256 * 1024 {
        tokio::task::yield_now().await;
        let taken = room().await;
        assert!(taken <= 48 * 1024, "{taken} bytes in one turn");
        read += taken;
    }
}

#[tokio::test(start_paused = true)]
async fn an_opening_that_does_not_come_is_cut_off() {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for (opening, unparsed) in [(&b""[..], 0), (&PREFACE[..10], 1), (PREFACE, 1)] {
        let edge = Edge::new();
        let mut client = connect(&edge);
        client.write_all(opening).await.unwrap();
        let began = Instant::now();
        // Only the server's own SETTINGS may come, never an HTTP/1.1 answer.
        let mut said = Vec::new();
        client.read_to_end(&mut said).await.unwrap();
        assert_eq!(began.elapsed().as_secs(), TIMEOUT.as_secs());
        assert!(!String::from_utf8_lossy(&said).contains("HTTP/1.1"));
        assert!(edge.counted(&format!("portcullis_unparsed_requests_total {unparsed}")));
    }
}

/// RFC 9113 section 6.8: goodbye is said to whoever has asked enough, and what was on its way then is answered.
#[tokio::test(start_paused = true)]
async fn a_connection_ends_after_so_many_requests() {
    let edge = Edge::new();
    let (sender, connection) = h2::client::handshake(connect(&edge)).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut sender = sender.ready().await.unwrap();
    let mut ask = || {
        let request = http::Request::get("https://a/").body(()).unwrap();
        sender.send_request(request, true).unwrap().0
    };
    for _ in 0..REQUESTS - 1 {
        assert_eq!(ask().await.unwrap().status(), 200);
    }
    let began = Instant::now();
    let (last, late) = (ask(), ask());
    assert_eq!(last.await.unwrap().status(), 200);
    assert_eq!(late.await.unwrap().status(), 200);
    connection.await.unwrap().unwrap();
    // Sooner than for being idle.
    assert!(began.elapsed() < TIMEOUT, "{:?}", began.elapsed());
}
