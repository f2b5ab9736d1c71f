//! The side that runs: offers its sockets to whoever comes, and leaves when that one serves.

use std::io::{self, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::{Count, PATIENCE, Word, is_ours, receive, send, send_sockets};
use crate::gateway::{Current, Gateway};

/// A successor fetches keys and looks up names before it asks for the rest.
const GETTING_READY: Duration = Duration::from_secs(120);
/// How long the file of the revocations may still be locked by a successor that has just ended.
const RELOCK: (u32, Duration) = (50, Duration::from_millis(100));

/// The listening sockets once more. While they are here a listener is not closed, so they go when it is to be.
#[derive(Clone, Default)]
pub(in crate::server) struct Sockets(Arc<Mutex<Vec<TcpListener>>>);

impl Sockets {
    pub(in crate::server) fn hold(&self, socket: &TcpListener) -> io::Result<()> {
        let again = socket.try_clone()?;
        self.held().push(again);
        Ok(())
    }

    pub(in crate::server) fn close(&self) {
        self.held().clear();
    }

    fn held(&self) -> MutexGuard<'_, Vec<TcpListener>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a successor finds what it takes over, and how it is known that it has.
#[derive(Clone)]
pub(in crate::server) struct Place {
    pub(in crate::server) path: PathBuf,
    pub(in crate::server) sockets: Sockets,
    pub(in crate::server) current: Arc<Current>,
    /// A successor serves.
    pub(in crate::server) handed_over: watch::Sender<bool>,
}

pub(in crate::server) struct Offer {
    listener: UnixListener,
    place: Place,
}

impl Offer {
    /// # Errors
    /// The path cannot be used.
    pub(in crate::server) fn bind(place: Place) -> io::Result<Self> {
        let path = &place.path;
        // What an earlier process left, or the one that we have just taken over from.
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Offer { listener, place })
    }

    /// Waits for a successor, on a thread of its own: until one serves.
    pub(in crate::server) fn wait(self) {
        let thread = std::thread::Builder::new().name("handover".to_owned());
        let waiting = thread.spawn(move || {
            for stream in self.listener.incoming() {
                match stream.and_then(|stream| self.hand_over(&stream)) {
                    Ok(()) => {
                        log::info!("handover: the successor serves; this process drains and ends");
                        self.place.handed_over.send_replace(true);
                        return;
                    }
                    Err(error) => log::warn!("handover: nobody took over: {error}"),
                }
            }
        });
        if let Err(error) = waiting {
            log::error!("handover: cannot start a thread: {error}");
        }
    }

    fn hand_over(&self, stream: &UnixStream) -> io::Result<()> {
        if !is_ours(stream)? {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut reader = BufReader::new(stream);
        expect(&mut reader, Word::Sockets)?;
        send_sockets(stream, &self.place.sockets.held())?;
        log::info!("handover: a successor has the sockets and gets ready");
        stream.set_read_timeout(Some(GETTING_READY))?;
        expect(&mut reader, Word::Revocations)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let gateway = self.place.current.gateway();
        let given = self.give_revocations(stream);
        let served = given.and_then(|()| expect(&mut reader, Word::Serving));
        if served.is_err() {
            take_back(&gateway);
        }
        served
    }

    fn give_revocations(&self, stream: &UnixStream) -> io::Result<()> {
        let lines = self
            .place
            .current
            .gateway()
            .verifier
            .revocations()
            .hand_over();
        let count = Count {
            revocations: lines.len(),
        };
        send(stream, &count)?;
        lines.iter().try_for_each(|line| send(stream, line))
    }
}

/// The revocations are this process's again.
fn take_back(gateway: &Gateway) {
    let (attempts, pause) = RELOCK;
    for attempt in 1..=attempts {
        match gateway.verifier.revocations().settle(&gateway.plan) {
            Ok(()) => return,
            Err(why) if attempt == attempts => log::error!("handover: {why}"),
            Err(_) => std::thread::sleep(pause),
        }
    }
}

fn expect(reader: &mut impl io::BufRead, expected: Word) -> io::Result<()> {
    let word: Word = receive(reader)?;
    match word == expected {
        true => Ok(()),
        false => Err(super::broken(format!("{word:?} in place of {expected:?}"))),
    }
}
