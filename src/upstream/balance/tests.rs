use super::super::peer::{AtPeer, Template};
use super::super::ring::place_of;
use super::super::warmth::Warmth;
use super::*;
use crate::config::plan::HashOn;
use crate::testkit::upstream;

fn peers(weights: &[u32]) -> Vec<Arc<Peer>> {
    let template = Template::new(&upstream("a", &[])).expect("no files");
    let peer = |(index, weight): (usize, &u32)| {
        let address = format!("10.0.{}.{}:80", index / 250, index % 250);
        let warmth = Warmth::of_founder();
        Arc::new(Peer::new(
            &address,
            *weight,
            index,
            warmth,
            template.clone(),
        ))
    };
    weights.iter().enumerate().map(peer).collect()
}

fn layout(peers: &[Arc<Peer>], balance: &Balance) -> Layout {
    Layout::new(peers.to_vec(), balance, |_| false)
}

fn wish(key: u64) -> Wish {
    Wish {
        key,
        again: false,
        now: Duration::ZERO,
    }
}

fn again(key: u64) -> Wish {
    Wish {
        again: true,
        ..wish(key)
    }
}

/// How often each peer is chosen.
fn counts(
    balance: &Balance,
    peers: &[Arc<Peer>],
    times: u64,
    skip: impl Fn(&Peer) -> bool,
) -> Vec<usize> {
    let layout = layout(peers, balance);
    let chooser = Chooser::new(balance.clone(), None);
    let mut counts = vec![0; peers.len()];
    for number in 0..times {
        let chosen = chooser.choose(&layout, wish(place_of(&number)), &skip);
        let chosen = chosen.expect("a peer");
        let index = peers.iter().position(|peer| Arc::ptr_eq(peer, chosen));
        counts[index.expect("one of ours")] += 1;
    }
    counts
}

fn nobody(_: &Peer) -> bool {
    false
}

const HASH: Balance = Balance::Hash(HashOn::Client);

#[test]
fn each_way_gives_shares_by_weight() {
    let peers = peers(&[4, 2, 1, 1]);
    for (balance, slack) in [
        (Balance::RoundRobin, 0.001),
        (Balance::Random, 0.1),
        (HASH, 0.35),
    ] {
        let counts = counts(&balance, &peers, 80_000, nobody);
        for (count, fair) in counts.iter().zip([40_000.0, 20_000.0, 10_000.0, 10_000.0]) {
            let off = (*count as f64 - fair).abs() / fair;
            assert!(off <= slack, "{balance:?}: {counts:?}");
        }
    }
}

#[test]
fn equal_peers_with_nothing_in_flight_share_least_requests() {
    let counts = counts(&Balance::LeastRequest, &peers(&[1; 8]), 80_000, nobody);
    let fair = 9_000..11_000;
    assert!(
        counts.iter().all(|count| fair.contains(count)),
        "{counts:?}"
    );
}

#[test]
fn of_two_the_less_loaded_is_chosen() {
    let peers = peers(&[1, 1]);
    let _three = [0; 3].map(|_| AtPeer::enter(&peers[0]));
    let counts = counts(&Balance::LeastRequest, &peers, 1000, nobody);
    assert_eq!(counts, [0, 1000], "two candidates are always both");
}

#[test]
fn load_is_measured_by_weight() {
    let peers = peers(&[3, 1]);
    let heavy = [0; 2].map(|_| AtPeer::enter(&peers[0]));
    assert!(!peers[0].less_loaded_than(&peers[1]) && !peers[1].less_loaded_than(&peers[0]));
    drop(heavy);
    assert!(peers[0].less_loaded_than(&peers[1]));
}

/// One peer holds what it gets, the others answer at once.
#[test]
fn a_slow_peer_gets_little_of_least_requests_and_its_full_share_of_turns() {
    let peers = peers(&[1; 10]);
    let stuck = |balance: Balance| {
        let layout = layout(&peers, &balance);
        let chooser = Chooser::new(balance, None);
        let mut held = Vec::new();
        for _ in 0..1000 {
            let chosen = chooser.choose(&layout, wish(0), nobody).expect("a peer");
            let slow = Arc::ptr_eq(chosen, &peers[0]);
            held.extend(slow.then(|| AtPeer::enter(chosen)));
        }
        held.len()
    };
    assert_eq!(stuck(Balance::RoundRobin), 100);
    assert!(stuck(Balance::LeastRequest) <= 2);
}

#[test]
fn whoever_is_skipped_is_never_chosen() {
    let peers = peers(&[1, 5, 1]);
    let heavy = peers[1].clone();
    for balance in [
        Balance::RoundRobin,
        Balance::LeastRequest,
        Balance::Random,
        HASH,
    ] {
        let counts = counts(&balance, &peers, 3000, |peer| {
            std::ptr::eq(peer, Arc::as_ptr(&heavy))
        });
        assert_eq!(counts[1], 0, "{balance:?}");
        assert!(
            counts[0] > 300 && counts[2] > 300,
            "{balance:?}: {counts:?}"
        );
        let layout = layout(&peers, &balance);
        let chooser = Chooser::new(balance, None);
        assert!(chooser.choose(&layout, again(1), |_| true).is_none());
    }
}

#[test]
fn one_peer_and_no_peer_are_no_special_case() {
    let one = peers(&[7]);
    for balance in [
        Balance::RoundRobin,
        Balance::LeastRequest,
        Balance::Random,
        HASH,
    ] {
        assert_eq!(counts(&balance, &one, 10, nobody), [10]);
        let layout = layout(&[], &balance);
        assert!(
            Chooser::new(balance, None)
                .choose(&layout, wish(0), nobody)
                .is_none()
        );
    }
}

#[test]
fn a_key_stays_with_its_peer_and_a_peer_that_leaves_takes_its_own_share_only() {
    let all = peers(&[1; 10]);
    let chooser = Chooser::new(HASH, None);
    let before = layout(&all, &HASH);
    let after = layout(&all[1..], &HASH);
    let mut moved = 0;
    for number in 0..10_000u64 {
        let key = place_of(&number);
        let old = chooser.choose(&before, wish(key), nobody).expect("a peer");
        let same = chooser.choose(&before, again(key), nobody).expect("a peer");
        let new = chooser.choose(&after, wish(key), nobody).expect("a peer");
        assert!(Arc::ptr_eq(old, same));
        if !Arc::ptr_eq(old, new) {
            assert!(Arc::ptr_eq(old, &all[0]), "{number} moved without a reason");
            moved += 1;
        }
    }
    assert!((500..1500).contains(&moved), "{moved}");
}

#[test]
fn a_ring_of_heavy_peers_has_a_bound() {
    let weights: Vec<u32> = (1..=500).collect();
    let layout = layout(&peers(&weights), &HASH);
    let places: usize = layout.tiers().iter().map(Tier::places).sum();
    assert!(places <= 2 * 64 * 1024, "{places}");
}

const SLOW: Duration = Duration::from_secs(30);

/// The first of these peers has come back just now.
fn one_is_back(count: usize) -> (Vec<Arc<Peer>>, Duration) {
    let (peers, now) = (peers(&vec![1; count]), Duration::from_secs(1000));
    for peer in &peers {
        peer.warmth.placed(true, now);
    }
    peers[0].warmth.placed(false, now);
    peers[0].warmth.placed(true, now);
    (peers, now)
}

#[test]
fn who_is_back_gets_a_part_of_its_share_however_peers_are_chosen() {
    for balance in [Balance::RoundRobin, Balance::Random, Balance::LeastRequest] {
        let (peers, now) = one_is_back(4);
        let is_warm = |peer: &Peer| peer.warmth.cold_until(now, SLOW).is_some();
        let layout = Layout::new(peers.clone(), &balance, is_warm);
        let chooser = Chooser::new(balance.clone(), Some(SLOW));
        let share = |after: u64| {
            let wish = Wish {
                now: now + Duration::from_secs(after),
                ..wish(0)
            };
            let chosen = (0..10_000).filter(|_| {
                let chosen = chooser.choose(&layout, wish, nobody).expect("a peer");
                Arc::ptr_eq(chosen, &peers[0])
            });
            chosen.count()
        };
        // A tenth of a peer in 3.1, then half of one in 3.5, then one of four.
        for (after, fair) in [(0, 322), (15, 1428), (30, 2500)] {
            let got = share(after);
            assert!(
                got.abs_diff(fair) < fair / 3,
                "{balance:?} after {after} s: {got}"
            );
        }
    }
}

#[test]
fn where_all_are_back_nobody_is_spared_and_a_second_attempt_spares_nobody() {
    let (peers, now) = one_is_back(2);
    let count = |layout: &Layout, wish: Wish| {
        let chooser = Chooser::new(Balance::RoundRobin, Some(SLOW));
        let chosen = (0..100).filter(|_| {
            let chosen = chooser.choose(layout, wish, nobody).expect("a peer");
            Arc::ptr_eq(chosen, &peers[0])
        });
        chosen.count()
    };
    let here = |again| Wish { now, again, key: 0 };
    let all = Layout::new(peers.clone(), &Balance::RoundRobin, |_| true);
    assert_eq!(count(&all, here(false)), 50);
    let one = Layout::new(peers.clone(), &Balance::RoundRobin, |peer| {
        peer.warmth.cold_until(now, SLOW).is_some()
    });
    assert!(count(&one, here(false)) < 15);
    assert_eq!(count(&one, here(true)), 100, "its turn is not over");
}

#[test]
fn the_next_tier_is_for_when_nobody_of_the_first_will_do() {
    let peers = peers(&[1, 1, 1, 1]);
    for (peer, priority) in peers.iter().zip([20, 10, 20, 10]) {
        peer.ranked(1, priority);
    }
    for balance in [
        Balance::RoundRobin,
        Balance::LeastRequest,
        Balance::Random,
        HASH,
    ] {
        let first = counts(&balance, &peers, 1000, nobody);
        assert_eq!((first[0], first[2]), (0, 0), "{balance:?}");
        assert!(first[1] > 200 && first[3] > 200, "{balance:?}: {first:?}");
        let second = counts(&balance, &peers, 1000, |peer| peer.priority() == 10);
        assert!(
            second[0] > 200 && second[2] > 200,
            "{balance:?}: {second:?}"
        );
    }
}

/// Peers that may have one request each.
fn capped(count: usize) -> Vec<Arc<Peer>> {
    let plan = crate::config::plan::UpstreamPlan {
        max_in_flight_per_peer: Some(1),
        dns: Some(crate::config::plan::DnsPlan::Services(
            "_a._tcp.a".to_owned(),
        )),
        ..upstream("a", &[])
    };
    let template = Template::new(&plan).expect("no files");
    let peer = |slot: usize| {
        let address = format!("10.0.{}.{}:80", slot / 250, slot % 250);
        let warmth = Warmth::of_founder();
        Arc::new(Peer::new(&address, 1, slot, warmth, template.clone()))
    };
    (0..count).map(peer).collect()
}

#[test]
fn the_last_peer_with_room_is_found_among_many_without_asking_them_all() {
    let peers = capped(500);
    for balance in [
        Balance::RoundRobin,
        Balance::LeastRequest,
        Balance::Random,
        HASH,
    ] {
        let layout = layout(&peers, &balance);
        let chooser = Chooser::new(balance.clone(), None);
        let asked = std::cell::Cell::new(0);
        let mut held = Vec::new();
        for _ in 0..peers.len() {
            asked.set(0);
            let chosen = chooser.choose(&layout, wish(7), |peer| {
                asked.set(asked.get() + 1);
                peer.is_full()
            });
            held.push(AtPeer::enter(chosen.expect("one has room")).expect("it has"));
            assert!(asked.get() <= PLACES + 1, "{balance:?}: {}", asked.get());
        }
        assert!(peers.iter().all(|peer| peer.in_flight() == 1));
        let full = |peer: &Peer| peer.is_full();
        assert!(chooser.choose(&layout, wish(7), full).is_none());
        held.swap_remove(250);
        assert!(chooser.choose(&layout, wish(7), full).is_some());
    }
}
