//! From a JWK Set document (RFC 7517) to the keys that this issuer's tokens may be verified with.
//!
//! Keys are read one by one: a foreign, weak or broken one is skipped and counted, and never costs the others.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::DecodingKey;

use super::crypto::VerifyingKey;
use super::json::{self, Object, Value};
use super::jws::{MAX_KID, decode};
use super::weak;
use crate::config::plan::Algorithm;

/// Why a key was left out. The label goes to `portcullis_jwks_keys_skipped_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Skip {
    /// `use: enc`: Keycloak lists its RSA-OAEP key beside the signing keys.
    UseEnc,
    /// Another `use` that is not `sig`.
    UseOther,
    /// `key_ops` without `verify`.
    KeyOps,
    /// `kty: oct`, which has no business in a public document.
    Symmetric,
    /// A private key was published: whoever reads it can sign.
    Private,
    /// RSA below 2048 bits.
    TooSmall,
    /// RSA above 8192 bits, or an exponent of more than 33: a sink for our time.
    TooLarge,
    /// A modulus or point that is known to be forgeable.
    Weak,
    /// A `kty` or `crv` that we do not verify.
    UnknownKind,
    /// `alg` is not one of the issuer's, or the issuer has none for this kind of key.
    AlgNotAllowed,
    /// No `kid`: no token can ask for it.
    NoKid,
    /// Two different keys under one `kid` and algorithm: neither is used.
    Duplicate,
    Malformed,
}

impl Skip {
    pub(super) fn label(self) -> &'static str {
        match self {
            Skip::UseEnc => "use_enc",
            Skip::UseOther => "use_other",
            Skip::KeyOps => "key_ops",
            Skip::Symmetric => "symmetric",
            Skip::Private => "private",
            Skip::TooSmall => "too_small",
            Skip::TooLarge => "too_large",
            Skip::Weak => "weak",
            Skip::UnknownKind => "unknown_kind",
            Skip::AlgNotAllowed => "alg_not_allowed",
            Skip::NoKid => "no_kid",
            Skip::Duplicate => "duplicate",
            Skip::Malformed => "malformed",
        }
    }
}

/// The usable keys of one document, found by (`kid`, algorithm).
#[derive(Debug)]
pub(super) struct Keys {
    by_kid: HashMap<Box<str>, Vec<Slot>>,
    /// Keys, not slots: one RSA key may verify several algorithms.
    count: usize,
}

#[derive(Debug)]
struct Slot {
    /// Position in the document.
    key: usize,
    algorithm: Algorithm,
    /// `None` when two keys claim this `kid` and algorithm.
    verifier: Option<Arc<VerifyingKey>>,
}

/// A key of the current set, for the operator to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldKey {
    pub kid: String,
    /// What it verifies.
    pub algorithms: Vec<Algorithm>,
    /// Since the set that brought it was fetched.
    pub age: Duration,
}

/// What a `kid` and an algorithm led to.
pub(super) enum Found<'a> {
    Key(&'a Arc<VerifyingKey>),
    /// The key is there, but not for this algorithm.
    OtherAlgorithm,
    /// Two keys answer: none is believed.
    Ambiguous,
    Unknown,
}

impl Keys {
    /// Reads a document. `None` when it is no JWK Set at all; an empty set is for the caller to judge.
    pub(super) fn parse(document: &[u8], allowed: &[Algorithm]) -> Option<(Keys, Vec<Skip>)> {
        let document = json::object_of_any(document)?;
        let listed = document.get("keys")?.as_list()?;
        let mut by_kid = HashMap::new();
        let mut skipped = Vec::new();
        for (position, key) in listed.iter().enumerate() {
            match read(key, allowed) {
                Ok((kid, verifiers)) => {
                    let slots = by_kid.entry(kid.into()).or_default();
                    skipped.extend(add(slots, position, verifiers));
                }
                Err(skip) => skipped.push(skip),
            }
        }
        let live: HashSet<usize> = by_kid
            .values()
            .flatten()
            .filter(|slot: &&Slot| slot.verifier.is_some())
            .map(|slot| slot.key)
            .collect();
        let count = live.len();
        Some((Keys { by_kid, count }, skipped))
    }

    /// How many keys can verify something.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// What can be selected, in order of `kid`.
    pub(super) fn held(&self, age: Duration) -> Vec<HeldKey> {
        let mut held: Vec<HeldKey> = self
            .by_kid
            .iter()
            .map(|(kid, slots)| HeldKey {
                kid: kid.to_string(),
                algorithms: slots
                    .iter()
                    .filter(|slot| slot.verifier.is_some())
                    .map(|slot| slot.algorithm)
                    .collect(),
                age,
            })
            .filter(|key| !key.algorithms.is_empty())
            .collect();
        held.sort_unstable_by(|a, b| a.kid.cmp(&b.kid));
        held
    }

    /// The names that were another key's in an older set.
    pub(super) fn renamed(&self, old: &Keys) -> Vec<&str> {
        let other = |kid: &str, slot: &Slot| match (&slot.verifier, old.find(kid, slot.algorithm)) {
            (Some(is), Found::Key(was)) => !is.same_key(was),
            _ => false,
        };
        let mut names = Vec::new();
        for (kid, slots) in &self.by_kid {
            if slots.iter().any(|slot| other(kid, slot)) {
                names.push(&**kid);
            }
        }
        names
    }

    pub(super) fn find(&self, kid: &str, algorithm: Algorithm) -> Found<'_> {
        let Some(slots) = self.by_kid.get(kid) else {
            return Found::Unknown;
        };
        match slots.iter().find(|slot| slot.algorithm == algorithm) {
            None => Found::OtherAlgorithm,
            Some(slot) => slot.verifier.as_ref().map_or(Found::Ambiguous, Found::Key),
        }
    }
}

/// Puts one key under its `kid`. The same key listed twice is only careless; two keys under one name are ambiguous,
/// and then neither verifies (fail closed).
fn add(slots: &mut Vec<Slot>, key: usize, verifiers: Vec<VerifyingKey>) -> Option<Skip> {
    let mut duplicate = None;
    for verifier in verifiers {
        let algorithm = verifier.algorithm();
        match slots.iter_mut().find(|slot| slot.algorithm == algorithm) {
            None => slots.push(Slot {
                key,
                algorithm,
                verifier: Some(Arc::new(verifier)),
            }),
            Some(slot) => {
                duplicate = Some(Skip::Duplicate);
                slot.verifier = slot
                    .verifier
                    .take()
                    .filter(|first| first.same_key(&verifier));
            }
        }
    }
    duplicate
}

fn read<'a>(
    key: &'a Value<'_>,
    allowed: &[Algorithm],
) -> Result<(&'a str, Vec<VerifyingKey>), Skip> {
    let key = key.as_object().ok_or(Skip::Malformed)?;
    let kty = required(key, "kty")?;
    if kty == "oct" {
        return Err(Skip::Symmetric);
    }
    match optional(key, "use")? {
        None | Some("sig") => {}
        Some("enc") => return Err(Skip::UseEnc),
        Some(_) => return Err(Skip::UseOther),
    }
    if let Some(operations) = key.get("key_ops") {
        let operations = operations.as_list().ok_or(Skip::Malformed)?;
        let verify = |operation: &Value<'_>| operation.as_text() == Some("verify");
        if !operations.iter().any(verify) {
            return Err(Skip::KeyOps);
        }
    }
    let kind = Kind::of(kty, key)?;
    let algorithms = algorithms(kind, optional(key, "alg")?, allowed)?;
    if weak::is_private(key) {
        return Err(Skip::Private);
    }
    let kid = optional(key, "kid")?.ok_or(Skip::NoKid)?;
    if kid.len() > MAX_KID {
        return Err(Skip::Malformed);
    }
    let material = kind.material(key)?;
    let name: Arc<str> = kid.into();
    let verifier = |algorithm| VerifyingKey::new(name.clone(), algorithm, material.clone());
    Ok((kid, algorithms.into_iter().map(verifier).collect()))
}

/// RFC 7517 section 4.4: `alg` pins the key to it; without, the key serves the issuer's algorithms of its kind.
fn algorithms(
    kind: Kind,
    pinned: Option<&str>,
    allowed: &[Algorithm],
) -> Result<Vec<Algorithm>, Skip> {
    let pinned = match pinned {
        None => None,
        Some(name) => Some(Algorithm::from_name(name).ok_or(Skip::AlgNotAllowed)?),
    };
    // An `alg` of another kind or curve: the key contradicts itself.
    if pinned.is_some_and(|algorithm| !kind.algorithms().contains(&algorithm)) {
        return Err(Skip::Malformed);
    }
    let algorithms: Vec<_> = kind
        .algorithms()
        .iter()
        .copied()
        .filter(|algorithm| pinned.is_none_or(|pinned| pinned == *algorithm))
        .filter(|algorithm| allowed.contains(algorithm))
        .collect();
    if algorithms.is_empty() {
        return Err(Skip::AlgNotAllowed);
    }
    Ok(algorithms)
}

/// RFC 7518 section 6 and RFC 8037 section 2, as far as we verify them.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Rsa,
    P256,
    P384,
    Ed25519,
}

impl Kind {
    pub(super) fn of(kty: &str, key: &Object<'_>) -> Result<Self, Skip> {
        match kty {
            "RSA" => Ok(Kind::Rsa),
            "EC" => match required(key, "crv")? {
                "P-256" => Ok(Kind::P256),
                "P-384" => Ok(Kind::P384),
                _ => Err(Skip::UnknownKind),
            },
            "OKP" => match required(key, "crv")? {
                "Ed25519" => Ok(Kind::Ed25519),
                _ => Err(Skip::UnknownKind),
            },
            _ => Err(Skip::UnknownKind),
        }
    }

    pub(super) fn algorithms(self) -> &'static [Algorithm] {
        match self {
            Kind::Rsa => Algorithm::RSA,
            Kind::P256 => &[Algorithm::ES256],
            Kind::P384 => &[Algorithm::ES384],
            Kind::Ed25519 => &[Algorithm::EdDSA],
        }
    }

    pub(super) fn material(self, key: &Object<'_>) -> Result<DecodingKey, Skip> {
        match self {
            Kind::Rsa => rsa(key),
            Kind::P256 => curve(key, 32),
            Kind::P384 => curve(key, 48),
            Kind::Ed25519 => {
                let x = bytes(key, "x")?;
                if x.len() != 32 {
                    return Err(Skip::Malformed);
                }
                if weak::ed25519(&x) {
                    return Err(Skip::Weak);
                }
                Ok(DecodingKey::from_ed_der(&x))
            }
        }
    }
}

/// RFC 7518 section 6.3.1. Some libraries write the sign byte of a big integer; ring refuses it, we strip it.
fn rsa(key: &Object<'_>) -> Result<DecodingKey, Skip> {
    let (n, e) = (bytes(key, "n")?, bytes(key, "e")?);
    let (n, e) = (strip(&n), strip(&e));
    let (Some(first), Some(last)) = (n.first(), n.last()) else {
        return Err(Skip::Malformed);
    };
    let bits = n.len() * 8 - first.leading_zeros() as usize;
    if bits < 2048 {
        return Err(Skip::TooSmall);
    }
    if bits > 8192 {
        return Err(Skip::TooLarge);
    }
    // ring bounds the exponent at 33 bits, and so do we, so that the key is refused now and not with each token.
    if e.len() > 5 {
        return Err(Skip::TooLarge);
    }
    let exponent = e.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    if exponent >= 1 << 33 {
        return Err(Skip::TooLarge);
    }
    if last & 1 == 0 || exponent & 1 == 0 {
        return Err(Skip::Malformed);
    }
    if exponent < 3 || weak::rsa(n) {
        return Err(Skip::Weak);
    }
    Ok(DecodingKey::from_rsa_raw_components(n, e))
}

/// RFC 7518 section 6.2.1.2: coordinates have the full length of the field. ring checks that the point is on its curve.
fn curve(key: &Object<'_>, length: usize) -> Result<DecodingKey, Skip> {
    let (x, y) = (bytes(key, "x")?, bytes(key, "y")?);
    if x.len() != length || y.len() != length {
        return Err(Skip::Malformed);
    }
    // SEC 1 section 2.3.3: an uncompressed point.
    let point = [&[4], x.as_slice(), y.as_slice()].concat();
    Ok(DecodingKey::from_ec_der(&point))
}

fn required<'a>(key: &'a Object<'_>, name: &str) -> Result<&'a str, Skip> {
    optional(key, name)?.ok_or(Skip::Malformed)
}

fn optional<'a>(key: &'a Object<'_>, name: &str) -> Result<Option<&'a str>, Skip> {
    match key.get(name) {
        None => Ok(None),
        Some(Value::Text(text)) => Ok(Some(text)),
        Some(_) => Err(Skip::Malformed),
    }
}

fn bytes(key: &Object<'_>, name: &str) -> Result<Vec<u8>, Skip> {
    decode(required(key, name)?).ok_or(Skip::Malformed)
}

fn strip(mut number: &[u8]) -> &[u8] {
    while let [0, rest @ ..] = number {
        number = rest;
    }
    number
}
