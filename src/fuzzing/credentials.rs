//! The `Authorization` field.

use crate::credential::{CredentialFault, bearer};

/// Field values with a line feed between them, as a request brings them.
pub fn authorization(input: &[u8]) {
    const MAX: usize = 64;
    let values: Vec<&[u8]> = input.split(|byte| *byte == b'\n').collect();
    let found = bearer(values.iter().copied(), MAX);
    if values.len() > 1 {
        assert_eq!(found, Err(CredentialFault::Several));
        return;
    }
    let Ok(token) = found else {
        return;
    };
    // RFC 6750 section 2.1, read another way: `Bearer`, blanks, and nothing but token68 to the end.
    let text = std::str::from_utf8(values[0]).unwrap_or_default();
    let (scheme, rest) = text.split_once(' ').unwrap_or_default();
    assert!(scheme.eq_ignore_ascii_case("Bearer"), "{text:?}");
    let token = token.expose();
    assert_eq!(token, rest.trim_start_matches(' '), "{text:?}");
    assert!(token.len() <= MAX, "{text:?}");
    let body = token.trim_end_matches('=');
    let known = |c: char| c.is_ascii_alphanumeric() || "-._~+/".contains(c);
    assert!(!body.is_empty() && body.chars().all(known), "{text:?}");
}
