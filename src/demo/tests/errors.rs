//! Each error as it was recorded.

use super::*;

const BAD_CLIENT: &str = "Invalid client or Invalid client credentials";

#[tokio::test]
async fn token_endpoint_refuses_as_recorded() {
    let issuer = issuer().await;
    let machine = [("grant_type", "client_credentials")];
    let good = Some((CALLCENTER, "demo-only-callcenter-cc"));
    let cases: [(_, &[(&str, &str)], _, _, _); 11] = [
        (
            Some(("nobody", "x")),
            &machine,
            401,
            "invalid_client",
            BAD_CLIENT,
        ),
        (None, &machine, 401, "invalid_client", BAD_CLIENT),
        (
            Some((CALLCENTER, "wrong")),
            &machine,
            401,
            "unauthorized_client",
            BAD_CLIENT,
        ),
        (
            None,
            &[machine[0], ("client_id", CALLCENTER)],
            401,
            "unauthorized_client",
            BAD_CLIENT,
        ),
        (
            good,
            &[("grant_type", "")],
            400,
            "unsupported_grant_type",
            "Unsupported grant_type",
        ),
        (
            good,
            &[("grant_type", "magic")],
            400,
            "unsupported_grant_type",
            "Unsupported grant_type",
        ),
        (
            good,
            &[],
            400,
            "invalid_request",
            "Missing form parameter: grant_type",
        ),
        (
            good,
            &[machine[0], ("scope", "admin")],
            400,
            "invalid_scope",
            "Invalid scopes: admin",
        ),
        (
            good,
            &[machine[0], ("scope", "")],
            400,
            "invalid_scope",
            "Invalid scopes: ",
        ),
        (
            good,
            &[machine[0], ("client_id", READER)],
            401,
            "unauthorized_client",
            BAD_CLIENT,
        ),
        (
            good,
            &[machine[0], ("scope", "openid"), ("scope", "email")],
            400,
            "invalid_request",
            "duplicated parameter",
        ),
    ];
    for (credentials, form, status, error, description) in cases {
        let got = post(&issuer, Endpoint::Token, credentials, form).await;
        got.is_error(status, error, description);
        assert_eq!(got.header("cache-control"), Some("no-store"), "{error}");
        assert_eq!(got.header("pragma"), Some("no-cache"), "{error}");
    }
}

#[tokio::test]
async fn clients_without_a_service_account_get_none() {
    let issuer = issuer().await;
    let got = grant(&issuer, "eazybank-gateway", "").await;
    let text = "Client not enabled to retrieve service account";
    got.is_error(401, "unauthorized_client", text);
    let got = grant(&issuer, "accounts-api", "").await;
    got.is_error(401, "unauthorized_client", text);
    let got = grant(&issuer, "eazybank-user-demo", "").await;
    let text = "Public client not allowed to retrieve service account";
    got.is_error(401, "unauthorized_client", text);
}

#[tokio::test]
async fn a_bound_client_needs_its_proof() {
    let issuer = issuer().await;
    let got = grant(&issuer, "eazybank-dpop-cc", "accounts:read").await;
    got.is_error(400, "invalid_request", "DPoP proof is missing");
}

#[tokio::test]
async fn a_disabled_client_is_unknown() {
    let issuer = issuer().await;
    issuer.set_client_enabled(CALLCENTER, false);
    let got = grant(&issuer, CALLCENTER, "").await;
    got.is_error(401, "invalid_client", BAD_CLIENT);
    issuer.set_client_enabled(CALLCENTER, true);
    assert_eq!(grant(&issuer, CALLCENTER, "").await.status, 200);
}

#[tokio::test]
async fn passwords_are_checked() {
    let issuer = issuer().await;
    let mut form = vec![
        ("grant_type", "password"),
        ("client_id", "eazybank-user-demo"),
        ("username", "alice"),
        ("password", "wrong"),
    ];
    let got = post(&issuer, Endpoint::Token, None, &form).await;
    got.is_error(400, "invalid_grant", "Invalid user credentials");
    let got = post(&issuer, Endpoint::Token, None, &form[..2]).await;
    got.is_error(401, "invalid_request", "Missing parameter: username");
    form[1] = ("client_id", CALLCENTER);
    form.push(("client_secret", "demo-only-callcenter-cc"));
    let got = post(&issuer, Endpoint::Token, None, &form).await;
    let text = "Client not allowed for direct access grants";
    got.is_error(400, "unauthorized_client", text);
}

#[tokio::test]
async fn other_realms_paths_and_methods() {
    let issuer = issuer().await;
    let base = format!("http://{}", issuer.address());
    for path in [
        "/realms/master",
        "/realms/master/protocol/openid-connect/certs",
        "/realms/eazybankx/protocol/openid-connect/certs",
    ] {
        let got = send(http().get(format!("{base}{path}"))).await;
        let expected = json!({ "error": "Realm does not exist" });
        assert_eq!((got.status, got.json()), (404, expected), "{path}");
    }
    for (path, error) in [
        ("/realms/eazybank/nothing", "HTTP 404 Not Found"),
        ("/realms/eazybank/protocol/saml", "Protocol not found"),
        ("/nothing", "Unable to find matching target resource method"),
    ] {
        let got = send(http().get(format!("{base}{path}"))).await;
        let expected = json!({ "error": error });
        assert_eq!((got.status, got.json()), (404, expected), "{path}");
    }
    for (method, endpoint, status, error) in [
        ("GET", Endpoint::Token, 405, "HTTP 405 Method Not Allowed"),
        ("PUT", Endpoint::Revoke, 405, "HTTP 405 Method Not Allowed"),
        ("POST", Endpoint::Certs, 405, "HTTP 405 Method Not Allowed"),
        ("POST", Endpoint::Discovery, 404, "HTTP 404 Not Found"),
    ] {
        let method = method.parse().unwrap();
        let got = send(http().request(method, issuer.endpoint(endpoint))).await;
        let expected = json!({ "error": error });
        assert_eq!((got.status, got.json()), (status, expected));
    }
    let asked = http().request(http::Method::OPTIONS, issuer.endpoint(Endpoint::Token));
    assert_eq!(send(asked).await.status, 200);
}

#[tokio::test]
async fn paths_are_taken_as_keycloak_takes_them() {
    let issuer = issuer().await;
    let base = issuer.endpoint(Endpoint::Realm);
    let certs = "protocol/openid-connect/certs";
    let got = send(http().get(format!("{base}/{certs}/"))).await;
    assert_eq!(got.status, 200);
    for (path, error) in [
        (format!("{base}//{certs}"), "missingNormalization"),
        (format!("{base}/{certs};a"), "invalidCharacter"),
    ] {
        let got = send(http().get(&path)).await;
        assert_eq!((got.status, &got.json()["error"]), (400, &json!(error)));
    }
}

#[tokio::test]
async fn a_body_that_is_no_form_is_an_empty_one() {
    let issuer = issuer().await;
    let json = http()
        .post(issuer.endpoint(Endpoint::Token))
        .header("content-type", "application/json")
        .body(r#"{"grant_type":"client_credentials"}"#);
    let text = "Missing form parameter: grant_type";
    send(json).await.is_error(400, "invalid_request", text);
}

#[tokio::test]
async fn only_loopback() {
    let options = IssuerOptions {
        address: "0.0.0.0:0".parse().unwrap(),
        ..IssuerOptions::default()
    };
    let refused = Issuer::start(options).await.err().unwrap();
    assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
}
