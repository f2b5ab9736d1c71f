//! The proof itself (RFC 9449 section 4.2): a JWT that is signed with the key in its own header.

use super::{ProofFlaw, key};
use crate::config::plan::Algorithm;
use crate::verify::binding::Thumbprint;
use crate::verify::claims::{begins_at, seconds};
use crate::verify::crypto::VerifyingKey;
use crate::verify::json::{self, Value};
use crate::verify::jws;

/// Of the decoded header: a key of 8192 bits takes some 1400 of it.
const MAX_HEADER: usize = 2048;
/// A `jti` is hashed and not kept, but nobody needs a longer one.
const MAX_ID: usize = 256;

/// A proof that was taken apart, and whose signature was not checked.
#[derive(Debug)]
pub(super) struct Proof<'a> {
    /// Of the key that it brings.
    pub(super) thumbprint: Thumbprint,
    key: VerifyingKey,
    /// `htm`.
    pub(super) method: String,
    /// `htu`.
    pub(super) target: String,
    /// `ath`.
    pub(super) token: String,
    /// `jti`.
    pub(super) id: String,
    /// `iat`.
    pub(super) issued_at: u64,
    /// `nbf`, which no client needs to write; 0 when it does not.
    pub(super) begins: u64,
    /// `exp`, likewise.
    pub(super) expires: Option<u64>,
    pub(super) nonce: Option<String>,
    signing_input: &'a [u8],
    signature: &'a str,
}

impl<'a> Proof<'a> {
    /// Five segments, which are an encrypted token, are refused too: no alphabet here has a dot.
    pub(super) fn read(proof: &'a str) -> Result<Self, ProofFlaw> {
        let (signing_input, signature) = proof.rsplit_once('.').ok_or(ProofFlaw::Malformed)?;
        let (header, payload) = signing_input.split_once('.').ok_or(ProofFlaw::Malformed)?;
        if header.len() > MAX_HEADER.div_ceil(3) * 4 {
            return Err(ProofFlaw::Malformed);
        }
        let header = jws::decode(header).ok_or(ProofFlaw::Malformed)?;
        let (key, thumbprint) = read_header(&header)?;
        let payload = jws::decode(payload).ok_or(ProofFlaw::Malformed)?;
        let claims = json::object(&payload).ok_or(ProofFlaw::Malformed)?;
        let text = |name: &str| match claims.get(name).map(Value::as_text) {
            Some(None) => Err(ProofFlaw::Malformed),
            Some(text) => Ok(text.map(str::to_owned)),
            None => Ok(None),
        };
        let required = |name: &str| text(name)?.ok_or(ProofFlaw::Malformed);
        let id = required("jti")?;
        if id.is_empty() || id.len() > MAX_ID {
            return Err(ProofFlaw::Malformed);
        }
        let time = |name: &str, read: fn(&Value<'_>) -> Option<u64>| {
            let said = claims.get(name);
            said.map(|at| read(at).ok_or(ProofFlaw::Malformed))
                .transpose()
        };
        let whole = |at: &Value<'_>| seconds(Some(at));
        Ok(Proof {
            thumbprint,
            key,
            method: required("htm")?,
            target: required("htu")?,
            token: required("ath")?,
            id,
            issued_at: time("iat", whole)?.ok_or(ProofFlaw::Malformed)?,
            begins: time("nbf", begins_at)?.unwrap_or(0),
            expires: time("exp", whole)?,
            nonce: text("nonce")?,
            signing_input: signing_input.as_bytes(),
            signature,
        })
    }

    pub(super) fn verify(&self) -> Result<(), ProofFlaw> {
        jws::check(&self.key, self.signing_input, self.signature).map_err(|_| ProofFlaw::Signature)
    }
}

/// The only header whose `jwk` is read: it has to be the key that the token names.
fn read_header(header: &[u8]) -> Result<(VerifyingKey, Thumbprint), ProofFlaw> {
    let header = json::object(header).ok_or(ProofFlaw::Malformed)?;
    let text = |name: &str| header.get(name).and_then(Value::as_text);
    // RFC 8725 section 3.11: no other kind of JWT is a proof.
    if text("typ").map(jws::media_type).as_deref() != Some("dpop+jwt") {
        return Err(ProofFlaw::Malformed);
    }
    // As in a token: we understand no extension.
    if header.get("crit").is_some() || header.get("b64").is_some() {
        return Err(ProofFlaw::Malformed);
    }
    let algorithm = text("alg").ok_or(ProofFlaw::Malformed)?;
    let algorithm = Algorithm::from_name(algorithm).ok_or(ProofFlaw::Key)?;
    let jwk = header.get("jwk").and_then(Value::as_object);
    key::read(jwk.ok_or(ProofFlaw::Malformed)?, algorithm)
}
