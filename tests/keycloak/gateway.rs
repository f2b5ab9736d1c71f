//! The gateway as a process of its own, with the demo's configuration on other ports.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};

use portcullis::demo::Services;

use crate::http1::{Answer, Connection, get};
use crate::say::say;
use crate::{eventually, free_port};

const CONFIG: &str = include_str!("../../conf/demo.yaml");
/// The same service where a signature is not enough.
const PROOFS: &str = "
  - name: accounts-introspect
    match: { path: /introspect/accounts, methods: [GET] }
    strip_prefix: /introspect/accounts
    upstream: accounts
    access: { scopes: ['accounts:read'], realm_roles: [ACCOUNTS], proof: introspect }
  - name: accounts-fresh
    match: { path: /fresh/accounts, methods: [GET] }
    strip_prefix: /fresh/accounts
    upstream: accounts
    access: { scopes: ['accounts:read'], realm_roles: [ACCOUNTS], proof: { fresh: $fresh } }
";
pub const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");
/// The secrets that the configuration asks for.
pub const SECRETS: [(&str, &str); 2] = [
    ("PORTCULLIS_DEMO_ADMIN_TOKEN", "demo-only-admin"),
    ("PORTCULLIS_DEMO_GATEWAY_SECRET", "demo-only-gateway"),
];
/// Seconds between two refreshes of the keys, and the clock difference that `exp` is forgiven.
pub const REFRESH: u64 = 5;
pub const LEEWAY: u64 = 5;
/// Seconds between two fetches that unknown keys may cause.
pub const COOLDOWN: u64 = 1;
/// Seconds that an answer about a token may be old on the route `accounts-fresh`.
pub const FRESH: u64 = 5;

pub struct Portcullis {
    process: Child,
    config: PathBuf,
    log: PathBuf,
    address: SocketAddr,
    admin: SocketAddr,
}

/// What differs from `conf/demo.yaml`.
pub struct Setup<'a> {
    pub issuer: &'a str,
    pub services: &'a Services,
    /// More keys for the issuer, as lines of YAML.
    pub more: &'a str,
    /// Old text and new.
    pub changes: &'a [(&'a str, &'a str)],
}

impl<'a> Setup<'a> {
    pub fn new(issuer: &'a str, services: &'a Services) -> Self {
        Setup {
            issuer,
            services,
            more: "",
            changes: &[],
        }
    }
}

/// One call of a service through the gateway.
#[derive(Clone, Copy)]
pub struct Call {
    pub service: &'static str,
    what: What,
}

#[derive(Clone, Copy, PartialEq)]
enum What {
    Read,
    Write,
    /// Reads where the issuer is asked each time.
    Introspect,
    /// Reads where an answer of the issuer may be [`FRESH`] seconds old.
    Fresh,
}

pub fn read(service: &'static str) -> Call {
    let what = What::Read;
    Call { service, what }
}

pub fn write(service: &'static str) -> Call {
    let what = What::Write;
    Call { service, what }
}

/// Only `accounts` has these two.
pub fn introspect() -> Call {
    Call {
        service: "accounts",
        what: What::Introspect,
    }
}

pub fn fresh() -> Call {
    Call {
        service: "accounts",
        what: What::Fresh,
    }
}

impl Call {
    pub fn method(self) -> &'static str {
        if self.what == What::Write {
            "PUT"
        } else {
            "GET"
        }
    }

    fn path(self) -> String {
        let service = self.service;
        match self.what {
            What::Read => format!("/eazybank/{service}/api/fetch"),
            What::Write => format!("/eazybank/{service}/api/update"),
            What::Introspect => "/introspect/accounts/api/fetch".to_owned(),
            What::Fresh => "/fresh/accounts/api/fetch".to_owned(),
        }
    }

    fn route(self) -> String {
        let what = match self.what {
            What::Read => "read",
            What::Write => "write",
            What::Introspect => "introspect",
            What::Fresh => "fresh",
        };
        format!("{}-{what}", self.service)
    }
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let proof = match self.what {
            What::Read | What::Write => "",
            What::Introspect => ", introspect",
            What::Fresh => ", fresh",
        };
        write!(f, "{} {}{proof}", self.method(), self.service)
    }
}

impl Portcullis {
    /// Returns when it answers, which is long before it is ready.
    pub fn start(setup: &Setup<'_>) -> Self {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let [address, admin] = [free_port(), free_port()].map(|p| ([127, 0, 0, 1], p).into());
        let place = |name: &str| {
            Path::new(env!("CARGO_TARGET_TMPDIR"))
                .join(format!("keycloak-{}-{number}-{name}", std::process::id()))
        };
        let (config, log) = (place("portcullis.yaml"), place("log"));
        std::fs::write(&config, yaml(setup, address, admin)).unwrap();
        let output = File::create(&log).unwrap();
        let process = Command::new(BINARY)
            .arg("run")
            .arg("--config")
            .arg(&config)
            .envs(SECRETS)
            .env_remove("PORTCULLIS_LOG")
            .stdin(std::process::Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn();
        let mut gateway = Portcullis {
            process: process.unwrap(),
            config,
            log,
            address,
            admin,
        };
        eventually("the gateway listens", 10, || {
            gateway.assert_alive();
            std::net::TcpStream::connect(admin).is_ok()
        });
        assert_eq!(get(admin, "/livez", None).status, 200);
        gateway
    }

    pub fn config(&self) -> &Path {
        &self.config
    }

    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    pub fn assert_alive(&mut self) {
        if let Some(status) = self.process.try_wait().unwrap() {
            panic!("the gateway ended: {status}");
        }
    }

    pub fn readiness(&self) -> Answer {
        get(self.admin, "/readyz", None)
    }

    pub fn wait_ready(&self) {
        let took = eventually("the gateway is ready", 20, || {
            self.readiness().status == 200
        });
        let keys = self.metric(r#"portcullis_jwks_keys{issuer="keycloak"}"#);
        say!(
            "gateway ready after {:.1} s, {keys} keys",
            took.as_secs_f64()
        );
    }

    pub fn get(&self, path: &str, token: Option<&str>) -> Answer {
        get(self.address, path, token)
    }

    pub fn send(&self, call: Call, token: &str) -> Answer {
        self.ask(call, &format!("Authorization: Bearer {token}"))
    }

    fn ask(&self, call: Call, fields: &str) -> Answer {
        Connection::open(self.address)
            .send(format!(
                "{} {} HTTP/1.1\r\nHost: gateway.test\r\nConnection: close\r\nContent-Length: 0\r\n\
                 {fields}\r\n\r\n",
                call.method(),
                call.path(),
            ))
            .answer()
    }

    /// What its callers see of a call: what a proof has to be for.
    pub fn url(&self, call: Call) -> String {
        format!("http://gateway.test{}", call.path())
    }

    /// With a token that is bound to a key, and a proof.
    pub fn send_with(&self, call: Call, token: &str, proof: &str) -> Answer {
        self.ask(
            call,
            &format!("Authorization: DPoP {token}\r\nDPoP: {proof}"),
        )
    }

    /// The call gets through to its service.
    #[track_caller]
    pub fn passes(&self, who: &str, call: Call, token: &str) {
        let answer = self.send(call, token);
        assert_eq!(answer.status, 200, "{who}: {call}: {}", answer.text());
        let told = answer.json();
        assert_eq!(told["service"], call.service, "{who}: {call}");
        assert_eq!(told["method"], call.method(), "{who}: {call}");
        say!("{who}: {call}: 200");
    }

    /// The gateway refuses with this status, and counts the refusal as this.
    #[track_caller]
    pub fn refuses(&self, who: &str, call: Call, token: &str, status: u16, reason: &str) {
        let series = format!(
            "portcullis_rejections_total{{reason=\"{reason}\",route=\"{}\"}}",
            call.route()
        );
        let before = self.metric(&series);
        let answer = self.send(call, token);
        let seen = (answer.status, self.reasons(call));
        assert_eq!(answer.status, status, "{who}: {call}: {seen:?}");
        let challenge = challenge(&answer);
        let error = match status {
            401 => "error=\"invalid_token\"",
            403 => "error=\"insufficient_scope\"",
            _ => "",
        };
        assert!(challenge.contains(error), "{who}: {call}: {challenge}");
        // Counted after the answer has been sent; and so may others before it have been.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while self.metric(&series) < before + 1.0 {
            let late = std::time::Instant::now() > deadline;
            assert!(!late, "{who}: {call}: not {reason}: {}", self.reasons(call));
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        say!("{who}: {call}: {status} {reason}");
    }

    /// One sample by its whole name with labels; 0 when it is not there.
    pub fn metric(&self, series: &str) -> f64 {
        let scrape = get(self.admin, "/metrics", None);
        let mut lines = scrape.text().lines();
        lines
            .find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
            .unwrap_or(0.0)
    }

    /// All reasons that a call's route was refused for so far, for a message.
    fn reasons(&self, call: Call) -> String {
        let scrape = get(self.admin, "/metrics", None);
        let of_route = format!("route=\"{}\"", call.route());
        let lines = scrape.text().lines().filter(|line| {
            line.starts_with("portcullis_rejections_total")
                && line.contains(&of_route)
                && !line.ends_with(" 0")
        });
        lines.collect::<Vec<_>>().join(", ")
    }

    /// Tokens that were judged good so far, by where the proof came from.
    pub fn proved(&self, source: &str) -> f64 {
        self.metric(&format!(
            "portcullis_token_verifications_total{{issuer=\"keycloak\",outcome=\"ok\",source=\"{source}\"}}"
        ))
    }

    /// Questions that were sent to the issuer so far.
    pub fn asked(&self, outcome: &str) -> f64 {
        self.metric(&format!(
            "portcullis_introspections_total{{issuer=\"keycloak\",outcome=\"{outcome}\"}}"
        ))
    }

    /// Fetches of keys so far.
    pub fn fetched(&self, outcome: &str) -> f64 {
        self.metric(&format!(
            "portcullis_jwks_refreshes_total{{issuer=\"keycloak\",outcome=\"{outcome}\"}}"
        ))
    }

    /// All that it has written so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Two more good fetches of the keys from now on: the second began after now.
    pub fn wait_refreshed(&self) {
        let before = self.fetched("ok");
        eventually("the keys are refreshed", 4 * REFRESH, || {
            self.fetched("ok") >= before + 2.0
        });
    }
}

/// The first one: the route's other scheme follows, if it has one.
pub fn challenge(answer: &Answer) -> &str {
    let mut headers = answer.headers.iter();
    let first = headers.find(|(name, _)| name == "www-authenticate");
    first.map_or("", |(_, value)| value)
}

impl Drop for Portcullis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            for line in &lines[lines.len().saturating_sub(20)..] {
                say!("gateway: {line}");
            }
        }
        let _ = std::fs::remove_file(&self.config);
        let _ = std::fs::remove_file(&self.log);
    }
}

fn yaml(setup: &Setup<'_>, address: SocketAddr, admin: SocketAddr) -> String {
    let mut yaml = CONFIG.to_owned() + PROOFS;
    let mut put = |old: &str, new: &str| {
        assert!(yaml.contains(old), "the configuration has no {old}");
        yaml = yaml.replace(old, new);
    };
    put("127.0.0.1:8072", &address.to_string());
    put("127.0.0.1:9072", &admin.to_string());
    put("http://127.0.0.1:8180/realms/eazybank", setup.issuer);
    put(
        "    audience: [eazybank-gateway]\n",
        &format!(
            "    audience: [eazybank-gateway]\n    leeway: {LEEWAY}s\n    \
             keys: {{ refresh: {REFRESH}s, cooldown: {COOLDOWN}s }}\n{}",
            setup.more
        ),
    );
    put("$fresh", &format!("{FRESH}s"));
    for (old, service) in [
        ("127.0.0.1:8081", "accounts"),
        ("127.0.0.1:8082", "loans"),
        ("127.0.0.1:8083", "cards"),
    ] {
        let service = setup.services.get(service);
        put(old, &service.address().to_string());
    }
    for (old, new) in setup.changes {
        put(old, new);
    }
    yaml
}
