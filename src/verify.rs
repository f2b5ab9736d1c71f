//! From a credential to a proved principal. Keycloak's shapes are read here and nowhere else.
//!
//! The cheapest test comes first: a token is taken apart, its header and claims are held against the configuration,
//! and only what could be accepted costs a key look-up, then a signature (RFC 7515 section 5.2, RFC 7519 section 7.2,
//! RFC 8725). Refusing on unproved data is safe; nothing is accepted before the signature held.

mod cache;
mod claims;
mod crypto;
pub mod fault;
mod fetch;
mod introspect;
mod json;
mod jwk;
mod jws;
mod keys;
pub mod principal;
mod weak;
mod verdict;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

pub use crypto::install as install_crypto;
pub use fault::{Fault, Refusal, Unjudged};
pub use jwk::HeldKey;
pub use principal::Principal;
pub use verdict::{Source, Verdict, Wanted};

use crate::clock::Clock;
use crate::config::plan::{IssuerId, IssuerPlan, Plan, Proof};
use crate::credential::BearerToken;
use crate::observe::metrics::Metrics;

use self::cache::{Now, Proofs, Proved, SignedBy, TokenHash};
use self::claims::{Claims, Forwarded};
use self::fetch::KeySource;
use self::introspect::{Introspector, Question};
use self::jws::Compact;
use self::keys::KeyStore;

/// Judges tokens. It counts key fetches and introspections; counting verdicts is the caller's, who knows them all.
pub struct Verifier {
    issuers: Vec<Trusted>,
    /// Proofs by signature.
    proofs: Proofs,
    clock: Clock,
    metrics: Arc<Metrics>,
}

/// An issuer whose tokens we may believe.
struct Trusted {
    id: IssuerId,
    plan: IssuerPlan,
    url: Arc<str>,
    keys: Arc<KeyStore>,
    forwarded: Forwarded,
    introspector: Option<Arc<Introspector>>,
}

/// A proof and how it was had.
type Judged = (Source, Result<Arc<Proved>, Fault>);

impl Verifier {
    /// Fails on what no waiting can cure, such as an unreadable CA file; never because an issuer is down.
    pub fn new(plan: &Plan, clock: Clock, metrics: Arc<Metrics>) -> Result<Self, String> {
        let sources = plan.issuers.iter().map(fetch::source);
        let sources = sources.collect::<Result<Vec<_>, _>>()?;
        Self::with_sources(plan, clock, metrics, sources)
    }

    fn with_sources(
        plan: &Plan,
        clock: Clock,
        metrics: Arc<Metrics>,
        sources: Vec<Box<dyn KeySource>>,
    ) -> Result<Self, String> {
        crypto::install();
        let forwarded = Forwarded::new(plan);
        let issuers = plan.issuers.iter().zip(sources).enumerate();
        let issuers = issuers.map(|(index, (issuer, source))| {
            let id = IssuerId(index);
            Ok(Trusted {
                id,
                plan: issuer.clone(),
                url: issuer.issuer.as_str().into(),
                keys: KeyStore::new(id, issuer, source, clock.clone(), metrics.clone()),
                introspector: Introspector::new(
                    id,
                    issuer,
                    forwarded.clone(),
                    clock.clone(),
                    metrics.clone(),
                )?,
                forwarded: forwarded.clone(),
            })
        });
        let cache = &plan.token_cache;
        let evictions = Some(metrics.token_cache_evictions());
        Ok(Verifier {
            issuers: issuers.collect::<Result<_, String>>()?,
            proofs: Proofs::new(cache.max_bytes, cache.max_age, evictions),
            clock,
            metrics,
        })
    }

    /// Proves a token. Waits for the network only when its `kid` is unknown or its issuer must be asked (contract,
    /// "Proof").
    pub async fn prove(&self, token: BearerToken<'_>, wanted: Wanted<'_>) -> Verdict {
        let hash = TokenHash::of(token.expose());
        if let Some(proved) = self.kept(&hash, wanted) {
            return Verdict {
                issuer: Some(proved.principal.issuer),
                source: Source::Cache,
                outcome: Ok(proved.principal.clone()),
            };
        }
        let (issuer, (source, outcome)) = match self.claimed(token) {
            Ok((issuer, compact, claims)) => {
                let judged = self
                    .judge(issuer, (hash, token), compact, claims, wanted)
                    .await;
                (Some(issuer.id), judged)
            }
            Err(Refusal::Opaque) => self.opaque(hash, token, wanted).await,
            Err(refusal) => (None, (Source::Local, Err(refusal.into()))),
        };
        Verdict {
            issuer,
            source,
            outcome: outcome.map(|proved| proved.principal.clone()),
        }
    }

    /// A proof of this very token that was had before and still holds.
    fn kept(&self, hash: &TokenHash, wanted: Wanted<'_>) -> Option<Arc<Proved>> {
        let max_age = match wanted.proof {
            Proof::Introspect => return None,
            Proof::Fresh(age) => Some(age),
            Proof::Local => {
                let now = Now {
                    unix: self.clock.unix(),
                    monotonic: self.clock.monotonic(),
                };
                let keys = |proved: &Proved| &*self.issuers[proved.principal.issuer.0].keys;
                let kept = self.proofs.get(hash, self.proofs.max_age(), now, keys);
                if kept.is_some() {
                    return kept;
                }
                None
            }
        };
        let issuers = self.issuers.iter().filter(|issuer| wanted.takes(issuer.id));
        issuers
            .filter_map(|issuer| Some((issuer, issuer.introspector.as_ref()?)))
            .find_map(|(issuer, asker)| {
                asker.kept(hash, max_age.unwrap_or(asker.ttl()), &issuer.keys)
            })
    }

    /// What the token says of itself, as far as it takes to know whose it claims to be.
    fn claimed<'t>(
        &self,
        token: BearerToken<'t>,
    ) -> Result<(&Trusted, Compact<'t>, Claims), Refusal> {
        let token = Compact::read(token.expose())?;
        let claims = Claims::read(&token.payload()?)?;
        let named = claims.issuer()?;
        let issuer = self.issuers.iter().find(|issuer| *issuer.url == *named);
        Ok((issuer.ok_or(Refusal::Issuer)?, token, claims))
    }

    async fn judge(
        &self,
        issuer: &Trusted,
        (hash, raw): (TokenHash, BearerToken<'_>),
        token: Compact<'_>,
        claims: Claims,
        wanted: Wanted<'_>,
    ) -> Judged {
        let locally = self.prove_locally(issuer, token, claims, wanted).await;
        let (claims, marked, signed_by) = match locally {
            Ok(Local::Proved(claims, signed_by)) => {
                let proved = Arc::new(self.proved(issuer, claims, signed_by));
                self.proofs.put(hash, proved.clone());
                return (Source::Local, Ok(proved));
            }
            Ok(Local::Ask(claims, marked, signed_by)) => (claims, marked, signed_by),
            Err(fault) => return (Source::Local, Err(fault)),
        };
        let Some(asker) = &issuer.introspector else {
            // The configuration gives such a route no such issuer; another issuer's token is not for the route.
            return (Source::Local, Err(Refusal::Issuer.into()));
        };
        let question = Question {
            hash,
            token: raw.expose().into(),
            marked,
            expires: claims.expires(),
            signed_by,
        };
        ask(asker, issuer, question, wanted).await
    }

    /// Everything that can be said without asking. The cheapest test comes first.
    async fn prove_locally(
        &self,
        issuer: &Trusted,
        token: Compact<'_>,
        claims: Claims,
        wanted: Wanted<'_>,
    ) -> Result<Local, Fault> {
        let plan = &issuer.plan;
        let header = &token.header;
        if !plan.algorithms.contains(&header.algorithm) {
            return Err(Refusal::Algorithm.into());
        }
        // RFC 8725 section 3.11; an absent type counts as the plain one.
        let typ = header.typ.as_deref().unwrap_or("jwt");
        if !plan.token_types.iter().any(|allowed| allowed == typ) {
            return Err(Refusal::HeaderType.into());
        }
        let marked = header.marks_access_token();
        claims.check(plan, marked, self.clock.unix())?;
        let when = issuer.introspector.as_ref().map(|asker| asker.when());
        let when = when.unwrap_or_default();
        let light = claims.is_lightweight() && when.lightweight;
        if !light {
            claims.check_audience(plan)?;
        }
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
            Ok(key) => Some(SignedBy {
                kid: kid.into(),
                key,
            }),
            Err(Fault::Refused(Refusal::UnknownKey)) if when.unknown_key => None,
            Err(Fault::Unjudged(_)) if when.keys_unavailable => None,
            Err(fault) => return Err(fault),
        };
        let asked_for = wanted.proof != Proof::Local && wanted.takes(issuer.id);
        Ok(match signed_by {
            Some(signed_by) if !light && !asked_for => Local::Proved(claims, signed_by),
            signed_by => Local::Ask(claims, marked, signed_by),
        })
    }

    fn proved(&self, issuer: &Trusted, claims: Claims, signed_by: SignedBy) -> Proved {
        let leeway = issuer.plan.leeway.as_secs();
        let born_at = claims.begins().saturating_sub(leeway);
        let principal =
            claims.into_principal(issuer.id, &issuer.plan, &issuer.url, &issuer.forwarded);
        let dead_at = principal.expires_at.saturating_add(leeway);
        let now = self.clock.monotonic();
        Proved::new(principal, Some(signed_by), (born_at, dead_at), now)
    }

    /// A token that says nothing goes to the route's one issuer that is asked about such.
    async fn opaque(
        &self,
        hash: TokenHash,
        token: BearerToken<'_>,
        wanted: Wanted<'_>,
    ) -> (Option<IssuerId>, Judged) {
        let issuers = self.issuers.iter().filter(|issuer| wanted.takes(issuer.id));
        let mut asked = issuers.filter_map(|issuer| {
            let asker = issuer.introspector.as_ref()?;
            asker.when().opaque.then_some((issuer, asker))
        });
        let (Some((issuer, asker)), None) = (asked.next(), asked.next()) else {
            return (None, (Source::Local, Err(Refusal::Opaque.into())));
        };
        let question = Question {
            hash,
            token: token.expose().into(),
            marked: false,
            expires: None,
            signed_by: None,
        };
        (Some(issuer.id), ask(asker, issuer, question, wanted).await)
    }

    /// Per issuer, what `/readyz` says about its keys: `Ok(keys)` or why not.
    pub fn readiness(&self) -> Vec<(Arc<str>, Result<usize, String>)> {
        let issuers = self.issuers.iter();
        issuers
            .map(|issuer| (issuer.plan.name.clone(), issuer.keys.readiness()))
            .collect()
    }

    /// The keys that an issuer's tokens are proved with.
    pub fn keys(&self, issuer: IssuerId) -> Vec<HeldKey> {
        self.issuers[issuer.0].keys.held()
    }

    /// Brings the gauges of keys, breakers and kept proofs up to date. Call it before a scrape is answered.
    pub fn publish(&self) {
        for issuer in &self.issuers {
            issuer.keys.publish();
            if let Some(asker) = &issuer.introspector {
                asker.publish();
            }
        }
        let cache = &self.proofs;
        self.metrics.token_cache(cache.entries(), cache.bytes());
    }

    /// Keeps one issuer's keys fresh until dropped; run by a background service for each issuer.
    pub async fn keep_fresh(&self, issuer: IssuerId) {
        self.issuers[issuer.0].keys.keep_fresh().await;
    }

    /// Fetches one issuer's keys now, past any cool-down; whether usable ones came.
    pub async fn refresh(&self, issuer: IssuerId) -> bool {
        self.issuers[issuer.0].keys.refresh().await
    }
}

/// What came of everything that can be said without asking.
enum Local {
    Proved(Claims, SignedBy),
    /// The claims, whether the header marks an access token, and the key if one was found.
    Ask(Claims, bool, Option<SignedBy>),
}

async fn ask(
    asker: &Arc<Introspector>,
    issuer: &Trusted,
    question: Question,
    wanted: Wanted<'_>,
) -> Judged {
    let max_age = match wanted.proof {
        Proof::Introspect => Duration::ZERO,
        Proof::Fresh(age) => age,
        Proof::Local => asker.ttl(),
    };
    let (found, outcome) = asker.ask(question, max_age, &issuer.keys).await;
    let source = match found {
        true => Source::Cache,
        false => Source::Introspection,
    };
    (source, outcome)
}
