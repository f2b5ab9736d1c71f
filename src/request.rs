//! What a request asks for, in the one reading that every server behind us shares, or a refusal.
//!
//! What is matched is what is authorised is what is sent: a target or a framing that two servers could read
//! differently is refused with 400, never repaired (RFC 9112 sections 3 and 6, RFC 3986 section 6).

mod forms;
mod framing;
mod grpc;
mod ids;
mod target;
mod upgrade;

pub use framing::{BodyLength, body_length, http2_is_plain};
pub use grpc::is_grpc;
pub use ids::{RequestId, Trace};
pub(crate) use ids::{TRACEPARENT, X_REQUEST_ID, X_REQUEST_ID_NAME};
pub use target::{Target, inspect};
pub(crate) use target::{path_has_one_reading, unescaped};
pub use upgrade::{agrees, opens_websocket};

#[cfg(test)]
mod tests;
