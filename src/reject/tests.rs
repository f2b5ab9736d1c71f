#![allow(clippy::unwrap_used)]

use std::collections::HashSet;

use http::HeaderValue;
use pingora_proxy::Session;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;
use crate::config::plan::{Access, Policy, RoutePlan, Schemes};
use crate::credential::Scheme;
use crate::testkit::{route, words};

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

#[test]
fn a_body_is_a_problem_document() {
    for rejection in Rejection::ALL {
        let answer = rejection.answer();
        let problem: serde_json::Value = serde_json::from_slice(&body(*rejection, "id-1")).unwrap();
        assert_eq!(
            problem,
            serde_json::json!({
                "type": "about:blank",
                "title": title(answer.status),
                "status": answer.status,
                "detail": answer.detail,
                "request_id": "id-1",
            })
        );
        assert_ne!(title(answer.status), "Error");
        // Nobody gives us such a name, but a body stays JSON.
        for odd in ["", "a\"b", "a\\b", "a\nb", "\u{e9}"] {
            let whole = super::write::problem(answer.status, answer.detail, odd);
            assert_eq!(body(*rejection, odd), whole, "{odd:?}");
        }
    }
}

const NOTHING: Circumstances<'_> = Circumstances {
    route: None,
    scheme: None,
    nonce: None,
    request_id: "id-1",
    allow: None,
    retry_after: None,
    fallback: None,
    grpc: false,
};

/// What a caller that sent `request` reads, and whether the connection lives on.
struct Heard {
    head: String,
    body: String,
    lives: bool,
}

impl Heard {
    fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.head.lines().filter_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        });
        let value = values.next();
        assert_eq!(values.next(), None, "{name} twice");
        value
    }

    fn status(&self) -> &str {
        &self.head[9..12]
    }
}

async fn read_all(mut caller: DuplexStream) -> String {
    let mut heard = String::new();
    caller.read_to_string(&mut heard).await.unwrap();
    heard
}

async fn hear(request: &str, rejection: Rejection, circumstances: Circumstances<'_>) -> Heard {
    let (mut caller, ours) = tokio::io::duplex(1 << 20);
    caller.write_all(request.as_bytes()).await.unwrap();
    let mut session = Session::new_h1(Box::new(ours));
    assert!(session.downstream_session.read_request().await.unwrap());
    write(&mut session, rejection, circumstances).await.unwrap();
    let reused = session.downstream_session.finish().await;
    let lives = reused.is_ok_and(|stream| stream.is_some());
    let heard = read_all(caller).await;
    let (head, body) = heard.split_once("\r\n\r\n").unwrap();
    Heard {
        head: head.to_owned(),
        body: body.to_owned(),
        lives,
    }
}

const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

#[tokio::test]
async fn every_rejection_is_answered_whole() {
    for rejection in Rejection::ALL {
        let heard = hear(GET, *rejection, NOTHING).await;
        let answer = rejection.answer();
        assert_eq!(heard.status(), answer.status.to_string());
        assert_eq!(heard.body.as_bytes(), &body(*rejection, "id-1")[..]);
        let length = heard.body.len().to_string();
        assert_eq!(heard.field("content-length"), Some(length.as_str()));
        assert_eq!(
            heard.field("content-type"),
            Some("application/problem+json")
        );
        assert_eq!(heard.field("cache-control"), Some("no-store"));
        assert_eq!(heard.field("x-request-id"), Some("id-1"));
        assert_eq!(heard.field("allow"), None);
        let seconds = answer.retry_after.map(|seconds| seconds.to_string());
        assert_eq!(heard.field("retry-after"), seconds.as_deref());
        assert_eq!(
            heard.field("www-authenticate").is_some(),
            answer.challenge != Challenge::None,
            "{rejection:?}"
        );
        assert_eq!(heard.field("server"), None);
    }
}

async fn challenge(rejection: Rejection, access: Access) -> Option<String> {
    let route = RoutePlan {
        access,
        ..route("/accounts")
    };
    let circumstances = Circumstances {
        route: Some(&route),
        ..NOTHING
    };
    let heard = hear(GET, rejection, circumstances).await;
    heard.field("www-authenticate").map(str::to_owned)
}

#[tokio::test]
async fn a_challenge_is_exact() {
    let scoped = || {
        Access::Token(Policy {
            scopes: words(&["accounts:read", "accounts:write"]),
            any_scope: words(&["a", "b"]),
            ..Policy::default()
        })
    };
    let unscoped = || {
        Access::Token(Policy {
            realm_roles: words(&["ACCOUNTS"]),
            ..Policy::default()
        })
    };
    for (rejection, access, value) in [
        (
            Rejection::MissingCredential,
            scoped(),
            "Bearer realm=\"portcullis\"",
        ),
        (
            Rejection::SeveralCredentials,
            scoped(),
            "Bearer realm=\"portcullis\", error=\"invalid_request\", \
             error_description=\"The request carries more than one credential.\"",
        ),
        (
            Rejection::Expired,
            scoped(),
            "Bearer realm=\"portcullis\", error=\"invalid_token\", \
             error_description=\"The access token has expired.\"",
        ),
        (
            Rejection::BadSignature,
            scoped(),
            "Bearer realm=\"portcullis\", error=\"invalid_token\", \
             error_description=\"The access token is not valid here.\"",
        ),
        (
            Rejection::MissingScope,
            scoped(),
            "Bearer realm=\"portcullis\", error=\"insufficient_scope\", \
             error_description=\"The access token does not grant this.\", \
             scope=\"accounts:read accounts:write a b\"",
        ),
        (
            Rejection::MissingRole,
            unscoped(),
            "Bearer realm=\"portcullis\", error=\"insufficient_scope\", \
             error_description=\"The access token does not grant this.\"",
        ),
    ] {
        let said = challenge(rejection, access).await;
        assert_eq!(said.as_deref(), Some(value), "{rejection:?}");
    }
    assert_eq!(challenge(Rejection::NoPeer, scoped()).await, None);
}

const ALGS: &str = "algs=\"RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 EdDSA\"";

/// All challenges of a 401, as one list.
async fn challenges(rejection: Rejection, schemes: Schemes, used: Option<Scheme>) -> Vec<String> {
    let route = RoutePlan {
        access: Access::Token(Policy {
            schemes,
            scopes: words(&["accounts:read"]),
            ..Policy::default()
        }),
        ..route("/accounts")
    };
    let circumstances = Circumstances {
        route: Some(&route),
        scheme: used,
        ..NOTHING
    };
    let heard = hear(GET, rejection, circumstances).await;
    let lines = heard.head.lines().filter_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("www-authenticate")
            .then(|| value.to_owned())
    });
    lines.collect()
}

/// RFC 9449 sections 7.1 and 7.2.
#[tokio::test]
async fn both_schemes_are_offered_and_the_one_that_was_used_has_the_error() {
    use Schemes::{Bearer, Both, Dpop};
    let (bearer, dpop) = (Some(Scheme::Bearer), Some(Scheme::Dpop));
    let plain = "Bearer realm=\"portcullis\"".to_owned();
    let with_key = format!("DPoP realm=\"portcullis\", {ALGS}");
    let error = |scheme: &str, error: &str, rejection: Rejection| {
        let detail = rejection.answer().detail;
        format!("{scheme} realm=\"portcullis\", error=\"{error}\", error_description=\"{detail}\"")
    };
    let on_dpop = |name: &str, rejection| format!("{}, {ALGS}", error("DPoP", name, rejection));
    use Rejection::{
        DpopNonce, DpopTarget, Expired, MalformedCredential, MissingCredential, SenderConstrained,
    };
    let token = "invalid_token";
    for (rejection, schemes, used, expected) in [
        (MissingCredential, Bearer, None, vec![plain.clone()]),
        (
            MissingCredential,
            Both,
            None,
            vec![plain.clone(), with_key.clone()],
        ),
        (MissingCredential, Dpop, None, vec![with_key.clone()]),
        (
            Expired,
            Bearer,
            bearer,
            vec![error("Bearer", token, Expired)],
        ),
        (
            SenderConstrained,
            Both,
            bearer,
            vec![error("Bearer", token, SenderConstrained), with_key.clone()],
        ),
        (
            SenderConstrained,
            Dpop,
            bearer,
            vec![error("Bearer", token, SenderConstrained), with_key.clone()],
        ),
        (
            Expired,
            Both,
            dpop,
            vec![on_dpop(token, Expired), plain.clone()],
        ),
        (Expired, Dpop, dpop, vec![on_dpop(token, Expired)]),
        (
            DpopTarget,
            Both,
            dpop,
            vec![on_dpop("invalid_dpop_proof", DpopTarget), plain.clone()],
        ),
        (
            DpopNonce,
            Dpop,
            dpop,
            vec![on_dpop("use_dpop_nonce", DpopNonce)],
        ),
        (
            MalformedCredential,
            Both,
            None,
            vec![error("Bearer", "invalid_request", MalformedCredential)],
        ),
        (
            MalformedCredential,
            Dpop,
            None,
            vec![on_dpop("invalid_request", MalformedCredential)],
        ),
        (
            Rejection::MissingScope,
            Both,
            dpop,
            vec![format!(
                "{}, scope=\"accounts:read\", {ALGS}",
                error("DPoP", "insufficient_scope", Rejection::MissingScope)
            )],
        ),
    ] {
        let said = challenges(rejection, schemes, used).await;
        assert_eq!(said, expected, "{rejection:?} {schemes:?} {used:?}");
    }
}

#[tokio::test]
async fn a_nonce_is_given_where_there_is_one() {
    let nonce = HeaderValue::from_static("eyJ7S_zG");
    let circumstances = Circumstances {
        nonce: Some(&nonce),
        ..NOTHING
    };
    let heard = hear(GET, Rejection::DpopNonce, circumstances).await;
    assert_eq!(heard.field("dpop-nonce"), Some("eyJ7S_zG"));
    assert_eq!(heard.field("cache-control"), Some("no-store"));
    let heard = hear(GET, Rejection::DpopTarget, NOTHING).await;
    assert_eq!(heard.field("dpop-nonce"), None);
}

#[tokio::test]
async fn head_is_answered_like_get_without_a_body() {
    let request = "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n";
    let heard = hear(request, Rejection::MissingCredential, NOTHING).await;
    let get = hear(GET, Rejection::MissingCredential, NOTHING).await;
    assert_eq!((heard.status(), heard.body.as_str()), ("401", ""));
    assert_eq!(heard.field("content-length"), get.field("content-length"));
    assert_eq!(
        heard.field("www-authenticate"),
        get.field("www-authenticate")
    );
    assert!(heard.lives);
}

#[tokio::test]
async fn another_method_is_told_what_is_allowed() {
    let allow = HeaderValue::from_static("GET, HEAD");
    let circumstances = Circumstances {
        allow: Some(&allow),
        ..NOTHING
    };
    let heard = hear(GET, Rejection::MethodNotAllowed, circumstances).await;
    assert_eq!(
        (heard.status(), heard.field("allow")),
        ("405", Some("GET, HEAD"))
    );
}

#[tokio::test]
async fn a_known_wait_replaces_the_usual_one() {
    let circumstances = Circumstances {
        retry_after: Some(42),
        ..NOTHING
    };
    let limited = hear(GET, Rejection::TooManyRequests, circumstances).await;
    assert_eq!(limited.field("retry-after"), Some("42"));
    let refused = hear(GET, Rejection::NoRoute, circumstances).await;
    assert_eq!(refused.field("retry-after"), None);
}

fn post(fields: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: x\r\n{fields}\r\n{body}")
}

#[tokio::test]
async fn a_connection_lives_on_where_its_framing_allows() {
    let large = format!("Content-Length: {}\r\n", 64 * 1024 + 1);
    for (request, lives) in [
        (GET.to_owned(), true),
        (post("", ""), true),
        (post("Content-Length: 0\r\n", ""), true),
        (post("Content-Length: 5\r\n", "hello"), true),
        (
            post("Content-Length: 5\r\nConnection: close\r\n", "hello"),
            false,
        ),
        (
            post("Content-Length: 5\r\nExpect: 100-continue\r\n", ""),
            false,
        ),
        (post(&large, "hello"), false),
        ("GET / HTTP/1.0\r\nHost: x\r\n\r\n".to_owned(), false),
    ] {
        let heard = hear(&request, Rejection::MissingCredential, NOTHING).await;
        assert_eq!(heard.lives, lives, "{request:?}");
        let said = heard.field("connection");
        assert_eq!(said, Some(if lives { "keep-alive" } else { "close" }));
    }
}

/// What follows a body of doubtful length may be part of it.
#[tokio::test]
async fn a_connection_ends_where_its_framing_is_doubtful() {
    for fields in [
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5, 5\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
    ] {
        for rejection in [Rejection::AmbiguousFraming, Rejection::AmbiguousTarget] {
            let heard = hear(&post(fields, "hello"), rejection, NOTHING).await;
            assert_eq!(heard.field("connection"), Some("close"), "{fields:?}");
            assert!(!heard.lives, "{fields:?}");
        }
    }
    let empty_twice = post("Content-Length: 0\r\nContent-Length: 0\r\n", "");
    let heard = hear(&empty_twice, Rejection::AmbiguousFraming, NOTHING).await;
    assert_eq!(heard.field("connection"), Some("close"));
}
