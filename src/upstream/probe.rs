//! Asks a peer whether it is well, over the connections that requests would take: the same address, TLS and name.

use std::time::Duration;

use http::header;
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::upstreams::peer::HttpPeer;

use super::peer::Peer;
use crate::config::plan::HealthPlan;

/// Interim answers that are read before the one that counts.
const INTERIM: usize = 4;

pub(super) struct Prober {
    connector: Connector,
    plan: HealthPlan,
}

impl Prober {
    pub(super) fn new(plan: HealthPlan) -> Self {
        Prober {
            // Its own, because the traffic's is not to be had. It keeps no connection: a check that goes over an open
            // one says nothing about the next connection.
            connector: Connector::new(None),
            plan,
        }
    }

    /// # Errors
    /// What is wrong with the peer, in a few words.
    pub(super) async fn ask(&self, peer: &Peer) -> Result<(), String> {
        let Some(mut target) = peer.connectable() else {
            return Err("its name is not known".to_owned());
        };
        // The connector would keep an HTTP/2 connection that has room for another request.
        target.options.max_h2_streams = 1;
        match tokio::time::timeout(self.plan.timeout, self.status(peer, &target)).await {
            Ok(Ok(status)) if (200..300).contains(&status) => Ok(()),
            Ok(Ok(status)) => Err(format!("it answers {status}")),
            Ok(Err(error)) => Err(error.etype().as_str().to_owned()),
            Err(_) => Err("it does not answer in time".to_owned()),
        }
    }

    async fn status(&self, peer: &Peer, target: &HttpPeer) -> pingora::Result<u16> {
        let host = match target.sni.as_str() {
            "" => peer.address(),
            name => name,
        };
        let mut head = RequestHeader::build("GET", self.plan.path.as_bytes(), Some(3))?;
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
