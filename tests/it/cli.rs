//! The commands that are not `run` or `demo`: what they print, where, and how they end.

use portcullis::demo::issuer::{Issuer, IssuerOptions};

use crate::support::{Finished, Scratch, portcullis, run};

const CLIENT: &str = "eazybank-callcenter-cc";
const SECRET: &str = "demo-only-callcenter-cc";

fn say(arguments: &[&str]) -> Finished {
    run(portcullis(arguments), "")
}

#[test]
fn check_tells_the_plan_of_a_good_file() {
    let finished = say(&["check", "--config", "conf/portcullis.yaml"]);
    assert_eq!((finished.code, &*finished.stderr), (Some(0), ""));
    for name in ["keycloak", "accounts-read", "accounts-write", "contact"] {
        assert!(finished.stdout.contains(name), "{}", finished.stdout);
    }
}

#[test]
fn check_tells_every_problem_with_its_place() {
    let scratch = Scratch::new();
    let text = "\
listeners:
  - address: 127.0.0.1:8072
    adress: twice
issuers:
  keycloak: { issuer: 'http://sso.example.com/realms/a', audience: [account] }
upstreams:
  accounts: { peers: ['127.0.0.1:1'], timeouts: { read: 0s } }
routes:
  - name: a
    match: { path: /a }
    upstream: acounts
    access: {}
admin: { token: hunter2-in-the-open }
";
    let file = scratch.file("bad.yaml", text);
    let finished = say(&["check", "--config", &file]);
    assert_eq!((finished.code, &*finished.stdout), (Some(64), ""));
    for (place, key) in [
        ("3:5", "listeners[0].adress"),
        ("5:23", "issuers.keycloak.issuer"),
        ("5:69", "issuers.keycloak.audience[0]"),
        ("7:57", "upstreams.accounts.timeouts.read"),
        ("11:15", "routes[0].upstream"),
        ("13:17", "admin.token"),
    ] {
        let start = format!("{file}:{place}: {key}");
        let found = finished.stderr.lines().any(|line| line.starts_with(&start));
        assert!(found, "{start}\n{}", finished.stderr);
    }
    assert!(finished.stderr.ends_with("6 problems\n"));
    assert!(finished.stderr.contains("`accounts`"));
    assert!(!finished.stderr.contains("hunter2"), "{}", finished.stderr);
}

#[test]
fn check_offline_wants_no_variable_and_no_file() {
    let scratch = Scratch::new();
    let absent = scratch.directory().join("absent.pem");
    let absent = absent.to_str().unwrap();
    let text = format!(
        "listeners: [{{ address: '127.0.0.1:1', tls: {{ certificate: {absent}, private_key: {absent} }} }}]\n\
         admin: {{ token: '${{env:PORTCULLIS_TEST_UNSET}}' }}\n\
         upstreams: {{ origin: {{ peers: ['127.0.0.1:1'] }} }}\n\
         routes: [{{ name: a, match: {{ path: /a }}, upstream: origin, access: public }}]\n"
    );
    let file = scratch.file("elsewhere.yaml", &text);
    let online = say(&["check", "--config", &file]);
    assert_eq!(online.code, Some(64));
    for what in [absent, "PORTCULLIS_TEST_UNSET", "3 problems"] {
        assert!(online.stderr.contains(what), "{what}: {}", online.stderr);
    }
    assert_eq!(
        say(&["check", "--offline", "--config", &file]).code,
        Some(0)
    );
}

#[test]
fn schema_is_the_shipped_one() {
    let finished = say(&["schema"]);
    assert_eq!((finished.code, &*finished.stderr), (Some(0), ""));
    let schema: serde_json::Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(schema["$defs"]["file"]["type"], "object");
    assert_eq!(finished.stdout, include_str!("../../conf/schema.json"));
}

#[test]
fn version_names_version_commit_and_target() {
    let finished = say(&["version"]);
    assert_eq!((finished.code, &*finished.stderr), (Some(0), ""));
    let rest = finished.stdout.strip_suffix(")\n").unwrap();
    let (version, built) = rest.split_once(" (").unwrap();
    assert_eq!(version, concat!("portcullis ", env!("CARGO_PKG_VERSION")));
    let (commit, target) = built.split_once(", ").unwrap();
    let is_commit = commit.len() == 12 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(is_commit || commit == "unknown", "{commit}");
    assert!(target.split('-').count() >= 3, "{target}");
}

struct Tokens {
    issuer: Issuer,
    scratch: Scratch,
    config: String,
}

impl Tokens {
    fn start() -> Self {
        let issuer = Issuer::start_blocking(IssuerOptions::default()).unwrap();
        let scratch = Scratch::new();
        let text = format!(
            "listeners: [{{ address: '127.0.0.1:1' }}]\n\
             issuers: {{ keycloak: {{ issuer: '{}', audience: [eazybank-gateway] }} }}\n\
             upstreams: {{ origin: {{ peers: ['127.0.0.1:1'] }} }}\n\
             routes: [{{ name: a, match: {{ path: /a }}, upstream: origin, access: {{}} }}]\n",
            issuer.url()
        );
        let config = scratch.file("gateway.yaml", &text);
        Tokens {
            issuer,
            scratch,
            config,
        }
    }

    /// `portcullis token`, at the loudest log level.
    fn ask(&self, more: &[&str], stdin: &str) -> Finished {
        let mut command = portcullis(&["token", "--config", &self.config, "--client", CLIENT]);
        command.args(more).env("PORTCULLIS_LOG", "trace");
        run(command, stdin)
    }
}

#[test]
fn token_prints_the_bare_token() {
    let tokens = Tokens::start();
    let scopes = ["--scope", "accounts:read loans:read"];
    let by_stdin = tokens.ask(&scopes, &format!("{SECRET}\n"));
    let file = tokens.scratch.file("secret", SECRET);
    let by_file = tokens.ask(&[&scopes[..], &["--secret-file", &file]].concat(), "");
    let named = tokens.ask(&["--issuer", "keycloak"], SECRET);
    for finished in [&by_stdin, &by_file, &named] {
        assert_eq!((finished.code, &*finished.stderr), (Some(0), ""));
        let token = finished.stdout.strip_suffix('\n').unwrap();
        assert_eq!(token.split('.').count(), 3);
        assert!(!token.contains(char::is_whitespace));
        assert!(!finished.stdout.contains(SECRET));
    }
    drop(tokens.issuer);
}

#[test]
fn token_that_is_refused_is_1_and_keeps_the_secret() {
    let tokens = Tokens::start();
    let wrong = "wrong-canary-5e1f";
    let file = tokens.scratch.file("secret", wrong);
    for finished in [
        tokens.ask(&[], wrong),
        tokens.ask(&["--secret-file", &file], ""),
        tokens.ask(&["--scope", "no:such"], SECRET),
        tokens.ask(&[], ""),
        tokens.ask(&["--secret-file", "/nonexistent/secret"], ""),
    ] {
        assert_eq!((finished.code, &*finished.stdout), (Some(1), ""));
        assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
        assert!(!finished.stderr.contains(wrong), "{}", finished.stderr);
        assert!(!finished.stderr.contains(SECRET), "{}", finished.stderr);
    }
    tokens.issuer.set_down(true).unwrap();
    let finished = tokens.ask(&[], wrong);
    assert_eq!((finished.code, &*finished.stdout), (Some(1), ""));
    assert!(!finished.stderr.contains(wrong), "{}", finished.stderr);
}

#[test]
fn token_of_an_issuer_that_is_not_there_is_64() {
    let tokens = Tokens::start();
    let unknown = tokens.ask(&["--issuer", "keykloak"], SECRET);
    assert_eq!((unknown.code, &*unknown.stdout), (Some(64), ""));
    assert!(unknown.stderr.contains("keykloak") && unknown.stderr.contains("keycloak"));
    let no_file = ["token", "--config", "/nonexistent.yaml", "--client", "a"];
    assert_eq!(say(&no_file).code, Some(64));
}
