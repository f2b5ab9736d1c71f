//! Exactly one bearer token, or precisely why not (RFC 6750 section 2.1).

use std::fmt;

/// The token as it was sent. It never prints.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BearerToken<'a>(&'a str);

impl<'a> BearerToken<'a> {
    /// The token itself, for the one place that proves it.
    pub fn expose(self) -> &'a str {
        self.0
    }
}

impl fmt::Debug for BearerToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Why there is no bearer token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialFault {
    /// No `Authorization`, or another scheme: 401 without an error code.
    Missing,
    /// Two `Authorization` fields: 400.
    Several,
    /// Not `Bearer` SP token68: 400.
    Malformed,
    /// Longer than `limits.token_bytes`: 400.
    Oversized,
}

/// Reads the one credential of a request from all of its `Authorization` field values.
pub fn bearer<'a>(
    _values: impl Iterator<Item = &'a [u8]>,
    _max_bytes: usize,
) -> Result<BearerToken<'a>, CredentialFault> {
    Err(CredentialFault::Missing)
}
