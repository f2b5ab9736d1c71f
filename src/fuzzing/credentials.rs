//! The `Authorization` field.

use crate::config::plan::Schemes;
use crate::credential::{self, CredentialFault, Scheme};

/// Field values with a line feed between them, as a request brings them.
pub fn authorization(input: &[u8]) {
    for schemes in [Schemes::Bearer, Schemes::Both, Schemes::Dpop] {
        read(input, schemes);
    }
}

fn read(input: &[u8], schemes: Schemes) {
    const MAX: usize = 64;
    let values: Vec<&[u8]> = input.split(|byte| *byte == b'\n').collect();
    let found = credential::read(values.iter().copied(), MAX, schemes);
    if values.len() > 1 {
        assert_eq!(found, Err(CredentialFault::Several));
        return;
    }
    let Ok(found) = found else {
        return;
    };
    let Ok(token) = found.sent.token() else {
        return;
    };
    // RFC 6750 section 2.1, read another way: the scheme, blanks, and nothing but token68 to the end.
    let text = std::str::from_utf8(values[0]).unwrap_or_default();
    let (scheme, rest) = text.split_once(' ').unwrap_or_default();
    let named = match found.scheme {
        Scheme::Bearer => "Bearer",
        Scheme::Dpop => "DPoP",
    };
    assert!(scheme.eq_ignore_ascii_case(named), "{text:?}");
    assert!(
        found.scheme == Scheme::Bearer || schemes.has_dpop(),
        "{text:?}"
    );
    let token = token.expose();
    assert_eq!(token, rest.trim_start_matches(' '), "{text:?}");
    assert!(token.len() <= MAX, "{text:?}");
    let body = token.trim_end_matches('=');
    let known = |c: char| c.is_ascii_alphanumeric() || "-._~+/".contains(c);
    assert!(!body.is_empty() && body.chars().all(known), "{text:?}");
}
