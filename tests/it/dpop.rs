//! Tokens that are bound to a key of their client (RFC 9449), on real sockets.

mod nonces;
mod targets;

use std::net::SocketAddr;

use portcullis::clock::Clock;
use portcullis::demo::issuer::{Issuer, IssuerOptions};
use portcullis::demo::{ClaimsEdit, Endpoint};

use crate::support::{
    Answer, Authority, Connection, Gateway, Holder, Http2, Origin, Proof, Scratch, Setup, get, send,
};

const READER: &str = "eazybank-accounts-reader-cc";
const BOUND: &str = "eazybank-dpop-cc";
const SCOPES: &[&str] = &["accounts:read"];
const HOST: &str = "http://gateway.test";
const ROUTES: &str = "[{ name: accounts, match: { path: /accounts }, upstream: origin, \
                        access: { scopes: ['accounts:read'] } },
    { name: kept, match: { path: /kept }, upstream: origin, access: {}, \
                        forward: { authorization: keep } },
    { name: open, match: { path: /open }, upstream: origin, access: public }]";
const ALGS: &str = "algs=\"RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 EdDSA\"";

/// A gateway whose issuer takes proofs, and a client with a key.
struct World {
    issuer: Issuer,
    origin: Origin,
    gateway: Gateway,
    holder: Holder,
    files: Scratch,
}

impl World {
    fn new(dpop: &str) -> Self {
        Self::with(dpop, Clock::system(), |setup| setup)
    }

    fn with(dpop: &str, clock: Clock, change: impl FnOnce(Setup) -> Setup) -> Self {
        let issuer = Issuer::start_blocking(IssuerOptions {
            clock: clock.clone(),
            ..IssuerOptions::default()
        });
        let (issuer, origin) = (issuer.unwrap(), Origin::start());
        let files = Scratch::new();
        let setup = setup(&issuer, &origin, &files, dpop, clock);
        World {
            gateway: change(setup).start(),
            holder: Holder::new(),
            issuer,
            origin,
            files,
        }
    }

    /// Bound to the holder's key, as Keycloak binds it.
    fn token(&self) -> String {
        token(&self.issuer, &self.holder)
    }

    /// For `GET /accounts` on the first listener.
    fn proof(&self, token: &str) -> Proof<'_> {
        let url = format!("{HOST}/accounts");
        self.holder.proof("GET", &url).of(token)
    }

    fn ask(&self, token: &str, proof: &Proof<'_>) -> Answer {
        ask(self.gateway.address(), "/accounts", token, &proof.seal())
    }

    fn rejected(&self, reason: &str, count: f64) {
        self.gateway.counts(
            &format!("portcullis_rejections_total{{reason=\"{reason}\",route=\"accounts\"}}"),
            count,
        );
    }

    /// The proof does not pass, for this reason.
    #[track_caller]
    fn refuses(&self, token: &str, proof: &Proof<'_>, reason: &str) {
        let reached = self.origin.received().len();
        let answer = self.ask(token, proof);
        assert_eq!(answer.status, 401, "{reason}: {answer:?}");
        let detail = "The DPoP proof is not valid for this request.";
        assert_eq!(answer.json()["detail"], detail, "{reason}");
        let error = format!("error=\"invalid_dpop_proof\", error_description=\"{detail}\"");
        let expected = [
            format!("DPoP realm=\"portcullis\", {error}, {ALGS}"),
            "Bearer realm=\"portcullis\"".to_owned(),
        ];
        assert_eq!(challenges(&answer), expected, "{reason}");
        assert_eq!(answer.header("dpop-nonce"), None, "{reason}");
        assert_eq!(self.origin.received().len(), reached, "{reason}");
        self.rejected(reason, 1.0);
    }
}

fn setup(issuer: &Issuer, origin: &Origin, files: &Scratch, dpop: &str, clock: Clock) -> Setup {
    let secret = files.file("secret", "demo-only-gateway");
    Setup::new(issuer, origin.address())
        .issuers(format!(
            "{{ keycloak: {{ issuer: '{}', audience: [eazybank-gateway], dpop: {dpop}, \
             introspection: {{ client_id: eazybank-gateway, when: [opaque], \
             client_secret: '${{file:{secret}}}' }} }} }}",
            issuer.url()
        ))
        .routes(ROUTES)
        .clock(clock)
}

fn token(issuer: &Issuer, holder: &Holder) -> String {
    issuer.mint(ClaimsEdit::of(READER, SCOPES).bound_to(holder.thumbprint()))
}

fn ask(address: SocketAddr, path: &str, token: &str, proof: &str) -> Answer {
    let fields = format!("Authorization: DPoP {token}\r\nDPoP: {proof}\r\n");
    send(address, "GET", path, &fields, "")
}

fn challenges(answer: &Answer) -> Vec<String> {
    let named = answer.headers.iter();
    let named = named.filter(|(name, _)| name == "www-authenticate");
    named.map(|(_, value)| value.clone()).collect()
}

#[test]
fn a_stolen_token_is_worth_nothing() {
    let world = World::new("allow");
    let token = world.token();
    for _ in 0..2 {
        let answer = world.ask(&token, &world.proof(&token));
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("dpop-nonce"), None);
    }
    for received in world.origin.received() {
        assert_eq!(received.header("x-auth-client"), Some(READER));
        assert_eq!(received.header("authorization"), None);
        assert_eq!(received.header("dpop"), None);
    }
    let stolen = get(world.gateway.address(), "/accounts", Some(&token));
    assert_eq!(stolen.status, 401);
    let expected = [
        "Bearer realm=\"portcullis\", error=\"invalid_token\", \
         error_description=\"The access token is not valid here.\""
            .to_owned(),
        format!("DPoP realm=\"portcullis\", {ALGS}"),
    ];
    assert_eq!(challenges(&stolen), expected);
    world.rejected("sender_constrained", 1.0);
    let thief = Holder::new();
    let url = format!("{HOST}/accounts");
    world.refuses(&token, &thief.proof("GET", &url).of(&token), "dpop_holder");
    let shown = thief.proof("GET", &url).of(&token);
    let shown = shown.header("jwk", world.holder.jwk());
    world.refuses(&token, &shown, "dpop_signature");
    assert_eq!(world.origin.received().len(), 2);
    let remembered = world.gateway.metric("portcullis_dpop_proofs ");
    assert_eq!(remembered, 2.0);
}

#[test]
fn each_part_of_a_proof_has_its_reason() {
    let world = World::new("allow");
    let token = world.token();
    let proof = || world.proof(&token);
    world.refuses(&token, &proof().header("typ", "JWT"), "dpop_malformed");
    world.refuses(&token, &proof().header("alg", "HS256"), "dpop_key");
    world.refuses(&token, &proof().with("htm", "POST"), "dpop_method");
    world.refuses(&token, &proof().with("htu", HOST), "dpop_target");
    world.refuses(&token, &proof().of("another token"), "dpop_token");
    let once = proof();
    assert_eq!(world.ask(&token, &once).status, 200);
    world.refuses(&token, &once, "dpop_replayed");
    // All of it with a token that is kept, which helps nobody.
    let kept = "portcullis_token_verifications_total{issuer=\"keycloak\",outcome=\"refused\",\
                source=\"cache\"}";
    world.gateway.counts(kept, 5.0);
    let log = world.gateway.access_log(7);
    assert!(log.iter().any(|line| line["reason"] == "dpop_replayed"));
}

#[test]
fn a_proof_is_one_field() {
    let world = World::new("allow");
    let token = world.token();
    let address = world.gateway.address();
    let (one, two) = (world.proof(&token).seal(), world.proof(&token).seal());
    let bad = "The DPoP proof is not valid for this request.";
    for (fields, reason, count, detail) in [
        (
            String::new(),
            "dpop_missing",
            1.0,
            "A DPoP proof is needed.",
        ),
        (
            format!("X-DPoP: {one}\r\n"),
            "dpop_missing",
            2.0,
            "A DPoP proof is needed.",
        ),
        (
            format!("DPoP: {one}\r\nDPoP: {two}\r\n"),
            "dpop_malformed",
            1.0,
            bad,
        ),
        (
            format!("DPoP: {one}, {two}\r\n"),
            "dpop_malformed",
            2.0,
            bad,
        ),
    ] {
        let fields = format!("Authorization: DPoP {token}\r\n{fields}");
        let answer = send(address, "GET", "/accounts", &fields, "");
        assert_eq!(answer.status, 401, "{fields}");
        assert_eq!(answer.json()["detail"], detail, "{fields}");
        assert!(challenges(&answer)[0].contains("error=\"invalid_dpop_proof\""));
        world.rejected(reason, count);
    }
    assert_eq!(world.gateway.metric("portcullis_dpop_proofs "), 0.0);
    assert!(world.origin.received().is_empty());
    // Neither was used up, and a proof beside `Bearer` says nothing.
    assert_eq!(ask(address, "/accounts", &token, &one).status, 200);
    let plain = world.issuer.token(READER, SCOPES);
    let fields = format!("Authorization: Bearer {plain}\r\nDPoP: {two}\r\n");
    assert_eq!(send(address, "GET", "/accounts", &fields, "").status, 200);
    assert_eq!(ask(address, "/accounts", &token, &two).status, 200);
}

/// Many at once on connections of their own, and then on one connection of HTTP/2.
#[test]
fn of_all_who_send_a_proof_one_gets_through() {
    let (authority, files) = (Authority::new(), Scratch::new());
    let pair = authority.certify("gateway.test").written_to(&files);
    let world = World::with("allow", Clock::system(), |setup| {
        setup.listeners(format!(
            "[{{ address: '127.0.0.1:1', public_url: '{HOST}' }}, \
              {{ address: '127.0.0.1:2', public_url: '{HOST}', tls: {{ {pair} }} }}]"
        ))
    });
    let token = world.token();
    let config = authority.client(&[&rustls::version::TLS13], &["h2"]);
    let http2 = Http2::open(world.gateway.addresses()[1], "gateway.test", config);
    let by_http2 = |proof: &str| {
        let request = http::Request::get("https://gateway.test/accounts");
        let request = request.header("authorization", format!("DPoP {token}"));
        request.header("dpop", proof).body(()).unwrap()
    };
    let passed = |answers: Vec<Answer>| {
        let status = |answer: &Answer| answer.status;
        assert!(
            answers
                .iter()
                .all(|answer| matches!(status(answer), 200 | 401))
        );
        answers
            .iter()
            .filter(|answer| status(answer) == 200)
            .count()
    };
    let proof = world.proof(&token).seal();
    let answers = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..16)
            .map(|_| scope.spawn(|| ask(world.gateway.address(), "/accounts", &token, &proof)))
            .collect();
        asked
            .into_iter()
            .map(|asked| asked.join().unwrap())
            .collect()
    });
    assert_eq!(passed(answers), 1);
    let late = http2.ask(by_http2(&proof), &[]);
    assert_eq!(late.status, 401);
    let proof = world.proof(&token).seal();
    let answers = http2.ask_all((0..16).map(|_| by_http2(&proof)).collect());
    assert_eq!(passed(answers), 1);
    assert_eq!(
        ask(world.gateway.address(), "/accounts", &token, &proof).status,
        401
    );
    assert_eq!(world.origin.received().len(), 2);
    world.rejected("dpop_replayed", 32.0);
}

#[test]
fn a_connection_that_has_shown_a_proof_has_shown_one_request() {
    let world = World::new("allow");
    let token = world.token();
    let mut client = Connection::open(world.gateway.address());
    let request = |proof: &str| {
        format!(
            "GET /accounts HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: DPoP {token}\r\n\
             DPoP: {proof}\r\n\r\n"
        )
    };
    let proof = world.proof(&token).seal();
    assert_eq!(client.send(request(&proof)).answer().status, 200);
    assert_eq!(client.send(request(&proof)).answer().status, 401);
    let proof = world.proof(&token).seal();
    assert_eq!(client.send(request(&proof)).answer().status, 200);
}

#[test]
fn where_a_key_is_required_nothing_else_passes() {
    let world = World::new("require");
    let token = world.token();
    assert_eq!(world.ask(&token, &world.proof(&token)).status, 200);
    let address = world.gateway.address();
    let none = get(address, "/accounts", None);
    assert_eq!(
        challenges(&none),
        [format!("DPoP realm=\"portcullis\", {ALGS}")]
    );
    let plain = world.issuer.token(READER, SCOPES);
    let unbound = get(address, "/accounts", Some(&plain));
    assert_eq!(unbound.status, 401);
    assert_eq!(challenges(&unbound).len(), 2, "{unbound:?}");
    let disguised = world.ask(&plain, &world.proof(&plain));
    assert_eq!(disguised.status, 401);
    assert!(challenges(&disguised)[0].contains("error=\"invalid_token\""));
    world.rejected("unbound", 2.0);
    assert_eq!(world.origin.received().len(), 1);
}

#[test]
fn where_keys_are_only_allowed_other_tokens_pass_too() {
    let world = World::new("allow");
    let address = world.gateway.address();
    let plain = world.issuer.token(READER, SCOPES);
    assert_eq!(get(address, "/accounts", Some(&plain)).status, 200);
    let none = get(address, "/accounts", None);
    let both = [
        "Bearer realm=\"portcullis\"".to_owned(),
        format!("DPoP realm=\"portcullis\", {ALGS}"),
    ];
    assert_eq!(challenges(&none), both);
    let disguised = world.ask(&plain, &world.proof(&plain));
    assert_eq!(disguised.status, 401);
    world.rejected("unbound", 1.0);
    // A right that is missing is missing with a proof too, and said to the scheme that was used.
    let poor = ClaimsEdit::of(READER, &[]).bound_to(world.holder.thumbprint());
    let poor = world.issuer.mint(poor);
    let answer = world.ask(&poor, &world.proof(&poor));
    assert_eq!(answer.status, 403);
    let challenges = challenges(&answer);
    assert_eq!(challenges.len(), 1);
    assert!(challenges[0].starts_with("DPoP realm=\"portcullis\", error=\"insufficient_scope\""));
    assert!(challenges[0].contains("scope=\"accounts:read\""));
}

#[test]
fn where_they_are_refused_nothing_has_changed() {
    let world = World::new("refuse");
    let token = world.token();
    let answer = world.ask(&token, &world.proof(&token));
    assert_eq!(answer.status, 401);
    assert_eq!(challenges(&answer), ["Bearer realm=\"portcullis\""]);
    world.rejected("missing_credential", 1.0);
    let bearer = get(world.gateway.address(), "/accounts", Some(&token));
    assert_eq!(bearer.status, 401);
    assert_eq!(challenges(&bearer).len(), 1);
    world.rejected("sender_constrained", 1.0);
    assert!(world.origin.received().is_empty());
}

/// Two issuers, of which one takes keys: the other's tokens are as they were.
#[test]
fn each_issuer_decides_for_its_own_tokens() {
    let issuers = [(); 2].map(|()| Issuer::start_blocking(IssuerOptions::default()).unwrap());
    let origin = Origin::start();
    let [with, without] = [&issuers[0], &issuers[1]].map(Issuer::url);
    let gateway = Setup::new(&issuers[0], origin.address())
        .issuers(format!(
            "{{ with: {{ issuer: '{with}', audience: [eazybank-gateway], dpop: require }}, \
                without: {{ issuer: '{without}', audience: [eazybank-gateway] }} }}"
        ))
        .routes(
            "[{ name: both, match: { path: /accounts }, upstream: origin, access: {} }, \
              { name: bearer, match: { path: /bearer }, upstream: origin, \
                access: { issuers: [without] } }]",
        )
        .start();
    let holder = Holder::new();
    let url = format!("{HOST}/accounts");
    for (issuer, bound, plain) in [(&issuers[0], 200, 401), (&issuers[1], 401, 200)] {
        let token = token(issuer, &holder);
        let proof = holder.proof("GET", &url).of(&token).seal();
        let answer = ask(gateway.address(), "/accounts", &token, &proof);
        assert_eq!(answer.status, bound, "{answer:?}");
        let token = issuer.token(READER, SCOPES);
        let answer = get(gateway.address(), "/accounts", Some(&token));
        assert_eq!(answer.status, plain, "{answer:?}");
    }
    assert_eq!(
        challenges(&get(gateway.address(), "/accounts", None)).len(),
        2
    );
    assert_eq!(
        challenges(&get(gateway.address(), "/bearer", None)).len(),
        1
    );
}

#[test]
fn the_issuer_s_word_binds_a_token_too() {
    let world = World::new("allow");
    let opaque = world.issuer.hide(world.token());
    let answer = get(world.gateway.address(), "/accounts", Some(&opaque));
    assert_eq!(answer.status, 401);
    world.rejected("sender_constrained", 1.0);
    let proof = world.proof(&opaque);
    assert_eq!(world.ask(&opaque, &proof).status, 200);
    world.refuses(&opaque, &proof, "dpop_replayed");
    assert_eq!(world.ask(&opaque, &world.proof(&opaque)).status, 200);
    assert_eq!(world.issuer.requests(Endpoint::Introspect), 1);
    let unbound = world.issuer.opaque(READER, SCOPES);
    let answer = world.ask(&unbound, &world.proof(&unbound));
    assert_eq!(answer.status, 401);
    world.rejected("unbound", 1.0);
}

#[test]
fn a_proof_goes_where_the_token_goes() {
    let world = World::new("allow");
    let token = world.token();
    let address = world.gateway.address();
    let url = format!("{HOST}/kept");
    let proof = world.holder.proof("GET", &url).of(&token).seal();
    assert_eq!(ask(address, "/kept", &token, &proof).status, 200);
    let received = world.origin.only();
    let authorization = format!("DPoP {token}");
    assert_eq!(received.header("authorization"), Some(&*authorization));
    assert_eq!(received.header("dpop"), Some(&*proof));
    // A public route judges neither and passes neither on.
    assert_eq!(ask(address, "/open", &token, &proof).status, 200);
    let received = world.origin.received().pop().unwrap();
    assert_eq!(received.header("authorization"), None);
    assert_eq!(received.header("dpop"), None);
}

/// The demo's issuer gives what Keycloak gives.
#[test]
fn a_client_with_a_key_gets_a_token_that_is_bound_to_it() {
    let world = World::new("require");
    let endpoint = world.issuer.endpoint(Endpoint::Token);
    let address = world.issuer.address();
    let path = endpoint.strip_prefix(&format!("http://{address}")).unwrap();
    let form = format!(
        "grant_type=client_credentials&scope=accounts:read&client_id={BOUND}&\
         client_secret=demo-only-dpop-cc"
    );
    let kind = "Content-Type: application/x-www-form-urlencoded\r\n";
    let without = send(address, "POST", path, kind, &form);
    assert_eq!(without.status, 400, "{}", without.text());
    let proof = world.holder.proof("POST", &format!("{HOST}{path}")).seal();
    let fields = format!("{kind}DPoP: {proof}\r\n");
    let granted = send(address, "POST", path, &fields, &form);
    assert_eq!(granted.status, 200, "{}", granted.text());
    assert_eq!(granted.json()["token_type"], "DPoP");
    let token = granted.json()["access_token"].as_str().unwrap().to_owned();
    assert_eq!(world.ask(&token, &world.proof(&token)).status, 200);
    assert_eq!(world.origin.only().header("x-auth-client"), Some(BOUND));
    let again = send(address, "POST", path, &fields, &form);
    assert_eq!(again.status, 400, "{}", again.text());
}
