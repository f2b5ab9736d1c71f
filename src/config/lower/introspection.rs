//! Introspection: how an issuer is asked, and which routes may want it.

use crate::config::diagnostic::Fault;
use crate::config::plan::{
    Access, AskWhen, ClientAuth, EndpointFrom, IntrospectionPlan, IssuerId, IssuerPlan, Proof,
    RoutePlan,
};
use crate::config::private_key::PrivateKey;
use crate::config::secret::Secret;
use crate::config::view::View;

use super::Context;

pub(super) fn issuer(issuer: &View<'_>, context: &mut Context<'_>) -> Option<IntrospectionPlan> {
    let view = issuer.block("introspection");
    if !view.present() {
        return None;
    }
    let (cache, breaker) = (view.block("cache"), view.block("breaker"));
    let when = view.texts("when");
    let when = |word: &str| when.iter().any(|w| w == word);
    Some(IntrospectionPlan {
        endpoint: endpoint(issuer, context),
        client_id: view.text("client_id").unwrap_or_default(),
        auth: auth(&view, context),
        when: AskWhen {
            opaque: when("opaque"),
            lightweight: when("lightweight"),
            unknown_key: when("unknown_key"),
            keys_unavailable: when("keys_unavailable"),
        },
        timeout: view.duration("timeout"),
        max_in_flight: view.number("max_in_flight"),
        ttl: cache.duration("ttl"),
        negative_ttl: cache.duration("negative_ttl"),
        max_bytes: cache.size("max_bytes"),
        failures: breaker.number("failures"),
        open: breaker.duration("open"),
    })
}

/// A method and what belongs to it, and nothing that belongs to another.
fn auth(view: &View<'_>, context: &mut Context<'_>) -> ClientAuth {
    let method = view.text("auth").unwrap_or_default();
    let by_key = match method.as_str() {
        "private_key_jwt" => true,
        "client_secret_basic" | "client_secret_post" => false,
        // Reported already; what belongs to it is anybody's guess.
        _ => return ClientAuth::Basic(Secret::from_value("")),
    };
    let (wanted, others): (_, &[&str]) = match by_key {
        true => ("private_key", &["client_secret"]),
        false => ("client_secret", &["private_key", "kid"]),
    };
    for other in others {
        if let Some(spot) = view.get(other) {
            let fault = Fault::new(format!("does nothing with `auth: {method}`"));
            let hint = match by_key {
                true => "take it out: the key stands for it",
                false => "take it out, or write `auth: private_key_jwt`",
            };
            context.problem(&spot, fault.hint(hint));
        }
    }
    if view.get(wanted).is_none() {
        let fault = Fault::new("is required: the issuer answers nobody that it does not know");
        let what = match by_key {
            true => "key in PEM",
            false => "secret",
        };
        context.problem_at(
            view.place(wanted),
            fault.hint(format!(
                "write `${{file:PATH}}` or `${{env:NAME}}` with the client's {what}"
            )),
        );
    }
    let secret = context.secret(view, wanted);
    let secret = secret.unwrap_or_else(|| Secret::from_value(""));
    if !by_key {
        return match method.as_str() {
            "client_secret_post" => ClientAuth::Post(secret),
            _ => ClientAuth::Basic(secret),
        };
    }
    // What could not be read was reported, or is nobody's business offline.
    if let (Some(spot), false) = (view.get(wanted), secret.expose().is_empty())
        && let Err(fault) = PrivateKey::from_pem(secret.expose())
    {
        context.problem(&spot, Fault::new(fault.text()).hint(fault.hint()));
    }
    ClientAuth::PrivateKey {
        pem: secret,
        kid: view.text("kid"),
    }
}

fn endpoint(issuer: &View<'_>, context: &mut Context<'_>) -> EndpointFrom {
    if let Some(spot) = issuer.get("introspection_endpoint") {
        return EndpointFrom::Url(spot.text());
    }
    if let Some(spot) = issuer.get("discovery_url") {
        return EndpointFrom::Discovery(spot.text());
    }
    // With `jwks_uri` nothing else is fetched from the issuer's own address.
    if let (Some(spot), Some(_), false) = (
        issuer.get("issuer"),
        issuer.get("jwks_uri"),
        issuer.flag("insecure"),
    ) {
        super::issuer::secure(&spot, context);
    }
    let url = issuer.text("issuer").unwrap_or_default();
    EndpointFrom::Discovery(format!(
        "{}/.well-known/openid-configuration",
        url.trim_end_matches('/')
    ))
}

/// What only shows when routes and issuers are seen together. `routes` are those blocks that are maps.
pub(super) fn routes(
    file: &View<'_>,
    routes: &[RoutePlan],
    issuers: &[IssuerPlan],
    context: &mut Context<'_>,
) {
    let block = file.entry_block("routes");
    let spots = file.items("routes");
    let views = spots.iter().map(|spot| spot.view(block));
    for (view, route) in views.filter(View::present).zip(routes) {
        let Access::Token(policy) = &route.access else {
            continue;
        };
        let takes =
            |index: usize| policy.issuers.is_empty() || policy.issuers.contains(&IssuerId(index));
        let taken: Vec<&IssuerPlan> = issuers
            .iter()
            .enumerate()
            .filter(|(index, _)| takes(*index))
            .map(|(_, issuer)| issuer)
            .collect();
        let access = view.block("access");
        if policy.proof != Proof::Local {
            for issuer in taken.iter().filter(|i| i.introspection.is_none()) {
                let fault = Fault::new(format!(
                    "the issuer `{}` cannot be asked: it has no `introspection`",
                    issuer.name
                ));
                context.problem_at(
                    access.place("proof"),
                    fault.hint("write `introspection` at the issuer, or `proof: local`"),
                );
            }
        }
        let asked: Vec<&str> = taken
            .iter()
            .filter(|i| i.introspection.as_ref().is_some_and(|i| i.when.opaque))
            .map(|issuer| &*issuer.name)
            .collect();
        if asked.len() > 1 {
            let fault = Fault::new(format!(
                "an opaque token could be any issuer's: {} are asked about them here",
                asked.join(", ")
            ));
            context.problem_at(
                access.place("issuers"),
                fault.hint(
                    "name one issuer, or take `opaque` out of the others' `introspection.when`",
                ),
            );
        }
    }
}
