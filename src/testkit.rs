//! What unit tests stand on; plans and principals are built in code: `RoutePlan { access: Access::Public, ..route("/a") }`.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::plan::{
    Access, AdminPlan, Algorithm, Balance, HeaderEdits, IssuerId, IssuerPlan, KeysFrom, KeysPlan,
    Limits, ListenerPlan, MatchPlan, PeerPlan, Plan, Policy, RetryOn, RetryPlan, RoutePlan,
    ServerPlan, Unmarked, UpstreamId, UpstreamPlan, UpstreamTimeouts,
};
use crate::verify::Principal;
use crate::verify::principal::{Grants, IdentityFields};

/// One listener, one issuer, one upstream, and the contract's defaults.
pub(crate) fn plan(routes: Vec<RoutePlan>) -> Plan {
    Plan {
        server: ServerPlan {
            threads: 1,
            pre_stop: Duration::ZERO,
            drain: Duration::from_secs(20),
            handover: None,
        },
        listeners: vec![ListenerPlan {
            name: "127.0.0.1:8072".into(),
            address: ([127, 0, 0, 1], 8072).into(),
            tls: None,
            proxy_protocol: Arc::from([]),
            trusted_proxies: Arc::new([]),
            public_url: None,
        }],
        admin: AdminPlan {
            address: ([127, 0, 0, 1], 9072).into(),
            token: None,
        },
        limits: limits(),
        issuers: vec![issuer("keycloak")],
        token_cache: crate::config::plan::TokenCachePlan {
            max_bytes: 32 * 1024 * 1024,
            max_age: Duration::from_secs(300),
        },
        revocations: crate::config::plan::RevocationsPlan {
            file: None,
            max: 100_000,
        },
        upstreams: vec![upstream("accounts", &[("127.0.0.1:8081", 1)])],
        routes,
        access_log: false,
    }
}

pub(crate) fn limits() -> Limits {
    Limits {
        header_timeout: Duration::from_secs(10),
        header_bytes: 32 * 1024,
        header_fields: 128,
        body_bytes: 10 * 1024 * 1024,
        body_min_rate: 1024,
        write_timeout: Duration::from_secs(60),
        keep_alive: Duration::from_secs(75),
        connections: 20_000,
        connections_per_source: 1000,
        floods_per_source: None,
        token_bytes: 8 * 1024,
        http2_streams: 100,
        http2_header_list: 64 * 1024,
        http2_idle: Duration::from_secs(60),
    }
}

pub(crate) fn issuer(name: &str) -> IssuerPlan {
    let issuer = format!("https://sso.example.com/realms/{name}");
    IssuerPlan {
        name: name.into(),
        keys_from: KeysFrom::Discovery(format!("{issuer}/.well-known/openid-configuration")),
        issuer,
        insecure: false,
        ca: None,
        audience: vec!["eazybank-gateway".to_owned()],
        algorithms: vec![Algorithm::RS256],
        token_types: vec!["jwt".to_owned(), "at+jwt".to_owned()],
        unmarked: Unmarked::Refuse,
        leeway: Duration::from_secs(5),
        keys: KeysPlan {
            refresh: Duration::from_secs(300),
            cooldown: Duration::from_secs(10),
            max_stale: Duration::from_secs(86_400),
            timeout: Duration::from_secs(5),
            snapshot: None,
        },
        not_before: None,
        logout_clients: Vec::new(),
        dpop: crate::config::plan::Dpop::Refuse,
        introspection: None,
    }
}

/// Peers as address and weight.
pub(crate) fn upstream(name: &str, peers: &[(&str, u32)]) -> UpstreamPlan {
    UpstreamPlan {
        name: name.into(),
        peers: peers
            .iter()
            .map(|(address, weight)| PeerPlan {
                address: (*address).to_owned(),
                weight: *weight,
            })
            .collect(),
        dns: None,
        resolver: Vec::new(),
        balance: Balance::RoundRobin,
        health: None,
        outlier: None,
        slow_start: None,
        timeouts: UpstreamTimeouts {
            connect: Duration::from_secs(1),
            read: Duration::from_secs(30),
            write: Duration::from_secs(10),
            idle: Duration::from_secs(15),
            stream: Duration::from_secs(300),
        },
        retries: RetryPlan {
            attempts: 2,
            when: RetryOn {
                connect: true,
                ..RetryOn::default()
            },
            budget: 20,
            first: Duration::from_millis(25),
            max: Duration::from_millis(250),
        },
        max_in_flight: None,
        max_in_flight_per_peer: None,
        rate: None,
        fallback: None,
        tls: None,
        http2: false,
    }
}

/// A route for any valid token; its name is its path.
pub(crate) fn route(path: &str) -> RoutePlan {
    RoutePlan {
        name: path.into(),
        matcher: at(path),
        allow_target: crate::config::plan::TargetForms::default(),
        strip_prefix: None,
        rewrite: None,
        upstream: UpstreamId(0).into(),
        access: Access::Token(Policy::default()),
        keep_authorization: false,
        websocket: false,
        forward_headers: Vec::new(),
        rate_limit: None,
        timeout: Duration::from_secs(30),
        body_bytes: 10 * 1024 * 1024,
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        cors: None,
    }
}

pub(crate) fn at(path: &str) -> MatchPlan {
    MatchPlan {
        host: None,
        path: path.to_owned(),
        exact: false,
        methods: Vec::new(),
        headers: Vec::new(),
        query: Vec::new(),
    }
}

/// A principal in parts.
#[derive(Debug, Clone)]
pub(crate) struct Somebody {
    pub(crate) issuer: IssuerId,
    pub(crate) issuer_url: String,
    pub(crate) client: String,
    pub(crate) subject: Option<String>,
    pub(crate) scopes: Vec<String>,
    pub(crate) realm_roles: Vec<String>,
    pub(crate) client_roles: BTreeMap<String, Vec<String>>,
    pub(crate) claims: serde_json::Map<String, serde_json::Value>,
}

/// The call-centre client with the right to read accounts.
pub(crate) fn somebody() -> Somebody {
    Somebody {
        issuer: IssuerId(0),
        issuer_url: "https://sso.example.com/realms/keycloak".into(),
        client: "eazybank-callcenter-cc".to_owned(),
        subject: Some("5bd3c6c4".to_owned()),
        scopes: words(&["accounts:read"]),
        realm_roles: words(&["ACCOUNTS"]),
        client_roles: [("accounts-api".to_owned(), words(&["reader"]))].into(),
        claims: serde_json::Map::new(),
    }
}

impl Somebody {
    pub(crate) fn principal(self) -> Principal {
        let fields = IdentityFields::of(
            &self.issuer_url,
            &self.client,
            &self.scopes,
            &self.realm_roles,
        );
        let grants = Grants {
            issuer: self.issuer,
            issuer_name: "keycloak".into(),
            issuer_url: self.issuer_url.into(),
            client: self.client,
            scopes: self.scopes,
            realm_roles: self.realm_roles,
            client_roles: self.client_roles,
            claims: self.claims,
            fields,
        };
        Principal::new(Arc::new(grants), self.subject.as_deref())
    }
}

pub(crate) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Fields in the order given; bytes that only a raw parser lets through are allowed.
pub(crate) fn fields(fields: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a field name");
        let value = HeaderValue::from_bytes(value.as_bytes()).expect("a field value");
        map.append(name, value);
    }
    map
}

/// A directory that goes with its test.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("portcullis-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).expect("a directory");
        Scratch(directory)
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.0
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).expect("written");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Keeps what a log writes.
#[derive(Clone, Default)]
pub(crate) struct Page(Arc<Mutex<Vec<u8>>>);

impl Page {
    pub(crate) fn text(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8(bytes.clone()).expect("UTF-8")
    }
}

impl io::Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut page = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        page.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
