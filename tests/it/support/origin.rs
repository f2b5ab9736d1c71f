//! An upstream that records what reached it, byte for byte.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// One request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    pub line: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Head and body, framing included.
    pub raw: Vec<u8>,
}

impl Received {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(n, _)| n == name);
        let first = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} reached the upstream twice");
        first
    }
}

type Respond = dyn Fn(&Received, &mut TcpStream) + Send + Sync;

pub struct Origin {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    connections: Arc<AtomicUsize>,
}

impl Origin {
    /// Answers everything with 200 and `hello`.
    pub fn start() -> Self {
        Self::answering(|_, stream| {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
                .unwrap();
        })
    }

    /// Answers with whatever `respond` writes.
    pub fn answering(respond: impl Fn(&Received, &mut TcpStream) + Send + Sync + 'static) -> Self {
        Self::listening(TcpListener::bind("127.0.0.1:0").unwrap(), respond)
    }

    /// Says back the line that it was asked with.
    pub fn echoing() -> Self {
        Self::answering(|request, stream| {
            let body = &request.line;
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .unwrap();
        })
    }

    /// On a socket of the test's choice.
    pub fn listening(
        socket: TcpListener,
        respond: impl Fn(&Received, &mut TcpStream) + Send + Sync + 'static,
    ) -> Self {
        let origin = Origin {
            address: socket.local_addr().unwrap(),
            received: Arc::default(),
            connections: Arc::default(),
        };
        let received = origin.received.clone();
        let connections = origin.connections.clone();
        let respond: Arc<Respond> = Arc::new(respond);
        std::thread::spawn(move || {
            while let Ok((stream, _)) = socket.accept() {
                connections.fetch_add(1, Ordering::Relaxed);
                let (received, respond) = (received.clone(), respond.clone());
                std::thread::spawn(move || serve(stream, &received, &*respond));
            }
        });
        origin
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// How many connections were opened to this origin.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// The one request that reached this origin.
    pub fn only(&self) -> Received {
        let received = self.received();
        assert_eq!(received.len(), 1, "{received:?}");
        received[0].clone()
    }
}

fn serve(mut stream: TcpStream, received: &Mutex<Vec<Received>>, respond: &Respond) {
    let mut buffer = Vec::new();
    while let Some(request) = read(&mut stream, &mut buffer) {
        received.lock().unwrap().push(request.clone());
        respond(&request, &mut stream);
    }
}

fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Received> {
    let end = until(stream, buffer, b"\r\n\r\n", 0)?;
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let line = lines.next()?.to_owned();
    let headers: Vec<(String, String)> = lines
        .filter(|line| !line.is_empty())
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let field = |name: &str| {
        headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.clone())
    };
    if field("expect").is_some() {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
    }
    let mut body = Vec::new();
    let mut at = end;
    if field("transfer-encoding").is_some() {
        loop {
            let line_end = until(stream, buffer, b"\r\n", at)?;
            let size = String::from_utf8_lossy(&buffer[at..line_end - 2]).into_owned();
            let size = usize::from_str_radix(&size, 16).ok()?;
            while buffer.len() < line_end + size + 2 {
                more(stream, buffer)?;
            }
            body.extend_from_slice(&buffer[line_end..line_end + size]);
            at = line_end + size + 2;
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = field("content-length") {
        let length: usize = length.parse().ok()?;
        while buffer.len() < end + length {
            more(stream, buffer)?;
        }
        body.extend_from_slice(&buffer[end..end + length]);
        at = end + length;
    }
    Some(Received {
        line,
        headers,
        body,
        raw: buffer.drain(..at).collect(),
    })
}

fn until(stream: &mut TcpStream, buffer: &mut Vec<u8>, mark: &[u8], from: usize) -> Option<usize> {
    loop {
        let found = buffer[from..]
            .windows(mark.len())
            .position(|window| window == mark);
        if let Some(at) = found {
            return Some(from + at + mark.len());
        }
        more(stream, buffer)?;
    }
}

fn more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    let mut chunk = [0; 16 * 1024];
    match stream.read(&mut chunk) {
        Ok(read) if read > 0 => {
            buffer.extend_from_slice(&chunk[..read]);
            Some(())
        }
        _ => None,
    }
}
