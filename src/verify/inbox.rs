//! What an issuer sends by itself: pushes of its not-before, and logouts. Anybody can send something here; a signature
//! by the issuer's current keys is all that counts.
//!
//! The cheapest test comes first, as with tokens: what the message says is held against what it must say, then its
//! signature is checked, then it has its effect, once.

mod logout;
mod push;
mod replays;

use std::sync::Arc;

use self::logout::Logout;
use self::push::Push;
use self::replays::Replayed;
pub(super) use self::replays::Replays;
use super::fault::{Fault, Refusal, Unjudged};
use super::json::{self, Object};
use super::jws::Compact;
use super::keys::KeyStore;
use super::revoked::{Entry, Kind, Origin, Revocations, Unkept};
use crate::clock::Clock;
use crate::config::plan::IssuerPlan;
use crate::observe::metrics::{Heard, IssuerMetrics};

/// How long the end of a session is remembered. Nothing says how long its access tokens live: they are to be shorter.
const SESSION_ENDED: u64 = 24 * 3600;
/// A message that is valid for longer is none that Keycloak makes, and would have to be remembered for as long.
const LONGEST: u64 = 3600;

/// Why a message had no effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unheard {
    /// The issuer's configuration does not ask for such messages; what to write.
    Off(&'static str),
    Refused(Flaw),
    /// Its signature could not be judged.
    Unjudged(Unjudged),
    /// There is no place to remember it.
    Full,
    /// It is in force, and forgotten by the next start.
    Unwritten,
}

/// What is wrong with a message. For the log, never for its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    #[error("its form, key or signature is wrong: {0:?}")]
    Unsigned(Refusal),
    #[error("its header's `typ` is another one")]
    Type,
    #[error("`{0}` is missing, or not what it must be")]
    Member(&'static str),
    #[error("`{0}` must not be there")]
    Foreign(&'static str),
    #[error("its time is over, or not yet come")]
    Time,
    #[error("it is valid for more than an hour")]
    TooLong,
    #[error("it came before")]
    Replayed,
}

/// One issuer's.
pub(super) struct Inbox {
    issuer: IssuerPlan,
    keys: Arc<KeyStore>,
    revocations: Arc<Revocations>,
    replays: Arc<Replays>,
    clock: Clock,
    metrics: Arc<IssuerMetrics>,
}

impl Inbox {
    pub(super) fn new(
        issuer: &IssuerPlan,
        keys: Arc<KeyStore>,
        revocations: Arc<Revocations>,
        replays: Arc<Replays>,
        clock: Clock,
        metrics: Arc<IssuerMetrics>,
    ) -> Self {
        Inbox {
            issuer: issuer.clone(),
            keys,
            revocations,
            replays,
            clock,
            metrics,
        }
    }

    /// What had its effect before; for the next plan's.
    pub(super) fn replays(&self) -> Arc<Replays> {
        self.replays.clone()
    }

    /// Keycloak's `k_push_not_before`: a bare JWS.
    pub(super) async fn push(&self, message: &str) -> Result<(), Unheard> {
        let Some(asker) = &self.issuer.introspection else {
            return Err(Unheard::Off(
                "a push is for `introspection.client_id`, and the issuer has no `introspection`",
            ));
        };
        let outcome = self.pushed(message, &asker.client_id).await;
        self.metrics
            .not_before_pushed(self.told("a push of its not-before", &outcome));
        outcome
    }

    /// OpenID Connect Back-Channel Logout 1.0: the `logout_token` of the form.
    pub(super) async fn logout(&self, token: &str) -> Result<(), Unheard> {
        if self.issuer.logout_clients.is_empty() {
            return Err(Unheard::Off(
                "it hears the logouts of `logout.clients`, and the issuer has none",
            ));
        }
        let outcome = self.logged_out(token).await;
        self.metrics.logged_out(self.told("a logout", &outcome));
        outcome
    }

    async fn pushed(&self, message: &str, ours: &str) -> Result<(), Unheard> {
        let signed = self.signed(message)?;
        let push = signed.read(|typ, payload| {
            let now = self.clock.unix();
            Push::read(typ, payload, ours, now, self.issuer.leeway.as_secs())
        })?;
        self.proved(&signed).await?;
        self.once(format!("push {}", push.id), push.ends, || {
            let (revocations, name) = (self.revocations.clone(), self.issuer.name.clone());
            move || revocations.pushed(&name, push.not_before).map(drop)
        })
        .await?;
        log::warn!(
            "issuer {}: not-before {} was pushed",
            self.issuer.name,
            push.not_before
        );
        // Who pushes has often changed the keys too.
        let keys = self.keys.clone();
        tokio::spawn(async move { keys.refresh().await });
        Ok(())
    }

    async fn logged_out(&self, token: &str) -> Result<(), Unheard> {
        let signed = self.signed(token)?;
        let logout = signed
            .read(|typ, payload| Logout::read(typ, payload, &self.issuer, self.clock.unix()))?;
        self.proved(&signed).await?;
        let now = self.clock.unix();
        // The session alone if it is named: its user may have others.
        let (kind, value, issued_up_to) = match (logout.sid, logout.sub) {
            (Some(sid), _) => (Kind::Sid, sid, None),
            (None, sub) => (Kind::Sub, sub.unwrap_or_default(), Some(logout.issued)),
        };
        let entry = Entry {
            issuer: self.issuer.name.clone(),
            kind,
            value: value.into(),
            until: now.saturating_add(SESSION_ENDED),
            issued_up_to,
            reason: None,
            origin: Origin::Logout,
            made: now,
        };
        let id = entry.id();
        self.once(format!("logout {}", logout.jti), logout.ends, || {
            let revocations = self.revocations.clone();
            move || revocations.revoke(entry).map(drop)
        })
        .await?;
        let name = &self.issuer.name;
        log::info!("issuer {name}: logout by {}, revocation {id}", kind.name());
        Ok(())
    }

    /// The form of a message, and that it could be the issuer's.
    fn signed<'m>(&self, message: &'m str) -> Result<Signed<'m>, Unheard> {
        let unsigned = |refusal| Unheard::Refused(Flaw::Unsigned(refusal));
        let token = Compact::read(message).map_err(unsigned)?;
        if !self.issuer.algorithms.contains(&token.header.algorithm) {
            return Err(unsigned(Refusal::Algorithm));
        }
        let payload = token.payload().map_err(unsigned)?;
        Ok(Signed { token, payload })
    }

    async fn proved(&self, signed: &Signed<'_>) -> Result<(), Unheard> {
        let unsigned = |refusal| Unheard::Refused(Flaw::Unsigned(refusal));
        let header = &signed.token.header;
        let kid = header.kid.as_deref().filter(|kid| !kid.is_empty());
        let kid = kid.ok_or(unsigned(Refusal::UnknownKey))?;
        let check = |key: &_| signed.token.verify(key);
        match self.keys.check(kid, header.algorithm, check).await {
            Ok(_) => Ok(()),
            Err(Fault::Refused(refusal)) => Err(unsigned(refusal)),
            Err(Fault::Unjudged(unjudged)) => Err(Unheard::Unjudged(unjudged)),
        }
    }

    /// The effect of a message, unless it had it before. `ends` is when the message is void anyway.
    async fn once<E>(
        &self,
        id: String,
        ends: u64,
        effect: impl FnOnce() -> E,
    ) -> Result<(), Unheard>
    where
        E: FnOnce() -> Result<(), Unkept> + Send + 'static,
    {
        match self.replays.note(&id, ends, self.clock.unix()) {
            Ok(()) => {}
            Err(Replayed::Before) => return Err(Unheard::Refused(Flaw::Replayed)),
            Err(Replayed::Full) => return Err(Unheard::Full),
        }
        let kept = tokio::task::spawn_blocking(effect()).await;
        let outcome = match kept {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(Unkept::Full)) => Unheard::Full,
            Ok(Err(Unkept::Unwritten(_))) | Err(_) => Unheard::Unwritten,
        };
        // It may be sent again.
        self.replays.forget(&id);
        Err(outcome)
    }

    fn told(&self, what: &str, outcome: &Result<(), Unheard>) -> Heard {
        let name = &self.issuer.name;
        match outcome {
            Ok(()) => return Heard::Ok,
            Err(Unheard::Refused(flaw)) => {
                log::warn!("issuer {name}: {what} was refused: {flaw}");
                return Heard::Refused;
            }
            Err(Unheard::Full) => {
                log::error!("issuer {name}: {what} is lost: there is no place to keep it");
            }
            Err(Unheard::Unjudged(unjudged)) => {
                log::error!("issuer {name}: {what} could not be judged: {unjudged:?}");
            }
            Err(Unheard::Unwritten | Unheard::Off(_)) => {
                log::error!("issuer {name}: {what} is in force until the next start only");
            }
        }
        Heard::Failed
    }
}

/// A message whose signature was not checked.
struct Signed<'m> {
    token: Compact<'m>,
    payload: Vec<u8>,
}

impl Signed<'_> {
    fn read<T>(
        &self,
        read: impl FnOnce(Option<&str>, &Object<'_>) -> Result<T, Flaw>,
    ) -> Result<T, Unheard> {
        let payload = json::object(&self.payload);
        let payload = payload.ok_or(Unheard::Refused(Flaw::Unsigned(Refusal::Malformed)))?;
        read(self.token.header.typ.as_deref(), &payload).map_err(Unheard::Refused)
    }
}

/// When a message that says it ends then is void; `Err` if it is already, or never would be.
fn ends(said: Option<u64>, name: &'static str, now: u64, leeway: u64) -> Result<u64, Flaw> {
    let ends = said.ok_or(Flaw::Member(name))?.saturating_add(leeway);
    if now >= ends {
        return Err(Flaw::Time);
    }
    match ends - now > LONGEST + leeway {
        true => Err(Flaw::TooLong),
        false => Ok(ends),
    }
}

/// A text that can be remembered.
fn text(payload: &Object<'_>, name: &'static str) -> Result<Option<String>, Flaw> {
    let Some(value) = payload.get(name) else {
        return Ok(None);
    };
    let fits = |text: &&str| !text.is_empty() && text.len() <= super::revoked::MAX_TEXT;
    let text = value.as_text().filter(fits).ok_or(Flaw::Member(name))?;
    Ok(Some(text.to_owned()))
}
