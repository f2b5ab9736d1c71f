//! Where a proof's own time does not convince, a nonce of the gateway's does.

use std::time::Duration;

use portcullis::clock::Clock;

use super::{ALGS, World, challenges, setup};
use crate::support::{Answer, Holder};

const NOW: u64 = 1_790_000_000;

/// A world whose clock stands still.
struct Still {
    world: World,
    clock: Clock,
    token: String,
}

impl Still {
    fn new() -> Self {
        let clock = Clock::manual(NOW);
        let world = World::with("allow", clock.clone(), |setup| setup);
        Still {
            token: world.token(),
            world,
            clock,
        }
    }

    /// With a proof that was made at this time.
    fn ask(&self, iat: u64, nonce: Option<&str>) -> Answer {
        let proof = self.world.proof(&self.token).at(iat);
        let proof = match nonce {
            Some(nonce) => proof.with("nonce", nonce),
            None => proof,
        };
        self.world.ask(&self.token, &proof)
    }
}

/// The gateway asks for a nonce; which one.
#[track_caller]
fn asked(answer: &Answer) -> String {
    assert_eq!(answer.status, 401, "{answer:?}");
    let detail = "The DPoP proof needs the nonce of this answer.";
    assert_eq!(answer.json()["detail"], detail);
    let error = format!("error=\"use_dpop_nonce\", error_description=\"{detail}\"");
    let challenge = format!("DPoP realm=\"portcullis\", {error}, {ALGS}");
    assert_eq!(challenges(answer)[0], challenge);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    answer.header("dpop-nonce").unwrap().to_owned()
}

#[test]
fn a_client_whose_clock_is_wrong_is_told_a_nonce() {
    let still = Still::new();
    for iat in [NOW - 3600, NOW + 3600] {
        let nonce = asked(&still.ask(iat, None));
        let answer = still.ask(iat, Some(&nonce));
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("dpop-nonce"), None);
    }
    still.world.rejected("dpop_time", 2.0);
    assert_eq!(still.world.origin.received().len(), 2);
    // Who made it up is told another.
    let nonce = asked(&still.ask(NOW, Some("made-up")));
    assert_eq!(still.ask(NOW, Some(&nonce)).status, 200);
    still.world.rejected("dpop_nonce", 1.0);
    // Most never hear of nonces.
    let answer = still.ask(NOW, None);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("dpop-nonce"), None);
}

#[test]
fn the_next_nonce_comes_with_an_answer() {
    let still = Still::new();
    let first = asked(&still.ask(0, None));
    still.clock.advance(Duration::from_secs(60));
    let answer = still.ask(0, Some(&first));
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let second = answer.header("dpop-nonce").unwrap();
    assert_ne!(second, first);
    let answer = still.ask(0, Some(second));
    assert_eq!((answer.status, answer.header("dpop-nonce")), (200, None));
    assert_eq!(answer.header("cache-control"), None);
    still.clock.advance(Duration::from_secs(60));
    let third = asked(&still.ask(0, Some(&first)));
    assert_eq!(still.ask(0, Some(&third)).status, 200);
}

/// What it has accepted is forgotten when it ends; the next process takes nothing that is older than itself.
#[test]
fn a_proof_is_not_good_for_two_processes() {
    let Still {
        mut world,
        clock,
        token,
    } = Still::new();
    let ask = |world: &World, proof: &str| {
        super::ask(world.gateway.address(), "/accounts", &token, proof)
    };
    let by_time = world.proof(&token).at(NOW).seal();
    assert_eq!(ask(&world, &by_time).status, 200);
    let nonce = asked(&ask(&world, &world.proof(&token).at(0).seal()));
    let by_nonce = world.proof(&token).at(0).with("nonce", nonce).seal();
    assert_eq!(ask(&world, &by_nonce).status, 200);
    clock.advance(Duration::from_secs(1));
    world.gateway = setup(&world.issuer, &world.origin, &world.files, "allow", clock).start();
    for seen in [by_time, by_nonce] {
        asked(&ask(&world, &seen));
    }
    assert_eq!(world.origin.received().len(), 2);
    let fresh = world.proof(&token).at(NOW + 1).seal();
    assert_eq!(ask(&world, &fresh).status, 200);
}

#[test]
fn nobody_without_the_key_is_told_a_nonce() {
    let still = Still::new();
    let thief = Holder::new();
    let url = format!("{}/accounts", super::HOST);
    let proof = thief.proof("GET", &url).of(&still.token).at(0);
    still.world.refuses(&still.token, &proof, "dpop_holder");
}
