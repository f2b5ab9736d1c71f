//! More tokens than any cache holds, good and bad, each used once, and an ordinary caller beside: all of them are
//! judged, and nothing grows.
//!
//! Some thousands here; docs/security.md has the figures of a million each.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis::demo::issuer::{Issuer, IssuerOptions};
use portcullis::demo::mint::Signer;
use portcullis::demo::services::Service;
use serde_json::{Value, json};

use crate::support::{Connection, Running, Setup, get};

const READER: &str = "eazybank-accounts-reader-cc";
/// Good tokens, and as many forged ones.
const COUNT: usize = 1500;
/// Far fewer proofs than there are tokens.
const CACHE: u64 = 256 << 10;
/// A gateway may grow by so much over all of it: its cache, buffers, and what an allocator keeps.
const GROWTH_KIB: u64 = 16 << 10;

/// Tokens of one client with a name of their own each.
struct Mint<'a> {
    issuer: &'a Issuer,
    header: String,
    claims: Value,
}

impl<'a> Mint<'a> {
    /// EdDSA, because a million RSA signatures take an hour.
    fn new(issuer: &'a Issuer) -> Self {
        let kid = issuer.rotate("EdDSA").unwrap();
        let usual = issuer.token(READER, &[]);
        let payload = usual.split('.').nth(1).unwrap();
        Mint {
            issuer,
            header: format!(r#"{{"alg":"EdDSA","typ":"JWT","kid":"{kid}"}}"#),
            claims: serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap(),
        }
    }

    fn token(&self, name: &str) -> String {
        let mut claims = self.claims.clone();
        claims["jti"] = json!(name);
        let signer = Signer::Active("EdDSA".to_owned());
        self.issuer.sign(&self.header, &claims.to_string(), &signer)
    }

    /// Its signature is another token's.
    fn forged(&self, name: &str, good: &str) -> String {
        let mut claims = self.claims.clone();
        claims["jti"] = json!(name);
        let (header, rest) = good.split_once('.').unwrap();
        let (_, signature) = rest.split_once('.').unwrap();
        let claims = URL_SAFE_NO_PAD.encode(claims.to_string());
        format!("{header}.{claims}.{signature}")
    }
}

/// One kept connection.
struct Caller {
    address: SocketAddr,
    connection: Connection,
}

impl Caller {
    fn new(address: SocketAddr) -> Self {
        Caller {
            address,
            connection: Connection::open(address),
        }
    }

    fn ask(&mut self, token: &str) -> u16 {
        let head =
            format!("GET /api/fetch HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n");
        let answer = self.connection.send(head).answer();
        if answer.header("connection") == Some("close") {
            self.connection = Connection::open(self.address);
        }
        answer.status
    }
}

/// The same token until somebody says so.
fn ordinary(address: SocketAddr, token: &str, over: &AtomicBool) {
    let mut caller = Caller::new(address);
    while !over.load(Ordering::Relaxed) {
        assert_eq!(caller.ask(token), 200);
    }
}

fn series(admin: SocketAddr) -> usize {
    let scrape = get(admin, "/metrics", None);
    let lines = scrape.text().lines();
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .count()
}

#[test]
fn a_flood_of_distinct_tokens_is_judged_and_leaves_no_trace() {
    let issuer = Issuer::start_blocking(IssuerOptions::default()).unwrap();
    let mint = Mint::new(&issuer);
    // It keeps nothing of what it gets.
    let origin = Service::start("accounts", 0).unwrap();
    let route = "[{ name: api, match: { path: /api }, upstream: origin, access: {} }]";
    let mut setup = Setup::new(&issuer, origin.address()).routes(route);
    setup.token_cache = format!("{{ max_bytes: {}KiB }}", CACHE >> 10);
    let mut running = Running::start(&setup);
    running.wait_ready();
    let (address, usual) = (running.address, mint.token("usual"));
    let forged = mint.forged("forged", &usual);
    assert_eq!(Caller::new(address).ask(&usual), 200);
    assert_eq!(Caller::new(address).ask(&forged), 401);
    let (before, series_before) = (running.process.resident_kib(), series(running.admin));

    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| ordinary(address, &usual, &over));
        let good = scope.spawn(|| {
            let mut caller = Caller::new(address);
            for number in 0..COUNT {
                assert_eq!(caller.ask(&mint.token(&format!("good-{number}"))), 200);
            }
        });
        let bad = scope.spawn(|| {
            let mut caller = Caller::new(address);
            for number in 0..COUNT {
                assert_eq!(
                    caller.ask(&mint.forged(&format!("bad-{number}"), &usual)),
                    401
                );
            }
        });
        let ended = [good.join(), bad.join()];
        over.store(true, Ordering::Relaxed);
        assert!(ended.iter().all(Result::is_ok));
    });

    let kept = running.metric("portcullis_token_cache_bytes").unwrap();
    let evicted = running.metric("portcullis_token_cache_evictions_total");
    let after = running.process.resident_kib();
    assert!(kept <= CACHE as f64, "{kept} bytes are kept");
    assert!(evicted.is_some_and(|evicted| evicted > 0.0), "{evicted:?}");
    assert_eq!(series(running.admin), series_before);
    assert!(
        after < before + GROWTH_KIB,
        "it grew from {before} to {after} KiB"
    );
}
