//! What the tests stand on: a gateway in this process, an origin that records bytes, and clients that send them.

mod gateway;
mod http1;
mod http2;
mod origin;
mod scratch;
mod tls;
mod wire;

pub use gateway::{Gateway, Setup, eventually};
pub use http1::{Answer, Connection, get};
pub use http2::Http2;
pub use origin::{Origin, Received};
pub use scratch::Scratch;
pub use tls::{Authority, SecureOrigin, open_tls};
pub use wire::{Closed, Full, Wire};
