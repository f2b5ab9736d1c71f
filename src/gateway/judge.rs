//! The checks of the contract's section 4, in its order: target and framing → route → method → declared size →
//! credential → token → policy → quota → pool.

use std::net::{IpAddr, Ipv4Addr};

use http::{Method, Version, header};
use pingora_proxy::Session;

use super::tunnel::Tunnel;
use super::{Life, Listener};
use crate::authorize;
use crate::config::plan::{Access, Plan, Policy, RatePer, RouteId, RoutePlan, Shares, UpstreamId};
use crate::cors;
use crate::credential::{self, Scheme};
use crate::edge;
use crate::forward;
use crate::limit::{Caller, RetryAfter};
use crate::reject::Rejection;
use crate::request::{self, BodyLength, Target};
use crate::route::{Found, View};
use crate::upstream::NoPeer;
use crate::verify::{Seen, Shown, Wanted};

/// Where a request that was not refused goes on.
pub(super) enum Way {
    Upstream,
    /// A browser asks whether it may send this method: the gateway answers.
    Preflight(Method),
}

/// Judges one request; what it learns stays in `life`, the permit above all.
pub(super) async fn judge(
    listener: &Listener<'_>,
    session: &mut Session,
    life: &mut Life,
) -> Result<Way, Rejection> {
    let gateway = listener.gateway;
    let plan = &gateway.plan;
    let head = session.req_header();
    if head.headers.len() > plan.limits.header_fields {
        return Err(Rejection::HeaderTooLarge);
    }
    let length = read_meaning(session, life)?;

    let head = session.req_header();
    let target = life.target.as_ref().ok_or(Rejection::Internal)?;
    let find = |method: &Method| {
        let find = |path: &str| {
            gateway.routes.find(View {
                host: &target.host,
                path,
                query: target.query.as_deref(),
                method,
                headers: &head.headers,
            })
        };
        if target.forms.is_empty() {
            return Ok(find(&target.path));
        }
        allowed_in_every_reading(target, plan, find).map(Found::Route)
    };
    // The route is that of the request that will follow. One without CORS leaves the answer to its service, and then
    // it is a request like others.
    if let Some(method) = cors::asked(&head.method, &head.headers)
        && let Ok(Found::Route(id)) = find(&method)
        && plan.route(id).cors.is_some()
    {
        life.route = Some(id);
        return Ok(Way::Preflight(method));
    }
    let route_id = match find(&head.method)? {
        Found::Route(id) => id,
        Found::Nothing => return Err(Rejection::NoRoute),
        Found::Ambiguous => return Err(Rejection::AmbiguousTarget),
        Found::OtherMethod(allow) => {
            life.allow = Some(allow);
            return Err(Rejection::MethodNotAllowed);
        }
    };
    life.route = Some(route_id);
    let route = plan.route(route_id);
    if let (Some(rewrite), Some(target)) = (&route.rewrite, &mut life.target) {
        let path = rewrite.apply(&target.path).ok_or(Rejection::NoRoute)?;
        target.rewritten(path)?;
    }
    life.body.limit(route.body_bytes, plan.limits.body_min_rate);
    life.body.length = Some(length);
    let head = session.req_header();
    if route.websocket
        && length == BodyLength::None
        && request::opens_websocket(&head.method, head.version, &head.headers)
    {
        life.tunnel = Tunnel::Asked;
    }
    if matches!(length, BodyLength::Declared(length) if length > route.body_bytes) {
        return Err(Rejection::BodyTooLarge);
    }

    let permit = match &route.access {
        Access::Public => authorize::public(&route.access).ok_or(Rejection::NoPermit)?,
        Access::Token(policy) => prove(listener, session, policy, life).await?,
    };
    life.permit = Some(permit);
    within_quota(listener, session, route, life)?;
    let pool = draw(&route.upstream);
    life.pool = Some(pool);
    // Pingora has no other framing than chunks for an answer of an HTTP/2 peer, and no trailers for HTTP/1.
    let http2 = plan.upstream(pool).http2;
    if http2 && session.req_header().version < Version::HTTP_11 || !http2 && life.grpc {
        return Err(Rejection::HttpVersion);
    }
    let upstream = life
        .permit
        .as_ref()
        .map(|permit| gateway.upstreams.open(pool, permit))
        .ok_or(Rejection::NoPermit)?;
    let place = upstream.enter();
    if let Err(NoPeer::Open { retry_after }) = &place {
        life.retry_after = Some(*retry_after);
    }
    life.in_flight = Some(place?);
    Ok(Way::Upstream)
}

fn draw(shares: &Shares) -> UpstreamId {
    match shares.all() {
        [(only, _)] => *only,
        _ => shares.of(fastrand::u32(..shares.total())),
    }
}

/// What a service might read out of such a path must not be a way around another route's demands.
pub(crate) fn allowed_in_every_reading(
    target: &Target,
    plan: &Plan,
    find: impl Fn(&str) -> Found,
) -> Result<RouteId, Rejection> {
    let readings = target.readings();
    let mut routes = readings.iter().map(|path| match find(path) {
        Found::Route(id) => Some(id),
        Found::Nothing | Found::Ambiguous | Found::OtherMethod(_) => None,
    });
    let route = routes.next().flatten();
    let id = route.ok_or(Rejection::AmbiguousTarget)?;
    let strip = plan.route(id).strip_prefix.as_deref();
    // `//` at the beginning is a host to some.
    let begins_twice = |path: &String| {
        let rest = strip.and_then(|prefix| forward::without_prefix(path, prefix));
        rest.is_some_and(|rest| rest.starts_with("//"))
    };
    if !routes.all(|other| other == route)
        || !plan.route(id).allow_target.has(target.forms)
        || readings.iter().any(begins_twice)
    {
        return Err(Rejection::AmbiguousTarget);
    }
    Ok(id)
}

/// Target, host and framing: one reading or none.
fn read_meaning(session: &Session, life: &mut Life) -> Result<BodyLength, Rejection> {
    let head = session.req_header();
    let authority = (head.version == Version::HTTP_2)
        .then(|| head.uri.authority().map(http::uri::Authority::as_str))
        .flatten();
    let raw_head = || {
        session
            .as_http1()
            .map(|http1| http1.get_headers_raw_bytes())
    };
    let raw = if head.version == Version::HTTP_2 {
        request::http2_is_plain(&head.uri, &head.headers)?;
        head.uri
            .path_and_query()
            .map_or(&b""[..], |target| target.as_str().as_bytes())
    } else {
        // The request line itself was looked at by the edge, before Pingora repaired it.
        head.raw_path()
    };
    life.target = Some(request::inspect(raw, authority, &head.headers)?);
    let length = request::body_length(head.version, &head.headers, raw_head)?;
    if edge::body_is_doubtful(session) {
        return Err(Rejection::AmbiguousFraming);
    }
    Ok(length)
}

async fn prove(
    listener: &Listener<'_>,
    session: &Session,
    policy: &Policy,
    life: &mut Life,
) -> Result<authorize::Permit, Rejection> {
    let gateway = listener.gateway;
    let headers = &session.req_header().headers;
    let values = |name| {
        let values = headers.get_all(name).iter();
        values.map(http::HeaderValue::as_bytes)
    };
    let credential = credential::read(
        values(header::AUTHORIZATION),
        gateway.plan.limits.token_bytes,
        policy.schemes,
    )?;
    life.scheme = Some(credential.scheme);
    let certificate = edge::certificate(session).map(|shown| &shown.fingerprint);
    let wanted = Wanted::of(policy).by(certificate);
    let verdict = match credential.scheme {
        Scheme::Bearer => match gateway.verifier.recall(credential.sent, wanted) {
            Ok(verdict) => verdict,
            Err(unknown) => {
                let token = credential.sent.token()?;
                gateway.verifier.prove_new(unknown, token, wanted).await
            }
        },
        Scheme::Dpop => {
            let token = credential.sent.token()?;
            let shown = Shown {
                proof: credential::proof(values(forward::DPOP))?,
                method: session.req_header().method.as_str(),
                uri: seen(listener, session, life).ok_or(Rejection::Internal)?,
            };
            let wanted = wanted.showing(&shown);
            gateway.verifier.prove(token, wanted).await
        }
    };
    life.judged(&gateway.metrics, &verdict);
    life.standing = verdict.standing;
    let principal = verdict.outcome?;
    life.principal = Some(principal.clone());
    Ok(authorize::check(policy, principal)?)
}

/// The request's URI as its caller sees it: as configured, or as a trusted proxy says, or as the request does.
fn seen<'a>(listener: &'a Listener, session: &'a Session, life: &'a Life) -> Option<Seen<'a>> {
    let path = life.target.as_ref()?.path.as_str();
    if let Some(url) = &listener.gateway.plan.listeners[listener.index].public_url {
        return Some(Seen {
            scheme: &url.scheme,
            authority: &url.authority,
            prefix: &url.prefix,
            path,
        });
    }
    let head = session.req_header();
    let caller = super::life::caller(listener, session);
    let (scheme, host) = forward::outside(&head.headers, caller);
    // What is no text is no host, and no proof is for it.
    let text = |value: &'a http::HeaderValue| value.to_str().unwrap_or_default();
    let own = || {
        let authority = head.uri.authority().map(http::uri::Authority::as_str);
        head.headers.get(header::HOST).map(text).or(authority)
    };
    let own_scheme = if caller.tls { "https" } else { "http" };
    Some(Seen {
        // A handshake of WebSocket is a request over HTTP (RFC 6455 section 1.3).
        scheme: match scheme.map_or(own_scheme, text) {
            "ws" => "http",
            "wss" => "https",
            scheme => scheme,
        },
        authority: host.map(text).or_else(own)?,
        prefix: "",
        path,
    })
}

fn within_quota(
    listener: &Listener<'_>,
    session: &Session,
    route: &RoutePlan,
    life: &mut Life,
) -> Result<(), Rejection> {
    let gateway = listener.gateway;
    let limiter = life.route.and_then(|id| gateway.limiters.of(id));
    let (Some(limiter), Some(limit)) = (limiter, &route.rate_limit) else {
        return Ok(());
    };
    let caller = match (limit.per, &life.principal) {
        (RatePer::Client, Some(principal)) => Caller::Client {
            issuer: principal.grants.issuer,
            client: &principal.grants.client,
        },
        // A public route knows no client: its quota is the source's.
        (RatePer::Client | RatePer::Source, _) => Caller::Source(
            forward::source(
                &session.req_header().headers,
                super::life::caller(listener, session),
            )
            .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
            .into(),
        ),
    };
    limiter
        .check(caller, gateway.clock.monotonic())
        .map_err(|RetryAfter(seconds)| {
            life.retry_after = Some(seconds);
            Rejection::TooManyRequests
        })
}
