use super::super::layout::place_of;
use super::super::peer::{AtPeer, Template};
use super::super::warmth::Warmth;
use super::*;
use crate::config::plan::HashOn;
use crate::testkit::upstream;

fn peers(weights: &[u32]) -> Vec<Arc<Peer>> {
    let template = Template::new(&upstream("a", &[]), weights.len()).expect("no files");
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
