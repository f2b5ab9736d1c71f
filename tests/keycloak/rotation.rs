//! Keys that come, retire and go, by the administrator's hand.

use std::collections::VecDeque;
use std::sync::{Barrier, RwLock};
use std::time::{Duration, Instant};

use crate::gateway::{COOLDOWN, Portcullis, REFRESH, Setup, read};
use crate::keycloak::{Keycloak, REALM, kid};
use crate::load::{self, Lane, counts};
use crate::say::say;
use crate::{World, eventually};

pub fn all(world: &World) {
    let World {
        keycloak, gateway, ..
    } = world;
    let call = read("accounts");
    let token = || keycloak.token("callcenter-cc", "accounts:read");
    let old = token();
    let old_kid = kid(&old);

    // The new one is in use before the old one goes: Keycloak makes one of its own when none is left.
    keycloak.add_key(500);
    let new = token();
    assert_ne!(kid(&new), old_kid);
    say!("new key {}, old key {old_kid}", kid(&new));
    gateway.passes("the new key, at once", call, &new);
    gateway.passes("the old key", call, &old);

    keycloak.set_key(&old_kid, "active", false);
    assert!(keycloak.published().contains(&old_kid));
    gateway.wait_refreshed();
    gateway.passes("the old key, passive", call, &old);
    assert_eq!(kid(&token()), kid(&new));

    keycloak.set_key(&old_kid, "enabled", false);
    assert!(!keycloak.published().contains(&old_kid));
    let took = eventually("the disabled key is forgotten", 4 * REFRESH, || {
        gateway.send(call, &old).status == 401
    });
    say!(
        "a disabled key is refused after {:.1} s",
        took.as_secs_f64()
    );
    gateway.refuses("the old key, disabled", call, &old, 401, "unknown_key");
    gateway.passes("the new key, still", call, &new);
}

const ROTATIONS: u32 = 20;
/// Callers that use a new key in the same moment.
const CROWD: usize = 4;

/// One key after the other, each in use at once while tokens of the one before still go round.
pub fn rolling(world: &World) {
    let World {
        keycloak, services, ..
    } = world;
    // No refresh comes by itself, so each fetch has been asked for by a token.
    let gateway = Portcullis::start(&Setup {
        changes: &[(&format!("refresh: {REFRESH}s"), "refresh: 12h")],
        ..Setup::new(&keycloak.url(REALM), services)
    });
    gateway.wait_ready();
    let fetches = || ["ok", "failed", "invalid"].map(|outcome| gateway.fetched(outcome));
    let before = fetches();

    let first = keycloak.token("callcenter-cc", "accounts:read");
    let current = RwLock::new([first.clone(), first]);
    let lanes = ["one", "other"].map(|name| Lane {
        name,
        call: read("accounts"),
        pause: Duration::from_millis(20),
        token: Box::new(|n| current.read().unwrap()[n % 2].clone()),
    });
    let retired = load::beside(&gateway, &lanes, |log| {
        let mut retired = None;
        let mut keys = VecDeque::new();
        let mut answered: Option<Instant> = None;
        let began = Instant::now();
        for round in 0..ROTATIONS {
            let provider = keycloak.add_key(1000 + round);
            let tokens = on_a_new_key(keycloak, &current.read().unwrap()[1]);
            // Nobody sends a token of the key before the last two any more. This round's fetch forgets it.
            if keys.len() == 3 {
                let (provider, token) = keys.pop_front().unwrap();
                keycloak.remove_key(&provider);
                retired = Some(token);
            }
            if let Some(at) = answered {
                // The cool-down began before that.
                let over = Duration::from_secs(COOLDOWN) + Duration::from_millis(50);
                std::thread::sleep(over.saturating_sub(at.elapsed()));
            }
            all_pass_at_once(&gateway, round, &tokens);
            answered = Some(Instant::now());
            let token = tokens[0].clone();
            let last = current.read().unwrap()[1].clone();
            *current.write().unwrap() = [last, token.clone()];
            keys.push_back((provider, token));
        }
        let took = began.elapsed().as_secs_f64();
        say!("{ROTATIONS} rotations in {took:.1} s, each key used by {CROWD} callers at once: 200");
        for lane in &lanes {
            let seen = log.of(lane.name);
            let bad: Vec<_> = seen.iter().filter(|seen| seen.status != 200).collect();
            assert!(
                bad.is_empty() && seen.len() > 100,
                "{bad:?} of {}",
                seen.len()
            );
            say!("a caller beside: {}", counts(&seen));
        }
        retired.unwrap()
    });
    let rotations = f64::from(ROTATIONS);
    assert_eq!(fetches(), [before[0] + rotations, before[1], before[2]]);
    say!("{ROTATIONS} fetches of keys, one for each");
    let call = read("accounts");
    gateway.refuses("a retired key", call, &retired, 401, "unknown_key");
}

/// One token for each of a crowd, by a key that has never signed for us.
fn on_a_new_key(keycloak: &Keycloak, old: &str) -> Vec<String> {
    let token = |_| keycloak.token("callcenter-cc", "accounts:read");
    let tokens: Vec<String> = (0..CROWD).map(token).collect();
    assert!(tokens.iter().all(|token| kid(token) != kid(old)));
    tokens
}

fn all_pass_at_once(gateway: &Portcullis, round: u32, tokens: &[String]) {
    let together = Barrier::new(tokens.len());
    let answers: Vec<_> = std::thread::scope(|scope| {
        let calls: Vec<_> = tokens
            .iter()
            .map(|token| {
                scope.spawn(|| {
                    together.wait();
                    gateway.send(read("accounts"), token)
                })
            })
            .collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    for answer in answers {
        assert_eq!(answer.status, 200, "rotation {round}: {}", answer.text());
    }
}
