//! An upstream that speaks HTTP/2 with prior knowledge and records what reached it.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::{HeaderMap, Method, Request, Response, Uri};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

#[derive(Debug, Clone)]
pub struct Asked {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

/// What it does with its first request; with all others it answers 200 and `hello`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    Answer,
    /// Says that it has not begun with it.
    Refuse,
    /// Answers, and says that it leaves.
    Leave,
}

pub struct H2Origin {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    connections: Arc<AtomicUsize>,
    _runtime: Runtime,
}

impl H2Origin {
    pub fn start(first: First) -> Self {
        let runtime = super::runtime();
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let origin = H2Origin {
            address: socket.local_addr().unwrap(),
            asked: Arc::default(),
            connections: Arc::default(),
            _runtime: runtime,
        };
        let (asked, connections) = (origin.asked.clone(), origin.connections.clone());
        origin._runtime.spawn(async move {
            let socket = tokio::net::TcpListener::from_std(socket).unwrap();
            let mut first = first;
            while let Ok((stream, _)) = socket.accept().await {
                connections.fetch_add(1, Ordering::Relaxed);
                let connection = h2::server::handshake(stream).await;
                if let Ok(connection) = connection {
                    tokio::spawn(serve(connection, first, asked.clone()));
                }
                first = First::Answer;
            }
        });
        origin
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

async fn serve(
    mut connection: Connection<TcpStream, Bytes>,
    mut first: First,
    asked: Arc<Mutex<Vec<Asked>>>,
) {
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        match std::mem::replace(&mut first, First::Answer) {
            First::Refuse => respond.send_reset(Reason::REFUSED_STREAM),
            first => {
                tokio::spawn(hello(request, respond, asked.clone()));
                if first == First::Leave {
                    connection.graceful_shutdown();
                }
            }
        }
    }
}

async fn hello(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    asked: Arc<Mutex<Vec<Asked>>>,
) {
    let (head, mut incoming) = request.into_parts();
    let mut body = Vec::new();
    while let Some(Ok(data)) = incoming.data().await {
        let _ = incoming.flow_control().release_capacity(data.len());
        body.extend_from_slice(&data);
    }
    asked.lock().unwrap().push(Asked {
        method: head.method,
        uri: head.uri,
        headers: head.headers,
        body,
    });
    if let Ok(mut stream) = respond.send_response(Response::new(()), false) {
        let _ = stream.send_data(Bytes::from("hello"), true);
    }
}
