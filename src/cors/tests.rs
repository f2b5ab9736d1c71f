use super::*;

const APP: &str = "https://app.example.com";

fn plan(origins: &[&'static str]) -> CorsPlan {
    CorsPlan {
        origins: match origins {
            ["*"] => Origins::Any,
            _ => Origins::Listed(
                origins
                    .iter()
                    .map(|o| HeaderValue::from_static(o))
                    .collect(),
            ),
        },
        methods: vec![Method::GET, Method::HEAD, Method::PUT],
        allow_methods: HeaderValue::from_static("GET, HEAD, PUT"),
        allow_headers: Some(HeaderValue::from_static("authorization")),
        expose_headers: HeaderValue::from_static("X-Request-Id"),
        max_age: Some(HeaderValue::from_static("600")),
    }
}

fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    fields
        .iter()
        .map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        })
        .collect()
}

fn shown(fields: Vec<Field>) -> Vec<String> {
    fields
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect()
}

#[test]
fn a_preflight_has_one_origin_and_one_method() {
    let of = |method: &Method, fields: &[_]| asked(method, &headers(fields));
    let origin = ("origin", APP);
    let put = ("access-control-request-method", "PUT");
    assert_eq!(of(&Method::OPTIONS, &[origin, put]), Some(Method::PUT));
    // Methods are compared with their case, here as everywhere.
    let lower = ("access-control-request-method", "put");
    assert_ne!(of(&Method::OPTIONS, &[origin, lower]), Some(Method::PUT));
    assert_eq!(of(&Method::GET, &[origin, put]), None);
    assert_eq!(of(&Method::OPTIONS, &[origin]), None);
    assert_eq!(of(&Method::OPTIONS, &[put]), None);
    let nonsense = ("access-control-request-method", "P T");
    assert_eq!(of(&Method::OPTIONS, &[origin, nonsense]), None);
    for twice in [origin, put] {
        let mut fields = headers(&[origin, put]);
        fields.append(twice.0, HeaderValue::from_static(twice.1));
        assert_eq!(asked(&Method::OPTIONS, &fields), None);
    }
}

#[test]
fn a_listed_origin_hears_what_it_may_do() {
    let fields = headers(&[("origin", APP)]);
    let cors = plan(&["https://other.example", APP]);
    assert_eq!(
        shown(preflight(&cors, &Method::PUT, &fields)),
        [
            "vary: Origin",
            "access-control-allow-origin: https://app.example.com",
            "access-control-allow-methods: GET, HEAD, PUT",
            "access-control-allow-headers: authorization",
            "access-control-max-age: 600",
        ]
    );
    assert_eq!(
        shown(response(&cors, &Method::GET, &fields)),
        [
            "vary: Origin",
            "access-control-allow-origin: https://app.example.com",
            "access-control-expose-headers: X-Request-Id",
        ]
    );
}

#[test]
fn what_only_looks_like_a_listed_origin_hears_nothing() {
    let cors = plan(&[APP]);
    for origin in [
        "null",
        "",
        "*",
        "https://app.example.com.evil.example",
        "https://evil-app.example.com",
        "https://sub.app.example.com",
        "https://app.example.com:8443",
        "https://app.example.com/",
        "http://app.example.com",
        "https://App.example.com",
        "https://app.example.com,https://evil.example",
        "https://app_example.com",
    ] {
        let fields = headers(&[("origin", origin)]);
        for answer in [
            preflight(&cors, &Method::GET, &fields),
            response(&cors, &Method::GET, &fields),
        ] {
            assert_eq!(shown(answer), ["vary: Origin"], "{origin}");
        }
    }
    let mut twice = headers(&[("origin", APP)]);
    twice.append("origin", HeaderValue::from_static("https://evil.example"));
    assert_eq!(
        shown(response(&cors, &Method::GET, &twice)),
        ["vary: Origin"]
    );
    // The next request may have an origin, and caches must not mix the two.
    assert_eq!(
        shown(response(&cors, &Method::GET, &HeaderMap::new())),
        ["vary: Origin"]
    );
}

/// A browser sends `POST` whatever `Access-Control-Allow-Methods` says, if the answer names its origin.
#[test]
fn another_method_hears_nothing_either() {
    let fields = headers(&[("origin", APP)]);
    let cors = plan(&[APP]);
    for method in [Method::POST, Method::DELETE] {
        assert_eq!(shown(preflight(&cors, &method, &fields)), ["vary: Origin"]);
        assert_eq!(shown(response(&cors, &method, &fields)), ["vary: Origin"]);
    }
}

#[test]
fn every_origin_gets_the_same_answer() {
    let cors = plan(&["*"]);
    for fields in [
        headers(&[("origin", APP)]),
        headers(&[("origin", "null")]),
        HeaderMap::new(),
    ] {
        let answer = shown(response(&cors, &Method::GET, &fields));
        assert_eq!(answer[0], "access-control-allow-origin: *");
        assert_eq!(answer.len(), 2, "{answer:?}");
    }
}

#[test]
fn vary_is_said_once() {
    let says = |value| varies(&headers(&[("vary", value)]));
    assert!(says("Origin") && says("accept-encoding, ORIGIN") && says("*"));
    assert!(!says("Accept-Encoding") && !says("X-Origin") && !varies(&HeaderMap::new()));
}
