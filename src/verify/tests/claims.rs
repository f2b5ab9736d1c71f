//! What a payload may say: each claim missing, of the wrong type, at its edges, or someone else's.

use serde_json::{Value, json};

use super::mint::{keycloak_claims, rsa2048};
use super::{ISSUER, NOW, Rig, issuer};
use crate::config::plan::Unmarked;
use crate::credential::BearerToken;
use crate::verify::Wanted;
use crate::verify::{Fault, Refusal};

const HEADER: &str = r#"{"alg":"RS256","kid":"k1","typ":"JWT"}"#;

async fn verdict(rig: &Rig, claims: &Value) -> Option<Refusal> {
    let token = rsa2048().token("RS256", "k1", claims);
    refusal(rig.prove(&token).await.err())
}

async fn raw(rig: &Rig, payload: impl AsRef<[u8]>) -> Option<Refusal> {
    let token = rsa2048().seal("RS256", HEADER, payload.as_ref());
    refusal(rig.prove(&token).await.err())
}

fn refusal(fault: Option<Fault>) -> Option<Refusal> {
    fault.map(|fault| match fault {
        Fault::Refused(refusal) => refusal,
        Fault::Unjudged(unjudged) => panic!("{unjudged:?}"),
    })
}

/// The good claims with one changed.
fn with(name: &str, value: Value) -> Value {
    let mut claims = keycloak_claims(ISSUER, NOW);
    claims[name] = value;
    claims
}

fn without(names: &[&str]) -> Value {
    let mut claims = keycloak_claims(ISSUER, NOW);
    for name in names {
        claims.as_object_mut().expect("claims").remove(*name);
    }
    claims
}

/// The good claims as text with `"exp":…` replaced, for numbers that a `Value` cannot hold.
fn with_exp_text(text: &str) -> String {
    let good = keycloak_claims(ISSUER, NOW).to_string();
    good.replace(
        &format!("\"exp\":{}", NOW + 300),
        &format!("\"exp\":{text}"),
    )
}

#[tokio::test]
async fn the_issuer_is_one_string_byte_for_byte() {
    let rig = Rig::usual().await;
    for iss in [
        json!(format!("{ISSUER}/")),
        json!(ISSUER.to_uppercase()),
        json!(&ISSUER[..ISSUER.len() - 1]),
        json!(format!("{ISSUER}2")),
        json!("https://sso.example.com/realms/master"),
        json!([ISSUER]),
        json!({ISSUER: 1}),
        json!(null),
        json!(1),
        json!(""),
    ] {
        let got = verdict(&rig, &with("iss", iss.clone())).await;
        assert_eq!(got, Some(Refusal::Issuer), "{iss}");
    }
    assert_eq!(
        verdict(&rig, &without(&["iss"])).await,
        Some(Refusal::Issuer)
    );
    // Not ours: no issuer is blamed for it.
    let token = rsa2048().token("RS256", "k1", &with("iss", json!("https://evil.example")));
    let verdict = rig
        .verifier
        .prove(BearerToken::unchecked(&token), Wanted::default())
        .await;
    assert_eq!(verdict.issuer, None);
}

#[tokio::test]
async fn an_issuers_key_proves_nothing_about_another_issuer() {
    let mut other = issuer();
    other.name = "other".into();
    other.issuer = "https://other.example".to_owned();
    let (ours, theirs) = (rsa2048().jwk("k1"), super::mint::Signer::rsa(2048));
    let rig = Rig::new(vec![
        (issuer(), vec![ours]),
        (other, vec![theirs.jwk("k1")]),
    ])
    .await;
    let claims = keycloak_claims(ISSUER, NOW);
    let forged = theirs.token("RS256", "k1", &claims);
    assert_eq!(
        rig.prove(&forged).await.err(),
        Some(Refusal::Signature.into())
    );
    let good = theirs.token("RS256", "k1", &with("iss", json!("https://other.example")));
    assert_eq!(
        &*rig.prove(&good).await.expect("good").grants.issuer_name,
        "other"
    );
}

#[tokio::test]
async fn the_audience_must_name_us() {
    let rig = Rig::usual().await;
    for aud in [json!("eazybank-gateway"), json!(["x", "eazybank-gateway"])] {
        assert_eq!(
            verdict(&rig, &with("aud", aud.clone())).await,
            None,
            "{aud}"
        );
    }
    for aud in [
        json!("account"),
        json!("eazybank-gateway2"),
        json!("eazybank"),
        json!("EAZYBANK-GATEWAY"),
        json!("*"),
        json!(""),
        json!([]),
        json!(["account"]),
        json!("x eazybank-gateway"),
    ] {
        let got = verdict(&rig, &with("aud", aud.clone())).await;
        assert_eq!(got, Some(Refusal::Audience), "{aud}");
    }
    for aud in [
        json!(null),
        json!(1),
        json!({"eazybank-gateway": 1}),
        json!(["eazybank-gateway", 1]),
        json!([["eazybank-gateway"]]),
    ] {
        let got = verdict(&rig, &with("aud", aud.clone())).await;
        assert_eq!(got, Some(Refusal::Claims), "{aud}");
    }
    // A lightweight token, keycloak.md 1.6.
    let light = without(&["aud", "sub", "realm_access", "resource_access", "acr"]);
    assert_eq!(verdict(&rig, &light).await, Some(Refusal::Audience));
    let azp = without(&["aud"]);
    let azp = match azp {
        Value::Object(mut map) => {
            map.insert("azp".to_owned(), json!("eazybank-gateway"));
            Value::Object(map)
        }
        other => other,
    };
    assert_eq!(verdict(&rig, &azp).await, Some(Refusal::Audience));
}

#[tokio::test]
async fn expiry_is_a_number_that_lies_ahead() {
    let rig = Rig::usual().await;
    assert_eq!(
        verdict(&rig, &without(&["exp"])).await,
        Some(Refusal::Claims)
    );
    for text in [
        "null",
        "\"1890000000\"",
        "true",
        "[1890000000]",
        "{}",
        "-1",
        "-1e300",
    ] {
        let got = raw(&rig, with_exp_text(text)).await;
        assert_eq!(got, Some(Refusal::Claims), "{text}");
    }
    for text in [
        "1e999",
        "NaN",
        "Infinity",
        "0x7fffffff",
        "01890000000",
        "+1",
        "1.",
    ] {
        let got = raw(&rig, with_exp_text(text)).await;
        assert_eq!(got, Some(Refusal::Malformed), "{text}");
    }
    for text in ["0", "0.5", "1", "-0", "-0.0", "1789999994.9", "1e-300"] {
        let got = raw(&rig, with_exp_text(text)).await;
        assert_eq!(got, Some(Refusal::Expired), "{text}");
    }
    for text in [
        "1890000000.5",
        "1.89e9",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "1e300",
    ] {
        assert_eq!(raw(&rig, with_exp_text(text)).await, None, "{text}");
    }
}

#[tokio::test]
async fn the_leeway_is_given_on_both_sides_and_ends_on_the_second() {
    let rig = Rig::usual().await;
    // Leeway 5 s: expired from `exp` + 5 on, valid from `nbf` - 5 on.
    for (exp, wanted) in [
        (NOW - 4, None),
        (NOW - 5, Some(Refusal::Expired)),
        (NOW - 6, Some(Refusal::Expired)),
    ] {
        assert_eq!(
            verdict(&rig, &with("exp", json!(exp))).await,
            wanted,
            "{exp}"
        );
    }
    for (nbf, wanted) in [
        (json!(NOW + 5), None),
        (json!(NOW + 6), Some(Refusal::NotYetValid)),
        (json!(NOW as f64 + 5.5), Some(Refusal::NotYetValid)),
        (json!(u64::MAX), Some(Refusal::NotYetValid)),
        (json!(1e300), Some(Refusal::NotYetValid)),
        (json!(0), None),
    ] {
        assert_eq!(
            verdict(&rig, &with("nbf", nbf.clone())).await,
            wanted,
            "{nbf}"
        );
    }
    for nbf in [json!(null), json!("1"), json!(true), json!([1]), json!(-1)] {
        let got = verdict(&rig, &with("nbf", nbf.clone())).await;
        assert_eq!(got, Some(Refusal::Claims), "{nbf}");
    }
}

#[tokio::test]
async fn a_good_token_expires_while_we_watch() {
    let rig = Rig::usual().await;
    let claims = keycloak_claims(ISSUER, NOW);
    rig.clock.advance(std::time::Duration::from_secs(304));
    assert_eq!(verdict(&rig, &claims).await, None);
    rig.clock.advance(std::time::Duration::from_secs(1));
    assert_eq!(verdict(&rig, &claims).await, Some(Refusal::Expired));
}

#[tokio::test]
async fn a_registered_claim_of_the_wrong_type_refuses_the_token() {
    let rig = Rig::usual().await;
    for name in ["sub", "azp", "client_id", "scope", "jti", "typ"] {
        for value in [
            json!(null),
            json!(1),
            json!(["Bearer"]),
            json!({"a": 1}),
            json!(true),
        ] {
            let got = verdict(&rig, &with(name, value.clone())).await;
            assert_eq!(got, Some(Refusal::Claims), "{name} {value}");
        }
    }
    for iat in [json!(null), json!("1"), json!(true), json!([])] {
        let got = verdict(&rig, &with("iat", iat.clone())).await;
        assert_eq!(got, Some(Refusal::Claims), "iat {iat}");
    }
}

#[tokio::test]
async fn only_an_access_token_is_an_access_token() {
    let rig = Rig::usual().await;
    let kinds = [
        "ID",
        "Refresh",
        "Offline",
        "Logout",
        "DPoP",
        "Serialized-ID",
        "bearer",
        "BEARER",
        "Bearer ",
        "",
    ];
    for typ in kinds {
        let got = verdict(&rig, &with("typ", json!(typ))).await;
        assert_eq!(got, Some(Refusal::Kind), "{typ}");
    }
    let unmarked = without(&["typ"]);
    assert_eq!(verdict(&rig, &unmarked).await, Some(Refusal::Unmarked));
    let marked = r#"{"alg":"RS256","kid":"k1","typ":"application/AT+JWT"}"#;
    let token = rsa2048().seal("RS256", marked, unmarked.to_string().as_bytes());
    assert!(rig.prove(&token).await.is_ok());
    // A payload that says ID is an ID token, whatever its header says.
    let id = with("typ", json!("ID")).to_string();
    let token = rsa2048().seal("RS256", marked, id.as_bytes());
    assert_eq!(rig.prove(&token).await.err(), Some(Refusal::Kind.into()));

    let mut lenient = issuer();
    lenient.unmarked = Unmarked::Allow;
    let rig = Rig::new(vec![(lenient, vec![rsa2048().jwk("k1")])]).await;
    assert_eq!(verdict(&rig, &unmarked).await, None);
    for typ in kinds {
        let got = verdict(&rig, &with("typ", json!(typ))).await;
        assert_eq!(got, Some(Refusal::Kind), "{typ}");
    }
}

#[tokio::test]
async fn a_bound_token_is_no_bearer_token() {
    let rig = Rig::usual().await;
    for cnf in [
        json!({"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}),
        json!({"x5t#S256": "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2"}),
        json!({"x5t#S256": "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg0", "jkt": "x"}),
        json!({}),
        json!(null),
        json!("x"),
    ] {
        let mut claims = with("cnf", cnf.clone());
        assert_eq!(
            verdict(&rig, &claims).await,
            Some(Refusal::SenderConstrained),
            "{cnf}"
        );
        claims["typ"] = json!("DPoP");
        assert_eq!(
            verdict(&rig, &claims).await,
            Some(Refusal::SenderConstrained),
            "{cnf}"
        );
    }
}

#[tokio::test]
async fn the_client_is_azp_then_client_id_then_nobody() {
    let rig = Rig::usual().await;
    let client = async |claims: Value| {
        let token = rsa2048().token("RS256", "k1", &claims);
        rig.prove(&token)
            .await
            .map(|principal| principal.grants.client.clone())
    };
    assert_eq!(client(with("azp", json!("a"))).await.as_deref(), Ok("a"));
    let mut only = without(&["azp"]);
    only["client_id"] = json!("b");
    assert_eq!(client(only).await.as_deref(), Ok("b"));
    for claims in [without(&["azp", "client_id"]), with("azp", json!(""))] {
        assert_eq!(verdict(&rig, &claims).await, Some(Refusal::Claims));
    }
}

#[tokio::test]
async fn rights_are_read_exactly_or_not_at_all() {
    let rig = Rig::usual().await;
    let principal = async |claims: Value| {
        let token = rsa2048().token("RS256", "k1", &claims);
        rig.prove(&token).await.expect("a principal")
    };
    let scopes = principal(with("scope", json!(" a  b,c d\u{a0}e\tf A "))).await;
    assert_eq!(scopes.grants.scopes, ["a", "b,c", "d\u{a0}e\tf", "A"]);
    assert!(
        principal(with("scope", json!("")))
            .await
            .grants
            .scopes
            .is_empty()
    );
    assert!(
        principal(without(&["scope"]))
            .await
            .grants
            .scopes
            .is_empty()
    );
    for value in [
        json!(null),
        json!("ACCOUNTS"),
        json!(["ACCOUNTS"]),
        json!({"roles": "ACCOUNTS"}),
        json!({"roles": {"ACCOUNTS": true}}),
        json!({"roles": [["ACCOUNTS"], 1, null]}),
        json!({"Roles": ["ACCOUNTS"]}),
    ] {
        let realm = principal(with("realm_access", value.clone())).await;
        assert!(realm.grants.realm_roles.is_empty(), "{value}");
        let client = principal(with("resource_access", json!({"accounts-api": value}))).await;
        assert!(
            client.grants.client_roles["accounts-api"].is_empty(),
            "{value}"
        );
        let all = principal(with("resource_access", value.clone())).await;
        assert!(
            all.grants.client_roles.values().all(Vec::is_empty),
            "{value}"
        );
    }
    let bare = principal(without(&["realm_access", "resource_access", "sub"])).await;
    assert_eq!((bare.subject(), bare.grants.realm_roles.len()), (None, 0));
}

#[tokio::test]
async fn a_payload_is_strict_json() {
    let rig = Rig::usual().await;
    let good = keycloak_claims(ISSUER, NOW).to_string();
    assert_eq!(raw(&rig, &good).await, None);
    let with_tail = |tail: &str| format!("{},{tail}}}", &good[..good.len() - 1]);
    let deep = format!("\"x\":{}{}", "[".repeat(40), "]".repeat(40));
    let deepest = format!("\"x\":{}", "[".repeat(5000));
    for payload in [
        with_tail(r#""exp":1890000000"#),
        with_tail(r#""\u0065xp":1890000000"#),
        with_tail(r#""realm_access":{"roles":["ADMIN"]}"#),
        with_tail(r#""x":{"y":[{"z":1,"z":1}]}"#),
        with_tail(&deep),
        with_tail(&deepest),
        with_tail(r#""x":"\ud800""#),
        with_tail("\"x\":\"\u{1}\""),
        with_tail("\"x\":1 // no\n"),
        format!("{good}{good}"),
        format!("{good} x"),
        format!("\u{feff}{good}"),
        format!("[{good}]"),
        "null".to_owned(),
        String::new(),
    ] {
        assert_eq!(
            raw(&rig, &payload).await,
            Some(Refusal::Malformed),
            "{payload}"
        );
    }
    let mut bad_utf8 = good.clone().into_bytes();
    let at = good.find("127").expect("a value");
    bad_utf8[at] = 0xff;
    assert_eq!(raw(&rig, &bad_utf8).await, Some(Refusal::Malformed));
    let utf16: Vec<u8> = good.encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(raw(&rig, &utf16).await, Some(Refusal::Malformed));
    // Blanks and a modest depth are JSON.
    let nested = format!(
        " {} ",
        with_tail(&format!("\"x\":{}{}", "[".repeat(20), "]".repeat(20)))
    );
    assert_eq!(raw(&rig, &nested).await, None);
}
