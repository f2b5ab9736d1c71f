//! Server, listeners, admin and limits.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;

use crate::config::diagnostic::Fault;
use crate::config::format;
use crate::config::plan::{
    AdminPlan, Limits, ListenerPlan, ListenerTls, PublicUrl, RateLimit, RatePer, RevocationsPlan,
    ServerPlan, TokenCachePlan,
};
use crate::config::view::{Spot, View};

use super::Context;

pub(super) fn server(view: &View<'_>) -> ServerPlan {
    let shutdown = view.block("shutdown");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    ServerPlan {
        threads: view.optional_number("threads").unwrap_or(cores),
        pre_stop: shutdown.duration("pre_stop"),
        drain: shutdown.duration("drain"),
        handover: view.text("handover").map(Into::into),
    }
}

pub(super) fn token_cache(view: &View<'_>) -> TokenCachePlan {
    TokenCachePlan {
        max_bytes: view.size("max_bytes"),
        max_age: view.duration("max_age"),
    }
}

pub(super) fn revocations(view: &View<'_>) -> RevocationsPlan {
    RevocationsPlan {
        // That it can be read and written shows at the start: it need not be there before.
        file: view.text("file").map(Into::into),
        max: view.number("max"),
    }
}

/// Stands where an address is wrong or not known yet; such a plan is never served.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

fn address(view: &View<'_>) -> SocketAddr {
    view.text("address")
        .and_then(|text| format::address(&text).ok())
        .unwrap_or(NOWHERE)
}

pub(super) fn admin(view: &View<'_>, context: &mut Context<'_>) -> AdminPlan {
    let address = address(view);
    if let Some(spot) = view.get("address")
        && address != NOWHERE
        && !address.ip().is_loopback()
    {
        let fault = Fault::new(format!(
            "{} can be reached from other machines, in plain HTTP",
            spot.node.shown()
        ));
        context.warning(&spot, fault.hint("keep it on a private network"));
    }
    AdminPlan {
        address,
        token: context.secret(view, "token"),
    }
}

pub(super) fn listeners(
    file: &View<'_>,
    admin: &AdminPlan,
    context: &mut Context<'_>,
) -> Vec<ListenerPlan> {
    let block = file.entry_block("listeners");
    let mut plans: Vec<ListenerPlan> = Vec::new();
    for spot in file.items("listeners") {
        let view = spot.view(block);
        let plan = listener(&view, context);
        if let Some(spot) = view.get("address") {
            let other = plans
                .iter()
                .position(|other| collide(other.address, plan.address))
                .map(|index| format!("listeners[{index}]"))
                .or_else(|| collide(admin.address, plan.address).then(|| "admin".to_owned()));
            if let Some(other) = other {
                let fault = Fault::new(format!(
                    "{} is taken by `{other}.address`",
                    spot.node.shown()
                ));
                context.problem(&spot, fault.hint("give each an address of its own"));
            }
        }
        plans.push(plan);
    }
    plans
}

fn listener(view: &View<'_>, context: &mut Context<'_>) -> ListenerPlan {
    let tls = view.block("tls");
    let tls = tls.present().then(|| ListenerTls {
        certificate: context.file(&tls, "certificate").unwrap_or_default(),
        private_key: context.file(&tls, "private_key").unwrap_or_default(),
        client_ca: context.file(&tls, "client_ca"),
    });
    let balancers = view.block("proxy_protocol");
    let proxy_protocol = networks(&balancers, "from", context, |spot| {
        let shown = spot.node.shown();
        Fault::new(format!(
            "{shown} lets anybody say who they are, in a PROXY header"
        ))
        .hint("name the networks of your own balancers")
    });
    let trusted = networks(view, "trusted_proxies", context, |spot| {
        let shown = spot.node.shown();
        Fault::new(format!("{shown} believes anybody's `X-Forwarded-For`"))
            .hint("name the networks of your own proxies")
    });
    ListenerPlan {
        name: view.text("address").unwrap_or_default().into(),
        address: address(view),
        tls,
        proxy_protocol: proxy_protocol.into(),
        trusted_proxies: trusted.into(),
        public_url: public_url(view, context),
    }
}

fn public_url(view: &View<'_>, context: &mut Context<'_>) -> Option<PublicUrl> {
    let spot = view.get("public_url")?;
    let text = spot.text();
    let url = format::url(&text).ok()?;
    if url.query().is_some() {
        let fault = Fault::new(format!("{} has a query", spot.node.shown()));
        context.problem(
            &spot,
            fault.hint("write what stands in front of every path"),
        );
    }
    let port = url.port().map(|port| format!(":{port}"));
    Some(PublicUrl {
        scheme: url.scheme().to_owned(),
        authority: url.host_str().unwrap_or_default().to_owned() + &port.unwrap_or_default(),
        prefix: url.path().trim_end_matches('/').to_owned(),
    })
}

/// A list of networks, with a warning about one that is the whole world.
fn networks(
    view: &View<'_>,
    key: &str,
    context: &mut Context<'_>,
    anybody: impl Fn(&Spot<'_>) -> Fault,
) -> Vec<IpNet> {
    let mut networks = Vec::new();
    for spot in view.items(key) {
        let Ok(network) = format::network(&spot.text()) else {
            continue;
        };
        if network.prefix_len() == 0 {
            context.warning(&spot, anybody(&spot));
        }
        networks.push(network);
    }
    networks
}

/// Whether the second bind would fail; `[::]` takes the IPv4 addresses of its port too.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let covers = |wide: IpAddr, other: IpAddr| {
        wide == other || wide.is_unspecified() && (wide.is_ipv6() || other.is_ipv4())
    };
    a != NOWHERE && a.port() == b.port() && (covers(a.ip(), b.ip()) || covers(b.ip(), a.ip()))
}

pub(super) fn limits(view: &View<'_>, context: &mut Context<'_>) -> Limits {
    let http2 = view.block("http2");
    let bytes = |view: &View<'_>, key| usize::try_from(view.size(key)).unwrap_or(usize::MAX);
    let limits = Limits {
        header_timeout: view.duration("header_timeout"),
        header_bytes: bytes(view, "header_bytes"),
        header_fields: view.number("header_fields"),
        body_bytes: view.size("body_bytes"),
        body_min_rate: view.size("body_min_rate"),
        write_timeout: view.duration("write_timeout"),
        keep_alive: view.duration("keep_alive"),
        connections: view.number("connections"),
        connections_per_source: view.number("connections_per_source"),
        floods_per_source: floods(&view.block("floods_per_source")),
        token_bytes: bytes(view, "token_bytes"),
        http2_streams: http2.number("streams"),
        http2_header_list: u32::try_from(http2.size("header_list")).unwrap_or(u32::MAX),
        http2_idle: http2.duration("idle"),
    };
    let mut larger = |key: &str, bound: &str, is: bool| {
        // Only what somebody wrote is a contradiction: a default follows silently.
        if let (Some(spot), true) = (view.get(key), is) {
            contradiction(&spot, bound, context);
        }
    };
    larger(
        "token_bytes",
        "header_bytes",
        limits.token_bytes > limits.header_bytes,
    );
    larger(
        "connections_per_source",
        "connections",
        limits.connections_per_source > limits.connections,
    );
    limits
}

fn floods(view: &View<'_>) -> Option<RateLimit> {
    let connections = view.number("connections");
    view.present().then(|| RateLimit {
        per: RatePer::Source,
        requests: connections,
        every: view.duration("every"),
        burst: view.optional_number("burst").unwrap_or(connections),
    })
}

fn contradiction(spot: &Spot<'_>, bound: &str, context: &mut Context<'_>) {
    let fault = Fault::new(format!(
        "{} is more than `limits.{bound}`, which holds first",
        spot.node.shown()
    ));
    context.problem(
        spot,
        fault.hint(format!("lower it, or raise `limits.{bound}`")),
    );
}
