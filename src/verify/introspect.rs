//! Asking the issuer about a token (RFC 7662), as rarely as possible and never without bounds.
//!
//! One question for each token at a time, in a task of its own: a caller who leaves cancels nothing for the others.
//! What goes wrong here is never the caller's fault: 503, not 401 (contract section 4).

mod ask;
mod assertion;
mod flights;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use quick_cache::sync::Cache;

use self::ask::Client;
#[cfg(any(test, fuzzing))]
pub(super) use self::ask::is_active;
use self::flights::{Entry, Flights, Outcome};
use super::binding::Binding;
use super::cache::{Named, Now, Proofs, Proved, Times};
use super::claims::Claims;
use super::crypto::VerifyingKey;
use super::digest::TokenHash;
use super::fault::{Fault, Refusal, Unjudged};
use super::grants::Granted;
use super::keys::KeyStore;
use crate::clock::Clock;
use crate::config::plan::{AskWhen, IntrospectionPlan, IssuerPlan};
use crate::observe::metrics::{Asked, IssuerMetrics};

/// Tokens that are remembered as refused: about a megabyte.
pub(super) const REFUSED: usize = 10_000;

/// One issuer that can be asked.
pub(super) struct Introspector {
    issuer: IssuerPlan,
    granted: Arc<Granted>,
    plan: IntrospectionPlan,
    client: Client,
    clock: Clock,
    metrics: Arc<IssuerMetrics>,
    /// Yes, apart from no: garbage cannot push good tokens out.
    proofs: Proofs<TokenHash>,
    refused: Cache<TokenHash, (Refusal, Duration)>,
    flights: Flights,
    /// The hint about the audience was given.
    hinted: AtomicBool,
}

/// What is known of a token before its issuer is asked.
pub(super) struct Question {
    pub(super) hash: TokenHash,
    pub(super) token: Box<str>,
    /// What it says itself that it is bound to.
    pub(super) bound_to: Option<Binding>,
    /// Its header says "access token".
    pub(super) marked: bool,
    /// `exp` that it says itself, if we can read it.
    pub(super) expires: Option<u64>,
    /// What it says itself that it can be revoked by.
    pub(super) named: Named,
    /// `None` when no signature was checked.
    pub(super) signed_by: Option<Arc<VerifyingKey>>,
}

impl Question {
    /// Whether an answer is about another token. Not every issuer names them.
    fn is_mistaken(&self, answer: &[u8]) -> bool {
        let answered = Claims::read(answer);
        let answered = answered.as_ref().ok().and_then(Claims::token_id);
        let asked = self.named.token_id.as_deref();
        asked.is_some() && answered.is_some() && asked != answered
    }
}

impl Introspector {
    /// `None` when the issuer is never asked. Fails on what no waiting can cure.
    pub(super) fn new(
        issuer: &IssuerPlan,
        granted: Arc<Granted>,
        clock: Clock,
        metrics: Arc<IssuerMetrics>,
    ) -> Result<Option<Arc<Self>>, String> {
        let Some(plan) = issuer.introspection.clone() else {
            return Ok(None);
        };
        Ok(Some(Arc::new(Introspector {
            granted,
            client: Client::new(issuer, &plan, clock.clone())?,
            proofs: Proofs::new(plan.max_bytes, plan.ttl, None),
            refused: Cache::new(REFUSED),
            flights: Flights::new(&plan),
            issuer: issuer.clone(),
            plan,
            clock,
            metrics,
            hinted: AtomicBool::new(false),
        })))
    }

    pub(super) fn when(&self) -> AskWhen {
        self.plan.when
    }

    /// How old an answer may be where no route says more.
    pub(super) fn ttl(&self) -> Duration {
        self.plan.ttl
    }

    /// A kept yes.
    pub(super) fn kept(
        &self,
        hash: &TokenHash,
        max_age: Duration,
        keys: &KeyStore,
    ) -> Option<Arc<Proved>> {
        self.proofs
            .get(hash, max_age, Now::of(&self.clock), |_| Some(keys))
    }

    /// Asks, or joins who is asking, or finds an answer that is at most `max_age` old; whether it was found.
    pub(super) async fn ask(
        self: &Arc<Self>,
        question: Question,
        max_age: Duration,
        keys: &KeyStore,
    ) -> (bool, Result<Arc<Proved>, Fault>) {
        let hash = question.hash;
        if let Some((refusal, at)) = self.refused.get(&hash) {
            if self.clock.monotonic().saturating_sub(at) < self.plan.negative_ttl {
                return (true, Err(refusal.into()));
            }
            self.refused.remove(&hash);
        }
        // A flight leaves its answer in the cache before it ends, and both are looked at under one lock: of a crowd
        // that comes at once, nobody can miss both.
        let entry = self.flights.enter(hash, self.clock.monotonic(), || {
            self.kept(&hash, max_age, keys)
        });
        let mut landed = match entry {
            Entry::Known(proved) => return (true, Ok(proved)),
            Entry::Refused(unjudged) => return (false, Err(unjudged.into())),
            Entry::Join(landed) => {
                self.metrics.introspection_shared();
                landed
            }
            Entry::Fly(landing, landed) => {
                let asker = self.clone();
                tokio::spawn(async move {
                    let landing = landing.guard(asker.clone(), hash);
                    let outcome = asker.fly(question).await;
                    landing.ended(outcome);
                });
                landed
            }
        };
        let outcome = match landed.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone(),
            Err(_) => None,
        };
        (
            false,
            outcome.unwrap_or_else(|| Err(Unjudged::IntrospectionFailed.into())),
        )
    }

    /// One question and what its answer means.
    async fn fly(&self, mut question: Question) -> Outcome {
        let sent = Now::of(&self.clock);
        // Nobody could have issued it later.
        question.named.issued_at.get_or_insert(sent.unix);
        let answer = self.client.ask(&question.token).await;
        let took = self.clock.monotonic().saturating_sub(sent.monotonic);
        let body = match answer {
            Ok(body) => body,
            Err(fault) => {
                if fault.sent {
                    self.metrics.introspected(Asked::Failed, took);
                }
                let now = self.clock.monotonic();
                let counts = !fault.for_this_token;
                self.flights
                    .failed(&self.issuer.name, fault.text, counts, now);
                return Err(Unjudged::IntrospectionFailed.into());
            }
        };
        if body
            .as_deref()
            .is_some_and(|body| question.is_mistaken(body))
        {
            // Something on the way mixes answers up: whoever it names must not be let in for this caller.
            self.metrics.introspected(Asked::Failed, took);
            let fault = "it answered about another token: `jti` differs".to_owned();
            let now = self.clock.monotonic();
            self.flights.failed(&self.issuer.name, fault, true, now);
            return Err(Unjudged::IntrospectionFailed.into());
        }
        self.flights.answered(&self.issuer.name);
        let Some(body) = body else {
            self.metrics.introspected(Asked::Inactive, took);
            self.hint(question.signed_by.is_some());
            return self.refuse(question.hash, Refusal::Inactive);
        };
        self.metrics.introspected(Asked::Active, took);
        self.hinted.store(false, Ordering::Relaxed);
        let now = self.clock.unix();
        let checked = Claims::read(&body).and_then(|claims| {
            claims.check_answer(&self.issuer, question.marked, now)?;
            let said = question.bound_to.take();
            let bound_to = Binding::of_both(said, claims.binding()?)?;
            Ok((claims, bound_to))
        });
        match checked {
            Ok((claims, bound_to)) => {
                let hash = question.hash;
                let proved = self.proved(&claims, question, sent).bound_to(bound_to);
                let proved = Arc::new(proved);
                self.proofs.put(hash, proved.clone());
                Ok(proved)
            }
            Err(refusal) => self.refuse(question.hash, refusal),
        }
    }

    fn proved(&self, claims: &Claims<'_>, question: Question, sent: Now) -> Proved {
        let expires = [claims.expires(), question.expires];
        // Without any `exp` the age alone ends it.
        let expires = expires.into_iter().flatten().min().unwrap_or(u64::MAX);
        let times = Times::new(claims.begins(), expires, self.issuer.leeway, sent);
        let principal = self.granted.principal(claims);
        let mut named = Named::of(claims).or(question.named);
        if principal.subject.is_some() {
            named.forget_subject();
        }
        Proved::new(principal, question.signed_by, named, times)
    }

    pub(super) fn refuse(&self, hash: TokenHash, refusal: Refusal) -> Outcome {
        // The newest answer is the one that counts, on routes that would still take the older one too.
        self.proofs.forget(&hash);
        // What is not valid yet may be in a second.
        if refusal != Refusal::NotYetValid {
            self.refused.insert(hash, (refusal, self.clock.monotonic()));
        }
        Err(refusal.into())
    }

    /// Once per change: a token that is good by its signature and inactive by its issuer is mostly not revoked, but
    /// asked about by somebody whom its issuer does not tell.
    fn hint(&self, proved_locally: bool) {
        if proved_locally && !self.hinted.swap(true, Ordering::Relaxed) {
            log::warn!(
                "issuer {name}: a token with a good signature is inactive. If it was neither revoked nor its client \
                 disabled, the issuer does not let {client:?} ask about it: since Keycloak 26.6.2 its audience must \
                 name the client that asks. Add an audience mapper for {client:?} with \"Add to token \
                 introspection\" on",
                name = self.issuer.name,
                client = self.plan.client_id,
            );
        }
    }

    /// How many yeses and noes are remembered.
    #[cfg(test)]
    pub(super) fn kept_answers(&self) -> (usize, usize) {
        (self.proofs.entries(), self.refused.len())
    }

    #[cfg(test)]
    pub(super) fn kept_bytes(&self) -> u64 {
        self.proofs.bytes()
    }

    pub(super) fn is_open(&self) -> bool {
        self.flights.is_open()
    }

    pub(super) fn publish(&self) {
        self.metrics.introspection_breaker(self.is_open());
    }
}
