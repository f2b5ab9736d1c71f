//! A gateway in this process, from YAML, through the same path as `run`.

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use portcullis::clock::Clock;
use portcullis::config::{self, Mode, Overrides};
use portcullis::demo::issuer::Issuer;
use portcullis::server::{self, Signals, StopHandle, Surroundings};

use super::get;

/// The parts of a configuration that tests care about; the rest is the same for all.
#[derive(Debug, Clone)]
pub struct Setup {
    pub listeners: String,
    pub limits: String,
    pub issuers: String,
    pub upstreams: String,
    pub routes: String,
    pub clock: Clock,
    pub drain: String,
    pub admin: String,
    pub revocations: String,
    pub token_cache: String,
}

impl Setup {
    /// One route that asks for a token, `/accounts`, to one origin.
    pub fn new(issuer: &Issuer, origin: SocketAddr) -> Self {
        Setup {
            listeners: "[{ address: '127.0.0.1:1' }]".to_owned(),
            limits: "{}".to_owned(),
            issuers: format!(
                "{{ keycloak: {{ issuer: '{}', audience: [eazybank-gateway], \
                 algorithms: [RS256, PS256, ES256, EdDSA] }} }}",
                issuer.url()
            ),
            upstreams: format!("{{ origin: {{ peers: ['{origin}'] }} }}"),
            routes:
                "[{ name: accounts, match: { path: /accounts }, upstream: origin, access: {} }]"
                    .to_owned(),
            clock: Clock::system(),
            drain: "{ drain: 5s }".to_owned(),
            admin: "{ address: '127.0.0.1:9' }".to_owned(),
            revocations: "{}".to_owned(),
            token_cache: "{}".to_owned(),
        }
    }

    pub fn limits(mut self, yaml: &str) -> Self {
        self.limits = yaml.to_owned();
        self
    }

    pub fn listeners(mut self, yaml: impl Into<String>) -> Self {
        self.listeners = yaml.into();
        self
    }

    pub fn issuers(mut self, yaml: impl Into<String>) -> Self {
        self.issuers = yaml.into();
        self
    }

    pub fn upstreams(mut self, yaml: impl Into<String>) -> Self {
        self.upstreams = yaml.into();
        self
    }

    /// One pool, `pool`; `more` are further keys of it.
    pub fn pool(self, peers: &[SocketAddr], more: &str) -> Self {
        let peers: Vec<String> = peers.iter().map(|peer| format!("'{peer}'")).collect();
        let peers = peers.join(", ");
        self.upstreams(format!("{{ pool: {{ peers: [{peers}], {more} }} }}"))
    }

    pub fn routes(mut self, yaml: impl Into<String>) -> Self {
        self.routes = yaml.into();
        self
    }

    /// The admin token, as a reference.
    pub fn admin_token(mut self, reference: &str) -> Self {
        self.admin = format!("{{ address: '127.0.0.1:9', token: '{reference}' }}");
        self
    }

    pub fn revocations(mut self, yaml: impl Into<String>) -> Self {
        self.revocations = yaml.into();
        self
    }

    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    pub fn yaml(&self) -> String {
        format!(
            "server: {{ threads: 1, shutdown: {} }}\nadmin: {}\n\
             listeners: {}\nlimits: {}\nissuers: {}\nrevocations: {}\nupstreams: {}\nroutes: {}\n\
             token_cache: {}\n",
            self.drain,
            self.admin,
            self.listeners,
            self.limits,
            self.issuers,
            self.revocations,
            self.upstreams,
            self.routes,
            self.token_cache
        )
    }

    /// Starts and waits until the issuer's keys are there.
    pub fn start(self) -> Gateway {
        let gateway = self.start_unready();
        gateway.wait_ready();
        gateway
    }

    pub fn start_unready(self) -> Gateway {
        let yaml = self.yaml();
        let loaded = config::load_str(
            "test.yaml",
            &yaml,
            &Overrides::default(),
            &config::System,
            Mode::Online,
        )
        .unwrap_or_else(|problems| {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            panic!("{yaml}\n{}", problems.join("\n"))
        });
        let mut plan = loaded.plan;
        // The file's ports only tell the listeners apart: the system chooses the real ones.
        for listener in &mut plan.listeners {
            listener.address.set_port(0);
        }
        plan.admin.address.set_port(0);
        Gateway::of(plan, self.clock)
    }
}

pub struct Gateway {
    addresses: Vec<SocketAddr>,
    admin: SocketAddr,
    log: Arc<Mutex<Vec<u8>>>,
    stop: StopHandle,
    thread: Option<JoinHandle<ExitCode>>,
}

impl Gateway {
    pub fn of(plan: portcullis::config::Plan, clock: Clock) -> Self {
        let log = Arc::new(Mutex::new(Vec::new()));
        let surroundings = Surroundings {
            clock,
            access_log: Box::new(Shared(log.clone())),
            alone: false,
            file: None,
        };
        let bound = server::bind(plan, surroundings).unwrap();
        let (addresses, admin) = (bound.addresses(), bound.admin_address());
        let (stop, signals) = Signals::by_handle();
        let thread = std::thread::spawn(move || bound.serve(signals));
        Gateway {
            addresses,
            admin,
            log,
            stop,
            thread: Some(thread),
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    pub fn wait_ready(&self) {
        eventually("the gateway is ready", || {
            get(self.admin, "/readyz", None).status == 200
        });
    }

    /// Tells it to stop when what is in flight is done.
    pub fn drain(&self) {
        self.stop.drain();
    }

    pub fn metrics(&self) -> String {
        get(self.admin, "/metrics", None).text().to_owned()
    }

    /// One sample of the scrape, by its whole name with labels; 0 when it is not there.
    pub fn metric(&self, series: &str) -> f64 {
        self.metrics()
            .lines()
            .find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
            .unwrap_or(0.0)
    }

    /// Waits until a series has this value: a request is counted after its answer has been sent.
    pub fn counts(&self, series: &str, value: f64) {
        eventually(&format!("{series} {value}"), || {
            self.metric(series) == value
        });
    }

    /// The access log so far, once it has at least `lines` lines.
    pub fn access_log(&self, lines: usize) -> Vec<serde_json::Value> {
        let read = || {
            let log = self.log.lock().unwrap();
            let text = String::from_utf8(log.clone()).unwrap();
            let lines: Vec<serde_json::Value> = text
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect();
            lines
        };
        eventually("the access log has its lines", || read().len() >= lines);
        read()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop.now();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Polls with a deadline: the only waiting that tests do.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "not in 20 s: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
