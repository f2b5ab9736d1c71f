//! The end of a request: metrics and one access-log line, in one place.

use std::time::Duration;

use pingora_proxy::Session;

use super::attempt::is_interim;
use super::{Life, Listener};
use crate::edge;
use crate::forward;
use crate::observe::access_log::AccessRecord;
use crate::observe::metrics::{Carried, Metrics};
use crate::reject::Rejection;

/// nginx's word for a caller that left before its answer; it is logged and counted, never sent.
const CALLER_GONE: u16 = 499;

pub(super) fn finish(life: &mut Life, listener: &Listener<'_>, session: &Session) {
    let gateway = listener.gateway;
    let head = session.req_header();
    let written = session
        .response_written()
        .filter(|head| !is_interim(head.status))
        .map(|head| life.told.unwrap_or(head.status.as_u16()));
    let status = written.unwrap_or(CALLER_GONE);
    let took = gateway.clock.monotonic().saturating_sub(life.started);
    // How long a tunnel was open says nothing about how fast we are.
    let answered = life.answered_at.map(|at| at.saturating_sub(life.started));
    let until = answered.filter(|_| life.tunnel.is_open()).unwrap_or(took);
    gateway
        .metrics
        .request(life.route, &head.method, status, until);
    // A response that broke off after its head is the upstream's failure, not a refusal of ours. A fallback is one,
    // whatever its status.
    if let Some(rejection) = life.rejection
        && (rejection.answer().status == status || rejection == Rejection::UpstreamOpen)
    {
        gateway.metrics.rejected(life.route, rejection);
    }
    count_upstream(life, &gateway.metrics);
    let failed = life.upstream_failed();
    if let (Some(place), Some(failed)) = (&mut life.in_flight, failed) {
        place.ended(failed);
    }

    gateway.access_log.write(|| AccessRecord {
        unix_millis: gateway.clock.unix_millis(),
        request_id: life.request_id.as_str(),
        trace_id: life.trace.id(),
        route: life.route.map(|id| &*gateway.plan.route(id).name),
        method: head.method.as_str(),
        path: life.target.as_ref().map(|target| target.path.as_str()),
        status,
        reason: match (life.rejection, life.tunnel.label(), written) {
            (Some(rejection), ..) => Some(rejection.label()),
            (None, Some(ended), _) => Some(ended),
            (None, None, None) => Some("caller_gone"),
            (None, None, Some(_)) => life.caller_gone.then_some("caller_gone"),
        },
        source: forward::source(&head.headers, super::life::caller(listener, session)),
        certificate: edge::certificate(session)
            .map(|certificate| (certificate.subject.as_str(), &certificate.fingerprint)),
        client: life
            .principal
            .as_ref()
            .map(|who| who.grants.client.as_str()),
        issuer: life.issuer.map(|id| &*gateway.plan.issuer(id).name),
        proof: life.proof.map(|source| source.label()),
        upstream: life.upstream().map(|id| &*gateway.plan.upstream(id).name),
        peer: life.peer,
        bytes_in: life.body.bytes,
        bytes_out: session.body_bytes_sent() as u64,
        duration: took,
        upstream_duration: answered.filter(|wait| *wait > Duration::ZERO),
        grpc_status: life.grpc_status,
    });
}

fn count_upstream(life: &Life, metrics: &Metrics) {
    let Some(upstream) = life.upstream() else {
        return;
    };
    let outcome = match life.rejection {
        _ if life.tunnel.is_open() => Carried::Ok,
        Some(Rejection::UpstreamConnect) => Carried::ConnectFailed,
        Some(Rejection::UpstreamTimeout) => Carried::Timeout,
        Some(Rejection::UpstreamFailed) => Carried::Failed,
        _ if life.answered_at.is_some() => Carried::Ok,
        // The caller left, or was stopped, before the upstream could answer.
        _ => return,
    };
    metrics.carried(upstream, outcome);
}
