//! An issuer that goes wrong in every way below and above HTTP: the demo's, behind a server whose every byte is ours.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use portcullis::clock::Clock;
use portcullis::demo::issuer::{Endpoint, Issuer, IssuerOptions};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

use super::{Answer, Connection, Pair};

type Change = dyn Fn(&mut Value) + Send + Sync;

/// What an endpoint does instead of answering honestly.
#[derive(Clone)]
pub enum Ill {
    /// Sound HTTP: a status, header lines (each with its end) and a body.
    Says(u16, String, Vec<u8>),
    /// The honest answer with other JSON in it.
    Changed(Arc<Change>),
    /// The honest head and half of the honest body, then the end of the connection.
    Truncated,
    /// Takes the request and closes.
    Drops,
    /// Takes the request and never answers.
    Hangs,
    /// A sound head, and then a byte now and then, for ever.
    Drips,
    /// A sound head, and then bytes as fast as they are taken, for ever.
    Endless,
    /// Interim answers for ever (RFC 9110 section 15.2).
    Interims,
}

impl Ill {
    pub fn status(status: u16) -> Self {
        Ill::Says(status, String::new(), b"out of order".to_vec())
    }

    /// 200 with this body, as JSON.
    pub fn body(body: impl Into<Vec<u8>>) -> Self {
        let head = "Content-Type: application/json\r\n".to_owned();
        Ill::Says(200, head, body.into())
    }

    pub fn html() -> Self {
        let head = "Content-Type: text/html\r\n".to_owned();
        Ill::Says(200, head, b"<!DOCTYPE html><h1>Sign in</h1>".to_vec())
    }

    pub fn redirect(status: u16, to: &str) -> Self {
        Ill::Says(status, format!("Location: {to}\r\n"), Vec::new())
    }

    pub fn changed(change: impl Fn(&mut Value) + Send + Sync + 'static) -> Self {
        Ill::Changed(Arc::new(change))
    }
}

/// The demo's issuer behind a server that can be told to be ill. Everything that a gateway fetches leads through it.
pub struct Faulty {
    pub issuer: Issuer,
    shared: Arc<Shared>,
}

struct Shared {
    /// What the demo's issuer calls itself, and what it is called here.
    behind: SocketAddr,
    base: String,
    ills: Mutex<HashMap<Endpoint, Ill>>,
    requests: Mutex<Vec<Endpoint>>,
    tls: Option<RwLock<Arc<ServerConfig>>>,
}

impl Faulty {
    pub fn start(clock: Clock) -> Self {
        Self::serve(clock, None)
    }

    /// Over TLS, as `localhost`.
    pub fn start_tls(clock: Clock, pair: &Pair) -> Self {
        Self::serve(clock, Some(pair))
    }

    fn serve(clock: Clock, pair: Option<&Pair>) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let base = match pair {
            None => format!("http://{address}"),
            Some(_) => format!("https://localhost:{}", address.port()),
        };
        let issuer = Issuer::start_blocking(IssuerOptions {
            clock,
            base_url: Some(base.clone()),
            ..IssuerOptions::default()
        })
        .unwrap();
        let shared = Arc::new(Shared {
            behind: issuer.address(),
            base,
            ills: Mutex::default(),
            requests: Mutex::default(),
            tls: pair.map(|pair| RwLock::new(pair.server())),
        });
        let serving = shared.clone();
        std::thread::spawn(move || {
            while let Ok((tcp, _)) = socket.accept() {
                let shared = serving.clone();
                std::thread::spawn(move || shared.accepted(tcp));
            }
        });
        Faulty { issuer, shared }
    }

    /// What `iss` says.
    pub fn url(&self) -> String {
        self.issuer.url()
    }

    pub fn set(&self, endpoint: Endpoint, ill: Ill) {
        self.shared.ills.lock().unwrap().insert(endpoint, ill);
    }

    pub fn heal(&self, endpoint: Endpoint) {
        self.shared.ills.lock().unwrap().remove(&endpoint);
    }

    /// From the next connection on.
    pub fn present(&self, pair: &Pair) {
        let tls = self.shared.tls.as_ref().unwrap();
        *tls.write().unwrap() = pair.server();
    }

    pub fn requests(&self, endpoint: Endpoint) -> usize {
        let requests = self.shared.requests.lock().unwrap();
        requests.iter().filter(|e| **e == endpoint).count()
    }
}

impl Shared {
    fn accepted(&self, tcp: TcpStream) {
        match &self.tls {
            None => self.answer(tcp),
            Some(config) => {
                let config = config.read().unwrap().clone();
                let tls = ServerConnection::new(config).unwrap();
                self.answer(StreamOwned::new(tls, tcp));
            }
        }
    }

    /// One request, one answer, and the end.
    fn answer(&self, mut stream: impl Read + Write) {
        let Some(request) = read_request(&mut stream) else {
            return;
        };
        let path = request.split(' ').nth(1).unwrap_or_default();
        let endpoints = [Endpoint::Discovery, Endpoint::Certs, Endpoint::Introspect];
        let named = endpoints.into_iter().find(|e| path.ends_with(e.path()));
        let ill = named.and_then(|endpoint| {
            self.requests.lock().unwrap().push(endpoint);
            self.ills.lock().unwrap().get(&endpoint).cloned()
        });
        // Whoever leaves early is what many of these are for.
        let _ = match ill {
            None => send(&mut stream, &self.honest(&request)),
            Some(Ill::Changed(change)) => {
                let mut answer = self.honest(&request);
                let mut json = answer.json();
                change(&mut json);
                answer.body = json.to_string().into_bytes();
                send(&mut stream, &answer)
            }
            Some(Ill::Says(status, head, body)) => write!(
                stream,
                "HTTP/1.1 {status} Word\r\n{head}Content-Length: {}\r\n\r\n",
                body.len()
            )
            .and_then(|()| stream.write_all(&body)),
            Some(Ill::Truncated) => {
                let answer = self.honest(&request);
                let whole = answer.body.len();
                write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {whole}\r\n\r\n")
                    .and_then(|()| stream.write_all(&answer.body[..whole / 2]))
            }
            Some(Ill::Drops) => Ok(()),
            Some(Ill::Hangs) => stream.read_to_end(&mut Vec::new()).map(drop),
            Some(Ill::Drips) => drip(&mut stream),
            Some(Ill::Endless) => endless(&mut stream),
            Some(Ill::Interims) => interims(&mut stream),
        };
        let _ = stream.flush();
    }

    fn honest(&self, request: &str) -> Answer {
        let close = "\r\nConnection: close\r\n\r\n";
        let request = request.replacen("\r\n\r\n", close, 1);
        let mut answer = Connection::open(self.behind).send(request).answer();
        // What leads to the issuer leads through us.
        let body = String::from_utf8(answer.body).unwrap();
        let behind = format!("http://{}", self.behind);
        answer.body = body.replace(&behind, &self.base).into_bytes();
        answer
    }
}

fn send(stream: &mut impl Write, answer: &Answer) -> std::io::Result<()> {
    write!(
        stream,
        "HTTP/1.1 {} Word\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        answer.status,
        answer.body.len()
    )?;
    stream.write_all(&answer.body)
}

fn drip(stream: &mut impl Write) -> std::io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")?;
    loop {
        stream.write_all(b" ")?;
        stream.flush()?;
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn endless(stream: &mut impl Write) -> std::io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    let chunk = [b"2000\r\n".as_slice(), &[b' '; 0x2000], b"\r\n"].concat();
    loop {
        stream.write_all(&chunk)?;
    }
}

fn interims(stream: &mut impl Write) -> std::io::Result<()> {
    let many = b"HTTP/1.1 102 Processing\r\n\r\n".repeat(100);
    loop {
        stream.write_all(&many)?;
        // As fast as they are taken, an unoptimised reader would not come to its end in time.
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Head and body of a request; `None` if it never became one, such as a refused handshake.
fn read_request(stream: &mut impl Read) -> Option<String> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let read = stream.read(&mut chunk).ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&chunk[..read]);
        let text = String::from_utf8(bytes.clone()).ok()?;
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head.to_ascii_lowercase().lines().find_map(|line| {
            let length = line.strip_prefix("content-length:")?;
            length.trim().parse().ok()
        });
        if body.len() >= length.unwrap_or(0) {
            return Some(text);
        }
    }
}

/// A gzip stream (RFC 1951 and 1952) of so many mebibytes of blanks, a thousandth of that in size.
pub fn gzip_bomb(mebibytes: usize) -> Vec<u8> {
    let mut bytes = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    let (mut held, mut count) = (0u64, 0);
    let mut put = |value: u64, bits: u32, bytes: &mut Vec<u8>| {
        held |= value << count;
        count += bits;
        while count >= 8 {
            bytes.push((held & 0xff) as u8);
            held >>= 8;
            count -= 8;
        }
    };
    // The last block, with the fixed codes; codes go in with their first bit first.
    put(0b011, 3, &mut bytes);
    let literal = 0x30 + u64::from(b' ');
    put(literal.reverse_bits() >> 56, 8, &mut bytes);
    let length = mebibytes * (1 << 20) - 1;
    for _ in 0..length / 258 {
        // As long as can be (285), from one byte ago (0).
        put(0b1100_0101u64.reverse_bits() >> 56, 8, &mut bytes);
        put(0, 5, &mut bytes);
    }
    for _ in 0..length % 258 {
        put(literal.reverse_bits() >> 56, 8, &mut bytes);
    }
    // The end of the block, and what is left of a byte. The check sum is wrong: who reads as far has unpacked it all.
    put(0, 7, &mut bytes);
    put(0, 7, &mut bytes);
    bytes.extend([0; 8]);
    bytes
}
