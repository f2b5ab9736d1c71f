//! `portcullis demo` as a stranger meets it: the real binary, the printed lines, a real `sh` and `curl`.

use std::net::TcpListener;
use std::process::Command;

use crate::support::{Demo, demo_command, free_ports, get, loopback, run};

fn sh(script: &str) -> Vec<String> {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    let finished = run(command, "");
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert_eq!(finished.stderr, "", "{script}");
    finished.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn the_printed_lines_work_as_they_are() {
    let mut demo = Demo::start();
    let banner = demo.banner().unwrap();
    // Pasted as a whole.
    assert_eq!(sh(&banner), ["200", "200", "200", "401", "403"]);
    // And line by line, by `sh` as an interactive shell reads them: from its standard input.
    let mut shell = Command::new("sh");
    shell.arg("-s");
    let finished = run(shell, &banner);
    assert_eq!((finished.code, &*finished.stderr), (Some(0), ""));
    assert_eq!(finished.stdout, "200\n200\n200\n401\n403\n");

    assert_eq!(get(loopback(demo.admin), "/readyz", None).status, 200);
    demo.process.signal("INT");
    assert_eq!(demo.process.exit(), Some(0));
    for port in [demo.gateway, demo.admin, demo.issuer, demo.services] {
        TcpListener::bind(loopback(port)).unwrap();
    }
    // After the lines there is nothing on standard output but the access log.
    let stdout = demo.process.stdout();
    let rest = stdout.strip_prefix(&banner).unwrap();
    assert_eq!(rest.lines().count(), 10, "{rest}");
    assert!(rest.lines().all(|line| line.starts_with('{')), "{rest}");
}

#[test]
fn sigterm_ends_it_too() {
    let mut demo = Demo::start();
    demo.process.signal("TERM");
    assert_eq!(demo.process.exit(), Some(0));
}

#[test]
fn a_taken_port_names_itself_and_its_flag() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap().port();
    let free = || free_ports(1);
    let services = free_ports(3);
    for (command, flag) in [
        (
            demo_command(taken, free(), free(), services),
            "--gateway-port",
        ),
        (
            demo_command(free(), taken, free(), services),
            "--admin-port",
        ),
        (
            demo_command(free(), free(), taken, services),
            "--issuer-port",
        ),
        (
            demo_command(free(), free(), free(), taken),
            "--service-port",
        ),
        // The port of cards.
        (
            demo_command(free(), free(), free(), taken - 2),
            "--service-port",
        ),
    ] {
        let finished = run(command, "");
        assert_eq!((finished.code, &*finished.stdout), (Some(1), ""));
        assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
        assert!(finished.stderr.contains(flag), "{}", finished.stderr);
        assert!(finished.stderr.contains("is taken"), "{}", finished.stderr);
        if flag != "--service-port" {
            assert!(finished.stderr.contains(&taken.to_string()));
        }
    }
}

#[test]
fn two_flags_with_one_port_are_a_clear_error() {
    let port = free_ports(1);
    let finished = run(demo_command(port, port, free_ports(1), free_ports(3)), "");
    assert_eq!(finished.code, Some(1));
    for text in ["--gateway-port", "--admin-port", &port.to_string()] {
        assert!(finished.stderr.contains(text), "{}", finished.stderr);
    }
}
