//! Routes: conditions, demands and what the upstream gets.

use http::{HeaderName, Method};

use crate::config::diagnostic::Fault;
use crate::config::plan::{
    Access, IssuerId, IssuerPlan, Limits, MatchPlan, Policy, Proof, RateLimit, RatePer, RoutePlan,
    Schemes, Shares, TargetForms, UpstreamId, UpstreamPlan,
};
use crate::config::tree::Value;
use crate::config::view::{Spot, View};

use super::headers::{self, Direction};
use super::overlap::{self, Claim};
use super::{Context, Names, cors, rewrite};

pub(super) fn routes(
    file: &View<'_>,
    limits: &Limits,
    issuers: &Names<'_>,
    upstreams: &Names<'_>,
    context: &mut Context<'_>,
) -> Vec<RoutePlan> {
    let block = file.entry_block("routes");
    let views: Vec<View<'_>> = file
        .items("routes")
        .iter()
        .map(|spot| spot.view(block))
        .filter(View::present)
        .collect();
    let claims = claimed_headers(&views);
    let mut plans: Vec<RoutePlan> = Vec::new();
    let mut competitors = Vec::new();
    for view in &views {
        let plan = route(view, limits, issuers, upstreams, context);
        headers::forgeries(&view.block("request_headers"), &claims, context);
        if let Some(spot) = view.get("name")
            && plans.iter().any(|other| other.name == plan.name)
        {
            let fault = Fault::new(format!(
                "{} is the name of another route",
                spot.node.shown()
            ));
            context.problem(
                &spot,
                fault.hint("names are labels in metrics and logs: choose another"),
            );
        }
        if view.block("match").get("path").is_some() {
            competitors.push(Claim::new(view.clone(), &plan.name, &plan.matcher));
        }
        plans.push(plan);
    }
    overlap::check(&competitors, context);
    let judged = views.iter().any(|view| view.block("access").present());
    if judged && issuers.is_empty() {
        let fault = Fault::new("is required: some route asks for a token")
            .hint("write `issuers: { keycloak: { issuer: …, audience: […] } }`");
        context.problem_at(file.place("issuers"), fault);
    }
    plans
}

fn claimed_headers(views: &[View<'_>]) -> Vec<String> {
    views
        .iter()
        .flat_map(|view| view.block("forward").named("headers"))
        .map(|named| headers::folded(named.name))
        .collect()
}

fn route(
    view: &View<'_>,
    limits: &Limits,
    issuers: &Names<'_>,
    upstreams: &Names<'_>,
    context: &mut Context<'_>,
) -> RoutePlan {
    let forward = view.block("forward");
    let matcher = matcher(&view.block("match"), context);
    let access = access(view, issuers, context);
    let plan = RoutePlan {
        cors: cors::cors(view, &matcher, &access, context),
        allow_target: allow_target(view, context),
        name: view.text("name").unwrap_or_default().into(),
        strip_prefix: strip_prefix(view, &matcher.path, context),
        rewrite: rewrite::rewrite(&view.block("rewrite"), context),
        upstream: upstream(view, upstreams, context),
        access,
        keep_authorization: forward.text("authorization").as_deref() == Some("keep"),
        // The only word that the list may have.
        websocket: !view.texts("upgrade").is_empty(),
        forward_headers: headers::forwarded(&forward, context),
        rate_limit: rate_limit(&view.block("rate_limit")),
        timeout: view.duration("timeout"),
        body_bytes: view
            .optional_size("body_bytes")
            .unwrap_or(limits.body_bytes),
        request_headers: headers::edits(
            &view.block("request_headers"),
            Direction::Request,
            context,
        ),
        response_headers: headers::edits(
            &view.block("response_headers"),
            Direction::Response,
            context,
        ),
        matcher,
    };
    if matches!(plan.access, Access::Public) {
        public(view, &plan, context);
    }
    plan
}

fn matcher(view: &View<'_>, context: &mut Context<'_>) -> MatchPlan {
    let mut conditions = Vec::new();
    for named in view.named("headers") {
        if headers::folded(named.name) == "authorization" {
            let fault =
                Fault::new("`authorization` is no condition: a token is judged, not compared");
            context.problem_at(
                (named.at, named.spot.path.clone()),
                fault.hint("write demands under `access`"),
            );
        }
        if let Ok(name) = HeaderName::from_bytes(named.name.as_bytes()) {
            conditions.push((name, named.spot.text()));
        }
    }
    let query = view.named("query");
    MatchPlan {
        host: view.text("host").map(|host| host.to_ascii_lowercase()),
        path: view.text("path").unwrap_or_default(),
        exact: view.flag("exact"),
        methods: view
            .texts("methods")
            .iter()
            .filter_map(|method| Method::from_bytes(method.as_bytes()).ok())
            .collect(),
        headers: conditions,
        query: query
            .iter()
            .map(|named| (named.name.to_owned(), named.spot.text()))
            .collect(),
    }
}

fn allow_target(view: &View<'_>, context: &mut Context<'_>) -> TargetForms {
    let mut forms = TargetForms::default();
    for word in view.texts("allow_target") {
        forms = forms.with(TargetForms::from_word(&word).unwrap_or_default());
    }
    if let (Some(spot), false) = (view.get("allow_target"), forms.is_empty()) {
        let fault = Fault::new("lets paths through that servers read in different ways");
        context.warning(
            &spot,
            fault.hint("be sure of how the service reads them, or leave it out"),
        );
    }
    forms
}

fn strip_prefix(view: &View<'_>, path: &str, context: &mut Context<'_>) -> Option<String> {
    let spot = view.get("strip_prefix")?;
    if let Some(rewrite) = view.get("rewrite") {
        let fault = Fault::new("contradicts `strip_prefix`: a path is changed in one way");
        context.problem(&rewrite, fault.hint("keep one of the two"));
    }
    let prefix = spot.text();
    let deferred = spot.node.deferred() || path.contains("${");
    if prefix == "/" {
        let fault = Fault::new("`/` strips nothing");
        context.problem(&spot, fault.hint("leave `strip_prefix` out"));
    } else if !path.is_empty() && !deferred {
        let rest = path.strip_prefix(prefix.as_str());
        if !rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            let fault = Fault::new(format!(
                "{} is not the beginning of `match.path`, segment by segment",
                spot.node.shown()
            ));
            context.problem(
                &spot,
                fault.hint(format!("write `{path}` or one of its parents")),
            );
        }
    }
    Some(prefix)
}

fn upstream(view: &View<'_>, upstreams: &Names<'_>, context: &mut Context<'_>) -> Shares {
    let first = Shares::from(UpstreamId(0));
    let Some(spot) = view.get("upstream") else {
        return first;
    };
    match &spot.node.value {
        Value::List(_) => split(view, upstreams, context).unwrap_or(first),
        Value::Map(_) | Value::Null => first,
        _ => UpstreamId(upstreams.index(&spot, context)).into(),
    }
}

fn split(view: &View<'_>, upstreams: &Names<'_>, context: &mut Context<'_>) -> Option<Shares> {
    let block = view.entry_block("upstream");
    let mut shares: Vec<(UpstreamId, u32)> = Vec::new();
    for item in view.items("upstream") {
        let share = item.view(block);
        let Some(name) = share.get("name") else {
            continue;
        };
        let id = UpstreamId(upstreams.index(&name, context));
        if shares.iter().any(|(known, _)| *known == id) && upstreams.knows(&name) {
            let fault = Fault::new(format!("{} is in this split already", name.node.shown()));
            context.problem(&name, fault.hint("give it a greater `weight` instead"));
        }
        shares.push((id, share.number("weight")));
    }
    Shares::split(shares)
}

fn access(view: &View<'_>, issuers: &Names<'_>, context: &mut Context<'_>) -> Access {
    if view.text("access").as_deref() == Some("public") {
        return Access::Public;
    }
    let access = view.block("access");
    let named: Vec<Spot<'_>> = access.items("issuers");
    let roles = access.named("client_roles");
    Access::Token(Policy {
        issuers: named
            .iter()
            .map(|spot| IssuerId(issuers.index(spot, context)))
            .collect(),
        clients: access.texts("clients"),
        scopes: access.texts("scopes"),
        any_scope: access.texts("any_scope"),
        realm_roles: access.texts("realm_roles"),
        any_realm_role: access.texts("any_realm_role"),
        client_roles: roles
            .iter()
            .map(|named| {
                let roles = named.spot.node.items().unwrap_or_default();
                let roles = roles.iter().filter_map(|role| role.scalar()).collect();
                (named.name.to_owned(), roles)
            })
            .collect(),
        proof: proof(&access),
        schemes: Schemes::default(),
    })
}

/// How the tokens of each route may be sent follows from its issuers.
pub(super) fn schemes(routes: &mut [RoutePlan], issuers: &[IssuerPlan]) {
    for route in routes {
        let Access::Token(policy) = &mut route.access else {
            continue;
        };
        let named = policy.issuers.iter().filter_map(|id| issuers.get(id.0));
        policy.schemes = match policy.issuers.is_empty() {
            true => Schemes::of(issuers.iter().map(|issuer| issuer.dpop)),
            false => Schemes::of(named.map(|issuer| issuer.dpop)),
        };
    }
}

fn proof(access: &View<'_>) -> Proof {
    let block = access.block("proof");
    if block.present() {
        return Proof::Fresh(block.duration("fresh"));
    }
    match access.text("proof").as_deref() {
        Some("introspect") => Proof::Introspect,
        _ => Proof::Local,
    }
}

/// RFC 8441, WebSockets within HTTP/2, is not for us: Pingora does not know it.
pub(super) fn tunnels(
    file: &View<'_>,
    routes: &[RoutePlan],
    upstreams: &[UpstreamPlan],
    context: &mut Context<'_>,
) {
    let block = file.entry_block("routes");
    for spot in file.items("routes") {
        let view = spot.view(block);
        let name = view.text("name").unwrap_or_default();
        let plan = routes.iter().find(|plan| *plan.name == *name);
        let (Some(spot), Some(plan)) = (view.get("upgrade"), plan) else {
            continue;
        };
        let pools = plan.upstream.all().iter();
        let pools = pools.filter_map(|(id, _)| upstreams.get(id.0));
        if let Some(pool) = pools.into_iter().find(|pool| pool.http2) {
            let fault = Fault::new(format!(
                "needs HTTP/1.1, and `upstreams.{}` has `http: 2`",
                pool.name
            ));
            context.problem(
                &spot,
                fault.hint("lead the route to an upstream with `http: 1`"),
            );
        }
    }
}

fn rate_limit(view: &View<'_>) -> Option<RateLimit> {
    let requests = view.number("requests");
    view.present().then(|| RateLimit {
        per: match view.text("per").as_deref() {
            Some("source") => RatePer::Source,
            _ => RatePer::Client,
        },
        requests,
        every: view.duration("every"),
        burst: view.optional_number("burst").unwrap_or(requests),
    })
}

/// What a public route cannot have, and what it should not.
fn public(view: &View<'_>, plan: &RoutePlan, context: &mut Context<'_>) {
    if let Some(spot) = view.block("rate_limit").get("per")
        && plan
            .rate_limit
            .as_ref()
            .is_some_and(|limit| limit.per == RatePer::Client)
    {
        let fault = Fault::new("a public route knows no client");
        context.problem(&spot, fault.hint("write `per: source`, or demand a token"));
    }
    if let Some(spot) = view.block("forward").get("headers") {
        let fault = Fault::new("a public route has no claims to forward");
        context.problem(&spot, fault.hint("leave it out, or demand a token"));
    }
    if let Some(spot) = view.get("access")
        && !plan.matcher.exact
        && plan.matcher.methods.is_empty()
    {
        let fault = Fault::new(format!(
            "everything beneath `{}` is open to everybody, with every method",
            plan.matcher.path
        ));
        context.warning(
            &spot,
            fault.hint("write `exact: true` or `methods: [GET]` under `match`"),
        );
    }
}
