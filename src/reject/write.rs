//! The one writer of our own 4xx and 5xx.

use std::sync::LazyLock;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora_proxy::Session;

use super::{Challenge, Rejection};
use crate::config::plan::{Access, Algorithm, FallbackPlan, RoutePlan, Schemes};
use crate::cors;
use crate::credential::Scheme;
use crate::request::{self, BodyLength, X_REQUEST_ID_NAME};

/// The `realm` of every challenge.
const REALM: &str = "portcullis";
/// RFC 9449 section 8.1.
pub const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

/// What an answer needs to know of its request.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances<'a> {
    pub route: Option<&'a RoutePlan>,
    /// With which the caller has sent its token.
    pub scheme: Option<Scheme>,
    /// What its next proof needs.
    pub nonce: Option<&'a HeaderValue>,
    pub request_id: &'a str,
    /// On 405.
    pub allow: Option<&'a HeaderValue>,
    /// Seconds; instead of the rejection's own.
    pub retry_after: Option<u32>,
    /// What the operator wants to be said instead of the problem.
    pub fallback: Option<&'a FallbackPlan>,
    /// The caller speaks gRPC.
    pub grpc: bool,
}

/// Bodies up to this size are read and dropped so that the connection can live on.
const DRAINED: u64 = 64 * 1024;

/// Answers a request and keeps its connection where the framing allows it.
///
/// `respond_error` of Pingora would close the connection and make the caller pay a new handshake for each refusal.
pub async fn write(
    session: &mut Session,
    rejection: Rejection,
    circumstances: Circumstances<'_>,
) -> pingora::Result<()> {
    let head_only = session.req_header().method == Method::HEAD;
    keep_alive_if_possible(session);
    if circumstances.grpc {
        let head = super::grpc::head(rejection, circumstances)?;
        return session.write_response_header(Box::new(head), true).await;
    }
    let body = match circumstances.fallback {
        Some(fallback) => fallback.body.clone(),
        None => body(rejection, circumstances.request_id),
    };
    let mut head = head(rejection, circumstances, body.len())?;
    // Without them a page's script could not read why.
    if let Some(cors) = circumstances.route.and_then(|route| route.cors.as_ref()) {
        let request = session.req_header();
        for (name, value) in cors::response(cors, &request.method, &request.headers) {
            head.append_header(name, value)?;
        }
    }
    session
        .write_response_header(Box::new(head), head_only)
        .await?;
    if !head_only {
        session.write_response_body(Some(body), true).await?;
    }
    Ok(())
}

/// Answers a request that met no route and no proxy: there is only a bare session.
pub async fn bare(
    session: &mut ServerSession,
    rejection: Rejection,
    request_id: &str,
) -> pingora::Result<()> {
    // RFC 9110 section 10.2.1: empty means that the target takes no method at all.
    let allow = HeaderValue::from_static("");
    let circumstances = Circumstances {
        route: None,
        scheme: None,
        nonce: None,
        request_id,
        allow: (rejection == Rejection::MethodNotAllowed).then_some(&allow),
        retry_after: None,
        fallback: None,
        grpc: false,
    };
    let body = body(rejection, request_id);
    let head = head(rejection, circumstances, body.len())?;
    session.write_response_header(Box::new(head)).await?;
    session.write_response_body(body, true).await
}

/// The body of a rejection: [`problem`], of which nothing but the request's name is new each time. A refusal is the
/// cheapest answer there is, and must stay so under a flood.
pub fn body(rejection: Rejection, request_id: &str) -> Bytes {
    const ENDS: &str = "\"}";
    static BEGINNINGS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
        let all = Rejection::ALL.iter().map(|rejection| {
            let answer = rejection.answer();
            let whole = problem(answer.status, answer.detail, "");
            whole[..whole.len() - ENDS.len()].to_vec()
        });
        all.collect()
    });
    if !request_id.bytes().all(json_writes_as_it_is) {
        let answer = rejection.answer();
        return problem(answer.status, answer.detail, request_id);
    }
    let beginning = &BEGINNINGS[rejection.index()];
    let mut body = Vec::with_capacity(beginning.len() + request_id.len() + ENDS.len());
    body.extend_from_slice(beginning);
    body.extend_from_slice(request_id.as_bytes());
    body.extend_from_slice(ENDS.as_bytes());
    Bytes::from(body)
}

/// RFC 8259 section 7.
fn json_writes_as_it_is(byte: u8) -> bool {
    (0x20..0x7f).contains(&byte) && !matches!(byte, b'"' | b'\\')
}

/// RFC 9457. `type` and `title` say no more than the status does, and nothing of the request is in it.
pub fn problem(status: u16, detail: &str, request_id: &str) -> Bytes {
    /// As JSON writes them.
    #[derive(serde::Serialize)]
    struct Problem<'a> {
        r#type: &'a str,
        title: &'a str,
        status: u16,
        detail: &'a str,
        request_id: &'a str,
    }
    let problem = Problem {
        r#type: "about:blank",
        title: title(status),
        status,
        detail,
        request_id,
    };
    let mut body = Vec::with_capacity(256);
    // Texts and a number always serialise, and a Vec takes everything.
    let _ = serde_json::to_writer(&mut body, &problem);
    Bytes::from(body)
}

/// The status's registered phrase.
pub fn title(status: u16) -> &'static str {
    StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("Error")
}

fn head(
    rejection: Rejection,
    circumstances: Circumstances<'_>,
    length: usize,
) -> pingora::Result<ResponseHeader> {
    const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");
    const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
    const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
    let answer = rejection.answer();
    let (status, kind) = match circumstances.fallback {
        Some(fallback) => (fallback.status, PLAIN),
        None => (answer.status, PROBLEM),
    };
    let mut head = ResponseHeader::build_no_case(status, Some(8))?;
    head.insert_header(header::CONTENT_TYPE, kind)?;
    head.insert_header(header::CONTENT_LENGTH, length)?;
    head.insert_header(header::CACHE_CONTROL, NO_STORE)?;
    head.insert_header(X_REQUEST_ID_NAME, circumstances.request_id)?;
    for challenge in challenges(rejection, &circumstances) {
        head.append_header(header::WWW_AUTHENTICATE, challenge)?;
    }
    if let Some(nonce) = circumstances.nonce {
        head.insert_header(DPOP_NONCE, nonce.clone())?;
    }
    if let Some(allow) = circumstances.allow {
        head.insert_header(header::ALLOW, allow.clone())?;
    }
    if let Some(seconds) = answer
        .retry_after
        .map(|own| circumstances.retry_after.unwrap_or(own))
        .filter(|_| status == answer.status)
    {
        head.insert_header(header::RETRY_AFTER, seconds)?;
    }
    Ok(head)
}

/// What the caller may try (RFC 6750 section 3). The error belongs to the scheme that it has used; a 401 names the
/// route's other one beside it (RFC 9449 section 7.2).
pub(super) fn challenges(
    rejection: Rejection,
    circumstances: &Circumstances<'_>,
) -> impl Iterator<Item = HeaderValue> {
    let answer = rejection.answer();
    let policy = match circumstances.route.map(|route| &route.access) {
        Some(Access::Token(policy)) => Some(policy),
        Some(Access::Public) | None => None,
    };
    let schemes = policy.map_or(Schemes::Bearer, |policy| policy.schemes);
    let scheme = match (circumstances.scheme, answer.challenge) {
        (_, Challenge::InvalidProof | Challenge::UseNonce) => Scheme::Dpop,
        (Some(used), _) => used,
        (None, _) if schemes.has_bearer() => Scheme::Bearer,
        (None, _) => Scheme::Dpop,
    };
    let other = match scheme {
        Scheme::Bearer => schemes.has_dpop().then_some(Scheme::Dpop),
        Scheme::Dpop => schemes.has_bearer().then_some(Scheme::Bearer),
    };
    let other = other.filter(|_| answer.status == 401 && policy.is_some());
    let scopes = policy
        .filter(|_| answer.challenge == Challenge::InsufficientScope)
        .map(|policy| policy.scopes.iter().chain(&policy.any_scope))
        .into_iter()
        .flatten();
    let scopes: Vec<&str> = scopes.map(String::as_str).collect();
    let first = match scopes.as_slice() {
        [] => fixed(scheme)[rejection.index()].clone(),
        scopes => spelled(rejection, scheme, scopes).and_then(|text| text.try_into().ok()),
    };
    let other = other.and_then(|other| fixed(other)[Rejection::MissingCredential.index()].clone());
    first.into_iter().chain(other)
}

/// The challenges that nothing of a request is in, by their rejection.
fn fixed(scheme: Scheme) -> &'static [Option<HeaderValue>] {
    static BEARER: LazyLock<Vec<Option<HeaderValue>>> = LazyLock::new(|| all(Scheme::Bearer));
    static DPOP: LazyLock<Vec<Option<HeaderValue>>> = LazyLock::new(|| all(Scheme::Dpop));
    fn all(scheme: Scheme) -> Vec<Option<HeaderValue>> {
        let all = Rejection::ALL.iter();
        all.map(|rejection| HeaderValue::try_from(spelled(*rejection, scheme, &[])?).ok())
            .collect()
    }
    match scheme {
        Scheme::Bearer => &BEARER,
        Scheme::Dpop => &DPOP,
    }
}

fn spelled(rejection: Rejection, scheme: Scheme, scopes: &[&str]) -> Option<String> {
    let answer = rejection.answer();
    let error = match answer.challenge {
        Challenge::None => return None,
        Challenge::Bare => None,
        Challenge::InvalidRequest => Some("invalid_request"),
        Challenge::InvalidToken => Some("invalid_token"),
        Challenge::InsufficientScope => Some("insufficient_scope"),
        Challenge::InvalidProof => Some("invalid_dpop_proof"),
        Challenge::UseNonce => Some("use_dpop_nonce"),
    };
    let name = match scheme {
        Scheme::Bearer => "Bearer",
        Scheme::Dpop => "DPoP",
    };
    let mut value = format!("{name} realm=\"{REALM}\"");
    if let Some(error) = error {
        value.push_str(&format!(
            ", error=\"{error}\", error_description=\"{}\"",
            answer.detail
        ));
    }
    if !scopes.is_empty() {
        value.push_str(&format!(", scope=\"{}\"", scopes.join(" ")));
    }
    if scheme == Scheme::Dpop {
        let algorithms = Algorithm::ALL.map(Algorithm::name).join(" ");
        value.push_str(&format!(", algs=\"{algorithms}\""));
    }
    Some(value)
}

/// Lets the connection outlive an answer that does not wait for the request's body, where the framing allows it.
pub fn keep_alive_if_possible(session: &mut Session) {
    let head = session.req_header();
    let expects = head.headers.contains_key(header::EXPECT);
    let raw_head = || {
        session
            .as_http1()
            .map(|http1| http1.get_headers_raw_bytes())
    };
    match request::body_length(head.version, &head.headers, raw_head) {
        // Pingora has chosen one reading; what follows the body in another must not become a request.
        Err(_) => session.set_keepalive(None),
        Ok(BodyLength::Declared(length)) if expects || length > DRAINED => {}
        Ok(BodyLength::Unknown) => {}
        Ok(BodyLength::None | BodyLength::Declared(_)) => {
            session.set_close_on_response_before_downstream_finish(false);
            session.set_total_drain_timeout(Some(std::time::Duration::from_secs(2)));
        }
    }
}
