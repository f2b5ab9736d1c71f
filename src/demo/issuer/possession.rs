//! Clients that prove that they have a key (RFC 9449): their tokens are bound to it, as Keycloak 26 binds them.
//!
//! It reads proofs by itself, so that the gateway's tests do not hold the gateway against its own reading.

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::signature as sig;
use serde_json::{Map, Value};

use super::state::{State, lock};

/// How old a proof may be, and how far from the future, in seconds.
const PAST: u64 = 25;
const AHEAD: u64 = 15;
/// What the demo verifies; Keycloak can do more.
pub(super) const ALGORITHMS: [&str; 4] = ["RS256", "PS256", "ES256", "EdDSA"];

type Members = Map<String, Value>;

impl State {
    /// The thumbprint of the key that the client of this request to `path` has; `None` without a proof. An error is
    /// Keycloak's text.
    pub(super) fn holder(&self, headers: &HeaderMap, path: &str) -> Result<Option<String>, String> {
        let unreadable = || "DPoP header verification failure".to_owned();
        let mut sent = headers.get_all("dpop").iter();
        let Some(proof) = sent.next().filter(|proof| !proof.is_empty()) else {
            return Ok(None);
        };
        let proof = proof.to_str().map_err(|_| unreadable())?;
        let read = read(proof).filter(|_| sent.next().is_none());
        let (proved, claims, input, signature) = read.ok_or_else(unreadable)?;
        let text = |of: &Members, name: &str| of.get(name)?.as_str().map(str::to_owned);

        let typ = text(&proved, "typ");
        if typ.as_deref() != Some("dpop+jwt") {
            let typ = typ.as_deref().unwrap_or("null");
            return Err(format!("Invalid or missing type in DPoP header: {typ}"));
        }
        let algorithm = text(&proved, "alg").unwrap_or_default();
        if !ALGORITHMS.contains(&&*algorithm) {
            return Err(format!("Unsupported DPoP algorithm: {algorithm}"));
        }
        let jwk = proved.get("jwk").and_then(Value::as_object);
        let jwk = jwk.ok_or("No JWK in DPoP header")?;
        if jwk.contains_key("d") {
            return Err("Private key material must not be present in DPoP JWK".to_owned());
        }
        let (htm, htu) = (text(&claims, "htm"), text(&claims, "htu"));
        let (jti, iat) = (text(&claims, "jti"), claims.get("iat"));
        let (Some(htm), Some(htu), Some(jti), Some(iat)) =
            (htm, htu, jti, iat.and_then(Value::as_u64))
        else {
            return Err("DPoP mandatory claims are missing".to_owned());
        };
        if !verify(&algorithm, jwk, input.as_bytes(), &signature).unwrap_or(false) {
            // Its own words go on with the names of its classes.
            return Err("DPoP verification failure".to_owned());
        }
        if htm != "POST" {
            return Err("DPoP HTTP method mismatch".to_owned());
        }
        let host = headers.get(header::HOST);
        let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
        if htu.split('?').next() != Some(&format!("http://{host}{path}")) {
            return Err("DPoP HTTP URL mismatch".to_owned());
        }
        let now = self.clock.unix();
        if iat + PAST < now || iat > now + AHEAD {
            return Err("DPoP proof is not active".to_owned());
        }
        if !lock(&self.proofs).insert(jti) {
            return Err("DPoP proof has already been used".to_owned());
        }
        Ok(thumbprint(jwk))
    }
}

/// Header, claims, what was signed, and the signature.
fn read(proof: &str) -> Option<(Members, Members, &str, Vec<u8>)> {
    let (input, signature) = proof.rsplit_once('.')?;
    let (header, claims) = input.split_once('.')?;
    let decode = |part: &str| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok();
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    Some((decode(header)?, decode(claims)?, input, signature))
}

fn verify(algorithm: &str, jwk: &Members, message: &[u8], signature: &[u8]) -> Option<bool> {
    let member = |name: &str| URL_SAFE_NO_PAD.decode(jwk.get(name)?.as_str()?).ok();
    let rsa = |parameters| {
        let (n, e) = (member("n")?, member("e")?);
        let key = sig::RsaPublicKeyComponents { n: &n, e: &e };
        Some(key.verify(parameters, message, signature).is_ok())
    };
    let curve = |parameters: &'static dyn sig::VerificationAlgorithm, point: Vec<u8>| {
        let key = sig::UnparsedPublicKey::new(parameters, point);
        Some(key.verify(message, signature).is_ok())
    };
    match algorithm {
        "RS256" => rsa(&sig::RSA_PKCS1_2048_8192_SHA256),
        "PS256" => rsa(&sig::RSA_PSS_2048_8192_SHA256),
        "ES256" => {
            let point = [vec![4], member("x")?, member("y")?].concat();
            curve(&sig::ECDSA_P256_SHA256_FIXED, point)
        }
        "EdDSA" => curve(&sig::ED25519, member("x")?),
        _ => None,
    }
}

/// RFC 7638.
fn thumbprint(jwk: &Members) -> Option<String> {
    let names: &[&str] = match jwk.get("kty")?.as_str()? {
        "RSA" => &["e", "kty", "n"],
        "EC" => &["crv", "kty", "x", "y"],
        _ => &["crv", "kty", "x"],
    };
    // An ordered map, whatever order ours has.
    let members = names.iter().map(|name| Some((*name, jwk.get(*name)?)));
    let members: std::collections::BTreeMap<&str, &Value> = members.collect::<Option<_>>()?;
    let canonical = serde_json::to_vec(&members).ok()?;
    Some(URL_SAFE_NO_PAD.encode(digest(&SHA256, &canonical)))
}
