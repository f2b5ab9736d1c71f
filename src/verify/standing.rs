//! Whether a proof still holds, long after it was used: what lives on a token may outlive it.

use std::sync::Arc;

use super::cache::{Now, Proved};
use super::{Judged, Refusal, Verdict, Verifier, Wanted};
use crate::config::plan::IssuerId;
use crate::credential::Sent;

/// A proof that something lives on.
#[derive(Debug, Clone)]
pub struct Standing(Arc<Proved>);

impl Verifier {
    pub(super) fn verdict(
        &self,
        sent: Sent<'_>,
        issuer: Option<IssuerId>,
        (source, outcome): Judged,
        wanted: Wanted<'_>,
    ) -> Verdict {
        let ((outcome, nonce), standing) = match outcome {
            Ok(proved) => (self.usable(sent, &proved, wanted), Some(Standing(proved))),
            Err(fault) => ((Err(fault), None), None),
        };
        Verdict {
            issuer,
            source,
            outcome,
            nonce,
            standing,
        }
    }

    /// Follows a proof: what comes of it looks at the clock and the revocations each time. It asks nobody, so what only
    /// the issuer knows shows when it tells us. The error is [`Refusal::Expired`] when the token's time is over, leeway
    /// included, or [`Refusal::Revoked`].
    pub fn follow(
        &self,
        standing: Standing,
    ) -> impl Fn() -> Result<(), Refusal> + Send + Sync + use<> {
        let (revocations, clock) = (self.revocations.clone(), self.clock.clone());
        move || {
            let Standing(proved) = &standing;
            if proved.times.are_over(Now::of(&clock)) {
                return Err(Refusal::Expired);
            }
            match proved.is_clear(&revocations) {
                true => Ok(()),
                false => Err(Refusal::Revoked),
            }
        }
    }
}
