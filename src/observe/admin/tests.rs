use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use pingora::apps::ServerApp;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::watch;

use super::*;
use crate::config::secret::{Secret, Text};
use crate::edge::{Bounds, GuardApp};
use crate::observe::metrics::Metrics;
use crate::verify::{Flaw, Unjudged};

mod changes;

const NOW: u64 = 1_790_000_000;

struct Fake {
    keys: AtomicBool,
    stopping: AtomicBool,
    broken: bool,
    /// What becomes of the next messages.
    heard: Mutex<Result<(), Unheard>>,
    /// What came.
    messages: Mutex<Vec<String>>,
    revocations: Arc<Revocations>,
    clock: Clock,
}

impl Default for Fake {
    fn default() -> Self {
        let mut plan = crate::testkit::plan(Vec::new());
        plan.revocations.max = 2;
        let clock = Clock::manual(NOW);
        Fake {
            keys: AtomicBool::default(),
            stopping: AtomicBool::default(),
            broken: false,
            heard: Mutex::new(Ok(())),
            messages: Mutex::default(),
            revocations: Revocations::of(&plan, clock.clone()).expect("memory"),
            clock,
        }
    }
}

impl Fake {
    fn hear(&self, message: &str) -> Result<(), Unheard> {
        self.messages.lock().unwrap().push(message.to_owned());
        self.heard.lock().unwrap().clone()
    }
}

#[async_trait]
impl AdminState for Fake {
    fn readiness(&self) -> Readiness {
        let ready = self.keys.load(Ordering::Relaxed);
        Readiness {
            issuers: vec![IssuerReadiness {
                name: "keycloak".to_owned(),
                ready,
                keys: usize::from(ready),
                keys_age_seconds: ready.then_some(7),
                from_snapshot: false,
                introspection_breaker: None,
                warning: None,
                reason: (!ready).then(|| "no keys were fetched yet".to_owned()),
            }],
            upstreams: vec![UpstreamReadiness {
                name: "accounts".to_owned(),
                ready: false,
                peers: 2,
                reason: Some("down".to_owned()),
            }],
            shutting_down: self.stopping.load(Ordering::Relaxed),
        }
    }

    fn metrics(&self) -> Result<Vec<u8>, String> {
        if self.broken {
            return Err("no".to_owned());
        }
        Ok(b"# HELP a b\n# TYPE a counter\na 1\n".to_vec())
    }

    fn issuers(&self) -> Vec<IssuerState> {
        Vec::new()
    }

    fn upstreams(&self) -> Vec<UpstreamState> {
        Vec::new()
    }

    fn routes(&self) -> Vec<RouteState> {
        vec![RouteState {
            name: "contact".to_owned(),
            host: None,
            path: "/contact".to_owned(),
            exact: true,
            methods: vec!["GET".to_owned()],
            upstream: Pools::One("accounts".to_owned()),
            demands: None,
        }]
    }

    fn issuer_names(&self) -> Vec<Arc<str>> {
        vec!["keycloak".into()]
    }

    async fn refresh(&self, _: IssuerId) -> Option<Vec<KeyState>> {
        let key = || KeyState {
            kid: "k1".to_owned(),
            algorithms: vec!["RS256"],
            age_seconds: 0,
        };
        self.keys.load(Ordering::Relaxed).then(|| vec![key()])
    }

    async fn push_not_before(&self, _: IssuerId, message: &str) -> Result<(), Unheard> {
        self.hear(message)
    }

    async fn log_out(&self, _: IssuerId, token: &str) -> Result<(), Unheard> {
        self.hear(token)
    }

    fn revocations(&self) -> &Arc<Revocations> {
        &self.revocations
    }

    fn clock(&self) -> &Clock {
        &self.clock
    }
}

struct Client {
    stream: DuplexStream,
    _shutdown: watch::Sender<bool>,
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Client {
    fn of(state: Arc<Fake>) -> Self {
        Self::with(state, Some(Secret::from_value("admin token")))
    }

    fn with(state: Arc<Fake>, token: Option<Secret>) -> Self {
        let (client, server) = tokio::io::duplex(64 * 1024);
        let (shutdown, watch) = watch::channel(false);
        let plan = crate::testkit::plan(Vec::new());
        let metrics = Metrics::new(&plan).unwrap();
        let token = token.map(|token| {
            let name = "admin.token".to_owned();
            Arc::new(Text::word(&token, name, state.clock.clone()))
        });
        let app = Arc::new(AdminApp::new(move || state.clone(), token));
        let app = Arc::new(GuardApp::for_admin(app, Bounds::new(&plan.limits, metrics)));
        tokio::spawn(async move { app.process_new(Box::new(server), &watch).await });
        Client {
            stream: client,
            _shutdown: shutdown,
        }
    }

    async fn ask(&mut self, method: &str, path: &str) -> Answer {
        self.send(
            &format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n"),
            method,
        )
        .await
    }

    async fn send(&mut self, request: &str, method: &str) -> Answer {
        self.stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|l| l.strip_prefix("content-length: "))
            .map(|l| l.parse().unwrap());
        let bodiless = head.starts_with("http/1.1 204");
        assert_eq!(length.is_none(), bodiless, "{head}");
        let length = length.unwrap_or(0);
        let mut body = vec![0; if method == "HEAD" { 0 } else { length }];
        self.stream.read_exact(&mut body).await.unwrap();
        Answer {
            status: head[9..12].parse().unwrap(),
            head,
            body: String::from_utf8(body).unwrap(),
        }
    }
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

#[tokio::test]
async fn one_connection_asks_everything() {
    let state = Arc::new(Fake::default());
    let mut client = Client::of(state.clone());

    let live = client.ask("GET", "/livez").await;
    assert_eq!(
        (live.status, live.json()),
        (200, json!({"status": "alive"}))
    );
    assert!(live.head.contains("cache-control: no-store\r\n"));
    assert!(live.head.contains("x-request-id: "));

    let waiting = client.ask("GET", "/readyz").await;
    assert_eq!(waiting.status, 503);
    assert!(waiting.head.contains("retry-after: 1\r\n"));
    assert_eq!(
        waiting.json(),
        json!({
            "status": "not_ready",
            "issuers": [{
                "name": "keycloak", "ready": false, "keys": 0, "keys_age_seconds": null,
                "from_snapshot": false, "introspection_breaker": null,
                "reason": "no keys were fetched yet", "warning": null,
            }],
            "upstreams": [{ "name": "accounts", "ready": false, "peers": 2, "reason": "down" }],
            "shutting_down": false,
        })
    );

    state.keys.store(true, Ordering::Relaxed);
    let ready = client.ask("GET", "/readyz?verbose").await;
    assert_eq!(
        (ready.status, &ready.json()["status"]),
        (200, &json!("ready"))
    );
    assert!(!ready.head.contains("retry-after"));

    state.stopping.store(true, Ordering::Relaxed);
    let stopping = client.ask("GET", "/readyz").await;
    assert_eq!(stopping.status, 503);
    assert_eq!(stopping.json()["status"], "shutting_down");
    assert_eq!(client.ask("GET", "/livez").await.status, 200);

    let metrics = client.ask("GET", "/metrics").await;
    assert!(
        metrics
            .head
            .contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n")
    );
    assert!(metrics.body.ends_with("a 1\n"));

    assert_eq!(client.ask("GET", "/issuers").await.json(), json!([]));
    assert_eq!(client.ask("GET", "/upstreams").await.json(), json!([]));
    assert_eq!(
        client.ask("GET", "/routes").await.json()[0]["path"],
        "/contact"
    );
}

#[tokio::test]
async fn head_answers_like_get_without_a_body() {
    let mut client = Client::of(Arc::default());
    for path in ["/livez", "/readyz", "/metrics", "/nothing"] {
        let got = client.ask("GET", path).await;
        let head = client.ask("HEAD", path).await;
        assert_eq!(head.status, got.status);
        let length = format!("content-length: {}\r\n", got.body.len());
        assert!(head.head.contains(&length), "{path}: {}", head.head);
    }
}

#[tokio::test]
async fn what_is_not_there_is_a_problem() {
    let mut client = Client::of(Arc::default());
    for (method, path, status) in [
        ("GET", "/", 404),
        ("GET", "/livez/", 404),
        ("GET", "/revocations/", 404),
        ("GET", "/revocations/a/b", 404),
        ("POST", "/issuers/keycloak", 404),
        ("POST", "/issuers/keycloak/keys", 404),
        ("POST", "/issuers/keycloak/k_logout", 404),
        ("POST", "/issuers/keycloak/keys/refresh/", 404),
        ("POST", "/issuers/other/k_push_not_before", 404),
        ("POST", "/metrics", 405),
        ("DELETE", "/routes", 405),
    ] {
        let answer = client.ask(method, path).await;
        assert_eq!(answer.status, status, "{method} {path}");
        assert!(
            answer
                .head
                .contains("content-type: application/problem+json\r\n")
        );
        assert_eq!(answer.head.contains("allow: get, head\r\n"), status == 405);
        let body = answer.json();
        assert_eq!(body["status"], status);
        assert_eq!(body["type"], "about:blank");
        assert!(body["title"].is_string() && body["request_id"].is_string());
    }
}

#[tokio::test]
async fn a_body_that_nobody_asked_for_is_no_second_request() {
    let mut client = Client::of(Arc::default());
    let request = "POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 26\r\n\r\n\
                   GET /livez HTTP/1.1\r\nHost:";
    let answer = client.send(request, "POST").await;
    assert_eq!(answer.status, 405);
    let mut rest = Vec::new();
    client.stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_slow_head_is_cut_off_here_too() {
    let mut client = Client::of(Arc::default());
    let answer = client.send("GET /livez HT", "GET").await;
    assert_eq!(answer.status, 408);
}

#[tokio::test]
async fn metrics_that_cannot_be_written_are_a_500_without_the_reason() {
    let state = Fake {
        broken: true,
        ..Fake::default()
    };
    let answer = Client::of(Arc::new(state)).ask("GET", "/metrics").await;
    assert_eq!(answer.status, 500);
    assert_eq!(answer.json()["detail"], "The metrics could not be written.");
}
