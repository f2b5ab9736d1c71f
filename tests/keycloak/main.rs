//! The real binary in front of services and behind a real Keycloak.
//!
//! Not part of `cargo test`: it needs a distribution of Keycloak and Java, which `scripts/keycloak.sh fetch` gets.
//! Keycloak takes half a minute to start and some steps change the realm, so the steps run one after the other, on one
//! server as far as possible, and each tells what it saw. A step that fails does not keep the others from running.

#![allow(unreachable_pub, reason = "nothing of a test binary is reachable")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that unwraps says where it broke, and its output is its result"
)]

mod assertion;
mod away;
mod clients;
mod command;
mod dpop;
mod gateway;
mod hostname;
mod introspection;
#[path = "../it/support/http1.rs"]
#[expect(dead_code, reason = "the other suite uses more of it")]
mod http1;
mod keycloak;
mod kinds;
mod likeness;
mod load;
#[path = "../it/support/dpop.rs"]
mod proof;
mod rotation;
mod revocation;
mod say;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use gateway::Portcullis;
use keycloak::Keycloak;
use portcullis::demo::Services;
use say::say;

/// What most steps stand on.
struct World {
    keycloak: Keycloak,
    services: Services,
    gateway: Portcullis,
}

/// What every other step needs.
const FIRST: &str = "a gateway that starts before Keycloak";

fn main() -> ExitCode {
    let began = Instant::now();
    // `cargo test --test keycloak -- crash`: only the steps whose names have this in them.
    let only = std::env::args().nth(1).unwrap_or_default();
    let (mut ran, mut failed) = (0, Vec::new());
    // Nothing works without the first server, so a failure here is the end.
    let mut step = |name: &'static str, run: &mut dyn FnMut()| {
        if name != FIRST && !name.contains(&only) {
            return;
        }
        ran += 1;
        say::step(name);
        let began = Instant::now();
        if catch_unwind(AssertUnwindSafe(run)).is_err() {
            failed.push(name);
        }
        say!("{:.1} s", began.elapsed().as_secs_f64());
    };
    let mut world = None;
    step(FIRST, &mut || {
        world = Some(away::before());
    });
    if let Some(mut world) = world {
        step("each client of the realm", &mut || clients::all(&world));
        step("a token that lives for five seconds", &mut || {
            clients::short(&world);
        });
        step("tokens bound to a key", &mut || dpop::bound(&world));
        step("tokens of other kinds", &mut || kinds::all(&world));
        step("portcullis token", &mut || command::token(&world));
        step("the demo's issuer beside Keycloak", &mut || {
            likeness::all(&world);
        });
        step("Keycloak is asked about tokens", &mut || {
            introspection::all(&world);
        });
        step("the gateway has a key instead of a secret", &mut || {
            assertion::all(&world);
        });
        step("tokens that end before their time", &mut || {
            revocation::all(&world);
        });
        step("rotation of keys", &mut || rotation::all(&world));
        step("twenty rotations under load", &mut || {
            rotation::rolling(&world);
        });
        step("a crash of Keycloak under load", &mut || {
            away::crash(&mut world);
        });
        step("separate internal and external URLs", &mut || {
            hostname::all(&mut world);
        });
    }
    if failed.is_empty() && ran == 1 && !FIRST.contains(&only) {
        println!("\nno step has {only:?} in its name");
        return ExitCode::FAILURE;
    }
    let took = began.elapsed().as_secs();
    if failed.is_empty() {
        println!("\nall passed in {took} s");
        ExitCode::SUCCESS
    } else {
        println!("\nFAILED after {took} s: {}", failed.join("; "));
        ExitCode::FAILURE
    }
}

/// Polls with a deadline: the only waiting there is. Returns how long it took.
#[track_caller]
fn eventually(what: &str, within: u64, mut holds: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !holds() {
        assert!(
            began.elapsed() < Duration::from_secs(within),
            "not in {within} s: {what}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    began.elapsed()
}

/// A port that nobody uses now.
fn free_port() -> u16 {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}
