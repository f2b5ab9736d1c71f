//! What is asked of every proof at each use, however it was had: a kept one says nothing of who shows the token now.

use http::HeaderValue;

use super::cache::Proved;
use super::digest::TokenHash;
use super::fault::{Fault, Refusal};
use super::{Principal, Verifier, Wanted};
use crate::credential::Sent;

impl Verifier {
    /// Somebody, if whoever shows the token is the one that it was issued to, and nobody has revoked it.
    pub(super) fn usable(
        &self,
        sent: Sent<'_>,
        proved: &Proved,
        wanted: Wanted<'_>,
    ) -> (Result<Principal, Fault>, Option<HeaderValue>) {
        let refused = |refusal: Refusal| (Err(refusal.into()), None);
        if !proved.may_be_used_by(wanted.certificate) {
            return refused(Refusal::SenderConstrained);
        }
        if !proved.is_clear(&self.revocations) {
            return refused(Refusal::Revoked);
        }
        let principal = || proved.principal.clone();
        match (proved.holder(), wanted.shown) {
            (None, None) => (Ok(principal()), None),
            // RFC 9449 section 7.2: or a thief need only change the scheme.
            (Some(_), None) => refused(Refusal::SenderConstrained),
            (None, Some(_)) => refused(Refusal::Unbound),
            (Some(holder), Some(shown)) => {
                let token = TokenHash::of(sent.bytes());
                let checked = self.dpop.check(shown, &token, holder);
                (checked.outcome.map(|()| principal()), checked.nonce)
            }
        }
    }
}
