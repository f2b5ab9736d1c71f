//! What fuzzers call: one function for each kind of bytes that strangers send. It panics when a promise is broken.
//!
//! Built for `cargo fuzz` and for tests alone, so nothing of the product can lean on it. The corpora that campaigns
//! left behind run through the same functions in the ordinary test suite: what was once found stays found.

mod claim_to_header;
mod config;
mod credentials;
mod proxy_header;
mod readings;
mod strict;
mod target;
mod whole_proxy;

pub use self::claim_to_header::claim_to_header;
pub use self::config::config;
pub use self::credentials::authorization;
pub use self::proxy_header::proxy_header;
pub use self::target::target;
pub use self::whole_proxy::whole_proxy;
pub use crate::verify::fuzzing::{dpop, introspection, jwks, jwt};

#[cfg(test)]
mod tests;
