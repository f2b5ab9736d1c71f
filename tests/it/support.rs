//! What the tests stand on: a gateway in this process, an origin that records bytes, and clients that send them.

mod demo;
mod gateway;
mod http1;
mod origin;
mod process;

pub use demo::{Demo, command as demo_command};
pub use gateway::{Gateway, Setup, eventually};
pub use http1::{Answer, Connection, get};
pub use origin::{Origin, Received};
pub use process::{Finished, Process, Running, Scratch, free_ports, loopback, portcullis, run};
