//! The echo services.

use super::*;
use crate::demo::Services;

#[tokio::test]
async fn services_tell_what_reached_them() {
    let services = Services::start().unwrap();
    let loans = services.get("loans");
    let request = http()
        .post(format!("http://{}/api/create?a=1&b", loans.address()))
        .header("authorization", "Bearer secret-token")
        .header("x-auth-client", "me")
        .header("x-many", "one")
        .header("x-many", "two")
        .body("hello");
    let got = send(request).await;
    assert_eq!(got.status, 201);
    assert!(!got.text.contains("secret-token"));
    let told = got.json();
    assert_eq!(told["service"], "loans");
    assert_eq!(told["method"], "POST");
    assert_eq!(told["path"], "/api/create");
    assert_eq!(told["query"], "a=1&b");
    assert_eq!(told["body_bytes"], 5);
    assert_eq!(told["headers"]["x-auth-client"], "me");
    assert_eq!(told["headers"]["x-many"], json!(["one", "two"]));
    assert_eq!(told["headers"].get("authorization"), None);
    assert_eq!(told["authorization"], json!({ "present": true }));
    assert_eq!((loans.requests(), services.get("cards").requests()), (1, 0));
}

#[tokio::test]
async fn services_have_the_routes_of_the_course() {
    let services = Services::start().unwrap();
    let base = format!("http://{}", services.get("accounts").address());
    let client = http();
    for path in [
        "/",
        "/healthz",
        "/contact",
        "/api/fetch",
        "/api/build-info",
        "/java-version",
        "/contact-info",
    ] {
        let got = send(client.get(format!("{base}{path}"))).await;
        assert_eq!((path, got.status), (path, 200));
        assert_eq!(got.json()["authorization"], json!({ "present": false }));
        let got = send(client.head(format!("{base}{path}"))).await;
        assert_eq!((got.status, got.text.as_str()), (200, ""));
    }
    assert_eq!(
        send(client.put(format!("{base}/api/update"))).await.status,
        200
    );
    assert_eq!(
        send(client.delete(format!("{base}/api/delete")))
            .await
            .status,
        200
    );
    let missing = send(client.get(format!("{base}/eazybank/accounts"))).await;
    assert_eq!(
        (missing.status, &missing.json()["error"]),
        (404, &json!("not found"))
    );
    assert_eq!(
        send(client.get(format!("{base}/api/create"))).await.status,
        404
    );
}
