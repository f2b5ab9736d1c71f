//! What is revoked, in memory and in its file.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::NOW;
use crate::clock::Clock;
use crate::verify::revoked::{Entry, Facts, Id, Kind, NotBefore, Origin, Revocations, Unkept};

const FACTS: Facts<'_> = Facts {
    issuer: "keycloak",
    jti: Some("trrtcc:1"),
    sub: Some("subject"),
    sid: Some("session"),
    client: "callcenter",
    kid: Some("k1"),
    issued_at: Some(NOW),
};

fn in_memory(max: usize) -> (Clock, Arc<Revocations>) {
    let clock = Clock::manual(NOW);
    let store = Revocations::open(None, max, clock.clone(), |_| true);
    (clock, store.expect("a store"))
}

pub(super) fn entry(kind: Kind, value: &str) -> Entry {
    Entry {
        issuer: "keycloak".into(),
        kind,
        value: value.into(),
        until: NOW + 60,
        issued_up_to: None,
        reason: None,
        origin: Origin::Admin,
        made: NOW,
    }
}

/// Whether it is new.
fn revoke(store: &Revocations, entry: Entry) -> Result<bool, Unkept> {
    store.revoke(entry).map(|(_, new)| new)
}

fn keycloak() -> Arc<str> {
    "keycloak".into()
}

/// A directory that goes with its test.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("portcullis-revoked-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a directory");
        Scratch(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("revocations.json")
    }

    fn open(&self) -> Result<Arc<Revocations>, String> {
        open(&self.file(), NOW, 100)
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.file()).expect("a file")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn open(file: &Path, now: u64, max: usize) -> Result<Arc<Revocations>, String> {
    Revocations::open(Some(file), max, Clock::manual(now), |issuer| {
        issuer == "keycloak"
    })
}

#[test]
fn each_kind_refuses_its_own_tokens_until_its_end() {
    for (kind, value) in [
        (Kind::Jti, "trrtcc:1"),
        (Kind::Sub, "subject"),
        (Kind::Sid, "session"),
        (Kind::Client, "callcenter"),
        (Kind::Kid, "k1"),
    ] {
        let (clock, store) = in_memory(10);
        // The same word elsewhere, another issuer's, and nobody's.
        for other in Kind::ALL.into_iter().filter(|other| *other != kind) {
            assert_eq!(revoke(&store, entry(other, value)), Ok(true));
        }
        let foreign = Entry {
            issuer: "other".into(),
            ..entry(kind, value)
        };
        assert_eq!(revoke(&store, foreign), Ok(true));
        assert_eq!(revoke(&store, entry(kind, "another")), Ok(true));
        assert!(!store.revoked(&FACTS), "{kind:?}");

        assert_eq!(revoke(&store, entry(kind, value)), Ok(true));
        assert!(store.revoked(&FACTS), "{kind:?}");
        let none = Facts {
            jti: None,
            sub: None,
            sid: None,
            client: "",
            kid: None,
            ..FACTS
        };
        assert!(!store.revoked(&none), "{kind:?}");
        clock.advance(Duration::from_secs(59));
        assert!(store.revoked(&FACTS), "{kind:?}");
        clock.advance(Duration::from_secs(1));
        assert!(!store.revoked(&FACTS), "{kind:?}");
    }
}

#[test]
fn an_entry_may_be_for_tokens_up_to_a_second() {
    let (_, store) = in_memory(10);
    let earlier = Entry {
        issued_up_to: Some(NOW),
        ..entry(Kind::Sub, "subject")
    };
    assert_eq!(revoke(&store, earlier), Ok(true));
    let issued = |issued_at| Facts { issued_at, ..FACTS };
    assert!(store.revoked(&issued(Some(NOW - 1))));
    assert!(store.revoked(&issued(Some(NOW))));
    assert!(!store.revoked(&issued(Some(NOW + 1))));
    // Who does not say when cannot have come later.
    assert!(store.revoked(&issued(None)));
    // It stands beside the one for all of them.
    assert_eq!(revoke(&store, entry(Kind::Sub, "subject")), Ok(true));
    assert!(store.revoked(&issued(Some(NOW + 1))));
    assert_eq!(store.list().len(), 2);
}

#[test]
fn not_before_is_keycloaks_rule() {
    let (_, store) = in_memory(10);
    let issued = |issued_at| Facts { issued_at, ..FACTS };
    assert!(!store.revoked(&issued(None)));
    assert_eq!(store.polled(&keycloak(), NOW), Ok(true));
    assert!(store.revoked(&issued(Some(NOW - 1))));
    assert!(!store.revoked(&issued(Some(NOW))));
    assert!(store.revoked(&issued(None)));
    let other = Facts {
        issuer: "other",
        ..issued(Some(1))
    };
    assert!(!store.revoked(&other));
}

#[test]
fn a_poll_follows_the_realm_and_a_push_only_raises() {
    let (_, store) = in_memory(10);
    let issuer = keycloak();
    assert_eq!(store.polled(&issuer, 100), Ok(true));
    assert_eq!(store.polled(&issuer, 100), Ok(false));
    assert_eq!(store.polled(&issuer, 50), Ok(true));
    assert_eq!(store.pushed(&issuer, 200), Ok(true));
    assert_eq!(store.pushed(&issuer, 150), Ok(false));
    // What was pushed holds whatever the realm document says: it may be older than the push.
    assert_eq!(store.polled(&issuer, 0), Ok(false));
    let is =
        |polled, pushed| assert_eq!(store.not_before("keycloak"), NotBefore { polled, pushed });
    is(0, 200);
    assert_eq!(store.pushes(), [(keycloak(), 200)]);
    assert_eq!(store.polled(&issuer, 250), Ok(true));
    assert_eq!(store.not_before("keycloak").in_force(), 250);
    assert_eq!(store.forget_push(&issuer), Ok(true));
    assert_eq!(store.forget_push(&issuer), Ok(false));
    is(250, 0);
    assert_eq!(store.pushes(), []);
    assert_eq!(store.forget_push(&"nobody".into()), Ok(false));
}

#[test]
fn the_epoch_moves_when_more_is_refused_and_only_then() {
    let (_, store) = in_memory(10);
    let mut last = store.epoch();
    let mut moved = |what: &str, expected: bool| {
        assert_eq!(store.epoch() != last, expected, "{what}");
        last = store.epoch();
    };
    let revoked = entry(Kind::Jti, "a");
    store.revoke(revoked.clone()).expect("room");
    moved("a revocation", true);
    store.revoke(revoked.clone()).expect("room");
    moved("the same with another end, perhaps", true);
    store.restore(&revoked.id()).expect("memory");
    moved("one less", false);
    store.polled(&keycloak(), 10).expect("memory");
    moved("a realm's not-before", true);
    store.polled(&keycloak(), 10).expect("memory");
    moved("the same again", false);
    store.pushed(&keycloak(), 20).expect("memory");
    moved("a push", true);
    store.pushed(&keycloak(), 5).expect("memory");
    moved("an older push", false);
    store.forget_push(&keycloak()).expect("memory");
    moved("no push", false);
}

#[test]
fn a_name_follows_from_what_is_revoked() {
    let (_, store) = in_memory(10);
    let first = entry(Kind::Jti, "a");
    let again = Entry {
        until: NOW + 10,
        reason: Some("lost".into()),
        ..first.clone()
    };
    assert_eq!(first.id(), again.id());
    assert_eq!(revoke(&store, first.clone()), Ok(true));
    assert_eq!(revoke(&store, again.clone()), Ok(false));
    let both = Entry {
        reason: again.reason,
        ..first.clone()
    };
    assert_eq!(store.list(), [Arc::new(both)]);
    let named = |entry: Entry| entry.id();
    let others = [
        named(entry(Kind::Jti, "b")),
        named(entry(Kind::Sid, "a")),
        named(Entry {
            issuer: "other".into(),
            ..first.clone()
        }),
        named(Entry {
            issued_up_to: Some(0),
            ..first.clone()
        }),
    ];
    assert!(others.iter().all(|other| *other != first.id()));
    let shown = first.id().to_string();
    assert_eq!(Id::read(&shown), Some(first.id()));
    assert_eq!(shown.len(), 32);
    for wrong in [
        "",
        "0",
        &shown[1..],
        &shown.to_uppercase(),
        &format!("{shown}0"),
    ] {
        assert_eq!(Id::read(wrong).filter(|_| wrong != shown), None, "{wrong}");
    }
    assert_eq!(store.restore(&others[0]), Ok(false));
    assert_eq!(store.restore(&first.id()), Ok(true));
    assert_eq!(store.restore(&first.id()), Ok(false));
    assert_eq!(store.list(), []);
}

#[test]
fn what_holds_is_never_shortened() {
    let (_, store) = in_memory(10);
    let logout = |until, issued_up_to| Entry {
        until,
        issued_up_to: Some(issued_up_to),
        origin: Origin::Logout,
        ..entry(Kind::Sub, "subject")
    };
    assert_eq!(revoke(&store, logout(NOW + 50, NOW)), Ok(true));
    assert_eq!(revoke(&store, logout(NOW + 40, NOW + 1)), Ok(false));
    assert_eq!(store.list(), [Arc::new(logout(NOW + 50, NOW + 1))]);
    assert_eq!(revoke(&store, logout(NOW + 60, NOW - 5)), Ok(false));
    assert_eq!(store.list(), [Arc::new(logout(NOW + 60, NOW + 1))]);
}

#[test]
fn what_is_full_says_so_and_drops_nothing() {
    let (clock, store) = in_memory(2);
    let short = Entry {
        until: NOW + 1,
        ..entry(Kind::Jti, "short")
    };
    assert_eq!(revoke(&store, short), Ok(true));
    assert_eq!(revoke(&store, entry(Kind::Jti, "long")), Ok(true));
    let epoch = store.epoch();
    assert_eq!(revoke(&store, entry(Kind::Sid, "more")), Err(Unkept::Full));
    assert_eq!(store.epoch(), epoch);
    assert_eq!(store.list().len(), 2);
    // One that is there can still be changed, and what has ended makes room.
    assert_eq!(revoke(&store, entry(Kind::Jti, "long")), Ok(false));
    clock.advance(Duration::from_secs(1));
    assert_eq!(store.list().len(), 1);
    assert_eq!(revoke(&store, entry(Kind::Sid, "more")), Ok(true));
    let held = store.held();
    assert_eq!((held[0], held[2]), ((Kind::Jti, 1), (Kind::Sid, 1)));
}

#[test]
fn a_hundred_thousand_are_found() {
    let (_, store) = in_memory(100_000);
    for number in 0..100_000 {
        let entry = entry(Kind::Jti, &format!("trrtcc:{number}"));
        assert_eq!(revoke(&store, entry), Ok(true));
    }
    assert_eq!(
        revoke(&store, entry(Kind::Jti, "one more")),
        Err(Unkept::Full)
    );
    assert!(store.revoked(&FACTS));
    let other = Facts {
        jti: Some("trrtcc:100000"),
        ..FACTS
    };
    assert!(!store.revoked(&other));
}

#[test]
fn the_file_brings_everything_back() {
    let scratch = Scratch::new();
    let all = |store: &Revocations| (store.list(), store.not_before("keycloak"), store.held());
    let kept = {
        let store = scratch.open().expect("a new file");
        let gone = entry(Kind::Client, "gone");
        for entry in [
            entry(Kind::Jti, "quoted \"\n\u{0}ü"),
            Entry {
                reason: Some("lost laptop".into()),
                issued_up_to: Some(NOW),
                origin: Origin::Logout,
                ..entry(Kind::Sub, "subject")
            },
            Entry {
                issuer: "no longer configured".into(),
                ..entry(Kind::Kid, "k1")
            },
            gone.clone(),
        ] {
            assert_eq!(revoke(&store, entry), Ok(true));
        }
        assert_eq!(store.restore(&gone.id()), Ok(true));
        assert_eq!(store.polled(&keycloak(), 10), Ok(true));
        assert_eq!(store.pushed(&keycloak(), 20), Ok(true));
        let mode = std::fs::metadata(scratch.file()).expect("a file");
        assert_eq!(mode.permissions().mode() & 0o777, 0o600);
        all(&store)
    };
    assert_eq!(kept.0.len(), 3);
    // Once from the lines that were added, and once from what the start made of them.
    for _ in 0..2 {
        let store = scratch.open().expect("the same file");
        assert_eq!(all(&store), kept);
        assert!(store.revoked(&FACTS));
    }
    // What has ended meanwhile is gone.
    let later = open(&scratch.file(), NOW + 60, 100).expect("the same file");
    assert_eq!(later.list(), []);
    assert_eq!(later.not_before("keycloak").in_force(), 20);
}

#[test]
fn a_realm_that_is_no_longer_polled_keeps_only_what_was_pushed() {
    let scratch = Scratch::new();
    {
        let store = scratch.open().expect("a new file");
        let other: Arc<str> = "other".into();
        assert_eq!(store.polled(&other, 30), Ok(true));
        assert_eq!(store.pushed(&other, 20), Ok(false));
    }
    let store = scratch.open().expect("the same file");
    assert_eq!(store.not_before("other").in_force(), 20);
}

#[test]
fn a_broken_file_stops_the_start() {
    let scratch = Scratch::new();
    {
        let store = scratch.open().expect("a new file");
        for value in ["a", "b"] {
            assert_eq!(revoke(&store, entry(Kind::Jti, value)), Ok(true));
        }
    }
    // Two lines were added to a head that counts none; now the head counts two.
    drop(scratch.open().expect("the same file"));
    let good = scratch.text();
    let head = good.lines().next().expect("a head");
    let line = good.lines().nth(1).expect("a line");
    let with = |line: &str| format!("{good}{line}\n");
    for (text, says) in [
        (String::new(), "cut off in its first line"),
        ("{".to_owned(), "cut off in its first line"),
        ("[]\n".to_owned(), "first line"),
        (format!("{line}\n"), "first line"),
        (head.replace("ns 1", "ns 2") + "\n", "format"),
        (good[..good.len() - 1].to_owned(), "should have 3 lines"),
        (format!("{head}\n{line}\n"), "should have 3 lines"),
        (with("{"), "line 4"),
        (with(""), "line 4"),
        (with("\u{fffd}"), "line 4"),
        (with(&line.replace("until", "untl")), "line 4"),
        (with(&line.replace("\"jti\"", "\"nonce\"")), "line 4"),
        (with(&line.replace("\"jti\":\"a\",", "")), "exactly one of"),
        (
            with(&line.replace("\"jti\"", "\"sid\":\"s\",\"jti\"")),
            "exactly one of",
        ),
        (with(r#"{"restored":"a"}"#), "32 hexadecimal digits"),
        (with(r#"{"forgotten":"a"}"#), "line 4"),
        (with(&"x".repeat(20_000)), "line 4 is too long"),
    ] {
        std::fs::write(scratch.file(), &text).expect("written");
        let why = scratch.open().map(drop).expect_err(&text);
        assert!(why.contains(says), "{text}\n{why}");
        assert!(
            why.starts_with("revocations.file: ") && !why.contains('\n'),
            "{why}"
        );
        assert!(why.contains(&*scratch.file().to_string_lossy()), "{why}");
        // It is left as it was, for whoever mends it.
        assert_eq!(scratch.text(), text);
    }
    std::fs::write(scratch.file(), b"\xff\xfe\n").expect("written");
    scratch.open().map(drop).expect_err("no UTF-8");
    std::fs::write(scratch.file(), &good).expect("written");
    assert_eq!(scratch.open().expect("the good one").list().len(), 2);
    let why = open(&scratch.file(), NOW, 1)
        .map(drop)
        .expect_err("too many");
    assert!(why.contains("raise revocations.max"), "{why}");
}

#[test]
fn a_line_that_a_crash_cut_off_was_never_promised() {
    let scratch = Scratch::new();
    {
        let store = scratch.open().expect("a new file");
        assert_eq!(revoke(&store, entry(Kind::Jti, "a")), Ok(true));
        assert_eq!(revoke(&store, entry(Kind::Jti, "b")), Ok(true));
    }
    let text = scratch.text();
    std::fs::write(scratch.file(), &text[..text.len() - 5]).expect("written");
    let store = scratch.open().expect("a torn end");
    assert_eq!(store.list().len(), 1);
    assert_eq!(revoke(&store, entry(Kind::Jti, "c")), Ok(true));
    drop(store);
    assert_eq!(scratch.open().expect("whole again").list().len(), 2);
}

#[test]
fn a_file_that_cannot_be_made_stops_the_start() {
    let scratch = Scratch::new();
    let absent = scratch.0.join("absent/revocations.json");
    let why = open(&absent, NOW, 100).map(drop).expect_err("no directory");
    assert!(why.contains("absent/revocations.json"), "{why}");
    std::fs::create_dir(scratch.file()).expect("a directory");
    scratch.open().map(drop).expect_err("a directory");
}

#[test]
fn two_gateways_do_not_share_a_file() {
    let scratch = Scratch::new();
    let store = scratch.open().expect("a new file");
    let why = scratch.open().map(drop).expect_err("taken");
    assert!(why.contains("another process"), "{why}");
    drop(store);
    scratch.open().expect("free again");
}

#[test]
fn the_file_does_not_grow_with_what_is_gone() {
    let scratch = Scratch::new();
    let store = scratch.open().expect("a new file");
    let mut longest = 0;
    for number in 0..1000 {
        let entry = entry(Kind::Jti, &number.to_string());
        assert_eq!(revoke(&store, entry.clone()), Ok(true));
        assert_eq!(store.restore(&entry.id()), Ok(true));
        longest = longest.max(scratch.text().len());
    }
    // A thousand lines, not two thousand; and never written anew for each.
    assert!((50_000..150_000).contains(&longest), "{longest}");
    drop(store);
    assert_eq!(scratch.open().expect("the same file").list(), []);
}

#[test]
fn what_cannot_be_written_holds_in_memory_and_says_so() {
    let scratch = Scratch::new();
    let store = scratch.open().expect("a new file");
    std::fs::remove_dir_all(&scratch.0).expect("removed");
    let known = entry(Kind::Jti, "known");
    let again = |count: usize| {
        (0..count)
            .map(|_| revoke(&store, known.clone()))
            .collect::<Vec<_>>()
    };
    // The open file takes lines until it has to be written whole.
    let unwritten = again(1100).into_iter().find_map(Result::err);
    assert!(
        matches!(unwritten, Some(Unkept::Unwritten(_))),
        "{unwritten:?}"
    );
    let failed = |outcome| assert!(matches!(outcome, Err(Unkept::Unwritten(_))), "{outcome:?}");
    failed(revoke(&store, entry(Kind::Jti, "trrtcc:1")));
    assert!(store.revoked(&FACTS));
    failed(store.pushed(&keycloak(), 20));
    assert_eq!(store.not_before("keycloak").pushed, 20);
    // Taking something out is not done halfway.
    failed(store.restore(&known.id()));
    assert_eq!(store.list().len(), 2);
    failed(store.forget_push(&keycloak()));
    assert_eq!(store.not_before("keycloak").pushed, 20);
    // The first write that succeeds has it all.
    std::fs::create_dir_all(&scratch.0).expect("a directory");
    assert_eq!(revoke(&store, entry(Kind::Sid, "s")), Ok(true));
    drop(store);
    let store = scratch.open().map_err(|why| why.replace('\n', " "));
    let store = store.expect("a whole file");
    assert_eq!(store.list().len(), 3);
    assert_eq!(store.not_before("keycloak").pushed, 20);
}
