//! A peer that can die as a killed process does, with requests in its hands, and come back on its port.

use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

const HELLO: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

pub struct Mortal {
    address: SocketAddr,
    life: Option<Runtime>,
    held: watch::Sender<bool>,
    shared: Arc<Mutex<Requests>>,
}

#[derive(Default)]
struct Requests {
    received: Vec<String>,
    unanswered: Vec<String>,
}

impl Mortal {
    pub fn start() -> Self {
        let mut peer = Mortal {
            address: ([127, 0, 0, 1], 0).into(),
            life: None,
            held: watch::Sender::new(false),
            shared: Arc::default(),
        };
        peer.revive();
        peer
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes requests and answers none, until it is told otherwise or dies.
    pub fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    /// Request lines in the order in which they came, in all its lives.
    pub fn received(&self) -> Vec<String> {
        self.shared.lock().unwrap().received.clone()
    }

    /// Those that it has taken and not answered.
    pub fn unanswered(&self) -> Vec<String> {
        self.shared.lock().unwrap().unanswered.clone()
    }

    /// Every connection is reset, and the port refuses new ones. What it had not answered it never will.
    pub fn kill(&mut self) -> Vec<String> {
        self.life.take();
        std::mem::take(&mut self.shared.lock().unwrap().unanswered)
    }

    /// Listens again where it listened.
    pub fn revive(&mut self) {
        let life = super::runtime();
        let listener = life.block_on(TcpListener::bind(self.address)).unwrap();
        self.address = listener.local_addr().unwrap();
        let (held, shared) = (self.held.clone(), self.shared.clone());
        life.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // However this one ends, it ends with a reset.
                stream.set_zero_linger().unwrap();
                tokio::spawn(serve(stream, held.subscribe(), shared.clone()));
            }
        });
        self.life = Some(life);
    }
}

/// Requests without a body, one after the other.
async fn serve(
    mut stream: tokio::net::TcpStream,
    mut held: watch::Receiver<bool>,
    shared: Arc<Mutex<Requests>>,
) {
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            match stream.read_buf(&mut buffer).await {
                Ok(read) if read > 0 => {}
                _ => return,
            }
        };
        let head: Vec<u8> = buffer.drain(..end).collect();
        let head = String::from_utf8(head).unwrap();
        let line = head.lines().next().unwrap().to_owned();
        {
            let mut shared = shared.lock().unwrap();
            shared.received.push(line.clone());
            shared.unanswered.push(line.clone());
        }
        if held.wait_for(|held| !held).await.is_err() || stream.write_all(HELLO).await.is_err() {
            return;
        }
        let unanswered = &mut shared.lock().unwrap().unanswered;
        unanswered.retain(|known| *known != line);
    }
}

/// Ends a connection with a reset in place of an end.
pub fn reset(stream: TcpStream) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        stream.set_nonblocking(true).unwrap();
        let stream = tokio::net::TcpStream::from_std(stream).unwrap();
        stream.set_zero_linger().unwrap();
    });
}
