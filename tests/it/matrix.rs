//! Who gets what: every route of the demo against every kind of credential, and every reason to refuse at least once.
//!
//! The result is `tests/output/access-matrix.txt`. `PORTCULLIS_BLESS=1 cargo test --test it matrix` writes it anew; a
//! change to it is a change to who may call what, and is reviewed as such.

mod credentials;
mod possession;
mod reasons;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use http::Method;
use portcullis::clock::Clock;
use portcullis::config::plan::{Plan, RoutePlan};
use portcullis::config::{self, Environment, Mode, Overrides, System};
use portcullis::demo::issuer::{Issuer, IssuerOptions};
use portcullis::demo::services::Services;
use portcullis::reject::Rejection;

use crate::support::{Connection, Gateway, send};
use credentials::Credential;

const DEMO: &str = include_str!("../../conf/demo.yaml");

/// Reasons that nothing outside the process can bring about here, and what shows them instead.
const NOT_FROM_OUTSIDE: [(Rejection, &str); 3] = [
    (
        Rejection::NoPermit,
        "a step was skipped, which no request can make happen; gateway::tests shows that it is 500 without a peer",
    ),
    (
        Rejection::DpopBusy,
        "a million good proofs within a minute are more than a test can send; verify::dpop::tests",
    ),
    (
        Rejection::Internal,
        "Pingora failed inside itself, or a step found nothing where another put something; gateway::tests",
    ),
];

struct DemoEnvironment;

impl Environment for DemoEnvironment {
    fn var(&self, name: &str) -> Option<String> {
        let value = match name {
            "PORTCULLIS_DEMO_ADMIN_TOKEN" => "demo-only-admin",
            "PORTCULLIS_DEMO_GATEWAY_SECRET" => "demo-only-gateway",
            _ => return None,
        };
        Some(value.to_owned())
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        System.read(path)
    }
}

/// `conf/demo.yaml` with the ports that this test got.
fn demo_plan(issuer: &Issuer, services: &Services) -> Plan {
    let mut overrides =
        Overrides::default().replace("http://127.0.0.1:8180/realms/eazybank", issuer.url());
    for (name, port) in [("accounts", 8081), ("loans", 8082), ("cards", 8083)] {
        let address = services.get(name).address().to_string();
        overrides = overrides.replace(format!("127.0.0.1:{port}"), address);
    }
    let loaded = config::load_str(
        "conf/demo.yaml",
        DEMO,
        &overrides,
        &DemoEnvironment,
        Mode::Online,
    );
    let mut plan = loaded.unwrap().plan;
    for listener in &mut plan.listeners {
        listener.address.set_port(0);
    }
    plan.admin.address.set_port(0);
    plan
}

/// A request that this route takes: what the demo's services know beneath it.
fn request_line(route: &RoutePlan) -> String {
    let path = &route.matcher.path;
    let writes = route.matcher.methods.contains(&Method::POST);
    match (writes, route.matcher.exact) {
        (true, _) => format!("POST {path}/api/create"),
        (false, true) => format!("GET {path}"),
        (false, false) => format!("GET {path}/api/fetch"),
    }
}

/// Status and reason of one request, read from the log by its id.
struct Outcome {
    status: u64,
    reason: String,
}

fn outcomes(gateway: &Gateway, lines: usize) -> BTreeMap<String, Outcome> {
    gateway
        .access_log(lines)
        .into_iter()
        .map(|line| {
            let outcome = Outcome {
                status: line["status"].as_u64().unwrap(),
                reason: line["reason"].as_str().unwrap_or("-").to_owned(),
            };
            (line["request_id"].as_str().unwrap().to_owned(), outcome)
        })
        .collect()
}

fn row(text: &mut String, what: &str, status: u64, reason: &str) {
    writeln!(text, "  {what:<58} {status}  {reason}").unwrap();
}

/// Every route of the demo with every credential; the reasons that were met are added to `met`.
fn demo_section(met: &mut Vec<String>) -> String {
    let issuer = Issuer::start_blocking(IssuerOptions::default()).unwrap();
    let services = Services::start().unwrap();
    let plan = demo_plan(&issuer, &services);
    let routes: Vec<(String, String)> = plan
        .routes
        .iter()
        .map(|route| (route.name.to_string(), request_line(route)))
        .collect();
    let gateway = Gateway::of(plan, Clock::system());
    gateway.wait_ready();
    let revoked = send(
        gateway.admin(),
        "POST",
        "/revocations",
        "Authorization: Bearer demo-only-admin\r\n",
        &format!(
            r#"{{"issuer":"keycloak","jti":"{}","until":"2100-01-01T00:00:00Z"}}"#,
            credentials::REVOKED
        ),
    );
    assert_eq!(revoked.status, 201, "{}", revoked.text());
    let credentials = credentials::all(&issuer);
    let id = |route: &str, place: usize| format!("{route}.{place}");
    let mut passed = 0;
    for (route, line) in &routes {
        for (place, Credential { fields, .. }) in credentials.iter().enumerate() {
            let answer = Connection::open(gateway.address())
                .send(format!(
                    "{line} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\
                     X-Request-Id: {}\r\n{fields}\r\n",
                    id(route, place)
                ))
                .answer();
            passed += u64::from(answer.status < 300);
        }
    }
    let outcomes = outcomes(&gateway, routes.len() * credentials.len());
    let mut text = String::new();
    for (route, line) in &routes {
        writeln!(text, "\n{route}: {line}").unwrap();
        for (place, credential) in credentials.iter().enumerate() {
            let outcome = &outcomes[&id(route, place)];
            row(&mut text, credential.name, outcome.status, &outcome.reason);
            met.push(outcome.reason.clone());
        }
    }
    // What was refused reached no service.
    let reached: u64 = services.0.iter().map(|service| service.requests()).sum();
    assert_eq!(reached, passed);
    text
}

#[test]
fn who_gets_what_is_as_written_down() {
    let mut met = Vec::new();
    let mut text = String::from(
        "Who gets what. Written by tests/it/matrix.rs; PORTCULLIS_BLESS=1 writes it anew.\n\n\
         Every route of conf/demo.yaml with every kind of credential: status and reason.\n",
    );
    text.push_str(&demo_section(&mut met));
    text.push_str("\nEvery other reason to refuse, with a configuration made for it.\n\n");
    let others = reasons::all().into_iter().chain(possession::all());
    for reached in others {
        row(&mut text, reached.how, reached.status, &reached.reason);
        met.push(reached.reason);
    }
    text.push_str("\nReasons that nothing outside the process brings about here.\n\n");
    for (rejection, why) in NOT_FROM_OUTSIDE {
        writeln!(text, "  {}: {why}", rejection.label()).unwrap();
        assert!(
            !met.iter().any(|reason| reason == rejection.label()),
            "{rejection:?} can be brought about: take it off the list"
        );
    }
    for rejection in Rejection::ALL {
        let excused = NOT_FROM_OUTSIDE.iter().any(|(r, _)| r == rejection);
        let reached = met.iter().any(|reason| reason == rejection.label());
        assert!(
            excused || reached,
            "nothing in the matrix reaches {rejection:?}"
        );
    }
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/output/access-matrix.txt");
    if std::env::var_os("PORTCULLIS_BLESS").is_some() {
        std::fs::create_dir_all(golden.parent().unwrap()).unwrap();
        std::fs::write(&golden, &text).unwrap();
    }
    let written = std::fs::read_to_string(&golden).unwrap_or_default();
    for (line, (is, should)) in text.lines().zip(written.lines()).enumerate() {
        assert_eq!(is, should, "line {} of {}", line + 1, golden.display());
    }
    assert_eq!(
        text.len(),
        written.len(),
        "{} has another length",
        golden.display()
    );
}
