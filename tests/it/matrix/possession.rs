//! The reasons to refuse a token that is bound to a key, or should be.

use portcullis::clock::Clock;
use portcullis::demo::mint::ClaimsEdit;

use super::reasons::{READER, Reached, issuer, refused};
use crate::support::{Holder, Origin, Proof, Setup, get, send};

pub(super) fn all() -> Vec<Reached> {
    let (issuer, origin) = (issuer(&Clock::system()), Origin::start());
    let gateway = Setup::new(&issuer, origin.address())
        .issuers(format!(
            "{{ keycloak: {{ issuer: '{}', audience: [eazybank-gateway], dpop: require }} }}",
            issuer.url()
        ))
        .start();
    let (holder, thief) = (Holder::new(), Holder::new());
    let token = issuer.mint(ClaimsEdit::of(READER, &[]).bound_to(holder.thumbprint()));
    let good = || proof(&holder, &token);
    let ask = |field: &str| {
        let fields = format!("Authorization: DPoP {token}\r\n{field}");
        send(gateway.address(), "GET", "/accounts", &fields, "").status
    };
    let shown = |proof: &Proof<'_>| ask(&format!("DPoP: {}\r\n", proof.seal()));
    let seen = good();
    assert_eq!(shown(&seen), 200);
    let plain = issuer.token(READER, &[]);
    let mut reached = vec![
        refused(
            &gateway,
            "a token without a key where one is required",
            || get(gateway.address(), "/accounts", Some(&plain)).status,
        ),
        refused(&gateway, "a token with a key, as Bearer", || {
            get(gateway.address(), "/accounts", Some(&token)).status
        }),
        refused(&gateway, "a token with a key, without a proof", || ask("")),
    ];
    let foreign = proof(&thief, &token);
    let forged = proof(&thief, &token).header("jwk", holder.jwk());
    for (how, proof) in [
        (
            "a proof that says it is a token",
            good().header("typ", "JWT"),
        ),
        (
            "a proof with a symmetric algorithm",
            good().header("alg", "HS256"),
        ),
        ("a proof of another key", foreign),
        ("a proof that another key has signed", forged),
        ("a proof for another method", good().with("htm", "POST")),
        (
            "a proof for another target",
            good().with("htu", "http://gateway.test/"),
        ),
        ("a proof for another token", good().of(&plain)),
        ("a proof that came before", seen),
        ("a proof of long ago", good().at(1)),
        (
            "a proof with a nonce that nobody gave",
            good().with("nonce", "x"),
        ),
    ] {
        reached.push(refused(&gateway, how, || shown(&proof)));
    }
    assert_eq!(origin.received().len(), 1);
    reached
}

fn proof<'a>(holder: &'a Holder, token: &str) -> Proof<'a> {
    let url = "http://gateway.test/accounts";
    holder.proof("GET", url).of(token)
}
