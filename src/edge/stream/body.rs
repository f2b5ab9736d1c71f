//! The bytes that follow a head: how many of them are the request's own.

use crate::edge::chunks::{Chunks, DoubtfulChunks};

/// How a request ends.
#[derive(Debug)]
pub(in crate::edge) enum Framing {
    /// So many bytes after its head.
    Length(u64),
    /// With its last chunk.
    Chunks,
    /// Nobody can say: it is refused, or no request any more.
    Unknown,
}

#[derive(Debug)]
enum Left {
    Bytes(u64),
    Chunks(Chunks),
    Unknown,
}

/// What is known of the bytes that follow a head.
#[derive(Debug)]
pub(super) struct Body {
    left: Left,
    pub(super) doubtful: bool,
}

impl Default for Body {
    fn default() -> Self {
        Body {
            left: Left::Unknown,
            doubtful: false,
        }
    }
}

impl Body {
    /// The head is over. `behind` came with it.
    pub(super) fn begin(&mut self, framing: &Framing, behind: &[u8]) {
        self.left = match framing {
            Framing::Length(length) => Left::Bytes(*length),
            Framing::Chunks => {
                // They are looked at again when they are read; but a request is better refused before it has begun.
                self.doubtful = Chunks::default().feed(behind).is_err();
                Left::Chunks(Chunks::default())
            }
            Framing::Unknown => Left::Unknown,
        };
    }

    /// Whether all of the request has come.
    pub(super) fn is_over(&self) -> bool {
        match &self.left {
            Left::Bytes(left) => *left == 0,
            Left::Chunks(chunks) => chunks.is_over(),
            Left::Unknown => false,
        }
    }

    /// How many of the next bytes are the request's. Those of doubtful chunks are nobody else's.
    pub(super) fn count(&self, bytes: &[u8]) -> usize {
        match &self.left {
            Left::Bytes(left) => usize::try_from(*left).map_or(bytes.len(), |l| l.min(bytes.len())),
            Left::Chunks(chunks) => chunks.clone().feed(bytes).unwrap_or(bytes.len()),
            Left::Unknown => bytes.len(),
        }
    }

    /// Takes the next bytes and returns how many of them are the request's.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<usize, DoubtfulChunks> {
        match &mut self.left {
            Left::Bytes(left) => {
                let taken = usize::try_from(*left).map_or(bytes.len(), |l| l.min(bytes.len()));
                *left -= taken as u64;
                Ok(taken)
            }
            Left::Chunks(chunks) => {
                let taken = chunks.feed(bytes);
                self.doubtful |= taken.is_err();
                taken
            }
            Left::Unknown => Ok(bytes.len()),
        }
    }
}
