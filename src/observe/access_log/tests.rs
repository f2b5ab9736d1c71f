use std::net::{IpAddr, Ipv4Addr};
use std::sync::mpsc;

use serde_json::{Value, json};

use super::*;
use crate::testkit::Page;

fn lines(page: &Page) -> Vec<Value> {
    let text = page.text();
    assert!(text.is_empty() || text.ends_with('\n'));
    let lines = text.lines();
    lines.map(|l| serde_json::from_str(l).unwrap()).collect()
}

const RECORD: AccessRecord<'static> = AccessRecord {
    unix_millis: 1_795_451_384_042,
    request_id: "r-1",
    trace_id: "4bf92f3577b34da6a3ce929d0e0e4736",
    route: Some("accounts-read"),
    method: "GET",
    path: Some("/eazybank/accounts/1"),
    status: 200,
    reason: None,
    source: Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))),
    certificate: None,
    client: Some("callcenter"),
    issuer: Some("keycloak"),
    proof: Some("local"),
    upstream: Some("accounts"),
    peer: Some(SocketAddr::new(
        IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
        8080,
    )),
    bytes_in: 0,
    bytes_out: 512,
    duration: Duration::from_micros(12_345),
    upstream_duration: Some(Duration::from_micros(11_007)),
    grpc_status: None,
};

#[test]
fn a_record_is_one_json_line_with_every_member() {
    let page = Page::default();
    let log = AccessLog::new(true, Box::new(page.clone()));
    log.write(|| RECORD);
    log.close();
    let expected = json!({
        "time": "2026-11-23T16:29:44.042Z",
        "request_id": "r-1",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "route": "accounts-read",
        "method": "GET",
        "path": "/eazybank/accounts/1",
        "status": 200,
        "reason": null,
        "source": "192.0.2.1",
        "client": "callcenter",
        "issuer": "keycloak",
        "proof": "local",
        "upstream": "accounts",
        "peer": "10.0.0.1:8080",
        "bytes_in": 0,
        "bytes_out": 512,
        "duration_ms": 12.345,
        "upstream_ms": 11.007,
    });
    assert_eq!(lines(&page), [expected]);
}

#[test]
fn a_certificate_is_named_where_there_is_one() {
    let page = Page::default();
    let log = AccessLog::new(true, Box::new(page.clone()));
    log.write(|| AccessRecord {
        certificate: Some(("CN=\"loans\"", &[0xab; 32])),
        ..RECORD
    });
    log.close();
    let line = &lines(&page)[0];
    assert_eq!(line["cert_subject"], "CN=\"loans\"");
    assert_eq!(line["cert_sha256"], "ab".repeat(32));
}

#[test]
fn a_call_of_grpc_has_a_member_more() {
    let page = Page::default();
    let log = AccessLog::new(true, Box::new(page.clone()));
    log.write(|| AccessRecord {
        grpc_status: Some(14),
        ..RECORD
    });
    log.write(|| RECORD);
    log.close();
    assert_eq!(lines(&page)[0]["grpc_status"], 14);
    assert_eq!(lines(&page)[1].get("grpc_status"), None);
}

#[test]
fn hostile_values_stay_values() {
    let page = Page::default();
    let log = AccessLog::new(true, Box::new(page.clone()));
    let hostile = "a\"b\\c\nd\re\tf\0g\x1b[2J\u{7f}\u{9b}h\u{2028}ü€😀\"}";
    let record = AccessRecord {
        path: Some(hostile),
        client: Some(hostile),
        method: hostile,
        upstream_duration: None,
        ..RECORD
    };
    log.write(|| record);
    log.close();
    let lines = lines(&page);
    assert_eq!(lines.len(), 1);
    for member in ["path", "client", "method"] {
        assert_eq!(lines[0][member], hostile);
    }
    assert!(lines[0]["upstream_ms"].is_null());
    let raw = page.text();
    assert!(!raw.trim_end().chars().any(char::is_control));
}

#[test]
fn a_token_in_the_path_and_a_long_path_are_cut() {
    let page = Page::default();
    let log = AccessLog::new(true, Box::new(page.clone()));
    let path = format!(
        "/a/eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.AAAA/{}",
        "ü".repeat(2000)
    );
    let record = AccessRecord {
        path: Some(&path),
        request_id: "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.AAAA",
        ..RECORD
    };
    log.write(|| record);
    log.close();
    let line = &lines(&page)[0];
    assert_eq!(line["request_id"], "***");
    let path = line["path"].as_str().unwrap();
    assert!(path.len() <= PATH && !path.contains("eyJ"), "{path}");
}

#[test]
fn off_makes_no_record_and_no_thread() {
    let log = AccessLog::new(false, Box::new(Page::default()));
    log.write(|| panic!("not wanted"));
    assert!(log.queue.get().is_none());
    log.close();
}

#[test]
fn it_can_be_switched_while_it_lives() {
    let page = Page::default();
    let log = AccessLog::new(false, Box::new(page.clone()));
    log.write(|| panic!("not wanted"));
    log.switch(true);
    log.write(|| RECORD);
    log.switch(false);
    log.write(|| panic!("not wanted"));
    log.close();
    assert_eq!(lines(&page).len(), 1);
}

/// Does not write before it is told to.
struct Stuck(mpsc::Receiver<()>, Page);

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let _ = self.0.recv();
        self.1.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_stuck_reader_costs_lines_not_time() {
    let page = Page::default();
    let (release, held) = mpsc::channel();
    let log = AccessLog::new(true, Box::new(Stuck(held, page.clone())));
    let asked = QUEUE as u64 * 3;
    (0..asked).for_each(|_| log.write(|| RECORD));
    let dropped = log.dropped();
    assert!(dropped > 0 && dropped < asked, "{dropped}");
    drop(release);
    log.close();
    assert_eq!(lines(&page).len() as u64 + log.dropped(), asked);
    log.write(|| RECORD);
    assert_eq!(log.dropped(), dropped + 1);
}

#[test]
fn an_output_that_takes_nothing_does_not_keep_the_process() {
    let (release, held) = mpsc::channel();
    let log = AccessLog::new(true, Box::new(Stuck(held, Page::default())));
    log.write(|| RECORD);
    log.close();
    drop(release);
}

struct Broken;

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_broken_output_is_counted_and_harmless() {
    let log = AccessLog::new(true, Box::new(Broken));
    (0..10).for_each(|_| log.write(|| RECORD));
    log.close();
    assert_eq!(log.dropped(), 10);
}

#[test]
fn many_threads_never_mix_their_lines() {
    let page = Page::default();
    let log = AccessLog::new(true, Box::new(page.clone()));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..500).for_each(|_| log.write(|| RECORD)));
        }
    });
    log.close();
    assert_eq!(lines(&page).len() + log.dropped() as usize, 4000);
}
