//! A proof has to be wrong in one place only to be refused; and what a good one does to a token.

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

#[test]
fn each_algorithm_proves_the_possession_of_its_key() {
    for (key, alg) in [
        (Signer::p256(), "ES256"),
        (Signer::p384(), "ES384"),
        (Signer::ed25519(), "EdDSA"),
        (Signer::rsa(2048), "RS256"),
        (Signer::rsa(2048), "RS384"),
        (Signer::rsa(2048), "RS512"),
        (Signer::rsa(2048), "PS256"),
        (Signer::rsa(2048), "PS384"),
        (Signer::rsa(2048), "PS512"),
    ] {
        let judge = Judge::of(Client::new(key, alg));
        assert_eq!(judge.says(|_, _| {}), Ok(()), "{alg}");
        let forged = judge.client.proof(TOKEN, |_, _| {});
        let end = forged.len();
        let forged = format!("{}{}", &forged[..end - 10], &"A".repeat(10));
        assert_eq!(
            judge.says_to(&forged),
            refused(ProofFlaw::Signature),
            "{alg}"
        );
    }
}

#[test]
fn a_proof_has_to_be_a_proof() {
    let judge = Judge::new();
    type Edit = fn(&mut Value, &mut Value);
    for (edit, flaw) in [
        (
            (|h, _| h["typ"] = json!("JWT")) as Edit,
            ProofFlaw::Malformed,
        ),
        (|h, _| h["typ"] = json!("at+jwt"), ProofFlaw::Malformed),
        (|h, _| h["typ"] = Value::Null, ProofFlaw::Malformed),
        (
            |h, _| drop(h.as_object_mut().unwrap().remove("typ")),
            ProofFlaw::Malformed,
        ),
        (|h, _| h["crit"] = json!(["exp"]), ProofFlaw::Malformed),
        (|h, _| h["b64"] = json!(false), ProofFlaw::Malformed),
        (
            |h, _| h["x"] = json!("y".repeat(2048)),
            ProofFlaw::Malformed,
        ),
        (|h, _| h["alg"] = json!("none"), ProofFlaw::Key),
        (|h, _| h["alg"] = json!("HS256"), ProofFlaw::Key),
        (|h, _| h["alg"] = json!("ES384"), ProofFlaw::Key),
        (|h, _| h["alg"] = json!(7), ProofFlaw::Malformed),
        (|h, _| h["jwk"] = Value::Null, ProofFlaw::Malformed),
        (
            |h, _| drop(h.as_object_mut().unwrap().remove("jwk")),
            ProofFlaw::Malformed,
        ),
        (|h, _| h["jwk"] = json!("x"), ProofFlaw::Malformed),
        (|h, _| h["jwk"]["d"] = json!("AAAA"), ProofFlaw::Key),
        (
            |h, _| h["jwk"] = json!({"kty": "oct", "k": "AAAA"}),
            ProofFlaw::Key,
        ),
        (|_, c| c["jti"] = json!(""), ProofFlaw::Malformed),
        (|_, c| c["jti"] = json!(7), ProofFlaw::Malformed),
        (
            |_, c| c["jti"] = json!("x".repeat(257)),
            ProofFlaw::Malformed,
        ),
        (|_, c| c["htm"] = json!(["GET"]), ProofFlaw::Malformed),
        (|_, c| c["htu"] = Value::Null, ProofFlaw::Malformed),
        (
            |_, c| c["iat"] = json!(NOW.to_string()),
            ProofFlaw::Malformed,
        ),
        (|_, c| c["iat"] = json!(-1), ProofFlaw::Malformed),
        (|_, c| c["ath"] = json!(true), ProofFlaw::Malformed),
        (|_, c| c["nonce"] = json!(1), ProofFlaw::Malformed),
        (|_, c| c["exp"] = json!("x"), ProofFlaw::Malformed),
        (|_, c| c["nbf"] = json!([]), ProofFlaw::Malformed),
        (|_, c| c["htm"] = json!("POST"), ProofFlaw::Method),
        (|_, c| c["htm"] = json!("get"), ProofFlaw::Method),
        (|_, c| c["htm"] = json!(""), ProofFlaw::Method),
        (
            |_, c| c["htu"] = json!("https://api.example.com/accounts/2"),
            ProofFlaw::Target,
        ),
        (
            |_, c| c["htu"] = json!("http://api.example.com/accounts/1"),
            ProofFlaw::Target,
        ),
        (|_, c| c["htu"] = json!("/accounts/1"), ProofFlaw::Target),
        (|_, c| c["ath"] = json!(""), ProofFlaw::Token),
        (
            |_, c| c["ath"] = json!(jws::encode(TokenHash::of(b"d.e.f").as_bytes())),
            ProofFlaw::Token,
        ),
        (|_, c| c["nonce"] = json!("nobody's"), ProofFlaw::Nonce),
        (|_, c| c["nonce"] = json!(""), ProofFlaw::Nonce),
    ] {
        let proof = judge.client.proof(TOKEN, edit);
        assert_eq!(judge.says_to(&proof), refused(flaw), "{proof}");
    }
    for name in ["jti", "htm", "htu", "iat", "ath"] {
        let without = judge.says(|_, c| drop(c.as_object_mut().unwrap().remove(name)));
        assert_eq!(without, refused(ProofFlaw::Malformed), "{name}");
    }
    let good = judge.client.proof(TOKEN, |_, _| {});
    let parts: Vec<&str> = good.split('.').collect();
    for proof in [
        "",
        ".",
        "..",
        "a.b.c",
        "a.b.c.d.e",
        TOKEN,
        &format!("{}.{}", parts[0], parts[1]),
        &format!("{good}.{}", parts[2]),
        &format!("{}=.{}.{}", parts[0], parts[1], parts[2]),
        &format!("{}.{}.{}", parts[1], parts[0], parts[2]),
    ] {
        let said = judge.says_to(proof);
        assert_eq!(said, refused(ProofFlaw::Malformed), "{proof}");
    }
    // Two members of one name are two readings.
    let header = json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": judge.client.jwk()});
    let twice = format!("{{\"htm\":\"GET\",\"htm\":\"GET\",\"iat\":{NOW}}}");
    let key = &judge.client.key;
    let twice = key.seal("ES256", &header.to_string(), twice.as_bytes());
    assert_eq!(judge.says_to(&twice), refused(ProofFlaw::Malformed));
    // After all of it the good one is as good as ever.
    assert_eq!(judge.says_to(&good), Ok(()));
}

#[test]
fn what_does_not_matter_does_not_matter() {
    let judge = Judge::new();
    type Edit = fn(&mut Value, &mut Value);
    for edit in [
        (|h, _| h["typ"] = json!("DPoP+JWT")) as Edit,
        |h, _| h["typ"] = json!("application/dpop+jwt"),
        |h, _| h["kid"] = json!("mine"),
        |h, _| h["jwk"]["kid"] = json!("mine"),
        |h, _| h["jwk"]["use"] = json!("sig"),
        |h, _| h["jwk"]["alg"] = json!("ES256"),
        |_, c| c["htu"] = json!("HTTPS://API.example.com:443/accounts/1?a=b#c"),
        |_, c| c["iat"] = json!(NOW as f64 + 0.5),
        |_, c| c["exp"] = json!(NOW + 5),
        |_, c| c["nbf"] = json!(NOW - 5),
        |_, c| c["iss"] = json!("somebody"),
        |_, c| c["jti"] = json!("x".repeat(256)),
    ] {
        let proof = judge.client.proof(TOKEN, edit);
        assert_eq!(judge.says_to(&proof), Ok(()), "{proof}");
    }
}

#[test]
fn the_key_is_the_one_that_the_token_names_and_has_signed() {
    let judge = Judge::new();
    let thief = Client::usual();
    let foreign = thief.proof(TOKEN, |_, _| {});
    assert_eq!(judge.says_to(&foreign), refused(ProofFlaw::Holder));
    // The right key, shown and not had.
    let shown = thief.proof(TOKEN, |h, _| h["jwk"] = judge.client.jwk());
    assert_eq!(judge.says_to(&shown), refused(ProofFlaw::Signature));
    // Claims of one proof with the signature of another.
    let (a, b) = (
        judge.client.proof(TOKEN, |_, _| {}),
        judge.client.proof(TOKEN, |_, _| {}),
    );
    let (_, signature) = b.rsplit_once('.').unwrap();
    let (input, _) = a.rsplit_once('.').unwrap();
    let mixed = format!("{input}.{signature}");
    assert_eq!(judge.says_to(&mixed), refused(ProofFlaw::Signature));
    for signature in ["", "A", "AAAA", &"A".repeat(87)] {
        let proof = format!("{input}.{signature}");
        assert_eq!(
            judge.says_to(&proof),
            refused(ProofFlaw::Signature),
            "{proof}"
        );
    }
    // A point that is on no curve.
    let off = judge
        .client
        .proof(TOKEN, |h, _| h["jwk"]["y"] = h["jwk"]["x"].clone());
    let holder = Proof::read(&off).unwrap().thumbprint;
    let checked = judge.dpop.check(
        &super::tests::shown(&off),
        &TokenHash::of(TOKEN.as_bytes()),
        &holder,
    );
    assert_eq!(checked.outcome, refused(ProofFlaw::Signature));
}

#[test]
fn a_proof_is_good_for_a_minute() {
    let judge = Judge::new();
    judge.clock.advance(Duration::from_secs(1000));
    let now = NOW + 1000;
    for (iat, good) in [
        (now, true),
        (now - PAST, true),
        (now - PAST - 1, false),
        (now + AHEAD, true),
        (now + AHEAD + 1, false),
        (0, false),
        (u64::MAX, false),
    ] {
        let said = judge.says(|_, c| c["iat"] = json!(iat));
        let expected = match good {
            true => Ok(()),
            false => refused(ProofFlaw::Time),
        };
        assert_eq!(said, expected, "{iat}");
    }
    for (name, at, good) in [
        ("exp", now - AHEAD, false),
        ("exp", now - AHEAD + 1, true),
        ("nbf", now + AHEAD + 1, false),
        ("nbf", now + AHEAD, true),
    ] {
        let said = judge.says(|_, c| {
            c["iat"] = json!(now);
            c[name] = json!(at);
        });
        assert_eq!(said.is_ok(), good, "{name} {at}");
    }
}

#[test]
fn what_a_process_before_this_may_have_seen_needs_a_nonce() {
    let judge = Judge::new();
    let before = judge.says(|_, c| c["iat"] = json!(NOW - 1));
    assert_eq!(before, refused(ProofFlaw::Time));
    assert_eq!(judge.says(|_, c| c["iat"] = json!(NOW)), Ok(()));
}

#[test]
fn a_nonce_stands_for_the_time() {
    let judge = Judge::new();
    let asked = judge.check(&judge.client.proof(TOKEN, |_, c| c["iat"] = json!(0)));
    assert_eq!(asked.outcome, refused(ProofFlaw::Time));
    let nonce = asked.nonce.unwrap();
    let nonce = nonce.to_str().unwrap();
    let with = |iat: u64| {
        judge.client.proof(TOKEN, |_, c| {
            c["iat"] = json!(iat);
            c["nonce"] = json!(nonce);
        })
    };
    // The client's clock is what it is.
    for iat in [0, NOW, NOW + 86_400] {
        let checked = judge.check(&with(iat));
        assert_eq!(checked.outcome, Ok(()), "{iat}");
        assert_eq!(checked.nonce, None, "{iat}");
    }
    // Everything else counts as before, and a nonce is no second life.
    let proof = with(0);
    assert_eq!(judge.says_to(&proof), Ok(()));
    assert_eq!(judge.says_to(&proof), refused(ProofFlaw::Replayed));
    judge.clock.advance(Duration::from_secs(60));
    let checked = judge.check(&with(0));
    assert_eq!(checked.outcome, Ok(()));
    let next = checked.nonce.expect("the next nonce is due");
    assert_ne!(next, nonce);
    assert_eq!(judge.says_to(&proof), refused(ProofFlaw::Replayed));
    judge.clock.advance(Duration::from_secs(60));
    let checked = judge.check(&with(0));
    assert_eq!(checked.outcome, refused(ProofFlaw::Nonce));
    assert!(checked.nonce.is_some());
    assert_eq!(judge.says_to(&proof), refused(ProofFlaw::Nonce));
}

#[test]
fn a_proof_comes_once_for_as_long_as_it_would_be_good() {
    let judge = Judge::new();
    let now = judge.client.proof(TOKEN, |_, _| {});
    let ahead = judge
        .client
        .proof(TOKEN, |_, c| c["iat"] = json!(NOW + AHEAD));
    for proof in [&now, &ahead] {
        assert_eq!(judge.says_to(proof), Ok(()));
    }
    for second in 0..=PAST {
        assert_eq!(
            judge.says_to(&now),
            refused(ProofFlaw::Replayed),
            "{second}"
        );
        judge.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(judge.says_to(&now), refused(ProofFlaw::Time));
    for second in PAST + 1..=PAST + AHEAD {
        assert_eq!(
            judge.says_to(&ahead),
            refused(ProofFlaw::Replayed),
            "{second}"
        );
        judge.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(judge.says_to(&ahead), refused(ProofFlaw::Time));
    // The same `jti` in another proof of the same key is the same one.
    let judge = Judge::new();
    let named = |htu: &str| {
        judge.client.proof(TOKEN, |_, c| {
            c["jti"] = json!("twice");
            c["htu"] = json!(htu);
        })
    };
    assert_eq!(
        judge.says_to(&named("https://api.example.com/accounts/1")),
        Ok(())
    );
    let again = named("https://API.example.com/accounts/1");
    assert_eq!(judge.says_to(&again), refused(ProofFlaw::Replayed));
}

#[test]
fn a_proof_that_could_not_be_remembered_is_not_judged() {
    let mut judge = Judge::new();
    judge.dpop.replays = Replays::holding(0);
    let full = Err(Fault::Unjudged(Unjudged::ProofsFull));
    assert_eq!(judge.says(|_, _| {}), full);
    // What is wrong with it is said all the same.
    let forged = judge.says(|_, c| c["htm"] = json!("POST"));
    assert_eq!(forged, refused(ProofFlaw::Method));
}

/// The usual issuer with another `dpop`, and a client.
struct World {
    rig: Rig,
    client: Client,
}

impl World {
    async fn new(dpop: Setting) -> Self {
        let plan = crate::config::plan::IssuerPlan { dpop, ..issuer() };
        World {
            rig: Rig::new(vec![(plan, vec![mint::rsa2048().jwk("k1")])]).await,
            client: Client::usual(),
        }
    }

    async fn bearer(&self, token: &str) -> Result<(), Fault> {
        self.rig.prove(token).await.map(drop)
    }

    async fn prove(&self, token: &str, proof: &str) -> Verdict {
        let shown = shown(proof);
        let wanted = Wanted::default().showing(&shown);
        let token = BearerToken::unchecked(token);
        self.rig.verifier.prove(token, wanted).await
    }

    /// With a proof of its own.
    async fn proved(&self, token: &str) -> Result<(), Fault> {
        let proof = self.client.proof(token, |_, _| {});
        self.prove(token, &proof).await.outcome.map(drop)
    }
}

const CONSTRAINED: Result<(), Fault> = Err(Fault::Refused(Refusal::SenderConstrained));
const UNBOUND: Result<(), Fault> = Err(Fault::Refused(Refusal::Unbound));
const KIND: Result<(), Fault> = Err(Fault::Refused(Refusal::Kind));

#[tokio::test]
async fn the_scheme_has_to_be_the_token_s() {
    for (dpop, bound, unbound, unbound_with_proof) in [
        (Setting::Refuse, CONSTRAINED, Ok(()), UNBOUND),
        (Setting::Allow, Ok(()), Ok(()), UNBOUND),
        (Setting::Require, Ok(()), UNBOUND, UNBOUND),
    ] {
        let world = World::new(dpop).await;
        let bound_token = world.client.token(|_| {});
        let plain = mint::rsa2048().token("RS256", "k1", &keycloak_claims(ISSUER, NOW));
        // The second time from the cache.
        for _ in 0..2 {
            assert_eq!(world.proved(&bound_token).await, bound, "{dpop:?}");
            assert_eq!(world.bearer(&bound_token).await, CONSTRAINED, "{dpop:?}");
            assert_eq!(world.bearer(&plain).await, unbound, "{dpop:?}");
            assert_eq!(world.proved(&plain).await, unbound_with_proof, "{dpop:?}");
        }
    }
}

#[tokio::test]
async fn a_kept_token_needs_a_proof_each_time() {
    let world = World::new(Setting::Allow).await;
    let token = world.client.token(|_| {});
    let proof = world.client.proof(&token, |_, _| {});
    let first = world.prove(&token, &proof).await;
    assert_eq!((first.source, first.outcome.is_ok()), (Source::Local, true));
    let second = world.prove(&token, &proof).await;
    assert_eq!(second.source, Source::Cache);
    assert_eq!(second.outcome.map(drop), refused(ProofFlaw::Replayed));
    let stolen = Client::usual().proof(&token, |_, _| {});
    let third = world.prove(&token, &stolen).await;
    assert_eq!(third.outcome.map(drop), refused(ProofFlaw::Holder));
    // A proof for another token of the same client.
    let other = world.client.token(|claims| claims["jti"] = json!("other"));
    let proof = world.client.proof(&other, |_, _| {});
    let fourth = world.prove(&token, &proof).await;
    assert_eq!(fourth.outcome.map(drop), refused(ProofFlaw::Token));
    assert_eq!(world.proved(&token).await, Ok(()));
}

#[tokio::test]
async fn a_token_that_does_not_pass_uses_no_proof_up() {
    let world = World::new(Setting::Allow).await;
    let expired = world.client.token(|claims| claims["exp"] = json!(NOW - 60));
    let expiry = world.proved(&expired).await;
    assert_eq!(expiry, Err(Fault::Refused(Refusal::Expired)));
    let token = world.client.token(|_| {});
    let forged = format!("{}AAAA", &token[..token.len() - 4]);
    let forgery = world.proved(&forged).await;
    assert_eq!(forgery, Err(Fault::Refused(Refusal::Signature)));
    assert_eq!(world.rig.verifier.dpop.remembered(), 0);
}

#[tokio::test]
async fn a_token_that_says_dpop_is_bound_to_a_key() {
    for dpop in [Setting::Refuse, Setting::Allow, Setting::Require] {
        let world = World::new(dpop).await;
        let loose = world
            .client
            .token(|claims| claims["cnf"] = json!({"x5t#S256": "x"}));
        assert_eq!(world.proved(&loose).await, CONSTRAINED, "{dpop:?}");
        let loose = world
            .client
            .token(|c| drop(c.as_object_mut().unwrap().remove("cnf")));
        assert_eq!(world.proved(&loose).await, KIND, "{dpop:?}");
        assert_eq!(world.bearer(&loose).await, KIND, "{dpop:?}");
        let certified = world.client.token(|claims| {
            claims["cnf"] = json!({"x5t#S256": jws::encode(&[7; 32])});
        });
        assert_eq!(world.proved(&certified).await, KIND, "{dpop:?}");
    }
    // Other issuers call it `Bearer`; and no other kind becomes one by its binding.
    let world = World::new(Setting::Require).await;
    let token = world.client.token(|claims| claims["typ"] = json!("Bearer"));
    assert_eq!(world.proved(&token).await, Ok(()));
    for typ in ["ID", "Refresh", "dpop"] {
        let token = world.client.token(|claims| claims["typ"] = json!(typ));
        assert_eq!(world.proved(&token).await, KIND, "{typ}");
    }
}

#[tokio::test]
async fn a_certificate_and_a_key_are_both_wanted() {
    let world = World::new(Setting::Require).await;
    let token = world.client.token(|claims| {
        claims["cnf"]["x5t#S256"] = json!(jws::encode(&[7; 32]));
    });
    assert_eq!(world.proved(&token).await, CONSTRAINED);
    let proof = world.client.proof(&token, |_, _| {});
    let shown = shown(&proof);
    let wanted = Wanted::default().by(Some(&[7; 32])).showing(&shown);
    let token = BearerToken::unchecked(&token);
    let verdict = world.rig.verifier.prove(token, wanted).await;
    assert_eq!(verdict.outcome.map(drop), Ok(()));
}

/// A plan that is read again shares the memory, and its rules are its own: kept proofs included.
#[tokio::test]
async fn another_plan_remembers_what_this_one_has_accepted() {
    let world = World::new(Setting::Allow).await;
    let token = world.client.token(|_| {});
    let proof = world.client.proof(&token, |_, _| {});
    assert!(world.prove(&token, &proof).await.outcome.is_ok());
    let plain = mint::rsa2048().token("RS256", "k1", &keycloak_claims(ISSUER, NOW));
    assert_eq!(world.bearer(&plain).await, Ok(()));

    let plan = plan(vec![crate::config::plan::IssuerPlan {
        dpop: Setting::Require,
        ..issuer()
    }]);
    let metrics = crate::observe::metrics::Metrics::new(&plan).unwrap();
    let World { rig, client } = world;
    let verifier = rig.verifier.renewed(&plan, metrics).unwrap();
    let renewed = World {
        rig: Rig { verifier, ..rig },
        client,
    };
    let again = renewed.prove(&token, &proof).await;
    assert_eq!(again.outcome.map(drop), refused(ProofFlaw::Replayed));
    assert_eq!(renewed.proved(&token).await, Ok(()));
    assert_eq!(renewed.bearer(&plain).await, UNBOUND);
}

/// RFC 9449 section 6.2: what an issuer says of a token with a proof, it says with the key.
#[test]
fn an_answer_that_says_dpop_names_the_key() {
    let key = jws::encode(&[7; 32]);
    let answer = |edit: &dyn Fn(&mut Value)| {
        let mut said = keycloak_claims(ISSUER, NOW);
        said["active"] = json!(true);
        said["typ"] = json!("DPoP");
        said["token_type"] = json!("DPoP");
        said["cnf"] = json!({"jkt": key, "kc-jkt-type": "DPoP"});
        edit(&mut said);
        said.to_string()
    };
    let check = |dpop: Setting, edit: &dyn Fn(&mut Value)| {
        let plan = crate::config::plan::IssuerPlan { dpop, ..issuer() };
        let answer = answer(edit);
        let claims = crate::verify::claims::Claims::read(answer.as_bytes()).unwrap();
        claims.check_answer(&plan, false, NOW)
    };
    let without = |name: &'static str| {
        move |said: &mut Value| drop(said.as_object_mut().unwrap().remove(name))
    };
    let constrained = Err(Refusal::SenderConstrained);
    for dpop in [Setting::Allow, Setting::Require] {
        assert_eq!(check(dpop, &|_| {}), Ok(()));
        assert_eq!(check(dpop, &without("typ")), Ok(()));
        assert_eq!(check(dpop, &without("token_type")), Ok(()));
        assert_eq!(check(dpop, &without("cnf")), constrained);
        let bearer = |said: &mut Value| {
            without("cnf")(said);
            said["typ"] = json!("Bearer");
        };
        assert_eq!(check(dpop, &bearer), constrained);
    }
    assert_eq!(check(Setting::Refuse, &|_| {}), constrained);
}
