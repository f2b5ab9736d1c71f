//! An upstream that takes nothing but plain HTTP/1.1 requests with one reading, and notes every byte that is not part
//! of one. What a lenient server would guess at is a fault here.

use std::fmt;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

#[derive(Default, Clone)]
pub struct Seen {
    /// The request line of each complete request, in the order in which they came.
    pub lines: Vec<String>,
    /// Head and body of each complete request.
    pub raw: Vec<Vec<u8>>,
    /// What no strict reader takes, with the reason.
    pub faults: Vec<String>,
    /// Connections that ended within a request.
    pub broken_off: usize,
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let raw: Vec<_> = self.raw.iter().map(|raw| raw.escape_ascii()).collect();
        write!(
            f,
            "{} broken off, faults {:?}",
            self.broken_off, self.faults
        )?;
        raw.iter().try_for_each(|raw| write!(f, "\n    {raw}"))
    }
}

pub struct StrictOrigin {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Seen>,
    bytes: AtomicUsize,
}

impl StrictOrigin {
    /// Answers each request with 200 and its own request line.
    pub fn start() -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = StrictOrigin {
            address: socket.local_addr().unwrap(),
            shared: Arc::default(),
        };
        let shared = origin.shared.clone();
        std::thread::spawn(move || {
            while let Ok((stream, _)) = socket.accept() {
                let shared = shared.clone();
                std::thread::spawn(move || serve(Tap(stream, shared)));
            }
        });
        origin
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What has come so far, and forgets it.
    pub fn take(&self) -> Seen {
        std::mem::take(&mut self.shared.seen.lock().unwrap())
    }

    pub fn seen(&self) -> Seen {
        self.shared.seen.lock().unwrap().clone()
    }

    /// How many bytes have come, complete requests or not.
    pub fn bytes(&self) -> usize {
        self.shared.bytes.load(Ordering::Relaxed)
    }
}

/// A connection whose bytes are counted.
struct Tap(TcpStream, Arc<Shared>);

enum Ended {
    /// Between two requests.
    Cleanly,
    Within,
    At(String),
}

fn serve(mut stream: Tap) {
    let shared = stream.1.clone();
    let seen = &shared.seen;
    let mut buffer = Vec::new();
    loop {
        let length = match message(&mut stream, &mut buffer) {
            Ok(length) => length,
            Err(Ended::Cleanly) => return,
            Err(Ended::Within) => {
                seen.lock().unwrap().broken_off += 1;
                return;
            }
            Err(Ended::At(fault)) => {
                let bytes = buffer.escape_ascii();
                seen.lock()
                    .unwrap()
                    .faults
                    .push(format!("{fault}: {bytes}"));
                return;
            }
        };
        let raw: Vec<u8> = buffer.drain(..length).collect();
        let line = raw.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line).into_owned();
        let head_only = line.starts_with("HEAD ");
        {
            let mut seen = seen.lock().unwrap();
            seen.lines.push(line.clone());
            seen.raw.push(raw);
        }
        let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", line.len());
        if !head_only {
            answer.push_str(&line);
        }
        if stream.0.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn fault<T>(why: impl Into<String>) -> Result<T, Ended> {
    Err(Ended::At(why.into()))
}

/// Reads one message whole; its length in the buffer.
fn message(stream: &mut Tap, buffer: &mut Vec<u8>) -> Result<usize, Ended> {
    let head_end = loop {
        if let Some(at) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
        more(stream, buffer)?;
    };
    let head = buffer[..head_end - 4].to_vec();
    let mut lines = split(&head, b"\r\n").into_iter();
    request_line(lines.next().unwrap_or_default())?;
    let (mut hosts, mut lengths, mut encodings) = (0, Vec::new(), Vec::new());
    for line in lines {
        let (name, value) = field(line)?;
        match name.to_ascii_lowercase().as_str() {
            "host" => hosts += 1,
            "content-length" => lengths.push(value),
            "transfer-encoding" => encodings.push(value),
            name if name.replace('_', "-") == "content-length" => {
                return fault("a disguised length");
            }
            name if name.replace('_', "-") == "transfer-encoding" => {
                return fault("a disguised encoding");
            }
            _ => {}
        }
    }
    if hosts != 1 {
        return fault(format!("{hosts} hosts"));
    }
    match (lengths.as_slice(), encodings.as_slice()) {
        ([], []) => Ok(head_end),
        ([length], []) => {
            if length.is_empty() || !length.bytes().all(|b| b.is_ascii_digit()) {
                return fault("a length that is no number");
            }
            let Ok(length) = length.parse::<usize>() else {
                return fault("a length beyond all measure");
            };
            while buffer.len() < head_end + length {
                more(stream, buffer)?;
            }
            Ok(head_end + length)
        }
        ([], [encoding]) if encoding.eq_ignore_ascii_case("chunked") => {
            chunks(stream, buffer, head_end)
        }
        _ => fault("framing with more than one reading"),
    }
}

fn chunks(stream: &mut Tap, buffer: &mut Vec<u8>, mut at: usize) -> Result<usize, Ended> {
    loop {
        let line_end = loop {
            if let Some(end) = buffer[at..].windows(2).position(|w| w == b"\r\n") {
                break at + end;
            }
            more(stream, buffer)?;
        };
        let size = &buffer[at..line_end];
        if size.is_empty() || size.len() > 8 || !size.iter().all(u8::is_ascii_hexdigit) {
            return fault("a chunk size that is no number");
        }
        let text = String::from_utf8_lossy(size).into_owned();
        let size = usize::from_str_radix(&text, 16).unwrap_or(usize::MAX);
        let end = line_end + 2 + size;
        while buffer.len() < end + 2 {
            more(stream, buffer)?;
        }
        if &buffer[end..end + 2] != b"\r\n" {
            return fault(if size == 0 {
                "trailers"
            } else {
                "a chunk of another size"
            });
        }
        at = end + 2;
        if size == 0 {
            return Ok(at);
        }
    }
}

/// Three words, an origin-form target without anything that servers read differently.
fn request_line(line: &[u8]) -> Result<(), Ended> {
    let words = split(line, b" ");
    let [method, target, b"HTTP/1.1"] = words.as_slice() else {
        return fault("a request line that is not three words");
    };
    if method.is_empty() || !method.iter().all(u8::is_ascii_alphanumeric) {
        return fault("an odd method");
    }
    let path = target
        .split(|byte| *byte == b'?')
        .next()
        .unwrap_or_default();
    let lower = path.to_ascii_lowercase();
    let has = |part: &[u8]| lower.windows(part.len()).any(|w| w == part);
    let odd: [&[u8]; 10] = [
        b"//", b"\\", b";", b"#", b"%2f", b"%5c", b"%00", b"%2e", b"%25", b"/../",
    ];
    if !target.starts_with(b"/")
        || !target.iter().all(|byte| (0x21..0x7f).contains(byte))
        || odd.iter().any(|part| has(part))
        || lower.ends_with(b"/..")
    {
        return fault("an ambiguous target");
    }
    Ok(())
}

fn field(line: &[u8]) -> Result<(String, String), Ended> {
    let Some(colon) = line.iter().position(|byte| *byte == b':') else {
        return fault("a field without a colon");
    };
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    if name.is_empty() || !name.iter().all(token) {
        return fault("a field name that is no token");
    }
    if value
        .iter()
        .any(|byte| matches!(byte, 0..=0x08 | 0x0a..=0x1f | 0x7f))
    {
        return fault("a control byte in a field");
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((text(name), text(value).trim_matches([' ', '\t']).to_owned()))
}

fn split<'a>(bytes: &'a [u8], by: &[u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(by.len()).position(|w| w == by) {
        parts.push(&rest[..at]);
        rest = &rest[at + by.len()..];
    }
    parts.push(rest);
    parts
}

fn more(stream: &mut Tap, buffer: &mut Vec<u8>) -> Result<(), Ended> {
    let mut chunk = [0; 16 * 1024];
    match stream.0.read(&mut chunk) {
        Ok(read) if read > 0 => {
            stream.1.bytes.fetch_add(read, Ordering::Relaxed);
            buffer.extend_from_slice(&chunk[..read]);
            Ok(())
        }
        _ if buffer.is_empty() => Err(Ended::Cleanly),
        _ => Err(Ended::Within),
    }
}
