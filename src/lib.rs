//! Portcullis: the OAuth 2.0 resource server in front of your microservices.
//!
//! The modules stand in the order in which a request meets them; reading only their names tells a request's life.

// Before any request: the process, its configuration, its services.
pub mod background;
pub mod cli;
pub mod clock;
pub mod config;
pub mod server;

// A request's life.
pub mod authorize;
pub mod credential;
pub mod edge;
pub mod forward;
pub mod gateway;
pub mod limit;
pub mod observe;
pub mod reject;
pub mod request;
pub mod route;
pub mod upstream;
pub mod verify;

// Not the product: the issuer and the services that the demo, the tests and the load tests stand on.
pub mod demo;

#[cfg(test)]
mod testkit;
