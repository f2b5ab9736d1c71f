//! Bytes of a caller through the whole gateway, and behind it an upstream that takes nothing but plain requests.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use super::strict::{Message, first};
use super::target::{LOOSE, PLACES, Rig};
use crate::config::plan::TargetForms;
use crate::config::{Mode, Overrides, System, load_str};
use crate::server::{Signals, StopHandle, Surroundings, bind};

/// The places that ask for a token; nobody has one here.
const CLOSED: [&str; 3] = ["/accounts", "/accounts/secret", "/admin"];

/// Bytes between which the caller lets the gateway read what it has.
const PAUSE: &[u8] = b"\xff\xfe";

/// A last request after which the gateway hangs up, so that nobody waits for a time to pass.
const LAST: &[u8] = b"GET /public/last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

struct World {
    gateway: SocketAddr,
    upstream: Arc<Upstream>,
    _stop: StopHandle,
}

struct Upstream {
    /// A value that no caller can know: what does not carry it once was not written by the gateway.
    mark: String,
    faults: Mutex<Vec<String>>,
    /// The last inputs, because a fault may show after its own input has ended.
    inputs: Mutex<Vec<Vec<u8>>>,
}

/// One connection's bytes.
///
/// # Panics
/// When the upstream gets anything but whole requests with one reading each, of public routes.
pub fn whole_proxy(input: &[u8]) {
    static WORLD: OnceLock<World> = OnceLock::new();
    let world = WORLD.get_or_init(World::start);
    {
        let mut inputs = lock(&world.upstream.inputs);
        if inputs.len() == 8 {
            inputs.remove(0);
        }
        inputs.push(input.to_vec());
    }
    let answer = send(world.gateway, input).unwrap_or_default();
    let broken = answer.windows(13).any(|window| window == b"HTTP/1.1 500 ");
    assert!(!broken, "500 for {}", input.escape_ascii());
    let faults = lock(&world.upstream.faults);
    if !faults.is_empty() {
        let inputs = lock(&world.upstream.inputs);
        let inputs: Vec<_> = inputs
            .iter()
            .map(|input| input.escape_ascii().to_string())
            .collect();
        panic!("{faults:#?}\nafter {inputs:#?}");
    }
}

/// Sends it all, and reads until the gateway hangs up. A gateway that waits for more gets the end of the bytes.
fn send(gateway: SocketAddr, input: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(gateway)?;
    stream.set_nodelay(true)?;
    let mut rest = input;
    while let Some(at) = rest.windows(PAUSE.len()).position(|window| window == PAUSE) {
        // It may have hung up by now, and its answer is still there to be read.
        let _ = stream.write_all(&rest[..at]);
        std::thread::yield_now();
        rest = &rest[at + PAUSE.len()..];
    }
    let _ = stream.write_all(&[rest, LAST].concat());
    let mut answer = Vec::new();
    for patience in [Duration::from_millis(20), Duration::from_secs(2)] {
        stream.set_read_timeout(Some(patience))?;
        // The bytes that came before an error are in the answer.
        if stream.read_to_end(&mut answer).is_ok() {
            break;
        }
        let _ = stream.shutdown(Shutdown::Write);
    }
    Ok(answer)
}

impl World {
    fn start() -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let origin = socket.local_addr().expect("an address");
        let upstream = Arc::new(Upstream {
            mark: format!("{:016x}", fastrand::u64(..)),
            faults: Mutex::default(),
            inputs: Mutex::default(),
        });
        let taking = upstream.clone();
        std::thread::spawn(move || {
            while let Ok((stream, _)) = socket.accept() {
                let taking = taking.clone();
                std::thread::spawn(move || taking.serve(stream));
            }
        });
        let yaml = yaml(origin, &upstream.mark);
        let loaded = load_str(
            "fuzz.yaml",
            &yaml,
            &Overrides::default(),
            &System,
            Mode::Online,
        );
        let mut plan = loaded.expect("a configuration").plan;
        plan.listeners[0].address.set_port(0);
        plan.admin.address.set_port(0);
        let surroundings = Surroundings {
            access_log: Box::new(std::io::sink()),
            alone: false,
            ..Surroundings::default()
        };
        let bound = bind(plan, surroundings).expect("a gateway");
        let gateway = bound.addresses()[0];
        let (stop, signals) = Signals::by_handle();
        std::thread::spawn(move || bound.serve(signals));
        World {
            gateway,
            upstream,
            _stop: stop,
        }
    }
}

fn yaml(origin: SocketAddr, mark: &str) -> String {
    let routes = PLACES.iter().enumerate().map(|(index, place)| {
        let access = match CLOSED.contains(place) {
            true => "{}",
            false => "public",
        };
        let forms = TargetForms::WORDS.map(|(word, _)| word).join(", ");
        let allowed = match *place == LOOSE {
            true => format!("allow_target: [{forms}], "),
            false => String::new(),
        };
        format!(
            "  - {{ name: place-{index}, match: {{ path: '{place}' }}, upstream: origin, access: {access}, \
             {allowed}\
             request_headers: {{ set: {{ X-Edge: '{mark}', X-Place: '{place}' }} }} }}\n",
        )
    });
    format!(
        "server: {{ threads: 1 }}\nlisteners: [{{ address: '127.0.0.1:1' }}]\nadmin: {{ address: '127.0.0.1:9' }}\n\
         issuers: {{ keycloak: {{ issuer: 'http://127.0.0.1:1', audience: [gateway] }} }}\n\
         upstreams: {{ origin: {{ peers: ['{origin}'] }} }}\nroutes:\n{}",
        routes.collect::<String>()
    )
}

impl Upstream {
    fn serve(&self, mut stream: TcpStream) {
        let mut bytes = Vec::new();
        let mut buffer = [0; 16 * 1024];
        let rig = Rig::new();
        loop {
            match first(&bytes) {
                // What ends within a request is none: every server drops it.
                Ok(None) => match stream.read(&mut buffer) {
                    Ok(read) if read > 0 => bytes.extend_from_slice(&buffer[..read]),
                    _ => return,
                },
                Ok(Some(message)) => {
                    if let Err(why) = self.judge(&message, &rig) {
                        return self.fault(&why, &bytes);
                    }
                    if bytes.len() > message.length {
                        return self.fault("bytes beyond the request", &bytes);
                    }
                    bytes.clear();
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                    let length = if message.method == "HEAD" {
                        answer.len() - 2
                    } else {
                        answer.len()
                    };
                    if stream.write_all(&answer[..length]).is_err() {
                        return;
                    }
                }
                Err(why) => return self.fault(&why, &bytes),
            }
        }
    }

    fn judge(&self, message: &Message, rig: &Rig) -> Result<(), String> {
        if message.one("x-edge") != Some(self.mark.as_bytes()) {
            return Err("a request that the gateway did not write".to_owned());
        }
        if matches!(message.method.as_str(), "CONNECT" | "TRACE" | "TRACK") {
            return Err("a method that never passes".to_owned());
        }
        let said = message.one("x-place").unwrap_or_default();
        let place = PLACES.iter().find(|known| known.as_bytes() == said);
        let place = place.ok_or("a request of no route")?;
        if CLOSED.contains(place) {
            return Err("a request without a token on a route that asks for one".to_owned());
        }
        match rig.judge(b"a", &message.target)? {
            Some(known) if known == *place => Ok(()),
            _ => Err(format!("a target that is not of {place}")),
        }
    }

    fn fault(&self, why: &str, bytes: &[u8]) {
        lock(&self.faults).push(format!("{why}: {}", bytes.escape_ascii()));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Else a campaign could run for ever and find nothing.
    #[test]
    fn the_upstream_takes_nothing_but_what_the_gateway_may_write() {
        let upstream = Upstream {
            mark: "mark".to_owned(),
            faults: Mutex::default(),
            inputs: Mutex::default(),
        };
        let rig = Rig::new();
        let judged = |line: &str, fields: &str| {
            let text = format!("{line} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
            let message = first(text.as_bytes()).expect("a request");
            upstream.judge(&message.expect("a whole request"), &rig)
        };
        let ours = |place: &str| format!("X-Edge: mark\r\nX-Place: {place}\r\n");
        assert_eq!(judged("GET /public/x", &ours("/public")), Ok(()));
        for (line, fields) in [
            ("GET /public/x", String::new()),
            (
                "GET /public/x",
                "X-Edge: mork\r\nX-Place: /public\r\n".to_owned(),
            ),
            ("GET /public/x", ours("/public") + "X-Edge: mark\r\n"),
            ("GET /public/x", ours("/elsewhere")),
            ("GET /public/x", ours("/")),
            ("GET /accounts", ours("/accounts")),
            ("GET /accounts", ours("/public")),
            ("GET /public/../accounts", ours("/public")),
            ("GET /accounts%3Fx", ours("/")),
            ("TRACE /public", ours("/public")),
        ] {
            assert!(judged(line, &fields).is_err(), "{line} {fields}");
        }
    }
}
