//! What the pure steps cost: holding a principal against a policy, finding the route, and choosing the peer.

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderMap, Method};
use portcullis::authorize;
use portcullis::clock::Clock;
use portcullis::config::plan::{
    Access, AdminPlan, Balance, HashOn, HeaderEdits, IssuerId, Limits, ListenerPlan, MatchPlan,
    PeerPlan, Plan, Policy, RetryOn, RetryPlan, RoutePlan, ServerPlan, UpstreamId, UpstreamPlan,
    UpstreamTimeouts,
};
use portcullis::observe::metrics::Metrics;
use portcullis::route::{Found, RouteTable, View};
use portcullis::upstream::{Tried, Upstreams};
use portcullis::verify::Principal;
use portcullis::verify::principal::{Grants, IdentityFields};

fn policy_check(c: &mut Criterion) {
    let who = principal();
    let nothing = Policy::default();
    let everything = Policy {
        issuers: vec![IssuerId(0)],
        clients: words(&["eazybank-callcenter-cc"]),
        scopes: words(&["accounts:read"]),
        any_scope: words(&["x", "profile"]),
        realm_roles: words(&["ACCOUNTS"]),
        any_realm_role: words(&["X", "CARDS"]),
        client_roles: [("accounts-api".to_owned(), words(&["reader"]))].into(),
        ..Policy::default()
    };
    assert!(authorize::check(&everything, who.clone()).is_ok());
    let mut group = c.benchmark_group("policy");
    group.bench_function("any token", |b| {
        b.iter(|| authorize::check(black_box(&nothing), who.clone()));
    });
    group.bench_function("every demand", |b| {
        b.iter(|| authorize::check(black_box(&everything), who.clone()));
    });
    group.finish();
}

fn route_match(c: &mut Criterion) {
    let headers = HeaderMap::new();
    let deep = "/a".repeat(3500);
    let mut group = c.benchmark_group("route");
    for routes in [10, 10_000] {
        let table = RouteTable::new(&plan(routes));
        let view = |path| View {
            host: "api.example.com",
            path,
            query: None,
            method: &Method::GET,
            headers: &headers,
        };
        let hit = format!("/api/service-{:05}/items/4711", routes / 2);
        assert!(matches!(table.find(view(&hit)), Found::Route(_)));
        assert_eq!(table.find(view(&deep)), Found::Nothing);
        for (name, path) in [
            ("hit", hit.as_str()),
            ("miss", "/nowhere/to/be/found"),
            ("7 kB of segments", deep.as_str()),
        ] {
            group.bench_function(format!("{routes} routes, {name}"), |b| {
                b.iter(|| table.find(black_box(view(path))));
            });
        }
    }
    group.finish();
}

fn principal() -> Principal {
    const ISSUER: &str = "https://sso.example.com/realms/eazybank";
    let client = "eazybank-callcenter-cc";
    let scopes = words(&["email", "profile", "accounts:read"]);
    let realm_roles = words(&["ACCOUNTS", "CARDS"]);
    let grants = Grants {
        issuer: IssuerId(0),
        issuer_name: "keycloak".into(),
        issuer_url: ISSUER.into(),
        fields: IdentityFields::of(ISSUER, client, &scopes, &realm_roles),
        client: client.to_owned(),
        scopes,
        realm_roles,
        client_roles: [("accounts-api".to_owned(), words(&["reader", "writer"]))].into(),
        claims: serde_json::Map::new(),
    };
    Principal::new(Arc::new(grants), Some("5bd3c6c4"))
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// The cost must not grow with the pool.
fn peer_choice(c: &mut Criterion) {
    let mut group = c.benchmark_group("peer");
    for (name, balance) in [
        ("round robin", Balance::RoundRobin),
        ("least request", Balance::LeastRequest),
        ("random", Balance::Random),
        ("hash", Balance::Hash(HashOn::Client)),
    ] {
        for peers in [2, 500] {
            let mut plan = plan(1);
            plan.upstreams = vec![upstream(peers, balance.clone())];
            let metrics = Metrics::new(&plan).expect("no name twice");
            let pools = Upstreams::new(&plan, &metrics, &Clock::manual(1)).expect("no files");
            let pool = &pools.all()[0];
            let mut key = 0u64;
            group.bench_function(format!("{name} of {peers}"), |b| {
                b.iter(|| {
                    key = key.wrapping_add(0x9e37_79b9_7f4a_7c15);
                    pool.choose(&mut Tried::default(), black_box(key), Duration::ZERO)
                        .is_ok()
                });
            });
        }
    }
    group.finish();
}

fn upstream(peers: usize, balance: Balance) -> UpstreamPlan {
    let second = Duration::from_secs(1);
    UpstreamPlan {
        name: "a".into(),
        peers: (0..peers)
            .map(|index| PeerPlan {
                address: format!("10.0.{}.{}:80", index / 250, index % 250),
                weight: 1,
            })
            .collect(),
        dns: None,
        resolver: Vec::new(),
        balance,
        health: None,
        outlier: None,
        slow_start: None,
        timeouts: UpstreamTimeouts {
            connect: second,
            read: second,
            write: second,
            idle: second,
            stream: second,
        },
        retries: RetryPlan {
            attempts: 2,
            when: RetryOn::default(),
            budget: 20,
            first: second,
            max: second,
        },
        max_in_flight: None,
        max_in_flight_per_peer: None,
        rate: None,
        fallback: None,
        tls: None,
        http2: false,
    }
}

fn route(index: usize) -> RoutePlan {
    // Of one length, however many there are: else the cost of a longer path is measured.
    let path = format!("/api/service-{index:05}");
    RoutePlan {
        name: path.as_str().into(),
        matcher: MatchPlan {
            host: None,
            path,
            exact: false,
            methods: vec![Method::GET, Method::POST],
            headers: Vec::new(),
            query: Vec::new(),
        },
        allow_target: Default::default(),
        strip_prefix: None,
        rewrite: None,
        upstream: UpstreamId(0).into(),
        access: Access::Token(Policy::default()),
        keep_authorization: false,
        websocket: false,
        forward_headers: Vec::new(),
        rate_limit: None,
        timeout: Duration::from_secs(30),
        body_bytes: 10 << 20,
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        cors: None,
    }
}

fn plan(routes: usize) -> Plan {
    let second = Duration::from_secs(1);
    let address = SocketAddr::from(([127, 0, 0, 1], 8072));
    Plan {
        server: ServerPlan {
            threads: 1,
            pre_stop: Duration::ZERO,
            drain: second,
            handover: None,
        },
        listeners: vec![ListenerPlan {
            name: "127.0.0.1:8072".into(),
            address,
            tls: None,
            proxy_protocol: Arc::from([]),
            trusted_proxies: Arc::new([]),
            public_url: None,
        }],
        admin: AdminPlan {
            address,
            token: None,
        },
        limits: Limits {
            header_timeout: second,
            header_bytes: 32 << 10,
            header_fields: 128,
            body_bytes: 10 << 20,
            body_min_rate: 1024,
            write_timeout: second,
            keep_alive: second,
            connections: 20_000,
            connections_per_source: 1000,
            floods_per_source: None,
            token_bytes: 8 << 10,
            http2_streams: 100,
            http2_header_list: 64 << 10,
            http2_idle: second,
        },
        issuers: Vec::new(),
        token_cache: portcullis::config::plan::TokenCachePlan {
            max_bytes: 1 << 20,
            max_age: second,
        },
        revocations: portcullis::config::plan::RevocationsPlan {
            file: None,
            max: 100_000,
        },
        upstreams: Vec::new(),
        routes: (0..routes).map(route).collect(),
        access_log: false,
    }
}

criterion_group!(benches, policy_check, route_match, peer_choice);
criterion_main!(benches);
