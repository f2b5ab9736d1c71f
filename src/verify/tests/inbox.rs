//! Pushes and logouts: what is heard, and everything that is not.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::mint::{Signer, b64, keycloak_claims, rsa2048};
use super::{ISSUER, NOW, Rig, issuer};
use crate::config::plan::{
    AskWhen, ClientAuth, EndpointFrom, IntrospectionPlan, IssuerId, IssuerPlan,
};
use crate::config::secret::Secret;
use crate::credential::BearerToken;
use crate::verify::revoked::{Kind, Origin};
use crate::verify::{Fault, Flaw, Refusal, Unheard, Unjudged, Wanted};

const ONE: IssuerId = IssuerId(0);

/// An issuer that pushes to us and whose logouts we hear.
fn telling() -> IssuerPlan {
    IssuerPlan {
        logout_clients: vec!["shop".to_owned(), "web".to_owned()],
        introspection: Some(IntrospectionPlan {
            endpoint: EndpointFrom::Url("http://127.0.0.1:1/introspect".to_owned()),
            client_id: "eazybank-gateway".to_owned(),
            auth: ClientAuth::Basic(Secret::from_value("secret")),
            when: AskWhen::default(),
            timeout: Duration::from_secs(2),
            max_in_flight: 1,
            ttl: Duration::from_secs(1),
            negative_ttl: Duration::from_secs(1),
            max_bytes: 1 << 20,
            failures: 5,
            open: Duration::from_secs(5),
        }),
        ..issuer()
    }
}

async fn rig() -> Rig {
    Rig::new(vec![(telling(), vec![rsa2048().jwk("k1")])]).await
}

/// What Keycloak sends.
fn push() -> Value {
    json!({
        "id": "8f1c9a52-3f0e-4a3b-bb0b-4e7c1f6f2a11",
        "expiration": NOW + 30,
        "resource": "eazybank-gateway",
        "action": "PUSH_NOT_BEFORE",
        "notBefore": NOW,
    })
}

fn logout() -> Value {
    json!({
        "iat": NOW,
        "exp": NOW + 120,
        "jti": "3a4f2b1c",
        "iss": ISSUER,
        "aud": "web",
        "sub": "alice",
        "typ": "Logout",
        "sid": "c2Vzc2lvbi1vZi1hbGljZSEh",
        "events": { "http://schemas.openid.net/event/backchannel-logout": {} },
    })
}

fn with(claims: Value, name: &str, value: Value) -> Value {
    let mut claims = claims;
    match value {
        Value::Null => drop(claims.as_object_mut().expect("a map").remove(name)),
        value => claims[name] = value,
    }
    claims
}

/// With a header `typ`, unless that is empty.
fn sealed(typ: &str, claims: &Value) -> String {
    let typ = match typ {
        "" => String::new(),
        typ => format!(r#","typ" : "{typ}""#),
    };
    let header = format!(r#"{{"alg":"RS256"{typ},"kid" : "k1"}}"#);
    rsa2048().seal("RS256", &header, claims.to_string().as_bytes())
}

fn refused(flaw: Flaw) -> Result<(), Unheard> {
    Err(Unheard::Refused(flaw))
}

fn unsigned(refusal: Refusal) -> Result<(), Unheard> {
    refused(Flaw::Unsigned(refusal))
}

#[tokio::test]
async fn a_push_raises_not_before_and_never_lowers_it() {
    let rig = rig().await;
    let verifier = &rig.verifier;
    let token = rsa2048().token("RS256", "k1", &keycloak_claims(ISSUER, NOW - 10));
    rig.prove(&token).await.expect("a good token");
    assert_eq!(
        verifier.push_not_before(ONE, &sealed("JWT", &push())).await,
        Ok(())
    );
    assert_eq!(
        rig.prove(&token).await,
        Err(Fault::Refused(Refusal::Revoked))
    );
    let held = verifier.not_before(ONE);
    assert_eq!((held.not_before.pushed, held.followed), (NOW, false));

    let lower = with(with(push(), "id", json!("another")), "notBefore", json!(0));
    assert_eq!(
        verifier.push_not_before(ONE, &sealed("", &lower)).await,
        Ok(())
    );
    assert_eq!(verifier.not_before(ONE).not_before.pushed, NOW);
}

#[tokio::test]
async fn a_push_counts_once_and_in_its_time() {
    let rig = rig().await;
    let message = sealed("JWT", &push());
    let heard = || rig.verifier.push_not_before(ONE, &message);
    assert_eq!(heard().await, Ok(()));
    assert_eq!(heard().await, refused(Flaw::Replayed));
    // With the leeway it is over five seconds later than it says.
    rig.clock.advance(Duration::from_secs(34));
    assert_eq!(heard().await, refused(Flaw::Replayed));
    rig.clock.advance(Duration::from_secs(1));
    assert_eq!(heard().await, refused(Flaw::Time));
}

#[tokio::test]
async fn nothing_else_is_a_push() {
    let rig = rig().await;
    let verifier = &rig.verifier;
    for (name, value, flaw) in [
        ("action", json!("LOGOUT"), Flaw::Member("action")),
        ("action", Value::Null, Flaw::Member("action")),
        ("action", json!(["PUSH_NOT_BEFORE"]), Flaw::Member("action")),
        ("resource", json!("eazybank-web"), Flaw::Member("resource")),
        (
            "resource",
            json!(["eazybank-gateway"]),
            Flaw::Member("resource"),
        ),
        ("resource", Value::Null, Flaw::Member("resource")),
        ("id", Value::Null, Flaw::Member("id")),
        ("id", json!(""), Flaw::Member("id")),
        ("id", json!(1), Flaw::Member("id")),
        ("id", json!("x".repeat(513)), Flaw::Member("id")),
        ("notBefore", Value::Null, Flaw::Member("notBefore")),
        ("notBefore", json!(-1), Flaw::Member("notBefore")),
        ("notBefore", json!("1"), Flaw::Member("notBefore")),
        ("expiration", Value::Null, Flaw::Member("expiration")),
        ("expiration", json!("2026"), Flaw::Member("expiration")),
        ("expiration", json!(NOW - 5), Flaw::Time),
        ("expiration", json!(NOW + 3606), Flaw::TooLong),
        // A token whose mappers write the members of an action is still a token.
        ("iss", json!(ISSUER), Flaw::Foreign("iss")),
        ("typ", json!("Bearer"), Flaw::Foreign("typ")),
    ] {
        let message = sealed("JWT", &with(push(), name, value.clone()));
        let heard = verifier.push_not_before(ONE, &message).await;
        assert_eq!(heard, refused(flaw), "{name} {value}");
    }
    for typ in ["logout+jwt", "at+jwt"] {
        let heard = verifier.push_not_before(ONE, &sealed(typ, &push())).await;
        assert_eq!(heard, refused(Flaw::Type));
    }
    let good = sealed("JWT", &push());
    let (signed, _) = good.rsplit_once('.').expect("a signature");
    let other = Signer::rsa(2048);
    for (message, refusal) in [
        (String::new(), Refusal::Opaque),
        (format!("{good}\n"), Refusal::Malformed),
        (format!("{signed}."), Refusal::Signature),
        (other.token("RS256", "k1", &push()), Refusal::Signature),
        (other.token("RS256", "k2", &push()), Refusal::UnknownKey),
        (other.token("RS384", "k1", &push()), Refusal::Algorithm),
        (
            format!("{}.{}.", b64(r#"{"alg":"none"}"#), b64(push().to_string())),
            Refusal::Algorithm,
        ),
        (
            rsa2048().seal("RS256", r#"{"alg":"RS256"}"#, push().to_string().as_bytes()),
            Refusal::UnknownKey,
        ),
        (
            rsa2048().seal("RS256", r#"{"alg":"RS256","kid":"k1"}"#, b"[]"),
            Refusal::Malformed,
        ),
        (
            rsa2048().seal(
                "RS256",
                r#"{"alg":"RS256","kid":"k1"}"#,
                br#"{"id":"a","id":"b"}"#,
            ),
            Refusal::Malformed,
        ),
    ] {
        let heard = verifier.push_not_before(ONE, &message).await;
        // A signature of the wrong length need not be decoded.
        let either = [unsigned(refusal), unsigned(Refusal::Signature)];
        assert!(either.contains(&heard), "{message}: {heard:?}");
    }
    assert_eq!(verifier.not_before(ONE).not_before.pushed, 0);
    assert_eq!(verifier.push_not_before(ONE, &good).await, Ok(()));
}

#[tokio::test]
async fn who_is_not_told_of_a_client_hears_nothing() {
    let rig = Rig::usual().await;
    let off = |outcome| assert!(matches!(outcome, Err(Unheard::Off(_))), "{outcome:?}");
    off(rig
        .verifier
        .push_not_before(ONE, &sealed("JWT", &push()))
        .await);
    off(rig
        .verifier
        .log_out(ONE, &sealed("logout+jwt", &logout()))
        .await);
}

#[tokio::test]
async fn without_keys_nothing_is_judged() {
    let rig = Rig::new(vec![(telling(), vec![rsa2048().jwk("k1")])]).await;
    rig.clock.advance(Duration::from_secs(24 * 3600 + 1));
    let later = NOW + 24 * 3600 + 1;
    let push = with(push(), "expiration", json!(later + 30));
    let stale = Err(Unheard::Unjudged(Unjudged::KeysStale));
    assert_eq!(
        rig.verifier
            .push_not_before(ONE, &sealed("JWT", &push))
            .await,
        stale
    );
}

#[tokio::test]
async fn a_logout_ends_its_session_alone() {
    let rig = rig().await;
    let session = |sid: &str, jti: &str| {
        let mut claims = keycloak_claims(ISSUER, NOW);
        claims["sid"] = json!(sid);
        claims["sub"] = json!("alice");
        claims["jti"] = json!(jti);
        rsa2048().token("RS256", "k1", &claims)
    };
    let sid = "c2Vzc2lvbi1vZi1hbGljZSEh";
    let (ended, other) = (session(sid, "1"), session("another", "2"));
    for token in [&ended, &other] {
        rig.prove(token).await.expect("a good token");
    }
    let message = sealed("logout+jwt", &logout());
    assert_eq!(rig.verifier.log_out(ONE, &message).await, Ok(()));
    let revoked = Err(Fault::Refused(Refusal::Revoked));
    assert_eq!(rig.prove(&ended).await, revoked);
    rig.prove(&other).await.expect("another session");
    // A token that the session still gave after its end.
    assert_eq!(rig.prove(&session(sid, "3")).await, revoked);
    let list = rig.verifier.revocations().list();
    assert_eq!((list[0].kind, list[0].origin), (Kind::Sid, Origin::Logout));
    assert_eq!(list[0].until, NOW + 24 * 3600);
    assert_eq!(
        rig.verifier.log_out(ONE, &message).await,
        refused(Flaw::Replayed)
    );
    // A push of the same name is no replay of it.
    let push = with(push(), "id", json!("3a4f2b1c"));
    let heard = rig
        .verifier
        .push_not_before(ONE, &sealed("JWT", &push))
        .await;
    assert_eq!(heard, Ok(()));
}

#[tokio::test]
async fn a_logout_of_a_user_ends_what_was_issued_before() {
    let rig = rig().await;
    let of = |issued: u64| {
        let mut claims = keycloak_claims(ISSUER, issued);
        claims["sub"] = json!("alice");
        rsa2048().token("RS256", "k1", &claims)
    };
    let all = with(logout(), "sid", Value::Null);
    let heard = rig
        .verifier
        .log_out(ONE, &sealed("application/logout+jwt", &all))
        .await;
    assert_eq!(heard, Ok(()));
    let revoked = Err(Fault::Refused(Refusal::Revoked));
    assert_eq!(rig.prove(&of(NOW)).await, revoked);
    // Who logs in again is welcome.
    rig.prove(&of(NOW + 1)).await.expect("a new session");
}

#[tokio::test]
async fn nothing_else_is_a_logout() {
    let rig = rig().await;
    let event = "http://schemas.openid.net/event/backchannel-logout";
    for (name, value, flaw) in [
        ("iss", json!("https://evil.example"), Flaw::Member("iss")),
        ("iss", json!([ISSUER]), Flaw::Member("iss")),
        ("iss", Value::Null, Flaw::Member("iss")),
        ("aud", json!("other"), Flaw::Member("aud")),
        ("aud", json!([]), Flaw::Member("aud")),
        ("aud", Value::Null, Flaw::Member("aud")),
        ("iat", Value::Null, Flaw::Member("iat")),
        ("iat", json!(NOW + 6), Flaw::Time),
        ("exp", Value::Null, Flaw::Member("exp")),
        ("exp", json!(NOW - 5), Flaw::Time),
        ("exp", json!(NOW + 3606), Flaw::TooLong),
        ("jti", Value::Null, Flaw::Member("jti")),
        ("jti", json!(7), Flaw::Member("jti")),
        ("nonce", json!("n"), Flaw::Foreign("nonce")),
        ("nonce", json!(""), Flaw::Foreign("nonce")),
        ("typ", json!("ID"), Flaw::Member("typ")),
        ("typ", json!("Bearer"), Flaw::Member("typ")),
        ("events", Value::Null, Flaw::Member("events")),
        ("events", json!({}), Flaw::Member("events")),
        ("events", json!([event]), Flaw::Member("events")),
        ("events", json!({ event: true }), Flaw::Member("events")),
        ("events", json!({ event: null }), Flaw::Member("events")),
        ("sid", json!(""), Flaw::Member("sid")),
        ("sid", json!(1), Flaw::Member("sid")),
        ("sub", json!(["alice"]), Flaw::Member("sub")),
    ] {
        let message = sealed("logout+jwt", &with(logout(), name, value.clone()));
        let heard = rig.verifier.log_out(ONE, &message).await;
        assert_eq!(heard, refused(flaw), "{name} {value}");
    }
    let nobody = with(with(logout(), "sid", Value::Null), "sub", Value::Null);
    let heard = rig
        .verifier
        .log_out(ONE, &sealed("logout+jwt", &nobody))
        .await;
    assert_eq!(heard, refused(Flaw::Member("sid")));
    for typ in ["", "JWT", "at+jwt", "jwt+logout"] {
        let heard = rig.verifier.log_out(ONE, &sealed(typ, &logout())).await;
        assert_eq!(heard, refused(Flaw::Type), "{typ}");
    }
    let forged = Signer::rsa(2048).seal(
        "RS256",
        r#"{"alg":"RS256","typ":"logout+jwt","kid":"k1"}"#,
        logout().to_string().as_bytes(),
    );
    let heard = rig.verifier.log_out(ONE, &forged).await;
    assert_eq!(heard, unsigned(Refusal::Signature));
    assert_eq!(rig.verifier.revocations().list(), []);

    // What may be: several audiences, no mark of Keycloak's, something in the event.
    let good = with(logout(), "aud", json!(["other", "shop"]));
    let good = with(
        with(good, "typ", Value::Null),
        "events",
        json!({ event: {"a": 1} }),
    );
    assert_eq!(
        rig.verifier
            .log_out(ONE, &sealed("Logout+JWT", &good))
            .await,
        Ok(())
    );
}

#[tokio::test]
async fn a_logout_that_finds_no_place_may_come_again() {
    let mut plan = super::plan(vec![telling()]);
    plan.revocations.max = 1;
    let rig = Rig::of(plan, vec![vec![rsa2048().jwk("k1")]]).await;
    let message = sealed("logout+jwt", &logout());
    let other = with(with(logout(), "jti", json!("other")), "sid", json!("other"));
    let heard = rig
        .verifier
        .log_out(ONE, &sealed("logout+jwt", &other))
        .await;
    assert_eq!(heard, Ok(()));
    for _ in 0..2 {
        assert_eq!(
            rig.verifier.log_out(ONE, &message).await,
            Err(Unheard::Full)
        );
    }
    let store = rig.verifier.revocations();
    assert_eq!(store.restore(&store.list()[0].id()), Ok(true));
    assert_eq!(rig.verifier.log_out(ONE, &message).await, Ok(()));
}

#[tokio::test]
async fn one_issuers_word_is_not_anothers() {
    let second = IssuerPlan {
        name: "second".into(),
        issuer: "https://sso.example.com/realms/second".to_owned(),
        ..telling()
    };
    let (one, two) = (vec![rsa2048().jwk("k1")], vec![Signer::rsa(2048).jwk("k1")]);
    let rig = Rig::new(vec![(telling(), one), (second, two)]).await;
    let rig = Arc::new(rig);
    let message = sealed("JWT", &push());
    let heard = rig.verifier.push_not_before(IssuerId(1), &message).await;
    assert_eq!(heard, unsigned(Refusal::Signature));
    assert_eq!(rig.verifier.push_not_before(ONE, &message).await, Ok(()));
    assert_eq!(
        rig.verifier.not_before(IssuerId(1)).not_before.in_force(),
        0
    );
    let token = BearerToken::unchecked("x.y.z");
    assert!(
        rig.verifier
            .prove(token, Wanted::default())
            .await
            .outcome
            .is_err()
    );
}
