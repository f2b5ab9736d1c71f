//! What the tests stand on: a gateway in this process, an origin that records bytes, and clients that send them.

mod demo;
mod dpop;
mod dns;
mod faulty;
pub mod frames;
mod gateway;
mod grpc;
mod h2_origin;
mod http1;
mod http2;
mod mortal;
mod origin;
mod scratch;
mod strict;
mod tls;
mod websocket;
mod wire;
mod process;

pub use demo::{Demo, command as demo_command};
pub use dns::{NameServer, Reply, alias, record};
pub use dpop::{Holder, Proof};
pub use faulty::{Faulty, Ill, gzip_bomb};
pub use gateway::{Gateway, Setup, eventually};
pub use grpc::{GrpcClient, GrpcOrigin};
pub use h2_origin::{First, H2Origin};
pub use http1::{Answer, Connection, get, send};
pub use http2::Http2;
pub use mortal::{Mortal, reset};
pub use origin::{Origin, Received};
pub use process::{Finished, Process, Running, free_ports, loopback, portcullis, run};
pub use scratch::Scratch;
pub use strict::StrictOrigin;
pub use tls::{Authority, Pair, SecureOrigin, handshake, open_tls};
pub use websocket::{Socket, SocketOrigin};
pub use wire::{Closed, Full, Wire};

/// For a server or a client that runs beside its test, which is a plain function.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}
