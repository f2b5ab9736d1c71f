//! What the operator sees: metrics, access log, diagnostics, and the admin listener that serves them.

pub mod access_log;
pub mod admin;
pub mod logger;
pub mod metrics;
pub mod redact;
mod timestamp;
