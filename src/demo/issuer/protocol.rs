//! The endpoints as HTTP: who may ask, what each error says. Statuses and texts are those recorded from Keycloak.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Form;
use axum::extract::{FromRequest as _, Request};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::endpoint::{Endpoint, Lost, named};
use super::fault::FOLLOWED;
use super::introspect::Revocation;
use super::possession;
use super::state::{State, lock};
use super::token::NoToken;
use crate::demo::grant::Grant;
use crate::demo::realm::Client;

/// Status, cache headers and JSON of an answer.
pub(super) struct Answer {
    status: StatusCode,
    cache: Option<&'static str>,
    kind: &'static str,
    body: Option<Value>,
}

type Fields = Vec<(String, String)>;

pub(super) async fn handle(
    axum::extract::State(state): axum::extract::State<Arc<State>>,
    request: Request,
) -> Response {
    let path = request.uri().path().to_owned();
    let endpoint = match named(&path, &state.realm.name) {
        Ok(endpoint) => endpoint,
        Err(lost) => return Answer::lost(lost).into_response(),
    };
    state.hits[endpoint as usize].fetch_add(1, Ordering::Relaxed);
    let fault = lock(&state.faults).get(&endpoint).cloned();
    let followed = request.uri().query() == Some(FOLLOWED);
    let answer = state.respond(endpoint, request).await;
    match fault {
        Some(fault) if !followed => fault.spoil(answer, &path).await,
        _ => answer.into_response(),
    }
}

const NOT_FOUND: &str = "HTTP 404 Not Found";
const BAD_CLIENT: &str = "Invalid client or Invalid client credentials";

impl State {
    async fn respond(&self, endpoint: Endpoint, request: Request) -> Answer {
        let wanted = match request.method() {
            &Method::POST => endpoint.takes_form(),
            &Method::GET | &Method::HEAD => !endpoint.takes_form(),
            _ => false,
        };
        if !wanted {
            return match (request.method(), endpoint) {
                (_, Endpoint::Discovery) => Answer::bare_error(404, NOT_FOUND),
                // What a browser asks before it calls another site.
                (&Method::OPTIONS, Endpoint::Token | Endpoint::Certs) => Answer::empty(200),
                _ => Answer::bare_error(405, "HTTP 405 Method Not Allowed"),
            };
        }
        let headers = request.headers().clone();
        let fields = match form(endpoint, request).await {
            Ok(fields) => fields,
            Err(answer) => return answer,
        };
        match endpoint {
            Endpoint::Discovery => Answer::new(200, self.discovery())
                .cached("no-cache, must-revalidate, no-transform, no-store"),
            Endpoint::Certs => Answer::new(200, self.keys().jwks()).cached("no-cache"),
            Endpoint::Realm => Answer {
                kind: "application/json;charset=UTF-8",
                ..Answer::new(200, self.document()).cached("no-cache")
            },
            Endpoint::Token => self.token(&headers, &fields).cached("no-store"),
            Endpoint::Introspect => self.introspection(&headers, &fields),
            Endpoint::Revoke => self.revocation(&headers, &fields),
        }
    }

    fn token(&self, headers: &HeaderMap, fields: &Fields) -> Answer {
        let Some(grant_type) = field(fields, "grant_type") else {
            let text = "Missing form parameter: grant_type";
            return Answer::error(400, "invalid_request", text);
        };
        if !["client_credentials", "password"].contains(&grant_type) {
            return Answer::error(400, "unsupported_grant_type", "Unsupported grant_type");
        }
        let client = match self.authenticate(headers, fields) {
            Ok(client) => client,
            Err(stranger) => return stranger.refusal(),
        };
        if repeated(fields) {
            return Answer::error(400, "invalid_request", "duplicated parameter");
        }
        let granted = if grant_type == "password" {
            self.password(client, fields)
        } else {
            self.client_credentials(client, headers, fields)
        };
        granted.unwrap_or_else(|refusal| refusal)
    }

    fn client_credentials(
        &self,
        client: &Client,
        headers: &HeaderMap,
        fields: &Fields,
    ) -> Result<Answer, Answer> {
        let unauthorized = |text| Err(Answer::error(401, "unauthorized_client", text));
        if client.public_client {
            return unauthorized("Public client not allowed to retrieve service account");
        }
        let Some(account) = self.realm.service_account(client) else {
            return unauthorized("Client not enabled to retrieve service account");
        };
        let unproved = |text: &str| Answer::error(400, "invalid_request", text);
        let path = format!("/realms/{}{}", self.realm.name, Endpoint::Token.path());
        let holder = self
            .holder(headers, &path)
            .map_err(|text| unproved(&text))?;
        if holder.is_none() && client.flag("dpop.bound.access.tokens") {
            return Err(unproved("DPoP proof is missing"));
        }
        let scope = scope(fields)?;
        let grant = Grant::new(self.realm, client, account, scope, None);
        let grant = grant.map_err(|_| invalid_scope(scope))?;
        self.granted(grant.bound_to(holder))
    }

    /// For negative tests only: it makes ID, refresh and offline tokens.
    fn password(&self, client: &Client, fields: &Fields) -> Result<Answer, Answer> {
        if !client.direct_access_grants_enabled {
            let text = "Client not allowed for direct access grants";
            return Err(Answer::error(400, "unauthorized_client", text));
        }
        let password = field(fields, "password").unwrap_or_default();
        let Some(name) = field(fields, "username") else {
            let text = "Missing parameter: username";
            return Err(Answer::error(401, "invalid_request", text));
        };
        let account = self.realm.account(name);
        let Some(account) = account.filter(|account| account.has_password(password)) else {
            let text = "Invalid user credentials";
            return Err(Answer::error(400, "invalid_grant", text));
        };
        let scope = scope(fields)?;
        let session = self.session().map_err(server_error)?;
        let grant = Grant::new(self.realm, client, account, scope, Some(session));
        self.granted(grant.map_err(|_| invalid_scope(scope))?)
    }

    fn granted(&self, grant: Grant) -> Result<Answer, Answer> {
        let answer = self.answer(&grant).map_err(server_error)?;
        Ok(Answer::new(200, Value::Object(answer)))
    }

    fn introspection(&self, headers: &HeaderMap, fields: &Fields) -> Answer {
        let caller = match self.authenticate(headers, fields) {
            Ok(caller) => caller,
            Err(Stranger::BadSecret) => {
                return Answer::error(401, "invalid_client", "Client authentication failed.");
            }
            Err(stranger) => return stranger.refusal(),
        };
        let refuse = |status, text| Answer::error(status, "invalid_request", text);
        if caller.public_client {
            return refuse(403, "Client not allowed.");
        }
        if repeated(fields) {
            return refuse(400, "duplicated parameter");
        }
        let Some(token) = field(fields, "token") else {
            return refuse(400, "Token not provided.");
        };
        let hint = field(fields, "token_type_hint").unwrap_or("access_token");
        if !["access_token", "refresh_token", "requesting_party_token"].contains(&hint) {
            return refuse(400, "Unsupported token type.");
        }
        let about = match hint {
            "access_token" => self.introspect(token, &caller.client_id),
            // No other kind of token names the gateway in `aud`.
            _ => json!({ "active": false }),
        };
        Answer::new(200, about).cached("no-cache")
    }

    fn revocation(&self, headers: &HeaderMap, fields: &Fields) -> Answer {
        let caller = match self.authenticate(headers, fields) {
            Ok(caller) => caller,
            Err(stranger) => return stranger.refusal(),
        };
        if repeated(fields) {
            return Answer::error(400, "invalid_request", "duplicated parameter");
        }
        let Some(token) = field(fields, "token") else {
            return Answer::error(400, "invalid_request", "Token not provided");
        };
        match self.revoke(token, &caller.client_id) {
            Revocation::Done => Answer::empty(200),
            Revocation::Unknown => Answer::error(200, "invalid_token", "Invalid token"),
            Revocation::OtherKind => {
                Answer::error(400, "unsupported_token_type", "Unsupported token type")
            }
            Revocation::OtherClient => Answer::error(400, "invalid_request", "Unmatching clients"),
        }
    }

    /// An assertion, or `client_secret_basic` or `client_secret_post`; a public client only says its name. With both,
    /// each half of the body's wins over the header's.
    fn authenticate(&self, headers: &HeaderMap, fields: &Fields) -> Result<&Client, Stranger> {
        let body = |name: &str| field(fields, name).map(str::to_owned);
        if let Some(assertion) = field(fields, "client_assertion") {
            let kind = field(fields, "client_assertion_type");
            return self.asserted(kind, assertion).ok_or(Stranger::BadAssertion);
        }
        let (id, secret) = basic(headers).unzip();
        let id = body("client_id").or(id).ok_or(Stranger::Unknown)?;
        let secret = body("client_secret").or(secret);
        let client = self.realm.client(&id).ok_or(Stranger::Unknown)?;
        if !self.is_enabled(client) {
            return Err(Stranger::Unknown);
        }
        let by_key = lock(&self.client_keys).contains_key(&id);
        if !client.public_client && (by_key || secret.is_none() || secret != client.secret) {
            return Err(Stranger::BadSecret);
        }
        Ok(client)
    }

    /// Authentication and names on `iss`; what a gateway calls on the address that we listen on.
    fn discovery(&self) -> Value {
        let of = |endpoint| self.url_of(endpoint);
        let algorithms = ["RS256", "PS256", "ES256", "EdDSA"];
        let methods = [
            "client_secret_basic",
            "client_secret_post",
            "private_key_jwt",
        ];
        json!({
            "issuer": self.issuer,
            "authorization_endpoint": format!("{}/protocol/openid-connect/auth", self.issuer),
            "token_endpoint": of(Endpoint::Token),
            "introspection_endpoint": of(Endpoint::Introspect),
            "jwks_uri": of(Endpoint::Certs),
            "revocation_endpoint": of(Endpoint::Revoke),
            "grant_types_supported": ["client_credentials", "password"],
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": algorithms,
            "dpop_signing_alg_values_supported": possession::ALGORITHMS,
            "token_endpoint_auth_methods_supported": methods,
            "introspection_endpoint_auth_methods_supported": methods,
            "revocation_endpoint_auth_methods_supported": methods,
        })
    }

    /// The realm's public face; gateways poll its `tokens-not-before`.
    fn document(&self) -> Value {
        json!({
            "realm": self.realm.name,
            "public_key": self.keys().public_key(self.realm.default_algorithm()),
            "token-service": format!("{}/protocol/openid-connect", self.issuer),
            "account-service": format!("{}/account", self.issuer),
            "tokens-not-before": self.not_before(),
        })
    }
}

/// Who could not say who they are.
enum Stranger {
    Unknown,
    BadSecret,
    BadAssertion,
}

impl Stranger {
    fn refusal(self) -> Answer {
        match self {
            Stranger::Unknown => Answer::error(401, "invalid_client", BAD_CLIENT),
            Stranger::BadSecret => Answer::error(401, "unauthorized_client", BAD_CLIENT),
            Stranger::BadAssertion => {
                let text = "Client authentication with signed JWT failed";
                Answer::error(400, "invalid_client", text)
            }
        }
    }
}

impl Answer {
    fn new(status: u16, body: Value) -> Self {
        Answer {
            body: Some(body),
            ..Answer::empty(status)
        }
    }

    fn empty(status: u16) -> Self {
        Answer {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            cache: None,
            kind: "application/json",
            body: None,
        }
    }

    fn error(status: u16, error: &str, description: &str) -> Self {
        let body = json!({ "error": error, "error_description": description });
        Answer::new(status, body)
    }

    /// What Keycloak's web server says by itself has no description.
    fn bare_error(status: u16, error: &str) -> Self {
        Answer::new(status, json!({ "error": error }))
    }

    fn lost(lost: Lost) -> Self {
        let not_normal = |error, description| Answer {
            kind: "application/json; charset=UTF-8",
            ..Answer::error(400, error, description)
        };
        match lost {
            Lost::NotNormal => not_normal("missingNormalization", "Request path not normalized"),
            Lost::Character => not_normal(
                "invalidCharacter",
                "Request path contains invalid character ';'",
            ),
            Lost::NoSuchRealm => Answer::bare_error(404, "Realm does not exist"),
            Lost::NoSuchProtocol => Answer::bare_error(404, "Protocol not found"),
            Lost::Nothing => Answer::bare_error(404, NOT_FOUND),
            Lost::Nowhere => {
                Answer::bare_error(404, "Unable to find matching target resource method")
            }
        }
    }

    fn cached(mut self, how: &'static str) -> Self {
        self.cache = Some(how);
        self
    }

    pub(super) fn text(&self) -> String {
        self.body.as_ref().map(Value::to_string).unwrap_or_default()
    }

    pub(super) fn member_mut(&mut self, name: &str) -> Option<&mut Value> {
        self.body.as_mut()?.get_mut(name)
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.text()).into_response();
        let headers = response.headers_mut();
        headers.remove(header::CONTENT_TYPE);
        let mut set = |name, value| headers.insert(name, header::HeaderValue::from_static(value));
        if self.body.is_some() {
            set(header::CONTENT_TYPE, self.kind);
        }
        if let Some(cache) = self.cache {
            set(header::CACHE_CONTROL, cache);
            if cache == "no-store" {
                set(header::PRAGMA, "no-cache");
            }
        }
        response
    }
}

/// The fields of a form. Any other body counts as none at all.
async fn form(endpoint: Endpoint, request: Request) -> Result<Fields, Answer> {
    let kind = request.headers().get(header::CONTENT_TYPE);
    let is_form = kind.is_some_and(|kind| {
        let form = b"application/x-www-form-urlencoded";
        kind.as_bytes().starts_with(form)
    });
    if !endpoint.takes_form() || !is_form {
        return Ok(Fields::new());
    }
    match Form::<Fields>::from_request(request, &()).await {
        Ok(Form(fields)) => Ok(fields),
        Err(bad) => Err(Answer::bare_error(bad.status().as_u16(), "invalid_request")),
    }
}

/// The scopes asked for. Asking for none is fine, asking for "" is not.
fn scope(fields: &Fields) -> Result<&str, Answer> {
    match field(fields, "scope") {
        Some("") => Err(invalid_scope("")),
        asked => Ok(asked.unwrap_or_default()),
    }
}

fn field<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    let found = fields.iter().find(|(key, _)| key == name);
    found.map(|(_, value)| value.as_str())
}

fn repeated(fields: &Fields) -> bool {
    let mut seen = HashSet::new();
    fields.iter().any(|(name, _)| !seen.insert(name))
}

/// RFC 6749, 2.3.1: both halves are form-encoded before base64.
fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = pair.split_once(':')?;
    Some((form_decode(id)?, form_decode(secret)?))
}

fn form_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            plain => plain,
        });
    }
    String::from_utf8(bytes).ok()
}

fn invalid_scope(scope: &str) -> Answer {
    Answer::error(400, "invalid_scope", &format!("Invalid scopes: {scope}"))
}

fn server_error(why: NoToken) -> Answer {
    Answer::error(500, "server_error", &why.to_string())
}
