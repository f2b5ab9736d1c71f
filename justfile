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

# everything
ci:
    .ci/run
