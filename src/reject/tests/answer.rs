//! What goes over the wire, and whether the connection lives on.

use super::*;

#[test]
fn a_body_is_a_problem_document() {
    for rejection in Rejection::ALL {
        let answer = rejection.answer();
        let problem: serde_json::Value = serde_json::from_slice(&body(*rejection, "id-1")).unwrap();
        assert_eq!(
            problem,
            serde_json::json!({
                "type": "about:blank",
                "title": title(answer.status),
                "status": answer.status,
                "detail": answer.detail,
                "request_id": "id-1",
            })
        );
        assert_ne!(title(answer.status), "Error");
        // Nobody gives us such a name, but a body stays JSON.
        for odd in ["", "a\"b", "a\\b", "a\nb", "\u{e9}"] {
            let whole = super::write::problem(answer.status, answer.detail, odd);
            assert_eq!(body(*rejection, odd), whole, "{odd:?}");
        }
    }
}

#[tokio::test]
async fn every_rejection_is_answered_whole() {
    for rejection in Rejection::ALL {
        let heard = hear(GET, *rejection, NOTHING).await;
        let answer = rejection.answer();
        assert_eq!(heard.status(), answer.status.to_string());
        assert_eq!(heard.body.as_bytes(), &body(*rejection, "id-1")[..]);
        let length = heard.body.len().to_string();
        assert_eq!(heard.field("content-length"), Some(length.as_str()));
        assert_eq!(
            heard.field("content-type"),
            Some("application/problem+json")
        );
        assert_eq!(heard.field("cache-control"), Some("no-store"));
        assert_eq!(heard.field("x-request-id"), Some("id-1"));
        assert_eq!(heard.field("allow"), None);
        let seconds = answer.retry_after.map(|seconds| seconds.to_string());
        assert_eq!(heard.field("retry-after"), seconds.as_deref());
        assert_eq!(
            heard.field("www-authenticate").is_some(),
            answer.challenge != Challenge::None,
            "{rejection:?}"
        );
        assert_eq!(heard.field("server"), None);
    }
}

#[tokio::test]
async fn head_is_answered_like_get_without_a_body() {
    let request = "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n";
    let heard = hear(request, Rejection::MissingCredential, NOTHING).await;
    let get = hear(GET, Rejection::MissingCredential, NOTHING).await;
    assert_eq!((heard.status(), heard.body.as_str()), ("401", ""));
    assert_eq!(heard.field("content-length"), get.field("content-length"));
    assert_eq!(
        heard.field("www-authenticate"),
        get.field("www-authenticate")
    );
    assert!(heard.lives);
}

#[tokio::test]
async fn another_method_is_told_what_is_allowed() {
    let allow = HeaderValue::from_static("GET, HEAD");
    let circumstances = Circumstances {
        allow: Some(&allow),
        ..NOTHING
    };
    let heard = hear(GET, Rejection::MethodNotAllowed, circumstances).await;
    assert_eq!(
        (heard.status(), heard.field("allow")),
        ("405", Some("GET, HEAD"))
    );
}

#[tokio::test]
async fn a_known_wait_replaces_the_usual_one() {
    let circumstances = Circumstances {
        retry_after: Some(42),
        ..NOTHING
    };
    let limited = hear(GET, Rejection::TooManyRequests, circumstances).await;
    assert_eq!(limited.field("retry-after"), Some("42"));
    let refused = hear(GET, Rejection::NoRoute, circumstances).await;
    assert_eq!(refused.field("retry-after"), None);
}

fn post(fields: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: x\r\n{fields}\r\n{body}")
}

#[tokio::test]
async fn a_connection_lives_on_where_its_framing_allows() {
    let large = format!("Content-Length: {}\r\n", 64 * 1024 + 1);
    for (request, lives) in [
        (GET.to_owned(), true),
        (post("", ""), true),
        (post("Content-Length: 0\r\n", ""), true),
        (post("Content-Length: 5\r\n", "hello"), true),
        (
            post("Content-Length: 5\r\nConnection: close\r\n", "hello"),
            false,
        ),
        (
            post("Content-Length: 5\r\nExpect: 100-continue\r\n", ""),
            false,
        ),
        (post(&large, "hello"), false),
        ("GET / HTTP/1.0\r\nHost: x\r\n\r\n".to_owned(), false),
    ] {
        let heard = hear(&request, Rejection::MissingCredential, NOTHING).await;
        assert_eq!(heard.lives, lives, "{request:?}");
        let said = heard.field("connection");
        assert_eq!(said, Some(if lives { "keep-alive" } else { "close" }));
    }
}

/// What follows a body of doubtful length may be part of it.
#[tokio::test]
async fn a_connection_ends_where_its_framing_is_doubtful() {
    for fields in [
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5, 5\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
    ] {
        for rejection in [Rejection::AmbiguousFraming, Rejection::AmbiguousTarget] {
            let heard = hear(&post(fields, "hello"), rejection, NOTHING).await;
            assert_eq!(heard.field("connection"), Some("close"), "{fields:?}");
            assert!(!heard.lives, "{fields:?}");
        }
    }
    let empty_twice = post("Content-Length: 0\r\nContent-Length: 0\r\n", "");
    let heard = hear(&empty_twice, Rejection::AmbiguousFraming, NOTHING).await;
    assert_eq!(heard.field("connection"), Some("close"));
}
