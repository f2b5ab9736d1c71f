//! HTTP/2 frames as they pass by, both ways: how often the caller takes a request back, and what h2 and Pingora refuse
//! by themselves. Neither shows in any hook.
//!
//! Only frame headers and error codes are read (RFC 9113 section 4.1); bodies and header blocks are skipped.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::reject::Rejection;

const HEADER: usize = 9;
/// Of a frame's payload we keep what an error code needs: GOAWAY has it after the last stream.
const KEPT: usize = 8;
const PREFACE: usize = 24;

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const GOAWAY: u8 = 0x7;
const CONTINUATION: u8 = 0x9;
const END_STREAM: u8 = 0x1;
/// Of SETTINGS.
const ACK: u8 = 0x1;

/// RFC 9113 section 7.
const NO_ERROR: u32 = 0x0;
const INTERNAL_ERROR: u32 = 0x2;
const REFUSED_STREAM: u32 = 0x7;
const CANCEL: u32 = 0x8;
const COMPRESSION_ERROR: u32 = 0x9;
const ENHANCE_YOUR_CALM: u32 = 0xb;

/// Requests that a caller may take back at once, and how many a second from then on: nghttp2's figures. Each costs us
/// a whole judgement, and the caller next to nothing (CVE-2023-44487, rapid reset).
const RESETS: f64 = 1000.0;
const RESETS_PER_SECOND: f64 = 33.0;
/// After so many of them its next requests wait until nobody else does.
const HASTY: f64 = 100.0;

/// What the guard of a connection's bytes, and whoever accepts its requests, have to tell each other.
#[derive(Debug, Default)]
pub(super) struct Flood {
    on: AtomicBool,
    hasty: AtomicBool,
    clumsy: AtomicBool,
}

impl Flood {
    pub(super) fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// The caller has taken back so many requests that the next one may go the same way.
    pub(super) fn is_near(&self) -> bool {
        self.hasty.load(Ordering::Relaxed)
    }

    /// The connection is ended for requests that are malformed, and not for what it floods us with.
    pub(super) fn deny(&self) {
        self.clumsy.store(true, Ordering::Relaxed);
    }

    fn is_denied(&self) -> bool {
        self.clumsy.load(Ordering::Relaxed)
    }
}

/// A frame's header and the beginning of its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Frame {
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
    payload: [u8; KEPT],
}

impl Frame {
    fn code(&self, at: usize) -> u32 {
        let mut code = [0; 4];
        code.copy_from_slice(&self.payload[at..at + 4]);
        u32::from_be_bytes(code)
    }
}

/// Cuts a stream of bytes into frames.
#[derive(Debug)]
struct Frames {
    kept: [u8; HEADER + KEPT],
    have: usize,
    skip: usize,
}

impl Frames {
    fn after(skip: usize) -> Self {
        Frames {
            kept: [0; HEADER + KEPT],
            have: 0,
            skip,
        }
    }

    fn feed(&mut self, mut bytes: &[u8], mut seen: impl FnMut(Frame)) {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return;
            }
            let wanted = match self.have {
                0..HEADER => HEADER,
                _ => HEADER + self.length().min(KEPT),
            };
            let taken = (wanted - self.have).min(bytes.len());
            self.kept[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have >= HEADER && self.have == HEADER + self.length().min(KEPT) {
                seen(self.take());
            }
        }
    }

    fn length(&self) -> usize {
        usize::from(self.kept[0]) << 16 | usize::from(self.kept[1]) << 8 | usize::from(self.kept[2])
    }

    fn take(&mut self) -> Frame {
        let length = self.length();
        let (header, rest) = self.kept.split_at(HEADER);
        let stream = u32::from_be_bytes([header[5] & 0x7f, header[6], header[7], header[8]]);
        let mut payload = [0; KEPT];
        let known = length.min(KEPT);
        payload[..known].copy_from_slice(&rest[..known]);
        let frame = Frame {
            length,
            kind: header[3],
            flags: header[4],
            stream,
            payload,
        };
        (self.have, self.skip) = (0, length - known);
        frame
    }
}

/// What the caller sends.
#[derive(Debug)]
pub(super) struct Incoming {
    frames: Frames,
    /// The first frame has come.
    begun: bool,
    resets: f64,
    filled: Option<Instant>,
    /// Bytes of the header block that came last.
    block: usize,
}

impl Incoming {
    pub(super) fn new() -> Self {
        Incoming {
            frames: Frames::after(PREFACE),
            begun: false,
            resets: RESETS,
            filled: None,
            block: 0,
        }
    }

    /// `false` when the connection has gone on for as long again as it took to say that it is flooded, or does not begin
    /// as it has to: with SETTINGS (RFC 9113 section 3.4), which h2 does not insist on.
    pub(super) fn feed(&mut self, bytes: &[u8], flood: &Flood) -> bool {
        let (mut taken_back, mut opened) = (0, true);
        let (begun, block) = (&mut self.begun, &mut self.block);
        self.frames.feed(bytes, |frame| {
            opened &= *begun || frame.kind == SETTINGS && frame.flags & ACK == 0;
            *begun = true;
            match frame.kind {
                RST_STREAM => taken_back += 1,
                HEADERS => *block = frame.length,
                CONTINUATION => *block = block.saturating_add(frame.length),
                _ => {}
            }
        });
        if !opened {
            return false;
        }
        if taken_back == 0 {
            return true;
        }
        let now = Instant::now();
        let passed = self.filled.map_or(Duration::ZERO, |at| now - at);
        self.filled = Some(now);
        let refilled = self.resets + passed.as_secs_f64() * RESETS_PER_SECOND;
        self.resets = refilled.min(RESETS) - f64::from(taken_back);
        let hasty = self.resets <= RESETS - HASTY;
        flood.hasty.store(hasty, Ordering::Relaxed);
        if self.resets < 0.0 {
            flood.on.store(true, Ordering::Relaxed);
        }
        self.resets > -RESETS
    }

    /// Bytes of the frame that has begun which are still to come.
    pub(super) fn rest(&self) -> usize {
        self.frames.skip
    }

    /// Whether a connection that ends with this error code ends for a flood. h2 says ENHANCE_YOUR_CALM for resets, for
    /// CONTINUATION, empty DATA and header bombs; a block that is longer than a list may be it sometimes calls an
    /// error of compression.
    pub(super) fn is_flood(&self, code: u32, flood: &Flood, header_list: u32) -> bool {
        match code {
            ENHANCE_YOUR_CALM => !flood.is_denied(),
            COMPRESSION_ERROR => self.block as u64 > u64::from(header_list),
            _ => false,
        }
    }
}

/// What is sent to the caller.
#[derive(Debug)]
pub(super) struct Outgoing {
    frames: Frames,
    /// Streams whose response has begun: header blocks that follow are trailers. A caller that takes its requests back
    /// leaves some behind, so the oldest go.
    responding: VecDeque<u32>,
    /// The stream that got a bare answer: what is reset after it was counted.
    answered: u32,
}

const RESPONDING: usize = 256;

/// What h2, or Pingora before any hook, did by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// One request, for this reason.
    Request(Rejection),
    /// The connection, with this error code.
    Connection(u32),
}

impl Outgoing {
    pub(super) fn new() -> Self {
        Outgoing {
            frames: Frames::after(0),
            responding: VecDeque::new(),
            answered: 0,
        }
    }

    pub(super) fn feed(&mut self, bytes: &[u8], mut refused: impl FnMut(Refused)) {
        let (answered, responding) = (&mut self.answered, &mut self.responding);
        self.frames.feed(bytes, |frame| {
            let ends = frame.flags & END_STREAM != 0;
            let place = responding.iter().rposition(|id| *id == frame.stream);
            match (frame.kind, place) {
                (HEADERS, None) if !ends => {
                    if responding.len() == RESPONDING {
                        responding.pop_front();
                    }
                    responding.push_back(frame.stream);
                }
                (HEADERS | DATA, Some(place)) if ends => drop(responding.remove(place)),
                (RST_STREAM, Some(place)) => drop(responding.remove(place)),
                _ => {}
            }
            match frame.kind {
                // A status and nothing else: our own answers have a `Date` at least. 400 stands in HPACK's static
                // table (RFC 7541 appendix A) and is Pingora's word for a doubtful authority; h2 says 431.
                HEADERS if ends && place.is_none() && (1..=6).contains(&frame.length) => {
                    *answered = frame.stream;
                    let bad_request = frame.payload[..frame.length].contains(&0x8c);
                    refused(Refused::Request(if bad_request {
                        Rejection::DoubtfulHost
                    } else {
                        Rejection::HeaderTooLarge
                    }));
                }
                RST_STREAM if frame.length == 4 && frame.stream != *answered => match frame.code(0)
                {
                    // An answer that breaks off is logged by its request; more streams than allowed are the
                    // caller's to send again.
                    NO_ERROR | INTERNAL_ERROR | REFUSED_STREAM | CANCEL => {}
                    _ => refused(Refused::Request(Rejection::MalformedRequest)),
                },
                GOAWAY if frame.length >= 8 && frame.code(4) != NO_ERROR => {
                    refused(Refused::Connection(frame.code(4)));
                }
                _ => {}
            }
        });
    }
}

#[cfg(test)]
mod tests;
