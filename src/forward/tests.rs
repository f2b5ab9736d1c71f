#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;
use crate::authorize;
use crate::config::plan::{Access, Policy};
use crate::testkit::{Somebody, plan, route, somebody, words};

const CALLER: Caller<'_> = Caller {
    address: Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7))),
    tls: false,
    trusted: &[],
};

/// One request on its way to an upstream.
struct Way {
    route: RoutePlan,
    others: Vec<RoutePlan>,
    principal: Option<Somebody>,
    raw_target: &'static str,
    path: &'static str,
    sent_as: Option<&'static str>,
    sent: Vec<(&'static str, String)>,
}

impl Way {
    fn of(route: RoutePlan) -> Self {
        Way {
            route,
            others: Vec::new(),
            principal: Some(somebody()),
            raw_target: "/accounts/1?x=1",
            path: "/accounts/1",
            sent_as: None,
            sent: vec![("Host", "api.example.com:8072".to_owned())],
        }
    }

    fn public() -> Self {
        let route = RoutePlan {
            access: Access::Public,
            ..route("/accounts")
        };
        Way {
            principal: None,
            ..Way::of(route)
        }
    }

    fn sends(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.sent.push((name, value.into()));
        self
    }

    fn targets(self, raw_target: &'static str, path: &'static str) -> Self {
        Way {
            raw_target,
            path,
            ..self
        }
    }

    fn from(self, caller: Caller<'_>) -> RequestHeader {
        let mut head = RequestHeader::build("GET", self.raw_target.as_bytes(), None).unwrap();
        for (name, value) in self.sent {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            head.append_header(name, value).unwrap();
        }
        let permit = match self.principal {
            Some(who) => authorize::check(&Policy::default(), who.principal()).unwrap(),
            None => authorize::public(&Access::Public).unwrap(),
        };
        let target = Target {
            host: "api.example.com".to_owned(),
            path: self.path.to_owned(),
            query: self
                .raw_target
                .split_once('?')
                .map(|(_, query)| query.to_owned()),
            forms: crate::config::plan::TargetForms::default(),
            sent_as: self.sent_as.map(str::to_owned),
        };
        let ids = (&RequestId::of(&head.headers), &Trace::of(&head.headers));
        let mut routes = self.others;
        routes.push(self.route);
        let plan = plan(routes);
        let route = plan.routes.last().unwrap();
        let stripper = Stripper::new(&plan);
        request(&mut head, &stripper, route, &permit, &target, caller, ids).unwrap();
        head
    }

    fn go(self) -> RequestHeader {
        self.from(CALLER)
    }
}

fn accounts() -> RoutePlan {
    route("/accounts")
}

fn all<'a>(head: &'a RequestHeader, name: &str) -> Vec<&'a str> {
    head.headers
        .get_all(name)
        .iter()
        .map(|value| value.to_str().unwrap())
        .collect()
}

fn forwarding(name: &'static str, pointer: &str) -> RoutePlan {
    RoutePlan {
        forward_headers: vec![(HeaderName::from_static(name), pointer.to_owned())],
        ..accounts()
    }
}

fn claims(claims: serde_json::Value) -> Somebody {
    Somebody {
        claims: claims.as_object().unwrap().clone(),
        ..somebody()
    }
}

#[test]
fn no_spelling_of_an_identity_header_passes_from_a_caller() {
    for name in [
        "x-auth-subject",
        "X-Auth-Subject",
        "X-AUTH-ANYTHING",
        "x-auth-",
        "x_auth_subject",
        "X_Auth_Roles",
        "x-auth_client",
        "x_auth-client",
        "x.auth.client",
        "x-auth.issuer",
        "x.auth_scope",
        "x!auth!client",
        "x~auth~client",
        "x|auth'client",
        "x-auth*client",
        "x-forwarded-user",
        "X_Forwarded_For",
        "x.forwarded.host",
        "X-Forwarded-Prefix",
        "x-customer",
        "X-Customer",
        "x_customer",
        "X.Customer",
        "x+customer",
    ] {
        let way = Way {
            others: vec![forwarding("x-customer", "/customer_id")],
            ..Way::public().sends(name, "root").sends(name, "admin")
        };
        let head = way.go();
        let forged = |value: &HeaderValue| value == "root" || value == "admin";
        assert!(!head.headers.values().any(forged), "{name}");
        let mut wire = Vec::new();
        head.header_to_h1_wire(&mut wire);
        assert!(!String::from_utf8(wire).unwrap().contains("root"), "{name}");
    }
}

#[test]
fn a_caller_cannot_add_to_an_identity_header() {
    let head = Way {
        principal: Some(claims(json!({"customer_id": "c-1"}))),
        ..Way::of(forwarding("x-customer", "/customer_id"))
    }
    .sends("x-auth-client", "evil")
    .sends("X-Auth-Client", "evil")
    .sends("X-Customer", "evil")
    .go();
    assert_eq!(all(&head, "x-auth-client"), ["eazybank-callcenter-cc"]);
    assert_eq!(all(&head, "x-customer"), ["c-1"]);
}

#[test]
fn what_an_upstream_could_believe_about_origin_or_target_is_stripped() {
    for name in [
        "Forwarded",
        "X-Real-IP",
        "X_Real_IP",
        "X-Client-IP",
        "X-Cluster-Client-IP",
        "True-Client-IP",
        "X-Original-URL",
        "X_Original_URL",
        "X-Original-URI",
        "X-Rewrite-URL",
        "X.Rewrite.URL",
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Method-Override",
        "X-Envoy-Original-Path",
        "Proxy",
        "X-Forwarded",
        "X_Forwarded",
        "X-Original-Forwarded-For",
        "Client-IP",
        "CF-Connecting-IP",
        "Fastly-Client-IP",
        "X-Envoy-External-Address",
        "X-Originating-IP",
        "X-Remote-IP",
        "X-Remote-Addr",
        "X-Host",
        "X-Original-Host",
        "X-Envoy-Original-Host",
        "X-Original-Path",
        "X-Original-Method",
        "Remote-User",
        "REMOTE_USER",
        "X-Remote-User",
        "Client-Cert",
        "Client_Cert_Chain",
        "X-Client-Cert",
    ] {
        let head = Way::of(accounts()).sends(name, "/admin").go();
        assert!(!head.headers.values().any(|v| v == "/admin"), "{name}");
    }
}

#[test]
fn hop_by_hop_fields_are_stripped() {
    for name in [
        "Connection",
        "Keep-Alive",
        "Proxy-Authenticate",
        "Proxy-Authorization",
        "Proxy_Authorization",
        "Proxy-Connection",
        "TE",
        "Upgrade",
        "HTTP2-Settings",
    ] {
        let head = Way::of(accounts()).sends(name, "hop").go();
        assert!(!head.headers.values().any(|v| v == "hop"), "{name}");
    }
}

#[test]
fn a_second_spelling_of_what_decides_a_request_is_stripped() {
    for name in [
        "Content_Length",
        "Transfer_Encoding",
        "Transfer.Encoding",
        "X_Request_Id",
    ] {
        let head = Way::of(accounts()).sends(name, "5").go();
        assert!(!head.headers.values().any(|v| v == "5"), "{name}");
    }
}

#[test]
fn a_callers_own_fields_pass_as_they_came() {
    let ordinary = [
        ("Accept", "application/json"),
        ("Content-Length", "5"),
        ("Cookie", "a=b"),
        ("X-Author", "me"),
        ("X-Authority", "me"),
        ("X_Custom", "1"),
        ("X-Customers", "2"),
        ("Idempotency-Key", "k"),
    ];
    let mut way = Way {
        others: vec![forwarding("x-customer", "/customer_id")],
        ..Way::of(accounts())
    };
    for (name, value) in ordinary {
        way = way.sends(name, value);
    }
    let head = way.go();
    for (name, value) in ordinary {
        assert_eq!(all(&head, name), [value], "{name}");
    }
    assert_eq!(all(&head, "host"), ["api.example.com:8072"]);
}

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

const PROXY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 2, 3));

fn forged(way: Way) -> Way {
    way.sends("X-Forwarded-For", "203.0.113.9, 198.51.100.1")
        .sends("X-Forwarded-For", "198.51.100.2")
        .sends("X-Forwarded-Proto", "https")
        .sends("X-Forwarded-Host", "public.example.com")
        .sends("X-Forwarded-Port", "443")
}

#[test]
fn a_strangers_forwarded_fields_are_replaced() {
    let head = forged(Way::of(accounts())).go();
    assert_eq!(all(&head, "x-forwarded-for"), ["192.0.2.7"]);
    assert_eq!(all(&head, "x-forwarded-proto"), ["http"]);
    assert_eq!(all(&head, "x-forwarded-host"), ["api.example.com:8072"]);
    assert!(all(&head, "x-forwarded-port").is_empty());
}

#[test]
fn a_trusted_proxys_forwarded_fields_are_believed() {
    let trusted = ["10.0.0.0/8".parse().unwrap()];
    let caller = Caller {
        address: Some(PROXY),
        tls: false,
        trusted: &trusted,
    };
    let head = forged(Way::of(accounts())).from(caller);
    assert_eq!(
        all(&head, "x-forwarded-for"),
        ["203.0.113.9, 198.51.100.1, 198.51.100.2, 10.1.2.3"]
    );
    assert_eq!(all(&head, "x-forwarded-proto"), ["https"]);
    assert_eq!(all(&head, "x-forwarded-host"), ["public.example.com"]);

    let stranger = Caller {
        address: CALLER.address,
        ..caller
    };
    let head = forged(Way::of(accounts())).from(stranger);
    assert_eq!(all(&head, "x-forwarded-for"), ["192.0.2.7"]);
    assert_eq!(all(&head, "x-forwarded-proto"), ["http"]);
}

#[test]
fn a_trusted_proxy_that_says_two_things_is_not_believed() {
    let trusted = ["10.0.0.0/8".parse().unwrap()];
    let caller = Caller {
        address: Some(PROXY),
        tls: true,
        trusted: &trusted,
    };
    let head = Way::of(accounts())
        .sends("X-Forwarded-Proto", "http")
        .sends("X-Forwarded-Proto", "http")
        .sends("X-Forwarded-Host", "a.example")
        .sends("X-Forwarded-Host", "b.example")
        .from(caller);
    assert_eq!(all(&head, "x-forwarded-proto"), ["https"]);
    assert_eq!(all(&head, "x-forwarded-host"), ["api.example.com:8072"]);
    assert_eq!(all(&head, "x-forwarded-for"), ["10.1.2.3"]);
}

/// A proxy that hands on what its own callers say made `javascript` the beginning of a service's links.
#[test]
fn a_trusted_proxy_can_name_schemes_alone() {
    let trusted = ["10.0.0.0/8".parse().unwrap()];
    let caller = Caller {
        address: Some(PROXY),
        tls: false,
        trusted: &trusted,
    };
    for (said, sent) in [
        ("https", "https"),
        ("HTTPS", "HTTPS"),
        ("wss", "wss"),
        ("javascript", "http"),
        ("https, http", "http"),
        ("", "http"),
    ] {
        let way = Way::of(accounts()).sends("X-Forwarded-Proto", said);
        let head = way.from(caller);
        assert_eq!(all(&head, "x-forwarded-proto"), [sent], "{said}");
    }
}

#[test]
fn a_caller_without_an_address_is_trusted_by_nobody() {
    let trusted = ["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
    let caller = Caller {
        address: None,
        tls: true,
        trusted: &trusted,
    };
    let head = forged(Way::of(accounts())).from(caller);
    assert_eq!(all(&head, "x-forwarded-for"), ["unknown"]);
    assert_eq!(all(&head, "x-forwarded-proto"), ["https"]);
}

#[test]
fn request_id_and_trace_are_set_once() {
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let head = Way::of(accounts())
        .sends("X-Request-Id", "abc")
        .sends("Traceparent", parent)
        .sends("Tracestate", "v=1")
        .go();
    assert_eq!(all(&head, "x-request-id"), ["abc"]);
    assert_eq!(all(&head, "traceparent"), [parent]);
    assert_eq!(all(&head, "tracestate"), ["v=1"]);
}

#[test]
fn a_new_trace_takes_no_state_from_the_caller() {
    let head = Way::of(accounts())
        .sends("X-Request-Id", "a b")
        .sends("Traceparent", "00-0-0-0")
        .sends("Tracestate", "v=1")
        .sends("Tracestate", "w=2")
        .go();
    assert_eq!(all(&head, "x-request-id")[0].len(), 32);
    assert_eq!(all(&head, "traceparent")[0].len(), 55);
    assert!(all(&head, "tracestate").is_empty());
}

#[test]
fn the_path_that_was_matched_is_sent_without_its_prefix() {
    for (prefix, raw, path, sent) in [
        (None, "/accounts/1?x=1", "/accounts/1", "/accounts/1?x=1"),
        (None, "/accounts/", "/accounts/", "/accounts/"),
        (None, "/caf%C3%A9?", "/caf%C3%A9", "/caf%C3%A9?"),
        (
            Some("/accounts"),
            "/accounts/1?x=1",
            "/accounts/1",
            "/1?x=1",
        ),
        (Some("/accounts"), "/accounts", "/accounts", "/"),
        (Some("/accounts"), "/accounts?x=/a", "/accounts", "/?x=/a"),
        (Some("/accounts"), "/accounts/", "/accounts/", "/"),
        (Some("/accounts"), "/accounts/1/", "/accounts/1/", "/1/"),
        (Some("/accounts"), "/accounts?", "/accounts", "/?"),
        (
            Some("/accounts"),
            "/accounts/accounts/1",
            "/accounts/accounts/1",
            "/accounts/1",
        ),
        (
            Some("/accounts"),
            "/accounts/a%20b",
            "/accounts/a%20b",
            "/a%20b",
        ),
        (Some("/accounts"), "/accountsx", "/accountsx", "/accountsx"),
        (Some("/accounts"), "/other", "/other", "/other"),
        (Some("/a/b"), "/a/b/c", "/a/b/c", "/c"),
        (Some("/"), "/a/b", "/a/b", "/a/b"),
        (Some("/"), "/", "/", "/"),
        // Another spelling of the prefix is the prefix.
        (Some("/a:b"), "/a%3ab/c%3A", "/a%3ab/c%3A", "/c%3A"),
        (Some("/caf%C3%A9"), "/caf%c3%a9", "/caf%c3%a9", "/"),
        (Some("/a:b"), "/a%3bb/c", "/a%3bb/c", "/a%3bb/c"),
        // Absolute-form: Pingora would send the whole URL.
        (
            None,
            "http://api.example.com:8072/accounts/1?x=1",
            "/accounts/1",
            "/accounts/1?x=1",
        ),
        (
            Some("/accounts"),
            "http://api.example.com:8072/accounts?x=1",
            "/accounts",
            "/?x=1",
        ),
    ] {
        let route = RoutePlan {
            strip_prefix: prefix.map(str::to_owned),
            ..accounts()
        };
        let head = Way::of(route).targets(raw, path).go();
        let seen = String::from_utf8_lossy(head.raw_path());
        assert_eq!(seen, sent, "{prefix:?} {raw}");
        assert_eq!(all(&head, "host"), ["api.example.com:8072"]);
    }
}

#[test]
fn a_route_edits_fields_but_never_ours() {
    let edits = HeaderEdits {
        set: vec![
            (
                HeaderName::from_static("x-edge"),
                HeaderValue::from_static("one"),
            ),
            (
                HeaderName::from_static("x-auth-client"),
                HeaderValue::from_static("evil"),
            ),
            (
                HeaderName::from_static("x-forwarded-for"),
                HeaderValue::from_static("evil"),
            ),
        ],
        remove: vec![
            HeaderName::from_static("x-debug"),
            HeaderName::from_static("x-auth-subject"),
        ],
    };
    let route = RoutePlan {
        request_headers: edits,
        ..accounts()
    };
    let head = Way::of(route)
        .sends("X-Edge", "mine")
        .sends("X-Edge", "mine too")
        .sends("X-Debug", "1")
        .go();
    assert_eq!(all(&head, "x-edge"), ["one"]);
    assert!(all(&head, "x-debug").is_empty());
    assert_eq!(all(&head, "x-auth-client"), ["eazybank-callcenter-cc"]);
    assert_eq!(all(&head, "x-auth-subject"), ["5bd3c6c4"]);
    assert_eq!(all(&head, "x-forwarded-for"), ["192.0.2.7"]);
}

#[test]
fn another_spelling_does_not_escape_a_routes_edits() {
    let route = RoutePlan {
        request_headers: HeaderEdits {
            set: vec![(
                HeaderName::from_static("x-edge"),
                HeaderValue::from_static("one"),
            )],
            remove: vec![HeaderName::from_static("x-debug")],
        },
        ..accounts()
    };
    let head = Way::of(route)
        .sends("X_Edge", "two")
        .sends("X.Debug", "1")
        .sends("X_Other", "kept")
        .go();
    assert_eq!(all(&head, "x-edge"), ["one"]);
    assert!(all(&head, "x_edge").is_empty());
    assert!(all(&head, "x.debug").is_empty());
    assert_eq!(all(&head, "x_other"), ["kept"]);
}

/// RFC 9113 section 8.2.3: HTTP/2 may split what HTTP/1 servers read as one field.
#[test]
fn split_cookies_are_sent_as_one_field() {
    let head = Way::of(accounts())
        .sends("cookie", "a=1")
        .sends("cookie", "b=2; c=3")
        .go();
    assert_eq!(all(&head, "cookie"), ["a=1; b=2; c=3"]);
    let head = Way::of(accounts()).sends("Cookie", "a=1; b=2").go();
    assert_eq!(all(&head, "cookie"), ["a=1; b=2"]);
}

#[test]
fn a_response_loses_what_was_meant_for_us() {
    let mut head = ResponseHeader::build(200, None).unwrap();
    for (name, value) in [
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Authenticate", "Basic"),
        ("Proxy-Connection", "close"),
        ("Upgrade", "h2c"),
        ("X-Request-Id", "theirs"),
        ("X-Request-Id", "theirs too"),
        ("Server", "tomcat"),
        ("X-Powered-By", "x"),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
    ] {
        head.append_header(name, value).unwrap();
    }
    let edits = HeaderEdits {
        set: vec![(
            HeaderName::from_static("server"),
            HeaderValue::from_static("edge"),
        )],
        remove: vec![HeaderName::from_static("x-powered-by")],
    };
    let id = RequestId::fresh();
    response(&mut head, Some(&edits), &id).unwrap();
    let all = |name: &str| -> Vec<&HeaderValue> { head.headers.get_all(name).iter().collect() };
    assert_eq!(all("x-request-id"), [id.value()]);
    assert_eq!(all("server"), ["edge"]);
    assert_eq!(all("set-cookie"), ["a=1", "b=2"]);
    for name in [
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "upgrade",
        "x-powered-by",
    ] {
        assert!(all(name).is_empty(), "{name}");
    }
}
