//! Issuers: where keys come from, and what is believed.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::diagnostic::{Fault, nearest};
use crate::config::format;
use crate::config::plan::{
    Algorithm, Dpop, IssuerPlan, KeysFrom, KeysPlan, NotBeforePlan, RevocationsPlan, Unmarked,
};
use crate::config::view::{Spot, View};

use super::{Context, introspection};

pub(super) fn issuers(file: &View<'_>, context: &mut Context<'_>) -> Vec<IssuerPlan> {
    let block = file.entry_block("issuers");
    let mut plans: Vec<IssuerPlan> = Vec::new();
    for named in file.named("issuers") {
        let view = named.spot.view(block);
        let plan = issuer(named.name, &view, context);
        let twin = plans.iter().find(|other| other.issuer == plan.issuer);
        if let (Some(twin), Some(spot)) = (twin, view.get("issuer")) {
            let fault = Fault::new(format!(
                "{} is the issuer of `{}` too",
                spot.node.shown(),
                twin.name
            ));
            context.problem(&spot, fault.hint("a token's `iss` must lead to one issuer"));
        }
        let keys = view.block("keys");
        let twin = plans.iter().find(|other| {
            other.keys.snapshot.is_some() && other.keys.snapshot == plan.keys.snapshot
        });
        if let (Some(twin), Some(spot)) = (twin, keys.get("snapshot")) {
            let fault = Fault::new(format!(
                "{} is the snapshot of `{}` too",
                spot.node.shown(),
                twin.name
            ));
            context.problem(&spot, fault.hint("give each issuer a file of its own"));
        }
        plans.push(plan);
    }
    plans
}

fn issuer(name: &str, view: &View<'_>, context: &mut Context<'_>) -> IssuerPlan {
    if let Some(spot) = view.get("insecure")
        && view.flag("insecure")
    {
        let fault = Fault::new("tokens are believed on the word of a plain HTTP server");
        context.warning(
            &spot,
            fault.hint("use https wherever the network is not yours alone"),
        );
    }
    if let Some(spot) = view.get("unmarked")
        && view.text("unmarked").as_deref() == Some("allow")
    {
        let fault = Fault::new("tokens that do not say that they are access tokens are believed");
        context.warning(&spot, fault);
    }
    let keys_from = keys_from(view, context);
    IssuerPlan {
        name: name.into(),
        issuer: view.text("issuer").unwrap_or_default(),
        insecure: view.flag("insecure"),
        ca: context.file(view, "ca"),
        audience: audience(view, context),
        algorithms: algorithms(view, context),
        token_types: token_types(view, context),
        unmarked: match view.text("unmarked").as_deref() {
            Some("allow") => Unmarked::Allow,
            _ => Unmarked::Refuse,
        },
        leeway: leeway(view, context),
        keys: keys(&view.block("keys"), &keys_from, context),
        not_before: not_before(view, context),
        logout_clients: view.block("logout").texts("clients"),
        dpop: match view.text("dpop").as_deref() {
            Some("allow") => Dpop::Allow,
            Some("require") => Dpop::Require,
            _ => Dpop::Refuse,
        },
        introspection: introspection::issuer(view, context),
        keys_from,
    }
}

fn keys_from(view: &View<'_>, context: &mut Context<'_>) -> KeysFrom {
    let insecure = view.flag("insecure");
    for key in ["discovery_url", "jwks_uri", "introspection_endpoint"] {
        if let Some(spot) = view.get(key)
            && !insecure
        {
            secure(&spot, context);
        }
    }
    if let Some(spot) = view.get("jwks_uri") {
        let text = spot.text();
        return match text.strip_prefix("file:") {
            Some(path) => {
                if path.starts_with('/') {
                    context.readable(&spot, path.as_ref());
                }
                KeysFrom::File(path.into())
            }
            None => KeysFrom::Url(text),
        };
    }
    if let Some(spot) = view.get("discovery_url") {
        return KeysFrom::Discovery(spot.text());
    }
    if let Some(spot) = view.get("issuer")
        && !insecure
    {
        secure(&spot, context);
    }
    let issuer = view.text("issuer").unwrap_or_default();
    KeysFrom::Discovery(format!(
        "{}/.well-known/openid-configuration",
        issuer.trim_end_matches('/')
    ))
}

/// Whoever can change what we fetch decides whom we believe.
pub(super) fn secure(spot: &Spot<'_>, context: &mut Context<'_>) {
    let Ok(url) = format::url(&spot.text()) else {
        return;
    };
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let loopback = match bare.parse::<std::net::IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host == "localhost",
    };
    if url.scheme() == "http" && !loopback {
        let fault = Fault::new(format!(
            "{} is fetched in plain HTTP from another machine",
            spot.node.shown()
        ));
        context.problem(
            spot,
            fault.hint("write `https://`, or `insecure: true` on this issuer if the network is yours alone"),
        );
    }
}

fn audience(view: &View<'_>, context: &mut Context<'_>) -> Vec<String> {
    for spot in view.items("audience") {
        if spot.text() == "account" {
            let fault = Fault::new("`account` is in the tokens of every Keycloak client");
            context.problem(
                &spot,
                fault.hint("add an audience mapper for the gateway's own client and name that one"),
            );
        }
    }
    view.texts("audience")
}

fn algorithms(view: &View<'_>, context: &mut Context<'_>) -> Vec<Algorithm> {
    for spot in view.items("algorithms") {
        let name = spot.text();
        if Algorithm::from_name(&name).is_some() || spot.node.deferred() {
            continue;
        }
        let shown = spot.node.shown();
        let names = || Algorithm::ALL.into_iter().map(Algorithm::name);
        let fault = match name.to_ascii_uppercase().as_str() {
            "NONE" => Fault::new(format!("{shown} would believe tokens that nobody signed")),
            "HS256" | "HS384" | "HS512" => Fault::new(format!(
                "{shown} is symmetric: whoever can verify such a token can make one"
            ))
            .hint("let the issuer sign with an asymmetric algorithm, such as RS256"),
            "ES512" | "ES256K" => Fault::new(format!("{shown} is no algorithm that we verify"))
                .hint("let the issuer sign with ES256 or ES384"),
            _ => {
                let fault = Fault::new(format!("{shown} is no algorithm that we verify"));
                match nearest(&name, names()) {
                    Some(meant) => fault.hint(format!("did you mean `{meant}`?")),
                    None => {
                        fault.hint(format!("one of {}", names().collect::<Vec<_>>().join(", ")))
                    }
                }
            }
        };
        context.problem(&spot, fault);
    }
    let mut known: Vec<Algorithm> = Vec::new();
    for name in view.texts("algorithms") {
        if let Some(algorithm) = Algorithm::from_name(&name)
            && !known.contains(&algorithm)
        {
            known.push(algorithm);
        }
    }
    known
}

fn token_types(view: &View<'_>, context: &mut Context<'_>) -> Vec<String> {
    let plain = |text: &str| {
        let lower = text.to_ascii_lowercase();
        lower
            .strip_prefix("application/")
            .map_or(lower.clone(), str::to_owned)
    };
    for spot in view.items("token_types") {
        if matches!(
            plain(&spot.text()).as_str(),
            "logout+jwt" | "dpop+jwt" | "secevent+jwt"
        ) {
            let fault = Fault::new(format!("{} is no access token", spot.node.shown()));
            context.problem(&spot, fault.hint("write `[JWT, at+jwt]`"));
        }
    }
    let mut types: Vec<String> = view.texts("token_types").iter().map(|t| plain(t)).collect();
    types.sort();
    types.dedup();
    types
}

fn leeway(view: &View<'_>, context: &mut Context<'_>) -> Duration {
    let leeway = view.duration("leeway");
    if let Some(spot) = view.get("leeway")
        && leeway > Duration::from_secs(60)
    {
        let fault = Fault::new(format!("{} is more than 60s", spot.node.shown()));
        context.problem(
            &spot,
            fault.hint("set the clocks instead: expired tokens live on for the leeway"),
        );
    }
    leeway
}

fn keys(view: &View<'_>, from: &KeysFrom, context: &mut Context<'_>) -> KeysPlan {
    for key in ["refresh", "cooldown"] {
        seldom(view, key, context);
    }
    let plan = KeysPlan {
        refresh: view.duration("refresh"),
        cooldown: view.duration("cooldown"),
        max_stale: view.duration("max_stale"),
        timeout: view.duration("timeout"),
        snapshot: snapshot(view, from, context),
    };
    if plan.max_stale < plan.refresh && !plan.max_stale.is_zero() {
        let spot = view.get("max_stale").or_else(|| view.get("refresh"));
        if let Some(spot) = spot {
            let fault = Fault::new(
                "keys would be too old before they are refreshed: `max_stale` is less than `refresh`",
            );
            context.problem(
                &spot,
                fault.hint("make `max_stale` several times `refresh`"),
            );
        }
    }
    plan
}

/// A file that we write; what it needs is a directory.
fn snapshot(view: &View<'_>, from: &KeysFrom, context: &mut Context<'_>) -> Option<PathBuf> {
    let spot = view.get("snapshot")?;
    let path = PathBuf::from(spot.text());
    if spot.node.deferred() || path.as_os_str().is_empty() {
        return Some(path);
    }
    if *from == KeysFrom::File(path.clone()) {
        let fault = Fault::new(format!(
            "{} is where the keys are read from",
            spot.node.shown()
        ));
        context.problem(
            &spot,
            fault.hint("take it out: keys from a file need no snapshot"),
        );
    }
    context.writable(&spot, &path);
    Some(path)
}

fn not_before(issuer: &View<'_>, context: &mut Context<'_>) -> Option<NotBeforePlan> {
    let view = issuer.block("not_before");
    if !view.present() {
        return None;
    }
    seldom(&view, "poll", context);
    let insecure = issuer.flag("insecure");
    let said = view.get("url").or_else(|| issuer.get("issuer"));
    if let (Some(spot), false) = (&said, insecure) {
        secure(spot, context);
    }
    Some(NotBeforePlan {
        poll: view.duration("poll"),
        url: said.map(|spot| spot.text()).unwrap_or_default(),
    })
}

/// An interval at which the issuer is called.
fn seldom(view: &View<'_>, key: &str, context: &mut Context<'_>) {
    if let Some(spot) = view.get(key)
        && (1..1000).contains(&view.duration(key).as_millis())
    {
        let fault = Fault::new(format!("{} is less than 1s", spot.node.shown()));
        context.problem(
            &spot,
            fault.hint("the issuer would be asked too often; write `1s` or more"),
        );
    }
}

/// What a restart forgets that it should not, because the keys outlive it.
pub(super) fn forgotten(
    file: &View<'_>,
    issuers: &[IssuerPlan],
    revocations: &RevocationsPlan,
    context: &mut Context<'_>,
) {
    let block = file.entry_block("issuers");
    let views = file.named("issuers").into_iter();
    let views = views.map(|named| named.spot.view(block).block("keys"));
    for (keys, plan) in views.zip(issuers) {
        if let Some(spot) = keys.get("snapshot")
            && plan.not_before.is_some()
            && revocations.file.is_none()
        {
            let fault = Fault::new(
                "after a restart while the issuer is away its keys are known, and its not-before is not",
            );
            context.warning(&spot, fault.hint("set `revocations.file`, which keeps it"));
        }
    }
}
