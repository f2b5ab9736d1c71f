//! The bytes that follow a head.

use crate::edge::chunks::{Chunks, DoubtfulChunks};

/// What is known of the bytes that follow a head.
#[derive(Default)]
pub(super) struct Body {
    /// Those that came with it, kept until it is known whether they are chunks.
    pub(super) behind: Vec<u8>,
    /// Only a chunked body is looked at.
    chunks: Option<Chunks>,
    pub(super) doubtful: bool,
}

impl Body {
    /// The head is over.
    pub(super) fn begin(&mut self, chunked: bool) {
        let behind = std::mem::take(&mut self.behind);
        if chunked {
            self.chunks = Some(Chunks::default());
            // The verdict is asked for later, by who can answer.
            let _ = self.feed(&behind);
        }
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<(), DoubtfulChunks> {
        let Some(chunks) = &mut self.chunks else {
            return Ok(());
        };
        let verdict = chunks.feed(bytes);
        self.doubtful = verdict.is_err();
        verdict
    }
}
