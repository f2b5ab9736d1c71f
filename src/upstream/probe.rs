//! Asks a peer whether it is well, over a connection as requests would take it: the same TLS and name, and the same
//! address unless the checks have a port of their own.

use std::time::Duration;

use http::header;
use pingora::connectors::TransportConnector;
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::upstreams::peer::HttpPeer;

use super::peer::Peer;
use crate::config::plan::{CheckPlan, HealthPlan};

/// Interim answers that are read before the one that counts.
const INTERIM: usize = 4;

pub(super) struct Prober {
    connector: Connector,
    transport: TransportConnector,
    plan: HealthPlan,
}

impl Prober {
    pub(super) fn new(plan: HealthPlan) -> Self {
        Prober {
            // Its own, because the traffic's is not to be had. It keeps no connection: a check that goes over an open
            // one says nothing about the next connection.
            connector: Connector::new(None),
            transport: TransportConnector::new(None),
            plan,
        }
    }

    /// # Errors
    /// What is wrong with the peer, in a few words.
    pub(super) async fn ask(&self, peer: &Peer) -> Result<(), String> {
        let plain = match &self.plan.check {
            CheckPlan::Http { plain, .. } => *plain,
            CheckPlan::Tcp | CheckPlan::Tls => false,
        };
        let Some(mut target) = peer.checkable(self.plan.port, plain) else {
            return Err("its name is not known".to_owned());
        };
        // The connector would keep an HTTP/2 connection that has room for another request.
        target.options.max_h2_streams = 1;
        match tokio::time::timeout(self.plan.timeout, self.answer(peer, &target)).await {
            Ok(answer) => answer,
            Err(_) => Err("it does not answer in time".to_owned()),
        }
    }

    async fn answer(&self, peer: &Peer, target: &HttpPeer) -> Result<(), String> {
        let in_short = |error: Box<pingora::Error>| error.etype().as_str().to_owned();
        match &self.plan.check {
            CheckPlan::Tcp => match target._address.as_inet() {
                Some(address) => {
                    let connected = tokio::net::TcpStream::connect(address).await;
                    connected
                        .map(drop)
                        .map_err(|error| error.kind().to_string())
                }
                None => Err("it has no address".to_owned()),
            },
            CheckPlan::Tls => {
                let connected = self.transport.new_stream(target).await;
                connected.map(drop).map_err(in_short)
            }
            CheckPlan::Http {
                path,
                host,
                statuses,
                ..
            } => {
                let host = match (host, target.sni.as_str()) {
                    (Some(host), _) => host.as_str(),
                    (None, "") => peer.address(),
                    (None, name) => name,
                };
                let status = self.status(target, path, host).await.map_err(in_short)?;
                let well = match statuses.as_slice() {
                    [] => (200..300).contains(&status),
                    wanted => wanted.contains(&status),
                };
                match well {
                    true => Ok(()),
                    false => Err(format!("it answers {status}")),
                }
            }
        }
    }

    /// The head of the answer is all that is read of it.
    async fn status(&self, target: &HttpPeer, path: &str, host: &str) -> pingora::Result<u16> {
        let mut head = RequestHeader::build("GET", path.as_bytes(), Some(3))?;
        head.insert_header(header::HOST, host)?;
        head.insert_header(header::USER_AGENT, "portcullis-health")?;
        let (mut session, _) = self.connector.get_http_session(target).await?;
        if session.as_http1().is_some() {
            head.insert_header(header::CONNECTION, "close")?;
        }
        session.write_request_header(Box::new(head)).await?;
        session.finish_request_body().await?;
        let mut status = 0;
        for _ in 0..INTERIM {
            session.read_response_header().await?;
            status = session
                .response_header()
                .map_or(0, |head| head.status.as_u16());
            if status >= 200 {
                break;
            }
        }
        session.shutdown().await;
        Ok(status)
    }

    /// A part of the interval, so that replicas and peers are not asked all at once.
    pub(super) fn jitter(&self) -> Duration {
        self.plan.interval.mul_f64(fastrand::f64() / 10.0)
    }
}
