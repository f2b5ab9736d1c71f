//! An issuer that goes wrong: for each fault what a caller gets, what stays, and the metric that shows it. The numbers
//! are those of the table in `docs/concepts-verification.md`.

mod answers;
mod clocks;
mod keys;
mod transport;

use std::time::Duration;

use portcullis::clock::Clock;
use portcullis::demo::issuer::Endpoint;
use portcullis::demo::mint::ClaimsEdit;

use crate::support::{Answer, Faulty, Gateway, Ill, Origin, Scratch, Setup, get};

const READER: &str = "eazybank-accounts-reader-cc";
const SCOPES: &[&str] = &["accounts:read"];
const KEYS: &str = "portcullis_jwks_keys{issuer=\"keycloak\"}";

/// A gateway before an issuer that can be ill, and a clock that only moves when it is told.
struct Rig {
    faulty: Faulty,
    clock: Clock,
    origin: Origin,
    gateway: Gateway,
    _files: Scratch,
}

/// What differs between rigs: `issuer` follows `audience`, in the words of the configuration.
#[derive(Default)]
struct Wish {
    issuer: String,
    introspection: String,
}

impl Rig {
    fn ready() -> Self {
        let rig = Self::cold(|_| {});
        rig.gateway.wait_ready();
        rig
    }

    /// The issuer is ill from the start.
    fn cold(ill: impl FnOnce(&Faulty)) -> Self {
        let clock = now();
        let faulty = Faulty::start(clock.clone());
        ill(&faulty);
        Self::before(faulty, clock, &Wish::default())
    }

    fn wishing(wish: &Wish) -> Self {
        let clock = now();
        let rig = Self::before(Faulty::start(clock.clone()), clock, wish);
        rig.gateway.wait_ready();
        rig
    }

    fn before(faulty: Faulty, clock: Clock, wish: &Wish) -> Self {
        let (origin, files) = (Origin::start(), Scratch::new());
        let secret = files.file("secret", "demo-only-gateway\n");
        let gateway = Setup::new(&faulty.issuer, origin.address())
            .clock(clock.clone())
            .issuers(format!(
                "{{ keycloak: {{ issuer: '{}', audience: [eazybank-gateway], keys: {{ timeout: 1500ms }}, {}
                   introspection: {{ client_id: eazybank-gateway, client_secret: '${{file:{secret}}}',
                     timeout: 1500ms, {} }} }} }}",
                faulty.url(),
                wish.issuer,
                match wish.introspection.as_str() {
                    "" => "breaker: { failures: 1000 }",
                    other => other,
                }
            ))
            .routes(
                "[{ name: accounts, match: { path: /accounts }, upstream: origin,
                    access: { scopes: ['accounts:read'] } },
                  { name: loans, match: { path: /loans }, upstream: origin,
                    access: { scopes: ['loans:read'] } }]",
            )
            .start_unready();
        Rig {
            faulty,
            clock,
            origin,
            gateway,
            _files: files,
        }
    }

    fn get(&self, token: &str) -> Answer {
        get(self.gateway.address(), "/accounts", Some(token))
    }

    fn ask(&self, token: &str) -> u16 {
        self.get(token).status
    }

    /// A token that nobody has seen yet.
    fn good(&self) -> String {
        self.faulty.issuer.token(READER, SCOPES)
    }

    /// Makes the gateway fetch the keys now: a key id that nobody has, after every cool-down.
    fn provoke(&self) -> Answer {
        self.clock.advance(Duration::from_secs(41));
        self.get(&self.of_nobody())
    }

    fn of_nobody(&self) -> String {
        let kid = format!("nobody-{:016x}", fastrand::u64(..));
        let edit = ClaimsEdit::of(READER, SCOPES);
        self.faulty.issuer.mint(edit.header(move |header| {
            header.insert("kid".to_owned(), kid.into());
        }))
    }

    fn readyz(&self) -> Answer {
        get(self.gateway.admin(), "/readyz", None)
    }

    fn refreshes(&self, outcome: &str) -> f64 {
        self.gateway.metric(&format!(
            "portcullis_jwks_refreshes_total{{issuer=\"keycloak\",outcome=\"{outcome}\"}}"
        ))
    }

    fn rejected(&self, reason: &str, count: usize) {
        let series =
            format!("portcullis_rejections_total{{reason=\"{reason}\",route=\"accounts\"}}");
        self.gateway.counts(&series, number(count));
    }

    fn verified(&self, source: &str, outcome: &str, count: usize) {
        let series = format!(
            "portcullis_token_verifications_total{{issuer=\"keycloak\",outcome=\"{outcome}\",\
             source=\"{source}\"}}"
        );
        self.gateway.counts(&series, number(count));
    }

    fn introspected(&self, outcome: &str, count: usize) {
        let series =
            format!("portcullis_introspections_total{{issuer=\"keycloak\",outcome=\"{outcome}\"}}");
        self.gateway.counts(&series, number(count));
    }

    /// Whatever comes from this endpoint, the last good set stays and goes on serving, and everybody can see what is
    /// wrong.
    fn survives(&self, endpoint: Endpoint, ills: Vec<(&str, Ill, &str)>) {
        let held = self.gateway.metric(KEYS);
        assert!(held >= 2.0);
        let count = ills.len();
        for (name, ill, outcome) in ills {
            let before = self.refreshes(outcome);
            self.faulty.set(endpoint, ill);
            unavailable(&self.provoke(), name);
            assert_eq!(self.refreshes(outcome), before + 1.0, "{name}");
            assert_eq!(self.gateway.metric(KEYS), held, "{name}");
            assert_eq!(self.ask(&self.good()), 200, "{name}");
            let ready = self.readyz();
            assert_eq!(ready.status, 200, "{name}");
            let warning = ready.json()["issuers"][0]["warning"].clone();
            let warning = warning.as_str().unwrap_or_default();
            assert!(
                warning.contains("could not be refreshed"),
                "{name}: {warning}"
            );
            self.faulty.heal(endpoint);
            assert_eq!(self.provoke().status, 401, "{name}: it is well again");
            let ready = self.readyz().json();
            assert!(ready["issuers"][0]["warning"].is_null(), "{name}: {ready}");
        }
        self.rejected("key_fetch_failed", count);
        self.rejected("unknown_key", count);
        self.verified("local", "unavailable", count);
        self.verified("local", "refused", count);
        self.verified("local", "ok", count);
        // Nobody else has seen an upstream.
        assert_eq!(self.origin.received().len(), count);
    }
}

fn now() -> Clock {
    Clock::manual(Clock::system().unix())
}

fn unavailable(answer: &Answer, what: &str) {
    assert_eq!(answer.status, 503, "{what}");
    assert!(answer.header("retry-after").is_some(), "{what}");
    assert!(answer.header("www-authenticate").is_none(), "{what}");
}

#[expect(clippy::cast_precision_loss, reason = "a handful")]
fn number(count: usize) -> f64 {
    count as f64
}
