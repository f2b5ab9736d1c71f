use std::net::SocketAddr;

use super::super::names::{Answer, Families, Member};
use super::*;
use crate::config::plan::{CheckPlan, OutlierPlan};
use crate::testkit::{plan, upstream};

const EJECT: Duration = Duration::from_secs(10);

/// A pool that ejects after three failures in a row.
fn pool(peers: usize) -> (Pool, Clock, Arc<Metrics>) {
    let addresses: Vec<String> = (1..=peers)
        .map(|port| format!("127.0.0.1:{port}"))
        .collect();
    let peers: Vec<(&str, u32)> = addresses.iter().map(|a| (a.as_str(), 1)).collect();
    made(UpstreamPlan {
        outlier: Some(OutlierPlan {
            failures: 3,
            eject: EJECT,
        }),
        ..upstream("a", &peers)
    })
}

fn made(upstream: UpstreamPlan) -> (Pool, Clock, Arc<Metrics>) {
    let mut plan = plan(Vec::new());
    plan.upstreams = vec![upstream];
    let metrics = Metrics::new(&plan).expect("no name twice");
    let clock = Clock::manual(1_000_000);
    let pool = Pool::new(UpstreamId(0), &plan.upstreams[0], &metrics, &clock).expect("no files");
    (pool, clock, metrics)
}

fn fail(pool: &Pool, peer: usize, times: usize) {
    for _ in 0..times {
        pool.failed(&pool.peers()[peer], pool.clock.monotonic());
    }
}

/// Whom ten requests in a row meet.
fn met(pool: &Pool) -> Vec<usize> {
    let index = |_| {
        let now = pool.clock.monotonic();
        let (chosen, _) = pool.choose(&mut Tried::default(), 0, now).expect("a peer");
        let peers = pool.peers();
        let mut peers = peers.iter().enumerate();
        let found = peers.find(|(_, peer)| Arc::ptr_eq(peer, chosen.peer()));
        found.expect("one of the pool").0
    };
    let mut met: Vec<usize> = (0..10).map(index).collect();
    met.sort_unstable();
    met.dedup();
    met
}

fn peers(metrics: &Metrics, state: &str) -> u64 {
    let text = String::from_utf8(metrics.expose().expect("text")).expect("UTF-8");
    let series = format!("upstream_peers{{state=\"{state}\",upstream=\"a\"}} ");
    let value = text
        .split(&series)
        .nth(1)
        .and_then(|rest| rest.lines().next());
    value
        .expect("the series is there")
        .parse()
        .expect("a number")
}

#[test]
fn a_peer_that_keeps_failing_is_left_out_and_comes_back_by_itself() {
    let (pool, clock, metrics) = pool(3);
    fail(&pool, 1, 2);
    pool.succeeded(&pool.peers()[1]);
    fail(&pool, 1, 2);
    assert_eq!(met(&pool), [0, 1, 2], "never three in a row");
    fail(&pool, 1, 1);
    assert_eq!(met(&pool), [0, 2]);
    assert_eq!(peers(&metrics, "ejected"), 1);
    assert_eq!(peers(&metrics, "healthy"), 2);

    clock.advance(EJECT - Duration::from_millis(1));
    assert_eq!(met(&pool), [0, 2]);
    clock.advance(Duration::from_millis(1));
    assert_eq!(met(&pool), [0, 1, 2]);
    assert_eq!(peers(&metrics, "ejected"), 0);

    fail(&pool, 1, 3);
    clock.advance(EJECT);
    assert_eq!(met(&pool), [0, 2], "the second time is longer");
    clock.advance(EJECT);
    assert_eq!(met(&pool), [0, 1, 2]);
}

#[test]
fn the_scrape_sees_a_return_that_no_request_has_seen() {
    let (pool, clock, metrics) = pool(2);
    fail(&pool, 0, 3);
    clock.advance(EJECT);
    assert_eq!(peers(&metrics, "ejected"), 1);
    pool.refresh();
    assert_eq!(peers(&metrics, "ejected"), 0);
    assert_eq!(peers(&metrics, "healthy"), 2);
}

#[test]
fn never_more_than_half_is_left_out() {
    for (count, out) in [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2)] {
        let (pool, _, metrics) = pool(count);
        for peer in 0..count {
            fail(&pool, peer, 9);
        }
        assert_eq!(met(&pool).len(), count - out, "of {count}");
        assert_eq!(peers(&metrics, "ejected"), out as u64);
        assert_eq!(pool.readiness(), Ok(()));
    }
}

#[test]
fn who_could_not_be_left_out_is_when_another_is_back() {
    let (pool, clock, _) = pool(2);
    fail(&pool, 0, 3);
    fail(&pool, 1, 3);
    assert_eq!(met(&pool), [1]);
    clock.advance(EJECT);
    fail(&pool, 1, 3);
    assert_eq!(met(&pool), [0]);
}

/// A pool whose peers are the addresses of a name.
fn named() -> (Pool, Arc<Metrics>) {
    let (pool, _, metrics) = made(UpstreamPlan {
        dns: Some(DnsPlan::Addresses {
            host: "accounts.internal".to_owned(),
            port: 80,
        }),
        outlier: Some(OutlierPlan {
            failures: 1,
            eject: EJECT,
        }),
        ..upstream("a", &[])
    });
    (pool, metrics)
}

fn addresses(texts: &[&str]) -> Answer {
    let addresses = texts.iter().map(|text| text.parse().expect("an address"));
    answer(addresses)
}

fn answer(addresses: impl IntoIterator<Item = SocketAddr>) -> Answer {
    let member = |address| Member {
        address,
        weight: 1,
        priority: 0,
    };
    Answer {
        members: addresses.into_iter().map(member).collect(),
        holds: Duration::from_secs(30),
        unanswered: Families::default(),
    }
}

fn member(address: &str, weight: u32, priority: u16) -> Member {
    Member {
        address: address.parse().expect("an address"),
        weight,
        priority,
    }
}

fn members(pool: &Pool) -> Vec<String> {
    let peers = pool.peers();
    peers.iter().map(|peer| peer.address().to_owned()).collect()
}

#[test]
fn all_addresses_of_a_name_are_peers_and_none_changes_nothing() {
    let (pool, metrics) = named();
    let none = pool.choose(&mut Tried::default(), 0, pool.clock.monotonic());
    assert_eq!(none.err(), Some(NoPeer::Exhausted));
    assert_eq!(
        pool.readiness(),
        Err("no address of accounts.internal:80 is known yet".to_owned())
    );
    pool.found(&addresses(&[
        "10.0.0.2:80",
        "10.0.0.1:80",
        "[fd00::1]:80",
        "10.0.0.2:80",
    ]));
    let all = ["10.0.0.1:80", "10.0.0.2:80", "[fd00::1]:80"];
    assert_eq!(members(&pool), all);
    assert_eq!(met(&pool), [0, 1, 2]);
    assert_eq!(pool.readiness(), Ok(()));
    assert_eq!(peers(&metrics, "healthy"), 3);
    pool.found(&addresses(&[]));
    assert_eq!(members(&pool), all);
}

#[test]
fn a_peer_whose_address_stays_keeps_what_is_known_of_it() {
    let (pool, metrics) = named();
    pool.found(&addresses(&["10.0.0.1:80", "10.0.0.2:80"]));
    let before = pool.peers();
    fail(&pool, 1, 1);
    pool.found(&addresses(&["10.0.0.2:80", "10.0.0.3:80"]));
    assert!(Arc::ptr_eq(&before[1], &pool.peers()[0]));
    assert_eq!(met(&pool), [1], "the one that was ejected still is");
    assert_eq!(
        (peers(&metrics, "healthy"), peers(&metrics, "ejected")),
        (1, 1)
    );
    let layout = pool.layout.load_full();
    pool.found(&addresses(&["10.0.0.3:80", "10.0.0.2:80"]));
    assert!(
        Arc::ptr_eq(&layout, &pool.layout.load_full()),
        "no change, no work"
    );
}

#[test]
fn a_name_with_thousands_of_addresses_is_cut_off() {
    let (pool, _) = named();
    let many = (0..5000u32).map(|number| SocketAddr::from((number.to_be_bytes(), 80)));
    pool.found(&answer(many));
    assert_eq!(pool.peers().len(), MOST_MEMBERS);
}

fn health() -> HealthPlan {
    HealthPlan {
        check: CheckPlan::Tcp,
        port: None,
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(1),
        healthy: 1,
        unhealthy: 1,
    }
}

#[test]
fn checks_may_leave_nobody_and_failures_leave_out_no_more_than_they() {
    let (pool, _, metrics) = pool(2);
    let down = Err("it answers 500".to_owned());
    pool.checked(&pool.peers()[0], &down, &health());
    fail(&pool, 1, 9);
    assert_eq!(met(&pool), [1], "one of two is out already");
    pool.checked(&pool.peers()[1], &down, &health());
    let none = pool.choose(&mut Tried::default(), 0, pool.clock.monotonic());
    assert_eq!(none.err(), Some(NoPeer::Exhausted));
    assert_eq!(
        pool.readiness(),
        Err("no peer is healthy: 2 unhealthy, 0 ejected".to_owned())
    );
    assert_eq!(peers(&metrics, "unhealthy"), 2);
    pool.checked(&pool.peers()[0], &Ok(()), &health());
    assert_eq!(met(&pool), [0]);
}

#[test]
fn without_the_key_nobody_is_left_out() {
    let (mut pool, _, _) = pool(2);
    pool.outlier = None;
    fail(&pool, 0, 100);
    assert_eq!(met(&pool), [0, 1]);
}

#[test]
fn what_a_name_server_says_of_a_peer_changes_and_the_peer_stays() {
    let (pool, _) = named();
    let ranked = |weight, priority| Answer {
        members: vec![member("10.0.0.1:80", weight, priority)],
        ..answer([])
    };
    pool.found(&ranked(3, 10));
    let before = pool.peers()[0].clone();
    let layout = pool.layout.load_full();
    pool.found(&ranked(3, 10));
    assert!(Arc::ptr_eq(&layout, &pool.layout.load_full()));
    pool.found(&ranked(5, 20));
    assert!(!Arc::ptr_eq(&layout, &pool.layout.load_full()));
    let after = &pool.peers()[0];
    assert!(Arc::ptr_eq(&before, after));
    assert_eq!((after.weight(), after.priority()), (5, 20));
}

#[test]
fn two_records_of_one_address_are_one_peer() {
    let (pool, _) = named();
    pool.found(&Answer {
        members: vec![
            member("10.0.0.1:80", 3, 20),
            member("10.0.0.2:80", 1, 20),
            member("10.0.0.1:80", 4, 10),
        ],
        ..answer([])
    });
    let peers = pool.peers();
    let ranks: Vec<(&str, u32, u16)> = peers
        .iter()
        .map(|peer| (peer.address(), peer.weight(), peer.priority()))
        .collect();
    assert_eq!(ranks, [("10.0.0.1:80", 7, 10), ("10.0.0.2:80", 1, 20)]);
}

/// Peers that a name server names, with a cap for each.
fn capped() -> UpstreamPlan {
    UpstreamPlan {
        dns: Some(DnsPlan::Services("_http._tcp.a".to_owned())),
        max_in_flight_per_peer: Some(1),
        ..upstream("a", &[])
    }
}

/// A pool with a cap for each peer: the number of one that went is given to one that comes.
#[test]
fn peers_that_come_and_go_keep_apart() {
    let (pool, _, _) = made(capped());
    let choose = || pool.choose(&mut Tried::default(), 0, pool.clock.monotonic());
    pool.found(&addresses(&["10.0.0.1:80", "10.0.0.2:80"]));
    let held = [choose().expect("room").0, choose().expect("room").0];
    assert_eq!(choose().err(), Some(NoPeer::Busy));

    pool.found(&addresses(&["10.0.0.2:80", "10.0.0.3:80"]));
    let (third, _) = choose().expect("the new one has room");
    assert_eq!(third.peer().address(), "10.0.0.3:80");
    assert_eq!(choose().err(), Some(NoPeer::Busy));
    drop(held);
    assert_eq!(choose().expect("room").0.peer().address(), "10.0.0.2:80");
    drop(third);
    let both = [choose().expect("room").0, choose().expect("room").0];
    assert_ne!(both[0].peer().address(), both[1].peer().address());
}

/// What a name server said, what peers have to do, and who is new, all outlive a plan.
#[test]
fn a_pool_in_another_plan_knows_its_peers() {
    let mut plan = capped();
    let (pool, clock, metrics) = made(plan.clone());
    pool.found(&Answer {
        members: vec![member("10.0.0.1:80", 3, 10), member("10.0.0.2:80", 1, 20)],
        ..answer([])
    });
    let choose = |pool: &Pool| pool.choose(&mut Tried::default(), 0, clock.monotonic());
    let (at, _) = choose(&pool).expect("room");
    assert_eq!(at.peer().address(), "10.0.0.1:80");

    plan.timeouts.read = Duration::from_secs(7);
    let pool = Arc::new(pool);
    let next = Pool::renewed(UpstreamId(0), &plan, &metrics, &clock, &pool);
    let next = next.expect("no files");
    let ranks: Vec<(u32, u16)> = next
        .peers()
        .iter()
        .map(|p| (p.weight(), p.priority()))
        .collect();
    assert_eq!(ranks, [(3, 10), (1, 20)]);
    let (second, _) = choose(&next).expect("room");
    assert_eq!(second.peer().address(), "10.0.0.2:80", "the first is full");
    assert_eq!(choose(&next).err(), Some(NoPeer::Busy));
    drop(at);
    assert_eq!(
        choose(&next).expect("room").0.peer().address(),
        "10.0.0.1:80"
    );
}
