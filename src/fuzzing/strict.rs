//! A reader of HTTP/1.1 requests that guesses at nothing: what is not exactly one request with one reading is a fault
//! (RFC 9112 sections 2.2, 3, 5, 6 and 7.1).

/// A complete request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) method: String,
    pub(super) target: Vec<u8>,
    /// Names in lower case.
    pub(super) fields: Vec<(String, Vec<u8>)>,
    /// Bytes of the whole message.
    pub(super) length: usize,
}

impl Message {
    /// The value of a field that stands there once.
    pub(super) fn one(&self, name: &str) -> Option<&[u8]> {
        let mut values = self.fields.iter().filter(|(known, _)| known == name);
        match (values.next(), values.next()) {
            (Some((_, value)), None) => Some(value),
            _ => None,
        }
    }
}

const MAX_HEAD: usize = 64 * 1024;

/// What `Connection` may say of a hop: none of the fields that it could name are there.
const HOPS: [&str; 7] = [
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "trailers",
    "upgrade",
];

/// The first request of what came over a connection; `None` as long as there is none.
///
/// # Errors
/// Why it is no request, or one that somebody else may read in another way.
pub(super) fn first(bytes: &[u8]) -> Result<Option<Message>, String> {
    let Some(end) = find(bytes, b"\r\n\r\n") else {
        return match bytes.len() > MAX_HEAD {
            true => Err("a head without end".to_owned()),
            false => Ok(None),
        };
    };
    let mut rest = &bytes[..end + 2];
    let mut line = || {
        let end = find(rest, b"\r\n")?;
        let line = &rest[..end];
        rest = &rest[end + 2..];
        Some(line)
    };
    let words: Vec<&[u8]> = line().unwrap_or_default().split(|b| *b == b' ').collect();
    let [method, target, b"HTTP/1.1"] = words[..] else {
        return Err("a request line that is not three words".to_owned());
    };
    if method.is_empty() || !method.iter().all(is_tchar) {
        return Err("a method that is no token".to_owned());
    }
    if !target.starts_with(b"/") || !target.iter().all(|byte| (0x21..=0x7e).contains(byte)) {
        return Err("a target that is not in origin-form".to_owned());
    }
    let mut message = Message {
        method: String::from_utf8_lossy(method).into_owned(),
        target: target.to_vec(),
        fields: Vec::new(),
        length: 0,
    };
    while let Some(line) = line() {
        message.fields.push(field(line)?);
    }
    let body = body(&message, &bytes[end + 4..])?;
    Ok(body.map(|length| {
        message.length = end + 4 + length;
        message
    }))
}

fn field(line: &[u8]) -> Result<(String, Vec<u8>), String> {
    let colon = line.iter().position(|byte| *byte == b':');
    let (name, value) = line.split_at(colon.ok_or("a field without a colon")?);
    // A blank in front, which folds, or behind is no part of a token either.
    if name.is_empty() || !name.iter().all(is_tchar) {
        return Err("a field name that is no token".to_owned());
    }
    let value = value[1..].trim_ascii();
    if value
        .iter()
        .any(|byte| matches!(byte, 0..=8 | 10..=31 | 127))
    {
        return Err("a control byte in a field".to_owned());
    }
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    if HOPS.contains(&name.as_str()) {
        return Err(format!("`{name}` of another hop"));
    }
    let disguised = name.replace(['_', '.'], "-");
    if disguised != name && ["content-length", "transfer-encoding"].contains(&&*disguised) {
        return Err(format!("`{name}` in disguise"));
    }
    let hop = |word: &str| value.eq_ignore_ascii_case(word.as_bytes());
    if name == "connection" && !hop("close") && !hop("keep-alive") {
        return Err("`connection` that names fields".to_owned());
    }
    Ok((name, value.to_vec()))
}

/// The bytes of the body, as far as it is there.
fn body(message: &Message, bytes: &[u8]) -> Result<Option<usize>, String> {
    if message.one("host").is_none_or(<[u8]>::is_empty) {
        return Err("not exactly one host".to_owned());
    }
    let count = |name: &str| {
        message
            .fields
            .iter()
            .filter(|(known, _)| known == name)
            .count()
    };
    match (count("content-length"), count("transfer-encoding")) {
        (0, 0) => Ok(Some(0)),
        (1, 0) => {
            let digits = message.one("content-length").unwrap_or_default();
            let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
            let length = std::str::from_utf8(digits).ok().filter(|_| plain);
            let length = length.and_then(|length| length.parse::<usize>().ok());
            let length = length.ok_or("a length that is no number")?;
            Ok((bytes.len() >= length).then_some(length))
        }
        (0, 1) if message.one("transfer-encoding") == Some(b"chunked") => chunks(bytes),
        _ => Err("framing with two readings".to_owned()),
    }
}

fn chunks(bytes: &[u8]) -> Result<Option<usize>, String> {
    let mut at = 0;
    loop {
        let rest = &bytes[at..];
        let Some(end) = find(rest, b"\r\n") else {
            return match rest.len() > 18 {
                true => Err("a chunk size without end".to_owned()),
                false => Ok(None),
            };
        };
        let digits = std::str::from_utf8(&rest[..end]).unwrap_or_default();
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let size = usize::from_str_radix(digits, 16).ok();
        let size = size.filter(|size| plain && *size < 1 << 31);
        let size = size.ok_or("a chunk size that is no number")?;
        let data = end + 2 + size;
        match rest.get(data..data + 2) {
            None => return Ok(None),
            Some(b"\r\n") => at += data + 2,
            Some(_) if size == 0 => return Err("trailers".to_owned()),
            Some(_) => return Err("a chunk of another size".to_owned()),
        }
        if size == 0 {
            return Ok(Some(at));
        }
    }
}

fn find(bytes: &[u8], mark: &[u8]) -> Option<usize> {
    bytes.windows(mark.len()).position(|window| window == mark)
}

/// RFC 9110 section 5.6.2.
fn is_tchar(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn length(text: &str) -> Option<usize> {
        first(text.as_bytes())
            .expect("a request")
            .map(|message| message.length)
    }

    #[test]
    fn a_request_ends_where_it_says() {
        let get = "GET /a?b HTTP/1.1\r\nHost: h\r\n\r\n";
        assert_eq!(length(get), Some(get.len()));
        assert_eq!(length(&format!("{get}more")), Some(get.len()));
        assert_eq!(length(&get[..get.len() - 1]), None);
        let post = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc";
        assert_eq!(length(post), Some(post.len()));
        assert_eq!(length(&post[..post.len() - 1]), None);
        let chunked =
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        assert_eq!(length(chunked), Some(chunked.len()));
        for cut in 1..24 {
            assert_eq!(length(&chunked[..chunked.len() - cut]), None);
        }
    }

    #[test]
    fn what_others_may_read_otherwise_is_a_fault() {
        let host = "Host: h\r\n";
        for bad in [
            "GET  / HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
            "GET / HTTP/1.0\r\nHost: h\r\n\r\n".to_owned(),
            "GET http://h/ HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
            "\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
            "GET / HTTP/1.1\r\n\r\n".to_owned(),
            format!("GET / HTTP/1.1\r\n{host}{host}\r\n"),
            format!("GET / HTTP/1.1\r\n{host} folded\r\n\r\n"),
            format!("GET / HTTP/1.1\r\n{host}A : b\r\n\r\n"),
            format!("GET / HTTP/1.1\r\n{host}A: b\nC: d\r\n\r\n"),
            format!("GET / HTTP/1.1\r\n{host}Content-Length: +1\r\n\r\na"),
            format!("GET / HTTP/1.1\r\n{host}Content-Length: 1\r\nContent-Length: 1\r\n\r\na"),
            format!("GET / HTTP/1.1\r\n{host}Content_Length: 1\r\n\r\n"),
            format!("GET / HTTP/1.1\r\n{host}Upgrade: h2c\r\n\r\n"),
            format!("GET / HTTP/1.1\r\n{host}Connection: close, X-Auth-Client\r\n\r\n"),
            format!("GET / HTTP/1.1\r\n{host}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
            format!(
                "GET / HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"
            ),
            format!(
                "GET / HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n+1\r\na\r\n0\r\n\r\n"
            ),
            format!(
                "GET / HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n1;x\r\na\r\n0\r\n\r\n"
            ),
            format!(
                "GET / HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n"
            ),
            format!("GET / HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n\r\n"),
        ] {
            assert!(first(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
