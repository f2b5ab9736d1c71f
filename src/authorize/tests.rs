use std::collections::BTreeMap;

use super::*;
use crate::config::plan::IssuerId;
use crate::testkit::{Somebody, somebody, words};

fn check_with(policy: Policy, change: impl FnOnce(&mut Somebody)) -> Result<Permit, Denial> {
    let mut who = somebody();
    change(&mut who);
    check(&policy, who.principal())
}

fn denied(policy: Policy, change: impl FnOnce(&mut Somebody)) -> Option<Denial> {
    check_with(policy, change).err()
}

fn same(_: &mut Somebody) {}

fn roles(roles: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
    roles
        .iter()
        .map(|(client, roles)| ((*client).to_owned(), words(roles)))
        .collect()
}

#[test]
fn a_policy_that_demands_nothing_permits_any_principal() {
    let permit = check_with(Policy::default(), |who| {
        who.issuer = IssuerId(7);
        who.client = String::new();
        who.subject = None;
        who.scopes.clear();
        who.realm_roles.clear();
        who.client_roles.clear();
    });
    assert!(permit.is_ok_and(|permit| permit.principal().is_some()));
}

#[test]
fn a_permit_carries_the_principal_that_was_checked() {
    let who = somebody().principal();
    let permit = check(&Policy::default(), who.clone());
    let same = |p: &Principal| std::sync::Arc::ptr_eq(&p.grants, &who.grants);
    assert!(permit.is_ok_and(|permit| permit.principal().is_some_and(same)));
}

#[test]
fn issuers_are_any_of() {
    let policy = || Policy {
        issuers: vec![IssuerId(0), IssuerId(2)],
        ..Policy::default()
    };
    assert_eq!(denied(policy(), same), None);
    assert_eq!(denied(policy(), |who| who.issuer = IssuerId(2)), None);
    assert_eq!(
        denied(policy(), |who| who.issuer = IssuerId(1)),
        Some(Denial::Issuer)
    );
}

#[test]
fn clients_are_any_of_and_compared_whole() {
    let policy = || Policy {
        clients: words(&["other", "eazybank-callcenter-cc"]),
        ..Policy::default()
    };
    assert_eq!(denied(policy(), same), None);
    for client in [
        "",
        "eazybank",
        "eazybank-callcenter-cc2",
        "EAZYBANK-CALLCENTER-CC",
        " eazybank-callcenter-cc",
        "other,eazybank-callcenter-cc",
    ] {
        assert_eq!(
            denied(policy(), |who| who.client = client.to_owned()),
            Some(Denial::Client),
            "{client:?}"
        );
    }
}

/// RFC 9700 section 4.15: a subject that looks like a client is none.
#[test]
fn a_subject_is_never_taken_for_a_client() {
    let policy = Policy {
        clients: words(&["partner"]),
        ..Policy::default()
    };
    let outcome = denied(policy, |who| who.subject = Some("partner".to_owned()));
    assert_eq!(outcome, Some(Denial::Client));
}

#[test]
fn scopes_are_all_of_and_compared_whole() {
    let policy = || Policy {
        scopes: words(&["accounts:read", "accounts:write"]),
        ..Policy::default()
    };
    for (held, outcome) in [
        (&["accounts:write", "x", "accounts:read"][..], None),
        (&["accounts:read"], Some(Denial::Scope)),
        (&["accounts:write"], Some(Denial::Scope)),
        (&[], Some(Denial::Scope)),
        (&["accounts:read accounts:write"], Some(Denial::Scope)),
        (&["accounts:read,accounts:write"], Some(Denial::Scope)),
        (&["accounts:read\u{a0}accounts:write"], Some(Denial::Scope)),
        (&["Accounts:read", "accounts:write"], Some(Denial::Scope)),
        (&["accounts:reads", "accounts:write"], Some(Denial::Scope)),
        (&["accounts:*", "*"], Some(Denial::Scope)),
    ] {
        let policy = policy();
        assert_eq!(
            denied(policy, |who| who.scopes = words(held)),
            outcome,
            "{held:?}"
        );
    }
}

#[test]
fn any_scope_is_any_of() {
    let policy = || Policy {
        any_scope: words(&["a", "b"]),
        ..Policy::default()
    };
    for (held, outcome) in [
        (&["b"][..], None),
        (&["a", "b"], None),
        (&["c"], Some(Denial::Scope)),
        (&["ab", "a b"], Some(Denial::Scope)),
        (&[], Some(Denial::Scope)),
    ] {
        assert_eq!(
            denied(policy(), |who| who.scopes = words(held)),
            outcome,
            "{held:?}"
        );
    }
}

#[test]
fn realm_roles_are_all_of() {
    let policy = || Policy {
        realm_roles: words(&["ACCOUNTS", "AUDIT"]),
        ..Policy::default()
    };
    for (held, outcome) in [
        (&["AUDIT", "ACCOUNTS"][..], None),
        (&["ACCOUNTS"], Some(Denial::Role)),
        (&["accounts", "audit"], Some(Denial::Role)),
        (&["ACCOUNTS,AUDIT"], Some(Denial::Role)),
        (&[], Some(Denial::Role)),
    ] {
        assert_eq!(
            denied(policy(), |who| who.realm_roles = words(held)),
            outcome,
            "{held:?}"
        );
    }
}

#[test]
fn any_realm_role_is_any_of() {
    let policy = || Policy {
        any_realm_role: words(&["ACCOUNTS", "AUDIT"]),
        ..Policy::default()
    };
    assert_eq!(denied(policy(), same), None);
    assert_eq!(
        denied(policy(), |who| who.realm_roles = words(&["CARDS"])),
        Some(Denial::Role)
    );
    assert_eq!(
        denied(policy(), |who| who.realm_roles.clear()),
        Some(Denial::Role)
    );
}

#[test]
fn client_roles_are_all_of_each_client() {
    let policy = || Policy {
        client_roles: roles(&[
            ("accounts-api", &["reader", "writer"]),
            ("loans-api", &["reader"]),
        ]),
        ..Policy::default()
    };
    let full: &[(&str, &[&str])] = &[
        ("accounts-api", &["writer", "reader", "x"]),
        ("loans-api", &["reader"]),
        ("cards-api", &[]),
    ];
    assert_eq!(denied(policy(), |who| who.client_roles = roles(full)), None);
    let lacking: [&[(&str, &[&str])]; 5] = [
        &[],
        &[("accounts-api", &["reader", "writer"])],
        &[("accounts-api", &["reader"]), ("loans-api", &["reader"])],
        &[("accounts-api", &["reader", "writer"]), ("loans-api", &[])],
        &[
            ("cards-api", &["reader", "writer"]),
            ("loans-api", &["reader"]),
        ],
    ];
    for held in lacking {
        assert_eq!(
            denied(policy(), |who| who.client_roles = roles(held)),
            Some(Denial::Role),
            "{held:?}"
        );
    }
}

#[test]
fn a_right_of_one_kind_is_none_of_another() {
    let lends = |who: &mut Somebody| {
        who.scopes = words(&["scope", "role", "client-role"]);
        who.realm_roles = words(&["scope", "client-role"]);
        who.client_roles = roles(&[("accounts-api", &["scope", "role"])]);
    };
    let role = Policy {
        realm_roles: words(&["role"]),
        ..Policy::default()
    };
    assert_eq!(denied(role, lends), Some(Denial::Role));
    let client_role = Policy {
        client_roles: roles(&[("accounts-api", &["client-role"])]),
        ..Policy::default()
    };
    assert_eq!(denied(client_role, lends), Some(Denial::Role));
    let scope = Policy {
        scopes: words(&["scope"]),
        ..Policy::default()
    };
    let no_scope = |who: &mut Somebody| {
        lends(who);
        who.scopes.clear();
    };
    assert_eq!(denied(scope, no_scope), Some(Denial::Scope));
}

#[test]
fn every_demand_has_to_hold_and_the_first_that_fails_is_named() {
    let policy = || Policy {
        issuers: vec![IssuerId(0)],
        clients: words(&["eazybank-callcenter-cc"]),
        scopes: words(&["accounts:read"]),
        any_scope: words(&["accounts:read", "x"]),
        realm_roles: words(&["ACCOUNTS"]),
        any_realm_role: words(&["ACCOUNTS", "X"]),
        client_roles: roles(&[("accounts-api", &["reader"])]),
        proof: Default::default(),
        schemes: Default::default(),
    };
    assert_eq!(denied(policy(), same), None);
    let mut lacking = somebody();
    lacking.client_roles.clear();
    let order = |lacking: &Somebody| check(&policy(), lacking.clone().principal()).err();
    assert_eq!(order(&lacking), Some(Denial::Role));
    lacking.scopes.clear();
    assert_eq!(order(&lacking), Some(Denial::Scope));
    lacking.client.clear();
    assert_eq!(order(&lacking), Some(Denial::Client));
    lacking.issuer = IssuerId(1);
    assert_eq!(order(&lacking), Some(Denial::Issuer));
}

#[test]
fn a_public_permit_has_no_principal_and_a_protected_route_has_no_public_permit() {
    assert!(public(&Access::Public).is_some_and(|permit| permit.principal().is_none()));
    assert!(public(&Access::Token(Policy::default())).is_none());
}
