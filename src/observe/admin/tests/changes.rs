//! Calls that change something: who may make them, and what they get.

use super::*;

const PUSH: &str = "/issuers/keycloak/k_push_not_before";
const LOGOUT: &str = "/issuers/keycloak/backchannel-logout";
const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";
const ADMIN: &str = "Authorization: Bearer admin token\r\n";

impl Client {
    async fn post(&mut self, path: &str, fields: &str, body: &str) -> Answer {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n{fields}\r\n{body}",
            body.len()
        );
        self.send(&request, "POST").await
    }

    async fn admin(&mut self, method: &str, path: &str) -> Answer {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{ADMIN}\r\n");
        self.send(&request, method).await
    }
}

impl Answer {
    /// A problem with this status; its detail.
    #[track_caller]
    fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.body);
        assert!(
            self.head
                .contains("content-type: application/problem+json\r\n")
        );
        let body = self.json();
        assert_eq!(body["status"], status);
        body["detail"].as_str().expect("a detail").to_owned()
    }
}

#[tokio::test]
async fn guarded_calls_need_the_token_and_nothing_else_does() {
    let guarded = [
        ("GET", "/revocations"),
        ("HEAD", "/revocations"),
        ("POST", "/revocations"),
        ("DELETE", "/revocations/a"),
        ("POST", "/issuers/keycloak/keys/refresh"),
        ("POST", "/issuers/other/keys/refresh"),
    ];
    for (method, path) in guarded {
        for (fields, challenge) in [
            ("", "bearer realm=\"portcullis admin\"\r\n"),
            ("Authorization: Basic YWRtaW46dG9rZW4=\r\n", "admin\"\r\n"),
            ("Authorization: Bearer\r\n", "admin\"\r\n"),
            (
                "Authorization: Bearer admin\r\n",
                "error=\"invalid_token\"\r\n",
            ),
            (
                "Authorization: Bearer admin token2\r\n",
                "error=\"invalid_token\"\r\n",
            ),
            (
                "Authorization: Bearer ADMIN TOKEN\r\n",
                "error=\"invalid_token\"\r\n",
            ),
            (
                "Authorization: Bearer admin token\r\nAuthorization: Bearer admin token\r\n",
                "error=\"invalid_token\"\r\n",
            ),
        ] {
            let mut client = Client::of(Arc::default());
            let request = format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
            let answer = client.send(&request, method).await;
            assert_eq!(answer.status, 401, "{method} {path} {fields}");
            assert!(answer.head.contains("www-authenticate: bearer realm="));
            assert!(answer.head.contains(challenge), "{}", answer.head);
            assert!(!answer.body.contains("admin token2"));
        }
    }
    let mut client = Client::of(Arc::default());
    for path in ["/livez", "/metrics", "/issuers", "/routes", "/upstreams"] {
        assert_eq!(client.ask("GET", path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn without_a_token_in_the_configuration_they_are_off_and_say_why() {
    let mut client = Client::with(Arc::default(), None);
    for (method, path) in [
        ("GET", "/revocations"),
        ("PUT", "/revocations"),
        ("DELETE", "/revocations/a"),
        ("POST", "/issuers/keycloak/keys/refresh"),
    ] {
        let detail = client.admin(method, path).await.problem(404);
        assert!(detail.contains("admin.token"), "{detail}");
    }
    // What the issuer's signature proves needs none.
    assert_eq!(client.post(PUSH, "", "a.b.c").await.status, 204);
}

#[tokio::test]
async fn another_method_is_told_which_ones_there_are() {
    let mut client = Client::of(Arc::default());
    for (method, path, allow) in [
        ("PUT", "/revocations", "get, head, post"),
        ("GET", "/revocations/a", "delete"),
        ("GET", "/issuers/keycloak/keys/refresh", "post"),
        ("GET", PUSH, "post"),
        ("DELETE", LOGOUT, "post"),
    ] {
        // Whether or not the token is there.
        let answer = client.ask(method, path).await;
        answer.problem(405);
        assert!(
            answer.head.contains(&format!("allow: {allow}\r\n")),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_revocation_is_made_listed_and_taken_out() {
    let state = Arc::new(Fake::default());
    let mut client = Client::of(state.clone());
    assert_eq!(client.admin("GET", "/revocations").await.json(), json!([]));
    let body = r#"{"issuer":"keycloak","jti":"trrtcc:1","until":1790000060,"reason":"lost"}"#;
    let made = client.post("/revocations", ADMIN, body).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let entry = made.json();
    let name = entry["id"].as_str().expect("a name");
    assert!(
        made.head
            .contains(&format!("location: /revocations/{name}\r\n"))
    );
    assert_eq!(
        entry,
        json!({
            "id": name, "issuer": "keycloak", "jti": "trrtcc:1", "until": 1_790_000_060,
            "reason": "lost", "origin": "admin", "made": NOW,
        })
    );
    assert_eq!(
        client.admin("GET", "/revocations").await.json(),
        json!([entry])
    );
    // The same again, with a later end: the same name.
    let longer = r#"{"issuer":"keycloak","jti":"trrtcc:1","until":"2026-09-21T14:15:20Z"}"#;
    let again = client.post("/revocations", ADMIN, longer).await;
    assert_eq!((again.status, &again.json()["id"]), (200, &entry["id"]));
    assert_eq!(again.json()["until"], NOW + 120);
    assert_eq!(again.json()["reason"], "lost");
    // An earlier end shortens nothing, and the answer says so.
    let shorter = client.post("/revocations", ADMIN, body).await;
    assert_eq!(
        (shorter.status, &shorter.json()["until"]),
        (200, &json!(NOW + 120))
    );

    let path = format!("/revocations/{name}");
    let gone = client.admin("DELETE", &path).await;
    assert_eq!((gone.status, gone.body.as_str()), (204, ""));
    client.admin("DELETE", &path).await.problem(404);
    client
        .admin("DELETE", "/revocations/nonsense")
        .await
        .problem(404);
    assert_eq!(client.admin("GET", "/revocations").await.json(), json!([]));
}

#[tokio::test]
async fn a_pushed_not_before_is_listed_and_can_be_forgotten() {
    let state = Arc::new(Fake::default());
    let mut client = Client::of(state.clone());
    let issuer: Arc<str> = "keycloak".into();
    assert_eq!(state.revocations.pushed(&issuer, NOW + 5), Ok(true));
    let listed = json!([{
        "id": "not-before-keycloak", "issuer": "keycloak", "not_before": NOW + 5, "origin": "push",
    }]);
    assert_eq!(client.admin("GET", "/revocations").await.json(), listed);
    let path = "/revocations/not-before-keycloak";
    assert_eq!(client.admin("DELETE", path).await.status, 204);
    client.admin("DELETE", path).await.problem(404);
    assert_eq!(state.revocations.not_before("keycloak").in_force(), 0);
}

#[tokio::test]
async fn a_full_store_says_so() {
    let mut client = Client::of(Arc::default());
    let body = |jti: &str| format!(r#"{{"issuer":"keycloak","jti":"{jti}","until":1790000060}}"#);
    for jti in ["a", "b"] {
        assert_eq!(
            client.post("/revocations", ADMIN, &body(jti)).await.status,
            201
        );
    }
    let detail = client
        .post("/revocations", ADMIN, &body("c"))
        .await
        .problem(503);
    assert!(detail.contains("2 revocations hold already"), "{detail}");
    let list = client.admin("GET", "/revocations").await.json();
    assert_eq!(list.as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn what_is_no_revocation_is_told_what_to_change() {
    let mut client = Client::of(Arc::default());
    for (body, says) in [
        ("", "no JSON object"),
        (
            r#"{"issuer":"keycloak","jti":"a","sub":"b","until":1790000060}"#,
            "exactly one of",
        ),
        (
            r#"{"issuer":"other","jti":"a","until":1790000060}"#,
            "one of keycloak",
        ),
        (r#"{"issuer":"keycloak","jti":"a","until":1}"#, "past"),
        (
            r#"{"issuer":"keycloak","jti":"a","expires":1790000060}"#,
            "another member",
        ),
    ] {
        let detail = client.post("/revocations", ADMIN, body).await.problem(400);
        assert!(detail.contains(says), "{detail}");
    }
}

#[tokio::test]
async fn keys_that_were_asked_for_are_shown() {
    let state = Arc::new(Fake::default());
    let mut client = Client::of(state.clone());
    let path = "/issuers/keycloak/keys/refresh";
    client.post(path, ADMIN, "").await.problem(502);
    state.keys.store(true, Ordering::Relaxed);
    let came = client.post(path, ADMIN, "").await;
    let key = json!({"kid": "k1", "algorithms": ["RS256"], "age_seconds": 0});
    let expected = json!({"issuer": "keycloak", "keys": [key]});
    assert_eq!((came.status, came.json()), (200, expected));
    client
        .post("/issuers/other/keys/refresh", ADMIN, "")
        .await
        .problem(404);
}

#[tokio::test]
async fn a_push_is_passed_on_and_answered() {
    let state = Arc::new(Fake::default());
    let mut client = Client::of(state.clone());
    let pushed = client
        .post(PUSH, "Content-Type: text/plain\r\n", "a.b.c")
        .await;
    assert_eq!((pushed.status, pushed.body.as_str()), (204, ""));
    assert!(pushed.head.contains("cache-control: no-store\r\n"));
    assert_eq!(*state.messages.lock().unwrap(), ["a.b.c"]);
    for (outcome, status) in [
        (Unheard::Refused(Flaw::Replayed), 400),
        (Unheard::Unjudged(Unjudged::NoKeys), 503),
        (Unheard::Full, 503),
        (Unheard::Unwritten, 500),
        (Unheard::Off("write `introspection`"), 404),
    ] {
        *state.heard.lock().unwrap() = Err(outcome.clone());
        let answer = client.post(PUSH, "", "a.b.c").await;
        let detail = answer.problem(status);
        assert_eq!(answer.head.contains("retry-after: 1\r\n"), status == 503);
        // Why it was refused is for the log.
        assert!(!detail.contains("before"), "{detail}");
    }
    // Bytes that are no text are no message.
    *state.heard.lock().unwrap() = Ok(());
    let head = format!("POST {PUSH} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n");
    client.stream.write_all(head.as_bytes()).await.unwrap();
    client.stream.write_all(&[0xff, 0xfe]).await.unwrap();
    assert_eq!(client.send("", "POST").await.status, 204);
    assert_eq!(state.messages.lock().unwrap().last().unwrap(), "");
}

#[tokio::test]
async fn a_logout_is_a_form_with_one_token() {
    let state = Arc::new(Fake::default());
    let mut client = Client::of(state.clone());
    let forms = [
        (FORM, "logout_token=a.b.c"),
        (FORM, "x=1&logout_token=a%2Eb.c&y"),
        (
            "content-type: Application/X-WWW-Form-Urlencoded ; charset=UTF-8\r\n",
            "logout_token=a.b.c",
        ),
    ];
    for (fields, body) in forms {
        let answer = client.post(LOGOUT, fields, body).await;
        assert_eq!(answer.status, 200, "{body}");
        assert!(answer.head.contains("cache-control: no-store\r\n"));
        assert_eq!(state.messages.lock().unwrap().pop().unwrap(), "a.b.c");
    }
    for (fields, body) in [
        ("", "logout_token=a.b.c"),
        ("Content-Type: application/json\r\n", "logout_token=a.b.c"),
        ("Content-Type: text/plain\r\n", "a.b.c"),
        (FORM, ""),
        (FORM, "token=a.b.c"),
        (FORM, "logout_token=a.b.c&logout_token=a.b.c"),
    ] {
        let answer = client.post(LOGOUT, fields, body).await;
        assert_eq!(answer.status, 400, "{body}");
        assert_eq!(answer.json()["error"], "invalid_request");
    }
    assert!(state.messages.lock().unwrap().is_empty());
    *state.heard.lock().unwrap() = Err(Unheard::Refused(Flaw::Replayed));
    let answer = client.post(LOGOUT, FORM, "logout_token=a.b.c").await;
    assert_eq!(answer.status, 400);
    assert!(answer.head.contains("content-type: application/json\r\n"));
    assert!(answer.head.contains("cache-control: no-store\r\n"));
    assert_eq!(
        answer.json(),
        json!({
            "error": "invalid_request",
            "error_description": "the logout token is not valid here",
        })
    );
    *state.heard.lock().unwrap() = Err(Unheard::Full);
    client
        .post(LOGOUT, FORM, "logout_token=a.b.c")
        .await
        .problem(503);
}

#[tokio::test]
async fn bodies_are_bounded_in_size() {
    let state = Arc::new(Fake::default());
    let most = "x".repeat(8 * 1024);
    let mut client = Client::of(state.clone());
    assert_eq!(client.post(PUSH, "", &most).await.status, 204);
    // Declared, before a byte of it is there.
    let head = format!("POST {PUSH} HTTP/1.1\r\nHost: a\r\nContent-Length: 8193\r\n\r\n");
    client.send(&head, "POST").await.problem(413);
    // And found out.
    for path in [PUSH, LOGOUT, "/revocations"] {
        let mut client = Client::of(state.clone());
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\n{ADMIN}Transfer-Encoding: chunked\r\n\r\n2001\r\n{most}x\r\n"
        );
        client.send(&request, "POST").await.problem(413);
    }
    assert_eq!(state.messages.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_body_with_two_lengths_is_not_read() {
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
    ] {
        let mut client = Client::of(Arc::default());
        let request = format!("POST {PUSH} HTTP/1.1\r\nHost: a\r\n{fields}\r\na.b.c");
        assert_eq!(client.send(&request, "POST").await.status, 400, "{fields}");
    }
}

#[tokio::test(start_paused = true)]
async fn bodies_are_bounded_in_time() {
    let state = Arc::new(Fake::default());
    let mut client = Client::of(state.clone());
    let request = format!("POST {PUSH} HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\na.b");
    client.send(&request, "POST").await.problem(408);
    assert!(state.messages.lock().unwrap().is_empty());
    // There is nothing more to be had from this connection.
    let mut rest = Vec::new();
    client.stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
}

#[tokio::test]
async fn who_waits_to_be_asked_for_the_body_is_asked() {
    let mut client = Client::of(Arc::default());
    let head = format!(
        "POST {PUSH} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    );
    client.stream.write_all(head.as_bytes()).await.unwrap();
    let mut told = Vec::new();
    while !told.ends_with(b"\r\n\r\n") {
        told.push(client.stream.read_u8().await.unwrap());
    }
    assert!(told.starts_with(b"HTTP/1.1 100"));
    assert_eq!(client.send("a.b.c", "POST").await.status, 204);
}
