//! Upstreams and their peers.

use crate::config::diagnostic::Fault;
use crate::config::plan::{PeerPlan, UpstreamPlan, UpstreamTimeouts, UpstreamTls};
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

fn tls(view: &View<'_>, context: &mut Context<'_>) -> Option<UpstreamTls> {
    view.present().then(|| UpstreamTls {
        server_name: view.text("server_name").unwrap_or_default(),
        ca: context.file(view, "ca"),
    })
}
