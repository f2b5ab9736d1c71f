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
    /// Nobody is accepted before.
    go: ShutdownWatch,
    /// When it ends, if not with the others.
    until: Option<ShutdownWatch>,
}

impl<S> Prebound<S> {
    pub(super) fn new(
        service: S,
        address: SocketAddr,
        socket: TcpListener,
        go: ShutdownWatch,
    ) -> Self {
        Prebound {
            service,
            key: address.to_string(),
            socket: Some(socket),
            go,
            until: None,
        }
    }

    /// Goes on accepting while others drain.
    pub(super) fn until(mut self, end: ShutdownWatch) -> Self {
        self.until = Some(end);
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
        ready.notify_ready();
        tokio::select! {
            _ = shutdown.wait_for(|stopping| *stopping) => return,
            gone = self.go.wait_for(|go| *go) => if gone.is_err() {
                return;
            }
        }
        if let (Some(fds), Some(socket)) = (&fds, self.socket.take()) {
            fds.lock().add(self.key.clone(), socket.into_raw_fd());
        }
        let shutdown = self.until.clone().unwrap_or(shutdown);
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
