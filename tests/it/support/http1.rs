//! A client that sends exactly the bytes it is given.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A test that waits longer than this for a byte has failed.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Connection<S = TcpStream> {
    stream: S,
    buffer: Vec<u8>,
}

#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case, in the order in which they came.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Connection<TcpStream> {
    pub fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Connection::over(stream)
    }

    /// What a listener accepted.
    pub fn accepted(stream: TcpStream) -> Self {
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Connection::over(stream)
    }
}

impl<S: Read + Write> Connection<S> {
    pub fn over(stream: S) -> Self {
        Connection {
            stream,
            buffer: Vec::new(),
        }
    }

    /// The stream below, for another protocol.
    pub fn into_inner(self) -> S {
        self.stream
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.stream.write_all(bytes.as_ref()).unwrap();
        self.stream.flush().unwrap();
        self
    }

    /// The same, where the other side may have closed already: whether it took the bytes.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let sent = self.stream.write_all(bytes.as_ref());
        sent.and_then(|()| self.stream.flush()).is_ok()
    }

    /// The next response, unless the other side closes or is silent instead.
    pub fn try_answer(&mut self) -> Option<Answer> {
        while find(&self.buffer, b"\r\n\r\n").is_none() {
            if !self.try_more().unwrap_or(false) {
                return None;
            }
        }
        Some(self.answer())
    }

    /// The next response; `head_only` for the answer to a `HEAD`.
    pub fn answer_to(&mut self, head_only: bool) -> Answer {
        let head = self.head();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        let headers: Vec<(String, String)> = lines
            .filter(|line| !line.is_empty())
            .map(|line| {
                let (name, value) = line.split_once(':').unwrap();
                (name.to_ascii_lowercase(), value.trim().to_owned())
            })
            .collect();
        let mut answer = Answer {
            status: status.parse().unwrap(),
            headers,
            body: Vec::new(),
        };
        let bodiless = head_only || answer.status < 200 || matches!(answer.status, 204 | 304);
        if !bodiless {
            answer.body = self.body(&answer);
        }
        answer
    }

    pub fn answer(&mut self) -> Answer {
        self.answer_to(false)
    }

    /// Whether the other side has closed without another byte.
    pub fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && !self.more()
    }

    /// Whatever else comes until the other side closes.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.more() {}
        std::mem::take(&mut self.buffer)
    }

    /// The same; `None` if it does not close.
    pub fn try_rest(&mut self) -> Option<Vec<u8>> {
        while self.try_more().ok()? {}
        Some(std::mem::take(&mut self.buffer))
    }

    /// The next head, blank line included.
    pub fn head(&mut self) -> String {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
                return String::from_utf8(head).unwrap();
            }
            assert!(
                self.more(),
                "closed within a head: {:?}",
                String::from_utf8_lossy(&self.buffer)
            );
        }
    }

    fn body(&mut self, answer: &Answer) -> Vec<u8> {
        if answer.header("transfer-encoding") == Some("chunked") {
            let mut body = Vec::new();
            loop {
                let chunk = self.chunk();
                if chunk.is_empty() {
                    return body;
                }
                body.extend_from_slice(&chunk);
            }
        }
        match answer.header("content-length") {
            Some(length) => self.exactly(length.parse().unwrap()),
            None => self.rest(),
        }
    }

    /// One chunk of a chunked body; empty at its end.
    pub fn chunk(&mut self) -> Vec<u8> {
        let line = self.line();
        let size = usize::from_str_radix(line.trim(), 16).unwrap();
        let chunk = self.exactly(size);
        self.line();
        chunk
    }

    fn line(&mut self) -> String {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
                return String::from_utf8(line).unwrap();
            }
            assert!(self.more(), "closed within a line");
        }
    }

    pub fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.buffer.len() < length {
            assert!(self.more(), "closed within a body");
        }
        self.buffer.drain(..length).collect()
    }

    fn more(&mut self) -> bool {
        self.try_more()
            .unwrap_or_else(|error| panic!("nothing came: {error}"))
    }

    fn try_more(&mut self) -> std::io::Result<bool> {
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) => Ok(false),
            Ok(read) => {
                self.buffer.extend_from_slice(&chunk[..read]);
                Ok(true)
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(n, _)| n == name);
        let first = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} came twice");
        first
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// One `GET` on a connection of its own.
pub fn get(address: SocketAddr, path: &str, token: Option<&str>) -> Answer {
    let authorization = token.map_or_else(String::new, |token| {
        format!("Authorization: Bearer {token}\r\n")
    });
    Connection::open(address)
        .send(format!(
            "GET {path} HTTP/1.1\r\nHost: gateway.test\r\nConnection: close\r\n{authorization}\r\n"
        ))
        .answer()
}

/// One request with a body, on a connection of its own; `fields` are whole lines.
pub fn send(address: SocketAddr, method: &str, path: &str, fields: &str, body: &str) -> Answer {
    Connection::open(address)
        .send(format!(
            "{method} {path} HTTP/1.1\r\nHost: gateway.test\r\nConnection: close\r\nContent-Length: {}\r\n\
             {fields}\r\n{body}",
            body.len()
        ))
        .answer_to(method == "HEAD")
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}
