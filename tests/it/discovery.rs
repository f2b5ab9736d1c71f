//! Peers that a name server names: who they are, how long that holds, and what is believed when it does not answer.

use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{RData, RecordType};
use portcullis::clock::Clock;
use portcullis::demo::issuer::{Issuer, IssuerOptions};

use crate::support::{
    Closed, Connection, Gateway, NameServer, Origin, Received, Reply, Setup, alias, eventually,
    get, record,
};

const NAME: &str = "accounts.internal";

/// Pools, each with the keys that are given and a route of its name.
fn start(names: &NameServer, pools: &[(&str, String)], clock: Clock) -> Gateway {
    let issuer = Issuer::start_blocking(IssuerOptions::default()).unwrap();
    let server = names.address();
    let upstream =
        |(pool, keys): &(&str, String)| format!("{pool}: {{ resolver: '{server}', {keys} }}");
    let upstreams: Vec<String> = pools.iter().map(upstream).collect();
    let route = |(pool, _): &(&str, String)| {
        format!("{{ name: {pool}, match: {{ path: /{pool} }}, upstream: {pool}, access: public }}")
    };
    let routes: Vec<String> = pools.iter().map(route).collect();
    Setup::new(&issuer, ([127, 0, 0, 1], 1).into())
        .upstreams(format!("{{ {} }}", upstreams.join(", ")))
        .routes(format!("[{}]", routes.join(", ")))
        .clock(clock)
        .start_unready()
}

fn one(names: &NameServer, keys: &str) -> Gateway {
    start(names, &[("pool", keys.to_owned())], Clock::system())
}

/// The peers of a pool, in the order in which they are kept.
fn peers(gateway: &Gateway, pool: usize) -> Vec<String> {
    let state = get(gateway.admin(), "/upstreams", None).json();
    let peers = state[pool]["peers"].as_array().unwrap();
    let address = |peer: &serde_json::Value| peer["address"].as_str().unwrap().to_owned();
    peers.iter().map(address).collect()
}

fn v4(address: [u8; 4]) -> RData {
    RData::from(IpAddr::from(address))
}

fn become_peers(gateway: &Gateway, pool: usize, wanted: &[&str]) {
    eventually(&format!("the peers are {wanted:?}"), || {
        peers(gateway, pool) == wanted
    });
}

fn looked_up(gateway: &Gateway, pool: &str, outcome: &str) -> f64 {
    gateway.metric(&format!(
        "portcullis_upstream_lookups_total{{outcome=\"{outcome}\",upstream=\"{pool}\"}}"
    ))
}

fn ask(gateway: &Gateway, pool: &str) -> u16 {
    get(gateway.address(), &format!("/{pool}"), None).status
}

fn hello(_: &Received, stream: &mut TcpStream) {
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
}

/// Sockets on these addresses with one port.
fn on_one_port(addresses: &[&str]) -> Vec<TcpListener> {
    loop {
        let first = TcpListener::bind((addresses[0], 0)).unwrap();
        let port = first.local_addr().unwrap().port();
        let others: Result<Vec<TcpListener>, _> = addresses[1..]
            .iter()
            .map(|address| TcpListener::bind((*address, port)))
            .collect();
        if let Ok(others) = others {
            return std::iter::once(first).chain(others).collect();
        }
    }
}

fn origins(addresses: &[&str]) -> (Vec<Origin>, u16) {
    let sockets = on_one_port(addresses);
    let port = sockets[0].local_addr().unwrap().port();
    let origins = sockets
        .into_iter()
        .map(|socket| Origin::listening(socket, hello));
    (origins.collect(), port)
}

fn served(origins: &[Origin]) -> Vec<usize> {
    origins
        .iter()
        .map(|origin| origin.received().len())
        .collect()
}

#[test]
fn peers_follow_their_name_and_one_that_went_ends_what_it_has() {
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let mut sockets = on_one_port(&["127.0.0.1", "127.0.0.2"]).into_iter();
    let old = Origin::listening(sockets.next().unwrap(), move |request, stream| {
        let _ = held.lock().unwrap().recv();
        hello(request, stream);
    });
    let new = Origin::listening(sockets.next().unwrap(), hello);
    let port = old.address().port();
    let names = NameServer::start();
    // No time at all is a second.
    names.has(NAME, 0, &["127.0.0.1"]);
    let gateway = one(&names, &format!("dns: '{NAME}:{port}'"));
    become_peers(&gateway, 0, &[&format!("127.0.0.1:{port}")]);

    let mut caller = Connection::open(gateway.address());
    caller.send("GET /pool HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the request is at the old peer", || {
        !old.received().is_empty()
    });
    names.has(NAME, 0, &["127.0.0.2"]);
    become_peers(&gateway, 0, &[&format!("127.0.0.2:{port}")]);
    for _ in 0..3 {
        assert_eq!(ask(&gateway, "pool"), 200);
    }
    release.send(()).unwrap();
    assert_eq!(caller.answer().status, 200);
    assert_eq!(served(&[old, new]), [1, 3]);
}

#[test]
fn a_name_is_asked_for_again_when_its_time_ends_and_not_before() {
    let names = NameServer::start();
    for (name, ttl) in [("short.internal", 0), ("long.internal", 300)] {
        names.has(name, ttl, &["127.0.0.1"]);
    }
    let pools = [
        ("short", "dns: 'short.internal:80'".to_owned()),
        ("long", "dns: 'long.internal:80'".to_owned()),
        // A name that is one peer is looked up in the same way.
        ("peer", "peers: ['peer.internal:80']".to_owned()),
    ];
    names.has("peer.internal", 0, &["127.0.0.1"]);
    let _gateway = start(&names, &pools, Clock::system());
    for name in ["short.internal", "peer.internal"] {
        eventually("the short ones are asked for three times", || {
            names.asked(name, RecordType::A) >= 3
        });
    }
    assert_eq!(names.asked("long.internal", RecordType::A), 1);
    assert_eq!(names.asked("long.internal", RecordType::AAAA), 1);
}

/// Each pool has a name that answers at first, and then in a way of its own.
#[test]
fn an_empty_or_failed_answer_keeps_the_last_set() {
    let (origins, port) = origins(&["127.0.0.1"]);
    let names = NameServer::start();
    let code = Reply::Code;
    let cases = [
        ("nxdomain", "empty", code(ResponseCode::NXDomain)),
        ("nodata", "empty", Reply::Records(Vec::new())),
        ("servfail", "failed", code(ResponseCode::ServFail)),
        ("refused", "failed", code(ResponseCode::Refused)),
        ("silent", "failed", Reply::Silent),
    ];
    let pools = cases.each_ref().map(|(pool, ..)| {
        names.has(&format!("{pool}.internal"), 0, &["127.0.0.1"]);
        (*pool, format!("dns: '{pool}.internal:{port}'"))
    });
    let gateway = start(&names, &pools, Clock::system());
    let address = format!("127.0.0.1:{port}");
    for pool in 0..cases.len() {
        become_peers(&gateway, pool, &[&address]);
    }
    for (pool, _, reply) in &cases {
        let name = format!("{pool}.internal");
        names.say(&name, RecordType::A, reply.clone());
        names.say(&name, RecordType::AAAA, reply.clone());
    }
    for (pool, outcome, _) in &cases {
        eventually(&format!("{pool} is heard as {outcome}"), || {
            looked_up(&gateway, pool, outcome) >= 1.0
        });
    }
    for (index, (pool, ..)) in cases.iter().enumerate() {
        assert_eq!(peers(&gateway, index), [address.as_str()], "{pool}");
        assert_eq!(ask(&gateway, pool), 200, "{pool}");
    }
    assert_eq!(served(&origins), [cases.len()]);
}

/// What was not asked for with success is not known to be gone.
#[test]
fn half_an_answer_changes_the_half_that_was_answered() {
    let names = NameServer::start();
    names.has(NAME, 0, &["10.0.0.1", "fd00::1"]);
    let gateway = one(&names, &format!("dns: '{NAME}:80'"));
    become_peers(&gateway, 0, &["10.0.0.1:80", "[fd00::1]:80"]);
    names.say(NAME, RecordType::AAAA, Reply::Code(ResponseCode::ServFail));
    let moved = record(NAME, 0, v4([10, 0, 0, 2]));
    names.say(NAME, RecordType::A, Reply::Records(vec![moved]));
    become_peers(&gateway, 0, &["10.0.0.2:80", "[fd00::1]:80"]);
    names.say(NAME, RecordType::AAAA, Reply::Records(Vec::new()));
    become_peers(&gateway, 0, &["10.0.0.2:80"]);
}

#[test]
fn what_does_not_fit_a_packet_is_asked_for_over_tcp_and_has_a_bound() {
    let names = NameServer::start();
    let address = |number: u16| {
        let [a, b] = number.to_be_bytes();
        record(NAME, 60, v4([10, 1, a, b]))
    };
    let many = (0..1500).map(address).collect();
    names.say(NAME, RecordType::A, Reply::Truncated(many));
    let gateway = one(&names, &format!("dns: '{NAME}:80'"));
    eventually("the peers are there", || peers(&gateway, 0).len() == 1024);
    assert!(names.asked_over_tcp() > 0);
    assert_eq!(peers(&gateway, 0)[0], "10.1.0.0:80");
    let healthy = "portcullis_upstream_peers{state=\"healthy\",upstream=\"pool\"}";
    gateway.counts(healthy, 1024.0);
}

#[test]
fn aliases_are_followed_and_hold_as_long_as_the_shortest_of_them() {
    let names = NameServer::start();
    // The whole chain in one answer, and a link for each question.
    let chain = vec![
        alias("whole.internal", 0, "next.internal"),
        record("next.internal", 300, v4([10, 0, 0, 1])),
    ];
    names.say("whole.internal", RecordType::A, Reply::Records(chain));
    for kind in [RecordType::A, RecordType::AAAA] {
        for (name, target) in [
            ("link.internal", "link2.internal"),
            ("link2.internal", "end.internal"),
        ] {
            names.say(name, kind, Reply::Records(vec![alias(name, 300, target)]));
        }
    }
    names.has("end.internal", 300, &["10.0.0.2"]);
    let endless = vec![alias("loop.internal", 300, "loop.internal")];
    names.say("loop.internal", RecordType::A, Reply::Records(endless));
    let pools = ["whole", "link", "loop"].map(|name| (name, format!("dns: '{name}.internal:80'")));
    let gateway = start(&names, &pools, Clock::system());
    become_peers(&gateway, 0, &["10.0.0.1:80"]);
    become_peers(&gateway, 1, &["10.0.0.2:80"]);
    eventually("the short link is asked for again", || {
        names.asked("whole.internal", RecordType::A) >= 2
    });
    assert_eq!(names.asked("link.internal", RecordType::A), 1);
    eventually("a circle ends", || {
        looked_up(&gateway, "loop", "empty") + looked_up(&gateway, "loop", "failed") >= 1.0
    });
    assert_eq!(ask(&gateway, "loop"), 503);
}

#[test]
fn a_name_with_ipv6_addresses_alone_has_peers() {
    let names = NameServer::start();
    names.has(NAME, 60, &["fd00::2", "fd00::1"]);
    let pools = [
        ("all", format!("dns: '{NAME}:80'")),
        ("one", format!("peers: ['{NAME}:80']")),
    ];
    let gateway = start(&names, &pools, Clock::system());
    become_peers(&gateway, 0, &["[fd00::1]:80", "[fd00::2]:80"]);
    let known = "portcullis_upstream_peers{state=\"healthy\",upstream=\"one\"}";
    gateway.counts(known, 1.0);
}

/// The first is believed whatever the second would say; the second is for when the first does not answer.
#[test]
fn servers_are_asked_in_their_order() {
    let (first, second, gone) = (NameServer::start(), NameServer::start(), Closed::new());
    first.has("first.internal", 60, &["10.0.0.1"]);
    for name in ["first", "second", "silent"] {
        second.has(&format!("{name}.internal"), 60, &["10.0.0.2"]);
    }
    for kind in [RecordType::A, RecordType::AAAA] {
        first.say("silent.internal", kind, Reply::Silent);
    }
    let pool = |name: &str, one: SocketAddr| {
        let two = second.address();
        format!("{name}: {{ dns: '{name}.internal:80', resolver: ['{one}', '{two}'] }}")
    };
    let pools = [
        pool("first", first.address()),
        pool("silent", first.address()),
        // It is unknown to the first server, which says so.
        pool("second", first.address()),
        pool("gone", gone.address()),
    ];
    second.has("gone.internal", 60, &["10.0.0.2"]);
    let routes = ["first", "silent", "second", "gone"].map(|name| {
        format!("{{ name: {name}, match: {{ path: /{name} }}, upstream: {name}, access: public }}")
    });
    let issuer = Issuer::start_blocking(IssuerOptions::default()).unwrap();
    let gateway = Setup::new(&issuer, ([127, 0, 0, 1], 1).into())
        .upstreams(format!("{{ {} }}", pools.join(", ")))
        .routes(format!("[{}]", routes.join(", ")))
        .start_unready();
    become_peers(&gateway, 0, &["10.0.0.1:80"]);
    become_peers(&gateway, 1, &["10.0.0.2:80"]);
    become_peers(&gateway, 3, &["10.0.0.2:80"]);
    eventually("it is heard that there is none", || {
        looked_up(&gateway, "second", "empty") >= 1.0
    });
    assert_eq!(peers(&gateway, 2), [""; 0]);
    assert_eq!(second.asked("second.internal", RecordType::A), 0);
}

/// As the system's resolver has it: the file goes first.
#[test]
fn the_hosts_file_is_asked_before_any_server() {
    let (origins, port) = origins(&["127.0.0.1"]);
    let names = NameServer::start();
    names.has("localhost", 60, &["10.0.0.1"]);
    let gateway = one(&names, &format!("dns: 'localhost:{port}', outlier: {{}}"));
    let address = format!("127.0.0.1:{port}");
    eventually("it is this host", || peers(&gateway, 0).contains(&address));
    assert_eq!(ask(&gateway, "pool"), 200);
    assert_eq!(served(&origins), [1]);
    assert_eq!(names.asked("localhost", RecordType::A), 0);
}

#[test]
fn services_say_ports_weights_and_who_goes_first() {
    let (first, second, spare) = (Origin::start(), Origin::start(), Origin::start());
    let port = |origin: &Origin| origin.address().port();
    let names = NameServer::start();
    let service = "_http._tcp.accounts.internal";
    names.has("one.internal", 60, &["127.0.0.1"]);
    names.serves(
        service,
        0,
        &[
            (20, 1, port(&spare), "one.internal"),
            (10, 300, port(&first), "one.internal"),
            (10, 100, port(&second), "one.internal"),
            (10, 100, 9, "no-such.internal"),
        ],
    );
    let gateway = one(&names, &format!("dns: {service}, balance: random"));
    eventually("the peers are known", || peers(&gateway, 0).len() == 3);
    let state = get(gateway.admin(), "/upstreams", None).json();
    assert_eq!(state[0]["dns"], service);
    let ranks: Vec<(u64, u64)> = state[0]["peers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|peer| {
            (
                peer["priority"].as_u64().unwrap(),
                peer["weight"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        ranks.iter().filter(|(priority, _)| *priority == 10).count(),
        2
    );
    assert!(
        ranks.contains(&(10, 100)) && ranks.contains(&(10, 33)),
        "{ranks:?}"
    );
    for _ in 0..60 {
        assert_eq!(ask(&gateway, "pool"), 200);
    }
    let got = served(&[first, second]);
    assert_eq!((got[0] + got[1], served(&[spare])[0]), (60, 0));
    assert!(got[0] > got[1], "{got:?}");
}

/// A peer that does not take a connection is passed over within the request.
#[test]
fn who_goes_second_has_the_requests_when_the_first_are_gone() {
    let (gone, spare) = (Closed::new(), Origin::start());
    let names = NameServer::start();
    let service = "_http._tcp.accounts.internal";
    names.has("one.internal", 60, &["127.0.0.1"]);
    names.serves(
        service,
        60,
        &[
            (1, 1, gone.address().port(), "one.internal"),
            (2, 1, spare.address().port(), "one.internal"),
        ],
    );
    let gateway = one(&names, &format!("dns: {service}"));
    eventually("the peers are known", || peers(&gateway, 0).len() == 2);
    for _ in 0..3 {
        assert_eq!(ask(&gateway, "pool"), 200);
    }
    assert_eq!(served(&[spare]), [3]);
}

/// RFC 2782: the root as the only target says that the service is decidedly not there.
#[test]
fn a_service_that_is_not_there_has_no_peers() {
    let names = NameServer::start();
    names.serves("_http._tcp.accounts.internal", 60, &[(0, 0, 0, ".")]);
    let gateway = one(&names, "dns: _http._tcp.accounts.internal");
    eventually("it is heard", || {
        looked_up(&gateway, "pool", "empty") >= 1.0
    });
    let ready = get(gateway.admin(), "/readyz", None).json();
    assert_eq!(
        ready["upstreams"][0]["reason"],
        "no address of _http._tcp.accounts.internal is known yet"
    );
    assert_eq!(ask(&gateway, "pool"), 503);
}

#[test]
fn a_peer_that_was_found_later_gets_its_share_little_by_little() {
    let (origins, port) = origins(&["127.0.0.1", "127.0.0.2"]);
    let names = NameServer::start();
    names.has(NAME, 0, &["127.0.0.1"]);
    let clock = Clock::manual(Clock::system().unix());
    let keys = format!("dns: '{NAME}:{port}', slow_start: 30s");
    let gateway = start(&names, &[("pool", keys)], clock.clone());
    let old = format!("127.0.0.1:{port}");
    become_peers(&gateway, 0, &[&old]);
    assert_eq!(ask(&gateway, "pool"), 200);
    let slow =
        || get(gateway.admin(), "/upstreams", None).json()[0]["peers"][1]["slow_start"].clone();

    names.has(NAME, 0, &["127.0.0.1", "127.0.0.2"]);
    become_peers(&gateway, 0, &[&old, &format!("127.0.0.2:{port}")]);
    assert_eq!(slow(), true);
    let share = |requests: usize| {
        let before = served(&origins)[1];
        for _ in 0..requests {
            assert_eq!(ask(&gateway, "pool"), 200);
        }
        served(&origins)[1] - before
    };
    let early = share(33);
    assert!((2..=4).contains(&early), "a tenth of a turn: {early}");
    clock.advance(Duration::from_secs(15));
    let later = share(30);
    assert!((9..=11).contains(&later), "half a turn: {later}");
    clock.advance(Duration::from_secs(15));
    assert_eq!(slow(), false);
    assert_eq!(share(30), 15);
}
