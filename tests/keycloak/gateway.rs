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
pub const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");
/// The secrets that the configuration asks for.
pub const SECRETS: [(&str, &str); 2] = [
    ("PORTCULLIS_DEMO_ADMIN_TOKEN", "demo-only-admin"),
    ("PORTCULLIS_DEMO_GATEWAY_SECRET", "demo-only-gateway"),
];
/// Seconds between two refreshes of the keys, and the clock difference that `exp` is forgiven.
pub const REFRESH: u64 = 5;
pub const LEEWAY: u64 = 5;

pub struct Portcullis {
    process: Child,
    config: PathBuf,
    log: PathBuf,
    address: SocketAddr,
    admin: SocketAddr,
}

/// One call of a service through the gateway.
#[derive(Clone, Copy)]
pub struct Call {
    pub service: &'static str,
    pub writes: bool,
}

pub fn read(service: &'static str) -> Call {
    Call {
        service,
        writes: false,
    }
}

pub fn write(service: &'static str) -> Call {
    Call {
        service,
        writes: true,
    }
}

impl Call {
    fn method(self) -> &'static str {
        if self.writes { "PUT" } else { "GET" }
    }

    fn path(self) -> String {
        let rest = if self.writes { "update" } else { "fetch" };
        format!("/eazybank/{}/api/{rest}", self.service)
    }

    fn route(self) -> String {
        let what = if self.writes { "write" } else { "read" };
        format!("{}-{what}", self.service)
    }
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method(), self.service)
    }
}

impl Portcullis {
    /// Runs `conf/demo.yaml` with an issuer, more keys for it and these services. Returns when it answers, which is
    /// long before it is ready.
    pub fn start(issuer: &str, more: &str, services: &Services) -> Self {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let [address, admin] = [free_port(), free_port()].map(|p| ([127, 0, 0, 1], p).into());
        let place = |name: &str| {
            Path::new(env!("CARGO_TARGET_TMPDIR"))
                .join(format!("keycloak-{}-{number}-{name}", std::process::id()))
        };
        let (config, log) = (place("portcullis.yaml"), place("log"));
        std::fs::write(&config, yaml(issuer, more, address, admin, services)).unwrap();
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
        Connection::open(self.address)
            .send(format!(
                "{} {} HTTP/1.1\r\nHost: gateway.test\r\nConnection: close\r\nContent-Length: 0\r\n\
                 Authorization: Bearer {token}\r\n\r\n",
                call.method(),
                call.path(),
            ))
            .answer()
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
        let challenge = answer.header("www-authenticate").unwrap_or_default();
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

    /// Two more good fetches of the keys from now on: the second began after now.
    pub fn wait_refreshed(&self) {
        let series = r#"portcullis_jwks_refreshes_total{issuer="keycloak",outcome="ok"}"#;
        let before = self.metric(series);
        eventually("the keys are refreshed", 4 * REFRESH, || {
            self.metric(series) >= before + 2.0
        });
    }
}

impl Drop for Portcullis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            for line in &lines[lines.len().saturating_sub(20)..] {
                say!("gateway: {line}");
            }
        }
        let _ = std::fs::remove_file(&self.config);
        let _ = std::fs::remove_file(&self.log);
    }
}

fn yaml(
    issuer: &str,
    more: &str,
    address: SocketAddr,
    admin: SocketAddr,
    services: &Services,
) -> String {
    let mut yaml = CONFIG.to_owned();
    let mut put = |old: &str, new: String| {
        assert!(yaml.contains(old), "conf/demo.yaml has no {old}");
        yaml = yaml.replace(old, &new);
    };
    put("127.0.0.1:8072", address.to_string());
    put("127.0.0.1:9072", admin.to_string());
    put("http://127.0.0.1:8180/realms/eazybank", issuer.to_owned());
    put(
        "    audience: [eazybank-gateway]\n",
        format!(
            "    audience: [eazybank-gateway]\n    leeway: {LEEWAY}s\n    \
             keys: {{ refresh: {REFRESH}s, cooldown: 1s }}\n{more}"
        ),
    );
    for (old, service) in [
        ("127.0.0.1:8081", "accounts"),
        ("127.0.0.1:8082", "loans"),
        ("127.0.0.1:8083", "cards"),
    ] {
        put(old, services.get(service).address().to_string());
    }
    yaml
}
