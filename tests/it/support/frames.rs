//! HTTP/2 frame by frame, over TLS: a client that sends what no library would.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::ClientConfig;

use super::tls::{Secure, handshake};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// What became of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Answered(u16),
    /// RST_STREAM with this code.
    Reset(u32),
    /// GOAWAY with this code.
    GoAway(u32),
    /// The connection ended without a word.
    Closed,
}

pub struct Frames {
    tls: Secure,
    buffer: Vec<u8>,
}

impl Frames {
    /// A connection with its opening sent.
    pub fn open(address: SocketAddr, name: &str, config: Arc<ClientConfig>) -> Self {
        let mut frames = Self::silent(address, name, config);
        frames.hello();
        frames
    }

    /// The same on a connection that something was said on already, or why the handshake failed.
    pub fn on(tcp: TcpStream, name: &str, config: Arc<ClientConfig>) -> std::io::Result<Self> {
        let mut frames = Self::silent_on(tcp, name, config)?;
        frames.hello();
        Ok(frames)
    }

    fn hello(&mut self) {
        self.raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .frame(SETTINGS, 0, 0, &[]);
    }

    /// A connection that has agreed on HTTP/2 and says nothing.
    pub fn silent(address: SocketAddr, name: &str, config: Arc<ClientConfig>) -> Self {
        let tcp = TcpStream::connect(address).unwrap();
        Self::silent_on(tcp, name, config).unwrap()
    }

    fn silent_on(tcp: TcpStream, name: &str, config: Arc<ClientConfig>) -> std::io::Result<Self> {
        let tls = handshake(tcp, name, config)?.into_inner();
        assert_eq!(tls.conn.alpn_protocol(), Some(&b"h2"[..]));
        Ok(Frames {
            tls,
            buffer: Vec::new(),
        })
    }

    /// Bytes as they are; that the other side has closed shows when its frames are read.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        let _ = self.tls.write_all(bytes);
        let _ = self.tls.flush();
        self
    }

    pub fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> &mut Self {
        let bytes = frame(kind, flags, stream, payload);
        self.raw(&bytes)
    }

    /// A request's head in one frame.
    pub fn headers(&mut self, stream: u32, fields: &[(&str, &[u8])], end: bool) -> &mut Self {
        let flags = END_HEADERS | if end { END_STREAM } else { 0 };
        self.frame(HEADERS, flags, stream, &block(fields))
    }

    /// The next frame; `None` when the connection has ended.
    pub fn next(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        while self.buffer.len() < 9 {
            self.more()?;
        }
        let length = u32::from_be_bytes([0, self.buffer[0], self.buffer[1], self.buffer[2]]);
        while self.buffer.len() < 9 + length as usize {
            self.more()?;
        }
        let frame: Vec<u8> = self.buffer.drain(..9 + length as usize).collect();
        let stream = u32::from_be_bytes([frame[5], frame[6], frame[7], frame[8]]);
        Some((frame[3], frame[4], stream, frame[9..].to_vec()))
    }

    /// Reads until it is decided what becomes of a stream.
    pub fn fate(&mut self, of: u32) -> Fate {
        let code = |payload: &[u8]| u32::from_be_bytes(payload[..4].try_into().unwrap());
        while let Some((kind, flags, stream, payload)) = self.next() {
            match kind {
                HEADERS if stream == of => return Fate::Answered(status(&payload)),
                RST_STREAM if stream == of => return Fate::Reset(code(&payload)),
                GOAWAY => return Fate::GoAway(code(&payload[4..])),
                SETTINGS if flags == 0 => drop(self.frame(SETTINGS, 1, 0, &[])),
                PING if flags == 0 => drop(self.frame(PING, 1, 0, &payload)),
                _ => {}
            }
        }
        Fate::Closed
    }

    fn more(&mut self) -> Option<()> {
        let mut chunk = [0; 16 * 1024];
        match self.tls.read(&mut chunk) {
            Ok(read) if read > 0 => {
                self.buffer.extend_from_slice(&chunk[..read]);
                Some(())
            }
            Ok(_) => None,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("nothing came"),
            Err(_) => None,
        }
    }
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// RFC 7541 section 6.2.2: every field spelt out, none kept.
pub fn block(fields: &[(&str, &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        text(&mut block, name.as_bytes());
        text(&mut block, value);
    }
    block
}

/// Section 5.2, with the length in seven bits and groups of seven (section 5.1).
fn text(block: &mut Vec<u8>, text: &[u8]) {
    let mut left = text.len();
    if left < 127 {
        block.push(left as u8);
    } else {
        block.push(127);
        left -= 127;
        while left >= 128 {
            block.push((left % 128) as u8 | 128);
            left /= 128;
        }
        block.push(left as u8);
    }
    block.extend_from_slice(text);
}

/// The status that begins a response's block: in the static table, or three digits, Huffman-coded or not.
fn status(block: &[u8]) -> u16 {
    let block = match block {
        [first, rest @ ..] if first & 0xe0 == 0x20 => rest,
        block => block,
    };
    match block {
        [0x88, ..] => 200,
        [0x89, ..] => 204,
        [0x8b, ..] => 304,
        [0x8c, ..] => 400,
        [0x8d, ..] => 404,
        [0x8e, ..] => 500,
        [0x48, 3, digits @ ..] => std::str::from_utf8(&digits[..3]).unwrap().parse().unwrap(),
        [0x48, length, coded @ ..] if length & 0x80 != 0 => {
            digits(&coded[..usize::from(length & 0x7f)])
        }
        _ => panic!("no status: {}", block.escape_ascii()),
    }
}

/// RFC 7541 appendix B, for digits: 0 to 2 have five bits, 3 to 9 have six.
fn digits(coded: &[u8]) -> u16 {
    let bits: Vec<u8> = coded
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1))
        .collect();
    let number = |bits: &[u8]| bits.iter().fold(0, |sum, bit| sum * 2 + u16::from(*bit));
    let (mut at, mut value) = (0, 0);
    for _ in 0..3 {
        let five = number(&bits[at..at + 5]);
        let (digit, length) = if five < 3 {
            (five, 5)
        } else {
            (number(&bits[at..at + 6]) - 0b011001 + 3, 6)
        };
        value = value * 10 + digit;
        at += length;
    }
    value
}
