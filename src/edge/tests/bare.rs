//! Pingora by itself, where we do something about it. When one of these fails, Pingora has mended it and our part may
//! go.

use super::http2::Agreed;
use super::*;

/// Sends everything to one upstream and touches nothing.
struct Bare(std::net::SocketAddr);

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        _ctx: &mut (),
    ) -> pingora::Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.0, false, String::new())))
    }
}

/// Issue 935: an empty last DATA frame ends the upstream's message twice, and the second end is the beginning of
/// somebody else's request. `tests/it/tls.rs` has the same bytes with our `request_body_filter`.
#[tokio::test]
async fn an_empty_last_frame_ends_the_message_twice() {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Arc::new(http_proxy(
        &Arc::new(ServerConf::default()),
        Bare(upstream.local_addr().unwrap()),
    ));
    let (client, server) = tokio::io::duplex(64 * 1024);
    let (_shutdown, watch) = watch::channel(false);
    tokio::spawn(async move { proxy.process_new(Box::new(Agreed(server)), &watch).await });

    let (sender, connection) = h2::client::handshake(client).await.unwrap();
    tokio::spawn(connection);
    let mut sender = sender.ready().await.unwrap();
    let request = http::Request::post("https://a/").body(()).unwrap();
    let (answer, mut body) = sender.send_request(request, false).unwrap();
    body.send_data(Bytes::from_static(b"hello"), false).unwrap();
    let (mut connection, _) = upstream.accept().await.unwrap();
    let mut received = Vec::new();
    // The data has passed before its end is sent, else h2 makes one frame of both.
    read_until(&mut connection, &mut received, b"5\r\nhello\r\n").await;
    body.send_data(Bytes::new(), true).unwrap();
    read_until(&mut connection, &mut received, b"0\r\n\r\n").await;
    connection
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(answer.await.unwrap().status(), 200);
    connection.read_to_end(&mut received).await.unwrap();
    let body = received.split_off(received.len() - 20);
    assert_eq!(
        String::from_utf8_lossy(&body),
        "5\r\nhello\r\n0\r\n\r\n0\r\n\r\n"
    );
}

async fn read_until(connection: &mut TcpStream, received: &mut Vec<u8>, end: &[u8]) {
    while !received.windows(end.len()).any(|part| part == end) {
        assert!(connection.read_buf(received).await.unwrap() > 0);
    }
}
