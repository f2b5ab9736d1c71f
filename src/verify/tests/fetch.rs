//! The other end of the wire: slow, endless, elsewhere, or somebody else.

use std::path::PathBuf;
use std::time::Duration;

use tokio::net::TcpListener;

use super::super::fetch::{FetchFault, source};
use super::mint::rsa2048;
use super::server::{Does, Server};
use super::{ISSUER, NOW, issuer, jwks};
use crate::clock::Clock;
use crate::config::plan::{IssuerId, IssuerPlan, KeysFrom};
use crate::observe::metrics::Metrics;
use crate::verify::Verifier;

pub(super) const SET: &str = r#"{"keys":[]}"#;

fn ok(body: &str) -> Does {
    Does::Say(200, "content-type: application/json\r\n", body.to_owned())
}

pub(super) fn from(keys_from: KeysFrom) -> IssuerPlan {
    let mut plan = issuer();
    plan.keys_from = keys_from;
    plan
}

pub(super) async fn get(plan: &IssuerPlan) -> Result<String, FetchFault> {
    let source = source(plan, &Clock::manual(NOW)).expect("a source");
    let document = source.document().await?;
    Ok(String::from_utf8(document).expect("UTF-8"))
}

/// The text of a failure, which must be of this sort.
pub(super) async fn failed(plan: &IssuerPlan) -> String {
    match get(plan).await {
        Err(FetchFault::Failed(text) | FetchFault::Status(_, text)) => text,
        other => panic!("{other:?}"),
    }
}

async fn invalid(plan: &IssuerPlan) -> String {
    match get(plan).await {
        Err(FetchFault::Invalid(text)) => text,
        other => panic!("{other:?}"),
    }
}

fn discovery(issuer: &str, jwks_uri: &str) -> Does {
    ok(&serde_json::json!({"issuer": issuer, "jwks_uri": jwks_uri}).to_string())
}

#[tokio::test]
async fn a_plain_answer_is_read() {
    let server = Server::new().await;
    let chunked =
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nb\r\n{\"keys\":[]}\r\n0\r\n\r\n";
    server
        .on("/a", ok(SET))
        .on("/b", Does::Raw(chunked.to_vec()));
    for path in ["/a", "/b"] {
        assert_eq!(
            get(&from(KeysFrom::Url(server.url(path)))).await.as_deref(),
            Ok(SET)
        );
    }
    // Nothing compressed is asked for, and nothing says who asks what for.
    let head = server.seen()[0].to_ascii_lowercase();
    assert!(!head.contains("accept-encoding"), "{head}");
    assert!(head.contains("accept: application/json"), "{head}");
}

#[tokio::test]
async fn anything_but_a_whole_200_of_bounded_size_is_a_failure() {
    let server = Server::new().await;
    let large = format!("{{\"keys\":[]{}}}", " ".repeat(256 * 1024));
    let redirect = "location: /good\r\n";
    let truncated = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"keys\":[";
    let cut_chunk = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nb\r\n{\"keys\"";
    let gzip = Does::Say(200, "content-encoding: gzip\r\n", SET.to_owned());
    let lying = b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n{";
    server.on("/good", ok(SET));
    for (what, does, says) in [
        (
            "301",
            Does::Say(301, redirect, String::new()),
            "redirects are not followed",
        ),
        (
            "302",
            Does::Say(302, redirect, String::new()),
            "redirects are not followed",
        ),
        (
            "307",
            Does::Say(307, redirect, String::new()),
            "redirects are not followed",
        ),
        ("304", Does::Say(304, "", String::new()), "304"),
        ("404", Does::Say(404, "", SET.to_owned()), "404"),
        ("500", Does::Say(500, "", SET.to_owned()), "500"),
        ("503", Does::Say(503, "", "busy".to_owned()), "503"),
        ("203", Does::Say(203, "", SET.to_owned()), "203"),
        ("large", ok(&large), "more than 262144 bytes"),
        ("endless", Does::Endless, "more than 262144 bytes"),
        (
            "lying length",
            Does::Raw(lying.to_vec()),
            "more than 262144 bytes",
        ),
        ("truncated", Does::Raw(truncated.to_vec()), ""),
        ("cut chunk", Does::Raw(cut_chunk.to_vec()), ""),
        ("gzip", gzip, "compressed"),
        ("no HTTP", Does::Raw(b"SSH-2.0-OpenSSH\r\n".to_vec()), ""),
        ("silence", Does::Raw(Vec::new()), ""),
    ] {
        server.on("/x", does);
        let text = failed(&from(KeysFrom::Url(server.url("/x")))).await;
        assert!(text.contains(says), "{what}: {text}");
        assert!(text.contains("/x"), "{what}: {text}");
    }
    assert!(!server.paths().contains(&"/good".to_owned()));
}

#[tokio::test]
async fn the_deadline_is_on_the_whole() {
    let server = Server::new().await;
    server.on("/hang", Does::Hang).on("/stall", Does::Stall);
    server.on("/discovery", discovery(ISSUER, &server.url("/hang")));
    for plan in [
        KeysFrom::Url(server.url("/hang")),
        KeysFrom::Url(server.url("/stall")),
        KeysFrom::Discovery(server.url("/discovery")),
    ] {
        let mut plan = from(plan);
        plan.keys.timeout = Duration::from_millis(100);
        failed(&plan).await;
    }
}

#[tokio::test]
async fn a_refused_connection_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let text = failed(&from(KeysFrom::Url(format!("http://{address}/certs")))).await;
    assert!(text.to_lowercase().contains("refused"), "{text}");
}

#[tokio::test]
async fn discovery_leads_to_the_keys_of_exactly_our_issuer() {
    let server = Server::new().await;
    server.on("/certs", ok(SET));
    server.on("/d", discovery(ISSUER, &server.url("/certs")));
    let plan = from(KeysFrom::Discovery(server.url("/d")));
    assert_eq!(get(&plan).await.as_deref(), Ok(SET));

    for theirs in [
        format!("{ISSUER}/"),
        ISSUER.to_uppercase(),
        "http://localhost:8180/realms/eazybank".to_owned(),
    ] {
        server.on("/d", discovery(&theirs, &server.url("/certs")));
        let text = invalid(&plan).await;
        assert!(text.contains(&format!("{theirs:?}")), "{text}");
        assert!(text.contains(&format!("{ISSUER:?}")), "{text}");
        assert!(text.contains("issuers.keycloak.issuer"), "{text}");
    }
    for (document, says) in [
        ("<html>", "not a JSON object"),
        ("[]", "not a JSON object"),
        ("{}", "no `issuer`"),
        (
            r#"{"issuer":["https://sso.example.com/realms/eazybank"]}"#,
            "no `issuer`",
        ),
        (
            r#"{"issuer":"https://sso.example.com/realms/eazybank"}"#,
            "no `jwks_uri`",
        ),
        (
            r#"{"issuer":"https://sso.example.com/realms/eazybank","jwks_uri":7}"#,
            "no `jwks_uri`",
        ),
    ] {
        server.on("/d", ok(document));
        let text = invalid(&plan).await;
        assert!(text.contains(says), "{document}: {text}");
    }
}

#[tokio::test]
async fn discovery_leads_nowhere_that_the_configuration_could_not_name() {
    let server = Server::new().await;
    let mut plan = from(KeysFrom::Discovery(server.url("/d")));
    for uri in [
        "http://192.0.2.1/certs",
        "http://localhost.evil.example/certs",
        "http://169.254.169.254/latest",
        "http://127.0.0.1.evil.example/",
        "http://user@192.0.2.1/",
        "file:///etc/passwd",
        "ftp://127.0.0.1/certs",
        "data:application/json,{}",
    ] {
        server.on("/d", discovery(ISSUER, uri));
        let text = invalid(&plan).await;
        assert!(text.contains("insecure"), "{uri}: {text}");
    }
    server.on("/d", discovery(ISSUER, "certs"));
    assert!(invalid(&plan).await.contains("certs"));
    // Allowed by `insecure`, it is tried: 192.0.2.0/24 leads nowhere (RFC 5737).
    plan.insecure = true;
    plan.keys.timeout = Duration::from_millis(50);
    server.on("/d", discovery(ISSUER, "http://192.0.2.1/certs"));
    failed(&plan).await;
}

#[tokio::test]
async fn discovery_is_remembered_until_it_stops_working() {
    let server = Server::new().await;
    server.on("/old", ok(SET)).on("/new", ok(r#"{"keys":[1]}"#));
    server.on("/d", discovery(ISSUER, &server.url("/old")));
    let plan = from(KeysFrom::Discovery(server.url("/d")));
    let source = source(&plan, &Clock::manual(NOW)).expect("a source");
    source.document().await.expect("keys");
    source.document().await.expect("keys");
    assert_eq!(server.paths(), ["/d", "/old", "/old"]);
    // The keys have moved: found within the same fetch.
    server.on("/old", Does::Say(404, "", String::new()));
    server.on("/d", discovery(ISSUER, &server.url("/new")));
    assert_eq!(source.document().await.expect("keys"), br#"{"keys":[1]}"#);
    assert_eq!(server.paths()[3..], ["/old", "/d", "/new"]);
    // They have not moved, they are down: not asked for twice.
    server.on("/new", Does::Say(500, "", String::new()));
    source.document().await.expect_err("down");
    assert_eq!(server.paths()[6..], ["/new", "/d"]);
}

/// Past bug: the keys had moved, the old address still had the old ones, and tokens on new keys were refused for ever.
#[tokio::test]
async fn discovery_is_asked_again_now_and_then_though_the_old_address_works() {
    let server = Server::new().await;
    server.on("/old", ok(SET)).on("/new", ok(r#"{"keys":[1]}"#));
    server.on("/d", discovery(ISSUER, &server.url("/old")));
    let mut plan = from(KeysFrom::Discovery(server.url("/d")));
    plan.keys.timeout = Duration::from_secs(1);
    let clock = Clock::manual(NOW);
    let source = source(&plan, &clock).expect("a source");
    source.document().await.expect("keys");
    // One that is not there does not take the keys away, and one that says nothing neither.
    clock.advance(plan.keys.refresh / 2);
    for gone in [Does::Say(502, "", String::new()), Does::Hang] {
        server.on("/d", gone);
        source.document().await.expect("keys");
    }
    assert_eq!(server.paths(), ["/d", "/old", "/d", "/old", "/d", "/old"]);
    server.on("/d", discovery(ISSUER, &server.url("/new")));
    assert_eq!(source.document().await.expect("keys"), br#"{"keys":[1]}"#);
    source.document().await.expect("keys");
    assert_eq!(server.paths()[6..], ["/d", "/new", "/new"]);
    // Nor does another issuer's say where ours has them.
    clock.advance(plan.keys.refresh / 2);
    server.on("/d", discovery("https://evil.example", &server.url("/old")));
    let fault = source.document().await.expect_err("another issuer");
    assert!(matches!(fault, FetchFault::Invalid(_)), "{fault:?}");
}

#[tokio::test]
async fn discovery_is_asked_again_after_an_answer_that_was_no_key_set() {
    let server = Server::new().await;
    server.on("/certs", ok("<html>Sign in</html>"));
    server.on("/d", discovery(ISSUER, &server.url("/certs")));
    let plan = from(KeysFrom::Discovery(server.url("/d")));
    let sources = vec![source(&plan, &Clock::system()).expect("a source")];
    let plan = super::plan(vec![plan]);
    let metrics = Metrics::new(&plan).expect("metrics");
    let verifier = Verifier::with_sources(&plan, Clock::system(), metrics, sources);
    let verifier = verifier.expect("a verifier");
    assert!(!verifier.refresh(IssuerId(0)).await);
    // It was another's address; the right one is said now.
    let set = jwks(&[rsa2048().jwk("k1")]);
    server.on("/keys", ok(std::str::from_utf8(&set).expect("UTF-8")));
    server.on("/d", discovery(ISSUER, &server.url("/keys")));
    assert!(verifier.refresh(IssuerId(0)).await);
    assert_eq!(server.paths(), ["/d", "/certs", "/d", "/keys"]);
}

#[tokio::test]
async fn what_a_document_says_is_not_repeated_at_length() {
    let server = Server::new().await;
    let plan = from(KeysFrom::Discovery(server.url("/d")));
    let long = "ü".repeat(100_000);
    server.on("/d", discovery(&long, &server.url("/certs")));
    let text = invalid(&plan).await;
    assert!(text.contains("üü") && text.len() < 2000, "{}", text.len());
    server.on("/d", discovery(ISSUER, &server.url(&format!("/{long}"))));
    let text = invalid(&plan).await;
    assert!(text.contains("more than 1024 bytes"), "{}", text.len());
}

pub(super) fn scratch(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("portcullis-verify-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory");
    dir.join(name)
}

#[tokio::test]
async fn a_file_is_read_each_time_and_bounded_too() {
    let path = scratch("jwks.json");
    let plan = from(KeysFrom::File(path.clone()));
    let text = failed(&from(KeysFrom::File(scratch("absent.json")))).await;
    assert!(text.contains("absent.json"), "{text}");
    std::fs::write(&path, SET).expect("written");
    assert_eq!(get(&plan).await.as_deref(), Ok(SET));
    std::fs::write(&path, "[]").expect("written");
    assert_eq!(get(&plan).await.as_deref(), Ok("[]"));
    std::fs::write(&path, " ".repeat(256 * 1024 + 1)).expect("written");
    assert!(failed(&plan).await.contains("more than"));
}

#[tokio::test]
async fn a_ca_that_is_none_is_said_before_the_start() {
    let mut plan = from(KeysFrom::Url("https://127.0.0.1:1/certs".to_owned()));
    for (name, content) in [
        ("absent.pem", None),
        ("empty.pem", Some("")),
        ("text.pem", Some("hello")),
    ] {
        let path = scratch(name);
        if let Some(content) = content {
            std::fs::write(&path, content).expect("written");
        }
        plan.ca = Some(path);
        let problem = source(&plan, &Clock::manual(NOW)).err().expect("a problem");
        assert!(
            problem.contains("issuers.keycloak.ca") && problem.contains(name),
            "{problem}"
        );
    }
}
