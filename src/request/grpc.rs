//! Calls of gRPC, known by their content type.

use http::{HeaderMap, Version, header};

/// gRPC needs HTTP/2; `application/grpc-web` is another protocol, which needs nothing of us.
pub fn is_grpc(version: Version, headers: &HeaderMap) -> bool {
    const KIND: &[u8] = b"application/grpc";
    if version != Version::HTTP_2 {
        return false;
    }
    let Some(kind) = headers.get(header::CONTENT_TYPE) else {
        return false;
    };
    let kind = kind.as_bytes();
    kind.get(..KIND.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(KIND))
        && matches!(kind.get(KIND.len()), None | Some(b'+' | b';'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::fields;

    #[test]
    fn the_content_type_tells() {
        for (kind, is) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("Application/gRPC+json", true),
            ("application/grpc;charset=x", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/grpcx", false),
            ("application/json", false),
        ] {
            let headers = fields(&[("content-type", kind)]);
            assert_eq!(is_grpc(Version::HTTP_2, &headers), is, "{kind}");
            assert!(!is_grpc(Version::HTTP_11, &headers), "{kind}");
        }
        assert!(!is_grpc(Version::HTTP_2, &fields(&[])));
    }
}
