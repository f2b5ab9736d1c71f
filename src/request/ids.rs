//! Names for one request: `X-Request-Id` and W3C `traceparent`.

use http::{HeaderMap, HeaderName, HeaderValue};

pub(crate) const X_REQUEST_ID_NAME: &str = "x-request-id";
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static(X_REQUEST_ID_NAME);
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The caller's name for the request if it is safe to repeat, else one of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    pub fn of(headers: &HeaderMap) -> Self {
        let mut sent = headers.get_all(X_REQUEST_ID).iter();
        match (sent.next(), sent.next()) {
            (Some(id), None) if is_safe(id.as_bytes()) => RequestId(id.clone()),
            _ => Self::fresh(),
        }
    }

    /// Before the head is here.
    pub fn unknown() -> Self {
        RequestId(HeaderValue::from_static("unknown"))
    }

    pub fn fresh() -> Self {
        let mut text = [0; 32];
        hex(&mut text, &fastrand::u128(..).to_be_bytes());
        RequestId(hex_value(&text))
    }

    pub fn value(&self) -> &HeaderValue {
        &self.0
    }

    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }
}

fn is_safe(id: &[u8]) -> bool {
    (1..=128).contains(&id.len())
        && id
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// The trace that a request belongs to (W3C Trace Context level 1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    parent: HeaderValue,
    started_here: bool,
}

impl Trace {
    /// The caller's trace if its `traceparent` is valid, else a new one.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut sent = headers.get_all(TRACEPARENT).iter();
        match (sent.next(), sent.next()) {
            (Some(parent), None) if is_traceparent(parent.as_bytes()) => Trace {
                parent: parent.clone(),
                started_here: false,
            },
            _ => Self::fresh(),
        }
    }

    /// Before the head is here.
    pub fn unknown() -> Self {
        Trace {
            parent: HeaderValue::from_static(""),
            started_here: true,
        }
    }

    pub fn fresh() -> Self {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-01";
        // Neither may be zero.
        hex(&mut text[3..35], &fastrand::u128(..).max(1).to_be_bytes());
        hex(&mut text[36..52], &fastrand::u64(..).max(1).to_be_bytes());
        Trace {
            parent: hex_value(&text),
            started_here: true,
        }
    }

    pub fn parent(&self) -> &HeaderValue {
        &self.parent
    }

    /// Then a `tracestate` of the caller's belongs to nothing.
    pub fn started_here(&self) -> bool {
        self.started_here
    }

    pub fn id(&self) -> &str {
        self.parent
            .to_str()
            .ok()
            .and_then(|parent| parent.get(3..35))
            .unwrap_or_default()
    }
}

fn is_traceparent(value: &[u8]) -> bool {
    let lower_hex = |part: &[u8]| {
        part.iter()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b))
    };
    value.len() == 55
        && value[2] == b'-'
        && value[35] == b'-'
        && value[52] == b'-'
        && &value[..2] == b"00"
        && [&value[3..35], &value[36..52], &value[53..]]
            .into_iter()
            .all(lower_hex)
        && value[3..35].iter().any(|b| *b != b'0')
        && value[36..52].iter().any(|b| *b != b'0')
}

fn hex_value(text: &[u8]) -> HeaderValue {
    HeaderValue::from_bytes(text).unwrap_or(HeaderValue::from_static("0"))
}

/// Writes each byte as two digits. `format!` takes some ten times as long, and each request needs two of these.
fn hex(text: &mut [u8], bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}
