//! The whole gateway on real sockets, with real tokens minted for each test. One binary: linking Pingora is the slowest
//! part of a test run.

#![allow(unreachable_pub, reason = "nothing of a test binary is reachable")]
#![allow(
    clippy::unwrap_used,
    reason = "a test that unwraps says where it broke"
)]

mod answers;
mod carry;
mod faults;
mod flood;
mod grpc;
mod http2_upstream;
mod keys;
mod matrix;
mod peers_that_die;
mod peers_that_lie;
mod pipelining;
mod discovery;
mod pools;
mod canary;
mod cli;
mod cors;
mod demo;
mod deploy;
mod docs;
mod dpop;
mod eazybank;
mod hostile;
mod layout;
mod opening;
mod process;
mod reload;
mod health;
mod introspection;
mod retries;
mod revocation;
mod support;
mod tls;
mod upgrade;
mod upstream_view;
mod websocket;
