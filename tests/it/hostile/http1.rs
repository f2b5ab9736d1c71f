//! HTTP/1.1, byte for byte.

use portcullis::demo::issuer::{Issuer, IssuerOptions};

use crate::support::{Connection, Gateway, Setup, StrictOrigin, eventually};

const ROUTES: &str = "[{ name: open, match: { path: /open }, upstream: origin, access: public },
    { name: closed, match: { path: /closed }, upstream: origin, access: {} }]";

/// Whatever a refused request leaves behind is read as this, if it is read at all.
const SMUGGLED: &str = "GET /open/smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
const SENTINEL: &str = "GET /open/sentinel HTTP/1.1\r\nHost: a\r\n\r\n";

#[derive(Debug, Clone, Copy)]
enum Gets {
    /// Refused, and the connection with it.
    Closed(u16),
    /// Refused alone: the framing left no doubt.
    Refused(u16),
    /// Carried, as this request line.
    Carried(&'static str),
}

struct Bench {
    origin: StrictOrigin,
    gateway: Gateway,
    wrong: Vec<String>,
}

impl Bench {
    fn start() -> Self {
        let issuer = Issuer::start_blocking(IssuerOptions::default()).unwrap();
        let origin = StrictOrigin::start();
        let gateway = Setup::new(&issuer, origin.address()).routes(ROUTES).start();
        Bench {
            origin,
            gateway,
            wrong: Vec::new(),
        }
    }

    /// Sends the bytes on a connection of their own and holds what comes of it against the row.
    fn check(&mut self, sent: impl AsRef<[u8]>, gets: Gets) {
        let sent = sent.as_ref();
        let mut client = Connection::open(self.gateway.address());
        // 0 is no answer at all.
        client.try_send(sent);
        let status = client.try_answer().map_or(0, |answer| answer.status);
        let (fine, lines): (bool, Vec<&str>) = match gets {
            Gets::Closed(wanted) => {
                let rest = client.try_rest();
                (
                    status == wanted && rest.is_some_and(|rest| rest.is_empty()),
                    vec![],
                )
            }
            Gets::Refused(wanted) => {
                let next = client.try_send(SENTINEL).then(|| client.try_answer());
                let alive = next.flatten().is_some_and(|next| next.status == 200);
                let lines = vec!["GET /open/sentinel HTTP/1.1"];
                (status == wanted && alive, lines)
            }
            Gets::Carried(line) => (status == 200, vec![line]),
        };
        let seen = self.origin.take();
        if !fine || seen.lines != lines || !seen.faults.is_empty() {
            let shown = &sent[..sent.len().min(300)];
            self.wrong.push(format!(
                "{}\n  wanted {gets:?}, got {status}; upstream {seen:?}",
                shown.escape_ascii()
            ));
        }
    }

    /// Sends the rest when the first part is at the upstream already: it can only break off.
    fn check_late(&mut self, first: &str, rest: &str, wanted: u16) {
        let mut client = Connection::open(self.gateway.address());
        let before = self.origin.bytes();
        client.send(first);
        eventually("the upstream has the beginning", || {
            self.origin.bytes() > before
        });
        client.try_send(rest);
        let status = client.try_answer().map_or(0, |answer| answer.status);
        let closed = client.try_rest().is_some_and(|rest| rest.is_empty());
        eventually("the upstream's connection has ended", || {
            let seen = self.origin.seen();
            seen.broken_off + seen.lines.len() + seen.faults.len() > 0
        });
        let seen = self.origin.take();
        let clean = seen.lines.is_empty() && seen.faults.is_empty();
        if status != wanted || !closed || !clean {
            let shown = &rest.as_bytes()[..rest.len().min(300)];
            self.wrong.push(format!(
                "late: {}\n  wanted {wanted}, got {status}; upstream {seen:?}",
                shown.escape_ascii()
            ));
        }
    }

    fn finish(self) {
        assert!(self.wrong.is_empty(), "\n{}", self.wrong.join("\n"));
    }
}

/// A request for this target, with a well-formed rest.
fn for_target(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes()
}

#[test]
fn targets() {
    let mut bench = Bench::start();
    for target in [
        // Dot segments in every disguise.
        "/open/../closed",
        "/open/..",
        "/open/.",
        "/open/./x",
        "/open/%2e%2e/closed",
        "/open/%2E./closed",
        "/open/.%2e/closed",
        "/open/%252e%252e/closed",
        "/open/%25%32%65/closed",
        "/open/%c0%ae%c0%ae/closed",
        "/open/%e0%80%ae/closed",
        "/open/%u002e%u002e/closed",
        "/open/..%2fclosed",
        "/open/..%5cclosed",
        "/open/..;/closed",
        "/open/..;a=b/closed",
        "/open/..%3b/closed",
        // Empty segments.
        "//open",
        "/open//x",
        "/open/x//",
        "//a/open",
        // Slashes that are none, or not yet.
        "/open\\x",
        "/open\\..\\closed",
        "/open%5cx",
        "/open%5C..%5Cclosed",
        "/open%2fx",
        "/open%2Fx",
        "/open%252fx",
        "/open%c0%afx",
        "/open%ef%bc%8f../closed%ff",
        // Parameters.
        "/open;x",
        "/open;jsessionid=1/x",
        "/open%3bx",
        "/;/open",
        // NUL and other control bytes, escaped.
        "/open%00",
        "/open%00.html",
        "/open%0a",
        "/open%0d%0ax",
        "/open%7f",
        // Escapes that hide a name, and those that are none.
        "/%6fpen",
        "/open%",
        "/open%2",
        "/open%zz",
        "/open%ff",
        "/open%c3",
        // Characters that no path has.
        "/open|x",
        "/open{x}",
        "/open^x",
        "/open[x]",
        // Not origin-form.
        "*",
        "open",
        "?x",
        "ftp://a/open",
        "http://a",
        "http://a?x",
        "http://a//open",
        "http://a/open/../closed",
    ] {
        bench.check(for_target(target), Gets::Refused(400));
    }
    bench.finish();
}

#[test]
fn request_lines() {
    let mut bench = Bench::start();
    for line in [
        // Fragments, blanks and quotes: Pingora would escape them and go on.
        "GET /open#x HTTP/1.1",
        "GET /open#/../closed HTTP/1.1",
        "GET /open?x#y HTTP/1.1",
        "GET /open x HTTP/1.1",
        "GET /open HTTP/1.1 HTTP/1.1",
        "GET  /open HTTP/1.1",
        "GET /open  HTTP/1.1",
        " GET /open HTTP/1.1",
        "GET /open HTTP/1.1 ",
        "GET\t/open HTTP/1.1",
        "GET /open\tHTTP/1.1",
        "GET /open\"x HTTP/1.1",
        "GET /open<x> HTTP/1.1",
        "GET /open\0 HTTP/1.1",
        "GET /open\u{b} HTTP/1.1",
        "GET /open\u{1b}[0m HTTP/1.1",
        "GET /open\u{7f} HTTP/1.1",
        "GET /caf\u{e9} HTTP/1.1",
        "GET /open?\u{e9} HTTP/1.1",
        "GET /open\rX: y HTTP/1.1",
        "GET /open?\rx HTTP/1.1",
        "\rGET /open HTTP/1.1",
        // No version, or none of ours.
        "GET /open",
        "GET /open HTTP/0.9",
        "GET /open HTTP/1.2",
        "GET /open HTTP/1.10",
        "GET /open HTTP/2.0",
        "GET /open HTTP/3.0",
        "GET /open http/1.1",
        "GET /open HTTP/11",
        "GET /open HTTP/+1.1",
        "GET /open HTTPS/1.1",
        "GET /open ICAP/1.0",
        // No method.
        "/open HTTP/1.1",
        " /open HTTP/1.1",
        "G(T /open HTTP/1.1",
        "GET: /open HTTP/1.1",
        "G\u{e9}T /open HTTP/1.1",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2",
        "PRI * HTTP/2.0",
    ] {
        bench.check(
            format!("{line}\r\nHost: a\r\n\r\n{SMUGGLED}"),
            Gets::Closed(400),
        );
    }
    // Another host in an absolute form; Pingora itself closes on some of them.
    for target in [
        "http://b/open",
        "http://a:80/open",
        "http://a.b/open",
        "http://u@a/open",
        "http://a@b/open",
        "http://b?@a/open",
        "/open`x",
        "http:open",
        "http:/a/open",
        "http:///open",
        "http:\\\\a/open",
        "http://a\\@b/open",
    ] {
        bench.check(
            format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"),
            Gets::Closed(400),
        );
    }
    let same = "GET http://a/open/x HTTP/1.1\r\nHost: a\r\n\r\n";
    bench.check(same, Gets::Carried("GET /open/x HTTP/1.1"));
    // An empty line before a request is to be ignored (RFC 9112 section 2.2).
    bench.check(
        "\r\nGET /open/x HTTP/1.1\r\nHost: a\r\n\r\n",
        Gets::Carried("GET /open/x HTTP/1.1"),
    );
    bench.finish();
}

#[test]
fn hosts() {
    let mut bench = Bench::start();
    // One field, but no host.
    for host in [
        "",
        " ",
        ".",
        ":80",
        "a:",
        "a:x",
        "a:+80",
        "a:-1",
        "a:0x50",
        "a:65536",
        "a:80:90",
        "a:80/x",
        "a.",
        ".a",
        "a..b",
        "a/b",
        "a?b",
        "a#b",
        "a\\b",
        "a,b",
        "a b",
        "a\tb",
        "*",
        "a%2eb",
        "%61",
        "a%00",
        "[::1",
        "::1",
        "[::1]x",
        "[fe80::1%25eth0]",
        "[]",
        "http://a",
        "a;b",
        "a=b",
        "\"a\"",
        "a'b",
        "(a)",
        "caf\u{e9}",
    ] {
        bench.check(
            format!("GET /open HTTP/1.1\r\nHost: {host}\r\n\r\n"),
            Gets::Refused(400),
        );
    }
    for head in [
        // Two of them, and userinfo: Pingora refuses these before any hook.
        "Host: a\r\nHost: a",
        "Host: a\r\nhost: b",
        "Host: a\r\nX: y\r\nHOST: a",
        "Host: u@a",
        "Host: u:p@a",
        "Host: a@",
    ] {
        bench.check(
            format!("GET /open HTTP/1.1\r\n{head}\r\n\r\n{SMUGGLED}"),
            Gets::Closed(400),
        );
    }
    bench.check("GET /open HTTP/1.1\r\n\r\n", Gets::Refused(400));
    bench.check("GET /open HTTP/1.1\r\nX: y\r\n\r\n", Gets::Refused(400));
    bench.check("GET /open HTTP/1.1\r\nHost_: a\r\n\r\n", Gets::Refused(400));
    bench.check("GET /open HTTP/1.0\r\n\r\n", Gets::Closed(400));
    for host in ["a", "A.b-C_d", "a:8072", "127.0.0.1", "[::1]:80"] {
        bench.check(
            format!("GET /open HTTP/1.1\r\nHost: {host}\r\n\r\n"),
            Gets::Carried("GET /open HTTP/1.1"),
        );
    }
    bench.finish();
}

#[test]
fn fields() {
    let mut bench = Bench::start();
    for field in [
        // Folded, and what looks like it.
        "X: a\r\n b",
        "X: a\r\n\tb",
        " X: a",
        "\tX: a",
        "Host: a\r\n b",
        // Names.
        "X : a",
        "X\t: a",
        ": a",
        "X",
        "X Y: a",
        "X\0: a",
        "X(: a",
        "X\": a",
        "X\u{e9}: a",
        "X\u{7f}: a",
        "X\u{b}: a",
        // Values.
        "X: a\0b",
        "X: a\u{8}b",
        "X: a\u{b}b",
        "X: a\u{1b}[31m",
        "X: a\u{7f}b",
        "X: a\rb",
        "X: a\r",
        "X: a\rY: b",
        "X: a\r\rY: b",
        "\rX: a",
        // A line that ends in LF alone.
        "X: a\nY: b",
        "X: a\n",
        "X: a\n\nGET /open/smuggled HTTP/1.1\nHost: a",
        "X: a\n\r\nGET /open/smuggled HTTP/1.1\r\nHost: a",
        "X: a\r\n\nGET /open/smuggled HTTP/1.1\r\nHost: a",
    ] {
        bench.check(
            format!("GET /open HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n{SMUGGLED}"),
            Gets::Closed(400),
        );
    }
    for head in [
        "GET /open HTTP/1.1\nHost: a\n\n",
        "GET /open HTTP/1.1\nHost: a\r\n\r\n",
        "GET /open HTTP/1.1\r\nHost: a\n\n",
        "GET /open HTTP/1.1\r\nHost: a\r\n\n",
        "GET /open HTTP/1.1\r\nHost: a\n\r\n",
        "\nGET /open HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        bench.check(format!("{head}{SMUGGLED}"), Gets::Closed(400));
    }
    bench.finish();
}

#[test]
fn lengths() {
    let mut bench = Bench::start();
    // With a body of five bytes in one reading, and a request of its own in another.
    for fields in [
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 0\r\ncontent-length: 5",
        "Content-Length: 5, 5",
        "Content-Length: 5,6",
        "Content-Length: ,5",
        "Content-Length: +5",
        "Content-Length: -5",
        "Content-Length: -0",
        "Content-Length: +0",
        "Content-Length: 0x5",
        "Content-Length: 5.0",
        "Content-Length: 5e0",
        "Content-Length: 5;",
        "Content-Length: 5 5",
        "Content-Length: \"5\"",
        "Content-Length: five",
        "Content-Length:",
        "Content-Length: 18446744073709551616",
        "Content-Length: 18446744073709551621",
        "Content-Length: 99999999999999999999999999",
        "Content-Length: \u{665}",
        "Content-Length : 5",
        "Content-Length\t: 5",
        " Content-Length: 5",
        "X: y\r\n Content-Length: 5",
        "Content-Length: 5\r\n 0",
        "Content-Length:\r\n 5",
        "Content-Length: 5\0",
        "Content-Length: 5\u{b}",
    ] {
        bench.check(
            format!("POST /open HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\nhello{SMUGGLED}"),
            Gets::Closed(400),
        );
    }
    bench.check(
        "POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        Gets::Carried("POST /open HTTP/1.1"),
    );
    bench.finish();
}

#[test]
fn encodings() {
    let mut bench = Bench::start();
    for fields in [
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Content-Length: 0\r\nTransfer-Encoding: chunked",
        "content-length:5\r\ntransfer-encoding:chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunkedx",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: ,chunked",
        "Transfer-Encoding: chunked,",
        "Transfer-Encoding:",
        "Transfer-Encoding: chunk",
        "Transfer-Encoding: chunked\0",
        "Transfer-Encoding: \u{b}chunked",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding\t: chunked",
        " Transfer-Encoding: chunked",
        "X: y\r\n Transfer-Encoding: chunked",
        "Transfer-Encoding:\r\n chunked",
        "X: y\nTransfer-Encoding: chunked",
        "X: y\rTransfer-Encoding: chunked",
    ] {
        bench.check(
            format!("POST /open HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n5\r\nhello\r\n0\r\n\r\n{SMUGGLED}"),
            Gets::Closed(400),
        );
    }
    // HTTP/1.0 knows no chunks (RFC 9112 section 6.1).
    bench.check(
        format!("POST /open HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}"),
        Gets::Closed(400),
    );
    for value in ["chunked", "CHUNKED", " chunked\t"] {
        bench.check(
            format!("POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:{value}\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
            Gets::Carried("POST /open HTTP/1.1"),
        );
    }
    bench.finish();
}

#[test]
fn chunks() {
    let mut bench = Bench::start();
    let long = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(20_000));
    for body in [
        // Sizes.
        "+5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "-1\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5\t\r\nhello\r\n0\r\n\r\n",
        "5,\r\nhello\r\n0\r\n\r\n",
        "5_\r\nhello\r\n0\r\n\r\n",
        "g\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        "\u{665}\r\nhello\r\n0\r\n\r\n",
        "ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "fffffffffffffffe\r\nhello\r\n0\r\n\r\n",
        "8000000000000000\r\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "100000000000000000000000000000005\r\nhello\r\n0\r\n\r\n",
        // Ends of lines.
        "5\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5\n\rhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "4\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\n\n",
        "5\r\nhello\r\n0\r\n\n",
        "5\r\nhello\r\n0\n\r\n",
        "5\r\nhello\r\n0\r\r\n",
        // Extensions that hide an end of line, or cost more than they bring.
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "5;a\rb\r\nhello\r\n0\r\n\r\n",
        "5;a=\"\n\"\r\nhello\r\n0\r\n\r\n",
        "5;\n\r\nhello\r\n0\r\n\r\n",
        "5;a\0b\r\nhello\r\n0\r\n\r\n",
        long.as_str(),
        // Trailers.
        "5\r\nhello\r\n0\r\nX-Auth-Client: evil\n\r\n",
        "5\r\nhello\r\n0\r\n X: y\r\n\r\n",
        "5\r\nhello\r\n0\r\nX : y\r\n\r\n",
    ] {
        bench.check(
            format!("POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}{SMUGGLED}"),
            Gets::Closed(400),
        );
        let begun =
            "POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n1\r\n";
        bench.check_late(begun, &format!("{body}{SMUGGLED}"), 400);
    }
    for body in [
        "5\r\nhello\r\n0\r\n\r\n",
        "0000000005\r\nhello\r\n000\r\n\r\n",
        "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
        // Extensions and trailers are legal, and dropped.
        "5;a=b\r\nhello\r\n0;c\r\n\r\n",
        "5\r\nhello\r\n0\r\nX-Auth-Client: evil\r\nContent-Length: 3\r\n\r\n",
    ] {
        bench.check(
            format!("POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}"),
            Gets::Carried("POST /open HTTP/1.1"),
        );
    }
    bench.finish();
}

#[test]
fn methods() {
    let mut bench = Bench::start();
    for head in [
        "TRACE /open HTTP/1.1\r\nHost: a",
        "TRACK /open HTTP/1.1\r\nHost: a",
        "TRACE /open HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0",
    ] {
        bench.check(format!("{head}\r\n\r\n"), Gets::Refused(405));
    }
    for head in [
        "CONNECT a:443 HTTP/1.1\r\nHost: a:443",
        "CONNECT a:443 HTTP/1.1\r\nHost: a",
        "CONNECT /open HTTP/1.1\r\nHost: a",
        "CONNECT http://a/open HTTP/1.1\r\nHost: a",
    ] {
        bench.check(format!("{head}\r\n\r\n{SMUGGLED}"), Gets::Closed(405));
    }
    // Methods are told apart by case (RFC 9110 section 9.1).
    bench.check(
        "get /open HTTP/1.1\r\nHost: a\r\n\r\n",
        Gets::Carried("get /open HTTP/1.1"),
    );
    bench.finish();
}
