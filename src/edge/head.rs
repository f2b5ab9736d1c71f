//! A request's head as it comes, line by line, before Pingora repairs it.

use memchr::memchr_iter;

use super::line::RequestLine;

/// What is not as it has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Odd {
    RequestLine,
    /// An LF without its CR: a line's end to one server and not to another (RFC 9112 section 2.2 only allows to take
    /// it for one). Pingora's parser finds a lone CR by itself.
    LineEnd,
}

/// Watches the bytes of one head.
#[derive(Debug, Default)]
pub(super) struct Head {
    request_line: RequestLine,
    /// Whether there was more than empty lines, which are to be ignored before a request (RFC 9112 section 2.2).
    begun: bool,
    over: bool,
    lines: usize,
    /// Bytes of the line that has not ended yet, and whether the last one is a CR.
    pending: usize,
    returned: bool,
}

impl Head {
    pub(super) fn begun(&self) -> bool {
        self.begun
    }

    /// Whether its empty line has come.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Lines that have ended.
    pub(super) fn lines(&self) -> usize {
        self.lines
    }

    /// Takes the next bytes and returns how many of them belong to the head; the others follow it.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<usize, Odd> {
        if self.over {
            return Ok(0);
        }
        if !self.request_line.feed(bytes) {
            self.begun = true;
            return Err(Odd::RequestLine);
        }
        let mut start = 0;
        for end in memchr_iter(b'\n', bytes) {
            let length = self.pending + (end - start);
            let returned = match end.checked_sub(1) {
                Some(before) if end > start => bytes[before] == b'\r',
                _ => self.returned,
            };
            if !returned || length == 0 {
                self.begun = true;
                return Err(Odd::LineEnd);
            }
            let empty = length == 1;
            (self.pending, self.returned, start) = (0, false, end + 1);
            self.lines += 1;
            if empty && self.begun {
                self.over = true;
                return Ok(start);
            }
            self.begun |= !empty;
        }
        if start < bytes.len() {
            self.pending += bytes.len() - start;
            self.returned = bytes.last() == Some(&b'\r');
            // A CR alone may still become an empty line.
            self.begun |= self.pending > 1 || !self.returned;
        }
        Ok(bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same bytes whole, and byte by byte: how many belong to the head.
    fn fed(bytes: &[u8]) -> Result<usize, Odd> {
        let whole = Head::default().feed(bytes);
        let mut head = Head::default();
        let dripped = bytes
            .iter()
            .try_fold(0, |sum, byte| head.feed(&[*byte]).map(|fed| sum + fed));
        assert_eq!(whole, dripped, "{}", bytes.escape_ascii());
        whole
    }

    #[test]
    fn a_head_ends_at_its_empty_line() {
        for (bytes, length) in [
            ("GET / HTTP/1.1\r\n\r\n", 18),
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\nbody\n\n", 27),
            ("\r\n\r\nGET / HTTP/1.1\r\n\r\nGET", 22),
            ("GET / HTTP/1.1\r\n\r\n\r\n", 18),
            ("GET / HT", 8),
            ("\r\n", 2),
            ("", 0),
        ] {
            assert_eq!(fed(bytes.as_bytes()), Ok(length), "{bytes:?}");
        }
    }

    #[test]
    fn a_line_ends_in_both_bytes() {
        for bytes in [
            "GET / HTTP/1.1\n",
            "\nGET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\n",
            "GET / HTTP/1.1\r\nHost: a\n\n",
        ] {
            let odd = fed(bytes.as_bytes()).unwrap_err();
            // The request line has an eye of its own on its end.
            assert!(
                matches!(odd, Odd::LineEnd | Odd::RequestLine),
                "{bytes:?} {odd:?}"
            );
        }
        assert_eq!(fed(b"GET /a b HTTP/1.1\r\n"), Err(Odd::RequestLine));
    }

    #[test]
    fn only_an_empty_line_is_no_beginning() {
        for (bytes, begun) in [
            ("", false),
            ("\r", false),
            ("\r\n\r\n", false),
            ("\r\n\r", false),
            ("G", true),
            ("\r\nG", true),
        ] {
            let mut head = Head::default();
            head.feed(bytes.as_bytes()).unwrap();
            assert_eq!(head.begun(), begun, "{bytes:?}");
        }
    }
}
