//! Following a realm document that says what the test wants, or nothing that can be used.

use std::sync::Arc;
use std::time::Duration;

use super::mint::rsa2048;
use super::server::{Does, Server};
use super::{NOW, issuer, jwks, plan};
use crate::clock::Clock;
use crate::config::plan::{IssuerId, IssuerPlan, KeysFrom, NotBeforePlan};
use crate::observe::metrics::Metrics;
use crate::verify::Verifier;

const ONE: IssuerId = IssuerId(0);

struct Realm {
    server: Server,
    verifier: Arc<Verifier>,
    metrics: Arc<Metrics>,
}

impl Realm {
    async fn new() -> Self {
        let server = Server::new().await;
        server.on("/certs", Does::Say(200, "", set()));
        let ours = IssuerPlan {
            keys_from: KeysFrom::Url(server.url("/certs")),
            not_before: Some(NotBeforePlan {
                poll: Duration::from_millis(20),
                url: server.url("/realm"),
            }),
            ..issuer()
        };
        let plan = plan(vec![ours]);
        let metrics = Metrics::new(&plan).expect("metrics");
        let verifier = Verifier::new(&plan, Clock::manual(NOW), metrics.clone());
        Realm {
            server,
            verifier: Arc::new(verifier.expect("a verifier")),
            metrics,
        }
    }

    fn says(&self, body: &str) {
        self.server
            .on("/realm", Does::Say(200, "", body.to_owned()));
    }

    fn polls(&self, outcome: &str) -> u64 {
        let text = self.metrics.expose().expect("metrics");
        let text = String::from_utf8(text).expect("UTF-8");
        let name = format!(
            "portcullis_not_before_polls_total{{issuer=\"keycloak\",outcome=\"{outcome}\"}} "
        );
        let count = text.lines().find_map(|line| line.strip_prefix(&name));
        count.expect("a counter").parse().expect("a number")
    }

    fn in_force(&self) -> u64 {
        self.verifier.not_before(ONE).not_before.in_force()
    }

    async fn until(&self, what: &str, holds: impl Fn(&Realm) -> bool) {
        let asked = async {
            while !holds(self) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let asked = tokio::time::timeout(Duration::from_secs(20), asked).await;
        asked.unwrap_or_else(|_| panic!("{what}"));
    }
}

fn set() -> String {
    String::from_utf8(jwks(&[rsa2048().jwk("k1")])).expect("UTF-8")
}

#[tokio::test]
async fn the_realm_is_followed_up_and_down_and_its_last_word_stays() {
    let realm = Realm::new().await;
    realm.says(r#"{"realm":"eazybank","tokens-not-before":0}"#);
    let verifier = realm.verifier.clone();
    let following = tokio::spawn(async move { verifier.keep_fresh(ONE).await });
    realm
        .until("a first look", |realm| realm.polls("ok") > 0)
        .await;
    assert_eq!(realm.in_force(), 0);
    realm.says(r#"{"tokens-not-before":1790000000}"#);
    realm.until("raised", |realm| realm.in_force() == NOW).await;

    for (number, (does, outcome)) in [
        (Does::Say(500, "", String::new()), "failed"),
        (Does::Say(404, "", String::new()), "failed"),
        (
            Does::Say(302, "location: /certs\r\n", String::new()),
            "failed",
        ),
        (Does::Raw(b"nonsense".to_vec()), "failed"),
        (Does::Endless, "failed"),
        (Does::Say(200, "", "<html>".to_owned()), "invalid"),
        (Does::Say(200, "", "[]".to_owned()), "invalid"),
        (
            Does::Say(200, "", r#"{"realm":"eazybank"}"#.to_owned()),
            "invalid",
        ),
        (
            Does::Say(200, "", r#"{"tokens-not-before":"0"}"#.to_owned()),
            "invalid",
        ),
        (
            Does::Say(200, "", r#"{"tokens-not-before":-1}"#.to_owned()),
            "invalid",
        ),
        (
            Does::Say(
                200,
                "",
                r#"{"tokens-not-before":0,"tokens-not-before":0}"#.to_owned(),
            ),
            "invalid",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        realm.server.on("/realm", does);
        // One that was under way may still have met the answer before.
        let seen = realm.polls(outcome);
        realm
            .until(outcome, |realm| realm.polls(outcome) > seen + 1)
            .await;
        assert_eq!(realm.in_force(), NOW, "answer {number}");
        assert!(realm.verifier.not_before(ONE).fault.is_some());
    }
    realm.says(r#"{"tokens-not-before":7}"#);
    realm.until("lowered", |realm| realm.in_force() == 7).await;
    realm
        .until("no fault", |realm| {
            realm.verifier.not_before(ONE).fault.is_none()
        })
        .await;
    following.abort();
}

#[tokio::test]
async fn the_first_look_comes_before_the_keys() {
    let realm = Realm::new().await;
    realm.says(r#"{"tokens-not-before":5}"#);
    let verifier = realm.verifier.clone();
    let following = tokio::spawn(async move { verifier.keep_fresh(ONE).await });
    realm
        .until("keys", |realm| {
            realm.verifier.readiness()[0].1.problem.is_none()
        })
        .await;
    assert_eq!(realm.server.paths()[0], "/realm");
    assert_eq!(realm.in_force(), 5);
    following.abort();
}
