//! A proof has to be wrong in one place only to be refused; and what a good one does to a token.

mod bound;
mod claims;
mod time;

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::config::plan::Dpop as Setting;
use crate::credential::BearerToken;
use crate::verify::fault::Refusal;
use crate::verify::tests::mint::{self, Signer, keycloak_claims};
use crate::verify::tests::{ISSUER, NOW, Rig, issuer, plan};
use crate::verify::{Source, Verdict, Wanted};

const TOKEN: &str = "a.b.c";
const SEEN: Seen<'_> = Seen {
    scheme: "https",
    authority: "api.example.com",
    prefix: "",
    path: "/accounts/1",
};

/// An OAuth client with a key.
struct Client {
    key: Signer,
    alg: &'static str,
    made: std::cell::Cell<u32>,
}

impl Client {
    fn new(key: Signer, alg: &'static str) -> Self {
        Client {
            key,
            alg,
            made: std::cell::Cell::new(0),
        }
    }

    fn usual() -> Self {
        Client::new(Signer::p256(), "ES256")
    }

    fn jwk(&self) -> Value {
        let mut jwk = self.key.jwk("");
        jwk.as_object_mut().unwrap().remove("kid");
        jwk
    }

    fn thumbprint(&self) -> Thumbprint {
        let proof = self.proof(TOKEN, |_, _| {});
        Proof::read(&proof).unwrap().thumbprint
    }

    /// A new proof for the usual request, edited before it is signed.
    fn proof(&self, token: &str, edit: impl FnOnce(&mut Value, &mut Value)) -> String {
        let number = self.made.get();
        self.made.set(number + 1);
        let mut header = json!({"typ": "dpop+jwt", "alg": self.alg, "jwk": self.jwk()});
        let mut claims = json!({
            "jti": format!("proof-{number}"),
            "htm": "GET",
            "htu": "https://api.example.com/accounts/1",
            "iat": NOW,
            "ath": jws::encode(TokenHash::of(token.as_bytes()).as_bytes()),
        });
        edit(&mut header, &mut claims);
        self.seal(&header, &claims)
    }

    fn seal(&self, header: &Value, claims: &Value) -> String {
        let claims = claims.to_string();
        self.key
            .seal(self.alg, &header.to_string(), claims.as_bytes())
    }

    /// A token that is bound to its key, as Keycloak writes it.
    fn token(&self, edit: impl FnOnce(&mut Value)) -> String {
        let mut claims = keycloak_claims(ISSUER, NOW);
        claims["typ"] = json!("DPoP");
        claims["cnf"] = json!({"jkt": jws::encode(&self.thumbprint()), "kc-jkt-type": "DPoP"});
        edit(&mut claims);
        mint::rsa2048().token("RS256", "k1", &claims)
    }
}

fn shown(proof: &str) -> Shown<'_> {
    Shown {
        proof,
        method: "GET",
        uri: SEEN,
    }
}

struct Judge {
    dpop: Dpop,
    clock: Clock,
    client: Client,
    holder: Thumbprint,
}

impl Judge {
    fn new() -> Self {
        Self::of(Client::usual())
    }

    fn of(client: Client) -> Self {
        let clock = Clock::manual(NOW);
        Judge {
            dpop: Dpop::new(clock.clone()).unwrap(),
            holder: client.thumbprint(),
            client,
            clock,
        }
    }

    fn check(&self, proof: &str) -> Checked {
        let token = TokenHash::of(TOKEN.as_bytes());
        self.dpop.check(&shown(proof), &token, &self.holder)
    }

    /// What comes of a proof with these changes; that a nonce is given if one would help, and that nothing was
    /// remembered of what was refused.
    fn says(&self, edit: impl FnOnce(&mut Value, &mut Value)) -> Result<(), Fault> {
        self.says_to(&self.client.proof(TOKEN, edit))
    }

    fn says_to(&self, proof: &str) -> Result<(), Fault> {
        let before = self.dpop.remembered();
        let Checked { outcome, nonce } = self.check(proof);
        let wanted = [refused(ProofFlaw::Time), refused(ProofFlaw::Nonce)].contains(&outcome);
        if outcome.is_err() {
            assert_eq!(nonce.is_some(), wanted, "{outcome:?}");
        }
        let added = usize::from(outcome.is_ok());
        assert_eq!(self.dpop.remembered(), before + added, "{outcome:?}");
        outcome
    }
}

fn refused(flaw: ProofFlaw) -> Result<(), Fault> {
    Err(Fault::Refused(Refusal::Proof(flaw)))
}
