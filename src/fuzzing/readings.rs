//! How servers read a path: a model for each, from the target as it stands in the request line to the path that the
//! server acts on.
//!
//! They are models, after the documents and the source of what they are named for, with the defaults or with the
//! switches that are known to be turned. Each is lenient where there is a doubt: a model that refuses shows nothing.

/// Names a server and the path that it reads.
pub(super) struct Reading {
    pub(super) server: &'static str,
    pub(super) read: fn(&[u8]) -> Vec<u8>,
    pub(super) agrees: Agrees,
}

/// What a reading must have in common with ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Agrees {
    /// Every segment.
    Path,
    /// The route: it takes an escaped `?` or `#` for a real one, which a path may have within one route.
    Route,
}

const fn path(server: &'static str, read: fn(&[u8]) -> Vec<u8>) -> Reading {
    Reading {
        server,
        read,
        agrees: Agrees::Path,
    }
}

const fn route(server: &'static str, read: fn(&[u8]) -> Vec<u8>) -> Reading {
    Reading {
        server,
        read,
        agrees: Agrees::Route,
    }
}

pub(super) static READINGS: [Reading; 30] = [
    path("RFC 3986 section 5.2.4", |raw| {
        decoded(&without_dots(&of(raw)))
    }),
    // Parameters are cut before the escapes are read, dots after.
    path("Tomcat", |raw| {
        without_dots(&merged(&decoded(&without_parameters(&of(raw)))))
    }),
    path("Tomcat with ALLOW_BACKSLASH", |raw| {
        let path = decoded(&without_parameters(&of(raw)));
        without_dots(&merged(&slashed(&path)))
    }),
    path("Spring's UrlPathHelper", |raw| {
        merged(&decoded(&without_parameters(&of(raw))))
    }),
    // Each segment by itself, so that an escaped slash stays within it.
    path("Spring's PathPattern", |raw| {
        segments_of(&of(raw), |segment| decoded(&without_parameters(segment)))
    }),
    path("Jetty", |raw| {
        merged(&without_dots(&without_parameters(&decoded(&of(raw)))))
    }),
    path("JAX-RS", |raw| decoded(&without_parameters(&of(raw)))),
    path("nginx", |raw| {
        without_dots(&merged(&decoded(&before(&of(raw), b"#"))))
    }),
    path("nginx with merge_slashes off", |raw| {
        without_dots(&decoded(&before(&of(raw), b"#")))
    }),
    path("Apache httpd with AllowEncodedSlashes", |raw| {
        without_dots(&merged(&decoded(&of(raw))))
    }),
    path("Apache httpd before MergeSlashes", |raw| {
        without_dots(&decoded(&of(raw)))
    }),
    route("Apache httpd's mod_rewrite", |raw| {
        before(&without_dots(&merged(&decoded(&of(raw)))), b"?#")
    }),
    path("HAProxy", of),
    path("HAProxy with http-request normalize-uri", |raw| {
        without_dots(&merged(&decoded_dots(&of(raw))))
    }),
    path("Envoy with normalize_path and merge_slashes", |raw| {
        merged(&without_dots(&slashed(&decoded_dots(&of(raw)))))
    }),
    path("Envoy with UNESCAPE_AND_FORWARD", |raw| {
        let path = decoded_slashes(&before(&of(raw), b"#"));
        merged(&without_dots(&slashed(&decoded_dots(&path))))
    }),
    path("Go's net/http", |raw| {
        without_dots(&merged(&decoded(&of(raw))))
    }),
    path("Go with RawPath", |raw| {
        segments_of(&without_dots(&merged(&of(raw))), decoded)
    }),
    path("Node's URL", |raw| {
        let raw = without(raw, b"\t\r\n");
        without_dots(&slashed(&decoded_dots(&before(&of(&raw), b"#"))))
    }),
    path("Express", |raw| segments_of(&of(raw), decoded)),
    route("a service that decodes and then parses", |raw| {
        let path = decoded(&of(raw));
        without_dots(&slashed(&decoded_dots(&before(&path, b"?#"))))
    }),
    path("IIS", |raw| {
        let path = overlong(&decoded(&decoded_u(&of(raw))));
        without_dots(&merged(&slashed(&path)))
    }),
    path("Kestrel", |raw| {
        let path = segments_of(&of(raw), decoded);
        without_dots(&path)
    }),
    path("Python's urllib", |raw| decoded(&of(raw))),
    path("Werkzeug", |raw| merged(&decoded(&of(raw)))),
    path("Rack's clean_path_info", |raw| {
        without_dots(&merged(&slashed(&decoded(&of(raw)))))
    }),
    path("a C string", |raw| {
        without_dots(&before(&decoded(&of(raw)), b"\0"))
    }),
    path("a service that decodes twice", |raw| {
        without_dots(&merged(&slashed(&decoded(&decoded(&of(raw))))))
    }),
    path("a service that decodes until nothing is left", |raw| {
        let mut path = of(raw);
        while decoded(&path) != path {
            path = decoded(&path);
        }
        without_dots(&merged(&slashed(&without_parameters(&path))))
    }),
    path("a service that forgives broken UTF-8", |raw| {
        without_dots(&merged(&slashed(&overlong(&decoded(&of(raw))))))
    }),
];

/// The path of an origin-form or absolute-form target.
fn of(raw: &[u8]) -> Vec<u8> {
    let path = match raw.windows(3).position(|three| three == b"://") {
        Some(at) if !raw.starts_with(b"/") => {
            let rest = &raw[at + 3..];
            let start = rest.iter().position(|byte| *byte == b'/');
            &rest[start.unwrap_or(rest.len())..]
        }
        _ => raw,
    };
    before(path, b"?")
}

fn before(path: &[u8], ends: &[u8]) -> Vec<u8> {
    let end = path.iter().position(|byte| ends.contains(byte));
    path[..end.unwrap_or(path.len())].to_vec()
}

fn without(path: &[u8], bytes: &[u8]) -> Vec<u8> {
    let mut path = path.to_vec();
    path.retain(|byte| !bytes.contains(byte));
    path
}

/// Reads the escapes for which `reads` says so; a broken one stays as it is.
fn decoded_where(path: &[u8], reads: impl Fn(u8) -> bool) -> Vec<u8> {
    let mut read = Vec::with_capacity(path.len());
    let mut at = 0;
    while at < path.len() {
        let escape = path.get(at..at + 3).filter(|three| three[0] == b'%');
        match escape.and_then(|three| hex(&three[1..])) {
            Some(value) if reads(value) => {
                read.push(value);
                at += 3;
            }
            _ => {
                read.push(path[at]);
                at += 1;
            }
        }
    }
    read
}

fn hex(pair: &[u8]) -> Option<u8> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    };
    Some(digit(pair[0])? * 16 + digit(pair[1])?)
}

pub(super) fn decoded(path: &[u8]) -> Vec<u8> {
    decoded_where(path, |_| true)
}

fn decoded_dots(path: &[u8]) -> Vec<u8> {
    decoded_where(path, |byte| {
        byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
    })
}

fn decoded_slashes(path: &[u8]) -> Vec<u8> {
    decoded_where(path, |byte| matches!(byte, b'/' | b'\\'))
}

/// Microsoft's `%u002f`, as far as it is ASCII.
fn decoded_u(path: &[u8]) -> Vec<u8> {
    let mut read = Vec::with_capacity(path.len());
    let mut at = 0;
    while at < path.len() {
        let escape = path.get(at..at + 6);
        let escape = escape.filter(|six| matches!(six[..4], [b'%', b'u' | b'U', b'0', b'0']));
        match escape.and_then(|six| hex(&six[4..])) {
            Some(value) => {
                read.push(value);
                at += 6;
            }
            None => {
                read.push(path[at]);
                at += 1;
            }
        }
    }
    read
}

/// Two and three bytes of UTF-8 that stand for ASCII.
fn overlong(path: &[u8]) -> Vec<u8> {
    let mut read = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match (byte, tail) {
            (0xc0 | 0xc1, [next, ..]) => {
                read.push((byte & 1) << 6 | (next & 0x3f));
                rest = &tail[1..];
            }
            (0xe0, [second @ 0x80..=0x81, third, ..]) => {
                read.push((second & 1) << 6 | (third & 0x3f));
                rest = &tail[2..];
            }
            _ => read.push(*byte),
        }
    }
    read
}

fn slashed(path: &[u8]) -> Vec<u8> {
    let slash = |byte: &u8| if *byte == b'\\' { b'/' } else { *byte };
    path.iter().map(slash).collect()
}

fn merged(path: &[u8]) -> Vec<u8> {
    let mut path = path.to_vec();
    path.dedup_by(|next, last| *next == b'/' && *last == b'/');
    path
}

/// `;x=1`, up to the next slash.
fn without_parameters(path: &[u8]) -> Vec<u8> {
    segments_of(path, |segment| before(segment, b";"))
}

fn segments_of(path: &[u8], read: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let segments: Vec<_> = path.split(|byte| *byte == b'/').map(read).collect();
    segments.join(&b'/')
}

/// RFC 3986 section 5.2.4; what leads above the root stays there.
fn without_dots(path: &[u8]) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut segments = path.split(|byte| *byte == b'/').peekable();
    let rooted = path.starts_with(b"/");
    if rooted {
        segments.next();
    }
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            b"." | b".." => {
                if segment == b".." {
                    kept.pop();
                }
                if last {
                    kept.push(b"");
                }
            }
            _ => kept.push(segment),
        }
    }
    let mut path = if rooted { vec![b'/'] } else { Vec::new() };
    path.extend(kept.join(&b'/'));
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(server: &str, raw: &str) -> String {
        let reading = READINGS.iter().find(|reading| reading.server == server);
        let path = (reading.expect("a model").read)(raw.as_bytes());
        String::from_utf8_lossy(&path).into_owned()
    }

    /// What their documents and advisories say of them.
    #[test]
    fn the_models_read_as_their_servers_do() {
        for (server, raw, path) in [
            ("Tomcat", "/public/..;/accounts?x", "/accounts"),
            ("Tomcat", "/a;jsessionid=1/b;c", "/a/b"),
            ("Tomcat", "/a/%2e%2e/b", "/b"),
            ("Jetty", "/a%3bx/b", "/a/b"),
            ("Spring's PathPattern", "/a%2fb;x/c", "/a/b/c"),
            ("nginx", "/a//b/%2e%2e/c#d", "/a/c"),
            ("nginx with merge_slashes off", "/a//../b", "/a/b"),
            ("Apache httpd's mod_rewrite", "/accounts%3fx", "/accounts"),
            ("HAProxy", "/a/../b", "/a/../b"),
            ("Envoy with UNESCAPE_AND_FORWARD", "/a%2f..%5cb", "/b"),
            ("Go's net/http", "/a/./b/", "/a/b/"),
            ("Node's URL", "/a\\..\\b", "/b"),
            ("Node's URL", "/a/%2e\t%2e/b", "/b"),
            ("IIS", "/a%u002fb%c0%af..%5cc", "/a/c"),
            ("Python's urllib", "/a/../b%20", "/a/../b "),
            ("a C string", "/accounts%00.html", "/accounts"),
            ("a service that decodes twice", "/a%252f..%252fb", "/b"),
            ("RFC 3986 section 5.2.4", "http://h/a/b/..", "/a/"),
            ("RFC 3986 section 5.2.4", "/../../a", "/a"),
        ] {
            assert_eq!(read(server, raw), path, "{server} {raw}");
        }
    }
}
