//! The answer to what never became a request, as raw HTTP/1.1: no Pingora session is there to write it.

use pingora::protocols::http::date::get_cached_date;

use super::{Rejection, body, title};

/// A whole response, head and body, that ends the connection.
pub fn raw(rejection: Rejection, request_id: &str) -> Vec<u8> {
    let answer = rejection.answer();
    let reason = title(answer.status);
    let body = body(rejection, request_id);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rejection_makes_one_complete_response() {
        for &rejection in Rejection::ALL {
            let id = "0123456789abcdef";
            let bytes = raw(rejection, id);
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
}
