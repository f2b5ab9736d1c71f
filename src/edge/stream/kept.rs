//! Bytes that were read from a connection and not handed out yet.

use tokio::io::ReadBuf;

#[derive(Debug, Default)]
pub(super) struct Kept {
    bytes: Vec<u8>,
    read: usize,
}

impl Kept {
    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.read..]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest().is_empty()
    }

    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Takes back the end of what was handed out last, or of what was read while there was nothing to hand out.
    pub(super) fn put_back(&mut self, bytes: &[u8]) {
        match self.read.checked_sub(bytes.len()) {
            // They are still here; many short requests in a row are not to be copied once for each.
            Some(read) if !self.is_empty() => self.read = read,
            _ => {
                *self = Kept {
                    bytes: bytes.to_vec(),
                    read: 0,
                }
            }
        }
    }

    pub(super) fn hand_out(&mut self, buf: &mut ReadBuf<'_>) {
        let rest = self.rest();
        let count = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..count]);
        self.read += count;
        if self.is_empty() {
            // An idle connection is to hold nothing.
            *self = Kept::default();
        }
    }
}
