//! `htu` against the URI that the caller sees (RFC 9449 section 4.3, point 9).
//!
//! Both are normalised by their syntax and their scheme (RFC 3986 sections 6.2.2 and 6.2.3) and then compared; query
//! and fragment do not count. Nothing else is made equal: `/a` and `/a/` are two targets.

/// The request's URI as its caller sees it, in parts.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    pub scheme: &'a str,
    /// Host, and port if it was said.
    pub authority: &'a str,
    /// What a proxy before us has taken off; mostly nothing.
    pub prefix: &'a str,
    /// As it came to us, without the query.
    pub path: &'a str,
}

impl Seen<'_> {
    /// Whether it is what a proof was made for.
    pub(super) fn is(&self, htu: &str) -> bool {
        let ours = Uri::of(
            self.scheme,
            self.authority,
            &[self.prefix, self.path].concat(),
        );
        ours.is_some() && ours == Uri::read(htu)
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Uri {
    scheme: String,
    host: String,
    port: u16,
    path: String,
}

impl Uri {
    /// An absolute URI.
    fn read(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (path, _) = rest.split_at(rest.find(['?', '#']).unwrap_or(rest.len()));
        Uri::of(scheme, authority, path)
    }

    fn of(scheme: &str, authority: &str, path: &str) -> Option<Self> {
        // Browsers read a backslash as a slash; in no URI is there one.
        let visible = |text: &str| {
            let mut bytes = text.bytes();
            bytes.all(|byte| byte.is_ascii_graphic() && byte != b'\\')
        };
        // A user in front of the host is an old way to mislead.
        if !visible(authority) || !visible(path) || authority.contains('@') {
            return None;
        }
        let scheme = scheme.to_ascii_lowercase();
        let usual = match scheme.as_str() {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        // The colons of an IPv6 address stand in brackets.
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port),
            _ => (authority, ""),
        };
        if host.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        Some(Uri {
            scheme,
            host: host.to_ascii_lowercase(),
            port: match port {
                "" => usual,
                port => port.parse().ok()?,
            },
            path: without_dots(&escaped_alike(path)?)?,
        })
    }
}

/// Escapes of what needs none are read, the others written in upper case (RFC 3986 sections 6.2.2.1 and 6.2.2.2).
fn escaped_alike(path: &str) -> Option<String> {
    let mut alike = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((plain, escaped)) = rest.split_once('%') {
        alike.push_str(plain);
        let digits = escaped.get(..2)?;
        // `from_str_radix` would take a sign.
        let hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        let byte = u8::from_str_radix(digits, 16).ok().filter(|_| hex)?;
        let byte = char::from(byte);
        if byte.is_ascii_alphanumeric() || "-._~".contains(byte) {
            alike.push(byte);
        } else {
            alike.push('%');
            alike.push_str(&digits.to_ascii_uppercase());
        }
        rest = &escaped[2..];
    }
    alike.push_str(rest);
    Some(alike)
}

/// RFC 3986 section 5.2.4, of a path that begins with `/` or is empty, which is `/` (section 6.2.3). `None` if another
/// reader would take another path.
fn without_dots(path: &str) -> Option<String> {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." && kept.pop().is_some_and(is_drive) {
                    return None;
                }
                if last {
                    kept.push("");
                }
            }
            _ => kept.push(segment),
        }
    }
    Some(format!("/{}", kept.join("/")))
}

/// `C:` or `C|`: some parsers of URLs step back over no such segment, though only in `file:` it is one of its kind.
fn is_drive(segment: &str) -> bool {
    matches!(segment.as_bytes(), [letter, b':' | b'|'] if letter.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEN: Seen<'_> = Seen {
        scheme: "https",
        authority: "api.example.com",
        prefix: "",
        path: "/eazybank/accounts/a%2Fb~c",
    };

    #[test]
    fn spellings_of_one_uri_are_the_same() {
        for htu in [
            "https://api.example.com/eazybank/accounts/a%2Fb~c",
            "HTTPS://API.Example.COM/eazybank/accounts/a%2Fb~c",
            "https://api.example.com:443/eazybank/accounts/a%2Fb~c",
            "https://api.example.com:/eazybank/accounts/a%2Fb~c",
            "https://api.example.com:0443/eazybank/accounts/a%2Fb~c",
            "https://api.example.com/eazybank/accounts/a%2fb%7Ec",
            "https://api.example.com/eazybank/%61ccounts/a%2fb~c",
            "https://api.example.com/eazybank/x/../accounts/./a%2Fb~c",
            "https://api.example.com/eazybank/accounts/a%2Fb~c?page=2",
            "https://api.example.com/eazybank/accounts/a%2Fb~c#top",
            "https://api.example.com/eazybank/accounts/a%2Fb~c?a#b?c",
        ] {
            assert!(SEEN.is(htu), "{htu}");
        }
    }

    #[test]
    fn other_uris_are_others() {
        for htu in [
            "",
            "/eazybank/accounts/a%2Fb~c",
            "api.example.com/eazybank/accounts/a%2Fb~c",
            "//api.example.com/eazybank/accounts/a%2Fb~c",
            "http://api.example.com/eazybank/accounts/a%2Fb~c",
            "wss://api.example.com/eazybank/accounts/a%2Fb~c",
            "https:/api.example.com/eazybank/accounts/a%2Fb~c",
            "https://api.example.com:80/eazybank/accounts/a%2Fb~c",
            "https://api.example.com:65979/eazybank/accounts/a%2Fb~c",
            "https://api.example.com:+443/eazybank/accounts/a%2Fb~c",
            "https://api.example.com./eazybank/accounts/a%2Fb~c",
            "https://api.example.com@evil.example/eazybank/accounts/a%2Fb~c",
            "https://evil@api.example.com/eazybank/accounts/a%2Fb~c",
            "https://api.example.com.evil.example/eazybank/accounts/a%2Fb~c",
            "https://evil.example/https://api.example.com/eazybank/accounts/a%2Fb~c",
            "https://api.example.com/eazybank/accounts/a%2Fb~c/",
            "https://api.example.com/eazybank/accounts/a/b~c",
            "https://api.example.com/eazybank/accounts/a%252Fb~c",
            "https://api.example.com/Eazybank/accounts/a%2Fb~c",
            "https://api.example.com//eazybank/accounts/a%2Fb~c",
            "https://api.example.com/eazybank/accounts",
            "https://api.example.com/eazybank/accounts/a%2Fb~c%",
            "https://api.example.com/eazybank/accounts/a%2Fb~c%zz",
            "https://api.example.com/eazybank/accounts/a%2Fb%+7Ec",
            "https://api.example.com/eazybank/accounts/a%2Fb~c ",
            "https://api.example.com\\eazybank/accounts/a%2Fb~c",
            // What is a step back for some is a name for others.
            "https://api.example.com/eazybank/x\\y/../accounts/a%2Fb~c",
            "https://api.example.com/c:/../eazybank/accounts/a%2Fb~c",
            "https://api.example.com/eazybank/C|/../accounts/a%2Fb~c",
            "https://api.example.com",
            "https://",
        ] {
            assert!(!SEEN.is(htu), "{htu}");
        }
    }

    #[test]
    fn the_parts_that_we_see_are_put_together() {
        let seen = |scheme, authority, prefix, path| Seen {
            scheme,
            authority,
            prefix,
            path,
        };
        for (seen, htu) in [
            (seen("http", "[::1]:8072", "", "/a"), "http://[::1]:8072/a"),
            (seen("http", "[::1]", "", "/a"), "http://[::1]:80/a"),
            (seen("HTTP", "h:80", "", "/"), "http://h"),
            (seen("https", "h", "/api", "/a"), "https://h/api/a"),
            (seen("https", "H:8443", "", "/a"), "https://h:8443/a"),
        ] {
            assert!(seen.is(htu), "{htu}");
        }
        // What a trusted proxy says of the scheme is one word or nothing that could be right.
        for scheme in ["", "wss", "https,http", "https, http"] {
            assert!(!seen(scheme, "h", "", "/a").is("https://h/a"), "{scheme}");
        }
        assert!(!seen("https", "", "", "/a").is("https:///a"));
        assert!(!seen("https", "h, i", "", "/a").is("https://h, i/a"));
    }
}
