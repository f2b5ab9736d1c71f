//! What is revoked, for whom and until when.

use super::*;

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
