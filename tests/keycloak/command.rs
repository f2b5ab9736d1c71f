//! `portcullis token` against the real token endpoint.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use crate::World;
use crate::gateway::{BINARY, SECRETS, read};
use crate::say::say;

pub fn token(world: &World) {
    let got = run(world, "demo-only-callcenter-cc\n", "accounts:read");
    assert_eq!(got.status.code(), Some(0), "{got:?}");
    let token = String::from_utf8(got.stdout).unwrap();
    let token = token.strip_suffix('\n').unwrap();
    assert!(!token.contains(char::is_whitespace), "{token:?}");
    assert_eq!(got.stderr, b"", "nothing but the token");
    world
        .gateway
        .passes("a bare token", read("accounts"), token);

    let error = "unauthorized_client: Invalid client or Invalid client credentials";
    refused(world, "wrong", "accounts:read", error);
    let error = "invalid_scope: Invalid scopes: nothing:here";
    refused(world, "demo-only-callcenter-cc", "nothing:here", error);
}

fn refused(world: &World, secret: &str, scope: &str, error: &str) {
    let got = run(world, secret, scope);
    assert_eq!(got.status.code(), Some(1), "{got:?}");
    assert_eq!(got.stdout, b"");
    let told = String::from_utf8(got.stderr).unwrap();
    assert!(told.contains(error), "{told}");
    assert!(!told.contains(secret), "{told}");
    say!("exit 1: {}", told.trim_end());
}

/// The secret goes in by standard input, which no other process can read.
fn run(world: &World, secret: &str, scope: &str) -> Output {
    let mut process = Command::new(BINARY)
        .args(["token", "--client", "eazybank-callcenter-cc"])
        .args(["--scope", scope])
        .arg("--config")
        .arg(world.gateway.config())
        .envs(SECRETS)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = process.stdin.take().unwrap();
    stdin.write_all(secret.as_bytes()).unwrap();
    drop(stdin);
    process.wait_with_output().unwrap()
}
