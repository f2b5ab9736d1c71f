//! The issuer over real sockets, held against what was recorded from a real Keycloak.
#![allow(clippy::unwrap_used, reason = "tests")]

mod banner;
mod errors;
mod grants;
mod handle;
mod introspection;
mod services;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature as sig;
use serde_json::{Map, Value, json};

use super::{Endpoint, Issuer, IssuerOptions};

const CALLCENTER: &str = "eazybank-callcenter-cc";
const READER: &str = "eazybank-accounts-reader-cc";
const ALL_SCOPES: &str =
    "accounts:read accounts:write loans:read loans:write cards:read cards:write";

async fn issuer() -> Issuer {
    Issuer::start(IssuerOptions::default()).await.unwrap()
}

fn http() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap()
}

/// A client of the realm and its public secret.
fn secret(client: &str) -> String {
    format!("demo-only-{}", client.trim_start_matches("eazybank-"))
}

struct Got {
    status: u16,
    headers: http::HeaderMap,
    text: String,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Status and body are those of this error.
    #[track_caller]
    fn is_error(&self, status: u16, error: &str, description: &str) {
        let expected = json!({ "error": error, "error_description": description });
        assert_eq!((self.status, self.json()), (status, expected));
        assert_eq!(self.header("content-type"), Some("application/json"));
    }
}

async fn send(request: reqwest::RequestBuilder) -> Got {
    let response = request.send().await.unwrap();
    Got {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        text: response.text().await.unwrap(),
    }
}

async fn get(issuer: &Issuer, endpoint: Endpoint) -> Got {
    send(http().get(issuer.endpoint(endpoint))).await
}

/// A form, posted with `client_secret_basic` if there are credentials.
async fn post(
    issuer: &Issuer,
    endpoint: Endpoint,
    credentials: Option<(&str, &str)>,
    form: &[(&str, &str)],
) -> Got {
    let mut request = http().post(issuer.endpoint(endpoint)).form(form);
    if let Some((id, secret)) = credentials {
        request = request.basic_auth(id, Some(secret));
    }
    send(request).await
}

async fn grant(issuer: &Issuer, client: &str, scope: &str) -> Got {
    let mut form = vec![("grant_type", "client_credentials")];
    if !scope.is_empty() {
        form.push(("scope", scope));
    }
    let credentials = Some((client, secret(client)));
    let credentials = credentials
        .as_ref()
        .map(|(id, secret)| (*id, secret.as_str()));
    post(issuer, Endpoint::Token, credentials, &form).await
}

/// The access token of a grant that must succeed.
async fn access_token(issuer: &Issuer, client: &str, scope: &str) -> String {
    let got = grant(issuer, client, scope).await;
    assert_eq!(got.status, 200, "{}", got.text);
    got.json()["access_token"].as_str().unwrap().to_owned()
}

async fn introspect(issuer: &Issuer, token: &str) -> Got {
    let gateway = Some(("eazybank-gateway", "demo-only-gateway"));
    post(issuer, Endpoint::Introspect, gateway, &[("token", token)]).await
}

fn part(token: &str, place: usize) -> String {
    let part = token.split('.').nth(place).unwrap();
    String::from_utf8(URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

fn header(token: &str) -> Map<String, Value> {
    serde_json::from_str(&part(token, 0)).unwrap()
}

fn claims(token: &str) -> Map<String, Value> {
    serde_json::from_str(&part(token, 1)).unwrap()
}

fn names(claims: &Map<String, Value>) -> Vec<&str> {
    let mut names: Vec<&str> = claims.keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

/// Whether the published key that the header names verifies the token: ring alone, none of the issuer's own code.
fn verifies(jwks: &Value, token: &str) -> bool {
    let header = header(token);
    let keys = jwks["keys"].as_array().unwrap();
    let Some(key) = keys.iter().find(|key| key["kid"] == header["kid"]) else {
        return false;
    };
    if key["alg"] != header["alg"] || key["use"] != "sig" {
        return false;
    }
    let bytes = |name: &str| URL_SAFE_NO_PAD.decode(key[name].as_str().unwrap()).unwrap();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (signed, signature) = (
        signed.as_bytes(),
        URL_SAFE_NO_PAD.decode(signature).unwrap(),
    );
    let rsa = |parameters: &sig::RsaParameters| {
        let public = sig::RsaPublicKeyComponents {
            n: bytes("n"),
            e: bytes("e"),
        };
        public.verify(parameters, signed, &signature).is_ok()
    };
    let ec = |algorithm: &'static sig::EcdsaVerificationAlgorithm| {
        let point = [vec![4], bytes("x"), bytes("y")].concat();
        let public = sig::UnparsedPublicKey::new(algorithm, point);
        public.verify(signed, &signature).is_ok()
    };
    match header["alg"].as_str().unwrap() {
        "RS256" => rsa(&sig::RSA_PKCS1_2048_8192_SHA256),
        "RS384" => rsa(&sig::RSA_PKCS1_2048_8192_SHA384),
        "RS512" => rsa(&sig::RSA_PKCS1_2048_8192_SHA512),
        "PS256" => rsa(&sig::RSA_PSS_2048_8192_SHA256),
        "PS384" => rsa(&sig::RSA_PSS_2048_8192_SHA384),
        "PS512" => rsa(&sig::RSA_PSS_2048_8192_SHA512),
        "ES256" => ec(&sig::ECDSA_P256_SHA256_FIXED),
        "ES384" => ec(&sig::ECDSA_P384_SHA384_FIXED),
        "EdDSA" => {
            let public = sig::UnparsedPublicKey::new(&sig::ED25519, bytes("x"));
            public.verify(signed, &signature).is_ok()
        }
        other => panic!("nobody publishes keys for {other}"),
    }
}
