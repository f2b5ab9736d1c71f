//! `Expect: 100-continue`, and other answers before the answer.

use super::*;

const EXPECTS: &str =
    "POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";

#[test]
fn a_continue_is_relayed_before_the_body() {
    let wire = Wire::start();
    let gateway = before(&wire);
    let mut client = Connection::open(gateway.address());
    client.send(EXPECTS);
    let mut upstream = wire.accept();
    let head = upstream.head().to_ascii_lowercase();
    assert!(head.contains("\r\nexpect: 100-continue\r\n"), "{head}");
    upstream.send("HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(client.answer().status, 100);
    client.send("hello");
    assert_eq!(upstream.exactly(5), b"hello");
    upstream.send(HELLO);
    assert_eq!(client.answer().status, 200);
}

#[test]
fn an_upstream_may_go_on_and_fail() {
    let wire = Wire::start();
    let gateway = before(&wire);
    let (mut client, mut upstream) = asked(&gateway, &wire, EXPECTS);
    upstream.send("HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(client.answer().status, 100);
    drop(upstream);
    assert_eq!(client.answer().status, 502);
    assert_eq!(gateway.access_log(1)[0]["status"], 502);
}

#[test]
fn an_upstream_may_refuse_an_expectation() {
    let wire = Wire::start();
    let gateway = before(&wire);
    let (mut client, mut upstream) = asked(&gateway, &wire, EXPECTS);
    upstream.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno");
    let answer = client.answer();
    assert_eq!((answer.status, answer.text()), (413, "no"));
}

#[test]
fn a_rejection_answers_an_expectation_before_the_body() {
    let wire = Wire::start();
    let gateway = before(&wire);
    let mut client = Connection::open(gateway.address());
    let answer = client
        .send(
            "POST /closed HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
        )
        .answer();
    assert_eq!(answer.status, 401);
    assert!(answer.header("www-authenticate").is_some());
    // The body may come or not: only a closed connection leaves no doubt.
    assert!(client.is_closed());
    assert!(!wire.is_wanted());
}

#[test]
fn interim_responses_are_relayed() {
    let wire = Wire::start();
    let gateway = before(&wire);
    let (mut client, mut upstream) =
        asked(&gateway, &wire, "GET /open HTTP/1.1\r\nHost: a\r\n\r\n");
    upstream.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n");
    let hints = client.answer();
    assert_eq!(hints.status, 103);
    assert_eq!(hints.header("link"), Some("</a.css>; rel=preload"));
    upstream.send(HELLO);
    let answer = client.answer();
    assert_eq!((answer.status, answer.text()), (200, "hello"));
}
