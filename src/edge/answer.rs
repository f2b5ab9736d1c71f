//! The answer to what never became a request, as raw HTTP/1.1: no Pingora session is there to write it.

use http::StatusCode;
use pingora::protocols::http::date::get_cached_date;
use serde_json::json;

use crate::reject::Rejection;

/// A problem document (RFC 9457). The texts are ours: nothing of the request is in them.
pub fn problem(status: u16, detail: &str, request_id: &str) -> Vec<u8> {
    let title = StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("Error");
    let body = json!({
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "request_id": request_id,
    });
    body.to_string().into_bytes()
}

/// A whole response, head and body, that ends the connection.
pub fn answer_bytes(rejection: Rejection, request_id: &str) -> Vec<u8> {
    let answer = rejection.answer();
    let reason = StatusCode::from_u16(answer.status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("Error");
    let body = problem(answer.status, answer.detail, request_id);
    let date = get_cached_date();
    let mut head = format!(
        "HTTP/1.1 {} {reason}\r\n\
         Date: {}\r\n\
         Content-Type: application/problem+json\r\n\
         Content-Length: {}\r\n\
         Cache-Control: no-store\r\n\
         X-Request-Id: {request_id}\r\n\
         Connection: close\r\n",
        answer.status,
        date.to_str().unwrap_or_default(),
        body.len(),
    );
    if rejection == Rejection::MethodNotAllowed {
        // RFC 9110 section 10.2.1: empty means that the target takes no method at all.
        head.push_str("Allow: \r\n");
    }
    head.push_str("\r\n");
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(&body);
    bytes
}

/// 128 random bits, in hexadecimal.
pub fn new_request_id() -> String {
    use std::hash::{BuildHasher, RandomState};
    // An identifier, not a secret: the standard library's random keys are enough and cannot fail.
    let half = || RandomState::new().hash_one(());
    format!("{:016x}{:016x}", half(), half())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rejection_makes_one_complete_response() {
        for &rejection in Rejection::ALL {
            let id = new_request_id();
            let bytes = answer_bytes(rejection, &id);
            let text = String::from_utf8(bytes).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with(&format!("HTTP/1.1 {} ", rejection.answer().status)));
            assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())));
            assert!(head.contains("\r\nContent-Type: application/problem+json\r\n"));
            assert!(head.contains("\r\nCache-Control: no-store\r\n"));
            assert!(head.contains("\r\nConnection: close"));
            assert!(head.contains(&format!("\r\nX-Request-Id: {id}\r\n")));
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(body["type"], "about:blank");
            assert_eq!(body["status"], rejection.answer().status);
            assert_eq!(body["detail"], rejection.answer().detail);
            assert_eq!(body["request_id"], id);
            assert!(body["title"].is_string());
        }
    }

    #[test]
    fn request_ids_differ() {
        let id = new_request_id();
        assert_eq!(id.len(), 32);
        assert_ne!(id, new_request_id());
    }
}
