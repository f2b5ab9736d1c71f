//! What a restart brings back.

use super::*;
use crate::testkit::Scratch;

/// What a store writes.
struct Place(Scratch);

impl Place {
    fn new() -> Self {
        Place(Scratch::new())
    }

    fn file(&self) -> PathBuf {
        self.0.path("revocations.json")
    }

    fn open(&self) -> Result<Arc<Revocations>, String> {
        open(&self.file(), NOW, 100)
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.file()).expect("a file")
    }
}

fn open(file: &Path, now: u64, max: usize) -> Result<Arc<Revocations>, String> {
    Revocations::open(Some(file), max, Clock::manual(now), |issuer| {
        issuer == "keycloak"
    })
}

#[test]
fn the_file_brings_everything_back() {
    let place = Place::new();
    let all = |store: &Revocations| (store.list(), store.not_before("keycloak"), store.held());
    let kept = {
        let store = place.open().expect("a new file");
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
        let mode = std::fs::metadata(place.file()).expect("a file");
        assert_eq!(mode.permissions().mode() & 0o777, 0o600);
        all(&store)
    };
    assert_eq!(kept.0.len(), 3);
    // Once from the lines that were added, and once from what the start made of them.
    for _ in 0..2 {
        let store = place.open().expect("the same file");
        assert_eq!(all(&store), kept);
        assert!(store.revoked(&FACTS));
    }
    // What has ended meanwhile is gone.
    let later = open(&place.file(), NOW + 60, 100).expect("the same file");
    assert_eq!(later.list(), []);
    assert_eq!(later.not_before("keycloak").in_force(), 20);
}

#[test]
fn a_realm_that_is_no_longer_polled_keeps_only_what_was_pushed() {
    let place = Place::new();
    {
        let store = place.open().expect("a new file");
        let other: Arc<str> = "other".into();
        assert_eq!(store.polled(&other, 30), Ok(true));
        assert_eq!(store.pushed(&other, 20), Ok(false));
    }
    let store = place.open().expect("the same file");
    assert_eq!(store.not_before("other").in_force(), 20);
}

#[test]
fn a_broken_file_stops_the_start() {
    let place = Place::new();
    {
        let store = place.open().expect("a new file");
        for value in ["a", "b"] {
            assert_eq!(revoke(&store, entry(Kind::Jti, value)), Ok(true));
        }
    }
    // Two lines were added to a head that counts none; now the head counts two.
    drop(place.open().expect("the same file"));
    let good = place.text();
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
        std::fs::write(place.file(), &text).expect("written");
        let why = place.open().map(drop).expect_err(&text);
        assert!(why.contains(says), "{text}\n{why}");
        assert!(
            why.starts_with("revocations.file: ") && !why.contains('\n'),
            "{why}"
        );
        assert!(why.contains(&*place.file().to_string_lossy()), "{why}");
        // It is left as it was, for whoever mends it.
        assert_eq!(place.text(), text);
    }
    std::fs::write(place.file(), b"\xff\xfe\n").expect("written");
    place.open().map(drop).expect_err("no UTF-8");
    std::fs::write(place.file(), &good).expect("written");
    assert_eq!(place.open().expect("the good one").list().len(), 2);
    let why = open(&place.file(), NOW, 1).map(drop).expect_err("too many");
    assert!(why.contains("raise revocations.max"), "{why}");
}

#[test]
fn a_line_that_a_crash_cut_off_was_never_promised() {
    let place = Place::new();
    {
        let store = place.open().expect("a new file");
        assert_eq!(revoke(&store, entry(Kind::Jti, "a")), Ok(true));
        assert_eq!(revoke(&store, entry(Kind::Jti, "b")), Ok(true));
    }
    let text = place.text();
    std::fs::write(place.file(), &text[..text.len() - 5]).expect("written");
    let store = place.open().expect("a torn end");
    assert_eq!(store.list().len(), 1);
    assert_eq!(revoke(&store, entry(Kind::Jti, "c")), Ok(true));
    drop(store);
    assert_eq!(place.open().expect("whole again").list().len(), 2);
}

#[test]
fn a_file_that_cannot_be_made_stops_the_start() {
    let place = Place::new();
    let absent = place.0.path("absent/revocations.json");
    let why = open(&absent, NOW, 100).map(drop).expect_err("no directory");
    assert!(why.contains("absent/revocations.json"), "{why}");
    std::fs::create_dir(place.file()).expect("a directory");
    place.open().map(drop).expect_err("a directory");
}

#[test]
fn two_gateways_do_not_share_a_file() {
    let place = Place::new();
    let store = place.open().expect("a new file");
    let why = place.open().map(drop).expect_err("taken");
    assert!(why.contains("another process"), "{why}");
    drop(store);
    place.open().expect("free again");
}

#[test]
fn the_file_does_not_grow_with_what_is_gone() {
    let place = Place::new();
    let store = place.open().expect("a new file");
    let mut longest = 0;
    for number in 0..1000 {
        let entry = entry(Kind::Jti, &number.to_string());
        assert_eq!(revoke(&store, entry.clone()), Ok(true));
        assert_eq!(store.restore(&entry.id()), Ok(true));
        longest = longest.max(place.text().len());
    }
    // A thousand lines, not two thousand; and never written anew for each.
    assert!((50_000..150_000).contains(&longest), "{longest}");
    drop(store);
    assert_eq!(place.open().expect("the same file").list(), []);
}

#[test]
fn what_cannot_be_written_holds_in_memory_and_says_so() {
    let place = Place::new();
    let store = place.open().expect("a new file");
    std::fs::remove_dir_all(place.0.directory()).expect("removed");
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
    std::fs::create_dir_all(place.0.directory()).expect("a directory");
    assert_eq!(revoke(&store, entry(Kind::Sid, "s")), Ok(true));
    drop(store);
    let store = place.open().map_err(|why| why.replace('\n', " "));
    let store = store.expect("a whole file");
    assert_eq!(store.list().len(), 3);
    assert_eq!(store.not_before("keycloak").pushed, 20);
}
