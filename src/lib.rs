//! Portcullis: the OAuth 2.0 resource server in front of your microservices.
//!
//! The modules stand in the order in which a request meets them; reading only their names tells a request's life.

#![forbid(unsafe_code)]

// Before any request: the process, its configuration, its services.
pub mod cli;
pub mod config;
pub mod server;
pub mod reload;
pub mod background;
pub mod clock;

// A request's life.
pub mod edge;
pub mod gateway;
pub mod request;
pub mod route;
pub mod cors;
pub mod credential;
pub mod verify;
pub mod authorize;
pub mod limit;
pub mod upstream;
pub mod forward;
pub mod reject;
pub mod observe;

// Not the product: the issuer and the services that the demo, the tests and the load tests stand on.
pub mod demo;

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(any(test, fuzzing))]
#[cfg_attr(
    not(test),
    allow(dead_code, reason = "fuzzers need a part of what tests need")
)]
mod testkit;
