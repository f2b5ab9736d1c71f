//! Proof of possession (RFC 9449): who shows a token that is bound to a key shows, with each request, that it has the
//! key.
//!
//! The token comes first. Only it says whose the key must be, so nobody without a good token makes us check a proof's
//! signature, or remember anything. Whatever the token cache says, a proof is judged anew for each request.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod key;
mod nonces;
mod proof;
mod replays;
#[cfg(test)]
mod tests;
mod uri;

use http::HeaderValue;

use self::nonces::{Nonces, Told};
use self::proof::Proof;
use self::replays::{Replayed, Replays};
pub use self::uri::Seen;
use super::binding::Thumbprint;
use super::digest::TokenHash;
use super::fault::{Fault, Unjudged};
use super::jws;
use crate::clock::Clock;

/// How old a proof may be, in seconds; RFC 9449 section 11.1 speaks of seconds or minutes.
const PAST: u64 = 60;
/// How far a client's clock may be ahead of ours.
const AHEAD: u64 = 15;

/// What is wrong with a proof: 401. For the log and the metrics; the caller hears one sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProofFlaw {
    /// No JWT of type `dpop+jwt`, or a claim is absent or has the wrong type.
    Malformed,
    /// An algorithm or a key that we do not verify with: symmetric, private, weak, of another kind.
    Key,
    Signature,
    /// `htm` is not the request's method.
    Method,
    /// `htu` is not the request's URI.
    Target,
    /// It is too old, from the future, or older than this process, and has no nonce.
    Time,
    /// `ath` is not the token's hash.
    Token,
    /// Its key is not the one that the token is bound to.
    Holder,
    /// Its nonce is none of ours, or too old.
    Nonce,
    /// It came before.
    Replayed,
}

impl ProofFlaw {
    /// RFC 9449 section 9: a nonce would mend it.
    fn asks_for_a_nonce(self) -> bool {
        matches!(self, ProofFlaw::Time | ProofFlaw::Nonce)
    }
}

/// A proof and the request that it came with.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    pub proof: &'a str,
    pub method: &'a str,
    pub uri: Seen<'a>,
}

/// What came of a proof.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) outcome: Result<(), Fault>,
    /// What the client shall put into its next proof.
    pub(super) nonce: Option<HeaderValue>,
}

/// Judges proofs, and remembers those that passed.
pub(super) struct Dpop {
    nonces: Nonces,
    replays: Replays,
    clock: Clock,
    /// What was accepted before this second, nobody remembers.
    started: u64,
}

impl Dpop {
    pub(super) fn new(clock: Clock) -> Result<Self, String> {
        Ok(Dpop {
            nonces: Nonces::new()?,
            replays: Replays::default(),
            started: clock.unix(),
            clock,
        })
    }

    /// `holder` is the thumbprint that the token names.
    pub(super) fn check(
        &self,
        shown: &Shown<'_>,
        token: &TokenHash,
        holder: &Thumbprint,
    ) -> Checked {
        let now = self.clock.monotonic().as_secs();
        match self.judge(shown, token, holder, now) {
            Ok(Told::Earlier) => Checked {
                outcome: Ok(()),
                nonce: Some(self.nonces.at(now)),
            },
            Ok(Told::Now | Told::Never) => Checked {
                outcome: Ok(()),
                nonce: None,
            },
            Err(fault) => Checked {
                nonce: match fault {
                    Wrong::Flaw(flaw) if flaw.asks_for_a_nonce() => Some(self.nonces.at(now)),
                    _ => None,
                },
                outcome: Err(fault.into()),
            },
        }
    }

    /// RFC 9449 section 4.3, the cheapest test first. It is remembered last: nothing but this very request can use a
    /// proof up.
    fn judge(
        &self,
        shown: &Shown<'_>,
        token: &TokenHash,
        holder: &Thumbprint,
        now: u64,
    ) -> Result<Told, Wrong> {
        let proof = Proof::read(shown.proof)?;
        let wrong = |flaw| Err(Wrong::Flaw(flaw));
        if proof.thumbprint != *holder {
            return wrong(ProofFlaw::Holder);
        }
        // Methods have a case (RFC 9110 section 9.1).
        if proof.method != shown.method {
            return wrong(ProofFlaw::Method);
        }
        if !shown.uri.is(&proof.target) {
            return wrong(ProofFlaw::Target);
        }
        if proof.token != jws::encode(token.as_bytes()) {
            return wrong(ProofFlaw::Token);
        }
        let (told, ends) = self.fresh(&proof, now)?;
        proof.verify()?;
        match self.replays.note(holder, &proof.id, ends, now) {
            Ok(()) => Ok(told),
            Err(Replayed::Before) => wrong(ProofFlaw::Replayed),
            Err(Replayed::Full) => Err(Wrong::Full),
        }
    }

    /// Section 4.3, points 10 and 11: a nonce says when the proof was made, or its `iat` does. A nonce is asked for
    /// where `iat` does not convince. When the proof is void, by the monotonic clock.
    fn fresh(&self, proof: &Proof<'_>, now: u64) -> Result<(Told, u64), ProofFlaw> {
        if let Some(nonce) = &proof.nonce {
            return self.nonces.told(nonce, now).ok_or(ProofFlaw::Nonce);
        }
        let today = self.clock.unix();
        let ends = proof.issued_at.saturating_add(PAST);
        let early = proof.issued_at.max(proof.begins) > today.saturating_add(AHEAD);
        let expired = |at: u64| today >= at.saturating_add(AHEAD);
        let late = today > ends || proof.expires.is_some_and(expired);
        // A process that ran before may have accepted it.
        if early || late || proof.issued_at < self.started {
            return Err(ProofFlaw::Time);
        }
        // Both clocks are cut to seconds.
        Ok((Told::Never, now + (ends - today) + 2))
    }

    /// How many proofs are remembered.
    pub(super) fn remembered(&self) -> usize {
        self.replays.len()
    }
}

/// Why a proof did not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    Flaw(ProofFlaw),
    /// There is no place to remember it.
    Full,
}

impl From<ProofFlaw> for Wrong {
    fn from(flaw: ProofFlaw) -> Self {
        Wrong::Flaw(flaw)
    }
}

impl From<Wrong> for Fault {
    fn from(wrong: Wrong) -> Self {
        match wrong {
            Wrong::Flaw(flaw) => Fault::Refused(flaw.into()),
            Wrong::Full => Fault::Unjudged(Unjudged::ProofsFull),
        }
    }
}
