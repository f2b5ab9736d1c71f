//! This room as fuzzers see it: tokens, key sets and an issuer's answers, each held against a reading of its own.

use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

use super::claims::Claims;
pub use super::dpop::fuzzing::dpop;
use super::fetch::{FetchFault, KeySource};
use super::grants::{Forwarded, Granted};
use super::introspect::is_active;
use super::jwk::Keys;
use super::{Verifier, Wanted};
use crate::clock::Clock;
use crate::config::plan::{Algorithm, IssuerId, IssuerPlan, Plan};
use crate::credential::BearerToken;
use crate::observe::metrics::Metrics;
use crate::testkit;

const NOW: u64 = 1_790_000_000;
const LEEWAY: u64 = 5;
const CLIENT: &str = "eazybank-callcenter-cc";

/// What a signed token says when it is as it should be.
const HEADER: &str = r#"{"alg":"EdDSA","typ":"JWT","kid":"ed"}"#;

struct Fixed(Vec<u8>);

#[async_trait]
impl KeySource for Fixed {
    async fn document(&self) -> Result<Vec<u8>, FetchFault> {
        Ok(self.0.clone())
    }
}

/// A verifier that holds two keys, and the keys.
struct Rig {
    runtime: tokio::runtime::Runtime,
    verifier: Verifier,
    edwards: Ed25519KeyPair,
    weierstrass: EcdsaKeyPair,
    foreign: Ed25519KeyPair,
    good: String,
}

thread_local! {
    static RIG: Rig = Rig::new();
}

/// A token. By its first byte it comes as it is (`=`), as edits of a good one (`~`), or made of three lines: header,
/// payload and how it is signed (`+`).
///
/// # Panics
/// When one passes that nobody signed, or that says what no access token for us says.
pub fn jwt(input: &[u8]) {
    RIG.with(|rig| match input {
        [b'=', token @ ..] => rig.unsigned(&String::from_utf8_lossy(token)),
        [b'~', edits @ ..] => rig.edited(edits),
        [b'+', parts @ ..] => rig.made(parts),
        _ => {}
    });
}

/// A key set document.
///
/// # Panics
/// When a key is held that the document does not have, or that no verifier may have.
pub fn jwks(input: &[u8]) {
    const ALLOWED: [Algorithm; 4] = [
        Algorithm::RS256,
        Algorithm::ES256,
        Algorithm::ES384,
        Algorithm::EdDSA,
    ];
    let Some((keys, skipped)) = Keys::parse(input, &ALLOWED) else {
        return;
    };
    let document: KeySet = serde_json::from_slice(input).expect("what we read, others can read");
    // An entry that nobody can read is skipped for that, and spoils no other.
    let entries = document.keys.into_iter();
    let listed: Vec<Value> = entries
        .map(|entry| serde_json::from_str(entry.get()).unwrap_or(Value::Null))
        .collect();
    assert!(skipped.len() <= listed.len(), "each is skipped once");
    let usable = listed.iter().filter(|key| may_verify(key)).count();
    assert!(keys.len() <= usable, "{} of {usable}", keys.len());
    for held in keys.held(Duration::ZERO) {
        let named = |key: &Value| key["kid"] == *held.kid && may_verify(key);
        assert!(listed.iter().any(named), "{held:?}");
        assert!(held.algorithms.iter().all(|one| ALLOWED.contains(one)));
    }
}

#[derive(serde::Deserialize)]
struct KeySet<'a> {
    #[serde(borrow)]
    keys: Vec<&'a serde_json::value::RawValue>,
}

/// What cannot be wrong with a key that verifies (RFC 7517 section 4, RFC 7518 section 6).
fn may_verify(key: &Value) -> bool {
    let private = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];
    let public = private.iter().all(|member| key[member].is_null());
    let kind = matches!(key["kty"].as_str(), Some("RSA" | "EC" | "OKP"));
    let purpose = matches!(key.get("use"), None | Some(Value::Null)) || key["use"] == "sig";
    public && kind && purpose
}

/// An issuer's answer about a token.
///
/// # Panics
/// When a token is believed that the answer does not vouch for.
pub fn introspection(input: &[u8]) {
    let issuer = testkit::issuer("keycloak");
    let believed = is_active(input) == Ok(true)
        && Claims::read(input).is_ok_and(|claims| claims.check_answer(&issuer, false, NOW).is_ok());
    if !believed {
        return;
    }
    let said: Value = serde_json::from_slice(input).expect("what we read, others can read");
    assert_eq!(said["active"], Value::Bool(true));
    assert!(said.get("iss").is_none() || said["iss"] == *issuer.issuer);
    assert!(said.get("exp").is_none() || is_ahead(&said));
    is_for_us(&said, &issuer);
    let granted = Granted::new(IssuerId(0), &issuer, Forwarded::new(&plan()));
    let claims = Claims::read(input).expect("read before");
    is_sendable(&granted.principal(&claims));
}

fn plan() -> Plan {
    let mut plan = testkit::plan(vec![testkit::route("/")]);
    plan.issuers[0].algorithms = vec![Algorithm::EdDSA, Algorithm::ES256];
    plan
}

impl Rig {
    fn new() -> Self {
        let rng = SystemRandom::new();
        let edwards = || {
            let der = Ed25519KeyPair::generate_pkcs8(&rng).expect("a key");
            Ed25519KeyPair::from_pkcs8(der.as_ref()).expect("a key")
        };
        let (ours, foreign) = (edwards(), edwards());
        let curve = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let der = EcdsaKeyPair::generate_pkcs8(curve, &rng).expect("a key");
        let weierstrass = EcdsaKeyPair::from_pkcs8(curve, der.as_ref(), &rng).expect("a key");
        let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let point = &weierstrass.public_key().as_ref()[1..];
        let document = json!({"keys": [
            {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": b64(ours.public_key().as_ref())},
            {"kty": "EC", "crv": "P-256", "kid": "ec", "x": b64(&point[..32]), "y": b64(&point[32..])},
        ]});
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let plan = plan();
        let metrics = Metrics::new(&plan).expect("metrics");
        let source = Box::new(Fixed(document.to_string().into_bytes()));
        let clock = Clock::manual(NOW);
        let verifier = Verifier::with_sources(&plan, clock, metrics, vec![source]);
        let verifier = verifier.expect("a verifier");
        assert!(runtime.block_on(verifier.refresh(IssuerId(0))));
        let mut rig = Rig {
            runtime,
            verifier,
            edwards: ours,
            weierstrass,
            foreign,
            good: String::new(),
        };
        let claims = json!({
            "iss": plan.issuers[0].issuer, "aud": "eazybank-gateway", "exp": NOW + 300, "iat": NOW,
            "sub": "s-1", "azp": CLIENT, "typ": "Bearer", "scope": "accounts:read",
        });
        let input = format!(
            "{}.{}",
            b64(HEADER.as_bytes()),
            b64(claims.to_string().as_bytes())
        );
        let signature = rig.edwards.sign(input.as_bytes());
        rig.good = format!("{input}.{}", b64(signature.as_ref()));
        assert!(rig.passes(&rig.good), "the good token passes");
        rig
    }

    fn passes(&self, token: &str) -> bool {
        let token = BearerToken::unchecked(token);
        let proving = self.verifier.prove(token, Wanted::default());
        match self.runtime.block_on(proving).outcome {
            Ok(principal) => {
                is_sendable(&principal);
                true
            }
            Err(_) => false,
        }
    }

    /// Whatever it is, our keys did not sign it: they were made a moment ago.
    fn unsigned(&self, token: &str) {
        assert!(!self.passes(token), "{token:?}");
    }

    /// Pairs of a place and a byte: whatever was changed, the signature does not hold for it.
    fn edited(&self, edits: &[u8]) {
        let mut token = self.good.clone().into_bytes();
        for edit in edits.chunks_exact(3) {
            let at = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % (token.len() + 1);
            match edit[2] {
                0 if at < token.len() => {
                    token.remove(at);
                }
                byte @ 0x80.. => token.insert(at, byte & 0x7f),
                byte if at < token.len() => token[at] = byte,
                _ => {}
            }
        }
        let token = String::from_utf8(token).expect("ASCII");
        assert_eq!(self.passes(&token), token == self.good, "{token:?}");
    }

    fn made(&self, parts: &[u8]) {
        let mut lines = parts.splitn(3, |byte| *byte == b'\n');
        let mut line = || lines.next().unwrap_or_default();
        let (header, payload, how) = (line(), line(), line());
        let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let input = format!("{}.{}", b64(header), b64(payload));
        let public = self.edwards.public_key().as_ref();
        let (signature, ours) = match how.first() {
            Some(b'e') => (self.edwards.sign(input.as_bytes()).as_ref().to_vec(), true),
            Some(b'w') => {
                let signed = self
                    .weierstrass
                    .sign(&SystemRandom::new(), input.as_bytes());
                (signed.expect("a signature").as_ref().to_vec(), true)
            }
            Some(b'f') => (self.foreign.sign(input.as_bytes()).as_ref().to_vec(), false),
            Some(b'h') => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, public);
                (hmac::sign(&key, input.as_bytes()).as_ref().to_vec(), false)
            }
            _ => (how.to_vec(), false),
        };
        if self.passes(&format!("{input}.{}", b64(&signature))) {
            assert!(ours, "nobody signed it: {}", parts.escape_ascii());
            self.may_pass(header, payload);
        }
    }

    /// RFC 7515 section 4.1, RFC 7519 section 4.1 and RFC 9068 section 4, read with another parser.
    fn may_pass(&self, header: &[u8], payload: &[u8]) {
        let header: Value = serde_json::from_slice(header).expect("a header that others can read");
        let said: Value = serde_json::from_slice(payload).expect("claims that others can read");
        let issuer = &plan().issuers[0];
        let pair = (header["alg"].as_str(), header["kid"].as_str());
        let known = [(Some("EdDSA"), Some("ed")), (Some("ES256"), Some("ec"))];
        assert!(known.contains(&pair), "{header}");
        assert!(
            header.get("crit").is_none() && header.get("b64").is_none(),
            "{header}"
        );
        assert_eq!(said["iss"], *issuer.issuer);
        assert!(is_ahead(&said), "{said}");
        is_for_us(&said, issuer);
    }
}

/// It has not expired.
fn is_ahead(said: &Value) -> bool {
    said["exp"]
        .as_f64()
        .is_some_and(|exp| exp + LEEWAY as f64 > NOW as f64)
}

/// It is an access token for us, valid by now and not bound to a proof that nobody asked for.
fn is_for_us(said: &Value, issuer: &IssuerPlan) {
    let ours = |aud: &Value| {
        aud.as_str()
            .is_some_and(|aud| issuer.audience.iter().any(|a| a == aud))
    };
    let named = match &said["aud"] {
        Value::Array(list) => list.iter().any(ours),
        one => ours(one),
    };
    assert!(named, "{said}");
    assert!(said.get("cnf").is_none(), "{said}");
    assert!(
        said.get("typ").is_none() || said["typ"] == "Bearer",
        "{said}"
    );
    let begun = said
        .get("nbf")
        .is_none_or(|nbf| nbf.as_f64().is_some_and(|nbf| nbf <= (NOW + LEEWAY) as f64));
    assert!(begun, "{said}");
    let client = |name: &str| said[name].as_str().is_some_and(|client| !client.is_empty());
    assert!(client("azp") || client("client_id"), "{said}");
}

/// All that it leads to can stand in a field.
fn is_sendable(principal: &super::Principal) {
    let fields = &principal.grants.fields;
    let values = [
        Some(&fields.issuer),
        Some(&fields.client),
        fields.scope.as_ref(),
        fields.roles.as_ref(),
    ];
    let values = values
        .into_iter()
        .flatten()
        .map(http::HeaderValue::as_bytes);
    let subject = principal.subject.as_ref().map(|subject| subject.as_bytes());
    for value in values.chain(subject) {
        let plain = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
        assert!(value.iter().all(plain), "{value:?}");
    }
}
