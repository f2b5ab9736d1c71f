//! One address of a pool, as Pingora wants it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};

use super::standing::{Standing, State};
use super::trust::{self, Trust};
use crate::config::plan::{UpstreamPlan, UpstreamTimeouts};

/// A peer is a `host:port` and, once that name is known, a ready-made Pingora peer to clone.
pub struct Peer {
    address: String,
    weight: u32,
    in_flight: Arc<AtomicU32>,
    pub(super) standing: Arc<Standing>,
    template: ArcSwapOption<HttpPeer>,
    build: Arc<Template>,
}

/// What all peers of a pool share.
pub(super) struct Template {
    sni: String,
    tls: bool,
    http2: bool,
    group_key: u64,
    timeouts: UpstreamTimeouts,
    /// `None` without files of its own.
    pub(super) trust: Option<Arc<Trust>>,
}

/// Requests at once over one HTTP/2 connection; a peer that allows fewer is heard. More of them open another one.
const STREAMS: usize = 100;

/// What we hold of an answer whose caller does not read. Pingora's 8 MiB a stream would let a caller fill our memory;
/// and a connection that has less than all its streams would let one caller stop the answers of all others.
const WINDOW: u32 = 128 * 1024;

impl Template {
    pub(super) fn new(plan: &UpstreamPlan) -> Result<Arc<Self>, String> {
        let tls = plan.tls.as_ref();
        Ok(Arc::new(Template {
            sni: tls.map_or_else(String::new, |tls| tls.server_name.clone()),
            tls: tls.is_some(),
            http2: plan.http2,
            group_key: trust::group_key(plan),
            timeouts: plan.timeouts.clone(),
            trust: tls
                .filter(|files| files.ca.is_some() || files.own.is_some())
                .map(|files| Trust::open(plan, files))
                .transpose()?,
        }))
    }

    /// Whether the files that the plan names still say the same.
    pub(super) fn trusts_as(&self, other: &Template) -> bool {
        let contents = |template: &Template| {
            let trust = template.trust.as_ref();
            trust.map(|trust| trust.contents())
        };
        contents(self) == contents(other)
    }

    fn peer(&self, address: SocketAddr) -> HttpPeer {
        let mut peer = HttpPeer::new(address, self.tls, self.sni.clone());
        peer.group_key = self.group_key;
        let options = &mut peer.options;
        options.connection_timeout = Some(self.timeouts.connect);
        // The handshake has its own share of the same length.
        options.total_connection_timeout = Some(self.timeouts.connect * 2);
        options.read_timeout = Some(self.timeouts.read);
        options.write_timeout = Some(self.timeouts.write);
        options.idle_timeout = Some(self.timeouts.idle);
        // A tunnel would outlive the token that opened it: who watches over one says so for its request alone.
        options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
        if self.http2 {
            // Not 1.1 instead: a gRPC call would lose its trailers, and nobody would know why.
            options.set_http_version(2, 2);
            options.max_h2_streams = STREAMS;
            options.h2_stream_window_size = Some(WINDOW);
            options.h2_connection_window_size = Some(WINDOW * STREAMS as u32);
        }
        peer
    }
}

impl Peer {
    pub(super) fn new(address: &str, weight: u32, build: Arc<Template>) -> Self {
        let peer = Peer {
            address: address.to_owned(),
            weight,
            in_flight: Arc::default(),
            standing: Arc::default(),
            template: ArcSwapOption::empty(),
            build,
        };
        if let Ok(known) = address.parse() {
            peer.resolved(known);
        }
        peer
    }

    /// The same peer as a plan before had it: how it stands, what it has to do, and where its name leads.
    pub(super) fn known_as(self, old: &Peer, checked: bool) -> Self {
        let address = old.template.load();
        if let Some(address) = address.as_ref().and_then(|peer| peer._address.as_inet()) {
            self.resolved(*address);
        }
        Peer {
            in_flight: old.in_flight.clone(),
            standing: match checked || old.standing.is_well() {
                true => old.standing.clone(),
                false => self.standing,
            },
            ..self
        }
    }

    pub fn weight(&self) -> u32 {
        self.weight
    }

    /// Requests that this gateway has at the peer.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Whether the next request would wait for fewer here, each measured by its weight.
    pub(super) fn less_loaded_than(&self, other: &Peer) -> bool {
        let load = |peer: &Peer| u64::from(peer.in_flight()) + 1;
        load(self) * u64::from(other.weight) < load(other) * u64::from(self.weight)
    }

    /// `host:port` as configured.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Whether the address is a name, which has to be looked up.
    pub fn is_name(&self) -> bool {
        self.address.parse::<SocketAddr>().is_err()
    }

    /// Without an address to connect to, a peer is no better than one that is down.
    pub fn state(&self, now: Duration) -> State {
        match self.template.load().is_some() {
            true => self.standing.state(now),
            false => State::Unhealthy,
        }
    }

    /// The name's address from now on; the last one is kept until another comes. True if it is the first.
    pub(super) fn resolved(&self, address: SocketAddr) -> bool {
        let known = self.template.load();
        let new = pingora::protocols::l4::socket::SocketAddr::Inet(address);
        if known.as_ref().is_none_or(|peer| peer._address != new) {
            self.template
                .store(Some(Arc::new(self.build.peer(address))));
        }
        known.is_none()
    }

    /// A Pingora peer of one's own; `None` while the name is unknown.
    pub(super) fn connectable(&self) -> Option<Box<HttpPeer>> {
        let known = self.template.load();
        let mut peer = Box::new(HttpPeer::clone(known.as_ref()?));
        if let Some(trust) = &self.build.trust {
            trust.apply(&mut peer);
        }
        Some(peer)
    }
}

/// Counts one request at its peer until dropped.
pub struct AtPeer(Arc<Peer>);

impl AtPeer {
    pub(super) fn new(peer: Arc<Peer>) -> Self {
        peer.in_flight.fetch_add(1, Ordering::Relaxed);
        AtPeer(peer)
    }

    pub fn peer(&self) -> &Arc<Peer> {
        &self.0
    }
}

impl Drop for AtPeer {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
