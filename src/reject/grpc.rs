//! The same refusals for callers of gRPC, who look for their answer in `grpc-status`.
//!
//! "Trailers-Only" of gRPC's protocol over HTTP/2: a head with status 200, and nothing behind it.

use http::{HeaderName, HeaderValue, header};
use pingora::http::ResponseHeader;

use super::Rejection;
use super::write::{Circumstances, DPOP_NONCE, challenges};
use crate::request::X_REQUEST_ID_NAME;

/// Codes of gRPC that we use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Code {
    Unknown = 2,
    DeadlineExceeded = 4,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    Unauthenticated = 16,
}

/// What a status would have meant. gRPC's own table for answers of proxies (`http-grpc-status-mapping`), and Envoy's,
/// except where gRPC has a better word: too much is RESOURCE_EXHAUSTED, too late DEADLINE_EXCEEDED, another method
/// UNIMPLEMENTED, and a failure of our own INTERNAL.
fn code(status: u16) -> Code {
    match status {
        400 | 500 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 | 405 | 505 => Code::Unimplemented,
        408 | 504 => Code::DeadlineExceeded,
        413 | 431 => Code::ResourceExhausted,
        429 | 502 | 503 => Code::Unavailable,
        _ => Code::Unknown,
    }
}

/// What a caller of gRPC is told.
pub fn grpc_status(rejection: Rejection) -> u8 {
    code(rejection.answer().status) as u8
}

/// The whole answer.
pub(super) fn head(
    rejection: Rejection,
    circumstances: Circumstances<'_>,
) -> pingora::Result<ResponseHeader> {
    const STATUS: HeaderName = HeaderName::from_static("grpc-status");
    const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
    const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
    let answer = rejection.answer();
    let mut head = ResponseHeader::build_no_case(200, Some(6))?;
    head.insert_header(header::CONTENT_TYPE, GRPC)?;
    head.insert_header(STATUS, u16::from(grpc_status(rejection)))?;
    // Visible ASCII without `%`, which a test makes sure of: nothing is to be escaped.
    head.insert_header(MESSAGE, answer.detail)?;
    head.insert_header(X_REQUEST_ID_NAME, circumstances.request_id)?;
    for challenge in challenges(rejection, &circumstances) {
        head.append_header(header::WWW_AUTHENTICATE, challenge)?;
    }
    if let Some(nonce) = circumstances.nonce {
        head.insert_header(DPOP_NONCE, nonce.clone())?;
    }
    if let Some(own) = answer.retry_after {
        let seconds = circumstances.retry_after.unwrap_or(own);
        head.insert_header(header::RETRY_AFTER, seconds)?;
    }
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rejection_has_a_code_of_its_own_kind() {
        for &rejection in Rejection::ALL {
            let answer = rejection.answer();
            assert_ne!(code(answer.status), Code::Unknown, "{rejection:?}");
            let plain = |c: char| matches!(c, ' '..='~') && c != '%';
            assert!(answer.detail.chars().all(plain), "{rejection:?}");
        }
        for (rejection, is) in [
            (Rejection::MissingCredential, Code::Unauthenticated),
            (Rejection::Expired, Code::Unauthenticated),
            (Rejection::MissingScope, Code::PermissionDenied),
            (Rejection::NoRoute, Code::Unimplemented),
            (Rejection::MethodNotAllowed, Code::Unimplemented),
            (Rejection::AmbiguousTarget, Code::Internal),
            (Rejection::BodyTooLarge, Code::ResourceExhausted),
            (Rejection::TooManyRequests, Code::Unavailable),
            (Rejection::KeysUnavailable, Code::Unavailable),
            (Rejection::UpstreamOpen, Code::Unavailable),
            (Rejection::UpstreamConnect, Code::Unavailable),
            (Rejection::UpstreamTimeout, Code::DeadlineExceeded),
            (Rejection::NoPermit, Code::Internal),
        ] {
            assert_eq!(code(rejection.answer().status), is, "{rejection:?}");
        }
    }
}
