//! Handshakes of WebSockets (RFC 6455 section 4).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, Method, Version, header};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

/// Appended to a key before it is hashed; the RFC's own.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Whether this is a handshake of a WebSocket and nothing else. What only resembles one is an ordinary request: its
/// `Upgrade` goes no further.
pub fn opens_websocket(method: &Method, version: Version, headers: &HeaderMap) -> bool {
    let only = |name: HeaderName| only(headers, &name);
    *method == Method::GET
        && version == Version::HTTP_11
        && is_switch(headers)
        && only(header::SEC_WEBSOCKET_VERSION) == Some(b"13")
        && only(header::SEC_WEBSOCKET_KEY)
            .is_some_and(|key| STANDARD.decode(key).is_ok_and(|key| key.len() == 16))
}

/// Whether the answer, a 101, agrees to the handshake. Whoever can make a service answer 101 to something else would
/// have a tunnel past the gateway.
pub fn agrees(asked: &HeaderMap, answer: &HeaderMap) -> bool {
    let Some(key) = only(asked, &header::SEC_WEBSOCKET_KEY) else {
        return false;
    };
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, GUID].concat());
    let accept = STANDARD.encode(hash);
    is_switch(answer) && only(answer, &header::SEC_WEBSOCKET_ACCEPT) == Some(accept.as_bytes())
}

fn is_switch(headers: &HeaderMap) -> bool {
    let mut options = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    only(headers, &header::UPGRADE).is_some_and(|to| to.eq_ignore_ascii_case(b"websocket"))
        && options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
}

/// The field's value, if it is there once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Some(value.as_bytes()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::fields;

    /// The RFC's own example.
    const HANDSHAKE: [(&str, &str); 4] = [
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-version", "13"),
    ];

    fn opens(headers: &[(&str, &str)]) -> bool {
        opens_websocket(&Method::GET, Version::HTTP_11, &fields(headers))
    }

    fn with(name: &'static str, value: &'static str) -> Vec<(&'static str, &'static str)> {
        let mut headers = HANDSHAKE.to_vec();
        headers.retain(|(known, _)| *known != name);
        headers.push((name, value));
        headers
    }

    #[test]
    fn only_a_whole_handshake_is_one() {
        assert!(opens(&HANDSHAKE));
        assert!(opens(&with("upgrade", "WebSocket")));
        assert!(opens(&with("connection", "keep-alive, Upgrade")));
        let headers = fields(&HANDSHAKE);
        assert!(!opens_websocket(&Method::POST, Version::HTTP_11, &headers));
        assert!(!opens_websocket(&Method::GET, Version::HTTP_10, &headers));
        assert!(!opens_websocket(&Method::GET, Version::HTTP_2, &headers));
        for (name, value) in [
            ("upgrade", "h2c"),
            ("upgrade", "websocket, h2c"),
            ("connection", "keep-alive"),
            ("connection", "upgraded"),
            ("sec-websocket-version", "8"),
            ("sec-websocket-version", "13, 8"),
            ("sec-websocket-key", "c2hvcnQ="),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ"),
        ] {
            assert!(!opens(&with(name, value)), "{name}: {value}");
        }
        for left_out in HANDSHAKE {
            let mut headers = HANDSHAKE.to_vec();
            headers.retain(|header| *header != left_out);
            assert!(!opens(&headers), "{left_out:?}");
            headers.extend([left_out, left_out]);
            let twice = left_out.0 == "connection";
            assert_eq!(opens(&headers), twice, "{left_out:?}");
        }
    }

    #[test]
    fn only_the_answer_to_this_handshake_agrees() {
        let asked = fields(&HANDSHAKE);
        let answer = [
            ("upgrade", "websocket"),
            ("connection", "upgrade"),
            ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        ];
        assert!(agrees(&asked, &fields(&answer)));
        assert!(!agrees(&fields(&[]), &fields(&answer)));
        for left_out in answer {
            let mut headers = answer.to_vec();
            headers.retain(|header| *header != left_out);
            assert!(!agrees(&asked, &fields(&headers)), "{left_out:?}");
        }
        let mut other = answer;
        other[2].1 = "s3pPLMBiTxaQ9kYGzzhZRbK+xOp=";
        assert!(!agrees(&asked, &fields(&other)));
    }
}
