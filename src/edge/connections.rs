//! How many connections may be open, in all and from one source.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::plan::Limits;
use crate::limit::Source;

const SHARDS: usize = 32;

/// Counts the open connections of the whole process. A source costs memory only while it has one open.
pub struct Connections {
    cap: AtomicUsize,
    cap_per_source: AtomicUsize,
    open: AtomicUsize,
    hasher: RandomState,
    shards: [Mutex<HashMap<Source, usize>>; SHARDS],
}

impl Connections {
    pub fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Connections {
            cap: AtomicUsize::new(limits.connections),
            cap_per_source: AtomicUsize::new(limits.connections_per_source),
            open: AtomicUsize::new(0),
            hasher: RandomState::new(),
            shards: std::array::from_fn(|_| Mutex::new(HashMap::new())),
        })
    }

    /// Other caps from now on; whoever is over one of them already may stay.
    pub fn adopt(&self, limits: &Limits) {
        let per_source = limits.connections_per_source;
        self.cap.store(limits.connections, Ordering::Relaxed);
        self.cap_per_source.store(per_source, Ordering::Relaxed);
    }

    /// A place for one connection, given back when the ticket is dropped; `None` over either cap. A peer without an
    /// IP address counts against the whole alone.
    pub fn admit(self: &Arc<Self>, peer: Option<IpAddr>) -> Option<Ticket> {
        if self.open.fetch_add(1, Ordering::Relaxed) >= self.cap.load(Ordering::Relaxed) {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        // From here on the ticket's drop gives the place back.
        let mut ticket = Ticket {
            connections: self.clone(),
            source: None,
        };
        let within = peer.is_none_or(|peer| ticket.charge(peer));
        within.then_some(ticket)
    }

    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    fn shard(&self, source: &Source) -> &Mutex<HashMap<Source, usize>> {
        &self.shards[self.hasher.hash_one(source) as usize % SHARDS]
    }
}

/// One connection's place.
pub struct Ticket {
    connections: Arc<Connections>,
    source: Option<Source>,
}

impl Ticket {
    /// Counts it against a source too, once that is known; `false` over the source's cap.
    pub fn charge(&mut self, peer: IpAddr) -> bool {
        if self.source.is_some() {
            return true;
        }
        let source = Source::from(peer);
        let shard = self.connections.shard(&source);
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let count = shard.entry(source).or_insert(0);
        let cap = &self.connections.cap_per_source;
        if *count >= cap.load(Ordering::Relaxed) {
            return false;
        }
        *count += 1;
        self.source = Some(source);
        true
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.connections.open.fetch_sub(1, Ordering::Relaxed);
        let Some(source) = self.source else { return };
        let mut shard = self
            .connections
            .shard(&source)
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = shard.entry(source) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}
