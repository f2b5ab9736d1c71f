//! Where revocations are kept, and how they move: to another file with another plan, to another process with its
//! successor. What is revoked stays revoked on the way.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::journal::{Journal, Record};
use super::sets::Sets;
use super::{NotBefore, PURGE, Revocations, apply, records};
use crate::config::plan::{IssuerPlan, Plan};

/// Where a change is noted.
pub(super) enum Home {
    Memory,
    File(Journal),
    /// A successor has the file, and what is changed here now would be lost.
    HandedOver,
}

impl Revocations {
    /// Keeps them as this plan says from now on. What a new file has is taken in. Waits for the disk.
    ///
    /// # Errors
    /// The new file cannot be read or written, or more hold than `max` allows: nothing is kept elsewhere then.
    pub(crate) fn settle(&self, plan: &Plan) -> Result<(), String> {
        let new = &plan.revocations;
        let mut home = self.home();
        let stays = match (&*home, &new.file) {
            (Home::File(journal), Some(path)) => journal.path() == path,
            (Home::Memory, None) => true,
            _ => false,
        };
        self.write().purge(self.clock.unix(), PURGE);
        let held = self.read().len();
        if held > new.max {
            return Err(format!(
                "{held} revocations hold; raise revocations.max, which is {}",
                new.max
            ));
        }
        if !stays {
            *home = match &new.file {
                None => Home::Memory,
                Some(path) => {
                    let mut found = Sets::default();
                    let unwritten = Journal::open(path, |record| apply(&mut found, record))?;
                    self.take_in(&found);
                    Home::File(unwritten.write(&records(&self.read()))?)
                }
            };
        }
        self.max.store(new.max, Ordering::Relaxed);
        drop(home);
        self.follow_only(&plan.issuers);
        Ok(())
    }

    /// Refuses whatever the one or the other refuses.
    fn take_in(&self, found: &Sets) {
        let mut sets = self.write();
        for entry in found.list() {
            let entry = match sets.get(&entry.id()) {
                Some(known) => Arc::new(known.extended((*entry).clone())),
                None => entry,
            };
            // The file may be full; who says how many there may be has asked before.
            let _ = sets.put(entry, usize::MAX);
        }
        for (issuer, theirs) in found.all_not_before() {
            let ours = sets.not_before(&issuer);
            let both = NotBefore {
                polled: ours.polled.max(theirs.polled),
                pushed: ours.pushed.max(theirs.pushed),
            };
            sets.set_not_before(&issuer, both);
        }
        drop(sets);
        self.moved();
    }

    /// What a realm document said is forgotten where nobody looks at it any more: nobody would ever lower it.
    fn follow_only(&self, issuers: &[IssuerPlan]) {
        let followed = |name: &str| {
            let mut followed = issuers.iter().filter(|issuer| issuer.not_before.is_some());
            followed.any(|issuer| *issuer.name == *name)
        };
        let all = self.read().all_not_before();
        for (issuer, not_before) in all {
            if not_before.polled > 0 && !followed(&issuer) {
                // What cannot be written holds all the same, and the log has said so.
                let _ = self.polled(&issuer, 0);
            }
        }
    }

    /// Gives everything that holds to a successor, and the file with it: it can be locked when this returns. Changes
    /// fail from now on.
    pub(crate) fn hand_over(&self) -> Vec<String> {
        let mut home = self.home();
        let lines = records(&self.read()).into_iter();
        let lines = lines.filter_map(|record| serde_json::to_string(&record).ok());
        let lines = lines.collect();
        *home = Home::HandedOver;
        lines
    }

    /// What a predecessor has handed over.
    ///
    /// # Errors
    /// A line is none of ours.
    pub(crate) fn inherit(&self, lines: &[String]) -> Result<(), String> {
        let mut found = Sets::default();
        for line in lines {
            let record: Record = serde_json::from_str(line).map_err(|e| e.to_string())?;
            apply(&mut found, record)?;
        }
        self.take_in(&found);
        Ok(())
    }
}
