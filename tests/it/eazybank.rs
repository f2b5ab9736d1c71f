//! The course's gateway as `conf/eazybank.yaml` has it: the shipped file itself, with our addresses in it.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use portcullis::clock::Clock;
use portcullis::config::{self, Mode, Overrides};
use portcullis::demo::issuer::{Issuer, IssuerOptions};

use crate::support::{Answer, Gateway, Origin, Received, send};

const CALL_CENTRE: &str = "eazybank-callcenter-cc";
const READER: &str = "eazybank-accounts-reader-cc";
const NOBODY: &str = "eazybank-no-roles-cc";
const SCOPES: [&str; 3] = ["accounts:read", "loans:read", "cards:read"];

struct Bank {
    issuer: Issuer,
    clock: Clock,
    gateway: Gateway,
}

impl Bank {
    fn open(accounts: SocketAddr, loans: SocketAddr, cards: SocketAddr) -> Self {
        let issuer = Issuer::start_blocking(IssuerOptions::default()).unwrap();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/eazybank.yaml");
        let mut yaml = std::fs::read_to_string(path).unwrap();
        for (written, ours) in [
            (
                "issuer: http://localhost:8180/realms/eazybank",
                format!("issuer: {}", issuer.url()),
            ),
            ("dns: accounts:8080", format!("peers: ['{accounts}']")),
            ("dns: loans:8090", format!("peers: ['{loans}']")),
            ("dns: cards:9000", format!("peers: ['{cards}']")),
        ] {
            assert_eq!(yaml.matches(written).count(), 1, "{written}");
            yaml = yaml.replace(written, &ours);
        }
        let overrides = Overrides::default();
        let loaded = config::load_str(
            "eazybank.yaml",
            &yaml,
            &overrides,
            &config::System,
            Mode::Online,
        );
        let mut plan = loaded
            .unwrap_or_else(|problems| panic!("{problems:?}"))
            .plan;
        // The system chooses the ports, and nobody but us can reach them.
        plan.listeners[0].address = SocketAddr::from(([127, 0, 0, 1], 0));
        plan.admin.address.set_port(0);
        plan.server.threads = 1;
        let clock = Clock::manual(Clock::system().unix());
        let gateway = Gateway::of(plan, clock.clone());
        gateway.wait_ready();
        Bank {
            issuer,
            clock,
            gateway,
        }
    }

    fn ask(&self, method: &str, path: &str, token: Option<&str>) -> Answer {
        let fields = token.map_or_else(String::new, |token| {
            format!("Authorization: Bearer {token}\r\n")
        });
        send(self.gateway.address(), method, path, &fields, "")
    }

    fn call_centre(&self) -> String {
        self.issuer.token(CALL_CENTRE, &SCOPES)
    }
}

fn lines(origin: &Origin) -> Vec<String> {
    origin
        .received()
        .into_iter()
        .map(|request| request.line)
        .collect()
}

/// Answers with the statuses in turn, and with the last one from then on.
fn says(statuses: &'static [u16]) -> Origin {
    let turn = Arc::new(AtomicUsize::new(0));
    let respond = move |_: &Received, stream: &mut TcpStream| {
        let turn = turn.fetch_add(1, Ordering::Relaxed);
        let status = statuses[turn.min(statuses.len() - 1)];
        let _ = stream.write_all(
            format!("HTTP/1.1 {status} So\r\nContent-Length: 5\r\n\r\nhello").as_bytes(),
        );
    };
    Origin::answering(respond)
}

#[test]
fn each_service_is_reached_with_its_role_and_no_other() {
    let services = [Origin::start(), Origin::start(), Origin::start()];
    let [accounts, loans, cards] = &services;
    let bank = Bank::open(accounts.address(), loans.address(), cards.address());
    let all = bank.call_centre();
    let accounts_only = bank.issuer.token(READER, &["accounts:read"]);
    let none = bank.issuer.token(NOBODY, &[]);
    for (name, service) in [("accounts", accounts), ("loans", loans), ("cards", cards)] {
        let mut expected = Vec::new();
        for (method, call) in [
            ("GET", "fetch"),
            ("POST", "create"),
            ("PUT", "update"),
            ("DELETE", "delete"),
        ] {
            let path = format!("/eazybank/{name}/api/{call}?mobileNumber=4354437687");
            // The course lets every GET in.
            assert_eq!(bank.ask(method, &path, None).status, 401, "{method} {path}");
            assert_eq!(bank.ask(method, &path, Some(&none)).status, 403);
            let limited = bank.ask(method, &path, Some(&accounts_only)).status;
            assert_eq!(limited, if name == "accounts" { 200 } else { 403 });
            assert_eq!(bank.ask(method, &path, Some(&all)).status, 200);
            let line = format!("{method} /api/{call}?mobileNumber=4354437687 HTTP/1.1");
            let times = if name == "accounts" { 2 } else { 1 };
            expected.extend(std::iter::repeat_n(line, times));
            // One request a second is what cards allow.
            bank.clock.advance(Duration::from_secs(1));
        }
        assert_eq!(lines(service), expected);
    }
    let got = &accounts.received()[0];
    assert_eq!(got.header("x-auth-client"), Some(READER));
    assert!(got.header("authorization").is_none());
    for (method, path, status) in [
        ("PATCH", "/eazybank/accounts/api/update", 405),
        ("GET", "/eazybank/accounts", 404),
        ("GET", "/eazybank/accountsx/api/fetch", 404),
        ("GET", "/api/fetch", 404),
        ("GET", "/contactSupport", 404),
        ("GET", "/actuator/gateway/routes", 404),
    ] {
        assert_eq!(bank.ask(method, path, Some(&all)).status, status, "{path}");
    }
}

#[test]
fn accounts_that_fail_are_left_alone_and_the_fallback_answers() {
    const FAILS: u16 = 500;
    let accounts = says(&[
        200, 200, 200, 200, 200, FAILS, FAILS, FAILS, FAILS, FAILS, 200,
    ]);
    let other = Origin::start();
    let bank = Bank::open(accounts.address(), other.address(), other.address());
    let token = bank.call_centre();
    let fetch = || bank.ask("GET", "/eazybank/accounts/api/fetch", Some(&token));
    // The window of ten is full with the last of them, and half of it has failed.
    let statuses: Vec<u16> = (0..10).map(|_| fetch().status).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 500, 500, 500, 500, 500]);
    let open = "portcullis_upstream_breaker_open{upstream=\"accounts\"}";
    bank.gateway.counts(open, 1.0);
    let sorry = fetch();
    assert_eq!(
        (sorry.status, sorry.header("retry-after")),
        (503, Some("10"))
    );
    assert_eq!(
        sorry.text(),
        "An error occurred. Please try again after some time, or contact the support team."
    );
    assert_eq!(accounts.received().len(), 10, "the service was left alone");
    // The others have nothing to do with it.
    let loans = bank.ask("GET", "/eazybank/loans/api/fetch", Some(&token));
    assert_eq!(loans.status, 200);
    // Two trials, and both are good.
    bank.clock.advance(Duration::from_secs(10));
    assert_eq!([fetch().status, fetch().status], [200, 200]);
    bank.gateway.counts(open, 0.0);
    assert_eq!(fetch().status, 200);
}

#[test]
fn a_loan_is_fetched_again_and_never_created_twice() {
    let loans = says(&[503, 502, 503, 200, 503, 200]);
    let other = Origin::start();
    let bank = Bank::open(other.address(), loans.address(), other.address());
    let token = bank.call_centre();
    let fetched = bank.ask("GET", "/eazybank/loans/api/fetch", Some(&token));
    assert_eq!((fetched.status, fetched.text()), (200, "hello"));
    assert_eq!(loans.received().len(), 4, "three more times");
    let created = bank.ask("POST", "/eazybank/loans/api/create", Some(&token));
    assert_eq!(created.status, 503);
    assert_eq!(loans.received().len(), 5);
    assert!(other.received().is_empty());
}

#[test]
fn cards_take_one_request_a_second_of_each_client() {
    let cards = Origin::start();
    let bank = Bank::open(cards.address(), cards.address(), cards.address());
    let token = bank.call_centre();
    let fetch = || {
        // The course counts by this field, which anybody can change.
        let fields = format!("Authorization: Bearer {token}\r\nuser: another\r\n");
        let path = "/eazybank/cards/api/fetch";
        send(bank.gateway.address(), "GET", path, &fields, "")
    };
    assert_eq!(fetch().status, 200);
    let refused = fetch();
    assert_eq!(
        (refused.status, refused.header("retry-after")),
        (429, Some("1"))
    );
    bank.clock.advance(Duration::from_secs(1));
    assert_eq!(fetch().status, 200);
}
