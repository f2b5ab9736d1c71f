//! The framing of a chunked body as it comes (RFC 9112 section 7.1), read as strictly as any server behind us or in
//! front of us could read it.
//!
//! What Pingora sends on is clean whatever came. But it takes blanks after a size, an empty line for the last chunk,
//! LF inside an extension and folded trailers, and a proxy in front of us that takes them otherwise sees other
//! requests on the connection than we do.

/// Bytes of all extensions of a body, and of its trailers. Nobody reads them, so they shall not cost much.
const SURPLUS: usize = 8 * 1024;

/// The framing has more than one reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a chunked body with doubtful framing")]
pub struct DoubtfulChunks;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// In the size, after so many digits.
    Size(u8),
    Extension,
    /// After the CR of the size's line.
    SizeEnd,
    Data,
    DataReturn,
    DataEnd,
    /// At the start of a line of the trailers.
    Line,
    Name,
    Value,
    /// After the CR of a trailer.
    LineEnd,
    /// After the CR of the empty line.
    LastEnd,
    Over,
    Doubtful,
}

/// Watches the bytes of one body.
#[derive(Debug, Clone)]
pub(super) struct Chunks {
    at: At,
    /// What is left of the current chunk.
    left: u64,
    surplus: usize,
}

impl Default for Chunks {
    fn default() -> Self {
        Chunks {
            at: At::Size(0),
            left: 0,
            surplus: 0,
        }
    }
}

impl Chunks {
    /// Whether the last chunk and the trailers have come.
    pub(super) fn is_over(&self) -> bool {
        self.at == At::Over
    }

    /// Takes the next bytes and returns how many of them belong to the body; the others follow it.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> Result<usize, DoubtfulChunks> {
        let all = bytes.len();
        while let Some((&byte, rest)) = bytes.split_first() {
            if self.at == At::Data {
                let skipped =
                    usize::try_from(self.left).map_or(bytes.len(), |l| l.min(bytes.len()));
                self.left -= skipped as u64;
                bytes = &bytes[skipped..];
                if self.left == 0 {
                    self.at = At::DataReturn;
                }
                continue;
            }
            if self.at == At::Over {
                return Ok(all - bytes.len());
            }
            self.at = self.after(byte);
            bytes = rest;
        }
        if self.at == At::Doubtful {
            return Err(DoubtfulChunks);
        }
        Ok(all)
    }

    fn after(&mut self, byte: u8) -> At {
        match (self.at, byte) {
            (At::Size(digits), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if digits < 15 => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                self.left = self.left << 4 | u64::from(digit);
                At::Size(digits + 1)
            }
            (At::Size(1..), b'\r') | (At::Extension, b'\r') => At::SizeEnd,
            (At::Size(1..), b';') => self.costs(At::Extension),
            (At::SizeEnd, b'\n') if self.left == 0 => At::Line,
            (At::SizeEnd, b'\n') => At::Data,
            (At::DataReturn, b'\r') => At::DataEnd,
            (At::DataEnd, b'\n') => At::Size(0),
            (At::Line, b'\r') => At::LastEnd,
            (At::LastEnd, b'\n') => At::Over,
            (At::Line | At::Name, byte) if is_token(byte) => self.costs(At::Name),
            (At::Name, b':') => self.costs(At::Value),
            (At::Value, b'\r') => At::LineEnd,
            (At::LineEnd, b'\n') => At::Line,
            (at @ (At::Extension | At::Value), b'\t' | 0x20..=0x7e | 0x80..) => self.costs(at),
            _ => At::Doubtful,
        }
    }

    fn costs(&mut self, next: At) -> At {
        self.surplus += 1;
        if self.surplus > SURPLUS {
            return At::Doubtful;
        }
        next
    }
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many bytes belong to the body, whatever pieces they come in.
    fn fed(bytes: &[u8]) -> Result<usize, DoubtfulChunks> {
        let whole = Chunks::default().feed(bytes);
        for size in [1, 2, 3, 7] {
            let mut chunks = Chunks::default();
            let dripped = bytes
                .chunks(size)
                .try_fold(0, |sum, part| chunks.feed(part).map(|fed| sum + fed));
            assert_eq!(whole, dripped, "{}", bytes.escape_ascii());
        }
        whole
    }

    #[test]
    fn plain_chunks_pass() {
        for body in [
            "5\r\nhello\r\n0\r\n\r\n",
            "0\r\n\r\n",
            "000000000000005\r\nhello\r\n000\r\n\r\n",
            "A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n",
            "2\r\n\r\n\r\n0\r\n\r\n",
            "5;a=b;c=\"d e\"\r\nhello\r\n0;x\r\n\r\n",
            "5\r\nhello\r\n0\r\nA: b\r\nC:\r\n\r\n",
            // More is to come.
            "5\r\nhel",
            "5",
            "fffffffffffffff\r\nhello",
        ] {
            assert_eq!(fed(body.as_bytes()), Ok(body.len()), "{body:?}");
        }
    }

    #[test]
    fn what_follows_is_not_the_bodys() {
        for (body, behind) in [
            ("0\r\n\r\n", "\n\0+"),
            ("5\r\nhello\r\n0\r\n\r\n", "GET / HTTP/1.1\r\n"),
            ("0\r\nA: b\r\n\r\n", "\r\n"),
        ] {
            let both = [body, behind].concat();
            assert_eq!(fed(both.as_bytes()), Ok(body.len()), "{both:?}");
        }
    }

    #[test]
    fn doubtful_chunks_do_not() {
        let long = format!("5;{}", "x".repeat(SURPLUS + 1));
        let many = format!("{}0", "1;x\r\na\r\n".repeat(SURPLUS));
        for body in [
            "+5\r\nhello\r\n0\r\n\r\n",
            "-5\r\nhello\r\n0\r\n\r\n",
            "0x5\r\nhello\r\n0\r\n\r\n",
            "5 \r\nhello\r\n0\r\n\r\n",
            " 5\r\nhello\r\n0\r\n\r\n",
            "5 ;a\r\nhello\r\n0\r\n\r\n",
            "\r\nhello\r\n0\r\n\r\n",
            ";a\r\nhello\r\n0\r\n\r\n",
            "g\r\n",
            "1000000000000005\r\n",
            "8000000000000000\r\n",
            "5\nhello\r\n0\r\n\r\n",
            "5\rhello\r\n0\r\n\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5\r\nhelloX\r\n0\r\n\r\n",
            "5\r\nhello\r0\r\n\r\n",
            "5;a\nb\r\nhello\r\n0\r\n\r\n",
            "5;a\rb\r\nhello\r\n0\r\n\r\n",
            "5;a\0b\r\nhello\r\n0\r\n\r\n",
            "0\n\r\n",
            "0\r\n\n",
            "0\r\r\n",
            "0\r\nA\r\n\r\n",
            "0\r\nA b: c\r\n\r\n",
            "0\r\nA : b\r\n\r\n",
            "0\r\n: b\r\n\r\n",
            "0\r\nA: b\r\n c\r\n\r\n",
            "0\r\nA: b\nC: d\r\n\r\n",
            "0\r\nA: b\rC: d\r\n\r\n",
            "0\r\nA: \0\r\n\r\n",
            long.as_str(),
            many.as_str(),
        ] {
            assert_eq!(fed(body.as_bytes()), Err(DoubtfulChunks), "{body:?}");
        }
    }
}
