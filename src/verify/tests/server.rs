//! A server for one test, on a port of its own, that misbehaves as it is told.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// What a server does with one path.
#[derive(Clone)]
pub(super) enum Does {
    Say(u16, &'static str, String),
    /// Raw bytes, then the end of the connection.
    Raw(Vec<u8>),
    /// A head, then bytes without end.
    Endless,
    /// Takes the request and never answers.
    Hang,
    /// A head and half a body, then nothing.
    Stall,
}

/// A server on a port of its own that notes the requests it gets.
pub(super) struct Server {
    address: SocketAddr,
    routes: Arc<Mutex<Vec<(String, Does)>>>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub(super) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let server = Server {
            address: listener.local_addr().expect("an address"),
            routes: Arc::default(),
            seen: Arc::default(),
        };
        let (routes, seen) = (server.routes.clone(), server.seen.clone());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (routes, seen) = (routes.clone(), seen.clone());
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        match stream.read_u8().await {
                            Ok(byte) => head.push(byte),
                            Err(_) => return,
                        }
                    }
                    let head = String::from_utf8_lossy(&head).into_owned();
                    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                    seen.lock().expect("seen").push(head);
                    let does = routes
                        .lock()
                        .expect("routes")
                        .iter()
                        .rev()
                        .find(|(known, _)| *known == path)
                        .map(|(_, does)| does.clone());
                    let does = does.unwrap_or(Does::Say(404, "", String::new()));
                    answer(&mut stream, does).await;
                });
            }
        });
        server
    }

    /// The last word on a path counts.
    pub(super) fn on(&self, path: &str, does: Does) -> &Self {
        let mut routes = self.routes.lock().expect("routes");
        routes.push((path.to_owned(), does));
        self
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(super) fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("seen").clone()
    }

    pub(super) fn paths(&self) -> Vec<String> {
        let seen = self.seen();
        let path = |head: &String| head.split(' ').nth(1).unwrap_or_default().to_owned();
        seen.iter().map(path).collect()
    }
}

async fn answer(stream: &mut tokio::net::TcpStream, does: Does) {
    let out = match does {
        Does::Say(status, headers, body) => format!(
            "HTTP/1.1 {status} Word\r\n{headers}content-length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes(),
        Does::Raw(bytes) => bytes,
        Does::Hang => std::future::pending().await,
        Does::Stall => {
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"keys\":[")
                .await;
            std::future::pending().await
        }
        Does::Endless => {
            let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
            let chunk = [b"2000\r\n".as_slice(), &[b' '; 0x2000], b"\r\n"].concat();
            let mut written = stream.write_all(head).await;
            while written.is_ok() {
                written = stream.write_all(&chunk).await;
            }
            return;
        }
    };
    let _ = stream.write_all(&out).await;
    let _ = stream.shutdown().await;
}
