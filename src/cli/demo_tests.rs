//! The start of the demo up to the gateway.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::atomic::{AtomicU16, Ordering};

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: DemoArgs,
}

fn parse(flags: &[&str]) -> Result<DemoArgs, clap::Error> {
    let words = std::iter::once(&"demo").chain(flags);
    Line::try_parse_from(words).map(|line| line.args)
}

/// Six free ports below the range from which the system serves port 0, so that no other test is given them.
fn free_ports() -> DemoArgs {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let of_process = u16::try_from(std::process::id() % 100).unwrap() * 120;
    loop {
        let first = 20_000 + of_process + TAKEN.fetch_add(6, Ordering::Relaxed) % 120;
        if (first..first + 6).all(|port| TcpListener::bind(loopback(port)).is_ok()) {
            return DemoArgs {
                gateway_port: first,
                admin_port: first + 1,
                issuer_port: first + 2,
                service_port: first + 3,
            };
        }
    }
}

#[test]
fn flags_default_to_the_documented_ports() {
    let args = parse(&[]).unwrap();
    let ports = Ports {
        gateway: 8072,
        admin: 9072,
        issuer: 8180,
        services: 8081,
    };
    assert_eq!(args.ports(), ports);
    let args = parse(&["--service-port", "9001", "--issuer-port", "9100"]).unwrap();
    assert_eq!((args.service_port, args.issuer_port), (9001, 9100));
    assert!(parse(&["--gateway-port", "0"]).is_err());
    assert!(parse(&["--service-port", "65534"]).is_err());
    assert!(parse(&["--service-port", "65533"]).is_ok());
}

#[test]
fn a_taken_port_names_itself_its_purpose_and_its_flag() {
    let args = free_ports();
    for (port, purpose, flag) in [
        (args.gateway_port, "the gateway", "--gateway-port"),
        (args.admin_port, "the admin listener", "--admin-port"),
        (args.issuer_port, "the issuer", "--issuer-port"),
        (args.service_port, "the service accounts", "--service-port"),
        (args.service_port + 1, "the service loans", "--service-port"),
        (args.service_port + 2, "the service cards", "--service-port"),
    ] {
        let _taken = TcpListener::bind(loopback(port)).unwrap();
        let why = start(&args).err().unwrap();
        let expected = format!("port {port} for {purpose} is taken; choose another with {flag}");
        assert_eq!(why, expected);
    }
}

#[test]
fn one_port_cannot_serve_two() {
    let mut args = free_ports();
    args.admin_port = args.service_port + 1;
    let why = start(&args).err().unwrap();
    assert!(
        why.contains("the admin listener and the service loans"),
        "{why}"
    );
    assert!(why.contains("--admin-port or --service-port"), "{why}");
}

#[test]
fn issuer_and_services_start_on_the_given_ports() {
    let args = free_ports();
    let (issuer, services) = start(&args).unwrap();
    let url = format!("http://127.0.0.1:{}/realms/eazybank", args.issuer_port);
    assert_eq!(issuer.url(), url);
    let cards = services.get("cards").address();
    assert_eq!(cards, loopback(args.service_port + 2));
    drop((issuer, services));
    // All ports are free again.
    start(&args).unwrap();
}

#[test]
fn readiness_is_read_from_the_admin_listener() {
    let listener = TcpListener::bind(loopback(0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let answering = std::thread::spawn(move || {
        for status in ["503 Service Unavailable", "200 OK"] {
            let (mut stream, _) = listener.accept().unwrap();
            // To the last byte: closing with some unread would reset the connection.
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            assert!(request.starts_with(b"GET /readyz HTTP/1.1\r\n"));
            // In one piece: the caller hangs up when it has the status.
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    assert_eq!(readyz(port).unwrap(), 503);
    assert_eq!(readyz(port).unwrap(), 200);
    answering.join().unwrap();
    assert!(readyz(port).is_err());
}
