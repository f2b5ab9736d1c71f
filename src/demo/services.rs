//! accounts, loans and cards: services that tell what reached them.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Map, Value, json};

use super::serving::{Serving, bind_loopback};

/// The course's three services, in the order of their ports.
pub const NAMES: [&str; 3] = ["accounts", "loans", "cards"];

/// One running echo service; dropping it stops it.
pub struct Service {
    name: &'static str,
    address: SocketAddr,
    requests: Arc<AtomicU64>,
    _serving: Serving,
}

impl Service {
    /// Loopback only; port 0 takes a free one.
    pub fn start(name: &'static str, port: u16) -> io::Result<Service> {
        let listener = bind_loopback(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))?;
        let address = listener.local_addr()?;
        let requests = Arc::new(AtomicU64::new(0));
        let echo = Echo {
            name,
            requests: requests.clone(),
        };
        let router = Router::new().fallback(answer).with_state(echo);
        let serving = Serving::start(&format!("demo-{name}"), listener, router)?;
        Ok(Service {
            name,
            address,
            requests,
            _serving: serving,
        })
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many requests came through, which is what a test of a refusal must see unmoved.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

/// The three of them.
pub struct Services(pub Vec<Service>);

impl Services {
    /// On free ports.
    pub fn start() -> io::Result<Services> {
        let started = NAMES.into_iter().map(|name| Service::start(name, 0));
        started.collect::<io::Result<_>>().map(Services)
    }

    /// # Panics
    ///
    /// When there is no such service: a typo in a test.
    #[track_caller]
    pub fn get(&self, name: &str) -> &Service {
        match self.0.iter().find(|service| service.name == name) {
            Some(service) => service,
            None => panic!("no service {name}"),
        }
    }
}

#[derive(Clone)]
struct Echo {
    name: &'static str,
    requests: Arc<AtomicU64>,
}

async fn answer(State(echo): State<Echo>, request: Request) -> Response {
    echo.requests.fetch_add(1, Ordering::Relaxed);
    let status = status_of(request.method(), request.uri().path());
    let (head, body) = request.into_parts();
    let Ok(body_bytes) = count(body).await else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let mut told = json!({
        "service": echo.name,
        "method": head.method.as_str(),
        "path": head.uri.path(),
        "query": head.uri.query(),
        "headers": told_headers(&head.headers),
        "authorization": { "present": head.headers.contains_key(header::AUTHORIZATION) },
        "body_bytes": body_bytes,
    });
    if status == StatusCode::NOT_FOUND {
        told["error"] = json!("not found");
    }
    let json = [(header::CONTENT_TYPE, "application/json")];
    (status, json, told.to_string()).into_response()
}

/// The course's routes; the rest is 404.
fn status_of(method: &Method, path: &str) -> StatusCode {
    let reads = [
        "/",
        "/healthz",
        "/contact",
        "/api/fetch",
        "/api/build-info",
        "/api/java-version",
        "/api/contact-info",
        "/java-version",
        "/contact-info",
    ];
    match (method, path) {
        (&Method::GET | &Method::HEAD, path) if reads.contains(&path) => StatusCode::OK,
        (&Method::POST, "/api/create") => StatusCode::CREATED,
        (&Method::PUT, "/api/update") | (&Method::DELETE, "/api/delete") => StatusCode::OK,
        _ => StatusCode::NOT_FOUND,
    }
}

/// Counted as it streams: a large upload must not cost its size in memory.
async fn count(mut body: Body) -> Result<u64, axum::Error> {
    let mut bytes = 0;
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let data = frame?.into_data();
        bytes += data.map_or(0, |data| data.len() as u64);
    }
    Ok(bytes)
}

/// Name → value, or values where a name comes more than once. Credentials are never echoed.
fn told_headers(headers: &HeaderMap) -> Value {
    let mut told = Map::new();
    for name in headers.keys().filter(|name| *name != header::AUTHORIZATION) {
        let values = headers.get_all(name).iter();
        let mut values: Vec<Value> = values
            .map(|value| json!(String::from_utf8_lossy(value.as_bytes())))
            .collect();
        let value = match values.len() {
            1 => values.remove(0),
            _ => Value::Array(values),
        };
        told.insert(name.as_str().to_owned(), value);
    }
    Value::Object(told)
}
