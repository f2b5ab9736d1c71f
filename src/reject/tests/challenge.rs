//! `WWW-Authenticate`, and what stands beside it.

use super::*;

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
