//! What is revoked, in memory: found by what a token says, by name, and by when it ends.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::Facts;
use super::entry::{Entry, Id, Kind};

#[derive(Default)]
pub(super) struct Sets {
    /// By the configuration's name, those of an earlier configuration too: an issuer that comes back finds its own.
    issuers: HashMap<Arc<str>, OfIssuer>,
    named: HashMap<Id, Arc<Entry>>,
    ends: BTreeSet<(u64, Id)>,
    held: [usize; Kind::ALL.len()],
}

#[derive(Default)]
struct OfIssuer {
    not_before: NotBefore,
    /// Entries for all tokens, by kind and value.
    always: [HashMap<Arc<str>, Arc<Entry>>; Kind::ALL.len()],
    /// Entries for tokens issued up to some second.
    earlier: [HashMap<Arc<str>, Arc<Entry>>; Kind::ALL.len()],
}

/// The second before which a token must not be issued, by who said so; 0 is nobody.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NotBefore {
    /// The realm document's.
    pub polled: u64,
    /// The highest that was pushed.
    pub pushed: u64,
}

impl NotBefore {
    pub fn in_force(&self) -> u64 {
        self.polled.max(self.pushed)
    }

    /// Keycloak's rule: the very second passes. A token that does not say when it was issued cannot pass.
    fn refuses(&self, issued_at: Option<u64>) -> bool {
        let bound = self.in_force();
        bound > 0 && issued_at.is_none_or(|at| at < bound)
    }
}

/// There is no place for another entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

impl Sets {
    pub(super) fn refuse(&self, facts: &Facts<'_>, now: u64) -> bool {
        let Some(of) = self.issuers.get(facts.issuer) else {
            return false;
        };
        if of.not_before.refuses(facts.issued_at) {
            return true;
        }
        let said = [
            (Kind::Jti, facts.jti),
            (Kind::Sub, facts.sub),
            (Kind::Sid, facts.sid),
            (Kind::Client, Some(facts.client)),
            (Kind::Kid, facts.kid),
        ];
        said.into_iter().any(|(kind, value)| {
            let Some(value) = value else {
                return false;
            };
            let always = of.always[kind as usize].get(value);
            let earlier = of.earlier[kind as usize].get(value);
            always.is_some_and(|entry| now < entry.until)
                || earlier.is_some_and(|entry| {
                    let last = entry.issued_up_to.unwrap_or(u64::MAX);
                    now < entry.until && facts.issued_at.is_none_or(|at| at <= last)
                })
        })
    }

    /// Whether it is a new one; an entry of the same name is replaced.
    pub(super) fn put(&mut self, entry: Arc<Entry>, max: usize) -> Result<bool, Full> {
        let id = entry.id();
        let old = self.remove(&id);
        if old.is_none() && self.named.len() >= max {
            return Err(Full);
        }
        let of = self.issuers.entry(entry.issuer.clone()).or_default();
        let maps = match entry.issued_up_to {
            None => &mut of.always,
            Some(_) => &mut of.earlier,
        };
        maps[entry.kind as usize].insert(entry.value.clone(), entry.clone());
        self.held[entry.kind as usize] += 1;
        self.ends.insert((entry.until, id));
        self.named.insert(id, entry);
        Ok(old.is_none())
    }

    pub(super) fn get(&self, id: &Id) -> Option<&Arc<Entry>> {
        self.named.get(id)
    }

    pub(super) fn remove(&mut self, id: &Id) -> Option<Arc<Entry>> {
        let entry = self.named.remove(id)?;
        self.ends.remove(&(entry.until, *id));
        self.held[entry.kind as usize] -= 1;
        if let Some(of) = self.issuers.get_mut(&entry.issuer) {
            let maps = match entry.issued_up_to {
                None => &mut of.always,
                Some(_) => &mut of.earlier,
            };
            maps[entry.kind as usize].remove(&entry.value);
        }
        Some(entry)
    }

    /// Takes out what has ended, `most` of it at a time because readers wait; how many were taken.
    pub(super) fn purge(&mut self, now: u64, most: usize) -> usize {
        let mut taken = 0;
        while taken < most {
            match self.ends.first() {
                Some((until, id)) if *until <= now => {
                    let id = *id;
                    self.remove(&id);
                    taken += 1;
                }
                _ => break,
            }
        }
        taken
    }

    pub(super) fn not_before(&self, issuer: &str) -> NotBefore {
        self.issuers
            .get(issuer)
            .map_or_else(NotBefore::default, |of| of.not_before)
    }

    pub(super) fn set_not_before(&mut self, issuer: &Arc<str>, not_before: NotBefore) {
        let of = self.issuers.entry(issuer.clone()).or_default();
        of.not_before = not_before;
    }

    /// Every issuer that has a not-before.
    pub(super) fn all_not_before(&self) -> Vec<(Arc<str>, NotBefore)> {
        let issuers = self.issuers.iter();
        issuers
            .filter(|(_, of)| of.not_before != NotBefore::default())
            .map(|(issuer, of)| (issuer.clone(), of.not_before))
            .collect()
    }

    /// In the order in which they end.
    pub(super) fn list(&self) -> Vec<Arc<Entry>> {
        let names = self.ends.iter();
        names
            .filter_map(|(_, id)| self.named.get(id).cloned())
            .collect()
    }

    pub(super) fn len(&self) -> usize {
        self.named.len()
    }

    pub(super) fn held(&self) -> [usize; Kind::ALL.len()] {
        self.held
    }
}
