//! A service and a client of WebSockets, both tokio-tungstenite's.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::HeaderMap;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async, client_async};

const PATIENCE: Duration = Duration::from_secs(20);

/// Says back what it hears; `close` makes it close.
pub struct SocketOrigin {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<HeaderMap>>>,
    ended: Arc<Mutex<usize>>,
    _runtime: Runtime,
}

impl SocketOrigin {
    pub fn start() -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let origin = SocketOrigin {
            address: socket.local_addr().unwrap(),
            heads: Arc::default(),
            ended: Arc::default(),
            _runtime: super::runtime(),
        };
        let (heads, ended) = (origin.heads.clone(), origin.ended.clone());
        origin._runtime.spawn(async move {
            let socket = tokio::net::TcpListener::from_std(socket).unwrap();
            while let Ok((stream, _)) = socket.accept().await {
                let (heads, ended) = (heads.clone(), ended.clone());
                tokio::spawn(async move {
                    echo(stream, &heads).await;
                    *ended.lock().unwrap() += 1;
                });
            }
        });
        origin
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Of all handshakes that came.
    pub fn heads(&self) -> Vec<HeaderMap> {
        self.heads.lock().unwrap().clone()
    }

    /// Connections that are over.
    pub fn ended(&self) -> usize {
        *self.ended.lock().unwrap()
    }
}

#[expect(
    clippy::result_large_err,
    reason = "the callback's type is tungstenite's"
)]
async fn echo(stream: TcpStream, heads: &Mutex<Vec<HeaderMap>>) {
    let note = |request: &Request, response: Response| {
        heads.lock().unwrap().push(request.headers().clone());
        Ok(response)
    };
    let Ok(mut socket) = accept_hdr_async(stream, note).await else {
        return;
    };
    while let Some(Ok(message)) = socket.next().await {
        if message.to_text().is_ok_and(|text| text == "close") {
            let _ = socket.close(None).await;
        } else if message.is_text() || message.is_binary() {
            let _ = socket.send(message).await;
        }
    }
}

pub struct Socket {
    runtime: Runtime,
    stream: WebSocketStream<TcpStream>,
}

impl Socket {
    /// A WebSocket, or the status of the answer that is none.
    pub fn open(address: SocketAddr, path: &str, token: Option<&str>) -> Result<Self, u16> {
        let runtime = super::runtime();
        let mut request = format!("ws://{address}{path}")
            .into_client_request()
            .unwrap();
        if let Some(token) = token {
            let value = format!("Bearer {token}").parse().unwrap();
            request.headers_mut().insert("authorization", value);
        }
        let opened = runtime.block_on(async {
            let tcp = TcpStream::connect(address).await.unwrap();
            let opened = client_async(request, tcp);
            tokio::time::timeout(PATIENCE, opened).await.unwrap()
        });
        match opened {
            Ok((stream, _)) => Ok(Socket { runtime, stream }),
            Err(Error::Http(answer)) => Err(answer.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    pub fn say(&mut self, text: impl Into<String>) {
        let text: String = text.into();
        let said = self.stream.send(Message::text(text));
        self.runtime.block_on(said).unwrap();
    }

    /// The next text; `None` when the connection is over, however it ended.
    pub fn hear(&mut self) -> Option<String> {
        let heard = async {
            loop {
                let next = self.stream.next();
                match tokio::time::timeout(PATIENCE, next).await.unwrap() {
                    Some(Ok(message)) if message.is_text() => {
                        return Some(message.into_text().unwrap().to_string());
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return None,
                }
            }
        };
        self.runtime.block_on(heard)
    }
}
