//! How an answer ends, so that everybody on the way back reads it alike.

use http::{HeaderMap, Version, header};
use pingora::http::ResponseHeader;

/// Whether the answer ends where everybody thinks that it does: chunks are the one transfer coding that we read.
pub fn is_plainly_framed(fields: &HeaderMap) -> bool {
    let mut codings = fields.get_all(header::TRANSFER_ENCODING).iter();
    codings
        .next()
        .is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
        && codings.next().is_none()
}

/// One length, where a peer said the same twice (RFC 9112 section 6.3; Pingora has refused two lengths), and none where
/// there can be no body (RFC 9110 section 8.6, RFC 9112 section 6.1).
pub(super) fn say_length_once(head: &mut ResponseHeader) -> pingora::Result<()> {
    if head.status.is_informational() || head.status.as_u16() == 204 {
        head.remove_header(&header::CONTENT_LENGTH);
        head.remove_header(&header::TRANSFER_ENCODING);
        return Ok(());
    }
    let mut lengths = head.headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else {
        return Ok(());
    };
    let first = first.as_bytes();
    let end = first.iter().position(|byte| *byte == b',');
    if end.is_none() && lengths.next().is_none() {
        return Ok(());
    }
    let once = first[..end.unwrap_or(first.len())].trim_ascii().to_vec();
    head.insert_header(header::CONTENT_LENGTH, once)
}

/// RFC 9112 section 6.1: a caller of HTTP/1.0 knows no chunks, so the end of its connection ends its body.
pub fn without_chunks(head: &mut ResponseHeader, version: Version) {
    if version < Version::HTTP_11 {
        head.remove_header(&header::TRANSFER_ENCODING);
    }
}
