//! Asking the embedded issuer: how often, for what, and what happens when it does not answer.

use std::sync::Arc;
use std::time::Duration;

use super::{NOW, issuer, plan};
use crate::clock::Clock;
use crate::config::plan::{
    AskWhen, ClientAuth, EndpointFrom, IntrospectionPlan, IssuerId, KeysFrom, Policy, Proof,
};
use crate::config::secret::Secret;
use crate::credential::BearerToken;
use crate::demo::issuer::{Endpoint, Fault as Broken, Issuer, IssuerOptions};
use crate::observe::metrics::Metrics;
use crate::verify::digest::TokenHash;
use crate::verify::introspect::REFUSED;
use crate::verify::{Fault, Refusal, Source, Unjudged, Verifier, Wanted};

const READER: &str = "eazybank-accounts-reader-cc";
const LIGHT: &str = "eazybank-lightweight-cc";

pub(super) type Said = (Source, Result<(), Fault>);

pub(super) const ASKED: Said = (Source::Introspection, Ok(()));
pub(super) const CACHE: Said = (Source::Cache, Ok(()));
const OPEN: Said = (
    Source::Introspection,
    Err(Fault::Unjudged(Unjudged::IntrospectionOpen)),
);
const FAILED: Said = (
    Source::Introspection,
    Err(Fault::Unjudged(Unjudged::IntrospectionFailed)),
);

pub(super) struct World {
    pub(super) clock: Clock,
    pub(super) issuer: Issuer,
    pub(super) verifier: Verifier,
}

impl World {
    pub(super) async fn new(change: impl FnOnce(&mut IntrospectionPlan)) -> Arc<Self> {
        let world = Self::without_keys(change).await;
        assert!(world.verifier.refresh(IssuerId(0)).await);
        world
    }

    pub(super) async fn without_keys(change: impl FnOnce(&mut IntrospectionPlan)) -> Arc<Self> {
        let clock = Clock::manual(NOW);
        let options = IssuerOptions {
            clock: clock.clone(),
            ..IssuerOptions::default()
        };
        let embedded = Issuer::start(options).await.expect("an issuer");
        let mut ours = issuer();
        ours.issuer = embedded.url();
        ours.keys_from = KeysFrom::Url(embedded.endpoint(Endpoint::Certs));
        let mut introspection = IntrospectionPlan {
            endpoint: EndpointFrom::Discovery(embedded.endpoint(Endpoint::Discovery)),
            client_id: "eazybank-gateway".to_owned(),
            auth: ClientAuth::Basic(Secret::from_value("demo-only-gateway")),
            when: AskWhen {
                opaque: true,
                lightweight: true,
                ..AskWhen::default()
            },
            timeout: Duration::from_secs(2),
            max_in_flight: 64,
            ttl: Duration::from_secs(30),
            negative_ttl: Duration::from_secs(5),
            max_bytes: 8 << 20,
            failures: 5,
            open: Duration::from_secs(5),
        };
        change(&mut introspection);
        ours.introspection = Some(introspection);
        let plan = plan(vec![ours]);
        let metrics = Metrics::new(&plan).expect("metrics");
        Arc::new(World {
            verifier: Verifier::new(&plan, clock.clone(), metrics).expect("a verifier"),
            clock,
            issuer: embedded,
        })
    }

    pub(super) async fn prove(&self, token: &str) -> Said {
        self.prove_for(token, Proof::Local).await
    }

    async fn prove_for(&self, token: &str, proof: Proof) -> Said {
        let policy = Policy {
            proof,
            ..Policy::default()
        };
        let token = BearerToken::unchecked(token);
        let verdict = self.verifier.prove(token, Wanted::of(&policy)).await;
        (verdict.source, verdict.outcome.map(drop))
    }

    pub(super) fn asked(&self) -> u64 {
        self.issuer.requests(Endpoint::Introspect)
    }

    pub(super) fn breaks(&self, fault: Broken) {
        self.issuer.set_fault(Endpoint::Introspect, fault);
    }

    fn later(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }
}

#[tokio::test]
async fn a_thousand_first_uses_make_one_call_and_who_leaves_cancels_nothing() {
    let world = World::new(|_| {}).await;
    world.breaks(Broken::Slow(Duration::from_millis(300)));
    let token = world.issuer.opaque(READER, &["accounts:read"]);
    let first = {
        let (world, token) = (world.clone(), token.clone());
        tokio::spawn(async move { world.prove(&token).await })
    };
    while world.asked() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    first.abort();
    let crowd: Vec<_> = (0..1000)
        .map(|_| {
            let (world, token) = (world.clone(), token.clone());
            tokio::spawn(async move { world.prove(&token).await })
        })
        .collect();
    for one in crowd {
        assert_eq!(one.await.expect("no panic").1, Ok(()));
    }
    assert_eq!(world.asked(), 1);
    assert_eq!(world.prove(&token).await, CACHE);
}

/// All at once and on many threads: nobody is early enough to ask for himself.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_who_come_at_once_make_one_call() {
    let world = World::new(|_| {}).await;
    world.breaks(Broken::Slow(Duration::from_millis(200)));
    for round in 1..=3 {
        let token = world.issuer.opaque(READER, &["accounts:read"]);
        let start = Arc::new(tokio::sync::Barrier::new(1000));
        let crowd: Vec<_> = (0..1000)
            .map(|_| {
                let (world, token, start) = (world.clone(), token.clone(), start.clone());
                tokio::spawn(async move {
                    start.wait().await;
                    world.prove(&token).await.1
                })
            })
            .collect();
        for one in crowd {
            assert_eq!(one.await.expect("no panic"), Ok(()));
        }
        assert_eq!(world.asked(), round);
    }
}

#[tokio::test]
async fn a_no_ends_a_kept_yes() {
    let world = World::new(|_| {}).await;
    let token = world.issuer.opaque(READER, &[]);
    assert_eq!(world.prove(&token).await, ASKED);
    assert_eq!(world.prove(&token).await, CACHE);
    world.issuer.set_client_enabled(READER, false);
    assert_eq!(world.prove(&token).await, CACHE);
    // Another route wants to know better, and what it learns holds for all.
    let inactive = |source| (source, Err(Fault::Refused(Refusal::Inactive)));
    let no = world.prove_for(&token, Proof::Introspect).await;
    assert_eq!(no, inactive(Source::Introspection));
    assert_eq!(world.prove(&token).await, inactive(Source::Cache));
    world.later(5);
    assert_eq!(world.prove(&token).await, inactive(Source::Introspection));
}

#[tokio::test]
async fn refusals_push_no_proof_out_and_are_bounded() {
    let world = World::new(|_| {}).await;
    let token = world.issuer.opaque(READER, &[]);
    assert_eq!(world.prove(&token).await, ASKED);
    let inactive = r#"{"active":false}"#.to_owned();
    world.breaks(Broken::RawBody(inactive));
    for number in 0..100 {
        let garbage = format!("garbage-{number}");
        world.prove(&garbage).await.1.expect_err("inactive");
    }
    assert_eq!(world.prove(&token).await, CACHE);
    let asker = world.verifier.issuers[0].introspector.as_ref();
    let asker = asker.expect("it is asked");
    assert_eq!(asker.kept_answers(), (1, 100));
    for number in 0..2 * REFUSED {
        let hash = TokenHash::of(number.to_string().as_bytes());
        asker.refuse(hash, Refusal::Inactive).expect_err("refused");
    }
    let (yes, no) = asker.kept_answers();
    assert_eq!(yes, 1);
    assert!(no <= REFUSED + REFUSED / 10, "{no}");
    assert_eq!(world.prove(&token).await, CACHE);
}

#[tokio::test]
async fn kept_answers_are_bounded_in_bytes() {
    let world = World::new(|plan| plan.max_bytes = 64 << 10).await;
    for _ in 0..200 {
        let token = world.issuer.opaque(READER, &[]);
        assert_eq!(world.prove(&token).await, ASKED);
    }
    let asker = world.verifier.issuers[0].introspector.as_ref();
    let bytes = asker.expect("it is asked").kept_bytes();
    assert!((1..=64 << 10).contains(&bytes), "{bytes}");
}

/// Nobody's wall clock makes an answer live longer than its token.
#[tokio::test]
async fn a_wall_clock_that_is_set_back_revives_no_answer() {
    let world = World::new(|_| {}).await;
    let token = world.issuer.opaque("eazybank-short-cc", &[]);
    assert_eq!(world.prove(&token).await, ASKED);
    world.later(9);
    assert_eq!(world.prove(&token).await, CACHE, "within the leeway");
    world.later(1);
    let gone = r#"{"active":false}"#.to_owned();
    world.breaks(Broken::RawBody(gone));
    world.clock.step(-10);
    let inactive = Err(Fault::Refused(Refusal::Inactive));
    assert_eq!(world.prove(&token).await, (Source::Introspection, inactive));
}

#[tokio::test]
async fn answers_are_kept_for_their_time() {
    let world = World::new(|_| {}).await;
    let token = world.issuer.opaque(READER, &[]);
    assert_eq!(world.prove(&token).await, ASKED);
    world.later(29);
    assert_eq!(world.prove(&token).await, CACHE);
    world.later(1);
    assert_eq!(world.prove(&token).await, ASKED);
    let inactive = |source| (source, Err(Fault::Refused(Refusal::Inactive)));
    assert_eq!(
        world.prove("nothing").await,
        inactive(Source::Introspection)
    );
    world.later(4);
    assert_eq!(world.prove("nothing").await, inactive(Source::Cache));
    world.later(1);
    assert_eq!(
        world.prove("nothing").await,
        inactive(Source::Introspection)
    );
    assert_eq!(world.asked(), 4);
}

#[tokio::test]
async fn no_answer_outlives_its_token() {
    let world = World::new(|plan| plan.ttl = Duration::from_secs(3600)).await;
    let token = world.issuer.opaque("eazybank-short-cc", &[]);
    assert_eq!(world.prove(&token).await, ASKED);
    // It lives for five seconds, and the leeway is five more.
    world.later(10);
    assert!(world.prove(&token).await.1.is_err());
    assert_eq!(world.asked(), 2);
}

/// As of a cache in front of the issuer that mixes its callers up.
#[tokio::test]
async fn an_answer_about_another_token_is_no_answer() {
    let world = World::new(|_| {}).await;
    let token = world.issuer.token(LIGHT, &["accounts:read"]);
    let answer = |jti: &str| {
        serde_json::json!({
            "active": true, "typ": "Bearer", "iss": world.issuer.url(), "exp": NOW + 60,
            "aud": "eazybank-gateway", "azp": "admin", "jti": jti,
        })
    };
    world.breaks(Broken::RawBody(answer("another").to_string()));
    assert_eq!(world.prove(&token).await, FAILED);
    // Not every issuer names its tokens in its answers.
    let mut unnamed = answer("");
    unnamed.as_object_mut().expect("claims").remove("jti");
    world.breaks(Broken::RawBody(unnamed.to_string()));
    assert_eq!(world.prove(&token).await, ASKED);
}

#[tokio::test]
async fn an_answer_falls_with_the_key_that_signed_the_token() {
    let world = World::new(|_| {}).await;
    let token = world.issuer.token(LIGHT, &["accounts:read"]);
    assert_eq!(world.prove(&token).await, ASKED);
    assert_eq!(world.prove(&token).await, CACHE);
    let kid = world.issuer.active_kid("RS256").expect("a key");
    world.issuer.rotate("RS256").expect("a new key");
    world.issuer.disable(&kid);
    assert!(world.verifier.refresh(IssuerId(0)).await);
    let gone = Err(Fault::Refused(Refusal::UnknownKey));
    assert_eq!(world.prove(&token).await, (Source::Local, gone));
    assert_eq!(world.asked(), 1);
}

#[tokio::test]
async fn routes_choose_how_old_an_answer_may_be() {
    let world = World::new(|_| {}).await;
    let token = world.issuer.token(READER, &[]);
    let fresh = Proof::Fresh(Duration::from_secs(5));
    assert_eq!(world.prove(&token).await, (Source::Local, Ok(())));
    assert_eq!(world.prove_for(&token, fresh).await, ASKED);
    world.later(4);
    assert_eq!(world.prove_for(&token, fresh).await, CACHE);
    assert_eq!(world.prove_for(&token, Proof::Introspect).await, ASKED);
    world.later(4);
    // What the other route asked is four seconds old.
    assert_eq!(world.prove_for(&token, fresh).await, CACHE);
    world.later(1);
    assert_eq!(world.prove_for(&token, fresh).await, ASKED);
    assert_eq!(world.asked(), 3);
}

#[tokio::test]
async fn questions_in_flight_are_capped() {
    let world = World::new(|plan| plan.max_in_flight = 1).await;
    world.breaks(Broken::Slow(Duration::from_millis(500)));
    let slow = {
        let world = world.clone();
        tokio::spawn(async move { world.prove("one").await })
    };
    while world.asked() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let busy = Err(Fault::Unjudged(Unjudged::IntrospectionBusy));
    assert_eq!(world.prove("two").await, (Source::Introspection, busy));
    let inactive = Err(Fault::Refused(Refusal::Inactive));
    assert_eq!(slow.await.expect("no panic").1, inactive);
    assert!(matches!(world.prove("two").await.1, Err(Fault::Refused(_))));
}

#[tokio::test]
async fn the_breaker_lets_one_probe_through() {
    let world = World::new(|plan| plan.failures = 2).await;
    let token = world.issuer.opaque(READER, &[]);
    world.breaks(Broken::Status(500));
    assert_eq!(world.prove(&token).await, FAILED);
    assert_eq!(world.prove(&token).await, FAILED);
    assert_eq!(world.prove(&token).await, OPEN);
    assert_eq!(world.asked(), 2);
    world.later(5);
    // One probe fails: open again.
    assert_eq!(world.prove(&token).await, FAILED);
    assert_eq!(world.prove(&token).await, OPEN);
    world.later(5);
    world.breaks(Broken::Slow(Duration::from_millis(300)));
    let probe = {
        let (world, token) = (world.clone(), token.clone());
        tokio::spawn(async move { world.prove(&token).await })
    };
    while world.asked() < 4 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(world.prove("another").await, OPEN);
    assert_eq!(probe.await.expect("no panic"), ASKED);
    assert_eq!(world.prove(&world.issuer.opaque(READER, &[])).await, ASKED);
}

/// Five tokens that a firewall before the issuer dislikes kept everybody's tokens from being asked about.
#[tokio::test]
async fn what_is_said_of_one_token_opens_no_breaker() {
    let world = World::new(|plan| plan.failures = 2).await;
    for status in [400, 403, 404, 406, 413, 414, 431] {
        world.breaks(Broken::Status(status));
        for _ in 0..3 {
            assert_eq!(world.prove("/etc/passwd").await, FAILED, "{status}");
        }
    }
    world.issuer.clear_fault(Endpoint::Introspect);
    assert_eq!(world.prove(&world.issuer.opaque(READER, &[])).await, ASKED);
    for status in [401, 408, 429, 500, 503] {
        world.breaks(Broken::Status(status));
        assert_eq!(world.prove("/etc/passwd").await, FAILED, "{status}");
        assert_eq!(world.prove("/etc/passwd").await, FAILED, "{status}");
        assert_eq!(world.prove("/etc/passwd").await, OPEN, "{status}");
        world.later(5);
        // A probe that says nothing of the issuer leaves things as they are: the next one asks again.
        world.breaks(Broken::Status(403));
        assert_eq!(world.prove("/etc/passwd").await, FAILED, "{status}");
        world.issuer.clear_fault(Endpoint::Introspect);
        assert_eq!(world.prove(&world.issuer.opaque(READER, &[])).await, ASKED);
    }
}

#[tokio::test]
async fn without_keys_the_issuer_is_asked_if_the_configuration_says_so() {
    let strict = World::without_keys(|_| {}).await;
    let token = strict.issuer.token(READER, &[]);
    let none = Err(Fault::Unjudged(Unjudged::NoKeys));
    assert_eq!(strict.prove(&token).await, (Source::Local, none));
    let lenient = World::without_keys(|plan| plan.when.keys_unavailable = true).await;
    let token = lenient.issuer.token(READER, &[]);
    assert_eq!(lenient.prove(&token).await, ASKED);
    assert_eq!(lenient.prove(&token).await, CACHE);
    // What is implausible costs no call.
    lenient.later(3600);
    let expired = Err(Fault::Refused(Refusal::Expired));
    assert_eq!(lenient.prove(&token).await, (Source::Local, expired));
    assert_eq!(lenient.asked(), 1);
}

#[tokio::test]
async fn an_unknown_key_is_asked_about_if_the_configuration_says_so() {
    let world = World::new(|plan| plan.when.unknown_key = true).await;
    // The keys that we fetch do not change, the issuer's do.
    let honest = world.issuer.jwks().to_string();
    let old = Broken::RawBody(honest);
    world.issuer.set_fault(Endpoint::Certs, old);
    world.issuer.rotate("RS256").expect("a new key");
    let token = world.issuer.token(READER, &[]);
    assert_eq!(world.prove(&token).await, ASKED);
    assert_eq!(world.prove(&token).await, CACHE);
}
