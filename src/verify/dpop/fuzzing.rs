//! Proofs as fuzzers make them, each that passes held against a reading of its own.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

use super::{AHEAD, Checked, Dpop, PAST, Seen, Shown, Thumbprint, TokenHash};
use crate::clock::Clock;

const NOW: u64 = 1_790_000_000;
const TOKEN: &str = "a.b.c";
const SEEN: Seen<'_> = Seen {
    scheme: "https",
    authority: "api.example.com",
    prefix: "/bank",
    path: "/accounts/a%2Fb~c",
};

struct Rig {
    ours: Ed25519KeyPair,
    foreign: Ed25519KeyPair,
    jwk: Value,
    holder: Thumbprint,
    token: TokenHash,
    /// A good proof, to be edited.
    good: String,
}

thread_local! {
    static RIG: Rig = Rig::new();
}

/// A proof. By its first byte it comes as it is (`=`), as edits of a good one (`~`), or made of three lines: header,
/// claims and how it is signed (`+`). In those, `@KEY@` is the holder's key, `@TOKEN@` the token's hash and `@NONCE@`
/// a nonce that was given.
///
/// # Panics
/// When one passes that the holder did not sign for this request, or passes twice.
pub fn dpop(input: &[u8]) {
    RIG.with(|rig| match input {
        [b'=', proof @ ..] => rig.unsigned(&String::from_utf8_lossy(proof)),
        [b'~', edits @ ..] => rig.edited(edits),
        [b'+', parts @ ..] => rig.made(parts),
        _ => {}
    });
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// An hour after its start: a proof may be as old as it may be.
fn gateway() -> Dpop {
    let clock = Clock::manual(NOW - 3600);
    let dpop = Dpop::new(clock.clone()).expect("randomness");
    clock.advance(std::time::Duration::from_secs(3600));
    dpop
}

impl Rig {
    fn new() -> Self {
        let key = || {
            let der = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
            Ed25519KeyPair::from_pkcs8(der.as_ref()).expect("a key")
        };
        let ours = key();
        let x = b64(ours.public_key());
        let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
        let digest = ring::digest::digest(&ring::digest::SHA256, canonical.as_bytes());
        let mut rig = Rig {
            jwk: json!({"kty": "OKP", "crv": "Ed25519", "x": x}),
            holder: digest.as_ref().try_into().expect("32 bytes"),
            token: TokenHash::of(TOKEN.as_bytes()),
            ours,
            foreign: key(),
            good: String::new(),
        };
        let header = json!({"typ": "dpop+jwt", "alg": "EdDSA", "jwk": rig.jwk}).to_string();
        let claims = json!({
            "jti": "1", "htm": "GET", "htu": "https://api.example.com/bank/accounts/a%2Fb~c",
            "iat": NOW, "ath": b64(rig.token.as_bytes()),
        });
        let input = format!("{}.{}", b64(header), b64(claims.to_string()));
        let signature = rig.ours.sign(input.as_bytes());
        rig.good = format!("{input}.{}", b64(signature));
        assert!(rig.passes(&gateway(), &rig.good), "the good proof passes");
        rig
    }

    fn passes(&self, gateway: &Dpop, proof: &str) -> bool {
        let shown = Shown {
            proof,
            method: "GET",
            uri: SEEN,
        };
        let once = || gateway.check(&shown, &self.token, &self.holder);
        let Checked { outcome, .. } = once();
        let passed = outcome.is_ok();
        assert_eq!(gateway.remembered(), usize::from(passed), "{proof:?}");
        assert!(once().outcome.is_err(), "twice: {proof:?}");
        passed
    }

    /// Whatever it is, the holder did not sign it: its key was made a moment ago.
    fn unsigned(&self, proof: &str) {
        assert!(!self.passes(&gateway(), proof), "{proof:?}");
    }

    /// Triples of a place and a byte: whatever was changed, the signature does not hold for it.
    fn edited(&self, edits: &[u8]) {
        let mut proof = self.good.clone().into_bytes();
        for edit in edits.chunks_exact(3) {
            let at = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % (proof.len() + 1);
            match edit[2] {
                0 if at < proof.len() => {
                    proof.remove(at);
                }
                byte @ 0x80.. => proof.insert(at, byte & 0x7f),
                byte if at < proof.len() => proof[at] = byte,
                _ => {}
            }
        }
        let proof = String::from_utf8(proof).expect("ASCII");
        let passed = self.passes(&gateway(), &proof);
        assert_eq!(passed, proof == self.good, "{proof:?}");
    }

    fn made(&self, parts: &[u8]) {
        let gateway = gateway();
        let now = gateway.clock.monotonic().as_secs();
        let nonce = gateway.nonces.at(now);
        let nonce = nonce.to_str().unwrap_or_default();
        let parts = String::from_utf8_lossy(parts)
            .replace("@KEY@", &self.jwk.to_string())
            .replace("@TOKEN@", &b64(self.token.as_bytes()))
            .replace("@NONCE@", nonce);
        let mut lines = parts.splitn(3, '\n');
        let mut line = || lines.next().unwrap_or_default();
        let (header, claims, how) = (line(), line(), line());
        let input = format!("{}.{}", b64(header), b64(claims));
        let (signature, ours) = match how.bytes().next() {
            Some(b'o') => (self.ours.sign(input.as_bytes()).as_ref().to_vec(), true),
            Some(b'f') => (self.foreign.sign(input.as_bytes()).as_ref().to_vec(), false),
            Some(b'h') => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, self.ours.public_key().as_ref());
                (hmac::sign(&key, input.as_bytes()).as_ref().to_vec(), false)
            }
            _ => (how.as_bytes().to_vec(), false),
        };
        if self.passes(&gateway, &format!("{input}.{}", b64(signature))) {
            assert!(ours, "the holder did not sign it: {parts:?}");
            self.may_pass(header, claims, nonce);
        }
    }

    /// RFC 9449 section 4.3, read with another parser of JSON and another of URLs.
    fn may_pass(&self, header: &str, claims: &str, nonce: &str) {
        let header: Value = serde_json::from_str(header).expect("a header that others can read");
        let said: Value = serde_json::from_str(claims).expect("claims that others can read");
        let typ = header["typ"].as_str().unwrap_or_default();
        let typ = typ.to_ascii_lowercase();
        assert!(
            ["dpop+jwt", "application/dpop+jwt"].contains(&&*typ),
            "{header}"
        );
        assert_eq!(header["alg"], "EdDSA", "{header}");
        assert!(header.get("crit").is_none() && header.get("b64").is_none());
        for name in ["kty", "crv", "x"] {
            assert_eq!(header["jwk"][name], self.jwk[name], "{header}");
        }
        assert!(header["jwk"]["d"].is_null(), "{header}");
        assert_eq!(said["htm"], "GET");
        assert_eq!(said["ath"], b64(self.token.as_bytes()));
        assert!(said["jti"].as_str().is_some_and(|jti| !jti.is_empty()));
        let htu = said["htu"].as_str().unwrap_or_default();
        let url = reqwest::Url::parse(htu).expect("a URL that others can read");
        assert_eq!(url.scheme(), "https", "{htu}");
        assert_eq!(url.host_str(), Some("api.example.com"), "{htu}");
        assert_eq!(url.port_or_known_default(), Some(443), "{htu}");
        assert!(
            url.username().is_empty() && url.password().is_none(),
            "{htu}"
        );
        let readings = ["/bank/accounts/a/b~c", "/bank/accounts/a%2Fb~c"];
        assert_eq!(decoded(url.path()), readings[0], "{htu}");
        // It is no slash that it hides.
        assert_eq!(
            url.path().matches('/').count(),
            readings[1].matches('/').count(),
            "{htu}"
        );
        match said.get("nonce") {
            Some(shown) => assert_eq!(shown, nonce),
            None => {
                let iat = said["iat"].as_f64().expect("a number");
                let (first, last) = ((NOW - PAST) as f64, (NOW + AHEAD) as f64);
                assert!(iat >= first && iat < last + 1.0, "{iat}");
            }
        }
    }
}

/// Every escape read.
fn decoded(path: &str) -> String {
    let bytes = path.as_bytes();
    let mut read = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let digits = path.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                read.push(byte);
                at += 3;
            }
            None => {
                read.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&read).into_owned()
}
