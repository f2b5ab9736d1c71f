//! What the running gateway tells the admin listener.

use std::sync::Arc;

use async_trait::async_trait;

use super::{
    AdminState, Demands, IssuerReadiness, IssuerState, KeyState, NotBeforeState, PeerState, Pools,
    Readiness, RouteState, ShareState, UpstreamReadiness, UpstreamState,
};
use crate::clock::Clock;
use crate::config::plan::{Access, Algorithm, IssuerId, Policy, RoutePlan, UpstreamId};
use crate::gateway::Gateway;
use crate::verify::revoked::Revocations;
use crate::verify::{HeldNotBefore, Unheard};

#[async_trait]
impl AdminState for Gateway {
    fn readiness(&self) -> Readiness {
        let issuers = self.verifier.readiness().into_iter().enumerate();
        let issuers = issuers.map(|(index, (name, keys))| IssuerReadiness {
            name: name.to_string(),
            ready: keys.problem.is_none(),
            keys: keys.keys,
            keys_age_seconds: keys.age.map(|age| age.as_secs()),
            from_snapshot: keys.from_snapshot,
            introspection_breaker: breaker(self.verifier.breaker_open(IssuerId(index))),
            reason: keys.problem,
            warning: keys.warning,
        });
        let upstreams = self.upstreams.all().iter();
        let upstreams = upstreams.map(|pool| {
            let reason = pool.readiness().err();
            UpstreamReadiness {
                name: pool.name.to_string(),
                ready: reason.is_none(),
                peers: pool.peers().len(),
                reason,
            }
        });
        Readiness {
            issuers: issuers.collect(),
            upstreams: upstreams.collect(),
            shutting_down: self.drain.stopping(),
        }
    }

    fn metrics(&self) -> Result<Vec<u8>, String> {
        self.verifier.publish();
        self.upstreams.refresh();
        self.metrics.log_lines_lost(self.access_log.dropped());
        self.metrics.expose().map_err(|error| error.to_string())
    }

    fn issuers(&self) -> Vec<IssuerState> {
        let readiness = self.readiness().issuers.into_iter();
        readiness
            .zip(&self.plan.issuers)
            .enumerate()
            .map(|(index, (readiness, plan))| IssuerState {
                name: readiness.name,
                issuer: plan.issuer.clone(),
                audience: plan.audience.clone(),
                algorithms: plan
                    .algorithms
                    .iter()
                    .copied()
                    .map(Algorithm::name)
                    .collect(),
                ready: readiness.ready,
                key_count: readiness.keys,
                keys: self
                    .verifier
                    .keys(IssuerId(index))
                    .into_iter()
                    .map(key)
                    .collect(),
                from_snapshot: readiness.from_snapshot,
                introspection_breaker: readiness.introspection_breaker,
                reason: readiness.reason,
                warning: readiness.warning,
                not_before: not_before(self.verifier.not_before(IssuerId(index))),
            })
            .collect()
    }

    fn upstreams(&self) -> Vec<UpstreamState> {
        let now = self.clock.monotonic();
        let pools = self.upstreams.all().iter().zip(&self.plan.upstreams);
        pools
            .map(|(pool, plan)| UpstreamState {
                name: pool.name.to_string(),
                in_flight: pool.in_flight(),
                max_in_flight: plan.max_in_flight,
                max_in_flight_per_peer: plan.max_in_flight_per_peer,
                dns: plan.dns.as_ref().map(ToString::to_string),
                tls: plan.tls.is_some(),
                breaker: pool.breaker(),
                peers: pool
                    .peers()
                    .iter()
                    .map(|peer| PeerState {
                        address: peer.address().to_owned(),
                        weight: peer.weight(),
                        priority: peer.priority(),
                        slow_start: pool.is_slow(peer, now),
                        state: peer.state(now).label(),
                        in_flight: peer.in_flight(),
                    })
                    .collect(),
            })
            .collect()
    }

    fn routes(&self) -> Vec<RouteState> {
        let routes = self.plan.routes.iter();
        routes.map(|route| route_state(self, route)).collect()
    }

    fn issuer_names(&self) -> Vec<Arc<str>> {
        let issuers = self.plan.issuers.iter();
        issuers.map(|issuer| issuer.name.clone()).collect()
    }

    async fn refresh(&self, issuer: IssuerId) -> Option<Vec<KeyState>> {
        let came = self.verifier.refresh(issuer).await;
        came.then(|| self.verifier.keys(issuer).into_iter().map(key).collect())
    }

    async fn push_not_before(&self, issuer: IssuerId, message: &str) -> Result<(), Unheard> {
        self.verifier.push_not_before(issuer, message).await
    }

    async fn log_out(&self, issuer: IssuerId, token: &str) -> Result<(), Unheard> {
        self.verifier.log_out(issuer, token).await
    }

    fn revocations(&self) -> &Arc<Revocations> {
        self.verifier.revocations()
    }

    fn clock(&self) -> &Clock {
        &self.clock
    }
}

fn route_state(gateway: &Gateway, route: &RoutePlan) -> RouteState {
    let matcher = &route.matcher;
    let pool = |id: &UpstreamId| gateway.plan.upstream(*id).name.to_string();
    RouteState {
        name: route.name.to_string(),
        host: matcher.host.clone(),
        path: matcher.path.clone(),
        exact: matcher.exact,
        methods: matcher.methods.iter().map(ToString::to_string).collect(),
        upstream: match route.upstream.all() {
            [(only, _)] => Pools::One(pool(only)),
            several => Pools::Split(
                several
                    .iter()
                    .map(|(id, weight)| ShareState {
                        name: pool(id),
                        weight: *weight,
                    })
                    .collect(),
            ),
        },
        demands: match &route.access {
            Access::Public => None,
            Access::Token(policy) => Some(demands(gateway, policy)),
        },
    }
}

fn demands(gateway: &Gateway, policy: &Policy) -> Demands {
    let plan = &gateway.plan;
    let all = || plan.issuers.iter().map(|issuer| &issuer.name);
    let some = || policy.issuers.iter().map(|id| &plan.issuer(*id).name);
    let issuers: Vec<String> = if policy.issuers.is_empty() {
        all().map(ToString::to_string).collect()
    } else {
        some().map(ToString::to_string).collect()
    };
    Demands {
        issuers,
        clients: policy.clients.clone(),
        scopes: policy.scopes.clone(),
        any_scope: policy.any_scope.clone(),
        realm_roles: policy.realm_roles.clone(),
        any_realm_role: policy.any_realm_role.clone(),
        client_roles: policy.client_roles.clone(),
        proof: policy.proof.to_string(),
    }
}

fn breaker(open: Option<bool>) -> Option<&'static str> {
    open.map(|open| if open { "open" } else { "closed" })
}

fn not_before(held: HeldNotBefore) -> Option<NotBeforeState> {
    let HeldNotBefore {
        not_before,
        followed,
        fault,
    } = held;
    let at = not_before.in_force();
    let from = match at {
        0 => None,
        at if at == not_before.polled => Some("poll"),
        _ => Some("push"),
    };
    (followed || at > 0).then_some(NotBeforeState {
        at,
        from,
        followed,
        reason: fault,
    })
}

fn key(held: crate::verify::HeldKey) -> KeyState {
    KeyState {
        kid: held.kid,
        algorithms: held.algorithms.into_iter().map(Algorithm::name).collect(),
        age_seconds: held.age.as_secs(),
    }
}
