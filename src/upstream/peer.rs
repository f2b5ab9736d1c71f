//! One address of a pool, as Pingora wants it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use pingora::protocols::tls::CaType;
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};
use pingora::utils::tls::{WrappedX509, parse_x509};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::standing::{Standing, State};
use crate::config::plan::UpstreamPlan;

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
    ca: Option<Arc<CaType>>,
    /// What the CA file says, as a hash.
    authorities: Option<u64>,
    group_key: u64,
    plan_timeouts: crate::config::plan::UpstreamTimeouts,
}

impl Template {
    pub(super) fn new(plan: &UpstreamPlan) -> Result<Arc<Self>, String> {
        let tls = plan.tls.as_ref();
        let ca = tls
            .and_then(|tls| tls.ca.as_deref())
            .map(load_ca)
            .transpose()?;
        let authorities = ca.as_ref().map(|ca| digest(ca));
        // Pingora's connection pool does not key on the CA: without this, two pools with one address and different
        // trust would share connections, as would one pool before and after its trust was changed.
        let mut hasher = DefaultHasher::new();
        plan.name.hash(&mut hasher);
        tls.map(|tls| &tls.server_name).hash(&mut hasher);
        authorities.hash(&mut hasher);
        Ok(Arc::new(Template {
            sni: tls.map_or_else(String::new, |tls| tls.server_name.clone()),
            tls: tls.is_some(),
            ca,
            authorities,
            group_key: hasher.finish(),
            plan_timeouts: plan.timeouts.clone(),
        }))
    }

    /// Whether the files that the plan names still say the same.
    pub(super) fn trusts_as(&self, other: &Template) -> bool {
        self.authorities == other.authorities
    }

    fn peer(&self, address: SocketAddr) -> HttpPeer {
        let mut peer = HttpPeer::new(address, self.tls, self.sni.clone());
        peer.group_key = self.group_key;
        let options = &mut peer.options;
        options.ca = self.ca.clone();
        options.connection_timeout = Some(self.plan_timeouts.connect);
        // The handshake has its own share of the same length.
        options.total_connection_timeout = Some(self.plan_timeouts.connect * 2);
        options.read_timeout = Some(self.plan_timeouts.read);
        options.write_timeout = Some(self.plan_timeouts.write);
        options.idle_timeout = Some(self.plan_timeouts.idle);
        // A tunnel would outlive the token that opened it.
        options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
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
        self.template
            .load()
            .as_ref()
            .map(|peer| Box::new(HttpPeer::clone(peer)))
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

fn digest(ca: &CaType) -> u64 {
    let mut hasher = DefaultHasher::new();
    for certificate in ca.iter() {
        certificate.borrow_raw_cert().hash(&mut hasher);
    }
    hasher.finish()
}

fn load_ca(path: &Path) -> Result<Arc<CaType>, String> {
    let explain = |why: String| format!("cannot use the CA file {}: {why}", path.display());
    let mut trusted = rustls::RootCertStore::empty();
    let mut found = Vec::new();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|e| explain(e.to_string()))? {
        let certificate = certificate.map_err(|e| explain(e.to_string()))?;
        // Pingora's own parser panics on what is no certificate, so rustls looks first.
        trusted
            .add(certificate.clone())
            .map_err(|e| explain(e.to_string()))?;
        found.push(WrappedX509::new(certificate.to_vec(), parse_x509));
    }
    if found.is_empty() {
        return Err(explain("there is no certificate in it".to_owned()));
    }
    Ok(found.into())
}
