//! Proofs of possession, and what is bound to them.

use portcullis::clock::Clock;
use serde_json::{Value, json};

use super::{MACHINE, PROTOCOL, Side};
use crate::keycloak::member;
use crate::proof::Proof;

impl Side {
    /// The same of a token that is bound to a key, and what introspection says of it.
    pub(super) fn bound(&self, client: &str) -> Value {
        let (_, answer) = self.with_proof(client, &self.proof().seal());
        let token = member(&answer, "access_token");
        let about = self.form(&("token/introspect", Some("gateway"), &[("token", &token)]));
        json!({ "granted": self.opened(&answer), "introspected": about })
    }

    /// Answers to proofs, most of them bad.
    pub(super) fn proofs(&self) -> Vec<(&'static str, Value)> {
        let once = self.proof().seal();
        let now = Clock::system().unix();
        let mut private = self.holder.jwk();
        private["d"] = json!("AAAA");
        let url = self.token_url();
        let sent = [
            ("none", String::new()),
            ("the first time", once.clone()),
            ("again", once),
            (
                "two",
                format!("{}\r\nDPoP: {}", self.proof().seal(), self.proof().seal()),
            ),
            ("no JWT", "garbage".to_owned()),
            ("no base64url", "a.b.c".to_owned()),
            ("another method", self.proof().with("htm", "GET").seal()),
            ("another case", self.proof().with("htm", "post").seal()),
            ("no method", self.proof().with("htm", Value::Null).seal()),
            (
                "another target",
                self.proof().with("htu", format!("{url}x")).seal(),
            ),
            (
                "a query",
                self.proof().with("htu", format!("{url}?a=b")).seal(),
            ),
            ("no target", self.proof().with("htu", Value::Null).seal()),
            ("old", self.proof().at(now - 23).seal()),
            ("too old", self.proof().at(now - 60).seal()),
            ("from the future", self.proof().at(now + 60).seal()),
            ("no time", self.proof().with("iat", Value::Null).seal()),
            ("no name", self.proof().with("jti", Value::Null).seal()),
            ("another type", self.proof().header("typ", "JWT").seal()),
            ("no type", self.proof().header("typ", Value::Null).seal()),
            ("unsigned", self.proof().header("alg", "none").seal()),
            ("symmetric", self.proof().header("alg", "HS256").seal()),
            ("no key", self.proof().header("jwk", Value::Null).seal()),
            ("a private key", self.proof().header("jwk", private).seal()),
            (
                "a nonce that nobody gave",
                self.proof().with("nonce", "x").seal(),
            ),
        ];
        let sent = sent.into_iter().map(|(what, proof)| {
            let (status, mut body) = self.with_proof("dpop-cc", &proof);
            // What was granted is compared elsewhere.
            if status == 200 {
                body = Value::Null;
            }
            (what, json!({ "status": status, "body": body }))
        });
        sent.collect()
    }

    fn token_url(&self) -> String {
        format!("http://{}{PROTOCOL}/token", self.address)
    }

    fn proof(&self) -> Proof<'_> {
        self.holder.proof("POST", &self.token_url())
    }

    fn with_proof(&self, client: &str, proof: &str) -> (u16, Value) {
        let form = [MACHINE, ("scope", "accounts:read")];
        let (path, headers, body) = self.request(&("token", Some(client), &form));
        let headers = format!("{headers}DPoP: {proof}\r\n");
        let (answer, body) = self.raw("POST", &path, &headers, &body);
        (answer.status, body)
    }
}
