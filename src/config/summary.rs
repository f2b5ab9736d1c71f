//! A plan in a few lines, for `portcullis check`.

use std::fmt::Write;

use super::plan::{Access, Algorithm, Dpop, KeysFrom, Plan, Policy, Proof, RoutePlan};

/// One line per listener, issuer, upstream and route; no secret.
pub fn summary(plan: &Plan) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut out, plan);
    out
}

fn write(out: &mut String, plan: &Plan) -> std::fmt::Result {
    for listener in &plan.listeners {
        let speaks = match &listener.tls {
            Some(tls) if tls.client_ca.is_some() => {
                "TLS with client certificates, HTTP/1.1 and HTTP/2"
            }
            Some(_) => "TLS, HTTP/1.1 and HTTP/2",
            None => "plain HTTP/1.1",
        };
        let proxies: Vec<String> = listener
            .proxy_protocol
            .iter()
            .map(ToString::to_string)
            .collect();
        let opening = if proxies.is_empty() {
            String::new()
        } else {
            format!(", after a PROXY header from {}", proxies.join(", "))
        };
        let seen = match &listener.public_url {
            Some(url) => format!(", seen as {}://{}{}", url.scheme, url.authority, url.prefix),
            None => String::new(),
        };
        writeln!(out, "listener {}: {speaks}{opening}{seen}", listener.name)?;
    }
    let guarded = match plan.admin.token {
        Some(_) => "with a token",
        None => "without a token, read-only",
    };
    writeln!(out, "admin    {}: {guarded}", plan.admin.address)?;
    for issuer in &plan.issuers {
        let algorithms: Vec<&str> = issuer
            .algorithms
            .iter()
            .map(|a| Algorithm::name(*a))
            .collect();
        writeln!(
            out,
            "issuer   {}: {} for {} with {}, keys from {}{}",
            issuer.name,
            issuer.issuer,
            issuer.audience.join(" or "),
            algorithms.join(", "),
            match &issuer.keys_from {
                KeysFrom::Discovery(url) | KeysFrom::Url(url) => url.clone(),
                KeysFrom::File(path) => path.display().to_string(),
            },
            match issuer.dpop {
                Dpop::Refuse => "",
                Dpop::Allow => "; tokens may be bound to a key",
                Dpop::Require => "; tokens are bound to a key",
            }
        )?;
    }
    for upstream in &plan.upstreams {
        let listed = upstream.peers.iter().map(|peer| match peer.weight {
            1 => peer.address.clone(),
            weight => format!("{} (weight {weight})", peer.address),
        });
        let named = upstream.dns.iter();
        let named = named.map(|name| format!("all addresses of {name}"));
        let peers: Vec<String> = listed.chain(named).collect();
        let tls = match &upstream.tls {
            Some(tls) => format!(" over TLS as {}", tls.server_name),
            None => String::new(),
        };
        let http2 = if upstream.http2 { ", HTTP/2" } else { "" };
        let peers = peers.join(", ");
        writeln!(out, "upstream {}: {peers}{tls}{http2}", upstream.name)?;
    }
    for route in &plan.routes {
        writeln!(
            out,
            "route    {}: {} -> {}{}, {}",
            route.name,
            matched(route),
            pools(plan, route),
            if route.websocket {
                ", WebSockets too"
            } else {
                ""
            },
            match &route.access {
                Access::Public => "public".to_owned(),
                Access::Token(policy) => demands(plan, policy),
            }
        )?;
    }
    Ok(())
}

fn pools(plan: &Plan, route: &RoutePlan) -> String {
    match route.upstream.all() {
        [(only, _)] => plan.upstream(*only).name.to_string(),
        several => {
            let pool = |(id, weight): &(_, u32)| format!("{} ({weight})", plan.upstream(*id).name);
            several.iter().map(pool).collect::<Vec<_>>().join(" or ")
        }
    }
}

fn matched(route: &RoutePlan) -> String {
    let matcher = &route.matcher;
    let methods: Vec<&str> = matcher.methods.iter().map(|m| m.as_str()).collect();
    let mut text = match methods[..] {
        [] => "any method".to_owned(),
        _ => methods.join(","),
    };
    text.push(' ');
    text.push_str(matcher.host.as_deref().unwrap_or_default());
    text.push_str(&matcher.path);
    if matcher.exact {
        text.push_str(" exactly");
    }
    let conditions = matcher.headers.len() + matcher.query.len();
    if conditions > 0 {
        text.push_str(&format!(" on {conditions} more condition(s)"));
    }
    text
}

fn demands(plan: &Plan, policy: &Policy) -> String {
    let mut parts = Vec::new();
    let mut part = |what: &str, names: &[String], glue: &str| {
        if !names.is_empty() {
            parts.push(format!("{what} {}", names.join(glue)));
        }
    };
    let issuers: Vec<String> = policy
        .issuers
        .iter()
        .map(|id| plan.issuer(*id).name.to_string())
        .collect();
    part("issuer", &issuers, " or ");
    part("client", &policy.clients, " or ");
    part("scope", &policy.scopes, " and ");
    part("scope", &policy.any_scope, " or ");
    part("realm role", &policy.realm_roles, " and ");
    part("realm role", &policy.any_realm_role, " or ");
    for (client, roles) in &policy.client_roles {
        part(&format!("{client} role"), roles, " and ");
    }
    if parts.is_empty() {
        parts.push("any valid token".to_owned());
    }
    if policy.proof != Proof::Local {
        parts.push(format!("proof {}", policy.proof));
    }
    parts.join("; ")
}
