//! One JSON line for each request (contract section 6).
//!
//! A request formats its line and leaves it in a bounded queue; one thread writes. When the reader of the log is slower
//! than the traffic, lines are dropped and counted: a request never waits for a pipe.

use std::cell::RefCell;
use std::io::{BufWriter, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{redact, timestamp};

/// Lines that may wait.
const QUEUE: usize = 8192;
/// The writer's rest after a batch. While it sleeps, leaving a line costs a request no system call.
const REST: Duration = Duration::from_millis(5);
/// How long closing may wait for an output that takes nothing: the process wants to end.
const CLOSING: Duration = Duration::from_secs(2);
/// A path is cut here: with heads of up to 32 KiB the queue would hold a quarter of a gigabyte.
const PATH: usize = 2048;

/// What is written of one request. The path is without its query; nothing here may ever be a token.
#[derive(Debug, Clone)]
pub struct AccessRecord<'a> {
    pub unix_millis: u64,
    pub request_id: &'a str,
    pub trace_id: &'a str,
    pub route: Option<&'a str>,
    pub method: &'a str,
    pub path: Option<&'a str>,
    pub status: u16,
    /// The rejection's label.
    pub reason: Option<&'a str>,
    /// Whose request it is: the caller's address, or what a balancer or proxy of ours says of it.
    pub source: Option<IpAddr>,
    /// The caller's certificate, on listeners that ask for one.
    pub certificate: Option<(&'a str, &'a [u8; 32])>,
    pub client: Option<&'a str>,
    pub issuer: Option<&'a str>,
    pub proof: Option<&'a str>,
    pub upstream: Option<&'a str>,
    pub peer: Option<SocketAddr>,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub duration: Duration,
    pub upstream_duration: Option<Duration>,
    /// How a call of gRPC ended.
    pub grpc_status: Option<u8>,
}

/// Free while it is off.
pub struct AccessLog {
    on: AtomicBool,
    /// Made when it is switched on for the first time.
    queue: OnceLock<Queue>,
    /// What the writer will take.
    out: Mutex<Option<Box<dyn Write + Send>>>,
}

struct Queue {
    lines: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

enum Message {
    Line(Box<[u8]>),
    Close,
}

impl AccessLog {
    /// `out` is written by a thread of its own, in whole lines, flushed after each batch.
    pub fn new(enabled: bool, out: Box<dyn Write + Send>) -> Self {
        let log = AccessLog {
            on: AtomicBool::new(false),
            queue: OnceLock::new(),
            out: Mutex::new(Some(out)),
        };
        log.switch(enabled);
        log
    }

    /// On or off; a reload may change it.
    pub fn switch(&self, on: bool) {
        let out = on.then(|| {
            self.out
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take()
        });
        if let Some(out) = out.flatten() {
            self.begin(out);
        }
        self.on.store(on, Ordering::Relaxed);
    }

    fn begin(&self, out: Box<dyn Write + Send>) {
        let (sender, receiver) = sync_channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let lost = dropped.clone();
        let writer = std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write_all(&receiver, BufWriter::with_capacity(64 * 1024, out), &lost));
        match writer {
            Ok(writer) => {
                // There is one output, and so one beginning.
                let _ = self.queue.set(Queue {
                    lines: sender,
                    dropped,
                    writer: Mutex::new(Some(writer)),
                });
            }
            Err(error) => log::error!("no access log: cannot start its thread: {error}"),
        }
    }

    /// Writes one record. It is made only if it is wanted.
    pub fn write<'a>(&self, record: impl FnOnce() -> AccessRecord<'a>) {
        if !self.on.load(Ordering::Relaxed) {
            return;
        }
        let Some(queue) = self.queue.get() else {
            return;
        };
        thread_local! {
            static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        let line = LINE.with_borrow_mut(|line| {
            line.clear();
            format_line(line, &record());
            Box::from(line.as_slice())
        });
        if queue.lines.try_send(Message::Line(line)).is_err() {
            queue.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines lost because the queue was full, the output failed, or the log was closed.
    pub fn dropped(&self) -> u64 {
        let queue = self.queue.get();
        queue.map_or(0, |queue| queue.dropped.load(Ordering::Relaxed))
    }

    /// Returns when every line so far is written, or when the output has taken nothing for too long. Later lines are
    /// dropped.
    pub fn close(&self) {
        let Some(queue) = self.queue.get() else {
            return;
        };
        let writer = queue
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(writer) = writer else { return };
        let mut waited = Duration::ZERO;
        let mut told = false;
        while !writer.is_finished() && waited < CLOSING {
            told = told || queue.lines.try_send(Message::Close).is_ok();
            std::thread::sleep(REST);
            waited += REST;
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.close();
    }
}

fn write_all(lines: &Receiver<Message>, mut out: impl Write, lost: &AtomicU64) {
    let mut failing = false;
    while let Ok(first) = lines.recv() {
        let mut next = Some(first);
        let mut batch = 0;
        let mut outcome = Ok(());
        let mut closed = false;
        while let Some(message) = next {
            match message {
                Message::Line(line) => {
                    batch += 1;
                    outcome = outcome.and_then(|()| out.write_all(&line));
                }
                Message::Close => closed = true,
            }
            next = lines.try_recv().ok();
        }
        if let Err(error) = outcome.and_then(|()| out.flush()) {
            lost.fetch_add(batch, Ordering::Relaxed);
            if !failing {
                log::error!("cannot write the access log: {error}");
            }
            failing = true;
        } else {
            failing = false;
        }
        if closed {
            return;
        }
        std::thread::sleep(REST);
    }
}

fn format_line(line: &mut Vec<u8>, record: &AccessRecord<'_>) {
    line.extend_from_slice(b"{\"time\":\"");
    timestamp::write(line, record.unix_millis);
    line.push(b'"');
    text(
        line,
        "request_id",
        Some(&redact::redact_jwt(record.request_id)),
    );
    text(line, "trace_id", Some(record.trace_id));
    text(line, "route", record.route);
    // Any run of letters and dots is a method to HTTP, a token too.
    let method = redact::redact_jwt(shortened(record.method));
    text(line, "method", Some(&method));
    let path = record.path.map(shortened).map(redact::redact_jwt);
    text(line, "path", path.as_deref());
    number(line, "status", u64::from(record.status));
    text(line, "reason", record.reason);
    address(line, "source", record.source);
    text(line, "client", record.client);
    text(line, "issuer", record.issuer);
    text(line, "proof", record.proof);
    text(line, "upstream", record.upstream);
    let peer = record.peer.map(|peer| peer.to_string());
    text(line, "peer", peer.as_deref());
    if let Some((subject, fingerprint)) = record.certificate {
        text(line, "cert_subject", Some(subject));
        hex(line, "cert_sha256", fingerprint);
    }
    number(line, "bytes_in", record.bytes_in);
    number(line, "bytes_out", record.bytes_out);
    millis(line, "duration_ms", Some(record.duration));
    millis(line, "upstream_ms", record.upstream_duration);
    if let Some(code) = record.grpc_status {
        number(line, "grpc_status", u64::from(code));
    }
    line.extend_from_slice(b"}\n");
}

fn shortened(path: &str) -> &str {
    &path[..path.floor_char_boundary(PATH)]
}

fn name(line: &mut Vec<u8>, name: &str) {
    line.extend_from_slice(b",\"");
    line.extend_from_slice(name.as_bytes());
    line.extend_from_slice(b"\":");
}

fn number(line: &mut Vec<u8>, member: &str, value: u64) {
    name(line, member);
    // Writing to a Vec cannot fail.
    let _ = write!(line, "{value}");
}

fn address(line: &mut Vec<u8>, member: &str, value: Option<IpAddr>) {
    name(line, member);
    let _ = match value {
        Some(value) => write!(line, "\"{value}\""),
        None => write!(line, "null"),
    };
}

fn hex(line: &mut Vec<u8>, member: &str, value: &[u8]) {
    name(line, member);
    line.push(b'"');
    for byte in value {
        let _ = write!(line, "{byte:02x}");
    }
    line.push(b'"');
}

/// Milliseconds with three decimals.
fn millis(line: &mut Vec<u8>, member: &str, value: Option<Duration>) {
    name(line, member);
    match value {
        Some(value) => {
            let micros = value.as_micros();
            let _ = write!(line, "{}.{:03}", micros / 1000, micros % 1000);
        }
        None => line.extend_from_slice(b"null"),
    }
}

fn text(line: &mut Vec<u8>, member: &str, value: Option<&str>) {
    name(line, member);
    let Some(value) = value else {
        line.extend_from_slice(b"null");
        return;
    };
    line.push(b'"');
    // Mostly there is nothing to escape, and then this is one copy.
    let mut rest = value;
    while let Some(at) = rest.find(|c: char| matches!(c, '"' | '\\') || c.is_control()) {
        line.extend_from_slice(&rest.as_bytes()[..at]);
        let mut tail = rest[at..].chars();
        if let Some(c) = tail.next() {
            match c {
                '"' | '\\' => line.extend_from_slice(&[b'\\', c as u8]),
                // Control characters all lie within the first plane, terminal commands of C1 included.
                _ => drop(write!(line, "\\u{:04x}", u32::from(c))),
            }
        }
        rest = tail.as_str();
    }
    line.extend_from_slice(rest.as_bytes());
    line.push(b'"');
}

#[cfg(test)]
mod tests;
