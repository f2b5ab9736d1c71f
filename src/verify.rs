//! From a credential to a proved principal. Keycloak's shapes are read here and nowhere else.
//!
//! The cheapest test comes first: a token is taken apart, its header and claims are held against the configuration,
//! and only what could be accepted costs a key look-up, then a signature (RFC 7515 section 5.2, RFC 7519 section 7.2,
//! RFC 8725). Refusing on unproved data is safe; nothing is accepted before the signature held.

mod asked;
mod binding;
mod cache;
mod claims;
mod crypto;
mod digest;
mod dpop;
pub mod fault;
mod fetch;
mod grants;
mod inbox;
mod introspect;
mod json;
mod jwk;
mod jws;
mod keys;
mod not_before;
mod operate;
pub mod principal;
mod refused;
pub mod revoked;
mod standing;
mod trusted;
mod usable;
mod weak;
mod verdict;

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use crypto::install as install_crypto;
pub use dpop::{ProofFlaw, Seen, Shown};
pub use fault::{Fault, Refusal, Unjudged};
pub use inbox::{Flaw, Unheard};
pub use jwk::HeldKey;
pub use keys::KeysState;
pub use operate::HeldNotBefore;
pub use principal::Principal;
pub use standing::Standing;
pub use trusted::Tended;
pub use verdict::{Source, Verdict, Wanted};

use crate::clock::Clock;
use crate::config::plan::{IssuerId, Proof, TokenCachePlan};
use crate::credential::{BearerToken, Sent};
use crate::observe::metrics::Metrics;

use self::asked::ask;
use self::binding::Binding;
use self::cache::{Named, Now, Proofs, Proved, Times};
use self::claims::Claims;
use self::crypto::VerifyingKey;
use self::digest::{Fingerprint, Fingerprints, TokenHash};
use self::dpop::Dpop;
use self::introspect::Question;
use self::jws::{Compact, Headers};
use self::refused::{Known, Refused};
use self::revoked::{Facts, Revocations};
use self::trusted::Trusted;

/// Judges tokens. It counts key fetches and introspections; counting verdicts is the caller's, who knows them all.
pub struct Verifier {
    issuers: Vec<Arc<Trusted>>,
    /// Proofs by signature.
    proofs: Arc<Proofs<Fingerprint>>,
    /// What finds them, and refusals; nothing else does.
    fingerprints: Arc<Fingerprints>,
    /// Refusals by this plan, found the same way.
    refused: Refused,
    cache: TokenCachePlan,
    /// Headers of tokens that were proved.
    headers: Headers,
    dpop: Arc<Dpop>,
    revocations: Arc<Revocations>,
    clock: Clock,
    metrics: Arc<Metrics>,
}

/// A token that neither a proof nor a refusal was kept of, by the name that either will have.
#[derive(Debug, Clone, Copy)]
pub struct Unknown(Option<Fingerprint>);

/// A proof and how it was had.
type Judged = (Source, Result<Arc<Proved>, Fault>);

impl Verifier {
    /// Proves a token. Waits for the network only when its `kid` is unknown or its issuer must be asked (contract,
    /// "Proof").
    pub async fn prove(&self, token: BearerToken<'_>, wanted: Wanted<'_>) -> Verdict {
        match self.recall(token.sent(), wanted) {
            Ok(verdict) => verdict,
            Err(unknown) => self.prove_new(unknown, token, wanted).await,
        }
    }

    /// What is known of this very token: a proof that was had before and still holds, or a refusal that still stands.
    ///
    /// # Errors
    /// Nothing is known of it.
    pub fn recall(&self, sent: Sent<'_>, wanted: Wanted<'_>) -> Result<Verdict, Unknown> {
        let print = self.fingerprints.of(sent.bytes());
        if let Some(proved) = self.kept(print, sent, wanted) {
            let issuer = Some(proved.principal.grants.issuer);
            return Ok(self.verdict(sent, issuer, (Source::Cache, Ok(proved)), wanted));
        }
        let refused = print.and_then(|print| self.refused.get(print, self.clock.monotonic()));
        let known = refused.filter(|known| self.still_refused(known));
        let known = known.ok_or(Unknown(print))?;
        let judged = (Source::Local, Err(known.refusal.into()));
        Ok(self.verdict(sent, known.issuer, judged, wanted))
    }

    fn still_refused(&self, known: &Known) -> bool {
        let Some(number) = known.key_set else {
            return true;
        };
        let issuer = known.issuer.and_then(|id| self.issuers.get(id.0));
        issuer.is_some_and(|issuer| issuer.keys.rests_with(number))
    }

    fn refuse(
        &self,
        print: Option<Fingerprint>,
        issuer: Option<IssuerId>,
        refusal: Refusal,
        key_set: Option<u64>,
    ) -> Judged {
        if let Some(print) = print {
            let now = self.clock.monotonic();
            self.refused.put(print, issuer, refusal, key_set, now);
        }
        (Source::Local, Err(refusal.into()))
    }

    /// [`prove`](Self::prove) for what was not recalled.
    pub async fn prove_new(
        &self,
        Unknown(print): Unknown,
        token: BearerToken<'_>,
        wanted: Wanted<'_>,
    ) -> Verdict {
        let (issuer, judged) = match Compact::read_knowing(token.expose(), &self.headers) {
            Ok(compact) => self.signed((print, token), compact, wanted).await,
            Err(Refusal::Opaque) => self.opaque(token, wanted).await,
            Err(refusal) => (None, self.refuse(print, None, refusal, None)),
        };
        self.verdict(token.sent(), issuer, judged, wanted)
    }

    /// A proof of this very token that was had before and still holds.
    fn kept(
        &self,
        print: Option<Fingerprint>,
        sent: Sent<'_>,
        wanted: Wanted<'_>,
    ) -> Option<Arc<Proved>> {
        let max_age = match wanted.proof {
            Proof::Introspect => return None,
            Proof::Fresh(age) => Some(age),
            Proof::Local => {
                let now = Now::of(&self.clock);
                let keys = |proved: &Proved| {
                    let issuer = self.issuers.get(proved.principal.grants.issuer.0)?;
                    let same = proved.was_proved_for(issuer.number);
                    same.then_some(&*issuer.keys)
                };
                let max_age = self.proofs.max_age();
                let kept = print.and_then(|print| self.proofs.get(&print, max_age, now, keys));
                if kept.is_some() {
                    return kept;
                }
                None
            }
        };
        let issuers = self.issuers.iter().filter(|issuer| wanted.takes(issuer.id));
        let mut askers = issuers
            .filter_map(|issuer| Some((issuer, issuer.introspector.as_ref()?)))
            .peekable();
        askers.peek()?;
        let hash = TokenHash::of(sent.bytes());
        askers.find_map(|(issuer, asker)| {
            asker.kept(&hash, max_age.unwrap_or(asker.ttl()), &issuer.keys)
        })
    }

    /// A token that says of itself whose it is.
    async fn signed(
        &self,
        raw: (Option<Fingerprint>, BearerToken<'_>),
        token: Compact<'_>,
        wanted: Wanted<'_>,
    ) -> (Option<IssuerId>, Judged) {
        let payload = token.payload();
        let claimed = payload.as_deref().map_err(|refusal| *refusal);
        match claimed.and_then(|payload| self.claimed(payload)) {
            Ok((issuer, claims)) => {
                let judged = self.judge(issuer, raw, token, &claims, wanted);
                (Some(issuer.id), judged.await)
            }
            Err(refusal) => (None, self.refuse(raw.0, None, refusal, None)),
        }
    }

    fn claimed<'p>(&self, payload: &'p [u8]) -> Result<(&Trusted, Claims<'p>), Refusal> {
        let claims = Claims::read(payload)?;
        let named = claims.issuer()?;
        let mut issuers = self.issuers.iter();
        let issuer = issuers.find(|issuer| issuer.plan.issuer == named);
        Ok((issuer.ok_or(Refusal::Issuer)?, claims))
    }

    async fn judge(
        &self,
        issuer: &Trusted,
        (print, raw): (Option<Fingerprint>, BearerToken<'_>),
        token: Compact<'_>,
        claims: &Claims<'_>,
        wanted: Wanted<'_>,
    ) -> Judged {
        let light = match self.look(issuer, &token, claims) {
            Ok(light) => light,
            Err(refusal) => return self.refuse(print, Some(issuer.id), refusal, None),
        };
        // Read first: a set that comes meanwhile may have the key.
        let key_set = issuer.keys.number();
        let locally = self.prove_locally(issuer, &token, light, wanted).await;
        let signed_by = match locally {
            Ok(Local::Proved(key)) => {
                let proved = match self.proved(issuer, claims, key) {
                    Ok(proved) => Arc::new(proved),
                    Err(refusal) => return (Source::Local, Err(refusal.into())),
                };
                self.headers.remember(&token);
                if let Some(print) = print {
                    self.proofs.put(print, proved.clone());
                }
                return (Source::Local, Ok(proved));
            }
            Ok(Local::Ask(signed_by)) => signed_by,
            Err(Fault::Refused(Refusal::UnknownKey)) => {
                return self.refuse(print, Some(issuer.id), Refusal::UnknownKey, key_set);
            }
            Err(fault) => return (Source::Local, Err(fault)),
        };
        let Some(asker) = &issuer.introspector else {
            // The configuration gives such a route no such issuer; another issuer's token is not for the route.
            return (Source::Local, Err(Refusal::Issuer.into()));
        };
        let subject = claims.subject();
        // What is revoked need not be asked about; refusing is safe even where no signature was checked.
        let facts = Facts {
            issuer: &issuer.plan.name,
            jti: claims.token_id(),
            sub: subject,
            sid: claims.session(),
            client: claims.client().unwrap_or_default(),
            kid: token.header.kid.as_deref(),
            issued_at: claims.issued_at(),
        };
        if self.revocations.revoked(&facts) {
            return (Source::Local, Err(Refusal::Revoked.into()));
        }
        let bound_to = match claims.binding(issuer.plan.dpop) {
            Ok(bound_to) => bound_to,
            Err(refusal) => return (Source::Local, Err(refusal.into())),
        };
        let question = Question {
            hash: TokenHash::of(raw.expose().as_bytes()),
            token: raw.expose().into(),
            bound_to,
            marked: token.header.marks_access_token(),
            expires: claims.expires(),
            named: Named::in_question(
                claims,
                match &signed_by {
                    Some(_) => None,
                    None => token.header.kid.as_deref(),
                },
            ),
            signed_by,
        };
        ask(asker, issuer, question, wanted).await
    }

    /// Everything that needs no key. The cheapest test comes first. Whether the token is a lightweight one that its
    /// issuer has to be asked about.
    fn look(
        &self,
        issuer: &Trusted,
        token: &Compact<'_>,
        claims: &Claims<'_>,
    ) -> Result<bool, Refusal> {
        let plan = &issuer.plan;
        let header = &token.header;
        if !plan.algorithms.contains(&header.algorithm) {
            return Err(Refusal::Algorithm);
        }
        // RFC 8725 section 3.11; an absent type counts as the plain one.
        let typ = header.typ.as_deref().unwrap_or("jwt");
        if !plan.token_types.iter().any(|allowed| allowed == typ) {
            return Err(Refusal::HeaderType);
        }
        claims.check(plan, header.marks_access_token(), self.clock.unix())?;
        let light = claims.is_lightweight() && issuer.when().lightweight;
        if !light {
            claims.check_audience(plan)?;
        }
        Ok(light)
    }

    /// The signature, and whether that is enough.
    async fn prove_locally(
        &self,
        issuer: &Trusted,
        token: &Compact<'_>,
        light: bool,
        wanted: Wanted<'_>,
    ) -> Result<Local, Fault> {
        let header = &token.header;
        let when = issuer.when();
        let kid = header.kid.as_deref().unwrap_or_default();
        let checked = match kid {
            "" => Err(Refusal::UnknownKey.into()),
            kid => {
                let keys = &issuer.keys;
                keys.check(kid, header.algorithm, |key| token.verify(key))
                    .await
            }
        };
        let signed_by = match checked {
            Ok(key) => Some(key),
            Err(Fault::Refused(Refusal::UnknownKey)) if when.unknown_key => None,
            Err(Fault::Unjudged(_)) if when.keys_unavailable => None,
            Err(fault) => return Err(fault),
        };
        let asked_for = wanted.proof != Proof::Local && wanted.takes(issuer.id);
        Ok(match signed_by {
            Some(key) if !light && !asked_for => Local::Proved(key),
            signed_by => Local::Ask(signed_by),
        })
    }

    fn proved(
        &self,
        issuer: &Trusted,
        claims: &Claims<'_>,
        signed_by: Arc<VerifyingKey>,
    ) -> Result<Proved, Refusal> {
        let expires = claims.expires().unwrap_or_default();
        let now = Now::of(&self.clock);
        let times = Times::new(claims.begins(), expires, issuer.plan.leeway, now);
        let dpop = issuer.plan.dpop;
        let bound_to = Binding::demanded(claims.binding(dpop)?, dpop)?;
        let principal = issuer.granted.principal(claims);
        let proved = Proved::new(principal, Some(signed_by), Named::of(claims), times);
        let proved = proved.proved_for(issuer.number);
        Ok(proved.bound_to(bound_to))
    }
}

/// What came of everything that can be said without asking.
enum Local {
    Proved(Arc<VerifyingKey>),
    /// The key that the signature held for, if one was found.
    Ask(Option<Arc<VerifyingKey>>),
}
