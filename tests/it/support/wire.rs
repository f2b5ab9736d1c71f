//! Upstreams below HTTP: one whose every byte the test writes, one that refuses, one that never accepts.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use tokio::net::TcpSocket;

use super::{Connection, eventually};

/// An upstream whose every byte the test itself reads and writes.
pub struct Wire(TcpListener);

impl Wire {
    pub fn start() -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        Wire(socket)
    }

    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// The gateway's next connection.
    pub fn accept(&self) -> Connection {
        let mut accepted = None;
        eventually("the gateway connects", || {
            accepted = self.0.accept().ok();
            accepted.is_some()
        });
        Connection::accepted(accepted.unwrap().0)
    }

    /// Whether a connection waits that nobody has accepted.
    pub fn is_wanted(&self) -> bool {
        self.0.accept().is_ok()
    }
}

/// A port that nobody else can take and that refuses every connection.
pub struct Closed(TcpSocket);

impl Closed {
    pub fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        Closed(socket)
    }

    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }
}

/// A port whose queue is full: a connection is neither accepted nor refused.
pub struct Full {
    listener: TcpListener,
    _waiting: Vec<TcpStream>,
}

impl Full {
    pub fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(async {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
            socket.listen(1).unwrap().into_std().unwrap()
        });
        let address = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
            waiting.push(stream);
        }
        Full {
            listener,
            _waiting: waiting,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }
}
