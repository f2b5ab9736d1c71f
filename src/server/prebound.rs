//! A Pingora service on a socket that is already bound.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::IntoRawFd;

use async_trait::async_trait;
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::{Service, ServiceReadyNotifier, ServiceWithDependents};

/// Hands its socket to Pingora by the table that Pingora keeps for taking over a predecessor's sockets.
pub(super) struct Prebound<S> {
    service: S,
    key: String,
    socket: Option<TcpListener>,
    until_the_end: bool,
    /// Held so that an endless service never sees its shutdown channel close.
    never: Option<tokio::sync::watch::Sender<bool>>,
}

impl<S> Prebound<S> {
    pub(super) fn new(service: S, address: SocketAddr, socket: TcpListener) -> Self {
        Prebound {
            service,
            key: address.to_string(),
            socket: Some(socket),
            until_the_end: false,
            never: None,
        }
    }

    /// Goes on accepting while others drain.
    pub(super) fn until_the_end(mut self) -> Self {
        self.until_the_end = true;
        self
    }
}

#[async_trait]
impl<S: Service + 'static> ServiceWithDependents for Prebound<S> {
    async fn start_service(
        &mut self,
        fds: Option<ListenFds>,
        mut shutdown: ShutdownWatch,
        listeners_per_fd: usize,
        ready: ServiceReadyNotifier,
    ) {
        if let (Some(fds), Some(socket)) = (&fds, self.socket.take()) {
            fds.lock().add(self.key.clone(), socket.into_raw_fd());
        }
        if self.until_the_end {
            let (never, watch) = tokio::sync::watch::channel(false);
            self.never = Some(never);
            shutdown = watch;
        }
        ready.notify_ready();
        Service::start_service(&mut self.service, fds, shutdown, listeners_per_fd).await;
    }

    fn name(&self) -> &str {
        self.service.name()
    }

    fn threads(&self) -> Option<usize> {
        self.service.threads()
    }

    fn listen_addresses(&self) -> Option<Vec<String>> {
        Some(vec![self.key.clone()])
    }
}
