//! The whole gateway on real sockets, with real tokens minted for each test. One binary: linking Pingora is the slowest
//! part of a test run.

mod answers;
mod support;
mod upstream_view;
