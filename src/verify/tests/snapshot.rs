//! Keys that outlive their process in a file.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::fetch::scratch;
use super::keys::{Answer, Life, NO_KEYS, STALE, down, seconds, set, token};
use super::{ISSUER, NOW, issuer};
use crate::config::plan::IssuerPlan;

/// A directory of its own, so that everything in it can be counted.
fn directory(name: &str) -> PathBuf {
    let directory = scratch(name);
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).expect("a directory");
    directory
}

fn keeping(path: &std::path::Path) -> IssuerPlan {
    let mut plan = issuer();
    plan.keys.snapshot = Some(path.to_owned());
    plan
}

/// A process that has fetched `k1` and kept it: its directory, its file, its plan and itself.
async fn kept(name: &str) -> (PathBuf, PathBuf, IssuerPlan, Life) {
    let directory = directory(name);
    let path = directory.join("keys.json");
    let plan = keeping(&path);
    let life = restarted(&plan, 0, vec![set(&["k1"])]);
    assert_eq!(life.prove(&token("k1")).await, Err(NO_KEYS), "no file yet");
    life.refresh().await;
    written(&life, 1).await;
    (directory, path, plan, life)
}

/// A new process after so many seconds.
fn restarted(plan: &IssuerPlan, after: u64, answers: Vec<Answer>) -> Life {
    let life = Life::at(plan.clone(), NOW + after, answers);
    life.verifier.issuers[0].keys.restore();
    life
}

/// The write is behind the fetch: nobody waits for it but we.
async fn written(life: &Life, count: u64) {
    until(life, &snapshots("ok", count)).await;
}

async fn unwritten(life: &Life) {
    until(life, &snapshots("failed", 1)).await;
}

fn snapshots(outcome: &str, count: u64) -> String {
    format!("portcullis_jwks_snapshots_total{{issuer=\"keycloak\",outcome=\"{outcome}\"}} {count}")
}

async fn until(life: &Life, line: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !life.metric(line) {
        assert!(Instant::now() < deadline, "not in 20 s: {line}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn content(path: &std::path::Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("the file")).expect("JSON")
}

#[tokio::test]
async fn a_restart_during_an_outage_serves_and_says_so() {
    let (directory, path, plan, _) = kept("snapshot-restart").await;
    let mode = std::fs::metadata(&path).expect("the file").permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    let names: Vec<_> = std::fs::read_dir(&directory).expect("it").collect();
    assert_eq!(names.len(), 1, "nothing beside it: {names:?}");

    let life = restarted(&plan, 3600, vec![down(), set(&["k1", "k2"])]);
    assert_eq!(life.prove(&token("k1")).await, Ok(()));
    let (_, state) = life.verifier.readiness().remove(0);
    assert_eq!((state.keys, state.problem), (1, None));
    assert!(state.from_snapshot);
    let said = "the keys are 3600 s old and from a snapshot: no fetch yet";
    assert_eq!(state.warning.as_deref(), Some(said));
    life.verifier.publish();
    assert!(life.metric("portcullis_jwks_from_snapshot{issuer=\"keycloak\"} 1"));
    assert!(life.metric("portcullis_jwks_age_seconds{issuer=\"keycloak\"} 3600"));
    assert!(!life.refresh().await);
    let (_, state) = life.verifier.readiness().remove(0);
    let said = "the keys are 3600 s old and from a snapshot: connection refused";
    assert_eq!(state.warning.as_deref(), Some(said));
    assert_eq!(life.prove(&token("k1")).await, Ok(()));

    assert!(life.refresh().await);
    let (_, state) = life.verifier.readiness().remove(0);
    assert_eq!((state.from_snapshot, state.warning), (false, None));
    life.verifier.publish();
    assert!(life.metric("portcullis_jwks_from_snapshot{issuer=\"keycloak\"} 0"));
    assert!(life.metric("portcullis_jwks_age_seconds{issuer=\"keycloak\"} 0"));
    written(&life, 1).await;
    assert_eq!(content(&path)["fetched_at"], NOW + 3600);
}

#[tokio::test]
async fn a_snapshot_never_outlives_max_stale() {
    let (_, _, plan, _) = kept("snapshot-age").await;
    // 24 hours, however many processes they are spread over.
    let life = restarted(&plan, 24 * 3600 - 1, vec![down()]);
    assert_eq!(life.prove(&token("k1")).await, Ok(()));
    life.clock.advance(seconds(1));
    assert_eq!(life.prove(&token("k1")).await, Ok(()));
    life.clock.advance(seconds(1));
    assert_eq!(life.prove(&token("k1")).await, Err(STALE));
    assert!(life.ready().expect_err("stale").contains("86401 s old"));
    let life = restarted(&plan, 24 * 3600 + 1, vec![down()]);
    assert_eq!(life.prove(&token("k1")).await, Err(NO_KEYS));
}

#[tokio::test]
async fn an_unchanged_set_is_written_only_to_keep_its_age_true() {
    let (_, path, plan, life) = kept("snapshot-often").await;
    life.clock.advance(seconds(3599));
    life.refresh().await;
    life.clock.advance(seconds(1));
    life.refresh().await;
    written(&life, 2).await;
    assert_eq!(content(&path)["fetched_at"], NOW + 3600);
    // A changed one at once.
    *life.script.answers.lock().expect("answers") = vec![set(&["k2"])].into();
    life.refresh().await;
    written(&life, 3).await;
    // What the file says already is known after a restart too.
    let life = restarted(&plan, 3700, vec![set(&["k2"]), set(&["k3"])]);
    life.refresh().await;
    life.refresh().await;
    written(&life, 1).await;
    let document = content(&path)["document"]
        .as_str()
        .expect("text")
        .to_owned();
    assert!(document.contains("k3"));
}

#[tokio::test]
async fn what_cannot_be_trusted_is_as_if_it_were_not_there() {
    let (_, path, plan, _) = kept("snapshot-bad").await;
    let good = content(&path);
    let with = |name: &str, value: Value| {
        let mut file = good.clone();
        file[name] = value;
        file.to_string().into_bytes()
    };
    let empty = json!({"keys": []}).to_string();
    let symmetric = json!({"keys": [{"kty": "oct", "kid": "k1", "k": "c2VjcmV0"}]}).to_string();
    for (what, bytes) in [
        ("empty", Vec::new()),
        ("no JSON", b"<html>".to_vec()),
        ("cut off", good.to_string().into_bytes()[..100].to_vec()),
        ("no UTF-8", b"\xff\xfe".to_vec()),
        ("too large", vec![b' '; (1 << 20) + 1]),
        ("another version", with("version", json!(2))),
        (
            "another issuer",
            with("issuer", json!(format!("{ISSUER}/"))),
        ),
        ("the future", with("fetched_at", json!(NOW + 6))),
        ("no time", with("fetched_at", Value::Null)),
        ("a text for a time", with("fetched_at", json!("1790000000"))),
        ("a negative time", with("fetched_at", json!(-1))),
        ("no document", with("document", Value::Null)),
        ("no key set", with("document", json!("{}"))),
        ("no key", with("document", json!(empty))),
        ("a secret", with("document", json!(symmetric))),
    ] {
        std::fs::write(&path, bytes).expect("written");
        let life = restarted(&plan, 0, vec![set(&["k1"])]);
        assert_eq!(life.prove(&token("k1")).await, Err(NO_KEYS), "{what}");
        // It is replaced by the next good one.
        assert!(life.refresh().await, "{what}");
        written(&life, 1).await;
        assert_eq!(content(&path), good, "{what}");
    }
    // Clocks may differ by as much as the configuration forgives.
    std::fs::write(&path, with("fetched_at", json!(NOW + 5))).expect("written");
    let life = restarted(&plan, 0, vec![down()]);
    assert_eq!(life.prove(&token("k1")).await, Ok(()));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o602)).expect("a mode");
    let life = restarted(&plan, 0, vec![down()]);
    assert_eq!(life.prove(&token("k1")).await, Err(NO_KEYS), "anybody's");
}

#[tokio::test]
async fn a_path_that_cannot_be_written_is_no_outage() {
    let directory = directory("snapshot-nowhere");
    let path = directory.join("absent").join("keys.json");
    let plan = keeping(&path);
    let life = restarted(&plan, 0, vec![set(&["k1"])]);
    assert!(life.refresh().await);
    unwritten(&life).await;
    assert_eq!(life.prove(&token("k1")).await, Ok(()));
    assert_eq!(life.ready(), Ok(1));
    // Once it can be written, it is.
    std::fs::create_dir(directory.join("absent")).expect("a directory");
    assert!(life.refresh().await);
    written(&life, 1).await;
    // What is in its place and no file is left alone.
    let plan = keeping(&directory.join("absent"));
    let life = restarted(&plan, 0, vec![set(&["k1"])]);
    assert!(life.refresh().await);
    unwritten(&life).await;
    let names: Vec<_> = std::fs::read_dir(&directory).expect("it").collect();
    assert_eq!(names.len(), 1, "nothing is left behind: {names:?}");
}
