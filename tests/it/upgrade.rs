//! One process after another, under load: by handing the sockets over, and by a drain that nobody notices.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use portcullis::demo::issuer::{Endpoint, Fault, Issuer, IssuerOptions};

use crate::support::{
    Connection, Origin, Process, Running, Setup, eventually, get, portcullis, send,
};

const READER: &str = "eazybank-accounts-reader-cc";
const ADMIN: &str = "Authorization: Bearer admin-of-the-test\r\n";

struct World {
    issuer: Issuer,
    _origin: Origin,
    running: Running,
}

impl World {
    /// A gateway that can hand over, at a path beside its configuration.
    fn new(revocations: bool) -> Self {
        let issuer = Issuer::start_blocking(IssuerOptions::default()).unwrap();
        let origin = Origin::start();
        let mut setup = Setup::new(&issuer, origin.address()).admin_token("${env:ADMIN_TOKEN}");
        setup.drain = "{ drain: 5s }, handover: 'SCRATCH/handover.sock'".to_owned();
        if revocations {
            setup = setup.revocations("{ file: 'SCRATCH/revocations.json' }");
        }
        let mut running = Running::start_with(&setup, |command| {
            command.env("ADMIN_TOKEN", "admin-of-the-test");
        });
        running.wait_ready();
        World {
            issuer,
            _origin: origin,
            running,
        }
    }

    fn process(&self, flags: &[&str]) -> Process {
        let config = self.running.scratch.path("gateway.yaml");
        let mut arguments = vec!["run", "--config", config.to_str().unwrap()];
        arguments.extend(flags);
        let mut command = portcullis(&arguments);
        command.env("ADMIN_TOKEN", "admin-of-the-test");
        Process::start(command)
    }

    /// A successor takes over, and the one before ends by itself.
    fn upgrade(&mut self) {
        let successor = self.process(&["--upgrade"]);
        let mut old = std::mem::replace(&mut self.running.process, successor);
        let code = old.exit();
        assert_eq!(
            code,
            Some(0),
            "{}\n{}",
            old.stderr(),
            self.running.process.stderr()
        );
        assert!(self.running.process.is_running());
    }

    fn token(&self) -> String {
        self.issuer.token(READER, &[])
    }

    fn status(&self, token: &str) -> u16 {
        get(self.running.address, "/accounts", Some(token)).status
    }
}

/// Callers that ask without a pause; a request that fails, or a connection that is refused, is a panic of its thread.
struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    callers: Vec<JoinHandle<usize>>,
}

impl Load {
    /// Half of them open a connection for each request.
    fn start(address: SocketAddr, token: &str) -> Self {
        let (stop, asked) = (Arc::default(), Arc::default());
        let callers = (0..4).map(|number| {
            let (stop, asked) = (Arc::clone(&stop), Arc::clone(&asked));
            let head =
                format!("GET /accounts HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n");
            let head = match number % 2 {
                0 => format!("{head}\r\n"),
                _ => format!("{head}Connection: close\r\n\r\n"),
            };
            std::thread::spawn(move || ask(address, &head, &stop, &asked, true))
        });
        let callers = callers.collect();
        Load {
            stop,
            asked,
            callers,
        }
    }

    fn goes_on(&self) {
        let before = self.asked.load(Ordering::Relaxed);
        eventually("answers come", || {
            self.asked.load(Ordering::Relaxed) > before + 100
        });
    }

    /// How often a connection was ended by an answer that said so.
    fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.callers
            .into_iter()
            .map(|caller| caller.join().unwrap())
            .sum()
    }
}

fn ask(
    address: SocketAddr,
    head: &str,
    stop: &AtomicBool,
    asked: &AtomicUsize,
    again: bool,
) -> usize {
    let mut connection = Connection::open(address);
    let mut ended = 0;
    while !stop.load(Ordering::Relaxed) {
        let answer = connection.send(head).answer();
        assert_eq!(answer.status, 200);
        asked.fetch_add(1, Ordering::Relaxed);
        if answer.header("connection") == Some("close") {
            ended += 1;
            if !again {
                return ended;
            }
            connection = Connection::open(address);
        }
    }
    ended
}

#[test]
fn upgrades_under_load_fail_no_request_and_refuse_no_connection() {
    let mut world = World::new(true);
    let load = Load::start(world.running.address, &world.token());
    for _ in 0..3 {
        load.goes_on();
        world.upgrade();
    }
    load.goes_on();
    assert!(load.stop() > 0);
}

#[test]
fn what_is_revoked_goes_over_with_a_file_and_without_one() {
    for file in [true, false] {
        let mut world = World::new(file);
        let token = world.token();
        assert_eq!(world.status(&token), 200);
        let body =
            format!("{{\"issuer\":\"keycloak\",\"client\":\"{READER}\",\"until\":4000000000}}");
        let revoke = || send(world.running.admin, "POST", "/revocations", ADMIN, &body).status;
        assert_eq!(revoke(), 201);
        world.upgrade();
        assert_eq!(world.status(&token), 401, "{file}");
        let revoke = || send(world.running.admin, "POST", "/revocations", ADMIN, &body).status;
        assert_eq!(revoke(), 200, "the successor can write: {file}");
    }
}

#[test]
fn a_successor_that_does_not_get_ready_changes_nothing() {
    let mut world = World::new(true);
    let token = world.token();
    assert_eq!(world.status(&token), 200);
    world.issuer.set_fault(Endpoint::Certs, Fault::Hang);
    let mut successor = world.process(&["--upgrade"]);
    let has = |process: &Process, text: &str| process.stderr().contains(text);
    world
        .running
        .process
        .until("it has the sockets", |old| has(old, "has the sockets"));
    successor.signal("KILL");
    assert_eq!(successor.exit(), None);
    world
        .running
        .process
        .until("it is noticed", |old| has(old, "nobody took over"));
    assert_eq!(world.status(&token), 200);
    world.issuer.clear_fault(Endpoint::Certs);
    world.upgrade();
    assert_eq!(world.status(&token), 200);
}

#[test]
fn without_anybody_to_take_over_from_it_just_starts() {
    let mut world = World::new(false);
    world.running.process.signal("TERM");
    assert_eq!(world.running.process.exit(), Some(0));
    world.running.process = world.process(&["--upgrade"]);
    let process = &mut world.running.process;
    process.until("it says so", |new| {
        new.stderr().contains("nothing to take over")
    });
    let admin = world.running.admin;
    eventually("it listens", || std::net::TcpStream::connect(admin).is_ok());
    world.running.wait_ready();
    assert_eq!(world.status(&world.token()), 200);
}

#[test]
fn sigusr2_starts_the_successor() {
    let mut world = World::new(true);
    let load = Load::start(world.running.address, &world.token());
    load.goes_on();
    world.running.process.signal("USR2");
    assert_eq!(world.running.process.end(), Some(0));
    load.goes_on();
    load.stop();
    // The successor writes where its predecessor did.
    let stderr = world.running.process.stderr();
    let pid = stderr.split("SIGUSR2: process ").nth(1).unwrap();
    let pid = pid.split(' ').next().unwrap();
    let kill = Command::new("sh")
        .arg("-c")
        .arg(format!("kill -TERM {pid}"))
        .status();
    assert!(kill.unwrap().success());
    let admin = world.running.admin;
    eventually("it ends", || std::net::TcpStream::connect(admin).is_err());
}

#[test]
fn a_drain_fails_no_request_of_those_who_leave_when_they_are_told() {
    for _ in 0..3 {
        let mut world = World::new(false);
        let head = format!(
            "GET /accounts HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\n\r\n",
            world.token()
        );
        let (stop, asked) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let callers: Vec<_> = (0..4)
            .map(|_| {
                let (address, head) = (world.running.address, head.clone());
                let (stop, asked) = (stop.clone(), asked.clone());
                std::thread::spawn(move || ask(address, &head, &stop, &asked, false))
            })
            .collect();
        eventually("answers come", || asked.load(Ordering::Relaxed) > 100);
        world.running.process.signal("TERM");
        for caller in callers {
            assert_eq!(caller.join().unwrap(), 1, "told to leave");
        }
        assert_eq!(world.running.process.exit(), Some(0));
    }
}
