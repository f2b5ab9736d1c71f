//! Upstreams and their peers.

use http::HeaderName;

use crate::config::diagnostic::Fault;
use crate::config::plan::{
    Balance, HashOn, HealthPlan, OutlierPlan, PeerPlan, UpstreamPlan, UpstreamTimeouts, UpstreamTls,
};
use crate::config::tree::Value;
use crate::config::view::View;

use super::Context;

pub(super) fn upstreams(file: &View<'_>, context: &mut Context<'_>) -> Vec<UpstreamPlan> {
    let block = file.entry_block("upstreams");
    let mut plans = Vec::new();
    for named in file.named("upstreams") {
        let view = named.spot.view(block);
        if view.present() {
            one_source(&view, context);
        }
        let timeouts = view.block("timeouts");
        plans.push(UpstreamPlan {
            name: named.name.into(),
            peers: peers(&view, context),
            balance: balance(&view, context),
            health: health(&view.block("health"), context),
            outlier: outlier(&view.block("outlier")),
            timeouts: UpstreamTimeouts {
                connect: timeouts.duration("connect"),
                read: timeouts.duration("read"),
                write: timeouts.duration("write"),
                idle: timeouts.duration("idle"),
            },
            attempts: view.block("retries").number("attempts"),
            max_in_flight: view.block("breaker").optional_number("max_in_flight"),
            tls: tls(&view.block("tls"), context),
        });
    }
    plans
}

fn one_source(view: &View<'_>, context: &mut Context<'_>) {
    match (view.get("peers"), view.get("dns")) {
        (None, None) => {
            let fault = Fault::new("is required, but not there").hint("write `peers: [host:port]`");
            context.problem_at(view.place("peers"), fault);
        }
        (Some(_), Some(dns)) => {
            let fault = Fault::new("contradicts `peers`: the peers come from one place");
            context.problem(&dns, fault.hint("keep one of the two"));
        }
        _ => {}
    }
}

fn peers(view: &View<'_>, context: &mut Context<'_>) -> Vec<PeerPlan> {
    let block = view.entry_block("peers");
    let mut plans: Vec<PeerPlan> = Vec::new();
    for item in view.items("peers") {
        let (address, weight) = match &item.node.value {
            Value::Map(_) => {
                let peer = item.view(block);
                (peer.get("address"), peer.number("weight"))
            }
            _ => (Some(item), 1),
        };
        let Some(address) = address else { continue };
        let text = address.text();
        if plans.iter().any(|peer| peer.address == text) {
            let fault = Fault::new(format!("{} is in this list already", address.node.shown()));
            context.problem(&address, fault.hint("give it a `weight` instead"));
        }
        plans.push(PeerPlan {
            address: text,
            weight,
        });
    }
    plans
}

fn balance(view: &View<'_>, context: &mut Context<'_>) -> Balance {
    let balance = view.text("balance");
    let another = matches!(
        balance.as_deref(),
        Some("round_robin" | "least_request" | "random")
    );
    if let (Some(spot), true) = (view.get("hash_on"), another) {
        let fault = Fault::new("means nothing without `balance: hash`");
        context.problem(&spot, fault.hint("write `balance: hash`, or leave it out"));
    }
    match balance.as_deref() {
        Some("least_request") => Balance::LeastRequest,
        Some("random") => Balance::Random,
        Some("hash") => Balance::Hash(hash_on(view, context)),
        _ => Balance::RoundRobin,
    }
}

fn hash_on(view: &View<'_>, context: &mut Context<'_>) -> HashOn {
    let header = view.block("hash_on").get("header");
    if let Some(spot) = header {
        if super::headers::folded(&spot.text()) == "authorization" {
            let fault = Fault::new("`authorization` changes with every token");
            context.problem(&spot, fault.hint("write `hash_on: client`"));
        }
        if let Ok(name) = HeaderName::from_bytes(spot.text().as_bytes()) {
            return HashOn::Header(name);
        }
    }
    match view.text("hash_on").as_deref() {
        Some("path") => HashOn::Path,
        _ => HashOn::Client,
    }
}

fn health(view: &View<'_>, context: &mut Context<'_>) -> Option<HealthPlan> {
    let (interval, timeout) = (view.duration("interval"), view.duration("timeout"));
    if let (Some(spot), true) = (view.get("timeout"), timeout > interval) {
        let fault = Fault::new("is longer than `interval`: the next check would be due already");
        context.problem(&spot, fault.hint("make it shorter, or `interval` longer"));
    }
    view.present().then(|| HealthPlan {
        path: view.text("path").unwrap_or_default(),
        interval,
        timeout: timeout.min(interval),
        healthy: view.number("healthy"),
        unhealthy: view.number("unhealthy"),
    })
}

fn outlier(view: &View<'_>) -> Option<OutlierPlan> {
    view.present().then(|| OutlierPlan {
        failures: view.number("failures"),
        eject: view.duration("eject"),
    })
}

fn tls(view: &View<'_>, context: &mut Context<'_>) -> Option<UpstreamTls> {
    view.present().then(|| UpstreamTls {
        server_name: view.text("server_name").unwrap_or_default(),
        ca: context.file(view, "ca"),
    })
}
