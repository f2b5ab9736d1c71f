//! The whole gateway on real sockets, with real tokens minted for each test. One binary: linking Pingora is the slowest
//! part of a test run.

#![allow(unreachable_pub, reason = "nothing of a test binary is reachable")]

mod answers;
mod introspection;
mod support;
mod upstream_view;
