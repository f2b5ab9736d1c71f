//! What is refused although its signature holds and its time is not over: revocations that somebody made, and each
//! issuer's not-before.
//!
//! Every proof is held against this once, and again only when something was added: a kept proof remembers the epoch at
//! which it was last found clear, and reading the epoch is one atomic load. Changes go to the file, if there is one,
//! before they are answered; they hold in memory from before that (`docs/decisions/0033`).

mod entry;
mod home;
mod journal;
mod sets;

use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

pub use entry::{Entry, Id, Kind, MAX_TEXT, Origin, Written};
pub use sets::NotBefore;

use self::home::Home;
use self::journal::{Journal, Record};
use self::sets::Sets;
use crate::clock::Clock;
use crate::config::plan::{Plan, RevocationsPlan};

/// How many ended entries are taken out at a time.
const PURGE: usize = 1000;

/// What of a proved token can be revoked.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The configuration's name for the issuer.
    pub issuer: &'a str,
    pub jti: Option<&'a str>,
    pub sub: Option<&'a str>,
    pub sid: Option<&'a str>,
    pub client: &'a str,
    /// Of the key that signed it; `None` when the issuer's word alone is the proof.
    pub kid: Option<&'a str>,
    pub issued_at: Option<u64>,
}

/// Why a change was not made, or not wholly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unkept {
    /// `revocations.max` entries hold, and none of them has ended.
    Full,
    /// It holds in memory alone, for this reason: the file could not be written.
    Unwritten(String),
}

pub struct Revocations {
    /// Goes up when something more is refused than before.
    epoch: AtomicU64,
    /// Held for a few look-ups or assignments.
    sets: RwLock<Sets>,
    /// Held over a write to the disk, and by whoever changes the sets, so that both have the same order.
    home: Mutex<Home>,
    max: AtomicUsize,
    clock: Clock,
}

impl Revocations {
    /// In memory alone, until what a predecessor has is taken over.
    pub(crate) fn apart(plan: &Plan, clock: Clock) -> Result<Arc<Self>, String> {
        Self::open(None, plan.revocations.max, clock, |_| false)
    }

    /// Reads the file, if there is one. What cannot be read is an error: starting without it would let through what
    /// was revoked.
    pub(crate) fn of(plan: &Plan, clock: Clock) -> Result<Arc<Self>, String> {
        let RevocationsPlan { file, max } = &plan.revocations;
        Self::open(file.as_deref(), *max, clock, |name| {
            let mut issuers = plan.issuers.iter();
            issuers.any(|issuer| *issuer.name == *name && issuer.not_before.is_some())
        })
    }

    /// `polled` says of which issuers' not-before the realm document is looked at.
    pub(super) fn open(
        file: Option<&Path>,
        max: usize,
        clock: Clock,
        polled: impl Fn(&str) -> bool,
    ) -> Result<Arc<Self>, String> {
        let mut sets = Sets::default();
        let mut home = Home::Memory;
        if let Some(path) = file {
            let unwritten = Journal::open(path, |record| apply(&mut sets, record))?;
            let now = clock.unix();
            while sets.purge(now, PURGE) == PURGE {}
            if sets.len() > max {
                return Err(format!(
                    "revocations.file: {} has {} revocations that hold; raise revocations.max, which is {max}",
                    path.display(),
                    sets.len()
                ));
            }
            for (issuer, mut not_before) in sets.all_not_before() {
                if !polled(&issuer) {
                    // Nobody would ever lower it.
                    not_before.polled = 0;
                    sets.set_not_before(&issuer, not_before);
                }
            }
            home = Home::File(unwritten.write(&records(&sets))?);
        }
        Ok(Arc::new(Revocations {
            // Not 0, which a proof that was never looked up has.
            epoch: AtomicU64::new(1),
            sets: RwLock::new(sets),
            home: Mutex::new(home),
            max: AtomicUsize::new(max),
            clock,
        }))
    }

    /// Changes whenever something that was clear may no longer be. Read it before you look something up.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    pub fn revoked(&self, facts: &Facts<'_>) -> bool {
        self.read().refuse(facts, self.clock.unix())
    }

    /// Revokes; what holds now, and whether it is new. An entry for the same tokens is never shortened: who wants that
    /// takes it out first. Waits for the disk.
    pub fn revoke(&self, entry: Entry) -> Result<(Arc<Entry>, bool), Unkept> {
        let mut home = self.home();
        let (entry, new) = {
            let mut sets = self.write();
            sets.purge(self.clock.unix(), PURGE);
            let entry = Arc::new(match sets.get(&entry.id()) {
                Some(old) => old.extended(entry),
                None => entry,
            });
            let new = sets.put(entry.clone(), self.max());
            (entry, new.map_err(|sets::Full| Unkept::Full)?)
        };
        self.moved();
        self.note(&mut home, || Record::Revoked(entry.written()))?;
        Ok((entry, new))
    }

    /// Takes a revocation out; false if there is none of that name. Waits for the disk; what cannot be written stays
    /// in force.
    pub fn restore(&self, id: &Id) -> Result<bool, Unkept> {
        let mut home = self.home();
        let Some(entry) = self.write().remove(id) else {
            return Ok(false);
        };
        let noted = self.note(&mut home, || Record::Restored(id.to_string()));
        if noted.is_err() {
            // It has just had its place.
            let _ = self.write().put(entry, usize::MAX);
            self.moved();
        }
        noted.map(|()| true)
    }

    /// What the realm document says now; whether that changes what is in force. Waits for the disk.
    pub fn polled(&self, issuer: &Arc<str>, at: u64) -> Result<bool, Unkept> {
        let (old, new, noted) = self.change(issuer, |known| known.polled = at);
        noted.map(|()| new.in_force() != old.in_force())
    }

    /// A push, which only ever raises; whether that changes what is in force. Waits for the disk.
    pub fn pushed(&self, issuer: &Arc<str>, at: u64) -> Result<bool, Unkept> {
        let (old, new, noted) = self.change(issuer, |known| known.pushed = known.pushed.max(at));
        noted.map(|()| new.in_force() != old.in_force())
    }

    /// Forgets what was pushed; whether something was. Waits for the disk; what cannot be written stays in force.
    pub fn forget_push(&self, issuer: &Arc<str>) -> Result<bool, Unkept> {
        let (old, _, noted) = self.change(issuer, |known| known.pushed = 0);
        if noted.is_err() {
            // The memory alone: the file never heard of it.
            let mut sets = self.write();
            let mut known = sets.not_before(issuer);
            known.pushed = known.pushed.max(old.pushed);
            sets.set_not_before(issuer, known);
            drop(sets);
            self.moved();
        }
        noted.map(|()| old.pushed > 0)
    }

    /// Before, after, and whether it is in the file.
    fn change(
        &self,
        issuer: &Arc<str>,
        change: impl FnOnce(&mut NotBefore),
    ) -> (NotBefore, NotBefore, Result<(), Unkept>) {
        let mut home = self.home();
        let (old, new) = {
            let mut sets = self.write();
            let old = sets.not_before(issuer);
            let mut new = old;
            change(&mut new);
            if new == old {
                // Not even a place for it: the issuer may be nobody's.
                return (old, new, Ok(()));
            }
            sets.set_not_before(issuer, new);
            (old, new)
        };
        if new.in_force() > old.in_force() {
            self.moved();
        }
        let noted = self.note(&mut home, || Record::NotBefore {
            issuer: issuer.to_string(),
            polled: new.polled,
            pushed: new.pushed,
        });
        (old, new, noted)
    }

    pub fn not_before(&self, issuer: &str) -> NotBefore {
        self.read().not_before(issuer)
    }

    /// Every not-before that somebody pushed.
    pub fn pushes(&self) -> Vec<(Arc<str>, u64)> {
        let all = self.read().all_not_before().into_iter();
        let pushed = all.map(|(issuer, not_before)| (issuer, not_before.pushed));
        pushed.filter(|(_, at)| *at > 0).collect()
    }

    /// Those that hold, in the order in which they end.
    pub fn list(&self) -> Vec<Arc<Entry>> {
        let now = self.clock.unix();
        let mut list = self.read().list();
        list.retain(|entry| now < entry.until);
        list
    }

    /// How many hold, by kind.
    pub fn held(&self) -> [(Kind, usize); Kind::ALL.len()] {
        let now = self.clock.unix();
        while self.write().purge(now, PURGE) == PURGE {}
        let held = self.read().held();
        Kind::ALL.map(|kind| (kind, held[kind as usize]))
    }

    pub fn max(&self) -> usize {
        self.max.load(Ordering::Relaxed)
    }

    fn moved(&self) {
        self.epoch.fetch_add(1, Ordering::Release);
    }

    fn note(&self, home: &mut Home, record: impl FnOnce() -> Record) -> Result<(), Unkept> {
        let journal = match home {
            Home::File(journal) => journal,
            Home::Memory => return Ok(()),
            Home::HandedOver => {
                let why = "the process that takes over has them; ask it";
                return Err(Unkept::Unwritten(why.to_owned()));
            }
        };
        let written = journal.append(&record(), || records(&self.read()));
        written.map_err(|error| {
            log::error!("revocations.file could not be written: {error}");
            Unkept::Unwritten(error.to_string())
        })
    }

    fn home(&self) -> MutexGuard<'_, Home> {
        // A panic in a write leaves the journal torn, and then the next one writes the whole.
        self.home.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn read(&self) -> RwLockReadGuard<'_, Sets> {
        // Each writer makes a few assignments that cannot panic.
        self.sets.read().unwrap_or_else(|e| e.into_inner())
    }

    fn write(&self) -> RwLockWriteGuard<'_, Sets> {
        self.sets.write().unwrap_or_else(|e| e.into_inner())
    }
}

/// One line of the file.
fn apply(sets: &mut Sets, record: Record) -> Result<(), String> {
    match record {
        Record::Revoked(written) => {
            let entry = written.entry();
            let entry = entry.ok_or("it needs exactly one of jti, sub, sid, client and kid")?;
            // How many may hold is asked when all is read: later lines may take some out.
            let _ = sets.put(Arc::new(entry), usize::MAX);
        }
        Record::Restored(id) => {
            let id = Id::read(&id).ok_or("a name has 32 hexadecimal digits")?;
            sets.remove(&id);
        }
        Record::NotBefore {
            issuer,
            polled,
            pushed,
        } => sets.set_not_before(&issuer.into(), NotBefore { polled, pushed }),
    }
    Ok(())
}

/// Everything that holds, as lines of the file.
fn records(sets: &Sets) -> Vec<Record> {
    let not_before = sets.all_not_before().into_iter();
    let not_before = not_before.map(|(issuer, not_before)| Record::NotBefore {
        issuer: issuer.to_string(),
        polled: not_before.polled,
        pushed: not_before.pushed,
    });
    let entries = sets.list().into_iter();
    not_before
        .chain(entries.map(|entry| Record::Revoked(entry.written())))
        .collect()
}
