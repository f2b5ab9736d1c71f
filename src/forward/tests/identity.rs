//! Who the token proved, as an upstream reads it.

use super::*;

#[test]
fn the_identity_is_written_from_the_principal() {
    let head = Way {
        principal: Some(Somebody {
            scopes: words(&["accounts:read", "email"]),
            realm_roles: words(&["ACCOUNTS", "AUDIT"]),
            ..somebody()
        }),
        ..Way::of(accounts())
    }
    .go();
    for (name, value) in [
        ("x-auth-issuer", "https://sso.example.com/realms/keycloak"),
        ("x-auth-client", "eazybank-callcenter-cc"),
        ("x-auth-subject", "5bd3c6c4"),
        ("x-auth-scope", "accounts:read email"),
        ("x-auth-roles", "ACCOUNTS,AUDIT"),
    ] {
        assert_eq!(all(&head, name), [value]);
    }
}

#[test]
fn what_a_token_does_not_say_is_left_out() {
    let head = Way {
        principal: Some(Somebody {
            subject: None,
            scopes: Vec::new(),
            realm_roles: Vec::new(),
            ..claims(json!({"customer_id": null}))
        }),
        ..Way::of(forwarding("x-customer", "/customer_id"))
    }
    .sends("X-Auth-Subject", "root")
    .sends("X-Customer", "root")
    .go();
    for name in [
        "x-auth-subject",
        "x-auth-scope",
        "x-auth-roles",
        "x-customer",
    ] {
        assert!(all(&head, name).is_empty(), "{name}");
    }
}

#[test]
fn a_public_route_sets_no_identity() {
    let head = Way::public().sends("Authorization", "Bearer x").go();
    assert!(
        !head
            .headers
            .keys()
            .any(|n| n.as_str().starts_with("x-auth-"))
    );
    assert!(!head.headers.contains_key("authorization"));
}

#[test]
fn a_claim_cannot_break_a_field() {
    for (text, encoded) in [
        ("plain text", "plain text"),
        ("~!@#$^&*()_+\"'<>;:\\", "~!@#$^&*()_+\"'<>;:\\"),
        ("a,b", "a,b"),
        ("100%", "100%25"),
        ("%41", "%2541"),
        ("a\r\nX-Auth-Roles: root", "a%0D%0AX-Auth-Roles: root"),
        ("a\nb", "a%0Ab"),
        ("a\0b", "a%00b"),
        ("a\tb", "a%09b"),
        ("\u{7f}", "%7F"),
        ("\u{1b}[31m", "%1B[31m"),
        ("caf\u{e9}", "caf%C3%A9"),
        ("\u{85}\u{a0}\u{2028}", "%C2%85%C2%A0%E2%80%A8"),
        ("\u{1f980}", "%F0%9F%A6%80"),
        ("", ""),
    ] {
        let head = Way {
            principal: Some(Somebody {
                subject: Some(text.to_owned()),
                client: text.to_owned(),
                issuer_url: text.into(),
                ..claims(json!({"customer_id": text}))
            }),
            ..Way::of(forwarding("x-customer", "/customer_id"))
        }
        .go();
        for name in [
            "x-auth-subject",
            "x-auth-client",
            "x-auth-issuer",
            "x-customer",
        ] {
            assert_eq!(all(&head, name), [encoded], "{name} {text:?}");
        }
        assert!(!all(&head, "x-auth-roles").contains(&"root"));
    }
}

#[test]
fn a_comma_in_a_role_is_no_second_role() {
    let head = Way {
        principal: Some(Somebody {
            realm_roles: words(&["a,ADMIN", "b c", "%2C", "d\r\ne", "\u{fc}"]),
            scopes: words(&["a,b", "c%", "\u{fc}"]),
            ..somebody()
        }),
        ..Way::of(accounts())
    }
    .go();
    assert_eq!(
        all(&head, "x-auth-roles"),
        ["a%2CADMIN,b c,%252C,d%0D%0Ae,%C3%BC"]
    );
    assert_eq!(all(&head, "x-auth-scope"), ["a,b c%25 %C3%BC"]);
}

/// Blanks around a field's value, and around a list's members, are none of it (RFC 9110 sections 5.5 and 5.6.1): a
/// subject ` root` would arrive as `root`.
#[test]
fn a_blank_at_an_end_is_encoded() {
    let head = Way {
        principal: Some(Somebody {
            subject: Some(" root ".to_owned()),
            client: " ".to_owned(),
            realm_roles: words(&["USER", " ADMIN", "x  ", "a b"]),
            ..claims(json!({"customer_id": "  c"}))
        }),
        ..Way::of(forwarding("x-customer", "/customer_id"))
    }
    .go();
    assert_eq!(all(&head, "x-auth-subject"), ["%20root%20"]);
    assert_eq!(all(&head, "x-auth-client"), ["%20"]);
    assert_eq!(all(&head, "x-auth-roles"), ["USER,%20ADMIN,x %20,a b"]);
    assert_eq!(all(&head, "x-customer"), ["%20 c"]);
}

#[test]
fn a_claim_is_found_by_its_json_pointer() {
    let token = json!({
        "customer_id": "c-1",
        "number": 42,
        "flag": false,
        "nested": {"list": ["x", {"deep": "y"}], "a/b": "slash", "m~n": "tilde"},
        "https://example.com/claim": "namespaced",
        "": "empty",
        "null": null,
    });
    for (pointer, found) in [
        ("/customer_id", Some("c-1")),
        ("/number", Some("42")),
        ("/flag", Some("false")),
        ("/nested/list/0", Some("x")),
        ("/nested/list/1/deep", Some("y")),
        ("/nested/list", Some("[\"x\",{\"deep\":\"y\"}]")),
        ("/nested/a~1b", Some("slash")),
        ("/nested/m~0n", Some("tilde")),
        ("/https:~1~1example.com~1claim", Some("namespaced")),
        ("/", Some("empty")),
        ("/null", None),
        ("/absent", None),
        ("/nested/absent", None),
        ("/nested/list/2", None),
        ("/customer_id/x", None),
        ("customer_id", None),
        ("", None),
    ] {
        let head = Way {
            principal: Some(claims(token.clone())),
            ..Way::of(forwarding("x-customer", pointer))
        }
        .go();
        assert_eq!(
            all(&head, "x-customer").first().copied(),
            found,
            "{pointer}"
        );
    }
}

#[test]
fn authorization_passes_only_where_the_route_keeps_it() {
    let dropped = Way::of(accounts()).sends("Authorization", "Bearer t").go();
    assert!(all(&dropped, "authorization").is_empty());
    let keeps = RoutePlan {
        keep_authorization: true,
        ..accounts()
    };
    let kept = Way::of(keeps).sends("Authorization", "Bearer t").go();
    assert_eq!(all(&kept, "authorization"), ["Bearer t"]);
}
