//! What a caller gets: each line of the contract's section 4.

mod peers;
mod requests;
mod tokens;

use std::io::Write;

use portcullis::demo::issuer::{Endpoint, Fault, Issuer, IssuerOptions};
use portcullis::demo::mint::{ClaimsEdit, Signer};

use crate::support::{Answer, Closed, Connection, Gateway, Origin, Setup, eventually, get};

const READER: &str = "eazybank-accounts-reader-cc";

fn issuer() -> Issuer {
    Issuer::start_blocking(IssuerOptions::default()).unwrap()
}

fn reader_route() -> &'static str {
    "[{ name: accounts, match: { path: /accounts, methods: [GET, POST] }, upstream: origin,
        access: { scopes: ['accounts:read'] } },
      { name: open, match: { path: /open }, upstream: origin, access: public }]"
}

fn start(issuer: &Issuer, origin: &Origin) -> Gateway {
    Setup::new(issuer, origin.address())
        .routes(reader_route())
        .start()
}

/// The shape that all rejections share; returns the `detail`.
fn problem(answer: &Answer, status: u16) -> String {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json")
    );
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let body = answer.json();
    let members: Vec<&String> = body.as_object().unwrap().keys().collect();
    assert_eq!(members, ["type", "title", "status", "detail", "request_id"]);
    assert_eq!(body["status"], status);
    assert_eq!(body["request_id"], answer.header("x-request-id").unwrap());
    body["detail"].as_str().unwrap().to_owned()
}
