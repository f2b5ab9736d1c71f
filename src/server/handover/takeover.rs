//! The side that begins: takes the sockets of the one that runs, gets ready, and serves in its place.

use std::io::{self, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::{Count, Offer, PATIENCE, Place, Word, receive, receive_sockets, send};
use crate::gateway::{Current, Gateway};

/// How long keys and names may take. Who has none by then must not take the place of one that has.
const GETTING_READY: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(20);

/// The process that runs.
pub(in crate::server) struct Predecessor {
    stream: UnixStream,
    sockets: Mutex<Vec<(SocketAddr, TcpListener)>>,
}

impl Predecessor {
    /// `None` if nobody is there.
    ///
    /// # Errors
    /// Somebody is there, and does not give its sockets.
    pub(in crate::server) fn find(path: &Path) -> io::Result<Option<Self>> {
        let stream = match UnixStream::connect(path) {
            Ok(stream) => stream,
            Err(error) => {
                return match error.kind() {
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(None),
                    _ => Err(error),
                };
            }
        };
        if !super::is_ours(&stream)? {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        send(&stream, &Word::Sockets)?;
        let sockets = Mutex::new(receive_sockets(&stream)?);
        Ok(Some(Predecessor { stream, sockets }))
    }

    /// Its socket of this address, if it has one.
    pub(in crate::server) fn take(&self, address: SocketAddr) -> Option<TcpListener> {
        let mut sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        let place = sockets.iter().position(|(theirs, _)| *theirs == address)?;
        Some(sockets.swap_remove(place).1)
    }

    /// What is revoked. From now on the predecessor waits for us to serve, and takes everything back if we end.
    fn revocations(&self) -> io::Result<Vec<String>> {
        send(&self.stream, &Word::Revocations)?;
        let mut reader = BufReader::new(&self.stream);
        let count: Count = receive(&mut reader)?;
        (0..count.revocations)
            .map(|_| receive(&mut reader))
            .collect()
    }
}

/// Until when nobody accepts, and what happens then.
pub struct Takeover {
    pub(in crate::server) predecessor: Option<Predecessor>,
    /// Where we wait for a successor of our own.
    pub(in crate::server) place: Option<Place>,
    pub(in crate::server) go: watch::Sender<bool>,
    pub(in crate::server) failed: Arc<AtomicBool>,
}

impl Takeover {
    /// Gets ready, if there is somebody to take over from, and begins.
    pub async fn run(self, current: &Current) {
        let gateway = current.gateway();
        if self.predecessor.is_some() {
            ready(&gateway).await;
        }
        let failed = self.failed.clone();
        let cannot = match self.predecessor {
            Some(_) => "cannot take over, and what runs serves on",
            None => "cannot start",
        };
        let begun = tokio::task::spawn_blocking(move || self.begin(&gateway)).await;
        let why = match begun {
            Ok(Ok(())) => return,
            Ok(Err(why)) => why,
            Err(panic) => panic.to_string(),
        };
        log::error!("{cannot}: {why}");
        failed.store(true, Ordering::Release);
    }

    fn begin(self, gateway: &Gateway) -> Result<(), String> {
        let text = |error: io::Error| error.to_string();
        if let Some(predecessor) = &self.predecessor {
            unready(gateway).map_or(Ok(()), Err)?;
            let lines = predecessor.revocations().map_err(text)?;
            let revocations = gateway.verifier.revocations();
            revocations.inherit(&lines)?;
            revocations.settle(&gateway.plan)?;
        }
        if let Some(place) = self.place {
            let path = place.path.clone();
            let offer = Offer::bind(place);
            let offer = offer.map_err(|e| format!("server.handover: {}: {e}", path.display()))?;
            offer.wait();
        }
        self.go.send_replace(true);
        // Before the other one ends: a service manager must know by then which process is the service.
        crate::server::notify::serving();
        if let Some(predecessor) = &self.predecessor {
            send(&predecessor.stream, &Word::Serving).map_err(text)?;
            log::info!("this process serves in place of the one before");
        }
        Ok(())
    }
}

/// Waits until every issuer has keys and every pool somebody to ask, but no longer than it may take.
async fn ready(gateway: &Gateway) {
    let ready = async {
        let pools = gateway.upstreams.all();
        while unready(gateway).is_some() || pools.iter().any(|pool| pool.readiness().is_err()) {
            tokio::time::sleep(LOOK).await;
        }
    };
    // Whether it is enough is asked next: a pool may be down for whoever runs too.
    let _ = tokio::time::timeout(GETTING_READY, ready).await;
}

/// Why tokens cannot be judged.
fn unready(gateway: &Gateway) -> Option<String> {
    let mut issuers = gateway.verifier.readiness().into_iter();
    issuers.find_map(|(name, keys)| Some(format!("issuer {name}: {}", keys.problem?)))
}
