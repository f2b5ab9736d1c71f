//! HTTP/2, frame by frame.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;

use portcullis::demo::issuer::{Issuer, IssuerOptions};
use rustls::ClientConfig;
use rustls::version::TLS13;

use crate::support::frames::{DATA, END_STREAM, Fate, Frames};
use crate::support::{Authority, Gateway, Scratch, Setup, StrictOrigin, eventually};

const NAME: &str = "api.test";
const ROUTES: &str = "[{ name: open, match: { path: /open }, upstream: origin, access: public },
    { name: hasty, match: { path: /hasty }, upstream: origin, access: public, timeout: 500ms },
    { name: closed, match: { path: /closed }, upstream: origin, access: {} }]";

pub(super) type Field<'a> = (&'a str, &'a [u8]);
type Change<'a> = (&'a str, Option<&'a [u8]>);

pub(super) struct Bench {
    pub(super) origin: StrictOrigin,
    pub(super) gateway: Gateway,
    config: Arc<ClientConfig>,
    wrong: Vec<String>,
    _files: Scratch,
}

impl Bench {
    pub(super) fn start() -> Self {
        Self::with("{}")
    }

    pub(super) fn with(limits: &str) -> Self {
        Self::listening(limits, "")
    }

    /// With more for its listener.
    pub(super) fn listening(limits: &str, more: &str) -> Self {
        let issuer = Issuer::start_blocking(IssuerOptions::default()).unwrap();
        let (origin, authority, files) = (StrictOrigin::start(), Authority::new(), Scratch::new());
        let pair = authority.certify(NAME).written_to(&files);
        let gateway = Setup::new(&issuer, origin.address())
            .listeners(format!(
                "[{{ address: '127.0.0.1:1', tls: {{ {pair} }}{more} }}]"
            ))
            .limits(limits)
            .routes(ROUTES)
            .start();
        Bench {
            origin,
            gateway,
            config: authority.client(&[&TLS13], &["h2"]),
            wrong: Vec::new(),
            _files: files,
        }
    }

    pub(super) fn open(&self) -> Frames {
        Frames::open(self.gateway.address(), NAME, self.config.clone())
    }

    /// A connection that begins with these bytes; `None` if it is closed before its handshake.
    pub(super) fn behind(&self, header: &str) -> Option<Frames> {
        let mut tcp = TcpStream::connect(self.gateway.address()).unwrap();
        // That it is closed already shows in the handshake.
        let _ = tcp.write_all(header.as_bytes());
        Frames::on(tcp, NAME, self.config.clone()).ok()
    }

    /// A connection that says nothing yet.
    pub(super) fn silent(&self) -> Frames {
        Frames::silent(self.gateway.address(), NAME, self.config.clone())
    }

    /// A head with these changes: a pseudo-header of the same name is replaced, `None` leaves it out, and all else
    /// is added.
    pub(super) fn head<'a>(changes: &[Change<'a>]) -> Vec<Field<'a>> {
        let mut fields: Vec<Field<'a>> = vec![
            (":method", b"GET"),
            (":scheme", b"https"),
            (":authority", NAME.as_bytes()),
            (":path", b"/open"),
        ];
        for (name, value) in changes {
            let place = fields.iter().position(|(known, _)| known == name);
            match (place, value) {
                (Some(place), Some(value)) if name.starts_with(':') => fields[place].1 = value,
                (Some(place), None) => drop(fields.remove(place)),
                (_, Some(value)) => fields.push((name, value)),
                (None, None) => {}
            }
        }
        fields
    }

    /// One request and its fate; then a good one must still be carried, on this connection if the fate was the
    /// stream's alone, else on a new one.
    fn check(&mut self, head: &[Field<'_>], body: Option<&[u8]>, wanted: &[Fate]) {
        let mut client = self.open();
        client.headers(1, head, body.is_none());
        if let Some(body) = body {
            client.frame(DATA, END_STREAM, 1, body);
        }
        let fate = client.fate(1);
        let carried = fate == Fate::Answered(200);
        let seen = self.origin.take();
        let alone = matches!(fate, Fate::Answered(_) | Fate::Reset(_));
        let mut next = if alone { client } else { self.open() };
        let good = Self::head(&[(":path", Some(b"/open/sentinel"))]);
        let alive = next.headers(3, &good, true).fate(3) == Fate::Answered(200);
        self.origin.take();
        let clean = seen.faults.is_empty() && seen.lines.len() == usize::from(carried);
        if !wanted.contains(&fate) || !alive || !clean {
            let shown: Vec<String> = head
                .iter()
                .map(|(name, value)| format!("{name}: {}", value.escape_ascii()))
                .collect();
            self.wrong.push(format!(
                "{shown:?}\n  wanted {wanted:?}, got {fate:?}, alive {alive}; upstream {seen:?}"
            ));
        }
    }

    fn finish(self) {
        assert!(self.wrong.is_empty(), "\n{}", self.wrong.join("\n"));
    }
}

const REFUSED: &[Fate] = &[Fate::Answered(400)];
/// Malformed to HTTP/2 itself (RFC 9113 section 8.1.1).
const MALFORMED: &[Fate] = &[Fate::Reset(1), Fate::GoAway(1)];

#[test]
fn targets() {
    let mut bench = Bench::start();
    for path in [
        "/open/../closed",
        "/open/..",
        "/open/%2e%2e/closed",
        "/open/%252e%252e/closed",
        "/open/%c0%ae%c0%ae/closed",
        "/open/..;/closed",
        "//open",
        "/open//x",
        "/open\\x",
        "/open%5cx",
        "/open%2fx",
        "/open;x",
        "/open%3bx",
        "/open%00",
        "/open%0d%0ax",
        "/%6fpen",
        "/open%zz",
        "/open|x",
        "*",
    ] {
        let head = Bench::head(&[(":path", Some(path.as_bytes()))]);
        bench.check(&head, None, REFUSED);
    }
    for path in [
        &b"/open HTTP/1.1\r\nX: y"[..],
        b"/open\r\nX: y",
        b"/open\n",
        b"/open\0",
        b"/open x",
        b"/open\tx",
        b"/open\x7f",
        b"/open\"x",
        b"/open<x>",
        b"/\xc3\xa9",
        b"/open?\xff",
        b"open",
        b"?x",
        b"",
        b"http://api.test/open",
        b"https://b/open",
        b"http:/open",
        b"a:b",
    ] {
        let head = Bench::head(&[(":path", Some(path))]);
        bench.check(&head, None, &[REFUSED, MALFORMED].concat());
    }
    let head = Bench::head(&[(":path", None)]);
    bench.check(&head, None, MALFORMED);
    // h2 takes a fragment off before anybody sees it, so that it is neither matched nor sent.
    for path in [&b"/open#x"[..], b"/open?x#y", b"/open#/../closed"] {
        let head = Bench::head(&[(":path", Some(path))]);
        bench.check(&head, None, &[Fate::Answered(200)]);
    }
    bench.finish();
}

#[test]
fn hosts() {
    let mut bench = Bench::start();
    for host in [
        "", ".", ":80", "a:x", "a:65536", "a.", "a..b", "a,b", "*", "a%2eb", "[]", "[::1", "::1",
    ] {
        let head = Bench::head(&[(":authority", Some(host.as_bytes()))]);
        bench.check(&head, None, &[REFUSED, MALFORMED].concat());
        let head = Bench::head(&[(":authority", None), ("host", Some(host.as_bytes()))]);
        bench.check(&head, None, &[REFUSED, MALFORMED].concat());
    }
    for host in [
        &b"u@api.test"[..],
        b"u:p@api.test",
        b"a/b",
        b"a?b",
        b"a#b",
        b"a b",
        b"a\\b",
        b"\xff",
    ] {
        let head = Bench::head(&[(":authority", Some(host))]);
        bench.check(&head, None, &[REFUSED, MALFORMED].concat());
    }
    let two: &[&[Change<'_>]] = &[
        &[("host", Some(b"b"))],
        &[("host", Some(b"api.test:443"))],
        &[("host", Some(b"api.test")), ("host", Some(b"api.test"))],
        &[(":authority", None)],
        &[
            (":authority", None),
            ("host", Some(b"a")),
            ("host", Some(b"b")),
        ],
        &[
            (":authority", None),
            ("host", Some(b"a")),
            ("host", Some(b"a")),
        ],
        &[("host", Some(b""))],
    ];
    for changes in two {
        bench.check(&Bench::head(changes), None, &[REFUSED, MALFORMED].concat());
    }
    for changes in [
        &[(":authority", None), ("host", Some(&b"api.test"[..]))][..],
        &[("host", Some(b"api.test"))],
    ] {
        bench.check(&Bench::head(changes), None, &[Fate::Answered(200)]);
    }
    bench.finish();
}

#[test]
fn fields() {
    let mut bench = Bench::start();
    for (name, value) in [
        // Pseudo-headers that are none, twice, or not first.
        (":status", &b"200"[..]),
        (":protocol", b"websocket"),
        (":unknown", b"x"),
        (":", b"x"),
        // RFC 9113 section 8.2.2.
        ("connection", b"keep-alive"),
        ("connection", b"x-auth-client"),
        ("keep-alive", b"timeout=5"),
        ("proxy-connection", b"keep-alive"),
        ("transfer-encoding", b"chunked"),
        ("upgrade", b"h2c"),
        ("te", b"gzip"),
        ("te", b"trailers, chunked"),
        // Section 8.2.1.
        ("X-Upper", b"x"),
        ("x y", b"x"),
        ("x:y", b"x"),
        ("x\0", b"x"),
        ("x\r\ny", b"x"),
        ("x\n", b"x"),
        ("x\x7f", b"x"),
        ("x\u{e9}", b"x"),
        ("x(", b"x"),
        ("x\"", b"x"),
        ("", b"x"),
        ("x", b"a\r\nb: c"),
        ("x", b"a\nb"),
        ("x", b"a\rb"),
        ("x", b"a\0b"),
        ("x", b"\x0b"),
        ("x", b"a\x7fb"),
        (
            "x",
            b"a\r\n\r\nGET /open/smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
    ] {
        let head = Bench::head(&[(name, Some(value))]);
        bench.check(&head, None, &[REFUSED, MALFORMED].concat());
    }
    for (name, value) in [
        (":method", &b"POST"[..]),
        (":path", b"/closed"),
        (":scheme", b"http"),
        (":authority", b"b"),
    ] {
        // Twice, and after an ordinary field.
        let mut head = Bench::head(&[]);
        head.push((name, value));
        bench.check(&head, None, MALFORMED);
        let mut head = Bench::head(&[(name, None), ("x", Some(b"y"))]);
        head.push((name, value));
        bench.check(&head, None, MALFORMED);
    }
    for name in [":method", ":scheme"] {
        bench.check(&Bench::head(&[(name, None)]), None, MALFORMED);
    }
    bench.check(&Bench::head(&[(":method", Some(b""))]), None, MALFORMED);
    for scheme in [&b""[..], b"ftp", b"javascript", b"http:", b"https://a"] {
        let head = Bench::head(&[(":scheme", Some(scheme))]);
        bench.check(&head, None, &[REFUSED, MALFORMED].concat());
    }
    for method in [
        &b"GET /x"[..],
        b"GET /x HTTP/1.1\r\nX:",
        b"G\xffT",
        b"GET\t",
    ] {
        bench.check(&Bench::head(&[(":method", Some(method))]), None, MALFORMED);
    }
    bench.check(
        &Bench::head(&[("te", Some(b"trailers"))]),
        None,
        &[Fate::Answered(200)],
    );
    bench.finish();
}

#[test]
fn methods() {
    let mut bench = Bench::start();
    for method in [&b"TRACE"[..], b"TRACK"] {
        let head = Bench::head(&[(":method", Some(method))]);
        bench.check(&head, None, &[Fate::Answered(405)]);
    }
    // RFC 9113 section 8.5: neither scheme nor path.
    let connect = Bench::head(&[
        (":method", Some(b"CONNECT")),
        (":scheme", None),
        (":path", None),
        (":authority", Some(b"a:443")),
    ]);
    const SERIES: &str =
        "portcullis_rejections_total{reason=\"method_not_allowed\",route=\"none\"}";
    let before = bench.gateway.metric(SERIES);
    bench.check(&connect, None, &[Fate::Answered(405)]);
    bench.gateway.counts(SERIES, before + 1.0);
    bench.check(&connect, Some(b"hello"), &[Fate::Answered(405)]);
    let with_path = Bench::head(&[(":method", Some(b"CONNECT"))]);
    bench.check(
        &with_path,
        None,
        &[Fate::Answered(405), Fate::Answered(400), MALFORMED[0]],
    );
    // RFC 8441, which nobody agreed on.
    let extended = Bench::head(&[
        (":method", Some(b"CONNECT")),
        (":protocol", Some(b"websocket")),
    ]);
    bench.check(&extended, None, MALFORMED);
    bench.finish();
}

#[test]
fn lengths() {
    let mut bench = Bench::start();
    for lengths in [
        &[&b"5"[..], b"5"][..],
        &[b"5", b"6"],
        &[b"5, 5"],
        &[b"5,6"],
        &[b"+5"],
        &[b"-5"],
        &[b"-0"],
        &[b"0x5"],
        &[b"5.0"],
        &[b"5 "],
        &[b" 5"],
        &[b""],
        &[b"five"],
        &[b"18446744073709551616"],
        &[b"18446744073709551621"],
        &[b"4"],
        &[b"6"],
    ] {
        let mut head = Bench::head(&[(":method", Some(b"POST"))]);
        head.extend(lengths.iter().map(|length| ("content-length", *length)));
        bench.check(&head, Some(b"hello"), &[REFUSED, MALFORMED].concat());
    }
    let mut head = Bench::head(&[(":method", Some(b"POST")), ("content-length", Some(b"5"))]);
    bench.check(&head, None, MALFORMED);
    bench.check(&head, Some(b"hello"), &[Fate::Answered(200)]);
    head.pop();
    bench.check(&head, Some(b"hello"), &[Fate::Answered(200)]);
    bench.finish();
}

/// Neither h2 nor Pingora tells a hook what it refused, so the frames that leave are read.
#[test]
fn what_no_hook_sees_is_counted() {
    let bench = Bench::start();
    let count = |reason: &str| {
        let series = format!("portcullis_rejections_total{{reason=\"{reason}\",route=\"none\"}}");
        bench.gateway.metric(&series)
    };
    for (changes, reason, fate) in [
        // Pingora answers these.
        (
            &[(":authority", Some(&b"u@a"[..]))][..],
            "doubtful_host",
            Fate::Answered(400),
        ),
        (
            &[(":path", Some(b"/\x7f"))],
            "malformed_request",
            Fate::Reset(1),
        ),
        // And h2 these.
        (
            &[("content-length", Some(b"x"))],
            "malformed_request",
            Fate::Reset(1),
        ),
        (
            &[("connection", Some(b"close"))],
            "malformed_request",
            Fate::Reset(1),
        ),
    ] {
        let before = count(reason);
        let fates = bench.open().headers(1, &Bench::head(changes), true).fate(1);
        assert_eq!(fates, fate, "{changes:?}");
        eventually(reason, || count(reason) == before + 1.0);
    }
    bench.gateway.counts(
        "portcullis_requests_total{method=\"other\",route=\"none\",status_class=\"4xx\"}",
        4.0,
    );
}
