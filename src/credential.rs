//! Exactly one token, or precisely why not (RFC 6750 section 2.1), and the proof beside it (RFC 9449 section 7.1).

use std::fmt;

use crate::config::plan::Schemes;

/// What stands where a token should, whatever it is. It never prints.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Sent<'a>(&'a [u8]);

impl<'a> Sent<'a> {
    /// Only to find out whether it is known.
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// The token, if it has a token's shape.
    ///
    /// # Errors
    /// [`CredentialFault::Malformed`].
    pub fn token(self) -> Result<BearerToken<'a>, CredentialFault> {
        if !is_token68(self.0) {
            return Err(CredentialFault::Malformed);
        }
        // token68 is ASCII, so this cannot fail.
        let text = std::str::from_utf8(self.0).map_err(|_| CredentialFault::Malformed)?;
        Ok(BearerToken(text))
    }
}

/// A token as it was sent. It never prints.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BearerToken<'a>(&'a str);

impl<'a> BearerToken<'a> {
    /// The token itself, for the one place that proves it.
    pub fn expose(self) -> &'a str {
        self.0
    }

    pub fn sent(self) -> Sent<'a> {
        Sent(self.0.as_bytes())
    }

    /// Any text at all, to show that proof does not lean on the shape that was checked here.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn unchecked(token: &'a str) -> Self {
        BearerToken(token)
    }
}

impl fmt::Debug for Sent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Debug for BearerToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// How a token was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// RFC 6750: whoever has it may use it.
    Bearer,
    /// RFC 9449: with a proof that its user has its key.
    Dpop,
}

/// What `Authorization` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credential<'a> {
    pub scheme: Scheme,
    /// Its shape was not looked at: that costs more than to see that it is known, and what is known had it.
    pub sent: Sent<'a>,
}

/// Why there is no credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialFault {
    /// No `Authorization`, or another scheme: 401 without an error code.
    Missing,
    /// Two `Authorization` fields: 400.
    Several,
    /// Not a scheme, SP and token68: 400.
    Malformed,
    /// Longer than `limits.token_bytes`: 400.
    Oversized,
    /// The scheme `DPoP` without a `DPoP` field: 401.
    NoProof,
    /// Two `DPoP` fields, or one that can hold no JWT: 401.
    BadProof,
}

/// Reads the one credential of a request from all of its `Authorization` field values. Where the scheme `DPoP` is not
/// taken, it is like any other that we do not know.
///
/// Blanks around the value are no part of it (RFC 9110 section 5.5); the HTTP layer has trimmed them.
pub fn read<'a>(
    mut values: impl Iterator<Item = &'a [u8]>,
    max_bytes: usize,
    schemes: Schemes,
) -> Result<Credential<'a>, CredentialFault> {
    let value = values.next().ok_or(CredentialFault::Missing)?;
    // Two credentials, whatever their schemes: choosing one is a guess that another reader may make otherwise.
    if values.next().is_some() {
        return Err(CredentialFault::Several);
    }
    let end = value
        .iter()
        .position(|byte| !is_tchar(*byte))
        .unwrap_or(value.len());
    let (name, rest) = value.split_at(end);
    if name.is_empty() {
        return Err(CredentialFault::Malformed);
    }
    // RFC 9110 section 11.1: the scheme has no case. Another one is no attempt to show us a token (RFC 6750 section
    // 3.1), if it is a scheme at all.
    let scheme = if name.eq_ignore_ascii_case(b"bearer") {
        Scheme::Bearer
    } else if schemes.has_dpop() && name.eq_ignore_ascii_case(b"dpop") {
        Scheme::Dpop
    } else {
        return match rest.first() {
            None | Some(b' ') => Err(CredentialFault::Missing),
            Some(_) => Err(CredentialFault::Malformed),
        };
    };
    // RFC 6750 section 2.1: 1*SP, and blanks only.
    let blanks = rest.iter().take_while(|byte| **byte == b' ').count();
    let token = &rest[blanks..];
    if blanks == 0 || token.is_empty() {
        return Err(CredentialFault::Malformed);
    }
    if token.len() > max_bytes {
        return Err(CredentialFault::Oversized);
    }
    Ok(Credential {
        scheme,
        sent: Sent(token),
    })
}

/// A proof with a key of 8192 bits and the longest target has some 12 kB; most have 600 bytes.
const MAX_PROOF: usize = 16 * 1024;

/// Reads the one proof of a request from all of its `DPoP` field values (RFC 9449 section 4.3, points 1 and 2).
pub fn proof<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Result<&'a str, CredentialFault> {
    let value = values.next().ok_or(CredentialFault::NoProof)?;
    if values.next().is_some() || value.len() > MAX_PROOF || !is_token68(value) {
        return Err(CredentialFault::BadProof);
    }
    std::str::from_utf8(value).map_err(|_| CredentialFault::BadProof)
}

/// RFC 9110 section 11.2: `1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="`.
fn is_token68(token: &[u8]) -> bool {
    let padding = token.iter().rev().take_while(|byte| **byte == b'=').count();
    let body = &token[..token.len() - padding];
    !body.is_empty()
        && body
            .iter()
            .fold(true, |good, byte| good & is_token68_byte(*byte))
}

/// Without branches, as the fold above: then the compiler looks at sixteen bytes at once, and a token has over a
/// thousand.
#[expect(
    clippy::needless_bitwise_bool,
    clippy::manual_range_contains,
    reason = "branches keep it from being vectorised"
)]
fn is_token68_byte(byte: u8) -> bool {
    let letter = byte | 0x20;
    ((letter >= b'a') & (letter <= b'z'))
        // `-`, `.`, `/` and the digits stand in one row.
        | ((byte >= b'-') & (byte <= b'9'))
        | (byte == b'_')
        | (byte == b'~')
        | (byte == b'+')
}

/// RFC 9110 section 5.6.2: what a scheme's name may consist of.
fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests;
