//! What a token costs: the whole proof with a cached key, beside the bare signature check that nobody can spare, and
//! the refusals that must be cheaper than either.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use portcullis::clock::Clock;
use portcullis::config::plan::{
    AdminPlan, Algorithm, IssuerId, IssuerPlan, KeysFrom, KeysPlan, Limits, Plan, Schemes,
    ServerPlan, Unmarked,
};
use portcullis::credential::{BearerToken, CredentialFault, read};
use portcullis::observe::metrics::Metrics;
use portcullis::verify::{Verifier, Wanted};
use ring::signature::{ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde_json::json;

#[path = "../src/allocator.rs"]
mod allocator;
#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../src/verify/tests/mint.rs"]
mod mint;

/// As in the program, whose allocations are counted here.
#[global_allocator]
static ALLOCATOR: allocator::Mimalloc = allocator::Mimalloc;

const ISSUER: &str = "https://sso.example.com/realms/eazybank";
const NOW: u64 = 1_790_000_000;

fn bearer(value: &[u8]) -> Result<BearerToken<'_>, CredentialFault> {
    let credential = read([value].into_iter(), 8192, Schemes::Bearer)?;
    credential.sent.token()
}

fn plan(keys: std::path::PathBuf, cache_bytes: u64) -> Plan {
    let second = Duration::from_secs(1);
    Plan {
        server: ServerPlan {
            threads: 1,
            pre_stop: second,
            drain: second,
            handover: None,
        },
        listeners: Vec::new(),
        admin: AdminPlan {
            address: ([127, 0, 0, 1], 0).into(),
            token: None,
        },
        limits: Limits {
            header_timeout: second,
            header_bytes: 1,
            header_fields: 1,
            body_bytes: 1,
            body_min_rate: 0,
            write_timeout: second,
            keep_alive: second,
            connections: 1,
            connections_per_source: 1,
            floods_per_source: None,
            token_bytes: 8192,
            http2_streams: 1,
            http2_header_list: 1,
            http2_idle: second,
        },
        issuers: vec![IssuerPlan {
            name: "keycloak".into(),
            issuer: ISSUER.to_owned(),
            keys_from: KeysFrom::File(keys),
            insecure: false,
            ca: None,
            audience: vec!["eazybank-gateway".to_owned()],
            algorithms: vec![Algorithm::RS256, Algorithm::ES256],
            token_types: vec!["jwt".to_owned(), "at+jwt".to_owned()],
            unmarked: Unmarked::Refuse,
            leeway: second,
            keys: KeysPlan {
                refresh: second,
                cooldown: Duration::from_secs(1_000_000),
                max_stale: Duration::from_secs(1_000_000),
                timeout: second,
                snapshot: None,
            },
            not_before: None,
            logout_clients: Vec::new(),
            dpop: portcullis::config::plan::Dpop::Refuse,
            introspection: None,
        }],
        token_cache: portcullis::config::plan::TokenCachePlan {
            max_bytes: cache_bytes,
            max_age: Duration::from_secs(300),
        },
        revocations: portcullis::config::plan::RevocationsPlan {
            file: None,
            max: 100_000,
        },
        upstreams: Vec::new(),
        routes: Vec::new(),
        access_log: false,
    }
}

fn benches(criterion: &mut Criterion) {
    let (rsa, curve) = (mint::rsa2048(), mint::Signer::p256());
    let file = std::env::temp_dir().join(format!("portcullis-bench-{}.json", std::process::id()));
    let set = json!({"keys": [rsa.jwk("FJ86GcF3jTbNLOco4NvZkUCIUmfYCqoqtOQeMfbhNlE"), curve.jwk("curve")]});
    std::fs::write(&file, set.to_string()).expect("the keys are written");

    let verifier = |cache_bytes| {
        let plan = plan(file.clone(), cache_bytes);
        let metrics = Metrics::new(&plan).expect("metrics");
        Verifier::new(&plan, Clock::manual(NOW), metrics).expect("a verifier")
    };
    // No proof fits into one byte: each is made anew.
    let (verifier, keeping) = (Arc::new(verifier(1)), verifier(32 << 20));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    assert!(runtime.block_on(verifier.refresh(IssuerId(0))));
    assert!(runtime.block_on(keeping.refresh(IssuerId(0))));
    std::fs::remove_file(&file).expect("the keys are removed");

    let claims = mint::keycloak_claims(ISSUER, NOW);
    let expired = mint::keycloak_claims(ISSUER, NOW - 3600);
    let kid = "FJ86GcF3jTbNLOco4NvZkUCIUmfYCqoqtOQeMfbhNlE";
    let rs256 = rsa.token("RS256", kid, &claims);
    let es256 = curve.token("ES256", "curve", &claims);
    // What a real one measures, give or take the scopes.
    assert!((1300..1700).contains(&rs256.len()), "{}", rs256.len());

    let mut group = criterion.benchmark_group("verify");
    let mut prove = |name: &str, token: &str, good: bool| {
        let value = format!("Bearer {token}");
        group.bench_function(name, |bench| {
            bench.iter(|| {
                let token = bearer(black_box(value.as_bytes()));
                let verdict = verifier.prove(token.expect("a credential"), Wanted::default());
                // Nothing waits here, so one poll is the whole future.
                let verdict = now(verdict);
                assert_eq!(verdict.outcome.is_ok(), good);
                verdict
            });
        });
    };
    prove("rs256", &rs256, true);
    prove("es256", &es256, true);
    // The first one may fetch; during the cool-down that follows, the others are refused at once.
    let unknown = rsa.token("RS256", "nobody", &claims);
    let value = format!("Bearer {unknown}");
    let token = bearer(value.as_bytes()).expect("a credential");
    assert!(
        runtime
            .block_on(verifier.prove(token, Wanted::default()))
            .outcome
            .is_err()
    );
    prove("unknown kid", &unknown, false);
    let header = format!(r#"{{"alg":"HS256","typ" : "JWT","kid" : "{kid}"}}"#);
    let symmetric = rsa.seal("RS256", &header, claims.to_string().as_bytes());
    prove("wrong alg", &symmetric, false);
    prove("expired", &rsa.token("RS256", kid, &expired), false);
    prove(
        "forged",
        &format!("{}AAAAAAAA", &rs256[..rs256.len() - 8]),
        false,
    );
    prove("opaque", "a2V5Y2xvYWs", false);

    let value = format!("Bearer {rs256}");
    group.bench_function("kept", |bench| {
        bench.iter(|| {
            let token = bearer(black_box(value.as_bytes()));
            let token = token.expect("a credential");
            let verdict = now(keeping.prove(token, Wanted::default()));
            assert!(verdict.outcome.is_ok());
            verdict
        });
    });

    let (input, signature) = rs256.rsplit_once('.').expect("three segments");
    let signature = decode(signature);
    let key = set["keys"][0].clone();
    let (n, e) = (
        decode(key["n"].as_str().expect("n")),
        decode(key["e"].as_str().expect("e")),
    );
    group.bench_function("ring alone, rs256", |bench| {
        bench.iter(|| {
            let key = ring::signature::RsaPublicKeyComponents { n: &n, e: &e };
            key.verify(
                &RSA_PKCS1_2048_8192_SHA256,
                black_box(input.as_bytes()),
                &signature,
            )
        });
    });
    let (input, signature) = es256.rsplit_once('.').expect("three segments");
    let signature = decode(signature);
    let key = &set["keys"][1];
    let point = [
        vec![4],
        decode(key["x"].as_str().expect("x")),
        decode(key["y"].as_str().expect("y")),
    ]
    .concat();
    group.bench_function("ring alone, es256", |bench| {
        bench.iter(|| {
            let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point);
            key.verify(black_box(input.as_bytes()), &signature)
        });
    });
    group.finish();
}

fn decode(text: &str) -> Vec<u8> {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(text)
        .expect("base64url")
}

/// Polls once; the hot path never waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("the hot path waited"),
    }
}

criterion_group! {
    name = verify;
    config = Criterion::default().measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1));
    targets = benches
}
criterion_main!(verify);
