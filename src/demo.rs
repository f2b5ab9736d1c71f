//! The embedded Keycloak-shaped issuer and the three services.
//!
//! Not the product: the demo, the tests, the benches and the load tests stand on them. Everything here binds loopback
//! only, and every secret in the realm is public.

pub mod banner;
mod grant;
pub mod issuer;
pub mod keys;
pub mod mint;
pub mod realm;
pub mod services;
mod serving;
#[cfg(test)]
mod tests;

pub use issuer::{Endpoint, Fault, Issuer, IssuerOptions};
pub use keys::KeySource;
pub use mint::{ClaimsEdit, Signer};
pub use services::Services;
