//! Signatures that were not made for this token, or that say the same in another way.

use super::mint::{Signer, b64, keycloak_claims};
use super::tokens::{good, refused, with_header};
use super::{ISSUER, NOW, Rig, issuer};
use crate::config::plan::Algorithm;
use crate::credential::BearerToken;
use crate::verify::Wanted;
use crate::verify::{Fault, Refusal};

#[tokio::test]
async fn a_signature_that_was_not_made_for_this_token_is_refused() {
    let rig = Rig::usual().await;
    let token = good();
    let (input, signature) = token.rsplit_once('.').expect("three segments");
    let other = with_header(r#"{"alg":"RS256","kid":"k1","typ":"at+jwt"}"#);
    let foreign = other.rsplit_once('.').expect("three segments").1;
    for (what, signature) in [
        ("stripped", ""),
        ("transplanted", foreign),
        ("short", &signature[..signature.len() - 4]),
        ("long", &format!("{signature}AAAA")),
        ("zeros", &b64([0; 256])),
        ("ones", &b64([255; 256])),
    ] {
        refused(
            &rig,
            what,
            &format!("{input}.{signature}"),
            Refusal::Signature,
        )
        .await;
    }
    for (what, signature) in [
        ("padded", format!("{signature}==")),
        // Not by replacing: one signature in fifty thousand has neither `-` nor `_`.
        ("standard alphabet", format!("+{}", &signature[1..])),
        ("tilde", format!("{}~", &signature[..signature.len() - 1])),
    ] {
        let got = rig.prove(&format!("{input}.{signature}")).await;
        assert!(
            matches!(
                got,
                Err(Fault::Refused(Refusal::Malformed | Refusal::Signature))
            ),
            "{what}"
        );
    }
}

#[tokio::test]
async fn an_ecdsa_signature_is_two_numbers_of_full_length_and_in_range() {
    let signer = Signer::p256();
    let mut plan = issuer();
    plan.algorithms = vec![Algorithm::ES256];
    let rig = Rig::new(vec![(plan, vec![signer.jwk("e")])]).await;
    let token = signer.token("ES256", "e", &keycloak_claims(ISSUER, NOW));
    assert!(rig.prove(&token).await.is_ok());
    let input = token.rsplit_once('.').expect("three segments").0;
    let n = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc,
        0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let (zero, one) = ([0; 32], [1; 32]);
    for (r, s) in [
        (zero, zero),
        (zero, one),
        (one, zero),
        (n, n),
        (n, one),
        (one, n),
        (n, zero),
    ] {
        let signature = b64([r, s].concat());
        refused(
            &rig,
            "range",
            &format!("{input}.{signature}"),
            Refusal::Signature,
        )
        .await;
    }
    // DER, the other way to write it.
    let der = [&[0x30, 0x44, 2, 0x20], &one[..], &[2, 0x20], &one[..]].concat();
    refused(
        &rig,
        "DER",
        &format!("{input}.{}", b64(der)),
        Refusal::Signature,
    )
    .await;
}

#[tokio::test]
async fn an_ed25519_signature_with_a_shifted_scalar_is_refused() {
    let signer = Signer::ed25519();
    let mut plan = issuer();
    plan.algorithms = vec![Algorithm::EdDSA];
    let rig = Rig::new(vec![(plan, vec![signer.jwk("e")])]).await;
    let token = signer.token("EdDSA", "e", &keycloak_claims(ISSUER, NOW));
    assert!(rig.prove(&token).await.is_ok());
    let (input, signature) = token.rsplit_once('.').expect("three segments");
    let mut shifted = crate::verify::jws::decode(signature).expect("a signature");
    // S + L, RFC 8032 section 5.1.7: the same point, another spelling.
    let order = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut carry = 0u16;
    for (byte, add) in shifted[32..].iter_mut().zip(order) {
        carry += u16::from(*byte) + add;
        *byte = carry.to_le_bytes()[0];
        carry >>= 8;
    }
    refused(
        &rig,
        "S + L",
        &format!("{input}.{}", b64(shifted)),
        Refusal::Signature,
    )
    .await;
}

/// Every character of a good token is replaced; nothing that differs is ever accepted.
#[tokio::test]
async fn no_character_of_a_token_can_be_changed() {
    let rig = Rig::usual().await;
    let token = good();
    assert!(rig.prove(&token).await.is_ok());
    for at in 0..token.len() {
        for replacement in ["A", "z", "0", "-", "_", ".", "="] {
            if &token[at..=at] == replacement {
                continue;
            }
            let mutant = format!("{}{replacement}{}", &token[..at], &token[at + 1..]);
            let got = rig
                .verifier
                .prove(BearerToken::unchecked(&mutant), Wanted::default())
                .await
                .outcome;
            assert!(
                matches!(got, Err(Fault::Refused(_))),
                "{replacement} at {at}"
            );
        }
        let cut = format!("{}{}", &token[..at], &token[at + 1..]);
        assert!(rig.prove(&cut).await.is_err(), "without {at}");
    }
}
