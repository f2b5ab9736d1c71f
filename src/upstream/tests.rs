#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy, Peer as _};

use super::*;
use crate::authorize;
use crate::config::plan::{Access, UpstreamPlan, UpstreamTls};
use crate::testkit::{Scratch, plan, upstream};

/// What the clock of these tests says.
const NOW: Duration = Duration::from_secs(1);

fn upstreams(pools: Vec<UpstreamPlan>) -> Result<Upstreams, String> {
    let mut plan = plan(Vec::new());
    plan.upstreams = pools;
    let metrics = Metrics::new(&plan).unwrap();
    Upstreams::new(&plan, &metrics, &Clock::manual(1))
}

fn with_pool<T>(pool: UpstreamPlan, look: impl FnOnce(&Pool) -> T) -> T {
    let upstreams = upstreams(vec![pool]).unwrap();
    let permit = authorize::public(&Access::Public).unwrap();
    look(upstreams.open(UpstreamId(0), &permit))
}

/// Port of the chosen peer.
fn port(peer: &HttpPeer) -> u16 {
    peer._address.as_inet().unwrap().port()
}

fn first(pool: &Pool) -> Box<HttpPeer> {
    pool.choose(&mut Tried::default(), 0, NOW).unwrap().1
}

fn next(pool: &Pool) -> u16 {
    port(&first(pool))
}

fn none_left(pool: &Pool, tried: &mut Tried) -> Option<NoPeer> {
    pool.choose(tried, 0, NOW).err()
}

#[test]
fn peers_take_turns() {
    let peers = [("127.0.0.1:1", 1), ("127.0.0.1:2", 1), ("127.0.0.1:3", 1)];
    with_pool(upstream("a", &peers), |pool| {
        let turns: Vec<u16> = (0..7).map(|_| next(pool)).collect();
        assert_eq!(turns, [1, 2, 3, 1, 2, 3, 1]);
    });
}

#[test]
fn a_peer_has_as_many_turns_as_its_weight_spread_evenly() {
    for (weights, round) in [
        (&[2, 1][..], &[0, 1, 0][..]),
        (&[1, 2], &[1, 0, 1]),
        (&[5, 1, 1], &[0, 0, 1, 0, 2, 0, 0]),
        (&[100, 100], &[0, 1]),
        (&[3, 0], &[0]),
        (&[7], &[0]),
    ] {
        let addresses: Vec<String> = (0..weights.len())
            .map(|index| format!("127.0.0.1:{}", index + 1))
            .collect();
        let peers: Vec<(&str, u32)> = addresses
            .iter()
            .map(String::as_str)
            .zip(weights.iter().copied())
            .collect();
        with_pool(upstream("a", &peers), |pool| {
            for _ in 0..2 {
                let turns: Vec<u16> = round.iter().map(|_| next(pool) - 1).collect();
                assert_eq!(turns, round, "{weights:?}");
            }
        });
    }
}

#[test]
fn many_callers_share_the_schedule_fairly() {
    let peers = [("127.0.0.1:1", 3), ("127.0.0.1:2", 1)];
    with_pool(upstream("a", &peers), |pool| {
        let counts = [AtomicUsize::new(0), AtomicUsize::new(0)];
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        let index = usize::from(next(pool)) - 1;
                        counts[index].fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(counts.map(AtomicUsize::into_inner), [3000, 1000]);
    });
}

#[test]
fn a_peer_that_refused_is_skipped_until_none_is_left() {
    let peers = [("127.0.0.1:1", 5), ("127.0.0.1:2", 1), ("127.0.0.1:3", 1)];
    with_pool(upstream("a", &peers), |pool| {
        for _ in 0..20 {
            let mut tried = Tried::default();
            let mut ports: Vec<u16> = (0..3)
                .map(|_| {
                    let (chosen, peer) = pool.choose(&mut tried, 0, NOW).unwrap();
                    tried.refused(chosen.peer());
                    port(&peer)
                })
                .collect();
            ports.sort_unstable();
            assert_eq!(ports, [1, 2, 3]);
            assert_eq!(none_left(pool, &mut tried), Some(NoPeer::Exhausted));
        }
    });
}

#[test]
fn a_second_attempt_takes_no_turn() {
    with_pool(
        upstream("a", &[("127.0.0.1:1", 1), ("127.0.0.1:2", 1)]),
        |pool| {
            let mut tried = Tried::default();
            let (chosen, peer) = pool.choose(&mut tried, 0, NOW).unwrap();
            assert_eq!(port(&peer), 1);
            tried.refused(chosen.peer());
            assert_eq!(port(&pool.choose(&mut tried, 0, NOW).unwrap().1), 2);
            assert_eq!(next(pool), 2, "the next request spares the dead peer");
        },
    );
}

#[test]
fn a_peer_without_an_address_is_skipped() {
    let peers = [("accounts.internal:80", 3), ("127.0.0.1:2", 1)];
    with_pool(upstream("a", &peers), |pool| {
        assert!(pool.peers()[0].name().is_some());
        assert_eq!(pool.peers()[1].name(), None);
        assert_eq!(pool.peers()[0].address(), "accounts.internal:80");
        assert!((0..8).all(|_| next(pool) == 2));

        pool.resolved(&pool.peers()[0], &["10.0.0.9:80".parse().unwrap()]);
        let turns: Vec<u16> = (0..4).map(|_| next(pool)).collect();
        assert_eq!(turns.iter().filter(|port| **port == 80).count(), 3);
    });
}

#[test]
fn a_name_that_moved_is_followed() {
    with_pool(upstream("a", &[("accounts.internal:80", 1)]), |pool| {
        assert_eq!(
            none_left(pool, &mut Tried::default()),
            Some(NoPeer::Exhausted)
        );
        for address in ["10.0.0.1:80", "[2001:db8::1]:80", "10.0.0.2:80"] {
            let address: SocketAddr = address.parse().unwrap();
            pool.resolved(&pool.peers()[0], &[address]);
            let peer = first(pool);
            assert_eq!(peer._address.as_inet(), Some(&address));
        }
    });
}

#[test]
fn a_pool_that_nobody_can_be_in_has_no_peer() {
    for peers in [&[][..], &[("127.0.0.1:1", 0)]] {
        with_pool(upstream("a", peers), |pool| {
            assert_eq!(
                none_left(pool, &mut Tried::default()),
                Some(NoPeer::Exhausted)
            );
        });
    }
}

#[test]
fn a_full_pool_is_busy_until_someone_leaves() {
    let capped = UpstreamPlan {
        max_in_flight: Some(2),
        ..upstream("a", &[("127.0.0.1:1", 1)])
    };
    with_pool(capped, |pool| {
        let first = pool.enter().unwrap();
        let second = pool.enter().unwrap();
        for _ in 0..3 {
            assert_eq!(pool.enter().err(), Some(NoPeer::Busy));
        }
        drop(first);
        let third = pool.enter().unwrap();
        assert_eq!(pool.enter().err(), Some(NoPeer::Busy));
        drop((second, third));
        assert!(pool.enter().is_ok());
    });
}

#[test]
fn a_place_is_given_back_when_its_holder_panics() {
    let capped = UpstreamPlan {
        max_in_flight: Some(1),
        ..upstream("a", &[("127.0.0.1:1", 1)])
    };
    with_pool(capped, |pool| {
        let holder = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _place = pool.enter().unwrap();
            std::panic::resume_unwind(Box::new(()));
        }));
        assert!(holder.is_err());
        assert!(pool.enter().is_ok());
    });
}

#[test]
fn a_pool_without_a_cap_counts_and_never_refuses() {
    let mut plan = plan(Vec::new());
    plan.upstreams = vec![upstream("a", &[("127.0.0.1:1", 1)])];
    let metrics = Metrics::new(&plan).unwrap();
    let upstreams = Upstreams::new(&plan, &metrics, &Clock::manual(1)).unwrap();
    let pool = &upstreams.all()[0];
    let gauge = metrics.upstream(UpstreamId(0)).in_flight();
    let places: Vec<InFlight> = (0..5000).map(|_| pool.enter().unwrap()).collect();
    assert_eq!(gauge.get(), 5000);
    drop(places);
    assert_eq!(gauge.get(), 0);
}

#[test]
fn a_busy_pool_leaves_the_gauge_alone() {
    let mut plan = plan(Vec::new());
    plan.upstreams = vec![UpstreamPlan {
        max_in_flight: Some(0),
        ..upstream("a", &[("127.0.0.1:1", 1)])
    }];
    let metrics = Metrics::new(&plan).unwrap();
    let upstreams = Upstreams::new(&plan, &metrics, &Clock::manual(1)).unwrap();
    assert_eq!(upstreams.all()[0].enter().err(), Some(NoPeer::Busy));
    assert_eq!(metrics.upstream(UpstreamId(0)).in_flight().get(), 0);
}

#[test]
fn a_peer_is_built_from_its_pool() {
    with_pool(upstream("a", &[("127.0.0.1:1", 1)]), |pool| {
        assert_eq!(&*pool.name, "a");
        let peer = first(pool);
        let options = &peer.options;
        assert_eq!(options.connection_timeout, Some(Duration::from_secs(1)));
        assert_eq!(
            options.total_connection_timeout,
            Some(Duration::from_secs(2))
        );
        assert_eq!(options.read_timeout, Some(Duration::from_secs(30)));
        assert_eq!(options.write_timeout, Some(Duration::from_secs(10)));
        assert_eq!(options.idle_timeout, Some(Duration::from_secs(15)));
        assert_eq!(
            options.http_upstream_request_policy,
            HttpUpstreamRequestPolicy::deny_upgrades()
        );
        assert!(!peer.is_tls());
    });
}

#[test]
fn a_tls_peer_is_checked_against_its_name() {
    let tls = UpstreamPlan {
        tls: Some(UpstreamTls {
            server_name: "accounts.internal".to_owned(),
            ca: None,
            own: None,
        }),
        ..upstream("a", &[("127.0.0.1:1", 1)])
    };
    with_pool(tls, |pool| {
        let peer = first(pool);
        assert!(peer.is_tls());
        assert_eq!(peer.sni, "accounts.internal");
        assert!(peer.options.verify_cert && peer.options.verify_hostname);
    });
}

#[test]
fn an_http2_peer_is_one_with_tls_and_without() {
    for tls in [false, true] {
        let pool = UpstreamPlan {
            http2: true,
            tls: tls.then(|| UpstreamTls {
                server_name: "accounts.internal".to_owned(),
                ca: None,
                own: None,
            }),
            ..upstream("a", &[("127.0.0.1:1", 1)])
        };
        with_pool(pool, |pool| {
            let options = first(pool).options;
            assert_eq!(options.alpn.get_min_http_version(), 2);
            assert_eq!(options.alpn.get_max_http_version(), 2);
            assert!(options.max_h2_streams > 1);
            // A caller that does not read stops itself and nobody else.
            let streams = u32::try_from(options.max_h2_streams).unwrap();
            let each = options.h2_stream_window_size.unwrap();
            assert_eq!(options.h2_connection_window_size, Some(streams * each));
        });
    }
}

/// Pingora would otherwise let one pool use a connection that another pool's trust opened.
#[test]
fn pools_with_one_address_do_not_share_connections() {
    let pools = upstreams(vec![
        upstream("a", &[("127.0.0.1:1", 1)]),
        upstream("b", &[("127.0.0.1:1", 1)]),
    ])
    .unwrap();
    let hash = |index: usize| {
        let peer = first(&pools.all()[index]);
        peer.reuse_hash()
    };
    assert_eq!(hash(0), hash(0));
    assert_ne!(hash(0), hash(1));
}

fn with_ca(ca: &Path) -> Result<Upstreams, String> {
    upstreams(vec![UpstreamPlan {
        tls: Some(UpstreamTls {
            server_name: "accounts.internal".to_owned(),
            ca: Some(ca.to_owned()),
            own: None,
        }),
        ..upstream("a", &[("127.0.0.1:1", 1)])
    }])
}

#[test]
fn a_ca_file_is_loaded() {
    let pair = rcgen::generate_simple_self_signed(vec!["ca.internal".to_owned()]).unwrap();
    let two = format!("{0}\n# and again\n{0}", pair.cert.pem());
    let scratch = Scratch::new();
    let pools = with_ca(&scratch.write("good-ca.pem", &two)).unwrap();
    let peer = first(&pools.all()[0]);
    assert_eq!(peer.options.ca.as_ref().map(|ca| ca.len()), Some(2));
}

#[test]
fn a_ca_file_that_is_none_is_named_in_one_line() {
    let key = rcgen::generate_simple_self_signed(vec!["ca.internal".to_owned()])
        .unwrap()
        .signing_key
        .serialize_pem();
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let unclosed = "-----BEGIN CERTIFICATE-----\nAAAA\n";
    let scratch = Scratch::new();
    for (name, content) in [
        ("empty.pem", ""),
        ("text.pem", "not a certificate"),
        ("key.pem", key.as_str()),
        ("garbage.pem", garbage),
        ("unclosed.pem", unclosed),
    ] {
        let problem = with_ca(&scratch.write(name, content)).err().unwrap();
        assert!(problem.starts_with("cannot use the CA file "), "{problem}");
        assert!(problem.contains(name), "{problem}");
        assert!(!problem.contains('\n'), "{problem}");
        assert!(!problem.contains("PRIVATE"), "{problem}");
    }
    let problem = with_ca(Path::new("/nonexistent/ca.pem")).err().unwrap();
    assert!(problem.contains("/nonexistent/ca.pem"), "{problem}");
    assert!(with_ca(scratch.directory()).is_err());
}
