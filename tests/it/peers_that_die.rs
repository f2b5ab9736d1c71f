//! Peers that are killed with requests in their hands: nothing that could be asked again fails, nothing else is asked
//! twice.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use portcullis::clock::Clock;
use portcullis::demo::issuer::{Issuer, IssuerOptions};

use crate::support::{Connection, Gateway, Mortal, Setup, eventually, get};

const READERS: usize = 6;
const WRITERS: usize = 3;
/// A request each, after the death and before the end of a round.
const AFTERWARDS: usize = 40;

fn start(peers: &[SocketAddr], more: &str, clock: Clock) -> Gateway {
    let issuer = Issuer::start_blocking(IssuerOptions::default()).unwrap();
    Setup::new(&issuer, peers[0])
        .pool(peers, more)
        .routes("[{ name: open, match: { path: /open }, upstream: pool, access: public }]")
        .clock(clock)
        .start_unready()
}

fn has(gateway: &Gateway, state: &str, count: f64) {
    let series = format!("portcullis_upstream_peers{{state=\"{state}\",upstream=\"pool\"}}");
    gateway.counts(&series, count);
}

/// What a round's callers got, by request line.
type Statuses = BTreeMap<String, u16>;

/// Callers ask until the end, each on a connection of its own; `meanwhile` runs once all of them have been answered.
fn under_load(gateway: &Gateway, round: usize, meanwhile: impl FnOnce(&AtomicUsize)) -> Statuses {
    let (over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let caller = |number: usize| {
            let method = if number < READERS { "GET" } else { "POST" };
            let (over, answered, address) = (&over, &answered, gateway.address());
            scope.spawn(move || {
                let mut statuses = Statuses::new();
                let mut connection = Connection::open(address);
                for turn in 0.. {
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    let line = format!("{method} /open/{round}/{number}/{turn} HTTP/1.1");
                    connection.send(format!("{line}\r\nHost: a\r\nContent-Length: 0\r\n\r\n"));
                    let answer = connection.answer();
                    if answer.header("connection") == Some("close") {
                        connection = Connection::open(address);
                    }
                    statuses.insert(line, answer.status);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                statuses
            })
        };
        let callers: Vec<_> = (0..READERS + WRITERS).map(caller).collect();
        meanwhile(&answered);
        over.store(true, Ordering::Relaxed);
        let joined = callers.into_iter().map(|caller| caller.join().unwrap());
        joined.flatten().collect()
    })
}

#[test]
fn a_killed_peer_fails_no_get_and_only_the_posts_it_had() {
    let mut peers = [Mortal::start(), Mortal::start(), Mortal::start()];
    let addresses: Vec<SocketAddr> = peers.iter().map(Mortal::address).collect();
    let clock = Clock::manual(Clock::system().unix());
    let gateway = start(
        &addresses,
        "retries: { when: [connect, reset], backoff: { first: 1ms, max: 2ms } },
         outlier: { failures: 3, eject: 10s }",
        clock.clone(),
    );
    for round in 0..6 {
        let mut lost = Vec::new();
        let statuses = under_load(&gateway, round, |answered| {
            eventually("everybody is served", || {
                answered.load(Ordering::Relaxed) > AFTERWARDS
            });
            let victim = &mut peers[round % 3];
            victim.hold(true);
            // Each caller meets it sooner or later, and waits.
            eventually("the victim has a request of everybody", || {
                victim.unanswered().len() == READERS + WRITERS
            });
            lost = victim.kill();
            victim.hold(false);
            has(&gateway, "ejected", 1.0);
            let before = answered.load(Ordering::Relaxed);
            eventually("everybody is served without it", || {
                answered.load(Ordering::Relaxed) > before + AFTERWARDS
            });
        });
        let failed: Vec<&String> = statuses
            .iter()
            .filter(|(_, status)| **status != 200)
            .map(|(line, _)| line)
            .collect();
        let mut posts: Vec<&String> = lost.iter().filter(|l| l.starts_with("POST")).collect();
        posts.sort();
        assert_eq!(failed, posts, "round {round}");
        assert!(failed.iter().all(|line| statuses[*line] == 502));
        assert_eq!(posts.len(), WRITERS);

        peers[round % 3].revive();
        // Longer than any ejection lasts.
        clock.advance(Duration::from_secs(301));
        get(gateway.address(), "/open", None);
        has(&gateway, "healthy", 3.0);
    }
    // Nothing that may change something was ever sent a second time.
    let mut seen: Vec<String> = peers.iter().flat_map(Mortal::received).collect();
    seen.retain(|line| line.starts_with("POST"));
    let all = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), all);
    let reset = "portcullis_rejections_total{reason=\"upstream_failed\",route=\"open\"}";
    gateway.counts(reset, (6 * WRITERS) as f64);
    has(&gateway, "ejected", 0.0);
}

#[test]
fn when_all_are_dead_everybody_hears_so() {
    let mut peers = [Mortal::start(), Mortal::start(), Mortal::start()];
    let addresses: Vec<SocketAddr> = peers.iter().map(Mortal::address).collect();
    for (more, status, reason) in [
        ("retries: { attempts: 3 }", 502, "upstream_connect"),
        (
            "retries: { attempts: 3 }, health: { path: /, interval: 1s, timeout: 1s, healthy: 1, unhealthy: 1 }",
            503,
            "no_peer",
        ),
    ] {
        let gateway = start(&addresses, more, Clock::system());
        let statuses = under_load(&gateway, 0, |answered| {
            eventually("everybody is served", || {
                answered.load(Ordering::Relaxed) > AFTERWARDS
            });
            for peer in &mut peers {
                peer.kill();
            }
            let healthy = if status == 503 { 0.0 } else { 3.0 };
            has(&gateway, "healthy", healthy);
            let before = answered.load(Ordering::Relaxed);
            eventually("everybody is answered", || {
                answered.load(Ordering::Relaxed) > before + AFTERWARDS
            });
        });
        let mut kinds: Vec<u16> = statuses.into_values().collect();
        kinds.sort_unstable();
        kinds.dedup();
        assert!(
            kinds.iter().all(|kind| [200, 502, 503].contains(kind)),
            "{kinds:?}"
        );
        // Nobody waits for a timeout: a closed port says so.
        for method in ["GET", "POST"] {
            let answer = Connection::open(gateway.address())
                .send(format!(
                    "{method} /open HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
                ))
                .answer();
            assert_eq!(answer.status, status);
            assert_eq!(answer.header("retry-after").is_some(), status == 503);
        }
        let log = gateway.access_log(2);
        assert_eq!(log.last().unwrap()["reason"], reason);
        for peer in &mut peers {
            peer.revive();
        }
        if status == 503 {
            has(&gateway, "healthy", 3.0);
        }
        eventually("it is served again", || {
            get(gateway.address(), "/open", None).status == 200
        });
    }
}
