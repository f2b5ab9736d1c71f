//! What happens to a request that may pass: bodies, framing, pools and their timeouts.

mod attempts;
mod bodies;
mod connections;
mod expectations;

use std::io::Write;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use portcullis::clock::Clock;
use portcullis::demo::issuer::{Issuer, IssuerOptions};

use crate::support::{Closed, Connection, Full, Gateway, Origin, Setup, Wire, eventually, get};

const HELLO: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

fn issuer() -> Issuer {
    Issuer::start_blocking(IssuerOptions::default()).unwrap()
}

/// A public route `/open` and a protected one to this upstream, given as its YAML.
fn in_front_of(upstream: &str) -> Setup {
    Setup::new(&issuer(), ([127, 0, 0, 1], 1).into())
        .upstreams(format!("{{ origin: {upstream} }}"))
        .routes(
            "[{ name: open, match: { path: /open }, upstream: origin, access: public },
              { name: closed, match: { path: /closed }, upstream: origin, access: {} }]",
        )
}

fn before(wire: &Wire) -> Gateway {
    in_front_of(&format!("{{ peers: ['{}'] }}", wire.address())).start_unready()
}

/// Both ends of a request that has reached its upstream.
fn asked(gateway: &Gateway, wire: &Wire, request: &str) -> (Connection, Connection) {
    let mut client = Connection::open(gateway.address());
    client.send(request);
    let mut upstream = wire.accept();
    upstream.head();
    (client, upstream)
}

fn carried(outcome: &str) -> String {
    format!("portcullis_upstream_requests_total{{outcome=\"{outcome}\",upstream=\"origin\"}}")
}

const IN_FLIGHT: &str = "portcullis_upstream_in_flight{upstream=\"origin\"}";
