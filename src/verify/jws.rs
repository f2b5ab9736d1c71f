//! The compact serialization of a signed token and its header (RFC 7515 sections 3.1, 4.1, 5.2 and 7.1).
//!
//! Nothing in a header ever chooses a key but `kid`: `jwk`, `jku`, `x5u` and `x5c` are not read (RFC 8725 section
//! 3.10).

use std::sync::Arc;

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::signature::Verifier;

use super::crypto::VerifyingKey;
use super::fault::Refusal;
use super::json::{self, Value};
use crate::config::plan::Algorithm;

/// Of the decoded header. Keycloak's has about a hundred bytes; one that carries certificates is not for us.
const MAX_HEADER: usize = 1024;
/// Of a `kid`, in a header and in a key set.
pub(super) const MAX_KID: usize = 256;

/// A token whose header was read and whose signature was not checked.
#[derive(Debug)]
pub(super) struct Compact<'a> {
    pub(super) header: Arc<Header>,
    header_segment: &'a str,
    signing_input: &'a [u8],
    payload: &'a str,
    signature: &'a str,
}

#[derive(Debug)]
pub(super) struct Header {
    pub(super) algorithm: Algorithm,
    /// Absent, or too long to be anybody's, is a key that nobody has.
    pub(super) kid: Option<String>,
    /// Lower case, without `application/` (RFC 7515 section 4.1.9).
    pub(super) typ: Option<String>,
}

impl<'a> Compact<'a> {
    /// Takes the token apart. Five segments are an encrypted token (RFC 7516), which is refused before any
    /// cryptography; another number but three is an opaque one.
    pub(super) fn read(token: &'a str) -> Result<Self, Refusal> {
        Self::read_with(token, Header::read)
    }

    /// The same, at less cost where the header is known.
    pub(super) fn read_knowing(token: &'a str, known: &Headers) -> Result<Self, Refusal> {
        Self::read_with(token, |segment| known.of(segment))
    }

    fn read_with(
        token: &'a str,
        header: impl FnOnce(&str) -> Result<Arc<Header>, Refusal>,
    ) -> Result<Self, Refusal> {
        let mut dots = [0; 4];
        let mut count = 0;
        // Stops at the fourth dot, however many follow.
        for at in memchr::memchr_iter(b'.', token.as_bytes()).take(dots.len()) {
            dots[count] = at;
            count += 1;
        }
        match count {
            2 => {}
            4 => return Err(Refusal::Malformed),
            _ => return Err(Refusal::Opaque),
        }
        let header_segment = &token[..dots[0]];
        Ok(Compact {
            header: header(header_segment)?,
            header_segment,
            signing_input: &token.as_bytes()[..dots[1]],
            payload: &token[dots[0] + 1..dots[1]],
            signature: &token[dots[1] + 1..],
        })
    }

    /// The payload's bytes, proved or not.
    pub(super) fn payload(&self) -> Result<Vec<u8>, Refusal> {
        decode(self.payload).ok_or(Refusal::Malformed)
    }

    /// Checks the signature with a key that was chosen by `kid` and `alg`.
    pub(super) fn verify(&self, key: &VerifyingKey) -> Result<(), Refusal> {
        if key.algorithm() != self.header.algorithm {
            return Err(Refusal::Algorithm);
        }
        check(key, self.signing_input, self.signature)
    }
}

/// Whether an encoded signature over these bytes is the key's.
pub(super) fn check(key: &VerifyingKey, input: &[u8], signature: &str) -> Result<(), Refusal> {
    // The length alone unmasks most forgeries, at no cost.
    if signature.len() / 4 * 3 + signature.len() % 4 * 3 / 4 != key.signature_bytes() {
        return Err(Refusal::Signature);
    }
    let signature = decode(signature).ok_or(Refusal::Malformed)?;
    key.verify(input, &signature)
        .map_err(|_| Refusal::Signature)
}

/// Headers by their segment, of tokens whose signature held: an issuer writes the same one into each token that a key
/// signs. Nobody else can put one in, so a few are enough.
#[derive(Debug, Default)]
pub(super) struct Headers(ArcSwap<Vec<(Box<str>, Arc<Header>)>>);

impl Headers {
    const MOST: usize = 8;

    fn of(&self, segment: &str) -> Result<Arc<Header>, Refusal> {
        let known = self.0.load();
        match known.iter().find(|(known, _)| **known == *segment) {
            Some((_, header)) => Ok(header.clone()),
            None => Header::read(segment),
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.load().len()
    }

    /// The token was proved.
    pub(super) fn remember(&self, token: &Compact<'_>) {
        let segment = token.header_segment;
        let has_it =
            |known: &[(Box<str>, Arc<Header>)]| known.iter().any(|(known, _)| **known == *segment);
        if has_it(&self.0.load()) {
            return;
        }
        self.0.rcu(|known| {
            let mut known = Vec::clone(known);
            if has_it(&known) {
                return known;
            }
            known.truncate(Self::MOST - 1);
            known.insert(0, (segment.into(), token.header.clone()));
            known
        });
    }
}

impl Header {
    fn read(segment: &str) -> Result<Arc<Self>, Refusal> {
        if segment.len() > MAX_HEADER.div_ceil(3) * 4 {
            return Err(Refusal::Malformed);
        }
        let bytes = decode(segment).ok_or(Refusal::Malformed)?;
        if bytes.len() > MAX_HEADER {
            return Err(Refusal::Malformed);
        }
        let header = json::object(&bytes).ok_or(Refusal::Malformed)?;
        let Some(Value::Text(alg)) = header.get("alg") else {
            return Err(Refusal::Malformed);
        };
        let algorithm = Algorithm::from_name(alg).ok_or(Refusal::Algorithm)?;
        // RFC 7515 section 4.1.11 and RFC 7797 section 6: we understand no extension, `b64` included.
        if header.get("crit").is_some() || header.get("b64").is_some() {
            return Err(Refusal::Critical);
        }
        let kid = match header.get("kid") {
            None => None,
            Some(Value::Text(kid)) => {
                Some(kid.clone().into_owned()).filter(|kid| kid.len() <= MAX_KID)
            }
            Some(_) => return Err(Refusal::Malformed),
        };
        let typ = match header.get("typ") {
            None => None,
            Some(Value::Text(typ)) => Some(media_type(typ)),
            Some(_) => return Err(Refusal::Malformed),
        };
        Ok(Arc::new(Header {
            algorithm,
            kid,
            typ,
        }))
    }

    /// RFC 9068 section 2.1: the header itself says "access token".
    pub(super) fn marks_access_token(&self) -> bool {
        self.typ.as_deref() == Some("at+jwt")
    }
}

/// Lower case, without `application/`.
pub(super) fn media_type(typ: &str) -> String {
    const PREFIX: &str = "application/";
    let short = match typ.split_at_checked(PREFIX.len()) {
        // Only what has no other slash may leave the prefix out.
        Some((prefix, rest)) if prefix.eq_ignore_ascii_case(PREFIX) && !rest.contains('/') => rest,
        _ => typ,
    };
    short.to_ascii_lowercase()
}

/// RFC 7515 section 2: base64url without padding; the decoder refuses every other alphabet, blanks, and a last
/// character with bits that say nothing (RFC 4648 section 3.5).
pub(super) fn decode(segment: &str) -> Option<Vec<u8>> {
    base64_simd::URL_SAFE_NO_PAD.decode_to_vec(segment).ok()
}

pub(super) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
