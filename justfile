# Short names for what .ci/run does step by step; `just --list` shows them.

# the whole test suite; needs nothing but Rust, a C compiler and cmake
test:
    cargo test --locked

# format, lints, docs and dependencies, as CI wants them
check:
    cargo fmt --all --check
    cargo clippy --all-targets --locked -- -D warnings
    RUSTDOCFLAGS='-D warnings' cargo doc --no-deps --locked --document-private-items
    cargo deny check bans licenses sources

# issuer, services and gateway in one process
demo:
    cargo run --release --locked -- demo

# the suite against a real Keycloak, which is fetched once
keycloak:
    scripts/keycloak.sh fetch
    cargo test --locked --test keycloak

# a real Prometheus scrapes the demo
prometheus:
    cargo build --release --locked
    scripts/prometheus.sh

# HTTP/2 to the letter, and slow clients
hostile:
    cargo build --release --locked
    scripts/h2spec.sh
    scripts/slowhttptest.sh

# k6 on the hot path; keeps its summary in loadtest/results
load:
    cargo build --release --locked
    loadtest/run.sh

# ten thousand slow connections, and distinct paths by the hundred thousand
attack:
    cargo build --release --locked
    loadtest/hostile.sh

# kill -9 on one of three peers, twenty times under load
kill:
    cargo build --release --locked
    loadtest/kill.sh

# how each way of balancing shares out, and what one slow peer costs
balance:
    cargo build --release --locked
    loadtest/balance.sh

# fuzzes one target after the other, ten minutes each; needs nightly and cargo-fuzz
fuzz:
    fuzz/campaign.sh 600

# everything
ci:
    .ci/run
