//! What a good proof does to a token.

use super::*;

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
