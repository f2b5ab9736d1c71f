use std::sync::Arc;

use super::{next, restart};
use crate::clock::Clock;
use crate::config::plan::{Access, IssuerId, Plan, Policy, RateLimit, RatePer, RoutePlan};
use crate::forward::Stripper;
use crate::gateway::Gateway;
use crate::limit::{Caller, Limiters};
use crate::observe::access_log::AccessLog;
use crate::observe::metrics::Metrics;
use crate::route::RouteTable;
use crate::server::drain::Drain;
use crate::testkit::{issuer, plan, route, upstream};
use crate::upstream::Upstreams;
use crate::verify::Verifier;

const SECOND: std::time::Duration = std::time::Duration::from_secs(1);

fn limited(name: &str) -> RoutePlan {
    RoutePlan {
        name: name.into(),
        rate_limit: Some(RateLimit {
            per: RatePer::Client,
            requests: 1,
            every: SECOND,
            burst: 1,
        }),
        access: Access::Token(Policy::default()),
        ..route("/a")
    }
}

fn usual() -> Plan {
    let mut plan = plan(vec![limited("a")]);
    plan.issuers = vec![issuer("one"), issuer("two")];
    plan.upstreams = vec![upstream("a", &[("127.0.0.1:1", 1), ("127.0.0.1:2", 1)])];
    plan
}

fn first(plan: Plan) -> Gateway {
    crate::verify::install_crypto();
    let metrics = Metrics::new(&plan).expect("metrics");
    let clock = Clock::manual(1_790_000_000);
    Gateway {
        routes: RouteTable::new(&plan),
        verifier: Verifier::new(&plan, clock.clone(), metrics.clone()).expect("a verifier"),
        limiters: Limiters::new(&plan),
        upstreams: Upstreams::new(&plan, &metrics, &clock).expect("no files"),
        stripper: Stripper::new(&plan),
        access_log: Arc::new(AccessLog::new(false, Box::new(std::io::sink()))),
        drain: Drain::default(),
        metrics,
        clock,
        plan,
    }
}

/// The generation after `old`, with whatever else the plan says.
fn after(old: &Gateway, change: impl FnOnce(&mut Plan)) -> Gateway {
    let mut plan = usual();
    change(&mut plan);
    next::generation(old, plan).expect("a generation")
}

/// Whether both look after the same keys, by place.
fn same_keys(old: (&Gateway, usize), new: (&Gateway, usize)) -> bool {
    let keys = |(gateway, place): (&Gateway, usize)| {
        let tended = gateway.verifier.tended().nth(place).expect("an issuer");
        Arc::as_ptr(&tended.identity()[0]).cast::<()>()
    };
    keys(old) == keys(new)
}

fn series(gateway: &Gateway, what: &str) -> usize {
    let text = String::from_utf8(gateway.metrics.expose().expect("text")).expect("UTF-8");
    text.lines().filter(|line| line.contains(what)).count()
}

#[tokio::test]
async fn what_is_unchanged_is_kept() {
    let old = first(usual());
    let new = after(&old, |_| {});
    assert!(same_keys((&old, 0), (&new, 0)) && same_keys((&old, 1), (&new, 1)));
    assert!(Arc::ptr_eq(
        &old.upstreams.all()[0],
        &new.upstreams.all()[0]
    ));
    let caller = || Caller::Client {
        issuer: IssuerId(0),
        client: "c",
    };
    let route = crate::config::plan::RouteId(0);
    let limiter = |gateway: &Gateway| {
        let limiter = gateway.limiters.of(route).expect("a limit");
        limiter.check(caller(), SECOND).is_ok()
    };
    assert!(limiter(&old));
    assert!(!limiter(&new), "the bucket is the same");
}

#[tokio::test]
async fn keys_are_kept_wherever_the_issuer_stands_and_whatever_else_it_says() {
    let old = first(usual());
    let new = after(&old, |plan| {
        plan.issuers.reverse();
        plan.issuers[0].audience = vec!["another".to_owned()];
        plan.issuers.insert(0, issuer("zero"));
    });
    assert!(same_keys((&old, 0), (&new, 2)) && same_keys((&old, 1), (&new, 1)));
    let elsewhere = after(&new, |plan| {
        plan.issuers[0].keys_from = crate::config::plan::KeysFrom::Url("https://a.example/".into());
    });
    assert!(!same_keys((&new, 2), (&elsewhere, 0)), "another source");
    assert!(same_keys((&new, 1), (&elsewhere, 1)));
}

#[tokio::test]
async fn a_changed_limit_or_a_moved_issuer_starts_with_fresh_buckets() {
    let old = first(usual());
    let route = crate::config::plan::RouteId(0);
    let caller = Caller::Client {
        issuer: IssuerId(0),
        client: "c",
    };
    let passes = |gateway: &Gateway| {
        let limiter = gateway.limiters.of(route).expect("a limit");
        limiter.check(caller, SECOND).is_ok()
    };
    assert!(passes(&old) && !passes(&old));
    assert!(passes(&after(&old, |plan| plan.issuers.reverse())));
    assert!(passes(&after(&old, |plan| {
        plan.routes = vec![limited("b")];
    })));
    assert!(!passes(&after(&old, |plan| {
        plan.issuers.push(issuer("three"));
    })));
}

#[tokio::test]
async fn a_changed_pool_knows_what_the_old_one_knew_of_its_peers() {
    let old = first(usual());
    let Ok(place) = old.upstreams.all()[0].enter() else {
        panic!("no place");
    };
    let new = after(&old, |plan| {
        plan.upstreams = vec![upstream("b", &[]), upstream("a", &[("127.0.0.1:2", 5)])];
        plan.upstreams[1].max_in_flight = Some(1);
    });
    let pool = &new.upstreams.all()[1];
    assert_eq!((pool.in_flight(), pool.peers().len()), (1, 1));
    assert!(pool.enter().is_err(), "the place is taken still");
    drop(place);
    assert!(pool.enter().is_ok());
}

#[tokio::test]
async fn series_of_what_is_gone_go_and_the_others_count_on() {
    let old = first(usual());
    old.metrics.rejected(
        Some(crate::config::plan::RouteId(0)),
        crate::reject::Rejection::NoPeer,
    );
    let new = after(&old, |plan| {
        plan.routes.push(RoutePlan {
            name: "b".into(),
            ..route("/b")
        });
        plan.issuers.remove(1);
        plan.upstreams = vec![upstream("c", &[])];
    });
    new.metrics.forget_others(&new.plan);
    assert_eq!(series(&new, "issuer=\"two\""), 0);
    assert_eq!(series(&new, "upstream=\"a\""), 0);
    assert!(series(&new, "issuer=\"none\"") > 0 && series(&new, "route=\"none\"") > 0);
    assert!(series(&new, "route=\"b\"") > 0 && series(&new, "upstream=\"c\"") > 0);
    assert_eq!(
        series(&new, "rejections_total{reason=\"no_peer\",route=\"a\"} 1"),
        1
    );
}

#[test]
fn what_needs_a_restart_stays_and_is_named() {
    let old = usual();
    let mut new = usual();
    assert_eq!(restart::leave(&old, &mut new), Vec::<&str>::new());
    new.listeners[0].address.set_port(1);
    new.server.threads = 7;
    new.admin.address.set_port(2);
    assert_eq!(
        restart::leave(&old, &mut new),
        ["listeners", "server", "admin"]
    );
    assert_eq!((&new.listeners, &new.server), (&old.listeners, &old.server));
    assert_eq!(new.admin.address, old.admin.address);
}
