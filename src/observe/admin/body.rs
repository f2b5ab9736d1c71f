//! A request's body, bounded in size and time before anybody looks at it.

use std::time::Duration;

use http::{StatusCode, header};
use pingora::protocols::http::ServerSession;

use super::answer::{Answer, problem};
use crate::request::{BodyLength, RequestId, body_length};

/// The largest message of an issuer, and the largest revocation, have under two kilobytes.
const MOST: usize = 8 * 1024;
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    TooLarge,
    TooSlow,
    /// It has more than one reading, or broke off.
    Broken,
}

/// The whole body, or why not.
pub(super) async fn read(session: &mut ServerSession) -> Result<Vec<u8>, Fault> {
    let read = tokio::time::timeout(PATIENCE, whole(session)).await;
    let read = read.unwrap_or(Err(Fault::TooSlow));
    if read.is_err() {
        // What is left of it is not read.
        session.set_keepalive(None);
    }
    read
}

async fn whole(session: &mut ServerSession) -> Result<Vec<u8>, Fault> {
    let head = session.req_header();
    let raw = || {
        session
            .as_http1()
            .map(|http1| http1.get_headers_raw_bytes())
    };
    let declared = match body_length(head.version, &head.headers, raw) {
        Ok(BodyLength::Declared(length)) => length,
        Ok(BodyLength::None | BodyLength::Unknown) => 0,
        Err(_) => return Err(Fault::Broken),
    };
    if declared > MOST as u64 {
        return Err(Fault::TooLarge);
    }
    let expects = head.headers.get(header::EXPECT);
    if expects.is_some_and(|expects| expects.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        let continued = session.write_continue_response().await;
        continued.map_err(|_| Fault::Broken)?;
    }
    let mut body = Vec::new();
    while let Some(chunk) = session
        .read_request_body()
        .await
        .map_err(|_| Fault::Broken)?
    {
        if body.len() + chunk.len() > MOST {
            return Err(Fault::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

impl Fault {
    pub(super) fn answer(self, id: &RequestId) -> Answer {
        let (status, detail) = match self {
            Fault::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "The body is larger than 8 KiB.",
            ),
            Fault::TooSlow => (
                StatusCode::REQUEST_TIMEOUT,
                "The body took longer than ten seconds.",
            ),
            Fault::Broken => (
                StatusCode::BAD_REQUEST,
                "The body's framing can be read in more than one way, or it broke off.",
            ),
        };
        problem(status, detail, id)
    }
}
