//! Keycloak itself: started and stopped by the repository's script, asked as its clients do.

mod admin;

use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::http1::{Answer, Connection};
use crate::say::say;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/keycloak.sh");
pub const REALM: &str = "/realms/eazybank";
pub const TOKEN: &str = "/realms/eazybank/protocol/openid-connect/token";
const INTROSPECT: &str = "/realms/eazybank/protocol/openid-connect/token/introspect";
const REVOKE: &str = "/realms/eazybank/protocol/openid-connect/revoke";
const LOGOUT: &str = "/realms/eazybank/protocol/openid-connect/logout";

/// A Keycloak that may not run yet; stopped when dropped, on failure too.
pub struct Keycloak {
    pub port: u16,
    management: u16,
    /// What requests name, which is part of the issuer unless a hostname is fixed.
    host: String,
    running: bool,
    /// The administrator's token and when it was asked for: a grant by password costs Keycloak a tenth of a second.
    administrator: Mutex<Option<(Instant, String)>>,
}

impl Keycloak {
    pub fn new() -> Self {
        let port = crate::free_port();
        Keycloak {
            port,
            management: crate::free_port(),
            host: format!("127.0.0.1:{port}"),
            running: false,
            administrator: Mutex::default(),
        }
    }

    /// Starts with the realm afresh and waits until it is ready. `options` are for `kc.sh`.
    ///
    /// # Panics
    ///
    /// When it cannot; the script has then said why, and what to run if something is missing.
    pub fn start(&mut self, options: &str) {
        self.launch("start", options);
    }

    /// Starts with what it knew when it ended.
    pub fn resume(&mut self) -> Arrival {
        self.launch("resume", "")
    }

    fn launch(&mut self, verb: &str, options: &str) -> Arrival {
        let began = Instant::now();
        *self.administrator.lock().unwrap() = None;
        let script = Command::new(SCRIPT)
            .arg(verb)
            .env("KEYCLOAK_PORT", self.port.to_string())
            .env("KEYCLOAK_MANAGEMENT_PORT", self.management.to_string())
            .env("KEYCLOAK_OPTS", options)
            .spawn();
        let mut script = script.unwrap_or_else(|why| panic!("cannot run {SCRIPT}: {why}"));
        // The script waits as well, but looks only now and then.
        let (mut away_until, mut ready) = (began, None);
        let status = loop {
            if let Some(status) = script.try_wait().unwrap() {
                break status;
            }
            let now = Instant::now();
            if ready.is_none() && self.is_ready() {
                ready = Some(Instant::now());
            } else if std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
                away_until = now;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        assert!(
            status.success(),
            "Keycloak did not start, see above; what is missing is got by: scripts/keycloak.sh fetch"
        );
        self.running = true;
        say!("Keycloak ready after {} s", began.elapsed().as_secs());
        Arrival {
            away_until,
            ready: ready.unwrap_or_else(Instant::now),
        }
    }

    /// What its own probe says; `false` as long as nobody answers.
    fn is_ready(&self) -> bool {
        use std::io::{Read as _, Write as _};
        let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", self.management)) else {
            return false;
        };
        let request = "GET /health/ready HTTP/1.0\r\nHost: keycloak.test\r\n\r\n";
        let mut answer = String::new();
        let read = stream
            .set_read_timeout(Some(Duration::from_secs(2)))
            .and_then(|()| stream.write_all(request.as_bytes()))
            .and_then(|()| stream.read_to_string(&mut answer));
        read.is_ok() && answer.split(' ').nth(1) == Some("200")
    }

    pub fn stop(&mut self) {
        self.end("stop");
    }

    /// As a crash would end it.
    pub fn kill(&mut self) {
        self.end("kill");
    }

    fn end(&mut self, verb: &str) {
        if std::mem::take(&mut self.running) {
            let status = Command::new(SCRIPT).arg(verb).status();
            let ended = status.is_ok_and(|status| status.success());
            assert!(ended, "{SCRIPT} {verb}");
        }
    }

    /// Requests name this host from now on; they go to loopback all the same.
    pub fn call_it(&mut self, host: &str) {
        self.host = format!("{host}:{}", self.port);
    }

    /// The URL of something on it, as requests name it.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.host)
    }

    pub fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let address = ([127, 0, 0, 1], self.port).into();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            self.host,
            body.len()
        );
        Connection::open(address).send(request).answer()
    }

    fn form(&self, path: &str, headers: &str, fields: &[(&str, &str)]) -> Answer {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(fields);
        let headers = format!("{headers}Content-Type: application/x-www-form-urlencoded\r\n");
        self.ask("POST", path, &headers, &form.finish())
    }

    /// The client-credentials grant for `eazybank-NAME`, with more header lines.
    pub fn grant(&self, name: &str, scope: &str, headers: &str) -> Answer {
        let (client, secret) = credentials(name);
        let mut fields = vec![
            ("grant_type", "client_credentials"),
            ("client_id", &client),
            ("client_secret", &secret),
        ];
        if !scope.is_empty() {
            fields.push(("scope", scope));
        }
        self.form(TOKEN, headers, &fields)
    }

    /// The access token that `eazybank-NAME` gets for these scopes.
    #[track_caller]
    pub fn token(&self, name: &str, scope: &str) -> String {
        let answer = self.grant(name, scope, "");
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        member(&answer.json(), "access_token")
    }

    /// The whole answer of the grant, which has to succeed.
    #[track_caller]
    pub fn tokens(&self, name: &str, scope: &str) -> Value {
        let answer = self.grant(name, scope, "");
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        answer.json()
    }

    /// What alice gets with her password.
    #[track_caller]
    pub fn login(&self, scope: &str) -> Value {
        let fields = [
            ("grant_type", "password"),
            ("client_id", "eazybank-user-demo"),
            ("username", "alice"),
            ("password", "demo-only-alice"),
            ("scope", scope),
        ];
        let answer = self.form(TOKEN, "", &fields);
        assert_eq!(answer.status, 200, "alice: {}", answer.text());
        answer.json()
    }

    /// What it says of a token to the gateway's client.
    #[track_caller]
    pub fn introspect(&self, token: &str) -> Value {
        let (client, secret) = credentials("gateway");
        let fields = [
            ("client_id", &*client),
            ("client_secret", &secret),
            ("token", token),
        ];
        let answer = self.form(INTROSPECT, "", &fields);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    /// `eazybank-NAME` gives its own token back (RFC 7009).
    #[track_caller]
    pub fn revoke(&self, name: &str, token: &str) {
        let (client, secret) = credentials(name);
        let fields = [
            ("client_id", &*client),
            ("client_secret", &secret),
            ("token", token),
        ];
        let answer = self.form(REVOKE, "", &fields);
        // An unknown token is 200 too, with an error in the body.
        assert_eq!((answer.status, answer.text()), (200, ""), "{name}");
    }

    /// Ends the session of this refresh token, as a client does whose user leaves.
    #[track_caller]
    pub fn logout(&self, refresh_token: &str) {
        let fields = [
            ("client_id", "eazybank-user-demo"),
            ("refresh_token", refresh_token),
        ];
        let answer = self.form(LOGOUT, "", &fields);
        assert_eq!(answer.status, 204, "{}", answer.text());
    }

    pub fn get(&self, path: &str) -> Value {
        let answer = self.ask("GET", path, "", "");
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    /// The ids of the keys that it publishes.
    pub fn published(&self) -> Vec<String> {
        let document = self.get("/realms/eazybank/protocol/openid-connect/certs");
        let keys = document["keys"].as_array().unwrap();
        keys.iter().map(|key| member(key, "kid")).collect()
    }
}

/// How it came.
pub struct Arrival {
    /// Nobody answered before that.
    pub away_until: Instant,
    /// When its probe was first seen to say so.
    pub ready: Instant,
}

impl Drop for Keycloak {
    fn drop(&mut self) {
        if self.running {
            // A panic in a panic would lose the message of the first.
            let _ = Command::new(SCRIPT).arg("stop").status();
        }
    }
}

/// The realm's full client ids and their secrets follow their short names.
pub fn credentials(name: &str) -> (String, String) {
    let client = match name {
        "accounts-api" => name.to_owned(),
        _ => format!("eazybank-{name}"),
    };
    (client, format!("demo-only-{name}"))
}

#[track_caller]
pub fn member(object: &Value, name: &str) -> String {
    let text = object[name].as_str();
    text.unwrap_or_else(|| panic!("no {name} in {object}"))
        .to_owned()
}

/// Header and claims of a token, unproved: the test asked for it itself.
pub fn opened(token: &str) -> (Value, Value) {
    let mut parts = token.split('.').map(|part| {
        let bytes = URL_SAFE_NO_PAD.decode(part).unwrap();
        serde_json::from_slice(&bytes).unwrap_or(Value::Null)
    });
    (parts.next().unwrap(), parts.next().unwrap())
}

pub fn kid(token: &str) -> String {
    member(&opened(token).0, "kid")
}
