//! Upstreams and their peers.

use std::net::SocketAddr;
use std::time::Duration;

use http::HeaderName;

use crate::clock::Clock;
use crate::config::diagnostic::Fault;
use crate::config::pair::{self, Pair, Unusable};
use crate::config::plan::{
    Balance, FallbackPlan, HashOn, HealthPlan, OutlierPlan, OwnCertificate, PeerPlan, RatePlan,
    RetryOn, RetryPlan, UpstreamPlan, UpstreamTimeouts, UpstreamTls,
};
use crate::config::tree::Value;
use crate::config::view::{Spot, View};

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
            dns: dns(&view, context),
            balance: balance(&view, context),
            health: health(&view.block("health"), context),
            outlier: outlier(&view.block("outlier")),
            timeouts: UpstreamTimeouts {
                connect: timeouts.duration("connect"),
                read: timeouts.duration("read"),
                write: timeouts.duration("write"),
                idle: timeouts.duration("idle"),
                stream: timeouts.duration("stream"),
            },
            retries: retries(&view.block("retries"), context),
            max_in_flight: view.block("breaker").optional_number("max_in_flight"),
            rate: rate(&view.block("breaker")),
            fallback: fallback(&view, context),
            tls: tls(&view.block("tls"), context),
            http2: view.number::<u8>("http") == 2,
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

fn dns(view: &View<'_>, context: &mut Context<'_>) -> Option<String> {
    let spot = view.get("dns")?;
    if spot.text().parse::<SocketAddr>().is_ok() {
        let fault = Fault::new(format!("{} is an address and no name", spot.node.shown()));
        context.problem(&spot, fault.hint("write it under `peers`"));
    }
    Some(spot.text())
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

fn retries(view: &View<'_>, context: &mut Context<'_>) -> RetryPlan {
    let backoff = view.block("backoff");
    let (first, max) = (backoff.duration("first"), backoff.duration("max"));
    if let (Some(spot), true) = (backoff.get("first").or(backoff.get("max")), first > max) {
        let fault = Fault::new("the first pause is longer than the longest");
        context.problem(&spot, fault.hint("write a longer `max`"));
    }
    let words = view.texts("when");
    let on = |word: &str| words.iter().any(|known| known == word);
    RetryPlan {
        attempts: view.number("attempts"),
        when: RetryOn {
            connect: on("connect"),
            reset: on("reset"),
            timeout: on("timeout"),
            bad_gateway: on("502"),
            unavailable: on("503"),
            gateway_timeout: on("504"),
        },
        budget: view.percent("budget").unwrap_or_default(),
        first,
        max,
    }
}

fn rate(view: &View<'_>) -> Option<RatePlan> {
    let parts = ["window", "failure_rate", "open", "half_open"];
    let wanted = parts.iter().any(|part| view.get(part).is_some());
    wanted.then(|| RatePlan {
        window: view.optional_number("window").unwrap_or(10),
        failure_rate: view.percent("failure_rate").unwrap_or(50),
        open: view
            .optional_duration("open")
            .unwrap_or(Duration::from_secs(10)),
        half_open: view.optional_number("half_open").unwrap_or(2),
    })
}

fn fallback(view: &View<'_>, context: &mut Context<'_>) -> Option<FallbackPlan> {
    let block = view.block("fallback");
    if !block.present() {
        return None;
    }
    let status = block.number("status");
    if let (Some(spot), true) = (block.get("status"), matches!(status, 204 | 205 | 304)) {
        let fault = Fault::new("an answer with this status has no body (RFC 9110)");
        context.problem(&spot, fault.hint("write `200` or `503`"));
    }
    if let (Some(spot), None) = (view.get("fallback"), rate(&view.block("breaker"))) {
        let fault = Fault::new("is answered while the breaker is open, and here it never opens");
        context.problem(&spot, fault.hint("write `breaker: { failure_rate: 50% }`"));
    }
    Some(FallbackPlan {
        status,
        body: block.text("body").unwrap_or_default().into(),
    })
}

fn tls(view: &View<'_>, context: &mut Context<'_>) -> Option<UpstreamTls> {
    view.present().then(|| UpstreamTls {
        server_name: view.text("server_name").unwrap_or_default(),
        ca: context.file(view, "ca"),
        own: own_certificate(view, context),
    })
}

fn own_certificate(view: &View<'_>, context: &mut Context<'_>) -> Option<OwnCertificate> {
    let (certificate, key) = (view.get("certificate"), view.get("private_key"));
    let (certificate, key) = match (certificate, key) {
        (Some(certificate), Some(key)) => (certificate, key),
        (None, None) => return None,
        (Some(alone), None) => {
            let fault = Fault::new("is worth nothing without its key");
            context.problem(&alone, fault.hint("write `private_key` beside it"));
            return None;
        }
        (None, Some(alone)) => {
            let fault = Fault::new("is worth nothing without its certificate");
            context.problem(&alone, fault.hint("write `certificate` beside it"));
            return None;
        }
    };
    let own = OwnCertificate {
        certificate: certificate.text().into(),
        private_key: key.text().into(),
    };
    let spots = [(&certificate, &own.certificate), (&key, &own.private_key)];
    let read: Vec<String> = spots
        .into_iter()
        .filter(|(spot, _)| !spot.node.deferred())
        .filter_map(|(spot, path)| context.readable(spot, path))
        .collect();
    if let [chain, secret] = &read[..] {
        match pair::read(chain.as_bytes(), secret.as_bytes()) {
            Ok(pair) => expires(&certificate, &pair, context),
            Err(Unusable::Certificate(why)) => {
                let fault = Fault::new(format!(
                    "{} cannot be used: {why}",
                    certificate.node.shown()
                ));
                context.problem(
                    &certificate,
                    fault.hint("write the certificate in PEM, its own first"),
                );
            }
            Err(Unusable::Key(why)) => {
                let fault = Fault::new(format!("{} cannot be used: {why}", key.node.shown()));
                context.problem(&key, fault.hint("write the key of `certificate`, in PEM"));
            }
        }
    }
    Some(own)
}

fn expires(spot: &Spot<'_>, pair: &Pair, context: &mut Context<'_>) {
    if pair.has_expired(Clock::system().unix()) {
        let fault = Fault::new(format!("{} has expired", spot.node.shown()));
        context.warning(
            spot,
            fault.hint("peers that look at it will refuse us: renew it"),
        );
    }
}
