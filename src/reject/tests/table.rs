//! The closed list: every variant, and what it is answered with.

use super::*;

#[test]
fn a_label_is_the_variants_name_in_snake_case() {
    let mut seen = HashSet::new();
    for (index, rejection) in Rejection::ALL.iter().enumerate() {
        let mut snake = String::new();
        for (at, c) in format!("{rejection:?}").char_indices() {
            if c.is_ascii_uppercase() && at > 0 {
                snake.push('_');
            }
            snake.push(c.to_ascii_lowercase());
        }
        assert_eq!(rejection.label(), snake);
        assert!(seen.insert(rejection.label()), "{snake} twice");
        assert_eq!(rejection.index(), index, "{snake}");
    }
}

/// The contract's table in section 4, row by row; every variant stands in exactly one.
const TABLE: &[(u16, Challenge, &[Rejection])] = {
    use Challenge::{
        Bare, InsufficientScope, InvalidProof, InvalidRequest, InvalidToken, None as Silent,
        UseNonce,
    };
    use Rejection::*;
    &[
        (
            400,
            Silent,
            &[
                AmbiguousTarget,
                DoubtfulHost,
                AmbiguousFraming,
                MalformedRequest,
            ],
        ),
        (401, Bare, &[MissingCredential]),
        (
            400,
            InvalidRequest,
            &[SeveralCredentials, MalformedCredential, OversizedToken],
        ),
        (
            401,
            InvalidToken,
            &[
                MalformedToken,
                OpaqueToken,
                WrongAlgorithm,
                CriticalHeader,
                WrongHeaderType,
                UnknownKey,
                BadSignature,
                WrongIssuer,
                WrongAudience,
                Expired,
                NotYetValid,
                BadClaims,
                WrongKind,
                Unmarked,
                SenderConstrained,
                Unbound,
                Inactive,
                Revoked,
            ],
        ),
        (
            401,
            InvalidProof,
            &[
                DpopMissing,
                DpopMalformed,
                DpopKey,
                DpopSignature,
                DpopMethod,
                DpopTarget,
                DpopToken,
                DpopHolder,
                DpopReplayed,
            ],
        ),
        (401, UseNonce, &[DpopTime, DpopNonce]),
        (
            403,
            InsufficientScope,
            &[
                IssuerNotAllowed,
                ClientNotAllowed,
                MissingScope,
                MissingRole,
            ],
        ),
        (
            503,
            Silent,
            &[
                KeysUnavailable,
                KeysStale,
                KeyFetchFailed,
                IntrospectionFailed,
                IntrospectionBusy,
                IntrospectionOpen,
                DpopBusy,
            ],
        ),
        (404, Silent, &[NoRoute]),
        (405, Silent, &[MethodNotAllowed]),
        (408, Silent, &[HeaderTimeout, BodyTooSlow]),
        (431, Silent, &[HeaderTooLarge]),
        (413, Silent, &[BodyTooLarge]),
        (429, Silent, &[TooManyRequests]),
        (
            503,
            Silent,
            &[UpstreamBusy, UpstreamOpen, Rejection::NoPeer],
        ),
        (502, Silent, &[UpstreamConnect, UpstreamFailed]),
        (504, Silent, &[UpstreamTimeout]),
        (505, Silent, &[HttpVersion]),
        (500, Silent, &[NoPermit, Internal]),
    ]
};

#[test]
fn every_rejection_has_the_contracts_status_and_challenge() {
    let mut seen = HashSet::new();
    for (status, challenge, rejections) in TABLE {
        for rejection in *rejections {
            let answer = rejection.answer();
            assert_eq!(
                (answer.status, answer.challenge),
                (*status, *challenge),
                "{rejection:?}"
            );
            assert!(seen.insert(*rejection), "{rejection:?} twice");
        }
    }
    for rejection in Rejection::ALL {
        assert!(seen.contains(rejection), "{rejection:?} is in no row");
    }
}

#[test]
fn what_may_pass_says_when_to_try_again() {
    for rejection in Rejection::ALL {
        let answer = rejection.answer();
        assert_eq!(
            answer.retry_after.is_some(),
            matches!(answer.status, 429 | 503),
            "{rejection:?}"
        );
        assert_ne!(answer.retry_after, Some(0), "{rejection:?}");
    }
}

#[test]
fn a_refused_token_is_told_expired_or_not_valid_here() {
    for rejection in Rejection::ALL {
        let answer = rejection.answer();
        if answer.challenge == Challenge::InvalidToken {
            let expected = match rejection {
                Rejection::Expired => "The access token has expired.",
                _ => "The access token is not valid here.",
            };
            assert_eq!(answer.detail, expected, "{rejection:?}");
        }
    }
    let details = |of: &[Rejection]| of.iter().map(|r| r.answer().detail).collect::<HashSet<_>>();
    for (status, challenge, rejections) in TABLE {
        // Which right is missing, or why a token could not be judged, is ours to know.
        if matches!(challenge, Challenge::InsufficientScope) || *status == 503 {
            assert_eq!(details(rejections).len(), 1, "{rejections:?}");
        }
    }
}

#[test]
fn a_text_fits_a_quoted_string_and_a_person() {
    for rejection in Rejection::ALL {
        let detail = rejection.answer().detail;
        assert!(detail.ends_with('.') && detail.len() < 80, "{detail}");
        let quotable = |b: u8| (0x20..=0x7e).contains(&b) && b != b'"' && b != b'\\';
        assert!(detail.bytes().all(quotable), "{detail}");
    }
}

#[test]
fn every_fault_becomes_its_own_rejection() {
    let refusals = [
        Refusal::Malformed,
        Refusal::Opaque,
        Refusal::Algorithm,
        Refusal::Critical,
        Refusal::HeaderType,
        Refusal::UnknownKey,
        Refusal::Signature,
        Refusal::Issuer,
        Refusal::Audience,
        Refusal::Expired,
        Refusal::Claims,
        Refusal::NotYetValid,
        Refusal::Kind,
        Refusal::Unmarked,
        Refusal::SenderConstrained,
        Refusal::Unbound,
        Refusal::Inactive,
        Refusal::Revoked,
        Refusal::Proof(ProofFlaw::Malformed),
        Refusal::Proof(ProofFlaw::Key),
        Refusal::Proof(ProofFlaw::Signature),
        Refusal::Proof(ProofFlaw::Method),
        Refusal::Proof(ProofFlaw::Target),
        Refusal::Proof(ProofFlaw::Time),
        Refusal::Proof(ProofFlaw::Token),
        Refusal::Proof(ProofFlaw::Holder),
        Refusal::Proof(ProofFlaw::Nonce),
        Refusal::Proof(ProofFlaw::Replayed),
    ];
    let mut seen = HashSet::new();
    for refusal in refusals {
        let rejection = Rejection::from(Fault::from(refusal));
        assert_eq!(rejection.answer().status, 401, "{refusal:?}");
        assert!(seen.insert(rejection), "{refusal:?}");
    }
    for unjudged in [
        Unjudged::NoKeys,
        Unjudged::KeysStale,
        Unjudged::KeyFetchFailed,
        Unjudged::IntrospectionFailed,
        Unjudged::IntrospectionBusy,
        Unjudged::IntrospectionOpen,
        Unjudged::ProofsFull,
    ] {
        let rejection = Rejection::from(Fault::from(unjudged));
        assert_eq!(rejection.answer().status, 503, "{unjudged:?}");
        assert!(seen.insert(rejection), "{unjudged:?}");
    }
    for denial in [Denial::Issuer, Denial::Client, Denial::Scope, Denial::Role] {
        let rejection = Rejection::from(denial);
        assert_eq!(rejection.answer().status, 403, "{denial:?}");
        assert!(seen.insert(rejection), "{denial:?}");
    }
    for (fault, status) in [
        (CredentialFault::Missing, 401),
        (CredentialFault::Several, 400),
        (CredentialFault::Malformed, 400),
        (CredentialFault::Oversized, 400),
        (CredentialFault::NoProof, 401),
    ] {
        let rejection = Rejection::from(fault);
        assert_eq!(rejection.answer().status, status, "{fault:?}");
        assert!(seen.insert(rejection), "{fault:?}");
    }
    // A field that cannot be a proof, and one that is none.
    let bad = Rejection::from(CredentialFault::BadProof);
    assert_eq!(bad, Rejection::DpopMalformed);
    for none in [
        NoPeer::Busy,
        NoPeer::Open { retry_after: 7 },
        NoPeer::Exhausted,
    ] {
        let rejection = Rejection::from(none);
        assert_eq!(rejection.answer().status, 503, "{none:?}");
        assert!(seen.insert(rejection), "{none:?}");
    }
}
