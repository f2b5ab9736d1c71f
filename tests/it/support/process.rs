//! The real binary as a process of its own, for what a gateway inside the test cannot show: exit codes, signals, and
//! every byte on its two outputs.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Scratch, Setup, get};

/// Generous, because a debug build makes RSA keys on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// `portcullis` with these arguments, in the repository, with nothing of ours in its environment.
pub fn portcullis(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env_remove("PORTCULLIS_LOG");
    command
}

/// How a command ended and what it said.
#[derive(Debug)]
pub struct Finished {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a command to its end.
pub fn run(command: Command, stdin: &str) -> Finished {
    let mut process = Process::start_with(command, stdin);
    let code = process.exit();
    Finished {
        code,
        stdout: process.stdout(),
        stderr: process.stderr(),
    }
}

/// A running command; killed when dropped.
pub struct Process {
    child: Child,
    stdout: Captured,
    stderr: Captured,
}

struct Captured {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Process {
    pub fn start(command: Command) -> Self {
        Self::start_with(command, "")
    }

    fn start_with(mut command: Command, stdin: &str) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that ends without reading its input closes it: that is for its exit code to tell.
        let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        Process {
            stdout: Captured::of(child.stdout.take().unwrap()),
            stderr: Captured::of(child.stderr.take().unwrap()),
            child,
        }
    }

    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// What it holds in memory now.
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.unwrap().trim().trim_end_matches(" kB");
        number.parse().unwrap()
    }

    /// `TERM` or `INT`, by the shell: there is no safe `kill` in the standard library.
    pub fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(
            Command::new("sh")
                .arg("-c")
                .arg(kill)
                .status()
                .unwrap()
                .success()
        );
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for the end; `None` if a signal killed it. Both outputs are complete then.
    pub fn exit(&mut self) -> Option<i32> {
        let code = self.end();
        self.stdout.finish();
        self.stderr.finish();
        code
    }

    /// The same where a child of its own has the outputs still.
    pub fn end(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(
                Instant::now() < deadline,
                "still running\n{}",
                self.stderr()
            );
            std::thread::sleep(Duration::from_millis(5));
        };
        status.code()
    }

    /// Waits for something, unless the process ends before.
    pub fn until(&mut self, what: &str, mut holds: impl FnMut(&Process) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            if !self.is_running() {
                let code = self.exit();
                panic!("{what}: ended with {code:?}\n{}", self.stderr());
            }
            assert!(
                Instant::now() < deadline,
                "not in {PATIENCE:?}: {what}\n{}",
                self.stderr()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Captured {
    fn of(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let sink = bytes.clone();
        let reader = std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(read) = pipe.read(&mut chunk)
                && read > 0
            {
                sink.lock().unwrap().extend_from_slice(&chunk[..read]);
            }
        });
        Captured {
            bytes,
            reader: Some(reader),
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }

    fn finish(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
    }
}

/// `count` ports in a row that nobody uses. Another process may be quicker than whoever takes them, so callers try
/// again when they are told that one is taken.
pub fn free_ports(count: u16) -> u16 {
    loop {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        let free = |offset| {
            port.checked_add(offset)
                .is_some_and(|port| TcpListener::bind(("127.0.0.1", port)).is_ok())
        };
        if (1..count).all(free) {
            return port;
        }
    }
}

/// `portcullis run` with a configuration of its own, up and answering on its admin listener.
pub struct Running {
    pub process: Process,
    pub address: SocketAddr,
    pub admin: SocketAddr,
    pub scratch: Scratch,
}

/// The name of its configuration in the scratch directory.
const CONFIG: &str = "gateway.yaml";

impl Running {
    /// With one listener, whatever the setup says about its address.
    pub fn start(setup: &Setup) -> Self {
        Self::start_with(setup, |_| {})
    }

    pub fn start_with(setup: &Setup, prepare: impl Fn(&mut Command)) -> Self {
        const ATTEMPTS: u32 = 5;
        for _ in 0..ATTEMPTS {
            let scratch = Scratch::new();
            let port = free_ports(2);
            let (address, admin) = (loopback(port), loopback(port + 1));
            let yaml = placed(setup, &scratch, address, admin);
            let config = scratch.file(CONFIG, &yaml);
            let mut command = portcullis(&["run", "--config", &config]);
            prepare(&mut command);
            let mut process = Process::start(command);
            let deadline = Instant::now() + PATIENCE;
            while process.is_running() && Instant::now() < deadline {
                if TcpStream::connect(admin).is_ok() && get(admin, "/livez", None).status == 200 {
                    return Running {
                        process,
                        address,
                        admin,
                        scratch,
                    };
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            let stderr = process.stderr();
            assert!(stderr.contains("in use"), "does not start:\n{stderr}");
        }
        panic!("no free ports");
    }

    /// Another configuration in place of the file, which is there whole or not at all.
    pub fn rewrite(&self, setup: &Setup) {
        let yaml = placed(setup, &self.scratch, self.address, self.admin);
        self.scratch.write(CONFIG, yaml);
    }

    /// One sample of the scrape, by its whole name with labels; `None` when there is no such series.
    pub fn metric(&self, series: &str) -> Option<f64> {
        let scrape = get(self.admin, "/metrics", None);
        let mut lines = scrape.text().lines();
        lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }

    pub fn wait_ready(&mut self) {
        let admin = self.admin;
        self.process
            .until("ready", |_| get(admin, "/readyz", None).status == 200);
    }
}

/// A setup's YAML, listening here; `SCRATCH` in it is the directory.
fn placed(setup: &Setup, scratch: &Scratch, address: SocketAddr, admin: SocketAddr) -> String {
    let directory = scratch.directory().to_str().unwrap();
    let yaml = setup.yaml().replace("SCRATCH", directory);
    let yaml = yaml.replace("'127.0.0.1:1'", &format!("'{address}'"));
    yaml.replace("'127.0.0.1:9'", &format!("'{admin}'"))
}

pub fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}
