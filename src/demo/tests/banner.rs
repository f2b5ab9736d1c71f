//! The printed lines, and that `sh` runs them as they are.

use super::*;
use crate::demo::banner::{Ports, banner};
use crate::demo::services::Service;

#[test]
fn the_lines_name_the_given_ports() {
    let text = banner(Ports {
        gateway: 18072,
        admin: 19072,
        issuer: 18180,
        services: 18081,
    });
    let commands: Vec<&str> = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    let token = |variable: &str, client: &str, scope: &str| {
        format!(
            "{variable}=$(curl -s http://127.0.0.1:18180/realms/eazybank/protocol/openid-connect/token \
             -u eazybank-{client}:demo-only-{client} -d grant_type=client_credentials -d 'scope={scope}' \
             | sed 's/.*\"access_token\":\"\\([^\"]*\\)\".*/\\1/')"
        )
    };
    let call = |service: &str, credential: &str| {
        format!(
            "curl -s -o /dev/null -w '%{{http_code}}\\n' {credential}http://127.0.0.1:18072/eazybank/{service}/api/fetch"
        )
    };
    let with = |variable: &str| format!("-H \"Authorization: Bearer ${variable}\" ");
    assert_eq!(
        commands,
        [
            token(
                "TOKEN",
                "callcenter-cc",
                "accounts:read loans:read cards:read"
            ),
            call("accounts", &with("TOKEN")),
            call("loans", &with("TOKEN")),
            call("cards", &with("TOKEN")),
            call("accounts", ""),
            token("READER", "accounts-reader-cc", "accounts:read"),
            call("loans", &with("READER")),
        ]
    );
    for address in [
        "127.0.0.1:18072",
        "127.0.0.1:19072",
        "127.0.0.1:18081-18083",
    ] {
        assert!(text.contains(address), "{address}");
    }
}

/// An echo service stands in for the gateway: it answers 404 to its paths, and tells whether a token came.
#[tokio::test]
async fn sh_runs_the_lines_as_they_are() {
    let issuer = issuer().await;
    let gateway = Service::start("accounts", 0).unwrap();
    let text = banner(Ports {
        gateway: gateway.address().port(),
        admin: 1,
        issuer: issuer.address().port(),
        services: 1,
    });
    let script = format!("{text}\necho \"$TOKEN\"\necho \"$READER\"\n");
    // Issuer and service have threads of their own: this one may wait.
    let output = std::process::Command::new("sh")
        .arg("-c")
        .arg(&script)
        .output();
    let output = output.unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(&lines[..5], ["404"; 5]);
    assert_eq!(claims(lines[5])["azp"], CALLCENTER);
    assert_eq!(claims(lines[6])["azp"], READER);
    assert!(verifies(&issuer.jwks(), lines[6]));
    assert_eq!(gateway.requests(), 5);
}
