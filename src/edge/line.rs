//! The request line as it comes, before Pingora repairs it.
//!
//! Pingora escapes a blank, a quote or a control byte inside a target, in the raw head that it hands over too, and so
//! makes a request of what a stricter server would refuse. Only the bytes of the connection still show it.

/// Looks at a head's bytes until its request line is over (RFC 9112 section 3).
#[derive(Debug, Default)]
pub(super) struct RequestLine {
    begun: bool,
    over: bool,
    odd: bool,
    blanks: usize,
    /// The last byte was a CR, and only LF may follow it.
    returned: bool,
}

impl RequestLine {
    /// Takes the next bytes; `false` once the line is over and is not three words of visible ASCII.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> bool {
        if self.over {
            return true;
        }
        for byte in bytes {
            self.odd |= self.returned && *byte != b'\n';
            self.returned = *byte == b'\r';
            match byte {
                b'\n' if self.begun => {
                    self.over = true;
                    return !self.odd && self.blanks == 2;
                }
                // Empty lines before a request are to be ignored (RFC 9112 section 2.2).
                b'\r' | b'\n' => {}
                b' ' => (self.begun, self.blanks) = (true, self.blanks + 1),
                b'"' | b'<' | b'>' | b'#' | 0..0x20 | 0x7f.. => {
                    (self.begun, self.odd) = (true, true);
                }
                _ => self.begun = true,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_three_words_of_visible_ascii() {
        for good in [
            "GET / HTTP/1.1\r\nHost: a",
            "\r\n\r\nGET /%20 HTTP/1.1\n",
            "GET /",
        ] {
            assert!(RequestLine::default().feed(good.as_bytes()), "{good:?}");
        }
        for bad in [
            "GET /a b HTTP/1.1\r\n",
            "GET  / HTTP/1.1\r\n",
            "GET /\r\n",
            "GET /\t HTTP/1.1\r\n",
            "GET /\0 HTTP/1.1\r\n",
            "GET /\" HTTP/1.1\r\n",
            "GET /<> HTTP/1.1\r\n",
            "GET /#x HTTP/1.1\r\n",
            "GET /ü HTTP/1.1\r\n",
            "GET / HTTP/1.1 \r\n",
            " GET / HTTP/1.1\r\n",
            "GET /a HTTP/1.1 HTTP/1.1\r\n",
            "GET /\r HTTP/1.1\r\n",
            "\rGET / HTTP/1.1\r\n",
        ] {
            assert!(!RequestLine::default().feed(bad.as_bytes()), "{bad:?}");
            let mut dripped = RequestLine::default();
            let verdicts: Vec<bool> = bad.bytes().map(|byte| dripped.feed(&[byte])).collect();
            assert!(verdicts.contains(&false), "{bad:?}");
        }
    }
}
