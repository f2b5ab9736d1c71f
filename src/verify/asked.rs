//! Tokens that need their issuer's word.

use std::sync::Arc;
use std::time::Duration;

use super::cache::Named;
use super::digest::TokenHash;
use super::introspect::{Introspector, Question};
use super::{Judged, Refusal, Source, Trusted, Verifier, Wanted};
use crate::config::plan::{IssuerId, Proof};
use crate::credential::BearerToken;

impl Verifier {
    /// A token that says nothing goes to the route's one issuer that is asked about such.
    pub(super) async fn opaque(
        &self,
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
            hash: TokenHash::of(token.expose().as_bytes()),
            token: token.expose().into(),
            bound_to: None,
            marked: false,
            expires: None,
            named: Named::default(),
            signed_by: None,
        };
        (Some(issuer.id), ask(asker, issuer, question, wanted).await)
    }
}

/// Asks, or finds an answer that is not older than the route wants it.
pub(super) async fn ask(
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
